//! Whole programs: plans of training steps, evaluation and decoding give on this machine what the interpreter of plans gives.

use cs336_compiler::front::check;
use cs336_compiler::graph::Role;
use cs336_compiler::name::Name;
use cs336_compiler::plan::interp::{decode, execute};
use cs336_compiler::plan::{Io, Place};
use cs336_compiler::programs::{Compiled, TrainPrograms};
use cs336_compiler::scalar::DType;
use cs336_compiler::world::Texts;
use cs336_device::{Cpu, Executable, Options, RuntimeValues, Store};
use indexmap::IndexMap;

const SMALL: &str = r#"
use std.models { llama, gpt2 }
data tales = stories(count = 10, seed = 7) |> holdout(valid = 10%)
tokenizer bpe { corpus = tales.train, vocab = 300 }
train quick {
  model = llama(layers = 2, d = 16, heads = 2, ff = 20, vocab = bpe.vocab)
  data = tales |> encode(bpe) |> pack(seq = 9)
  optimizer = adamw(lr = cosine(peak = 1e-2), clip = 1.0)
  batch = 36 tokens
  budget = 10 steps
}
train half = quick with { precision = bf16 }
train other = quick with { model = gpt2(layers = 2, d = 8, heads = 2, vocab = bpe.vocab, ctx = 12) }
"#;

type Bytes = IndexMap<Name, Vec<u8>>;

fn programs(text: &str, train: &str, micro: usize) -> TrainPrograms {
    let world = Texts { files: vec![("a.cs336".into(), text.into())] };
    let mut checked = check(&world, "a.cs336", &[]);
    checked.train_programs(train, Some(micro)).unwrap_or_else(|problems| {
        panic!("{:?}", problems.iter().map(|p| &p.message).collect::<Vec<_>>())
    })
}

/// Declares what the graph reads and writes.
fn declare(store: &mut Store, of: &Compiled) {
    for input in &of.graph.inputs {
        store.declare(&input.name, input.ty.dtype, input.ty.len()).expect("memory");
    }
    for output in &of.graph.outputs {
        let ty = of.graph.ty(output.node);
        store.declare(&output.name, ty.dtype, ty.len()).expect("memory");
    }
}

/// Fills the columns of a batch with tokens below 300.
fn fill(store: &mut Store, of: &Compiled) {
    let mut state = 9u32;
    for input in of.graph.inputs.iter().filter(|i| i.role == Role::Data) {
        let values: Vec<f32> = (0..input.ty.len())
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if input.ty.dtype == DType::I32 { ((state >> 8) % 300) as f32 } else { 1.0 }
            })
            .collect();
        store.set_floats(&input.name, &values).expect("fits");
    }
}

fn copy(store: &Store) -> Bytes {
    (store.entries().map(|(name, ..)| name.clone()).collect::<Vec<_>>().into_iter())
        .map(|name| (name.clone(), store.bytes(&name).expect("known").to_vec()))
        .collect()
}

/// Everything written agrees with the interpreter, to `tolerance` of the largest value of its storage.
fn compare(of: &Compiled, store: &Store, want: &Bytes, tolerance: f64, what: &str) {
    for buffer in &of.plan.buffers {
        let Place::External { storage, io: Io::Output | Io::Updated } = &buffer.place else {
            continue;
        };
        let dtype = store.dtype(storage).expect("known");
        let values = |bytes: &[u8]| -> Vec<f64> {
            bytes.chunks_exact(dtype.bytes()).map(|c| decode(c, dtype)).collect()
        };
        let got = values(store.bytes(storage).expect("known"));
        let want = values(&want[storage]);
        let scale = want.iter().fold(1e-3, |m: f64, v| m.max(v.abs()));
        for (i, (g, w)) in got.iter().zip(&want).enumerate() {
            let close = (g - w).abs() <= tolerance * scale || g == w;
            assert!(close, "{what}: {storage}[{i}] is {g}, the interpreter says {w}");
        }
    }
}

