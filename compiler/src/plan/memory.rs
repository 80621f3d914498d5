//! Where each buffer of the arena lies.
//!
//! Takes a plan whose arena buffers have no place yet; gives them offsets such that two buffers share bytes only if they are never
//! needed at the same time. Bigger buffers choose first, each the smallest gap that holds it.
//!
//! *Lifetimes* are intervals of step numbers (a loop's body is numbered once). A buffer that lives anew in every iteration of a loop
//! has the interval of its steps within the body; one that was there before the loop is needed until the loop ends.

use std::collections::BTreeMap;

use super::{Class, Launch, Place, Plan, Step, View};

/// Every offset is a multiple of this.
pub const ALIGNMENT: usize = 64;

/// Fills in offsets, the arena's size, and the table of bytes by class. `scopes`: per buffer, the loops in whose iterations it lives.
pub fn place(plan: &mut Plan, scopes: &[Vec<u32>]) {
    let lives = lifetimes(&plan.steps, scopes).lives;
    let mut order: Vec<usize> = (0..plan.buffers.len())
        .filter(|b| matches!(plan.buffers[*b].place, Place::Arena { .. }))
        .collect();
    order.sort_by_key(|b| (std::cmp::Reverse(plan.buffers[*b].bytes), *b));
    let mut placed: Vec<(usize, usize, usize)> = Vec::new();
    for b in order {
        let size = plan.buffers[b].bytes.next_multiple_of(ALIGNMENT);
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(other, _, _)| overlap(lives.get(other), lives.get(&b)))
            .map(|(_, offset, size)| (*offset, *size))
            .collect();
        taken.sort_unstable();
        let offset = best_gap(&taken, size);
        plan.buffers[b].place = Place::Arena { offset };
        placed.push((b, offset, size));
        plan.arena_bytes = plan.arena_bytes.max(offset + size);
    }
    plan.memory = table(plan, &lives);
}

/// First and last step that needs a buffer.
pub(super) type Life = (usize, usize);

/// What a walk over the steps finds.
pub(super) struct Lives {
    /// Per buffer that is used.
    pub(super) lives: BTreeMap<usize, Life>,
    /// Every launch with its step number.
    pub(super) launches: Vec<(usize, Launch)>,
}

// A buffer that no step touches needs nothing.
fn overlap(a: Option<&Life>, b: Option<&Life>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.0 <= b.1 && b.0 <= a.1,
        (None, _) | (_, None) => false,
    }
}

fn best_gap(taken: &[(usize, usize)], size: usize) -> usize {
    let mut end = 0;
    let mut best: Option<(usize, usize)> = None;
    for (offset, bytes) in taken {
        if *offset >= end + size && best.is_none_or(|(gap, _)| offset - end < gap) {
            best = Some((offset - end, end));
        }
        end = end.max(offset + bytes);
    }
    best.map_or(end, |(_, at)| at)
}

/// When each buffer is needed.
pub(super) fn lifetimes(steps: &[Step], scopes: &[Vec<u32>]) -> Lives {
    let mut walk = Walk { scopes, lives: BTreeMap::new(), launches: Vec::new(), clock: 0 };
    walk.steps(steps, &mut Vec::new());
    Lives { lives: walk.lives, launches: walk.launches }
}

struct Walk<'a> {
    scopes: &'a [Vec<u32>],
    lives: BTreeMap<usize, Life>,
    launches: Vec<(usize, Launch)>,
    clock: usize,
}

impl Walk<'_> {
    fn steps(&mut self, steps: &[Step], path: &mut Vec<u32>) {
        for step in steps {
            self.clock += 1;
            match step {
                Step::Launch(launch) => {
                    launch.views.iter().for_each(|v| self.touch(v, self.clock));
                    self.launches.push((self.clock, launch.clone()));
                }
                Step::Copy { from, to, .. } => {
                    self.touch(from, self.clock);
                    self.touch(to, self.clock);
                }
                Step::Zero { view, .. } => self.touch(view, self.clock),
                Step::Loop { id, body, .. } => {
                    let start = self.clock;
                    path.push(*id);
                    self.steps(body, path);
                    path.pop();
                    self.clock += 1;
                    let end = self.clock;
                    for (b, life) in &mut self.lives {
                        let local = self.scopes[*b].contains(id);
                        let used = life.1 >= start;
                        if used && !local {
                            *life = (life.0.min(start), end);
                        }
                    }
                }
            }
        }
    }

    fn touch(&mut self, view: &View, at: usize) {
        let life = self.lives.entry(view.buffer as usize).or_insert((at, at));
        *life = (life.0.min(at), life.1.max(at));
    }
}

// Arena bytes by class at the step that needs most, and external bytes by class.
fn table(plan: &Plan, lives: &BTreeMap<usize, Life>) -> Vec<(Class, usize)> {
    let sizes = |at: Option<usize>| {
        let mut sum: BTreeMap<Class, usize> = BTreeMap::new();
        for (i, b) in plan.buffers.iter().enumerate() {
            let counts = match (&b.place, at, lives.get(&i)) {
                (Place::External { .. }, None, _) => true,
                (Place::Arena { .. }, Some(at), Some(life)) => life.0 <= at && at <= life.1,
                (Place::External { .. }, Some(_), _) | (Place::Arena { .. }, _, _) => false,
            };
            if counts {
                *sum.entry(b.class).or_insert(0) += b.bytes;
            }
        }
        sum
    };
    let mut all = sizes(None);
    let starts: Vec<usize> = lives.values().map(|l| l.0).collect();
    let total = |at: usize| sizes(Some(at)).values().sum::<usize>();
    if let Some(peak) = starts.into_iter().max_by_key(|at| (total(*at), std::cmp::Reverse(*at))) {
        for (class, bytes) in sizes(Some(peak)) {
            *all.entry(class).or_insert(0) += bytes;
        }
    }
    all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_gap_wins() {
        assert_eq!(best_gap(&[], 64), 0);
        assert_eq!(best_gap(&[(0, 64), (256, 64), (384, 64)], 64), 320);
        assert_eq!(best_gap(&[(0, 64), (256, 64)], 256), 320);
    }
}
