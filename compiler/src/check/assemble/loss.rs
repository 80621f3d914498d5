//! The loss of a batch: the objective's body on the model's outputs and the data's columns, summed over counted targets, with penalties.

use std::rc::Rc;

use indexmap::IndexMap;

use crate::check::call::method;
use crate::check::eval::{Eval, describe};
use crate::check::trace::{EmitKind, Placed};
use crate::check::value::{DefKind, Record, Tensor, Value};
use crate::graph::{BinOp, DType, Name, NodeId, Op, ReduceOp, Type};
use crate::problem::Problem;
use crate::source::Span;
use crate::syntax::ast::TypeKind;

impl Eval<'_> {
    /// The f32 form of an output: a contraction that ends the model is not rounded to the compute dtype.
    fn in_f32(&mut self, v: Value, span: Span) -> Option<NodeId> {
        let x = self.tensor_node(v, span)?;
        let b = self.t().b();
        let mut at = x;
        loop {
            let node = b.graph.node(at).clone();
            match node.op {
                Op::Cast => at = node.inputs[0],
                Op::Contract { .. } => {
                    let ty = Type::new(DType::F32, node.ty.axes);
                    return Some(b.raw(node.op, node.inputs, ty));
                }
                _ => return Some(b.cast(x, DType::F32)),
            }
        }
    }

    /// The loss of a batch: nats per counted target, with whatever axes the objective leaves. `held_out`: what the objective is measured by,
    /// its method `nats`, where it has one.
    pub(super) fn loss(
        &mut self,
        objective: &Value,
        held_out: bool,
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
        self.reached.insert(def.span);
        let measure = method(&def, "nats").filter(|_| held_out);
        let (params, body) = match measure.or_else(|| method(&def, "of")) {
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

    pub(super) fn output_fields(
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
    pub(super) fn loss_sum(
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

    /// Adds the penalties: per example, so summed over `batch` and divided by the rows of the step; over stacks they are summed.
    pub(super) fn with_penalties(
        &mut self,
        mean: NodeId,
        rows: usize,
        span: Span,
    ) -> Option<NodeId> {
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
}
