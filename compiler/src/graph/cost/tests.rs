//! Counts of whole models against numbers that others publish or that are short enough to add up.

use super::super::build::Builder;
use super::super::verify::verify;
use super::super::{Affine, Axis, BinOp, DType, Expr, Inst, Literal, ReduceOp, ScanKind, UnOp};
use super::*;

fn axis(name: &str, size: usize) -> Axis {
    Axis { name: name.into(), size }
}

fn name(text: &str) -> Name {
    text.into()
}

struct Llama {
    vocab: usize,
    d: usize,
    ff: usize,
    head: usize,
    depth: usize,
    seq: usize,
}

// GPT-2 XL of the course's accounting: pre-norm, RMSNorm, SwiGLU, rotary positions, no biases, untied head.
const XL: Llama = Llama { vocab: 50_257, d: 1600, ff: 6400, head: 25, depth: 48, seq: 1024 };

impl Llama {
    fn graph(&self) -> Graph {
        let (d, v) = (axis("d", self.d), axis("vocab", self.vocab));
        let (seq, depth) = (axis("seq", self.seq), axis("depth", self.depth));
        let f32s =
            |axes: &[&Axis]| Type::new(DType::F32, axes.iter().map(|a| (*a).clone()).collect());
        let mut b = Builder::new();
        let ids = b.input("ids", Type::new(DType::I32, vec![seq.clone()]), Role::Data);
        let table = b.input("embed", f32s(&[&v, &d]), Role::Weight);
        let x = b.gather(table, &name("vocab"), ids).unwrap();
        let body = self.block();
        let weights: Vec<NodeId> = body.inputs[1..]
            .iter()
            .map(|decl| {
                let mut ty = decl.ty.clone();
                ty.axes.insert(0, depth.clone());
                b.input(format!("blocks.{}", decl.name), ty, Role::Weight)
            })
            .collect();
        let kind = ScanKind::Layers;
        let x = b.scan(depth, false, kind, body, &[x], &weights, &[]).unwrap()[0];
        let gain = b.input("norm.gain", f32s(&[&d]), Role::Weight);
        let x = rms_norm(&mut b, x, gain);
        let head = b.input("head", f32s(&[&d, &v]), Role::Weight);
        let logits = b.contract(x, head, &[name("d")], DType::F32).unwrap();
        b.output("logits", logits, None);
        verify(&b.graph).unwrap();
        b.graph
    }

    fn block(&self) -> Graph {
        let (d, ff, seq) = (axis("d", self.d), axis("ff", self.ff), axis("seq", self.seq));
        let (head, dh) = (axis("head", self.head), axis("dh", self.d / self.head));
        let f32s =
            |axes: &[&Axis]| Type::new(DType::F32, axes.iter().map(|a| (*a).clone()).collect());
        let mut b = Builder::new();
        let x = b.input("x", f32s(&[&seq, &d]), Role::Local);
        let mut weight = |text: &str, axes: &[&Axis]| b.input(text, f32s(axes), Role::Local);
        let gain = weight("attn.gain", &[&d]);
        let wq = weight("attn.wq", &[&d, &head, &dh]);
        let wk = weight("attn.wk", &[&d, &head, &dh]);
        let wv = weight("attn.wv", &[&d, &head, &dh]);
        let wo = weight("attn.wo", &[&head, &dh, &d]);
        let gain2 = weight("mlp.gain", &[&d]);
        let (w1, w3) = (weight("mlp.w1", &[&d, &ff]), weight("mlp.w3", &[&d, &ff]));
        let w2 = weight("mlp.w2", &[&ff, &d]);
        b.path = Some("blocks.attn".into());
        let h = rms_norm(&mut b, x, gain);
        let [q, k, v] = [wq, wk, wv].map(|w| dot(&mut b, h, w, &["d"]));
        let to_key = [(name("seq"), name("key"))];
        let (k, v) = (b.rename(k, &to_key).unwrap(), b.rename(v, &to_key).unwrap());
        let mut mask = Expr { insts: vec![], result: 0 };
        let (key, row) = (mask.push(Inst::Pos(0)), mask.push(Inst::Pos(1)));
        mask.result = mask.push(Inst::Binary(BinOp::Le, key, row));
        let attention = Attention {
            over: name("dh"),
            key: name("key"),
            scale: Literal::new(0.125),
            score: Expr::arg(0),
            mask,
            pos: vec![name("key"), name("seq")],
        };
        let (out, _) = b.attention(attention, q, k, v, &[], DType::F32).unwrap();
        let out = dot(&mut b, out, wo, &["head", "dh"]);
        let x = b.binary(BinOp::Add, x, out).unwrap();
        b.path = Some("blocks.mlp".into());
        let h = rms_norm(&mut b, x, gain2);
        let y = swiglu(&mut b, h, w1, w3, w2);
        let x = b.binary(BinOp::Add, x, y).unwrap();
        b.output("x", x, None);
        b.graph
    }
}

