//! Logits of `llama` and `gpt2` against the same models in candle: in f64 on the interpreter, in f32 on this machine.

use candle_core::{DType, Device, Result, Tensor};

use crate::oracle::Weights;
use crate::oracle::gpt2::{self, Gpt2};
use crate::oracle::llama::{self, Llama};
use crate::support::{F64, OnDevice, TRAIN, Training, WHOLE_F32, at_step, near, run};

/// A training program around a model.
pub(crate) fn around(model: &str, optimizer: &str, seq: usize) -> String {
    let base = TRAIN.replace("SEQ", &seq.to_string());
    format!(
        "use std.models {{ llama, gpt2 }}\n{base}
train run {{
  model = {model}
  data = rows
  optimizer = {optimizer}
  batch = {} tokens
  budget = 20 steps
}}
",
        4 * seq
    )
}

/// The weights of a training run as candle tensors.
pub(crate) fn weights(t: &Training, dtype: DType) -> Result<Weights> {
    let mut by_name = std::collections::BTreeMap::new();
    for w in &t.step.weights {
        let shape: Vec<usize> = w.ty.axes.iter().map(|a| a.size).collect();
        let found = t.start[&w.name].arranged(&w.ty).expect("weights have their type");
        let tensor = Tensor::from_vec(found.data, shape, &Device::Cpu)?.to_dtype(dtype)?;
        by_name.insert(w.name.to_string(), tensor);
    }
    Ok(Weights { by_name })
}

/// Compares logits; `oracle` computes them from weights.
fn agree(model: &str, oracle: impl Fn(&Weights, &[u32], usize) -> Result<Tensor>) {
    let t = Training::new(&around(model, "adamw(lr = constant(1e-3))", 12), 3, 1, 300);
    let ids = t.ids("ids");
    let numbers = |dtype: DType| -> Result<Vec<f64>> {
        let logits = oracle(&weights(&t, dtype)?, &ids, t.rows)?;
        logits.flatten_all()?.to_dtype(DType::F64)?.to_vec1()
    };
    let (exact, single) = (numbers(DType::F64).expect("runs"), numbers(DType::F32).expect("runs"));
    let inputs = t.forward_inputs();
    let runtime = at_step(1, 1);
    let found = run(&t.forward, &inputs, &runtime);
    near(&format!("{model} in f64"), &found["out"].data, &exact, F64);
    let mut device = OnDevice::new(&t.forward);
    device.set(&inputs);
    device.run(&runtime);
    let found = device.floats("out");
    near(&format!("{model} in f32 against candle in f32"), &found, &single, WHOLE_F32);
    near(&format!("{model} in f32 against candle in f64"), &found, &exact, WHOLE_F32);
}

#[test]
fn llama_untied_with_grouped_queries() {
    let shape = Llama { layers: 3, heads: 6, kv: 2, tied: false, theta: 10_000.0, eps: 1e-5 };
    agree("llama(layers = 3, d = 48, heads = 6, kv = 2, ff = 40, vocab = 300)", |w, ids, rows| {
        llama::logits(w, &shape, ids, rows)
    });
}

#[test]
fn llama_tied_with_other_constants() {
    let shape = Llama { layers: 2, heads: 2, kv: 2, tied: true, theta: 500.0, eps: 1e-3 };
    let text = "llama(layers = 2, d = 24, heads = 2, ff = 20, vocab = 300, tied = true, theta = 500, eps = 1e-3)";
    agree(text, |w, ids, rows| llama::logits(w, &shape, ids, rows));
}

#[test]
fn gpt2_tied_with_biases() {
    let shape = Gpt2 { layers: 3, heads: 4, bias: true, tied: true };
    agree("gpt2(layers = 3, d = 32, heads = 4, vocab = 300, ctx = 16)", |w, ids, rows| {
        gpt2::logits(w, &shape, ids, rows)
    });
}

#[test]
fn gpt2_untied_without_biases() {
    let shape = Gpt2 { layers: 2, heads: 2, bias: false, tied: false };
    let text = "gpt2(layers = 2, d = 16, heads = 2, ff = 24, vocab = 300, ctx = 12, bias = false, tied = false)";
    agree(text, |w, ids, rows| gpt2::logits(w, &shape, ids, rows));
}
