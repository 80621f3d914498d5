//! Golden texts: what a section becomes on its way to the machine, kept in `ref/plans`, so that a change of lowering shows as a difference.
//!
//! `kernels` keeps the plan as `cs336c plan --kernels` prints it, `groups` which nodes share kernels, `clif` the code of each fused kernel
//! before Cranelift sees it, `cuda` its CUDA C++ for the GPU, without what every text begins with. The subject is the step of the section's training run; without one, the last thing declared, applied to tensors of
//! the given shapes. All of it is the same on every machine.

use std::path::PathBuf;

use cs336_compiler::check::hir::Spec;
use cs336_compiler::front::check;
use cs336_compiler::lower::groups;
use cs336_compiler::plan::{Target, print::print};
use cs336_compiler::programs::Compiled;
use cs336_compiler::world::World;
use libtest_mimic::{Failed, Trial};

use cs336_tests::collect::{Attribute, Section, SuiteFile};
use cs336_tests::outside::MAIN;
use cs336_tests::places;

use crate::{numbers, write_if_new};

/// Attributes with the end of their files' names.
const KEPT: &[(Attribute, &str)] = &[
    (Attribute::Kernels, "kernels.txt"),
    (Attribute::Groups, "groups.txt"),
    (Attribute::Clif, "clif"),
    (Attribute::Cuda, "cu"),
];

/// What has changed.
pub(crate) fn complaints(path: &str, section: &Section, world: &dyn World) -> Vec<String> {
    let texts = match texts(path, section, world) {
        Ok(texts) => texts,
        Err(complaints) => return complaints,
    };
    let mut out = Vec::new();
    for (file, text) in texts {
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        if kept != text {
            let diff = similar::TextDiff::from_lines(&kept, &text);
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            out.push(format!("ref/plans/{name} has changed:\n{}", diff.unified_diff()));
        }
    }
    out
}

/// Writes the texts as they are now.
pub(crate) fn bless(path: &str, section: &Section, world: &dyn World) {
    for (file, text) in texts(path, section, world).unwrap_or_default() {
        write_if_new(&file, &text);
    }
}

/// Every kept text belongs to a section.
pub(crate) fn no_stray(files: &[SuiteFile]) -> Trial {
    let wanted: Vec<PathBuf> = files
        .iter()
        .flat_map(|f| f.sections.iter().map(move |s| (f, s)))
        .flat_map(|(f, s)| {
            KEPT.iter().filter(|(a, _)| s.has(*a)).map(|(_, end)| place(&f.path, s, end))
        })
        .collect();
    Trial::test("tidy::every_kept_plan_has_a_section", move || {
        let found = places::files_below(&places::reference().join("plans"));
        let stray: Vec<String> = found
            .iter()
            .filter(|f| !wanted.contains(f))
            .map(|f| format!("no section gives {}", f.display()))
            .collect();
        if stray.is_empty() { Ok(()) } else { Err(Failed::from(stray.join("\n"))) }
    })
}

fn place(path: &str, section: &Section, end: &str) -> PathBuf {
    let file = path.trim_end_matches(".cs336").replace('/', "-");
    let file = file.strip_prefix("plans-").unwrap_or(&file);
    places::reference().join("plans").join(format!("{file}.{}.{end}", section.name))
}

fn texts(
    path: &str,
    section: &Section,
    world: &dyn World,
) -> Result<Vec<(PathBuf, String)>, Vec<String>> {
    if !KEPT.iter().any(|(a, _)| section.has(*a)) {
        return Ok(Vec::new());
    }
    let compiled = compiled(section, world)?;
    let mut out = Vec::new();
    for (attribute, end) in KEPT.iter().filter(|(a, _)| section.has(*a)) {
        let text = match attribute {
            Attribute::Kernels => print(&compiled.plan),
            Attribute::Groups => {
                groups(&compiled.graph, &Target::cpu()).map_err(|bug| vec![bug.to_string()])?
            }
            Attribute::Cuda => cuda(&compiled)?,
            _ => code(&compiled)?,
        };
        out.push((place(path, section, end), text));
    }
    Ok(out)
}

/// The step of the first training run, or the last thing declared, applied.
fn compiled(section: &Section, world: &dyn World) -> Result<Compiled, Vec<String>> {
    let mut checked = check(world, MAIN, &section.sets);
    let is_train = |spec: &Spec| matches!(spec, Spec::Train(_));
    let train = checked.nodes.iter().find(|(_, n)| is_train(&n.spec)).map(|(name, _)| name.clone());
    let Some(train) = train else { return numbers::compiled(section, world) };
    let programs = checked.train_programs(&train, None);
    programs
        .map(|p| p.step)
        .map_err(|problems| problems.iter().map(|p| format!("{}: {}", p.code, p.message)).collect())
}

fn cuda(compiled: &Compiled) -> Result<String, Vec<String>> {
    let mut out = String::new();
    for (i, kernel) in compiled.plan.kernels.iter().enumerate() {
        let text = cs336_device::cuda_text(kernel).map_err(|e| vec![e.to_string()])?;
        out.push_str(&format!("// k{i}\n{text}\n"));
    }
    Ok(out)
}

fn code(compiled: &Compiled) -> Result<String, Vec<String>> {
    let mut out = String::new();
    for (i, kernel) in compiled.plan.kernels.iter().enumerate() {
        let text = cs336_device::clif(kernel).map_err(|e| vec![e.to_string()])?;
        if let Some(text) = text {
            out.push_str(&format!("; k{i}\n{text}\n"));
        }
    }
    Ok(out)
}
