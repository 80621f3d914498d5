//! Why a text is no item: one problem for each stretch of junk.
//!
//! First the signs of other languages are looked for, at the beginning of the text and where reading it stopped; only
//! what none of these tables knows is reported as "cannot stand here", with what the grammar would have taken.

use std::ops::Range;

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
        let stop = Stop { text, start, at, before: &before, after: &after, span, expected };
        let problem = self
            .known_cause(&stop)
            .unwrap_or_else(|| say::unexpected(span, &described(found, text, at), &stop.wanted()));
        self.report(problem);
    }

    fn known_cause(&self, stop: &Stop<'_>) -> Option<Problem> {
        let found = stop.following(0);
        let next = stop.following(1);
        let last = stop.earlier(1);
        let span = stop.span;
        let place = |range: Range<usize>| self.place_of(range.start, range.end);
        let last_if = stop.last("if").map(place);
        let is_end = found.is_empty() || matches!(found, "," | "}" | ")" | "]");

        if let Some(if_span) = last_if.filter(|_| found != "=") {
            if stop.expected.contains(&Rule::kw_then) {
                return Some(say::if_form(if_span, "this `if` has no `then`"));
            }
            if stop.expected.contains(&Rule::kw_else) {
                return Some(say::if_form(if_span, "this `if` has no `else`"));
            }
        }
        if is_end && matches!(last, "=" | ":=") {
            return Some(say::missing_value(place(stop.range(2)), stop.earlier(2)));
        }
        // `a =` at the end of a line has taken the name on the next line as its value.
        if found == "=" && stop.earlier(2) == "=" {
            let between = &stop.text[stop.range(2).start..stop.range(1).start];
            if between.contains('\n') {
                return Some(say::missing_value(place(stop.range(3)), stop.earlier(3)));
            }
        }
        match (found, last) {
            ("=", _) if ["if", "assert", "where"].iter().any(|w| stop.last(w).is_some()) => {
                return Some(say::binding_for_equality(span));
            }
            ("?" | "=>" | "|" | "&", _) => return Some(say::foreign_operator(span, found)),
            ("+" | "-", _) if found == last => {
                let both = place(stop.range(1)).to(span);
                return Some(say::foreign_operator(both, if found == "+" { "++" } else { "--" }));
            }
            ("if", _) if stop.last("for").is_some() => return Some(say::filter_form(span)),
            ("if", _) => {
                return Some(say::if_form(span, "a value is chosen before it, not behind it"));
            }
            ("per", _) => return Some(say::spoken_unit(span)),
            (",", _) if stop.first() == "for" => return Some(say::bare_names(span)),
            (_, "%") if is_end => {
                return Some(say::foreign_operator(place(stop.range(1)), "%"));
            }
            _ => {}
        }
        let touches = stop.range(1).end == stop.at;
        if found.starts_with('"') && touches && last.len() <= 2 && is_name(last) {
            return Some(say::string_prefix(place(stop.range(1)), last));
        }
        if ITEM_WORDS.contains(&found) && last.starts_with(|c: char| c.is_ascii_digit()) {
            return Some(say::reserved_unit(span, found));
        }
        let wants_name = stop.expected.iter().any(|r| matches!(r, Rule::ident | Rule::path));
        let is_reserved = VALUE_WORDS.contains(&found);
        if is_reserved && (wants_name || matches!(next, "=" | ":")) {
            return Some(say::reserved_word(span, found));
        }
        if found == ":" && next.is_empty() {
            return Some(
                say::unexpected(span, "`:`", &["`{`"])
                    .help("a block stands between `{` and `}`; indentation has no meaning"),
            );
        }
        let below = stop.text[stop.at..].trim_start();
        if found.is_empty() && stop.expected.contains(&Rule::block) && below.starts_with('{') {
            let brace = stop.text.len() - below.len();
            return Some(
                say::unexpected(self.place_of(brace, brace + 1), "a `{` on a line of its own", &[])
                    .help("write it on the line above, behind the name"),
            );
        }
        None
    }
}

/// Where reading stopped, and what stands around.
struct Stop<'a> {
    text: &'a str,
    /// Where the item begins.
    start: usize,
    at: usize,
    /// The tokens of the item before the stop, relative to `start`.
    before: &'a [Token],
    /// The tokens of the line behind the stop, relative to `at`.
    after: &'a [Token],
    span: Span,
    expected: &'a [Rule],
}

impl<'a> Stop<'a> {
    fn following(&self, i: usize) -> &'a str {
        self.after.get(i).map_or("", |t| &self.text[self.at + t.start..self.at + t.end])
    }

    /// The bytes of the token `back` places before the stop; 1 is the last.
    fn range(&self, back: usize) -> Range<usize> {
        let token = self.before.len().checked_sub(back).and_then(|i| self.before.get(i));
        token.map_or(self.start..self.start, |t| self.start + t.start..self.start + t.end)
    }

    fn earlier(&self, back: usize) -> &'a str {
        &self.text[self.range(back)]
    }

    fn first(&self) -> &'a str {
        self.earlier(self.before.len())
    }

    /// The last time that `word` stands before the stop.
    fn last(&self, word: &str) -> Option<Range<usize>> {
        (1..=self.before.len()).map(|back| self.range(back)).find(|r| &self.text[r.clone()] == word)
    }

    /// What could have stood here, in words; nothing if that is too much to say.
    fn wanted(&self) -> Vec<&'static str> {
        let has = |rule: Rule| self.expected.contains(&rule);
        let sets = self.last("=").is_some();
        match self.first() {
            "let" | "knob" if !sets && has(Rule::call) => return vec!["`..`"],
            "use" if self.last("{").is_some() => return vec!["`,`", "`}`"],
            "use" if self.before.len() > 1 => return vec!["names in braces"],
            _ => {}
        }
        if has(Rule::wrong_walrus) && self.last("(").is_some() {
            return vec!["`:`", "`=`", "`,`"];
        }
        // A whole value has been read.
        if has(Rule::call) || has(Rule::pipe_op) {
            return vec!["an operator", "`,`", "a new line"];
        }
        if has(Rule::block) && self.following(0).is_empty() && self.last(")").is_some() {
            return vec!["`=`", "`{`"];
        }
        let is_word = |t: &str| t.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if self.expected.is_empty() && is_word(self.earlier(1)) && is_word(self.following(0)) {
            return vec!["`,`"];
        }
        words_for(self.expected)
    }
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
        Rule::wrong_walrus => "`=`",
        Rule::wrong_missing_comma => "`,`",
        _ => return None,
    })
}
