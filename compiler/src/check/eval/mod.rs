//! The evaluator: expressions to values, in a scope.
//!
//! Total: there is no recursion in the language (a definition that reaches itself is a problem) and no loop but over finite lists,
//! so evaluation ends. It never stops at a problem: what is wrong becomes [`Value::Error`], and whatever touches an error stays
//! silent, so one cause gives one message.

mod blocks;
mod brackets;
mod lists;
mod names;
mod operators;
mod rows;

use std::collections::BTreeSet;
use std::rc::Rc;

use indexmap::IndexMap;

use super::kinds::meaning::DefinitionText;
use super::modules::Module;
use super::trace::Trace;
use super::value::{Def, DefKind, NodeValue, Program, Record, RowExpr, Scope, Value};
pub use super::words::{describe, kind_name};
use crate::graph::build::Misfit;
use crate::problem::{Problem, Problems};
use crate::source::{Sources, Span};
use crate::syntax::ast::{self, BinaryOp, Expr, ExprKind};
use crate::world::World;
pub use blocks::map_key_text;
pub use operators::same;
use rows::is_row;

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
    /// Places of the definitions whose bodies have run.
    pub reached: BTreeSet<Span>,
    /// Inside an initialiser: the weight's path (it keys the draws) and its axes.
    pub init_path: Option<String>,
    /// See `init_path`.
    pub init_axes: Vec<crate::graph::Axis>,
    /// What training nodes mean, once found; the node itself is kept, so that its place in memory stays its own.
    pub specs: Vec<(Rc<NodeValue>, Option<super::kinds::Costed>)>,
    /// Points of sweeps by name: nodes that no item of a file declares.
    pub points: IndexMap<String, Rc<NodeValue>>,
    /// The values of the `for` names at the points of sweeps.
    pub places: IndexMap<String, Vec<(String, Value)>>,
    /// Counts of models by what they are and by row length: points of a sweep share shapes.
    pub counts: IndexMap<(String, usize), super::kinds::Facts>,
    /// Expressions evaluated so far, and more for each item of a list that is made: see [`MAX_STEPS`].
    pub steps: u64,
    /// The rows at hand are runs, whose columns have units.
    pub over_runs: bool,
    /// The smallest axis that ids index whose number is not known yet, since it was last taken.
    pub least_room: Option<usize>,
    /// How many tokens the files of tokenizers have, by file; `None`: it cannot be read.
    pub token_files: IndexMap<String, Option<usize>>,
    /// Texts of definitions that runs mean, by where they stand.
    pub(in crate::check) definition_texts: IndexMap<Span, Rc<DefinitionText>>,
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
pub(super) const MAX_STEPS: u64 = 20_000_000;
/// What an item of a list weighs: it stays in memory.
const ITEM_STEPS: u64 = 10;
/// What a problem weighs: it looks for what may have been meant, and a list may have the same one many times.
const PROBLEM_STEPS: u64 = 200;

impl Eval<'_> {
    /// Reports a problem. If its place is in the standard library, the deepest call in the user's files becomes the main place and the
    /// library line a second label.
    pub fn problem(&mut self, mut problem: Problem) -> Value {
        // Not beyond the bound: whoever takes the next step says that it is reached.
        self.steps = self.steps.saturating_add(PROBLEM_STEPS).min(MAX_STEPS.max(self.steps));
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
    pub(super) fn because(&self, message: &str) -> Vec<String> {
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

/// What [`Program`] needs beyond its definition; kept here so that callers build it in one way.
pub fn program(def: Rc<Def>, args: Record, span: Span) -> Value {
    Value::Program(Rc::new(Program { def, args, span }))
}

/// A node's field, for helpers that read nodes.
pub fn field<'a>(n: &'a NodeValue, name: &str) -> Option<&'a Value> {
    n.fields.get(name)
}
