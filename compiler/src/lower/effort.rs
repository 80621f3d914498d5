//! What it costs to compute a node again instead of reading it.
//!
//! Takes a graph; gives an estimate per node, down to what is stored for sure.

use crate::graph::{BinOp, Graph, Op, UnOp};

/// Scalar operations, and values read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Effort {
    /// Scalar operations, dear ones counted several times.
    pub(crate) ops: usize,
    /// Values read.
    pub(crate) loads: usize,
}

/// Up to so many operations a node is cheap.
pub(crate) const CHEAP: usize = 8;

/// The estimates. `host`: which nodes are host scalars.
pub(crate) fn effort(graph: &Graph, host: &[bool]) -> Vec<Effort> {
    let mut all: Vec<Effort> = Vec::with_capacity(graph.nodes.len());
    for (n, host) in graph.nodes.iter().zip(host) {
        let own = match &n.op {
            Op::Unary(op) => match op {
                UnOp::Neg | UnOp::Abs | UnOp::Not | UnOp::IsFinite | UnOp::Sign => 1,
                UnOp::Floor | UnOp::Ceil | UnOp::Round => 1,
                UnOp::Recip | UnOp::Sqrt | UnOp::Rsqrt => 3,
                UnOp::Exp | UnOp::Log | UnOp::Sin | UnOp::Cos => 12,
                UnOp::Tanh | UnOp::Erf | UnOp::Sigmoid => 12,
            },
            Op::Binary(op) => match op {
                BinOp::Div | BinOp::Mod => 3,
                BinOp::Pow => 24,
                BinOp::Add | BinOp::Sub | BinOp::Mul | BinOp::Min | BinOp::Max => 1,
                BinOp::Lt | BinOp::Le | BinOp::Eq | BinOp::Ne | BinOp::And | BinOp::Or => 1,
            },
            Op::Select | Op::Window { .. } | Op::Gather { .. } => 1,
            Op::Cast => usize::from(graph.ty(n.inputs[0]).dtype != n.ty.dtype),
            Op::Concat { .. } => 2 * n.inputs.len(),
            Op::Random(..) => 60,
            Op::Expand | Op::Rename(_) | Op::Split { .. } | Op::Merge { .. } => 0,
            Op::Const(_) | Op::Pos | Op::Runtime(_) => {
                all.push(Effort::default());
                continue;
            }
            Op::Input(_)
            | Op::ScatterAdd { .. }
            | Op::Update { .. }
            | Op::Reduce { .. }
            | Op::LogSumExp { .. }
            | Op::Contract { .. }
            | Op::CumSum { .. }
            | Op::TopK { .. }
            | Op::ArgSort { .. }
            | Op::Attention(_)
            | Op::AttentionGrad { .. }
            | Op::Scan(_)
            | Op::Part(_)
            | Op::Stop
            | Op::Collective(_) => {
                all.push(Effort { ops: 0, loads: 1 });
                continue;
            }
        };
        if *host {
            all.push(Effort::default());
            continue;
        }
        let mut sum = Effort { ops: own, loads: 0 };
        for x in &n.inputs {
            let e = all[x.0 as usize];
            sum = Effort { ops: sum.ops + e.ops, loads: sum.loads + e.loads };
        }
        all.push(Effort { ops: sum.ops.min(10_000), loads: sum.loads.min(10_000) });
    }
    all
}
