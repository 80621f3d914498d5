//! One operation or two, in the shapes that are hard.

use super::{axis, input, int, names, same, same_below, ty};
use crate::graph::build::Builder;
use crate::graph::{Affine, BinOp, DType, Dist, Name, ReduceOp, Role, Runtime, UnOp};

#[test]
fn elementwise_with_broadcast() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[("r", 3), ("c", 5)]);
    let y = input(&mut b, "y", &[("c", 5)]);
    let s = b.binary(BinOp::Add, x, y).unwrap();
    let e = b.unary(UnOp::Exp, s);
    b.output("e", e, None);
    b.output("s", s, None);
    let plan = same(&b.graph);
    assert_eq!(super::launches(&plan.steps), 1);
}

#[test]
fn outputs_that_are_inputs_views_and_scalars() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[("r", 3), ("c", 4)]);
    let m = b.merge(x, &names(&["r", "c"]), &"rc".into()).unwrap();
    let t = b.merge(x, &names(&["c", "r"]), &"cr".into()).unwrap();
    let two = b.constant(2.0);
    let share = b.runtime(Runtime::Share);
    let lr = b.binary(BinOp::Mul, share, two).unwrap();
    let p = b.pos(&axis("r", 3));
    for (name, node) in
        [("x2", x), ("x3", x), ("m", m), ("t", t), ("two", two), ("lr", lr), ("p", p)]
    {
        b.output(name, node, None);
    }
    same(&b.graph);
}

#[test]
fn softmax_and_norm_are_one_kernel_each() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[("r", 6), ("c", 7)]);
    let c = names(&["c"]);
    let lse = b.logsumexp(x, &c).unwrap();
    let d = b.binary(BinOp::Sub, x, lse).unwrap();
    let p = b.unary(UnOp::Exp, d);
    b.output("p", p, None);
    let plan = same(&b.graph);
    assert_eq!(super::launches(&plan.steps), 1);

    let mut b = Builder::new();
    let x = input(&mut b, "x", &[("r", 6), ("c", 7)]);
    let gain = input(&mut b, "gain", &[("c", 7)]);
    let sq = b.binary(BinOp::Mul, x, x).unwrap();
    let sum = b.reduce(ReduceOp::Sum, sq, &c).unwrap();
    let n = b.constant(1.0 / 7.0);
    let mean = b.binary(BinOp::Mul, sum, n).unwrap();
    let eps = b.constant(1e-5);
    let mean = b.binary(BinOp::Add, mean, eps).unwrap();
    let r = b.unary(UnOp::Rsqrt, mean);
    let y = b.binary(BinOp::Mul, x, r).unwrap();
    let y = b.binary(BinOp::Mul, y, gain).unwrap();
    b.output("y", y, None);
    let plan = same(&b.graph);
    assert_eq!(super::launches(&plan.steps), 1);
}

#[test]
fn reductions_over_any_axes() {
    for over in
        [&["a"][..], &["b"], &["c"], &["a", "c"], &["b", "c"], &["a", "b"], &["a", "b", "c"]]
    {
        for op in [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min, ReduceOp::Prod] {
            let mut b = Builder::new();
            let x = input(&mut b, "x", &[("a", 9), ("b", 11), ("c", 10)]);
            let y = b.unary(UnOp::Cos, x);
            let s = b.reduce(op, y, &names(over)).unwrap();
            let t = b.binary(BinOp::Sub, x, s).unwrap();
            b.output("s", s, None);
            b.output("t", t, None);
            same(&b.graph);
        }
    }
}

