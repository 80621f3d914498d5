//! The optimizer's part of a step: which program a weight has, its update, its states.

use std::rc::Rc;

use indexmap::IndexMap;

use super::TrainParts;
use crate::check::call::method;
use crate::check::eval::{Eval, describe};
use crate::check::trace::{Slot, conform};
use crate::check::value::{BoundAxis, DefKind, Program, Scope, Value};
use crate::check::views::View;
use crate::check::weights::{Matrix, weight_info, weight_row};
use crate::graph::{BinOp, DType, Name, NodeId, ReduceOp, Role, Runtime, Type, UnOp};
use crate::problem::Problem;
use crate::programs::{StateInfo, WeightInfo};
use crate::source::Span;
use crate::syntax::ast::{self, ItemKind};

/// A state of an optimizer for one weight.
struct Declared {
    decl: ast::WeightDecl,
    /// Its storage.
    storage: String,
    ty: Type,
}

impl Eval<'_> {
    pub(super) fn apply_optimizer(
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
        let leave = |this: &mut Self, v: Value, own: bool, want: &Type| -> Option<NodeId> {
            let mut x = this.tensor_node(v, span)?;
            if let (Some(m), false) = (&shape, own) {
                x = m.leave(this.t(), x)?;
            }
            Some(conform(this.t().b(), x, want))
        };
        let ty = self.t().b().ty(weight).clone();
        let new = leave(self, new, false, &ty)?;
        self.same_axes(program, &slot.name, None, new, &ty)?;
        self.t().b().output(slot.name.as_str(), new, Some(&slot.name));
        for Declared { decl, storage, ty } in declared {
            let local = &decl.name.name;
            let v = frame.0.names.borrow().get(local).cloned().unwrap_or(Value::Error);
            let node = leave(self, v, !decl.axes.is_empty(), &ty)?;
            self.same_axes(program, &slot.name, Some(&decl), node, &ty)?;
            self.t().b().output(storage.as_str(), node, Some(&storage));
        }
        self.t().b().path = None;
        Some(())
    }

    /// E0425 if what replaces a weight, or one of its states, has an axis more than that.
    fn same_axes(
        &mut self,
        program: &Program,
        weight: &str,
        state: Option<&ast::WeightDecl>,
        new: NodeId,
        want: &Type,
    ) -> Option<()> {
        let have = self.t().b().ty(new).clone();
        let more = have.axes.iter().find(|a| want.find(&a.name).is_none());
        let Some(more) = more else { return Some(()) };
        // Axes of a matrix view are named after their weight.
        let plain = |name: &Name| name.as_str().split(':').next().unwrap_or_default().to_owned();
        let list = |ty: &Type| {
            let names: Vec<String> = ty.axes.iter().map(|a| plain(&a.name)).collect();
            format!("[{}]", names.join(", "))
        };
        let (what, at) = match state {
            Some(decl) => (format!("the state `{}`", decl.name.name), decl.name.span),
            None => (format!("the weight `{weight}`"), program.def.span),
        };
        let text = format!(
            "{what} has {}, but `{}` gives it {}{}",
            list(want),
            program.def.name,
            list(&have),
            if state.is_some() { format!(" for the weight `{weight}`") } else { String::new() }
        );
        let mut p = Problem::new("E0425", at, text).label(program.span, "used here");
        p = p.help(format!("a reduction takes an axis away: `mean[{}](..)`", plain(&more.name)));
        if let Some(decl) = state.filter(|d| !d.axes.is_empty()) {
            let name = &decl.name.name;
            p = p.help(format!("`state {name}` without axes has those of each weight"));
        }
        self.problem(p);
        None
    }

    /// Declares an optimizer's states for one weight: their local names, storage names and types.
    fn optimizer_states(
        &mut self,
        program: &Rc<Program>,
        frame: &Scope,
        slot: &Rc<Slot>,
        shape: &Option<Matrix>,
        states: &mut Vec<StateInfo>,
    ) -> Option<Vec<Declared>> {
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
                declared.push(Declared { decl: d.clone(), storage, ty });
            }
        }
        Some(declared)
    }
}
