//! Small programs, each with one top-level `T` to apply: the table of the gradient witnesses.

/// What an input holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holds {
    /// Floats in -1..1.
    Floats,
    /// Integers below.
    Below(usize),
}
use Holds::{Below, Floats};

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Snippet {
    /// For the report.
    pub(crate) name: &'static str,
    /// Defines `T`.
    pub(crate) text: &'static str,
    /// Parameters of `forward` (or of a loss) with shapes; unnamed leading axes are a batch.
    pub(crate) inputs: &'static [(&'static str, &'static [usize], Holds)],
    /// Axes that no input says.
    pub(crate) sizes: &'static [(&'static str, usize)],
}

const fn row(
    name: &'static str,
    text: &'static str,
    inputs: &'static [(&'static str, &'static [usize], Holds)],
    sizes: &'static [(&'static str, usize)],
) -> Snippet {
    Snippet { name, text, inputs, sizes }
}

const X: &[(&str, &[usize], Holds)] = &[("x", &[2, 4, 6], Floats)];
const ONE_ROW: &[(&str, &[usize], Holds)] = &[("x", &[4, 6], Floats)];
const LOGITS: &[(&str, &[usize], Holds)] =
    &[("logits", &[3, 5], Floats), ("target", &[3], Below(5))];

/// Layers of the standard library, alone and in combination.
pub(crate) const LAYERS: &[Snippet] = &[
    row(
        "Linear",
        "use std.layers { Linear }
layer T[d, ff] {
  lin = Linear[d, ff]
  forward(x: [d]) -> [ff] = lin(x)
}",
        X,
        &[("ff", 3)],
    ),
    row(
        "Linear with a bias",
        "use std.layers { Linear }
layer T[d, ff] {
  lin = Linear[d, ff](bias = true)
  forward(x: [d]) -> [ff] = lin(x)
}",
        X,
        &[("ff", 3)],
    ),
    row(
        "Embedding",
        "use std.layers { Embedding }
layer T[vocab, d] {
  embed = Embedding[vocab, d]
  forward(ids: [seq]) -> [seq, d] = embed(ids)
}",
        &[("ids", &[2, 5], Below(4))],
        &[("vocab", 4), ("d", 3)],
    ),
    row(
        "RMSNorm",
        "use std.layers { RMSNorm }
layer T[d] {
  norm = RMSNorm[d](eps = 1e-2)
  forward(x: [d]) -> [d] = norm(x)
}",
        X,
        &[],
    ),
    row(
        "RMSNorm over two axes",
        "use std.layers { RMSNorm }
layer T[head, dh] {
  norm = RMSNorm[(head, dh)]
  forward(x: [head, dh]) -> [head, dh] = norm(x)
}",
        &[("x", &[3, 2, 4], Floats)],
        &[],
    ),
    row(
        "LayerNorm",
        "use std.layers { LayerNorm }
layer T[d] {
  norm = LayerNorm[d]
  forward(x: [d]) -> [d] = norm(x)
}",
        X,
        &[],
    ),
    row(
        "LayerNorm without a bias",
        "use std.layers { LayerNorm }
layer T[d] {
  norm = LayerNorm[d](bias = false)
  forward(x: [d]) -> [d] = norm(x)
}",
        X,
        &[],
    ),
    row(
        "learned positions",
        "use std.layers { LearnedPositions }
layer T[ctx, d] {
  positions = LearnedPositions[ctx, d]
  forward(x: [seq, d]) -> [seq, d] = positions(x)^2
}",
        X,
        &[("ctx", 5)],
    ),
    row(
        "sinusoidal positions",
        "use std.layers { SinusoidalPositions }
layer T[d] {
  positions = SinusoidalPositions[d]
  forward(x: [seq, d]) -> [seq, d] = positions(x)^2
}",
        X,
        &[],
    ),
    row(
        "rotary positions on halves",
        "layer T[d] { forward(x: [seq, d]) -> [seq, d] = rope[d, seq](x, 100)^2 }",
        X,
        &[],
    ),
    row(
        "rotary positions on neighbours",
        "layer T[d] { forward(x: [seq, d]) -> [seq, d] = rope_interleaved[d, seq](x, 100)^2 }",
        X,
        &[],
    ),
    row(
        "GQA",
        "use std.layers { GQA }
layer T {
  attn = GQA
  forward(x: [seq, d]) -> [seq, d] = attn(x)
}",
        X,
        &[("kv", 2), ("group", 2), ("dh", 4)],
    ),
    row(
        "MHA",
        "use std.layers { MHA }
layer T {
  attn = MHA
  forward(x: [seq, d]) -> [seq, d] = attn(x)
}",
        X,
        &[("head", 2), ("dh", 3)],
    ),
    row(
        "MHA with biases",
        "use std.layers { MHA }
layer T {
  attn = MHA(bias = true)
  forward(x: [seq, d]) -> [seq, d] = attn(x)
}",
        X,
        &[("head", 2), ("dh", 3)],
    ),
    row(
        "SwiGLU",
        "use std.layers { SwiGLU }
layer T {
  mlp = SwiGLU
  forward(x: [d]) -> [d] = mlp(x)
}",
        X,
        &[("ff", 5)],
    ),
    row(
        "MLP with gelu and biases",
        "use std.layers { MLP }
layer T {
  mlp = MLP(activation = gelu, bias = true)
  forward(x: [d]) -> [d] = mlp(x)
}",
        X,
        &[("ff", 5)],
    ),
    row(
        "MLP with gelu_tanh",
        "use std.layers { MLP }
layer T {
  mlp = MLP(activation = gelu_tanh)
  forward(x: [d]) -> [d] = mlp(x)
}",
        X,
        &[("ff", 5)],
    ),
    row(
        "MLP with relu",
        "use std.layers { MLP }
layer T {
  mlp = MLP(activation = relu)
  forward(x: [d]) -> [d] = mlp(x)
}",
        X,
        &[("ff", 5)],
    ),
    row(
        "MLP with silu",
        "use std.layers { MLP }
layer T {
  mlp = MLP(activation = silu)
  forward(x: [d]) -> [d] = mlp(x)
}",
        X,
        &[("ff", 5)],
    ),
    row(
        "MLP with softplus",
        "use std.layers { MLP }
layer T {
  mlp = MLP(activation = softplus)
  forward(x: [d]) -> [d] = mlp(x)
}",
        X,
        &[("ff", 5)],
    ),
    row(
        "MLP with tanh, log_sigmoid and a square",
        "use std.layers { MLP }
fn act(x) = tanh(x) + log_sigmoid(x) + relu(x)^2
layer T {
  mlp = MLP(activation = act)
  forward(x: [d]) -> [d] = mlp(x)
}",
        X,
        &[("ff", 5)],
    ),
    row(
        "PreNorm and PostNorm",
        "use std.layers { PostNorm, PreNorm, SwiGLU }
layer T {
  a = PreNorm(SwiGLU), b = PostNorm(SwiGLU)
  forward(x: [seq, d]) -> [seq, d] = b(a(x))
}",
        X,
        &[("ff", 4)],
    ),
    row(
        "a stack of blocks",
        "use std.layers { GQA, PreNorm, SwiGLU }
layer Block {
  attn = PreNorm(GQA), mlp = PreNorm(SwiGLU)
  forward(x: [seq, d]) -> [seq, d] = mlp(attn(x))
}
layer T {
  blocks = stack[depth](Block)
  forward(x: [seq, d]) -> [seq, d] = blocks(x)
}",
        X,
        &[("depth", 3), ("kv", 1), ("group", 2), ("dh", 4), ("ff", 3)],
    ),
    row(
        "a Llama block",
        "use std.models { LlamaBlock }
layer T {
  block = LlamaBlock
  forward(x: [seq, d]) -> [seq, d] = block(x)
}",
        X,
        &[("kv", 1), ("group", 2), ("dh", 2), ("ff", 3)],
    ),
    row(
        "a mixture of experts",
        "use std.layers { SwiGLU }
layer T[d, ff, expert](top: Int = 2) {
  weight router[d, expert]
  experts = each[expert](SwiGLU)
  forward(x: [d]) -> [d] {
    let p = softmax[expert](dot[d](x, router))
    let g = topk[expert](p, top)
    sum[expert](g * experts(x))
  }
}",
        X,
        &[("ff", 3), ("expert", 4)],
    ),
    row(
        "load balance of a router",
        "layer T[d, expert] {
  weight router[d, expert]
  forward(x: [seq, d]) {
    let p = softmax[expert](dot[d](x, router))
    load_balance[expert](p, topk[expert](p, 2))
  }
}",
        X,
        &[("expert", 4)],
    ),
];

