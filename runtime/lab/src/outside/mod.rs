//! Points that others run: what is asked is looked for in the ledger first, then among what they have answered before, and only then asked.
//!
//! A run of others has a folder like any run. `asked.json` says what was begun and how often it was paid for, `answer.json` is the answer as it came,
//! `result.json` the figures that follow from it; those are made anew each time, so that other `gives` never ask again. What was paid is
//! counted here, against `total`, whatever the others count.

mod http;
mod loss;
mod recorded;
mod submit;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use cs336_compiler::check::hir::{
    Api, Node, Outside, OutsideSpec, Runner, Setting, Spec, SweepSpec,
};
use cs336_compiler::front::Checked;
use cs336_compiler::row::interp::{Cell, value};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::LabError;
use crate::files::{read_json, write_json};
use crate::job::Bench;
use crate::key::{KeyInputs, NUMERICS_VERSION};
use crate::progress::Note;
use crate::rundir::{self, Manifest, RunDir, SCHEMA_VERSION, Status};
use crate::sweep::Ended;
use crate::train::{Around, Outcome};

use http::Client;
use loss::Loss;
use recorded::Recorded;
use submit::Submit;

/// Who answers.
trait Answers {
    /// What the key of the run holds besides its settings: which data an answer comes from.
    fn data(&mut self, asked: &OutsideSpec) -> Result<BTreeMap<String, String>, LabError>;

    /// What they have of this already: nothing needs to be paid for it.
    fn find(&mut self, asked: &OutsideSpec) -> Result<Option<Found>, LabError>;

    /// Asks, which is paid for.
    fn ask(&mut self, asked: &OutsideSpec) -> Result<Found, LabError>;

    /// How what goes on stands.
    fn look(&mut self, ticket: &str) -> Result<Found, LabError>;

    /// What the last question was charged, in FLOPs, if they count.
    fn charged(&mut self) -> Option<f64> {
        None
    }

    /// What they would still take, in the unit of the costs, if they say so.
    fn left(&mut self) -> Result<Option<f64>, LabError>;
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq)]
enum Found {
    /// The answer.
    Answer(Map<String, Value>),
    /// It goes on under this name.
    Ticket(String),
    /// It was run, and failed there.
    Failed(String),
}

/// `asked.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Asked {
    version: u64,
    /// How often it was paid for, as far as is known.
    paid: u64,
    /// What was charged for it, where they count; else it is taken to be the cost each time.
    #[serde(default)]
    charged: Option<f64>,
    /// What goes on there.
    ticket: Option<String>,
}

impl Asked {
    fn spent(&self, cost: f64) -> f64 {
        self.charged.unwrap_or(self.paid as f64 * cost)
    }
}

/// A point and its folder.
struct Point {
    node: Node,
    spec: OutsideSpec,
    inputs: KeyInputs,
    path: PathBuf,
    name: String,
}

/// Seconds between two looks at runs that go on: it doubles from the first to the second.
const LOOK_SECONDS: (f64, f64) = (0.5, 30.0);

/// Gets what is missing of one round of a sweep. Gives how its points ended, in their order; what was not begun before a stop is left out.
pub(crate) fn round(
    checked: &Checked<'_>,
    spec: &SweepSpec,
    outside: &Outside,
    points: Range<usize>,
    bench: Bench<'_>,
    around: &mut Around<'_>,
) -> Result<Vec<(String, Ended)>, LabError> {
    let mut others: Box<dyn Answers + '_> = match &outside.runner {
        Runner::Recorded { format, pattern, base } => {
            Box::new(Recorded::read(format, pattern, base)?)
        }
        Runner::Http { url, api, key } => {
            let client = Client::new(url, key, bench.host)?;
            match api {
                Api::Loss => Box::new(Loss::new(client)),
                Api::Submit => Box::new(Submit::new(client)),
            }
        }
    };
    let nodes: Vec<&Node> = spec.points.iter().filter_map(|p| checked.nodes.get(&p.node)).collect();
    let mut round = Round { checked, outside, bench, around, others: &mut *others, paid: 0.0 };
    // What the rounds before this one cost counts too.
    for node in &nodes[..points.start.min(nodes.len())] {
        if let Some(point) = round.place(node)? {
            round.paid += asked(&point.path)?.spent(point.spec.cost);
        }
    }
    round.run(&nodes[points])
}