#[test]
fn windows_gathers_and_concatenations() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[("seq", 6), ("d", 4)]);
    let index = Affine { terms: vec![("seq".into(), 1), ("tap".into(), -1)], offset: 0 };
    let w = b.window(x, &"seq".into(), index, &[axis("seq", 6), axis("tap", 3)], 0.5).unwrap();
    let cosine = b.unary(UnOp::Cos, x);
    let index = Affine { terms: vec![("q".into(), 2)], offset: -3 };
    let v = b.window(cosine, &"seq".into(), index, &[axis("q", 5)], 7.0).unwrap();
    let ids = b.input("ids", int(&[("n", 5)]), Role::Data);
    let g = b.gather(x, &"seq".into(), ids).unwrap();
    let gc = b.gather(cosine, &"seq".into(), ids).unwrap();
    let one = b.integer(1);
    let shifted = b.binary(BinOp::Add, ids, one).unwrap();
    let g2 = b.gather(x, &"seq".into(), shifted).unwrap();
    let half = Affine { terms: vec![("h".into(), 1)], offset: 0 };
    let lo = b.window(x, &"d".into(), half.clone(), &[axis("h", 2)], 0.0).unwrap();
    let hi = b.window(x, &"d".into(), Affine { offset: 2, ..half }, &[axis("h", 2)], 0.0).unwrap();
    let hi = b.unary(UnOp::Neg, hi);
    let rot = b.concat(&[hi, lo], &names(&["h", "h"]), &"d".into()).unwrap();
    let sum = b.binary(BinOp::Add, rot, x).unwrap();
    let long = b.concat(&[x, v], &names(&["seq", "q"]), &"e".into()).unwrap();
    let outs = [("w", w), ("v", v), ("g", g), ("gc", gc), ("g2", g2), ("rot", rot), ("sum", sum)];
    for (name, node) in outs.into_iter().chain([("long", long)]) {
        b.output(name, node, None);
    }
    same_below(&b.graph, 8);
}

#[test]
fn splits_and_merges_stay_affine() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[("r", 4), ("c", 6)]);
    let y = b.split(x, &"c".into(), &[axis("h", 3), axis("e", 2)]).unwrap();
    let n = b.reduce(ReduceOp::Sum, y, &names(&["e"])).unwrap();
    let z = b.binary(BinOp::Mul, y, n).unwrap();
    let z = b.merge(z, &names(&["h", "e"]), &"c".into()).unwrap();
    let z = b.binary(BinOp::Add, z, x).unwrap();
    // Merged the other way round, and across.
    let t = b.merge(y, &names(&["e", "h"]), &"c".into()).unwrap();
    let t = b.binary(BinOp::Add, t, x).unwrap();
    let u = b.merge(x, &names(&["c", "r"]), &"all".into()).unwrap();
    let u = b.split(u, &"all".into(), &[axis("p", 8), axis("q", 3)]).unwrap();
    for (name, node) in [("z", z), ("t", t), ("u", u)] {
        b.output(name, node, None);
    }
    same(&b.graph);
}

#[test]
fn contractions() {
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[("b", 2), ("s", 3), ("d", 4)]);
    let w = input(&mut b, "w", &[("d", 4), ("h", 2), ("e", 5)]);
    let q = b.contract(x, w, &names(&["d"]), DType::F32).unwrap();
    let k = b.contract(x, w, &names(&["d"]), DType::F32).unwrap();
    let k = b.rename(k, &[("s".into(), "t".into())]).unwrap();
    let s = b.contract(q, k, &names(&["e"]), DType::F32).unwrap();
    let dw = b.contract(x, q, &names(&["b", "s"]), DType::F32).unwrap();
    let dx = b.contract(q, w, &names(&["h", "e"]), DType::F32).unwrap();
    // Transposed, with contracted axes that need packing.
    let v = input(&mut b, "v", &[("e", 5), ("o", 3), ("h", 2)]);
    let o = b.contract(q, v, &names(&["h", "e"]), DType::F32).unwrap();
    let dot = b.contract(x, x, &names(&["b", "s", "d"]), DType::F32).unwrap();
    let row = b.contract(x, x, &names(&["d"]), DType::F32).unwrap();
    let vec = input(&mut b, "vec", &[("d", 4)]);
    let gemv = b.contract(x, vec, &names(&["d"]), DType::F32).unwrap();
    let outer = b.contract(x, v, &[], DType::F32).unwrap();
    let cast = b.cast(x, DType::Bf16);
    let wide = b.cast(w, DType::Bf16);
    let low = b.contract(cast, wide, &names(&["d"]), DType::Bf16).unwrap();
    let outs =
        [("s", s), ("dw", dw), ("dx", dx), ("o", o), ("dot", dot), ("row", row), ("low", low)];
    for (name, node) in outs.into_iter().chain([("gemv", gemv), ("outer", outer)]) {
        b.output(name, node, None);
    }
    same(&b.graph);
}

