//! Plans on real devices, and their kernels' CUDA texts through NVRTC where that is there.

#[allow(clippy::disallowed_types, reason = "asked for membership only")]
use std::collections::HashSet;
use std::io::Write as _;
use std::sync::{Mutex, OnceLock, PoisonError};

use cs336_compiler::check::hir::Spec;
use cs336_compiler::front::check;
use cs336_compiler::kernel::Kernel;
use cs336_compiler::name::Name;
use cs336_compiler::plan::{Place, Plan};
use cs336_compiler::scalar::DType;
use cs336_device::{Cpu, Cuda, Device, Executable, RuntimeValues, Store, compile_only};
use indexmap::IndexMap;
use libtest_mimic::{Failed, Trial};

use cs336_tests::collect::{Attribute, SuiteFile};
use cs336_tests::outside::{MAIN, Outside};
use cs336_tests::places;

use crate::{follow, numbers};

/// The architectures that texts are compiled for: the oldest one, and the one that most is done for.
const ARCHITECTURES: [&str; 2] = ["sm_80", "sm_90a"];

/// This machine's processor.
pub(crate) fn cpu() -> &'static Cpu {
    static CPU: OnceLock<Cpu> = OnceLock::new();
    CPU.get_or_init(|| Cpu::new(Some(2)).expect("two threads"))
}

/// Its GPU; if there is none, a line says so once.
pub(crate) fn gpu() -> Option<&'static Cuda> {
    static GPU: OnceLock<Option<Cuda>> = OnceLock::new();
    let found = GPU.get_or_init(|| {
        let found = Cuda::new(None);
        if let Err(why) = &found {
            say(&format!("skipped, needs cuda: values on the GPU ({why})"));
        }
        found.ok()
    });
    found.as_ref()
}

/// Runs a plan twice on a device (the second time from recorded launches, where it records) from the same memories; gives all memories.
pub(crate) fn run<D: Device>(
    device: &D,
    plan: &Plan,
    inputs: &IndexMap<Name, Vec<u8>>,
) -> Result<IndexMap<Name, Vec<u8>>, String> {
    // One plan at a time: a device may record what is launched.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let show = |e: cs336_device::DeviceError| e.to_string();
    let mut executable = Executable::new(plan, device).map_err(show)?;
    let mut store = Store::new();
    for _ in 0..3 {
        for buffer in &plan.buffers {
            if let Place::External { storage, .. } = &buffer.place {
                store.declare(storage, DType::Bool, buffer.bytes).map_err(show)?;
                if let Some(bytes) = inputs.get(storage) {
                    store.set_bytes(storage, bytes).map_err(show)?;
                }
            }
        }
        executable.run(&mut store, &RuntimeValues::default()).map_err(show)?;
    }
    let names: Vec<Name> = store.entries().map(|(name, _, _)| name.clone()).collect();
    names
        .into_iter()
        .map(|name| Ok((name.clone(), store.bytes(&name).map_err(show)?.to_vec())))
        .collect()
}

/// One test per architecture: the texts of all kernels of the suite, the experiments and the benchmarks' models compile.
pub(crate) fn trials(files: &[SuiteFile]) -> Vec<Trial> {
    let files: Vec<SuiteFile> = files.to_vec();
    let kernels = std::sync::Arc::new(OnceLock::new());
    (ARCHITECTURES.iter())
        .map(|arch| {
            let (kernels, files) = (kernels.clone(), files.clone());
            Trial::test(format!("cuda::texts_compile_for_{arch}"), move || {
                let kernels: &Vec<Kernel> = kernels.get_or_init(|| all_kernels(&files));
                compile_all(kernels, arch)
            })
        })
        .collect()
}

/// To standard error, whatever the runner does with its own output.
fn say(text: &str) {
    writeln!(std::io::stderr(), "{text}").ok();
}

/// One test per precision: a step of each program in `programs/masks.cs336` has the same gradients on the GPU as on the CPU.
pub(crate) fn steps() -> Vec<Trial> {
    // Roundings fall differently where sums are taken in another order: about one of the type for each of a few products.
    let all = [("f32", 2e-4), ("bf16", 2e-2), ("fp16", 4e-3)];
    let trial = |(precision, allowed)| {
        Trial::test(format!("cuda::steps_of_{precision}"), move || {
            let Some(gpu) = gpu() else { return Ok(()) };
            same_gradients(gpu, precision, allowed).map_err(|c| Failed::from(c.join("\n")))
        })
    };
    all.into_iter().map(trial).collect()
}

