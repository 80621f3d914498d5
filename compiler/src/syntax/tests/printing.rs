//! What is printed reads back to the same Ast.

use serde_json::Value;

use super::super::ast::File;
use super::super::{canonical, parse_expr, print};
use super::{programs, read, value};
use crate::source::FileId;

/// The Ast as data without places and docs.
pub(super) fn shape(file: &File) -> Value {
    let mut data = serde_json::to_value(&file.items).expect("the Ast is plain data");
    strip(&mut data);
    data
}

fn strip(data: &mut Value) {
    match data {
        Value::Object(map) => {
            let is_place = map.len() == 3 && map.contains_key("file") && map.contains_key("start");
            if is_place {
                *data = Value::Null;
                return;
            }
            map.remove("doc");
            map.values_mut().for_each(strip);
        }
        Value::Array(all) => all.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn sample_programs_print_and_read_back() {
    for (name, text) in programs::all() {
        let (file, _) = read(&text);
        let printed = print(&file);
        let (again, problems) = read(&printed);
        assert_eq!(problems, Vec::<String>::new(), "in {name}, printed:\n{printed}");
        assert!(shape(&file) == shape(&again), "{name}, printed:\n{printed}");
        assert_eq!(printed, print(&again));
    }
}

#[test]
fn parentheses_only_where_needed() {
    for (source, printed) in [
        ("(a + b) * c", "(a + b) * c"),
        ("(a * b) + c", "a * b + c"),
        ("a - (b - c)", "a - (b - c)"),
        ("(-x)^2", "(-x)^2"),
        ("-(x^2)", "-x^2"),
        ("(a^b)^c", "(a^b)^c"),
        ("a^(b^c)", "a^b^c"),
        ("(a < b) < c", "(a < b) < c"),
        ("not (a in b)", "not a in b"),
        ("not not a", "not not a"),
        ("1 + (if a then b else c)", "1 + (if a then b else c)"),
        ("({ a = 1 }).a", "({ a = 1 }).a"),
        ("64Ki tokens", "65536 tokens"),
        ("[ 1 ,2 ] %", "[1, 2]%"),
        ("x[ (a) -> b, c->(d=2,e) ]", "x[a -> b, c -> (d = 2, e)]"),
    ] {
        assert_eq!(canonical(&value(source)), printed);
        assert_eq!(canonical(&value(printed)), printed);
    }
}

#[test]
fn canonical_text_ignores_layout_and_comments() {
    let (a, _) = parse_expr(FileId(0), "f( a,\n  b = 1.0 ) # why");
    let (b, _) = parse_expr(FileId(3), "f(a, b = 1)");
    assert_eq!(canonical(&a), canonical(&b));
    let (a, _) = read("## doc\ntrain t { ## inner\n  lr = 1 # c\n\n\n  b = 2 }");
    let (b, _) = read("train t { lr = 1, b = 2 }");
    assert_eq!(canonical(&a.items[0]), canonical(&b.items[0]));
}