struct Round<'a, 'c, 'e> {
    checked: &'a Checked<'c>,
    outside: &'a Outside,
    bench: Bench<'a>,
    around: &'a mut Around<'e>,
    others: &'a mut dyn Answers,
    /// What was paid for this sweep so far.
    paid: f64,
}

impl Round<'_, '_, '_> {
    fn run(&mut self, nodes: &[&Node]) -> Result<Vec<(String, Ended)>, LabError> {
        let mut ended: BTreeMap<usize, Ended> = BTreeMap::new();
        let mut points: BTreeMap<usize, Point> = BTreeMap::new();
        for (at, node) in nodes.iter().enumerate() {
            match self.place(node) {
                Ok(Some(point)) => {
                    self.paid += asked(&point.path)?.spent(point.spec.cost);
                    points.insert(at, point);
                }
                Ok(None) => {}
                Err(error) => {
                    ended.insert(at, self.failed(node, &error));
                }
            }
        }
        let mut open: Vec<(usize, RunDir, String)> = Vec::new();
        for (at, point) in &points {
            if self.around.stop.load(Ordering::SeqCst) {
                break;
            }
            match self.begin(point) {
                Ok(Begun::Ended(how)) => {
                    ended.insert(*at, how);
                }
                Ok(Begun::Ticket(dir, ticket)) => open.push((*at, dir, ticket)),
                // The others cannot be reached, or take nothing more: that holds for the rest too.
                Err(error) => {
                    ended.insert(*at, Ended::Refused(error));
                    break;
                }
            }
        }
        let mut pause = LOOK_SECONDS.0;
        while !open.is_empty() && !self.around.stop.load(Ordering::SeqCst) {
            let mut still = Vec::new();
            for (at, mut dir, ticket) in open {
                match self.others.look(&ticket) {
                    Ok(Found::Ticket(_)) => still.push((at, dir, ticket)),
                    Ok(found) => {
                        ended.insert(at, self.end(&points[&at], &mut dir, found)?);
                    }
                    Err(error) => {
                        ended.insert(at, Ended::Refused(error));
                    }
                }
            }
            open = still;
            if !open.is_empty() {
                self.bench.host.sleep(pause);
                pause = (2.0 * pause).min(LOOK_SECONDS.1);
            }
        }
        Ok(ended.into_iter().map(|(at, e)| (nodes[at].name.clone(), e)).collect())
    }

    /// Where the run of a point is. `None`: it is none of others.
    fn place(&mut self, node: &Node) -> Result<Option<Point>, LabError> {
        let spec = match &node.spec {
            Spec::Outside(spec) => (**spec).clone(),
            Spec::Data(_)
            | Spec::Rows(_)
            | Spec::Tokenizer(_)
            | Spec::Model
            | Spec::Train(_)
            | Spec::Fit(_)
            | Spec::Sweep(_)
            | Spec::Report(_)
            | Spec::After { .. }
            | Spec::NotBuilt { .. } => return Ok(None),
        };
        let inputs = KeyInputs {
            meaning: node.meaning.clone(),
            data: self.others.data(&spec).map_err(|e| of_node(e, &node.name))?,
            numerics: NUMERICS_VERSION,
            device: None,
        };
        let key = inputs.key();
        let name = self.bench.known.name_of(&key).unwrap_or(&node.name).to_owned();
        let path = rundir::path_of(&self.bench.settings.root, &name, &key);
        Ok(Some(Point { node: node.clone(), spec, inputs, path, name }))
    }

    /// From the ledger, from what the others have, or by asking them.
    fn begin(&mut self, point: &Point) -> Result<Begun, LabError> {
        let node = &point.node.name;
        match rundir::status(&point.path)? {
            Status::Done { .. } if kept(&point.path).is_some() => {
                let answer = kept(&point.path).unwrap_or_default();
                let result = self.result(point, &answer)?;
                write_json(&point.path.join("result.json"), &result)?;
                self.around.watcher.note(&Note::Cached { node: node.clone() });
                return Ok(Begun::Ended(Ended::Outcome(Outcome::Done(result))));
            }
            Status::Failed { code, why, .. } if !self.bench.settings.retry_failed => {
                let note =
                    Note::Failed { node: node.clone(), code: code.clone(), why: why.clone() };
                self.around.watcher.note(&note);
                return Ok(Begun::Ended(Ended::Failed(code, why)));
            }
            Status::Done { .. }
            | Status::Failed { .. }
            | Status::New
            | Status::Incomplete { .. }
            | Status::Stopped { .. } => {}
        }
        let was = rundir::status(&point.path)?;
        let mut dir = RunDir::open(&self.bench.settings.root, &self.manifest(point))?;
        dir.forgive()?;
        let mut known = asked(&point.path)?;
        // A run that failed there and is to be tried again is asked for anew.
        let again = matches!(was, Status::Failed { .. });
        let ticket = known.ticket.clone().filter(|_| !again);
        // An answer whose result could not be read any more is an answer all the same.
        let answer = kept(&point.path).filter(|_| !again).map(Found::Answer);
        let before = match (answer, ticket) {
            (Some(answer), _) => Some(answer),
            (None, Some(ticket)) => Some(Found::Ticket(ticket)),
            (None, None) => {
                self.others.find(&point.spec)?.filter(|f| !again || matches!(f, Found::Answer(_)))
            }
        };
        let found = match before {
            Some(found) => {
                if known.paid == 0 {
                    known.paid = 1;
                    self.paid += point.spec.cost;
                }
                found
            }
            None => {
                self.affordable(point)?;
                let path = dir.path().display().to_string();
                self.around.watcher.note(&Note::Start { node: node.clone(), path });
                dir.event(self.bench.host, "asked", json!({ "cost": point.spec.cost }));
                match self.others.ask(&point.spec) {
                    Ok(found) => {
                        let charge = self.charge(point);
                        known.charged = Some(known.spent(point.spec.cost) + charge);
                        known.paid += 1;
                        self.paid += charge;
                        found
                    }
                    Err(error @ LabError::Answer { .. }) => {
                        // They refuse these settings: nothing was run.
                        let error = of_node(error, node);
                        dir.fail(self.bench.host, &error)?;
                        return Ok(Begun::Ended(self.failed(&point.node, &error)));
                    }
                    Err(error) => return Err(of_node(error, node)),
                }
            }
        };
        known.ticket = match &found {
            Found::Ticket(ticket) => Some(ticket.clone()),
            Found::Answer(_) | Found::Failed(_) => None,
        };
        known.version = SCHEMA_VERSION;
        write_json(&point.path.join("asked.json"), &known)?;
        match found {
            Found::Ticket(ticket) => Ok(Begun::Ticket(dir, ticket)),
            found @ (Found::Answer(_) | Found::Failed(_)) => {
                Ok(Begun::Ended(self.end(point, &mut dir, found)?))
            }
        }
    }

    /// What the last question cost: what they say that they charged, else what the program says.
    fn charge(&mut self, point: &Point) -> f64 {
        let cost = point.spec.cost;
        let Some(charged) = self.others.charged().filter(|_| point.spec.unit == "FLOPs") else {
            return cost;
        };
        // What they had already is free.
        if charged != 0.0 && (charged - cost).abs() > 0.01 * cost.max(charged) {
            let node = &point.node.name;
            let message = format!(
                "`{node}` was charged {charged:.3e} FLOPs, and its `cost` says {cost:.3e}; what is charged counts"
            );
            self.around.watcher.note(&Note::Warning { code: "E0881".to_owned(), message });
        }
        charged
    }

    /// Refuses what would go past `total`, or past what the others still take.
    fn affordable(&mut self, point: &Point) -> Result<(), LabError> {
        let OutsideSpec { cost, unit, .. } = &point.spec;
        let refuse = |why: String| LabError::Unpaid { node: point.node.name.clone(), why };
        if let Some(total) = self.outside.total
            && self.paid + cost > total * (1.0 + 1e-9)
        {
            return Err(refuse(format!(
                "it costs {cost:.3e} {unit}, and {:.3e} of {total:.3e} {unit} are spent",
                self.paid
            )));
        }
        if *cost > 0.0
            && let Some(left) = self.others.left()?
            && *cost > left
        {
            return Err(refuse(format!(
                "it costs {cost:.3e} {unit}, and they take {left:.3e} more"
            )));
        }
        Ok(())
    }

    /// Writes down what came.
    fn end(&mut self, point: &Point, dir: &mut RunDir, found: Found) -> Result<Ended, LabError> {
        let node = &point.node.name;
        let answer = match found {
            Found::Answer(answer) => answer,
            Found::Failed(why) => {
                let error = LabError::Answer { node: node.clone(), why };
                dir.fail(self.bench.host, &error)?;
                return Ok(self.failed(&point.node, &error));
            }
            // Whoever calls has looked.
            Found::Ticket(ticket) => {
                let why = format!("`{ticket}` still goes on");
                return Ok(Ended::Refused(LabError::Answer { node: node.clone(), why }));
            }
        };
        write_json(&point.path.join("answer.json"), &answer)?;
        let result = match self.result(point, &answer) {
            Ok(result) => result,
            Err(error) => {
                dir.fail(self.bench.host, &error)?;
                return Ok(self.failed(&point.node, &error));
            }
        };
        dir.finish(&result)?;
        dir.event(self.bench.host, "done", json!({}));
        let names = ["loss", "valid_loss"];
        let figure = |n: &&str| Some(((*n).to_owned(), result.get(*n)?.as_f64()?));
        let figures = names.iter().filter_map(figure).collect();
        self.around.watcher.note(&Note::Done { node: node.clone(), figures });
        Ok(Ended::Outcome(Outcome::Done(result)))
    }

    fn failed(&mut self, node: &Node, error: &LabError) -> Ended {
        let (node, code, why) = (node.name.clone(), error.code().to_owned(), error.to_string());
        self.around.watcher.note(&Note::Failed { node, code: code.clone(), why: why.clone() });
        Ended::Failed(code, why)
    }

    /// The figures of a run: numbers of the answer, what it cost, and what `gives` makes of them.
    fn result(&self, point: &Point, answer: &Map<String, Value>) -> Result<Value, LabError> {
        let mut cells = BTreeMap::new();
        point.spec.settings.iter().for_each(|(name, s)| put_setting(&mut cells, name, s));
        let mut result = Map::new();
        result.insert("version".to_owned(), json!(SCHEMA_VERSION));
        if point.spec.unit == "FLOPs" {
            result.insert("flops".to_owned(), json!(point.spec.cost));
        }
        for (name, v) in flat(answer) {
            if let (Some(number), false) = (v.as_f64(), cells.contains_key(&name)) {
                result.insert(name.clone(), json!(number));
            }
            let cell = match &v {
                Value::Number(n) => Cell::Number(n.as_f64().unwrap_or(f64::NAN)),
                Value::String(t) => Cell::Text(t.clone()),
                Value::Bool(b) => Cell::Bool(*b),
                Value::Null | Value::Array(_) | Value::Object(_) => continue,
            };
            cells.entry(name).or_insert(cell);
        }
        for (name, figure) in &self.outside.gives {
            let cell = value(figure, &|c| cells.get(c).cloned().unwrap_or(Cell::Null));
            let Some(number) = cell.number().filter(|n| n.is_finite()) else {
                let have: Vec<String> = cells.keys().map(|c| format!(".{c}")).collect();
                let why =
                    format!("`gives.{name}` is no number here; there are {}", have.join(", "));
                return Err(LabError::Answer { node: point.node.name.clone(), why });
            };
            result.insert(name.clone(), json!(number));
        }
        Ok(Value::Object(result))
    }

    fn manifest(&self, point: &Point) -> Manifest {
        let sources = self.checked.sources().iter().filter(|(_, file)| !file.is_std);
        Manifest {
            version: SCHEMA_VERSION,
            name: point.name.clone(),
            key: point.inputs.key(),
            inputs: point.inputs.clone(),
            sources: sources.map(|(_, file)| (file.name.clone(), file.text.clone())).collect(),
            seeds: json!({}),
            cs336c: env!("CARGO_PKG_VERSION").to_owned(),
            machine: json!({}),
            created: self.bench.host.unix_time(),
            columns: BTreeMap::new(),
        }
    }
}

