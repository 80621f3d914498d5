//! The files of a report: names and bytes, for whoever may write to a disk.

use crate::html::html;
use crate::markdown::markdown;
use crate::page::{Block, Cell, Document, Table};
use crate::png::png;
use crate::svg::{Links, svg};
use crate::text::slug;

/// A form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Form {
    /// One page with everything.
    Html,
    /// Text and pictures.
    Markdown,
    /// Each picture.
    Svg,
    /// Each picture, in pixels.
    Png,
    /// Each table, as comma-separated values.
    Csv,
}

/// Pixels per unit of a picture.
const PIXELS: f32 = 2.0;

/// The files of a document, each with a name without folders; names differ. The appendix of runs counts as a table.
pub fn files(document: &Document, forms: &[Form]) -> Vec<(String, Vec<u8>)> {
    let has = |form: Form| forms.contains(&form);
    let names = names(document);
    let mut out = Vec::new();
    if has(Form::Html) {
        out.push(("report.html".to_owned(), html(document).into_bytes()));
    }
    if has(Form::Markdown) {
        let picture = |i: usize| format!("{}.svg", names[i]);
        out.push(("report.md".to_owned(), markdown(document, &picture).into_bytes()));
    }
    for (block, name) in document.blocks.iter().zip(&names) {
        let Block::Chart(chart) = block else { continue };
        let picture = svg(chart, name, Links::None);
        if has(Form::Png)
            && let Some(bytes) = png(&picture, PIXELS)
        {
            out.push((format!("{name}.png"), bytes));
        }
        if has(Form::Svg) || has(Form::Markdown) {
            out.push((format!("{name}.svg"), picture.into_bytes()));
        }
    }
    if has(Form::Csv) {
        for (name, table) in tables(document) {
            out.push((format!("{name}.csv"), csv(&table).into_bytes()));
        }
    }
    out
}

/// The tables of a document with names for their files: its own, then the runs.
pub fn tables(document: &Document) -> Vec<(String, Table)> {
    let mut all: Vec<(String, Table)> = document
        .blocks
        .iter()
        .zip(names(document))
        .filter_map(|(b, name)| match b {
            Block::Table(t) => Some((name, t.clone())),
            Block::Text(_) | Block::Chart(_) => None,
        })
        .collect();
    if !document.runs.is_empty() {
        all.push(("runs".to_owned(), document.appendix()));
    }
    all
}

/// A table as comma-separated values (RFC 4180): numbers with all their digits, an interval as two columns.
pub fn csv(table: &Table) -> String {
    let (columns, rows) = flat(table);
    let mut out = String::new();
    let mut line = |cells: Vec<String>| {
        out.push_str(&cells.join(","));
        out.push('\n');
    };
    line(columns.iter().map(|c| quoted(c)).collect());
    for row in rows {
        let text = |c: Cell| match c {
            Cell::Empty | Cell::Interval(..) => String::new(),
            Cell::Number(x) => format!("{x}"),
            Cell::Text(t) | Cell::Run(t) => quoted(&t),
        };
        line(row.into_iter().map(text).collect());
    }
    out
}

/// A table whose cells are numbers or texts: each column of intervals becomes two. Names differ.
pub fn flat(table: &Table) -> (Vec<String>, Vec<Vec<Cell>>) {
    let wide: Vec<bool> = (0..table.columns.len())
        .map(|i| table.rows.iter().any(|r| matches!(r.get(i), Some(Cell::Interval(..)))))
        .collect();
    let mut columns: Vec<String> = Vec::new();
    for (name, wide) in table.columns.iter().zip(&wide) {
        let parts = if *wide {
            vec![format!("{name}_low"), format!("{name}_high")]
        } else {
            vec![name.clone()]
        };
        for name in parts {
            let mut unique = name.clone();
            let mut n = 1;
            while columns.contains(&unique) {
                n += 1;
                unique = format!("{name}_{n}");
            }
            columns.push(unique);
        }
    }
    let rows = table
        .rows
        .iter()
        .map(|row| {
            let parts = |(cell, wide): (&Cell, &bool)| match (cell, wide) {
                (Cell::Interval(low, high), _) => vec![Cell::Number(*low), Cell::Number(*high)],
                (Cell::Number(x), true) => vec![Cell::Number(*x), Cell::Number(*x)],
                (other, true) => vec![other.clone(), Cell::Empty],
                (other, false) => vec![other.clone()],
            };
            row.iter().zip(&wide).flat_map(parts).collect()
        })
        .collect();
    (columns, rows)
}

/// A name for the file of each block: its title, or its number.
fn names(document: &Document) -> Vec<String> {
    // `runs` is the appendix, `report` the page.
    let mut taken = vec!["runs".to_owned(), "report".to_owned()];
    let mut unique = |wanted: String| {
        let mut name = wanted.clone();
        let mut n = 1;
        while taken.contains(&name) {
            n += 1;
            name = format!("{wanted}-{n}");
        }
        taken.push(name.clone());
        name
    };
    document
        .blocks
        .iter()
        .enumerate()
        .map(|(i, b)| {
            let title = match b {
                Block::Text(_) => String::new(),
                Block::Chart(c) => c.title.clone(),
                Block::Table(t) => t.title.clone(),
            };
            let name = slug(&title.to_lowercase());
            // File systems have limits, and some do not tell capitals apart.
            let name: String = name.chars().take(80).collect();
            unique(if name.is_empty() { format!("part-{i}") } else { name })
        })
        .collect()
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::{Axis, Chart};

    fn document() -> Document {
        let chart = |title: &str| {
            Block::Chart(Chart {
                title: title.to_owned(),
                note: String::new(),
                x: Axis::linear(""),
                y: Axis::linear(""),
                legend_title: String::new(),
                layers: Vec::new(),
            })
        };
        let table = Block::Table(Table {
            title: "The law".to_owned(),
            columns: vec!["name".to_owned(), "ci95".to_owned()],
            rows: vec![vec![Cell::Text("a,\"b\"".to_owned()), Cell::Interval(0.25, 0.5)]],
        });
        let blocks = vec![chart("Loss"), chart("loss"), chart(""), chart("../x"), table];
        Document { title: "t".to_owned(), blocks, runs: Vec::new() }
    }

    #[test]
    fn names_of_files_differ_and_have_no_folders() {
        let forms = [Form::Html, Form::Markdown, Form::Svg, Form::Csv];
        let files = files(&document(), &forms);
        let names: Vec<&str> = files.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(
            names,
            [
                "report.html",
                "report.md",
                "loss.svg",
                "loss-2.svg",
                "part-2.svg",
                "-x.svg",
                "the-law.csv"
            ]
        );
    }

    #[test]
    fn two_builds_are_the_same_bytes() {
        let forms = [Form::Html, Form::Markdown, Form::Png];
        assert_eq!(files(&document(), &forms), files(&document(), &forms));
    }

    #[test]
    fn tables_as_comma_separated_values() {
        let (_, table) = tables(&document()).remove(0);
        assert_eq!(csv(&table), "name,ci95_low,ci95_high\n\"a,\"\"b\"\"\",0.25,0.5\n");
    }
}
