//! Random graphs, for properties that must hold of all graphs.
//!
//! Takes a seed, gives a verified graph with all kinds of operations and tensors for its inputs. The same seed gives the same
//! graph. Values are small multiples of 1/8, so that ties and exact roundings happen; what jumps (comparisons,
//! choices, roundings, reciprocals) is applied only to values that no rewriting changes in the last bits.

use indexmap::IndexMap;

use super::build::{Builder, Built};
use super::interp::Tensor;
use super::{
    Affine, Attention, Axis, BinOp, DType, Dist, Expr, Graph, Inst, Literal, Name, NodeId, Op,
    ReduceOp, Role, Runtime, ScanKind, Type, UnOp,
};

/// A graph of about `size` random nodes, and values for its inputs.
pub fn random_graph(seed: u64, size: usize) -> (Graph, IndexMap<Name, Tensor>) {
    let mut g = Random { b: Builder::new(), dice: Dice(seed), nodes: Vec::new(), fresh: 0 };
    for i in 0..4 {
        let ty = Type::new(DType::F32, g.axes(3));
        g.input(format!("x{i}"), ty, Role::Data);
    }
    let ints = Type::new(DType::I32, g.axes(1));
    g.input("n".into(), ints, Role::Data);
    g.input("keys".into(), Type::new(DType::F32, vec![axis("key", 3), axis("i", 2)]), Role::Data);
    g.input("values".into(), Type::new(DType::F32, vec![axis("key", 3), axis("j", 3)]), Role::Data);
    g.grow(size, true);
    g.outputs();
    let given = g.b.graph.inputs.clone();
    let given = given.into_iter().map(|decl| (decl.name.clone(), g.dice.tensor(&decl.ty)));
    let given = given.collect();
    (g.b.graph, given)
}

/// A stream of random numbers (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// One of some.
    pub fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// Values for an input: multiples of 1/8 up to 2; integers 0..=4; truth values.
    pub fn tensor(&mut self, ty: &Type) -> Tensor {
        Tensor::of(ty, |_| match ty.dtype {
            DType::F32 | DType::Bf16 | DType::F16 => (self.below(33) as f64 - 16.0) / 8.0,
            DType::I32 => self.below(5) as f64,
            DType::Bool => self.below(2) as f64,
        })
    }
}

struct Random {
    b: Builder,
    dice: Dice,
    // With: no rewriting changes its last bits.
    nodes: Vec<(NodeId, bool)>,
    fresh: usize,
}

fn axis(name: &str, size: usize) -> Axis {
    Axis { name: name.into(), size }
}

impl Random {
    fn input(&mut self, name: String, ty: Type, role: Role) {
        let node = self.b.input(name, ty, role);
        self.nodes.push((node, true));
    }

    fn axes(&mut self, most: usize) -> Vec<Axis> {
        let all = [axis("i", 2), axis("j", 3), axis("k", 4), axis("t", 3), axis("u", 1)];
        let mut axes: Vec<Axis> = Vec::new();
        for _ in 0..self.dice.below(most + 1) {
            let axis = self.dice.one(&all);
            if !axes.contains(&axis) {
                axes.push(axis);
            }
        }
        axes
    }

    fn name(&mut self) -> Name {
        self.fresh += 1;
        Name::from(format!("a{}", self.fresh))
    }

    fn grow(&mut self, size: usize, loops: bool) {
        let kinds = if loops { 31 } else { 29 };
        let goal = self.b.graph.nodes.len() + size;
        for _ in 0..20 * size {
            if self.b.graph.nodes.len() >= goal {
                break;
            }
            let kind = self.dice.below(kinds);
            // What does not fit is not built.
            let Some((node, exact)) = self.node(kind) else { continue };
            if self.b.ty(node).len() <= 512 {
                self.nodes.push((node, exact));
            }
        }
    }

    fn outputs(&mut self) {
        let n = self.nodes.len();
        let mut outputs: Vec<NodeId> = self.nodes[n - n.min(3)..].iter().map(|n| n.0).collect();
        outputs.push(self.any().0);
        for (i, node) in outputs.into_iter().enumerate() {
            self.b.output(format!("y{i}"), node, None);
        }
    }

    fn any(&mut self) -> (NodeId, bool) {
        let n = self.nodes.len();
        // Later ones more often, so that graphs grow deep.
        let i = self.dice.below(n).max(self.dice.below(n));
        self.nodes[i]
    }

    fn exact(&mut self) -> NodeId {
        let exact: Vec<NodeId> = self.nodes.iter().filter(|n| n.1).map(|n| n.0).collect();
        self.dice.one(&exact)
    }