fn dot(b: &mut Builder, x: NodeId, w: NodeId, over: &[&str]) -> NodeId {
    let over: Vec<Name> = over.iter().map(|n| name(n)).collect();
    b.contract(x, w, &over, DType::F32).unwrap()
}

fn rms_norm(b: &mut Builder, x: NodeId, gain: NodeId) -> NodeId {
    let square = b.binary(BinOp::Mul, x, x).unwrap();
    let sum = b.reduce(ReduceOp::Sum, square, &[name("d")]).unwrap();
    let size = b.ty(gain).len();
    let share = b.constant(1.0 / size as f64);
    let mean = b.binary(BinOp::Mul, sum, share).unwrap();
    let scale = b.unary(UnOp::Rsqrt, mean);
    let x = b.binary(BinOp::Mul, x, scale).unwrap();
    b.binary(BinOp::Mul, x, gain).unwrap()
}

fn swiglu(b: &mut Builder, x: NodeId, w1: NodeId, w3: NodeId, w2: NodeId) -> NodeId {
    let (gate, up) = (dot(b, x, w1, &["d"]), dot(b, x, w3, &["d"]));
    let sigmoid = b.unary(UnOp::Sigmoid, gate);
    let silu = b.binary(BinOp::Mul, gate, sigmoid).unwrap();
    let h = b.binary(BinOp::Mul, silu, up).unwrap();
    dot(b, h, w2, &["ff"])
}

#[test]
fn gpt2_xl_by_the_course() {
    let table = cost(&XL.graph());
    assert_eq!(table.params.total, 2_127_057_600.0);
    assert_eq!(table.params.active, table.params.total);
    assert_eq!(table.params.non_embedding, 2_127_057_600.0 - 50_257.0 * 1600.0);
    let flops = table.forward_flops();
    assert_eq!(flops, 4_513_336_524_800.0);
    assert_eq!(table.training_flops(), 3.0 * flops);
    let paths = table.by_path();
    assert_eq!(paths[0].0, "blocks.mlp");
    assert_eq!(paths[0].1, 48.0 * 6.0 * 1024.0 * 1600.0 * 6400.0);
    assert_eq!(paths.iter().map(|p| p.1).sum::<f64>(), flops);
    let attention = table.by_op().into_iter().find(|(op, _)| op == "attention[dh, key]");
    assert_eq!(attention.unwrap().1, 48.0 * 4.0 * 1024.0 * 1024.0 * 1600.0);
}

#[test]
fn linear_in_depth() {
    let at = |depth| cost(&Llama { depth, ..XL }.graph());
    let (a, b, c) = (at(12), at(24), at(48));
    assert_eq!(
        c.forward_flops() - b.forward_flops(),
        2.0 * (b.forward_flops() - a.forward_flops())
    );
    assert_eq!(c.params.total - b.params.total, 2.0 * (b.params.total - a.params.total));
    assert_eq!(a.rows.len(), c.rows.len());
}

