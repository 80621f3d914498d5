//! Sizes that are best: of all (params, tokens) that keep within limits, those that make a goal smallest.
//!
//! One solver for all of them: least loss within a budget (`optimum(C)`, Hoffmann et al. 2022), least cost of training and use for a loss
//! (Sardana et al. 2023), the same with limited data (Muennighoff et al. 2023). A goal and its limits are expressions over the two sizes,
//! `loss` (what the law says there) and further columns that are given.
//!
//! For each number of parameters the tokens that keep within the limits are an interval; its better end is found by bisection. Along that
//! curve the slope of the goal follows from exact derivatives (`dG = G_N + G_D dD/dN`, `dD/dN = -h_N / h_D` for the limit h that holds), and
//! its change of sign is found by bisection, to the last digits: the value of a goal near its minimum would give only half of them.

use cs336_compiler::graph::scalar_grad;
use cs336_compiler::law::{Formula, Law};
use cs336_compiler::scalar::{BinOp, Expr, Inst, Literal, UnOp};
use indexmap::IndexMap;
use rayon::prelude::*;

use crate::{Estimate, FitProblem, Fitted};

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Made smallest; reads `params`, `tokens`, `loss` and what is given.
    pub goal: Formula,
    /// Each must be at most zero.
    pub limits: Vec<Formula>,
    /// Values of other columns.
    pub given: IndexMap<String, f64>,
}

/// The best sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimum {
    /// Parameters.
    pub params: Estimate,
    /// Tokens.
    pub tokens: Estimate,
    /// Tokens per parameter.
    pub ratio: Estimate,
    /// The loss there.
    pub loss: Estimate,
    /// The goal there.
    pub goal: Estimate,
}

/// The two sizes, as columns are named.
const SIZES: [&str; 2] = ["params", "tokens"];
/// Sizes are looked for between 1 and 1e24.
const MOST: f64 = 55.3;

impl Ask {
    /// The least loss for so many FLOPs, 6 for each parameter and token.
    pub fn compute(flops: f64) -> Self {
        let limit = formula(&["params", "tokens"], |e| {
            let product = e.push(Inst::Binary(BinOp::Mul, 0, 1));
            let six = e.push(Inst::Const(Literal::new(6.0 / flops)));
            let share = e.push(Inst::Binary(BinOp::Mul, six, product));
            e.push(Inst::Unary(UnOp::Log, share))
        });
        let goal = Formula { columns: vec!["loss".into()], expr: Expr::arg(0) };
        Self { goal, limits: vec![limit], given: IndexMap::new() }
    }

    /// The least cost of training and of `inferred` tokens of use (6 N D + 2 N D_inf) for a loss.
    pub fn inference(inferred: f64, loss: f64) -> Self {
        let goal = formula(&["params", "tokens"], |e| {
            let six = e.push(Inst::Const(Literal::new(6.0)));
            let trained = e.push(Inst::Binary(BinOp::Mul, six, 1));
            let used = e.push(Inst::Const(Literal::new(2.0 * inferred)));
            let both = e.push(Inst::Binary(BinOp::Add, trained, used));
            e.push(Inst::Binary(BinOp::Mul, 0, both))
        });
        let limit = formula(&["loss"], |e| {
            let most = e.push(Inst::Const(Literal::new(loss)));
            e.push(Inst::Binary(BinOp::Sub, 0, most))
        });
        Self { goal, limits: vec![limit], given: IndexMap::new() }
    }
}

fn formula(columns: &[&str], f: impl FnOnce(&mut Expr) -> u32) -> Formula {
    let mut expr = Expr { insts: Vec::new(), result: 0 };
    (0..columns.len()).for_each(|i| expr.insts.push(Inst::Arg(i as u32)));
    expr.result = f(&mut expr);
    Formula { columns: columns.iter().map(|c| (*c).to_owned()).collect(), expr }
}

/// The best sizes, with intervals if the fit has resamplings.
pub fn optimum(fitted: &Fitted, ask: &Ask) -> Result<Optimum, FitProblem> {
    let best = solve(&fitted.law, &fitted.constants(), ask)?;
    let draws: Vec<[f64; 4]> = fitted
        .draws
        .par_iter()
        .filter_map(|c| {
            let s = Search::new(&fitted.law, c, ask).ok()?;
            // Resamplings are near: the search stays within a factor of 3,000.
            s.within(best[0].ln() - 8.0, best[0].ln() + 8.0, 12).ok()
        })
        .collect();
    let of = |f: &dyn Fn(&[f64; 4]) -> f64| {
        Estimate::of(f(&best), &draws.iter().map(f).collect::<Vec<f64>>(), fitted)
    };
    Ok(Optimum {
        params: of(&|o| o[0]),
        tokens: of(&|o| o[1]),
        ratio: of(&|o| o[1] / o[0]),
        loss: of(&|o| o[2]).of_a_run(fitted),
        goal: of(&|o| o[3]),
    })
}

