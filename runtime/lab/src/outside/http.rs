//! Questions over HTTP. What may pass (5xx, timeouts, lost connections) is tried again after a while; everything else is for the caller.

use std::time::Duration;

use serde_json::Value;

use crate::error::LabError;
use crate::host::Host;

/// How often a question is put at most.
const TRIES: u32 = 5;
/// Seconds before the second try; each further one waits twice as long.
const FIRST_WAIT: f64 = 0.5;
/// Seconds after which a question counts as lost.
const TIMEOUT: u64 = 60;

/// The other side.
pub(super) struct Client<'h> {
    agent: ureq::Agent,
    url: String,
    key: String,
    host: &'h dyn Host,
}

/// A reply that is none of ours to try again.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Reply {
    pub(super) fn is_fine(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What it says in words.
    pub(super) fn words(&self) -> String {
        let field = ["detail", "message", "error"].iter().find_map(|f| self.body.get(*f));
        match field.unwrap_or(&self.body) {
            Value::String(text) => text.clone(),
            Value::Null => "nothing".to_owned(),
            other => other.to_string(),
        }
    }
}

/// How a question is put.
#[derive(Debug, Clone, Copy)]
pub(super) enum Question<'q> {
    /// With these parameters behind the path.
    Get(&'q [(String, String)]),
    /// With a body.
    Post(&'q Value),
}

impl<'h> Client<'h> {
    /// The client of the API at `url`, whose key is in the environment variable `key`.
    pub(super) fn new(url: &str, key: &str, host: &'h dyn Host) -> Result<Self, LabError> {
        let secret = host.env(key).filter(|value| !value.is_empty());
        let Some(secret) = secret else {
            return Err(LabError::NoKey { name: key.to_owned(), url: url.to_owned() });
        };
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(TIMEOUT)))
            .http_status_as_error(false)
            .max_redirects(0)
            .build();
        Ok(Self { agent: config.into(), url: url.to_owned(), key: secret, host })
    }

    /// The key, for APIs that want it among the parameters.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Puts a question that may be put again: it changes nothing there.
    pub(super) fn ask(&self, path: &str, question: Question<'_>) -> Result<Reply, LabError> {
        let mut last = String::new();
        for attempt in 0..TRIES {
            self.wait(attempt);
            match self.once(path, question) {
                Ok(reply) => return Ok(reply),
                Err(why) => last = why,
            }
        }
        Err(self.unreached(path, last))
    }

    /// Waits before a try, longer before each.
    pub(super) fn wait(&self, attempt: u32) {
        if attempt > 0 {
            self.host.sleep(FIRST_WAIT * f64::from(1u32 << (attempt - 1).min(10)));
        }
    }

    /// How often a question is put at most.
    pub(super) fn tries() -> u32 {
        TRIES
    }

    pub(super) fn unreached(&self, path: &str, why: String) -> LabError {
        LabError::Unreached { url: format!("{}{path}", self.url), why }
    }

    /// Puts a question once. `Err`: it may be put again; why it failed.
    pub(super) fn once(&self, path: &str, question: Question<'_>) -> Result<Reply, String> {
        let url = format!("{}{path}", self.url);
        let sent = match question {
            Question::Get(parameters) => {
                let mut request = self.agent.get(&url).header("X-API-Key", &self.key);
                for (name, value) in parameters {
                    request = request.query(name, value);
                }
                request.call()
            }
            Question::Post(body) => {
                self.agent.post(&url).header("X-API-Key", &self.key).send_json(body)
            }
        };
        // The address of a question may hold the key, so no error of the transport is shown whole.
        let mut response = sent.map_err(|error| self.hidden(&error.to_string()))?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(|e| self.hidden(&e.to_string()))?;
        if status >= 500 || status == 429 || status == 408 {
            return Err(format!("it says {status}"));
        }
        // Words that are no JSON are words all the same.
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Reply { status, body })
    }

    fn hidden(&self, text: &str) -> String {
        text.replace(&self.key, "KEY")
    }
}
