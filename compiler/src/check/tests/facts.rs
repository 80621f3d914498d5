//! What checking does with facts of data, and what counts for the key of a run.

use super::checked;
use crate::check::eval::Eval;
use crate::check::kinds;
use crate::world::{Texts, World};

/// Texts, and 50,000 tokens of training data.
struct Known(Texts);

impl World for Known {
    fn read(&self, path: &str, from: Option<&str>) -> Result<(String, String), String> {
        self.0.read(path, from)
    }

    fn fact(&self, node: &str, field: &str) -> Option<f64> {
        (node == "tales.train" && field == "tokens").then_some(50_000.0)
    }
}

const BASE: &str = r#"
knob work = 100 steps
data tales = stories(count = 100) |> holdout(valid = 5%)
tokenizer bytes { kind = bytes }
let width = 8
layer Up[d, ff] {
  weight up[d, ff], down[ff, d]
  forward(x: [d]) -> [d] = x + dot[ff](relu(dot[d](x, up)), down)
}
model m {
  axes = { d = width, ff = 16, vocab = bytes.vocab }
  weight table[vocab, d] = normal(0, 1)
  up = Up
  forward(ids: [seq]) -> [seq, vocab] = dot[d](up(pick[vocab](table, ids)), table)
}
train a {
  model = m, data = tales |> encode(bytes) |> pack(seq = 64), optimizer = adamw(lr = 1e-3)
  batch = 1024 tokens, budget = work
}
"#;

fn meaning(text: &str) -> String {
    checked(text, &[], |eval, nodes, _| {
        assert!(!eval.problems.has_errors(), "{:?}", eval.problems);
        nodes["a"].meaning.clone()
    })
}

#[test]
fn more_work_than_data_is_a_warning_that_names_the_knob() {
    let world = Known(Texts { files: vec![("main.cs336".into(), BASE.into())] });
    let mut eval = Eval::new(&world);
    eval.load_main("main.cs336", &[]);
    let (nodes, lines) = kinds::check_nodes(&mut eval);
    let found: Vec<_> = eval.problems.iter().collect();
    let [problem] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(problem.code, "W0510");
    assert_eq!(
        problem.message,
        "the budget needs 102K tokens but `tales.train` has 50.0K: 2.0 epochs"
    );
    assert_eq!(problem.help[0], "`--set work=48steps` is one epoch");
    assert!(nodes.contains_key("a") && !lines.is_empty());
}

#[test]
fn epochs_become_steps_once_the_data_is_counted() {
    let text = BASE.replace("budget = work", "budget = 2 epochs");
    let world = Known(Texts { files: vec![("main.cs336".into(), text)] });
    let mut eval = Eval::new(&world);
    eval.load_main("main.cs336", &[]);
    let (_, lines) = kinds::check_nodes(&mut eval);
    assert!(eval.problems.iter().all(|p| p.code != "W0510"), "{:?}", eval.problems);
    assert!(lines.iter().any(|l| l.contains("97 steps")), "{lines:?}");
}

#[test]
fn the_meaning_of_a_run_holds_what_its_result_depends_on() {
    let base = meaning(BASE);
    let with = |from: &str, to: &str| meaning(&BASE.replace(from, to));
    // A layer that the model reaches by name, a value that it reads, the data's own name where it draws by it.
    assert_ne!(base, with("relu(dot", "silu(dot"));
    assert_ne!(base, with("let width = 8", "let width = 16"));
    assert_ne!(base, with("seq = 64", "seq = 128"));
    assert_ne!(base, with("tales", "fables"));
    // Comments, formatting, other nodes, execution and what holds anyway.
    assert_eq!(base, with("let width", "\n# how wide\nlet width"));
    assert_eq!(base, with("budget = work", "budget   =   work, limit = 3 min, micro = 4 rows"));
    assert_eq!(
        base,
        with(
            "budget = work",
            "budget = work, seed = 0, precision = f32, objective = cross_entropy"
        )
    );
    assert_eq!(
        base,
        with("budget = work", "budget = 100 steps\n  save { every = 10 steps }").replace("zz", "")
    );
    assert_eq!(base, with("train a", "let unrelated = 5\ntrain a"));
}

#[test]
fn the_meaning_of_a_run_holds_the_text_that_its_figures_are_of() {
    let eval = |fields: &str, more: &str| {
        let block = format!("budget = work{more}\n  eval {{ {fields} }}");
        meaning(&BASE.replace("budget = work", &block))
    };
    let base = eval("every = 10 steps, on = tales.valid, report = [loss]", "");
    assert_ne!(base, meaning(BASE));
    assert_ne!(base, eval("every = 10 steps, on = tales.train, report = [loss]", ""));
    // How often it is asked and what of it is shown changes no figure..
    assert_eq!(base, eval("every = 20 steps, on = tales.valid, report = [perplexity]", ""));
    // .. unless the run ends by it.
    let stopped = |every: &str| {
        let fields = format!("every = {every} steps, on = tales.valid, report = [loss]");
        eval(&fields, ", stop = .valid_loss <= 3")
    };
    assert_ne!(stopped("10"), stopped("20"));
}
