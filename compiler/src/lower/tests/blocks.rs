//! Attention, in its shapes.

use super::{input, same};
use crate::graph::build::Builder;
use crate::graph::{Attention, BinOp, DType, Expr, Inst, Literal};

fn causal() -> Expr {
    let mut e = Expr { insts: vec![], result: 0 };
    let (q, k) = (e.push(Inst::Pos(0)), e.push(Inst::Pos(1)));
    e.result = e.push(Inst::Binary(BinOp::Le, k, q));
    e
}

fn attention(mask: Expr, score: Expr) -> Attention {
    Attention {
        over: "dh".into(),
        key: "key".into(),
        scale: Literal::new(0.5),
        score,
        mask,
        pos: vec!["seq".into(), "key".into()],
    }
}

#[test]
fn grouped_causal_attention() {
    let mut b = Builder::new();
    let q = input(&mut b, "q", &[("batch", 2), ("seq", 4), ("kv", 2), ("group", 3), ("dh", 4)]);
    let k = input(&mut b, "k", &[("batch", 2), ("seq", 4), ("kv", 2), ("dh", 4)]);
    let v = input(&mut b, "v", &[("batch", 2), ("seq", 4), ("kv", 2), ("dh", 4)]);
    let k = b.rename(k, &[("seq".into(), "key".into())]).unwrap();
    let v = b.rename(v, &[("seq".into(), "key".into())]).unwrap();
    let (out, lse) =
        b.attention(attention(causal(), Expr::arg(0)), q, k, v, &[], DType::F32).unwrap();
    let out = b.merge(out, &["kv".into(), "group".into()], &"head".into()).unwrap();
    b.output("out", out, None);
    b.output("lse", lse, None);
    let plan = same(&b.graph);
    assert!(plan.arena_bytes > 0);
}

#[test]
fn attention_gradient_of_operands_that_lack_axes() {
    // Keys without heads, values without batch; rows may see nothing.
    let mut mask = Expr { insts: vec![], result: 0 };
    let (q, k) = (mask.push(Inst::Pos(0)), mask.push(Inst::Pos(1)));
    mask.result = mask.push(Inst::Binary(BinOp::Lt, k, q));
    let of = attention(mask, Expr::arg(0));
    let mut b = Builder::new();
    let q = input(&mut b, "q", &[("batch", 2), ("head", 2), ("seq", 4), ("dh", 3)]);
    let k = input(&mut b, "k", &[("batch", 2), ("key", 4), ("dh", 3)]);
    let v = input(&mut b, "v", &[("head", 2), ("key", 4), ("dv", 5)]);
    let (out, lse) = b.attention(of.clone(), q, k, v, &[], DType::F32).unwrap();
    let dout = input(&mut b, "dout", &[("batch", 2), ("head", 2), ("seq", 4), ("dv", 5)]);
    let op = crate::graph::Op::AttentionGrad { of: Box::new(of), wants: vec![] };
    let grad = b.raw(op, vec![q, k, v, out, lse, dout], b.ty(q).clone());
    for (i, x) in [q, k, v].into_iter().enumerate() {
        let part = b.raw(crate::graph::Op::Part(i as u32), vec![grad], b.ty(x).clone());
        b.output(format!("d{i}"), part, None);
    }
    b.output("out", out, None);
    same(&b.graph);
}
