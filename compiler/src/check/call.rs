//! Calls: functions run, everything else that takes arguments remembers them ("calls are records"), so `with` can change them later.

use std::rc::Rc;

use indexmap::IndexMap;

use super::eval::{Eval, describe, kind_name, program};
use super::value::{
    BoundAxis, Bracket, Def, DefKind, LayerForm, LayerValue, NodeValue, Program, Quantity, Record,
    Scope, Value,
};
use super::{stages, trace, types};
use crate::problem::{Problem, did_you_mean};
use crate::source::Span;
use crate::syntax::ast::{self, Expr, ExprKind, ItemKind};

/// Evaluated arguments.
#[derive(Debug, Clone, Default)]
pub struct Args {
    /// In order.
    pub positional: Vec<(Value, Span)>,
    /// By name, in order.
    pub named: IndexMap<String, (Value, Span)>,
}

impl Args {
    /// True if any argument is wrong already.
    pub fn has_error(&self) -> bool {
        let wrong = |v: &Value| matches!(v, Value::Error);
        self.positional.iter().any(|(v, _)| wrong(v)) || self.named.values().any(|(v, _)| wrong(v))
    }
}

impl Eval<'_> {
    /// Calls a value. `piped` is the value in front of `|>`: the first argument.
    pub fn call(
        &mut self,
        scope: &Scope,
        f: Value,
        piped: Option<(Value, Span)>,
        args: &[ast::Arg],
        span: Span,
    ) -> Value {
        let (f, brackets) = match f {
            Value::Bracketed(b) => (b.0.clone(), b.1.clone()),
            other => (other, Vec::new()),
        };
        match f {
            Value::Error => Value::Error,
            Value::Later(l) => Value::Later(l),
            Value::Builtin("attend") => self.attend(scope, &brackets, piped, args, span),
            Value::Builtin("pos") => match args {
                // The argument is the name of an axis, not its size.
                [ast::Arg { name: None, value }] if piped.is_none() => match &*value.kind {
                    ExprKind::Name(axis) if self.trace.is_some() => {
                        self.pos_of(scope, axis, value.span)
                    }
                    _ => self.problem(
                        Problem::new("E0308", span, "`pos` takes the name of an axis: `pos(seq)`")
                            .help("it works inside methods, where tensors are"),
                    ),
                },
                _ => self.problem(Problem::new("E0308", span, "`pos` takes one axis: `pos(seq)`")),
            },
            Value::Builtin(name) => {
                let args = self.args(scope, piped, args, true);
                if args.has_error() {
                    return Value::Error;
                }
                if trace::is_op(name) {
                    self.op(scope, name, &brackets, args, span)
                } else {
                    stages::call(self, scope, name, args, span)
                }
            }
            Value::Def(def) => {
                let args = self.args(scope, piped, args, false);
                self.call_def(scope, &def, &brackets, args, span)
            }
            Value::Placed(p) => {
                let args = self.args(scope, piped, args, false);
                if args.has_error() {
                    return Value::Error;
                }
                let values = args.positional.into_iter().map(|(v, _)| v).collect();
                self.call_placed(&p, values, span)
            }
            Value::Program(p) => {
                let args = self.args(scope, piped, args, false);
                self.call_program(&p, args, span)
            }
            // `lr(t)` where the schedule is a plain number.
            Value::Number(q) if self.trace.is_some() => Value::Number(q),
            Value::Row(r) => Value::Row(r),
            other => {
                let text = format!("{} cannot be called", describe(&other));
                self.problem(Problem::new("E0307", span, text))
            }
        }
    }

    /// Evaluates arguments; `words`: a bare unknown name is a word (the case of an enumeration), to be judged by the callee's schema.
    pub fn args(
        &mut self,
        scope: &Scope,
        piped: Option<(Value, Span)>,
        args: &[ast::Arg],
        words: bool,
    ) -> Args {
        let mut out = Args::default();
        out.positional.extend(piped);
        for a in args {
            let v = if words { self.word_or(scope, &a.value) } else { self.expr(scope, &a.value) };
            match &a.name {
                None => out.positional.push((v, a.value.span)),
                Some(n) => {
                    if out.named.contains_key(&n.name) {
                        self.problem(Problem::new(
                            "E0204",
                            n.span,
                            format!("`{}` is given twice", n.name),
                        ));
                    }
                    out.named.insert(n.name.clone(), (v, a.value.span));
                }
            }
        }
        out
    }

    /// An expression, or the text of a bare name that nothing in sight has.
    pub fn word_or(&mut self, scope: &Scope, e: &Expr) -> Value {
        if let ExprKind::Name(n) = &*e.kind {
            let known = scope.get(n).is_some()
                || self.trace.as_ref().is_some_and(|t| t.axis(scope, n).is_some())
                || self.knows(scope.0.module, n);
            if !known {
                return Value::Text(n.as_str().into());
            }
        }
        self.expr(scope, e)
    }

    fn call_def(
        &mut self,
        scope: &Scope,
        def: &Rc<Def>,
        brackets: &[Bracket],
        args: Args,
        span: Span,
    ) -> Value {
        let short_loss =
            def.kind == DefKind::Loss && !has_method(def, "of") && !args.positional.is_empty();
        match def.kind {
            DefKind::Fn => self.run(scope, def, brackets, args, span),
            DefKind::Loss if short_loss => self.run(scope, def, brackets, args, span),
            DefKind::Schedule | DefKind::Law
                if !has_method(def, "at") && matches!(def.body, ast::Body::Expr(_)) =>
            {
                self.run(scope, def, brackets, args, span)
            }
            DefKind::Layer | DefKind::Model => {
                let Some(args) = self.bind(def, args, span, &def.scope.inner()) else {
                    return Value::Error;
                };
                let form = LayerForm::Plain {
                    def: def.clone(),
                    args,
                    brackets: brackets.to_vec(),
                    overrides: Record::default(),
                };
                Value::Layer(Rc::new(LayerValue { form, span }))
            }
            DefKind::Optimizer
            | DefKind::Schedule
            | DefKind::Loss
            | DefKind::Law
            | DefKind::Filter
            | DefKind::Score => match self.bind(def, args, span, &def.scope.inner()) {
                Some(args) => program(def.clone(), args, span),
                None => Value::Error,
            },
        }
    }

    /// Runs a function.
    pub(super) fn run(
        &mut self,
        scope: &Scope,
        def: &Rc<Def>,
        brackets: &[Bracket],
        args: Args,
        span: Span,
    ) -> Value {
        if args.has_error() || self.too_deep(span) {
            return Value::Error;
        }
        self.reached.insert(def.span);
        if self.running.contains(&def.span) {
            return self.problem(
                Problem::new("E0206", span, format!("`{}` calls itself", def.name))
                    .help("the language has no recursion; use `for` or `scan`"),
            );
        }
        let frame = def.scope.inner();
        self.bind_axes(scope, &frame, def, brackets, span);
        self.calls.push(span);
        self.running.push(def.span);
        let result = match self.bind(def, args, span, &frame) {
            None => Value::Error,
            Some(args) => {
                for (name, (v, _)) in args.fields {
                    frame.bind(&name, v);
                }
                self.body(&frame, &def.body)
            }
        };
        self.running.pop();
        self.calls.pop();
        result
    }

    /// Runs a body in its frame.
    pub fn body(&mut self, frame: &Scope, body: &ast::Body) -> Value {
        match body {
            ast::Body::Expr(e) => self.expr(frame, e),
            ast::Body::Block(b) => self.block(frame, b),
        }
    }

    /// Binds the formal axes of a definition to what the brackets of a call name.
    pub fn bind_axes(
        &mut self,
        scope: &Scope,
        frame: &Scope,
        def: &Def,
        brackets: &[Bracket],
        span: Span,
    ) {
        if brackets.len() > def.axes.len() {
            let names: Vec<&str> = def.axes.iter().map(|a| a.name.name.as_str()).collect();
            self.problem(Problem::new(
                "E0406",
                span,
                format!("`{}` takes the axes [{}]", def.name, names.join(", ")),
            ));
        }
        for (i, formal) in def.axes.iter().enumerate() {
            let name = &formal.name.name;
            let given = match brackets.get(i) {
                Some(Bracket::Axis(n, _)) => Some(n.to_string()),
                Some(Bracket::Named { .. } | Bracket::Value(..) | Bracket::Tuple(..)) | None => {
                    None
                }
                Some(Bracket::Arrow { .. }) => None,
            };
            let given = given.or_else(|| {
                brackets.iter().find_map(|b| match b {
                    Bracket::Named { name: n, axis: Some(a), .. } if **n == **name => {
                        Some(a.to_string())
                    }
                    _ => None,
                })
            });
            let Some(trace) = &self.trace else { continue };
            let actual = given.clone().unwrap_or_else(|| name.clone());
            if let Some(bound) = trace.axis(scope, &actual) {
                frame.bind_axis(name, bound);
            } else if given.is_some() {
                self.problem(Problem::new(
                    "E0402",
                    span,
                    format!("there is no axis `{actual}` here, for `{name}` of `{}`", def.name),
                ));
            }
        }
    }

    /// Arguments to parameters: positional in order, named by name, the rest from the defaults.
    pub fn bind(&mut self, def: &Def, args: Args, span: Span, frame: &Scope) -> Option<Record> {
        let mut record = Record::default();
        let positional: Vec<Span> = args.positional.iter().map(|(_, at)| *at).collect();
        let named: Vec<(String, Span)> =
            args.named.iter().map(|(name, (_, at))| (name.clone(), *at)).collect();
        let misfits = self.misfits(def, &positional, &named, span);
        let mut fine = misfits.is_empty();
        for p in misfits {
            self.problem(p);
        }
        for (i, param) in def.params.iter().enumerate() {
            let name = &param.name.name;
            let given = args.positional.get(i).or_else(|| args.named.get(name)).cloned();
            let (value, at) = match given {
                Some(v) => v,
                None => match &param.default {
                    Some(e) => (self.expr(frame, e), e.span),
                    None => continue,
                },
            };
            if let Some(ty) = &param.ty
                && let Err(text) = types::fits(&value, ty)
            {
                let text = format!("`{name}` of `{}` {text}", def.name);
                let p = Problem::new("E0301", at, text).label(ty.span, "declared here");
                self.problem(share_help(p, ty, &value));
                fine = false;
            } else if let Some(ty) = &param.ty
                && let Some(text) = types::out_of_range(&value, ty, is_program(def.kind))
            {
                let text = format!("`{name}` of `{}` {text}", def.name);
                let p = Problem::new("E0316", at, text).label(ty.span, "declared here");
                self.problem(share_help(p, ty, &value));
                fine = false;
            }
            // Later defaults may use earlier parameters.
            frame.bind(name, value.clone());
            record.set(name, value, Some(at));
        }
        fine.then_some(record)
    }

    /// How arguments do not fit the parameters of a definition: too many, of other names, too few. Nothing is evaluated.
    pub(super) fn misfits(
        &self,
        def: &Def,
        positional: &[Span],
        named: &[(String, Span)],
        span: Span,
    ) -> Vec<Problem> {
        let mut found = Vec::new();
        let names: Vec<&str> = def.params.iter().map(|p| p.name.name.as_str()).collect();
        if let Some(at) = positional.get(names.len()) {
            let (n, s) = (names.len(), if names.len() == 1 { "" } else { "s" });
            let text = format!("`{}` takes {n} value{s}, this is one more", def.name);
            found.push(Problem::new("E0308", *at, text));
        }
        for (name, at) in named.iter().filter(|(name, _)| !names.contains(&name.as_str())) {
            let at = self.name_before(*at, name);
            let text = format!("no field `{name}` in `{}`", def.name);
            let p = Problem::new("E0203", at, text);
            found.push(match did_you_mean(name, names.iter().copied()) {
                Some(near) => p.at(format!("did you mean `{near}`?")).fix(at, near),
                None => p.help(format!("it takes: {}", names.join(", "))),
            });
        }
        for param in def.params.iter().skip(positional.len()).filter(|p| p.default.is_none()) {
            let name = &param.name.name;
            if !named.iter().any(|(n, _)| n == name) {
                let text = format!("`{}` needs a value for `{name}`", def.name);
                let p = Problem::new("E0309", span, text);
                found.push(p.label(param.name.span, "declared here"));
            }
        }
        found
    }

    /// The place of `name` in `name = value`, from the place of the value.
    fn name_before(&self, value: Span, name: &str) -> Span {
        let text = &self.sources.file(value.file).text;
        let before = &text[..(value.start as usize).min(text.len())];
        match before.rfind(name) {
            Some(at) => Span::new(value.file, at, at + name.len()),
            None => value,
        }
    }

    fn call_program(&mut self, p: &Rc<Program>, args: Args, span: Span) -> Value {
        match p.def.kind {
            DefKind::Schedule => {
                let t = args.positional.first().map(|(v, _)| v.clone()).unwrap_or(Value::None);
                self.schedule_at(p, t, span)
            }
            DefKind::Loss if !args.positional.is_empty() => {
                let frame = self.program_frame(p);
                let Some(of) = method(&p.def, "of") else { return Value::Error };
                for (param, (v, _)) in of.params.iter().zip(args.positional) {
                    frame.bind(&param.name.name, v);
                }
                self.calls.push(span);
                let v = self.body(&frame, &of.body);
                self.calls.pop();
                v
            }
            kind => {
                let text = format!("a {} cannot be called here", kind_name(kind));
                self.problem(Problem::new("E0307", span, text))
            }
        }
    }

    /// A frame with the settings of a program.
    pub fn program_frame(&mut self, p: &Program) -> Scope {
        self.reached.insert(p.def.span);
        let frame = p.def.scope.inner();
        for (name, (v, _)) in &p.args.fields {
            frame.bind(name, v.clone());
        }
        if let ast::Body::Block(block) = &p.def.body {
            for item in &block.items {
                match &item.kind {
                    ItemKind::Let { pattern, value, .. } => {
                        let v = self.expr(&frame, value);
                        self.bind_pattern(&frame, pattern, v);
                    }
                    ItemKind::Fn(c) => self.bind_fn(&frame, c, item.doc.clone()),
                    _ => {}
                }
            }
        }
        frame
    }

    /// The value of a schedule at this step: `at(x)` or `at(x, t)`, x the share of the budget spent.
    pub fn schedule_at(&mut self, p: &Rc<Program>, t: Value, span: Span) -> Value {
        let Some(at) = method(&p.def, "at") else {
            let text = format!("the schedule `{}` has no method `at(x)`", p.def.name);
            return self.problem(Problem::new("E0214", p.def.span, text));
        };
        let frame = self.program_frame(p);
        let x = match &mut self.trace {
            Some(trace) => {
                let node = trace.b().runtime(crate::graph::Runtime::Share);
                Value::Tensor(trace.tensor(node))
            }
            None => Value::Number(Quantity::plain(0.0)),
        };
        for (param, v) in at.params.iter().zip([x, t]) {
            frame.bind(&param.name.name, v);
        }
        self.calls.push(span);
        let v = self.body(&frame, &at.body);
        self.calls.pop();
        v
    }

    /// `base with update`.
    pub fn with(&mut self, scope: &Scope, base: Value, update: &Expr, span: Span) -> Value {
        let mut changes: Vec<(Vec<String>, Value, Span)> = Vec::new();
        let mut items = Vec::new();
        if let ExprKind::Block(block) = &*update.kind {
            let inner = scope.inner();
            for item in &block.items {
                match &item.kind {
                    ItemKind::Field { path, value } => {
                        let v = super::kinds::changed(self, &inner, &base, path, value);
                        let names = path.iter().map(|i| i.name.clone()).collect();
                        changes.push((names, v, path[0].span.to(path[path.len() - 1].span)));
                    }
                    ItemKind::Let { pattern, value, .. } => {
                        let v = self.expr(&inner, value);
                        self.bind_pattern(&inner, pattern, v);
                    }
                    // A block of a node, such as `eval { .. }`: it takes the place of the one that is there.
                    ItemKind::Node { kind: word, name, body } if matches!(base, Value::Node(_)) => {
                        let Value::Node(n) = &base else { continue };
                        let at = (word, name.as_ref(), body);
                        match super::kinds::changed_block(self, &inner, n, at, item.span) {
                            Some((key, v)) => changes.push((vec![key], v, word.span)),
                            None => return Value::Error,
                        }
                    }
                    ItemKind::For { .. } | ItemKind::Where(_) | ItemKind::Emit { .. }
                        if matches!(base, Value::Node(_)) =>
                    {
                        items.push(item.clone());
                    }
                    ItemKind::Error => return Value::Error,
                    _ if matches!(base, Value::Error | Value::Later(_)) => {}
                    _ => {
                        let text = format!(
                            "this does not belong behind `with`: {} has only fields",
                            describe(&base)
                        );
                        let p = Problem::new("E0211", item.span, text);
                        return self.problem(p.help("a change is `name = value`"));
                    }
                }
            }
        } else {
            match self.expr(scope, update) {
                Value::Record(r) => {
                    for (name, (v, at)) in &r.fields {
                        let names = name.split('.').map(str::to_owned).collect();
                        changes.push((names, v.clone(), at.unwrap_or(update.span)));
                    }
                }
                Value::Error => return Value::Error,
                Value::Later(l) => return Value::Later(l),
                other => {
                    let found = describe(&other);
                    return self.problem(Problem::new(
                        "E0302",
                        update.span,
                        format!("`with` takes a record `{{ .. }}`, this is {found}"),
                    ));
                }
            }
        }
        let mut value = base;
        if let (Value::Node(n), false) = (&value, items.is_empty()) {
            value = Value::Node(Rc::new(NodeValue { items, ..clone_node(n) }));
        }
        for (path, v, at) in changes {
            let path: Vec<&str> = path.iter().map(String::as_str).collect();
            value = self.set_path(value, &path, v, at, span);
        }
        value
    }

    /// `base` with the field at a path replaced.
    pub fn set_path(
        &mut self,
        base: Value,
        path: &[&str],
        v: Value,
        at: Span,
        span: Span,
    ) -> Value {
        let [first, rest @ ..] = path else { return v };
        let deeper = |this: &mut Self, old: Option<Value>, v: Value| {
            if rest.is_empty() {
                return v;
            }
            match old {
                Some(old) => this.set_path(old, rest, v, at, span),
                None => this.problem(Problem::new(
                    "E0203",
                    at,
                    format!("there is no `{first}` to change"),
                )),
            }
        };
        match base {
            Value::Error => Value::Error,
            Value::Later(l) => Value::Later(l),
            Value::Node(n) => {
                if let Err(names) = super::kinds::has_field(&n.kind, first) {
                    let id = ast::Ident { name: (*first).to_owned(), span: at };
                    let near = did_you_mean(first, names.iter().map(String::as_str));
                    let what = format!("the {} `{}`", n.kind, n.name);
                    if let (None, Some(home)) = (near, super::kinds::home_of(first)) {
                        let text = format!("no field `{first}` in {what}");
                        let help = format!("it is a field of {home}");
                        return self.problem(Problem::new("E0203", at, text).help(help));
                    }
                    return self.no_field(&id, &what, names);
                }
                let mut node = clone_node(&n);
                let v = deeper(self, n.fields.get(first).cloned(), v);
                node.fields.set(first, v, Some(at));
                Value::Node(Rc::new(node))
            }
            Value::Record(r) => {
                let mut r = (*r).clone();
                let v = deeper(self, r.get(first).cloned(), v);
                r.set(first, v, Some(at));
                Value::Record(Rc::new(r))
            }
            Value::Program(p) => {
                let mut args = p.args.clone();
                if args.get(first).is_none() {
                    let names = args.fields.keys().cloned().collect();
                    let id = ast::Ident { name: (*first).to_owned(), span: at };
                    return self.no_field(&id, &format!("`{}`", p.def.name), names);
                }
                let v = deeper(self, args.get(first).cloned(), v);
                args.set(first, v, Some(at));
                program(p.def.clone(), args, p.span)
            }
            Value::Def(def) if matches!(def.kind, DefKind::Layer | DefKind::Model) => {
                let layer = self.call_def(&def.scope.clone(), &def, &[], Args::default(), span);
                self.set_path(layer, path, v, at, span)
            }
            Value::Layer(l) => self.layer_with(&l, first, rest, v, at, span),
            other => {
                let text = format!("there is no `{first}` to change in {}", describe(&other));
                self.problem(
                    Problem::new("E0302", at, text)
                        .at("what is before the dot is no record, node or model")
                        .help("replace it as a whole, as in `a with { optimizer = adamw(lr = cosine(peak = 1e-3)) }`"),
                )
            }
        }
    }

    fn layer_with(
        &mut self,
        l: &Rc<LayerValue>,
        first: &str,
        rest: &[&str],
        v: Value,
        at: Span,
        span: Span,
    ) -> Value {
        let LayerForm::Plain { def, args, brackets, overrides } = &l.form else {
            let text = "`with` changes a layer or model, not a stack of them";
            return self.problem(Problem::new("E0302", span, text));
        };
        let (mut args, mut overrides) = (args.clone(), overrides.clone());
        let is_param = def.params.iter().any(|p| p.name.name == first);
        let slot = if is_param { &mut args } else { &mut overrides };
        if !is_param && !has_field(def, first) {
            let mut names: Vec<String> = def.params.iter().map(|p| p.name.name.clone()).collect();
            names.extend(field_names(def));
            let id = ast::Ident { name: first.to_owned(), span: at };
            return self.no_field(&id, &format!("`{}`", def.name), names);
        }
        let new = if rest.is_empty() {
            v
        } else if first == "axes" {
            // `axes.d = 768` is `d = 768`.
            let mut overrides = overrides;
            overrides.set(rest[0], v, Some(at));
            let form =
                LayerForm::Plain { def: def.clone(), args, brackets: brackets.clone(), overrides };
            return Value::Layer(Rc::new(LayerValue { form, span: l.span }));
        } else {
            let Some(old) = slot.get(first).cloned() else {
                let text = format!("set `{first}` as a whole: its parts are made by the model");
                return self.problem(Problem::new("E0302", at, text));
            };
            self.set_path(old, rest, v, at, span)
        };
        let slot = if is_param { &mut args } else { &mut overrides };
        slot.set(first, new, Some(at));
        let form =
            LayerForm::Plain { def: def.clone(), args, brackets: brackets.clone(), overrides };
        Value::Layer(Rc::new(LayerValue { form, span: l.span }))
    }
}

