//! Laws of a plan.
//!
//! 1. Numbers of buffers, kernels and host scalars exist; a host scalar reads only earlier ones.
//! 2. A launch gives one view per operand and one host scalar per parameter.
//! 3. Every view stays inside its buffer for every loop counter and every iteration of its kernel; guarded and indirect loads, and
//!    operands at a position known at run time, are exempt from the upper end that their guard or caller proves.
//! 4. A kernel's written operand overlaps another operand only where both touch the same element at every iteration.
//! 5. Arena buffers lie inside the arena, aligned; every read of one follows a write.
//! 6. Advances name loops around the step.
//! 7. Every kernel obeys its own laws: see [`kernel::verify`](crate::kernel::verify).

use std::collections::{BTreeMap, BTreeSet};

use super::memory::ALIGNMENT;
use super::{Launch, Place, Plan, Step, View};
use crate::bug::Bug;
use crate::kernel::{self, Access, Inst, Kernel, Operand};
use crate::scalar;

/// Checks the laws.
pub fn verify(plan: &Plan) -> Result<(), Bug> {
    let check = |ok: bool, message: &dyn Fn() -> String| {
        if ok { Ok(()) } else { Err(Bug::new("plan", message(), super::print::print(plan))) }
    };
    for (i, e) in plan.host.iter().enumerate() {
        let earlier = e.insts.iter().all(|inst| match inst {
            scalar::Inst::Arg(a) => (*a as usize) < i,
            _leaf => true,
        });
        check(earlier, &|| format!("host scalar {i} reads a later one"))?;
    }
    for (i, b) in plan.buffers.iter().enumerate() {
        if let Place::Arena { offset } = b.place {
            let fits = offset % ALIGNMENT == 0 && offset + b.bytes <= plan.arena_bytes;
            check(fits || !used(plan, i as u32), &|| {
                format!("buffer {i} is outside of the arena")
            })?;
        }
    }
    for (i, k) in plan.kernels.iter().enumerate() {
        let lawful = kernel::verify::verify(k);
        check(lawful.is_ok(), &|| {
            format!("kernel {i}: {}", lawful.clone().err().unwrap_or_default())
        })?;
    }
    let written = BTreeSet::new();
    let mut walk = Walk { plan, loops: BTreeMap::new(), written };
    walk.steps(&plan.steps).map_err(|m| Bug::new("plan", m, super::print::print(plan)))
}

fn used(plan: &Plan, buffer: u32) -> bool {
    fn any(steps: &[Step], buffer: u32) -> bool {
        steps.iter().any(|s| match s {
            Step::Launch(l) => l.views.iter().any(|v| v.buffer == buffer),
            Step::Copy { from, to, .. } => from.buffer == buffer || to.buffer == buffer,
            Step::Zero { view, .. } => view.buffer == buffer,
            Step::Loop { body, .. } => any(body, buffer),
        })
    }
    any(&plan.steps, buffer)
}

struct Walk<'a> {
    plan: &'a Plan,
    // Loops around, with their counts.
    loops: BTreeMap<u32, usize>,
    written: BTreeSet<u32>,
}

