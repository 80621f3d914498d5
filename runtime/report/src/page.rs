//! A report as a value: what stands in it, in order, whatever form it is written in.
//!
//! Numbers know the run that they come from, so that every form can lead a reader to it: the runs are listed at the end. Nothing here is markup;
//! texts may come from anywhere and are escaped by whoever writes them.

use serde::{Deserialize, Serialize};

use crate::chart::Chart;
use crate::number;

/// A report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Its heading.
    pub title: String,
    /// What is in it.
    pub blocks: Vec<Block>,
    /// The runs that it speaks of, each once.
    pub runs: Vec<Run>,
}

/// A part of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// A paragraph.
    Text(Vec<Inline>),
    /// A picture.
    Chart(Chart),
    /// Rows and columns.
    Table(Table),
}

/// A piece of a paragraph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inline {
    /// Words.
    Text(String),
    /// A value with its unit; `run`: whose it is, by its name in [`Document::runs`].
    Value {
        /// As it is read.
        text: String,
        /// Its run.
        run: Option<String>,
    },
}

/// A table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Names of its columns with their units.
    pub columns: Vec<String>,
    /// Cells, one for each column.
    pub rows: Vec<Vec<Cell>>,
}

/// What stands in a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// Nothing.
    Empty,
    /// A number.
    Number(f64),
    /// An interval, low and high end.
    Interval(f64, f64),
    /// Words.
    Text(String),
    /// The name of a run.
    Run(String),
}

/// A run, as the appendix shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its name: `iso/07`.
    pub name: String,
    /// Its key, or where its result was recorded.
    pub key: String,
    /// Its figures by name.
    pub figures: Vec<(String, Cell)>,
}

impl Cell {
    /// As it is read.
    pub fn text(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Number(x) => number::cell(*x),
            Self::Interval(low, high) => number::range(*low, *high),
            Self::Text(t) | Self::Run(t) => t.clone(),
        }
    }

    /// True for what is read from the right.
    pub fn is_number(&self) -> bool {
        match self {
            Self::Number(_) | Self::Interval(..) => true,
            Self::Empty | Self::Text(_) | Self::Run(_) => false,
        }
    }
}

impl Table {
    /// True if a column has numbers and nothing else.
    pub fn is_numeric(&self, column: usize) -> bool {
        let mut cells = self.rows.iter().filter_map(|r| r.get(column));
        cells.clone().any(Cell::is_number) && cells.all(|c| c.is_number() || *c == Cell::Empty)
    }
}

impl Document {
    /// The appendix as a table: name and key, then every figure that some run has.
    pub fn appendix(&self) -> Table {
        let mut names: Vec<String> = Vec::new();
        for (name, _) in self.runs.iter().flat_map(|r| &r.figures) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let row = |r: &Run| {
            let mut cells = vec![Cell::Run(r.name.clone()), Cell::Text(r.key.clone())];
            cells.extend(names.iter().map(|name| {
                let found = r.figures.iter().find(|(n, _)| n == name);
                found.map_or(Cell::Empty, |(_, c)| c.clone())
            }));
            cells
        };
        let rows = self.runs.iter().map(row).collect();
        let mut columns = vec!["run".to_owned(), "key".to_owned()];
        columns.extend(names);
        Table { title: "Runs".to_owned(), columns, rows }
    }

    /// True if the appendix lists a run.
    pub fn has_run(&self, name: &str) -> bool {
        self.runs.iter().any(|r| r.name == name)
    }
}

/// Paragraphs of a text: blank lines part them, line breaks and indentation inside them are spaces.
pub fn paragraphs(pieces: &[Inline]) -> Vec<Vec<Inline>> {
    let mut all: Vec<Vec<Inline>> = vec![Vec::new()];
    for piece in pieces {
        let Inline::Text(text) = piece else {
            if let Some(last) = all.last_mut() {
                last.push(piece.clone());
            }
            continue;
        };
        let lines: Vec<&str> = text.split('\n').collect();
        let mut words = String::new();
        for (i, line) in lines.iter().enumerate() {
            // The first and the last line may go on with a value; their blanks count.
            let inner = i > 0 && i + 1 < lines.len();
            if inner && line.trim().is_empty() {
                push_text(&mut all, &words);
                words.clear();
                all.push(Vec::new());
                continue;
            }
            if i > 0 {
                words.push(' ');
            }
            words.push_str(line);
        }
        push_text(&mut all, &words);
    }
    for p in &mut all {
        trim(p);
    }
    all.retain(|p| !p.is_empty());
    all
}

/// Adds words to the last paragraph, runs of blanks as one.
fn push_text(all: &mut [Vec<Inline>], words: &str) {
    let mut text = String::new();
    for c in words.chars() {
        if c.is_whitespace() {
            if !text.ends_with(' ') {
                text.push(' ');
            }
        } else {
            text.push(c);
        }
    }
    if let (Some(last), false) = (all.last_mut(), text.is_empty()) {
        last.push(Inline::Text(text));
    }
}

fn trim(p: &mut Vec<Inline>) {
    if let Some(Inline::Text(t)) = p.first_mut() {
        *t = t.trim_start().to_owned();
    }
    if let Some(Inline::Text(t)) = p.last_mut() {
        *t = t.trim_end().to_owned();
    }
    p.retain(|i| !matches!(i, Inline::Text(t) if t.is_empty()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_part_paragraphs() {
        let text = |t: &str| Inline::Text(t.to_owned());
        let value = Inline::Value { text: "3M".to_owned(), run: None };
        let found = paragraphs(&[
            text("\n  For "),
            value.clone(),
            text(" the\n  law asks.\n\n  Second.\n  "),
        ]);
        assert_eq!(
            found,
            [vec![text("For "), value, text(" the law asks.")], vec![text("Second.")]]
        );
        assert!(paragraphs(&[text(" \n \n ")]).is_empty());
    }

    #[test]
    fn the_appendix_has_every_figure() {
        let run = |name: &str, figures: &[(&str, f64)]| Run {
            name: name.to_owned(),
            key: "k".to_owned(),
            figures: figures.iter().map(|(n, x)| ((*n).to_owned(), Cell::Number(*x))).collect(),
        };
        let runs = vec![run("a", &[("loss", 2.0)]), run("b", &[("params", 3.0)])];
        let table = Document { title: String::new(), blocks: Vec::new(), runs }.appendix();
        assert_eq!(table.columns, ["run", "key", "loss", "params"]);
        assert_eq!(table.rows[1][2], Cell::Empty);
        assert!(table.is_numeric(2) && !table.is_numeric(1));
    }
}
