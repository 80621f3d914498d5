//! Fused loops: from a group of nodes to a [`Loop`] or a [`ColReduce`] and its launch.
//!
//! Takes the axes of the iteration space and the members of a group; gives a kernel with as few loop axes as the operands'
//! strides allow. If an index needs a finer loop axis than the graph has, the axis is cut and the kernel built again.
//!
//! *Stages.* A member that needs the row's reductions of stage `s` stands in stage `s + 1`; each stage computes what it needs from
//! memory, since a row stays in the cache. Results of the row itself are stored by one stage per row at the end.

use std::collections::BTreeMap;

use crate::bug::Bug;
use crate::graph::{Axis, Graph, Name, NodeId, Op, Type};
use crate::kernel::{Access, ColReduce, DType, Effect, Kernel, Loop, Stage};
use crate::lower::Stored;
use crate::lower::body::{Body, Halt, Source};
use crate::lower::fuse::Grouping;
use crate::lower::level::{Home, Level};
use crate::lower::nest::{Domain, Made, Part};

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
            if let Home::Stored(s) = &self.homes[id.0 as usize] {
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
