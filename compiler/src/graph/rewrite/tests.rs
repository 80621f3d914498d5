//! Simplification keeps the meaning, of random graphs and of one example per rule.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::super::cost::cost;
use super::super::interp::{Tensor, first_step, interpret};
use super::super::print::print;
use super::super::random::random_graph;
use super::super::verify::verify;
use super::super::{ReduceOp, Role, ScanKind};
use super::*;

// Elements computed by nodes that compute, over all iterations.
fn work(graph: &Graph) -> f64 {
    let one = |node: &super::super::Node| match &node.op {
        Op::Scan(scan) => scan.axis.size as f64 * work(&scan.body),
        Op::Const(_) | Op::Pos | Op::Input(_) | Op::Runtime(_) | Op::Part(_) | Op::Expand => 0.0,
        Op::Rename(_) | Op::Split { .. } | Op::Merge { .. } | Op::Window { .. } => 0.0,
        Op::Reduce { .. } | Op::LogSumExp { .. } => graph.ty(node.inputs[0]).len() as f64,
        Op::Contract { over } => {
            let sizes = over.iter().filter_map(|o| graph.ty(node.inputs[0]).size(o));
            2.0 * (sizes.product::<usize>() * node.ty.len()) as f64
        }
        // Zeros first, then what is added.
        Op::ScatterAdd { .. } => 2.0 * node.ty.len() as f64,
        _ => node.ty.len() as f64,
    };
    graph.nodes.iter().map(one).sum()
}

fn agree(a: &IndexMap<Name, Tensor>, b: &IndexMap<Name, Tensor>) -> Result<(), String> {
    for (name, x) in a {
        let y = &b[name.as_str()];
        if x.ty != y.ty {
            return Err(format!("{name} changed its type"));
        }
        for (x, y) in x.data.iter().zip(&y.data) {
            let wild = |x: f64| !x.is_finite() || x.abs() > 1e60;
            let close = (x - y).abs() <= 1e-7 * (1.0 + x.abs().max(y.abs()));
            if !(close || wild(*x) && wild(*y)) {
                return Err(format!("{name}: {x} became {y}"));
            }
        }
    }
    Ok(())
}

#[test]
fn random_graphs_keep_their_meaning() {
    let mut fired = BTreeSet::new();
    for seed in 0..5000 {
        let (graph, given) = random_graph(seed, 40);
        let before = interpret(&graph, &given, &first_step).unwrap();
        let (simple, counts) = simplify_counted(graph.clone());
        let shown = || format!("seed {seed}\n{}\nbecame\n{}", print(&graph), print(&simple));
        verify(&simple).unwrap_or_else(|bug| panic!("{}\n{}", bug.message, shown()));
        let after = interpret(&simple, &given, &first_step).unwrap();
        agree(&before, &after).unwrap_or_else(|e| panic!("{e}\n{}", shown()));
        let (less, more) = (work(&simple), work(&prune(graph.clone())));
        assert!(less <= more, "{more} elements became {less}\n{}", shown());
        assert!(cost(&simple).forward_flops() <= cost(&graph).forward_flops(), "{}", shown());
        let again = simplify(simple.clone());
        assert!(again == simple, "{}\nand then\n{}", shown(), print(&again));
        fired.extend(counts.into_keys());
    }
    // The rest has examples of its own below.
    let rare =
        ["not-of-not", "rename-nothing", "expand-nothing", "logsumexp-of-expand", "recip-of-sqrt"];
    let all = RULES.iter().flat_map(|t| t.iter()).map(|r| r.name).chain(LOOPS);
    let silent: Vec<&str> =
        all.filter(|name| !fired.contains(name) && !rare.contains(name)).collect();
    assert!(silent.is_empty(), "never fired: {silent:?}");
}

const LOOPS: [&str; 6] =
    ["one-iteration", "unchanged-carry", "known-capture", "dead-in-loop", "same-input", "hoist"];

fn axis(name: &str, size: usize) -> Axis {
    Axis { name: name.into(), size }
}

fn x(b: &mut Builder, axes: &[Axis]) -> NodeId {
    b.input("x", Type::new(DType::F32, axes.to_vec()), Role::Data)
}

// The body of the dump after simplification, without the header.
fn simple(mut b: Builder, y: NodeId) -> String {
    b.output("y", y, None);
    verify(&b.graph).unwrap();
    let simple = simplify(b.graph);
    verify(&simple).unwrap();
    let text = print(&simple);
    text.lines().filter(|l| !l.starts_with("axes")).collect::<Vec<_>>().join("; ")
}

