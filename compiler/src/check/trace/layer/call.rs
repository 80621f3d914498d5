//! Calling a placed layer: its `forward` runs in a frame of its own; a stack is one scan over its copies.

use std::rc::Rc;

use super::{Entry, Placed, PlacedForm};
use crate::check::call::method;
use crate::check::eval::Eval;
use crate::check::trace::conform;
use crate::check::value::{Def, Record, Scope, Value};
use crate::graph::build::show;
use crate::graph::{Axis, DType, Name, NodeId, Role, ScanKind, Type};
use crate::problem::Problem;
use crate::source::Span;
use crate::syntax::ast::{self, TypeKind};

impl Eval<'_> {
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
        let Some(method) = method(def, "forward").cloned() else {
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
        self.reached.insert(def.span);
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

    /// A tensor with the declared axes of a state at its start.
    pub fn state_start(&mut self, axes: &[Axis], start: Value, span: Span) -> Option<NodeId> {
        let x = self.tensor_node(start, span)?;
        let b = self.t().b();
        Some(conform(b, x, &Type::new(DType::F32, axes.to_vec())))
    }
}
