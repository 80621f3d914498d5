//! Sweeps whose points others run: `runner = recorded(..)`, a table of results, or `http(..)`, a training API.
//!
//! The point is then what is asked: `run` is a record of settings, and `cost` says what an answer costs there.

use std::rc::Rc;

use super::super::eval::{Eval, describe};
use super::super::hir::{Api, Outside, OutsideSpec, Runner, Setting};
use super::super::row_lower;
use super::super::units;
use super::super::value::{NodeValue, Quantity, Record, Scope, Value};
use super::sweep::{self, Sweep};
use super::{later_of, points, stop};
use crate::problem::Problem;
use crate::row::RowExpr;
use crate::source::Span;

/// The kind of the nodes of such points; no program writes it.
pub(super) const REQUEST: &str = "request";

/// Where the key of a training API is, if nothing else is said.
const KEY: &str = "CS336C_API_KEY";

/// The field `runner`. The outer `None`: a problem was reported.
pub(super) fn runner(eval: &mut Eval<'_>, n: &NodeValue) -> Option<Option<Outside>> {
    let Some(e) = sweep::setting(eval, n, "runner") else {
        if let Some(cost) = sweep::field(n, "cost") {
            let text = "what a run costs is counted here, unless a `runner` asks others for it";
            eval.problem(Problem::new("E0520", cost.span, text).help("leave out `cost`"));
            return None;
        }
        return Some(None);
    };
    let v = sweep::own(eval, n, "runner", &e)?;
    let refuse = |eval: &mut Eval<'_>, span: Span, text: String| {
        let p = Problem::new("E0520", span, text);
        eval.problem(p.help(
            "for example `runner = recorded(\"results.csv\")` or `runner = http(\"http://localhost:8000\", api = \"loss\")`",
        ));
        None
    };
    let (r, name, known): (&Record, &str, &[&str]) = match &v {
        Value::Record(r) if stop::is(r, "recorded") => (r, "recorded", &["gives"]),
        Value::Record(r) if stop::is(r, "http") => (r, "http", &["gives", "api", "key"]),
        other => {
            return refuse(eval, e.span, format!("this is no runner: {}", describe(other)));
        }
    };
    let span = |field: &str| r.fields.get(field).and_then(|(_, s)| *s).unwrap_or(e.span);
    let other = r.fields.keys().find(|k| !known.contains(&k.as_str()) && *k != "kind" && *k != "0");
    if let Some(other) = other {
        let text = format!("`{name}` takes {}, not `{other}`", known.join(", "));
        return refuse(eval, span(other), text);
    }
    let Some(Value::Text(place)) = r.get("0") else {
        return refuse(eval, e.span, format!("`{name}` needs a text: where it is"));
    };
    let runner = if name == "recorded" {
        let format = match place.rsplit_once('.').map(|(_, ending)| ending) {
            Some("csv") => "csv",
            Some("json" | "jsonl") => "jsonl",
            Some("parquet") => "parquet",
            Some(_) | None => {
                let text = format!("`{place}` is no table: its name ends in csv, jsonl or parquet");
                return refuse(eval, span("0"), text);
            }
        };
        let base = eval.sources.file(e.span.file).name.clone();
        Runner::Recorded { format: format.to_owned(), pattern: place.to_string(), base }
    } else {
        if !(place.starts_with("http://") || place.starts_with("https://")) {
            let text = format!("`{place}` is no address: it begins with http:// or https://");
            return refuse(eval, span("0"), text);
        }
        let api = match r.get("api") {
            Some(Value::Text(t)) if &**t == "loss" => Api::Loss,
            Some(Value::Text(t)) if &**t == "submit" => Api::Submit,
            Some(_) | None => {
                let text = "`api` is \"loss\" (one question, one answer) or \"submit\" (runs that are waited for)";
                return refuse(eval, span("api"), text.to_owned());
            }
        };
        let key = match r.get("key") {
            None => KEY.to_owned(),
            Some(Value::Text(t))
                if !t.is_empty()
                    && t.chars()
                        .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') =>
            {
                t.to_string()
            }
            Some(_) => {
                let text =
                    "`key` names the environment variable that holds the key, never the key itself";
                return refuse(eval, span("key"), text.to_owned());
            }
        };
        if sweep::field(n, "cost").is_none() {
            let text = "what an answer costs must be known before it is asked for: `cost`";
            let p = Problem::new("E0520", n.span, text);
            eval.problem(p.help("for example `cost = C`: FLOPs, or a time"));
            return None;
        }
        Runner::Http { url: place.trim_end_matches('/').to_owned(), api, key }
    };
    if let Some(stop) = sweep::field(n, "stop") {
        let text = "runs of others cannot be stopped early: nobody tells of them on their way";
        let p = Problem::new("E0520", stop.span, text);
        eval.problem(
            p.help("make two sweeps: a cheap one, and one with the settings of its best points"),
        );
        return None;
    }
    let gives = match r.get("gives") {
        None => Vec::new(),
        Some(Value::Record(g)) => {
            let mut all: Vec<(String, RowExpr)> = Vec::new();
            for (figure, (v, at)) in &g.fields {
                let e = row_lower::expr_of(eval, v, at.unwrap_or(e.span))?;
                all.push((figure.clone(), e));
            }
            all
        }
        Some(_) => {
            let text = "`gives` names figures: `gives = { loss = .final_loss }`".to_owned();
            return refuse(eval, span("gives"), text);
        }
    };
    Some(Some(Outside { runner, gives, total: None }))
}

