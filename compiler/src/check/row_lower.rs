//! From checked syntax to [`crate::row`]: `.loss < limit` with its scope becomes a closed expression, a pipeline over runs or tables
//! becomes [`Rows`].
//!
//! What does not read the row at hand is evaluated where it stands, so names become their values and units their base units.
//! Everything else is taken apart. Problems are reported where they stand, and then the result is `None`.

use std::rc::Rc;

use super::eval::{Eval, describe};
use super::modules::MAIN;
use super::units::{self, Unit};
use super::value::{Record, RowExpr as Written, Scope, Stream, Value};
use super::{kinds::report_cells, rows, stages};
use crate::problem::Problem;
use crate::row::interp::Row;
use crate::row::kinds::{self, Columns, Kind};
use crate::row::{
    FUNCTIONS, RowCompare, RowExpr, RowFunction, RowOp, RowSource, RowStage, Rows, SUMMARIES,
    Summary,
};
use crate::source::Span;
use crate::syntax::ast::{Arg, BinaryOp, CompareOp, Expr, ExprKind, UnaryOp};
use crate::syntax::parse_expr;

/// An expression over rows whose columns are not known here.
pub fn lower(eval: &mut Eval<'_>, scope: &Scope, e: &Expr) -> Option<RowExpr> {
    lower_over(eval, scope, e, None)
}

/// An expression over rows with these columns.
pub fn lower_over(
    eval: &mut Eval<'_>,
    scope: &Scope,
    e: &Expr,
    columns: Option<&Columns>,
) -> Option<RowExpr> {
    Lowering { eval, scope, columns }.expr(e)
}

/// The value of a field of type `Row`: an expression over rows, or a constant.
pub fn expr_of(eval: &mut Eval<'_>, v: &Value, span: Span) -> Option<RowExpr> {
    one(eval, v, span, None)
}

/// The value of a field of type `Row` that may be a list of expressions.
pub fn exprs_of(eval: &mut Eval<'_>, v: &Value, span: Span) -> Option<Vec<RowExpr>> {
    many(eval, v, span, None)
}

/// Rows, as a field of type `Data` takes them: a sweep, a run, a table, a list of those, or a pipeline that begins with one.
pub fn rows_of(eval: &mut Eval<'_>, v: &Value, span: Span) -> Option<Rows> {
    rows_over(eval, v, span, None)
}

/// The same, where the columns of the sources are known.
pub fn rows_over(
    eval: &mut Eval<'_>,
    v: &Value,
    span: Span,
    columns: Option<&Columns>,
) -> Option<Rows> {
    match v {
        Value::Node(n) if matches!(n.kind.as_str(), "sweep" | "train") => {
            Some(Rows { from: vec![RowSource::Runs(n.name.to_string())], stages: Vec::new() })
        }
        Value::Later(l) if stages::is_found(&l.what) => {
            let name = format!("{}.{}", l.node, l.what);
            Some(Rows { from: vec![RowSource::Runs(name)], stages: Vec::new() })
        }
        Value::Node(n) if n.kind == "data" => match n.fields.get("value") {
            Some(Value::Stream(s)) => stream(eval, &s.clone(), columns),
            _ => None,
        },
        Value::Stream(s) => stream(eval, s, columns),
        Value::List(all) if !all.is_empty() => {
            let mut from = Vec::new();
            for part in all.iter() {
                let rows = rows_over(eval, part, span, columns)?;
                if !rows.stages.is_empty() {
                    return refuse(
                        eval,
                        span,
                        "in a list of rows only sources may stand, no stages",
                    );
                }
                from.extend(rows.from);
            }
            Some(Rows { from, stages: Vec::new() })
        }
        // An answer of a fit, or any other record.
        Value::Record(record) => {
            let mut row = Row::new();
            report_cells("", record, &mut row);
            Some(Rows { from: vec![RowSource::Given(vec![row])], stages: Vec::new() })
        }
        Value::Error => None,
        Value::Later(l) if stages::is_answer(&l.what) => {
            let text =
                format!("nothing is known of `{}.{}`: the fit has not run here", l.node, l.what);
            let help = format!("`cs336c run FILE {}` fits it", l.node);
            eval.problem(Problem::new("E0859", span, text).help(help));
            None
        }
        other => {
            let text =
                format!("rows of runs or of a table are needed, this is {}", describe(other));
            eval.problem(Problem::new("E0301", span, text));
            None
        }
    }
}