/// What the language itself offers to layers.
pub(crate) const OPERATIONS: &[Snippet] = &[
    row("an Elman cell", "layer T[d, e, e2 = e] {
  weight wi[d, e], wh[e, e2]
  forward(x: [seq, d]) -> [seq, e] {
    scan[seq] {
      state h[e] = 0
      h = tanh(dot[d](x, wi) + dot[e](h, wh)[e2 -> e])
      h
    }
  }
}", X, &[("e", 3)]),
    row("an LSTM", "layer T[d, e, e2 = e, gate4 = 4] {
  weight wi[d, gate4, e], wh[e, gate4, e2]
  forward(x: [seq, d]) -> [seq, e] {
    scan[seq] {
      state h[e] = 0, c[e] = 0
      let z = dot[d](x, wi) + dot[e](h, wh)[e2 -> e]
      c = sigmoid(pick[gate4](z, 0)) * c + sigmoid(pick[gate4](z, 1)) * tanh(pick[gate4](z, 2))
      h = sigmoid(pick[gate4](z, 3)) * tanh(c)
      h
    }
  }
}", X, &[("e", 2)]),
    row("gated linear attention", "layer T[d, head, dk, dv] {
  weight wq[d, head, dk], wk[d, head, dk], wv[d, head, dv], wg[d, head, dk], wo[head, dv, d]
  forward(x: [seq, d]) -> [seq, d] {
    let q = dot[d](x, wq)
    let k = dot[d](x, wk)
    let v = dot[d](x, wv)
    let g = sigmoid(dot[d](x, wg))^(1 / 16)
    let o = scan[seq] {
      state h[head, dk, dv] = 0
      h = g * h + k * v
      dot[dk](q, h)
    }
    dot[head, dv](o, wo)
  }
}", X, &[("head", 2), ("dk", 2), ("dv", 3)]),
    row("a causal convolution by windows", "layer T[d, tap = 3] {
  weight conv[tap, d] = uniform(-0.5, 0.5)
  forward(x: [seq, d]) -> [seq, d] = dot[tap](pick[seq](x, pos(seq) - pos(tap), outside = 0), conv)
}", X, &[]),
    row("a pick by ids", "layer T[d] {
  weight w[d] = 1
  forward(x: [seq, d], at: [seq]) -> [seq] = pick[d](x * w, at)^2
}", &[("x", &[2, 4, 6], Floats), ("at", &[2, 4], Below(6))], &[]),
    row("concat and split", "layer T[a, b, c] {
  weight w[c] = 1
  forward(x: [a], y: [b]) {
    let z = concat[(a, b) -> c](x, y) * w
    let parts = split[c -> (b, a)](z * z)
    sum[b](parts.b * y) + sum[a](parts.a * x)
  }
}", &[("x", &[2, 3], Floats), ("y", &[2, 4], Floats)], &[("c", 7)]),
    row("running sums, products, extremes, norms", "layer T[d] {
  forward(x: [seq, d]) -> [seq] =
    cumsum[seq](sum[d](x)) * prod[d](x + 2) + max[d](x) - min[d](x) + norm[d](x) + logsumexp[d](2 * x) + mean[d](x)
}", X, &[]),
    row("elementwise functions", "layer T[d] {
  forward(x: [d]) -> [d] {
    let p = abs(x) + 0.3
    sin(x) * cos(x) + exp(x) + log(p) + sqrt(p) + rsqrt(p) + tanh(x) + erf(x) + sigmoid(x) + p^1.7 + 2^x + max(x, 0.1) * min(x, 0.2) + (if x > 0 then x^3 else 1 / p)
  }
}", X, &[]),
    row("attention with a soft cap", "layer T[d, head, dh] {
  weight wq[d, head, dh], wk[d, head, dh], wv[d, head, dh]
  forward(x: [seq, d]) -> [seq, head, dh] {
    let k = dot[d](x, wk)[seq -> key]
    let v = dot[d](x, wv)[seq -> key]
    attend[dh, key](dot[d](x, wq), k, v, score = 0.5 * tanh(s / 0.5), mask = pos(key) <= pos(seq))
  }
}", X, &[("head", 2), ("dh", 3)]),
    row("attention with ALiBi", "layer T[d, head, dh] {
  weight wq[d, head, dh], wk[d, head, dh], wv[d, head, dh]
  forward(x: [seq, d]) -> [seq, head, dh] {
    let k = dot[d](x, wk)[seq -> key]
    let v = dot[d](x, wv)[seq -> key]
    attend[dh, key](dot[d](x, wq), k, v, score = s - 2^(-4 * (pos(head) + 1)) * (pos(seq) - pos(key)), mask = pos(key) <= pos(seq))
  }
}", X, &[("head", 2), ("dh", 3)]),
    row("attention with a learned bias per head", "layer T[d, head, dh] {
  weight wq[d, head, dh], wk[d, head, dh], wv[d, head, dh], slope[head] = 1
  forward(x: [seq, d]) -> [seq, head, dh] {
    let k = dot[d](x, wk)[seq -> key]
    let v = dot[d](x, wv)[seq -> key]
    attend[dh, key](dot[d](x, wq), k, v, score = s * slope - slope * (pos(seq) - pos(key)), mask = pos(key) <= pos(seq))
  }
}", X, &[("head", 2), ("dh", 3)]),
    row("attention in a window", "layer T[d, head, dh] {
  weight wq[d, head, dh], wk[d, head, dh], wv[d, head, dh]
  forward(x: [seq, d]) -> [seq, head, dh] {
    let k = dot[d](x, wk)[seq -> key]
    let v = dot[d](x, wv)[seq -> key]
    attend[dh, key](dot[d](x, wq), k, v, mask = pos(key) <= pos(seq) and pos(seq) - pos(key) < 2)
  }
}", X, &[("head", 2), ("dh", 3)]),
    row("attention inside documents", "layer T[d, head, dh] {
  weight wq[d, head, dh], wk[d, head, dh], wv[d, head, dh]
  forward(x: [seq, d], doc: [seq]) -> [seq, head, dh] {
    let k = dot[d](x, wk)[seq -> key]
    let v = dot[d](x, wv)[seq -> key]
    attend[dh, key](dot[d](x, wq), k, v, mask = pos(key) <= pos(seq) and doc == doc[seq -> key])
  }
}", &[("x", &[2, 4, 6], Floats), ("doc", &[2, 4], Below(2))], &[("head", 2), ("dh", 3)]),
    row("attention across sequences, unmasked, scaled", "layer T[d, head, dh] {
  weight wq[d, head, dh], wk[d, head, dh], wv[d, head, dh]
  forward(x: [seq, d], y: [key, d]) -> [seq, head, dh] =
    attend[dh, key](dot[d](x, wq), dot[d](y, wk), dot[d](y, wv), scale = 0.7)
}", &[("x", &[4, 6], Floats), ("y", &[3, 6], Floats)], &[("head", 2), ("dh", 3)]),
];

