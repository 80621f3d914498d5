//! GPT-2: learned positions, LayerNorm before each part, multi-head attention, a GELU feed-forward.

use candle_core::{D, Device, Result, Tensor};

use super::{Weights, causal_attention, embed, heads, unheads};

/// Its shape.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gpt2 {
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) bias: bool,
    pub(crate) tied: bool,
}

/// Logits `[rows * seq, vocab]` of `rows` rows of ids.
pub(crate) fn logits(w: &Weights, c: &Gpt2, ids: &[u32], rows: usize) -> Result<Tensor> {
    let table = w.top("embed.table")?;
    let seq = ids.len() / rows;
    let positions: Vec<u32> = (0..ids.len()).map(|i| (i % seq) as u32).collect();
    let at = Tensor::from_slice(&positions, ids.len(), &Device::Cpu)?;
    let mut x = (embed(&table, ids)? + w.top("positions.table")?.index_select(&at, 0)?)?;
    let vector = |name: &str, l: usize| -> Result<Option<Tensor>> {
        Ok(if c.bias { Some(w.vector(name, l)?) } else { None })
    };
    for l in 0..c.layers {
        let linear = |x: &Tensor, weight: &str, inputs: usize, bias: &str| -> Result<Tensor> {
            let y = x.matmul(&w.matrix(&format!("blocks.{weight}"), l, inputs)?)?;
            match vector(&format!("blocks.{bias}"), l)? {
                Some(b) => y.broadcast_add(&b),
                None => Ok(y),
            }
        };
        let gain = w.vector("blocks.norm1.gain", l)?;
        let h = layer_norm(&x, &gain, vector("blocks.norm1.shift", l)?.as_ref())?;
        let q = heads(&linear(&h, "attn.wq", 1, "attn.bq")?, rows, c.heads)?;
        let k = heads(&linear(&h, "attn.wk", 1, "attn.bk")?, rows, c.heads)?;
        let v = heads(&linear(&h, "attn.wv", 1, "attn.bv")?, rows, c.heads)?;
        let a = unheads(&causal_attention(&q, &k, &v)?)?;
        x = (x + linear(&a, "attn.wo", 2, "attn.bo")?)?;
        let gain = w.vector("blocks.norm2.gain", l)?;
        let h = layer_norm(&x, &gain, vector("blocks.norm2.shift", l)?.as_ref())?;
        let h = gelu_tanh(&linear(&h, "mlp.up", 1, "mlp.up_bias")?)?;
        x = (x + linear(&h, "mlp.down", 1, "mlp.down_bias")?)?;
    }
    let shift = if c.bias { Some(w.top("norm.shift")?) } else { None };
    let x = layer_norm(&x, &w.top("norm.gain")?, shift.as_ref())?;
    x.matmul(&if c.tied { table.t()?.contiguous()? } else { w.top("head.w")? })
}

fn layer_norm(x: &Tensor, gain: &Tensor, shift: Option<&Tensor>) -> Result<Tensor> {
    let c = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = (c.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?;
    let y = c.broadcast_div(&variance.sqrt()?)?.broadcast_mul(gain)?;
    match shift {
        Some(b) => y.broadcast_add(b),
        None => Ok(y),
    }
}

/// x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x³)))
fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    let inner =
        ((x + (x.sqr()? * x)?.affine(0.044715, 0.0)?)? * (2.0 / std::f64::consts::PI).sqrt())?;
    (x * 0.5)? * (inner.tanh()? + 1.0)?
}
