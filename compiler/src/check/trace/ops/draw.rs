//! Draws: counter-based, so that a number depends on its stream and its coordinates alone.

use std::rc::Rc;

use crate::check::call::Args;
use crate::check::eval::Eval;
use crate::check::value::{Quantity, Tensor, Value};
use crate::graph::build::Misfit;
use crate::graph::{Axis, BinOp, Dist, NodeId};
use crate::problem::Problem;
use crate::source::Span;
use crate::syntax::ast::BinaryOp;

impl Eval<'_> {
    /// `uniform(like = x)`, `normal(like = x)`; in an initialiser `normal(mean, std)`, `uniform(a, b)` over the weight's axes.
    pub(super) fn draw(&mut self, name: &'static str, args: Args, span: Span) -> Value {
        if self.trace.is_none() {
            return self.problem(Problem::new("E0310", span, format!("`{name}` draws tensors")));
        }
        let dist = if name == "uniform" { Dist::Uniform } else { Dist::Normal };
        if let Some((like, _)) = args.named.get("like") {
            let Some(x) = self.tensor_node(like.clone(), span) else { return Value::Error };
            let axes = self.t().b().ty(x).axes.clone();
            let path = self.t().path();
            let ordinal = self.t().draws.entry(path.clone()).or_insert(0);
            *ordinal += 1;
            let stream = stream("noise", &path, *ordinal);
            return self.draw_over(dist, stream, &axes, span);
        }
        // An initialiser: its target axes are bound by the caller.
        let Some(Value::List(target)) = self.init_target() else {
            return self.problem(Problem::new(
                "E0310",
                span,
                format!("`{name}` needs a shape: `{name}(like = x)`"),
            ));
        };
        let Value::Text(path) = &target[0] else { return Value::Error };
        let stream = stream("init", path, 1);
        let axes = self.init_axes.clone();
        let draw = self.draw_over(dist, stream, &axes, span);
        let value = |i: usize, or: f64| {
            args.positional.get(i).map_or(Value::Number(Quantity::plain(or)), |(v, _)| v.clone())
        };
        let (a, b) = (value(0, 0.0), value(1, 1.0));
        let scale = match dist {
            Dist::Normal => b,
            Dist::Uniform => self.binary(BinaryOp::Sub, b, a.clone(), span),
        };
        let scaled = self.binary(BinaryOp::Mul, draw, scale, span);
        self.binary(BinaryOp::Add, scaled, a, span)
    }

    /// A draw for every element of the axes: counters are the row-major index over the layer's own axes (`batch` and `seq` by
    /// global coordinate), the index over the axes of the scans around, and 0.
    fn draw_over(&mut self, dist: Dist, stream: u64, axes: &[Axis], span: Span) -> Value {
        let mut index: Option<NodeId> = None;
        let outer: Vec<Axis> = self.t().levels.iter().filter_map(|l| l.axis.clone()).collect();
        let linear = |this: &mut Self, axes: &[Axis]| -> Result<Option<NodeId>, Misfit> {
            let mut index: Option<NodeId> = None;
            for a in axes {
                let level = this
                    .t()
                    .levels
                    .iter()
                    .position(|l| l.axis.as_ref().is_some_and(|x| x.name == a.name));
                let at = level.map_or(this.t().levels.len() - 1, |l| l - 1);
                let pos = this.t().levels[at].b.pos(a);
                let pos = this.t().here(Tensor { level: at as u32, node: pos });
                let b = this.t().b();
                index = Some(match index {
                    None => pos,
                    Some(i) => {
                        let n = b.integer(a.size as i64);
                        let i = b.binary(BinOp::Mul, i, n)?;
                        b.binary(BinOp::Add, i, pos)?
                    }
                });
            }
            Ok(index)
        };
        let mut sorted: Vec<Axis> = axes.to_vec();
        sorted.sort_by_key(|a| usize::from(a.name != "batch"));
        let mut layer = None;
        for (slot, list) in [(&mut index, &sorted), (&mut layer, &outer)] {
            match linear(self, list) {
                Ok(i) => *slot = i,
                Err(m) => return self.misfit(m, span),
            }
        }
        let zero = self.t().b().integer(0);
        let counters = [index.unwrap_or(zero), layer.unwrap_or(zero), zero];
        let built = self.t().b().random(dist, stream, counters);
        self.built(built, span)
    }

    fn init_target(&self) -> Option<Value> {
        let path = self.init_path.clone()?;
        Some(Value::List(Rc::new(vec![Value::Text(path.as_str().into())])))
    }
}

/// The stream of a draw: purpose, layer path, ordinal (FNV-1a, stable across platforms).
pub fn stream(purpose: &str, path: &str, ordinal: u32) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in format!("{purpose}\0{path}\0{ordinal}").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}
