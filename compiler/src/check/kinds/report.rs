//! Reports, plots and tables: what their fields mean as a [`ReportSpec`].
//!
//! Values of the program that are filled in (`{best.loss}`, `extend_to = target`) are numbers here; where one is known only after another node has run, so is the
//! report, and the program is checked again then. Rows are not looked at: which runs there are is no business of the checker.

use super::super::eval::{Eval, describe};
use super::super::hir::Nodes;
use super::super::row_lower;
use super::super::units;
use super::super::value::{NodeValue, Quantity, Record, Scope, Value};
use super::{columns, later_of};
use crate::problem::Problem;
use crate::report::{
    MarkRule, Piece, PlotSpec, ReportPart, ReportRows, ReportSpec, TableSpec, Trend,
};
use crate::row::RowExpr;
use crate::row::interp::{Cell, Row};
use crate::source::Span;
use crate::syntax;
use crate::syntax::TextOrExpr;
use crate::syntax::ast::{Expr, ExprKind};

/// What a report is: known, or known after another node.
pub(super) enum Made {
    /// All of it.
    Known(ReportSpec),
    /// A value in it comes from this node.
    After(String),
}

/// A report, plot or table node; with the nodes that its texts name.
pub(super) fn report(
    eval: &mut Eval<'_>,
    n: &NodeValue,
    nodes: &Nodes,
) -> Option<(Made, Vec<String>)> {
    let mut making = Making { nodes, scope: n.scope.clone(), named: Vec::new(), after: None };
    let at = |f: &str| n.fields.fields.get(f).and_then(|(_, s)| *s).unwrap_or(n.span);
    let title = match n.fields.get("title") {
        Some(Value::Text(t)) => {
            let pieces = making.filled(eval, &t.clone(), at("title"))?;
            pieces.iter().map(Piece::text).collect()
        }
        _ => n.name.to_string(),
    };
    let mut parts = Vec::new();
    let fine = match n.kind.as_str() {
        "plot" => making.plot(eval, &n.name, &n.fields, n.span).map(|p| parts.push(p)),
        "table" => making.table(eval, &n.name, &n.fields, n.span).map(|t| parts.push(t)),
        _ => making.parts(eval, n, &mut parts),
    };
    fine?;
    let export = match n.fields.get("export") {
        None => vec!["html".to_owned()],
        Some(Value::List(l)) => l.iter().filter_map(word).collect(),
        Some(one) => word(one).into_iter().collect(),
    };
    let spec = ReportSpec { title, parts, export };
    let mut needs = spec.nodes();
    for name in making.named {
        if !needs.contains(&name) {
            needs.push(name);
        }
    }
    let made = match making.after {
        Some(node) => Made::After(node),
        None => Made::Known(spec),
    };
    Some((made, needs))
}

