//! Loops over layers and micro-batches, and what they do to memory.

use super::{axis, input, names, same, ty};
use crate::graph::build::Builder;
use crate::graph::{BinOp, DType, Graph, NodeId, ReduceOp, Role, Runtime, ScanKind, UnOp};

fn local(b: &mut Builder, name: &str, axes: &[(&str, usize)]) -> NodeId {
    b.input(name, ty(axes), Role::Local)
}

// x + tanh(x w), with x stacked for a backward pass.
fn layer() -> Graph {
    let mut b = Builder::new();
    let x = local(&mut b, "x", &[("s", 3), ("d", 4)]);
    let w = local(&mut b, "w", &[("d", 4), ("e", 4)]);
    let h = b.contract(x, w, &names(&["d"]), DType::F32).unwrap();
    let h = b.rename(h, &[("e".into(), "d".into())]).unwrap();
    let h = b.unary(UnOp::Tanh, h);
    let y = b.binary(BinOp::Add, x, h).unwrap();
    b.output("y", y, None);
    b.output("x", x, None);
    b.graph
}

#[test]
fn layers_with_residuals() {
    for reverse in [false, true] {
        let mut b = Builder::new();
        let x = input(&mut b, "x", &[("s", 3), ("d", 4)]);
        let w = input(&mut b, "w", &[("layer", 3), ("d", 4), ("e", 4)]);
        let parts =
            b.scan(axis("layer", 3), reverse, ScanKind::Layers, layer(), &[x], &[w], &[]).unwrap();
        b.output("y", parts[0], None);
        b.output("xs", parts[1], None);
        same(&b.graph);
    }
}

#[test]
fn carries_that_swap_and_captured_scalars() {
    let mut body = Builder::new();
    let p = local(&mut body, "p", &[("d", 4)]);
    let q = local(&mut body, "q", &[("d", 4)]);
    let c = local(&mut body, "c", &[]);
    let scaled = body.binary(BinOp::Mul, p, c).unwrap();
    body.output("p", q, None);
    body.output("q", scaled, None);
    let mut b = Builder::new();
    let p = input(&mut b, "p", &[("d", 4)]);
    let q = input(&mut b, "q", &[("d", 4)]);
    let share = b.runtime(Runtime::Share);
    let parts =
        b.scan(axis("i", 3), false, ScanKind::Program, body.graph, &[p, q], &[], &[share]).unwrap();
    b.output("p", parts[0], None);
    b.output("q", parts[1], None);
    same(&b.graph);
}

// Micro-batches whose inner loop over layers stacks gradients that are summed outside.
#[test]
fn gradients_of_stacked_weights_are_summed_in_place() {
    let mut inner = Builder::new();
    let x = local(&mut inner, "x", &[("s", 3), ("d", 4)]);
    let w = local(&mut inner, "w", &[("d", 4), ("e", 4)]);
    let h = inner.contract(x, w, &names(&["d"]), DType::F32).unwrap();
    let g = inner.contract(x, h, &names(&["s"]), DType::F32).unwrap();
    let bias = inner.reduce(ReduceOp::Sum, h, &names(&["s"])).unwrap();
    let y = inner.rename(h, &[("e".into(), "d".into())]).unwrap();
    let y = inner.unary(UnOp::Tanh, y);
    inner.output("y", y, None);
    inner.output("g", g, None);
    inner.output("bias", bias, None);

    let mut body = Builder::new();
    let sum = local(&mut body, "sum", &[("layer", 2), ("d", 4), ("e", 4)]);
    let bias_sum = local(&mut body, "bias_sum", &[("layer", 2), ("e", 4)]);
    let loss = local(&mut body, "loss", &[]);
    let x = local(&mut body, "x", &[("s", 3), ("d", 4)]);
    let w = local(&mut body, "w", &[("layer", 2), ("d", 4), ("e", 4)]);
    let parts =
        body.scan(axis("layer", 2), false, ScanKind::Layers, inner.graph, &[x], &[w], &[]).unwrap();
    let new = body.binary(BinOp::Add, sum, parts[1]).unwrap();
    let new_bias = body.binary(BinOp::Add, bias_sum, parts[2]).unwrap();
    let l = body.reduce(ReduceOp::Sum, parts[0], &names(&["s", "d"])).unwrap();
    let new_loss = body.binary(BinOp::Add, loss, l).unwrap();
    body.output("sum", new, None);
    body.output("bias_sum", new_bias, None);
    body.output("loss", new_loss, None);

    let mut b = Builder::new();
    let x = input(&mut b, "x", &[("micro", 2), ("s", 3), ("d", 4)]);
    let w = b.input("w", ty(&[("layer", 2), ("d", 4), ("e", 4)]), Role::Weight);
    let zero = b.constant(0.0);
    let parts = b
        .scan(axis("micro", 2), false, ScanKind::Micro, body.graph, &[zero, zero, zero], &[x], &[w])
        .unwrap();
    let rate = b.constant(0.1);
    let step = b.binary(BinOp::Mul, parts[0], rate).unwrap();
    let new = b.binary(BinOp::Sub, w, step).unwrap();
    b.output("w", new, Some("w"));
    b.output("bias", parts[1], None);
    b.output("loss", parts[2], None);
    let plan = same(&b.graph);
    let text = crate::plan::print::print(&plan);
    let adds = plan
        .kernels
        .iter()
        .filter(|k| k.operands().iter().any(|o| o.access == crate::kernel::Access::Accumulate));
    assert!(adds.count() >= 1, "{text}");
}

#[test]
fn stacked_caches_are_updated_in_place() {
    let mut body = Builder::new();
    let x = local(&mut body, "x", &[("s", 1), ("d", 4)]);
    let cache = local(&mut body, "cache", &[("key", 8), ("d", 4)]);
    let row = body.rename(x, &[("s".into(), "key".into())]).unwrap();
    let start = body.runtime(Runtime::Position);
    let op = crate::graph::Op::Update { axis: "key".into() };
    let new = body.raw(op, vec![cache, row, start], ty(&[("key", 8), ("d", 4)]));
    let sum = body.reduce(ReduceOp::Sum, new, &names(&["key"])).unwrap();
    let y = body.binary(BinOp::Add, x, sum).unwrap();
    body.output("y", y, None);
    body.output("cache", new, None);
    let mut b = Builder::new();
    let x = input(&mut b, "x", &[("s", 1), ("d", 4)]);
    let cache = b.input("cache", ty(&[("layer", 3), ("key", 8), ("d", 4)]), Role::State);
    let parts =
        b.scan(axis("layer", 3), false, ScanKind::Layers, body.graph, &[x], &[cache], &[]).unwrap();
    b.output("y", parts[0], None);
    b.output("cache", parts[1], Some("cache"));
    let plan = same(&b.graph);
    assert!(plan.arena_bytes <= 256, "{}", crate::plan::print::print(&plan));
}

#[test]
fn a_loss_in_blocks_adds_to_the_gradient_in_place() {
    let (graph, _) = crate::graph::blocks::tests::head(DType::F32);
    let plan = same(&crate::graph::blocks::in_blocks(graph, 1));
    let text = crate::plan::print::print(&plan);
    let adds = plan
        .kernels
        .iter()
        .filter(|k| k.operands().iter().any(|o| o.access == crate::kernel::Access::Accumulate));
    assert!(adds.count() >= 1, "{text}");
}
