//! Every rule against central differences. Models and scans: `grad_model_tests`.

use indexmap::IndexMap;

use super::super::build::Builder;
use super::super::finite::{check, gradients};
use super::super::interp::Tensor;
use super::super::{
    Affine, Axis, BinOp, Collective, DType, Dist, Name, NodeId, Op, ReduceOp, Role, Type, UnOp,
};
use super::{Remat, differentiate};
use crate::scalar::random;

pub(super) const ALL: [Remat; 3] = [Remat::None, Remat::PerBlock, Remat::Auto];

pub(super) fn axis(name: &str, size: usize) -> Axis {
    Axis { name: name.into(), size }
}

pub(super) fn name(text: &str) -> Name {
    text.into()
}

pub(super) fn ty(axes: &[(&str, usize)]) -> Type {
    Type::new(DType::F32, axes.iter().map(|(n, s)| axis(n, *s)).collect())
}

// Draws in (-1.5, 1.5), by a name and a place.
fn draw(text: &str, i: usize) -> f64 {
    let stream = text.bytes().fold(7, |h: u64, c| h.wrapping_mul(31).wrapping_add(u64::from(c)));
    3.0 * random(Dist::Uniform, 3, stream, [i as u32, 0, 0], 1) - 1.5
}

#[derive(Default)]
pub(super) struct Case {
    pub(super) b: Builder,
    pub(super) given: IndexMap<Name, Tensor>,
}

impl Case {
    pub(super) fn input(&mut self, text: &str, axes: &[(&str, usize)]) -> NodeId {
        let ty = ty(axes);
        let data = (0..ty.len()).map(|i| draw(text, i)).collect();
        self.values(text, axes, data)
    }

    pub(super) fn values(&mut self, text: &str, axes: &[(&str, usize)], data: Vec<f64>) -> NodeId {
        self.given.insert(name(text), Tensor::new(ty(axes), data).unwrap());
        self.b.input(text, ty(axes), Role::Weight)
    }

    pub(super) fn ints(&mut self, text: &str, axes: &[(&str, usize)], data: &[f64]) -> NodeId {
        let ty = Type::new(DType::I32, ty(axes).axes);
        self.given.insert(name(text), Tensor::new(ty.clone(), data.to_vec()).unwrap());
        self.b.input(text, ty, Role::Data)
    }

    // A loss in which every element counts differently, and not linearly.
    pub(super) fn loss(&mut self, y: NodeId) -> NodeId {
        let axes = self.b.ty(y).axes.clone();
        let mut weight = self.b.constant(0.6);
        for (n, a) in axes.iter().enumerate() {
            let pos = self.b.pos(a);
            let step = self.b.constant(0.37 + n as f64);
            let phase = self.b.binary(BinOp::Mul, pos, step).unwrap();
            let sum = self.b.binary(BinOp::Add, weight, phase).unwrap();
            weight = self.b.unary(UnOp::Sin, sum);
        }
        let half = self.b.constant(0.25);
        let square = self.b.binary(BinOp::Mul, y, y).unwrap();
        let square = self.b.binary(BinOp::Mul, square, half).unwrap();
        let each = self.b.binary(BinOp::Mul, y, weight).unwrap();
        let each = self.b.binary(BinOp::Add, each, square).unwrap();
        let names: Vec<Name> = axes.into_iter().map(|a| a.name).collect();
        self.b.reduce(ReduceOp::Sum, each, &names).unwrap()
    }

    #[track_caller]
    pub(super) fn check(&mut self, y: NodeId, wrt: &[&str]) {
        let loss = self.loss(y);
        for remat in ALL {
            if let Err(e) = check(&self.b, loss, wrt, &self.given, remat) {
                panic!("{remat:?}: {e}");
            }
        }
    }
}

pub(super) fn positive(n: usize) -> Vec<f64> {
    (0..n).map(|i| 0.3 + draw("positive", i).abs()).collect()
}

