//! Successive halving: points run a little, the worse part of them is stopped, the others go on.
//!
//! Takes where points are compared and which share of them goes on (Jamieson & Talwalkar, "Non-stochastic best arm identification and
//! hyperparameter optimization", 2016, figure 1); gives the step at which a run is compared, how many go on, and the most that all
//! of it can cost. A rung is a number of model FLOPs of one run; the schedules of the runs know nothing of it: their horizon is the whole budget.

use serde::{Deserialize, Serialize};

use crate::check::hir::TrainSpec;

/// `halving(keep = 1 / 3, rungs = [1e15, 3e15] FLOPs)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Halving {
    /// The share of the points that goes on after a rung.
    pub keep: f64,
    /// Model FLOPs of a run at which it is compared with the others, growing.
    pub rungs: Vec<f64>,
}

/// A stretch of the way: to a rung, or from the last one to the ends of the budgets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// How many points are on it.
    pub points: usize,
    /// The most that they cost there together.
    pub cost: f64,
}

impl Halving {
    /// The step after which a run is compared at a rung: the last one within the rung's FLOPs, at least the first. `None`: its budget ends
    /// there or before, so it is compared as it ended; or its end is not known.
    pub fn step(&self, rung: usize, run: &TrainSpec) -> Option<u64> {
        let within = (self.rungs.get(rung)? / run.step_flops).floor().max(1.0) as u64;
        (within < run.steps?).then_some(within)
    }

    /// How many of `points` go on: a whole number of them, at least one.
    pub fn kept(&self, points: usize) -> usize {
        // A third of nine is three, whatever 1 / 3 is as a float.
        let share = (points as f64 * self.keep + 1e-9).floor() as usize;
        share.clamp(1.min(points), points)
    }

    /// The stretches of a bracket of points and the most that each costs. A point is given with the cost of its whole run. Which
    /// points go on is not known before, so each stretch is taken to be gone by those to which it is dearest.
    pub fn stretches(&self, points: &[(&TrainSpec, f64)]) -> Vec<Stretch> {
        let mut left = points.len();
        let mut all = Vec::new();
        for to in 0..=self.rungs.len() {
            let mut costs: Vec<f64> = points
                .iter()
                .map(|(run, whole)| whole * (self.share(to, run) - self.before(to, run)))
                .collect();
            costs.sort_by(|a, b| b.total_cmp(a));
            all.push(Stretch { points: left, cost: costs.iter().take(left).sum() });
            left = self.kept(left);
        }
        all
    }

    /// The share of a run that is done at a rung.
    fn share(&self, rung: usize, run: &TrainSpec) -> f64 {
        match (self.step(rung, run), run.steps) {
            (Some(step), Some(steps)) => step as f64 / steps.max(1) as f64,
            (None, _) | (_, None) => 1.0,
        }
    }

    fn before(&self, rung: usize, run: &TrainSpec) -> f64 {
        rung.checked_sub(1).map_or(0.0, |before| self.share(before, run))
    }
}

/// Which of the points go on: the `kept` with the least measure, in their order. What has no measure, or none that is a number, never
/// does. Of equal ones the earlier goes on.
pub fn survivors(measures: &[(usize, Option<f64>)], kept: usize) -> Vec<usize> {
    let mut ranked: Vec<(usize, f64)> = measures
        .iter()
        .filter_map(|(at, measure)| Some((*at, measure.filter(|m| !m.is_nan())?)))
        .collect();
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    let mut best: Vec<usize> = ranked.into_iter().take(kept).map(|(at, _)| at).collect();
    best.sort_unstable();
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::hir::{Budget, DataSpec, Every, Execution, Source};

    fn run(step_flops: f64, steps: u64) -> TrainSpec {
        TrainSpec {
            data: DataSpec { source: Source::Stories { count: 1, seed: 0 }, stages: Vec::new() },
            seq: 8,
            batch_tokens: 8,
            budget: Budget::Steps(steps as f64),
            seed: 0,
            compute: "f32".into(),
            step_flops,
            params: 1,
            most_tokens: None,
            steps: Some(steps),
            init: None,
            stop: None,
            execution: Execution {
                limit_seconds: None,
                micro_rows: None,
                eval: None,
                sample: None,
                save_every: Every::Never,
                keep: 1,
                ask: false,
                remat: "auto".into(),
            },
        }
    }

    fn third(rungs: &[f64]) -> Halving {
        Halving { keep: 1.0 / 3.0, rungs: rungs.to_vec() }
    }

    #[test]
    fn rungs_lie_on_whole_steps_within_them() {
        let h = third(&[5.0, 35.0, 100.0]);
        let r = run(10.0, 10);
        assert_eq!([h.step(0, &r), h.step(1, &r), h.step(2, &r)], [Some(1), Some(3), None]);
        assert_eq!(h.step(1, &TrainSpec { steps: None, ..r }), None);
    }

    #[test]
    fn a_third_of_nine_is_three() {
        let h = third(&[]);
        assert_eq!([0, 1, 2, 9, 40].map(|n| h.kept(n)), [0, 1, 1, 3, 13]);
    }

    #[test]
    fn the_cost_of_equal_points_is_exact() {
        // 9 points to 10, 3 on to 30, 1 to 100: 90 + 60 + 70.
        let (h, r) = (third(&[10.0, 30.0]), run(10.0, 10));
        let all = h.stretches(&[(&r, 100.0); 9]);
        let shown: Vec<(usize, f64)> = all.iter().map(|s| (s.points, s.cost.round())).collect();
        assert_eq!(shown, [(9, 90.0), (3, 60.0), (1, 70.0)]);
    }

    #[test]
    fn whichever_points_go_on_they_cost_no_more() {
        let h = Halving { keep: 0.5, rungs: vec![40.0, 90.0] };
        let runs = [run(10.0, 10), run(20.0, 3), run(5.0, 100), run(40.0, 9)];
        let points: Vec<(&TrainSpec, f64)> =
            runs.iter().map(|r| (r, r.step_flops * r.steps.unwrap_or(0) as f64)).collect();
        let bound: f64 = h.stretches(&points).iter().map(|s| s.cost).sum();
        let at = |point: usize, rung: usize| points[point].1 * h.share(rung, points[point].0);
        for a in 0..4 {
            for b in 0..4 {
                for last in [a, b] {
                    let dropped: f64 =
                        (0..4).filter(|p| *p != a && *p != b).map(|p| at(p, 0)).sum();
                    let pair = if a == b { at(a, 0) } else { at(a, 1) + at(b, 1) };
                    let cost = dropped + pair + at(last, 2) - at(last, 1);
                    assert!(cost <= bound + 1e-9, "{a} {b} {last}: {cost} > {bound}");
                }
            }
        }
    }

    #[test]
    fn ties_go_to_the_earlier_point_and_nothing_never_goes_on() {
        let measures =
            [(0, Some(2.0)), (1, None), (2, Some(1.0)), (3, Some(2.0)), (4, Some(f64::NAN))];
        assert_eq!(survivors(&measures, 2), [0, 2]);
        assert_eq!(survivors(&measures, 5), [0, 2, 3]);
    }
}
