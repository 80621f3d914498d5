//! Gradients of small models, of attention and of scans, against central differences and unrolled graphs; and what is kept.

use super::super::build::Builder;
use super::super::finite::{differences, differences_by, gradients};
use super::super::interp::{Rounding, Tensor, first_step, interpret, interpret_rounded};
use super::super::random::{Dice, random_graph};
use super::super::verify::verify;
use super::super::{
    Attention, BinOp, DType, Expr, Graph, Inst, Literal, Name, NodeId, Op, OutputDecl, ReduceOp,
    Role, Scan, ScanKind, Type, UnOp,
};
use super::tests::{ALL, Case, axis, name, positive, ty};
use super::{Remat, differentiate};
use crate::close::{FINITE, Tolerance, compare};

fn names(list: &[&str]) -> Vec<Name> {
    list.iter().map(|n| name(n)).collect()
}

fn bin(b: &mut Builder, op: BinOp, x: NodeId, y: NodeId) -> NodeId {
    b.binary(op, x, y).unwrap()
}

// x / sqrt(mean x² + eps) * gain
fn rms_norm(b: &mut Builder, x: NodeId, gain: NodeId) -> NodeId {
    let square = bin(b, BinOp::Mul, x, x);
    let sum = b.reduce(ReduceOp::Sum, square, &names(&["d"])).unwrap();
    let size = b.constant(3.0);
    let mean = bin(b, BinOp::Div, sum, size);
    let eps = b.constant(1e-3);
    let mean = bin(b, BinOp::Add, mean, eps);
    let scale = b.unary(UnOp::Rsqrt, mean);
    let x = bin(b, BinOp::Mul, x, scale);
    bin(b, BinOp::Mul, x, gain)
}

// x + wo tanh(w norm(x))
fn block(b: &mut Builder, x: NodeId, w: NodeId, wo: NodeId, gain: NodeId) -> NodeId {
    let h = rms_norm(b, x, gain);
    let h = b.contract(h, w, &names(&["d"]), DType::F32).unwrap();
    let h = b.unary(UnOp::Tanh, h);
    let h = b.contract(h, wo, &names(&["ff"]), DType::F32).unwrap();
    bin(b, BinOp::Add, x, h)
}

const X: &[(&str, usize)] = &[("seq", 2), ("d", 3)];
const W: &[(&str, usize)] = &[("d", 3), ("ff", 4)];
const WO: &[(&str, usize)] = &[("ff", 4), ("d", 3)];

#[test]
fn tied_embedding_mlp_and_cross_entropy() {
    let mut c = Case::default();
    let table = c.input("table", &[("v", 5), ("d", 3)]);
    let ids = c.ints("ids", &[("seq", 2)], &[3.0, 0.0]);
    let targets = c.ints("targets", &[("seq", 2)], &[1.0, 3.0]);
    let (w, wo, gain) = (c.input("w", W), c.input("wo", WO), c.input("gain", &[("d", 3)]));
    let b = &mut c.b;
    let x = b.gather(table, &name("v"), ids).unwrap();
    let x = block(b, x, w, wo, gain);
    let logits = b.contract(x, table, &names(&["d"]), DType::F32).unwrap();
    let total = b.logsumexp(logits, &names(&["v"])).unwrap();
    let hit = b.gather(logits, &name("v"), targets).unwrap();
    let loss = bin(b, BinOp::Sub, total, hit);
    c.check(loss, &["table", "w", "wo", "gain"]);
}

