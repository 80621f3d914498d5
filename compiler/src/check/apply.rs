//! One layer at a time: any layer, model, loss or optimizer of a file on given tensors.
//!
//! Sizes of axes come from the shapes of what is given: a parameter `x: [seq, d]` names the last axes of its tensor, further leading axes
//! are `batch`, `batch2`, ..; a weight `w[d, ff]` that is given names its own. What is still unknown must be said.

use std::rc::Rc;

use indexmap::IndexMap;

use super::call::method;
use super::eval::{Eval, describe};
use super::modules::MAIN;
use super::trace::{Mode, Trace, conform};
use super::value::{BoundAxis, Bracket, Def, DefKind, LayerForm, LayerValue, Record, Scope, Value};
use crate::graph::grad::differentiate;
use crate::graph::{Axis, BinOp, DType, Graph, Name, NodeId, Op, ReduceOp, Role, Type};
use crate::problem::{Problem, did_you_mean};
use crate::source::Span;
use crate::syntax::ast::{self, ItemKind, TypeKind};

/// A tensor that the user gives: its name (empty: by position) and shape; integers are ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// As in the file.
    pub name: String,
    /// Extents.
    pub shape: Vec<usize>,
    /// True for integers.
    pub integer: bool,
}

/// The graph of an application.
#[derive(Debug)]
pub struct ApplyGraph {
    /// Inputs have the names of parameters, weights their paths, cotangents `d:` and the output's name. Outputs: `out` or the fields
    /// of a record, then `grad:` and the name of each float input and weight, if gradients are wanted.
    pub graph: Graph,
}

