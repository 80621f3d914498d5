//! From a checked node to the graphs that run it: forward, loss, gradients, optimizer, caches.
//!
//! One optimizer step is one graph. The batch has axes `[micro, batch, seq]`; with several micro-batches their loop is a scan that carries
//! gradient sums. The number of counted targets of the *whole* step is taken before the loop, so the loss is a mean over the step
//! whatever the micro-batches.

mod decode;
mod init;
mod loss;
mod step;
mod update;

use std::rc::Rc;

use indexmap::IndexMap;

use super::call::method;
use super::eval::Eval;
use super::trace::{Held, Mode, Placed, PlacedForm, Slot, Trace};
use super::value::{BoundAxis, LayerValue, Scope, Tensor, Value};
use super::views::{View, views};
use crate::graph::grad::Remat;
use crate::graph::{Axis, DType, Graph, Name, Op, ReduceOp, Role, Type};
use crate::problem::Problem;
use crate::programs::{StateInfo, WeightInfo};
use crate::source::Span;

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
    /// What the rows hold; `None` for a model on its own.
    pub held: Option<Held>,
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
pub(super) const COLUMNS: &[(&str, DType)] = &[
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

    /// Starts a trace of a training run's model, on `rows` of its rows.
    fn start_on_rows(&mut self, parts: &TrainParts, mode: Mode, rows: usize) -> Option<Rc<Placed>> {
        let placed = self.start(&parts.model, mode, parts.compute, rows, parts.seq)?;
        self.t().held.clone_from(&parts.held);
        Some(placed)
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

    /// The weights of a model and how they are used, from one evaluation trace.
    pub fn weight_views(
        &mut self,
        parts: &TrainParts,
    ) -> Option<IndexMap<String, (Rc<Slot>, View)>> {
        let model = self.start_on_rows(parts, Mode::Eval, 1)?;
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
        let model = self.start_on_rows(parts, Mode::Eval, rows)?;
        let columns = self.columns(None);
        let made = (|| {
            let loss = self.loss(&parts.objective, true, &model, &columns, parts.span)?;
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
        self.of_some_size(trace.levels.into_iter().next()?.b.graph, parts.span)
    }

    /// The graph, unless E0426: a tensor has more elements than any machine holds, and the plan could not be counted.
    fn of_some_size(&mut self, graph: Graph, span: Span) -> Option<Graph> {
        let Some((ty, place)) = too_large(&graph) else { return Some(graph) };
        let sizes: Vec<String> =
            ty.axes.iter().map(|a| format!("{} = {}", a.name, a.size)).collect();
        let many = ty.axes.iter().map(|a| a.size as f64).product::<f64>();
        let text = format!("a tensor has {many:.1e} elements: [{}]", sizes.join(", "));
        let mut p = Problem::new("E0426", span, text);
        if let Some(place) = place {
            p = p.label(place, "here");
        }
        let most = MOST_ELEMENTS as f64;
        self.problem(
            p.help(format!("at most {most:.1e} are counted; is a size in other units than meant?")),
        );
        None
    }

    /// The forward pass alone, on `rows` rows: what is costed, and what `apply` runs. Outputs are the fields of `forward`, a lone one `out`.
    pub fn forward_graph(&mut self, parts: &TrainParts, rows: usize) -> Option<Graph> {
        let model = self.start_on_rows(parts, Mode::Eval, rows)?;
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
        self.of_some_size(trace.levels.into_iter().next()?.b.graph, parts.span)
    }
}

/// More elements no machine holds; sums over all values of a plan stay exact below.
const MOST_ELEMENTS: u64 = 1 << 46;

/// The first tensor with too many elements, with the expression that makes it. In a loop each value counts for all its iterations.
fn too_large(graph: &Graph) -> Option<(Type, Option<Span>)> {
    fn find(graph: &Graph, times: f64) -> Option<(Type, Option<Span>)> {
        graph.nodes.iter().find_map(|node| {
            let many = node.ty.axes.iter().map(|a| a.size as f64).product::<f64>();
            if many * times > MOST_ELEMENTS as f64 {
                return Some((node.ty.clone(), node.span));
            }
            match &node.op {
                Op::Scan(scan) => find(&scan.body, times * scan.axis.size as f64),
                _ => None,
            }
        })
    }
    find(graph, 1.0)
}

#[cfg(test)]
mod tests;