fn agrees(train: &str, micro: usize, tolerance: f64) {
    let programs = programs(SMALL, train, micro);
    let cpu = Cpu::new(Some(2)).expect("threads");
    let mut store = Store::new();
    for part in [&programs.init, &programs.step] {
        declare(&mut store, part);
    }
    let start = RuntimeValues { seed: 5, ..RuntimeValues::default() };
    let mut init = Executable::new(&programs.init.plan, &cpu).expect("loads");
    let mut want = copy(&store);
    execute(&programs.init.plan, &mut want, &|r| start.get(r)).expect("interpreted");
    init.run(&mut store, &start).expect("runs");
    compare(&programs.init, &store, &want, 1e-6, "init");

    fill(&mut store, &programs.step);
    let mut step = Executable::new(&programs.step.plan, &cpu).expect("loads");
    step.set_options(Options { check_finite: true, profile: false });
    for t in 1..=3 {
        let runtime = RuntimeValues { step: t, share: t as f64 / 10.0, seed: 5, ..start };
        // From the same weights each time: differences do not pile up.
        let mut want = copy(&store);
        execute(&programs.step.plan, &mut want, &|r| runtime.get(r)).expect("interpreted");
        step.run(&mut store, &runtime).expect("runs");
        compare(&programs.step, &store, &want, tolerance, &format!("{train} step {t}"));
    }

    let mut eval_store = Store::new();
    declare(&mut eval_store, &programs.eval);
    for weight in &programs.weights {
        if eval_store.contains(&weight.name) {
            let bytes = store.bytes(&weight.name).expect("known").to_vec();
            eval_store.set_bytes(&weight.name, &bytes).expect("fits");
        }
    }
    fill(&mut eval_store, &programs.eval);
    let mut eval = Executable::new(&programs.eval.plan, &cpu).expect("loads");
    let mut want = copy(&eval_store);
    execute(&programs.eval.plan, &mut want, &|r| start.get(r)).expect("interpreted");
    eval.run(&mut eval_store, &start).expect("runs");
    compare(&programs.eval, &eval_store, &want, tolerance, "eval");
}

#[test]
fn a_llama_trains_as_the_interpreter_says() {
    agrees("quick", 2, 2e-3);
}

#[test]
fn a_gpt_trains_as_the_interpreter_says() {
    agrees("other", 4, 2e-3);
}

#[test]
fn sixteen_bits_train_as_the_interpreter_says() {
    // Adam's first steps are signs of gradients: a gradient near zero may round to the other side.
    agrees("half", 2, 0.1);
}

/// A prompt and then single tokens at growing positions, with the caches kept between.
#[test]
fn generation_agrees_with_the_interpreter() {
    for train in ["quick", "half", "other"] {
        let world = Texts { files: vec![("a.cs336".into(), SMALL.into())] };
        let mut checked = check(&world, "a.cs336", &[]);
        let of = checked.decode_programs(train, 4, 8).unwrap_or_else(|problems| {
            panic!("{:?}", problems.iter().map(|p| &p.message).collect::<Vec<_>>())
        });
        let init = programs(SMALL, train, 2).init;
        let cpu = Cpu::new(Some(2)).expect("threads");
        let mut store = Store::new();
        declare(&mut store, &init);
        let mut runtime = RuntimeValues { seed: 5, ..RuntimeValues::default() };
        let mut start = Executable::new(&init.plan, &cpu).expect("loads");
        start.run(&mut store, &runtime).expect("runs");
        declare(&mut store, &of.prefill);
        for (position, part) in [(0, &of.prefill), (4, &of.decode), (5, &of.decode)] {
            store.remove(&"ids".into());
            declare(&mut store, part);
            fill(&mut store, part);
            runtime.position = position;
            let mut want = copy(&store);
            execute(&part.plan, &mut want, &|r| runtime.get(r)).expect("interpreted");
            let mut executable = Executable::new(&part.plan, &cpu).expect("loads");
            executable.run(&mut store, &runtime).expect("runs");
            let tolerance = if train == "half" { 2e-2 } else { 1e-4 };
            compare(part, &store, &want, tolerance, &format!("{train} at {position}"));
        }
    }
}

