//! Why a text is no item: one problem for each stretch of junk.
//!
//! First the signs of other languages are looked for, at the beginning of the text and where reading it stopped; only
//! what none of these tables knows is reported as "cannot stand here", with what the grammar would have taken.

use pest::Parser as _;
use pest::error::{Error, ErrorVariant, InputLocation};

use super::build::{Builder, P};
use super::parse::{Grammar, Rule};
use super::problems as say;
use super::scan::{Token, TokenKind, scan};
use super::words::{FOREIGN_WORDS, ITEM_WORDS, VALUE_WORDS, meant};
use crate::problem::Problem;
use crate::source::Span;

impl Builder<'_> {
    /// Reports why a pair of junk is no item.
    pub(super) fn explain_junk(&mut self, pair: &P<'_>) {
        let start = pair.as_span().start();
        let text = pair.as_str();
        let tokens = code(text);
        if let Some(problem) = self.first_words(text, start, &tokens) {
            return self.report(problem);
        }
        match Grammar::parse(Rule::lone_item, text) {
            Ok(_) => {
                let end = start + text.trim_end().len();
                self.stopped(start, end, &[]);
            }
            Err(error) => self.failed(&error, start, text),
        }
    }

    /// Reports an error of the grammar in `text`, which begins at `start` of the mended text.
    pub(super) fn failed(&mut self, error: &Error<Rule>, start: usize, text: &str) {
        let at = match error.location {
            InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
        };
        let expected: &[Rule] = match &error.variant {
            ErrorVariant::ParsingError { positives, .. } => positives,
            ErrorVariant::CustomError { .. } => &[],
        };
        // pest stops before the blanks in front of what it could not read.
        let blanks = text[at..].len() - text[at..].trim_start_matches([' ', '\t']).len();
        self.stopped(start, start + at + blanks, expected);
    }

    /// What the first words of an item give away.
    fn first_words(&self, text: &str, start: usize, tokens: &[Token]) -> Option<Problem> {
        let word = |i: usize| tokens.get(i).map(|t| &text[t.start..t.end]);
        let span = |i: usize| tokens.get(i).map(|t| self.place_of(start + t.start, start + t.end));
        let first = word(0)?;
        if let Some(help) = meant(&FOREIGN_WORDS, first) {
            let is_call = matches!(word(1), Some("(" | "=" | "." | ":"));
            if !is_call {
                return Some(say::foreign_word(span(0)?, first, help));
            }
        }
        let binds = matches!(word(1), Some("=" | ":" | ":="));
        if VALUE_WORDS.contains(&first) && binds {
            return Some(say::reserved_word(span(0)?, first));
        }
        let second = word(1)?;
        let is_value =
            matches!(second, "true" | "false" | "none" | "not" | "if" | "match" | "scan");
        let takes_value = matches!(first, "assert" | "where") && is_value;
        if ITEM_WORDS.contains(&first) && VALUE_WORDS.contains(&second) && !takes_value {
            return Some(say::reserved_word(span(1)?, second));
        }
        None
    }

    /// Reading stopped at `at`; the item begins at `start`.
    fn stopped(&mut self, start: usize, at: usize, expected: &[Rule]) {
        let text = self.mended_text();
        let at = at.min(text.len());
        let before = code(&text[start.min(at)..at]);
        let after = code_line(&text[at..]);
        let found = after.first().map(|t| &text[at + t.start..at + t.end]);
        let span = match after.first() {
            Some(t) => self.place_of(at + t.start, at + t.end),
            None => {
                let end = before.last().map_or(at, |t| start + t.end);
                self.place_of(end, end)
            }
        };
        let problem =
            self.known_cause(start, at, &before, &after, span, expected).unwrap_or_else(|| {
                say::unexpected(span, &described(found, text, at), &words_for(expected))
            });
        self.report(problem);
    }

    fn known_cause(
        &self,
        start: usize,
        at: usize,
        before: &[Token],
        after: &[Token],
        span: Span,
        expected: &[Rule],
    ) -> Option<Problem> {
        let text = self.mended_text();
        let earlier = |back: usize| {
            let t = before.len().checked_sub(back).and_then(|i| before.get(i))?;
            Some((
                &text[start + t.start..start + t.end],
                self.place_of(start + t.start, start + t.end),
            ))
        };
        let found = after.first().map_or("", |t| &text[at + t.start..at + t.end]);
        let next = after.get(1).map_or("", |t| &text[at + t.start..at + t.end]);
        let last = earlier(1);
        let last_word = last.map_or("", |(word, _)| word);
        let opens_condition = before
            .iter()
            .any(|t| matches!(&text[start + t.start..start + t.end], "if" | "assert" | "where"));
        let last_if = before
            .iter()
            .rev()
            .find(|t| &text[start + t.start..start + t.end] == "if")
            .map(|t| self.place_of(start + t.start, start + t.end));

        if let (Some(span), true) = (last_if, expected.contains(&Rule::kw_then)) {
            if found != "=" {
                return Some(say::if_form(span, "this `if` has no `then`"));
            }
        }
        if let (Some(span), true) = (last_if, expected.contains(&Rule::kw_else)) {
            if found != "=" {
                return Some(say::if_form(span, "this `if` has no `else`"));
            }
        }
        let is_end = found.is_empty() || matches!(found, "," | "}" | ")" | "]" | "\n");
        if is_end && matches!(last_word, "=" | ":=") {
            let (name, span) = earlier(2)?;
            return Some(say::missing_value(span, name));
        }
        match found {
            "=" if opens_condition => return Some(say::binding_for_equality(span)),
            "=" => {
                // `a =` at the end of a line has taken the name on the next line as its value.
                if let (Some(("=", _)), Some((name, span))) = (earlier(2), earlier(3)) {
                    let between =
                        &text[self_offset(start, before, 2)..self_offset(start, before, 1)];
                    if between.contains('\n') {
                        return Some(say::missing_value(span, name));
                    }
                }
            }
            "?" | "=>" | "|" | "&" => return Some(say::foreign_operator(span, found)),
            "+" | "-" if next == found => {
                return Some(say::foreign_operator(span, if found == "+" { "++" } else { "--" }));
            }
            "if" => return Some(say::if_form(span, "a value is chosen before it, not behind it")),
            "True" | "False" | "None" => {}
            _ => {}
        }
        let touches = last.is_some_and(|(_, l)| l.end == span.start);
        if found.starts_with('"') && touches && last_word.len() <= 2 && is_name(last_word) {
            return last.map(|(word, span)| say::string_prefix(span, word));
        }
        if ITEM_WORDS.contains(&found) && last_word.starts_with(|c: char| c.is_ascii_digit()) {
            return Some(say::reserved_unit(span, found));
        }
        let wants_name = expected.iter().any(|r| matches!(r, Rule::ident | Rule::path));
        let is_reserved = VALUE_WORDS.contains(&found);
        if is_reserved && (wants_name || matches!(next, "=" | ":")) {
            return Some(say::reserved_word(span, found));
        }
        if let (":", true) = (found, next.is_empty()) {
            return Some(
                say::unexpected(span, "`:`", &["`{`"])
                    .help("a block stands between `{` and `}`; indentation has no meaning"),
            );
        }
        None
    }
}

