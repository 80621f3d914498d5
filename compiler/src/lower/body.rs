//! The inside of a fused kernel: from nodes to instructions.
//!
//! Takes the coordinates at which a node is wanted, as functions of the loop coordinates; appends the instructions that
//! compute it. Views change the coordinates, stored nodes are loaded, everything else is computed in place.
//!
//! *Indices.* An index is affine in the loop coordinates wherever that is possible. Where a merged axis must be taken apart, the loop axis
//! behind it is *refined* into two, so that quotient and remainder are affine as well: the attempt ends with
//! [`Halt::Refine`], and the caller starts anew with the finer axes. An index that comes from memory is an instruction.
//!
//! *Falling off.* A window reads `outside` beyond its axis. A value that is loaded gets a guard on the load; a computed one is
//! computed under the guard (its loads read nothing there) and then selected.

use std::collections::BTreeMap;

use crate::bug::Bug;
use crate::graph::{DType, Graph, Literal, Name, NodeId, Op, Type};
use crate::kernel::{Access, BinOp, Guard, Indirect, Inst, Operand, Ref, UnOp};
use crate::lower::Stored;
pub(crate) use crate::lower::index::Index;
use crate::plan::View;

/// Why an attempt ended.
#[derive(Debug)]
pub(crate) enum Halt {
    /// A loop axis must be cut: the atom becomes two, the inner one of this size.
    Refine { atom: u32, inner: usize },
    /// Our mistake.
    Bug(Bug),
}

impl From<Bug> for Halt {
    fn from(bug: Bug) -> Self {
        Self::Bug(bug)
    }
}

/// Whether a value is a float or an integer in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Float,
    Int,
}

fn sort_of(dtype: DType) -> Sort {
    if dtype.is_float() { Sort::Float } else { Sort::Int }
}

/// What a node is to the kernel under construction.
pub(crate) enum Source {
    /// Memory.
    Memory(Stored),
    /// A host scalar.
    Host(u32),
    /// The result of a row reduction.
    Row(u32),
    /// Computed here.
    Here,
}

/// An operand and the view that the launch binds to it.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    /// For the kernel.
    pub(crate) operand: Operand,
    /// For the launch.
    pub(crate) view: View,
}

/// A loop axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Atom {
    /// Its extent.
    pub(crate) extent: usize,
}

/// A kernel body under construction.
pub(crate) struct Body<'a> {
    /// Whose nodes they are.
    pub(crate) graph: &'a Graph,
    /// What a node is.
    pub(crate) source: &'a dyn Fn(NodeId) -> Source,
    /// Host scalars for the halves of the seed and the step.
    random: [u32; 3],
    /// The loop axes.
    pub(crate) atoms: Vec<Atom>,
    /// The views.
    pub(crate) operands: Vec<Bound>,
    /// Host scalars that are parameters.
    pub(crate) params: Vec<(u32, DType)>,
    insts: Vec<Inst>,
    sorts: Vec<Sort>,
    memo: BTreeMap<(NodeId, Vec<Index>, Vec<(Vec<(u32, i64)>, i64, i64)>), Ref>,
}

impl<'a> Body<'a> {
    /// An empty one. `random`: host scalars of the seed's low and high half, and the step.
    pub(crate) fn new(
        graph: &'a Graph,
        source: &'a dyn Fn(NodeId) -> Source,
        random: [u32; 3],
        atoms: Vec<Atom>,
    ) -> Self {
        Self {
            graph,
            source,
            random,
            atoms,
            operands: Vec::new(),
            params: Vec::new(),
            insts: Vec::new(),
            sorts: Vec::new(),
            memo: BTreeMap::new(),
        }
    }

    /// Ends a stage: its instructions; operands and parameters stay.
    pub(crate) fn take_stage(&mut self) -> Vec<Inst> {
        self.sorts.clear();
        self.memo.clear();
        std::mem::take(&mut self.insts)
    }

    /// The value of a node at indices along the axes of its type, as it is stored.
    pub(crate) fn value(&mut self, id: NodeId, index: &[Index]) -> Result<Ref, Halt> {
        self.node(id, index, &[])
    }

