//! States that begin as weights: an average of weights beside the last ones, and what an optimizer's `state` says it starts with.

use super::eval::{Eval, describe};
use super::trace::Slot;
use super::value::{Program, Value};
use crate::graph::{BinOp, DType, Name, Role, Type};
use crate::problem::Problem;
use crate::programs::{StateInfo, StateStart, WeightInfo};
use crate::syntax::ast::{ExprKind, WeightDecl};

/// The averages of weights are stored under their names behind this.
pub const AVERAGE: &str = "average:";

impl Eval<'_> {
    /// a := decay * a + (1 - decay) * w for each weight, behind the optimizer's step (Polyak and Juditsky 1992, in its exponential
    /// form). The average begins as the weight itself, so no correction of its start is needed.
    pub(super) fn average_weights(
        &mut self,
        decay: f64,
        weights: &[WeightInfo],
        states: &mut Vec<StateInfo>,
    ) -> Option<()> {
        for w in weights {
            let name = w.name.as_str();
            let b = self.t().b();
            // A frozen weight has no output; its average is the weight, which needs no storage of its own.
            let Some(new) = b.graph.outputs.iter().find(|o| o.name == w.name).map(|o| o.node)
            else {
                continue;
            };
            let ty = Type::new(DType::F32, b.ty(new).axes.clone());
            let storage = format!("{AVERAGE}{name}");
            b.path = Some(Name::from(storage.as_str()));
            let old = b.input(storage.as_str(), ty.clone(), Role::State);
            let (keep, add) = (b.constant(decay), b.constant(1.0 - decay));
            let kept = b.binary(BinOp::Mul, old, keep).ok()?;
            let added = b.binary(BinOp::Mul, new, add).ok()?;
            let sum = b.binary(BinOp::Add, kept, added).ok()?;
            b.output(storage.as_str(), sum, Some(&storage));
            b.path = None;
            let start = StateStart::Weight(w.name.clone());
            states.push(StateInfo { name: Name::from(storage.as_str()), ty, start });
        }
        Some(())
    }

    /// What `state r[out] = 0` or `state avg = w` of an optimizer starts with: a number, or the weight itself.
    pub(super) fn optimizer_state_start(
        &mut self,
        d: &WeightDecl,
        program: &Program,
        slot: &Slot,
    ) -> Option<StateStart> {
        let Some(e) = &d.init else { return Some(StateStart::Number(0.0)) };
        let update = super::call::method(&program.def, "update");
        let weight = update.and_then(|u| u.params.first()).map(|p| p.name.name.as_str());
        if let ExprKind::Name(name) = &*e.kind
            && Some(name.as_str()) == weight
            && d.axes.is_empty()
        {
            return Some(StateStart::Weight(Name::from(slot.name.as_str())));
        }
        let frame = self.program_frame(program);
        match self.expr(&frame, e) {
            Value::Number(q) => Some(StateStart::Number(q.value)),
            Value::Error => None,
            other => {
                let text = format!(
                    "the state `{}` of an optimizer starts with a number or the weight, this is {}",
                    d.name.name,
                    describe(&other)
                );
                let p = Problem::new("E0423", e.span, text);
                self.problem(p.help(match weight {
                    Some(w) => format!(
                        "for example `state {} = 0` or `state {} = {w}`",
                        d.name.name, d.name.name
                    ),
                    None => format!("for example `state {} = 0`", d.name.name),
                }));
                None
            }
        }
    }
}
