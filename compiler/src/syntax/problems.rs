//! All syntax problems, E0101 to E0128: one function each, in the words of whoever wrote the program.
//!
//! A message says what was found, its main place is as small as it can be, the help says what to type instead, and
//! where exactly one edit is meant it comes along as a fix. Each code has a page in `explain/`.

use crate::problem::Problem;
use crate::source::Span;

/// Text that fits no rule.
pub(super) fn unexpected(span: Span, found: &str, expected: &[&str]) -> Problem {
    let message = if found.is_empty() {
        "the text ends too early".to_owned()
    } else {
        format!("{found} cannot stand here")
    };
    let problem = Problem::new("E0101", span, message);
    match expected {
        [] => problem,
        [one] => problem.at(format!("expected {one}")),
        [rest @ .., last] => problem.at(format!("expected {} or {last}", rest.join(", "))),
    }
}

/// A bracket that is never closed.
pub(super) fn open_bracket(span: Span, open: u8) -> Problem {
    let (open, close) = match open {
        b'(' => ('(', ')'),
        b'[' => ('[', ']'),
        _ => ('{', '}'),
    };
    Problem::new("E0102", span, format!("`{open}` is never closed"))
        .at("opened here")
        .help(format!("write the `{close}` that belongs to it"))
}

/// A closing bracket for which nothing was opened.
pub(super) fn stray_bracket(span: Span, close: u8) -> Problem {
    let close = close as char;
    Problem::new("E0103", span, format!("`{close}` closes nothing"))
        .help("delete it, or write the bracket that it should close")
}

/// A bracket closed by one of another kind.
pub(super) fn wrong_bracket(span: Span, close: u8, opened: Span, right: u8) -> Problem {
    let (close, right) = (close as char, right as char);
    Problem::new("E0103", span, format!("`{close}` closes a bracket of another kind"))
        .label(opened, "opened here")
        .help(format!("write `{right}`"))
        .fix(span, right.to_string())
}

/// A string without an end.
pub(super) fn open_string(span: Span, triple: bool) -> Problem {
    let problem = Problem::new("E0104", span, "this text is never closed").at("opened here");
    if triple {
        problem.help("write `\"\"\"` where it ends")
    } else {
        problem
            .help("write `\"` where it ends, on the same line")
            .help("text over several lines stands between `\"\"\"` and `\"\"\"`")
    }
}

/// `'text'`.
pub(super) fn single_quotes(span: Span, written: &str) -> Problem {
    Problem::new("E0105", span, "text stands in double quotes")
        .help(format!("write `{written}`"))
        .fix(span, written)
}

/// `f"text"`.
pub(super) fn string_prefix(prefix: Span, word: &str) -> Problem {
    Problem::new("E0105", prefix, format!("a text has no prefix `{word}`"))
        .help("in titles, prompts and reports `{name}` is filled in without a prefix")
        .fix(prefix, "")
}

/// `"\d"`, or a backslash at the end of a line.
pub(super) fn unknown_escape(span: Span, c: Option<char>) -> Problem {
    let message = match c {
        Some(c) => format!("`\\{c}` means nothing in a text"),
        None => "a backslash at the end of a line means nothing".to_owned(),
    };
    let doubled = c.map_or("\\\\".to_owned(), |c| format!("\\\\{c}"));
    Problem::new("E0106", span, message)
        .help("a backslash goes before `n`, `t`, `r`, `0`, `\"` or `\\`; a backslash itself is `\\\\`")
        .fix(span, doubled)
}

/// A character that the language does not use.
pub(super) fn strange_character(span: Span, c: char) -> Problem {
    let name = if c.is_control() || c.is_whitespace() {
        format!("the character U+{:04X}", c as u32)
    } else {
        format!("`{c}`")
    };
    let problem = Problem::new("E0107", span, format!("{name} means nothing outside of text"));
    match meant_by(c) {
        Some(" ") => problem.help("write a plain blank").fix(span, " "),
        Some(meant) => problem.help(format!("write `{meant}`")).fix(span, meant),
        None if c.is_alphabetic() => problem.help("names are spelled with a-z, A-Z, 0-9 and `_`"),
        None => problem,
    }
}

/// What a character outside ASCII was probably meant to be.
pub(super) fn meant_by(c: char) -> Option<&'static str> {
    Some(match c {
        '“' | '”' | '„' | '«' | '»' => "\"",
        '−' | '–' | '—' => "-",
        '×' | '·' => "*",
        '÷' => "/",
        '≤' => "<=",
        '≥' => ">=",
        '≠' => "!=",
        '→' => "->",
        '…' => "..",
        '\u{a0}' | '\u{2002}'..='\u{200b}' | '\u{202f}' | '\u{3000}' | '\u{feff}' => " ",
        _ => return None,
    })
}

