//! From a checked node to the graphs that run it: forward, loss, gradients, optimizer, caches.
//!
//! One optimizer step is one graph. The batch has axes `[micro, batch, seq]`; with several micro-batches their loop is a scan that carries
//! gradient sums. The number of counted targets of the *whole* step is taken before the loop, so the loss is a mean over the step
//! whatever the micro-batches.

use std::rc::Rc;

use indexmap::IndexMap;

use super::call::method;
use super::eval::{Eval, describe};
use super::trace::{EmitKind, Mode, Placed, PlacedForm, Slot, Trace, conform};
use super::value::{
    BoundAxis, DefKind, LayerValue, Program, Quantity, Record, Scope, Tensor, Value,
};
use super::views::{View, views};
use super::weights::{Matrix, fans, weight_info, weight_row};
use crate::graph::grad::{Remat, differentiate};
use crate::graph::{
    Affine, Axis, BinOp, DType, Graph, Name, NodeId, ReduceOp, Role, Runtime, ScanKind, Type, UnOp,
};
use crate::problem::Problem;
use crate::programs::{StateInfo, StateStart, WeightInfo};
use crate::source::Span;
use crate::syntax::ast::{self, ItemKind, TypeKind};

/// What a training run is made of, as values.
#[derive(Debug, Clone)]
pub struct TrainParts {
    /// The architecture.
    pub model: Rc<LayerValue>,
    /// A program, or a row expression over weights that gives programs.
    pub optimizer: Value,
    /// A loss program or definition.
    pub objective: Value,
    /// Dtype of contractions.
    pub compute: DType,
    /// Positions per row.
    pub seq: usize,
    /// What the backward pass recomputes.
    pub remat: Remat,
    /// The decay of the average of weights, if there is one.
    pub average: Option<f64>,
    /// Blame.
    pub span: Span,
}

/// The graphs of a step.
#[derive(Debug)]
pub struct StepGraph {
    /// The graph.
    pub graph: Graph,
    /// Trained weights.
    pub weights: Vec<WeightInfo>,
    /// Moments and layer states.
    pub states: Vec<StateInfo>,
}

/// Columns of a packed batch and their dtypes.
const COLUMNS: &[(&str, DType)] = &[
    ("ids", DType::I32),
    ("target", DType::I32),
    ("learn", DType::F32),
    ("doc", DType::I32),
    ("doc_pos", DType::I32),
];

