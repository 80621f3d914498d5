//! Whole programs: a training step of a small llama, its evaluation, decoding and initialisation.

use indexmap::IndexMap;

use super::{Dice, launches, same_with};
use crate::check::eval::Eval;
use crate::check::kinds;
use crate::graph::interp::Tensor;
use crate::graph::{DType, Graph, Name, Role};
use crate::plan::print::print;
use crate::world::Texts;

const TINY: &str = r#"
use std.models { llama }
data tales = stories(count = 10, seed = 7) |> holdout(valid = 10%)
tokenizer bpe { corpus = tales.train, vocab = 300 }
train quick {
  model = llama(layers = 3, d = 8, heads = 2, ff = 12, vocab = bpe.vocab)
  data = tales |> encode(bpe) |> pack(seq = 6)
  optimizer = adamw(lr = cosine(peak = 1e-2), clip = 1.0)
  batch = 24 tokens
  budget = 10 steps
}
"#;

fn fill(graph: &Graph) -> IndexMap<Name, Tensor> {
    let mut dice = Dice(11);
    let fill = |i: &crate::graph::InputDecl| {
        let mut t = dice.tensor(&i.ty, 300);
        for x in &mut t.data {
            match (i.role, i.ty.dtype) {
                (Role::Data, DType::F32) => *x = f64::from(*x > -0.5),
                (Role::State, _) => *x = f64::from((*x * *x * 0.01) as f32),
                (Role::Weight, _) => *x = f64::from((*x * 0.3) as f32),
                (_, _) => {}
            }
        }
        (i.name.clone(), t)
    };
    graph.inputs.iter().map(fill).collect()
}

fn step(text: &str, slack: f64) {
    let world = Texts { files: vec![("a.cs336".into(), text.into())] };
    let mut eval = Eval::new(&world);
    eval.load_main("a.cs336", &[]);
    kinds::check_nodes(&mut eval);
    let problems: String =
        eval.problems.iter().map(|p| format!("{} {}\n", p.code, p.message)).collect();
    assert!(!eval.problems.has_errors(), "{text}\n{problems}");
    let parts = kinds::train_parts(&mut eval, "quick").expect("a train");
    for micro in [1, 2] {
        let step = eval.step_graph(&parts, 2, micro).expect("a graph");
        let graph = step.graph;
        let plan = same_with(&graph, &fill(&graph), slack);
        assert!(launches(&plan.steps) < 200, "{}", print(&plan));
    }
}

#[test]
fn training_steps() {
    step(TINY, 1e-5);
}

#[test]
fn training_steps_of_other_programs() {
    let with = |a: &str, b: &str| TINY.replace(a, b);
    let adamw = "adamw(lr = cosine(peak = 1e-2), clip = 1.0)";
    let llama = "llama(layers = 3, d = 8, heads = 2, ff = 12, vocab = bpe.vocab)";
    let gpt2 = "gpt2(layers = 2, d = 8, heads = 2, vocab = bpe.vocab, ctx = 6, drop = 10%)";
    step(&with("vocab = bpe.vocab)", "vocab = bpe.vocab, tied = true)"), 1e-5);
    step(&with("heads = 2", "heads = 4, kv = 2"), 1e-5);
    step(&with(adamw, "sgd(lr = constant(1e-2), momentum = 0.9)"), 1e-5);
    step(&with(adamw, "lion(lr = constant(1e-2))"), 1e-5);
    let muon = "if .role == matrix then muon(lr = constant(1e-2)) else sgd(lr = constant(1e-2))";
    step(&with(adamw, muon), 1e-3);
    step(&with(llama, gpt2).replace("{ llama }", "{ gpt2 }"), 1e-5);
    step(&with("  budget", "  precision = bf16\n  budget"), 3e-2);
}

#[test]
fn evaluation_decoding_and_initialisation() {
    let world = Texts { files: vec![("a.cs336".into(), TINY.into())] };
    let mut eval = Eval::new(&world);
    eval.load_main("a.cs336", &[]);
    kinds::check_nodes(&mut eval);
    let parts = kinds::train_parts(&mut eval, "quick").expect("a train");
    let held_out = eval.eval_graph(&parts, 2).expect("a graph");
    same_with(&held_out, &fill(&held_out), 1e-5);
    for n in [4, 1] {
        let (decode, _) = eval.decode_graph(&parts, n, 8).expect("a graph");
        same_with(&decode, &fill(&decode), 1e-5);
    }
    let views = eval.weight_views(&parts).expect("weights");
    let step = eval.step_graph(&parts, 2, 1).expect("a graph");
    let init = eval.init_graph(&parts, &views, &step.states).expect("a graph");
    same_with(&init, &fill(&init), 1e-5);
}

#[test]
#[ignore = "a look at a plan of real size"]
#[allow(clippy::print_stderr, reason = "its result is what it prints")]
fn a_real_size() {
    let text = TINY
        .replace(
            "layers = 3, d = 8, heads = 2, ff = 12",
            "layers = 12, d = 768, heads = 12, ff = 2048",
        )
        .replace("vocab = 300", "vocab = 16384")
        .replace("seq = 6", "seq = 512")
        .replace("24 tokens", "16384 tokens");
    let world = Texts { files: vec![("a.cs336".into(), text)] };
    let mut eval = Eval::new(&world);
    eval.load_main("a.cs336", &[]);
    kinds::check_nodes(&mut eval);
    let parts = kinds::train_parts(&mut eval, "quick").expect("a train");
    let step = eval.step_graph(&parts, 8, 4).expect("a graph");
    let plan = crate::lower::lower(&step.graph, &crate::plan::Target::cpu()).expect("a plan");
    eprintln!("{}", print(&plan));
}