/// Parameters, tokens, loss and goal for given constants.
pub fn solve(law: &Law, constants: &[f64], ask: &Ask) -> Result<[f64; 4], FitProblem> {
    Search::new(law, constants, ask)?.within(0.0, MOST, 64)
}

/// An expression with its slopes by some of its arguments.
struct Sloped {
    value: Expr,
    slopes: Vec<Expr>,
    /// For each argument: which of params, tokens, loss it is, or a number.
    args: Vec<Source>,
}

#[derive(Clone, Copy)]
enum Source {
    Size(usize),
    Loss,
    Number(f64),
}

struct Search {
    loss: Sloped,
    goal: Sloped,
    limits: Vec<Sloped>,
    /// A limit reads the loss.
    loss_limited: bool,
}

impl Sloped {
    fn new(value: &Expr, args: Vec<Source>) -> Self {
        let slopes = (0..args.len() as u32).map(|i| scalar_grad::d(value, i)).collect();
        Self { value: value.clone(), slopes, args }
    }

    /// At ln params, ln tokens: value and its slopes by those two.
    fn at(&self, x: [f64; 2], loss: [f64; 3]) -> [f64; 3] {
        let size = [x[0].exp(), x[1].exp()];
        let arg = |i: u32| match self.args[i as usize] {
            Source::Size(s) => size[s],
            Source::Loss => loss[0],
            Source::Number(v) => v,
        };
        let eval = |e: &Expr| e.eval(&arg, &|_| f64::NAN, &|_| f64::NAN);
        let mut out = [eval(&self.value), 0.0, 0.0];
        for (slope, from) in self.slopes.iter().zip(&self.args) {
            if scalar_grad::is_zero(slope) {
                continue;
            }
            match from {
                Source::Size(s) => out[1 + s] += eval(slope) * size[*s],
                Source::Loss => {
                    let by = eval(slope);
                    out[1] += by * loss[1];
                    out[2] += by * loss[2];
                }
                Source::Number(_) => {}
            }
        }
        out
    }

    fn value(&self, x: [f64; 2], loss: f64) -> f64 {
        let arg = |i: u32| match self.args[i as usize] {
            Source::Size(s) => x[s].exp(),
            Source::Loss => loss,
            Source::Number(v) => v,
        };
        self.value.eval(&arg, &|_| f64::NAN, &|_| f64::NAN)
    }
}

impl Search {
    fn new(law: &Law, constants: &[f64], ask: &Ask) -> Result<Self, FitProblem> {
        let source = |name: &str| -> Option<Source> {
            if let Some(i) = SIZES.iter().position(|s| *s == name) {
                return Some(Source::Size(i));
            }
            ask.given.get(name).map(|v| Source::Number(*v))
        };
        let k = constants.len() as u32;
        let mut args: Vec<Source> = constants.iter().map(|c| Source::Number(*c)).collect();
        for (i, c) in law.columns.iter().enumerate() {
            let read = law.formula.insts.contains(&Inst::Arg(k + i as u32));
            args.push(match source(c) {
                Some(s) => s,
                None if !read => Source::Number(f64::NAN),
                None => return Err(unknown(c, ask)),
            });
        }
        let loss = Sloped::new(&law.formula, args);
        let written = |f: &Formula| -> Result<Sloped, FitProblem> {
            let mut args = Vec::new();
            for c in &f.columns {
                let is_loss = matches!(c.as_str(), "loss" | "valid_loss");
                let s = source(c).or(is_loss.then_some(Source::Loss));
                args.push(s.ok_or_else(|| unknown(c, ask))?);
            }
            Ok(Sloped::new(&f.expr, args))
        };
        let limits: Result<Vec<Sloped>, FitProblem> = ask.limits.iter().map(&written).collect();
        let limits = limits?;
        let loss_limited = limits.iter().flat_map(|l| &l.args).any(|a| matches!(a, Source::Loss));
        Ok(Self { loss, goal: written(&ask.goal)?, limits, loss_limited })
    }

