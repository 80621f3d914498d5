//! Text with `{value}` in it: titles, prompts and reports.
//!
//! Takes the text of a string (escapes already resolved) and its place, gives its parts. `{{` and `}}` are plain braces.
//! Whether a text is filled in at all depends on the field that it is given to, so the checker calls this.

use super::ast::Expr;
use super::build::Place;
use super::parse::value_at;
use super::problems as say;
use super::scan::{TokenKind, scan};
use crate::problem::Problems;
use crate::source::Span;

/// A part of a text that is filled in.
#[derive(Debug, Clone, PartialEq)]
pub enum TextOrExpr {
    /// Kept as it is.
    Text(String),
    /// Replaced by the value.
    Expr(Expr),
}

/// The parts of `text`, which was written as the string at `span` (with its quotes).
///
/// Places inside are exact for one-line strings without escapes; else the whole string is the place.
pub fn template(text: &str, span: Span) -> (Vec<TextOrExpr>, Problems) {
    let exact = (span.end - span.start) as usize == text.len() + 2;
    let place = |start: usize, end: usize| {
        if exact {
            let first = span.start as usize + 1;
            Span::new(span.file, first + start, first + end)
        } else {
            span
        }
    };
    let mut problems = Problems::default();
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if rest.starts_with("{{") || rest.starts_with("}}") {
            plain.push(c);
            at += 2;
        } else if c == '}' {
            problems.push(say::interpolation(place(at, at + 1), "this `}` closes nothing"));
            at += 1;
        } else if c == '{' {
            let Some(length) = closing_brace(&rest[1..]) else {
                problems.push(say::interpolation(place(at, at + 1), "this `{` is never closed"));
                plain.push_str(rest);
                break;
            };
            let inner = &rest[1..1 + length];
            if !plain.is_empty() {
                parts.push(TextOrExpr::Text(std::mem::take(&mut plain)));
            }
            if inner.trim().is_empty() {
                problems
                    .push(say::interpolation(place(at, at + length + 2), "nothing stands in `{}`"));
            } else {
                let from = place(at + 1, at + 1).start as usize;
                let inside = if exact { Place::From(from) } else { Place::Whole(span) };
                let (value, found) = value_at(span.file, inner, inside);
                parts.push(TextOrExpr::Expr(value));
                problems.extend(found);
            }
            at += length + 2;
        } else {
            plain.push(c);
            at += c.len_utf8();
        }
    }
    if !plain.is_empty() {
        parts.push(TextOrExpr::Text(plain));
    }
    (parts, problems)
}

/// Where the `}` stands that closes an already opened brace; braces and strings inside are skipped.
fn closing_brace(rest: &str) -> Option<usize> {
    let mut depth = 0;
    for token in scan(rest) {
        match token.kind {
            TokenKind::Open(b'{') => depth += 1,
            TokenKind::Close(b'}') if depth == 0 => return Some(token.start),
            TokenKind::Close(b'}') => depth -= 1,
            TokenKind::Open(_)
            | TokenKind::Close(_)
            | TokenKind::Text { .. }
            | TokenKind::SingleQuoted { .. }
            | TokenKind::Comment
            | TokenKind::ForeignComment
            | TokenKind::Word
            | TokenKind::Sign
            | TokenKind::Comma
            | TokenKind::Newline
            | TokenKind::Strange(_) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::ast::ExprKind;
    use super::*;
    use crate::source::FileId;

    fn parts(text: &str) -> (Vec<TextOrExpr>, Vec<String>) {
        let (parts, problems) = template(text, Span::new(FileId(0), 10, 12 + text.len()));
        (parts, problems.iter().map(|p| p.code.clone()).collect())
    }

    #[test]
    fn values_are_found_with_their_places() {
        let (parts, problems) = parts("Q: {.question}\u{41}".trim_end_matches("\u{41}"));
        assert!(problems.is_empty());
        let [TextOrExpr::Text(q), TextOrExpr::Expr(e)] = &parts[..] else { panic!("{parts:?}") };
        assert_eq!(q, "Q: ");
        assert!(matches!(&*e.kind, ExprKind::Dot(name) if name.name == "question"));
        assert_eq!((e.span.start, e.span.end), (10 + 1 + 4, 10 + 1 + 13));
    }

    #[test]
    fn doubled_braces_are_plain() {
        let (parts, problems) = parts("{{a}} {b}");
        assert!(problems.is_empty());
        assert_eq!(parts[0], TextOrExpr::Text("{a} ".to_owned()));
        assert_eq!(parts.len(), 2);
    }

    #[test]
    fn open_and_empty_braces_are_reported() {
        assert_eq!(parts("a {b").1, ["E0128"]);
        assert_eq!(parts("a } b").1, ["E0128"]);
        assert_eq!(parts("a {} b").1, ["E0128"]);
        assert_eq!(parts("a {b +} c").1, ["E0101"]);
    }
}
