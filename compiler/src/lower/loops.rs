//! Fused loops: from a group of nodes to a [`Loop`] or a [`ColReduce`] and its launch.
//!
//! Takes the axes of the iteration space and the members of a group; gives a kernel with as few loop axes as the operands'
//! strides allow. If an index needs a finer loop axis than the graph has, the axis is cut and the kernel built again.
//!
//! *Stages.* A member that needs the row's reductions of stage `s` stands in stage `s + 1`; each stage computes what it needs from
//! memory, since a row stays in the cache. Results of the row itself are stored by one stage per row at the end.

use std::collections::{BTreeMap, BTreeSet};

use crate::bug::Bug;
use crate::graph::{Axis, Graph, Name, NodeId, Op, Type};
use crate::kernel::{
    Access, ColReduce, DType, Effect, Guard, Inst, Kernel, Loop, Operand, ReduceOp, Ref, Stage,
};
use crate::lower::Stored;
use crate::lower::body::{Atom, Body, Bound, Halt, Index, Source};
use crate::lower::fuse::Grouping;
use crate::lower::level::Level;
use crate::plan::View;

impl Level<'_, '_, '_> {
    /// Emits a group of kind `Loop`.
    pub(crate) fn fused_loop(
        &mut self,
        rows: &[Axis],
        cols: &[Axis],
        reduces: bool,
        members: &[NodeId],
    ) -> Result<(), Bug> {
        let mut homes = BTreeMap::new();
        for id in members {
            if let crate::lower::level::Home::Stored(s) = &self.homes[id.0 as usize] {
                homes.insert(*id, s.clone());
            }
        }
        // An element of the old value must be read before it is replaced: where that fails, the result takes a detour.
        let mut after = Vec::new();
        let kernel = loop {
            let made = self.build_loop(rows, cols, reduces, members, &homes)?;
            match made.clash() {
                None => break made,
                Some(buffer) => {
                    for id in members {
                        if let Some(home) = homes.get_mut(id)
                            && home.buffer == buffer
                        {
                            let ty = self.graph.ty(*id).clone();
                            let class = self.context.buffers[buffer as usize].class;
                            let temporary = self.fresh(*id, &ty, class);
                            after.push((temporary.clone(), home.clone(), ty));
                            *home = temporary;
                        }
                    }
                }
            }
        };
        let origin = self.origin(*members.last().unwrap_or(&NodeId(0)));
        self.finish(kernel, reduces, origin);
        for (from, to, ty) in after {
            self.copy(&from, &to, &ty)?;
        }
        Ok(())
    }

    /// Computes one inlined node into a memory with the axes of `ty`.
    pub(crate) fn copy_node(&mut self, id: NodeId, ty: &Type, to: &Stored) -> Result<(), Bug> {
        let homes = BTreeMap::from([(id, to.clone())]);
        let made = self.build_loop(&ty.axes, &[], false, &[id], &homes)?;
        let origin = Name::from(format!("{} (packed)", self.origin(id)));
        self.finish(made, false, origin);
        Ok(())
    }

    /// Copies between two memories of any strides.
    pub(crate) fn copy_stored(&mut self, from: &Stored, to: &Stored, ty: &Type) -> Result<(), Bug> {
        let mut graph = Graph::default();
        let node = graph.push(crate::graph::Node {
            op: Op::Input(0),
            inputs: vec![],
            ty: ty.clone(),
            span: None,
            path: Name::from(""),
        });
        let source = |_: NodeId| Source::Memory(from.clone());
        let domain = Domain::new(&ty.axes, 0, ty.axes.len());
        let mut body = Body::new(&graph, &source, [0; 3], domain.atoms());
        let index = domain.indices(ty);
        let done: Result<Made, Halt> = (|| {
            let value = body.value(node, &index)?;
            let operand = body.target(to, ty, &index, Access::Write)?;
            let insts = body.take_stage();
            let effects = vec![Effect::Store { operand, value }];
            let stage = Stage { per_row: false, insts, effects };
            Ok(Made::new(domain, body.operands, body.params, vec![stage], 0))
        })();
        match done {
            Ok(made) => {
                self.finish(made, false, Name::from("copy"));
                Ok(())
            }
            Err(Halt::Bug(bug)) => Err(bug),
            Err(Halt::Refine { .. }) => Err(self.bug("a copy needs no finer axes".into())),
        }
    }

    /// Emits the rows of a cache update.
    pub(crate) fn update(&mut self, id: NodeId) -> Result<(), Bug> {
        let graph = self.graph;
        let node = graph.node(id);
        let Op::Update { axis } = &node.op else { return Err(self.bug("not an update".into())) };
        let (dst, src) = (node.inputs[0], node.inputs[1]);
        let home = self.home(id)?;
        let old = self.operand(dst)?;
        if old != home {
            self.copy(&old, &home, &node.ty)?;
        }
        let start = self.host_value(node.inputs[2])?;
        let start = start.ok_or_else(|| self.bug("an update's place is no host scalar".into()))?;
        let ty = graph.ty(src).clone();
        let random = self.context.random(self.graph);
        let mut domain = Domain::new(&ty.axes, 0, ty.axes.len());
        let made = loop {
            let this = &*self;
            let source = |x: NodeId| this.source(x);
            let mut body = Body::new(graph, &source, random, domain.atoms());
            let index = domain.indices(&ty);
            let attempt: Result<Stage, Halt> = (|| {
                let value = body.value(src, &index)?;
                let operand = body.target(&home, &ty, &index, Access::Write)?;
                let param = body.param(start, DType::I32);
                body.operands[operand as usize].operand.dynamic = Some((param, home.stride(axis)));
                let effects = vec![Effect::Store { operand, value }];
                Ok(Stage { per_row: false, insts: body.take_stage(), effects })
            })();
            match attempt {
                Ok(stage) => break Made::new(domain, body.operands, body.params, vec![stage], 0),
                Err(Halt::Refine { atom, inner }) => domain = domain.refined(atom, inner),
                Err(Halt::Bug(bug)) => return Err(bug),
            }
        };
        let origin = self.origin(id);
        self.finish(made, false, origin);
        Ok(())
    }

    fn build_loop(
        &mut self,
        rows: &[Axis],
        cols: &[Axis],
        reduces: bool,
        members: &[NodeId],
        homes: &BTreeMap<NodeId, Stored>,
    ) -> Result<Made, Bug> {
        let graph = self.graph;
        let axes: Vec<Axis> = rows.iter().chain(cols).cloned().collect();
        let random = self.context.random(self.graph);
        let mut row_of: BTreeMap<NodeId, u32> = BTreeMap::new();
        for id in members {
            if matches!(graph.node(*id).op, Op::Reduce { .. }) {
                row_of.insert(*id, row_of.len() as u32);
            }
        }
        let this = &*self;
        let source = |x: NodeId| match row_of.get(&x) {
            Some(k) => Source::Row(*k),
            None if members.contains(&x) => Source::Here,
            None => this.source(x),
        };
        let stage_of = Stages { graph, source: &source, row_of: &row_of }.all(members);
        let last = stage_of.values().copied().max().unwrap_or(0);
        let mut domain = Domain::new(&axes, 0, rows.len());
        loop {
            let mut body = Body::new(graph, &source, random, domain.atoms());
            let attempt: Result<Vec<Stage>, Halt> = (|| {
                let mut stages = Vec::new();
                for s in 0..=last {
                    let mut effects = Vec::new();
                    for id in members.iter().filter(|id| stage_of[*id] == s) {
                        let n = graph.node(*id);
                        if let Op::Reduce { op, .. } = &n.op {
                            let x = n.inputs[0];
                            let value = body.value(x, &domain.indices(graph.ty(x)))?;
                            effects.push(Effect::Reduce { op: *op, value, into: row_of[id] });
                        } else if !reduces || n.ty.axes.len() != rows.len() {
                            effects.push(store(&mut body, &domain, graph, *id, &homes[id])?);
                        }
                    }
                    let insts = body.take_stage();
                    if !effects.is_empty() {
                        stages.push(Stage { per_row: false, insts, effects });
                    }
                }
                let mut effects = Vec::new();
                for id in members.iter().filter(|_| reduces) {
                    let n = graph.node(*id);
                    let of_row = row_of.contains_key(id) || n.ty.axes.len() == rows.len();
                    if let Some(home) = homes.get(id)
                        && of_row
                    {
                        effects.push(store(&mut body, &domain, graph, *id, home)?);
                    }
                }
                if !effects.is_empty() {
                    stages.push(Stage { per_row: true, insts: body.take_stage(), effects });
                }
                Ok(stages)
            })();
            match attempt {
                Ok(stages) => {
                    let values = row_of.len() as u32;
                    return Ok(Made::new(domain, body.operands, body.params, stages, values));
                }
                Err(Halt::Refine { atom, inner }) => domain = domain.refined(atom, inner),
                Err(Halt::Bug(bug)) => return Err(bug),
            }
        }
    }

    // Chooses rows and columns, and launches.
    fn finish(&mut self, mut made: Made, reduces: bool, origin: Name) {
        made.tidy();
        if !reduces {
            made.choose_columns();
        }
        made.hoist();
        let rows = made.extents(Part::Row);
        let cols = made.extents(Part::Col);
        let kernel = Kernel::Loop(Loop {
            rows,
            cols,
            operands: made.operands.iter().map(|b| b.operand.clone()).collect(),
            stages: made.stages,
            row_values: made.row_values,
            params: made.params.iter().map(|p| p.1).collect(),
        });
        let views = made.operands.into_iter().map(|b| b.view).collect();
        let params = made.params.into_iter().map(|p| p.0).collect();
        self.launch(kernel, views, params, origin, 0);
    }

    /// Emits a group of kind `ColReduce`.
    pub(crate) fn column_reduction(
        &mut self,
        kept: &[Axis],
        reduced: &[Axis],
        members: &[NodeId],
        groups: &Grouping,
    ) -> Result<(), Bug> {
        let graph = self.graph;
        // Kept axes behind the last reduced one of the operand are columns.
        let full = &graph.ty(graph.node(members[0]).inputs[0]).axes;
        let innermost = full.iter().rposition(|a| reduced.contains(a)).unwrap_or(0);
        let at = |a: &Axis| full.iter().position(|f| f == a).unwrap_or(0);
        let mut outer: Vec<Axis> = kept.iter().filter(|a| at(a) < innermost).cloned().collect();
        let mut cols: Vec<Axis> = kept.iter().filter(|a| at(a) > innermost).cloned().collect();
        let mut middle = reduced.to_vec();
        outer.sort_by_key(|a| at(a));
        cols.sort_by_key(|a| at(a));
        middle.sort_by_key(|a| at(a));
        let axes: Vec<Axis> = outer.iter().chain(&middle).chain(&cols).cloned().collect();
        let random = self.context.random(self.graph);
        let mut before = Vec::new();
        let mut homes = BTreeMap::new();
        for id in members {
            homes.insert(*id, self.home(*id)?);
            before.extend(self.started_sum(*id, groups)?);
        }
        for (from, to, ty) in before {
            self.copy(&from, &to, &ty)?;
        }
        let this = &*self;
        let source = |x: NodeId| if members.contains(&x) { Source::Here } else { this.source(x) };
        let mut domain = Domain::new(&axes, outer.len(), outer.len() + middle.len());
        let (mut made, results) = loop {
            let mut body = Body::new(graph, &source, random, domain.atoms());
            let attempt: Result<_, Halt> = (|| {
                let mut results = Vec::new();
                for id in members {
                    let n = graph.node(*id);
                    let Op::Reduce { op, .. } = &n.op else { continue };
                    let x = n.inputs[0];
                    let value = body.value(x, &domain.indices(graph.ty(x)))?;
                    let access = if groups.absorbed.contains_key(id) {
                        Access::Accumulate
                    } else {
                        Access::Write
                    };
                    let operand = body.target(&homes[id], &n.ty, &domain.indices(&n.ty), access)?;
                    results.push((*op, value, operand));
                }
                Ok((Stage { per_row: false, insts: body.take_stage(), effects: vec![] }, results))
            })();
            match attempt {
                Ok((stage, results)) => {
                    let made = Made::new(domain, body.operands, body.params, vec![stage], 0);
                    break (made, results);
                }
                Err(Halt::Refine { atom, inner }) => domain = domain.refined(atom, inner),
                Err(Halt::Bug(bug)) => return Err(bug),
            }
        };
        made.tidy();
        let outer = made.extents(Part::Outer);
        let reduced = made.extents(Part::Row);
        let cols = made.extents(Part::Col);
        let problems: usize = outer.iter().product();
        let total: usize = reduced.iter().product();
        let chunks = if problems >= 64 {
            1
        } else {
            self.context.target.reduce_chunks.min(total.div_ceil(64)).max(1)
        };
        let insts = made.stages.into_iter().next().map(|s| s.insts).unwrap_or_default();
        let kernel = Kernel::ColReduce(ColReduce {
            outer,
            reduced,
            cols,
            chunks,
            operands: made.operands.iter().map(|b| b.operand.clone()).collect(),
            insts,
            results,
            params: made.params.iter().map(|p| p.1).collect(),
        });
        let views = made.operands.into_iter().map(|b| b.view).collect();
        let params = made.params.into_iter().map(|p| p.0).collect();
        let origin = self.origin(members[0]);
        self.launch(kernel, views, params, origin, 0);
        Ok(())
    }

    /// For a term that is added into memory: the copy that must come before if the old sum lies elsewhere.
    pub(crate) fn started_sum(
        &mut self,
        term: NodeId,
        groups: &Grouping,
    ) -> Result<Option<(Stored, Stored, Type)>, Bug> {
        let Some(sum) = groups.absorbed.get(&term) else { return Ok(None) };
        let n = self.graph.node(*sum);
        let old = if n.inputs[0] == term { n.inputs[1] } else { n.inputs[0] };
        let (from, to) = (self.operand(old)?, self.home(*sum)?);
        Ok((from != to).then(|| (from, to, n.ty.clone())))
    }
}

