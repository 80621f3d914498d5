//! What is the same for all columns of a row is computed once per row.
//!
//! Takes a stage of a fused loop; gives a stage that runs once per row and leaves its values as row results, and the rest of the stage.
//! Loads that do not move with the columns go along, so that nothing invariant is left in the inner loop.

use std::collections::BTreeSet;

use crate::kernel::{Effect, Inst, ReduceOp, Ref, Stage};
use crate::lower::body::Bound;

/// A stage per row that computes what of the stage does not depend on columns, if there is any, and the rest of the stage.
pub(crate) fn hoisted(
    stage: Stage,
    operands: &[Bound],
    is_col: &[bool],
    row_values: &mut u32,
) -> (Option<Stage>, Stage) {
    let mut fixed: Vec<bool> = Vec::new();
    for inst in &stage.insts {
        let known = |r: &Ref| fixed[*r as usize];
        fixed.push(match inst {
            Inst::Load { operand, indirect, guards, .. } => {
                let strides = &operands[*operand as usize].operand.strides;
                strides.iter().zip(is_col).all(|(s, col)| *s == 0 || !col)
                    && indirect.iter().all(|i| known(&i.index))
                    && guards.iter().flat_map(|g| &g.terms).all(|(axis, _)| !is_col[*axis as usize])
            }
            Inst::Coord(axis) => !is_col[*axis as usize],
            Inst::Param(..) | Inst::Row(_) | Inst::Const(..) => true,
            Inst::Unary(_, a) | Inst::Cast(_, a) => known(a),
            Inst::Binary(_, a, b) => known(a) && known(b),
            Inst::Select(c, a, b) => known(c) && known(a) && known(b),
            Inst::Random { counters, .. } => counters.iter().all(known),
        });
    }
    // Fixed values that the rest of the stage reads, other than those that cost nothing.
    let mut wanted: BTreeSet<Ref> = BTreeSet::new();
    for (inst, inst_fixed) in stage.insts.iter().zip(&fixed) {
        if !inst_fixed {
            wanted.extend(inst.reads().into_iter().filter(|r| fixed[*r as usize]));
        }
    }
    for effect in &stage.effects {
        let (Effect::Store { value, .. } | Effect::Reduce { value, .. }) = effect;
        wanted.extend(Some(*value).filter(|r| fixed[*r as usize]));
    }
    wanted.retain(|r| match &stage.insts[*r as usize] {
        Inst::Param(..) | Inst::Row(_) | Inst::Const(..) | Inst::Coord(_) => false,
        Inst::Load { .. } | Inst::Unary(..) | Inst::Binary(..) | Inst::Select(..) => true,
        Inst::Cast(..) | Inst::Random { .. } => true,
    });
    if wanted.is_empty() {
        return (None, stage);
    }
    let mut insts = stage.insts.clone();
    let mut once = Vec::new();
    for r in wanted {
        let into = *row_values;
        *row_values += 1;
        once.push(Effect::Reduce { op: ReduceOp::Sum, value: r, into });
        insts[r as usize] = Inst::Row(into);
    }
    let before = pruned(Stage { per_row: true, insts: stage.insts, effects: once });
    (Some(before), pruned(Stage { per_row: false, insts, effects: stage.effects }))
}

// Without instructions that nothing reads.
fn pruned(mut stage: Stage) -> Stage {
    let mut live = vec![false; stage.insts.len()];
    for effect in &stage.effects {
        let (Effect::Store { value, .. } | Effect::Reduce { value, .. }) = effect;
        live[*value as usize] = true;
    }
    for i in (0..stage.insts.len()).rev() {
        if live[i] {
            stage.insts[i].reads().into_iter().for_each(|r| live[r as usize] = true);
        }
    }
    let mut to: Vec<Ref> = Vec::new();
    let mut next = 0;
    for live in &live {
        to.push(next);
        next += u32::from(*live);
    }
    let mut keep = live.iter();
    stage.insts.retain(|_| keep.next().copied().unwrap_or(false));
    for inst in &mut stage.insts {
        inst.move_reads(|r| to[r as usize]);
    }
    for effect in &mut stage.effects {
        let (Effect::Store { value, .. } | Effect::Reduce { value, .. }) = effect;
        *value = to[*value as usize];
    }
    stage
}