fn self_offset(start: usize, before: &[Token], back: usize) -> usize {
    before.len().checked_sub(back).and_then(|i| before.get(i)).map_or(start, |t| start + t.start)
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// The tokens of `text` without comments and newlines.
fn code(text: &str) -> Vec<Token> {
    let mut tokens = scan(text);
    tokens.retain(|t| !matches!(t.kind, TokenKind::Comment | TokenKind::Newline));
    tokens
}

/// The tokens of the first line of `text`, without its comment.
fn code_line(text: &str) -> Vec<Token> {
    let line = text.split(['\n', '\r']).next().unwrap_or("");
    code(line)
}

/// What was found, in words.
fn described(found: Option<&str>, text: &str, at: usize) -> String {
    match found {
        Some(found) if found.starts_with('"') => "this text".to_owned(),
        Some(found) if found.chars().count() <= 30 => format!("`{found}`"),
        Some(_) => "this".to_owned(),
        None if at < text.len() => "the end of the line".to_owned(),
        None => String::new(),
    }
}

/// What the grammar would have taken, in words; nothing if that is too much to say.
fn words_for(expected: &[Rule]) -> Vec<&'static str> {
    let mut words: Vec<&'static str> = Vec::new();
    for rule in expected {
        if let Some(word) = word_for(*rule)
            && !words.contains(&word)
        {
            words.push(word);
        }
    }
    if words.len() > 3 { Vec::new() } else { words }
}

fn word_for(rule: Rule) -> Option<&'static str> {
    Some(match rule {
        Rule::ident | Rule::path | Rule::word => "a name",
        Rule::pattern => "a name or names in parentheses",
        Rule::type_name
        | Rule::named_type
        | Rule::range_type
        | Rule::tensor_type
        | Rule::record_type => "a type",
        Rule::value
        | Rule::quantity
        | Rule::number
        | Rule::name
        | Rule::string
        | Rule::list
        | Rule::group
        | Rule::row_field
        | Rule::literal
        | Rule::conditional
        | Rule::match_value
        | Rule::scan_value
        | Rule::minus
        | Rule::kw_not
        | Rule::bound => "a value",
        Rule::block => "`{`",
        Rule::parameters => "parameters in parentheses",
        Rule::parameter => "a parameter",
        Rule::axes => "axes in brackets",
        Rule::axis | Rule::axis_tuple => "an axis",
        Rule::declaration => "a name",
        Rule::index => "axes in brackets",
        Rule::kw_in => "`in`",
        Rule::kw_then => "`then`",
        Rule::kw_else => "`else`",
        Rule::unit => "a unit",
        _ => return None,
    })
}