impl Eval<'_> {
    /// Traces the application of the top-level `name`.
    pub fn apply_graph(
        &mut self,
        name: &str,
        inputs: &[Given],
        weights: &[Given],
        sizes: &[(String, usize)],
        with_grad: bool,
    ) -> Option<ApplyGraph> {
        let at = self.modules.get(MAIN).map(|m| Span::new(m.file, 0, 0))?;
        let value = self.name(&Scope::module(MAIN), name, at);
        let mut trace = Trace::new(Mode::Eval, DType::F32);
        for (axis, size) in sizes {
            bind(&mut trace, axis, *size);
        }
        let value = match value {
            Value::Node(n) if n.kind == "train" => {
                n.fields.get("model").cloned().unwrap_or(Value::Error)
            }
            v => v,
        };
        let def = definition(&value);
        let Some(def) = def else {
            if !matches!(value, Value::Error) {
                let text = format!(
                    "`{name}` is {}, not a layer, model, loss or optimizer",
                    describe(&value)
                );
                self.problem(Problem::new("E0302", at, text));
            }
            return None;
        };
        self.trace = Some(Box::new(trace));
        let made = match def.kind {
            DefKind::Layer | DefKind::Model => {
                self.apply_layer(value, &def, inputs, weights, with_grad)
            }
            DefKind::Loss => self.apply_loss(&value, &def, inputs, with_grad),
            DefKind::Optimizer => self.apply_optimizer_step(&value, &def, inputs),
            DefKind::Fn | DefKind::Schedule | DefKind::Law | DefKind::Filter | DefKind::Score => {
                let text = format!(
                    "`apply` runs layers, models, losses and optimizers; `{name}` is {}",
                    describe(&value)
                );
                self.problem(Problem::new("E0302", at, text));
                None
            }
        };
        let trace = self.trace.take()?;
        made?;
        let graph = trace.levels.into_iter().next()?.b.graph;
        for (axis, _) in sizes {
            let formal = def.axes.iter().any(|a| a.name.name == *axis);
            if !formal && !has_axis(&graph, axis) {
                let text = format!("`{name}` has no axis `{axis}`, whose size is given");
                let mut p = Problem::new("E0402", at, text);
                if let Some(near) =
                    did_you_mean(axis, trace.axes.keys().filter(|n| *n != axis).map(String::as_str))
                {
                    p = p.help(format!("did you mean `{near}`?"));
                }
                self.problem(p);
                return None;
            }
        }
        Some(ApplyGraph { graph })
    }

    fn apply_layer(
        &mut self,
        value: Value,
        def: &Rc<Def>,
        inputs: &[Given],
        weights: &[Given],
        with_grad: bool,
    ) -> Option<()> {
        let forward = method(def, "forward").cloned()?;
        let shapes = self.bind_inputs(&forward.params, inputs, def.span)?;
        if let ast::Body::Block(block) = &def.body {
            for item in &block.items {
                let ItemKind::Weight(decls) = &item.kind else { continue };
                for d in decls {
                    if let Some(w) = weights.iter().find(|w| w.name == d.name.name) {
                        for (a, size) in d.axes.iter().zip(&w.shape) {
                            self.bind_size(&a.name.name, *size, d.span)?;
                        }
                    }
                }
            }
        }
        let layer = self.as_layer(value, def.span)?;
        let site = def.scope.inner();
        let outer = outer_names(&layer, def);
        let placed = self.place(&layer, "", &[], &site)?;
        let mut args = Vec::new();
        for (param, ty) in forward.params.iter().zip(shapes) {
            let node = self.t().b().input(param.name.name.as_str(), ty, Role::Data);
            args.push((param.name.name.clone(), node));
        }
        let values = args.iter().map(|(_, n)| self.wrap(*n)).collect();
        let out = self.call_placed(&placed, values, def.span);
        let order = Order { result: forward.result.as_ref(), outer };
        self.finish(out, args, with_grad, &order, def.span)
    }

    fn apply_loss(
        &mut self,
        value: &Value,
        def: &Rc<Def>,
        inputs: &[Given],
        with_grad: bool,
    ) -> Option<()> {
        let result = method(def, "of").map_or(&def.result, |of| &of.result).clone();
        let (params, body, frame) = match (method(def, "of"), value) {
            (Some(of), Value::Program(p)) => {
                (of.params.clone(), of.body.clone(), self.program_frame(p))
            }
            (Some(of), _) => {
                let settings =
                    self.bind(def, super::call::Args::default(), def.span, &def.scope.inner())?;
                let frame = def.scope.inner();
                for (n, (v, _)) in &settings.fields {
                    frame.bind(n, v.clone());
                }
                (of.params.clone(), of.body.clone(), frame)
            }
            (None, _) => (def.params.clone(), def.body.clone(), def.scope.inner()),
        };
        let shapes = self.bind_inputs(&params, inputs, def.span)?;
        let mut args = Vec::new();
        for (p, ty) in params.iter().zip(shapes) {
            let node = self.t().b().input(p.name.name.as_str(), ty, Role::Data);
            let v = self.wrap(node);
            frame.bind(&p.name.name, v);
            args.push((p.name.name.clone(), node));
        }
        let out = self.body(&frame, &body);
        let order = Order { result: result.as_ref(), outer: Vec::new() };
        self.finish(out, args, with_grad, &order, def.span)
    }

    /// One update: inputs `w`, `g`, the states by name; runtime `Step` and `Share`. Outputs `w` and the states.
    pub(super) fn apply_optimizer_step(
        &mut self,
        value: &Value,
        def: &Rc<Def>,
        inputs: &[Given],
    ) -> Option<()> {
        let program = match value {
            Value::Program(p) => p.clone(),
            _ => {
                let args =
                    self.bind(def, super::call::Args::default(), def.span, &def.scope.inner())?;
                Rc::new(super::value::Program { def: def.clone(), args, span: def.span })
            }
        };
        let update = method(def, "update").cloned()?;
        let frame = self.program_frame(&program);
        let Some(w) = inputs.iter().find(|i| i.name == "w" || i.name.is_empty()) else {
            self.problem(Problem::new(
                "E0309",
                def.span,
                "an optimizer needs the tensors `w` and `g`",
            ));
            return None;
        };
        let formal = if update.axes.is_empty() { &def.axes } else { &update.axes };
        let mut axes = Vec::new();
        for (i, size) in w.shape.iter().enumerate() {
            let tail = w.shape.len() - i;
            let name = if tail <= formal.len() {
                formal[formal.len() - tail].name.name.clone()
            } else {
                format!("a{i}")
            };
            bind(self.t(), &name, *size);
            axes.push(self.t().axis(&frame, &name)?.axis);
        }
        let ty = Type::new(DType::F32, axes);
        let w = self.t().b().input("w", ty.clone(), Role::Weight);
        let g = self.t().b().input("g", ty.clone(), Role::Data);
        let t = {
            let b = self.t().b();
            let t = b.runtime(crate::graph::Runtime::Step);
            b.cast(t, DType::F32)
        };
        for (param, node) in update.params.iter().zip([w, g, t]) {
            let v = self.wrap(node);
            frame.bind(&param.name.name, v);
        }
        let norm = {
            let b = self.t().b();
            let square = b.binary(BinOp::Mul, g, g).ok()?;
            let all: Vec<Name> = ty.axes.iter().map(|a| a.name.clone()).collect();
            let sum = b.reduce(ReduceOp::Sum, square, &all).ok()?;
            b.unary(crate::graph::UnOp::Sqrt, sum)
        };
        let norm = self.wrap(norm);
        frame.bind("grad_norm", norm);
        frame.bind("decays", Value::Bool(ty.axes.len() > 1));
        let ast::Body::Block(block) = &def.body else { return None };
        let mut states = Vec::new();
        for item in &block.items {
            let ItemKind::State(decls) = &item.kind else { continue };
            for d in decls {
                let mut own = Vec::new();
                for a in &d.axes {
                    own.push(self.axis_named(&frame, &a.name.name, a.name.span)?);
                }
                let state_ty =
                    if d.axes.is_empty() { ty.clone() } else { Type::new(DType::F32, own) };
                let node = self.t().b().input(d.name.name.as_str(), state_ty.clone(), Role::State);
                let v = self.wrap(node);
                frame.bind(&format!("state {}", d.name.name), Value::None);
                frame.bind(&d.name.name, v);
                states.push((d.name.name.clone(), state_ty));
            }
        }
        let new = self.body(&frame, &update.body);
        let new = self.tensor_node(new, def.span)?;
        let b = self.t().b();
        let new = conform(b, new, &ty);
        b.output("w", new, Some("w"));
        for (name, state_ty) in states {
            let v = frame.0.names.borrow().get(&name).cloned().unwrap_or(Value::Error);
            let node = self.tensor_node(v, def.span)?;
            let b = self.t().b();
            let node = conform(b, node, &state_ty);
            b.output(name.as_str(), node, Some(&name));
        }
        Some(())
    }

    /// Types of the parameters from the shapes that are given, by name or in order.
    fn bind_inputs(
        &mut self,
        params: &[ast::Param],
        inputs: &[Given],
        span: Span,
    ) -> Option<Vec<Type>> {
        let mut types = Vec::new();
        for (i, p) in params.iter().enumerate() {
            let by_place = || inputs.get(i).filter(|g| g.name.is_empty());
            let given = inputs.iter().find(|g| g.name == p.name.name).or_else(by_place);
            let Some(given) = given else {
                let names: Vec<&str> = params.iter().map(|p| p.name.name.as_str()).collect();
                let text = format!("no tensor is given for `{}`", p.name.name);
                self.problem(
                    Problem::new("E0309", p.name.span, text)
                        .help(format!("it takes: {}", names.join(", "))),
                );
                return None;
            };
            let named: Vec<String> = match p.ty.as_ref().map(|t| &t.kind) {
                Some(TypeKind::Tensor { axes, .. }) => {
                    axes.iter().map(|a| a.name.name.clone()).collect()
                }
                _ => Vec::new(),
            };
            if named.len() > given.shape.len() {
                let text = format!(
                    "`{}` needs the axes [{}], the tensor has {}",
                    p.name.name,
                    named.join(", "),
                    given.shape.len()
                );
                self.problem(Problem::new("E0403", p.name.span, text));
                return None;
            }
            let extra = given.shape.len() - named.len();
            let leading = (0..extra)
                .map(|i| if i == 0 { "batch".to_owned() } else { format!("batch{}", i + 1) });
            // Without a declared type the tensor's axes are batch and seq, as columns are; with one, further axes are the same for all.
            let names: Vec<String> = if p.ty.is_none() && extra == 2 {
                vec!["batch".into(), "seq".into()]
            } else {
                leading.chain(named).collect()
            };
            let mut axes = Vec::new();
            for (name, size) in names.iter().zip(&given.shape) {
                self.bind_size(name, *size, span)?;
                axes.push(Axis { name: Name::from(name.as_str()), size: *size });
            }
            // Ids are whole whatever the file keeps them as; whoever fills them in looks.
            let dtype = if given.integer || is_id(p) { DType::I32 } else { DType::F32 };
            types.push(Type::new(dtype, axes));
        }
        Some(types)
    }

    fn bind_size(&mut self, name: &str, size: usize, span: Span) -> Option<()> {
        if let Some(known) = self.t().axes.get(name)
            && known.axis.size != size
        {
            let text =
                format!("axis `{name}` is {} in one tensor and {size} in another", known.axis.size);
            self.problem(Problem::new("E0404", span, text));
            return None;
        }
        bind(self.t(), name, size);
        Some(())
    }

    /// Outputs, and gradients for cotangents `d:NAME`.
    fn finish(
        &mut self,
        out: Value,
        args: Vec<(String, NodeId)>,
        with_grad: bool,
        order: &Order<'_>,
        span: Span,
    ) -> Option<()> {
        let mut fields = Record::default();
        match out {
            Value::Record(r) => fields = (*r).clone(),
            Value::Error => return None,
            v => fields.set("out", v, None),
        }
        let mut total: Option<NodeId> = None;
        for (name, (v, _)) in &fields.fields {
            let x = self.tensor_node(v.clone(), span)?;
            let b = self.t().b();
            let x = if b.ty(x).dtype.is_float() { b.cast(x, DType::F32) } else { x };
            let inputs: Vec<Type> = args.iter().map(|(_, n)| b.ty(*n).clone()).collect();
            let ty = b.ty(x).clone();
            let x = conform(b, x, &Type::new(ty.dtype, order.of(name, &ty.axes, &inputs)));
            b.output(name.as_str(), x, None);
            if with_grad && b.ty(x).dtype.is_float() {
                let ty = b.ty(x).clone();
                let dy = b.input(format!("d:{name}"), ty.clone(), Role::Data);
                let all: Vec<Name> = ty.axes.iter().map(|a| a.name.clone()).collect();
                let product = b.binary(BinOp::Mul, x, dy).ok()?;
                let sum = b.reduce(ReduceOp::Sum, product, &all).ok()?;
                total = Some(match total {
                    Some(t) => b.binary(BinOp::Add, t, sum).ok()?,
                    None => sum,
                });
            }
        }
        let Some(total) = total else { return Some(()) };
        let mut wrt: IndexMap<String, NodeId> = IndexMap::new();
        for (name, node) in args {
            if self.t().b().ty(node).dtype.is_float() {
                wrt.insert(name, node);
            }
        }
        let slots: Vec<_> =
            self.t().slots.values().filter(|s| s.role == Role::Weight).cloned().collect();
        for s in slots {
            let node = self.t().slot(&s).node;
            wrt.insert(s.name.clone(), node);
        }
        let nodes: Vec<NodeId> = wrt.values().copied().collect();
        let remat = crate::graph::grad::Remat::None;
        match differentiate(self.t().b(), total, &nodes, remat) {
            Ok(grads) => {
                for ((name, x), g) in wrt.iter().zip(grads) {
                    // A gradient is read beside its tensor: the order of its axes is the same.
                    let ty = self.t().b().ty(*x).clone();
                    let g = conform(self.t().b(), g, &Type::new(DType::F32, ty.axes));
                    self.t().b().output(format!("grad:{name}"), g, None);
                }
                Some(())
            }
            Err(bug) => {
                self.problem(bug.problem(span));
                None
            }
        }
    }
}

