//! An index must not reach past its axis.
//!
//! Reading outside an axis gives 0 (as a convolution wants it at the ends of a row), so a table that is too small would train in silence:
//! a vocabulary smaller than the tokenizer's, learned positions for shorter rows. Here `pick` asks, while a training run is traced, which
//! values its index has. Known are the ids of a tokenizer, positions of rows, constants, and what is made of these by steps whose ends are
//! the ends of the result; everything else is not judged.
//!
//! *Judged are* indices of tokens into anything, and positions and constants that lie behind the end where there is no `outside = ..`:
//! positions in a weight only, since a window over the row itself may hang over. What lies before the start is not judged: a mask often
//! hides it.

use crate::check::eval::Eval;
use crate::graph::{Affine, Axis, BinOp, NodeId, Op, Role, UnOp};
use crate::problem::Problem;
use crate::source::Span;

/// What the columns of the rows at hand hold.
#[derive(Debug, Clone)]
pub struct Held {
    /// The node that made the ids.
    pub tokenizer: String,
    /// Where it is declared.
    pub span: Span,
    /// How many ids it has; `None`: known only once it is made.
    pub tokens: Option<usize>,
}

/// Where an index comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Of {
    Constant,
    Positions,
    Tokens,
}

/// The values that an index may have; `high` may be infinite for tokens that are not counted yet.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Values {
    low: f64,
    high: f64,
    of: Of,
}

impl Values {
    fn map(self, f: impl Fn(f64) -> f64) -> Self {
        let (a, b) = (f(self.low), f(self.high));
        Self { low: a.min(b), high: a.max(b), ..self }
    }

    fn join(self, other: Self) -> Self {
        let of = self.of.max(other.of);
        Self { low: self.low.min(other.low), high: self.high.max(other.high), of }
    }
}