/// The rows that a text asks for. `known`: names of runs and sweeps that the program does not declare; `runs` is every run.
/// `columns`: those of runs. A table's columns are seen when it is read.
pub fn rows_of_text(
    eval: &mut Eval<'_>,
    text: &str,
    known: &[String],
    columns: &Columns,
) -> Option<Rows> {
    let file = eval.sources.add("query", text, false);
    let (e, problems) = parse_expr(file, text);
    let failed = problems.has_errors();
    eval.problems.extend(problems);
    if failed {
        return None;
    }
    let scope = Scope::module(MAIN).inner();
    let all = |node: &str| {
        Value::Stream(Rc::new(Stream {
            stage: "runs",
            args: Record::default(),
            input: None,
            node: Some((node.into(), "".into())),
            span: e.span,
        }))
    };
    for name in known {
        if !eval.knows(MAIN, name) {
            scope.bind(name, all(name));
        }
    }
    scope.bind("runs", all(""));
    let v = eval.expr(&scope, &e);
    let columns = Some(columns).filter(|_| !reads_table(&v));
    rows_over(eval, &v, e.span, columns)
}

fn reads_table(v: &Value) -> bool {
    match v {
        Value::Node(n) => n.fields.get("value").is_some_and(reads_table),
        Value::List(all) => all.iter().any(reads_table),
        Value::Stream(s) => match &s.input {
            Some(input) => reads_table(&Value::Stream(input.clone())),
            // What a fit found has columns of its own.
            None => s.stage != "runs" || s.node.as_ref().is_some_and(|(n, _)| n.contains('.')),
        },
        _ => false,
    }
}

/// True for a pipeline over runs or over a table, false for one over documents: documents have a column `text`, and stages of their own.
pub fn is_rows(s: &Stream) -> bool {
    let plain = |v: &Value| !matches!(v, Value::Def(_) | Value::Program(_));
    match &s.input {
        Some(input) if ROW_STAGES.contains(&s.stage) => {
            is_rows(input) && s.args.fields.values().all(|(v, _)| plain(v))
        }
        Some(_) => false,
        None if s.stage == "runs" => true,
        None => {
            let columns = rows::columns(s);
            matches!(s.stage, "csv" | "jsonl" | "parquet")
                && columns.is_none_or(|all| !all.iter().any(|c| c == "text"))
        }
    }
}

const ROW_STAGES: &[&str] =
    &["keep", "drop", "best_by", "sort_by", "take", "set", "select", "group_by"];

fn refuse<T>(eval: &mut Eval<'_>, span: Span, text: &str) -> Option<T> {
    eval.problem(Problem::new("E0217", span, text));
    None
}

