//! Points and costs of sweeps.

use super::checked;

const BASE: &str = r#"
use std.models { llama, llama_of }
data tales = stories(count = 100) |> holdout(valid = 5%)
tokenizer bytes { kind = bytes }
model tiny = llama(layers = 1, d = 16, heads = 2, ff = 32, vocab = bytes.vocab)
train a {
  model = tiny, data = tales |> encode(bytes) |> pack(seq = 64), optimizer = adamw(lr = cosine(peak = 1e-3))
  batch = 1024 tokens, budget = 10 steps
}
"#;

fn result_of(sweep: &str) -> (Vec<String>, Vec<String>) {
    let text = format!("{BASE}{sweep}\nlet other = llama_of\n");
    checked(&text, &[], |eval, _, lines| {
        let said = eval
            .problems
            .iter()
            .map(|p| format!("{}: {} | {}", p.code, p.message, p.help.join(" | ")));
        (said.collect(), lines.to_vec())
    })
}

#[test]
fn clauses_see_the_names_before_them() {
    let (problems, lines) = result_of(
        "sweep s {\n  for b in [1, 2, 4]\n  for t in [10, 20] \n  let n = b * t\n  where n <= 40\n  run = a with { budget = n * 1 steps }\n}\n",
    );
    assert_eq!(problems, Vec::<String>::new());
    assert!(lines.iter().any(|l| l.starts_with("s   5 points   ")), "{lines:?}");
}

#[test]
fn too_dear_a_sweep_says_what_to_leave_out() {
    let (problems, _) = result_of(
        "sweep s {\n  for C in [1e10, 3e10, 1e11] FLOPs, for seed in 0..1\n  run = a with { budget = C, seed = seed }\n  total = 1e11 FLOPs\n}\n",
    );
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert!(
        problem.starts_with("E0501: 6 points cost 2.8e11 FLOPs but `s.total` allows 1.0e11 FLOPs"),
        "{problem}"
    );
    assert!(problem.contains("dropping `C = 1.0e11 FLOPs` leaves 8."), "{problem}");
}

#[test]
fn a_wrong_point_is_named_once() {
    let (problems, _) = result_of(
        "sweep s {\n  for d in [32, 33], for seed in 0..2\n  run = a with { model = tiny with { d = d }, seed = seed }\n}\n",
    );
    let [problem] = problems.as_slice() else { panic!("{problems:?}") };
    assert!(problem.starts_with("E0413"), "{problem}");
    assert!(problem.contains("at the point d = 33, seed = 0"), "{problem}");
}

#[test]
fn distributions_count_once_under_a_search() {
    let (problems, lines) = result_of(
        "sweep s {\n  for lr in log_uniform(1e-4, 1e-2)\n  for w in uniform(0, 0.3)\n  run = a with { optimizer.lr.peak = lr, optimizer.decay = w }\n  search = tpe(minimize = .valid_loss, points = 40)\n}\n",
    );
    assert_eq!(problems, Vec::<String>::new());
    assert!(lines.iter().any(|l| l.starts_with("s   40 points   ")), "{lines:?}");
}
