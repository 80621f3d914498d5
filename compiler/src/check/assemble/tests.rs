//! Steps, evaluation and decoding of small models, on the interpreter.

use indexmap::IndexMap;

use crate::check::eval::Eval;
use crate::check::kinds;
use crate::graph::interp::{Tensor, interpret};
use crate::graph::verify::verify;
use crate::graph::{DType, Graph, Name, Role, Runtime};
use crate::world::Texts;

const TINY: &str = r#"
use std.models { llama }
data tales = stories(count = 10, seed = 7) |> holdout(valid = 10%)
tokenizer bpe { corpus = tales.train, vocab = 300 }
train quick {
  model = llama(layers = 2, d = 8, heads = 2, ff = 12, vocab = bpe.vocab)
  data = tales |> encode(bpe) |> pack(seq = 6)
  optimizer = adamw(lr = cosine(peak = 1e-2), clip = 1.0)
  batch = 24 tokens
  budget = 10 steps
}
"#;

fn world() -> Texts {
    Texts { files: vec![("a.cs336".into(), TINY.into())] }
}

fn shown(eval: &Eval<'_>) -> String {
    eval.problems.iter().map(|p| format!("{} {} {:?}\n", p.code, p.message, p.help)).collect()
}

fn inputs(graph: &Graph, seed: u32) -> IndexMap<Name, Tensor> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 24)
    };
    graph
        .inputs
        .iter()
        .map(|i| {
            let data = (0..i.ty.len())
                .map(|_| match (i.role, i.ty.dtype) {
                    (Role::Data, DType::I32) => (next() * 300.0).floor(),
                    (Role::Data, _) => 1.0,
                    (Role::State, _) => 0.0,
                    _ => next() * 0.4 - 0.2,
                })
                .collect();
            (i.name.clone(), Tensor { ty: i.ty.clone(), data })
        })
        .collect()
}

#[test]
fn held_out_loss_of_a_random_model_is_near_the_log_of_the_vocabulary() {
    let world = world();
    let mut eval = Eval::new(&world);
    eval.load_main("a.cs336", &[]);
    kinds::check_nodes(&mut eval);
    assert!(!eval.problems.has_errors(), "{}", shown(&eval));
    let parts = kinds::train_parts(&mut eval, "quick").expect("a train");
    let graph = eval.eval_graph(&parts, 2).unwrap_or_else(|| panic!("{}", shown(&eval)));
    verify(&graph).unwrap_or_else(|b| panic!("{b}"));
    let out = interpret(&graph, &inputs(&graph, 1), &|_| 0.0).expect("runs");
    let loss = out[&Name::from("loss_sum")].data[0] / out[&Name::from("loss_count")].data[0];
    assert!((loss - 300f64.ln()).abs() < 0.3, "{loss}");
}

#[test]
fn decoding_with_caches_gives_the_logits_of_the_whole_row() {
    let world = world();
    let mut eval = Eval::new(&world);
    eval.load_main("a.cs336", &[]);
    kinds::check_nodes(&mut eval);
    let parts = kinds::train_parts(&mut eval, "quick").expect("a train");
    let whole = eval.forward_graph(&parts, 1).expect("a graph");
    let mut store = inputs(&whole, 3);
    let ids = store[&Name::from("ids")].data.clone();
    let all = interpret(&whole, &store, &|_| 0.0).expect("runs");
    let all = &all[&Name::from("out")].data;
    let vocab = all.len() / 6;

    let (prefill, caches) = eval.decode_graph(&parts, 4, 8).expect("a graph");
    let (decode, _) = eval.decode_graph(&parts, 1, 8).expect("a graph");
    for (graph, at, n) in [(&prefill, 0, 4), (&decode, 4, 1), (&decode, 5, 1)] {
        verify(graph).unwrap_or_else(|b| panic!("{b}"));
        let mut now: IndexMap<Name, Tensor> = inputs(graph, 3);
        for (name, t) in &mut now {
            if let Some(kept) = store.get(name)
                && kept.ty == t.ty
            {
                *t = kept.clone();
            }
            if *name == "ids" {
                t.data = ids[at..at + n].to_vec();
            }
        }
        let position = move |r| if r == Runtime::Position { at as f64 } else { 0.0 };
        let out = interpret(graph, &now, &position).expect("runs");
        for c in &caches {
            store.insert(c.name.clone(), out[&c.name].clone());
        }
        let logits = &out[&Name::from("logits")].data;
        let want = &all[(at + n - 1) * vocab..(at + n) * vocab];
        for (a, b) in logits.iter().zip(want) {
            assert!((a - b).abs() < 1e-9, "position {}: {a} {b}", at + n - 1);
        }
    }
}