fn store(
    body: &mut Body<'_>,
    domain: &Domain,
    graph: &Graph,
    id: NodeId,
    home: &Stored,
) -> Result<Effect, Halt> {
    let ty = graph.ty(id);
    let index = domain.indices(ty);
    let value = body.value(id, &index)?;
    let operand = body.target(home, ty, &index, Access::Write)?;
    Ok(Effect::Store { operand, value })
}

// In which stage each member stands: one behind the reductions that it reads.
struct Stages<'a> {
    graph: &'a Graph,
    source: &'a dyn Fn(NodeId) -> Source,
    row_of: &'a BTreeMap<NodeId, u32>,
}

impl Stages<'_> {
    fn all(&self, members: &[NodeId]) -> BTreeMap<NodeId, usize> {
        let mut memo = BTreeMap::new();
        let mut stages = BTreeMap::new();
        for id in members {
            let stage = if self.row_of.contains_key(id) {
                self.needs(self.graph.node(*id).inputs[0], &mut memo)
            } else {
                self.needs(*id, &mut memo)
            };
            stages.insert(*id, stage);
        }
        stages
    }

    // The first stage in which the value can be computed.
    fn needs(&self, id: NodeId, memo: &mut BTreeMap<NodeId, usize>) -> usize {
        if let Some(s) = memo.get(&id) {
            return *s;
        }
        let inputs = &self.graph.node(id).inputs;
        let s = match (self.source)(id) {
            Source::Memory(_) | Source::Host(_) => 0,
            Source::Row(_) => 1 + self.needs(inputs[0], memo),
            Source::Here => inputs.iter().map(|x| self.needs(*x, memo)).max().unwrap_or(0),
        };
        memo.insert(id, s);
        s
    }
}

