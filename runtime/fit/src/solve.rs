//! Minimisation within ranges.
//!
//! [`minimise`] is a projected quasi-Newton method (BFGS on the coordinates that are not held at an end of their range; Bertsekas 1982) with
//! the weak Wolfe line search by bisection of Lewis and Overton 2013, which also works where the objective is nearly a sum of
//! absolute values. Each start has its own end: a line search that fails ends it and nothing else. [`polish`] goes on from the best
//! one with argmin's L-BFGS, and with its Nelder-Mead where that brings nothing.

use argmin::core::{CostFunction, Error, Executor, Gradient, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::neldermead::NelderMead;
use argmin::solver::quasinewton::LBFGS;

use rayon::prelude::*;

use crate::objective::{Objective, Resample, Work};

/// Where a search ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct End {
    /// Coordinates.
    pub(crate) x: Vec<f64>,
    /// The scaled objective there; infinite if no place was finite.
    pub(crate) value: f64,
    /// Its gradient.
    pub(crate) gradient: Vec<f64>,
    /// How often the objective was computed.
    pub(crate) evaluations: usize,
    /// The inverse of the curvature, as far as the search has learned it.
    pub(crate) inverse: Option<Vec<f64>>,
}

/// When a search has arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    /// The objective fell by less than this share of itself,
    pub(crate) change: f64,
    /// so many times in turn.
    pub(crate) times: usize,
    /// The largest entry of the gradient, where it can still fall.
    pub(crate) gradient: f64,
    /// Steps at most.
    pub(crate) steps: usize,
}

impl Stop {
    /// For one of thousands of starts: what is a step of 1e-6 from the least value is polished afterwards.
    pub(crate) const SEARCH: Self = Self { change: 2e-6, times: 1, gradient: 1e-6, steps: 500 };
    /// For one of few starts.
    pub(crate) const CAREFUL: Self = Self { change: 1e-9, times: 2, gradient: 1e-9, steps: 500 };
    /// For the last digits.
    pub(crate) const TIGHT: Self = Self { change: 1e-15, times: 2, gradient: 1e-13, steps: 2000 };
}

/// Searches from a place.
pub(crate) fn minimise(o: &Objective, start: &[f64], stop: &Stop) -> End {
    minimise_on(o, None, start, stop, None, &mut Work::default())
}

/// Searches from many places: on a sample of the rows first, if there is one; those that end near the best there go on with all rows, the others
/// are left where they came to. In the order of the places, on all cores.
pub(crate) fn from_all(
    o: &Objective,
    sample: Option<&Resample>,
    starts: &[Vec<f64>],
    stop: &Stop,
) -> Vec<End> {
    let on = |on: Option<&Resample>, from: &[f64], inverse: Option<&[f64]>, work: &mut Work| {
        minimise_on(o, on, from, stop, inverse, work)
    };
    let Some(sample) = sample else {
        let search = |work: &mut Work, x: &Vec<f64>| on(None, x, None, work);
        return starts.par_iter().map_init(Work::default, search).collect();
    };
    let search = |work: &mut Work, x: &Vec<f64>| on(Some(sample), x, None, work);
    let near: Vec<End> = starts.par_iter().map_init(Work::default, search).collect();
    let best = near.iter().map(|e| e.value).fold(f64::INFINITY, f64::min);
    let go_on = |work: &mut Work, near: &End| {
        let mut end = if near.value <= NEAR * best {
            on(None, &near.x, near.inverse.as_deref(), work)
        } else {
            let mut gradient = vec![0.0; o.dim()];
            let value = o.at(&near.x, &mut gradient, work);
            let value = if value.is_finite() { value } else { f64::INFINITY };
            End { x: near.x.clone(), value, gradient, evaluations: 1, inverse: None }
        };
        end.evaluations += near.evaluations;
        end
    };
    near.par_iter().map_init(Work::default, go_on).collect()
}

/// A start goes on if its objective on the sample is within this factor of the best: samples and all rows differ by less.
const NEAR: f64 = 1.5;

