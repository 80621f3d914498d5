//! Llama: RMSNorm before each part, grouped-query attention on rotary positions (halves), SwiGLU.

use candle_core::{D, Device, Result, Tensor};

use super::{Weights, causal_attention, embed, heads, unheads};

/// Its shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Llama {
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) kv: usize,
    pub(crate) tied: bool,
    pub(crate) theta: f64,
    pub(crate) eps: f64,
}

/// Logits `[rows * seq, vocab]` of `rows` rows of ids.
pub(crate) fn logits(w: &Weights, c: &Llama, ids: &[u32], rows: usize) -> Result<Tensor> {
    let table = w.top("embed.table")?;
    let mut x = embed(&table, ids)?;
    for l in 0..c.layers {
        let h = rms_norm(&x, &w.vector("blocks.norm1.gain", l)?, c.eps)?;
        let q = heads(&h.matmul(&w.matrix("blocks.attn.wq", l, 1)?)?, rows, c.heads)?;
        let k = heads(&h.matmul(&w.matrix("blocks.attn.wk", l, 1)?)?, rows, c.kv)?;
        let v = heads(&h.matmul(&w.matrix("blocks.attn.wv", l, 1)?)?, rows, c.kv)?;
        let (q, k) = (rotate(&q, c.theta)?, rotate(&k, c.theta)?);
        let group = c.heads / c.kv;
        let a = causal_attention(&q, &repeat(&k, group)?, &repeat(&v, group)?)?;
        x = (x + unheads(&a)?.matmul(&w.matrix("blocks.attn.wo", l, 3)?)?)?;
        let h = rms_norm(&x, &w.vector("blocks.norm2.gain", l)?, c.eps)?;
        let gate = h.matmul(&w.matrix("blocks.mlp.gate", l, 1)?)?;
        let up = h.matmul(&w.matrix("blocks.mlp.up", l, 1)?)?;
        // silu(x) = x / (1 + e^-x)
        let gate = (&gate / (gate.neg()?.exp()? + 1.0)?)?;
        x = (x + (gate * up)?.matmul(&w.matrix("blocks.mlp.down", l, 1)?)?)?;
    }
    let x = rms_norm(&x, &w.top("norm.gain")?, c.eps)?;
    x.matmul(&if c.tied { table.t()?.contiguous()? } else { w.top("head.w")? })
}

fn rms_norm(x: &Tensor, gain: &Tensor, eps: f64) -> Result<Tensor> {
    let square = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?;
    x.broadcast_div(&square.sqrt()?)?.broadcast_mul(gain)
}

/// Coordinates i and i + dh / 2 turn by `position * theta^(-2 i / dh)`.
fn rotate(x: &Tensor, theta: f64) -> Result<Tensor> {
    let (_, _, seq, dh) = x.dims4()?;
    let half = dh / 2;
    let angle = |i: usize| (i / half) as f64 * theta.powf(-2.0 * (i % half) as f64 / dh as f64);
    let table = |f: fn(f64) -> f64| -> Result<Tensor> {
        let values: Vec<f64> = (0..seq * half).map(|i| f(angle(i))).collect();
        Tensor::from_vec(values, (seq, half), &Device::Cpu)?.to_dtype(x.dtype())
    };
    let (cos, sin) = (table(f64::cos)?, table(f64::sin)?);
    let (a, b) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
    let left = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let right = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    Tensor::cat(&[left, right], 3)
}

/// Each key-value head serves `group` neighbouring query heads.
fn repeat(x: &Tensor, group: usize) -> Result<Tensor> {
    let (rows, kv, seq, dh) = x.dims4()?;
    x.unsqueeze(2)?.broadcast_as((rows, kv, group, seq, dh))?.reshape((rows, kv * group, seq, dh))
}
