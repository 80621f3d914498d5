//! How far each operand of a kernel reaches: checked at every launch against the buffer that it is bound to.
//!
//! Guarded operands are left out: where their guards hold is proved by the plan's verifier. Indirect indices are limited by their
//! own `limit`.

use cs336_compiler::kernel::{Access, Inst, Kernel, Operand};

use crate::Span;
use crate::error::DeviceError;

/// Smallest and largest byte that an operand touches, from its bound address; `None`: none, or guarded.
type Reach = Option<(i64, i64)>;

/// How far a kernel's operands reach.
#[derive(Debug)]
pub(crate) struct Bounds {
    reaches: Vec<Reach>,
}

impl Bounds {
    /// Of a kernel.
    pub(crate) fn new(kernel: &Kernel) -> Self {
        Self { reaches: reaches(kernel) }
    }

    /// Addresses of the operands' coordinates 0, after checking that they stay inside their spans.
    pub(crate) fn bind(
        &self,
        kernel: &Kernel,
        spans: &[Span],
        params: &[u32],
        origin: &str,
    ) -> Result<Vec<*mut u8>, DeviceError> {
        let operands = kernel.operands();
        if operands.len() != spans.len() {
            return Err(DeviceError::Malformed(format!(
                "`{origin}` binds {} operands of {}",
                spans.len(),
                operands.len()
            )));
        }
        let mut addresses = Vec::with_capacity(spans.len());
        for (i, ((operand, span), reach)) in
            operands.into_iter().zip(spans).zip(&self.reaches).enumerate()
        {
            let size = operand.dtype.bytes() as i64;
            let moved = match operand.dynamic {
                Some((param, stride)) => {
                    let value = params.get(param as usize).copied().unwrap_or(0) as i32;
                    i64::from(value) * stride * size
                }
                None => 0,
            };
            if let Some((low, high)) = reach {
                let under = -(span.before as i64) - (low + moved);
                let over = high + moved - span.after as i64;
                let by = under.max(over);
                if by > 0 {
                    let origin = origin.to_owned();
                    return Err(DeviceError::OutOfBounds { origin, operand: i, by });
                }
            }
            addresses.push(span.address.wrapping_offset((operand.offset * size + moved) as isize));
        }
        Ok(addresses)
    }
}

/// The reach of every operand.
fn reaches(kernel: &Kernel) -> Vec<Reach> {
    let extents = kernel.extents();
    let mut all: Vec<Reach> =
        kernel.operands().iter().map(|operand| linear(operand, &extents)).collect();
    match kernel {
        Kernel::Loop(k) => {
            for stage in &k.stages {
                loads(&stage.insts, &k.operands, &extents, &mut all);
            }
        }
        Kernel::ColReduce(k) => loads(&k.insts, &k.operands, &extents, &mut all),
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

// An operand may be loaded several times, at indices of its own each time: it reaches as far as the farthest of them.
fn loads(insts: &[Inst], operands: &[Operand], extents: &[usize], all: &mut [Reach]) {
    for inst in insts {
        if let Inst::Load { operand, indirect, guards, .. } = inst {
            let at = *operand as usize;
            if !guards.is_empty() {
                all[at] = None;
            }
            let mut one = linear(&operands[at], extents);
            for i in indirect {
                let span = (i.limit.max(1) - 1) * i.stride * operands[at].dtype.bytes() as i64;
                widen(&mut one, span);
            }
            if let (Some((low, high)), Some((l, h))) = (&mut all[at], one) {
                *low = l.min(*low);
                *high = h.max(*high);
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

#[cfg(test)]
mod tests {
    use cs336_compiler::graph::{DType, Literal};
    use cs336_compiler::kernel::Indirect;

    use super::*;

    #[test]
    fn loads_of_one_operand_do_not_add_up() {
        let operand = Operand {
            dtype: DType::F32,
            strides: vec![6, 0],
            offset: 0,
            dynamic: None,
            access: Access::Read,
        };
        let load = |index| Inst::Load {
            operand: 0,
            indirect: vec![Indirect { index, stride: 1, limit: 6 }],
            guards: vec![],
            outside: Literal::new(0.0),
        };
        let insts = [Inst::Coord(1), load(0), load(0)];
        let extents = [4, 6];
        let mut all = vec![linear(&operand, &extents)];
        loads(&insts, &[operand], &extents, &mut all);
        // Four rows of six floats.
        assert_eq!(all, [Some((0, 96))]);
    }
}
