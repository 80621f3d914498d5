//! Every operation on numbers that were computed by hand.

use super::super::build::Builder;
use super::super::verify::verify;
use super::super::{
    Affine, Attention, BinOp, Dist, Expr, Inst, Literal, ReduceOp, Role, ScanKind, UnOp,
};
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

#[derive(Default)]
struct Case {
    b: Builder,
    given: IndexMap<Name, Tensor>,
}

impl Case {
    fn input(&mut self, text: &str, axes: &[(&str, usize)], data: &[f64]) -> NodeId {
        let tensor = Tensor::new(ty(axes), data.to_vec()).unwrap();
        self.given.insert(name(text), tensor);
        self.b.input(text, ty(axes), Role::Data)
    }

    fn ints(&mut self, text: &str, axes: &[(&str, usize)], data: &[f64]) -> NodeId {
        let ty = Type::new(DType::I32, ty(axes).axes);
        let tensor = Tensor::new(ty.clone(), data.to_vec()).unwrap();
        self.given.insert(name(text), tensor);
        self.b.input(text, ty, Role::Data)
    }

    fn value(&self, node: NodeId, order: &[&str]) -> Vec<f64> {
        let mut graph = self.b.graph.clone();
        graph.outputs = vec![super::super::OutputDecl { name: name("y"), node, into: None }];
        verify(&graph).unwrap();
        let out = interpret(&graph, &self.given, &first_step).unwrap();
        let mut ty = out["y"].ty.clone();
        ty.axes.sort_by_key(|a| order.iter().position(|o| a.name == *o));
        out["y"].arranged(&ty).unwrap().data
    }
}

fn close(found: &[f64], want: &[f64]) {
    assert_eq!(found.len(), want.len(), "{found:?} {want:?}");
    for (f, w) in found.iter().zip(want) {
        assert!(f == w || (f - w).abs() < 1e-12, "{found:?} {want:?}");
    }
}

#[test]
fn leaves() {
    let mut c = Case::default();
    let pos = c.b.pos(&axis("seq", 3));
    close(&c.value(pos, &["seq"]), &[0.0, 1.0, 2.0]);
    let step = c.b.runtime(Runtime::Step);
    close(&c.value(step, &[]), &[1.0]);
    let literal = c.b.constant(2.5);
    close(&c.value(literal, &[]), &[2.5]);
}

#[test]
fn draws_depend_on_counters_only() {
    let mut c = Case::default();
    let (zero, pos) = (c.b.integer(0), c.b.pos(&axis("seq", 3)));
    let draw = c.b.random(Dist::Uniform, 7, [zero, pos, zero]).unwrap();
    let want: Vec<f64> =
        (0..3).map(|i| scalar::random(Dist::Uniform, 0, 7, [0, i, 0], 1)).collect();
    close(&c.value(draw, &["seq"]), &want);
    assert!(want[0] != want[1]);
}

#[test]
fn elementwise_unites_axes() {
    let mut c = Case::default();
    let a = c.input("a", &[("i", 2)], &[1.0, 2.0]);
    let b = c.input("b", &[("j", 3)], &[10.0, 20.0, 30.0]);
    let outer = c.b.binary(BinOp::Mul, a, b).unwrap();
    close(&c.value(outer, &["i", "j"]), &[10.0, 20.0, 30.0, 20.0, 40.0, 60.0]);
    let less = c.b.binary(BinOp::Lt, outer, b).unwrap();
    close(&c.value(less, &["i", "j"]), &[0.0; 6]);
    let root = c.b.unary(UnOp::Neg, a);
    let pick = c.b.select(less, b, root).unwrap();
    close(&c.value(pick, &["i", "j"]), &[-1.0, -1.0, -1.0, -2.0, -2.0, -2.0]);
    let wide = c.b.expand(a, &[axis("k", 2)]);
    close(&c.value(wide, &["i", "k"]), &[1.0, 1.0, 2.0, 2.0]);
    let stopped = c.b.stop(a);
    close(&c.value(stopped, &["i"]), &[1.0, 2.0]);
}

#[test]
fn casts_round() {
    let mut c = Case::default();
    let x = c.input("x", &[("i", 2)], &[1.0 + 1.0 / 256.0, -2.7]);
    let half = c.b.cast(x, DType::Bf16);
    close(&c.value(half, &["i"]), &[1.0, -2.703125]);
    let int = c.b.cast(x, DType::I32);
    close(&c.value(int, &["i"]), &[1.0, -2.0]);
}