/// To which part of the loop nest an axis belongs. Of a `ColReduce`, `Row` are the reduced axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Outer,
    Row,
    Col,
}

// The named axes of an iteration space, each cut into loop axes (atoms), outermost first.
#[derive(Debug, Clone)]
struct Domain {
    axes: Vec<(Name, Part, Vec<usize>)>,
}

impl Domain {
    // The first `outer` axes are `Outer`, those up to `rows` are `Row`, the rest `Col`.
    fn new(axes: &[Axis], outer: usize, rows: usize) -> Self {
        let axes = axes
            .iter()
            .enumerate()
            .map(|(i, a)| {
                let part = if i < outer {
                    Part::Outer
                } else if i < rows {
                    Part::Row
                } else {
                    Part::Col
                };
                (a.name.clone(), part, if a.size == 1 { vec![] } else { vec![a.size] })
            })
            .collect();
        Self { axes }
    }

    fn atoms(&self) -> Vec<Atom> {
        self.axes.iter().flat_map(|(_, _, f)| f).map(|e| Atom { extent: *e }).collect()
    }

    fn parts(&self) -> Vec<Part> {
        self.axes.iter().flat_map(|(_, part, f)| f.iter().map(|_| *part)).collect()
    }

    // The indices of a value whose axes are all here.
    fn indices(&self, ty: &Type) -> Vec<Index> {
        ty.axes
            .iter()
            .map(|axis| {
                let mut first = 0;
                for (name, _, factors) in &self.axes {
                    if *name == axis.name {
                        let mut stride = 1;
                        let mut terms = Vec::new();
                        for (i, f) in factors.iter().enumerate().rev() {
                            terms.push((first + i as u32, stride));
                            stride *= *f as i64;
                        }
                        terms.reverse();
                        return Index::Affine { terms, offset: 0 };
                    }
                    first += factors.len() as u32;
                }
                Index::fixed(0)
            })
            .collect()
    }