fn stream(eval: &mut Eval<'_>, s: &Stream, columns: Option<&Columns>) -> Option<Rows> {
    let Some(input) = &s.input else {
        let from = match s.stage {
            "runs" => match &s.node {
                Some((node, _)) if !node.is_empty() => RowSource::Runs(node.to_string()),
                Some(_) | None => RowSource::AllRuns,
            },
            "csv" | "jsonl" | "parquet" => {
                let Some(Value::Text(pattern)) = s.args.get("pattern") else { return None };
                let base = eval.sources.file(s.span.file).name.clone();
                let (format, pattern) = (s.stage.to_owned(), pattern.to_string());
                RowSource::Table { format, pattern, base }
            }
            other => {
                let text = format!(
                    "`{other}` gives documents; here rows of runs or of a table are needed"
                );
                return refuse(eval, s.span, &text);
            }
        };
        return Some(Rows { from: vec![from], stages: Vec::new() });
    };
    let mut rows = stream(eval, input, columns)?;
    let fits = |eval: &mut Eval<'_>, stages: &[RowStage], before: Option<Columns>| {
        kinds::after(stages, before).map_err(|misfit| {
            eval.problem(Problem::new(misfit.code, s.span, misfit.message).help(misfit.help));
        })
    };
    let known = match columns {
        Some(columns) => Some(columns.clone()),
        None => of_tables(eval, &rows),
    };
    let here = fits(eval, &rows.stages, known).ok()?;
    let of_runs = rows.from.iter().all(|f| !matches!(f, RowSource::Table { .. }));
    let before = std::mem::replace(&mut eval.over_runs, of_runs);
    let made = made(eval, s, here.as_ref());
    eval.over_runs = before;
    let made = made?;
    fits(eval, &made, here).ok()?;
    rows.stages.extend(made);
    Some(rows)
}

/// The columns of rows that all come from tables, with the stages behind them. `None`: a table is not there yet, or does not tell.
pub fn columns_of(eval: &Eval<'_>, rows: &Rows) -> Option<Columns> {
    kinds::after(&rows.stages, of_tables(eval, rows)).ok().flatten()
}

/// The columns of the sources, likewise.
fn of_tables(eval: &Eval<'_>, rows: &Rows) -> Option<Columns> {
    let mut all = Columns::new();
    for source in &rows.from {
        let RowSource::Table { format, pattern, base } = source else { return None };
        let names = eval.world.columns(format, pattern, base)?;
        all.extend(names.into_iter().map(|name| (name, Kind::Any)));
    }
    Some(all)
}

/// What one call in a pipeline does.
fn made(eval: &mut Eval<'_>, s: &Stream, columns: Option<&Columns>) -> Option<Vec<RowStage>> {
    let place = |name: &str| s.args.fields.get(name).and_then(|(_, at)| *at).unwrap_or(s.span);
    let mut row =
        |name: &str| -> Option<RowExpr> { one(eval, s.args.get(name)?, place(name), columns) };
    Some(match s.stage {
        "keep" | "drop" => {
            let names: Vec<String> = s.args.fields.keys().cloned().collect();
            let mut made = Vec::new();
            for name in names {
                let e = row(&name)?;
                made.push(if s.stage == "keep" { RowStage::Keep(e) } else { RowStage::Drop(e) });
            }
            made
        }
        "best_by" => {
            let value = row("value")?;
            let per = match s.args.get("per") {
                Some(per) => many(eval, per, place("per"), columns)?,
                None => Vec::new(),
            };
            vec![RowStage::BestBy { value, per, greatest: is_on(s, "greatest") }]
        }
        "sort_by" => {
            let by = many(eval, s.args.get("by")?, place("by"), columns)?;
            vec![RowStage::SortBy { by, descending: is_on(s, "descending") }]
        }
        "take" => {
            if s.args.get("seed").is_some() {
                return refuse(
                    eval,
                    place("seed"),
                    "`take` of runs takes the first ones, without a seed",
                );
            }
            let Some(Value::Number(q)) = s.args.get("count") else { return None };
            vec![RowStage::Take { count: q.value as u64 }]
        }
        "set" => named(eval, &s.args, &[], s.span, columns)?
            .into_iter()
            .map(|(name, value)| RowStage::Set { name, value })
            .collect(),
        "select" => vec![RowStage::Select(named(eval, &s.args, &[], s.span, columns)?)],
        "group_by" => {
            let per = many(eval, s.args.get("per")?, place("per"), columns)?;
            let per: Vec<(String, RowExpr)> = per.into_iter().map(|e| (name_of(&e), e)).collect();
            // Summaries may also use what the groups are made by.
            let within = columns.map(|all| {
                let mut all = all.clone();
                all.extend(per.iter().map(|(n, _)| (n.clone(), Kind::Any)));
                all
            });
            let set = named(eval, &s.args, &["per"], s.span, within.as_ref())?;
            vec![RowStage::GroupBy { per, set }]
        }
        other => {
            let text = format!("`{other}` works on documents, not on rows of runs or of a table");
            return refuse(eval, s.span, &text);
        }
    })
}

