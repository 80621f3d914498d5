//! Layers: placed in a model, then called.
//!
//! *Placing* a layer gives it a path, binds its axes (brackets bind at the boundary, other axes by name), places the layers in its
//! fields, and declares its weights; a weight comes into being when a method reads it. *Calling* a placed layer runs its
//! `forward` in a frame of its own.

use std::cell::RefCell;
use std::rc::Rc;

use indexmap::IndexMap;

use super::super::eval::{Eval, def_of, describe};
use super::super::value::{
    BoundAxis, Bracket, Def, DefKind, LayerForm, LayerValue, Quantity, Record, Scope, Value,
};
use super::{Emit, EmitKind, Slot, conform};
use crate::graph::build::show;
use crate::graph::{Axis, DType, Name, NodeId, Role, ScanKind, Type};
use crate::problem::Problem;
use crate::source::Span;
use crate::syntax::ast::{self, ExprKind, ItemKind, TypeKind};

/// A layer at its place.
#[derive(Debug)]
pub struct Placed {
    /// Its path: `blocks.attn`.
    pub path: String,
    /// What it is.
    pub form: PlacedForm,
    /// Where it was written.
    pub span: Span,
}

/// The forms of placed layers.
#[derive(Debug)]
pub enum PlacedForm {
    /// A definition; its scope has arguments, axes, weights, inner layers.
    Plain {
        /// What it is.
        def: Rc<Def>,
        /// Its settings, weights and inner layers.
        scope: Scope,
        /// What happens to axes at its boundary.
        entry: RefCell<Vec<Entry>>,
    },
    /// Copies in a chain: one scan.
    Stack {
        /// Counts the copies.
        axis: Axis,
        /// One of them.
        inner: Rc<Placed>,
    },
    /// Copies side by side: their weights have the axis.
    Each {
        /// All of them, as one layer with wider weights.
        inner: Rc<Placed>,
    },
    /// One after the other.
    Sequence(Vec<Rc<Placed>>),
}

/// What happens to axes at the boundary of a layer.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A second formal axis bound to the same outer axis: the result is renamed on exit.
    Rename { outer: Axis, inner: Axis },
    /// `RMSNorm[(head, dh)]`: merged on entry, split on exit.
    Merge { outer: Vec<Axis>, inner: Axis },
}