/// In which order the axes of what comes out are written.
struct Order<'a> {
    /// The result as the definition declares it.
    result: Option<&'a ast::Type>,
    /// Names of the definition's axes, and what they are called outside.
    outer: Vec<(String, String)>,
}

impl Order<'_> {
    /// Further axes of the inputs (`batch`, `batch2`, ..) come first and declared ones last, as for inputs. Without a declaration those of the
    /// inputs come in their order, then new ones.
    fn of(&self, field: &str, have: &[Axis], inputs: &[Type]) -> Vec<Axis> {
        let ty = match self.result.map(|t| &t.kind) {
            Some(TypeKind::Record(fields)) => {
                fields.iter().find(|(name, _)| name.name == field).map(|(_, ty)| &ty.kind)
            }
            other => other,
        };
        let mut declared: Vec<&str> = match ty {
            Some(TypeKind::Tensor { axes, .. }) => {
                axes.iter().map(|a| self.outside(&a.name.name)).collect()
            }
            _ => Vec::new(),
        };
        if !declared.iter().all(|name| have.iter().any(|a| a.name.as_str() == *name)) {
            declared.clear();
        }
        let rank = |at: usize, axis: &Axis| {
            let name = axis.name.as_str();
            let mut given = inputs.iter().flat_map(|ty| &ty.axes);
            match (declared.iter().position(|d| *d == name), further(name)) {
                (Some(place), _) => (2, place),
                (None, Some(number)) => (0, number),
                (None, None) if declared.is_empty() => (
                    1,
                    given.position(|a| a.name == axis.name).unwrap_or(usize::MAX - have.len() + at),
                ),
                (None, None) => (1, at),
            }
        };
        let mut axes: Vec<(usize, &Axis)> = have.iter().enumerate().collect();
        axes.sort_by_key(|(at, axis)| rank(*at, axis));
        axes.into_iter().map(|(_, axis)| axis.clone()).collect()
    }

    fn outside<'n>(&'n self, name: &'n str) -> &'n str {
        self.outer.iter().find(|(inner, _)| inner == name).map_or(name, |(_, outer)| outer)
    }
}