fn is_on(s: &Stream, name: &str) -> bool {
    matches!(s.args.get(name), Some(Value::Bool(true)))
}

/// The arguments `name = e`; those without a name are called as they read.
fn named(
    eval: &mut Eval<'_>,
    args: &Record,
    but: &[&str],
    span: Span,
    columns: Option<&Columns>,
) -> Option<Vec<(String, RowExpr)>> {
    let mut made = Vec::new();
    for (name, (v, at)) in args.fields.iter().filter(|(n, _)| !but.contains(&n.as_str())) {
        let e = one(eval, v, at.unwrap_or(span), columns)?;
        let is_place = name.bytes().all(|b| b.is_ascii_digit());
        made.push((if is_place { name_of(&e) } else { name.clone() }, e));
    }
    Some(made)
}

/// `.budget` is called `budget`, `log(.params)` is called `log(.params)`.
fn name_of(e: &RowExpr) -> String {
    match e {
        RowExpr::Column(name) => name.clone(),
        other => other.to_string(),
    }
}

fn many(
    eval: &mut Eval<'_>,
    v: &Value,
    span: Span,
    columns: Option<&Columns>,
) -> Option<Vec<RowExpr>> {
    match v {
        Value::List(all) => all.iter().map(|v| one(eval, v, span, columns)).collect(),
        v => Some(vec![one(eval, v, span, columns)?]),
    }
}

fn one(eval: &mut Eval<'_>, v: &Value, span: Span, columns: Option<&Columns>) -> Option<RowExpr> {
    match v {
        Value::Row(row) => {
            let Written { expr, scope } = &**row;
            lower_over(eval, scope, expr, columns)
        }
        v => constant(eval, v, span),
    }
}

/// A value that does not depend on the row.
fn constant(eval: &mut Eval<'_>, v: &Value, span: Span) -> Option<RowExpr> {
    match v {
        Value::Number(q) if q.value.is_finite() => Some(RowExpr::Number(q.value)),
        Value::Number(q) => {
            let text =
                format!("this is {}: a number in an expression over rows is finite", q.value);
            refuse(eval, span, &text)
        }
        Value::Bool(b) => Some(RowExpr::Bool(*b)),
        Value::Text(t) => Some(RowExpr::Text(t.to_string())),
        Value::None => Some(RowExpr::Null),
        Value::Error => None,
        Value::Later(l) => {
            let text = format!("this is known only after `{}`", l.node);
            refuse(eval, span, &text)
        }
        other => {
            let text = format!("{} cannot stand in an expression over rows", describe(other));
            refuse(eval, span, &text)
        }
    }
}

/// The units of columns of runs, where they have one.
const UNITS: &[(&str, &str)] = &[
    ("flops", "FLOPs"),
    ("tokens", "tokens"),
    ("params", "params"),
    ("step", "steps"),
    ("seconds", "s"),
    ("data_tokens", "tokens"),
    ("unique_tokens", "tokens"),
    ("epochs", "epochs"),
];

/// The unit of a number, of the ends of a range, of the items of a list.
fn unit_of(v: &Value) -> Option<Unit> {
    match v {
        Value::Number(q) => Some(q.unit.clone()),
        Value::Range(_, b) => Some(b.unit.clone()),
        Value::List(all) => all.first().and_then(unit_of),
        _ => None,
    }
}

