//! Expressions over rows, from their text: what they become, what they are printed as, and what is wrong with them.

use super::super::eval::Eval;
use super::super::row_lower::{lower_over, rows_over};
use super::super::value::{Quantity, Scope, Value};
use crate::row::kinds::{Columns, Kind};
use crate::row::{RowExpr, Rows};
use crate::syntax::parse_expr;
use crate::world::Texts;

fn world() -> Texts {
    let text = "data runs = csv(\"runs.csv\")\n";
    Texts { files: vec![("a.cs336".to_owned(), text.to_owned())] }
}

fn known() -> Columns {
    let numbers = ["loss", "params", "tokens", "budget"].map(|n| (n.to_owned(), Kind::Number));
    let texts = ["name", "url.host"].map(|n| (n.to_owned(), Kind::Text));
    numbers.into_iter().chain(texts).chain([("stopped".to_owned(), Kind::Bool)]).collect()
}

/// The expression, or the codes of the problems.
fn lowered(text: &str, columns: Option<&Columns>) -> Result<RowExpr, Vec<String>> {
    let world = world();
    let mut eval = Eval::new(&world);
    eval.load_main("a.cs336", &[]);
    let file = eval.sources.add("text", text, false);
    let (e, problems) = parse_expr(file, text);
    assert_eq!(problems.iter().count(), 0, "{text}: {problems:?}");
    let scope = Scope::module(1).inner();
    scope.bind("limit", Value::Number(Quantity::plain(3.5)));
    let made = lower_over(&mut eval, &scope, &e, columns);
    let codes: Vec<String> = eval.problems.iter().map(|p| p.code.clone()).collect();
    assert_eq!(made.is_none(), !codes.is_empty(), "{text}: {codes:?}");
    made.ok_or(codes)
}

fn rows(text: &str, columns: Option<&Columns>) -> Result<Rows, Vec<String>> {
    let world = world();
    let mut eval = Eval::new(&world);
    eval.load_main("a.cs336", &[]);
    let file = eval.sources.add("text", text, false);
    let (e, _) = parse_expr(file, text);
    let v = eval.expr(&Scope::module(1), &e);
    let made = rows_over(&mut eval, &v, e.span, columns);
    made.ok_or_else(|| eval.problems.iter().map(|p| p.code.clone()).collect())
}

#[test]
fn what_is_printed_reads_back() {
    for (text, printed) in [
        (".loss < limit", ".loss < 3.5"),
        (".loss <= 2 h", ".loss <= 7200"),
        (".budget in [1, 3] FLOPs", ".budget in [1, 3]"),
        (".budget in 2..10K tokens", ".budget in 2..10000"),
        (
            "1 < .loss <= 3 and not (.stopped or .name == \"a\")",
            "1 < .loss and .loss <= 3 and not (.stopped or .name == \"a\")",
        ),
        ("-.loss^2 + (.loss - 1) * -3", "-.loss^2 + (.loss - 1) * -3"),
        ("log(.params / 1e6)", "log(.params / 1000000)"),
        ("\"web\" in .url.host", "\"web\" in .url.host"),
        ("if .loss > 3 then 1 else log(.loss)", "if .loss > 3 then 1 else log(.loss)"),
        (".loss >= percentile(.loss, 90%)", ".loss >= percentile(.loss, 0.9)"),
        ("min(.loss) + max(.loss, .params, 2)", "min(.loss) + max(.loss, .params, 2)"),
        ("(.loss < 1) == (.params < 1)", "(.loss < 1) == (.params < 1)"),
        (".loss == none", ".loss == none"),
    ] {
        let made = lowered(text, Some(&known())).expect(text);
        assert_eq!(made.to_string(), printed);
        assert_eq!(lowered(printed, None), Ok(made.clone()), "{printed}");
        let json = serde_json::to_string(&made).expect("it is JSON");
        assert_eq!(serde_json::from_str::<RowExpr>(&json).expect("it is ours"), made);
    }
}

#[test]
fn a_budget_is_compared_in_its_unit() {
    let mut columns = known();
    columns.insert("budget_unit".to_owned(), Kind::Text);
    for (text, printed) in [
        (".budget == 20 FLOPs", ".budget == 20 and .budget_unit == \"FLOPs\""),
        ("1e18 FLOPs < .budget", "1e18 < .budget and .budget_unit == \"FLOPs\""),
        (".budget != 3 steps", "not (.budget == 3 and .budget_unit == \"steps\")"),
        (".budget in [1, 3] FLOPs", ".budget in [1, 3] and .budget_unit == \"FLOPs\""),
        (".budget in 2..10K tokens", ".budget in 2..10000 and .budget_unit == \"tokens\""),
        (".budget == 20", ".budget == 20"),
        (".tokens < 2M tokens", ".tokens < 2000000"),
    ] {
        let made = lowered(text, Some(&columns)).expect(text);
        assert_eq!(made.to_string(), printed);
    }
    assert_eq!(lowered(".tokens < 20 FLOPs", Some(&columns)), Err(vec!["E0305".to_owned()]));
}

#[test]
fn what_does_not_fit_is_found_where_it_stands() {
    for (text, code) in [
        (".los < 3", "E0205"),
        (".name < 3", "E0302"),
        ("log(.name)", "E0302"),
        ("not .loss", "E0303"),
        (".loss < unknown", "E0201"),
        ("round(.loss, 2)", "E0217"),
        (".loss > 1 / 0", "E0217"),
        ("percentile(.loss, 3)", "E0301"),
    ] {
        assert_eq!(lowered(text, Some(&known())), Err(vec![code.to_owned()]), "{text}");
    }
}

#[test]
fn pipelines_become_stages() {
    let text = "runs |> keep(.loss < 3) |> best_by(.loss, per = [.budget, .seed]) \
        |> sort_by(.budget, descending = true) |> take(3) |> set(ratio = .tokens / .params) \
        |> select(.name, .ratio, x = log(.params)) \
        |> group_by(.name, n = count(.x), least = min(.x))";
    let made = rows(text, None).expect("rows");
    assert_eq!(made.stages.len(), 7);
    let printed = made.to_string();
    let expected = "csv(\"runs.csv\") |> keep(.loss < 3) |> best_by(.loss, per = [.budget, .seed]) \
        |> sort_by(.budget, descending = true) |> take(3) |> set(ratio = .tokens / .params) \
        |> select(.name, .ratio, x = log(.params)) \
        |> group_by(.name, n = count(.x), least = min(.x))";
    assert_eq!(printed, expected);
    assert_eq!(rows(&printed, None).map(|r| r.stages), Ok(made.stages));
}

#[test]
fn stages_are_judged_by_the_columns_before_them() {
    for (text, code) in [
        ("runs |> select(.loss) |> keep(.params > 3)", "E0205"),
        ("runs |> set(x = .name) |> keep(.x > 3)", "E0302"),
        ("runs |> keep(.loss)", "E0303"),
        ("runs |> group_by(.budget, loss = .loss)", "E0302"),
        ("runs |> group_by(.budget, n = count(.loss)) |> keep(.loss > 3)", "E0205"),
        ("runs |> dedup()", "E0217"),
    ] {
        assert_eq!(rows(text, Some(&known())), Err(vec![code.to_owned()]), "{text}");
    }
    let fine = "runs |> group_by(.budget, n = count(.loss), twice = 2 * mean(.loss) / .budget) |> keep(.n > 3)";
    assert!(rows(fine, Some(&known())).is_ok());
}