#[test]
fn one_argument() {
    let anywhere = [UnOp::Neg, UnOp::Abs, UnOp::Exp, UnOp::Sin, UnOp::Cos, UnOp::Tanh, UnOp::Erf];
    for op in anywhere.into_iter().chain([UnOp::Sigmoid, UnOp::Floor, UnOp::Round, UnOp::Sign]) {
        let mut c = Case::default();
        let x = c.input("x", &[("i", 4)]);
        let y = c.b.unary(op, x);
        c.check(y, &["x"]);
    }
    for op in [UnOp::Recip, UnOp::Log, UnOp::Sqrt, UnOp::Rsqrt] {
        let mut c = Case::default();
        let x = c.values("x", &[("i", 4)], positive(4));
        let y = c.b.unary(op, x);
        c.check(y, &["x"]);
    }
}

#[test]
fn two_arguments_unite_axes() {
    let ops = [BinOp::Add, BinOp::Sub, BinOp::Mul, BinOp::Div, BinOp::Pow, BinOp::Min, BinOp::Max];
    for op in ops.into_iter().chain([BinOp::Mod, BinOp::Lt]) {
        let mut c = Case::default();
        let p = c.values("p", &[("i", 3), ("j", 2)], positive(6));
        let q = c.values("q", &[("k", 2), ("j", 2)], vec![0.7, 1.9, 0.45, 1.1]);
        let y = c.b.binary(op, p, q).unwrap();
        c.check(y, &["p", "q"]);
    }
}

#[test]
fn powers() {
    for exponent in [2.0, 3.0, 0.5, -1.0] {
        let mut c = Case::default();
        let x = c.values("x", &[("i", 3)], positive(3));
        let e = c.b.constant(exponent);
        let y = c.b.binary(BinOp::Pow, x, e).unwrap();
        c.check(y, &["x"]);
    }
}

#[test]
fn a_value_used_twice() {
    let mut c = Case::default();
    let x = c.input("x", &[("i", 3)]);
    let s = c.b.unary(UnOp::Sin, x);
    let y = c.b.binary(BinOp::Mul, s, x).unwrap();
    let y = c.b.binary(BinOp::Mul, y, y).unwrap();
    c.check(y, &["x"]);
}

#[test]
fn ties_go_to_the_first() {
    let mut c = Case::default();
    let p = c.values("p", &[], vec![1.0]);
    let q = c.values("q", &[], vec![1.0]);
    for op in [BinOp::Max, BinOp::Min] {
        let y = c.b.binary(op, p, q).unwrap();
        let grads = gradients(&c.b, y, &["p", "q"], &c.given, Remat::Auto).unwrap();
        assert_eq!((grads[0].data[0], grads[1].data[0]), (1.0, 0.0));
    }
    let x = c.values("x", &[("i", 2), ("j", 2)], vec![1.0, 3.0, 3.0, 3.0]);
    let y = c.b.reduce(ReduceOp::Max, x, &[name("j"), name("i")]).unwrap();
    // In the order j, then i: (0, 0), (0, 1), ..
    let grads = gradients(&c.b, y, &["x"], &c.given, Remat::Auto).unwrap();
    assert_eq!(grads[0].data, [0.0, 0.0, 1.0, 0.0]);
}

#[test]
fn select_and_barriers() {
    let mut c = Case::default();
    let x = c.input("x", &[("i", 4)]);
    let z = c.input("z", &[("j", 2)]);
    let zero = c.b.constant(0.0);
    let cond = c.b.binary(BinOp::Lt, x, zero).unwrap();
    let y = c.b.select(cond, z, x).unwrap();
    c.check(y, &["x", "z"]);
    let stopped = c.b.stop(x);
    let y = c.b.reduce(ReduceOp::Sum, stopped, &[name("i")]).unwrap();
    let grads = gradients(&c.b, y, &["x", "z"], &c.given, Remat::Auto).unwrap();
    assert_eq!(grads[0].data, [0.0; 4]);
    assert_eq!(grads[1].data, [0.0; 2]);
}

#[test]
fn movement() {
    let mut c = Case::default();
    let x = c.input("x", &[("a", 2), ("b", 3), ("c", 2)]);
    let y = c.b.rename(x, &[(name("a"), name("c")), (name("c"), name("a"))]).unwrap();
    c.check(y, &["x"]);
    let y = c.b.merge(x, &[name("c"), name("a")], &name("m")).unwrap();
    c.check(y, &["x"]);
    let y = c.b.split(y, &name("m"), &[axis("d", 2), axis("e", 2)]).unwrap();
    c.check(y, &["x"]);
    let y = c.b.expand(x, &[axis("more", 3)]);
    c.check(y, &["x"]);
    let z = c.input("z", &[("k", 2), ("c", 2)]);
    let y = c.b.concat(&[x, z, x], &[name("b"), name("k"), name("b")], &name("all")).unwrap();
    c.check(y, &["x", "z"]);
}