#[test]
fn stored_rounding_rounds_every_result() {
    let mut c = Case::default();
    let x = c.b.constant(0.1);
    c.b.output("y", x, None);
    let none = IndexMap::new();
    let out = interpret_rounded(&c.b.graph, &none, &first_step, Rounding::Stored).unwrap();
    assert_eq!(out["y"].data[0], f64::from(0.1f32));
}

#[test]
fn movement() {
    let mut c = Case::default();
    let x = c.input("x", &[("a", 2), ("b", 3)], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let swapped = c.b.rename(x, &[(name("a"), name("c"))]).unwrap();
    close(&c.value(swapped, &["b", "c"]), &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    let merged = c.b.merge(x, &[name("b"), name("a")], &name("m")).unwrap();
    close(&c.value(merged, &["m"]), &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    let apart = c.b.split(merged, &name("m"), &[axis("b", 3), axis("a", 2)]).unwrap();
    close(&c.value(apart, &["a", "b"]), &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let joined = c.b.concat(&[x, x], &[name("b"), name("b")], &name("bb")).unwrap();
    close(
        &c.value(joined, &["a", "bb"]),
        &[0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 3.0, 4.0, 5.0],
    );
}

#[test]
fn windows_slide_and_fall_off() {
    let mut c = Case::default();
    let x = c.input("x", &[("seq", 3)], &[1.0, 2.0, 3.0]);
    let index = Affine { terms: vec![(name("seq"), 1), (name("tap"), -1)], offset: 0 };
    let axes = [axis("seq", 3), axis("tap", 2)];
    let w = c.b.window(x, &name("seq"), index, &axes, -1.0).unwrap();
    close(&c.value(w, &["seq", "tap"]), &[1.0, -1.0, 2.0, 1.0, 3.0, 2.0]);
    let last = Affine { terms: vec![], offset: 2 };
    let s = c.b.window(x, &name("seq"), last, &[], 0.0).unwrap();
    close(&c.value(s, &[]), &[3.0]);
}

#[test]
fn gather_and_its_transpose() {
    let mut c = Case::default();
    let table = c.input("t", &[("v", 3), ("d", 2)], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let ids = c.ints("ids", &[("seq", 4)], &[2.0, 0.0, 2.0, 9.0]);
    let rows = c.b.gather(table, &name("v"), ids).unwrap();
    close(&c.value(rows, &["seq", "d"]), &[5.0, 6.0, 1.0, 2.0, 5.0, 6.0, 0.0, 0.0]);
    let scattered =
        c.b.raw(Op::ScatterAdd { axis: name("v") }, vec![rows, ids], ty(&[("v", 3), ("d", 2)]));
    close(&c.value(scattered, &["v", "d"]), &[1.0, 2.0, 0.0, 0.0, 10.0, 12.0]);
    // A shared axis goes in step: the diagonal of a matrix.
    let m = c.input("m", &[("i", 2), ("v", 3)], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let at = c.ints("at", &[("i", 2)], &[1.0, 2.0]);
    let picked = c.b.gather(m, &name("v"), at).unwrap();
    close(&c.value(picked, &["i"]), &[2.0, 6.0]);
    let back =
        c.b.raw(Op::ScatterAdd { axis: name("v") }, vec![picked, at], ty(&[("i", 2), ("v", 3)]));
    close(&c.value(back, &["i", "v"]), &[0.0, 2.0, 0.0, 0.0, 0.0, 6.0]);
}

#[test]
fn update_writes_a_part() {
    let mut c = Case::default();
    let dst = c.input("dst", &[("key", 4)], &[1.0, 2.0, 3.0, 4.0]);
    let src = c.input("src", &[("key", 2)], &[8.0, 9.0]);
    let one = c.b.integer(1);
    let y = c.b.update(dst, &name("key"), src, one).unwrap();
    close(&c.value(y, &["key"]), &[1.0, 8.0, 9.0, 4.0]);
    let three = c.b.integer(3);
    let y = c.b.update(dst, &name("key"), src, three).unwrap();
    close(&c.value(y, &["key"]), &[1.0, 2.0, 3.0, 8.0]);
}

#[test]
fn reductions() {
    let mut c = Case::default();
    let x = c.input("x", &[("a", 2), ("b", 2)], &[1.0, 2.0, 3.0, -4.0]);
    for (op, want) in [
        (ReduceOp::Sum, [3.0, -1.0]),
        (ReduceOp::Max, [2.0, 3.0]),
        (ReduceOp::Min, [1.0, -4.0]),
        (ReduceOp::Prod, [2.0, -12.0]),
    ] {
        let y = c.b.reduce(op, x, &[name("b")]).unwrap();
        close(&c.value(y, &["a"]), &want);
    }
    let y = c.b.logsumexp(x, &[name("a"), name("b")]).unwrap();
    let sum: f64 = [1.0f64, 2.0, 3.0, -4.0].iter().map(|x| x.exp()).sum();
    close(&c.value(y, &[]), &[sum.ln()]);
    let y = c.b.cumsum(x, &name("b"), true).unwrap();
    close(&c.value(y, &["a", "b"]), &[3.0, 2.0, -1.0, -4.0]);
    let y = c.b.cumsum(x, &name("a"), false).unwrap();
    close(&c.value(y, &["a", "b"]), &[1.0, 2.0, 4.0, -2.0]);
}

#[test]
fn log_sum_exp_of_infinities() {
    let mut c = Case::default();
    let low = f64::NEG_INFINITY;
    let x = c.input("x", &[("a", 2), ("b", 2)], &[low, low, 1000.0, 1000.0]);
    let y = c.b.logsumexp(x, &[name("b")]).unwrap();
    close(&c.value(y, &["a"]), &[low, 1000.0 + 2f64.ln()]);
}

#[test]
fn contraction_with_a_batch() {
    let mut c = Case::default();
    let a = c.input("a", &[("i", 2), ("d", 2)], &[1.0, 2.0, 3.0, 4.0]);
    let w = c.input("w", &[("d", 2), ("o", 2)], &[1.0, 10.0, 100.0, 1000.0]);
    let y = c.b.contract(a, w, &[name("d")], DType::F32).unwrap();
    close(&c.value(y, &["i", "o"]), &[201.0, 2010.0, 403.0, 4030.0]);
    let b = c.input("b", &[("i", 2), ("d", 2)], &[1.0, 1.0, 2.0, 2.0]);
    let y = c.b.contract(a, b, &[name("d")], DType::F32).unwrap();
    close(&c.value(y, &["i"]), &[3.0, 14.0]);
}

#[test]
fn choosing_and_sorting() {
    let mut c = Case::default();
    let x = c.input("x", &[("e", 4)], &[3.0, 5.0, 5.0, 1.0]);
    for (k, want) in [(1, [0.0, 1.0, 0.0, 0.0]), (3, [1.0, 1.0, 1.0, 0.0])] {
        let y = c.b.topk(x, &name("e"), k).unwrap();
        close(&c.value(y, &["e"]), &want);
    }
    let y = c.b.argsort(x, &name("e")).unwrap();
    close(&c.value(y, &["e"]), &[3.0, 0.0, 1.0, 2.0]);
}

#[test]
fn a_scan_in_both_directions() {
    for (reverse, last, all) in [(false, 11.0, [1.0, 4.0, 11.0]), (true, 17.0, [17.0, 8.0, 3.0])] {
        let mut c = Case::default();
        let xs = c.input("xs", &[("seq", 3)], &[1.0, 2.0, 3.0]);
        let k = c.input("k", &[], &[2.0]);
        let mut body = Builder::new();
        let h = body.input("h", ty(&[]), Role::Local);
        let x = body.input("x", ty(&[]), Role::Local);
        let by = body.input("k", ty(&[]), Role::Local);
        let grown = body.binary(BinOp::Mul, h, by).unwrap();
        let next = body.binary(BinOp::Add, grown, x).unwrap();
        body.output("h", next, None);
        body.output("y", next, None);
        let zero = c.b.constant(0.0);
        let (seq, kind) = (axis("seq", 3), ScanKind::Program);
        let out = c.b.scan(seq, reverse, kind, body.graph, &[zero], &[xs], &[k]).unwrap();
        close(&c.value(out[0], &[]), &[last]);
        close(&c.value(out[1], &["seq"]), &all);
    }
}

fn causal() -> Attention {
    let mut mask = Expr { insts: vec![], result: 0 };
    let (key, seq) = (mask.push(Inst::Pos(0)), mask.push(Inst::Pos(1)));
    mask.result = mask.push(Inst::Binary(BinOp::Lt, key, seq));
    Attention {
        over: name("d"),
        key: name("key"),
        scale: Literal::new(0.5),
        score: Expr::arg(0),
        mask,
        pos: vec![name("key"), name("seq")],
    }
}

#[test]
fn attention_with_an_empty_row() {
    let mut c = Case::default();
    let q = c.input("q", &[("seq", 3), ("d", 1)], &[1.0, 2.0, 4.0]);
    let k = c.input("k", &[("key", 3), ("d", 1)], &[1.0, 3.0, 5.0]);
    let v = c.input("v", &[("key", 3), ("o", 1)], &[10.0, 20.0, 30.0]);
    let (out, lse) = c.b.attention(causal(), q, k, v, &[], DType::F32).unwrap();
    // Row 0 sees nothing, row 1 the first key, row 2 the first two with scores 2 and 6.
    let (a, b) = (2f64.exp(), 6f64.exp());
    close(&c.value(out, &["seq", "o"]), &[0.0, 10.0, (10.0 * a + 20.0 * b) / (a + b)]);
    close(&c.value(lse, &["seq"]), &[f64::NEG_INFINITY, 1.0, (a + b).ln()]);
}

#[test]
fn the_gradient_of_attention_is_a_finite_difference() {
    // Two query heads share a key head; the score has a cap and a captured bias per head and key.
    let mut a = causal();
    let mut score = Expr::arg(0);
    let bias = score.push(Inst::Arg(1));
    let tanh = score.push(Inst::Unary(UnOp::Tanh, 0));
    score.result = score.push(Inst::Binary(BinOp::Add, tanh, bias));
    a.score = score;
    let mut c = Case::default();
    let wave = |n: usize, s: f64| (0..n).map(|i| (s + i as f64 * 0.7).sin()).collect::<Vec<_>>();
    let q = c.input("q", &[("seq", 3), ("h", 2), ("d", 2)], &wave(12, 0.1));
    let k = c.input("k", &[("key", 3), ("d", 2)], &wave(6, 1.0));
    let v = c.input("v", &[("key", 3), ("o", 2)], &wave(6, 2.0));
    let bias = c.input("bias", &[("h", 2), ("key", 3)], &wave(6, 3.0));
    let dout = c.input("dout", &[("seq", 3), ("h", 2), ("o", 2)], &wave(12, 4.0));
    let (out, lse) = c.b.attention(a.clone(), q, k, v, &[bias], DType::F32).unwrap();
    let weighted = c.b.binary(BinOp::Mul, out, dout).unwrap();
    let all = [name("seq"), name("h"), name("o")];
    let loss = c.b.reduce(ReduceOp::Sum, weighted, &all).unwrap();
    let of = Op::AttentionGrad { of: Box::new(a), wants: vec![true] };
    let types: Vec<Type> = [q, k, v, bias].iter().map(|x| c.b.ty(*x).clone()).collect();
    let grad = c.b.raw(of, vec![q, k, v, bias, out, lse, dout], types[0].clone());
    for (i, input) in ["q", "k", "v", "bias"].into_iter().enumerate() {
        let part = c.b.raw(Op::Part(i as u32), vec![grad], types[i].clone());
        let order: Vec<&str> = types[i].axes.iter().map(|a| a.name.as_str()).collect();
        let found = c.value(part, &order);
        for (n, found) in found.iter().enumerate() {
            let mut loss_at = |by: f64| {
                c.given[input].data[n] += by;
                let value = c.value(loss, &[])[0];
                c.given[input].data[n] -= by;
                value
            };
            let near = (loss_at(1e-5) - loss_at(-1e-5)) / 2e-5;
            assert!((near - found).abs() < 1e-8, "{input}[{n}]: {near} {found}");
        }
    }
}

#[test]
fn a_missing_input_is_told() {
    let mut c = Case::default();
    let x = c.input("x", &[("i", 1)], &[1.0]);
    c.b.output("y", x, None);
    let error = interpret(&c.b.graph, &IndexMap::new(), &first_step).unwrap_err();
    assert_eq!(error.message, "input `x` needs a tensor of f32[i]");
}
