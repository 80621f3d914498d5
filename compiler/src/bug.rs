//! A mistake of ours, as opposed to a problem of the program.
//!
//! Takes what a check of an inner language found; gives a value that says which stage broke which law and shows the
//! thing. A [`Bug`] is never reported as if the user could mend it.

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bug {
    /// The stage after which the invariant was found broken: `verify`, `interpret`, `simplify`.
    pub stage: &'static str,
    /// Which law, where, and what was found instead.
    pub message: String,
    /// The whole thing as text, for a report.
    pub dump: String,
}

impl Bug {
    /// A bug with its dump.
    pub fn new(stage: &'static str, message: impl Into<String>, dump: impl Into<String>) -> Self {
        Self { stage, message: message.into(), dump: dump.into() }
    }
}

impl std::fmt::Display for Bug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "internal error in {}: {}", self.stage, self.message)?;
        f.write_str(&self.dump)
    }
}

impl std::error::Error for Bug {}
