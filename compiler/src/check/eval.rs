//! The evaluator: expressions to values, in a scope.
//!
//! Total: there is no recursion in the language (a definition that reaches itself is a problem) and no loop but over finite lists,
//! so evaluation ends. It never stops at a problem: what is wrong becomes [`Value::Error`], and whatever touches an error stays
//! silent, so one cause gives one message.

use std::rc::Rc;

use indexmap::IndexMap;

use super::modules::Module;
use super::trace::Trace;
use super::units;
use super::value::{
    Bracket, Def, DefKind, Later, NodeValue, Program, Quantity, Record, RowExpr, Scope, Value,
};
pub use super::words::{describe, kind_name};
use super::words::{home_of, item_name, operator};
use crate::graph::build::Misfit;
use crate::problem::{Problem, Problems, did_you_mean};
use crate::source::{Sources, Span};
use crate::syntax::ast::{self, BinaryOp, CompareOp, Expr, ExprKind, ItemKind, UnaryOp};
use crate::world::World;

/// The state of one check.
pub struct Eval<'w> {
    /// All texts read.
    pub sources: Sources,
    /// All problems found.
    pub problems: Problems,
    /// The outside.
    pub world: &'w dyn World,
    /// Files and stdlib modules.
    pub modules: Vec<Module>,
    /// The graph under construction, inside methods.
    pub trace: Option<Box<Trace>>,
    /// Values of top-level items, by module and name; `None` while being computed.
    pub memo: IndexMap<(usize, String), Option<Value>>,
    /// The row at hand, innermost last: fields for `.name`.
    pub rows: Vec<Record>,
    /// Calls around the expression at hand, outermost first: for blame.
    pub calls: Vec<Span>,
    /// Places of the functions that are running: none may run inside itself.
    pub running: Vec<Span>,
    /// Inside an initialiser: the weight's path (it keys the draws) and its axes.
    pub init_path: Option<String>,
    /// See `init_path`.
    pub init_axes: Vec<crate::graph::Axis>,
    /// What training nodes mean, once found; the node itself is kept, so that its place in memory stays its own.
    pub specs: Vec<(Rc<NodeValue>, Option<super::kinds::Costed>)>,
    /// Points of sweeps by name: nodes that no item of a file declares.
    pub points: IndexMap<String, Rc<NodeValue>>,
    /// Counts of models by what they are and by row length: points of a sweep share shapes.
    pub counts: IndexMap<(String, usize), super::kinds::Facts>,
    /// Expressions evaluated so far, and more for each item of a list that is made: see [`MAX_STEPS`].
    pub steps: u64,
    /// What the program asks of fits, by the fit's name.
    pub asks: IndexMap<String, Vec<super::hir::FitAsk>>,
    /// Overrides of `--set`: path and value, applied to nodes and knobs of the main file.
    pub sets: Vec<(Vec<String>, Expr)>,
}

impl std::fmt::Debug for Eval<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Eval").field("problems", &self.problems).finish_non_exhaustive()
    }
}

/// How deep calls and expressions may nest.
const MAX_DEPTH: usize = 200;

/// How much one check may evaluate. Lists within lists and functions that call two others multiply: without a bound, a short
/// file could keep the checker busy for years. The largest sweeps stay well below.
const MAX_STEPS: u64 = 20_000_000;
/// What an item of a list weighs: it stays in memory.
const ITEM_STEPS: u64 = 10;