    fn float(&mut self) -> Option<(NodeId, bool)> {
        let x = self.any();
        self.b.ty(x.0).dtype.is_float().then_some(x)
    }

    fn axis_of(&mut self, x: NodeId) -> Option<Axis> {
        let axes = self.b.ty(x).axes.clone();
        (!axes.is_empty()).then(|| self.dice.one(&axes))
    }

    fn some_axes(&mut self, x: NodeId) -> Vec<Name> {
        let axes = self.b.ty(x).axes.clone();
        axes.iter().filter(|_| self.dice.below(2) == 0).map(|a| a.name.clone()).collect()
    }

    fn node(&mut self, kind: usize) -> Option<(NodeId, bool)> {
        let made = |built: Built| built.ok().map(|node| (node, false));
        match kind {
            0 => {
                let value = self.dice.one(&[0.0, 1.0, -1.0, 2.0, 0.5, 3.0]);
                Some((self.b.constant(value), true))
            }
            1 => {
                let value = self.dice.below(3) as i64;
                Some((self.b.integer(value), true))
            }
            2 => {
                let axis = self.axes(1).first().cloned()?;
                Some((self.b.pos(&axis), true))
            }
            3 => {
                let what = self.dice.one(&[Runtime::Step, Runtime::Share]);
                Some((self.b.runtime(what), true))
            }
            4 => {
                let (zero, x) = (self.b.integer(0), self.exact());
                let at = if self.b.ty(x).dtype == DType::I32 { x } else { zero };
                let dist = self.dice.one(&[Dist::Uniform, Dist::Normal]);
                let draw = self.b.random(dist, 3, [zero, at, zero]).ok()?;
                Some((draw, true))
            }
            5..=7 => {
                let smooth = [UnOp::Neg, UnOp::Abs, UnOp::Exp, UnOp::Sqrt, UnOp::Rsqrt]
                    .into_iter()
                    .chain([UnOp::Sin, UnOp::Cos, UnOp::Tanh, UnOp::Erf, UnOp::Sigmoid])
                    .chain([UnOp::Log, UnOp::Recip, UnOp::Neg]);
                let op = self.dice.one(&smooth.collect::<Vec<_>>());
                let (mut x, exact) = self.any();
                if matches!(op, UnOp::Recip | UnOp::Rsqrt) {
                    x = self.positive(x)?;
                }
                Some((self.b.unary(op, x), exact && matches!(op, UnOp::Neg | UnOp::Abs)))
            }
            8 => {
                let jumps = [UnOp::Floor, UnOp::Ceil, UnOp::Round, UnOp::Sign, UnOp::Not];
                let (op, x) = (self.dice.one(&jumps), self.exact());
                Some((self.b.unary(op, x), true))
            }
            9..=13 => {
                let smooth = [BinOp::Add, BinOp::Sub, BinOp::Mul, BinOp::Div, BinOp::Add]
                    .into_iter()
                    .chain([BinOp::Mul, BinOp::Min, BinOp::Max]);
                let op = self.dice.one(&smooth.collect::<Vec<_>>());
                let ((a, _), (mut b, _)) = (self.any(), self.any());
                if op == BinOp::Div {
                    b = self.positive(b)?;
                }
                made(self.b.binary(op, a, b))
            }
            14 => {
                let jumps = [BinOp::Lt, BinOp::Le, BinOp::Eq, BinOp::Ne, BinOp::And, BinOp::Or];
                let (op, a, b) = (self.dice.one(&jumps), self.exact(), self.exact());
                Some((self.b.binary(op, a, b).ok()?, true))
            }
            15 => {
                let power = self.dice.one(&[1.0, 2.0, 2.0, 3.0]);
                let ((mut x, _), power) = (self.any(), self.b.constant(power));
                if self.dice.below(2) == 0 {
                    x = self.positive(x)?;
                }
                made(self.b.binary(BinOp::Pow, x, power))
            }
            16 => {
                let (c, (a, _), (b, _)) = (self.exact(), self.any(), self.any());
                made(self.b.select(c, a, b))
            }
            17 => {
                let dtypes = [DType::F32, DType::Bf16, DType::F16, DType::I32, DType::F32];
                let (dtype, x) = (self.dice.one(&dtypes), self.exact());
                Some((self.b.cast(x, dtype), true))
            }
            18 => {
                let ((x, exact), axes) = (self.any(), self.axes(2));
                Some((self.b.expand(x, &axes), exact))
            }
            19 => {
                let (x, exact) = self.any();
                let old = self.axis_of(x)?;
                let new = if self.dice.below(3) == 0 { old.name.clone() } else { self.name() };
                Some((self.b.rename(x, &[(old.name, new)]).ok()?, exact))
            }
            20 => {
                let (x, exact) = self.any();
                let axis = self.axis_of(x)?;
                let first = if axis.size % 2 == 0 { 2 } else { 1 };
                let into = [(first, self.name()), (axis.size / first, self.name())];
                let into = into.map(|(size, name)| Axis { name, size });
                let parts = if axis.size == 1 { &into[..1] } else { &into[..] };
                let parts: Vec<Axis> = if self.dice.below(4) == 0 {
                    vec![Axis { name: parts[0].name.clone(), size: axis.size }]
                } else {
                    parts.to_vec()
                };
                Some((self.b.split(x, &axis.name, &parts).ok()?, exact))
            }
            21 => {
                let (x, exact) = self.any();
                let (axes, into) = (self.some_axes(x), self.name());
                if axes.is_empty() {
                    return None;
                }
                Some((self.b.merge(x, &axes, &into).ok()?, exact))
            }
            22 => {
                let (x, exact) = self.any();
                let axis = self.axis_of(x)?;
                let new = Axis { name: self.name(), size: axis.size };
                let step = self.dice.one(&[1, 1, -1, 2]);
                let offset = self.dice.below(3) as i64 - 1;
                let index = Affine { terms: vec![(new.name.clone(), step)], offset };
                let fixed = Affine { terms: vec![], offset };
                let built = if self.dice.below(3) == 0 {
                    self.b.window(x, &axis.name, fixed, &[], 0.0)
                } else {
                    self.b.window(x, &axis.name, index, &[new], 1.0)
                };
                Some((built.ok()?, exact))
            }
            23 => {
                let ((x, exact), index) = (self.any(), self.exact());
                let axis = self.axis_of(x)?;
                if self.b.ty(index).dtype != DType::I32 {
                    return None;
                }
                let rows = self.b.gather(x, &axis.name, index).ok()?;
                if self.dice.below(2) == 0 || !self.b.ty(x).dtype.is_float() {
                    return Some((rows, exact));
                }
                let ty = Type::new(DType::F32, self.b.ty(x).axes.clone());
                let op = Op::ScatterAdd { axis: axis.name };
                Some((self.b.raw(op, vec![rows, index], ty), false))
            }
            24 => {
                let (x, exact) = self.any();
                let axis = self.axis_of(x)?;
                let (parts, into) = (vec![axis.name.clone(); 2], self.name());
                let n = 1 + self.dice.below(2);
                Some((self.b.concat(&[x, x][..n], &parts[..n], &into).ok()?, exact))
            }
            25 => {
                let (x, _) = self.any();
                let over = self.some_axes(x);
                let op = self.dice.one(&[ReduceOp::Sum, ReduceOp::Sum, ReduceOp::Max]);
                if self.dice.below(4) == 0 && !over.is_empty() {
                    return made(self.b.logsumexp(x, &over));
                }
                made(self.b.reduce(op, x, &over))
            }
            26 => {
                let ((a, _), (b, _)) = (self.float()?, self.float()?);
                let shared = self.some_axes(a);
                let shared: Vec<Name> =
                    shared.into_iter().filter(|n| self.b.ty(b).find(n).is_some()).collect();
                made(self.b.contract(a, b, &shared, DType::F32))
            }
            27 => {
                let x = self.exact();
                let axis = self.axis_of(x)?;
                let built = match self.dice.below(4) {
                    0 => self.b.argsort(x, &axis.name),
                    1 => {
                        let reverse = self.dice.below(2) == 0;
                        return made(self.b.cumsum(x, &axis.name, reverse));
                    }
                    _ => self.b.topk(x, &axis.name, 1 + self.dice.below(axis.size)),
                };
                Some((built.ok()?, true))
            }
            28 => {
                let (x, exact) = self.any();
                Some((self.b.stop(x), exact))
            }
            29 => self.attention(),
            _ => self.scan(),
        }
    }