/// One line of `check`: `scaling   2 plots, 1 table   html, markdown`.
pub(super) fn line(name: &str, spec: &ReportSpec) -> String {
    let count = |test: fn(&ReportPart) -> bool, word: &str| {
        let n = spec.parts.iter().filter(|p| test(p)).count();
        match n {
            0 => None,
            1 => Some(format!("1 {word}")),
            n => Some(format!("{n} {word}s")),
        }
    };
    let parts = [
        count(|p| matches!(p, ReportPart::Plot(_)), "plot"),
        count(|p| matches!(p, ReportPart::Table(_)), "table"),
        count(|p| matches!(p, ReportPart::Text(_)), "text"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("{name}   {}   {}", parts.join(", "), spec.export.join(", "))
}

struct Making<'a> {
    /// Nodes that stand before it.
    nodes: &'a Nodes,
    scope: Scope,
    /// Nodes that texts name.
    named: Vec<String>,
    /// The first node that a value waits for.
    after: Option<String>,
}

impl Making<'_> {
    fn parts(
        &mut self,
        eval: &mut Eval<'_>,
        n: &NodeValue,
        parts: &mut Vec<ReportPart>,
    ) -> Option<()> {
        let mut fine = Some(());
        for (key, (v, at)) in &n.fields.fields {
            let at = at.unwrap_or(n.span);
            let (word, title) = key.split_once(' ').unwrap_or((key, ""));
            let part = match (word, v) {
                ("text", Value::Text(t)) => self.filled(eval, t, at).map(ReportPart::Text),
                ("plot", Value::Record(r)) => self.plot(eval, title, r, at),
                ("table", Value::Record(r)) => self.table(eval, title, r, at),
                _ => continue,
            };
            match part {
                Some(part) => parts.push(part),
                None => fine = None,
            }
        }
        fine
    }

    fn plot(
        &mut self,
        eval: &mut Eval<'_>,
        title: &str,
        r: &Record,
        at: Span,
    ) -> Option<ReportPart> {
        let place = |f: &str| r.fields.get(f).and_then(|(_, s)| *s).unwrap_or(at);
        let data = self.rows(eval, r.get("data")?, place("data"))?;
        let one = |eval: &mut Eval<'_>, f: &str| match r.get(f)? {
            Value::List(_) => {
                let text = format!("`{f}` takes one expression over rows");
                eval.problem(Problem::new("E0301", place(f), text));
                None
            }
            v => row_lower::expr_of(eval, v, place(f)),
        };
        let (x, y) = (one(eval, "x")?, one(eval, "y")?);
        let color = match r.get("color") {
            None | Some(Value::None) => None,
            Some(_) => Some(one(eval, "color")?),
        };
        let known = columns::of(eval, self.nodes, &data);
        for (f, e) in [("x", Some(&x)), ("y", Some(&y)), ("color", color.as_ref())] {
            e.map_or(Some(()), |e| columns::check(eval, &known, e, place(f)))?;
        }
        let trend = r.get("trend").and_then(word).and_then(|w| Trend::named(&w));
        let trend = trend.unwrap_or(Trend::None);
        let mark = r.get("mark").and_then(word).and_then(|w| MarkRule::named(&w));
        let law = match r.get("law") {
            Some(Value::Node(fit)) => Some(fit.name.to_string()),
            _ => None,
        };
        if trend.needs_law() && law.is_none() {
            let text = "this trend draws the law of a fit, and the plot does not say which";
            let p = Problem::new("E0215", place("trend"), text);
            eval.problem(p.help("add `law = chinchilla`, the name of a `fit`"));
            return None;
        }
        Some(ReportPart::Plot(Box::new(PlotSpec {
            title: title.to_owned(),
            data,
            x,
            y,
            color,
            trend,
            mark: mark.unwrap_or(MarkRule::None),
            line: self.number(eval, r.get("line"), "line", place("line"))?,
            extend_to: self.number(eval, r.get("extend_to"), "extend_to", place("extend_to"))?,
            law,
        })))
    }

    fn table(
        &mut self,
        eval: &mut Eval<'_>,
        title: &str,
        r: &Record,
        at: Span,
    ) -> Option<ReportPart> {
        let place = |f: &str| r.fields.get(f).and_then(|(_, s)| *s).unwrap_or(at);
        let rows = self.rows(eval, r.get("rows")?, place("rows"))?;
        let shown: Vec<RowExpr> = match r.get("columns") {
            None | Some(Value::None) => Vec::new(),
            Some(v) => row_lower::exprs_of(eval, v, place("columns"))?,
        };
        // What a record that is not known yet will have is seen then.
        if self.after.is_none() || !matches!(rows, ReportRows::Given(_)) {
            let known = columns::of(eval, self.nodes, &rows);
            for e in &shown {
                columns::check(eval, &known, e, place("columns"))?;
            }
        }
        Some(ReportPart::Table(TableSpec { title: title.to_owned(), rows, columns: shown }))
    }

    /// Rows of runs, of a table in a file, of a fit, or records of the program.
    fn rows(&mut self, eval: &mut Eval<'_>, v: &Value, at: Span) -> Option<ReportRows> {
        if let Value::Later(l) = v {
            let node = l.node.to_string();
            match l.what.as_str() {
                "metrics" => return Some(ReportRows::Metrics(node)),
                "coefficients" => return Some(ReportRows::Coefficients(node)),
                "residuals" => return Some(ReportRows::Residuals(node)),
                _ => {}
            }
        }
        let records = match v {
            Value::Record(_) | Value::Later(_) => Some(vec![v.clone()]),
            Value::List(l) => {
                let is_record = |v: &Value| matches!(v, Value::Record(_) | Value::Later(_));
                (!l.is_empty() && l.iter().all(is_record)).then(|| l.to_vec())
            }
            _ => None,
        };
        let Some(records) = records else {
            return row_lower::rows_of(eval, v, at).map(ReportRows::Rows);
        };
        let mut rows = Vec::new();
        for record in &records {
            if let Some(node) = later_of(record) {
                self.wait(&node);
                continue;
            }
            let mut row = Row::new();
            if let Value::Record(r) = record {
                cells("", r, &mut row);
            }
            rows.push(row);
        }
        Some(ReportRows::Given(rows))
    }

    /// `None`: not a number, and told so.
    fn number(
        &mut self,
        eval: &mut Eval<'_>,
        v: Option<&Value>,
        field: &str,
        at: Span,
    ) -> Option<Option<f64>> {
        match v {
            None | Some(Value::None) => Some(None),
            Some(Value::Number(q)) => Some(Some(q.value)),
            Some(Value::Later(l)) => {
                self.wait(&l.node);
                Some(None)
            }
            Some(Value::Error) => None,
            Some(other) => {
                let text = format!("`{field}` is a place on the axis, this is {}", describe(other));
                eval.problem(Problem::new("E0301", at, text));
                None
            }
        }
    }

    /// A text with its values.
    fn filled(&mut self, eval: &mut Eval<'_>, text: &str, at: Span) -> Option<Vec<Piece>> {
        let (parts, problems) = syntax::template(text, at);
        let mut pieces = Vec::new();
        let mut fine = problems.is_empty();
        eval.problems.extend(problems);
        for part in parts {
            let e = match part {
                TextOrExpr::Text(t) => {
                    pieces.push(Piece::Text(t));
                    continue;
                }
                TextOrExpr::Expr(e) => e,
            };
            let mut nodes = Vec::new();
            named_nodes(eval, &self.scope, &e, &mut nodes);
            self.named.extend(nodes.iter().cloned());
            let v = eval.expr(&self.scope, &e);
            if let Some(node) = later_of(&v) {
                self.wait(&node);
                continue;
            }
            let node = match nodes.as_slice() {
                [one] => Some(one.clone()),
                _ => None,
            };
            match shown(&v) {
                Some(text) => pieces.push(Piece::Value { text, node }),
                None => {
                    if !matches!(v, Value::Error) {
                        let text = format!("{} cannot be filled into a text", describe(&v));
                        let p = Problem::new("E0301", e.span, text);
                        eval.problem(p.help("numbers, texts and lists of them can"));
                    }
                    fine = false;
                }
            }
        }
        fine.then_some(pieces)
    }

    fn wait(&mut self, node: &str) {
        self.after.get_or_insert_with(|| node.to_owned());
    }
}