impl Eval<'_> {
    /// Starts a trace and places the model. `rows` and `seq` are the sizes of the data's axes.
    pub fn start(
        &mut self,
        model: &Rc<LayerValue>,
        mode: Mode,
        compute: DType,
        rows: usize,
        seq: usize,
    ) -> Option<Rc<Placed>> {
        let mut trace = Trace::new(mode, compute);
        for (name, size) in [("batch", rows), ("seq", seq)] {
            let axis = Axis { name: Name::from(name), size };
            trace.axes.insert(name.to_owned(), BoundAxis { axis, origin: None });
        }
        self.trace = Some(Box::new(trace));
        let site = match &model.form {
            super::value::LayerForm::Plain { def, .. } => def.scope.inner(),
            _ => Scope::module(0),
        };
        let placed = self.place(model, "", &[], &site);
        if placed.is_none() {
            self.trace = None;
        }
        placed
    }

    /// The columns as tensors of level 0; with micro-batches they have the axis `micro` in front.
    fn columns(&mut self, micro: Option<&Axis>) -> IndexMap<String, Tensor> {
        let t = self.t();
        let mut axes: Vec<Axis> = micro.cloned().into_iter().collect();
        axes.push(t.axes["batch"].axis.clone());
        axes.push(t.axes["seq"].axis.clone());
        COLUMNS
            .iter()
            .map(|(name, dtype)| {
                let ty = Type::new(*dtype, axes.clone());
                let node = t.levels[0].b.input(*name, ty, Role::Data);
                ((*name).to_owned(), Tensor { level: 0, node })
            })
            .collect()
    }

    /// Runs a model's `forward` on columns, bound by name.
    fn run_model(
        &mut self,
        model: &Rc<Placed>,
        columns: &IndexMap<String, Tensor>,
        span: Span,
    ) -> Option<Value> {
        let PlacedForm::Plain { def, .. } = &model.form else { return None };
        let forward = method(def, "forward").cloned();
        let Some(forward) = forward else {
            let text = format!("the model `{}` has no `forward`", def.name);
            self.problem(Problem::new("E0214", def.span, text));
            return None;
        };
        let mut args = Vec::new();
        for p in &forward.params {
            match columns.get(&p.name.name) {
                Some(t) => args.push(Value::Tensor(*t)),
                None => {
                    let names: Vec<&str> = columns.keys().map(String::as_str).collect();
                    self.problem(
                        Problem::new(
                            "E0419",
                            p.name.span,
                            format!("the data has no column `{}`", p.name.name),
                        )
                        .help(format!("it has: {}", names.join(", "))),
                    );
                    return None;
                }
            }
        }
        match self.call_placed(model, args, span) {
            Value::Error => None,
            v => Some(v),
        }
    }

    /// The f32 form of an output: a contraction that ends the model is not rounded to the compute dtype.
    fn in_f32(&mut self, v: Value, span: Span) -> Option<NodeId> {
        let x = self.tensor_node(v, span)?;
        let b = self.t().b();
        let mut at = x;
        loop {
            let node = b.graph.node(at).clone();
            match node.op {
                crate::graph::Op::Cast => at = node.inputs[0],
                crate::graph::Op::Contract { .. } => {
                    let ty = Type::new(DType::F32, node.ty.axes);
                    return Some(b.raw(node.op, node.inputs, ty));
                }
                _ => return Some(b.cast(x, DType::F32)),
            }
        }
    }

    /// The loss of a batch: nats per counted target, with whatever axes the objective leaves.
    fn loss(
        &mut self,
        objective: &Value,
        model: &Rc<Placed>,
        columns: &IndexMap<String, Tensor>,
        span: Span,
    ) -> Option<NodeId> {
        let (def, frame) = match objective {
            Value::Def(def) if def.kind == DefKind::Loss => (def.clone(), def.scope.inner()),
            Value::Program(p) if p.def.kind == DefKind::Loss => {
                (p.def.clone(), self.program_frame(p))
            }
            Value::Error => return None,
            other => {
                let text = format!("`objective` takes a loss, this is {}", describe(other));
                self.problem(Problem::new("E0301", span, text));
                return None;
            }
        };
        let (params, body) = match method(&def, "of") {
            Some(of) => (of.params.clone(), of.body.clone()),
            None => (def.params.clone(), def.body.clone()),
        };
        let mut fields: Option<Record> = None;
        for (i, p) in params.iter().enumerate() {
            let is_model = matches!(&p.ty, Some(t) if matches!(&t.kind,
                TypeKind::Named { path, .. } if path[0].name == "Model"));
            let value = if is_model {
                Value::Placed(model.clone())
            } else if let Some(column) = columns.get(&p.name.name) {
                Value::Tensor(*column)
            } else {
                if fields.is_none() {
                    fields = Some(self.output_fields(model, columns, span)?);
                }
                let fields = fields.as_ref()?;
                match fields.get(&p.name.name).or_else(|| {
                    // A lone tensor binds to the first parameter, whatever its name.
                    (i == 0).then(|| fields.get("")).flatten()
                }) {
                    Some(v) => v.clone(),
                    None => {
                        let text = format!(
                            "`{}` of the loss `{}` is neither a column nor a field of `forward`",
                            p.name.name, def.name
                        );
                        self.problem(Problem::new("E0419", p.name.span, text));
                        return None;
                    }
                }
            };
            frame.bind(&p.name.name, value);
        }
        self.calls.push(span);
        let v = self.body(&frame, &body);
        self.calls.pop();
        self.tensor_node(v, span)
    }

    fn output_fields(
        &mut self,
        model: &Rc<Placed>,
        columns: &IndexMap<String, Tensor>,
        span: Span,
    ) -> Option<Record> {
        let out = self.run_model(model, columns, span)?;
        let mut record = Record::default();
        match out {
            Value::Record(r) => {
                for (name, (v, at)) in &r.fields {
                    let node = self.in_f32(v.clone(), span)?;
                    let v = self.wrap(node);
                    record.set(name, v, *at);
                }
            }
            v => {
                let node = self.in_f32(v, span)?;
                let v = self.wrap(node);
                record.set("", v, None);
            }
        }
        Some(record)
    }

    /// Σ loss * learn over the batch at hand. A loss without `seq` counts once per row.
    fn loss_sum(
        &mut self,
        loss: NodeId,
        columns: &IndexMap<String, Tensor>,
        span: Span,
    ) -> Option<NodeId> {
        let weighted = if self.t().b().ty(loss).find(&Name::from("seq")).is_some() {
            let learn = self.t().here(columns["learn"]);
            self.t().b().binary(BinOp::Mul, loss, learn)
        } else {
            Ok(loss)
        };
        let built = weighted.and_then(|x| {
            let b = self.t().b();
            let axes: Vec<Name> = b.ty(x).axes.iter().map(|a| a.name.clone()).collect();
            b.reduce(ReduceOp::Sum, x, &axes)
        });
        match built {
            Ok(n) => Some(n),
            Err(m) => {
                self.misfit(m, span);
                None
            }
        }
    }

    /// One optimizer step.
    pub fn step_graph(
        &mut self,
        parts: &TrainParts,
        micro_rows: usize,
        micro_count: usize,
    ) -> Option<StepGraph> {
        let span = parts.span;
        let kinds = self.weight_views(parts)?;
        let model = self.start(&parts.model, Mode::Train, parts.compute, micro_rows, parts.seq)?;
        let micro =
            (micro_count > 1).then(|| Axis { name: Name::from("micro"), size: micro_count });
        let columns = self.columns(micro.as_ref());
        let made = self.traced_step(parts, &model, &columns, micro.as_ref(), &kinds);
        let trace = self.trace.take()?;
        let (weights, states) = made?;
        let mut graph = trace.levels.into_iter().next()?.b.graph;
        graph.outputs.dedup_by(|a, b| a.name == b.name);
        let _ = span;
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
        let loss = self.loss(&parts.objective, model, columns, span)?;
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

    /// Adds the penalties: per example, so summed over `batch` and divided by the rows of the step; over stacks they are summed.
    fn with_penalties(&mut self, mean: NodeId, rows: usize, span: Span) -> Option<NodeId> {
        let emits: Vec<NodeId> = self
            .t()
            .levels
            .last()?
            .emits
            .iter()
            .filter(|e| e.kind == EmitKind::Penalty)
            .map(|e| e.node)
            .collect();
        let mut total = mean;
        for p in emits {
            let b = self.t().b();
            let has_batch = b.ty(p).find(&Name::from("batch")).is_some();
            let axes: Vec<Name> = b.ty(p).axes.iter().map(|a| a.name.clone()).collect();
            let scale = b.constant(if has_batch { 1.0 / rows as f64 } else { 1.0 });
            let built = b
                .reduce(ReduceOp::Sum, p, &axes)
                .and_then(|s| b.binary(BinOp::Mul, s, scale))
                .and_then(|s| b.binary(BinOp::Add, total, s));
            total = match built {
                Ok(n) => n,
                Err(m) => {
                    self.misfit(m, span);
                    return None;
                }
            };
        }
        Some(total)
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

    fn apply_optimizer(
        &mut self,
        parts: &TrainParts,
        slots: &[Rc<Slot>],
        grads: &[NodeId],
        kinds: &IndexMap<String, (Rc<Slot>, View)>,
    ) -> Option<(Vec<WeightInfo>, Vec<StateInfo>)> {
        let span = parts.span;
        let norm = self.global_norm(grads)?;
        self.t().b().output("grad_norm", norm, None);
        let norm = self.wrap(norm);
        let mut weights = Vec::new();
        let mut states = Vec::new();
        let mut lr_done = false;
        for (slot, grad) in slots.iter().zip(grads) {
            let view = kinds.get(&slot.name).map(|(_, v)| v.clone()).unwrap_or_default();
            let info = weight_info(slot, &view);
            let optimizer = self.optimizer_for(&parts.optimizer, &info, slot, &view, span)?;
            weights.push(info.clone());
            let Some(program) = optimizer else { continue };
            if !lr_done && let Some(lr) = program.args.get("lr").cloned() {
                lr_done = true;
                self.output_lr(lr, span);
            }
            self.update_weight(&program, slot, &info, &view, *grad, &norm, &mut states, span)?;
        }
        Some((weights, states))
    }

    /// sqrt(Σ g²) over all weights.
    fn global_norm(&mut self, grads: &[NodeId]) -> Option<NodeId> {
        let b = self.t().b();
        let mut total = b.constant(0.0);
        for g in grads {
            let square = b.binary(BinOp::Mul, *g, *g).ok()?;
            let axes: Vec<Name> = b.ty(*g).axes.iter().map(|a| a.name.clone()).collect();
            let sum = b.reduce(ReduceOp::Sum, square, &axes).ok()?;
            total = b.binary(BinOp::Add, total, sum).ok()?;
        }
        Some(b.unary(UnOp::Sqrt, total))
    }

    fn output_lr(&mut self, lr: Value, span: Span) {
        let value = match lr {
            Value::Program(p) => {
                let t = self.step_number();
                self.schedule_at(&p, t, span)
            }
            other => other,
        };
        if let Some(node) = self.tensor_node(value, span) {
            self.t().b().output("lr", node, None);
        }
    }

    /// `t`, as a float.
    fn step_number(&mut self) -> Value {
        let b = self.t().b();
        let t = b.runtime(Runtime::Step);
        let t = b.cast(t, DType::F32);
        self.wrap(t)
    }

    /// The optimizer of a weight: the one program, or what the group expression gives for its row; `None`: frozen.
    fn optimizer_for(
        &mut self,
        optimizer: &Value,
        info: &WeightInfo,
        slot: &Slot,
        view: &View,
        span: Span,
    ) -> Option<Option<Rc<Program>>> {
        let value = match optimizer {
            Value::Row(row) => {
                let scope = row.scope.inner();
                for word in ["matrix", "vector", "table"] {
                    scope.bind(word, Value::Text(word.into()));
                }
                self.rows.push(weight_row(info, slot, view));
                let v = self.expr(&scope, &row.expr);
                self.rows.pop();
                v
            }
            other => other.clone(),
        };
        match value {
            Value::None => Some(None),
            Value::Program(p) if p.def.kind == DefKind::Optimizer => {
                // A setting may itself be a row expression: `decay = if .role == vector then 0 else 0.1`.
                let mut args = p.args.clone();
                for (v, _) in args.fields.values_mut() {
                    if let Value::Row(row) = v {
                        let scope = row.scope.inner();
                        for word in ["matrix", "vector", "table"] {
                            scope.bind(word, Value::Text(word.into()));
                        }
                        let row = row.clone();
                        self.rows.push(weight_row(info, slot, view));
                        *v = self.expr(&scope, &row.expr);
                        self.rows.pop();
                    }
                }
                Some(Some(Rc::new(Program { def: p.def.clone(), args, span: p.span })))
            }
            Value::Error => None,
            other => {
                let text = format!("`optimizer` takes an optimizer, this is {}", describe(&other));
                self.problem(
                    Problem::new("E0301", span, text).help("for example `adamw(lr = 1e-3)`"),
                );
                None
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one call site; the parts of one update")]
    fn update_weight(
        &mut self,
        program: &Rc<Program>,
        slot: &Rc<Slot>,
        info: &WeightInfo,
        view: &View,
        grad: NodeId,
        norm: &Value,
        states: &mut Vec<StateInfo>,
        span: Span,
    ) -> Option<()> {
        let Some(update) = method(&program.def, "update").cloned() else {
            let text = format!("the optimizer `{}` has no method `update`", program.def.name);
            self.problem(Problem::new("E0214", program.def.span, text));
            return None;
        };
        let frame = self.program_frame(program);
        let weight = self.t().slot(slot).node;
        let shape = Matrix::of(slot, view);
        let formal = if update.axes.is_empty() { &program.def.axes } else { &update.axes };
        let as_matrix = !formal.is_empty();
        if as_matrix && shape.is_none() {
            let text = format!(
                "`{}` needs a weight with a matrix view, `{}` has none",
                program.def.name, slot.name
            );
            self.problem(
                Problem::new("E0420", span, text)
                    .help("choose by role: `if .role == matrix then muon(..) else adamw(..)`"),
            );
            return None;
        }
        let shape = if as_matrix { shape } else { None };
        let (w, g) = match &shape {
            None => (weight, grad),
            Some(m) => (m.enter(self.t(), weight)?, m.enter(self.t(), grad)?),
        };
        if let (Some(m), [out, inp]) = (&shape, formal.as_slice()) {
            for (formal, axis) in [(out, &m.out), (inp, &m.inp)] {
                let axis = axis.clone();
                frame.bind_axis(&formal.name.name, BoundAxis { axis, origin: None });
            }
        }
        let t = self.step_number();
        let (w_value, g_value) = (self.wrap(w), self.wrap(g));
        for (param, v) in update.params.iter().zip([w_value.clone(), g_value, t]) {
            frame.bind(&param.name.name, v);
        }
        frame.bind("grad_norm", norm.clone());
        frame.bind("decays", Value::Bool(info.decays));
        let declared = self.optimizer_states(program, &frame, slot, &shape, states)?;
        self.calls.push(span);
        self.t().b().path = Some(Name::from(format!("optimizer.{}", slot.name)));
        let new = self.body(&frame, &update.body);
        self.calls.pop();
        let leave = |this: &mut Self, v: Value, want: &Type| -> Option<NodeId> {
            let mut x = this.tensor_node(v, span)?;
            if let Some(m) = &shape {
                x = m.leave(this.t(), x)?;
            }
            Some(conform(this.t().b(), x, want))
        };
        let ty = self.t().b().ty(weight).clone();
        let new = leave(self, new, &ty)?;
        self.t().b().output(slot.name.as_str(), new, Some(&slot.name));
        for (local, storage, ty) in declared {
            let v = frame.0.names.borrow().get(&local).cloned().unwrap_or(Value::Error);
            let node = leave(self, v, &ty)?;
            self.t().b().output(storage.as_str(), node, Some(&storage));
        }
        self.t().b().path = None;
        Some(())
    }

    /// Declares an optimizer's states for one weight: their local names, storage names and types.
    fn optimizer_states(
        &mut self,
        program: &Rc<Program>,
        frame: &Scope,
        slot: &Rc<Slot>,
        shape: &Option<Matrix>,
        states: &mut Vec<StateInfo>,
    ) -> Option<Vec<(String, String, Type)>> {
        let ast::Body::Block(block) = &program.def.body else { return Some(Vec::new()) };
        let mut declared = Vec::new();
        for item in &block.items {
            let ItemKind::State(decls) = &item.kind else { continue };
            for d in decls {
                let storage = format!("{}:{}", d.name.name, slot.name);
                let mut axes = Vec::new();
                if d.axes.is_empty() {
                    let mut own = slot.stack.clone();
                    own.extend(slot.axes.iter().cloned());
                    axes = own;
                } else {
                    axes.extend(slot.stack.iter().cloned());
                    for a in &d.axes {
                        axes.push(self.axis_named(frame, &a.name.name, a.name.span)?);
                    }
                }
                let ty = Type::new(DType::F32, axes);
                let mut node = self.t().b().input(storage.as_str(), ty.clone(), Role::State);
                if d.axes.is_empty()
                    && let Some(m) = shape
                {
                    node = m.enter(self.t(), node)?;
                }
                let v = self.wrap(node);
                frame.bind(&format!("state {}", d.name.name), Value::None);
                frame.bind(&d.name.name, v);
                let start = self.optimizer_state_start(d, program, slot)?;
                states.push(StateInfo {
                    name: Name::from(storage.as_str()),
                    ty: ty.clone(),
                    start,
                });
                declared.push((d.name.name.clone(), storage, ty));
            }
        }
        Some(declared)
    }

    /// The weights of a model and how they are used, from one evaluation trace.
    pub fn weight_views(
        &mut self,
        parts: &TrainParts,
    ) -> Option<IndexMap<String, (Rc<Slot>, View)>> {
        let model = self.start(&parts.model, Mode::Eval, parts.compute, 1, parts.seq)?;
        let columns = self.columns(None);
        let out = self.run_model(&model, &columns, parts.span);
        let trace = self.trace.take()?;
        out?;
        let found = views(&trace.levels[0].b.graph);
        let all = trace
            .slots
            .iter()
            .map(|(name, slot)| {
                let view = found.get(&Name::from(name.as_str())).cloned().unwrap_or_default();
                (name.clone(), (slot.clone(), view))
            })
            .collect();
        Some(all)
    }

    /// Held-out loss: outputs `loss_sum` and `loss_count`.
    pub fn eval_graph(&mut self, parts: &TrainParts, rows: usize) -> Option<Graph> {
        let model = self.start(&parts.model, Mode::Eval, parts.compute, rows, parts.seq)?;
        let columns = self.columns(None);
        let made = (|| {
            let loss = self.loss(&parts.objective, &model, &columns, parts.span)?;
            let sum = self.loss_sum(loss, &columns, parts.span)?;
            let by_rows = self.t().b().ty(loss).find(&Name::from("seq")).is_none();
            let count = if by_rows {
                self.t().b().constant(rows as f64)
            } else {
                let learn = columns["learn"].node;
                let b = self.t().b();
                let axes: Vec<Name> = b.ty(learn).axes.iter().map(|a| a.name.clone()).collect();
                b.reduce(ReduceOp::Sum, learn, &axes).ok()?
            };
            self.t().b().output("loss_sum", sum, None);
            self.t().b().output("loss_count", count, None);
            Some(())
        })();
        let trace = self.trace.take()?;
        made?;
        Some(trace.levels.into_iter().next()?.b.graph)
    }

    /// The forward pass alone, on `rows` rows: what is costed, and what `apply` runs. Outputs are the fields of `forward`, a lone one `out`.
    pub fn forward_graph(&mut self, parts: &TrainParts, rows: usize) -> Option<Graph> {
        let model = self.start(&parts.model, Mode::Eval, parts.compute, rows, parts.seq)?;
        let columns = self.columns(None);
        let fields = self.output_fields(&model, &columns, parts.span);
        if let Some(fields) = &fields {
            for (name, (v, _)) in &fields.fields {
                let name = if name.is_empty() { "out" } else { name };
                if let Some(node) = self.tensor_node(v.clone(), parts.span) {
                    self.t().b().output(name, node, None);
                }
            }
        }
        let trace = self.trace.take()?;
        fields?;
        Some(trace.levels.into_iter().next()?.b.graph)
    }

    /// `n` positions of one sequence at `Position`, with caches for `capacity`: output `logits` of the last position.
    pub fn decode_graph(
        &mut self,
        parts: &TrainParts,
        n: usize,
        capacity: usize,
    ) -> Option<(Graph, Vec<StateInfo>)> {
        let model = self.start(&parts.model, Mode::Decode(capacity), parts.compute, 1, n)?;
        let columns = self.columns(None);
        let made = (|| {
            let fields = self.output_fields(&model, &columns, parts.span)?;
            let (v, _) = fields.fields.values().next()?;
            let x = self.tensor_node(v.clone(), parts.span)?;
            let b = self.t().b();
            let last = Affine { terms: vec![], offset: n as i64 - 1 };
            let first = Affine { terms: vec![], offset: 0 };
            let x = b.window(x, &Name::from("seq"), last, &[], 0.0).ok()?;
            let x = b.window(x, &Name::from("batch"), first, &[], 0.0).ok()?;
            b.output("logits", x, None);
            let emits = std::mem::take(&mut self.t().levels[0].emits);
            for e in emits {
                if e.kind == EmitKind::Cache {
                    let want = self.t().caches[&e.name].clone();
                    let node = conform(self.t().b(), e.node, &want);
                    self.t().b().output(e.name.as_str(), node, Some(&e.name));
                }
            }
            Some(())
        })();
        let trace = self.trace.take()?;
        made?;
        let caches = trace
            .caches
            .iter()
            .map(|(name, ty)| StateInfo {
                name: Name::from(name.as_str()),
                ty: ty.clone(),
                start: StateStart::Number(0.0),
            })
            .collect();
        Some((trace.levels.into_iter().next()?.b.graph, caches))
    }

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
                let args = super::call::Args {
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

#[cfg(test)]
#[path = "assemble_tests.rs"]
mod tests;