// 3 tanh(s / 3) + bias * pos(key), seen if pos(key) <= pos(seq) - 1: the first row sees nothing.
fn attention() -> Attention {
    let mut score = Expr::arg(0);
    let three = score.push(Inst::Const(Literal::new(3.0)));
    let ratio = score.push(Inst::Binary(BinOp::Div, 0, three));
    let tanh = score.push(Inst::Unary(UnOp::Tanh, ratio));
    let capped = score.push(Inst::Binary(BinOp::Mul, three, tanh));
    let bias = score.push(Inst::Arg(1));
    let key = score.push(Inst::Pos(1));
    let slope = score.push(Inst::Binary(BinOp::Mul, bias, key));
    score.result = score.push(Inst::Binary(BinOp::Add, capped, slope));
    let mut mask = Expr { insts: vec![Inst::Pos(0), Inst::Pos(1)], result: 0 };
    mask.result = mask.push(Inst::Binary(BinOp::Lt, 1, 0));
    Attention {
        over: name("dh"),
        key: name("key"),
        scale: Literal::new(0.6),
        score,
        mask,
        pos: names(&["seq", "key"]),
    }
}

#[test]
fn attention_with_groups_bias_cap_and_empty_rows() {
    let mut c = Case::default();
    let q = c.input("q", &[("b", 2), ("seq", 3), ("kv", 2), ("group", 2), ("dh", 2)]);
    let k = c.input("k", &[("b", 2), ("key", 3), ("kv", 2), ("dh", 2)]);
    let v = c.input("v", &[("b", 2), ("key", 3), ("kv", 2), ("dv", 2)]);
    let bias = c.input("bias", &[("kv", 2), ("group", 2)]);
    let doc = c.ints("doc", &[("b", 2)], &[1.0, 2.0]);
    let (out, _) = c.b.attention(attention(), q, k, v, &[bias, doc], DType::F32).unwrap();
    c.check(out, &["q", "k", "v", "bias"]);
    // Keys and values shared by all examples, and queries by all heads.
    let k1 = c.input("k1", &[("key", 3), ("kv", 2), ("dh", 2)]);
    let v1 = c.input("v1", &[("key", 3), ("dv", 2)]);
    let q1 = c.input("q1", &[("seq", 3), ("dh", 2)]);
    let table = c.input("grid", &[("seq", 3), ("key", 3)]);
    let (out, _) = c.b.attention(attention(), q1, k1, v1, &[table], DType::F32).unwrap();
    c.check(out, &["q1", "k1", "v1", "grid"]);
}

#[test]
fn only_what_is_wanted_of_captured_tensors() {
    let mut c = Case::default();
    let q = c.input("q", &[("seq", 3), ("dh", 2)]);
    let k = c.input("k", &[("key", 3), ("dh", 2)]);
    let v = c.input("v", &[("key", 3), ("dv", 2)]);
    let bias = c.input("bias", &[]);
    let (out, _) = c.b.attention(attention(), q, k, v, &[bias], DType::F32).unwrap();
    let loss = c.loss(out);
    differentiate(&mut c.b, loss, &[k], Remat::Auto).unwrap();
    let wants = c.b.graph.nodes.iter().find_map(|n| match &n.op {
        Op::AttentionGrad { wants, .. } => Some(wants.clone()),
        _ => None,
    });
    assert_eq!(wants, Some(vec![false]));
}