/// How a point began.
enum Begun {
    Ended(Ended),
    Ticket(RunDir, String),
}

/// The answer that came, if it is there and can be read.
fn kept(path: &Path) -> Option<Map<String, Value>> {
    read_json(&path.join("answer.json")).ok()
}

fn asked(path: &Path) -> Result<Asked, LabError> {
    let path = path.join("asked.json");
    if path.exists() { read_json(&path) } else { Ok(Asked::default()) }
}

/// An error that speaks of a point that its maker did not know.
fn of_node(error: LabError, name: &str) -> LabError {
    match error {
        LabError::Answer { why, .. } => LabError::Answer { node: name.to_owned(), why },
        LabError::Unrecorded { why, .. } => LabError::Unrecorded { node: name.to_owned(), why },
        LabError::Unpaid { why, .. } => LabError::Unpaid { node: name.to_owned(), why },
        other => other,
    }
}

/// A setting as columns: a record gives one for each of its fields, `optimizer.lr`.
fn put_setting(cells: &mut BTreeMap<String, Cell>, name: &str, s: &Setting) {
    let cell = match s {
        Setting::Number(x) => Cell::Number(*x),
        Setting::Text(t) => Cell::Text(t.clone()),
        Setting::Bool(b) => Cell::Bool(*b),
        Setting::List(_) => return,
        Setting::Record(fields) => {
            return fields.iter().for_each(|(f, s)| put_setting(cells, &format!("{name}.{f}"), s));
        }
    };
    cells.insert(name.to_owned(), cell);
}

