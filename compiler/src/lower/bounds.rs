//! Which keys an attention can see, proved from its mask.
//!
//! Takes the mask expression; gives bounds outside of which it is zero for certain. A mask that is a conjunction is bounded by each of
//! its terms; a term bounds the keys if it compares two values that are linear in the coordinates, with the key on one side and
//! at most one other coordinate. `pos(key) <= pos(seq)` is an upper bound, `pos(seq) - pos(key) < w` a lower one.

use std::collections::BTreeMap;

use crate::kernel::{BinOp, DType, Expr, KeyBound, Ref, Runtime, UnOp};
use crate::scalar::Inst;

/// Upper and lower bounds. `pos`: the loop axes of the expression's positions; `key`: the one of the keys.
pub(crate) fn key_bounds(mask: &Expr, pos: &[u32], key: u32) -> (Vec<KeyBound>, Vec<KeyBound>) {
    let (mut upper, mut lower) = (Vec::new(), Vec::new());
    let mut terms = Vec::new();
    conjuncts(mask, mask.result, &mut terms);
    for term in terms {
        let Inst::Binary(op, a, b) = &mask.insts[term as usize] else { continue };
        // As `0 <= d`: a <= b is b - a; a < b is b - a - 1, since coordinates are integers.
        let strict = match op {
            BinOp::Le => 0,
            BinOp::Lt => 1,
            BinOp::Eq => 0,
            BinOp::Add | BinOp::Sub | BinOp::Mul | BinOp::Div | BinOp::Pow => continue,
            BinOp::Min | BinOp::Max | BinOp::Mod | BinOp::Ne => continue,
            BinOp::And | BinOp::Or => continue,
        };
        let (Some(a), Some(b)) = (linear(mask, *a, pos), linear(mask, *b, pos)) else { continue };
        let d = b.plus(&a, -1).shifted(-strict);
        d.bound(key, &mut upper, &mut lower);
        if *op == BinOp::Eq {
            a.plus(&b, -1).bound(key, &mut upper, &mut lower);
        }
    }
    (upper, lower)
}

fn conjuncts(e: &Expr, at: Ref, all: &mut Vec<Ref>) {
    match &e.insts[at as usize] {
        Inst::Binary(BinOp::And, a, b) => {
            conjuncts(e, *a, all);
            conjuncts(e, *b, all);
        }
        _term => all.push(at),
    }
}

// offset + position * Position + Σ terms * coordinate, all integers.
#[derive(Debug, Clone, Default)]
struct Linear {
    terms: BTreeMap<u32, i64>,
    position: i64,
    offset: i64,
}

impl Linear {
    fn plus(&self, other: &Self, times: i64) -> Self {
        let mut sum = self.clone();
        for (axis, c) in &other.terms {
            *sum.terms.entry(*axis).or_insert(0) += times * c;
        }
        sum.terms.retain(|_, c| *c != 0);
        sum.position += times * other.position;
        sum.offset += times * other.offset;
        sum
    }

    fn shifted(mut self, by: i64) -> Self {
        self.offset += by;
        self
    }

    fn times(&self, factor: i64) -> Self {
        Self::default().plus(self, factor)
    }

    // What `0 <= self` says about the key.
    fn bound(&self, key: u32, upper: &mut Vec<KeyBound>, lower: &mut Vec<KeyBound>) {
        let of_key = self.terms.get(&key).copied().unwrap_or(0);
        let mut rest = self.clone();
        rest.terms.remove(&key);
        let (rest, bounds) = match of_key {
            // key <= rest
            -1 => (rest, upper),
            // key >= -rest
            1 => (rest.times(-1), lower),
            _other => return,
        };
        let terms: Vec<(u32, i64)> = rest.terms.iter().map(|(a, c)| (*a, *c)).collect();
        let axis = match terms.as_slice() {
            [] => None,
            [(axis, 1)] => Some(*axis),
            _more => return,
        };
        if rest.position == 0 || rest.position == 1 {
            bounds.push(KeyBound { axis, offset: rest.offset, plus_position: rest.position == 1 });
        }
    }
}

fn linear(e: &Expr, at: Ref, pos: &[u32]) -> Option<Linear> {
    let whole = |l: &crate::kernel::Literal| {
        let x = l.get();
        (x.fract() == 0.0 && x.abs() < 2f64.powi(52)).then_some(x as i64)
    };
    match &e.insts[at as usize] {
        Inst::Const(l) => Some(Linear { offset: whole(l)?, ..Linear::default() }),
        Inst::Pos(i) => {
            let axis = *pos.get(*i as usize)?;
            Some(Linear { terms: BTreeMap::from([(axis, 1)]), ..Linear::default() })
        }
        Inst::Runtime(Runtime::Position) => Some(Linear { position: 1, ..Linear::default() }),
        Inst::Cast(DType::F32 | DType::I32, x) => linear(e, *x, pos),
        Inst::Unary(UnOp::Neg, x) => Some(linear(e, *x, pos)?.times(-1)),
        Inst::Binary(BinOp::Add, a, b) => Some(linear(e, *a, pos)?.plus(&linear(e, *b, pos)?, 1)),
        Inst::Binary(BinOp::Sub, a, b) => Some(linear(e, *a, pos)?.plus(&linear(e, *b, pos)?, -1)),
        Inst::Binary(BinOp::Mul, a, b) => {
            let (a, b) = (linear(e, *a, pos)?, linear(e, *b, pos)?);
            let fixed = |l: &Linear| (l.terms.is_empty() && l.position == 0).then_some(l.offset);
            match (fixed(&a), fixed(&b)) {
                (Some(c), _) => Some(b.times(c)),
                (None, Some(c)) => Some(a.times(c)),
                (None, None) => None,
            }
        }
        Inst::Arg(_)
        | Inst::Runtime(_)
        | Inst::Unary(..)
        | Inst::Binary(..)
        | Inst::Select(..)
        | Inst::Cast(..)
        | Inst::Random(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Literal;

    // Axis 0 is the query, 1 the key.
    fn expr(build: impl Fn(&mut Expr, Ref, Ref) -> Ref) -> Expr {
        let mut e = Expr { insts: vec![], result: 0 };
        let (q, k) = (e.push(Inst::Pos(0)), e.push(Inst::Pos(1)));
        e.result = build(&mut e, q, k);
        e
    }

    #[test]
    fn causal_window_with_position() {
        let mask = expr(|e, q, k| {
            let p = e.push(Inst::Runtime(Runtime::Position));
            let q = e.push(Inst::Binary(BinOp::Add, q, p));
            let causal = e.push(Inst::Binary(BinOp::Le, k, q));
            let distance = e.push(Inst::Binary(BinOp::Sub, q, k));
            let width = e.push(Inst::Const(Literal::new(4.0)));
            let near = e.push(Inst::Binary(BinOp::Lt, distance, width));
            e.push(Inst::Binary(BinOp::And, causal, near))
        });
        let (upper, lower) = key_bounds(&mask, &[0, 1], 1);
        assert_eq!(upper, [KeyBound { axis: Some(0), offset: 0, plus_position: true }]);
        assert_eq!(lower, [KeyBound { axis: Some(0), offset: -3, plus_position: true }]);
    }

    #[test]
    fn a_disjunction_says_nothing() {
        let mask = expr(|e, q, k| {
            let causal = e.push(Inst::Binary(BinOp::Le, k, q));
            let same = e.push(Inst::Binary(BinOp::Eq, k, q));
            e.push(Inst::Binary(BinOp::Or, causal, same))
        });
        assert_eq!(key_bounds(&mask, &[0, 1], 1), (vec![], vec![]));
    }
}
