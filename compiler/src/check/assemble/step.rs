//! One optimizer step as one graph: forward, loss, gradients, optimizer, `step()` of layers, measures.

use std::rc::Rc;

use indexmap::IndexMap;

use super::{StepGraph, TrainParts};
use crate::check::call::method;
use crate::check::eval::Eval;
use crate::check::trace::{EmitKind, Mode, Placed, Slot, conform};
use crate::check::value::{Tensor, Value};
use crate::check::views::View;
use crate::graph::grad::differentiate;
use crate::graph::{Axis, BinOp, DType, Name, NodeId, ReduceOp, Role, ScanKind, Type};
use crate::problem::Problem;
use crate::programs::{StateInfo, StateStart, WeightInfo};
use crate::source::Span;
use crate::syntax::ast::{self, ItemKind};

impl Eval<'_> {
    /// One optimizer step.
    pub fn step_graph(
        &mut self,
        parts: &TrainParts,
        micro_rows: usize,
        micro_count: usize,
    ) -> Option<StepGraph> {
        let span = parts.span;
        let kinds = self.weight_views(parts)?;
        let model = self.start_on_rows(parts, Mode::Train, micro_rows)?;
        let micro =
            (micro_count > 1).then(|| Axis { name: Name::from("micro"), size: micro_count });
        let columns = self.columns(micro.as_ref());
        let made = self.traced_step(parts, &model, &columns, micro.as_ref(), &kinds);
        let trace = self.trace.take()?;
        let (weights, states) = made?;
        let mut graph = trace.levels.into_iter().next()?.b.graph;
        graph.outputs.dedup_by(|a, b| a.name == b.name);
        let graph = self.of_some_size(graph, span)?;
        Some(StepGraph { graph, weights, states })
    }

    fn traced_step(
        &mut self,
        parts: &TrainParts,
        model: &Rc<Placed>,
        columns: &IndexMap<String, Tensor>,
        micro: Option<&Axis>,
        kinds: &IndexMap<String, (Rc<Slot>, View)>,
    ) -> Option<(Vec<WeightInfo>, Vec<StateInfo>)> {
        let span = parts.span;
        // How many targets count in the whole step.
        let count = {
            let learn = columns["learn"].node;
            let b = self.t().b();
            let axes: Vec<Name> = b.ty(learn).axes.iter().map(|a| a.name.clone()).collect();
            let total = b.reduce(ReduceOp::Sum, learn, &axes).ok()?;
            let one = b.constant(1.0);
            b.binary(BinOp::Max, total, one).ok()?
        };
        let count = Tensor { level: 0, node: count };
        let rows = self.t().axes["batch"].axis.size * micro.map_or(1, |m| m.size);
        if let Some(m) = micro {
            self.t().open(Some(m.clone()));
        }
        let loss = self.loss(&parts.objective, false, model, columns, span)?;
        let by_rows = self.t().b().ty(loss).find(&Name::from("seq")).is_none();
        let sum = self.loss_sum(loss, columns, span)?;
        let mean = {
            let count =
                if by_rows { self.t().b().constant(rows as f64) } else { self.t().here(count) };
            self.t().b().binary(BinOp::Div, sum, count).ok()?
        };
        let objective = self.with_penalties(mean, rows, span)?;
        let slots: Vec<Rc<Slot>> =
            self.t().slots.values().filter(|s| s.role == Role::Weight).cloned().collect();
        let mut wrt = Vec::new();
        for slot in &slots {
            let t = self.t().slot(slot);
            wrt.push(self.t().here(t));
        }
        let grads = match differentiate(self.t().b(), objective, &wrt, parts.remat) {
            Ok(g) => g,
            Err(bug) => {
                self.problem(bug.problem(span));
                return None;
            }
        };
        let (mean, grads) = match micro {
            None => (mean, grads),
            Some(_) => self.accumulate(mean, &grads)?,
        };
        self.t().b().output("loss", mean, None);
        let emits = std::mem::take(&mut self.t().levels[0].emits);
        let mut measures = IndexMap::new();
        for e in emits {
            if e.kind != EmitKind::Cache
                && let Some(mean) = self.average_emit(&e.name, e.node)
            {
                measures.insert(e.name, mean);
            }
        }
        let (weights, mut states) = self.apply_optimizer(parts, &slots, &grads, kinds)?;
        self.layer_steps(&measures, &mut states, span)?;
        if let Some(decay) = parts.average {
            self.average_weights(decay, &weights, &mut states)?;
        }
        Some((weights, states))
    }

    /// A measure of the step: averaged over micro-batches and rows; stacks keep their axis.
    fn average_emit(&mut self, name: &str, node: NodeId) -> Option<NodeId> {
        let b = self.t().b();
        let over: Vec<Name> = b
            .ty(node)
            .axes
            .iter()
            .map(|a| a.name.clone())
            .filter(|n| *n == "micro" || *n == "batch")
            .collect();
        let count: usize = over.iter().filter_map(|n| b.ty(node).size(n)).product();
        let scale = b.constant(1.0 / count.max(1) as f64);
        let sum = b.reduce(ReduceOp::Sum, node, &over).ok()?;
        let mean = b.binary(BinOp::Mul, sum, scale).ok()?;
        b.output(format!("measure:{name}"), mean, None);
        Some(mean)
    }

    /// Runs the `step()` of every layer that has one, once, after the optimizer: it sees the layer's state and measures, and assigns
    /// states. Copies of a stack are updated together, since their states and measures have the stack's axis.
    fn layer_steps(
        &mut self,
        measures: &IndexMap<String, NodeId>,
        states: &mut Vec<StateInfo>,
        span: Span,
    ) -> Option<()> {
        for (path, def, scope) in self.t().steppers.clone() {
            let Some(step) = method(&def, "step").cloned() else { continue };
            let frame = scope.inner();
            let mut own: Vec<(String, Rc<Slot>)> = Vec::new();
            for (name, v) in scope.0.names.borrow().iter() {
                if let Value::Weight(slot) = v
                    && slot.role == Role::State
                {
                    own.push((name.clone(), slot.clone()));
                }
            }
            for (name, slot) in &own {
                let t = self.t().slot(slot);
                frame.bind(&format!("state {name}"), Value::None);
                frame.bind(name, Value::Tensor(t));
            }
            let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
            for (full, node) in measures {
                if let Some(name) = full.strip_prefix(&prefix)
                    && !name.contains('.')
                {
                    let v = self.wrap(*node);
                    frame.bind(name, v);
                }
            }
            // A step has no value: it is a block whose items are assignments.
            let ast::Body::Block(block) = &step.body else {
                self.problem(Problem::new("E0214", step.span, "`step` is a block of assignments"));
                return None;
            };
            for item in &block.items {
                match &item.kind {
                    ItemKind::Field { path, value } => self.assign(&frame, path, value),
                    ItemKind::Let { pattern, value, .. } => {
                        let v = self.expr(&frame, value);
                        self.bind_pattern(&frame, pattern, v);
                    }
                    _ => {
                        self.problem(Problem::new(
                            "E0211",
                            item.span,
                            "`step` has only assignments to state and `let`",
                        ));
                        return None;
                    }
                }
            }
            for (name, slot) in own {
                let mut axes = slot.stack.clone();
                axes.extend(slot.axes.iter().cloned());
                let ty = Type::new(DType::F32, axes);
                let v = frame.0.names.borrow().get(&name).cloned().unwrap_or(Value::Error);
                let node = self.tensor_node(v, span)?;
                let node = conform(self.t().b(), node, &ty);
                self.t().b().output(slot.name.as_str(), node, Some(&slot.name));
                let name = Name::from(slot.name.as_str());
                let info = StateInfo { name, ty, start: StateStart::Own };
                if !states.contains(&info) {
                    states.push(info);
                }
            }
        }
        Some(())
    }

    /// Closes the loop over micro-batches: the loss and the gradients are summed.
    fn accumulate(&mut self, mean: NodeId, grads: &[NodeId]) -> Option<(NodeId, Vec<NodeId>)> {
        let mut carries = Vec::new();
        let mut next = Vec::new();
        for (i, g) in std::iter::once(&mean).chain(grads).enumerate() {
            let ty = Type::new(DType::F32, self.t().b().ty(*g).axes.clone());
            let inside = self.t().b().input(format!("sum{i}"), ty.clone(), Role::Local);
            next.push(self.t().b().binary(BinOp::Add, inside, *g).ok()?);
            let outer = &mut self.t().levels[0].b;
            let zero = outer.constant(0.0);
            carries.push((inside, conform(outer, zero, &ty)));
        }
        let parts = self.t().close(ScanKind::Micro, false, &carries, &next, &[]).ok()?;
        Some((parts[0], parts[1..].to_vec()))
    }
}