impl Eval<'_> {
    /// Reports a problem. If its place is in the standard library, the deepest call in the user's files becomes the main place and the
    /// library line a second label.
    pub fn problem(&mut self, mut problem: Problem) -> Value {
        if let Some(span) = problem.span()
            && self.sources.file(span.file).is_std
            && let Some(user) = self.calls.iter().rev().find(|s| !self.sources.file(s.file).is_std)
        {
            let first = problem.labels[0].clone();
            let text = if first.text.is_empty() { "found here".to_owned() } else { first.text };
            problem.labels[0] = crate::problem::Label { span: *user, text: String::new() };
            problem.labels.insert(1, crate::problem::Label { span: first.span, text });
        }
        self.problems.push(problem);
        Value::Error
    }

    /// Reports what the graph builder said.
    pub fn misfit(&mut self, m: Misfit, span: Span) -> Value {
        let mut p = Problem::new(m.code, span, m.message);
        for reason in self.because(&p.message) {
            p = p.help(reason);
        }
        if let Some(h) = m.help {
            p = p.help(h);
        }
        self.problem(p)
    }

    /// Where the axes that a message names got their sizes: "`ff` is 1408 because tiny.cs336:21 says so".
    fn because(&self, message: &str) -> Vec<String> {
        let Some(trace) = &self.trace else { return Vec::new() };
        let mut reasons: Vec<String> = Vec::new();
        let words = message.split(|c: char| !c.is_alphanumeric() && c != '_');
        for word in words {
            let Some(a) = trace.axes.get(word) else { continue };
            let Some(origin) = a.origin else { continue };
            let file = self.sources.file(origin.file);
            let (line, _) = self.sources.line_col(origin);
            let reason =
                format!("`{word}` is {} because {}:{line} says so", a.axis.size, file.name);
            if !reasons.contains(&reason) && reasons.len() < 4 {
                reasons.push(reason);
            }
        }
        reasons
    }

    /// Evaluates an expression.
    pub fn expr(&mut self, scope: &Scope, e: &Expr) -> Value {
        if self.is_spent(1, e.span) {
            return Value::Error;
        }
        if let Some(t) = &mut self.trace {
            t.b().span = Some(e.span);
        }
        if self.rows.is_empty() && is_row(e) {
            return Value::Row(Rc::new(RowExpr { expr: e.clone(), scope: scope.clone() }));
        }
        match &*e.kind {
            ExprKind::Number { value, suffix } => self.number(*value, suffix.as_ref(), e.span),
            ExprKind::Text(t) => Value::Text(t.as_str().into()),
            ExprKind::Name(name) => self.name(scope, name, e.span),
            ExprKind::Dot(id) => self.row_field(id),
            ExprKind::Bool(b) => Value::Bool(*b),
            ExprKind::None => Value::None,
            ExprKind::List { values, suffix } => {
                let items: Vec<Value> = values.iter().map(|v| self.expr(scope, v)).collect();
                self.spread(items, suffix.as_ref())
            }
            ExprKind::Comprehension { value, clauses, suffix } => {
                let mut items = Vec::new();
                self.comprehend(&scope.inner(), value, clauses, &mut items);
                self.spread(items, suffix.as_ref())
            }
            ExprKind::Block(block) => self.block(&scope.inner(), block),
            ExprKind::Call { callee, args } => self.call_expr(scope, callee, args, e.span),
            ExprKind::Index { base, args } => {
                let base = self.expr(scope, base);
                self.index(scope, base, args, e.span)
            }
            ExprKind::Member { base, name } => {
                let base = self.expr(scope, base);
                self.member(base, name)
            }
            ExprKind::Unary { op, value } => {
                let v = self.expr(scope, value);
                self.unary(*op, v, e.span)
            }
            ExprKind::Binary { op, op_span: _, left, right } => {
                let l = self.expr(scope, left);
                // Static logic does not look further than it must.
                match (op, &l) {
                    (BinaryOp::And, Value::Bool(false)) => return Value::Bool(false),
                    (BinaryOp::Or, Value::Bool(true)) => return Value::Bool(true),
                    (BinaryOp::And, Value::Bool(true)) | (BinaryOp::Or, Value::Bool(false)) => {
                        return self.expr(scope, right);
                    }
                    _ => {}
                }
                let r = self.expr(scope, right);
                self.binary(*op, l, r, e.span)
            }
            ExprKind::Compare { first, rest } => {
                let mut left = self.expr(scope, first);
                let mut all: Option<Value> = None;
                for (op, _, right) in rest {
                    let right = self.expr(scope, right);
                    let one = self.compare(*op, left, right.clone(), e.span);
                    all = Some(match all {
                        None => one,
                        Some(a) => self.binary(BinaryOp::And, a, one, e.span),
                    });
                    left = right;
                }
                all.unwrap_or(Value::Error)
            }
            ExprKind::Range { from, to } => {
                let (a, b) = (self.expr(scope, from), self.expr(scope, to));
                self.range(a, b, e.span)
            }
            ExprKind::Pipe { value, into } => self.pipe(scope, value, into, e.span),
            ExprKind::With { base, update } => {
                let base = self.expr(scope, base);
                self.with(scope, base, update, e.span)
            }
            ExprKind::If { condition, then, otherwise } => {
                let c = self.expr(scope, condition);
                match c {
                    Value::Bool(true) => self.expr(scope, then),
                    Value::Bool(false) => self.expr(scope, otherwise),
                    Value::Error => Value::Error,
                    Value::Later(l) => Value::Later(l),
                    Value::Tensor(_) | Value::Weight(_) => {
                        let a = self.expr(scope, then);
                        let b = self.expr(scope, otherwise);
                        self.select_tensor(c, a, b, e.span)
                    }
                    other => {
                        let found = describe(&other);
                        self.problem(
                            Problem::new(
                                "E0303",
                                condition.span,
                                format!("`if` needs true or false, this is {found}"),
                            )
                            .help("write a comparison, for example `x > 0`"),
                        )
                    }
                }
            }
            ExprKind::Match { subject, arms } => self.match_expr(scope, subject, arms, e.span),
            ExprKind::Scan { args, body } => self.scan_expr(scope, args, body, e.span),
            ExprKind::Law { .. } => {
                Value::Row(Rc::new(RowExpr { expr: e.clone(), scope: scope.clone() }))
            }
            ExprKind::Error => Value::Error,
        }
    }

    fn number(&mut self, value: f64, suffix: Option<&ast::Suffix>, span: Span) -> Value {
        let mut q = Quantity { origin: Some(span), ..Quantity::plain(value) };
        match suffix {
            None => {}
            Some(ast::Suffix::Percent) => {
                q.value /= 100.0;
                q.percent = true;
            }
            Some(ast::Suffix::Unit(unit)) => match units::parse_unit(unit) {
                Ok((unit, scale)) => {
                    q.value *= scale;
                    q.unit = unit;
                }
                Err(p) => return self.problem(p),
            },
        }
        Value::Number(q)
    }

    fn spread(&mut self, items: Vec<Value>, suffix: Option<&ast::Suffix>) -> Value {
        let Some(suffix) = suffix else { return Value::List(Rc::new(items)) };
        let items = items
            .into_iter()
            .map(|v| match v {
                Value::Number(q) if q.unit.is_none() => {
                    let span = q.origin.unwrap_or(suffix_span(suffix).unwrap_or(span0()));
                    self.number(q.value, Some(suffix), span)
                }
                other => other,
            })
            .collect();
        Value::List(Rc::new(items))
    }

    fn comprehend(
        &mut self,
        scope: &Scope,
        value: &Expr,
        clauses: &[ast::Clause],
        out: &mut Vec<Value>,
    ) {
        let Some((first, rest)) = clauses.split_first() else {
            let v = self.expr(scope, value);
            if !self.is_spent(ITEM_STEPS, value.span) {
                out.push(v);
            }
            return;
        };
        match first {
            ast::Clause::For { pattern, iter } => {
                let list = self.expr(scope, iter);
                for item in self.items_of(list, iter.span) {
                    let inner = scope.inner();
                    self.bind_pattern(&inner, pattern, item);
                    self.comprehend(&inner, value, rest, out);
                }
            }
            ast::Clause::Where(c) => {
                if matches!(self.expr(scope, c), Value::Bool(true)) {
                    self.comprehend(scope, value, rest, out);
                }
            }
        }
    }

    /// The items of a list or of a range of integers.
    pub fn items_of(&mut self, list: Value, span: Span) -> Vec<Value> {
        match list {
            Value::List(l) => l.to_vec(),
            Value::Range(a, b) if a.value.fract() == 0.0 && b.value - a.value < 100_000.0 => {
                let count = (b.value - a.value).floor() + 1.0;
                let item =
                    |i| Value::Number(Quantity { value: a.value + f64::from(i), ..a.clone() });
                (0..count.max(0.0) as u32).map(item).collect()
            }
            Value::Error | Value::Later(_) => Vec::new(),
            other => {
                let found = describe(&other);
                self.problem(
                    Problem::new("E0304", span, format!("`for` needs a list, this is {found}"))
                        .help("write `[a, b, c]` or a range of integers such as `0..2`"),
                );
                Vec::new()
            }
        }
    }

    /// Binds the names of `for`.
    pub fn bind_pattern(&mut self, scope: &Scope, pattern: &ast::Pattern, value: Value) {
        match pattern {
            ast::Pattern::Name(id) => scope.bind(&id.name, value),
            ast::Pattern::Tuple(ids, span) => {
                let parts: Vec<Value> = match &value {
                    Value::List(l) => l.to_vec(),
                    Value::Record(r) => r.fields.values().map(|(v, _)| v.clone()).collect(),
                    _ => Vec::new(),
                };
                if parts.len() != ids.len() && !matches!(value, Value::Error) {
                    self.problem(Problem::new(
                        "E0304",
                        *span,
                        format!("{} names, but the value has {} parts", ids.len(), parts.len()),
                    ));
                }
                for (i, id) in ids.iter().enumerate() {
                    scope.bind(&id.name, parts.get(i).cloned().unwrap_or(Value::Error));
                }
            }
        }
    }

    /// A block: a record if all items are fields, a value if the last item is an expression. `scope` is the block's own.
    pub fn block(&mut self, scope: &Scope, block: &ast::Block) -> Value {
        let mut record = Record::default();
        let mut last = None;
        let count = block.items.len();
        let is_value = matches!(block.items.last().map(|i| &i.kind), Some(ItemKind::Expr(_)));
        for (i, item) in block.items.iter().enumerate() {
            match &item.kind {
                ItemKind::Let { pattern, value, .. } => {
                    let v = self.expr(scope, value);
                    self.bind_pattern(scope, pattern, v);
                }
                ItemKind::Fn(c) => self.bind_fn(scope, c, item.doc.clone()),
                ItemKind::Field { path, value } if is_value => {
                    self.assign(scope, path, value);
                }
                ItemKind::Field { path, value } => {
                    let v = self.expr(scope, value);
                    if let [id] = path.as_slice() {
                        if record.fields.contains_key(&id.name) {
                            self.problem(Problem::new(
                                "E0204",
                                id.span,
                                format!("`{}` is set twice", id.name),
                            ));
                        }
                        record.set(&id.name, v, Some(value.span));
                    } else {
                        let name: Vec<&str> = path.iter().map(|p| p.name.as_str()).collect();
                        record.set(&name.join("."), v, Some(value.span));
                    }
                }
                ItemKind::Map { key, value } => {
                    let name = map_key_text(key);
                    let v = self.expr(scope, value);
                    record.set(&name, v, Some(value.span));
                }
                ItemKind::Emit { kind, name, value } => self.emit(scope, *kind, name, value),
                ItemKind::Assert(e) => self.assert_static(scope, e),
                ItemKind::Expr(e) if i + 1 == count => last = Some(self.expr(scope, e)),
                ItemKind::Expr(e) => {
                    self.problem(
                        Problem::new("E0210", e.span, "a bare value may only end a block")
                            .help("give it a name with `let x = ..`, or remove it"),
                    );
                }
                ItemKind::State(_) => {}
                ItemKind::Error => return Value::Error,
                ItemKind::Use { .. }
                | ItemKind::Knob { .. }
                | ItemKind::Layer { .. }
                | ItemKind::Weight(_)
                | ItemKind::For { .. }
                | ItemKind::Where(_)
                | ItemKind::Def { .. }
                | ItemKind::Method(_)
                | ItemKind::Node { .. } => {
                    self.problem(
                        Problem::new(
                            "E0211",
                            item.span,
                            format!("{} does not belong in this block", item_name(&item.kind)),
                        )
                        .help(home_of(&item.kind)),
                    );
                }
            }
        }
        last.unwrap_or(Value::Record(Rc::new(record)))
    }

    /// `name = e` in a value block: a new value of a state.
    pub fn assign(&mut self, scope: &Scope, path: &ast::Path, value: &Expr) {
        let v = self.expr(scope, value);
        let id = &path[0];
        let mut at = Some(scope.clone());
        while let Some(s) = at {
            let is_state = s.0.names.borrow().contains_key(&format!("state {}", id.name));
            if is_state && path.len() == 1 {
                s.bind(&id.name, v);
                return;
            }
            at = s.0.parent.clone();
        }
        // Known from here on, so that its uses are not reported again.
        scope.bind(&id.name, Value::Error);
        self.problem(
            Problem::new(
                "E0212",
                id.span,
                format!("`{}` is no state, so it cannot be assigned", id.name),
            )
            .help(format!("write `let {} = ..`", id.name)),
        );
    }

    /// Binds a local `fn`.
    pub fn bind_fn(&mut self, scope: &Scope, c: &ast::Callable, doc: Option<String>) {
        let def = def_of(DefKind::Fn, c, scope, doc);
        scope.bind(&c.name.name, Value::Def(Rc::new(def)));
    }

    fn assert_static(&mut self, scope: &Scope, e: &Expr) {
        if matches!(self.expr(scope, e), Value::Bool(false)) {
            let text = self.sources.text(e.span).to_owned();
            self.problem(Problem::new("E0506", e.span, format!("this does not hold: `{text}`")));
        }
    }

    /// A name: frames of the scope, then axes (their size), then the module and the prelude.
    pub fn name(&mut self, scope: &Scope, name: &str, span: Span) -> Value {
        if let Some(v) = scope.get(name) {
            if let (Value::Weight(slot), Some(t)) = (&v, &mut self.trace) {
                return Value::Tensor(t.slot(slot));
            }
            return v;
        }
        if let Some(t) = &self.trace
            && let Some(a) = t.axis(scope, name)
        {
            let mut q = Quantity::plain(a.axis.size as f64);
            q.origin = a.origin;
            return Value::Number(q);
        }
        if let Some(v) = self.module_name(scope.0.module, name, span) {
            return v;
        }
        let mut names = scope.names();
        names.extend(self.names_in_sight(scope.0.module));
        let mut p = Problem::new("E0201", span, format!("`{name}` is not known here"));
        if let Some(near) = did_you_mean(name, names.iter().map(String::as_str)) {
            p = p.at(format!("did you mean `{near}`?")).fix(span, near);
        }
        self.problem(p)
    }

    fn row_field(&mut self, id: &ast::Ident) -> Value {
        let Some(row) = self.rows.last() else { return Value::Error };
        if let Some(v) = row.get(&id.name) {
            return v.clone();
        }
        let names: Vec<String> = row.fields.keys().cloned().collect();
        let mut p = Problem::new("E0205", id.span, format!("these rows have no `.{}`", id.name))
            .help(format!("they have: {}", names.join(", ")));
        if let Some(near) = did_you_mean(&id.name, names.iter().map(String::as_str)) {
            p = p.at(format!("did you mean `.{near}`?"));
        }
        self.problem(p)
    }

    fn unary(&mut self, op: UnaryOp, v: Value, span: Span) -> Value {
        match (op, v) {
            (_, Value::Error) => Value::Error,
            (_, Value::Later(l)) => Value::Later(l),
            (UnaryOp::Neg, Value::Number(q)) => {
                Value::Number(Quantity { value: -q.value, origin: Some(span), ..q })
            }
            (UnaryOp::Not, Value::Bool(b)) => Value::Bool(!b),
            (op, v @ (Value::Tensor(_) | Value::Weight(_))) => self.unary_tensor(op, v, span),
            (op, other) => {
                let (sign, found) =
                    (if op == UnaryOp::Neg { "-" } else { "not" }, describe(&other));
                self.problem(Problem::new("E0302", span, format!("`{sign}` of {found}")))
            }
        }
    }

    /// `a op b`.
    pub fn binary(&mut self, op: BinaryOp, a: Value, b: Value, span: Span) -> Value {
        match (a, b) {
            (Value::Error, _) | (_, Value::Error) => Value::Error,
            (Value::Later(l), other) | (other, Value::Later(l)) => later_with(&l, &other),
            (a @ (Value::Tensor(_) | Value::Weight(_)), b)
            | (a, b @ (Value::Tensor(_) | Value::Weight(_))) => self.binary_tensor(op, a, b, span),
            (Value::Bool(a), Value::Bool(b)) if matches!(op, BinaryOp::And | BinaryOp::Or) => {
                Value::Bool(if op == BinaryOp::And { a && b } else { a || b })
            }
            (Value::Bool(a), b) => {
                self.binary(op, Value::Number(Quantity::plain(f64::from(a))), b, span)
            }
            (a, Value::Bool(b)) => {
                self.binary(op, a, Value::Number(Quantity::plain(f64::from(b))), span)
            }
            (Value::Number(a), Value::Number(b)) => match units::arithmetic(op, &a, &b) {
                Ok(mut q) => {
                    q.origin = Some(span);
                    Value::Number(q)
                }
                Err(text) => self.problem(Problem::new("E0305", span, text)),
            },
            (Value::Text(a), Value::Text(b)) if op == BinaryOp::Add => {
                Value::Text(format!("{a}{b}").into())
            }
            (Value::List(a), Value::List(b)) if op == BinaryOp::Add => {
                Value::List(Rc::new(a.iter().chain(b.iter()).cloned().collect()))
            }
            (a, b) => {
                let text = format!("{} of {} and {}", operator(op), describe(&a), describe(&b));
                self.problem(Problem::new("E0302", span, text))
            }
        }
    }

    /// `a op b` for comparisons.
    pub fn compare(&mut self, op: CompareOp, a: Value, b: Value, span: Span) -> Value {
        match (a, b) {
            (Value::Error, _) | (_, Value::Error) => Value::Error,
            (Value::Later(l), other) | (other, Value::Later(l)) => later_with(&l, &other),
            (x, Value::Range(a, b)) if op == CompareOp::In => {
                let low = self.compare(CompareOp::Ge, x.clone(), Value::Number(a), span);
                let high = self.compare(CompareOp::Le, x, Value::Number(b), span);
                self.binary(BinaryOp::And, low, high, span)
            }
            (x @ (Value::Tensor(_) | Value::Weight(_)), l @ Value::List(_))
                if op == CompareOp::In =>
            {
                self.compare_tensor(op, x, l, span)
            }
            (x, Value::List(l)) if op == CompareOp::In => {
                Value::Bool(l.iter().any(|y| same(&x, y)))
            }
            (a @ (Value::Tensor(_) | Value::Weight(_)), b)
            | (a, b @ (Value::Tensor(_) | Value::Weight(_))) => self.compare_tensor(op, a, b, span),
            (Value::Number(a), Value::Number(b)) => match units::compare(op, &a, &b) {
                Ok(holds) => Value::Bool(holds),
                Err(text) => {
                    let help = units::rate_hint(&a, &b);
                    let mut p = Problem::new("E0305", span, text);
                    if let Some(h) = help {
                        p = p.help(h);
                    }
                    self.problem(p)
                }
            },
            (a, b) if op == CompareOp::Eq => Value::Bool(same(&a, &b)),
            (a, b) if op == CompareOp::Ne => Value::Bool(!same(&a, &b)),
            (Value::Text(a), Value::Text(b)) if op == CompareOp::In => Value::Bool(b.contains(&*a)),
            (a, b) => {
                let text = format!("comparison of {} and {}", describe(&a), describe(&b));
                self.problem(Problem::new("E0305", span, text))
            }
        }
    }

    fn range(&mut self, a: Value, b: Value, span: Span) -> Value {
        match (a, b) {
            (Value::Number(mut a), Value::Number(b)) => {
                // `4..200 tokens/param`: the unit of the end is the unit of both.
                if a.unit.is_none() && !b.unit.is_none() {
                    if let Some(scale) = units::written_scale(&self.sources, &b) {
                        a.value *= scale;
                    }
                    a.unit = b.unit.clone();
                }
                if b.percent && !a.percent && a.unit.is_none() {
                    a.value /= 100.0;
                    a.percent = true;
                }
                if a.unit != b.unit {
                    return self.problem(Problem::new(
                        "E0305",
                        span,
                        format!("a range from {} to {}", units::show(&a), units::show(&b)),
                    ));
                }
                Value::Range(a, b)
            }
            (Value::Error, _) | (_, Value::Error) => Value::Error,
            (Value::Later(l), _) | (_, Value::Later(l)) => Value::Later(l),
            (a, b) => {
                let text = format!("a range from {} to {}", describe(&a), describe(&b));
                self.problem(Problem::new("E0302", span, text))
            }
        }
    }

    fn match_expr(
        &mut self,
        scope: &Scope,
        subject: &Expr,
        arms: &ast::Block,
        span: Span,
    ) -> Value {
        let subject = self.expr(scope, subject);
        if matches!(subject, Value::Error | Value::Later(_)) {
            return subject;
        }
        let mut keys = Vec::new();
        for item in &arms.items {
            let ItemKind::Map { key, value } = &item.kind else {
                return self.problem(Problem::new(
                    "E0213",
                    item.span,
                    "an arm of `match` is `value -> result`",
                ));
            };
            let wanted = match key {
                ast::MapKey::Value(e) => self.expr(scope, e),
                ast::MapKey::Path(p) if p.len() == 1 && p[0].name == "_" => {
                    return self.expr(scope, value);
                }
                ast::MapKey::Path(p) => {
                    let name: Vec<&str> = p.iter().map(|i| i.name.as_str()).collect();
                    match scope.get(&name.join(".")) {
                        Some(v) => v,
                        None => Value::Text(name.join(".").into()),
                    }
                }
                ast::MapKey::Tuple(_) => Value::Error,
            };
            if same(&wanted, &subject) {
                return self.expr(scope, value);
            }
            keys.push(describe(&wanted));
        }
        let found = describe(&subject);
        self.problem(
            Problem::new("E0213", span, format!("no arm of this `match` is for {found}"))
                .help(format!("the arms are for {}; `_ -> ..` takes the rest", keys.join(", "))),
        )
    }

    fn pipe(&mut self, scope: &Scope, value: &Expr, into: &Expr, span: Span) -> Value {
        // `x |> f(a)` is `f(x, a)`; `x |> f` is `f(x)`.
        let v = self.expr(scope, value);
        let (callee, args) = match &*into.kind {
            ExprKind::Call { callee, args } => (callee, args.as_slice()),
            _ => (into, &[][..]),
        };
        let f = self.expr(scope, callee);
        self.call(scope, f, Some((v, value.span)), args, span)
    }

    fn call_expr(&mut self, scope: &Scope, callee: &Expr, args: &[ast::Arg], span: Span) -> Value {
        // `chinchilla.optimum(C)`: a question to a fitted law.
        if let ExprKind::Member { base, name } = &*callee.kind
            && matches!(name.name.as_str(), "optimum" | "predict")
            && let ExprKind::Name(_) = &*base.kind
            && let Value::Node(n) = self.expr(scope, base)
            && n.kind == "fit"
        {
            return super::kinds::ask(self, scope, &n, name, args, span);
        }
        // `.repetition(ngram = 10)`: a text function of the row at hand.
        let f = self.expr(scope, callee);
        self.call(scope, f, None, args, span)
    }

    /// Fields of things.
    pub fn member(&mut self, base: Value, name: &ast::Ident) -> Value {
        match base {
            Value::Error => Value::Error,
            Value::Later(l) => Value::Later(Rc::new(Later {
                node: l.node.clone(),
                what: format!("{}.{}", l.what, name.name),
                unit: units::Unit::none(),
            })),
            Value::Record(r) => match r.get(&name.name) {
                Some(v) => v.clone(),
                None => self.no_field(name, "this record", r.fields.keys().cloned().collect()),
            },
            Value::Placed(p) => self.placed_member(&p, name),
            Value::Node(n) => self.node_member(&n, name),
            Value::Stream(s) => self.stream_member(&s, name),
            Value::Layer(l) => self.layer_member(&l, name),
            Value::Program(p) => match p.args.get(&name.name) {
                Some(v) => v.clone(),
                None => {
                    let what = format!("`{}`", p.def.name);
                    self.no_field(name, &what, p.args.fields.keys().cloned().collect())
                }
            },
            Value::Def(d) if d.kind == DefKind::Fn => {
                let text = format!("the function `{}` has no fields", d.name);
                self.problem(Problem::new("E0203", name.span, text))
            }
            other => {
                let text = format!("{} has no field `{}`", describe(&other), name.name);
                self.problem(Problem::new("E0203", name.span, text))
            }
        }
    }

    /// "no field `x` in ..".
    pub fn no_field(&mut self, name: &ast::Ident, what: &str, names: Vec<String>) -> Value {
        let mut p = Problem::new("E0203", name.span, format!("no field `{}` in {what}", name.name));
        if let Some(near) = did_you_mean(&name.name, names.iter().map(String::as_str)) {
            p = p.at(format!("did you mean `{near}`?")).fix(name.span, near);
        } else if !names.is_empty() {
            p = p.help(format!("it has: {}", names.join(", ")));
        }
        self.problem(p)
    }

    /// Evaluates brackets: axis names stay names.
    pub fn brackets(&mut self, scope: &Scope, args: &[ast::IndexArg]) -> Vec<Bracket> {
        let mut out = Vec::new();
        for a in args {
            out.push(match a {
                ast::IndexArg::Value(e) => match &*e.kind {
                    ExprKind::Name(n) => Bracket::Axis(n.as_str().into(), e.span),
                    _ => Bracket::Value(self.expr(scope, e), e.span),
                },
                ast::IndexArg::Tuple(axes, span) => {
                    let names = axes.iter().map(|x| x.name.name.as_str().into()).collect();
                    Bracket::Tuple(names, *span)
                }
                ast::IndexArg::Named { name, value } => {
                    let axis = match &*value.kind {
                        ExprKind::Name(n) => Some(n.as_str().into()),
                        _ => None,
                    };
                    let value_of = if axis.is_some() && self.quiet_name(scope, value).is_none() {
                        Value::None
                    } else {
                        self.expr(scope, value)
                    };
                    Bracket::Named {
                        name: name.name.as_str().into(),
                        axis,
                        value: value_of,
                        span: value.span,
                    }
                }
                ast::IndexArg::Arrow { from, to, span } => {
                    let from = self.sized(scope, from);
                    let to = self.sized(scope, to);
                    Bracket::Arrow { from, to, span: *span }
                }
            });
        }
        out
    }

    fn quiet_name(&mut self, scope: &Scope, e: &Expr) -> Option<()> {
        let ExprKind::Name(n) = &*e.kind else { return Some(()) };
        let known = scope.get(n).is_some()
            || self.trace.as_ref().is_some_and(|t| t.axis(scope, n).is_some())
            || self.knows(scope.0.module, n);
        known.then_some(())
    }

    fn sized(&mut self, scope: &Scope, axes: &[ast::Axis]) -> Vec<(Rc<str>, Option<usize>)> {
        axes.iter()
            .map(|a| {
                let size = a.size.as_ref().and_then(|e| {
                    let v = self.expr(scope, e);
                    self.size_of(&v, e.span)
                });
                (a.name.name.as_str().into(), size)
            })
            .collect()
    }

    /// A positive whole number.
    pub fn size_of(&mut self, v: &Value, span: Span) -> Option<usize> {
        match v {
            Value::Number(q) if q.value >= 1.0 && q.value.fract() == 0.0 && q.value < 1e12 => {
                Some(q.value as usize)
            }
            Value::Error | Value::Later(_) => None,
            other => {
                let found = match other {
                    Value::Number(q) => units::show(q),
                    v => describe(v),
                };
                self.problem(Problem::new(
                    "E0405",
                    span,
                    format!("a size is a whole number of at least 1, this is {found}"),
                ));
                None
            }
        }
    }

    fn index(&mut self, scope: &Scope, base: Value, args: &[ast::IndexArg], span: Span) -> Value {
        match base {
            Value::Error => Value::Error,
            Value::Later(l) => Value::Later(l),
            Value::List(l) => {
                let [ast::IndexArg::Value(e)] = args else {
                    return self.problem(Problem::new("E0306", span, "a list takes one index"));
                };
                match self.expr(scope, e) {
                    Value::Number(q) if q.value >= 0.0 && (q.value as usize) < l.len() => {
                        l[q.value as usize].clone()
                    }
                    Value::Error => Value::Error,
                    _ => self.problem(Problem::new(
                        "E0306",
                        e.span,
                        format!("the list has {} values: 0..{}", l.len(), l.len() as i64 - 1),
                    )),
                }
            }
            v @ (Value::Tensor(_) | Value::Weight(_)) => {
                let brackets = self.brackets(scope, args);
                self.rename_tensor(scope, v, brackets, span)
            }
            v @ (Value::Def(_)
            | Value::Builtin(_)
            | Value::Layer(_)
            | Value::Placed(_)
            | Value::Node(_)) => {
                let brackets = self.brackets(scope, args);
                Value::Bracketed(Rc::new((v, brackets)))
            }
            other => {
                let text = format!("{} takes no brackets", describe(&other));
                self.problem(Problem::new("E0306", span, text))
            }
        }
    }

    /// Counts steps; true, and a problem, if the check has made more than it may.
    fn is_spent(&mut self, steps: u64, span: Span) -> bool {
        let before = self.steps;
        self.steps = before.saturating_add(steps);
        if self.steps <= MAX_STEPS {
            return false;
        }
        if before <= MAX_STEPS {
            self.problem(
                Problem::new("E0508", span, "the file asks for too much to evaluate")
                    .at("given up here")
                    .help("lists within lists, and functions that call others twice, multiply"),
            );
        }
        true
    }

    /// True if calls nest too deep: a definition that reaches itself.
    pub fn too_deep(&mut self, span: Span) -> bool {
        if self.calls.len() < MAX_DEPTH {
            return false;
        }
        self.problem(
            Problem::new("E0206", span, "this calls itself without end")
                .help("the language has no recursion; use `for` or `scan`"),
        );
        true
    }
}