fn word(v: &Value) -> Option<String> {
    match v {
        Value::Text(t) => Some(t.to_string()),
        Value::Builtin(b) => Some((*b).to_owned()),
        _ => None,
    }
}

/// The fields of a record as cells; those of records within it by `outer.inner`, the ends of a range as `.low` and `.high`.
pub(in crate::check) fn cells(prefix: &str, r: &Record, row: &mut Row) {
    for (name, (v, _)) in &r.fields {
        let name = format!("{prefix}{name}");
        let cell = match v {
            Value::Number(q) => Cell::Number(q.value),
            Value::Text(t) => Cell::Text(t.to_string()),
            Value::Bool(b) => Cell::Bool(*b),
            Value::Node(n) => Cell::Text(n.name.to_string()),
            Value::Range(low, high) => {
                row.insert(format!("{name}.low"), Cell::Number(low.value));
                row.insert(format!("{name}.high"), Cell::Number(high.value));
                continue;
            }
            Value::Record(inner) => {
                cells(&format!("{name}."), inner, row);
                // A number with an interval is its value.
                let Some(Value::Number(q)) = inner.get("value") else { continue };
                Cell::Number(q.value)
            }
            _ => Cell::Null,
        };
        row.insert(name, cell);
    }
}

/// A value as text, with its unit. `None`: it has no text.
fn shown(v: &Value) -> Option<String> {
    match v {
        Value::Number(q) => Some(number(q)),
        Value::Text(t) => Some(t.to_string()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Node(n) => Some(n.name.to_string()),
        Value::Range(a, b) => Some(format!("{}–{}", number(a), number(b))),
        Value::List(l) => l.iter().map(shown).collect::<Option<Vec<_>>>().map(|l| l.join(", ")),
        Value::Record(r) => {
            let value = shown(r.get("value")?)?;
            match (r.get("ci95"), r.get("low"), r.get("high")) {
                (Some(Value::Range(a, b)), _, _)
                | (None, Some(Value::Number(a)), Some(Value::Number(b))) => {
                    Some(format!("{value} ({}–{})", number(a), number(b)))
                }
                _ => Some(value),
            }
        }
        _ => None,
    }
}

/// A plain number has four significant digits in a text; one with a unit is spelled as everywhere.
fn number(q: &Quantity) -> String {
    let plain = q.unit.is_none() && !q.percent && q.value.is_finite() && q.value != 0.0;
    if plain && (1e-3..1e6).contains(&q.value.abs()) && q.value.fract() != 0.0 {
        let order = q.value.abs().log10().floor() as i32;
        let decimals = (3 - order).clamp(0, 6) as usize;
        let text = format!("{:.decimals$}", q.value);
        return if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        };
    }
    units::show(q)
}

/// The nodes that an expression names, each once.
fn named_nodes(eval: &mut Eval<'_>, scope: &Scope, e: &Expr, found: &mut Vec<String>) {
    match &*e.kind {
        ExprKind::Name(_) => {
            if let Value::Node(n) = eval.expr(scope, e)
                && !found.contains(&n.name.to_string())
            {
                found.push(n.name.to_string());
            }
        }
        ExprKind::Member { base, .. } => named_nodes(eval, scope, base, found),
        ExprKind::Unary { value, .. } => named_nodes(eval, scope, value, found),
        ExprKind::Binary { left, right, .. } => {
            named_nodes(eval, scope, left, found);
            named_nodes(eval, scope, right, found);
        }
        ExprKind::Call { callee, args } => {
            named_nodes(eval, scope, callee, found);
            args.iter().for_each(|a| named_nodes(eval, scope, &a.value, found));
        }
        _ => {}
    }
}