#[test]
fn scatters_and_row_work() {
    let mut b = Builder::new();
    let y = input(&mut b, "y", &[("b", 2), ("s", 5), ("d", 3)]);
    let ids = b.input("ids", int(&[("b", 2), ("s", 5)]), Role::Data);
    let op = crate::graph::Op::ScatterAdd { axis: "v".into() };
    let table = b.raw(op, vec![y, ids], ty(&[("v", 4), ("d", 3)]));
    b.output("table", table, None);
    let op = crate::graph::Op::ScatterAdd { axis: "v".into() };
    let each = b.raw(op, vec![y, ids], ty(&[("b", 2), ("v", 4), ("d", 3)]));
    b.output("each", each, None);
    for (i, a) in ["b", "s", "d"].into_iter().enumerate() {
        let name = Name::from(a);
        let c = b.cumsum(y, &name, i == 1).unwrap();
        let k = b.topk(y, &name, 1 + i.min(1)).unwrap();
        let s = b.argsort(y, &name).unwrap();
        b.output(format!("c{a}"), c, None);
        b.output(format!("k{a}"), k, None);
        b.output(format!("s{a}"), s, None);
    }
    same_below(&b.graph, 5);
}

#[test]
fn draws_and_integers() {
    let mut b = Builder::new();
    let r = b.pos(&axis("r", 4));
    let c = b.pos(&axis("c", 3));
    let zero = b.integer(0);
    let u = b.random(Dist::Uniform, 77, [r, c, zero]).unwrap();
    let n = b.random(Dist::Normal, 78, [c, r, zero]).unwrap();
    let seven = b.integer(7);
    let m = b.binary(BinOp::Mul, r, c).unwrap();
    let m = b.binary(BinOp::Sub, m, seven).unwrap();
    let three = b.integer(3);
    let m = b.binary(BinOp::Mod, m, three).unwrap();
    let half = b.binary(BinOp::Div, m, seven).unwrap();
    let low = b.binary(BinOp::Lt, u, half).unwrap();
    let count = b.reduce(ReduceOp::Sum, low, &names(&["c"])).unwrap();
    let chosen = b.select(low, u, n).unwrap();
    let trunc = b.cast(n, DType::I32);
    let outs = [("u", u), ("n", n), ("m", m), ("low", low), ("count", count), ("chosen", chosen)];
    for (name, node) in outs.into_iter().chain([("trunc", trunc)]) {
        b.output(name, node, None);
    }
    same(&b.graph);
}

