//! Twenty AdamW steps against an independent implementation: gradients by candle's autograd, the optimizer spelled out in f64.

use candle_core::{DType, Result, Tensor};
use cs336_compiler::close::Tolerance;

use crate::logits::{around, weights};
use crate::oracle::adamw::{AdamW, Seen};
use crate::oracle::gpt2::{self, Gpt2};
use crate::oracle::llama::{self, Llama};
use crate::oracle::{Weights, cross_entropy};
use crate::support::{OnDevice, Training, WHOLE_F32, at_step, carry, near, run};

const STEPS: usize = 20;
const SEQ: usize = 8;
const OPTIMIZER: &str = "adamw(lr = cosine(peak = 1e-2, warmup = 20%, floor = 10%), \
                         betas = [0.9, 0.95], eps = 1e-8, decay = 0.1, clip = 1.0)";
const ADAMW: AdamW = AdamW {
    peak: 1e-2,
    warmup: 0.2,
    floor: 0.1,
    betas: (0.9, 0.95),
    eps: 1e-8,
    decay: 0.1,
    clip: 1.0,
};

/// Nothing is rounded in either, so far less than the 1e-4 may remain.
const EXACT: Tolerance = Tolerance { absolute: 0.0, relative: 1e-8 };

/// Decay is for matrices and tables: by name, so that the compiler's roles are judged too.
fn decays(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let vectors = ["gain", "shift", "bq", "bk", "bv", "bo", "up_bias", "down_bias"];
    !vectors.contains(&last)
}

/// Trains with every number of micro-batches, on the interpreter and on this machine.
fn agree(model: &str, oracle: impl Fn(&Weights, &[u32], usize) -> Result<Tensor>) {
    let text = around(model, OPTIMIZER, SEQ);
    let mut reference: Option<Vec<Seen>> = None;
    for micro_count in [1, 2, 4] {
        let t = Training::new(&text, 4 / micro_count, micro_count, 300);
        let reference = reference.get_or_insert_with(|| {
            let (ids, target, learn) = (t.ids("ids"), t.ids("target"), t.column("learn"));
            let loss = |w: &Weights| cross_entropy(&oracle(w, &ids, 4)?, &target, &learn);
            let start = weights(&t, DType::F64).expect("weights");
            ADAMW.run(&start, decays, loss, STEPS).expect("trains")
        });
        let column = |f: fn(&Seen) -> f64| -> Vec<f64> { reference.iter().map(f).collect() };
        let (losses, norms, rates) =
            (column(|s| s.loss), column(|s| s.grad_norm), column(|s| s.lr));
        assert!(losses[STEPS - 1] < losses[0] - 0.3, "the oracle does not learn: {losses:?}");
        assert!(norms.iter().any(|n| *n > ADAMW.clip), "no step was clipped: {norms:?}");

        let what = |part: &str| format!("{part} of {model}, {micro_count} micro-batches");
        let found = interpreted(&t);
        near(&what("losses"), &found[0], &losses, EXACT);
        near(&what("gradient norms"), &found[1], &norms, EXACT);
        near(&what("learning rates"), &found[2], &rates, EXACT);
        let found = executed(&t);
        near(&what("f32 losses"), &found[0], &losses, WHOLE_F32);
        near(
            &what("f32 gradient norms"),
            &found[1],
            &norms,
            Tolerance { absolute: 1e-3, relative: 1e-3 },
        );
        near(&what("f32 learning rates"), &found[2], &rates, WHOLE_F32);
    }
}

/// Losses, gradient norms and learning rates on the interpreter.
fn interpreted(t: &Training) -> [Vec<f64>; 3] {
    let mut values = t.start.clone();
    let mut seen = [vec![], vec![], vec![]];
    for step in 1..=STEPS {
        let out = run(&t.step.graph, &values, &at_step(step, STEPS));
        for (list, name) in seen.iter_mut().zip(["loss", "grad_norm", "lr"]) {
            list.push(out[name].data[0]);
        }
        carry(&t.step.graph, &mut values, &out);
    }
    seen
}

/// The same on this machine.
fn executed(t: &Training) -> [Vec<f64>; 3] {
    let mut device = OnDevice::new(&t.step.graph);
    device.set(&t.start);
    let mut seen = [vec![], vec![], vec![]];
    for step in 1..=STEPS {
        device.run(&at_step(step, STEPS));
        for (list, name) in seen.iter_mut().zip(["loss", "grad_norm", "lr"]) {
            list.push(device.floats(name)[0]);
        }
    }
    seen
}

#[test]
fn llama_trains_as_the_oracle_does() {
    let shape = Llama { layers: 2, heads: 4, kv: 2, tied: false, theta: 10_000.0, eps: 1e-5 };
    agree("llama(layers = 2, d = 16, heads = 4, kv = 2, ff = 12, vocab = 300)", |w, ids, rows| {
        llama::logits(w, &shape, ids, rows)
    });
}

#[test]
fn gpt2_trains_as_the_oracle_does() {
    let shape = Gpt2 { layers: 2, heads: 2, bias: true, tied: true };
    agree("gpt2(layers = 2, d = 12, heads = 2, vocab = 300, ctx = 8)", |w, ids, rows| {
        gpt2::logits(w, &shape, ids, rows)
    });
}
