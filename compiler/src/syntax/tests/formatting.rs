//! Formatting keeps programs and comments, and is done once.

use super::super::format;
use super::super::scan::{TokenKind, scan};
use super::printing::shape;
use super::{programs, read};

/// Our programs, the library and the experiments.
fn all() -> Vec<(String, String)> {
    let library = crate::stdlib::MODULES.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned()));
    programs::all().into_iter().chain(library).collect()
}

#[test]
fn every_program_stays_what_it_is_and_is_formatted_once() {
    for (name, text) in all() {
        let formatted = format(&text);
        let ((before, docs), (after, docs_after)) = (read(&text), read(&formatted));
        assert!(shape(&before) == shape(&after), "{name}, formatted:\n{formatted}");
        assert_eq!(docs, docs_after, "{name}");
        assert_eq!(before.doc, after.doc, "{name}");
        assert_eq!(format(&formatted), formatted, "{name}");
        let comments = |t: &str| {
            let all = scan(t).into_iter().filter(|k| k.kind == TokenKind::Comment);
            all.map(|k| t[k.start..k.end].trim_end().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(comments(&text), comments(&formatted), "{name}");
    }
}

#[test]
fn blanks_are_set_right() {
    for (text, formatted) in [
        ("let a=1", "let a = 1\n"),
        ("let  a =   b  +  c  |>   f(1,   2)  # why", "let a = b + c |> f(1,   2)  # why\n"),
        ("eval   { every  =  2   steps }", "eval   { every  = 2 steps }\n"),
        ("let a   = 1 # why  \n\n\n\nlet b = f( a,b )", "let a   = 1 # why\n\nlet b = f(a, b)\n"),
        (
            "train t {\nlr=1\n      eval{every=2 steps}\n}\n",
            "train t {\n  lr = 1\n  eval { every = 2 steps }\n}\n",
        ),
        ("data a = b\n|> keep(.x>3\nand .y)\n", "data a = b\n  |> keep(.x > 3\n      and .y)\n"),
        (
            "let a =\n1 +\n2\nlet b = 3 tokens/param\r\n",
            "let a =\n  1 +\n  2\nlet b = 3 tokens/param\n",
        ),
        ("f({\na = [\n1,\n2 ]\n})", "f({\n  a = [\n    1,\n    2]\n})\n"),
        ("text \"\"\"\n  as it\n is\n\"\"\"\n", "text \"\"\"\n  as it\n is\n\"\"\"\n"),
    ] {
        assert_eq!(format(text), formatted);
        assert_eq!(format(formatted), formatted);
    }
}

#[test]
fn any_text_is_formatted_without_harm() {
    for text in ["", "\n\n", "}}}", "(((", "\"abc", "a # b", "\u{feff}let a = 1", "`$\\", "é = 1"]
    {
        assert_eq!(format(&format(text)), format(text), "{text}");
    }
}
