//! Placing: a layer gets a path, its axes are bound, the layers in its fields are placed, its weights are declared.

use std::cell::RefCell;
use std::rc::Rc;

use indexmap::IndexMap;

use super::{Entry, Placed, PlacedForm, is_layer};
use crate::check::call::has_method;
use crate::check::eval::Eval;
use crate::check::trace::Slot;
use crate::check::units;
use crate::check::value::{
    BoundAxis, Bracket, Def, DefKind, LayerForm, LayerValue, Record, Scope, Value,
};
use crate::graph::{Axis, Name, Role};
use crate::problem::Problem;
use crate::syntax::ast::{self, ExprKind, ItemKind};

impl Eval<'_> {
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
        if has_method(def, "step") {
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
            let axis = self.trace.as_ref().and_then(|t| t.axis(scope, word));
            let (size, origin) = match (axis, scope.get(word)) {
                (Some(a), _) => (a.axis.size.to_string(), a.origin),
                (None, Some(Value::Number(q))) => (units::show(&q), q.origin),
                (None, _) => continue,
            };
            let mut part = format!("`{word}` is {size}");
            if let Some(o) = origin {
                let (line, _) = self.sources.line_col(o);
                part += &format!(" ({}:{line})", self.sources.file(o.file).name);
            }
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
        parts.join(", ")
    }
}
