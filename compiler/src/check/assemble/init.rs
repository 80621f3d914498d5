//! The graph that fills weights and states.

use std::rc::Rc;

use indexmap::IndexMap;

use super::TrainParts;
use crate::check::call::Args;
use crate::check::eval::Eval;
use crate::check::trace::{Mode, Slot, conform};
use crate::check::value::{Quantity, Value};
use crate::check::views::View;
use crate::check::weights::fans;
use crate::graph::{DType, Graph, Role, Type};
use crate::problem::Problem;
use crate::programs::{StateInfo, StateStart};

impl Eval<'_> {
    /// Fills weights and states.
    pub fn init_graph(
        &mut self,
        parts: &TrainParts,
        kinds: &IndexMap<String, (Rc<Slot>, View)>,
        states: &[StateInfo],
    ) -> Option<Graph> {
        // The model is placed again so that its axes are known to the initialisers.
        self.start(&parts.model, Mode::Eval, parts.compute, 1, parts.seq)?;
        let mut fine = true;
        for (slot, view) in kinds.values() {
            fine &= self.init_weight(slot, view).is_some();
        }
        for s in states {
            let b = self.t().b();
            let start = match &s.start {
                // Started above, from its own declaration.
                StateStart::Own => continue,
                StateStart::Number(x) => b.constant(*x),
                StateStart::Weight(name) => {
                    let found = b.graph.outputs.iter().find(|o| o.name == *name);
                    found.expect("the weights are filled before the states").node
                }
            };
            let node = conform(b, start, &s.ty);
            b.output(s.name.clone(), node, None);
        }
        let trace = self.trace.take()?;
        if !fine {
            return None;
        }
        Some(trace.levels.into_iter().next()?.b.graph)
    }

    fn init_weight(&mut self, slot: &Rc<Slot>, view: &View) -> Option<()> {
        let mut axes = slot.stack.clone();
        axes.extend(slot.axes.iter().cloned());
        let ty = Type::new(DType::F32, axes.clone());
        let (fan_in, fan_out) = fans(slot, view);
        self.init_path = Some(slot.name.clone());
        self.init_axes = axes;
        let frame = slot.scope.inner();
        frame.bind("fan_in", Self::plain(fan_in as f64));
        frame.bind("fan_out", Self::plain(fan_out as f64));
        let value = match &slot.init {
            Some(e) => self.expr(&frame, e),
            None if slot.role == Role::State => Self::plain(0.0),
            None if view.contracted.is_some() && !view.disagrees && !view.gathered => {
                // The default: normal with standard deviation 1 / sqrt(fan_in).
                let std = Quantity::plain(1.0 / (fan_in as f64).sqrt());
                let args = Args {
                    positional: vec![
                        (Self::plain(0.0), slot.span),
                        (Value::Number(std), slot.span),
                    ],
                    ..Default::default()
                };
                self.op(&frame, "normal", &[], args, slot.span)
            }
            None => self.problem(
                Problem::new(
                    "E0421",
                    slot.span,
                    format!("the weight `{}` needs an initialiser", slot.name),
                )
                .help("only a weight that is contracted by `dot` has a default; write `= 1` or `= normal(0, 0.02)`"),
            ),
        };
        self.init_path = None;
        let node = self.tensor_node(value, slot.span)?;
        let extra = {
            let b = self.t().b();
            let have = b.ty(node).axes.clone();
            have.into_iter().find(|a| ty.find(&a.name).is_none())
        };
        if let Some(a) = extra {
            let text =
                format!("the initialiser of `{}` has the axis `{}` too many", slot.name, a.name);
            self.problem(Problem::new("E0403", slot.span, text));
            return None;
        }
        let b = self.t().b();
        let node = conform(b, node, &ty);
        b.output(slot.name.as_str(), node, None);
        Some(())
    }
}