    fn refined(mut self, atom: u32, inner: usize) -> Self {
        let mut at = atom as usize;
        for (_, _, factors) in &mut self.axes {
            if at < factors.len() {
                let outer = factors[at] / inner;
                factors.splice(at..=at, [outer, inner]);
                break;
            }
            at -= factors.len();
        }
        self
    }
}

// A kernel before its axes are chosen.
struct Made {
    extents: Vec<usize>,
    parts: Vec<Part>,
    operands: Vec<Bound>,
    params: Vec<(u32, DType)>,
    stages: Vec<Stage>,
    row_values: u32,
}

impl Made {
    fn new(
        domain: Domain,
        operands: Vec<Bound>,
        params: Vec<(u32, DType)>,
        stages: Vec<Stage>,
        row_values: u32,
    ) -> Self {
        let extents = domain.atoms().iter().map(|a| a.extent).collect();
        Self { extents, parts: domain.parts(), operands, params, stages, row_values }
    }

    fn extents(&self, part: Part) -> Vec<usize> {
        let of = self.extents.iter().zip(&self.parts).filter(|(_, p)| **p == part);
        of.map(|(e, _)| *e).collect()
    }

    // A buffer that is written while elements of it are still needed.
    fn clash(&self) -> Option<u32> {
        for (s, stage) in self.stages.iter().enumerate() {
            for effect in &stage.effects {
                let Effect::Store { operand, .. } = effect else { continue };
                let written = &self.operands[*operand as usize];
                for (i, read) in self.operands.iter().enumerate() {
                    let other = i != *operand as usize;
                    if !other || read.view.buffer != written.view.buffer {
                        continue;
                    }
                    let same =
                        same_elements(&read.operand, &read.view, &written.operand, &written.view);
                    let later = self.stages[s + 1..].iter().any(|t| reads(&t.insts, i as u32));
                    let indirect = self.stages.iter().any(|t| reads_indirectly(&t.insts, i as u32));
                    let two_writes = read.operand.access != Access::Read;
                    if !same || later || indirect || two_writes {
                        return Some(written.view.buffer);
                    }
                }
            }
        }
        None
    }

