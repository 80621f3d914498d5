//! Arithmetic on indices.
//!
//! Takes indices along the axes of a node; gives those along the axes of what it reads: sums, quotients and remainders, bounds. All
//! stay affine in the loop coordinates if they can; what cannot becomes instructions.

use std::collections::BTreeMap;

use crate::graph::{Affine, NodeId, Op, Type};
use crate::kernel::{BinOp, DType, Guard, Inst, Ref};
use crate::lower::body::{Body, Halt, Sort, Source, axis_index, by_name};

/// A coordinate along an axis of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Index {
    /// `offset + Σ coefficient * coord(atom)`; atoms ascending, no coefficient zero.
    Affine { terms: Vec<(u32, i64)>, offset: i64 },
    /// The value of an instruction.
    Computed(Ref),
}

impl Index {
    /// A constant.
    pub(crate) fn fixed(offset: i64) -> Self {
        Self::Affine { terms: Vec::new(), offset }
    }
}

impl Body<'_> {
    /// The index as an i32.
    pub(crate) fn index_value(&mut self, index: &Index) -> Ref {
        match index {
            Index::Computed(r) => *r,
            Index::Affine { terms, offset } => {
                let mut sum = None;
                for (atom, c) in terms {
                    let mut term = self.push(Inst::Coord(*atom), Sort::Int);
                    if *c != 1 {
                        let c = self.int(*c);
                        term = self.ints(BinOp::Mul, term, c);
                    }
                    sum = Some(match sum {
                        None => term,
                        Some(s) => self.ints(BinOp::Add, s, term),
                    });
                }
                match sum {
                    None => self.int(*offset),
                    Some(s) if *offset == 0 => s,
                    Some(s) => {
                        let o = self.int(*offset);
                        self.ints(BinOp::Add, s, o)
                    }
                }
            }
        }
    }

    /// Σ index * stride, where index i steps over the sizes of those behind it.
    pub(crate) fn join(&mut self, parts: &[(Index, i64)]) -> Index {
        let mut stride = 1;
        let mut weighted = Vec::new();
        for (index, size) in parts.iter().rev() {
            weighted.push((index.clone(), stride));
            stride *= size;
        }
        self.sum(&weighted, 0)
    }

    /// Σ index * weight + offset.
    pub(crate) fn sum(&mut self, parts: &[(Index, i64)], offset: i64) -> Index {
        let mut all: BTreeMap<u32, i64> = BTreeMap::new();
        let mut total = offset;
        let mut computed: Option<Ref> = None;
        for (index, weight) in parts {
            match index {
                Index::Affine { terms, offset } => {
                    total += weight * offset;
                    terms.iter().for_each(|(a, c)| *all.entry(*a).or_insert(0) += weight * c);
                }
                Index::Computed(r) => {
                    let mut value = *r;
                    if *weight != 1 {
                        let w = self.int(*weight);
                        value = self.ints(BinOp::Mul, value, w);
                    }
                    computed = Some(match computed {
                        None => value,
                        Some(c) => self.ints(BinOp::Add, c, value),
                    });
                }
            }
        }
        let terms = all.into_iter().filter(|(_, c)| *c != 0).collect();
        let affine = Index::Affine { terms, offset: total };
        match computed {
            None => affine,
            Some(c) if affine == Index::fixed(0) => Index::Computed(c),
            Some(c) => {
                let rest = self.index_value(&affine);
                Index::Computed(self.ints(BinOp::Add, c, rest))
            }
        }
    }

    /// The inverse of `join`: quotients and remainders by the sizes.
    pub(crate) fn cut(&mut self, index: Index, sizes: &[i64]) -> Result<Vec<Index>, Halt> {
        let mut parts = vec![Index::fixed(0); sizes.len()];
        let mut rest = index;
        for i in (1..sizes.len()).rev() {
            let (high, low) = self.divide(rest, sizes[i])?;
            parts[i] = low;
            rest = high;
        }
        if let Some(first) = parts.first_mut() {
            *first = rest;
        }
        Ok(parts)
    }

    // (index / size, index mod size).
    fn divide(&mut self, index: Index, size: i64) -> Result<(Index, Index), Halt> {
        if size == 1 {
            return Ok((index, Index::fixed(0)));
        }
        if let Index::Affine { terms, offset } = &index {
            let (mut high, mut low) = (Vec::new(), Vec::new());
            let low_offset = offset.rem_euclid(size);
            let mut largest = low_offset;
            for (atom, c) in terms {
                if c % size == 0 {
                    high.push((*atom, c / size));
                } else {
                    low.push((*atom, *c));
                    largest += c * (self.atoms[*atom as usize].extent as i64 - 1);
                }
            }
            let positive = low.iter().all(|(_, c)| *c > 0);
            if positive && largest < size {
                let high = Index::Affine { terms: high, offset: offset.div_euclid(size) };
                return Ok((high, Index::Affine { terms: low, offset: low_offset }));
            }
            for (atom, c) in low {
                let inner = size / c.abs();
                let extent = self.atoms[atom as usize].extent as i64;
                if c > 0 && size % c == 0 && inner < extent && extent % inner == 0 && inner > 1 {
                    return Err(Halt::Refine { atom, inner: inner as usize });
                }
            }
        }
        // No finer loop helps: computed. The quotient is exact, as (x - x mod n) / n is below 2^24 for any real tensor.
        let value = self.index_value(&index);
        let n = self.int(size);
        let low = self.ints(BinOp::Mod, value, n);
        let whole = self.ints(BinOp::Sub, value, low);
        let (a, b) = (self.float(whole), self.float(n));
        let quotient = self.binary(BinOp::Div, a, b, Sort::Float);
        let high = self.integer(quotient);
        Ok((Index::Computed(high), Index::Computed(low)))
    }

    /// The value of an affine index of the program.
    pub(crate) fn shifted(
        &mut self,
        ty: &Type,
        index: &[Index],
        affine: &Affine,
    ) -> Result<Index, Halt> {
        let mut parts = Vec::new();
        for (name, c) in &affine.terms {
            parts.push((axis_index(ty, index, name)?, *c));
        }
        Ok(self.sum(&parts, affine.offset))
    }

    /// Smallest and largest value.
    pub(crate) fn range(&self, terms: &[(u32, i64)], offset: i64) -> (i64, i64) {
        let (mut low, mut high) = (offset, offset);
        for (atom, c) in terms {
            let last = c * (self.atoms[*atom as usize].extent as i64 - 1);
            low += last.min(0);
            high += last.max(0);
        }
        (low, high)
    }

    /// 0 <= index < limit, without the loops that cannot change it: 4 i + j < 8 is i < 2 while 0 <= j < 4. So a condition on the
    /// part of a concatenation does not depend on the place within the part.
    pub(crate) fn guard(&self, terms: &[(u32, i64)], offset: i64, limit: i64) -> Guard {
        for (_, step) in terms {
            let step = step.abs();
            let coarse = |c: &i64| c % step == 0;
            let fine: Vec<(u32, i64)> = terms.iter().filter(|t| !coarse(&t.1)).copied().collect();
            let (low, high) = self.range(&fine, offset.rem_euclid(step));
            if step > 1 && limit % step == 0 && low >= 0 && high < step {
                let kept = terms.iter().filter(|t| coarse(&t.1));
                let terms = kept.map(|(a, c)| (*a, c / step)).collect();
                return Guard { terms, offset: offset.div_euclid(step), limit: limit / step };
            }
        }
        Guard { terms: terms.to_vec(), offset, limit }
    }

    /// low <= index < high
    pub(crate) fn between(&mut self, index: &Index, low: i64, high: i64) -> Ref {
        let mut index = index.clone();
        let (mut low, mut high) = (low, high);
        if let Index::Affine { terms, offset } = &index {
            let guard = self.guard(terms, offset - low, high - low);
            (low, high) = (0, guard.limit);
            index = Index::Affine { terms: guard.terms, offset: guard.offset };
        }
        let value = self.index_value(&index);
        let (low, high) = (self.int(low), self.int(high));
        let above = self.ints(BinOp::Le, low, value);
        let below = self.ints(BinOp::Lt, value, high);
        self.ints(BinOp::And, above, below)
    }

    /// An integer node whose value is affine in the loop coordinates.
    pub(crate) fn affine(&mut self, id: NodeId, index: &[Index]) -> Option<Index> {
        let graph = self.graph;
        let n = graph.node(id);
        if !matches!((self.source)(id), Source::Here) {
            return None;
        }
        let at = |i: usize| by_name(&n.ty, index, graph.ty(n.inputs[i])).ok();
        match &n.op {
            Op::Const(l) if l.get().fract() == 0.0 => Some(Index::fixed(l.get() as i64)),
            Op::Pos => Some(index[0].clone()),
            Op::Expand | Op::Cast if n.ty.dtype == DType::I32 => self.affine(n.inputs[0], &at(0)?),
            Op::Binary(op) if n.ty.dtype == DType::I32 => {
                let a = self.affine(n.inputs[0], &at(0)?)?;
                let b = self.affine(n.inputs[1], &at(1)?)?;
                let fixed = |i: &Index| match i {
                    Index::Affine { terms, offset } if terms.is_empty() => Some(*offset),
                    Index::Affine { .. } | Index::Computed(_) => None,
                };
                match op {
                    BinOp::Add => Some(self.sum(&[(a, 1), (b, 1)], 0)),
                    BinOp::Sub => Some(self.sum(&[(a, 1), (b, -1)], 0)),
                    BinOp::Mul => match (fixed(&a), fixed(&b)) {
                        (Some(c), _) => Some(self.sum(&[(b, c)], 0)),
                        (None, Some(c)) => Some(self.sum(&[(a, c)], 0)),
                        (None, None) => None,
                    },
                    BinOp::Div | BinOp::Pow | BinOp::Min | BinOp::Max | BinOp::Mod => None,
                    BinOp::Lt | BinOp::Le | BinOp::Eq | BinOp::Ne | BinOp::And | BinOp::Or => None,
                }
            }
            _not_affine => None,
        }
    }
}
