//! Results that take the place of what they were computed from.
//!
//! Takes a plan whose arena buffers have no place yet; gives one in which a fused loop writes its result over an operand that nobody
//! needs afterwards, if it reads each element only before it replaces it. Buffers that nothing uses any more are gone.

use std::collections::BTreeMap;

use super::memory::{Life, Lives, lifetimes};
use super::{Launch, Place, Plan, Step, View};
use crate::kernel::{Access, Effect, Inst, Kernel, Loop};

/// See the module. `scopes`: per buffer, the loops in whose iterations it lives.
pub fn share(plan: &mut Plan, scopes: &mut Vec<Vec<u32>>) {
    let Lives { mut lives, launches } = lifetimes(&plan.steps, scopes);
    let mut place_of: BTreeMap<u32, u32> = BTreeMap::new();
    for (clock, launch) in &launches {
        let Kernel::Loop(kernel) = &plan.kernels[launch.kernel as usize] else { continue };
        let mut taken: Vec<u32> = Vec::new();
        for (w, written) in stores(kernel) {
            let pairs = launch.views.iter().enumerate();
            let found = pairs.map(|(r, _)| r).find(|r| {
                let fits = Fit { plan, scopes, place_of: &place_of, lives: &lives, kernel, launch };
                fits.takes_over(written as usize, w, *r, *clock)
                    && !taken.contains(&root(&place_of, launch.views[*r].buffer))
            });
            if let Some(r) = found {
                let to = root(&place_of, launch.views[r].buffer);
                let from = launch.views[written as usize].buffer;
                place_of.insert(from, to);
                let end = lives.get(&(from as usize)).map_or(*clock, |l| l.1);
                if let Some(life) = lives.get_mut(&(to as usize)) {
                    life.1 = life.1.max(end);
                }
                taken.push(to);
            }
        }
    }
    each_view(&mut plan.steps, &mut |v| v.buffer = root(&place_of, v.buffer));
    compact(plan, scopes);
}

fn root(place_of: &BTreeMap<u32, u32>, mut buffer: u32) -> u32 {
    while let Some(to) = place_of.get(&buffer) {
        buffer = *to;
    }
    buffer
}

// Stage and operand of every store.
fn stores(kernel: &Loop) -> Vec<(usize, u32)> {
    let mut all = Vec::new();
    for (s, stage) in kernel.stages.iter().enumerate() {
        for effect in &stage.effects {
            if let Effect::Store { operand, .. } = effect {
                all.push((s, *operand));
            }
        }
    }
    all
}

struct Fit<'a> {
    plan: &'a Plan,
    scopes: &'a [Vec<u32>],
    place_of: &'a BTreeMap<u32, u32>,
    lives: &'a BTreeMap<usize, Life>,
    kernel: &'a Loop,
    launch: &'a Launch,
}

impl Fit<'_> {
    // Whether operand `w`, stored in a stage, may take the memory of operand `r`.
    fn takes_over(&self, w: usize, stage: usize, r: usize, clock: usize) -> bool {
        let (a, b) = (&self.kernel.operands[r], &self.kernel.operands[w]);
        let (va, vb) = (&self.launch.views[r], &self.launch.views[w]);
        let (from, to) = (vb.buffer, root(self.place_of, va.buffer));
        let whole = |v: &View| v.offset == 0 && v.advances.is_empty();
        let arena = |b: u32| matches!(self.plan.buffers[b as usize].place, Place::Arena { .. });
        let bytes = |b: u32| self.plan.buffers[b as usize].bytes;
        let same = a.access == Access::Read
            && a.strides == b.strides
            && a.offset == b.offset
            && a.dynamic.is_none()
            && b.dynamic.is_none()
            && a.dtype == b.dtype;
        let others = self.launch.views.iter().enumerate();
        let alone = others.filter(|(i, v)| *i != r && root(self.place_of, v.buffer) == to);
        let life = |b: u32| self.lives.get(&(b as usize));
        from != to
            && same
            && whole(va)
            && whole(vb)
            && arena(from)
            && arena(to)
            && !self.place_of.contains_key(&from)
            && bytes(to) >= bytes(from)
            && self.scopes[from as usize] == self.scopes[to as usize]
            && life(from).is_some_and(|l| l.0 == clock)
            && life(to).is_some_and(|l| l.1 == clock)
            && alone.count() == 0
            && self.read_before(r as u32, stage)
    }

    // Whether every load of the operand is direct and in no later stage.
    fn read_before(&self, operand: u32, stage: usize) -> bool {
        let stages = self.kernel.stages.iter().enumerate();
        stages.flat_map(|(s, stage)| stage.insts.iter().map(move |i| (s, i))).all(
            |(s, i)| match i {
                Inst::Load { operand: o, indirect, .. } if *o == operand => {
                    s <= stage && indirect.is_empty()
                }
                _other => true,
            },
        )
    }
}

fn each_view(steps: &mut [Step], f: &mut impl FnMut(&mut View)) {
    for step in steps {
        match step {
            Step::Launch(l) => l.views.iter_mut().for_each(&mut *f),
            Step::Copy { from, to, .. } => {
                f(from);
                f(to);
            }
            Step::Zero { view, .. } => f(view),
            Step::Loop { body, .. } => each_view(body, f),
        }
    }
}

// Drops arena buffers that no step names.
fn compact(plan: &mut Plan, scopes: &mut Vec<Vec<u32>>) {
    let mut used = vec![false; plan.buffers.len()];
    each_view(&mut plan.steps, &mut |v| used[v.buffer as usize] = true);
    for (b, used) in plan.buffers.iter().zip(&mut used) {
        *used |= matches!(b.place, Place::External { .. });
    }
    let mut to = Vec::new();
    let mut next = 0;
    for used in &used {
        to.push(next);
        next += u32::from(*used);
    }
    each_view(&mut plan.steps, &mut |v| v.buffer = to[v.buffer as usize]);
    let mut keep = used.iter();
    plan.buffers.retain(|_| keep.next().copied().unwrap_or(true));
    let mut keep = used.iter();
    scopes.retain(|_| keep.next().copied().unwrap_or(true));
}
