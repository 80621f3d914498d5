//! A report as Markdown (GitHub's, for the tables), with its pictures beside it as files.

use crate::page::{Block, Cell, Document, Inline, Table};
use crate::text::slug;

/// The text. `picture` gives the name of the file of the chart at a block.
pub fn markdown(document: &Document, picture: &dyn Fn(usize) -> String) -> String {
    let mut out = format!("# {}\n", escape(&document.title));
    for (i, block) in document.blocks.iter().enumerate() {
        out.push('\n');
        match block {
            Block::Text(pieces) => {
                let text: String = pieces.iter().map(|p| inline(p, document)).collect();
                out.push_str(&no_list(text));
                out.push('\n');
            }
            Block::Chart(chart) => {
                out.push_str(&format!("![{}]({})\n", escape(&chart.title), picture(i)));
                if !chart.note.is_empty() {
                    out.push('\n');
                    out.push_str(&no_list(escape(&chart.note)));
                    out.push('\n');
                }
            }
            Block::Table(t) => table(&mut out, t, document, false),
        }
    }
    if !document.runs.is_empty() {
        out.push('\n');
        table(&mut out, &document.appendix(), document, true);
    }
    out
}

fn inline(piece: &Inline, document: &Document) -> String {
    match piece {
        Inline::Text(t) => escape(t),
        Inline::Value { text, run } => match run.as_ref().filter(|r| document.has_run(r)) {
            Some(run) => format!("[{}](#run-{})", escape(text), slug(run)),
            None => format!("**{}**", escape(text)),
        },
    }
}

fn table(out: &mut String, t: &Table, document: &Document, anchors: bool) {
    if !t.title.is_empty() {
        out.push_str(&format!("## {}\n\n", escape(&t.title)));
    }
    let line = |out: &mut String, cells: Vec<String>| {
        out.push_str(&format!("| {} |\n", cells.join(" | ")));
    };
    line(out, t.columns.iter().map(|c| escape(c)).collect());
    let rule = |i| if t.is_numeric(i) { "---:".to_owned() } else { "---".to_owned() };
    line(out, (0..t.columns.len()).map(rule).collect());
    for row in &t.rows {
        let cell = |c: &Cell| {
            let text = escape(&c.text());
            match c {
                Cell::Run(name) if anchors => format!("<a id=\"run-{}\"></a>{text}", slug(name)),
                Cell::Run(name) if document.has_run(name) => {
                    format!("[{text}](#run-{})", slug(name))
                }
                Cell::Empty
                | Cell::Number(_)
                | Cell::Interval(..)
                | Cell::Text(_)
                | Cell::Run(_) => text,
            }
        };
        line(out, row.iter().map(cell).collect());
    }
}

/// Text without a meaning to Markdown or HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '$' | '!' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// What begins a paragraph as `1.` or `-` would begin a list.
fn no_list(mut text: String) -> String {
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    if digits > 0
        && text[digits..].starts_with(['.', ')'])
        && !text[digits + 1..].starts_with(|c: char| c.is_ascii_digit())
    {
        text.insert(digits, '\\');
    } else if text.starts_with(['-', '+', '=']) {
        text.insert(0, '\\');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Run;

    #[test]
    fn a_report_in_markdown() {
        let text = |t: &str| Inline::Text(t.to_owned());
        let value = Inline::Value { text: "3.02".to_owned(), run: Some("iso/07".to_owned()) };
        let table = Table {
            title: "Law".to_owned(),
            columns: vec!["name".to_owned(), "value".to_owned()],
            rows: vec![
                vec![Cell::Text("a|b".to_owned()), Cell::Number(0.347_31)],
                vec![Cell::Run("iso/07".to_owned()), Cell::Interval(0.33, 0.36)],
            ],
        };
        let run = Run { name: "iso/07".to_owned(), key: "abcd".to_owned(), figures: Vec::new() };
        let blocks =
            vec![Block::Text(vec![text("Loss <b> "), value, text(".")]), Block::Table(table)];
        let document = Document { title: "A *title*".to_owned(), blocks, runs: vec![run] };
        let want = "# A \\*title\\*\n\nLoss &lt;b&gt; [3.02](#run-iso-07).\n\n## Law\n\n| name | value |\n| --- | ---: |\n\
                    | a\\|b | 0.3473 |\n| [iso/07](#run-iso-07) | 0.330–0.360 |\n\n## Runs\n\n| run | key |\n| --- | --- |\n\
                    | <a id=\"run-iso-07\"></a>iso/07 | abcd |\n";
        assert_eq!(markdown(&document, &|_| String::new()), want);
    }

    #[test]
    fn lines_begin_no_lists() {
        let shown = ["1. a", "- a", "1.2", "a- b"].map(|t| no_list(t.to_owned()));
        assert_eq!(shown, ["1\\. a", "\\- a", "1.2", "a- b"]);
    }
}
