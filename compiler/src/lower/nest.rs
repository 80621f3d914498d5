//! The loop nest of a fused kernel: named axes cut into loop axes, and the kernel before they are chosen.
//!
//! Takes the axes of an iteration space and the instructions over them; gives as few loop axes as the operands' strides allow, with rows to
//! share among threads and columns long enough for vectors.

use std::collections::BTreeSet;

use crate::graph::{Axis, Name, Type};
use crate::kernel::{Access, DType, Effect, Guard, Inst, Operand, Stage};
use crate::lower::body::{Atom, Bound, Index};
use crate::lower::hoist::hoisted;
use crate::plan::View;

/// To which part of the loop nest an axis belongs. Of a `ColReduce`, `Row` are the reduced axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Outer,
    Row,
    Col,
}

/// The named axes of an iteration space, each cut into loop axes (atoms), outermost first.
#[derive(Debug, Clone)]
pub(crate) struct Domain {
    axes: Vec<(Name, Part, Vec<usize>)>,
}

impl Domain {
    /// The first `outer` axes are `Outer`, those up to `rows` are `Row`, the rest `Col`.
    pub(crate) fn new(axes: &[Axis], outer: usize, rows: usize) -> Self {
        let axes = axes
            .iter()
            .enumerate()
            .map(|(i, a)| {
                let part = if i < outer {
                    Part::Outer
                } else if i < rows {
                    Part::Row
                } else {
                    Part::Col
                };
                (a.name.clone(), part, if a.size == 1 { vec![] } else { vec![a.size] })
            })
            .collect();
        Self { axes }
    }

    /// The loop axes.
    pub(crate) fn atoms(&self) -> Vec<Atom> {
        self.axes.iter().flat_map(|(_, _, f)| f).map(|e| Atom { extent: *e }).collect()
    }

    fn parts(&self) -> Vec<Part> {
        self.axes.iter().flat_map(|(_, part, f)| f.iter().map(|_| *part)).collect()
    }

    /// The indices of a value whose axes are all here.
    pub(crate) fn indices(&self, ty: &Type) -> Vec<Index> {
        ty.axes
            .iter()
            .map(|axis| {
                let mut first = 0;
                for (name, _, factors) in &self.axes {
                    if *name == axis.name {
                        let mut stride = 1;
                        let mut terms = Vec::new();
                        for (i, f) in factors.iter().enumerate().rev() {
                            terms.push((first + i as u32, stride));
                            stride *= *f as i64;
                        }
                        terms.reverse();
                        return Index::Affine { terms, offset: 0 };
                    }
                    first += factors.len() as u32;
                }
                Index::fixed(0)
            })
            .collect()
    }

    /// The same with one loop axis cut in two.
    pub(crate) fn refined(mut self, atom: u32, inner: usize) -> Self {
        let mut at = atom as usize;
        for (_, _, factors) in &mut self.axes {
            if at < factors.len() {
                let outer = factors[at] / inner;
                factors.splice(at..=at, [outer, inner]);
                break;
            }
            at -= factors.len();
        }
        self
    }
}

/// A kernel before its axes are chosen.
pub(crate) struct Made {
    extents: Vec<usize>,
    parts: Vec<Part>,
    pub(crate) operands: Vec<Bound>,
    pub(crate) params: Vec<(u32, DType)>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) row_values: u32,
}

impl Made {
    /// Before anything is chosen.
    pub(crate) fn new(
        domain: Domain,
        operands: Vec<Bound>,
        params: Vec<(u32, DType)>,
        stages: Vec<Stage>,
        row_values: u32,
    ) -> Self {
        let extents = domain.atoms().iter().map(|a| a.extent).collect();
        Self { extents, parts: domain.parts(), operands, params, stages, row_values }
    }

    /// The extents of a part of the nest.
    pub(crate) fn extents(&self, part: Part) -> Vec<usize> {
        let of = self.extents.iter().zip(&self.parts).filter(|(_, p)| **p == part);
        of.map(|(e, _)| *e).collect()
    }

    /// A buffer that is written while elements of it are still needed.
    pub(crate) fn clash(&self) -> Option<u32> {
        for (s, stage) in self.stages.iter().enumerate() {
            for effect in &stage.effects {
                let Effect::Store { operand, .. } = effect else { continue };
                let written = &self.operands[*operand as usize];
                for (i, read) in self.operands.iter().enumerate() {
                    let other = i != *operand as usize;
                    if !other || read.view.buffer != written.view.buffer {
                        continue;
                    }
                    let same =
                        same_elements(&read.operand, &read.view, &written.operand, &written.view);
                    let later = self.stages[s + 1..].iter().any(|t| reads(&t.insts, i as u32));
                    let indirect = self.stages.iter().any(|t| reads_indirectly(&t.insts, i as u32));
                    let two_writes = read.operand.access != Access::Read;
                    if !same || later || indirect || two_writes {
                        return Some(written.view.buffer);
                    }
                }
            }
        }
        None
    }