/// The definition of a callable.
pub fn def_of(kind: DefKind, c: &ast::Callable, scope: &Scope, doc: Option<String>) -> Def {
    Def {
        kind,
        name: c.name.name.clone(),
        axes: c.axes.clone(),
        params: c.params.clone(),
        body: c.body.clone(),
        result: c.result.clone(),
        span: c.span,
        scope: scope.clone(),
        doc,
    }
}

/// Equal as plain values; programs and layers are equal if they are the same one.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Number(a), Value::Number(b)) => a.value == b.value && a.unit == b.unit,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(x, y)| same(x, y))
        }
        (Value::Def(a), Value::Def(b)) => Rc::ptr_eq(a, b),
        (Value::Layer(a), Value::Layer(b)) => Rc::ptr_eq(a, b),
        (Value::Program(a), Value::Program(b)) => Rc::ptr_eq(a, b),
        (Value::Node(a), Value::Node(b)) => a.name == b.name,
        (Value::Builtin(a), Value::Builtin(b)) => a == b,
        _ => false,
    }
}

/// True if an expression reads the row at hand outside nested blocks that bring their own.
fn is_row(e: &Expr) -> bool {
    match &*e.kind {
        ExprKind::Dot(_) => true,
        ExprKind::Unary { value, .. } => is_row(value),
        ExprKind::Binary { left, right, .. } => is_row(left) || is_row(right),
        ExprKind::Compare { first, rest } => {
            is_row(first) || rest.iter().any(|(_, _, e)| is_row(e))
        }
        ExprKind::Member { base, .. } => is_row(base),
        ExprKind::If { condition, then, otherwise } => {
            is_row(condition) || is_row(then) || is_row(otherwise)
        }
        // A call takes rows as its own business: `keep(.x > 3)`; but `.f(a)` is a row function, and `log(.x)` an expression over rows.
        ExprKind::Call { callee, args } => {
            is_row(callee)
                || (matches!(&*callee.kind, ExprKind::Name(n) if ROW_FUNCTIONS.contains(&n.as_str()))
                    && args.iter().any(|a| is_row(&a.value)))
        }
        ExprKind::Range { from, to } => is_row(from) || is_row(to),
        ExprKind::Number { .. }
        | ExprKind::Text(_)
        | ExprKind::Name(_)
        | ExprKind::Bool(_)
        | ExprKind::None
        | ExprKind::List { .. }
        | ExprKind::Comprehension { .. }
        | ExprKind::Block(_)
        | ExprKind::Index { .. }
        | ExprKind::Pipe { .. }
        | ExprKind::With { .. }
        | ExprKind::Match { .. }
        | ExprKind::Scan { .. }
        | ExprKind::Law { .. }
        | ExprKind::Error => false,
    }
}

