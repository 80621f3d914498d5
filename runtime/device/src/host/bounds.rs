//! How far each operand of a kernel reaches: checked at every launch against the buffer that it is bound to.
//!
//! Guarded operands are left out: where their guards hold is proved by the plan's verifier. Indirect indices are limited by their
//! own `limit`.

use cs336_compiler::kernel::{Access, Inst, Kernel, Operand};

/// Smallest and largest byte that an operand touches, from its bound address; `None`: none, or guarded.
pub(crate) type Reach = Option<(i64, i64)>;

/// The reach of every operand.
pub(crate) fn reaches(kernel: &Kernel) -> Vec<Reach> {
    let extents = kernel.extents();
    let mut all: Vec<Reach> =
        kernel.operands().iter().map(|operand| linear(operand, &extents)).collect();
    match kernel {
        Kernel::Loop(k) => {
            for stage in &k.stages {
                loads(&stage.insts, &k.operands, &mut all);
            }
        }
        Kernel::ColReduce(k) => loads(&k.insts, &k.operands, &mut all),
        Kernel::Scatter(k) => {
            let table = &k.operands[2];
            let span = (k.limit.max(1) as i64 - 1) * k.stride * table.dtype.bytes() as i64;
            widen(&mut all[2], span);
        }
        Kernel::Gemm(_) | Kernel::Attention(_) | Kernel::AttentionGrad(_) | Kernel::RowOp(_) => {}
    }
    all
}

/// True if a launch may change the operand's memory.
pub(crate) fn writes(operand: &Operand) -> bool {
    match operand.access {
        Access::Read => false,
        Access::Write | Access::Accumulate => true,
    }
}

fn linear(operand: &Operand, extents: &[usize]) -> Reach {
    if extents.contains(&0) {
        return None;
    }
    let size = operand.dtype.bytes() as i64;
    let (mut low, mut high) = (operand.offset * size, operand.offset * size);
    for (extent, stride) in extents.iter().zip(&operand.strides) {
        let span = (*extent as i64 - 1) * stride * size;
        low += span.min(0);
        high += span.max(0);
    }
    Some((low, high + size))
}

fn loads(insts: &[Inst], operands: &[Operand], all: &mut [Reach]) {
    for inst in insts {
        if let Inst::Load { operand, indirect, guards, .. } = inst {
            let at = *operand as usize;
            if !guards.is_empty() {
                all[at] = None;
            }
            for i in indirect {
                let span = (i.limit.max(1) - 1) * i.stride * operands[at].dtype.bytes() as i64;
                widen(&mut all[at], span);
            }
        }
    }
}

fn widen(reach: &mut Reach, span: i64) {
    if let Some((low, high)) = reach {
        *low += span.min(0);
        *high += span.max(0);
    }
}
