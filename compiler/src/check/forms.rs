//! What each kind of program must look like, whether or not anything uses it: an optimizer has `update(w, g, t)`, a schedule `at(x, t)`, a loss
//! something to compare with.
//!
//! Takes the definitions of the main file; reports a method that is missing (with the one that was probably meant) or takes too few or too many
//! values. What a method does is found when it is traced.

use std::rc::Rc;

use super::call::method;
use super::eval::{Eval, kind_name};
use super::modules::MAIN;
use super::value::{Def, DefKind, Value};
use crate::problem::{Problem, did_you_mean};
use crate::source::Span;
use crate::syntax::ast::{Body, Callable, ItemKind};

/// A method that a kind of program needs.
struct Form {
    kind: DefKind,
    method: &'static str,
    /// How many values it takes.
    least: usize,
    most: usize,
    /// How it is written.
    written: &'static str,
    /// What its values are.
    values: &'static str,
}

const FORMS: &[Form] = &[
    Form {
        kind: DefKind::Optimizer,
        method: "update",
        least: 2,
        most: 3,
        written: "update(w, g, t) { .. }",
        values: "the weight, its gradient and the number of the step",
    },
    Form {
        kind: DefKind::Schedule,
        method: "at",
        least: 1,
        most: 2,
        written: "at(x) = ..",
        values: "the share of the budget that is spent and, if wanted, the number of the step",
    },
    Form {
        kind: DefKind::Loss,
        method: "of",
        least: 1,
        most: usize::MAX,
        written: "of(logits: [vocab], target: Id[vocab]) = ..",
        values: "outputs of the model and columns of the data",
    },
    Form {
        kind: DefKind::Model,
        method: "forward",
        least: 1,
        most: usize::MAX,
        written: "forward(ids: [seq]) -> [seq, vocab] = ..",
        values: "columns of the data",
    },
];

/// Looks at the definitions of the main file.
pub(super) fn check(eval: &mut Eval<'_>) {
    let Some(main) = eval.modules.get(MAIN) else { return };
    let names: Vec<(String, Span)> =
        main.names.iter().map(|(n, i)| (n.clone(), main.items[*i].span)).collect();
    for (name, span) in names {
        if let Value::Def(def) = eval.item_value(MAIN, &name, span) {
            judge(eval, &def);
        }
    }
}

fn judge(eval: &mut Eval<'_>, def: &Rc<Def>) {
    let Some(form) = FORMS.iter().find(|f| f.kind == def.kind) else { return };
    // A loss or a schedule may be one expression of its parameters.
    let is_expression = matches!(def.body, Body::Expr(_));
    if is_expression && matches!(def.kind, DefKind::Loss | DefKind::Schedule) {
        return;
    }
    let kind = kind_name(def.kind);
    let Some(found) = method(def, form.method).cloned() else {
        // A loss may be a block that ends in its value.
        if def.kind == DefKind::Loss && !methods(def).iter().any(|m| near(m, form.method)) {
            return;
        }
        let text = format!("the {kind} `{}` has no method `{}`", def.name, form.method);
        let mut p = Problem::new("E0214", def.span, text);
        if let Some(meant) = methods(def).iter().find(|m| near(m, form.method)) {
            p = p.help(format!("it has `{meant}`: is `{}` meant?", form.method));
        }
        eval.problem(p.help(format!("write `{}`: it is given {}", form.written, form.values)));
        return;
    };
    let count = found.params.len();
    if (form.least..=form.most).contains(&count) {
        counts_steps(eval, def, &found);
        return;
    }
    let wanted = match (form.least, form.most) {
        (a, usize::MAX) => format!("at least {a}"),
        (a, b) => format!("{a} or {b}"),
    };
    let s = if count == 1 { "" } else { "s" };
    let text = format!(
        "`{}` of `{}` takes {count} value{s}, a {kind} gives {wanted}",
        form.method, def.name
    );
    let p = Problem::new("E0308", found.name.span, text);
    eval.problem(p.help(format!("write `{}`: it is given {}", form.written, form.values)));
}

/// Names that one gives to the number of a step.
const COUNTERS: &[&str] = &["step", "steps", "t", "it", "iter", "iteration", "i", "n", "epoch"];

/// W0515 if the first value of a schedule is called like the number of a step.
fn counts_steps(eval: &mut Eval<'_>, def: &Def, at: &Callable) {
    let Some(first) = at.params.first().filter(|_| def.kind == DefKind::Schedule) else { return };
    let name = first.name.name.as_str();
    if !COUNTERS.contains(&name) {
        return;
    }
    let text = format!(
        "`{name}` is the share of the budget that is spent, from 0 to 1, and no number of steps"
    );
    let p = Problem::new("W0515", first.name.span, text);
    eval.problem(
        p.help(format!("call it `x`; the number of the step comes second: `at(x, {name})`")),
    );
}

fn near(have: &str, wanted: &str) -> bool {
    did_you_mean(have, [wanted]).is_some()
}

fn methods(def: &Def) -> Vec<String> {
    let Body::Block(block) = &def.body else { return Vec::new() };
    let named = block.items.iter().filter_map(|i| match &i.kind {
        ItemKind::Method(c) => Some(c.name.name.clone()),
        _ => None,
    });
    named.collect()
}

/// W0514 if an objective reads no column of the data while the model gives one value only: then nothing says what is right.
pub(super) fn compares(eval: &mut Eval<'_>, def: &Def, columns: &[&str], place: Span) {
    let params = method(def, "of").map_or(&def.params, |of| &of.params);
    let reads_column = params.iter().any(|p| columns.contains(&p.name.name.as_str()));
    if params.len() != 1 || reads_column || params[0].ty.as_ref().is_some_and(is_model) {
        return;
    }
    let text = format!(
        "the loss `{}` reads nothing of the data that the output is compared with",
        def.name
    );
    let p = Problem::new("W0514", place, text).label(params[0].name.span, "all that it reads");
    let list = columns.join(", ");
    eval.problem(p.help(format!(
        "a parameter with the name of a column has it: {list}; `target` is the next token"
    )));
}

fn is_model(ty: &crate::syntax::ast::Type) -> bool {
    use crate::syntax::ast::TypeKind;
    matches!(&ty.kind, TypeKind::Named { path, .. } if path[0].name == "Model")
}