/// Nesting beyond the limit.
pub(super) fn too_deep(span: Span) -> Problem {
    Problem::new("E0108", span, "this is nested too deeply")
        .at("here it is too much; the whole item is left out")
        .help("give parts of it a name with `let`")
}

/// `// ...`.
pub(super) fn foreign_comment(span: Span, source: &str) -> Problem {
    let signs = Span { end: span.start + 2, ..span };
    let problem = Problem::new("E0109", signs, "a comment begins with `#`");
    if source.starts_with("//") {
        problem.help("write `#`; a quotient rounded down is `floor(a / b)`").fix(signs, "#")
    } else {
        problem.help("write `#` before each line of it")
    }
}

/// `;`.
pub(super) fn semicolon(span: Span, at_line_end: bool) -> Problem {
    let problem = Problem::new("E0110", span, "items are not separated by `;`");
    if at_line_end {
        problem.help("the end of the line is enough").fix(span, "")
    } else {
        problem.help("write `,` or begin a new line").fix(span, ",")
    }
}

/// `lr: 3e-4`.
pub(super) fn colon(span: Span, name: &str) -> Problem {
    Problem::new("E0111", span, "`:` gives a type; a value is given by `=`")
        .help(format!("write `{name} = ..`"))
        .fix(span, " =")
}

/// Lines that begin with a dash, as in YAML.
pub(super) fn dash_list(span: Span, name: &str) -> Problem {
    Problem::new("E0111", span, "a list stands in brackets")
        .at("not lines that begin with `-`")
        .help(format!("write `{name} = [.., ..]`"))
}

/// `True`, `None`.
pub(super) fn foreign_literal(span: Span, found: &str, meant: &str) -> Problem {
    Problem::new("E0112", span, format!("`{found}` is spelled `{meant}`")).fix(span, meant)
}

/// `**`, `&&`, `%` and other operators that are spelled differently here.
pub(super) fn foreign_operator(span: Span, found: &str) -> Problem {
    let problem = Problem::new("E0113", span, format!("there is no operator `{found}`"));
    match found {
        "**" => problem.help("a power is written `x^2`").fix(span, "^"),
        "&&" => problem.help("write `and`").fix(span, "and"),
        "||" => problem.help("write `or`").fix(span, "or"),
        "!" => problem.help("write `not`").fix(span, "not "),
        "===" => problem.help("write `==`").fix(span, "=="),
        "!==" | "<>" => problem.help("write `!=`").fix(span, "!="),
        ":=" => problem.help("write `=`").fix(span, "="),
        "%" => {
            problem.help("a share is written without a blank, `10%`; a remainder is `mod(a, b)`")
        }
        "..." | "..=" => problem.help("`..` includes both ends").fix(span, ".."),
        "..<" => problem.help("`..` includes both ends: write `a..b - 1`"),
        "?" => problem.help("write `if a then b else c`"),
        "=>" => {
            problem.help("write `->` for a match arm or an axis, `fn f(x) = ..` for a function")
        }
        "++" | "--" => problem.help("write out `x + 1`"),
        "|" => problem.help("write `or`, or `|>` to pass a value on"),
        "&" => problem.help("write `and`"),
        _ => problem,
    }
}

/// `x not in y`.
pub(super) fn not_in(span: Span) -> Problem {
    Problem::new("E0113", span, "there is no operator `not in`").help("write `not (a in b)`")
}

/// `x += 1`.
pub(super) fn augmented(span: Span, path: &str, op: &str) -> Problem {
    let sign = op.trim_end_matches('=');
    Problem::new("E0113", span, format!("there is no operator `{op}`"))
        .help(format!("write `{path} = {path} {sign} ..`"))
        .fix(span, format!("= {path} {sign}"))
}

/// `x @ w`.
pub(super) fn matmul(span: Span) -> Problem {
    Problem::new("E0114", span, "there is no operator `@`")
        .help("a product names the axis that it sums over: `dot[d](x, w)`")
}

/// `[1 2]`.
pub(super) fn missing_comma(previous_end: Span, next: Span) -> Problem {
    Problem::new("E0115", next, "a comma is missing before this value").fix(previous_end, ",")
}

/// `import`, `def`, `class` and other words of other languages.
pub(super) fn foreign_word(span: Span, word: &str, help: &str) -> Problem {
    Problem::new("E0116", span, format!("there is no `{word}` in this language")).help(help)
}

/// `in = 3`.
pub(super) fn reserved_word(span: Span, word: &str) -> Problem {
    Problem::new("E0117", span, format!("`{word}` is a reserved word and cannot be a name"))
        .help(format!("choose another name, for example `{word}_`"))
}

/// `let a = 1, b = 2`.
pub(super) fn second_let(span: Span, name: &str) -> Problem {
    Problem::new(
        "E0118",
        span,
        format!("this sets the field `{name}`; it is not part of the `let`"),
    )
    .help(format!("write `let {name} = ..`"))
    .fix(Span { end: span.start, ..span }, "let ")
}