    // |x| + 1/8: the sign of a zero, which no rule promises, must not decide between two infinities.
    fn positive(&mut self, x: NodeId) -> Option<NodeId> {
        let (x, eighth) = (self.b.unary(UnOp::Abs, x), self.b.constant(0.125));
        self.b.binary(BinOp::Add, x, eighth).ok()
    }

    fn attention(&mut self) -> Option<(NodeId, bool)> {
        let (q, _) = self.float()?;
        let (i, key) = (Name::from("i"), Name::from("key"));
        if self.b.ty(q).find(&i).is_none() || self.b.ty(q).find(&key).is_some() {
            return None;
        }
        let [keys, values] = ["keys", "values"]
            .map(|n| self.b.graph.inputs.iter().position(|d| d.name == n).map(|at| at as u32));
        let [keys, values] = [keys?, values?].map(|n| {
            let ty = self.b.graph.inputs[n as usize].ty.clone();
            self.b.raw(Op::Input(n), vec![], ty)
        });
        let mut mask = Expr { insts: vec![], result: 0 };
        let (at, limit) = (mask.push(Inst::Pos(0)), self.dice.below(4) as f64);
        let limit = mask.push(Inst::Const(Literal::new(limit)));
        mask.result = mask.push(Inst::Binary(BinOp::Lt, at, limit));
        let mut score = Expr::arg(0);
        score.result = score.push(Inst::Unary(UnOp::Tanh, 0));
        let attention = Attention {
            over: i,
            key: key.clone(),
            scale: Literal::new(0.5),
            score,
            mask,
            pos: vec![key],
        };
        let both = self.b.attention(attention, q, keys, values, &[], DType::F32).ok()?;
        Some((if self.dice.below(3) == 0 { both.1 } else { both.0 }, false))
    }

