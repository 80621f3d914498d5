//! Laws of a kernel.
//!
//! 1. Every operand has one stride per loop axis; no extent is zero; what is added to is f32.
//! 2. An instruction reads earlier ones; loop axes, operands, parameters and row results that it names exist.
//! 3. Both arguments of an operator are of one sort, float or integer; indices and counters are integers.
//! 4. Loads are from read operands; results go to written ones.
//! 5. A row result is set by exactly one effect, in a stage before all that read it; a stage that runs once per row
//!    uses no column.
//! 6. Attention has the operands that its counts of captured tensors and wanted gradients say.

use super::{
    Access, AttentionKernel, ColReduce, DType, Effect, Inst, Kernel, Loop, Operand, Ref, UnOp,
};

/// Checks the laws; the message says which instruction or operand breaks one.
pub fn verify(kernel: &Kernel) -> Result<(), String> {
    let extents = kernel.extents();
    for (i, o) in kernel.operands().into_iter().enumerate() {
        ensure(o.strides.len() == extents.len(), || {
            format!("operand {i} has {} strides for {} axes", o.strides.len(), extents.len())
        })?;
        ensure(o.access != Access::Accumulate || o.dtype == DType::F32, || {
            format!("operand {i} is added to and is {}", o.dtype.name())
        })?;
    }
    ensure(!extents.contains(&0), || "an extent is zero".into())?;
    match kernel {
        Kernel::Loop(k) => fused(k),
        Kernel::ColReduce(k) => col_reduce(k),
        Kernel::Attention(k) => attention(k, 3 + k.captured, 2),
        Kernel::AttentionGrad(k) => {
            let wanted = k.wants.iter().filter(|w| **w).count();
            ensure(k.wants.len() == k.captured, || "a wish per captured tensor".into())?;
            ensure(k.score_grads.len() == k.captured + 1, || "a slope per argument".into())?;
            attention(k, 6 + k.captured, 3 + wanted)
        }
        Kernel::Gemm(k) => {
            let reads = k.a.access == Access::Read && k.b.access == Access::Read;
            ensure(reads && k.c.access != Access::Read, || "accesses of a product".into())
        }
        Kernel::Scatter(k) => ensure(k.operands[1].dtype == DType::I32, || {
            format!("the index of a scatter is {}", k.operands[1].dtype.name())
        }),
        Kernel::RowOp(k) => ensure(k.operands[1].access == Access::Write, || "row work".into()),
    }
}

fn ensure(ok: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if ok { Ok(()) } else { Err(message()) }
}

fn fused(k: &Loop) -> Result<(), String> {
    let mut set = vec![false; k.row_values as usize];
    for (s, stage) in k.stages.iter().enumerate() {
        let axes = k.rows.len() + k.cols.len();
        let usable = if stage.per_row { k.rows.len() } else { axes };
        let scope = Scope { operands: &k.operands, params: &k.params, axes: usable, rows: &set };
        let sorts = scope.insts(&stage.insts).map_err(|m| format!("stage {s}: {m}"))?;
        let mut new = Vec::new();
        for effect in &stage.effects {
            let (Effect::Store { value, .. } | Effect::Reduce { value, .. }) = effect;
            ensure((*value as usize) < sorts.len(), || format!("stage {s}: no value {value}"))?;
            match effect {
                Effect::Store { operand, .. } => scope.written(*operand)?,
                Effect::Reduce { into, .. } => {
                    let fresh = set.get(*into as usize) == Some(&false) && !new.contains(into);
                    ensure(fresh, || format!("stage {s}: row result {into} is set again"))?;
                    new.push(*into);
                }
            }
        }
        new.into_iter().for_each(|r| set[r as usize] = true);
    }
    ensure(set.iter().all(|s| *s), || "a row result is never set".into())
}

fn col_reduce(k: &ColReduce) -> Result<(), String> {
    let axes = k.outer.len() + k.reduced.len() + k.cols.len();
    let scope = Scope { operands: &k.operands, params: &k.params, axes, rows: &[] };
    let sorts = scope.insts(&k.insts)?;
    ensure(k.chunks > 0, || "no chunks".into())?;
    for (_, value, operand) in &k.results {
        ensure((*value as usize) < sorts.len(), || format!("no value {value}"))?;
        scope.written(*operand)?;
        let strides = &k.operands[*operand as usize].strides;
        let reduced = &strides[k.outer.len()..k.outer.len() + k.reduced.len()];
        ensure(reduced.iter().all(|s| *s == 0), || "a result moves with what is reduced".into())?;
    }
    Ok(())
}

