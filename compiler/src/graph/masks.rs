//! What conditions on positions say: facts of the form `pos(key) <= pos(seq) + shift`.
//!
//! Takes graphs or scalar expressions. A condition is understood if it is made of `and`, `or`, `not` and comparisons of
//! values that are linear in coordinates; of anything else nothing is known. [`outside`] says what holds wherever a value
//! is not zero, or not minus infinity. Each question looks at a bounded number of nodes.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::{BinOp, Expr, Graph, Inst, Literal, Name, NodeId, Op, Runtime, UnOp};

/// `pos(axis) <= pos(by) + shift`, or `pos(axis) <= shift` without `by`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The coordinate that is bounded.
    pub axis: Name,
    /// By which other one; none: by a number.
    pub by: Option<Name>,
    /// How far beyond.
    pub shift: i64,
}

/// `Σ c pos(axis) + r` with `low <= r <= high`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Linear {
    /// The coefficients, none is zero.
    pub terms: BTreeMap<Name, i64>,
    /// The least rest.
    pub low: i64,
    /// The largest rest.
    pub high: i64,
}

/// A node as a linear form, if it is one.
pub fn linear(graph: &Graph, id: NodeId) -> Option<Linear> {
    Source::Node(graph, id, &Cell::new(MOST_STEPS)).linear()
}

/// What holds wherever a node is not that number: 0 or minus infinity.
pub fn outside(graph: &Graph, id: NodeId, number: f64) -> Vec<Fact> {
    unless(Source::Node(graph, id, &Cell::new(MOST_STEPS)), number)
}

/// What holds wherever a condition is true.
pub fn expr_facts(condition: &Expr, pos: &[Name]) -> Vec<Fact> {
    Source::Expr(condition, condition.result, pos, &Cell::new(MOST_STEPS)).facts(true)
}

/// What holds wherever a score is not minus infinity.
pub fn expr_outside(score: &Expr, pos: &[Name]) -> Vec<Fact> {
    let source = Source::Expr(score, score.result, pos, &Cell::new(MOST_STEPS));
    unless(source, f64::NEG_INFINITY)
}

// Values that are used twice are looked at twice: without a bound that doubles at every level.
const MOST_STEPS: u32 = 2000;

// A node of a graph and an instruction of an expression look alike.
#[derive(Clone, Copy)]
enum Source<'a> {
    Node(&'a Graph, NodeId, &'a Cell<u32>),
    Expr(&'a Expr, u32, &'a [Name], &'a Cell<u32>),
}