impl Eval<'_> {
    /// `stack[depth](L)`, `each[expert](L)`.
    pub fn stack_or_each(
        &mut self,
        name: &str,
        brackets: &[Bracket],
        inner: Option<Value>,
        span: Span,
    ) -> Value {
        let [Bracket::Axis(axis, _)] = brackets else {
            return self.problem(Problem::new(
                "E0406",
                span,
                format!("`{name}` takes one axis: `{name}[depth](Block)`"),
            ));
        };
        let Some(inner) = inner.and_then(|v| self.as_layer(v, span)) else { return Value::Error };
        let axis = axis.clone();
        let form = if name == "stack" {
            LayerForm::Stack { axis, inner }
        } else {
            LayerForm::Each { axis, inner }
        };
        Value::Layer(Rc::new(LayerValue { form, span }))
    }

    /// A value as a layer: a definition without arguments is a layer with its defaults; a list is a sequence.
    pub fn as_layer(&mut self, v: Value, span: Span) -> Option<Rc<LayerValue>> {
        let (v, brackets) = match v {
            Value::Bracketed(b) => (b.0.clone(), b.1.clone()),
            other => (other, Vec::new()),
        };
        match v {
            Value::Layer(l) if brackets.is_empty() => Some(l),
            Value::Layer(l) => match &l.form {
                LayerForm::Plain { def, args, overrides, .. } => {
                    let form = LayerForm::Plain {
                        def: def.clone(),
                        args: args.clone(),
                        brackets,
                        overrides: overrides.clone(),
                    };
                    Some(Rc::new(LayerValue { form, span: l.span }))
                }
                LayerForm::Stack { .. } | LayerForm::Each { .. } | LayerForm::Sequence(_) => {
                    Some(l)
                }
            },
            Value::Def(def) if matches!(def.kind, DefKind::Layer | DefKind::Model) => {
                let frame = def.scope.inner();
                let args = self.bind(&def, super::super::call::Args::default(), span, &frame)?;
                let form = LayerForm::Plain { def, args, brackets, overrides: Record::default() };
                Some(Rc::new(LayerValue { form, span }))
            }
            Value::List(items) => {
                let layers: Option<Vec<_>> =
                    items.iter().map(|v| self.as_layer(v.clone(), span)).collect();
                Some(Rc::new(LayerValue { form: LayerForm::Sequence(layers?), span }))
            }
            Value::Error | Value::Later(_) => None,
            other => {
                let text = format!("a layer is needed, this is {}", describe(&other));
                self.problem(Problem::new("E0301", span, text));
                None
            }
        }
    }

    /// Places a layer at a path. `site` is the scope in whose words its brackets are written; `stack` are the axes of the stacks around it.
    pub fn place(
        &mut self,
        layer: &LayerValue,
        path: &str,
        stack: &[Axis],
        site: &Scope,
    ) -> Option<Rc<Placed>> {
        if self.too_deep(layer.span) {
            return None;
        }
        let form = match &layer.form {
            LayerForm::Stack { axis, inner } | LayerForm::Each { axis, inner } => {
                let axis = self.axis_named(site, axis, layer.span)?;
                let mut inside = stack.to_vec();
                inside.push(axis.clone());
                let inner = self.place(inner, path, &inside, site)?;
                if matches!(layer.form, LayerForm::Stack { .. }) {
                    PlacedForm::Stack { axis, inner }
                } else {
                    PlacedForm::Each { inner }
                }
            }
            LayerForm::Sequence(layers) => {
                let placed: Option<Vec<_>> = layers
                    .iter()
                    .enumerate()
                    .map(|(i, l)| self.place(l, &format!("{path}.{i}"), stack, site))
                    .collect();
                PlacedForm::Sequence(placed?)
            }
            LayerForm::Plain { def, args, brackets, overrides } => {
                self.calls.push(layer.span);
                let placed = self.place_plain(def, args, brackets, overrides, path, stack, site);
                self.calls.pop();
                placed?
            }
        };
        Some(Rc::new(Placed { path: path.to_owned(), form, span: layer.span }))
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of a layer value and its place")]
    fn place_plain(
        &mut self,
        def: &Rc<Def>,
        args: &Record,
        brackets: &[Bracket],
        overrides: &Record,
        path: &str,
        stack: &[Axis],
        site: &Scope,
    ) -> Option<PlacedForm> {
        let scope = def.scope.inner();
        let entry = self.bind_formals(def, &scope, brackets, site)?;
        for (name, (v, _)) in &args.fields {
            scope.bind(name, v.clone());
        }
        let ast::Body::Block(block) = &def.body else { return None };
        let joined =
            |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        let mut fine = true;
        for item in &block.items {
            match &item.kind {
                ItemKind::Field { path: field, value } if field[0].name == "axes" => {
                    if def.kind == DefKind::Model && !self.model_axes(&scope, value, overrides) {
                        return None;
                    }
                }
                ItemKind::Field { path: field, value } => {
                    let name = &field[0].name;
                    let v = match overrides.get(name) {
                        Some(v) => v.clone(),
                        None => self.expr(&scope, value),
                    };
                    let v = match v {
                        Value::Error => {
                            fine = false;
                            Value::Error
                        }
                        v if is_layer(&v) => {
                            let at = joined(name);
                            match self
                                .as_layer(v, value.span)
                                .and_then(|l| self.place(&l, &at, stack, &scope))
                            {
                                Some(p) => Value::Placed(p),
                                None => {
                                    fine = false;
                                    Value::Error
                                }
                            }
                        }
                        v => v,
                    };
                    scope.bind(name, v);
                }
                ItemKind::Weight(decls) => {
                    for d in decls {
                        fine &= self.declare(&scope, d, Role::Weight, &joined(&d.name.name), stack);
                    }
                }
                ItemKind::State(decls) => {
                    for d in decls {
                        fine &= self.declare(&scope, d, Role::State, &joined(&d.name.name), stack);
                    }
                }
                ItemKind::Let { pattern, value, .. } => {
                    let v = self.expr(&scope, value);
                    self.bind_pattern(&scope, pattern, v);
                }
                ItemKind::Fn(c) => self.bind_fn(&scope, c, item.doc.clone()),
                ItemKind::Assert(e) => match self.expr(&scope, e) {
                    Value::Bool(true) | Value::Later(_) => {}
                    Value::Error => fine = false,
                    _ => {
                        let text = self.sources.text(e.span).to_owned();
                        let at = if path.is_empty() { &def.name } else { path };
                        let mut p = Problem::new(
                            "E0413",
                            e.span,
                            format!("`{at}` does not hold its condition `{text}`"),
                        );
                        p = p.help(self.sizes_in(&scope, e));
                        self.problem(p);
                        // What follows would only say the same in other words.
                        return None;
                    }
                },
                ItemKind::Method(_) | ItemKind::Error => {}
                ItemKind::Use { .. }
                | ItemKind::Knob { .. }
                | ItemKind::Layer { .. }
                | ItemKind::Emit { .. }
                | ItemKind::For { .. }
                | ItemKind::Where(_)
                | ItemKind::Map { .. }
                | ItemKind::Def { .. }
                | ItemKind::Node { .. }
                | ItemKind::Expr(_) => {
                    self.problem(
                        Problem::new("E0211", item.span, "this does not belong in a layer").help(
                            "a layer has weights, state, fields, `let`, `assert` and methods",
                        ),
                    );
                    fine = false;
                }
            }
        }
        if super::super::call::has_method(def, "step") {
            self.t().steppers.push((path.to_owned(), def.clone(), scope.clone()));
        }
        fine.then(|| PlacedForm::Plain { def: def.clone(), scope, entry: RefCell::new(entry) })
    }

    /// `axes = { d = 512, .. }` of a model: later ones may use earlier ones; `with` changes sizes before dependent ones are computed.
    fn model_axes(&mut self, scope: &Scope, value: &ast::Expr, overrides: &Record) -> bool {
        let ExprKind::Block(block) = &*value.kind else {
            self.problem(Problem::new("E0301", value.span, "`axes` is a record: `{ d = 512 }`"));
            return false;
        };
        let mut fine = true;
        for item in &block.items {
            let ItemKind::Field { path, value } = &item.kind else {
                self.problem(Problem::new("E0211", item.span, "an axis is `name = size`"));
                fine = false;
                continue;
            };
            let name = &path[0].name;
            let (v, at) = match overrides.fields.get(name) {
                Some((v, at)) => (v.clone(), at.unwrap_or(value.span)),
                None => (self.expr(scope, value), value.span),
            };
            match self.size_of(&v, at) {
                Some(size) => {
                    let origin = match &v {
                        Value::Number(q) => q.origin.or(Some(at)),
                        _ => Some(at),
                    };
                    let axis = Axis { name: Name::from(name.as_str()), size };
                    self.t().axes.insert(name.clone(), BoundAxis { axis, origin });
                }
                None => fine = false,
            }
        }
        fine
    }

    fn bind_formals(
        &mut self,
        def: &Def,
        scope: &Scope,
        brackets: &[Bracket],
        site: &Scope,
    ) -> Option<Vec<Entry>> {
        let mut entry = Vec::new();
        let mut bound: IndexMap<String, Axis> = IndexMap::new();
        let mut position = 0;
        for bracket in brackets {
            match bracket {
                Bracket::Named { name, axis, value, span } => {
                    let target = match (axis, value) {
                        (Some(a), _) if self.t().axis(site, a).is_some() => {
                            self.axis_named(site, a, *span)?
                        }
                        (_, v) => {
                            let size = self.size_of(v, *span)?;
                            self.t().private_axis(scope, name, size)
                        }
                    };
                    bound.insert(name.to_string(), target);
                }
                Bracket::Axis(..) | Bracket::Tuple(..) | Bracket::Value(..) => {
                    let Some(formal) = def.axes.get(position) else {
                        let names: Vec<&str> =
                            def.axes.iter().map(|a| a.name.name.as_str()).collect();
                        let span = match bracket {
                            Bracket::Axis(_, s) | Bracket::Tuple(_, s) | Bracket::Value(_, s) => *s,
                            Bracket::Named { span, .. } | Bracket::Arrow { span, .. } => *span,
                        };
                        self.problem(Problem::new(
                            "E0406",
                            span,
                            format!("`{}` takes the axes [{}]", def.name, names.join(", ")),
                        ));
                        return None;
                    };
                    position += 1;
                    let name = formal.name.name.clone();
                    match bracket {
                        Bracket::Axis(n, at) => {
                            let outer = self.axis_named(site, n, *at)?;
                            bound.insert(name, outer);
                        }
                        Bracket::Tuple(names, at) => {
                            let mut outer = Vec::new();
                            for n in names {
                                outer.push(self.axis_named(site, n, *at)?);
                            }
                            let size = outer.iter().map(|a| a.size).product();
                            let inner = self.t().private_axis(scope, &name, size);
                            entry.push(Entry::Merge { outer, inner: inner.clone() });
                            bound.insert(name, inner);
                        }
                        Bracket::Value(v, at) => {
                            let size = self.size_of(v, *at)?;
                            let axis = self.t().private_axis(scope, &name, size);
                            bound.insert(name, axis);
                        }
                        Bracket::Named { .. } | Bracket::Arrow { .. } => {}
                    }
                }
                Bracket::Arrow { span, .. } => {
                    self.problem(
                        Problem::new("E0406", *span, "a layer's axes are bound with `=`")
                            .help("write `Enc[seq = src]`"),
                    );
                    return None;
                }
            }
        }
        for formal in &def.axes {
            let name = &formal.name.name;
            if bound.contains_key(name) {
                continue;
            }
            if let Some(default) = &formal.size {
                let v = self.expr(scope, default);
                let size = self.size_of(&v, default.span)?;
                let axis = self.t().private_axis(scope, name, size);
                bound.insert(name.clone(), axis);
            } else if let Some(outer) = self.t().axis(site, name) {
                bound.insert(name.clone(), outer.axis);
            }
        }
        // Two formals on one outer axis stay apart inside: the later one is local and renamed on exit.
        let mut used: Vec<Axis> = Vec::new();
        for (name, axis) in bound {
            let origin = self.t().axes.get(axis.name.as_str()).and_then(|a| a.origin);
            if used.contains(&axis) {
                let inner = self.t().private_axis(scope, &name, axis.size);
                entry.push(Entry::Rename { outer: axis, inner });
            } else {
                used.push(axis.clone());
                scope.bind_axis(&name, BoundAxis { axis, origin });
            }
        }
        Some(entry)
    }

    fn declare(
        &mut self,
        scope: &Scope,
        d: &ast::WeightDecl,
        role: Role,
        path: &str,
        stack: &[Axis],
    ) -> bool {
        let mut axes = Vec::new();
        for a in &d.axes {
            match self.axis_named(scope, &a.name.name, a.name.span) {
                Some(axis) => axes.push(axis),
                None => return false,
            }
        }
        for (i, a) in axes.iter().enumerate() {
            if axes[..i].contains(a) || stack.contains(a) {
                let text = format!("the weight `{path}` has the axis `{}` twice", a.name);
                self.problem(
                    Problem::new("E0407", d.span, text)
                        .help("bind one of them to another axis in the brackets of the layer"),
                );
                return false;
            }
        }
        let slot = Slot {
            name: path.to_owned(),
            stack: stack.to_vec(),
            axes,
            role,
            init: d.init.clone(),
            scope: scope.clone(),
            pinned: d.ty.is_some(),
            span: d.span,
        };
        scope.bind(&d.name.name, Value::Weight(Rc::new(slot)));
        true
    }

    fn sizes_in(&self, scope: &Scope, e: &ast::Expr) -> String {
        let text = self.sources.text(e.span);
        let mut parts = Vec::new();
        let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        for word in words {
            let Some(a) = self.trace.as_ref().and_then(|t| t.axis(scope, word)) else { continue };
            let mut part = format!("`{word}` is {}", a.axis.size);
            if let Some(o) = a.origin {
                let (line, _) = self.sources.line_col(o);
                part += &format!(" ({}:{line})", self.sources.file(o.file).name);
            }
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        parts.join(", ")
    }

    /// Calls a placed layer.
    pub fn call_placed(&mut self, placed: &Rc<Placed>, args: Vec<Value>, span: Span) -> Value {
        match &placed.form {
            PlacedForm::Plain { def, scope, entry } => {
                let entry = entry.borrow().clone();
                self.forward(placed, def, scope, &entry, args, span)
            }
            PlacedForm::Each { inner } => self.call_placed(inner, args, span),
            PlacedForm::Sequence(layers) => {
                let mut args = args;
                for layer in layers {
                    let out = self.call_placed(layer, args.clone(), span);
                    match (&out, args.first_mut()) {
                        (Value::Error, _) | (_, None) => return Value::Error,
                        (_, Some(first)) => *first = out,
                    }
                }
                args.into_iter().next().unwrap_or(Value::Error)
            }
            PlacedForm::Stack { axis, inner } => self.call_stack(axis, inner, args, span),
        }
    }

    /// One scan over the copies: the first argument is the carry, further ones go to each copy unchanged.
    fn call_stack(
        &mut self,
        axis: &Axis,
        inner: &Rc<Placed>,
        args: Vec<Value>,
        span: Span,
    ) -> Value {
        let mut args = args.into_iter();
        let Some(first) = args.next() else {
            return self.problem(Problem::new("E0308", span, "a stack of layers takes a value"));
        };
        let Some(x) = self.tensor_node(first, span) else { return Value::Error };
        let start = self.to_compute(x);
        let ty = self.t().b().ty(start).clone();
        self.t().open(Some(axis.clone()));
        let carry = self.t().b().input("carry", ty.clone(), Role::Local);
        let mut inside = vec![self.wrap(carry)];
        inside.extend(args);
        let out = self.call_placed(inner, inside, span);
        let Some(y) = self.tensor_node(out, span) else {
            self.t().abandon();
            return Value::Error;
        };
        let got = self.t().b().ty(y).clone();
        let same_axes = got.axes.len() == ty.axes.len()
            && got.axes.iter().all(|a| ty.size(&a.name) == Some(a.size));
        if !same_axes {
            self.t().abandon();
            let text = format!(
                "a stacked layer gives what it takes; this one takes {} and gives {}",
                show(&ty.axes),
                show(&got.axes)
            );
            return self.problem(Problem::new("E0414", span, text));
        }
        match self.t().close(ScanKind::Layers, false, &[(carry, start)], &[y], &[]) {
            Ok(parts) => self.wrap(parts[0]),
            Err(m) => self.misfit(m, span),
        }
    }

    fn forward(
        &mut self,
        placed: &Rc<Placed>,
        def: &Rc<Def>,
        scope: &Scope,
        entry: &[Entry],
        args: Vec<Value>,
        span: Span,
    ) -> Value {
        let Some(method) = super::super::call::method(def, "forward").cloned() else {
            let text = format!("the layer `{}` has no `forward`", def.name);
            return self.problem(Problem::new("E0214", def.span, text));
        };
        if args.len() != method.params.len() {
            let names: Vec<&str> = method.params.iter().map(|p| p.name.name.as_str()).collect();
            let text =
                format!("`{}` takes ({}), here are {}", def.name, names.join(", "), args.len());
            return self.problem(
                Problem::new("E0308", span, text).label(method.span, "`forward` is here"),
            );
        }
        if self.too_deep(span) {
            return Value::Error;
        }
        self.calls.push(span);
        let outer_path = {
            let t = self.t();
            t.path.push(placed.path.clone());
            t.b().path.replace(Name::from(placed.path.as_str()))
        };
        let frame = scope.inner();
        let result = self.forward_body(&frame, def, &method, entry, args, span);
        let t = self.t();
        t.path.pop();
        t.b().path = outer_path;
        self.calls.pop();
        result
    }

    fn forward_body(
        &mut self,
        frame: &Scope,
        def: &Rc<Def>,
        method: &ast::Callable,
        entry: &[Entry],
        args: Vec<Value>,
        span: Span,
    ) -> Value {
        for (param, arg) in method.params.iter().zip(args) {
            let mut arg = arg;
            for e in entry {
                if let Entry::Merge { outer, inner } = e
                    && let Value::Tensor(_) = arg
                {
                    let Some(x) = self.tensor_node(arg, span) else { return Value::Error };
                    let names: Vec<Name> = outer.iter().map(|a| a.name.clone()).collect();
                    let built = self.t().b().merge(x, &names, &inner.name);
                    arg = self.built(built, span);
                }
            }
            if let (Some(ty), Value::Tensor(t)) = (&param.ty, &arg) {
                let have = self.t().ty(*t).clone();
                if !self.has_axes(frame, ty, &have, &param.name.name, &def.name, span) {
                    return Value::Error;
                }
            }
            frame.bind(&param.name.name, arg);
        }
        let value = self.body(frame, &method.body);
        let out = self.leave(value, entry, span);
        if let (Some(ty), Value::Tensor(t)) = (&method.result, &out) {
            let mut have = self.t().ty(*t).clone();
            // After a rename on exit the inner name is gone: the declared one is checked under its outer name.
            for e in entry {
                if let Entry::Rename { outer, inner } = e
                    && let Some(a) = have.axes.iter_mut().find(|a| a.name == outer.name)
                {
                    a.name = inner.name.clone();
                }
                if let Entry::Merge { outer, inner } = e {
                    have.axes.retain(|a| !outer.iter().any(|o| o.name == a.name));
                    have.axes.push(inner.clone());
                }
            }
            if !self.has_axes(frame, ty, &have, "the result", &def.name, span) {
                return Value::Error;
            }
        }
        out
    }

    fn has_axes(
        &mut self,
        frame: &Scope,
        ty: &ast::Type,
        have: &Type,
        what: &str,
        layer: &str,
        span: Span,
    ) -> bool {
        let TypeKind::Tensor { axes, .. } = &ty.kind else { return true };
        for a in axes {
            let Some(bound) = self.t().axis(frame, &a.name.name) else { continue };
            if have.find(&bound.axis.name).is_none() {
                let text = format!(
                    "`{what}` of `{layer}` needs axis `{}`, but the value has {}",
                    a.name.name,
                    show(&have.axes)
                );
                self.problem(Problem::new("E0403", span, text).label(ty.span, "declared here"));
                return false;
            }
        }
        true
    }

    /// Rounds a layer's outputs to the compute dtype and undoes what was done to axes on entry.
    fn leave(&mut self, v: Value, entry: &[Entry], span: Span) -> Value {
        match v {
            Value::Tensor(_) | Value::Weight(_) => {
                let Some(mut x) = self.tensor_node(v, span) else { return Value::Error };
                for e in entry {
                    let built = match e {
                        Entry::Rename { outer, inner } => {
                            if self.t().b().ty(x).find(&inner.name).is_none() {
                                continue;
                            }
                            self.t().b().rename(x, &[(inner.name.clone(), outer.name.clone())])
                        }
                        Entry::Merge { outer, inner } => {
                            if self.t().b().ty(x).find(&inner.name).is_none() {
                                continue;
                            }
                            self.t().b().split(x, &inner.name, outer)
                        }
                    };
                    match built {
                        Ok(n) => x = n,
                        Err(m) => return self.misfit(m, span),
                    }
                }
                if self.t().b().ty(x).dtype.is_float() {
                    x = self.to_compute(x);
                }
                self.wrap(x)
            }
            Value::Record(r) => {
                let mut out = Record::default();
                for (name, (v, at)) in &r.fields {
                    let v = self.leave(v.clone(), entry, span);
                    out.set(name, v, *at);
                }
                Value::Record(Rc::new(out))
            }
            other => other,
        }
    }

    /// A member of a placed layer: `embed.table`.
    pub fn placed_member(&mut self, p: &Rc<Placed>, name: &ast::Ident) -> Value {
        match &p.form {
            PlacedForm::Plain { scope, def, .. } => {
                let found = scope.0.names.borrow().get(&name.name).cloned();
                match found {
                    Some(Value::Weight(slot)) => Value::Tensor(self.t().slot(&slot)),
                    Some(v) => v,
                    None => {
                        let names = scope.0.names.borrow().keys().cloned().collect();
                        self.no_field(name, &format!("`{}`", def.name), names)
                    }
                }
            }
            PlacedForm::Stack { inner, .. } | PlacedForm::Each { inner } => {
                let inner = inner.clone();
                self.placed_member(&inner, name)
            }
            PlacedForm::Sequence(_) => {
                self.problem(Problem::new("E0203", name.span, "a list of layers has no fields"))
            }
        }
    }

    /// `measure x = e`, `penalty x = e`.
    pub fn emit(
        &mut self,
        scope: &Scope,
        kind: ast::EmitKind,
        name: &ast::Ident,
        value: &ast::Expr,
    ) {
        let v = self.expr(scope, value);
        scope.bind(&name.name, v.clone());
        if self.trace.is_none() || matches!(v, Value::Error) {
            return;
        }
        let Some(node) = self.tensor_node(v, value.span) else { return };
        let path = self.t().path();
        let full =
            if path.is_empty() { name.name.clone() } else { format!("{path}.{}", name.name) };
        let kind = match kind {
            ast::EmitKind::Measure => EmitKind::Measure,
            ast::EmitKind::Penalty => EmitKind::Penalty,
        };
        let level = self.t().levels.last_mut().expect("a trace has a level");
        level.emits.push(Emit { name: full, kind, node });
    }

    /// A number of an axis or a value for initialisers: `fan_in` and the like are bound by the caller.
    pub fn plain(value: f64) -> Value {
        Value::Number(Quantity::plain(value))
    }

    /// A tensor with the declared axes of a state at its start.
    pub fn state_start(&mut self, axes: &[Axis], start: Value, span: Span) -> Option<NodeId> {
        let x = self.tensor_node(start, span)?;
        let b = self.t().b();
        Some(conform(b, x, &Type::new(DType::F32, axes.to_vec())))
    }

    /// The definition of a model node without parameters, as a layer.
    pub fn model_def(
        name: &ast::Ident,
        block: &ast::Block,
        scope: &Scope,
        doc: Option<String>,
    ) -> Def {
        let c = ast::Callable {
            name: name.clone(),
            axes: Vec::new(),
            params: Vec::new(),
            result: None,
            body: ast::Body::Block(block.clone()),
            span: block.span,
        };
        def_of(DefKind::Model, &c, scope, doc)
    }
}

fn is_layer(v: &Value) -> bool {
    match v {
        Value::Layer(_) => true,
        Value::Def(d) => matches!(d.kind, DefKind::Layer | DefKind::Model),
        Value::Bracketed(b) => is_layer(&b.0),
        Value::List(items) => !items.is_empty() && items.iter().all(is_layer),
        Value::None
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Text(_)
        | Value::Record(_)
        | Value::Range(..)
        | Value::Tensor(_)
        | Value::Placed(_)
        | Value::Program(_)
        | Value::Weight(_)
        | Value::Builtin(_)
        | Value::Stream(_)
        | Value::Node(_)
        | Value::Later(_)
        | Value::Row(_)
        | Value::Error => false,
    }
}