// 8 experts of which a token uses 2: the gates are the probabilities of the two, made to sum to one.
fn experts(k: usize) -> Graph {
    let (d, ff, seq, expert) = (axis("d", 4), axis("ff", 6), axis("seq", 5), axis("expert", 8));
    let f32s = |axes: &[&Axis]| Type::new(DType::F32, axes.iter().map(|a| (*a).clone()).collect());
    let mut b = Builder::new();
    let x = b.input("x", f32s(&[&seq, &d]), Role::Data);
    let router = b.input("router", f32s(&[&d, &expert]), Role::Weight);
    let w1 = b.input("w1", f32s(&[&expert, &d, &ff]), Role::Weight);
    let w3 = b.input("w3", f32s(&[&expert, &d, &ff]), Role::Weight);
    let w2 = b.input("w2", f32s(&[&expert, &ff, &d]), Role::Weight);
    let bias = b.input("bias", f32s(&[&expert, &d]), Role::Weight);
    let p = dot(&mut b, x, router, &["d"]);
    let p = b.unary(UnOp::Sigmoid, p);
    let mask = b.topk(p, &name("expert"), k).unwrap();
    let zero = b.constant(0.0);
    let kept = b.select(mask, p, zero).unwrap();
    let sum = b.reduce(ReduceOp::Sum, kept, &[name("expert")]).unwrap();
    let gates = b.binary(BinOp::Div, kept, sum).unwrap();
    let w1 = b.cast(w1, DType::Bf16);
    let y = swiglu(&mut b, x, w1, w3, w2);
    let y = b.binary(BinOp::Add, y, bias).unwrap();
    let weighted = b.binary(BinOp::Mul, gates, y).unwrap();
    let y = b.reduce(ReduceOp::Sum, weighted, &[name("expert")]).unwrap();
    b.output("y", y, None);
    verify(&b.graph).unwrap();
    b.graph
}

#[test]
fn only_routed_experts_count() {
    let router = 2.0 * 5.0 * 4.0 * 8.0;
    let one = 3.0 * 2.0 * 5.0 * 4.0 * 6.0;
    for k in [1, 2, 8] {
        let table = cost(&experts(k));
        assert_eq!(table.forward_flops(), router + k as f64 * one, "k = {k}");
        assert_eq!(table.params.total, 32.0 + 8.0 * (72.0 + 4.0));
        assert_eq!(table.params.active, 32.0 + k as f64 * (72.0 + 4.0), "k = {k}");
    }
}

#[test]
fn routed_experts_in_layers() {
    // The same as one body of four layers.
    let inner = experts(2);
    let mut body = Builder::new();
    let mut outer = Builder::new();
    let depth = axis("depth", 4);
    let mut at = Vec::new();
    let mut weights = Vec::new();
    let mut first = None;
    for node in &inner.nodes {
        let inputs: Vec<NodeId> = node.inputs.iter().map(|i| at[i.0 as usize]).collect();
        let Op::Input(i) = node.op else {
            at.push(body.raw(node.op.clone(), inputs, node.ty.clone()));
            continue;
        };
        let decl = &inner.inputs[i as usize];
        at.push(body.input(decl.name.clone(), decl.ty.clone(), Role::Local));
        let mut ty = decl.ty.clone();
        if i > 0 {
            ty.axes.insert(0, depth.clone());
        }
        let given = outer.input(decl.name.clone(), ty, decl.role);
        if i == 0 { first = Some(given) } else { weights.push(given) }
    }
    body.output("x", at[inner.outputs[0].node.0 as usize], None);
    let first = first.unwrap();
    let kind = ScanKind::Layers;
    let out = outer.scan(depth, false, kind, body.graph, &[first], &weights, &[]).unwrap();
    outer.output("y", out[0], None);
    verify(&outer.graph).unwrap();
    let (one, four) = (cost(&inner), cost(&outer.graph));
    assert_eq!(four.forward_flops(), 4.0 * one.forward_flops());
    assert_eq!(four.params.active, 4.0 * one.params.active);
}

