//! Whether intervals hold what they say: hundreds of studies whose truth is known, fitted and asked at ten times their largest budget.

use cs336_compiler::check::hir::{FitSpec, Spec};
use cs336_compiler::front;
use cs336_compiler::world::Texts;
use cs336_fit::{Columns, Fitted, Interval, Random, fit, optimum, predict};
use indexmap::IndexMap;
use rayon::prelude::*;

const STUDIES: u64 = 400;
/// Budgets of a study in FLOPs, and where it is asked.
const LEAST: f64 = 1e17;
const TARGET: f64 = 10.0 * 3.162_277_660_168_379_5e19;
/// E, A, B, alpha, beta.
const TRUTH: [f64; 5] = [1.8, 480.0, 2100.0, 0.35, 0.37];

fn spec() -> FitSpec {
    let text = "data recorded = csv(\"runs.csv\")
fit f {
  runs = recorded
  law = .loss ~ E + A / .params^alpha + B / .tokens^beta
  free = { E = 0.1..5, A = 1..1e8, B = 1..1e8, alpha = 0.05..1.5, beta = 0.05..1.5 }
  error = squared(on = log)
  starts = 8
  bootstrap = 100
}
";
    let world = Texts { files: vec![("a.cs336".into(), text.to_owned())] };
    let checked = front::check(&world, "a.cs336", &[]);
    assert!(!checked.problems().has_errors(), "{:?}", checked.problems());
    match &checked.nodes["f"].spec {
        Spec::Fit(spec) => (**spec).clone(),
        other => panic!("a fit, not {other:?}"),
    }
}

/// The parameters that are best for so many FLOPs (6 N D).
fn best(flops: f64) -> f64 {
    let [_, a, b, alpha, beta] = TRUTH;
    let g = (alpha * a / (beta * b)).powf(1.0 / (alpha + beta));
    g * (flops / 6.0).powf(beta / (alpha + beta))
}

/// What a run with these sizes measures: the truth with log-normal noise of 1 %.
fn measured(n: f64, d: f64, random: &mut Random) -> f64 {
    let [e, a, b, alpha, beta] = TRUTH;
    (e + a / n.powf(alpha) + b / d.powf(beta)) * (0.01 * random.normal()).exp()
}

/// 36 runs, 6 budgets with 6 sizes around each optimum, and the noise that comes after them.
fn study(seed: u64) -> (Fitted, Random) {
    let mut random = Random::new(seed, 0);
    let mut columns: IndexMap<String, Vec<f64>> = IndexMap::new();
    for i in 0..6 {
        let budget = LEAST * 10f64.powf(0.5 * f64::from(i));
        for j in 0..6 {
            let n = best(budget) * 10f64.powf(-0.75 + 0.3 * f64::from(j));
            let d = budget / (6.0 * n);
            let loss = measured(n, d, &mut random);
            for (name, value) in [("params", n), ("tokens", d), ("loss", loss)] {
                columns.entry(name.to_owned()).or_default().push(value);
            }
        }
    }
    let names = (0..36).map(|i| i.to_string()).collect();
    match fit(&spec(), &Columns { names, values: columns }) {
        Ok(fitted) => (fitted, random),
        Err(problem) => panic!("study {seed}: {problem}"),
    }
}

fn inside(interval: Option<Interval>, value: f64) -> bool {
    let i = interval.expect("resampled");
    i.low <= value && value <= i.high
}

/// How often the 80 % interval of the optimum at ten times the largest budget holds the truth.
#[test]
fn intervals_cover_the_truth() {
    let holds = |seed: &u64| {
        let (fitted, _) = study(*seed);
        let o = optimum::optimum(&fitted, &optimum::Ask::compute(TARGET)).expect("there is one");
        inside(o.params.ci80, best(TARGET))
    };
    let covered = (0..STUDIES).into_par_iter().filter(holds).count() as f64 / STUDIES as f64;
    assert!((0.74..=0.86).contains(&covered), "{covered}");
}

/// How often the intervals hold the loss that one further run measures, which has noise of its own: prediction intervals as often as they say,
/// confidence intervals of the curve far less often.
#[test]
fn prediction_intervals_cover_new_runs() {
    let n = best(TARGET);
    let d = TARGET / (6.0 * n);
    let at = IndexMap::from([("params".to_owned(), n), ("tokens".to_owned(), d)]);
    let held: Vec<[bool; 3]> = (0..STUDIES)
        .into_par_iter()
        .map(|seed| {
            let (fitted, mut random) = study(seed);
            let there = predict::predict(&fitted, &at).expect("its columns are given");
            let run = measured(n, d, &mut random);
            [there.pi80, there.pi95, there.ci95].map(|interval| inside(interval, run))
        })
        .collect();
    let [pi80, pi95, ci95] = [0, 1, 2]
        .map(|interval: usize| held.iter().filter(|h| h[interval]).count() as f64 / STUDIES as f64);
    assert!((0.74..=0.86).contains(&pi80), "80 %: {pi80}");
    assert!((0.92..=0.98).contains(&pi95), "95 %: {pi95}");
    assert!(ci95 < 0.9, "the curve's interval holds runs as well: {ci95}");
}

/// An estimate that is no measurement has no prediction interval, and neither has a fit that nothing was resampled for.
#[test]
fn only_what_is_measured_has_a_prediction_interval() {
    let (mut fitted, _) = study(0);
    let o = optimum::optimum(&fitted, &optimum::Ask::compute(TARGET)).expect("there is one");
    assert!(o.loss.pi95.is_some() && o.params.pi95.is_none() && o.tokens.pi95.is_none());
    let (curve, run) = (o.loss.ci95.expect("resampled"), o.loss.pi95.expect("resampled"));
    assert!(run.low < curve.low && curve.high < run.high);
    fitted.draws.clear();
    let o = optimum::optimum(&fitted, &optimum::Ask::compute(TARGET)).expect("there is one");
    assert!(o.loss.ci95.is_none() && o.loss.pi95.is_none());
}
