//! The outside, as far as the compiler may see it: texts of files and facts of earlier runs.
//!
//! The compiler reads no file, clock, environment variable or device. Whoever calls it brings a [`World`].

use crate::plan::Target;

/// What the compiler may ask.
pub trait World {
    /// The text of the file that `path` names when written in the file `from` (`None`: on the command line), together
    /// with the name to show for it. `Err` is one sentence that says why it cannot be read.
    fn read(&self, path: &str, from: Option<&str>) -> Result<(String, String), String>;

    /// A number known from the cache: for example `tokens` of the data node `stories.train`. `None`: not known yet.
    fn fact(&self, node: &str, field: &str) -> Option<f64>;

    /// The names of the columns of a table of results that the file `base` names; `form` is `csv`, `jsonl` or `parquet`. `None`: it is not
    /// there, or does not say before it is read.
    fn columns(&self, _form: &str, _pattern: &str, _base: &str) -> Option<Vec<String>> {
        None
    }

    /// What plans are made for.
    fn target(&self) -> Target {
        Target::cpu()
    }
}

/// A world of texts in memory, for tests and editors.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    /// Name and text of each file.
    pub files: Vec<(String, String)>,
}

impl World for Texts {
    fn read(&self, path: &str, _from: Option<&str>) -> Result<(String, String), String> {
        let wanted = path.trim_start_matches("./");
        self.files
            .iter()
            .find(|(name, _)| name.trim_start_matches("./") == wanted)
            .map(|(name, text)| (name.clone(), text.clone()))
            .ok_or_else(|| format!("there is no file `{path}`"))
    }

    fn fact(&self, _node: &str, _field: &str) -> Option<f64> {
        None
    }
}