/// `batch`, `batch2`, ..: the number of a further axis of the inputs.
fn further(name: &str) -> Option<usize> {
    match name.strip_prefix("batch")? {
        "" => Some(1),
        number => number.parse().ok(),
    }
}

/// What the axes of a layer's definition are called where it is used: `Linear[d, ff]`.
fn outer_names(layer: &LayerValue, def: &Def) -> Vec<(String, String)> {
    let LayerForm::Plain { brackets, .. } = &layer.form else { return Vec::new() };
    let by_place = def.axes.iter().zip(brackets).filter_map(|(formal, b)| match b {
        Bracket::Axis(name, _) => Some((formal.name.name.clone(), name.to_string())),
        _ => None,
    });
    let by_name = brackets.iter().filter_map(|b| match b {
        Bracket::Named { name, axis: Some(axis), .. } => Some((name.to_string(), axis.to_string())),
        _ => None,
    });
    by_place.chain(by_name).collect()
}

/// `ids: [seq] Id[vocab]`, `target: Id[vocab]`.
fn is_id(p: &ast::Param) -> bool {
    let mut ty = p.ty.as_ref();
    if let Some(TypeKind::Tensor { element, .. }) = ty.map(|t| &t.kind) {
        ty = element.as_deref();
    }
    matches!(ty.map(|t| &t.kind), Some(TypeKind::Named { path, .. })
        if path.len() == 1 && path[0].name == "Id")
}