impl Eval<'_> {
    /// E0424 if `index` reaches past `axis` of `x`. `window`: the index as a sum of positions, if it is one; `open`: the program says what
    /// is read outside.
    pub(super) fn reaches(
        &mut self,
        x: NodeId,
        axis: &Axis,
        index: NodeId,
        window: Option<&Affine>,
        open: bool,
        span: Span,
    ) -> bool {
        if self.trace.as_ref().is_none_or(|t| t.held.is_none()) {
            return true;
        }
        let level = self.t().depth() as usize;
        let values = match window {
            Some(affine) => self.along(level, index, affine),
            None => self.values(level, index),
        };
        let Some(values) = values else { return true };
        let judged = match values.of {
            Of::Tokens => true,
            Of::Positions => !open && self.is_weight(level, x),
            Of::Constant => !open,
        };
        if !judged {
            return true;
        }
        if values.high.is_infinite() {
            let least = self.least_room.map_or(axis.size, |known| known.min(axis.size));
            self.least_room = Some(least);
            return true;
        }
        if values.high < axis.size as f64 {
            return true;
        }
        self.too_far(axis, values, span);
        false
    }

    fn too_far(&mut self, axis: &Axis, values: Values, span: Span) {
        let Some(held) = self.t().held.clone() else { return };
        let (name, size, high) = (axis.name.as_str(), axis.size, values.high);
        let s = if size == 1 { "" } else { "s" };
        let need = high + 1.0;
        let (text, help) = match values.of {
            Of::Tokens => (
                format!(
                    "`{name}` has {size} place{s}, but the tokenizer `{}` has {need} tokens",
                    held.tokenizer
                ),
                format!("write `{name} = {}.vocab`; a larger number is fine", held.tokenizer),
            ),
            Of::Positions => {
                let seq = self.t().axes["seq"].axis.size;
                let text = format!(
                    "`{name}` has {size} place{s}, but positions go up to {high}: rows have `seq` = {seq}"
                );
                (
                    text,
                    format!("make `{name}` at least {need}, or rows shorter: `pack(seq = {size})`"),
                )
            }
            Of::Constant => (
                format!("`{name}` has {size} place{s}, there is none at {high}"),
                format!("places are counted from 0: the last is {}", size - 1),
            ),
        };
        let origin = self.t().axes.get(name).and_then(|a| a.origin);
        let mut p = Problem::new("E0424", span, text);
        // The size is what has to change, where the user's file has it.
        if let Some(origin) = origin.filter(|o| !self.sources.file(o.file).is_std) {
            p = Problem::new("E0424", origin, p.message).at("this is too small");
            p = p.label(span, "read here");
        }
        if values.of == Of::Tokens {
            p = p.label(held.span, format!("these tokens, 0 to {high}"));
        }
        for reason in self.because(&p.message) {
            p = p.help(reason);
        }
        self.problem(p.help(help));
    }

    /// The values of `offset + Σ c pos(axis)`; nothing where terms have different signs, since a mask may leave only some of them.
    fn along(&self, level: usize, index: NodeId, affine: &Affine) -> Option<Values> {
        let graph = &self.trace.as_ref()?.levels[level].b.graph;
        let offset = affine.offset as f64;
        let (mut low, mut high) = (offset, offset);
        for (name, c) in &affine.terms {
            let end = *c as f64 * (graph.ty(index).size(name)? as f64 - 1.0);
            if *c > 0 { high += end } else { low += end }
        }
        let signs = affine.terms.iter().filter(|(_, c)| *c > 0).count();
        let of = if affine.terms.is_empty() { Of::Constant } else { Of::Positions };
        (signs == affine.terms.len()).then_some(Values { low, high, of })
    }

    fn values(&self, level: usize, node: NodeId) -> Option<Values> {
        let trace = self.trace.as_ref()?;
        let graph = &trace.levels[level].b.graph;
        let n = graph.node(node);
        let x = |i: usize| self.values(level, n.inputs[i]);
        match &n.op {
            Op::Const(c) => {
                let c = c.get();
                c.is_finite().then_some(Values { low: c, high: c, of: Of::Constant })
            }
            Op::Pos => {
                let high = n.ty.axes[0].size as f64 - 1.0;
                Some(Values { low: 0.0, high, of: Of::Positions })
            }
            Op::Input(i) => {
                let decl = &graph.inputs[*i as usize];
                match (level, decl.role) {
                    (0, Role::Data) => self.column(decl.name.as_str()),
                    (0, _) => None,
                    (level, _) => self.values(level - 1, trace.outside(level, node)?),
                }
            }
            Op::Cast
            | Op::Expand
            | Op::Rename(_)
            | Op::Split { .. }
            | Op::Merge { .. }
            | Op::Stop => x(0),
            Op::Window { outside, .. } => {
                let v = x(0)?;
                let c = outside.get();
                Some(v.join(Values { low: c, high: c, of: v.of }))
            }
            Op::Gather { .. } => {
                let v = x(0)?;
                Some(v.join(Values { low: 0.0, high: 0.0, of: v.of }))
            }
            Op::Unary(UnOp::Neg) => Some(x(0)?.map(|v| -v)),
            Op::Unary(UnOp::Floor) => Some(x(0)?.map(f64::floor)),
            Op::Binary(op) => {
                let (a, b) = (x(0)?, x(1)?);
                match (a.of, b.of) {
                    (_, Of::Constant) => with_constant(*op, a, b.low),
                    (Of::Constant, _) => match op {
                        BinOp::Add | BinOp::Mul | BinOp::Min | BinOp::Max => {
                            with_constant(*op, b, a.low)
                        }
                        BinOp::Sub => Some(b.map(|v| a.low - v)),
                        _ => None,
                    },
                    (_, _) => None,
                }
            }
            _ => None,
        }
    }

    fn column(&self, name: &str) -> Option<Values> {
        let trace = self.trace.as_ref()?;
        let held = trace.held.as_ref()?;
        match name {
            "ids" | "target" => {
                let high = held.tokens.map_or(f64::INFINITY, |n| n as f64 - 1.0);
                Some(Values { low: 0.0, high, of: Of::Tokens })
            }
            "doc_pos" => {
                let high = trace.axes.get("seq")?.axis.size as f64 - 1.0;
                Some(Values { low: 0.0, high, of: Of::Positions })
            }
            _ => None,
        }
    }

    /// True for a weight, whole or in part, in whatever order of axes.
    fn is_weight(&self, level: usize, node: NodeId) -> bool {
        let Some(trace) = &self.trace else { return false };
        let graph = &trace.levels[level].b.graph;
        let n = graph.node(node);
        match &n.op {
            Op::Input(i) if level == 0 => graph.inputs[*i as usize].role == Role::Weight,
            Op::Input(_) => {
                trace.outside(level, node).is_some_and(|outer| self.is_weight(level - 1, outer))
            }
            Op::Cast
            | Op::Expand
            | Op::Rename(_)
            | Op::Split { .. }
            | Op::Merge { .. }
            | Op::Stop => self.is_weight(level, n.inputs[0]),
            _ => false,
        }
    }
}

/// `a op c`.
fn with_constant(op: BinOp, a: Values, c: f64) -> Option<Values> {
    match op {
        BinOp::Add => Some(a.map(|v| v + c)),
        BinOp::Sub => Some(a.map(|v| v - c)),
        BinOp::Mul if c != 0.0 => Some(a.map(|v| v * c)),
        BinOp::Div if c != 0.0 => Some(a.map(|v| v / c)),
        BinOp::Min => Some(a.map(|v| v.min(c))),
        BinOp::Max => Some(a.map(|v| v.max(c))),
        BinOp::Mod if c > 0.0 && a.low >= 0.0 => {
            let high = if a.high < c { a.high } else { (c - 1.0).max(0.0) };
            Some(Values { low: 0.0, high, ..a })
        }
        _ => None,
    }
}