    /// The operand that writes (or adds to) a stored node at indices along `ty`'s axes.
    pub(crate) fn target(
        &mut self,
        stored: &Stored,
        ty: &Type,
        index: &[Index],
        access: Access,
    ) -> Result<u32, Halt> {
        let (bound, indirect) = self.address(stored, ty, index, access)?;
        if !indirect.is_empty() {
            return Err(bug("a result is written at a computed index").into());
        }
        Ok(self.bind(bound))
    }

    /// A parameter's number.
    pub(crate) fn param(&mut self, host: u32, dtype: DType) -> u32 {
        match self.params.iter().position(|p| *p == (host, dtype)) {
            Some(i) => i as u32,
            None => {
                self.params.push((host, dtype));
                self.params.len() as u32 - 1
            }
        }
    }

    /// Appends an instruction, or finds an equal one.
    pub(crate) fn push(&mut self, inst: Inst, sort: Sort) -> Ref {
        if let Some(at) = self.insts.iter().position(|i| *i == inst) {
            return at as Ref;
        }
        self.insts.push(inst);
        self.sorts.push(sort);
        self.insts.len() as Ref - 1
    }

    /// An integer.
    pub(crate) fn int(&mut self, value: i64) -> Ref {
        self.push(Inst::Const(Literal::new(value as f64), DType::I32), Sort::Int)
    }

    /// The value as a float.
    pub(crate) fn float(&mut self, x: Ref) -> Ref {
        match self.sorts[x as usize] {
            Sort::Float => x,
            Sort::Int => self.push(Inst::Cast(DType::F32, x), Sort::Float),
        }
    }

    /// The value as an integer.
    pub(crate) fn integer(&mut self, x: Ref) -> Ref {
        match self.sorts[x as usize] {
            Sort::Int => x,
            Sort::Float => self.push(Inst::Cast(DType::I32, x), Sort::Int),
        }
    }

    /// Two arguments.
    pub(crate) fn binary(&mut self, op: BinOp, a: Ref, b: Ref, sort: Sort) -> Ref {
        self.push(Inst::Binary(op, a, b), sort)
    }

    /// An integer operation.
    pub(crate) fn ints(&mut self, op: BinOp, a: Ref, b: Ref) -> Ref {
        self.binary(op, a, b, Sort::Int)
    }

    // Rounds a computed f32 to a 16-bit type of the node.
    fn rounded(&mut self, x: Ref, dtype: DType) -> Ref {
        match dtype {
            DType::Bf16 | DType::F16 => self.push(Inst::Cast(dtype, x), Sort::Float),
            DType::F32 | DType::I32 | DType::Bool => x,
        }
    }

    /// A node at indices, under guards.
    pub(crate) fn node(
        &mut self,
        id: NodeId,
        index: &[Index],
        guards: &[Guard],
    ) -> Result<Ref, Halt> {
        let key = (
            id,
            index.to_vec(),
            guards.iter().map(|g| (g.terms.clone(), g.offset, g.limit)).collect::<Vec<_>>(),
        );
        if let Some(at) = self.memo.get(&key) {
            return Ok(*at);
        }
        let value = self.compute(id, index, guards)?;
        self.memo.insert(key, value);
        Ok(value)
    }

