//! What looks ahead and what does not.

use super::super::build::Builder;
use super::super::verify::verify;
use super::super::{Affine, Axis, BinOp, DType, Expr, Inst, Literal, ScanKind, Type, UnOp};
use super::*;

fn axis(name: &str, size: usize) -> Axis {
    Axis { name: name.into(), size }
}

fn name(text: &str) -> Name {
    text.into()
}

fn ty(axes: &[(&str, usize)]) -> Type {
    Type::new(DType::F32, axes.iter().map(|(n, s)| axis(n, *s)).collect())
}

// x[seq = 8, d = 4].
fn start() -> (Builder, NodeId) {
    let mut b = Builder::new();
    let x = b.input("x", ty(&[("seq", 8), ("d", 4)]), Role::Data);
    (b, x)
}

fn found(b: &Builder, y: NodeId) -> Option<String> {
    let mut graph = b.graph.clone();
    graph.outputs = vec![super::super::OutputDecl { name: name("y"), node: y, into: None }];
    verify(&graph).unwrap();
    looks_ahead(&graph, y, &name("seq")).map(|a| a.op)
}

// Pos(0) is the key, Pos(1) the row.
fn attend(mask: &dyn Fn(&mut Expr, u32, u32) -> u32) -> Option<String> {
    let (mut b, x) = start();
    let k = b.rename(x, &[(name("seq"), name("key"))]).unwrap();
    let mut e = Expr { insts: vec![], result: 0 };
    let (key, row) = (e.push(Inst::Pos(0)), e.push(Inst::Pos(1)));
    e.result = mask(&mut e, key, row);
    let attention = Attention {
        over: name("d"),
        key: name("key"),
        scale: Literal::new(1.0),
        score: Expr::arg(0),
        mask: e,
        pos: vec![name("key"), name("seq")],
    };
    let (y, _) = b.attention(attention, x, k, k, &[], DType::F32).unwrap();
    found(&b, y)
}

fn number(e: &mut Expr, n: f64) -> u32 {
    e.push(Inst::Const(Literal::new(n)))
}

fn op(e: &mut Expr, op: BinOp, a: u32, b: u32) -> u32 {
    e.push(Inst::Binary(op, a, b))
}

#[test]
fn masks_of_attention() {
    let bad = Some("attention[d, key]".to_owned());
    assert_eq!(attend(&|e, key, row| op(e, BinOp::Le, key, row)), None);
    assert_eq!(attend(&|e, key, row| op(e, BinOp::Lt, key, row)), None);
    // not (row < key)
    let later = |e: &mut Expr, key, row| {
        let later = op(e, BinOp::Lt, row, key);
        e.push(Inst::Unary(UnOp::Not, later))
    };
    assert_eq!(attend(&later), None);
    // Sliding window: row - key < 3 and key <= row.
    let window = |e: &mut Expr, key, row| {
        let (back, three) = (op(e, BinOp::Sub, row, key), number(e, 3.0));
        let near = op(e, BinOp::Lt, back, three);
        let causal = op(e, BinOp::Le, key, row);
        op(e, BinOp::And, near, causal)
    };
    assert_eq!(attend(&window), None);
    let all = |e: &mut Expr, _, _| number(e, 1.0);
    assert_eq!(attend(&all), bad);
    let one_ahead = |e: &mut Expr, key, row| {
        let one = number(e, 1.0);
        let next = op(e, BinOp::Add, row, one);
        op(e, BinOp::Le, key, next)
    };
    assert_eq!(attend(&one_ahead), bad);
    // A prefix that all see.
    let prefix = |e: &mut Expr, key, row| {
        let three = number(e, 3.0);
        let early = op(e, BinOp::Lt, key, three);
        let causal = op(e, BinOp::Le, key, row);
        op(e, BinOp::Or, early, causal)
    };
    assert_eq!(attend(&prefix), bad);
    // Near on both sides.
    let band = |e: &mut Expr, key, row| {
        let (back, two) = (op(e, BinOp::Sub, row, key), number(e, 2.0));
        let far = e.push(Inst::Unary(UnOp::Abs, back));
        op(e, BinOp::Le, far, two)
    };
    assert_eq!(attend(&band), bad);
}

#[test]
fn attention_written_out() {
    for masked in [true, false] {
        let (mut b, x) = start();
        let (seq, key) = (axis("seq", 8), axis("key", 8));
        let k = b.rename(x, &[(name("seq"), name("key"))]).unwrap();
        let mut s = b.contract(x, k, &[name("d")], DType::F32).unwrap();
        let (row, at) = (b.pos(&seq), b.pos(&key));
        let seen = b.binary(BinOp::Le, at, row).unwrap();
        let low = b.constant(f64::NEG_INFINITY);
        if masked {
            s = b.select(seen, s, low).unwrap();
        }
        let max = b.reduce(ReduceOp::Max, s, &[name("key")]).unwrap();
        let shifted = b.binary(BinOp::Sub, s, max).unwrap();
        let p = b.unary(UnOp::Exp, shifted);
        let sum = b.reduce(ReduceOp::Sum, p, &[name("key")]).unwrap();
        let p = b.binary(BinOp::Div, p, sum).unwrap();
        let y = b.contract(p, k, &[name("key")], DType::F32).unwrap();
        let want = if masked { None } else { Some("reduce.max[key]".to_owned()) };
        assert_eq!(found(&b, y), want);
        // Linear attention: a product with the mask.
        let s = b.contract(x, k, &[name("d")], DType::F32).unwrap();
        let s = if masked { b.binary(BinOp::Mul, s, seen).unwrap() } else { s };
        let y = b.contract(s, k, &[name("key")], DType::F32).unwrap();
        let want = if masked { None } else { Some("contract[key]".to_owned()) };
        assert_eq!(found(&b, y), want);
    }
}