    // Loop axes that coordinates or guards name must stay as they are.
    fn named(&self) -> BTreeSet<u32> {
        let mut named = BTreeSet::new();
        for inst in self.stages.iter().flat_map(|s| &s.insts) {
            match inst {
                Inst::Coord(a) => {
                    named.insert(*a);
                }
                Inst::Load { guards, .. } => {
                    named.extend(guards.iter().flat_map(|g| g.terms.iter().map(|t| t.0)));
                }
                Inst::Param(..)
                | Inst::Row(_)
                | Inst::Const(..)
                | Inst::Unary(..)
                | Inst::Binary(..)
                | Inst::Select(..)
                | Inst::Cast(..)
                | Inst::Random { .. } => {}
            }
        }
        named
    }

    // Joins neighbouring loop axes that every operand steps over as over one.
    fn tidy(&mut self) {
        let named = self.named();
        let mut i = 0;
        let mut original: Vec<u32> = (0..self.extents.len() as u32).collect();
        while i + 1 < self.extents.len() {
            let inner = self.extents[i + 1] as i64;
            let free = !named.contains(&original[i]) && !named.contains(&original[i + 1]);
            let fits = self
                .operands
                .iter()
                .all(|b| b.operand.strides[i] == b.operand.strides[i + 1] * inner);
            if free && fits && self.parts[i] == self.parts[i + 1] {
                self.extents[i + 1] *= self.extents[i];
                self.remove(i);
                original.remove(i);
            } else {
                i += 1;
            }
        }
        let to = |atom: u32| original.iter().position(|o| *o == atom).unwrap_or(0) as u32;
        self.renumber(&to);
    }