#[test]
fn rules_by_example() {
    let i = [axis("i", 4)];
    let mut b = Builder::new();
    let a = x(&mut b, &i);
    let yes = b.unary(UnOp::IsFinite, a);
    let no = b.unary(UnOp::Not, yes);
    let yes = b.unary(UnOp::Not, no);
    assert_eq!(simple(b, yes), "%0: f32[i] = data x; %1: bool[i] = is_finite(%0); y = %1");

    let mut b = Builder::new();
    let a = x(&mut b, &i);
    let root = b.unary(UnOp::Sqrt, a);
    let one = b.constant(1.0);
    let y = b.binary(BinOp::Div, one, root).unwrap();
    assert_eq!(simple(b, y), "%0: f32[i] = data x; %1: f32[i] = rsqrt(%0); y = %1");

    let mut b = Builder::new();
    let a = x(&mut b, &i);
    let ty = b.ty(a).clone();
    let same = b.raw(Op::Rename(vec![]), vec![a], ty.clone());
    let same = b.raw(Op::Expand, vec![same], ty);
    assert_eq!(simple(b, same), "%0: f32[i] = data x; y = %0");

    let mut b = Builder::new();
    let a = x(&mut b, &i);
    let wide = b.expand(a, &[axis("j", 1)]);
    let y = b.logsumexp(wide, &["j".into()]).unwrap();
    assert_eq!(simple(b, y), "%0: f32[i] = data x; y = %0");
}

#[test]
fn a_nan_survives() {
    let mut b = Builder::new();
    let a = x(&mut b, &[]);
    let zero = b.constant(0.0);
    let y = b.binary(BinOp::Mul, a, zero).unwrap();
    let y = b.binary(BinOp::Sub, y, y).unwrap();
    assert!(simple(b, y).contains("sub("));
}

#[test]
fn gradients_of_means_lose_their_broadcasts() {
    // mean over 8 of a broadcast is the number, since 8 and 1/8 meet.
    let mut b = Builder::new();
    let a = x(&mut b, &[]);
    let wide = b.expand(a, &[axis("i", 8)]);
    let sum = b.reduce(ReduceOp::Sum, wide, &["i".into()]).unwrap();
    let eighth = b.constant(0.125);
    let y = b.binary(BinOp::Mul, sum, eighth).unwrap();
    assert_eq!(simple(b, y), "%0: f32 = data x; y = %0");
}

#[test]
fn weights_are_rounded_once_for_all_micro_batches() {
    let (d, o, micro) = (axis("d", 4), axis("o", 4), axis("micro", 3));
    let mut body = Builder::new();
    let sum = body.input("sum", Type::new(DType::F32, vec![o.clone()]), Role::Local);
    let xs = body.input("x", Type::new(DType::Bf16, vec![d.clone()]), Role::Local);
    let w = body.input("w", Type::new(DType::F32, vec![d.clone(), o.clone()]), Role::Local);
    let low = body.cast(w, DType::Bf16);
    let y = body.contract(xs, low, &["d".into()], DType::F32).unwrap();
    let next = body.binary(BinOp::Add, sum, y).unwrap();
    body.output("sum", next, None);
    let mut b = Builder::new();
    let zero = b.constant(0.0);
    let xs = b.input("x", Type::new(DType::Bf16, vec![micro.clone(), d.clone()]), Role::Data);
    let w = b.input("w", Type::new(DType::F32, vec![d, o]), Role::Weight);
    let kind = ScanKind::Micro;
    let out = b.scan(micro, false, kind, body.graph, &[zero], &[xs], &[w]).unwrap();
    let text = simple(b, out[0]);
    assert!(text.contains("%4: bf16[d, o] = cast(%2)"), "{text}");
    assert!(text.contains("carries 1 slices 1(%3, %1, %4)"), "{text}");
    assert!(text.contains("  %2: bf16[d, o] = local hoisted.3"), "{text}");
}

#[test]
fn a_mask_of_positions_stays_in_the_loop() {
    let (seq, key, t) = (axis("seq", 8), axis("key", 8), axis("t", 3));
    let mut body = Builder::new();
    let h = body.input("h", Type::new(DType::F32, vec![seq.clone()]), Role::Local);
    let (p, q) = (body.pos(&seq), body.pos(&key));
    let mask = body.binary(BinOp::Le, q, p).unwrap();
    let decay = body.unary(UnOp::Exp, mask);
    let wide = body.binary(BinOp::Mul, decay, h).unwrap();
    let next = body.reduce(ReduceOp::Sum, wide, &["key".into()]).unwrap();
    body.output("h", next, None);
    let mut b = Builder::new();
    let h = x(&mut b, &[seq]);
    let kind = ScanKind::Program;
    let out = b.scan(t, false, kind, body.graph, &[h], &[], &[]).unwrap();
    let text = simple(b, out[0]);
    assert!(text.contains("  %4: f32[key, seq] = exp(%3)"), "{text}");
    assert!(text.contains("carries 1 slices 0(%0)"), "{text}");
}