enum Form<'a> {
    Number(f64),
    Pos(Name),
    Runtime(Runtime),
    Unary(UnOp, Source<'a>),
    Binary(BinOp, Source<'a>, Source<'a>),
    Select(Source<'a>, Source<'a>, Source<'a>),
    // The same number, maybe rounded.
    Same(Source<'a>),
    Renamed(Source<'a>, &'a [(Name, Name)]),
    Other,
}

impl<'a> Source<'a> {
    fn form(self) -> Form<'a> {
        let (Self::Node(.., steps) | Self::Expr(.., steps)) = self;
        if steps.get() == 0 {
            return Form::Other;
        }
        steps.set(steps.get() - 1);
        match self {
            Self::Node(graph, id, _) => {
                let node = graph.node(id);
                let x = |i: usize| Self::Node(graph, node.inputs[i], steps);
                match &node.op {
                    Op::Const(literal) => Form::Number(Literal::get(*literal)),
                    Op::Pos => Form::Pos(node.ty.axes[0].name.clone()),
                    Op::Runtime(what) => Form::Runtime(*what),
                    Op::Unary(op) => Form::Unary(*op, x(0)),
                    Op::Binary(op) => Form::Binary(*op, x(0), x(1)),
                    Op::Select => Form::Select(x(0), x(1), x(2)),
                    Op::Cast | Op::Expand | Op::Stop => Form::Same(x(0)),
                    Op::Rename(pairs) => Form::Renamed(x(0), pairs),
                    Op::Input(_)
                    | Op::Random(..)
                    | Op::Split { .. }
                    | Op::Merge { .. }
                    | Op::Window { .. }
                    | Op::Gather { .. }
                    | Op::ScatterAdd { .. }
                    | Op::Concat { .. }
                    | Op::Update { .. }
                    | Op::Reduce { .. }
                    | Op::LogSumExp { .. }
                    | Op::Contract { .. }
                    | Op::CumSum { .. }
                    | Op::TopK { .. }
                    | Op::ArgSort { .. }
                    | Op::Attention(_)
                    | Op::AttentionGrad { .. }
                    | Op::Scan(_)
                    | Op::Part(_)
                    | Op::Collective(_) => Form::Other,
                }
            }
            Self::Expr(expr, at, pos, _) => {
                let x = |r: &u32| Self::Expr(expr, *r, pos, steps);
                match &expr.insts[at as usize] {
                    Inst::Const(literal) => Form::Number(literal.get()),
                    Inst::Pos(i) => Form::Pos(pos[*i as usize].clone()),
                    Inst::Runtime(what) => Form::Runtime(*what),
                    Inst::Unary(op, a) => Form::Unary(*op, x(a)),
                    Inst::Binary(op, a, b) => Form::Binary(*op, x(a), x(b)),
                    Inst::Select(c, a, b) => Form::Select(x(c), x(a), x(b)),
                    Inst::Cast(_, a) => Form::Same(x(a)),
                    Inst::Arg(_) | Inst::Random(..) => Form::Other,
                }
            }
        }
    }

    fn number(self) -> Option<f64> {
        match self.form() {
            Form::Number(number) => Some(number),
            Form::Same(x) => x.number(),
            Form::Unary(UnOp::Neg, x) => x.number().map(|x| -x),
            Form::Pos(_) | Form::Runtime(_) | Form::Unary(..) | Form::Binary(..) => None,
            Form::Select(..) | Form::Renamed(..) | Form::Other => None,
        }
    }

    fn linear(self) -> Option<Linear> {
        match self.form() {
            Form::Number(number) => {
                let whole = number.fract() == 0.0 && number.abs() < 1e15;
                let n = number as i64;
                whole.then(|| Linear { terms: BTreeMap::new(), low: n, high: n })
            }
            Form::Pos(axis) => Some(Linear { terms: BTreeMap::from([(axis, 1)]), low: 0, high: 0 }),
            // The offset of a decoded position shifts rows and keys alike: coordinates are relative to it.
            Form::Runtime(Runtime::Position) => Some(Linear::default()),
            Form::Same(x) => x.linear(),
            Form::Renamed(x, pairs) => {
                let l = x.linear()?;
                let terms = l.terms.iter().map(|(name, c)| (renamed(name, pairs), *c)).collect();
                Some(Linear { terms, ..l })
            }
            Form::Unary(UnOp::Neg, x) => Some(x.linear()?.times(-1)),
            Form::Binary(BinOp::Add, a, b) => Some(a.linear()?.plus(&b.linear()?)),
            Form::Binary(BinOp::Sub, a, b) => Some(a.linear()?.plus(&b.linear()?.times(-1))),
            Form::Binary(BinOp::Mul, a, b) => {
                let (a, b) = (a.linear()?, b.linear()?);
                let fixed = |l: &Linear| (l.terms.is_empty() && l.low == l.high).then_some(l.low);
                match (fixed(&a), fixed(&b)) {
                    (Some(n), _) => Some(b.times(n)),
                    (None, Some(n)) => Some(a.times(n)),
                    (None, None) => None,
                }
            }
            Form::Runtime(_) | Form::Unary(..) | Form::Binary(..) => None,
            Form::Select(..) | Form::Other => None,
        }
    }

    fn facts(self, truth: bool) -> Vec<Fact> {
        match self.form() {
            Form::Same(x) => x.facts(truth),
            Form::Renamed(x, pairs) => {
                let rename = |f: Fact| Fact {
                    axis: renamed(&f.axis, pairs),
                    by: f.by.map(|by| renamed(&by, pairs)),
                    ..f
                };
                x.facts(truth).into_iter().map(rename).collect()
            }
            Form::Unary(UnOp::Not, x) => x.facts(!truth),
            Form::Binary(op, a, b) => match (op, truth) {
                (BinOp::And | BinOp::Mul, true) => both(a.facts(true), b.facts(true)),
                (BinOp::And | BinOp::Mul, false) => either(&a.facts(false), &b.facts(false)),
                (BinOp::Or, true) => either(&a.facts(true), &b.facts(true)),
                (BinOp::Or, false) => both(a.facts(false), b.facts(false)),
                // a < b is a - b <= -1; not (a < b) is b - a <= 0.
                (BinOp::Lt, true) => below(a, b, -1),
                (BinOp::Lt, false) => below(b, a, 0),
                (BinOp::Le, true) => below(a, b, 0),
                (BinOp::Le, false) => below(b, a, -1),
                (BinOp::Eq, true) | (BinOp::Ne, false) => both(below(a, b, 0), below(b, a, 0)),
                (BinOp::Eq, false) | (BinOp::Ne, true) => Vec::new(),
                (BinOp::Add | BinOp::Sub | BinOp::Div | BinOp::Pow, _) => Vec::new(),
                (BinOp::Min | BinOp::Max | BinOp::Mod, _) => Vec::new(),
            },
            // c ? a : b holds if c and a do, or not c and b.
            Form::Select(c, a, b) => {
                let first = both(c.facts(true), a.facts(truth));
                let second = both(c.facts(false), b.facts(truth));
                match (a.number(), b.number()) {
                    (Some(a), _) if (a != 0.0) != truth => second,
                    (_, Some(b)) if (b != 0.0) != truth => first,
                    (None | Some(_), None | Some(_)) => either(&first, &second),
                }
            }
            Form::Number(_) | Form::Pos(_) | Form::Runtime(_) => Vec::new(),
            Form::Unary(..) | Form::Other => Vec::new(),
        }
    }
}

impl Linear {
    fn plus(mut self, other: &Self) -> Self {
        for (name, c) in &other.terms {
            let sum = self.terms.entry(name.clone()).or_insert(0);
            *sum = sum.saturating_add(*c);
        }
        self.terms.retain(|_, c| *c != 0);
        self.low = self.low.saturating_add(other.low);
        self.high = self.high.saturating_add(other.high);
        self
    }

    fn times(mut self, n: i64) -> Self {
        self.terms.values_mut().for_each(|c| *c = c.saturating_mul(n));
        self.terms.retain(|_, c| *c != 0);
        let (a, b) = (self.low.saturating_mul(n), self.high.saturating_mul(n));
        (self.low, self.high) = (a.min(b), a.max(b));
        self
    }
}

// What holds wherever the value is not `number`.
fn unless(x: Source<'_>, number: f64) -> Vec<Fact> {
    let is = |x: Source<'_>| x.number() == Some(number);
    let zero = number == 0.0;
    match x.form() {
        Form::Same(x) => unless(x, number),
        Form::Renamed(x, pairs) => {
            let rename = |f: Fact| Fact {
                axis: renamed(&f.axis, pairs),
                by: f.by.map(|by| renamed(&by, pairs)),
                ..f
            };
            unless(x, number).into_iter().map(rename).collect()
        }
        Form::Select(c, a, b) => {
            let first = both(c.facts(true), unless(a, number));
            let second = both(c.facts(false), unless(b, number));
            match (is(a), is(b)) {
                (false, true) => first,
                (true, false) => second,
                (true, true) | (false, false) => either(&first, &second),
            }
        }
        Form::Unary(op, x) => match op {
            // exp(-inf) = 0.
            UnOp::Exp if zero => unless(x, f64::NEG_INFINITY),
            UnOp::Log if !zero => unless(x, 0.0),
            op if zero && op != UnOp::Not && op.eval(0.0) == 0.0 => unless(x, 0.0),
            UnOp::Not if zero => x.facts(false),
            _ => Vec::new(),
        },
        Form::Binary(op, a, b) => match op {
            BinOp::Mul if zero => both(unless(a, 0.0), unless(b, 0.0)),
            BinOp::Div if zero => unless(a, 0.0),
            // -inf plus anything finite; times a positive number.
            BinOp::Add if !zero => both(unless(a, number), unless(b, number)),
            BinOp::Sub if !zero => unless(a, number),
            BinOp::Mul if b.number().is_some_and(|n| n > 0.0) => unless(a, number),
            BinOp::Mul if a.number().is_some_and(|n| n > 0.0) => unless(b, number),
            BinOp::Div if b.number().is_some_and(|n| n > 0.0) => unless(a, number),
            op if zero && op.is_bool() => x.facts(true),
            _ => Vec::new(),
        },
        Form::Number(_) | Form::Pos(_) | Form::Runtime(_) | Form::Other => Vec::new(),
    }
}

// a - b <= limit, for linear a and b: a fact for each coordinate with coefficient 1.
fn below(a: Source<'_>, b: Source<'_>, limit: i64) -> Vec<Fact> {
    let (Some(a), Some(b)) = (a.linear(), b.linear()) else { return Vec::new() };
    let diff = a.plus(&b.times(-1));
    let mut facts = Vec::new();
    for (axis, _) in diff.terms.iter().filter(|(_, c)| **c == 1) {
        // pos(axis) <= limit - low - Σ others, where a positive other only helps.
        let others: Vec<(&Name, &i64)> = diff.terms.iter().filter(|(n, _)| *n != axis).collect();
        let negative: Vec<_> = others.iter().filter(|(_, c)| **c < 0).collect();
        let by = match negative.as_slice() {
            [] => None,
            [(name, -1)] => Some((*name).clone()),
            _ => continue,
        };
        facts.push(Fact { axis: axis.clone(), by, shift: limit.saturating_sub(diff.low) });
    }
    facts
}

fn both(mut a: Vec<Fact>, b: Vec<Fact>) -> Vec<Fact> {
    a.extend(b);
    a
}

// What both say, as weakly as the weaker one.
fn either(a: &[Fact], b: &[Fact]) -> Vec<Fact> {
    let weaker = |f: &Fact| {
        let same = b.iter().filter(|g| g.axis == f.axis && g.by == f.by);
        let shift = same.map(|g| g.shift).min()?.max(f.shift);
        Some(Fact { shift, ..f.clone() })
    };
    a.iter().filter_map(weaker).collect()
}

fn renamed(name: &Name, pairs: &[(Name, Name)]) -> Name {
    pairs.iter().find(|(a, _)| a == name).map_or_else(|| name.clone(), |(_, b)| b.clone())
}
