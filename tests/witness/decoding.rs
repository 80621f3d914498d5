//! Decoding with caches gives the logits of the whole row: learned and rotary positions, fewer key-value heads than heads, on the
//! interpreter and on this machine.

use cs336_compiler::graph::interp::Tensor;
use cs336_compiler::graph::verify::verify;
use cs336_compiler::graph::{DType, Graph, Name, Role, Runtime};

use crate::logits::around;
use crate::support::{
    Dice, F64, OnDevice, Values, WHOLE_F32, near, open, parts, problems, program, run,
};

const ROW: usize = 9;
const PROMPT: usize = 4;
const CAPACITY: usize = 12;

fn agree(model: &str) {
    let world = program(&around(model, "adamw(lr = constant(1e-3))", ROW));
    let mut eval = open(&world);
    let parts = parts(&mut eval, "run");
    let whole = eval.forward_graph(&parts, 1);
    let prefill = eval.decode_graph(&parts, PROMPT, CAPACITY);
    let decode = eval.decode_graph(&parts, 1, CAPACITY);
    let (Some(whole), Some((prefill, caches)), Some((decode, _))) = (whole, prefill, decode) else {
        panic!("{}", problems(&eval))
    };
    assert!(!caches.is_empty(), "{model} has no cache");
    let mut dice = Dice::new(8);
    let mut values = Values::new();
    for input in &whole.inputs {
        let mut t = dice.tensor(&input.ty, 300);
        if input.role == Role::Weight {
            t.data.iter_mut().for_each(|x| *x *= 0.3);
        }
        values.insert(input.name.clone(), t);
    }
    let ids = values["ids"].data.clone();
    let row = run(&whole, &values, &|_| 0.0)["out"].data.clone();
    let vocab = row.len() / ROW;

    let mut kept = values.clone();
    for c in &caches {
        kept.insert(c.name.clone(), Tensor::filled(&c.ty, 0.0));
    }
    let mut stored = kept.clone();
    let (mut long, mut short) = (OnDevice::new(&prefill), OnDevice::new(&decode));
    for at in std::iter::once(0).chain(PROMPT..ROW) {
        let (graph, device, n) =
            if at == 0 { (&prefill, &mut long, PROMPT) } else { (&decode, &mut short, 1) };
        verify(graph).unwrap_or_else(|bug| panic!("{bug}"));
        let position = |what| if what == Runtime::Position { at as f64 } else { 0.0 };
        let want = &row[(at + n - 1) * vocab..(at + n) * vocab];
        let what = format!("{model} at position {}", at + n - 1);
        let out = run(graph, &inputs(graph, &kept, &ids[at..at + n]), &position);
        near(&what, &out["logits"].data, want, F64);
        device.set(&inputs(graph, &stored, &ids[at..at + n]));
        device.run(&position);
        near(&format!("{what} in f32"), &device.floats("logits"), want, WHOLE_F32);
        for c in &caches {
            kept.insert(
                c.name.clone(),
                out[&c.name].arranged(&c.ty).expect("a cache keeps its type"),
            );
            let data = device.floats(c.name.as_str());
            stored.insert(c.name.clone(), Tensor::new(c.ty.clone(), data).expect("its size"));
        }
    }
}

/// What a decoding graph reads: weights and caches as they are, columns for `ids`.
fn inputs(graph: &Graph, kept: &Values, ids: &[f64]) -> Values {
    let mut now = Values::new();
    for input in &graph.inputs {
        let t = if input.role == Role::Data {
            let data = if input.name == "ids" { ids.to_vec() } else { vec![0.0; ids.len()] };
            assert!(input.name != "ids" || input.ty.dtype == DType::I32);
            Tensor::new(input.ty.clone(), data).expect("a column of one row")
        } else {
            kept[&input.name].clone()
        };
        now.insert(Name::from(input.name.as_str()), t);
    }
    now
}

#[test]
fn llama_with_fewer_key_value_heads() {
    agree("llama(layers = 2, d = 24, heads = 6, kv = 2, ff = 20, vocab = 300)");
}

#[test]
fn gpt2_with_learned_positions() {
    agree("gpt2(layers = 2, d = 16, heads = 2, vocab = 300, ctx = 12)");
}