/// Plain functions that lift to row expressions when an argument is one.
const ROW_FUNCTIONS: &[&str] = &[
    "log",
    "exp",
    "sqrt",
    "abs",
    "floor",
    "ceil",
    "round",
    "min",
    "max",
    "number",
    "after",
    "last_number",
    "count",
    "sum",
    "mean",
    "median",
    "std",
    "percentile",
];

fn later_with(l: &Rc<Later>, _other: &Value) -> Value {
    Value::Later(l.clone())
}

/// The text of a map's key.
pub fn map_key_text(key: &ast::MapKey) -> String {
    match key {
        ast::MapKey::Path(p) => p.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join("."),
        ast::MapKey::Tuple(axes) => {
            let names: Vec<&str> = axes.iter().map(|a| a.name.name.as_str()).collect();
            format!("({})", names.join(", "))
        }
        ast::MapKey::Value(e) => match &*e.kind {
            ExprKind::Text(t) => t.clone(),
            ExprKind::Number { value, .. } => value.to_string(),
            ExprKind::Bool(b) => b.to_string(),
            _ => "none".into(),
        },
    }
}

fn suffix_span(s: &ast::Suffix) -> Option<Span> {
    match s {
        ast::Suffix::Percent => None,
        ast::Suffix::Unit(u) => Some(u.span),
    }
}

fn span0() -> Span {
    Span::new(crate::source::FileId(0), 0, 0)
}

/// What [`Program`] needs beyond its definition; kept here so that callers build it in one way.
pub fn program(def: Rc<Def>, args: Record, span: Span) -> Value {
    Value::Program(Rc::new(Program { def, args, span }))
}

/// A node's field, for helpers that read nodes.
pub fn field<'a>(n: &'a NodeValue, name: &str) -> Option<&'a Value> {
    n.fields.get(name)
}