/// Runs optimizer steps on one batch; gives the losses.
fn train(micro_rows: usize, micro_count: usize, steps: usize) -> Vec<f64> {
    let world = world();
    let mut eval = Eval::new(&world);
    eval.load_main("a.cs336", &[]);
    kinds::check_nodes(&mut eval);
    let parts = kinds::train_parts(&mut eval, "quick").expect("a train");
    let kinds = eval.weight_views(&parts).expect("weights");
    let step = eval
        .step_graph(&parts, micro_rows, micro_count)
        .unwrap_or_else(|| panic!("{}", shown(&eval)));
    verify(&step.graph).unwrap_or_else(|b| panic!("{b}"));
    let init =
        eval.init_graph(&parts, &kinds, &step.states).unwrap_or_else(|| panic!("{}", shown(&eval)));
    verify(&init).unwrap_or_else(|b| panic!("{b}"));
    let mut store = inputs(&step.graph, 5);
    let made = interpret(&init, &IndexMap::new(), &|_| 3.0).expect("runs");
    assert_eq!(made.len(), step.weights.len() + step.states.len());
    for (name, t) in made {
        store.insert(name, t);
    }
    (1..=steps)
        .map(|t| {
            let runtime = move |r| match r {
                Runtime::Step => t as f64,
                Runtime::Share => t as f64 / steps as f64,
                _ => 3.0,
            };
            let out = interpret(&step.graph, &store, &runtime).expect("runs");
            for o in &step.graph.outputs {
                if o.into.is_some() {
                    store.insert(o.name.clone(), out[&o.name].clone());
                }
            }
            assert!(out[&Name::from("grad_norm")].data[0] > 0.0);
            out[&Name::from("loss")].data[0]
        })
        .collect()
}

#[test]
fn a_model_learns_a_batch_and_micro_batches_do_not_matter() {
    let whole = train(4, 1, 8);
    let parts = train(2, 2, 8);
    assert!(whole[7] < whole[0] - 0.5, "{whole:?}");
    for (a, b) in whole.iter().zip(&parts) {
        assert!((a - b).abs() < 1e-9, "{whole:?} {parts:?}");
    }
}

#[test]
fn a_layer_state_changes_once_per_step() {
    let text = TINY
        .replace(
            "use std.models { llama }",
            r#"
use std.layers { Embedding }
layer Count {
  weight gain[d] = 1
  state seen[d] = 2
  forward(x: [d]) -> [d] {
    measure size = mean[rest](abs(x * gain)) + 0 * seen
    x * gain
  }
  step() { seen = seen + 3 }
}
model counted {
  axes = { d = 8, depth = 2, vocab = bpe.vocab }
  embed = Embedding[vocab, d]
  blocks = stack[depth](Count)
  forward(ids: [seq]) -> [seq, vocab] = ids |> embed |> blocks |> dot[d](embed.table)
}
"#,
        )
        .replace("llama(layers = 2, d = 8, heads = 2, ff = 12, vocab = bpe.vocab)", "counted");
    let world = Texts { files: vec![("a.cs336".into(), text)] };
    let mut eval = Eval::new(&world);
    eval.load_main("a.cs336", &[]);
    kinds::check_nodes(&mut eval);
    assert!(!eval.problems.has_errors(), "{}", shown(&eval));
    let parts = kinds::train_parts(&mut eval, "quick").expect("a train");
    let views = eval.weight_views(&parts).expect("weights");
    let step = eval.step_graph(&parts, 2, 2).unwrap_or_else(|| panic!("{}", shown(&eval)));
    verify(&step.graph).unwrap_or_else(|b| panic!("{b}"));
    let init = eval.init_graph(&parts, &views, &step.states).expect("a graph");
    let mut store = inputs(&step.graph, 5);
    store.extend(interpret(&init, &IndexMap::new(), &|_| 3.0).expect("runs"));
    let seen = Name::from("blocks.seen");
    assert!(store[&seen].data.iter().all(|x| *x == 2.0));
    let out = interpret(&step.graph, &store, &|_| 1.0).expect("runs");
    assert!(out[&seen].data.iter().all(|x| *x == 5.0), "{:?}", out[&seen].data);
    assert_eq!(out[&Name::from("measure:blocks.size")].data.len(), 16);
}