// A stack of blocks: scanned weights, a gain that all share.
fn stack(c: &mut Case, depth: usize) -> NodeId {
    let scanned = |axes: &[(&'static str, usize)]| {
        let mut axes = axes.to_vec();
        axes.insert(0, ("depth", depth));
        axes
    };
    let x = c.input("x", X);
    let w = c.input("w", &scanned(W));
    let wo = c.input("wo", &scanned(WO));
    let gain = c.input("gain", &[("d", 3)]);
    let mut body = Builder::new();
    let h = body.input("h", ty(X), Role::Local);
    let (bw, bwo) = (body.input("w", ty(W), Role::Local), body.input("wo", ty(WO), Role::Local));
    let bgain = body.input("gain", ty(&[("d", 3)]), Role::Local);
    let y = block(&mut body, h, bw, bwo, bgain);
    body.output("h", y, None);
    let axis = axis("depth", depth);
    c.b.scan(axis, false, ScanKind::Layers, body.graph, &[x], &[w, wo], &[gain]).unwrap()[0]
}

fn unrolled(c: &mut Case, depth: usize) -> NodeId {
    let mut x = c.b.ids_of("x");
    let (w, wo, gain) = (c.b.ids_of("w"), c.b.ids_of("wo"), c.b.ids_of("gain"));
    for i in 0..depth {
        let at = c.b.integer(i as i64);
        let w = c.b.gather(w, &name("depth"), at).unwrap();
        let wo = c.b.gather(wo, &name("depth"), at).unwrap();
        x = block(&mut c.b, x, w, wo, gain);
    }
    x
}

trait Find {
    fn ids_of(&self, input: &str) -> NodeId;
}

impl Find for Builder {
    fn ids_of(&self, input: &str) -> NodeId {
        let is = |id: &NodeId| {
            matches!(self.graph.node(*id).op, Op::Input(i)
                if self.graph.inputs[i as usize].name == input)
        };
        self.graph.ids().find(is).unwrap()
    }
}

#[test]
fn a_stack_of_layers() {
    let mut c = Case::default();
    let y = stack(&mut c, 3);
    let wrt = ["x", "w", "wo", "gain"];
    c.check(y, &wrt);
    let looped = c.loss(y);
    let y = unrolled(&mut c, 3);
    let flat = c.loss(y);
    let flat = gradients(&c.b, flat, &wrt, &c.given, Remat::Auto).unwrap();
    let mut first: Option<Vec<Vec<f64>>> = None;
    for remat in ALL {
        let found = gradients(&c.b, looped, &wrt, &c.given, remat).unwrap();
        for (f, w) in found.iter().zip(&flat) {
            compare(&f.data, &w.data, FINITE).unwrap();
        }
        // What is computed again is the same bit for bit.
        let found: Vec<Vec<f64>> = found.into_iter().map(|t| t.data).collect();
        assert_eq!(*first.get_or_insert(found.clone()), found);
    }
}

fn scans(graph: &Graph) -> Vec<&Scan> {
    graph
        .nodes
        .iter()
        .filter_map(|n| match &n.op {
            Op::Scan(scan) => Some(&**scan),
            _ => None,
        })
        .collect()
}

#[test]
fn what_is_kept() {
    let kept = |remat: Remat| -> Vec<String> {
        let mut c = Case::default();
        let y = stack(&mut c, 2);
        let loss = c.loss(y);
        let w = c.b.ids_of("w");
        differentiate(&mut c.b, loss, &[w], remat).unwrap();
        let scans = scans(&c.b.graph);
        assert_eq!(scans.len(), 2, "one scan forward, one back");
        assert!(!scans[0].reverse && scans[1].reverse);
        let body = &scans[0].body;
        let op = |o: &OutputDecl| match &body.node(o.node).op {
            Op::Contract { .. } => "dot",
            Op::Reduce { .. } => "reduce",
            Op::Input(_) => "carry",
            Op::Unary(_) | Op::Binary(_) => "map",
            _ => "other",
        };
        let mut kept: Vec<String> = body.outputs[1..].iter().map(|o| op(o).to_owned()).collect();
        kept.sort();
        kept
    };
    assert_eq!(kept(Remat::PerBlock), ["carry"]);
    // The hidden layer, the sum of squares.
    assert_eq!(kept(Remat::Auto), ["carry", "dot", "reduce"]);
    let all = kept(Remat::None);
    assert!(all.iter().any(|k| k == "map") && all.iter().all(|k| k != "other"), "{all:?}");
}

// h * exp(rate * pos): the table of powers is the same in every iteration.
#[test]
fn what_does_not_vary_is_not_kept() {
    for remat in ALL {
        let mut c = Case::default();
        let x = c.input("x", &[("d", 3)]);
        let w = c.input("w", &[("depth", 2), ("d", 3)]);
        let rate = c.input("rate", &[]);
        let mut body = Builder::new();
        let h = body.input("h", ty(&[("d", 3)]), Role::Local);
        let bw = body.input("w", ty(&[("d", 3)]), Role::Local);
        let r = body.input("rate", ty(&[]), Role::Local);
        let pos = body.pos(&axis("d", 3));
        let power = bin(&mut body, BinOp::Mul, r, pos);
        let table = body.unary(UnOp::Exp, power);
        let total = body.reduce(ReduceOp::Sum, table, &names(&["d"])).unwrap();
        let share = bin(&mut body, BinOp::Div, table, total);
        let y = bin(&mut body, BinOp::Mul, h, share);
        let y = bin(&mut body, BinOp::Add, y, bw);
        body.output("h", y, None);
        let depth = axis("depth", 2);
        let kind = ScanKind::Layers;
        let y = c.b.scan(depth, false, kind, body.graph, &[x], &[w], &[rate]).unwrap()[0];
        c.check(y, &["x", "w", "rate"]);
        let loss = c.loss(y);
        differentiate(&mut c.b, loss, &[x, w, rate], remat).unwrap();
        let forward = scans(&c.b.graph)[0];
        assert_eq!(forward.body.outputs.len(), 2, "the carry and, kept, the carry before");
    }
}

// h = tanh(u h + x[t]); stacks h, and counts in an integer carry.
fn cell(reverse: bool) -> Case {
    let mut c = Case::default();
    let x = c.input("x", &[("t", 4), ("d", 3)]);
    let u = c.input("u", &[("d", 3), ("e", 3)]);
    let mut body = Builder::new();
    let h = body.input("h", ty(&[("d", 3)]), Role::Local);
    let n = body.input("n", Type::scalar(DType::I32), Role::Local);
    let seen = body.input("seen", Type::scalar(DType::F32), Role::Local);
    let xt = body.input("x", ty(&[("d", 3)]), Role::Local);
    let bu = body.input("u", ty(&[("d", 3), ("e", 3)]), Role::Local);
    let hidden = body.contract(h, bu, &names(&["d"]), DType::F32).unwrap();
    let hidden = body.rename(hidden, &[(name("e"), name("d"))]).unwrap();
    let sum = bin(&mut body, BinOp::Add, hidden, xt);
    let new = body.unary(UnOp::Tanh, sum);
    let one = body.integer(1);
    let count = bin(&mut body, BinOp::Add, n, one);
    let scaled = bin(&mut body, BinOp::Mul, new, count);
    let stopped = body.stop(new);
    let mean = body.reduce(ReduceOp::Sum, stopped, &names(&["d"])).unwrap();
    let more = bin(&mut body, BinOp::Add, seen, mean);
    body.output("h", new, None);
    body.output("n", count, None);
    body.output("seen", more, None);
    body.output("ys", scaled, None);
    let (start, zero) = (c.b.constant(0.1), c.b.integer(0));
    let axis = axis("t", 4);
    let inits = [start, zero, start];
    let graph = body.graph;
    let out = c.b.scan(axis, reverse, ScanKind::Program, graph, &inits, &[x], &[u]).unwrap();
    // All results count: the last state, a sum that gives no gradient, the stacked values.
    let y = bin(&mut c.b, BinOp::Mul, out[3], out[0]);
    let y = bin(&mut c.b, BinOp::Mul, y, out[2]);
    c.b.output("y", y, None);
    c
}

#[test]
fn a_recurrent_cell() {
    for reverse in [false, true] {
        let mut c = cell(reverse);
        let y = c.b.graph.output("y").unwrap();
        let loss = c.loss(y);
        let grads = gradients(&c.b, loss, &["x", "u"], &c.given, Remat::Auto).unwrap();
        for remat in ALL {
            assert_eq!(grads, gradients(&c.b, loss, &["x", "u"], &c.given, remat).unwrap());
        }
        // `seen` is behind a barrier, of which finite differences know nothing: it is held.
        let held = c.b.graph.nodes.iter().position(|n| n.op == Op::Part(2)).unwrap();
        let mut graph = c.b.graph.clone();
        graph.outputs.clear();
        graph.outputs.push(OutputDecl {
            name: name("seen"),
            node: NodeId(held as u32),
            into: None,
        });
        let seen = interpret(&graph, &c.given, &first_step).unwrap()["seen"].data[0];
        graph.nodes[held].op = Op::Const(Literal::new(seen));
        graph.nodes[held].inputs.clear();
        let held = Builder::resume(graph);
        for (g, name) in grads.iter().zip(["x", "u"]) {
            let near = differences(&held, loss, name, &c.given).unwrap();
            compare(&g.data, &near, FINITE).unwrap();
        }
    }
}

// Σ over layers inside a loop over time: an inner stack in an outer scan.
#[test]
fn a_scan_in_a_scan() {
    let mut c = Case::default();
    let x = c.input("x", &[("t", 2), ("d", 3)]);
    let w = c.input("w", &[("depth", 2), ("d", 3), ("e", 3)]);
    let mut inner = Builder::new();
    let h = inner.input("h", ty(&[("d", 3)]), Role::Local);
    let iw = inner.input("w", ty(&[("d", 3), ("e", 3)]), Role::Local);
    let y = inner.contract(h, iw, &names(&["d"]), DType::F32).unwrap();
    let y = inner.rename(y, &[(name("e"), name("d"))]).unwrap();
    let y = inner.unary(UnOp::Tanh, y);
    inner.output("h", y, None);
    let mut outer = Builder::new();
    let h = outer.input("h", ty(&[("d", 3)]), Role::Local);
    let xt = outer.input("x", ty(&[("d", 3)]), Role::Local);
    let ow = outer.input("w", ty(&[("depth", 2), ("d", 3), ("e", 3)]), Role::Local);
    let sum = bin(&mut outer, BinOp::Add, h, xt);
    let depth = axis("depth", 2);
    let out = outer.scan(depth, false, ScanKind::Layers, inner.graph, &[sum], &[ow], &[]).unwrap();
    outer.output("h", out[0], None);
    outer.output("ys", out[0], None);
    let zero = c.b.constant(0.0);
    let t = axis("t", 2);
    let out = c.b.scan(t, false, ScanKind::Program, outer.graph, &[zero], &[x], &[w]).unwrap();
    let y = bin(&mut c.b, BinOp::Mul, out[0], out[1]);
    c.check(y, &["x", "w"]);
    let loss = c.loss(y);
    let w = c.b.ids_of("w");
    // Under PerBlock the outer scan keeps nothing of the inner one, so the forward body stays as it was.
    differentiate(&mut c.b, loss, &[w], Remat::PerBlock).unwrap();
    let forward = scans(&c.b.graph)[0];
    assert_eq!(scans(&forward.body)[0].body.outputs.len(), 1);
}

#[test]
fn attention_in_a_stack() {
    let mut c = Case::default();
    let x = c.input("x", &[("seq", 3), ("dh", 2)]);
    let w = c.input("w", &[("depth", 2), ("dh", 2), ("e", 2)]);
    let bias = c.input("bias", &[]);
    let mut body = Builder::new();
    let h = body.input("h", ty(&[("seq", 3), ("dh", 2)]), Role::Local);
    let bw = body.input("w", ty(&[("dh", 2), ("e", 2)]), Role::Local);
    let bbias = body.input("bias", Type::scalar(DType::F32), Role::Local);
    let q = body.contract(h, bw, &names(&["dh"]), DType::F32).unwrap();
    let q = body.rename(q, &[(name("e"), name("dh"))]).unwrap();
    let k = body.rename(h, &[(name("seq"), name("key"))]).unwrap();
    let v = body.rename(k, &[(name("dh"), name("dv"))]).unwrap();
    let (out, _) = body.attention(attention(), q, k, v, &[bbias], DType::F32).unwrap();
    let out = body.rename(out, &[(name("dv"), name("dh"))]).unwrap();
    let y = bin(&mut body, BinOp::Add, h, out);
    body.output("h", y, None);
    let depth = axis("depth", 2);
    let y = c.b.scan(depth, false, ScanKind::Layers, body.graph, &[x], &[w], &[bias]).unwrap()[0];
    c.check(y, &["x", "w", "bias"]);
    let loss = c.loss(y);
    differentiate(&mut c.b, loss, &[w], Remat::Auto).unwrap();
    let parts: Vec<u32> = {
        let body = &scans(&c.b.graph)[0].body;
        let part = |o: &OutputDecl| match body.node(o.node).op {
            Op::Part(p) => Some(p),
            _ => None,
        };
        body.outputs.iter().filter_map(part).collect()
    };
    // The output and the log-sum-exp are kept, so the backward body attends only to differentiate.
    assert_eq!(parts, [0, 1]);
    let back = &scans(&c.b.graph)[1].body;
    assert!(!back.nodes.iter().any(|n| matches!(n.op, Op::Attention(_))));
}

#[test]
fn loops_over_micro_batches_are_refused() {
    let mut c = Case::default();
    let x = c.input("x", &[("micro", 2)]);
    let mut body = Builder::new();
    let h = body.input("h", Type::scalar(DType::F32), Role::Local);
    let bx = body.input("x", Type::scalar(DType::F32), Role::Local);
    let y = bin(&mut body, BinOp::Add, h, bx);
    body.output("h", y, None);
    let zero = c.b.constant(0.0);
    let micro = axis("micro", 2);
    let y = c.b.scan(micro, false, ScanKind::Micro, body.graph, &[zero], &[x], &[]).unwrap()[0];
    let bug = differentiate(&mut c.b, y, &[x], Remat::Auto).unwrap_err();
    assert!(bug.message.contains("micro-batches") && !bug.dump.is_empty(), "{bug}");
}

// Weights in f32, used in bf16: activations and their gradients are bf16, gradients of weights are never rounded.
#[test]
fn rounding_points() {
    let mut c = Case::default();
    let x = c.values("x", X, positive(6));
    let w = c.values("w", W, positive(12));
    let wo = c.values("wo", WO, positive(12));
    let b = &mut c.b;
    let (xh, wh) = (b.cast(x, DType::Bf16), b.cast(w, DType::Bf16));
    let woh = b.cast(wo, DType::Bf16);
    let h = b.contract(xh, wh, &names(&["d"]), DType::Bf16).unwrap();
    let h = b.unary(UnOp::Tanh, h);
    let h = b.cast(h, DType::Bf16);
    let y = b.contract(h, woh, &names(&["ff"]), DType::Bf16).unwrap();
    let loss = c.loss(y);
    let forward = c.b.graph.nodes.len();
    let grads = differentiate(&mut c.b, loss, &[w, wo, x], Remat::Auto).unwrap();
    verify(&c.b.graph).unwrap();
    let mut dots = Vec::new();
    for n in &c.b.graph.nodes[forward..] {
        if matches!(n.op, Op::Contract { .. }) {
            assert!(n.inputs.iter().all(|x| c.b.ty(*x).dtype == DType::Bf16), "{n:?}");
            dots.push(n.ty.dtype);
        }
    }
    // dh rounds; dwo, dw and dx, whose operands are rounded inputs, do not.
    dots.sort();
    assert_eq!(dots, [DType::F32, DType::F32, DType::F32, DType::Bf16]);
    for g in &grads {
        assert_eq!(c.b.ty(*g).dtype, DType::F32);
    }
    for (i, g) in grads.iter().enumerate() {
        c.b.output(format!("g{i}"), *g, None);
    }
    let run =
        |r| interpret_rounded(&c.b.graph, &c.given, &first_step, r).map(|out| out["g0"].clone());
    let stored = run(Rounding::Stored).unwrap();
    let exact = run(Rounding::Casts).unwrap();
    compare(&stored.data, &exact.data, crate::close::tolerance(DType::Bf16, 12)).unwrap();
}

#[test]
fn losses_that_are_none() {
    let mut c = Case::default();
    let x = c.input("x", &[("i", 2)]);
    assert!(differentiate(&mut c.b, x, &[x], Remat::Auto).is_err());
    let n = c.b.integer(1);
    assert!(differentiate(&mut c.b, n, &[x], Remat::Auto).is_err());
}

// Graphs of all operations. Where the meaning has no slope that a difference could show (barriers, roundings, a jump or a
// pole near by), the graph is only differentiated and verified.
#[test]
fn random_graphs() {
    let (mut compared, mut built) = (0, 0);
    for seed in 0..400 {
        let (graph, mut given) = random_graph(seed, 14);
        let mut dice = Dice(seed);
        for x in given.values_mut().filter(|x| x.ty.dtype.is_float()) {
            // Off the grid, so that nothing ties.
            x.data.iter_mut().for_each(|x| *x += dice.below(1000) as f64 * 1.37e-4);
        }
        let opaque = hides_slopes(&graph);
        let floats: Vec<NodeId> = graph.outputs.iter().map(|o| o.node).collect();
        let wrt: Vec<String> = graph
            .inputs
            .iter()
            .filter(|i| i.ty.dtype.is_float())
            .map(|i| i.name.as_str().to_owned())
            .collect();
        let mut c = Case { b: Builder::resume(graph), given };
        c.b.graph.outputs.clear();
        let Some(y) = floats.into_iter().find(|y| c.b.ty(*y).dtype.is_float()) else { continue };
        let loss = c.loss(y);
        let has_node = |n: &&str| {
            c.b.graph.nodes.iter().any(
                |node| matches!(node.op, Op::Input(i) if c.b.graph.inputs[i as usize].name == **n),
            )
        };
        let wrt: Vec<&str> = wrt.iter().map(String::as_str).filter(has_node).collect();
        let mut all: Vec<Vec<Tensor>> = Vec::new();
        for remat in ALL {
            let found = gradients(&c.b, loss, &wrt, &c.given, remat);
            match found {
                Ok(found) => all.push(found),
                // Which no program can read.
                Err(bug) if bug.message.contains("log-sum-exp") => continue,
                Err(bug) => panic!("seed {seed}, {remat:?}: {bug}"),
            }
        }
        if all.is_empty() {
            continue;
        }
        let bits = |ts: &[Tensor]| -> Vec<u64> {
            ts.iter().flat_map(|t| t.data.iter().map(|x| x.to_bits())).collect()
        };
        assert!(all.iter().all(|a| bits(a) == bits(&all[0])), "seed {seed}: remat differs");
        built += 1;
        if opaque {
            continue;
        }
        for (name, found) in wrt.iter().zip(&all[0]) {
            let near = differences_by(&c.b, loss, name, &c.given, 1e-5).unwrap();
            let nearer = differences_by(&c.b, loss, name, &c.given, 0.5e-5).unwrap();
            let rough = Tolerance { absolute: 1e-7, relative: 1e-7 };
            let smooth = near.iter().all(|x| x.is_finite() && x.abs() < 1e4);
            if smooth && compare(&near, &nearer, rough).is_ok() {
                if let Err(worst) = compare(&found.data, &near, FINITE) {
                    c.b.output("y", y, None);
                    let graph = super::super::rewrite::prune(c.b.graph.clone());
                    let text = super::super::print::print(&graph);
                    panic!("seed {seed}, d {name}: {worst}\n{text}");
                }
                compared += 1;
            }
        }
    }
    assert!(built > 300 && compared > 150, "{built} built, {compared} compared");
}

fn hides_slopes(graph: &Graph) -> bool {
    graph.nodes.iter().any(|n| match &n.op {
        Op::Stop => true,
        Op::Cast => n.ty.dtype != DType::F32,
        // NaN of negative numbers, which `min` and `max` swallow.
        Op::Unary(UnOp::Log | UnOp::Sqrt | UnOp::Rsqrt) | Op::Binary(BinOp::Pow) => true,
        Op::Scan(scan) => hides_slopes(&scan.body),
        _ => false,
    })
}