#[test]
fn adamw_updates_in_place() {
    let mut b = Builder::new();
    let shape = [("r", 5), ("c", 8)];
    let w = b.input("w", ty(&shape), Role::Weight);
    let m = b.input("m", ty(&shape), Role::State);
    let v = b.input("v", ty(&shape), Role::State);
    let g = input(&mut b, "g", &shape);
    let c = |b: &mut Builder, x: f64| b.constant(x);
    let mul = |b: &mut Builder, x, y| b.binary(BinOp::Mul, x, y).unwrap();
    let add = |b: &mut Builder, x, y| b.binary(BinOp::Add, x, y).unwrap();
    let sq = mul(&mut b, g, g);
    let norm = b.reduce(ReduceOp::Sum, sq, &names(&["r", "c"])).unwrap();
    let norm = b.unary(UnOp::Sqrt, norm);
    let one = c(&mut b, 1.0);
    let limit = b.binary(BinOp::Div, one, norm).unwrap();
    let clip = b.binary(BinOp::Min, one, limit).unwrap();
    let g = mul(&mut b, g, clip);
    let (b1, b2) = (c(&mut b, 0.9), c(&mut b, 0.95));
    let (a1, a2) = (c(&mut b, 0.1), c(&mut b, 0.05));
    let (x, y) = (mul(&mut b, m, b1), mul(&mut b, g, a1));
    let m2 = add(&mut b, x, y);
    let sq = mul(&mut b, g, g);
    let (x, y) = (mul(&mut b, v, b2), mul(&mut b, sq, a2));
    let v2 = add(&mut b, x, y);
    let t = b.runtime(Runtime::Step);
    let p = b.binary(BinOp::Pow, b1, t).unwrap();
    let bias = b.binary(BinOp::Sub, one, p).unwrap();
    let hat = b.binary(BinOp::Div, m2, bias).unwrap();
    let root = b.unary(UnOp::Sqrt, v2);
    let eps = c(&mut b, 1e-8);
    let root = add(&mut b, root, eps);
    let step = b.binary(BinOp::Div, hat, root).unwrap();
    let w2 = b.binary(BinOp::Sub, w, step).unwrap();
    b.output("w", w2, Some("w"));
    b.output("m", m2, Some("m"));
    b.output("v", v2, Some("v"));
    b.output("grad_norm", norm, None);
    let plan = same(&b.graph);
    // The norm, its finish, and one kernel for everything else.
    assert!(super::launches(&plan.steps) <= 3, "{}", crate::plan::print::print(&plan));
    assert!(plan.arena_bytes <= 256, "{}", crate::plan::print::print(&plan));
}

#[test]
fn swapped_donations_and_stale_reads() {
    let mut b = Builder::new();
    let x = b.input("x", ty(&[("r", 4)]), Role::State);
    let y = b.input("y", ty(&[("r", 4)]), Role::State);
    b.output("x", y, Some("x"));
    b.output("y", x, Some("y"));
    same(&b.graph);

    let mut b = Builder::new();
    let x = b.input("x", ty(&[("r", 4)]), Role::State);
    let index = Affine { terms: vec![("r".into(), -1)], offset: 3 };
    let flipped = b.window(x, &"r".into(), index, &[axis("r", 4)], 0.0).unwrap();
    let sum = b.binary(BinOp::Add, x, flipped).unwrap();
    let later = b.binary(BinOp::Mul, sum, x).unwrap();
    let all = b.reduce(ReduceOp::Max, later, &names(&["r"])).unwrap();
    b.output("x", sum, Some("x"));
    b.output("all", all, None);
    same(&b.graph);
}

#[test]
fn caches_are_updated_where_they_are() {
    let mut b = Builder::new();
    let cache = b.input("cache", ty(&[("s", 8), ("d", 4)]), Role::State);
    let x = input(&mut b, "x", &[("s", 2), ("d", 4)]);
    // The axis of what is written has another size, so another graph must have made it: as a decoder does, by name.
    let x = b.rename(x, &[("s".into(), "s".into())]).unwrap();
    let start = b.runtime(Runtime::Position);
    let x = b.unary(UnOp::Cos, x);
    let op = crate::graph::Op::Update { axis: "s".into() };
    let new = b.raw(op, vec![cache, x, start], ty(&[("s", 8), ("d", 4)]));
    let sum = b.reduce(ReduceOp::Sum, new, &names(&["s"])).unwrap();
    b.output("cache", new, Some("cache"));
    b.output("sum", sum, None);
    let plan = same(&b.graph);
    assert_eq!(plan.steps.len(), 2, "{}", crate::plan::print::print(&plan));
}