fn windowed(x: &[(&str, usize)], along: &str, terms: &[(&str, i64)], offset: i64, axes: &[Axis]) {
    let mut c = Case::default();
    let x = c.input("x", x);
    let terms = terms.iter().map(|(n, k)| (name(n), *k)).collect();
    let y = c.b.window(x, &name(along), Affine { terms, offset }, axes, 0.7).unwrap();
    c.check(y, &["x"]);
}

#[test]
fn windows() {
    let x: &[(&str, usize)] = &[("seq", 5), ("d", 2)];
    // A constant; a shift; a convolution's window; backwards; strided; dilated.
    windowed(x, "seq", &[], 3, &[]);
    windowed(x, "seq", &[("seq", 1)], -1, &[axis("seq", 5)]);
    windowed(x, "seq", &[("seq", 1), ("tap", -1)], 0, &[axis("seq", 5), axis("tap", 3)]);
    windowed(x, "seq", &[("i", -1)], 4, &[axis("i", 4)]);
    windowed(x, "seq", &[("i", 2)], 1, &[axis("i", 3)]);
    windowed(x, "seq", &[("i", 2), ("tap", 1)], -1, &[axis("i", 3), axis("tap", 2)]);
    windowed(x, "seq", &[("seq", 2), ("tap", 3)], -1, &[axis("seq", 5), axis("tap", 2)]);
    windowed(x, "seq", &[("seq", 2), ("tap", 1)], -1, &[axis("seq", 5), axis("tap", 2)]);
    // Along an axis that x shares: a diagonal, a skewed one.
    windowed(&[("i", 3), ("j", 3)], "j", &[("i", 1)], 0, &[axis("i", 3)]);
    windowed(&[("i", 3), ("j", 4)], "j", &[("i", 1), ("k", 1)], -1, &[axis("i", 3), axis("k", 2)]);
}

#[test]
fn gather_and_scatter() {
    let mut c = Case::default();
    let table = c.input("table", &[("v", 4), ("d", 2)]);
    let ids = c.ints("ids", &[("b", 2), ("s", 2)], &[1.0, 3.0, 1.0, 9.0]);
    let y = c.b.gather(table, &name("v"), ids).unwrap();
    c.check(y, &["table"]);
    // A shared axis goes in step.
    let logits = c.input("logits", &[("b", 2), ("s", 2), ("v", 4)]);
    let y = c.b.gather(logits, &name("v"), ids).unwrap();
    c.check(y, &["logits"]);
    let x = c.input("x", &[("s", 2), ("d", 2)]);
    let ty = ty(&[("v", 4), ("d", 2)]);
    let y = c.b.raw(Op::ScatterAdd { axis: name("v") }, vec![x, ids], ty);
    c.check(y, &["x"]);
    // Along an axis of its own name.
    let z = c.input("z", &[("s", 2)]);
    let y = c.b.gather(z, &name("s"), ids).unwrap();
    c.check(y, &["z"]);
}

#[test]
fn update() {
    let mut c = Case::default();
    let dst = c.input("dst", &[("t", 5), ("d", 2)]);
    let src = c.input("src", &[("t", 2), ("d", 2)]);
    for start in [0, 2, 4] {
        let start = c.b.integer(start);
        let y = c.b.update(dst, &name("t"), src, start).unwrap();
        c.check(y, &["dst", "src"]);
    }
}

#[test]
fn reductions() {
    let ops = [ReduceOp::Sum, ReduceOp::Max, ReduceOp::Min, ReduceOp::Prod];
    for op in ops {
        let mut c = Case::default();
        let x = c.input("x", &[("i", 2), ("j", 3), ("k", 2)]);
        let y = c.b.reduce(op, x, &[name("j")]).unwrap();
        c.check(y, &["x"]);
        let y = c.b.reduce(op, x, &[name("k"), name("i")]).unwrap();
        c.check(y, &["x"]);
    }
    for zeros in [1, 2, 3] {
        let mut c = Case::default();
        let data = (0..6).map(|i| if i < zeros { 0.0 } else { draw("x", i) }).collect();
        let x = c.values("x", &[("i", 2), ("j", 3)], data);
        let y = c.b.reduce(ReduceOp::Prod, x, &[name("j")]).unwrap();
        c.check(y, &["x"]);
    }
}