    fn remove(&mut self, i: usize) {
        self.extents.remove(i);
        self.parts.remove(i);
        for b in &mut self.operands {
            b.operand.strides.remove(i);
        }
    }

    fn renumber(&mut self, to: &dyn Fn(u32) -> u32) {
        for inst in self.stages.iter_mut().flat_map(|s| &mut s.insts) {
            match inst {
                Inst::Coord(a) => *a = to(*a),
                Inst::Load { guards, .. } => {
                    for Guard { terms, .. } in guards {
                        terms.iter_mut().for_each(|t| t.0 = to(t.0));
                    }
                }
                Inst::Param(..)
                | Inst::Row(_)
                | Inst::Const(..)
                | Inst::Unary(..)
                | Inst::Binary(..)
                | Inst::Select(..)
                | Inst::Cast(..)
                | Inst::Random { .. } => {}
            }
        }
    }

    // Moves what is the same for all columns of a row to a stage that runs once per row.
    fn hoist(&mut self) {
        let rows = self.parts.iter().filter(|p| **p == Part::Row);
        let count: usize = rows.zip(&self.extents).map(|(_, e)| *e).product();
        let reduces = self.row_values > 0;
        // Without rows there is nothing to share the work by but columns, which such a stage would tie together.
        if !reduces && count < 16 {
            return;
        }
        let is_col: Vec<bool> = self.parts.iter().map(|p| *p == Part::Col).collect();
        let mut stages = Vec::new();
        for stage in std::mem::take(&mut self.stages) {
            if stage.per_row {
                stages.push(stage);
                continue;
            }
            let (before, stage) = hoisted(stage, &self.operands, &is_col, &mut self.row_values);
            stages.extend(before);
            stages.push(stage);
        }
        self.stages = stages;
    }