fn attention(k: &AttentionKernel, reads: usize, writes: usize) -> Result<(), String> {
    ensure(k.operands.len() == reads + writes, || {
        format!("{} operands, not {reads} and {writes}", k.operands.len())
    })?;
    let right =
        k.operands.iter().enumerate().all(|(i, o)| (i < reads) == (o.access == Access::Read));
    ensure(right, || "accesses of an attention".into())?;
    let key = (k.batch.len() + k.queries.len()) as u32;
    ensure(k.pos.iter().all(|p| *p <= key), || "a position along no row axis or key".into())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Float,
    Int,
    // A row result: its sort is that of what was reduced.
    Either,
}

impl Sort {
    fn of(dtype: DType) -> Self {
        if dtype.is_float() { Self::Float } else { Self::Int }
    }

    fn fits(self, other: Self) -> bool {
        self == other || self == Self::Either || other == Self::Either
    }
}

struct Scope<'a> {
    operands: &'a [Operand],
    params: &'a [DType],
    // How many loop axes may be used.
    axes: usize,
    rows: &'a [bool],
}

impl Scope<'_> {
    fn insts(&self, insts: &[Inst]) -> Result<Vec<Sort>, String> {
        let mut sorts: Vec<Sort> = Vec::new();
        for (i, inst) in insts.iter().enumerate() {
            let sort = self.inst(inst, &sorts).map_err(|m| format!("instruction {i}: {m}"))?;
            sorts.push(sort);
        }
        Ok(sorts)
    }

    fn inst(&self, inst: &Inst, sorts: &[Sort]) -> Result<Sort, String> {
        let at = |r: Ref| {
            sorts.get(r as usize).copied().ok_or_else(|| format!("%{r} is no earlier value"))
        };
        let int = |r: Ref| {
            at(r).and_then(|s| ensure(s.fits(Sort::Int), || format!("%{r} is no integer")))
        };
        let axis = |a: u32| ensure((a as usize) < self.axes, || format!("no axis {a} here"));
        let param = |p: u32, dtype: DType| {
            let has = self.params.get(p as usize) == Some(&dtype);
            ensure(has, || format!("no parameter {p} of {}", dtype.name()))
        };
        Ok(match inst {
            Inst::Load { operand, indirect, guards, .. } => {
                let Some(o) = self.operands.get(*operand as usize) else {
                    return Err(format!("no operand {operand}"));
                };
                ensure(o.access == Access::Read, || format!("operand {operand} is written"))?;
                let still = o.strides[self.axes..].iter().all(|s| *s == 0);
                ensure(still, || format!("operand {operand} moves with columns"))?;
                indirect.iter().try_for_each(|i| int(i.index))?;
                guards.iter().flat_map(|g| &g.terms).try_for_each(|(a, _)| axis(*a))?;
                Sort::of(o.dtype)
            }
            Inst::Coord(a) => {
                axis(*a)?;
                Sort::Int
            }
            Inst::Param(p, dtype) => {
                param(*p, *dtype)?;
                Sort::of(*dtype)
            }
            Inst::Row(r) => {
                let set = self.rows.get(*r as usize) == Some(&true);
                ensure(set, || format!("row result {r} is not known yet"))?;
                Sort::Either
            }
            Inst::Const(_, dtype) => Sort::of(*dtype),
            Inst::Unary(op, a) => match (op, at(*a)?) {
                (UnOp::Not | UnOp::IsFinite, _) => Sort::Int,
                (UnOp::Neg | UnOp::Abs | UnOp::Sign, sort) => sort,
                (_, sort) => {
                    ensure(sort.fits(Sort::Float), || format!("{op:?} of an integer"))?;
                    Sort::Float
                }
            },
            Inst::Binary(op, a, b) => {
                let (a, b) = (at(*a)?, at(*b)?);
                ensure(a.fits(b), || format!("{op:?} of a float and an integer"))?;
                if op.is_bool() {
                    Sort::Int
                } else if a == Sort::Either {
                    b
                } else {
                    a
                }
            }
            Inst::Select(c, a, b) => {
                at(*c)?;
                let (a, b) = (at(*a)?, at(*b)?);
                ensure(a.fits(b), || "branches of two sorts".into())?;
                if a == Sort::Either { b } else { a }
            }
            Inst::Cast(dtype, a) => {
                at(*a)?;
                Sort::of(*dtype)
            }
            Inst::Random { counters, seed, step, .. } => {
                counters.iter().try_for_each(|c| int(*c))?;
                seed.iter().chain([step]).try_for_each(|p| param(*p, DType::I32))?;
                Sort::Float
            }
        })
    }

    fn written(&self, operand: u32) -> Result<(), String> {
        let access = self.operands.get(operand as usize).map(|o| o.access);
        ensure(matches!(access, Some(Access::Write | Access::Accumulate)), || {
            format!("operand {operand} is not written")
        })
    }
}