#[test]
fn log_sum_exp_and_running_sums() {
    let mut c = Case::default();
    let x = c.input("x", &[("i", 2), ("j", 3)]);
    let y = c.b.logsumexp(x, &[name("j")]).unwrap();
    c.check(y, &["x"]);
    let y = c.b.logsumexp(x, &[name("j"), name("i")]).unwrap();
    c.check(y, &["x"]);
    for reverse in [false, true] {
        let y = c.b.cumsum(x, &name("j"), reverse).unwrap();
        c.check(y, &["x"]);
    }
}

#[test]
fn an_empty_softmax_gives_nothing() {
    let mut c = Case::default();
    let x = c.values("x", &[("j", 2)], vec![f64::NEG_INFINITY; 2]);
    let y = c.b.logsumexp(x, &[name("j")]).unwrap();
    let grads = gradients(&c.b, y, &["x"], &c.given, Remat::Auto).unwrap();
    assert_eq!(grads[0].data, [0.0, 0.0]);
}

#[test]
fn contractions() {
    type Axes<'a> = &'a [(&'a str, usize)];
    let cases: [(Axes<'_>, Axes<'_>, &[&str]); 7] = [
        (&[("i", 2), ("d", 3)], &[("d", 3), ("o", 2)], &["d"]),
        // A vector; a dot product; two axes.
        (&[("i", 2), ("d", 3)], &[("d", 3)], &["d"]),
        (&[("d", 3)], &[("d", 3)], &["d"]),
        (&[("i", 2), ("h", 2), ("d", 3)], &[("o", 2), ("d", 3), ("h", 2)], &["h", "d"]),
        // A batch; a batch that only some share; nothing contracted.
        (&[("b", 2), ("i", 2), ("d", 3)], &[("b", 2), ("d", 3), ("o", 2)], &["d"]),
        (&[("b", 2), ("g", 2), ("d", 3)], &[("b", 2), ("d", 3)], &["d"]),
        (&[("b", 2), ("i", 2)], &[("b", 2), ("o", 3)], &[]),
    ];
    for (p, q, over) in cases {
        let mut c = Case::default();
        let p = c.input("p", p);
        let q = c.input("q", q);
        let over: Vec<Name> = over.iter().map(|n| name(n)).collect();
        let y = c.b.contract(p, q, &over, DType::F32).unwrap();
        c.check(y, &["p", "q"]);
    }
}

#[test]
fn a_matrix_times_its_transpose() {
    let mut c = Case::default();
    let x = c.input("x", &[("i", 2), ("d", 3)]);
    let t = c.b.rename(x, &[(name("i"), name("j"))]).unwrap();
    let y = c.b.contract(x, t, &[name("d")], DType::F32).unwrap();
    c.check(y, &["x"]);
    let y = c.b.contract(x, x, &[name("d")], DType::F32).unwrap();
    c.check(y, &["x"]);
}

#[test]
fn an_unused_weight_has_zeros_with_its_axes() {
    let mut c = Case::default();
    c.input("w", &[("i", 2), ("j", 2)]);
    let x = c.input("x", &[("i", 2)]);
    c.check(x, &["w", "x"]);
}

#[test]
fn collectives_have_transposes() {
    let mut c = Case::default();
    let x = c.input("x", &[("i", 3)]);
    let mesh = vec![name("data")];
    let axis = name("i");
    for (op, back) in [
        (Collective::AllReduce(mesh.clone()), Collective::AllReduce(mesh.clone())),
        (
            Collective::AllGather { mesh: mesh.clone(), axis: axis.clone() },
            Collective::ReduceScatter { mesh, axis },
        ),
    ] {
        let y = c.b.raw(Op::Collective(op), vec![x], ty(&[("i", 3)]));
        c.check(y, &["x"]);
        let loss = c.loss(y);
        let mut b = c.b.clone();
        differentiate(&mut b, loss, &[x], Remat::Auto).unwrap();
        assert!(b.graph.nodes.iter().any(|n| n.op == Op::Collective(back.clone())));
    }
}