    // Without reductions: the innermost axes are columns, enough of them for vectors, few enough that there are rows to
    // share among threads.
    fn choose_columns(&mut self) {
        const WIDE: usize = 32;
        const LONG: usize = 4096;
        let Some(last) = self.extents.len().checked_sub(1) else { return };
        let named = self.named();
        let extent = self.extents[last];
        if extent > LONG && !named.contains(&(last as u32)) {
            let divisor = (256..=LONG).rev().find(|d| extent.is_multiple_of(*d));
            if let Some(inner) = divisor {
                self.extents[last] = extent / inner;
                self.extents.push(inner);
                self.parts.push(Part::Row);
                for b in &mut self.operands {
                    let stride = b.operand.strides[last];
                    b.operand.strides[last] = stride * inner as i64;
                    b.operand.strides.push(stride);
                }
            }
        }
        let mut width = 1;
        for i in (0..self.extents.len()).rev() {
            if width >= WIDE {
                break;
            }
            self.parts[i] = Part::Col;
            width *= self.extents[i];
        }
    }
}

// A stage per row that computes what of the stage does not depend on columns, and the rest of the stage.
fn hoisted(
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
            wanted.extend(reads_of(inst).into_iter().filter(|r| fixed[*r as usize]));
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

fn reads_of(inst: &Inst) -> Vec<Ref> {
    match inst {
        Inst::Load { indirect, .. } => indirect.iter().map(|i| i.index).collect(),
        Inst::Coord(_) | Inst::Param(..) | Inst::Row(_) | Inst::Const(..) => vec![],
        Inst::Unary(_, a) | Inst::Cast(_, a) => vec![*a],
        Inst::Binary(_, a, b) => vec![*a, *b],
        Inst::Select(c, a, b) => vec![*c, *a, *b],
        Inst::Random { counters, .. } => counters.to_vec(),
    }
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
            reads_of(&stage.insts[i]).into_iter().for_each(|r| live[r as usize] = true);
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
    let moved = |r: &mut Ref| *r = to[*r as usize];
    for inst in &mut stage.insts {
        match inst {
            Inst::Load { indirect, .. } => indirect.iter_mut().for_each(|i| moved(&mut i.index)),
            Inst::Coord(_) | Inst::Param(..) | Inst::Row(_) | Inst::Const(..) => {}
            Inst::Unary(_, a) | Inst::Cast(_, a) => moved(a),
            Inst::Binary(_, a, b) => {
                moved(a);
                moved(b);
            }
            Inst::Select(c, a, b) => {
                moved(c);
                moved(a);
                moved(b);
            }
            Inst::Random { counters, .. } => counters.iter_mut().for_each(moved),
        }
    }
    for effect in &mut stage.effects {
        let (Effect::Store { value, .. } | Effect::Reduce { value, .. }) = effect;
        moved(value);
    }
    stage
}

/// Whether two operands touch the same element at every iteration.
pub(crate) fn same_elements(a: &Operand, va: &View, b: &Operand, vb: &View) -> bool {
    va == vb
        && a.strides == b.strides
        && a.offset == b.offset
        && a.dynamic == b.dynamic
        && a.dtype == b.dtype
}

/// Whether an operand is loaded.
pub(crate) fn reads(insts: &[Inst], operand: u32) -> bool {
    insts.iter().any(|i| matches!(i, Inst::Load { operand: o, .. } if *o == operand))
}

/// Whether an operand is loaded at an index from memory.
pub(crate) fn reads_indirectly(insts: &[Inst], operand: u32) -> bool {
    let is = |i: &Inst| match i {
        Inst::Load { operand: o, indirect, .. } => *o == operand && !indirect.is_empty(),
        Inst::Coord(_)
        | Inst::Param(..)
        | Inst::Row(_)
        | Inst::Const(..)
        | Inst::Unary(..)
        | Inst::Binary(..)
        | Inst::Select(..)
        | Inst::Cast(..)
        | Inst::Random { .. } => false,
    };
    insts.iter().any(is)
}