impl Walk<'_> {
    fn steps(&mut self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            match step {
                Step::Launch(launch) => {
                    self.launch(launch).map_err(|m| format!("{}: {m}", launch.origin))?;
                }
                Step::Copy { from, to, bytes } => {
                    self.inside(from, 0, *bytes as i64)?;
                    self.inside(to, 0, *bytes as i64)?;
                    self.read(from)?;
                    self.written.insert(to.buffer);
                }
                Step::Zero { view, bytes } => {
                    self.inside(view, 0, *bytes as i64)?;
                    self.written.insert(view.buffer);
                }
                Step::Loop { id, count, body, .. } => {
                    self.loops.insert(*id, *count);
                    self.steps(body)?;
                    self.loops.remove(id);
                }
            }
        }
        Ok(())
    }

    fn read(&self, view: &View) -> Result<(), String> {
        let buffer = &self.plan.buffers[view.buffer as usize];
        match buffer.place {
            Place::Arena { .. } if !self.written.contains(&view.buffer) => Err(format!(
                "buffer {} ({}) is read before it is written",
                view.buffer, buffer.name
            )),
            Place::Arena { .. } | Place::External { .. } => Ok(()),
        }
    }

    // Bytes `low..high` after the view's start exist for every loop counter.
    fn inside(&self, view: &View, low: i64, high: i64) -> Result<(), String> {
        let Some(buffer) = self.plan.buffers.get(view.buffer as usize) else {
            return Err(format!("there is no buffer {}", view.buffer));
        };
        let (mut first, mut last) = (view.offset as i64, view.offset as i64);
        for a in &view.advances {
            let Some(count) = self.loops.get(&a.loop_id) else {
                return Err(format!("loop {} is not around", a.loop_id));
            };
            let (c0, c1) = match a.modulus {
                Some(m) => (0, m - 1),
                None => (a.shift, a.shift + *count as i64 - 1),
            };
            let (x, y) = (a.stride_bytes * c0, a.stride_bytes * c1);
            first += x.min(y);
            last += x.max(y);
        }
        if first + low < 0 || last + high > buffer.bytes as i64 {
            let (from, to, bytes) = (first + low, last + high, buffer.bytes);
            let name = &buffer.name;
            return Err(format!("bytes {from}..{to} of `{name}`, which has {bytes}"));
        }
        Ok(())
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), String> {
        let Some(kernel) = self.plan.kernels.get(launch.kernel as usize) else {
            return Err(format!("there is no kernel {}", launch.kernel));
        };
        let operands = kernel.operands();
        if operands.len() != launch.views.len() {
            return Err(format!("{} operands, {} views", operands.len(), launch.views.len()));
        }
        let has = |p: &u32| (*p as usize) < self.plan.host.len();
        if kernel.params().len() != launch.params.len() || !launch.params.iter().all(has) {
            return Err("parameters do not fit the kernel".into());
        }
        let extents = kernel.extents();
        for (i, (operand, view)) in operands.iter().zip(&launch.views).enumerate() {
            if operand.strides.len() != extents.len() {
                return Err(format!("operand {i} has {} strides", operand.strides.len()));
            }
            if !exempt(kernel, i as u32) && operand.dynamic.is_none() {
                let (low, high) = span(operand, &extents);
                self.inside(view, low, high)?;
            }
            match operand.access {
                Access::Read => self.read(view)?,
                Access::Accumulate => self.read(view)?,
                Access::Write => {}
            }
        }
        for (i, (a, va)) in operands.iter().zip(&launch.views).enumerate() {
            if a.access == Access::Read {
                continue;
            }
            for (j, (b, vb)) in operands.iter().zip(&launch.views).enumerate() {
                let same = va == vb && a.strides == b.strides && a.offset == b.offset;
                let whole = exempt(kernel, i as u32) || exempt(kernel, j as u32);
                let overlap = if whole {
                    // Where a guarded load reads is not known: buffers are compared.
                    self.share(va, vb)
                } else {
                    self.overlap(va, a, vb, b, &extents)
                };
                if i != j && !same && overlap {
                    return Err(format!("operands {i} and {j} overlap"));
                }
            }
        }
        for (operand, view) in operands.iter().zip(&launch.views) {
            if operand.access != Access::Read {
                self.written.insert(view.buffer);
            }
        }
        Ok(())
    }

    // Whether the buffers of two views share bytes.
    fn share(&self, a: &View, b: &View) -> bool {
        if a.buffer == b.buffer {
            return true;
        }
        let bytes = |v: &View| match self.plan.buffers[v.buffer as usize].place {
            Place::Arena { offset } => {
                Some((offset, offset + self.plan.buffers[v.buffer as usize].bytes))
            }
            Place::External { .. } => None,
        };
        match (bytes(a), bytes(b)) {
            (Some(a), Some(b)) => a.0 < b.1 && b.0 < a.1,
            (_, _) => false,
        }
    }

    // Whether two operands may share bytes at one and the same loop counter.
    fn overlap(&self, va: &View, a: &Operand, vb: &View, b: &Operand, extents: &[usize]) -> bool {
        let at = |v: &View| self.plan.buffers.get(v.buffer as usize).map(|b| &b.place);
        match (at(va), at(vb)) {
            (Some(Place::Arena { offset: x }), Some(Place::Arena { offset: y })) => {
                let range = |v: &View, o: &Operand, base: usize| {
                    let (low, high) = span(o, extents);
                    let start = (base + v.offset) as i64;
                    (start + low, start + high)
                };
                if va.advances != vb.advances {
                    return va.buffer != vb.buffer && self.share(va, vb);
                }
                let (p, q) = (range(va, a, *x), range(vb, b, *y));
                p.0 < q.1 && q.0 < p.1
            }
            (Some(Place::External { .. }), Some(Place::External { .. })) => {
                va.buffer == vb.buffer && va.advances == vb.advances && {
                    let (p, q) = (span(a, extents), span(b, extents));
                    let (x, y) = (va.offset as i64, vb.offset as i64);
                    x + p.0 < y + q.1 && y + q.0 < x + p.1
                }
            }
            (_, _) => false,
        }
    }
}

// First byte, and the byte behind the last, relative to the view.
fn span(operand: &Operand, extents: &[usize]) -> (i64, i64) {
    let size = operand.dtype.bytes() as i64;
    let (mut low, mut high) = (operand.offset, operand.offset);
    for (stride, extent) in operand.strides.iter().zip(extents) {
        let last = stride * (*extent as i64 - 1);
        low += last.min(0);
        high += last.max(0);
    }
    (low * size, (high + 1) * size)
}

// Operands whose every load is guarded or indirect prove their own bounds; the scattered table's lies along its own axis.
fn exempt(kernel: &Kernel, operand: u32) -> bool {
    let guarded = |insts: &[Inst]| {
        insts.iter().any(|i| match i {
            Inst::Load { operand: o, guards, indirect, .. } => {
                *o == operand && !(guards.is_empty() && indirect.is_empty())
            }
            _other => false,
        })
    };
    match kernel {
        Kernel::Loop(k) => k.stages.iter().any(|s| guarded(&s.insts)),
        Kernel::ColReduce(k) => guarded(&k.insts),
        Kernel::Scatter(_) => operand == 2,
        Kernel::Gemm(_) | Kernel::Attention(_) | Kernel::AttentionGrad(_) => false,
        Kernel::RowOp(_) => false,
    }
}