/// The same on a resample, with what is known of the inverse curvature.
pub(crate) fn minimise_on(
    o: &Objective,
    on: Option<&Resample>,
    start: &[f64],
    stop: &Stop,
    inverse: Option<&[f64]>,
    work: &mut Work,
) -> End {
    let n = o.dim();
    let project = |x: &mut [f64]| {
        x.iter_mut().zip(&o.bounds).for_each(|(x, (low, high))| *x = x.clamp(*low, *high));
    };
    let mut x = start.to_vec();
    project(&mut x);
    let mut g = vec![0.0; n];
    let mut f = o.weighted(&x, &mut g, work, on);
    let mut evaluations = 1;
    let finite = |f: f64, g: &[f64]| f.is_finite() && g.iter().all(|v| v.is_finite());
    if !finite(f, &g) {
        return End { x, value: f64::INFINITY, gradient: g, evaluations, inverse: None };
    }
    let mut h = Inverse::new(n);
    if let Some(known) = inverse {
        h.h.copy_from_slice(known);
        h.fresh = false;
    }
    let (mut trial, mut slope) = (vec![0.0; n], vec![0.0; n]);
    let mut d = vec![0.0; n];
    let mut small = 0;
    for _ in 0..stop.steps {
        // Held: at an end of the range, with the gradient pushing outwards.
        let held: Vec<bool> = (0..n)
            .map(|i| {
                let (low, high) = o.bounds[i];
                (x[i] <= low && g[i] > 0.0) || (x[i] >= high && g[i] < 0.0)
            })
            .collect();
        let steepest = (0..n).filter(|i| !held[*i]).map(|i| g[i].abs()).fold(0.0, f64::max);
        if steepest <= stop.gradient {
            break;
        }
        h.direction(&g, &held, &mut d);
        let mut down: f64 = d.iter().zip(&g).map(|(d, g)| d * g).sum();
        if !(down < 0.0) {
            h.reset();
            h.direction(&g, &held, &mut d);
            down = d.iter().zip(&g).map(|(d, g)| d * g).sum();
        }
        let length = d.iter().map(|v| v.abs()).fold(0.0, f64::max);
        // The first step has no scale yet; none goes farther than e^8 in a scale.
        let mut step: f64 = if h.fresh { (0.3 / length).min(1.0) } else { (8.0 / length).min(1.0) };
        let (mut low, mut high) = (0.0, f64::INFINITY);
        let mut accepted = false;
        let mut value = f;
        for _ in 0..40 {
            for i in 0..n {
                trial[i] = x[i] + step * d[i];
            }
            project(&mut trial);
            value = o.weighted(&trial, &mut slope, work, on);
            evaluations += 1;
            // Along the projected path: what the step really moved.
            let moved: f64 = (0..n).map(|i| g[i] * (trial[i] - x[i])).sum();
            let onward: f64 = (0..n).map(|i| slope[i] * d[i]).sum();
            if !finite(value, &slope) || value > f + 1e-4 * moved {
                high = step;
            } else {
                accepted = true;
                let clipped = (0..n).any(|i| trial[i] != x[i] + step * d[i]);
                let on = h.fresh && step * length < 8.0;
                if onward < 0.9 * down && !clipped && high.is_infinite() && on {
                    low = step;
                } else if onward < 0.9 * down && !clipped && high.is_finite() {
                    low = step;
                    if high - low < 1e-3 * high {
                        break;
                    }
                } else {
                    break;
                }
            }
            step = if high.is_finite() {
                if accepted {
                    0.5 * (low + high)
                } else {
                    // The minimum of the parabola through value, slope and the new value, kept within a tenth and a half.
                    let best = -down * step * step / (2.0 * (value - f - down * step));
                    let best = if best.is_finite() { best } else { 0.1 * step };
                    best.clamp(0.1 * step, 0.5 * step)
                }
            } else {
                2.0 * low
            };
        }
        if !accepted || !finite(value, &slope) || value > f {
            if h.fresh {
                break;
            }
            h.reset();
            continue;
        }
        let fell = f - value;
        h.update(&x, &trial, &g, &slope, &held);
        x.copy_from_slice(&trial);
        g.copy_from_slice(&slope);
        f = value;
        small = if fell <= stop.change * f.abs().max(1e-30) { small + 1 } else { 0 };
        if small >= stop.times || f == 0.0 {
            break;
        }
    }
    let inverse = (!h.fresh).then_some(h.h);
    End { x, value: f, gradient: g, evaluations, inverse }
}

/// The inverse of the curvature as BFGS knows it.
struct Inverse {
    n: usize,
    h: Vec<f64>,
    /// Nothing is known yet.
    fresh: bool,
    s: Vec<f64>,
    y: Vec<f64>,
    hy: Vec<f64>,
}

impl Inverse {
    fn new(n: usize) -> Self {
        let mut new = Self {
            n,
            h: vec![0.0; n * n],
            fresh: true,
            s: vec![0.0; n],
            y: vec![0.0; n],
            hy: vec![0.0; n],
        };
        new.reset();
        new
    }

    fn reset(&mut self) {
        self.h.fill(0.0);
        (0..self.n).for_each(|i| self.h[i * self.n + i] = 1.0);
        self.fresh = true;
    }

    /// -H g on what is free.
    fn direction(&self, g: &[f64], held: &[bool], d: &mut [f64]) {
        for i in 0..self.n {
            d[i] = 0.0;
            if held[i] {
                continue;
            }
            for j in 0..self.n {
                if !held[j] {
                    d[i] -= self.h[i * self.n + j] * g[j];
                }
            }
        }
    }

