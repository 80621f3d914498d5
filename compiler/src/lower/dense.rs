//! Dense nodes: contractions, attention, scatters, and work along a row.
//!
//! Takes a node and the memory of its operands; gives its kernel. A contraction becomes a matrix product whose rows, columns and
//! contracted extent are each one stride apart in every operand; axes that do not fit such a group are a batch, and contracted
//! ones that do not fit are packed first.

use crate::bug::Bug;
use crate::graph::{Attention, Axis, Name, NodeId, Op, Runtime, Type, scalar_grad};
use crate::kernel::{
    Access, AttentionKernel, DType, Expr, Gemm, Kernel, Operand, RowOp, RowOpKind, Scatter,
};
use crate::lower::bounds::key_bounds;
use crate::lower::fuse::Grouping;
use crate::lower::level::{Home, Level};
use crate::lower::{Stored, prepare};
use crate::plan::{Class, View};
use crate::scalar::Inst;

impl Level<'_, '_, '_> {
    /// Emits a group of kind `Dense`.
    pub(crate) fn dense(&mut self, id: NodeId, groups: &Grouping) -> Result<(), Bug> {
        let graph = self.graph;
        let node = graph.node(id);
        match &node.op {
            Op::Contract { over } => self.contract(id, over, groups),
            Op::ScatterAdd { axis } => self.scatter(id, axis, groups),
            Op::CumSum { axis, reverse } => {
                self.row_op(id, axis, RowOpKind::CumSum { reverse: *reverse })
            }
            Op::TopK { axis, k } => self.row_op(id, axis, RowOpKind::TopK { k: *k }),
            Op::ArgSort { axis } => self.row_op(id, axis, RowOpKind::ArgSort),
            Op::Attention(of) => self.attention(id, of, None),
            Op::AttentionGrad { of, wants } => self.attention(id, of, Some(wants)),
            other => Err(self.bug(format!("no dense kernel for {other:?}"))),
        }
    }

    fn contract(&mut self, id: NodeId, over: &[Name], groups: &Grouping) -> Result<(), Bug> {
        let graph = self.graph;
        let node = graph.node(id);
        let (xa, xb) = (node.inputs[0], node.inputs[1]);
        let (ta, tb) = (graph.ty(xa).clone(), graph.ty(xb).clone());
        if let Some((from, to, ty)) = self.started_sum(id, groups)? {
            self.copy(&from, &to, &ty)?;
        }
        let (mut a, mut b, c) = (self.operand(xa)?, self.operand(xb)?, self.home(id)?);
        let real =
            |axes: &[Axis]| -> Vec<Axis> { axes.iter().filter(|x| x.size > 1).cloned().collect() };
        let (of_a, of_b) = (real(&ta.axes), real(&tb.axes));
        let contracted = |x: &Axis| over.contains(&x.name);
        let mut k: Vec<Axis> = of_a.iter().filter(|x| contracted(x)).cloned().collect();
        // The contracted axes in an order in which one operand has them one stride apart; the other is packed if it must.
        sort_by_stride(&mut k, &a);
        if !one_stride(&k, &a) {
            sort_by_stride(&mut k, &b);
        }
        let names: Vec<Name> = k.iter().map(|x| x.name.clone()).collect();
        for (x, ty, stored) in [(xa, &ta, &mut a), (xb, &tb, &mut b)] {
            if !one_stride(&k, stored) {
                let others = ty.axes.iter().map(|x| x.name.clone()).filter(|n| !names.contains(n));
                let order: Vec<Name> = others.chain(names.iter().cloned()).collect();
                *stored = self.packed(x, Some(&order))?;
            }
        }
        let shared = |x: &&Axis| !contracted(x) && tb.find(&x.name).is_some();
        let mut batch: Vec<Axis> = of_a.iter().filter(shared).cloned().collect();
        let rows = of_a.iter().filter(|x| !contracted(x) && tb.find(&x.name).is_none());
        let (m, m_batch) = one_group(rows.cloned().collect(), &a, &c);
        let cols = of_b.iter().filter(|x| !contracted(x) && ta.find(&x.name).is_none());
        let (n, n_batch) = one_group(cols.cloned().collect(), &b, &c);
        batch.extend(m_batch);
        batch.extend(n_batch);
        let count = |axes: &[Axis]| axes.iter().map(|x| x.size).product::<usize>();
        let step = |s: &Stored, axes: &[Axis]| axes.last().map_or(0, |x| s.stride(&x.name));
        let operand = |s: &Stored, m: &[Axis], n: &[Axis], k: &[Axis], access| Operand {
            dtype: s.dtype,
            strides: batch
                .iter()
                .map(|x| s.stride(&x.name))
                .chain([step(s, m), step(s, n), step(s, k)])
                .collect(),
            offset: 0,
            dynamic: None,
            access,
        };
        let summed = groups.absorbed.contains_key(&id);
        let access = if summed { Access::Accumulate } else { Access::Write };
        let target = self.apart(&c, &[&a, &b], &node.ty, id);
        let to = target.as_ref().unwrap_or(&c);
        let gemm = Gemm {
            batch: batch.iter().map(|x| x.size).collect(),
            m: count(&m),
            n: count(&n),
            k: count(&k),
            a: operand(&a, &m, &[], &k, Access::Read),
            b: operand(&b, &[], &n, &k, Access::Read),
            c: operand(to, &m, &n, &[], access),
        };
        let flops = 2 * (count(&batch) * gemm.m * gemm.n * gemm.k) as u64;
        let views = vec![a.view(), b.view(), to.view()];
        let origin = self.origin(id);
        self.launch(Kernel::Gemm(gemm), views, vec![], origin, flops);
        match target {
            Some(from) => self.copy(&from, &c, &node.ty),
            None => Ok(()),
        }
    }

    // A temporary for a result whose place is still read by the kernel that makes it.
    fn apart(&mut self, to: &Stored, read: &[&Stored], ty: &Type, id: NodeId) -> Option<Stored> {
        let clash = read.iter().any(|r| r.buffer == to.buffer);
        clash.then(|| {
            let mut ty = ty.clone();
            // In the order of the place, so that the strides of both fit one kernel.
            ty.axes.sort_by_key(|a| std::cmp::Reverse(to.stride(&a.name)));
            self.fresh(id, &ty, Class::Activations)
        })
    }

    fn scatter(&mut self, id: NodeId, axis: &Name, groups: &Grouping) -> Result<(), Bug> {
        let graph = self.graph;
        let node = graph.node(id);
        if let Some((from, to, ty)) = self.started_sum(id, groups)? {
            self.copy(&from, &to, &ty)?;
        }
        let (y, index, table) =
            (self.operand(node.inputs[0])?, self.operand(node.inputs[1])?, self.home(id)?);
        let of_index = graph.ty(node.inputs[1]).clone();
        let in_table = |a: &&Axis| node.ty.find(&a.name).is_some() && a.name != *axis;
        let outer: Vec<Axis> = of_index.axes.iter().filter(in_table).cloned().collect();
        let rows: Vec<Axis> = of_index
            .axes
            .iter()
            .filter(|a| node.ty.find(&a.name).is_none() || a.name == *axis)
            .cloned()
            .collect();
        let cols: Vec<Axis> = node
            .ty
            .axes
            .iter()
            .filter(|a| a.name != *axis && of_index.find(&a.name).is_none())
            .cloned()
            .collect();
        let all: Vec<Axis> = outer.iter().chain(&rows).chain(&cols).cloned().collect();
        let operand = |s: &Stored, access| Operand {
            dtype: s.dtype,
            strides: all.iter().map(|a| s.stride(&a.name)).collect(),
            offset: 0,
            dynamic: None,
            access,
        };
        let summed = groups.absorbed.contains_key(&id);
        let mut to = operand(&table, if summed { Access::Accumulate } else { Access::Write });
        // An axis of the index may have the name of the scattered one: it is summed, not kept.
        for (a, s) in all.iter().zip(&mut to.strides) {
            if rows.contains(a) {
                *s = 0;
            }
        }
        let sizes = |axes: &[Axis]| axes.iter().map(|a| a.size).collect::<Vec<_>>();
        let kernel = Kernel::Scatter(Scatter {
            outer: sizes(&outer),
            rows: sizes(&rows),
            cols: sizes(&cols),
            limit: node.ty.size(axis).unwrap_or(0),
            stride: table.stride(axis),
            operands: [operand(&y, Access::Read), operand(&index, Access::Read), to],
        });
        let views = vec![y.view(), index.view(), table.view()];
        let origin = self.origin(id);
        self.launch(kernel, views, vec![], origin, 0);
        Ok(())
    }

    fn row_op(&mut self, id: NodeId, axis: &Name, op: RowOpKind) -> Result<(), Bug> {
        let graph = self.graph;
        let node = graph.node(id);
        let x = self.operand(node.inputs[0])?;
        let home = self.home(id)?;
        let target = self.apart(&home, &[&x], &node.ty, id);
        let to = target.as_ref().unwrap_or(&home);
        let rows: Vec<Axis> = node.ty.axes.iter().filter(|a| a.name != *axis).cloned().collect();
        let operand = |s: &Stored, access| Operand {
            dtype: s.dtype,
            strides: rows.iter().map(|a| s.stride(&a.name)).chain([s.stride(axis)]).collect(),
            offset: 0,
            dynamic: None,
            access,
        };
        let kernel = Kernel::RowOp(RowOp {
            op,
            rows: rows.iter().map(|a| a.size).collect(),
            n: node.ty.size(axis).unwrap_or(1),
            operands: [operand(&x, Access::Read), operand(to, Access::Write)],
        });
        let views = vec![x.view(), to.view()];
        let origin = self.origin(id);
        self.launch(kernel, views, vec![], origin, 0);
        match target {
            Some(from) => self.copy(&from, &home, &node.ty),
            None => Ok(()),
        }
    }

    fn attention(
        &mut self,
        id: NodeId,
        of: &Attention,
        wants: Option<&Vec<bool>>,
    ) -> Result<(), Bug> {
        let graph = self.graph;
        let node = graph.node(id);
        let ty = |i: usize| graph.ty(node.inputs[i]).clone();
        let (q, k, v) = (ty(0), ty(1), ty(2));
        let captured = node.inputs.len() - 3 - if wants.is_some() { 3 } else { 0 };
        // An axis of size 1 is no loop, unless its coordinate is asked for.
        let real = |a: &Axis| a.size > 1 || of.pos.contains(&a.name);
        let mut rows = of.rows(&q, &k);
        rows.retain(real);
        let batch = prepare::problem_axes(&rows, &k, &v);
        let queries: Vec<Axis> = rows.iter().filter(|a| !batch.contains(a)).cloned().collect();
        let values: Vec<Axis> = v
            .axes
            .iter()
            .filter(|a| a.size > 1 && a.name != of.key)
            .filter(|a| rows.iter().all(|r| r.name != a.name))
            .cloned()
            .collect();
        let size = |t: &Type, name: &Name| t.size(name).unwrap_or(1);
        let (rank, mut operands) = (batch.len() + queries.len(), Vec::new());
        let mut views: Vec<View> = Vec::new();
        let row_axes: Vec<Name> = batch.iter().chain(&queries).map(|a| a.name.clone()).collect();
        let mut bind = |s: Stored, side: Side, access| {
            // The contracted axis of queries and keys may have the name of an axis of the values.
            let over = if side == Side::Scores { s.stride(&of.over) } else { 0 };
            let value = |a: &Axis| if side == Side::Values { s.stride(&a.name) } else { 0 };
            let strides = row_axes
                .iter()
                .map(|n| s.stride(n))
                .chain([s.stride(&of.key), over])
                .chain(values.iter().map(value))
                .collect();
            operands.push(Operand { dtype: s.dtype, strides, offset: 0, dynamic: None, access });
            views.push(s.view());
        };
        // q, k, v, captured.., and in the backward pass out, lse, dout.
        for (i, x) in node.inputs.iter().enumerate() {
            let side = match i {
                0 | 1 => Side::Scores,
                2 => Side::Values,
                i if i == 3 + captured || i == 5 + captured => Side::Values,
                _captured_or_lse => Side::Rows,
            };
            bind(self.operand(*x)?, side, Access::Read);
        }
        for (i, ty) in self.results(id, of, wants, captured)?.into_iter().enumerate() {
            let stored = match self.part(id, i) {
                Some(Home::Stored(s)) => s,
                Some(Home::Inline | Home::Host(_)) | None => {
                    self.fresh(id, &ty, Class::Activations)
                }
            };
            let side = match (wants.is_some(), i) {
                (false, 0) | (true, 2) => Side::Values,
                (true, 0 | 1) => Side::Scores,
                (_, _) => Side::Rows,
            };
            bind(stored, side, Access::Write);
        }
        let mut runtime: Vec<Runtime> = Vec::new();
        let mut score_grads = Vec::new();
        if wants.is_some() {
            for arg in 0..=captured as u32 {
                score_grads.push(scalar_grad::d(&of.score, arg));
            }
        }
        for e in [&of.score, &of.mask].into_iter().chain(&score_grads) {
            runtime_of(e, &mut runtime);
        }
        let mut pos = Vec::new();
        for name in &of.pos {
            let at =
                if *name == of.key { Some(rank) } else { row_axes.iter().position(|a| a == name) };
            pos.push(at.ok_or_else(|| {
                self.bug(format!("attention asks for the position along `{name}`"))
            })? as u32);
        }
        let (upper, lower) = key_bounds(&of.mask, &pos, rank as u32);
        let count = |axes: &[Axis]| axes.iter().map(|a| a.size).product::<usize>();
        let (over, keys) = (size(&q, &of.over), size(&k, &of.key));
        let pairs = (count(&rows) * keys) as u64;
        let width = match wants {
            None => over + count(&values),
            Some(_) => 3 * over + 2 * count(&values),
        };
        let kernel = AttentionKernel {
            batch: batch.iter().map(|a| a.size).collect(),
            queries: queries.iter().map(|a| a.size).collect(),
            keys,
            over,
            values: values.iter().map(|a| a.size).collect(),
            scale: of.scale,
            score: of.score.clone(),
            mask: of.mask.clone(),
            score_grads,
            pos,
            runtime: runtime.clone(),
            upper,
            lower,
            captured,
            wants: wants.cloned().unwrap_or_default(),
            operands,
        };
        let mut params = Vec::new();
        for r in runtime {
            params.push(self.context.runtime(r));
        }
        let kernel = match wants {
            None => Kernel::Attention(kernel),
            Some(_) => Kernel::AttentionGrad(kernel),
        };
        let origin = self.origin(id);
        self.launch(kernel, views, params, origin, 2 * pairs * width as u64);
        Ok(())
    }

    // The types of the results in the order of the kernel's operands.
    fn results(
        &self,
        id: NodeId,
        of: &Attention,
        wants: Option<&Vec<bool>>,
        captured: usize,
    ) -> Result<Vec<Type>, Bug> {
        let node = self.graph.node(id);
        let ty = |i: usize| self.graph.ty(node.inputs[i]).clone();
        let Some(wants) = wants else {
            let rows = of.rows(&ty(0), &ty(1));
            return Ok(vec![node.ty.clone(), Type::new(DType::F32, rows)]);
        };
        let mut all = vec![ty(0), ty(1), ty(2)];
        for i in (0..captured).filter(|i| wants[*i]) {
            all.push(Type::new(DType::F32, ty(3 + i).axes));
        }
        Ok(all)
    }

    fn part(&self, multi: NodeId, result: usize) -> Option<Home> {
        self.graph.ids().find_map(|id| {
            let n = self.graph.node(id);
            let is = n.op == Op::Part(result as u32) && n.inputs[0] == multi;
            is.then(|| self.homes[id.0 as usize].clone())
        })
    }
}