#[test]
fn windows() {
    for (offset, want) in [(0, None), (-2, None), (1, Some("window"))] {
        let (mut b, x) = start();
        let index = Affine { terms: vec![(name("seq"), 1), (name("tap"), -1)], offset };
        let axes = [axis("seq", 8), axis("tap", 3)];
        let y = b.window(x, &name("seq"), index, &axes, 0.0).unwrap();
        let y = b.reduce(ReduceOp::Sum, y, &[name("tap")]).unwrap();
        assert_eq!(found(&b, y).map(|op| op[..6].to_owned()).as_deref(), want);
    }
    // One ahead and one back again.
    let (mut b, x) = start();
    let mut y = x;
    for offset in [1, -1] {
        let index = Affine { terms: vec![(name("seq"), 1)], offset };
        y = b.window(y, &name("seq"), index, &[axis("seq", 8)], 0.0).unwrap();
    }
    assert_eq!(found(&b, y), None);
    for (offset, want) in [(0, None), (3, Some("window[seq = 3, outside = 0.0]".to_owned()))] {
        let index = Affine { terms: vec![], offset };
        let y = b.window(x, &name("seq"), index, &[], 0.0).unwrap();
        let y = b.binary(BinOp::Add, x, y).unwrap();
        assert_eq!(found(&b, y), want);
    }
}

#[test]
fn reductions_and_running_sums() {
    let (mut b, x) = start();
    let mean = b.reduce(ReduceOp::Sum, x, &[name("seq")]).unwrap();
    let y = b.binary(BinOp::Sub, x, mean).unwrap();
    assert_eq!(found(&b, y), Some("reduce.sum[seq]".into()));
    let over_d = b.reduce(ReduceOp::Sum, x, &[name("d")]).unwrap();
    assert_eq!(found(&b, over_d), None);
    for (reverse, want) in [(false, None), (true, Some("cumsum[seq, reverse]".to_owned()))] {
        let y = b.cumsum(x, &name("seq"), reverse).unwrap();
        assert_eq!(found(&b, y), want);
    }
    let y = b.topk(x, &name("seq"), 2).unwrap();
    assert_eq!(found(&b, y), Some("topk[seq, 2]".into()));
    let table = b.input("table", ty(&[("v", 5)]), Role::Weight);
    let ids = b.cast(x, DType::I32);
    let y = b.gather(table, &name("v"), ids).unwrap();
    assert_eq!(found(&b, y), None);
    let y = b.gather(x, &name("seq"), ids).unwrap();
    assert_eq!(found(&b, y), Some("gather[seq]".into()));
    let shifted = {
        let (p, one) = (b.pos(&axis("seq", 8)), b.integer(1));
        b.binary(BinOp::Sub, p, one).unwrap()
    };
    let y = b.gather(x, &name("seq"), shifted).unwrap();
    assert_eq!(found(&b, y), None);
}

#[test]
fn loops() {
    // h = h + x along seq, in both directions; the stacked states.
    for (reverse, want) in [(false, None), (true, Some("scan".to_owned()))] {
        let mut body = Builder::new();
        let h = body.input("h", ty(&[("d", 4)]), Role::Local);
        let x = body.input("x", ty(&[("d", 4)]), Role::Local);
        let next = body.binary(BinOp::Add, h, x).unwrap();
        body.output("h", next, None);
        body.output("y", next, None);
        let (mut b, x) = start();
        let zero = b.constant(0.0);
        let kind = ScanKind::Program;
        let seq = axis("seq", 8);
        let out = b.scan(seq, reverse, kind, body.graph, &[zero], &[x], &[]).unwrap();
        assert_eq!(found(&b, out[1]).map(|op| op[..4].to_owned()), want);
        let y = b.binary(BinOp::Add, x, out[0]).unwrap();
        assert!(found(&b, y).is_some(), "the last state has seen everything");
    }
    // Layers of a convolution: backwards is fine however deep, one step forwards is not.
    for (offset, want) in [(-1, None), (1, Some("window[seq = pos(seq) + 1, outside = 0.0]"))] {
        let mut body = Builder::new();
        body.path = Some("blocks.conv".into());
        let h = body.input("h", ty(&[("seq", 8), ("d", 4)]), Role::Local);
        let index = Affine { terms: vec![(name("seq"), 1)], offset };
        let near = body.window(h, &name("seq"), index, &[axis("seq", 8)], 0.0).unwrap();
        let next = body.binary(BinOp::Add, h, near).unwrap();
        body.output("h", next, None);
        let (mut b, x) = start();
        let depth = axis("depth", 5);
        let out = b.scan(depth, false, ScanKind::Layers, body.graph, &[x], &[], &[]).unwrap();
        assert_eq!(found(&b, out[0]).as_deref(), want);
        let ahead = looks_ahead(&b.graph, out[0], &name("seq"));
        assert_eq!(ahead.map(|a| a.path), want.map(|_| name("blocks.conv")));
    }
}
