//! A training API of the newer shape: `POST /submit` begins a run, `/experiment/ID` says how it stands, `/experiments` lists all, `/budget` what is left.

use std::collections::BTreeMap;

use cs336_compiler::check::hir::OutsideSpec;
use serde_json::{Map, Value};

use super::http::{Client, Question};
use super::{Answers, Found, same, sent};
use crate::error::LabError;

/// Names under which an experiment may have its own.
const ID: &[&str] = &["experiment_id", "id"];
/// Names under which it may have what was asked.
const CONFIG: &[&str] = &["config", "experiment_config", "settings"];
/// Names under which the budget may say what is left.
const LEFT: &[&str] = &["remaining_seconds", "remaining", "remaining_budget", "left"];

/// See the module.
pub(super) struct Submit<'h> {
    client: Client<'h>,
    /// What was submitted before, once it is known.
    before: Option<Vec<Map<String, Value>>>,
}

impl<'h> Submit<'h> {
    pub(super) fn new(client: Client<'h>) -> Self {
        Self { client, before: None }
    }

    fn get(&self, path: &str) -> Result<Value, LabError> {
        let reply = self.client.ask(path, Question::Get(&[]))?;
        if reply.is_fine() {
            return Ok(reply.body);
        }
        let why = format!("it says {}: {}", reply.status, reply.words());
        Err(self.client.unreached(path, why))
    }
}

impl Answers for Submit<'_> {
    fn data(&mut self, _asked: &OutsideSpec) -> Result<BTreeMap<String, String>, LabError> {
        Ok(BTreeMap::new())
    }

    fn find(&mut self, asked: &OutsideSpec) -> Result<Option<Found>, LabError> {
        if self.before.is_none() {
            let body = self.get("/experiments")?;
            let list = body.get("experiments").unwrap_or(&body).as_array().cloned();
            let list = list.unwrap_or_default();
            self.before = Some(list.iter().filter_map(Value::as_object).cloned().collect());
        }
        let is = |e: &&Map<String, Value>| {
            let config = CONFIG.iter().find_map(|name| e.get(*name)?.as_object()).unwrap_or(e);
            same(&asked.settings, config)
        };
        // One that failed there may have been tried again: the newest that did not counts most.
        let all: Vec<Found> = self.before.iter().flatten().filter(is).map(standing).collect();
        let sound = all.iter().rev().find(|f| !matches!(f, Found::Failed(_)));
        Ok(sound.or(all.last()).cloned())
    }

    fn ask(&mut self, asked: &OutsideSpec) -> Result<Found, LabError> {
        let body =
            Value::Object(asked.settings.iter().map(|(n, s)| (n.clone(), sent(s))).collect());
        let mut last = String::new();
        for attempt in 0..Client::tries() {
            if attempt > 0 {
                self.client.wait(attempt);
                // It may have been taken although nobody said so: it would be paid for twice.
                self.before = None;
                if let Some(found @ (Found::Ticket(_) | Found::Answer(_))) = self.find(asked)? {
                    return Ok(found);
                }
            }
            let reply = match self.client.once("/submit", Question::Post(&body)) {
                Ok(reply) => reply,
                Err(why) => {
                    last = why;
                    continue;
                }
            };
            let says = format!("it says {}: {}", reply.status, reply.words());
            if reply.is_fine() {
                let Some(id) = reply.body.as_object().and_then(id) else {
                    return Err(no_answer(format!("what it began has no name: {}", reply.words())));
                };
                return Ok(Found::Ticket(id));
            }
            match reply.status {
                // It has this already.
                409 => {
                    self.before = None;
                    return self.find(asked)?.ok_or_else(|| no_answer(says));
                }
                401 | 403 => return Err(self.client.unreached("/submit", says)),
                402 => return Err(LabError::Unpaid { node: "the sweep".to_owned(), why: says }),
                400 if says.to_lowercase().contains("budget") => {
                    return Err(LabError::Unpaid { node: "the sweep".to_owned(), why: says });
                }
                _ => return Err(no_answer(says)),
            }
        }
        Err(self.client.unreached("/submit", last))
    }

    fn look(&mut self, ticket: &str) -> Result<Found, LabError> {
        let path = format!("/experiment/{ticket}");
        let body = self.get(&path)?;
        match body.as_object() {
            Some(experiment) => Ok(match standing(experiment) {
                Found::Ticket(_) => Found::Ticket(ticket.to_owned()),
                other => other,
            }),
            None => Err(self.client.unreached(&path, "it describes no experiment".to_owned())),
        }
    }

    fn left(&mut self) -> Result<Option<f64>, LabError> {
        let body = self.get("/budget")?;
        Ok(LEFT.iter().find_map(|name| body.get(*name)?.as_f64()))
    }
}

fn id(experiment: &Map<String, Value>) -> Option<String> {
    ID.iter().find_map(|name| match experiment.get(*name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(n) => Some(n.to_string()),
        _ => None,
    })
}

/// How an experiment stands.
fn standing(experiment: &Map<String, Value>) -> Found {
    let status = experiment.get("status").and_then(Value::as_str).unwrap_or_default();
    match status {
        "completed" | "done" | "succeeded" => {
            let mut answer = experiment.clone();
            CONFIG.iter().chain(&["api_key"]).for_each(|name| {
                answer.shift_remove(*name);
            });
            Found::Answer(answer)
        }
        "failed" | "cancelled" | "timeout" => {
            let why = ["error", "reason", "message", "detail"]
                .iter()
                .find_map(|name| experiment.get(*name)?.as_str());
            Found::Failed(format!("it {status} there: {}", why.unwrap_or("no reason is given")))
        }
        _ => Found::Ticket(id(experiment).unwrap_or_default()),
    }
}

fn no_answer(why: String) -> LabError {
    LabError::Answer { node: String::new(), why }
}
