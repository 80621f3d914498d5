//! A training API of the older shape: `GET /loss` trains and answers at once, `/previous_runs` lists what was asked, `/total_flops_used` counts.

use std::collections::BTreeMap;

use cs336_compiler::check::hir::OutsideSpec;
use serde_json::{Map, Value};

use super::http::{Client, Question};
use super::{Answers, Found, same, sent};
use crate::error::LabError;

/// See the module.
pub(super) struct Loss<'h> {
    client: Client<'h>,
    /// What was asked before, once it is known.
    before: Option<Vec<Map<String, Value>>>,
    /// What they have counted so far, as far as that is known.
    used: Option<f64>,
    charged: Option<f64>,
}

impl<'h> Loss<'h> {
    pub(super) fn new(client: Client<'h>) -> Self {
        Self { client, before: None, used: None, charged: None }
    }

    fn key(&self) -> Vec<(String, String)> {
        vec![("api_key".to_owned(), self.client.key().to_owned())]
    }

    /// What they have counted for this key. `None`: they do not say.
    fn counted(&self) -> Option<f64> {
        let reply = self.client.once("/total_flops_used", Question::Get(&self.key())).ok()?;
        let body = reply.body.get("total_flops_used").unwrap_or(&reply.body);
        body.as_f64().filter(|_| reply.is_fine())
    }

    /// Reads what was asked before.
    fn list(&self) -> Result<Vec<Map<String, Value>>, LabError> {
        let reply = self.client.ask("/previous_runs", Question::Get(&self.key()))?;
        if !reply.is_fine() {
            let why = format!("it says {}: {}", reply.status, reply.words());
            return Err(self.client.unreached("/previous_runs", why));
        }
        let list = reply.body.get("previous_runs").unwrap_or(&reply.body);
        let Some(list) = list.as_array() else {
            let why = "it lists no previous runs".to_owned();
            return Err(self.client.unreached("/previous_runs", why));
        };
        Ok(list.iter().filter_map(Value::as_object).cloned().collect())
    }
}

impl Answers for Loss<'_> {
    fn data(&mut self, _asked: &OutsideSpec) -> Result<BTreeMap<String, String>, LabError> {
        Ok(BTreeMap::new())
    }

    fn find(&mut self, asked: &OutsideSpec) -> Result<Option<Found>, LabError> {
        if self.before.is_none() {
            self.before = Some(self.list()?);
        }
        let mut before = self.before.iter().flatten();
        let found = before.find(|b| same(&asked.settings, b) && b.contains_key("loss"));
        Ok(found.cloned().map(answer))
    }

    fn ask(&mut self, asked: &OutsideSpec) -> Result<Found, LabError> {
        let mut parameters = self.key();
        parameters.extend(asked.settings.iter().map(|(name, s)| {
            let text = match sent(s) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            (name.clone(), text)
        }));
        self.charged = None;
        if self.used.is_none() {
            self.used = self.counted();
        }
        let mut last = String::new();
        for attempt in 0..Client::tries() {
            if attempt > 0 {
                self.client.wait(attempt);
                // The answer may have been lost, not the run: it would be paid for twice.
                self.before = None;
                if let Some(found) = self.find(asked)? {
                    // It was counted; the answer that said how much is lost.
                    let counted = self.counted();
                    self.charged = counted.zip(self.used).map(|(now, before)| now - before);
                    self.used = counted;
                    return Ok(found);
                }
            }
            match self.client.once("/loss", Question::Get(&parameters)) {
                Ok(reply) if reply.is_fine() => {
                    let Some(body) = reply.body.as_object() else {
                        return Err(no_answer(format!("it says {}", reply.words())));
                    };
                    let counted = body.get("total_flops_used").and_then(Value::as_f64);
                    self.charged = counted.zip(self.used).map(|(now, before)| now - before);
                    self.used = counted;
                    return Ok(answer(body.clone()));
                }
                // 422: the budget there is spent. Nothing else will be taken either.
                Ok(reply) if reply.status == 422 || reply.status == 402 => {
                    let why = format!("they take no more: {}", reply.words());
                    return Err(LabError::Unpaid { node: "the sweep".to_owned(), why });
                }
                Ok(reply) if reply.status == 401 || reply.status == 403 => {
                    let why = format!("it says {}: {}", reply.status, reply.words());
                    return Err(self.client.unreached("/loss", why));
                }
                Ok(reply) => {
                    return Err(no_answer(format!("it says {}: {}", reply.status, reply.words())));
                }
                Err(why) => last = why,
            }
        }
        Err(self.client.unreached("/loss", last))
    }

    fn look(&mut self, ticket: &str) -> Result<Found, LabError> {
        Ok(Found::Failed(format!("nothing goes on under `{ticket}`")))
    }

    fn charged(&mut self) -> Option<f64> {
        self.charged.take()
    }

    fn left(&mut self) -> Result<Option<f64>, LabError> {
        // It says what is used, not what is allowed.
        Ok(None)
    }
}

fn no_answer(why: String) -> LabError {
    LabError::Answer { node: String::new(), why }
}

/// What all runs together have used is no figure of one.
fn answer(mut body: Map<String, Value>) -> Found {
    body.shift_remove("total_flops_used");
    body.shift_remove("api_key");
    Found::Answer(body)
}
