//! Strings: quotes taken off, escapes resolved, common indentation of `"""` texts removed.

use super::super::problems as say;
use super::{Builder, P};

impl Builder<'_> {
    /// The text of a string literal.
    pub(super) fn string(&mut self, pair: &P<'_>) -> String {
        let source = pair.as_str();
        let start = pair.as_span().start();
        let triple = source.strip_prefix("\"\"\"").and_then(|s| s.strip_suffix("\"\"\""));
        if let Some(inner) = triple {
            return self.long_string(inner, start + 3);
        }
        let mut out = String::new();
        self.unescape(&source[1..source.len() - 1], start + 1, &mut out);
        out
    }

    /// `inner` begins at `start`. A line break right behind the opening quotes and the line of the closing quotes do not
    /// count, nor does the indentation that all lines share.
    fn long_string(&mut self, inner: &str, start: usize) -> String {
        let mut lines: Vec<(usize, &str)> = Vec::new();
        let mut at = start;
        for line in inner.split_inclusive('\n') {
            lines.push((at, line.trim_end_matches(['\n', '\r'])));
            at += line.len();
        }
        if inner.ends_with('\n') {
            lines.push((at, ""));
        }
        let is_blank = |line: &(usize, &str)| line.1.trim().is_empty();
        if lines.len() > 1 {
            if lines.last().is_some_and(is_blank) {
                lines.pop();
            }
            if lines.first().is_some_and(is_blank) {
                lines.remove(0);
            }
        }
        // A first line that follows the quotes directly has no indentation to share.
        let shared = lines.iter().filter(|l| l.0 != start && !is_blank(l));
        let indent = shared.map(|l| indent_of(l.1)).min().unwrap_or(0);
        let mut out = String::new();
        for (i, (at, line)) in lines.iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            let cut = if *at == start { 0 } else { indent.min(indent_of(line)) };
            self.unescape(&line[cut..], at + cut, &mut out);
        }
        out
    }

    fn unescape(&mut self, text: &str, start: usize, out: &mut String) {
        let mut chars = text.char_indices();
        while let Some((i, c)) = chars.next() {
            if c != '\\' {
                out.push(c);
                continue;
            }
            match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, 'r')) => out.push('\r'),
                Some((_, '0')) => out.push('\0'),
                Some((_, c @ ('"' | '\\'))) => out.push(c),
                Some((_, c)) => {
                    let span = self.place_of(start + i, start + i + 1 + c.len_utf8());
                    self.report(say::unknown_escape(span, Some(c)));
                    out.push('\\');
                    out.push(c);
                }
                None => {
                    let span = self.place_of(start + i, start + i + 1);
                    self.report(say::unknown_escape(span, None));
                    out.push('\\');
                }
            }
        }
    }
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t']).len()
}