struct Lowering<'a, 'w> {
    eval: &'a mut Eval<'w>,
    scope: &'a Scope,
    columns: Option<&'a Columns>,
}

impl Lowering<'_, '_> {
    /// Lowers and judges: the deepest part that does not fit is where the problem is shown.
    fn expr(&mut self, e: &Expr) -> Option<RowExpr> {
        let made = self.lowered(e)?;
        if let Err(misfit) = kinds::kind(&made, self.columns) {
            let p = Problem::new(misfit.code, e.span, misfit.message).help(misfit.help);
            self.eval.problem(p);
            return None;
        }
        Some(made)
    }

    fn boxed(&mut self, e: &Expr) -> Option<Box<RowExpr>> {
        self.expr(e).map(Box::new)
    }

    fn lowered(&mut self, e: &Expr) -> Option<RowExpr> {
        if !reads_row(e) {
            let v = self.eval.expr(self.scope, e);
            return constant(self.eval, &v, e.span);
        }
        Some(match &*e.kind {
            ExprKind::Dot(id) => RowExpr::Column(id.name.clone()),
            ExprKind::Member { .. } => match path(e) {
                Some(path) => RowExpr::Column(path),
                None => return self.cannot(e),
            },
            ExprKind::Unary { op: UnaryOp::Neg, value } => RowExpr::Neg(self.boxed(value)?),
            ExprKind::Unary { op: UnaryOp::Not, value } => RowExpr::Not(self.boxed(value)?),
            ExprKind::Binary { op, left, right, .. } => self.binary(*op, left, right)?,
            ExprKind::Compare { first, rest } => self.compare(first, rest)?,
            ExprKind::If { condition, then, otherwise } => RowExpr::If {
                condition: self.boxed(condition)?,
                then: self.boxed(then)?,
                otherwise: self.boxed(otherwise)?,
            },
            ExprKind::Call { callee, args } => match &*callee.kind {
                ExprKind::Name(name) => self.call(e, name, args)?,
                _ => return self.cannot(e),
            },
            ExprKind::Number { .. }
            | ExprKind::Text(_)
            | ExprKind::Name(_)
            | ExprKind::Bool(_)
            | ExprKind::None
            | ExprKind::List { .. }
            | ExprKind::Comprehension { .. }
            | ExprKind::Block(_)
            | ExprKind::Index { .. }
            | ExprKind::Range { .. }
            | ExprKind::Pipe { .. }
            | ExprKind::With { .. }
            | ExprKind::Match { .. }
            | ExprKind::Scan { .. }
            | ExprKind::Law { .. }
            | ExprKind::Error => return self.cannot(e),
        })
    }

    fn cannot(&mut self, e: &Expr) -> Option<RowExpr> {
        let text =
            format!("`{}` has no meaning over rows of a table", self.eval.sources.text(e.span));
        let mut names: Vec<&str> = FUNCTIONS.iter().map(|f| f.0).collect();
        names.extend(SUMMARIES.iter().map(|s| s.0).filter(|n| !matches!(*n, "min" | "max")));
        self.eval.problem(
            Problem::new("E0217", e.span, text)
                .help(
                    "columns, arithmetic, comparisons, `in`, `and`, `or`, `not` and `if` have one",
                )
                .help(format!("functions are: {}", names.join(", "))),
        );
        None
    }

    fn binary(&mut self, op: BinaryOp, left: &Expr, right: &Expr) -> Option<RowExpr> {
        let (a, b) = (self.expr(left)?, self.expr(right)?);
        let op = match op {
            BinaryOp::And => {
                return Some(RowExpr::And(flat(a, b, |e| match e {
                    RowExpr::And(all) => Ok(all),
                    other => Err(other),
                })));
            }
            BinaryOp::Or => {
                return Some(RowExpr::Or(flat(a, b, |e| match e {
                    RowExpr::Or(all) => Ok(all),
                    other => Err(other),
                })));
            }
            BinaryOp::Add => RowOp::Add,
            BinaryOp::Sub => RowOp::Sub,
            BinaryOp::Mul => RowOp::Mul,
            BinaryOp::Div => RowOp::Div,
            BinaryOp::Pow => RowOp::Pow,
        };
        Some(RowExpr::Binary { op, left: Box::new(a), right: Box::new(b) })
    }