    fn loss(&self, x: [f64; 2]) -> f64 {
        self.loss.value(x, f64::NAN)
    }

    /// The largest of the limits, and which.
    fn limit(&self, x: [f64; 2]) -> (f64, usize) {
        let loss = if self.loss_limited { self.loss(x) } else { f64::NAN };
        let mut worst = (f64::NEG_INFINITY, 0);
        for (i, l) in self.limits.iter().enumerate() {
            let v = l.value(x, loss);
            if v > worst.0 || v.is_nan() {
                worst = (if v.is_nan() { f64::INFINITY } else { v }, i);
            }
        }
        worst
    }

    /// For ln params: the better end of the tokens within the limits, with the limit that holds there.
    fn tokens(&self, n: f64) -> Option<(f64, Option<usize>)> {
        const STEPS: usize = 40;
        let at = |i: usize| MOST * i as f64 / STEPS as f64;
        let inside: Vec<bool> = (0..=STEPS).map(|i| self.limit([n, at(i)]).0 <= 0.0).collect();
        let first = inside.iter().position(|i| *i)?;
        let last = inside.iter().rposition(|i| *i)?;
        let edge = |mut good: f64, mut bad: f64| {
            for _ in 0..60 {
                let half = 0.5 * (good + bad);
                if self.limit([n, half]).0 <= 0.0 {
                    good = half;
                } else {
                    bad = half;
                }
            }
            (good, Some(self.limit([n, bad]).1))
        };
        let low = if first == 0 { (at(0), None) } else { edge(at(first), at(first - 1)) };
        let high = if last == STEPS { (at(STEPS), None) } else { edge(at(last), at(last + 1)) };
        let goal = |d: f64| self.goal.value([n, d], self.loss([n, d]));
        Some(if goal(low.0) <= goal(high.0) { low } else { high })
    }

    /// The slope of the goal along the curve, by ln params.
    fn slope(&self, n: f64) -> Option<f64> {
        let (d, holds) = self.tokens(n)?;
        let x = [n, d];
        let loss = self.loss.at(x, [f64::NAN; 3]);
        let goal = self.goal.at(x, loss);
        let Some(i) = holds else { return Some(goal[1]) };
        let limit = self.limits[i].at(x, loss);
        let turn = -limit[1] / limit[2];
        Some(goal[1] + goal[2] * turn)
    }

    fn goal_at(&self, n: f64) -> f64 {
        match self.tokens(n) {
            Some((d, _)) => self.goal.value([n, d], self.loss([n, d])),
            None => f64::INFINITY,
        }
    }

    fn within(&self, low: f64, high: f64, steps: usize) -> Result<[f64; 4], FitProblem> {
        let at = |i: usize| low + (high - low) * i as f64 / steps as f64;
        let goals: Vec<f64> = (0..=steps).map(|i| self.goal_at(at(i))).collect();
        let best = (0..=steps).min_by(|a, b| goals[*a].total_cmp(&goals[*b])).unwrap_or(0);
        if !goals[best].is_finite() {
            let why = "no sizes keep within what is asked: the law never comes below the limit, or the limit leaves nothing".to_owned();
            return Err(FitProblem::NoOptimum { why });
        }
        let (mut a, mut b) = (at(best.saturating_sub(1)), at((best + 1).min(steps)));
        for _ in 0..80 {
            let half = 0.5 * (a + b);
            match self.slope(half) {
                Some(s) if s < 0.0 => a = half,
                Some(_) => b = half,
                // Outside of the limits on one side: towards the best place known.
                None if half < at(best) => a = half,
                None => b = half,
            }
        }
        let mut n = 0.5 * (a + b);
        if !(self.goal_at(n) <= goals[best]) {
            n = at(best);
        }
        let Some((d, _)) = self.tokens(n) else {
            return Err(FitProblem::NoOptimum { why: "no sizes keep within what is asked".into() });
        };
        let loss = self.loss([n, d]);
        Ok([n.exp(), d.exp(), loss, self.goal.value([n, d], loss)])
    }
}

fn unknown(column: &str, ask: &Ask) -> FitProblem {
    let known = SIZES.iter().map(|s| (*s).to_owned()).chain(ask.given.keys().cloned());
    FitProblem::NoColumn { column: column.to_owned(), known: known.collect() }
}