/// An answer without its nesting: what stands deeper has its own name, if nothing before it has.
fn flat(answer: &Map<String, Value>) -> Vec<(String, Value)> {
    let mut all: Vec<(String, Value)> = Vec::new();
    let mut inner = Vec::new();
    for (name, v) in answer {
        match v {
            Value::Object(deeper) => inner.extend(flat(deeper)),
            v => all.push((name.clone(), v.clone())),
        }
    }
    for (name, v) in inner {
        if all.iter().all(|(n, _)| *n != name) {
            all.push((name, v));
        }
    }
    all
}

/// A setting as it is sent: whole numbers without a point.
fn sent(s: &Setting) -> Value {
    match s {
        Setting::Number(x) if x.fract() == 0.0 && x.abs() < 9.0e18 => json!(*x as i64),
        Setting::Number(x) => json!(x),
        Setting::Text(t) => json!(t),
        Setting::Bool(b) => json!(b),
        Setting::List(all) => all.iter().map(sent).collect(),
        Setting::Record(fields) => {
            Value::Object(fields.iter().map(|(n, s)| (n.clone(), sent(s))).collect())
        }
    }
}

/// True if something that was asked before has all of these settings; it may have more.
fn same(settings: &[(String, Setting)], before: &Map<String, Value>) -> bool {
    settings.iter().all(|(name, s)| before.get(name).is_some_and(|v| equal(s, v)))
}

fn equal(s: &Setting, v: &Value) -> bool {
    match (s, v) {
        (Setting::Number(x), v) => {
            v.as_f64().is_some_and(|y| (x - y).abs() <= 1e-9 * x.abs().max(y.abs()))
        }
        (Setting::Text(t), Value::String(u)) => t == u,
        (Setting::Bool(b), Value::Bool(c)) => b == c,
        (Setting::List(all), Value::Array(other)) => {
            all.len() == other.len() && all.iter().zip(other).all(|(s, v)| equal(s, v))
        }
        (Setting::Record(fields), Value::Object(other)) => same(fields, other),
        (Setting::Text(_) | Setting::Bool(_) | Setting::List(_) | Setting::Record(_), _) => false,
    }
}