    // Loop axes that coordinates or guards name must stay as they are.
    fn named(&self) -> BTreeSet<u32> {
        let mut named = BTreeSet::new();
        for inst in self.stages.iter().flat_map(|s| &s.insts) {
            match inst {
                Inst::Coord(a) => {
                    named.insert(*a);
                }
                Inst::Load { guards, .. } => {
                    named.extend(guards.iter().flat_map(|g| g.terms.iter().map(|t| t.0)));
                }
                Inst::Param(..)
                | Inst::Row(_)
                | Inst::Const(..)
                | Inst::Unary(..)
                | Inst::Binary(..)
                | Inst::Select(..)
                | Inst::Cast(..)
                | Inst::Random { .. } => {}
            }
        }
        named
    }

    /// Joins neighbouring loop axes that every operand steps over as over one.
    pub(crate) fn tidy(&mut self) {
        let named = self.named();
        let mut i = 0;
        let mut original: Vec<u32> = (0..self.extents.len() as u32).collect();
        while i + 1 < self.extents.len() {
            let inner = self.extents[i + 1] as i64;
            let free = !named.contains(&original[i]) && !named.contains(&original[i + 1]);
            let fits = self
                .operands
                .iter()
                .all(|b| b.operand.strides[i] == b.operand.strides[i + 1] * inner);
            if free && fits && self.parts[i] == self.parts[i + 1] {
                self.extents[i + 1] *= self.extents[i];
                self.remove(i);
                original.remove(i);
            } else {
                i += 1;
            }
        }
        let to = |atom: u32| original.iter().position(|o| *o == atom).unwrap_or(0) as u32;
        self.renumber(&to);
    }

    fn remove(&mut self, i: usize) {
        self.extents.remove(i);
        self.parts.remove(i);
        for b in &mut self.operands {
            b.operand.strides.remove(i);
        }
    }

    fn renumber(&mut self, to: &dyn Fn(u32) -> u32) {
        for inst in self.stages.iter_mut().flat_map(|s| &mut s.insts) {
            match inst {
                Inst::Coord(a) => *a = to(*a),
                Inst::Load { guards, .. } => {
                    for Guard { terms, .. } in guards {
                        terms.iter_mut().for_each(|t| t.0 = to(t.0));
                    }
                }
                Inst::Param(..)
                | Inst::Row(_)
                | Inst::Const(..)
                | Inst::Unary(..)
                | Inst::Binary(..)
                | Inst::Select(..)
                | Inst::Cast(..)
                | Inst::Random { .. } => {}
            }
        }
    }

    /// Moves what is the same for all columns of a row to a stage that runs once per row.
    pub(crate) fn hoist(&mut self) {
        let rows = self.parts.iter().filter(|p| **p == Part::Row);
        let count: usize = rows.zip(&self.extents).map(|(_, e)| *e).product();
        let reduces = self.row_values > 0;
        // Without rows there is nothing to share the work by but columns, which such a stage would tie together.
        if !reduces && count < 16 {
            return;
        }
        let is_col: Vec<bool> = self.parts.iter().map(|p| *p == Part::Col).collect();
        let mut stages = Vec::new();
        for stage in std::mem::take(&mut self.stages) {
            if stage.per_row {
                stages.push(stage);
                continue;
            }
            let (before, stage) = hoisted(stage, &self.operands, &is_col, &mut self.row_values);
            stages.extend(before);
            stages.push(stage);
        }
        self.stages = stages;
    }

    /// Without reductions: the innermost axes are columns, enough of them for vectors, few enough that there are rows to
    /// share among threads.
    pub(crate) fn choose_columns(&mut self) {
        const WIDE: usize = 32;
        const LONG: usize = 4096;
        let Some(last) = self.extents.len().checked_sub(1) else { return };
        let named = self.named();
        let extent = self.extents[last];
        if extent > LONG && !named.contains(&(last as u32)) {
            let divisor = (256..=LONG).rev().find(|d| extent.is_multiple_of(*d));
            if let Some(inner) = divisor {
                self.extents[last] = extent / inner;
                self.extents.push(inner);
                self.parts.push(Part::Row);
                for b in &mut self.operands {
                    let stride = b.operand.strides[last];
                    b.operand.strides[last] = stride * inner as i64;
                    b.operand.strides.push(stride);
                }
            }
        }
        let mut width = 1;
        for i in (0..self.extents.len()).rev() {
            if width >= WIDE {
                break;
            }
            self.parts[i] = Part::Col;
            width *= self.extents[i];
        }
    }
}

// Whether two operands touch the same element at every iteration.
fn same_elements(a: &Operand, va: &View, b: &Operand, vb: &View) -> bool {
    va == vb
        && a.strides == b.strides
        && a.offset == b.offset
        && a.dynamic == b.dynamic
        && a.dtype == b.dtype
}

// Whether an operand is loaded.
fn reads(insts: &[Inst], operand: u32) -> bool {
    insts.iter().any(|i| matches!(i, Inst::Load { operand: o, .. } if *o == operand))
}

// Whether an operand is loaded at an index from memory.
fn reads_indirectly(insts: &[Inst], operand: u32) -> bool {
    let is = |i: &Inst| match i {
        Inst::Load { operand: o, indirect, .. } => *o == operand && !indirect.is_empty(),
        Inst::Coord(_)
        | Inst::Param(..)
        | Inst::Row(_)
        | Inst::Const(..)
        | Inst::Unary(..)
        | Inst::Binary(..)
        | Inst::Select(..)
        | Inst::Cast(..)
        | Inst::Random { .. } => false,
    };
    insts.iter().any(is)
}