/// The method of a definition.
pub fn method<'a>(def: &'a Def, name: &str) -> Option<&'a ast::Callable> {
    let ast::Body::Block(block) = &def.body else { return None };
    block.items.iter().find_map(|i| match &i.kind {
        ItemKind::Method(c) if c.name.name == name => Some(c),
        _ => None,
    })
}

/// True if a definition has the method.
pub fn has_method(def: &Def, name: &str) -> bool {
    method(def, name).is_some()
}

/// A node with its own fields.
pub fn clone_node(n: &NodeValue) -> NodeValue {
    NodeValue {
        kind: n.kind.clone(),
        name: n.name.clone(),
        fields: n.fields.clone(),
        items: n.items.clone(),
        scope: n.scope.clone(),
        span: n.span,
        doc: n.doc.clone(),
    }
}

/// Fields and axes that `with` may change in a layer or model.
fn field_names(def: &Def) -> Vec<String> {
    let ast::Body::Block(block) = &def.body else { return Vec::new() };
    let mut names = Vec::new();
    for item in &block.items {
        if let ItemKind::Field { path, value } = &item.kind {
            names.push(path[0].name.clone());
            if path[0].name == "axes"
                && let ExprKind::Block(axes) = &*value.kind
            {
                for a in &axes.items {
                    if let ItemKind::Field { path, .. } = &a.kind {
                        names.push(path[0].name.clone());
                    }
                }
            }
        }
    }
    names
}

fn has_field(def: &Def, name: &str) -> bool {
    field_names(def).iter().any(|n| n == name)
}

/// Why an axis has its size, for the because-chain.
pub fn because(name: &str, bound: &BoundAxis) -> String {
    format!("`{name}` is {}", bound.axis.size)
}
/// What to write for a share that was given as a number of steps.
fn share_help(p: Problem, ty: &ast::Type, v: &Value) -> Problem {
    let is_share = matches!(&ty.kind, ast::TypeKind::Named { path, .. } if path[0].name == "Share");
    match v {
        Value::Number(q) if is_share && q.value > 1.0 => {
            p.help("it is a share of the whole: of 5000 steps, 100 are `2%`")
        }
        _ => p,
    }
}

/// Programs are settings of a run; their numbers are finite.
fn is_program(kind: DefKind) -> bool {
    matches!(kind, DefKind::Optimizer | DefKind::Schedule)
}