    fn scan(&mut self) -> Option<(NodeId, bool)> {
        let t = if self.dice.below(4) == 0 { axis("u", 1) } else { axis("t", 3) };
        let ((x, _), (c, _), (h, _)) = (self.float()?, self.any(), self.float()?);
        if self.b.ty(x).find(&t.name).is_none() || self.b.ty(h).find(&t.name).is_some() {
            return None;
        }
        let mut body = Random {
            b: Builder::new(),
            dice: Dice(self.dice.bits()),
            nodes: Vec::new(),
            fresh: self.fresh + 1000,
        };
        let mut slice = self.b.ty(x).clone();
        slice.axes.retain(|a| a.name != t.name);
        let carried = Type::new(DType::F32, self.b.ty(h).axes.clone());
        body.input("h".into(), carried.clone(), Role::Local);
        body.input("g".into(), carried.clone(), Role::Local);
        body.input("x".into(), slice, Role::Local);
        body.input("c".into(), self.b.ty(c).clone(), Role::Local);
        let (other, _) = if self.dice.below(2) == 0 { (c, true) } else { self.any() };
        body.input("e".into(), self.b.ty(other).clone(), Role::Local);
        let size = 3 + self.dice.below(8);
        body.grow(size, false);
        self.fresh = body.fresh;
        // A carry is renewed by something of its type, mixed from any value of the body.
        let mut renew = |old: NodeId, body: &mut Self| -> Option<()> {
            let (y, _) = body.any();
            let extra: Vec<Name> = body
                .b
                .ty(y)
                .axes
                .iter()
                .filter(|a| carried.find(&a.name).is_none())
                .map(|a| a.name.clone())
                .collect();
            let y = body.b.reduce(ReduceOp::Sum, y, &extra).ok()?;
            let y = body.b.unary(UnOp::Tanh, y);
            let sum = body.b.binary(BinOp::Add, old, y).ok()?;
            let keep = self.dice.below(4) == 0;
            body.b.output("carry", if keep { old } else { sum }, None);
            Some(())
        };
        renew(body.nodes[0].0, &mut body)?;
        renew(body.nodes[1].0, &mut body)?;
        let (stacked, _) = body.any();
        if body.b.ty(stacked).find(&t.name).is_none() {
            body.b.output("stacked", stacked, None);
        }
        let reverse = self.dice.below(2) == 0;
        let h = self.b.cast(h, DType::F32);
        let parts = self
            .b
            .scan(t, reverse, ScanKind::Program, body.b.graph, &[h, h], &[x], &[c, other])
            .ok()?;
        Some((self.dice.one(&parts), false))
    }
}

#[cfg(test)]
mod tests {
    use super::super::interp::{first_step, interpret};
    use super::super::verify::verify;
    use super::*;

    #[test]
    fn random_graphs_are_verified_and_mean_something() {
        for seed in 0..200 {
            let (graph, given) = random_graph(seed, 25);
            verify(&graph).unwrap_or_else(|bug| panic!("seed {seed}: {bug}"));
            assert_eq!(interpret(&graph, &given, &first_step).unwrap().len(), 4);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_graph() {
        assert_eq!(random_graph(5, 20), random_graph(5, 20));
        assert!(random_graph(5, 20).0 != random_graph(6, 20).0);
    }
}
