//! What holds of definitions whatever they are used for: also of those that nothing uses yet, and of branches that are not taken.
//!
//! What a definition means is found when it is used: a layer is traced with the sizes of its model. A misspelt call in a layer that no model
//! places would so stay hidden. Axes and columns share the look of values, so other names wait for their use; but what stands
//! before `(..)` is a function, a layer or an operation, and those are known. So are the names and the number of its arguments, and
//! the units of numbers.

use super::eval::Eval;
use super::modules::{MAIN, program_kind};
use super::units;
use super::value::{DefKind, Value};
use crate::problem::{Problem, did_you_mean};
use crate::source::Span;
use crate::syntax::ast::{
    self, Block, Body, Callable, Clause, Expr, ExprKind, Ident, IndexArg, Item, ItemKind, NodeBody,
    Pattern,
};

/// Reports calls of unknown names, arguments that do not fit and unknown units in the definitions of the main file.
pub(super) fn check(eval: &mut Eval<'_>) {
    let Some(main) = eval.modules.get(MAIN) else { return };
    let mut unknown: Vec<(String, Span, Vec<String>)> = Vec::new();
    let mut calls: Vec<Call> = Vec::new();
    let mut wrong: Vec<Problem> = Vec::new();
    for item in &main.items {
        let is_definition = match &item.kind {
            ItemKind::Fn(_) | ItemKind::Layer { .. } | ItemKind::Def { .. } => true,
            ItemKind::Node { kind, body: NodeBody::Block(_), .. } => {
                program_kind(&kind.name).is_some()
            }
            _ => false,
        };
        if !is_definition {
            continue;
        }
        let mut found = Found::default();
        found.item(item);
        for (name, span) in found.called {
            if !found.declared.contains(&name) && !eval.knows(MAIN, &name) {
                unknown.push((name, span, found.declared.clone()));
            }
        }
        let declared = found.declared;
        calls.extend(found.calls.into_iter().filter(|c| !declared.contains(&c.name)));
        wrong.extend(found.units.iter().filter_map(|unit| units::parse_unit(unit).err()));
    }
    for call in calls {
        // Rows and documents come to filters and scores from outside the brackets.
        if let Some(Value::Def(def)) = eval.module_name(MAIN, &call.name, call.span)
            && !matches!(def.kind, DefKind::Filter | DefKind::Score | DefKind::Law)
        {
            wrong.extend(eval.misfits(&def, &call.positional, &call.named, call.span));
        }
    }
    for p in wrong {
        eval.problem(p);
    }
    for (name, span, declared) in unknown {
        let mut names = declared;
        names.extend(eval.names_in_sight(MAIN));
        let mut p = Problem::new("E0201", span, format!("`{name}` is not known here"));
        if let Some(near) = did_you_mean(&name, names.iter().map(String::as_str)) {
            p = p.at(format!("did you mean `{near}`?")).fix(span, near);
        }
        eval.problem(p);
    }
}

/// All names that a definition declares anywhere in it, and all that it calls.
#[derive(Default)]
struct Found {
    declared: Vec<String>,
    called: Vec<(String, Span)>,
    calls: Vec<Call>,
    units: Vec<ast::Unit>,
}

/// A call by name.
struct Call {
    name: String,
    /// Places of the arguments without a name; that in front of `|>` is the first.
    positional: Vec<Span>,
    /// Names of arguments with the places of their values.
    named: Vec<(String, Span)>,
    span: Span,
}

impl Found {
    fn declare(&mut self, id: &Ident) {
        self.declared.push(id.name.clone());
    }

    fn pattern(&mut self, p: &Pattern) {
        match p {
            Pattern::Name(id) => self.declare(id),
            Pattern::Tuple(ids, _) => ids.iter().for_each(|id| self.declare(id)),
        }
    }

    fn item(&mut self, item: &Item) {
        match &item.kind {
            ItemKind::Use { names, .. } => names.iter().for_each(|n| self.declare(n)),
            ItemKind::Let { pattern, value, .. } => {
                self.pattern(pattern);
                self.expr(value);
            }
            ItemKind::Knob { name, value, .. } | ItemKind::Emit { name, value, .. } => {
                self.declare(name);
                self.expr(value);
            }
            ItemKind::Fn(c) | ItemKind::Method(c) | ItemKind::Def { callable: c, .. } => {
                self.callable(c)
            }
            ItemKind::Layer { name, axes, params, body } => {
                self.declare(name);
                self.axes(axes);
                self.params(params.as_deref().unwrap_or(&[]));
                self.block(body);
            }
            ItemKind::Weight(decls) | ItemKind::State(decls) => {
                for d in decls {
                    self.declare(&d.name);
                    self.axes(&d.axes);
                    d.init.iter().for_each(|e| self.expr(e));
                }
            }
            ItemKind::Assert(e) | ItemKind::Where(e) | ItemKind::Expr(e) => self.expr(e),
            ItemKind::For { pattern, iter } => {
                self.pattern(pattern);
                self.expr(iter);
            }
            ItemKind::Field { path, value } => {
                self.declare(&path[0]);
                self.expr(value);
            }
            ItemKind::Map { value, .. } => self.expr(value),
            ItemKind::Node { body, .. } => match body {
                NodeBody::Expr(e) => self.expr(e),
                NodeBody::Block(b) => self.block(b),
                NodeBody::None => {}
            },
            ItemKind::Error => {}
        }
    }