    fn compute(&mut self, id: NodeId, index: &[Index], guards: &[Guard]) -> Result<Ref, Halt> {
        let graph = self.graph;
        let n = graph.node(id);
        match (self.source)(id) {
            Source::Memory(stored) => {
                return self.load(&stored, &n.ty, index, guards, Literal::new(0.0));
            }
            Source::Host(host) => return Ok(self.scalar(host, n.ty.dtype)),
            Source::Row(k) => return Ok(self.push(Inst::Row(k), sort_of(n.ty.dtype))),
            Source::Here => {}
        }
        let own = sort_of(n.ty.dtype);
        let ty = &n.ty;
        let x = |i: usize| n.inputs[i];
        let at = |i: usize| by_name(ty, index, graph.ty(n.inputs[i]));
        Ok(match &n.op {
            Op::Const(literal) => match own {
                Sort::Float => self.push(Inst::Const(*literal, DType::F32), own),
                Sort::Int => self.push(Inst::Const(*literal, DType::I32), own),
            },
            Op::Pos => self.index_value(&index[0]),
            Op::Random(dist, stream) => {
                let mut counters = [0; 3];
                for (i, c) in counters.iter_mut().enumerate() {
                    let value = self.node(x(i), &at(i)?, guards)?;
                    *c = self.integer(value);
                }
                let [low, high, step] = self.random;
                let seed = [self.param(low, DType::I32), self.param(high, DType::I32)];
                let step = self.param(step, DType::I32);
                let inst = Inst::Random { dist: *dist, stream: *stream, counters, seed, step };
                let drawn = self.push(inst, Sort::Float);
                self.rounded(drawn, ty.dtype)
            }
            Op::Unary(op) => {
                let v = self.node(x(0), &at(0)?, guards)?;
                let v = match (op, own) {
                    (UnOp::Not | UnOp::Neg | UnOp::Abs | UnOp::Sign, Sort::Int) => v,
                    (_, _) => self.float(v),
                };
                let v = self.push(Inst::Unary(*op, v), own);
                self.rounded(v, ty.dtype)
            }
            Op::Binary(op) => {
                let a = self.node(x(0), &at(0)?, guards)?;
                let b = self.node(x(1), &at(1)?, guards)?;
                let both_int = self.sorts[a as usize] == Sort::Int
                    && self.sorts[b as usize] == Sort::Int
                    && own == Sort::Int;
                let (a, b) = if both_int { (a, b) } else { (self.float(a), self.float(b)) };
                let mut v = self.binary(*op, a, b, own);
                if own == Sort::Int && !both_int && !op.is_bool() {
                    self.sorts[v as usize] = Sort::Float;
                    v = self.integer(v);
                }
                self.rounded(v, ty.dtype)
            }
            Op::Select => {
                let c = self.node(x(0), &at(0)?, guards)?;
                let a = self.node(x(1), &at(1)?, guards)?;
                let b = self.node(x(2), &at(2)?, guards)?;
                let c = self.truth(c);
                let (a, b) = match own {
                    Sort::Float => (self.float(a), self.float(b)),
                    Sort::Int => (self.integer(a), self.integer(b)),
                };
                self.push(Inst::Select(c, a, b), own)
            }
            Op::Cast => {
                let v = self.node(x(0), &at(0)?, guards)?;
                let from = graph.ty(x(0)).dtype;
                match ty.dtype {
                    same if same == from => v,
                    DType::F32 => self.float(v),
                    DType::Bf16 | DType::F16 => {
                        let v = self.float(v);
                        self.push(Inst::Cast(ty.dtype, v), Sort::Float)
                    }
                    DType::I32 => self.integer(v),
                    DType::Bool => self.truth(v),
                }
            }
            Op::Expand | Op::Stop | Op::Collective(_) => self.node(x(0), &at(0)?, guards)?,
            Op::Rename(names) => {
                let of_input = graph.ty(x(0));
                let new = |a: &Name| {
                    names.iter().find(|(old, _)| old == a).map_or(a, |(_, new)| new).clone()
                };
                let inner = of_input
                    .axes
                    .iter()
                    .map(|a| axis_index(ty, index, &new(&a.name)))
                    .collect::<Result<Vec<_>, _>>()?;
                self.node(x(0), &inner, guards)?
            }
            Op::Split { axis, into } => {
                let parts = into
                    .iter()
                    .map(|a| axis_index(ty, index, &a.name).map(|i| (i, a.size as i64)))
                    .collect::<Result<Vec<_>, _>>()?;
                let joined = self.join(&parts);
                let of_input = graph.ty(x(0));
                let inner = of_input
                    .axes
                    .iter()
                    .map(|a| {
                        if a.name == *axis {
                            Ok(joined.clone())
                        } else {
                            axis_index(ty, index, &a.name)
                        }
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                self.node(x(0), &inner, guards)?
            }
            Op::Merge { axes, into } => {
                let of_input = graph.ty(x(0));
                let sizes: Vec<i64> =
                    axes.iter().map(|a| of_input.size(a).unwrap_or(1) as i64).collect();
                let parts = self.cut(axis_index(ty, index, into)?, &sizes)?;
                let inner = of_input
                    .axes
                    .iter()
                    .map(|a| match axes.iter().position(|m| *m == a.name) {
                        Some(i) => Ok(parts[i].clone()),
                        None => axis_index(ty, index, &a.name),
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                self.node(x(0), &inner, guards)?
            }
            Op::Window { axis, index: affine, outside } => {
                let place = self.shifted(ty, index, affine)?;
                self.read_along(x(0), axis, place, ty, index, guards, *outside)?
            }
            Op::Gather { axis } => {
                let place = match self.affine(x(1), &at(1)?) {
                    Some(place) => place,
                    None => {
                        let value = self.node(x(1), &at(1)?, guards)?;
                        Index::Computed(self.integer(value))
                    }
                };
                self.read_along(x(0), axis, place, ty, index, guards, Literal::new(0.0))?
            }
            Op::Concat { parts, into } => {
                let place = axis_index(ty, index, into)?;
                self.concat(&n.inputs, parts, place, ty, index, guards)?
            }
            Op::Input(_)
            | Op::Runtime(_)
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
            | Op::Part(_) => {
                return Err(bug(&format!("{id:?} is read in a kernel, but has no memory")).into());
            }
        })
    }

    fn scalar(&mut self, host: u32, dtype: DType) -> Ref {
        let (stored, sort) = match dtype {
            DType::F32 | DType::Bf16 | DType::F16 => (DType::F32, Sort::Float),
            DType::I32 | DType::Bool => (DType::I32, Sort::Int),
        };
        let param = self.param(host, stored);
        self.push(Inst::Param(param, stored), sort)
    }

    // x != 0 as an integer.
    fn truth(&mut self, x: Ref) -> Ref {
        match self.sorts[x as usize] {
            Sort::Int => x,
            Sort::Float => {
                let zero = self.push(Inst::Const(Literal::new(0.0), DType::F32), Sort::Float);
                self.binary(BinOp::Ne, x, zero, Sort::Int)
            }
        }
    }

    // x at `place` along `axis`, `outside` where that falls off; other axes by name.
    #[allow(clippy::too_many_arguments, reason = "one call per way to read")]
    fn read_along(
        &mut self,
        x: NodeId,
        axis: &Name,
        place: Index,
        ty: &Type,
        index: &[Index],
        guards: &[Guard],
        outside: Literal,
    ) -> Result<Ref, Halt> {
        let of_input = self.graph.ty(x).clone();
        let size = of_input.size(axis).unwrap_or(1) as i64;
        let inner =
            of_input
                .axes
                .iter()
                .map(|a| {
                    if a.name == *axis { Ok(place.clone()) } else { axis_index(ty, index, &a.name) }
                })
                .collect::<Result<Vec<_>, _>>()?;
        let mut guards = guards.to_vec();
        if let Index::Affine { terms, offset } = &place {
            let (low, high) = self.range(terms, *offset);
            if low >= 0 && high < size {
                return self.node(x, &inner, &guards);
            }
            let guard = self.guard(terms, *offset, size);
            if !guards.contains(&guard) {
                guards.push(guard);
            }
        }
        if let Source::Memory(stored) = (self.source)(x) {
            return self.load(&stored, &of_input, &inner, &guards, outside);
        }
        let value = self.node(x, &inner, &guards)?;
        let inside = self.between(&place, 0, size);
        let sort = self.sorts[value as usize];
        let other = match sort {
            Sort::Float => self.push(Inst::Const(outside, DType::F32), sort),
            Sort::Int => self.push(Inst::Const(outside, DType::I32), sort),
        };
        Ok(self.push(Inst::Select(inside, value, other), sort))
    }

    fn concat(
        &mut self,
        inputs: &[NodeId],
        parts: &[Name],
        place: Index,
        ty: &Type,
        index: &[Index],
        guards: &[Guard],
    ) -> Result<Ref, Halt> {
        let sizes: Vec<i64> = inputs
            .iter()
            .zip(parts)
            .map(|(x, p)| self.graph.ty(*x).size(p).unwrap_or(1) as i64)
            .collect();
        // Equal parts: a loop over parts and one within.
        if let Index::Affine { terms, offset: 0 } = &place
            && let [(atom, 1)] = terms[..]
        {
            let (extent, inner) = (self.atoms[atom as usize].extent as i64, sizes[0]);
            if sizes.iter().all(|s| *s == inner)
                && inner > 1
                && extent > inner
                && extent % inner == 0
            {
                return Err(Halt::Refine { atom, inner: inner as usize });
            }
        }
        let mut start = 0;
        let mut pieces: Vec<(Ref, i64, i64)> = Vec::new();
        for ((x, part), size) in inputs.iter().zip(parts).zip(&sizes) {
            let within = self.sum(&[(place.clone(), 1)], -start);
            let mut guards = guards.to_vec();
            let mut reached = true;
            if let Index::Affine { terms, offset } = &within {
                let (low, high) = self.range(terms, *offset);
                reached = high >= 0 && low < *size;
                if low < 0 || high >= *size {
                    guards.push(self.guard(terms, *offset, *size));
                }
            }
            if reached {
                let inner = self
                    .graph
                    .ty(*x)
                    .axes
                    .iter()
                    .map(|a| {
                        if a.name == *part {
                            Ok(within.clone())
                        } else {
                            axis_index(ty, index, &a.name)
                        }
                    })
                    .collect::<Result<Vec<_>, _>>()?;
                pieces.push((self.node(*x, &inner, &guards)?, start, start + size));
            }
            start += size;
        }
        let Some((mut value, _, _)) = pieces.pop() else {
            return Err(bug("a concatenation is read beyond its end").into());
        };
        for (piece, low, high) in pieces.into_iter().rev() {
            let inside = self.between(&place, low, high);
            let sort = self.sorts[value as usize];
            value = self.push(Inst::Select(inside, piece, value), sort);
        }
        Ok(value)
    }

    fn load(
        &mut self,
        stored: &Stored,
        ty: &Type,
        index: &[Index],
        guards: &[Guard],
        outside: Literal,
    ) -> Result<Ref, Halt> {
        let (bound, indirect) = self.address(stored, ty, index, Access::Read)?;
        let operand = self.bind(bound);
        let inst = Inst::Load { operand, indirect, guards: guards.to_vec(), outside };
        Ok(self.push(inst, sort_of(stored.dtype)))
    }

    fn address(
        &mut self,
        stored: &Stored,
        ty: &Type,
        index: &[Index],
        access: Access,
    ) -> Result<(Bound, Vec<Indirect>), Halt> {
        let mut strides = vec![0; self.atoms.len()];
        let mut constant = 0;
        let mut indirect = Vec::new();
        for (axis, at) in ty.axes.iter().zip(index) {
            let stride = stored.stride(&axis.name);
            match at {
                Index::Affine { terms, offset } => {
                    terms.iter().for_each(|(a, c)| strides[*a as usize] += stride * c);
                    constant += stride * offset;
                }
                Index::Computed(r) => {
                    indirect.push(Indirect { index: *r, stride, limit: axis.size as i64 });
                }
            }
        }
        // A constant belongs to the launch, so that equal kernels are equal; a negative one cannot.
        let mut view = stored.view();
        let mut offset = 0;
        if constant >= 0 {
            view.offset += constant as usize * stored.dtype.bytes();
        } else {
            offset = constant;
        }
        let operand = Operand { dtype: stored.dtype, strides, offset, dynamic: None, access };
        Ok((Bound { operand, view }, indirect))
    }

    fn bind(&mut self, bound: Bound) -> u32 {
        let same = |b: &Bound| b.operand == bound.operand && b.view == bound.view;
        match self.operands.iter().position(same) {
            Some(i) => i as u32,
            None => {
                self.operands.push(bound);
                self.operands.len() as u32 - 1
            }
        }
    }
}

/// The index along a named axis.
pub(crate) fn axis_index(ty: &Type, index: &[Index], name: &Name) -> Result<Index, Halt> {
    match ty.find(name) {
        Some(i) => Ok(index[i].clone()),
        None => Err(bug(&format!("axis `{name}` is read but not there")).into()),
    }
}

/// The indices of a value whose axes the outer value has.
pub(crate) fn by_name(outer: &Type, index: &[Index], inner: &Type) -> Result<Vec<Index>, Halt> {
    inner.axes.iter().map(|a| axis_index(outer, index, &a.name)).collect()
}

fn bug(message: &str) -> Bug {
    Bug::new("lower", message, "")
}