    fn compare(&mut self, first: &Expr, rest: &[(CompareOp, Span, Expr)]) -> Option<RowExpr> {
        let mut pairs = Vec::new();
        let mut left = first;
        for (op, _, right) in rest {
            let op = match op {
                CompareOp::In => {
                    pairs.push(self.is_in(left, right)?);
                    left = right;
                    continue;
                }
                CompareOp::Eq => RowCompare::Eq,
                CompareOp::Ne => RowCompare::Ne,
                CompareOp::Lt => RowCompare::Lt,
                CompareOp::Le => RowCompare::Le,
                CompareOp::Gt => RowCompare::Gt,
                CompareOp::Ge => RowCompare::Ge,
            };
            let (left_side, right_side) = (self.boxed(left)?, self.boxed(right)?);
            // Not equal is all that is not equal, in whatever unit.
            let is_not = op == RowCompare::Ne;
            let op =
                if is_not && self.unit_column(left, right).is_some() { RowCompare::Eq } else { op };
            let made = RowExpr::Compare { op, left: left_side, right: right_side };
            let made = self.in_unit(left, right, made)?;
            let turned = is_not && op == RowCompare::Eq;
            pairs.push(if turned { RowExpr::Not(Box::new(made)) } else { made });
            left = right;
        }
        Some(if pairs.len() == 1 { pairs.remove(0) } else { RowExpr::And(pairs) })
    }

    /// The column `budget` beside a value with a unit, on whichever side: what it is in is another column.
    fn unit_column(&mut self, left: &Expr, right: &Expr) -> Option<(String, Unit)> {
        let columns = self.columns.is_some_and(|c| c.contains_key("budget_unit"));
        if !self.eval.over_runs && !columns {
            return None;
        }
        let (column, other) = match (&*left.kind, &*right.kind) {
            (ExprKind::Dot(id), _) if !reads_row(right) => (id, right),
            (_, ExprKind::Dot(id)) if !reads_row(left) => (id, left),
            _ => return None,
        };
        let unit = unit_of(&self.eval.expr(self.scope, other))?;
        (!unit.is_none()).then(|| (column.name.clone(), unit))
    }

    /// A comparison of a column of runs with what has a unit: the unit must be the column's; a budget is compared only where it is given in
    /// that unit.
    fn in_unit(&mut self, left: &Expr, right: &Expr, made: RowExpr) -> Option<RowExpr> {
        let Some((column, unit)) = self.unit_column(left, right) else { return Some(made) };
        let written = units::name(&unit);
        if column == "budget" {
            let is = RowExpr::Compare {
                op: RowCompare::Eq,
                left: Box::new(RowExpr::Column("budget_unit".to_owned())),
                right: Box::new(RowExpr::Text(written)),
            };
            return Some(RowExpr::And(vec![made, is]));
        }
        match UNITS.iter().find(|(name, _)| *name == column) {
            Some((_, own)) if *own != written => {
                let text = format!("`.{column}` is in {own}, compared with {written}");
                let help = match UNITS.iter().find(|(_, u)| *u == written) {
                    Some((other, _)) => format!("`.{other}` is in {written}"),
                    None => format!("write the value in {own}"),
                };
                self.eval.problem(Problem::new("E0305", left.span.to(right.span), text).help(help));
                None
            }
            Some(_) | None => Some(made),
        }
    }