fn same_gradients(gpu: &Cuda, precision: &str, allowed: f64) -> Result<(), Vec<String>> {
    let path = places::root().join("tests/programs/masks.cs336");
    let text = std::fs::read_to_string(path).expect("the program is there");
    let world = Outside::new(&text, &[]);
    let sets = [format!("causal64.precision={precision}")];
    let mut checked = check(&world, MAIN, &sets);
    let trains: Vec<String> = (checked.nodes.iter())
        .filter(|(_, n)| matches!(n.spec, Spec::Train(_)))
        .map(|(name, _)| name.clone())
        .collect();
    let mut complaints: Vec<String> = Vec::new();
    if trains.len() < 8 {
        complaints.push(format!("only {} programs are sound", trains.len()));
    }
    for train in trains {
        let made = checked.train_programs(&train, None);
        let programs = made.map_err(|_| vec![format!("`{train}` has no plans")])?;
        let begun = run(cpu(), &programs.init.plan, &IndexMap::new()).map_err(|e| vec![e])?;
        let mut inputs = begun;
        for buffer in &programs.step.plan.buffers {
            if let Place::External { storage, .. } = &buffer.place
                && !inputs.contains_key(storage)
            {
                inputs.insert(storage.clone(), column(storage, buffer.bytes));
            }
        }
        let plan = &programs.step.plan;
        let (here, there) = (run(cpu(), plan, &inputs), run(gpu, plan, &inputs));
        match (here, there) {
            (Ok(here), Ok(there)) => {
                for (name, a) in here.iter().filter(|(name, _)| name.as_str().starts_with("m:")) {
                    let apart = apart(a, &there[name]);
                    if !(apart < allowed) {
                        complaints.push(format!("{train}: `{name}` is {apart:.2e} apart"));
                    }
                }
            }
            (Err(why), _) | (_, Err(why)) => complaints.push(format!("{train}: {why}")),
        }
    }
    if complaints.is_empty() { Ok(()) } else { Err(complaints) }
}

/// A column of a batch: bytes of a text for ids and targets, everything learned, one document.
fn column(name: &Name, bytes: usize) -> Vec<u8> {
    let count = bytes / 4;
    match name.as_str() {
        "ids" | "target" => {
            let text = (0..count as u32).map(|i| (i * i * 7 + i / 3) % 256);
            text.flat_map(u32::to_le_bytes).collect()
        }
        "learn" => (0..count).flat_map(|_| 1.0f32.to_le_bytes()).collect(),
        _ => vec![0; bytes],
    }
}

/// The distance of two vectors of f32 in units of the first one's length.
fn apart(a: &[u8], b: &[u8]) -> f64 {
    let numbers = |bytes: &[u8]| -> Vec<f64> {
        let four = bytes.as_chunks::<4>().0.iter();
        four.map(|four| f64::from(f32::from_le_bytes(*four))).collect()
    };
    let (a, b) = (numbers(a), numbers(b));
    let length = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    length(&mut a.iter().zip(&b).map(|(x, y)| x - y)) / length(&mut a.iter().copied()).max(1e-30)
}

fn compile_all(kernels: &[Kernel], arch: &str) -> Result<(), Failed> {
    let folder = std::env::var_os("XDG_CACHE_HOME")
        .map(std::path::PathBuf::from)
        .or_else(|| std::env::home_dir().map(|h| h.join(".cache")))
        .map(|f| f.join("cs336c").join("cubins"));
    let mut complaints = Vec::new();
    for kernel in kernels {
        match compile_only(kernel, arch, folder.clone()) {
            Ok(_) => {}
            Err(why) if why.code() == "E0810" => {
                say(&format!("skipped, needs NVRTC: texts for {arch} ({why})"));
                return Ok(());
            }
            Err(why) => complaints.push(format!("{why}\n{kernel:?}")),
        }
    }
    say(&format!("{} texts compile for {arch}", kernels.len() - complaints.len()));
    if complaints.is_empty() {
        return Ok(());
    }
    let all = complaints.len();
    complaints.truncate(5);
    Err(Failed::from(format!("{all} texts do not compile:\n{}", complaints.join("\n\n"))))
}

/// Each kernel once, in order of appearance.
fn all_kernels(files: &[SuiteFile]) -> Vec<Kernel> {
    #[allow(clippy::disallowed_types, reason = "asked for membership only")]
    let mut known: HashSet<Kernel> = HashSet::new();
    let mut all = Vec::new();
    let mut add = |plan: &Plan| {
        for kernel in &plan.kernels {
            if known.insert(kernel.clone()) {
                all.push(kernel.clone());
            }
        }
    };
    for file in files {
        for section in file.sections.iter().filter(|s| s.has(Attribute::Value)) {
            let world = follow::world(section, &file.beside());
            if let Ok(compiled) = numbers::compiled(section, &world) {
                add(&compiled.plan);
            }
        }
    }
    let mut programs: Vec<String> = vec![];
    for folder in ["experiments", "tests/bench", "tests/programs"] {
        for path in places::files_below(&places::root().join(folder)) {
            if path.extension().is_some_and(|e| e == "cs336") {
                programs.extend(std::fs::read_to_string(path));
            }
        }
    }
    for program in programs {
        let world = Outside::new(&program, &[]);
        let mut checked = check(&world, MAIN, &[]);
        // The programs of masks are there in 16 bits too.
        let sixteen = ["causal64.precision=bf16".to_owned()];
        let mut half = check(&world, MAIN, &sixteen);
        let trains: Vec<String> = (checked.nodes.iter())
            .filter(|(_, n)| matches!(n.spec, Spec::Train(_)))
            .map(|(name, _)| name.clone())
            .collect();
        for train in trains.iter().take(12) {
            for checked in [&mut checked, &mut half] {
                if let Ok(programs) = checked.train_programs(train, None) {
                    for one in [&programs.step, &programs.init, &programs.eval] {
                        add(&one.plan);
                    }
                }
            }
        }
    }
    all
}