/// A point: what is asked there as a node, and its price. `None`: a problem was reported.
pub(super) fn point(
    eval: &mut Eval<'_>,
    n: &NodeValue,
    scope: &Scope,
    settings: &Rc<Record>,
    span: Span,
) -> Option<(Rc<NodeValue>, Quantity)> {
    if let Some((name, _)) = settings.fields.iter().find(|(_, (v, _))| later_of(v).is_some()) {
        let text = format!("`{name}` is not known before something else has run");
        eval.problem(Problem::new("E0505", span, text));
        return None;
    }
    for (name, (v, at)) in &settings.fields {
        if setting(v).is_none() {
            let text = format!("`{name}` cannot be asked of others: {}", describe(v));
            let p = Problem::new("E0520", at.unwrap_or(span), text);
            eval.problem(p.help("numbers, texts, truths, and lists and records of these can be"));
            return None;
        }
    }
    let price = match sweep::field(n, "cost") {
        None => Quantity::plain(0.0),
        Some(e) => match eval.expr(scope, e) {
            Value::Number(q)
                if matches!(units::name(&q.unit).as_str(), "FLOPs" | "s") && q.value >= 0.0 =>
            {
                q
            }
            Value::Error => return None,
            other => {
                let text = format!("`cost` is FLOPs or a time, this is {}", describe(&other));
                eval.problem(Problem::new("E0520", e.span, text).help("for example `cost = C`"));
                return None;
            }
        },
    };
    let node = NodeValue {
        kind: REQUEST.to_owned(),
        name: n.name.clone(),
        fields: (**settings).clone(),
        items: Vec::new(),
        scope: scope.clone(),
        span,
        doc: None,
    };
    Some((Rc::new(node), price))
}

/// What is asked at a point.
pub(super) fn spec(node: &NodeValue, price: &Quantity) -> OutsideSpec {
    let settings = node.fields.fields.iter();
    OutsideSpec {
        settings: settings.filter_map(|(n, (v, _))| Some((n.clone(), setting(v)?))).collect(),
        cost: price.value,
        unit: units::name(&price.unit),
    }
}

/// Figures that a run of others may be asked for: its losses, and what its sweep says that it `gives`.
pub(super) fn figures(eval: &mut Eval<'_>, point: &NodeValue) -> Vec<String> {
    let mut all: Vec<String> = ["loss", "valid_loss"].map(str::to_owned).to_vec();
    let sweep = point.name.split_once('/').map(|(sweep, _)| sweep);
    let sweep = sweep.and_then(|name| points::named(eval, name));
    if let Some(Some(outside)) = sweep.and_then(|n| runner(eval, &n)) {
        all.extend(outside.gives.into_iter().map(|(name, _)| name));
    }
    all
}

/// Who answers, as part of what a point means: the same question to somebody else is another one.
pub(super) fn meaning(s: &Sweep) -> String {
    match s.outside.as_ref().map(|o| &o.runner) {
        Some(Runner::Recorded { pattern, .. }) => format!("recorded = {pattern:?}\n"),
        Some(Runner::Http { url, .. }) => format!("asked = {url:?}\n"),
        None => String::new(),
    }
}

fn setting(v: &Value) -> Option<Setting> {
    match v {
        Value::Number(q) => Some(Setting::Number(q.value)),
        Value::Text(t) => Some(Setting::Text(t.to_string())),
        Value::Bool(b) => Some(Setting::Bool(*b)),
        Value::List(l) => l.iter().map(setting).collect::<Option<_>>().map(Setting::List),
        Value::Record(r) => {
            let fields = r.fields.iter().map(|(n, (v, _))| Some((n.clone(), setting(v)?)));
            fields.collect::<Option<_>>().map(Setting::Record)
        }
        Value::None
        | Value::Range(..)
        | Value::Tensor(_)
        | Value::Layer(_)
        | Value::Placed(_)
        | Value::Def(_)
        | Value::Weight(_)
        | Value::Program(_)
        | Value::Builtin(_)
        | Value::Bracketed(_)
        | Value::Stream(_)
        | Value::Node(_)
        | Value::Row(_)
        | Value::Later(_)
        | Value::Error => None,
    }
}
