//! Models written a second time, with `candle`, from weights by their storage names.

pub(crate) mod adamw;
pub(crate) mod gpt2;
pub(crate) mod llama;

use std::collections::BTreeMap;

use candle_core::{D, Device, Result, Tensor};

/// Weights by storage name; their dtype is that in which the oracle computes.
#[derive(Debug, Clone)]
pub(crate) struct Weights {
    /// As the compiler lays them out: the axis of a stack first.
    pub(crate) by_name: BTreeMap<String, Tensor>,
}

impl Weights {
    /// A weight outside of stacks.
    pub(crate) fn top(&self, name: &str) -> Result<Tensor> {
        match self.by_name.get(name) {
            Some(t) => Ok(t.clone()),
            None => candle_core::bail!("the oracle asks for `{name}`, which the model lacks"),
        }
    }

    /// A layer's slice of a weight, as a matrix whose rows are the product of the first `inputs` axes.
    pub(crate) fn matrix(&self, name: &str, layer: usize, inputs: usize) -> Result<Tensor> {
        let w = self.top(name)?.get(layer)?;
        let rows: usize = w.dims()[..inputs].iter().product();
        let columns: usize = w.dims()[inputs..].iter().product();
        w.reshape((rows, columns))
    }

    /// A layer's slice of a weight, flat.
    pub(crate) fn vector(&self, name: &str, layer: usize) -> Result<Tensor> {
        self.top(name)?.get(layer)?.flatten_all()
    }
}

/// `[rows * seq]` ids to vectors.
pub(crate) fn embed(table: &Tensor, ids: &[u32]) -> Result<Tensor> {
    table.index_select(&Tensor::from_slice(ids, ids.len(), &Device::Cpu)?, 0)
}

/// `softmax(q k' / sqrt(dh) + causal) v` on `[rows, heads, seq, dh]`.
pub(crate) fn causal_attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (_, _, seq, dh) = q.dims4()?;
    let scores = (q.matmul(&k.t()?.contiguous()?)? / (dh as f64).sqrt())?;
    let hidden: Vec<f64> =
        (0..seq * seq).map(|i| if i % seq > i / seq { -1e30 } else { 0.0 }).collect();
    let hidden = Tensor::from_vec(hidden, (seq, seq), &Device::Cpu)?.to_dtype(q.dtype())?;
    let scores = scores.broadcast_add(&hidden)?;
    // The maximum cancels out of the softmax, so no gradient need pass through it.
    let scores = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?;
    let e = scores.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)?.matmul(v)
}

/// `[rows * seq, heads * dh]` to `[rows, heads, seq, dh]`.
pub(crate) fn heads(x: &Tensor, rows: usize, heads: usize) -> Result<Tensor> {
    let (n, width) = x.dims2()?;
    x.reshape((rows, n / rows, heads, width / heads))?.transpose(1, 2)?.contiguous()
}

/// And back.
pub(crate) fn unheads(x: &Tensor) -> Result<Tensor> {
    let (rows, heads, seq, dh) = x.dims4()?;
    x.transpose(1, 2)?.contiguous()?.reshape((rows * seq, heads * dh))
}

/// Σ learn (logsumexp z - z[target]) / Σ learn, on `[rows * seq, vocab]`.
pub(crate) fn cross_entropy(logits: &Tensor, target: &[u32], learn: &[f64]) -> Result<Tensor> {
    let n = target.len();
    let max = logits.max_keepdim(D::Minus1)?.detach();
    let sum = logits.broadcast_sub(&max)?.exp()?.sum_keepdim(D::Minus1)?;
    let norm = (sum.log()? + max)?;
    let at = Tensor::from_slice(target, (n, 1), &Device::Cpu)?;
    let nats = (norm - logits.gather(&at, 1)?)?.flatten_all()?;
    let weights = Tensor::from_slice(learn, n, &Device::Cpu)?.to_dtype(logits.dtype())?;
    (nats * weights)?.sum_all()? / learn.iter().sum::<f64>().max(1.0)
}
