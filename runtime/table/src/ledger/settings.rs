//! The settings of a run as columns, read from the canonical text of its meaning.
//!
//! A line `name = value` at the top of the text is a setting of the node. A number gives the column `name`; a call such as
//! `adamw({lr = cosine({peak = 0.001})})` gives its name as a text and its arguments as `optimizer.lr.peak`. Lists, data and
//! definitions are no columns. Numbers are in base units already; the unit of a budget is the column `budget_unit`.

use cs336_compiler::row::interp::{Cell, Row};

/// Settings that say what the data, the text of the objective or another node are: no figures.
const SKIPPED: &[&str] =
    &["data", "tokenizer", "objective", "definitions", "drawn by", "eval.on", "eval.every"];

/// How deep arguments of arguments become columns.
const DEPTH: usize = 3;

/// The columns of a meaning.
pub(super) fn settings(meaning: &str) -> Row {
    let mut row = Row::new();
    let mut depth = 0i64;
    for line in meaning.lines() {
        let top = depth == 0;
        depth += braces(line);
        let Some((name, value)) = line.split_once(" = ").filter(|_| top) else { continue };
        if SKIPPED.contains(&name) {
            continue;
        }
        let mut reader = Reader { text: value, row: &mut row };
        reader.value(name, 0);
    }
    if let Some(lr) = row.get("optimizer.lr.peak").or_else(|| row.get("optimizer.lr")).cloned()
        && lr.number().is_some()
    {
        row.insert("lr".to_owned(), lr);
    }
    row
}

/// Opened less closed, outside of texts.
fn braces(line: &str) -> i64 {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for c in line.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' if !quoted => depth += 1,
            '}' if !quoted => depth -= 1,
            _ => {}
        }
    }
    depth
}

/// Reads one value; stops at what it does not know, which then is no column.
struct Reader<'t, 'r> {
    text: &'t str,
    row: &'r mut Row,
}

impl Reader<'_, '_> {
    /// `None`: not understood, nothing behind it can be read either.
    fn value(&mut self, name: &str, depth: usize) -> Option<()> {
        if depth > DEPTH {
            return None;
        }
        if self.text.starts_with('{') {
            return self.record(name, depth);
        }
        if self.text.starts_with('"') {
            let end = self.text[1..].find('"')? + 1;
            let inner = &self.text[1..end];
            if inner.contains('\\') {
                return None;
            }
            self.put(name, Cell::Text(inner.to_owned()));
            self.text = &self.text[end + 1..];
            return Some(());
        }
        let end = self
            .text
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+' | '\'')))
            .unwrap_or(self.text.len());
        let word = &self.text[..end];
        self.text = &self.text[end..];
        if let Ok(number) = word.parse::<f64>() {
            self.put(name, Cell::Number(number));
            self.unit(name);
            return Some(());
        }
        match word {
            "none" => return Some(()),
            "true" | "false" => self.put(name, Cell::Bool(word == "true")),
            "" => return None,
            _ if self.text.starts_with("({") => {
                self.put(name, Cell::Text(word.to_owned()));
                self.text = &self.text[1..];
                self.record(name, depth)?;
                self.text = self.text.strip_prefix(')')?;
            }
            _ => self.put(name, Cell::Text(word.to_owned())),
        }
        Some(())
    }

    /// `{a = 1, b = 2}`.
    fn record(&mut self, name: &str, depth: usize) -> Option<()> {
        self.text = self.text.strip_prefix('{')?;
        loop {
            if let Some(rest) = self.text.strip_prefix('}') {
                self.text = rest;
                return Some(());
            }
            let (field, rest) = self.text.split_once(" = ")?;
            self.text = rest;
            if self.text.starts_with('[') {
                self.text = &self.text[self.text.find(']')? + 1..];
            } else {
                self.value(&format!("{name}.{field}"), depth + 1)?;
            }
            self.text = self.text.strip_prefix(", ").unwrap_or(self.text);
        }
    }

    fn unit(&mut self, name: &str) {
        let Some(rest) = self.text.strip_prefix(' ') else { return };
        let end = rest
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '/' | '_')))
            .unwrap_or(rest.len());
        if name == "budget" {
            self.put("budget_unit", Cell::Text(rest[..end].to_owned()));
        }
        self.text = &rest[end..];
    }

    fn put(&mut self, name: &str, cell: Cell) {
        self.row.insert(name.to_owned(), cell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_columns() {
        let text = "batch = 768.0 tokens\nbudget = 3e16 FLOPs\n\
            data = files({pattern = \"a { b\"}) |> encode({tokenizer = tokenizer {\nkind = \"characters\"\n}}) |> pack({seq = 64.0})\n\
            model = gpt2({layers = 4.0, betas = [0.9, 0.99], ff = none, bias = false, activation = gelu})\n\
            optimizer = adamw({lr = cosine({peak = 0.001, warmup = 0.05}), betas = [0.9, 0.99], eps = 1e-8})\n\
            seed = 8.0\ndefinitions {\nx = 3\n}\n";
        let row = settings(text);
        let number = |name: &str| row.get(name).and_then(Cell::number);
        assert_eq!(number("batch"), Some(768.0));
        assert_eq!(number("budget"), Some(3e16));
        assert_eq!(row["budget_unit"], Cell::Text("FLOPs".into()));
        assert_eq!(number("model.layers"), Some(4.0));
        assert_eq!(row["model"], Cell::Text("gpt2".into()));
        assert_eq!(row["model.activation"], Cell::Text("gelu".into()));
        assert_eq!(number("optimizer.eps"), Some(1e-8));
        assert_eq!(number("lr"), Some(0.001));
        assert_eq!(number("seed"), Some(8.0));
        assert!(!row.contains_key("kind") && !row.contains_key("x") && !row.contains_key("data"));
    }

    #[test]
    fn what_is_not_understood_is_no_column() {
        let row = settings("a = (fn x)\nb = f({c = \"\\\"\", d = 2})\ne = 3\n");
        assert_eq!(row.keys().collect::<Vec<_>>(), ["b", "e"]);
    }
}
