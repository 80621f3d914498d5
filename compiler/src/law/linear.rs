//! Constants that a formula is linear in: for given others they are found at once, by least squares (variable projection, Golub and Pereyra
//! 1973).

use super::Law;
use crate::scalar::{BinOp, Inst, UnOp};

/// The constants (by place) in which the formula is jointly linear: a largest set, taken in order.
pub fn split(law: &Law) -> Vec<usize> {
    let mut found: Vec<usize> = Vec::new();
    for i in 0..law.constants.len() {
        found.push(i);
        if !is_affine(law, &found) {
            found.pop();
        }
    }
    found
}

/// 0: independent of the set, 1: affine, 2: neither.
fn is_affine(law: &Law, set: &[usize]) -> bool {
    let mut degrees: Vec<u8> = Vec::with_capacity(law.formula.insts.len());
    for inst in &law.formula.insts {
        let of = |r: &u32| degrees[*r as usize];
        let degree = match inst {
            Inst::Arg(i) => u8::from(set.contains(&(*i as usize))),
            Inst::Const(_) | Inst::Pos(_) | Inst::Runtime(_) => 0,
            Inst::Unary(UnOp::Neg, a) => of(a),
            Inst::Binary(BinOp::Add | BinOp::Sub, a, b) => of(a).max(of(b)),
            Inst::Binary(BinOp::Mul, a, b) => (of(a) + of(b)).min(2),
            Inst::Binary(BinOp::Div, a, b) if of(b) == 0 => of(a),
            Inst::Select(c, a, b) if of(c) == 0 => of(a).max(of(b)),
            Inst::Unary(..)
            | Inst::Binary(..)
            | Inst::Select(..)
            | Inst::Cast(..)
            | Inst::Random(..) => {
                let any = super::reads(inst).iter().any(|r| of(r) > 0);
                if any { 2 } else { 0 }
            }
        };
        degrees.push(degree);
    }
    degrees[law.formula.result as usize] <= 1
}