    fn update(&mut self, x: &[f64], to: &[f64], g: &[f64], slope: &[f64], held: &[bool]) {
        let n = self.n;
        for i in 0..n {
            self.s[i] = to[i] - x[i];
            self.y[i] = if held[i] { 0.0 } else { slope[i] - g[i] };
        }
        let sy: f64 = (0..n).map(|i| self.s[i] * self.y[i]).sum();
        let yy: f64 = (0..n).map(|i| self.y[i] * self.y[i]).sum();
        if !(sy > 1e-14 * yy.max(f64::MIN_POSITIVE)) || !sy.is_finite() {
            return;
        }
        if self.fresh {
            (0..n).for_each(|i| self.h[i * n + i] = sy / yy);
            self.fresh = false;
        }
        for i in 0..n {
            self.hy[i] = (0..n).map(|j| self.h[i * n + j] * self.y[j]).sum();
        }
        let yhy: f64 = (0..n).map(|i| self.y[i] * self.hy[i]).sum();
        let c = (1.0 + yhy / sy) / sy;
        for i in 0..n {
            for j in 0..n {
                self.h[i * n + j] += c * self.s[i] * self.s[j]
                    - (self.hy[i] * self.s[j] + self.s[i] * self.hy[j]) / sy;
            }
        }
    }
}

/// Goes on from a good place to the last digits: our own search, argmin's L-BFGS, and our own again from what that found; if none of them brings
/// the gradient down, Nelder-Mead, which asks for none. The best place wins.
pub(crate) fn polish(o: &Objective, from: &End) -> End {
    let mut best = better(from.clone(), minimise(o, &from.x, &Stop::TIGHT));
    for _ in 0..3 {
        let next = better(best.clone(), minimise(o, &best.x, &Stop::TIGHT));
        let fell = best.value - next.value;
        best = next;
        if fell <= 1e-15 * best.value {
            break;
        }
    }
    if let Some(x) = lbfgs(o, &best) {
        best = better(best.clone(), minimise(o, &x, &Stop::TIGHT));
    }
    let free = |e: &End| {
        let inner = |i: &usize| e.x[*i] > o.bounds[*i].0 && e.x[*i] < o.bounds[*i].1;
        (0..o.dim()).filter(inner).map(|i| e.gradient[i].abs()).fold(0.0, f64::max)
    };
    if free(&best) > 1e-5
        && let Some(x) = nelder_mead(o, &best)
    {
        best = better(best.clone(), minimise(o, &x, &Stop::TIGHT));
    }
    best
}

fn better(a: End, b: End) -> End {
    if b.value < a.value { b } else { a }
}

/// The objective as argmin sees it: infinite outside of the ranges.
struct Outside<'a> {
    o: &'a Objective,
}

impl Outside<'_> {
    fn both(&self, x: &[f64]) -> (f64, Vec<f64>) {
        let mut g = vec![0.0; x.len()];
        let inside = x.iter().zip(&self.o.bounds).all(|(x, (low, high))| x >= low && x <= high);
        if !inside {
            return (f64::INFINITY, g);
        }
        let f = self.o.at(x, &mut g, &mut Work::default());
        (f, g)
    }
}

impl CostFunction for Outside<'_> {
    type Param = Vec<f64>;
    type Output = f64;
    fn cost(&self, x: &Vec<f64>) -> Result<f64, Error> {
        Ok(self.both(x).0)
    }
}

impl Gradient for Outside<'_> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;
    fn gradient(&self, x: &Vec<f64>) -> Result<Vec<f64>, Error> {
        Ok(self.both(x).1)
    }
}

// argmin's line search gives an error on plateaus; then this way ends and what was found before stays.
fn lbfgs(o: &Objective, from: &End) -> Option<Vec<f64>> {
    let search = MoreThuenteLineSearch::new();
    // Its own tests are absolute; the objective is scaled to about one, so these are below what f64 resolves.
    let solver = LBFGS::new(search, 10)
        .with_tolerance_grad(1e-14)
        .and_then(|s| s.with_tolerance_cost(1e-16))
        .ok()?;
    let run = Executor::new(Outside { o }, solver)
        .configure(|s| s.param(from.x.clone()).max_iters(200))
        .run()
        .ok()?;
    run.state.get_best_param().cloned()
}

fn nelder_mead(o: &Objective, from: &End) -> Option<Vec<f64>> {
    let mut simplex = vec![from.x.clone()];
    for i in 0..o.dim() {
        let mut x = from.x.clone();
        let (low, high) = o.bounds[i];
        let step = 1e-3 * (1.0 + x[i].abs());
        x[i] = if x[i] + step <= high { x[i] + step } else { (x[i] - step).max(low) };
        simplex.push(x);
    }
    let solver = NelderMead::new(simplex).with_sd_tolerance(1e-15).ok()?;
    let run = Executor::new(Outside { o }, solver).configure(|s| s.max_iters(2000)).run().ok()?;
    run.state.get_best_param().cloned()
}