    fn callable(&mut self, c: &Callable) {
        self.declare(&c.name);
        self.axes(&c.axes);
        self.params(&c.params);
        match &c.body {
            Body::Expr(e) => self.expr(e),
            Body::Block(b) => self.block(b),
        }
    }

    fn axes(&mut self, axes: &[ast::Axis]) {
        for a in axes {
            self.declare(&a.name);
            a.size.iter().for_each(|e| self.expr(e));
        }
    }

    fn params(&mut self, params: &[ast::Param]) {
        for p in params {
            self.declare(&p.name);
            p.default.iter().for_each(|e| self.expr(e));
        }
    }

    fn block(&mut self, b: &Block) {
        b.items.iter().for_each(|i| self.item(i));
    }

    /// What is called: a name, or a name with brackets.
    fn callee(&mut self, e: &Expr) {
        match &*e.kind {
            ExprKind::Name(name) => self.called.push((name.clone(), e.span)),
            ExprKind::Index { base, args } => {
                self.callee(base);
                self.brackets(args);
            }
            _ => self.expr(e),
        }
    }

    /// A call of what may be a name, perhaps with brackets.
    fn call(&mut self, callee: &Expr, piped: Option<Span>, args: &[ast::Arg], span: Span) {
        self.callee(callee);
        args.iter().for_each(|a| self.expr(&a.value));
        let mut plain = callee;
        while let ExprKind::Index { base, .. } = &*plain.kind {
            plain = base;
        }
        if let ExprKind::Name(name) = &*plain.kind {
            let unnamed = args.iter().filter(|a| a.name.is_none()).map(|a| a.value.span);
            let named = args.iter().filter_map(|a| Some((a.name.as_ref()?, a.value.span)));
            self.calls.push(Call {
                name: name.clone(),
                positional: piped.into_iter().chain(unnamed).collect(),
                named: named.map(|(id, at)| (id.name.clone(), at)).collect(),
                span,
            });
        }
    }

    fn suffix(&mut self, suffix: Option<&ast::Suffix>) {
        if let Some(ast::Suffix::Unit(unit)) = suffix {
            self.units.push(unit.clone());
        }
    }

    fn brackets(&mut self, args: &[IndexArg]) {
        for a in args {
            match a {
                IndexArg::Value(e) | IndexArg::Named { value: e, .. } => self.expr(e),
                IndexArg::Tuple(..) => {}
                IndexArg::Arrow { to, .. } => self.axes(to),
            }
        }
    }

    fn expr(&mut self, e: &Expr) {
        match &*e.kind {
            ExprKind::Call { callee, args } => self.call(callee, None, args, e.span),
            ExprKind::Pipe { value, into } => {
                self.expr(value);
                let (callee, args) = match &*into.kind {
                    ExprKind::Call { callee, args } => (callee, args.as_slice()),
                    _ => (into, &[][..]),
                };
                self.call(callee, Some(value.span), args, e.span);
            }
            ExprKind::Number { suffix, .. } => self.suffix(suffix.as_ref()),
            ExprKind::List { values, suffix } => {
                values.iter().for_each(|v| self.expr(v));
                self.suffix(suffix.as_ref());
            }
            ExprKind::Comprehension { value, clauses, suffix } => {
                self.suffix(suffix.as_ref());
                for c in clauses {
                    match c {
                        Clause::For { pattern, iter } => {
                            self.pattern(pattern);
                            self.expr(iter);
                        }
                        Clause::Where(e) => self.expr(e),
                    }
                }
                self.expr(value);
            }
            ExprKind::Block(b) => self.block(b),
            ExprKind::Index { base, args } => {
                self.expr(base);
                self.brackets(args);
            }
            ExprKind::Member { base, .. } => self.expr(base),
            ExprKind::Unary { value, .. } => self.expr(value),
            ExprKind::Binary { left, right, .. } | ExprKind::Law { left, right } => {
                self.expr(left);
                self.expr(right);
            }
            ExprKind::Compare { first, rest } => {
                self.expr(first);
                rest.iter().for_each(|(_, _, e)| self.expr(e));
            }
            ExprKind::Range { from, to } => {
                self.expr(from);
                self.expr(to);
            }
            ExprKind::With { base, update } => {
                self.expr(base);
                self.expr(update);
            }
            ExprKind::If { condition, then, otherwise } => {
                self.expr(condition);
                self.expr(then);
                self.expr(otherwise);
            }
            ExprKind::Match { subject, arms } => {
                self.expr(subject);
                self.block(arms);
            }
            ExprKind::Scan { args, body } => {
                self.brackets(args);
                self.block(body);
            }
            ExprKind::Text(_)
            | ExprKind::Name(_)
            | ExprKind::Dot(_)
            | ExprKind::Bool(_)
            | ExprKind::None
            | ExprKind::Error => {}
        }
    }
}