    fn is_in(&mut self, value: &Expr, set: &Expr) -> Option<RowExpr> {
        let made = self.is_in_plain(value, set)?;
        if reads_row(set) { Some(made) } else { self.in_unit(value, set, made) }
    }

    fn is_in_plain(&mut self, value: &Expr, set: &Expr) -> Option<RowExpr> {
        let left = self.boxed(value)?;
        match &*set.kind {
            ExprKind::List { values, suffix: None } => {
                let options: Option<Vec<RowExpr>> = values.iter().map(|v| self.expr(v)).collect();
                return Some(RowExpr::OneOf { value: left, options: options? });
            }
            ExprKind::Range { from, to } if reads_row(set) => {
                let (low, high) = (self.boxed(from)?, self.boxed(to)?);
                return Some(RowExpr::Between { value: left, low, high });
            }
            _ if reads_row(set) => {
                let whole = self.expr(set)?;
                return Some(RowExpr::Call {
                    function: RowFunction::Contains,
                    args: vec![*left, whole],
                });
            }
            _ => {}
        }
        match self.eval.expr(self.scope, set) {
            Value::List(all) => {
                let options: Option<Vec<RowExpr>> =
                    all.iter().map(|v| constant(self.eval, v, set.span)).collect();
                Some(RowExpr::OneOf { value: left, options: options? })
            }
            Value::Range(a, b) => Some(RowExpr::Between {
                value: left,
                low: Box::new(RowExpr::Number(a.value)),
                high: Box::new(RowExpr::Number(b.value)),
            }),
            Value::Error => None,
            other => {
                let whole = constant(self.eval, &other, set.span)?;
                Some(RowExpr::Call { function: RowFunction::Contains, args: vec![*left, whole] })
            }
        }
    }

    fn call(&mut self, e: &Expr, name: &str, args: &[Arg]) -> Option<RowExpr> {
        let function = FUNCTIONS
            .iter()
            .find(|(n, _, least, most)| *n == name && (*least..=*most).contains(&args.len()));
        if let Some((_, function, ..)) = function {
            let args: Option<Vec<RowExpr>> = args.iter().map(|a| self.expr(&a.value)).collect();
            return Some(RowExpr::Call { function: *function, args: args? });
        }
        let found = SUMMARIES.iter().find(|(n, _)| *n == name);
        let of = match (found.map(|s| s.1), args) {
            (Some(Summary::Percentile(_)), [_, share]) => {
                match self.eval.expr(self.scope, &share.value) {
                    Value::Number(q) if q.unit.is_none() && (0.0..=1.0).contains(&q.value) => {
                        Summary::Percentile(q.value)
                    }
                    Value::Error => return None,
                    other => {
                        let text = format!(
                            "a share between 0% and 100% is needed, this is {}",
                            describe(&other)
                        );
                        self.eval.problem(Problem::new("E0301", share.value.span, text));
                        return None;
                    }
                }
            }
            (Some(Summary::Percentile(_)), _) | (None, _) => return self.cannot(e),
            (Some(of), [_]) => of,
            (Some(_), _) => return self.cannot(e),
        };
        Some(RowExpr::Summary { of, value: self.boxed(&args[0].value)? })
    }
}

/// `a and b and c` is one list.
fn flat(
    a: RowExpr,
    b: RowExpr,
    open: fn(RowExpr) -> Result<Vec<RowExpr>, RowExpr>,
) -> Vec<RowExpr> {
    let mut all = open(a).unwrap_or_else(|e| vec![e]);
    all.push(b);
    all
}

/// `.url.host`.
fn path(e: &Expr) -> Option<String> {
    match &*e.kind {
        ExprKind::Dot(id) => Some(id.name.clone()),
        ExprKind::Member { base, name } => Some(format!("{}.{}", path(base)?, name.name)),
        _ => None,
    }
}

fn reads_row(e: &Expr) -> bool {
    let mut asked = Vec::new();
    rows::fields(e, &mut asked);
    !asked.is_empty()
}