// Which axes an operand of attention has besides those of its rows and the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Scores,
    Values,
    Rows,
}

fn runtime_of(e: &Expr, all: &mut Vec<Runtime>) {
    for inst in &e.insts {
        if let Inst::Runtime(r) = inst
            && !all.contains(r)
        {
            all.push(*r);
        }
    }
}

fn sort_by_stride(axes: &mut [Axis], s: &Stored) {
    axes.sort_by_key(|a| std::cmp::Reverse(s.stride(&a.name).abs()));
}

// Whether stepping over the axes, the last fastest, is stepping by one stride.
fn one_stride(axes: &[Axis], s: &Stored) -> bool {
    axes.windows(2).all(|w| s.stride(&w[0].name) == s.stride(&w[1].name) * w[1].size as i64)
}

// The largest run of the axes that is one stride apart in both memories, and the axes that are left.
fn one_group(mut axes: Vec<Axis>, x: &Stored, c: &Stored) -> (Vec<Axis>, Vec<Axis>) {
    sort_by_stride(&mut axes, c);
    let mut best = 0..0;
    let mut most = 0;
    for start in 0..axes.len() {
        for end in start + 1..=axes.len() {
            let run = &axes[start..end];
            let size = run.iter().map(|a| a.size).product();
            if one_stride(run, x) && one_stride(run, c) && size > most {
                (best, most) = (start..end, size);
            }
        }
    }
    let group: Vec<Axis> = axes[best].to_vec();
    let rest = axes.into_iter().filter(|a| !group.contains(a)).collect();
    (group, rest)
}
