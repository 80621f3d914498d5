//! The door: a whole program is checked and its plans are made.

use indexmap::IndexMap;

use super::check;
use crate::check::apply::Given;
use crate::graph::interp::{Tensor, interpret};
use crate::graph::{DType, Name, Role, Runtime};
use crate::plan::{Place, interp::execute};
use crate::world::Texts;

const TINY: &str = r#"
use std.models { llama, gpt2 }
data tales = stories(count = 10, seed = 7) |> holdout(valid = 10%)
tokenizer bpe { corpus = tales.train, vocab = 300 }
train quick {
  model = llama(layers = 2, d = 8, heads = 2, ff = 12, vocab = bpe.vocab)
  data = tales |> encode(bpe) |> pack(seq = 6)
  optimizer = adamw(lr = cosine(peak = 1e-2), clip = 1.0)
  batch = 24 tokens
  budget = 10 steps
}
train other = quick with { model = gpt2(layers = 2, d = 8, heads = 2, vocab = bpe.vocab, ctx = 8) }
"#;

fn bytes(t: &Tensor) -> Vec<u8> {
    match t.ty.dtype {
        DType::I32 => t.data.iter().flat_map(|x| (*x as i32).to_le_bytes()).collect(),
        _ => t.data.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
    }
}

fn floats(b: &[u8]) -> Vec<f64> {
    b.chunks_exact(4).map(|c| f64::from(f32::from_le_bytes(c.try_into().expect("4")))).collect()
}

/// A step's plan, run by the interpreter of plans, gives the losses and weights of its graph.
fn agrees(train: &str, micro: usize) {
    let world = Texts { files: vec![("a.cs336".into(), TINY.into())] };
    let mut checked = check(&world, "a.cs336", &[]);
    let shown: Vec<_> = checked.problems().iter().map(|p| p.message.clone()).collect();
    assert!(shown.is_empty(), "{shown:?}");
    let programs = checked
        .train_programs(train, Some(micro))
        .unwrap_or_else(|p| panic!("{:?}", p.iter().map(|p| &p.message).collect::<Vec<_>>()));
    let mut tensors: IndexMap<Name, Tensor> =
        interpret(&programs.init.graph, &IndexMap::new(), &|_| 5.0).expect("runs");
    let mut state = 9u32;
    for i in &programs.step.graph.inputs {
        if i.role == Role::Data {
            let data = (0..i.ty.len())
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if i.ty.dtype == DType::I32 { f64::from((state >> 8) % 300) } else { 1.0 }
                })
                .collect();
            tensors.insert(i.name.clone(), Tensor { ty: i.ty.clone(), data });
        }
    }
    let mut store: IndexMap<Name, Vec<u8>> =
        tensors.iter().map(|(n, t)| (n.clone(), bytes(t))).collect();
    for b in &programs.step.plan.buffers {
        if let Place::External { storage, .. } = &b.place {
            store.entry(storage.clone()).or_insert_with(|| vec![0; b.bytes]);
        }
    }
    for t in 1..=3 {
        let runtime = move |r| match r {
            Runtime::Step => f64::from(t),
            Runtime::Share => f64::from(t) / 10.0,
            _ => 5.0,
        };
        let out = interpret(&programs.step.graph, &tensors, &runtime).expect("runs");
        execute(&programs.step.plan, &mut store, &runtime).expect("executes");
        for o in &programs.step.graph.outputs {
            let want = &out[&o.name].data;
            let got = floats(&store[&o.name]);
            for (a, b) in want.iter().zip(&got) {
                assert!(
                    (a - b).abs() < 2e-4 * (1.0 + a.abs()),
                    "{train} step {t} {}: {a} {b}",
                    o.name
                );
            }
            if o.into.is_some() {
                tensors.insert(o.name.clone(), out[&o.name].clone());
            }
        }
    }
}

#[test]
fn the_plan_of_a_llama_step_means_its_graph() {
    agrees("quick", 4);
    agrees("quick", 2);
}

#[test]
fn the_plan_of_a_gpt2_step_means_its_graph() {
    agrees("other", 4);
    agrees("other", 1);
}

/// Gradients are stored beside their tensors, so their axes stand in the same order, whatever the derivative made.
#[test]
fn a_gradient_has_the_axes_of_its_tensor_in_their_order() {
    let text = "layer Mix[d, e] {\n  weight w[d, e]\n  forward(x: [seq, d]) -> [seq, e] = dot[d](w, x)\n}\n";
    let world = Texts { files: vec![("a.cs336".into(), text.into())] };
    let mut checked = check(&world, "a.cs336", &[]);
    let given = |name: &str, shape: &[usize]| Given {
        name: name.into(),
        shape: shape.to_vec(),
        integer: false,
    };
    let made =
        checked.apply_program("Mix", &[given("x", &[5, 3])], &[given("w", &[3, 4])], &[], true);
    let graph = made.unwrap_or_else(|p| panic!("{:?}", p.sorted())).graph;
    let mut seen = 0;
    for output in &graph.outputs {
        let Some(name) = output.name.as_str().strip_prefix("grad:") else { continue };
        let input = graph.inputs.iter().find(|i| i.name.as_str() == name).expect("it has one");
        assert_eq!(graph.ty(output.node).axes, input.ty.axes, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 2);
}
