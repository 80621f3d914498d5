//! Good graphs pass; one broken graph per law does not.

use super::super::build::Builder;
use super::super::{Literal, OutputDecl, ReduceOp, Role, ScanKind};
use super::*;

fn ty(axes: &[(&str, usize)]) -> Type {
    let axis = |(name, size): &(&str, usize)| Axis { name: (*name).into(), size: *size };
    Type::new(DType::F32, axes.iter().map(axis).collect())
}

// x[i = 2, d = 3], w[d = 3].
fn start() -> (Builder, NodeId, NodeId) {
    let mut b = Builder::new();
    let x = b.input("x", ty(&[("i", 2), ("d", 3)]), Role::Data);
    let w = b.input("w", ty(&[("d", 3)]), Role::Weight);
    (b, x, w)
}

fn broken(op: Op, inputs: Vec<NodeId>, ty: Type) -> String {
    let (mut b, ..) = start();
    b.raw(op, inputs, ty);
    verify(&b.graph).unwrap_err().message
}

#[test]
fn a_good_graph_passes() {
    let (mut b, x, w) = start();
    let y = b.contract(x, w, &["d".into()], DType::F32).unwrap();
    let new = b.binary(BinOp::Mul, w, w).unwrap();
    b.output("y", y, None);
    b.output("new", new, Some("w"));
    verify(&b.graph).unwrap();
}

#[test]
fn nodes_that_break_their_type_rule() {
    let (x, w) = (NodeId(0), NodeId(1));
    let i = ty(&[("i", 2)]);
    let d: Vec<Name> = vec!["d".into()];
    for (op, inputs, ty, message) in [
        (Op::Unary(UnOp::Exp), vec![NodeId(2)], i.clone(), "which does not come before it"),
        (Op::Unary(UnOp::Exp), vec![x, w], i.clone(), "has 2 inputs, needs 1"),
        (Op::Unary(UnOp::Exp), vec![x], i.clone(), "should be f32[i, d], is f32[i]"),
        (Op::Unary(UnOp::Not), vec![w], ty(&[("d", 3)]), "should be bool[d], is f32[d]"),
        (Op::Expand, vec![w], i.clone(), "axis `d` = 3 is not in f32[i]"),
        (Op::Expand, vec![w], ty(&[("d", 3), ("d", 3)]), "axis `d` twice"),
        (Op::Expand, vec![w], ty(&[("d", 3), ("e", 0)]), "axis `e` has size 0"),
        (Op::Contract { over: vec!["i".into()] }, vec![x, w], ty(&[("d", 3)]), "is not in [d]"),
        (Op::Reduce { op: ReduceOp::Sum, axes: vec![] }, vec![w], ty(&[("d", 3)]), "nothing"),
        (Op::TopK { axis: "d".into(), k: 4 }, vec![w], ty(&[("d", 3)]), "k is not within"),
        (Op::Rename(vec![("d".into(), "e".into())]), vec![w], ty(&[("d", 3)]), "f32[e]"),
        (Op::Reduce { op: ReduceOp::Max, axes: d }, vec![x], ty(&[("i", 5)]), "should be"),
        (Op::Gather { axis: "d".into() }, vec![x, w], i.clone(), "the index is not i32"),
        (Op::Input(7), vec![], i.clone(), "no input 7"),
        (Op::Part(0), vec![x], i.clone(), "no part 0"),
        (Op::Const(Literal::new(1.0)), vec![], ty(&[("d", 4)]), "should be f32"),
    ] {
        let shown = format!("{op:?}");
        let found = broken(op, inputs, ty);
        assert!(found.contains(message), "{shown}: {found}");
    }
}

#[test]
fn outputs_that_do_not_fit() {
    let (mut b, x, w) = start();
    b.output("y", x, Some("w"));
    assert!(verify(&b.graph).unwrap_err().message.contains("into its input"));
    b.graph.outputs = vec![
        OutputDecl { name: "a".into(), node: w, into: Some(1) },
        OutputDecl { name: "b".into(), node: w, into: Some(1) },
    ];
    assert!(verify(&b.graph).unwrap_err().message.contains("replaced twice"));
    b.graph.outputs[1] = b.graph.outputs[0].clone();
    assert!(verify(&b.graph).unwrap_err().message.contains("two outputs"));
}

#[test]
fn a_name_has_one_size() {
    let (mut b, _, _) = start();
    b.input("z", ty(&[("d", 4)]), Role::Data);
    let message = verify(&b.graph).unwrap_err().message;
    assert!(message.contains("axis `d` of size 4, elsewhere it has 3"), "{message}");
}

#[test]
fn bodies_obey_the_laws() {
    let mut body = Builder::new();
    let h = body.input("h", ty(&[("d", 3)]), Role::Local);
    let sum = body.reduce(ReduceOp::Sum, h, &["d".into()]).unwrap();
    body.output("h", sum, None);
    let (mut b, _, w) = start();
    let axis = Axis { name: "t".into(), size: 2 };
    let out = b.scan(axis, false, ScanKind::Program, body.graph, &[w], &[], &[]).unwrap();
    b.output("y", out[0], None);
    let bug = verify(&b.graph).unwrap_err();
    assert!(bug.message.contains("carry 0: should be f32[d], is f32"), "{}", bug.message);
    assert!(bug.dump.starts_with("axes d = 3, i = 2, t = 2\n"), "{}", bug.dump);
}
