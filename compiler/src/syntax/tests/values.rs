//! What binds tighter than what, numbers, units, texts.

use super::super::ast::{BinaryOp, CompareOp, ExprKind, Suffix, UnaryOp};
use super::{kind, value};

fn number(text: &str) -> (f64, String) {
    let ExprKind::Number { value, suffix } = kind(text) else { panic!("{text} is no number") };
    let suffix = match suffix {
        None => String::new(),
        Some(Suffix::Percent) => "%".to_owned(),
        Some(Suffix::Unit(unit)) => {
            let mut all = vec![unit.amount.name];
            all.extend(unit.per.into_iter().map(|p| p.name));
            all.join("/")
        }
    };
    (value, suffix)
}

#[test]
fn numbers_and_units() {
    let is = |text: &str, value: f64, unit: &str| {
        assert_eq!(number(text), (value, unit.to_owned()), "{text}");
    };
    is("10_000", 10_000.0, "");
    is("80B", 80e9, "");
    is("80 GB", 80.0, "GB");
    is("80GB", 80.0, "GB");
    is("64Ki tokens", 65_536.0, "tokens");
    is("4K", 4000.0, "");
    is("1.5e-3", 0.0015, "");
    is("3e17 FLOPs", 3e17, "FLOPs");
    is("6 FLOPs/param/token", 6.0, "FLOPs/param/token");
    is("10%", 10.0, "%");
    is("1T tokens", 1e12, "tokens");
}

#[test]
fn minus_binds_looser_than_a_power() {
    let ExprKind::Unary { op: UnaryOp::Neg, value } = kind("-x^2") else { panic!() };
    assert!(matches!(*value.kind, ExprKind::Binary { op: BinaryOp::Pow, .. }));
    let ExprKind::Binary { op: BinaryOp::Pow, right, .. } = kind("t^-0.5") else { panic!() };
    assert!(matches!(*right.kind, ExprKind::Unary { .. }));
    let ExprKind::Binary { op: BinaryOp::Pow, right, .. } = kind("a^b^c") else { panic!() };
    assert!(matches!(*right.kind, ExprKind::Binary { op: BinaryOp::Pow, .. }));
}

#[test]
fn comparisons_chain() {
    let ExprKind::Compare { rest, .. } = kind("a <= b + 1 < c") else { panic!() };
    let ops: Vec<CompareOp> = rest.iter().map(|r| r.0).collect();
    assert_eq!(ops, [CompareOp::Le, CompareOp::Lt]);
}

#[test]
fn ranges_take_the_unit_on_their_last_number() {
    let ExprKind::Compare { rest, .. } = kind("a / b in 4..200 tokens/param") else { panic!() };
    let ExprKind::Range { from, to } = &*rest[0].2.kind else { panic!() };
    assert!(matches!(&*from.kind, ExprKind::Number { suffix: None, .. }));
    assert!(matches!(&*to.kind, ExprKind::Number { suffix: Some(Suffix::Unit(_)), .. }));
    assert!(matches!(kind("0..depth - 1"), ExprKind::Range { .. }));
}

#[test]
fn with_chains_and_binds_tighter_than_a_pipe() {
    let ExprKind::Pipe { value, .. } = kind("a with { b = 1 } with c |> d") else { panic!() };
    let ExprKind::With { base, .. } = *value.kind else { panic!() };
    assert!(matches!(*base.kind, ExprKind::With { .. }));
}

#[test]
fn words_that_may_lead_a_line() {
    for text in
        ["a\n  |> b\n  |> c", "a\nand b\nor c", "a\n  with { b = 1 }", "if a\nthen b\nelse c"]
    {
        value(text);
    }
}

#[test]
fn item_words_are_names_elsewhere() {
    for text in
        ["f(weight = w)", ".weight", "t.where", "state + knob", "mean[seq](x, weight = learn)"]
    {
        value(text);
    }
}

#[test]
fn lists() {
    let ExprKind::List { values, suffix: Some(Suffix::Unit(_)) } = kind("[1e17, 3e17] FLOPs")
    else {
        panic!()
    };
    assert_eq!(values.len(), 2);
    assert!(matches!(kind("[1, 2, 5]%"), ExprKind::List { suffix: Some(Suffix::Percent), .. }));
    let ExprKind::Comprehension { clauses, .. } =
        kind("[i + j for i in 0..3 for j in xs where i < j]")
    else {
        panic!()
    };
    assert_eq!(clauses.len(), 3);
}

#[test]
fn texts() {
    let text = |source: &str| match kind(source) {
        ExprKind::Text(text) => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(text(r#""a\n\"b\"\\""#), "a\n\"b\"\\");
    assert_eq!(text("\"\"\"\n    For {x}\n      more\n    \"\"\""), "For {x}\n  more");
    assert_eq!(text("\"\"\"one\n  two\"\"\""), "one\ntwo");
}

#[test]
fn places_leave_out_blanks_and_comments() {
    let e = value("  f(x)   # comment");
    assert_eq!((e.span.start, e.span.end), (2, 6));
    let e = value("[1, 2]  # comment");
    assert_eq!((e.span.start, e.span.end), (0, 6));
}
