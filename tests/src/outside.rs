//! The outside of a program under test: its text, files beside it, and what is known from earlier runs.

use cs336_compiler::world::{Texts, World};

use crate::collect::Fact;

/// The name of the program under test.
pub const MAIN: &str = "main.cs336";

/// Texts and facts in memory.
#[derive(Debug, Clone)]
pub struct Outside {
    /// The files.
    pub texts: Texts,
    facts: Vec<Fact>,
}

impl Outside {
    /// A program and the facts about its nodes.
    pub fn new(program: &str, facts: &[Fact]) -> Self {
        let texts = Texts { files: vec![(MAIN.to_owned(), program.to_owned())] };
        Self { texts, facts: facts.to_vec() }
    }
}

impl World for Outside {
    fn read(&self, path: &str, from: Option<&str>) -> Result<(String, String), String> {
        self.texts.read(path, from)
    }

    fn fact(&self, node: &str, field: &str) -> Option<f64> {
        let name = format!("{node}.{field}");
        self.facts.iter().find(|(n, _)| *n == name).map(|(_, value)| *value)
    }
}