/// True if a value of the graph, or of a loop in it, has the axis.
fn has_axis(graph: &Graph, name: &str) -> bool {
    graph.nodes.iter().any(|node| {
        let inside = match &node.op {
            Op::Scan(scan) => scan.axis.name.as_str() == name || has_axis(&scan.body, name),
            _ => false,
        };
        inside || node.ty.axes.iter().any(|a| a.name.as_str() == name)
    })
}

/// The definition behind a value.
fn definition(v: &Value) -> Option<Rc<Def>> {
    match v {
        Value::Def(d) => Some(d.clone()),
        Value::Program(p) => Some(p.def.clone()),
        Value::Layer(l) => match &l.form {
            LayerForm::Plain { def, .. } => Some(def.clone()),
            LayerForm::Stack { inner, .. } | LayerForm::Each { inner, .. } => {
                definition(&Value::Layer(inner.clone()))
            }
            LayerForm::Sequence(ls) => {
                ls.first().and_then(|l| definition(&Value::Layer(l.clone())))
            }
        },
        Value::None
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Text(_)
        | Value::List(_)
        | Value::Record(_)
        | Value::Range(..)
        | Value::Tensor(_)
        | Value::Placed(_)
        | Value::Weight(_)
        | Value::Builtin(_)
        | Value::Bracketed(_)
        | Value::Stream(_)
        | Value::Node(_)
        | Value::Later(_)
        | Value::Row(_)
        | Value::Error => None,
    }
}

fn bind(trace: &mut Trace, name: &str, size: usize) {
    let axis = Axis { name: Name::from(name), size };
    trace.axes.insert(name.to_owned(), BoundAxis { axis, origin: None });
}