/// A line that begins with an operator.
pub(super) fn leading_operator(span: Span, op: &str) -> Problem {
    Problem::new("E0119", span, "an operator ends a line, it does not begin one")
        .help(format!("write `{op}` at the end of the line before"))
        .help("only `|>`, `and`, `or`, `with`, `then` and `else` may begin a line")
}

/// `FLOPS`.
pub(super) fn unit_spelling(span: Span, found: &str, meant: &str) -> Problem {
    Problem::new("E0120", span, format!("the unit `{found}` is spelled `{meant}`")).fix(span, meant)
}

/// `3e18 FLOPs/x`.
pub(super) fn glued_unit(span: Span, slash: Span, name: &str) -> Problem {
    Problem::new("E0120", span, format!("`/{name}` is read as a part of the unit"))
        .at(format!("`{name}` is not a unit"))
        .help(format!("put spaces around `/` to divide by `{name}`"))
        .fix(slash, " / ")
}

/// `5 weight`.
pub(super) fn reserved_unit(span: Span, word: &str) -> Problem {
    Problem::new("E0120", span, format!("`{word}` is a reserved word and cannot be a unit"))
}

/// `lr == 1` as a field.
pub(super) fn equality_for_binding(span: Span, name: &str) -> Problem {
    Problem::new("E0121", span, "`==` compares; a field is set by `=`")
        .help(format!("write `{name} = ..`"))
        .fix(span, "=")
}

/// `if a = b`.
pub(super) fn binding_for_equality(span: Span) -> Problem {
    Problem::new("E0121", span, "`=` sets a name; values are compared by `==`")
        .help("write `==`")
        .fix(span, "==")
}

/// `.5`, `5.`, `0x10`.
pub(super) fn number_spelling(span: Span, found: &str, meant: &str) -> Problem {
    Problem::new("E0122", span, format!("the number `{found}` is spelled `{meant}`"))
        .fix(span, meant)
}

/// `007`, or the zeros of `1,000`.
pub(super) fn leading_zero(span: Span, found: &str, meant: &str) -> Problem {
    Problem::new("E0122", span, format!("the number `{found}` begins with a zero"))
        .help(format!("write `{meant}`; digits are grouped by `_`, as in `10_000`"))
}

/// A number too large to hold.
pub(super) fn number_range(span: Span) -> Problem {
    Problem::new("E0122", span, "this number is too large").help("numbers go up to about 1.8e308")
}

/// `(a, b)` as a value.
pub(super) fn tuple_value(span: Span) -> Problem {
    Problem::new("E0123", span, "several values do not stand in parentheses")
        .help("write a list `[a, b]`, or a record `{ first = a, second = b }`")
}

/// `for a, b in xs`.
pub(super) fn bare_names(span: Span) -> Problem {
    Problem::new("E0123", span, "several names stand in parentheses")
        .help("write `for (a, b) in ..`")
}

/// `[x for x in xs if c]`.
pub(super) fn filter_form(span: Span) -> Problem {
    Problem::new("E0124", span, "a list leaves values out by `where`")
        .help("write `[x for x in xs where c]`")
        .fix(span, "where")
}

/// `tokens per param`.
pub(super) fn spoken_unit(span: Span) -> Problem {
    Problem::new("E0120", span, "`per` is written `/` in a unit")
        .help("write for example `tokens/param`, without blanks")
}

/// `if a { b } else { c }` and others.
pub(super) fn if_form(span: Span, message: &str) -> Problem {
    Problem::new("E0124", span, message).help("write `if a then b else c`")
}

/// `a =` and nothing.
pub(super) fn missing_value(span: Span, name: &str) -> Problem {
    Problem::new("E0125", span, format!("`{name}` has no value"))
        .help(format!("write `{name} = ..`"))
}

/// `lr: Float = 1` as a field.
pub(super) fn typed_field(span: Span, name: &str) -> Problem {
    Problem::new("E0126", span, "a field has no type of its own")
        .help(format!("drop the type, or write `knob {name}: ..` or `let {name}: ..`"))
}

/// `a < b .. c .. d` and other chains without a meaning.
pub(super) fn not_chained(span: Span, op: &str) -> Problem {
    Problem::new("E0127", span, format!("`{op}` cannot be chained")).help("use parentheses")
}

/// `a + not b`.
pub(super) fn loose_not(span: Span) -> Problem {
    Problem::new("E0127", span, "`not` binds looser than the operator before it")
        .help("write `(not x)`")
}

/// `{` without `}` in a text that is filled in.
pub(super) fn interpolation(span: Span, message: &str) -> Problem {
    Problem::new("E0128", span, message)
        .help("`{name}` is replaced by the value of `name`; a plain brace is `{{` or `}}`")
}
