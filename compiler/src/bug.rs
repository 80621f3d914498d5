//! A mistake of ours, as opposed to a problem of the program.
//!
//! Takes what a check of an inner language found; gives a value that says which stage broke which law and shows the
//! thing. A [`Bug`] is never reported as if the user could mend it.

use crate::problem::Problem;
use crate::source::Span;

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

    /// What the user of a command is told; the place is that of the node whose compilation it ended.
    pub fn problem(&self, span: Span) -> Problem {
        let text = format!("a fault of the compiler in {}: {}", self.stage, self.message);
        Problem::new("E0899", span, text)
            .help("this is our mistake, not yours; please report it with the program")
    }
}

impl std::fmt::Display for Bug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "internal error in {}: {}", self.stage, self.message)?;
        f.write_str(&self.dump)
    }
}

impl std::error::Error for Bug {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::FileId;

    #[test]
    fn a_fault_is_told_with_its_stage_and_not_blamed_on_the_program() {
        let bug = Bug::new("lower", "node 3 has no place", "a long dump");
        let problem = bug.problem(Span::new(FileId(0), 0, 0));
        assert_eq!(problem.code, "E0899");
        assert_eq!(problem.message, "a fault of the compiler in lower: node 3 has no place");
        assert!(problem.help[0].contains("not yours"), "{problem:?}");
    }
}