/// Losses of the prelude.
pub(crate) const LOSSES: &[Snippet] = &[
    row("cross_entropy", "let T = cross_entropy", LOGITS, &[]),
    row("cross_entropy_z", "let T = cross_entropy_z(z = 0.1)", LOGITS, &[]),
    row("smoothed", "let T = smoothed(eps = 20%)", LOGITS, &[]),
];

/// Attention spelled out, and by `attend`: equal outputs, equal gradients.
pub(crate) const ATTENTION_TWICE: [Snippet; 2] = [
    row(
        "spelled out",
        "layer T[d, kv, group, dh] {
  weight wq[d, kv, group, dh], wk[d, kv, dh], wv[d, kv, dh]
  forward(x: [seq, d]) -> [seq, kv, group, dh] {
    let k = dot[d](x, wk)[seq -> key]
    let v = dot[d](x, wv)[seq -> key]
    let s = dot[dh](dot[d](x, wq), k) / sqrt(dh)
    let seen = if pos(key) <= pos(seq) then s else -1e30
    dot[key](softmax[key](seen), v)
  }
}",
        ONE_ROW,
        &[("kv", 2), ("group", 2), ("dh", 4)],
    ),
    row(
        "attend",
        "layer T[d, kv, group, dh] {
  weight wq[d, kv, group, dh], wk[d, kv, dh], wv[d, kv, dh]
  forward(x: [seq, d]) -> [seq, kv, group, dh] {
    let k = dot[d](x, wk)[seq -> key]
    let v = dot[d](x, wv)[seq -> key]
    attend[dh, key](dot[d](x, wq), k, v, mask = pos(key) <= pos(seq))
  }
}",
        ONE_ROW,
        &[("kv", 2), ("group", 2), ("dh", 4)],
    ),
];