/// Steps of a program, bitwise the same on one and two threads, as the losses show.
#[test]
fn the_number_of_threads_changes_no_bit() {
    let programs = programs(SMALL, "quick", 2);
    let run = |threads: usize| {
        let cpu = Cpu::new(Some(threads)).expect("threads");
        let mut store = Store::new();
        declare(&mut store, &programs.init);
        declare(&mut store, &programs.step);
        let mut runtime = RuntimeValues { seed: 5, ..RuntimeValues::default() };
        let mut init = Executable::new(&programs.init.plan, &cpu).expect("loads");
        init.run(&mut store, &runtime).expect("runs");
        fill(&mut store, &programs.step);
        let mut step = Executable::new(&programs.step.plan, &cpu).expect("loads");
        for t in 1..=5 {
            runtime.step = t;
            runtime.share = t as f64 / 10.0;
            step.run(&mut store, &runtime).expect("runs");
        }
        copy(&store)
    };
    assert_eq!(run(1), run(3));
}

const SPEED: &str = r#"
use std.models { llama }
data tales = stories(count = 10, seed = 7) |> holdout(valid = 10%)
tokenizer bpe { corpus = tales.train, vocab = 2000 }
train quick {
  model = llama(layers = 4, d = 256, heads = 4, ff = 704, vocab = bpe.vocab)
  data = tales |> encode(bpe) |> pack(seq = 256)
  optimizer = adamw(lr = cosine(peak = 1e-2), clip = 1.0)
  batch = 4096 tokens
  budget = 10 steps
}
"#;

/// Where the time of a step goes: `cargo test --release -p cs336-device --test programs -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stderr, reason = "its result is what it prints")]
#[allow(clippy::disallowed_methods, reason = "and what it prints are times")]
fn where_the_time_goes() {
    let programs = programs(SPEED, "quick", 16);
    let cpu = Cpu::new(None).expect("threads");
    let mut store = Store::new();
    declare(&mut store, &programs.init);
    declare(&mut store, &programs.step);
    let mut runtime = RuntimeValues { seed: 5, ..RuntimeValues::default() };
    let started = std::time::Instant::now();
    let mut init = Executable::new(&programs.init.plan, &cpu).expect("loads");
    let mut step = Executable::new(&programs.step.plan, &cpu).expect("loads");
    eprintln!("compiled in {:?}", started.elapsed());
    init.run(&mut store, &runtime).expect("runs");
    fill(&mut store, &programs.step);
    for t in 1..=3 {
        runtime.step = t;
        let started = std::time::Instant::now();
        step.run(&mut store, &runtime).expect("runs");
        eprintln!("step {t}: {:?}, loss {:?}", started.elapsed(), store.floats(&"loss".into()));
    }
    step.set_options(Options { profile: true, check_finite: false });
    step.run(&mut store, &runtime).expect("runs");
    let mut rows = step.take_profile().rows;
    rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let total: f64 = rows.iter().map(|r| r.seconds).sum();
    let calibration =
        cs336_device::doctor::calibrate(&cs336_device::Processor::Cpu(cpu)).expect("measured");
    eprintln!("{total:.3} s in launches; {calibration:?}");
    for r in rows.iter().take(40) {
        eprintln!(
            "{:8.2} ms {:5} x {:18} {:8.1} GFLOP/s {:6.1} GB/s  {}",
            r.seconds * 1e3,
            r.launches,
            r.kind,
            r.flops as f64 / r.seconds / 1e9,
            r.bytes as f64 / r.seconds / 1e9,
            r.origin
        );
    }
}