#[test]
fn a_value_that_another_reads_whole_is_computed_whole() {
    let mut graph = experts(2);
    let dense = graph.ids().rfind(|id| matches!(graph.node(*id).op, Op::Contract { .. }));
    graph.outputs.push(super::super::OutputDecl {
        name: name("all"),
        node: dense.unwrap(),
        into: None,
    });
    // All three contractions of every expert are needed now.
    assert_eq!(cost(&graph).forward_flops(), 2.0 * 5.0 * 4.0 * 8.0 + 8.0 * 720.0);
}

#[test]
fn what_nobody_needs_costs_nothing() {
    let mut b = Builder::new();
    let ty = Type::new(DType::F32, vec![axis("d", 4)]);
    let x = b.input("x", ty, Role::Data);
    let y = b.contract(x, x, &[name("d")], DType::F32).unwrap();
    assert_eq!(cost(&b.graph).forward_flops(), 0.0);
    b.output("y", y, None);
    assert_eq!(cost(&b.graph).forward_flops(), 8.0);
    let index = Affine { terms: vec![], offset: 1 };
    let view = b.window(x, &name("d"), index, &[], 0.0).unwrap();
    b.output("view", view, None);
    let table = cost(&b.graph);
    assert_eq!(table.unfused_bytes(), 2.0 * 16.0 + 4.0);
}

const MIXTURE: &str = r#"
use std.layers { Embedding, Linear, RMSNorm, SwiGLU, GQA }
layer MoE[d, ff, expert](top: Int = 2) {
  weight router[d, expert]
  experts = each[expert](SwiGLU)
  forward(x: [d]) -> [d] {
    let p = softmax[expert](dot[d](x, router))
    let g = topk[expert](p, top)
    sum[expert](g * experts(x))
  }
}
layer Block() {
  norm1 = RMSNorm[d], norm2 = RMSNorm[d]
  attn = GQA
  moe = MoE(top = 2)
  forward(x: [seq, d]) -> [seq, d] {
    let h = x + attn(norm1(x))
    h + moe(norm2(h))
  }
}
model mixed() {
  axes = { d = 8, kv = 2, group = 1, dh = 4, ff = 12, expert = 6, depth = 3, vocab = 300 }
  embed = Embedding[vocab, d]
  blocks = stack[depth](Block())
  head = Linear[d, vocab]
  forward(ids: [seq]) -> [seq, vocab] = ids |> embed |> blocks |> head
}
data tales = stories(count = 10, seed = 7) |> holdout(valid = 10%)
tokenizer bpe { corpus = tales.train, vocab = 300 }
train run {
  model = mixed()
  data = tales |> encode(bpe) |> pack(seq = 5)
  optimizer = adamw(lr = 1e-2)
  batch = 10 tokens
  budget = 10 steps
}
"#;

#[test]
fn a_mixture_written_in_the_language() {
    let world = crate::world::Texts { files: vec![("a.cs336".into(), MIXTURE.into())] };
    let mut checked = crate::front::check(&world, "a.cs336", &[]);
    let shown: Vec<_> = checked.problems().iter().map(|p| p.message.clone()).collect();
    assert!(shown.is_empty(), "{shown:?}");
    let table = checked.costs("run").expect("a model is costed");
    let expert = 3.0 * 8.0 * 12.0;
    let (attention, rest) = (4.0 * 64.0, 8.0 * 6.0);
    let tables = 2.0 * 300.0 * 8.0;
    let layer = |experts: f64| attention + rest + experts * expert;
    assert_eq!(table.params.total, 3.0 * (layer(6.0) + 16.0) + tables);
    assert_eq!(table.params.active, 3.0 * (layer(2.0) + 16.0) + tables);
    let scores = 4.0 * 5.0 * 5.0 * 8.0;
    let flops = 3.0 * (2.0 * 5.0 * layer(2.0) + scores) + 2.0 * 5.0 * 300.0 * 8.0;
    assert_eq!(table.forward_flops(), flops, "{:#?}", table.by_op());
}
