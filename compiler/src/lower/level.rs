//! One graph's kernels, in its place among the loops.
//!
//! Takes a prepared graph, what its inputs are (memory, or numbers of the host), and where its outputs go; gives the
//! steps. The body of a scan is a level inside a loop: its scanned inputs and stacked outputs are slices that advance
//! with the loop, its carries are one memory that is read and replaced.

use crate::bug::Bug;
use crate::graph::print::print;
use crate::graph::{Graph, Name, NodeId, Op, Scan, ScanKind, Type};
use crate::kernel::{Access, Kernel, Operand};
use crate::lower::body::Source;
use crate::lower::fuse::{self, Group, Grouping, Kind};
use crate::lower::{Context, Stored, prepare, show};
use crate::plan::{Class, Launch, Step, View};
use crate::scalar::{BinOp, Expr, Inst, UnOp};
use crate::source::Span;

/// What an input is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Given {
    /// Memory.
    Stored(Stored),
    /// A host scalar.
    Host(u32),
}

/// The steps of a graph. `places`: per output, where it goes. `path`: the loops around.
pub(crate) fn emit(
    context: &mut Context<'_>,
    graph: &Graph,
    inputs: &[Given],
    places: &[Stored],
    path: &[u32],
) -> Result<Vec<Step>, Bug> {
    let is_host: Vec<bool> = inputs.iter().map(|i| matches!(i, Given::Host(_))).collect();
    let host_nodes = prepare::host_nodes(graph, &is_host);
    let replaces: Vec<Option<NodeId>> =
        places.iter().map(|place| replaced(graph, inputs, place)).collect();
    let groups = fuse::group(graph, &host_nodes, &replaces);
    let shown = context.groups.as_ref().map(|_| show::level(graph, &groups, path));
    let mut level = Level {
        context,
        graph,
        inputs,
        path,
        host_nodes,
        homes: vec![Home::Inline; graph.nodes.len()],
        steps: Vec::new(),
    };
    let late = level.settle(&groups, places)?;
    for group in &groups.groups {
        level.group(group, &groups).map_err(|bug| {
            let dump = if bug.dump.is_empty() { print(graph) } else { bug.dump };
            Bug { dump, ..bug }
        })?;
    }
    for (from, to, ty) in late {
        level.copy(&from, &to, &ty)?;
    }
    let steps = level.steps;
    if let (Some(all), Some(shown)) = (&mut context.groups, shown) {
        all.push_str(&shown);
    }
    Ok(steps)
}

// The input whose memory the output takes over, element for element.
fn replaced(graph: &Graph, inputs: &[Given], place: &Stored) -> Option<NodeId> {
    graph.ids().find(|id| match &graph.node(*id).op {
        Op::Input(i) => inputs.get(*i as usize) == Some(&Given::Stored(place.clone())),
        _other => false,
    })
}

/// Where a node's value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Home {
    /// Nowhere: computed by its readers.
    Inline,
    /// A host scalar.
    Host(u32),
    /// Memory.
    Stored(Stored),
}

/// The state of one level.
pub(crate) struct Level<'c, 't, 'g> {
    /// Shared by all levels.
    pub(crate) context: &'c mut Context<'t>,
    /// The graph.
    pub(crate) graph: &'g Graph,
    inputs: &'g [Given],
    /// The loops around.
    pub(crate) path: &'g [u32],
    host_nodes: Vec<bool>,
    /// Per node.
    pub(crate) homes: Vec<Home>,
    steps: Vec<Step>,
}

impl Level<'_, '_, '_> {
    // Gives every stored node its place; what must be copied at the end of the level.
    fn settle(
        &mut self,
        groups: &Grouping,
        places: &[Stored],
    ) -> Result<Vec<(Stored, Stored, Type)>, Bug> {
        let graph = self.graph;
        for id in graph.ids() {
            let i = id.0 as usize;
            let n = graph.node(id);
            if let Op::Input(k) = &n.op {
                self.homes[i] = match &self.inputs[*k as usize] {
                    Given::Stored(s) => Home::Stored(s.clone()),
                    Given::Host(h) => Home::Host(*h),
                };
            } else if self.host_nodes[i] && !matches!(n.op, Op::Const(_)) {
                self.homes[i] = Home::Host(self.host(id)?);
            }
        }
        let mut late = Vec::new();
        for ((o, place), detour) in graph.outputs.iter().zip(places).zip(&groups.detour) {
            let overlaps = self.overlaps(place);
            let home = if *detour || overlaps {
                let ty = graph.ty(o.node).clone();
                let temporary = self.fresh(o.node, &ty, Class::Activations);
                late.push((temporary.clone(), place.clone(), ty));
                temporary
            } else {
                place.clone()
            };
            self.homes[o.node.0 as usize] = Home::Stored(home);
        }
        for id in graph.ids() {
            if let Op::Scan(scan) = &graph.node(id).op {
                self.settle_carries(id, scan);
            }
        }
        for id in graph.ids() {
            let i = id.0 as usize;
            if groups.stored[i] && self.homes[i] == Home::Inline {
                let ty = graph.ty(id).clone();
                let home = self.fresh(id, &ty, Class::Activations);
                self.homes[i] = Home::Stored(home);
            }
        }
        for (term, sum) in &groups.absorbed {
            self.homes[term.0 as usize] = self.homes[sum.0 as usize].clone();
        }
        Ok(late)
    }

    // A carry's memory: the start is written there, the body replaces it, the end is read from there.
    fn settle_carries(&mut self, id: NodeId, scan: &Scan) {
        let graph = self.graph;
        let class = match scan.kind {
            ScanKind::Micro | ScanKind::Blocks => Class::Gradients,
            ScanKind::Layers | ScanKind::Program => Class::Activations,
        };
        for c in 0..scan.carries {
            let start = graph.node(id).inputs[c];
            let ty = graph.ty(start).clone();
            let home = Home::Stored(self.fresh(start, &ty, class));
            self.homes[start.0 as usize] = home.clone();
            for part in self.parts(id, c) {
                self.homes[part.0 as usize] = home.clone();
            }
        }
    }

    // Whether a place shares memory with an input without being the same elements.
    fn overlaps(&self, place: &Stored) -> bool {
        self.inputs.iter().any(|given| match given {
            Given::Stored(s) => s.buffer == place.buffer && s != place,
            Given::Host(_) => false,
        })
    }

    fn parts(&self, multi: NodeId, result: usize) -> Vec<NodeId> {
        let is = |id: &NodeId| {
            let n = self.graph.node(*id);
            n.op == Op::Part(result as u32) && n.inputs[0] == multi
        };
        self.graph.ids().filter(is).collect()
    }

    /// A new memory of the arena at this level.
    pub(crate) fn fresh(&mut self, id: NodeId, ty: &Type, class: Class) -> Stored {
        let name = self.origin(id);
        self.context.arena(name, ty, class, self.path)
    }

    /// The layer path and op of a node.
    pub(crate) fn origin(&self, id: NodeId) -> Name {
        origin_of(self.graph, id)
    }

    // The number of a host node.
    fn host(&mut self, id: NodeId) -> Result<u32, Bug> {
        let graph = self.graph;
        if let Home::Host(h) = &self.homes[id.0 as usize] {
            return Ok(*h);
        }
        let n = graph.node(id);
        let mut e = Expr { insts: Vec::new(), result: 0 };
        let mut refs = Vec::new();
        for x in &n.inputs {
            let inst = match &graph.node(*x).op {
                Op::Const(l) => Inst::Const(*l),
                _computed => Inst::Arg(self.host(*x)?),
            };
            refs.push(e.push(inst));
        }
        let inst = match &n.op {
            Op::Const(l) => Inst::Const(*l),
            Op::Runtime(what) => Inst::Runtime(*what),
            Op::Unary(op) => Inst::Unary(*op, refs[0]),
            Op::Binary(op) => Inst::Binary(*op, refs[0], refs[1]),
            Op::Select => Inst::Select(refs[0], refs[1], refs[2]),
            Op::Cast => Inst::Cast(n.ty.dtype, refs[0]),
            Op::Expand => return self.host(n.inputs[0]),
            other => {
                return Err(self.bug(format!("{} is no host scalar", op_name(other))));
            }
        };
        e.result = e.push(inst);
        Ok(self.context.host(e))
    }

    /// A number of the host, if the node is one.
    pub(crate) fn host_value(&mut self, id: NodeId) -> Result<Option<u32>, Bug> {
        if self.host_nodes[id.0 as usize] { self.host(id).map(Some) } else { Ok(None) }
    }

    /// The memory of a stored node.
    pub(crate) fn home(&self, id: NodeId) -> Result<Stored, Bug> {
        match &self.homes[id.0 as usize] {
            Home::Stored(s) => Ok(s.clone()),
            Home::Inline | Home::Host(_) => Err(self.bug(format!("{id:?} has no memory"))),
        }
    }

    /// What a node is to a kernel that computes `here`.
    pub(crate) fn source(&self, id: NodeId) -> Source {
        match &self.homes[id.0 as usize] {
            Home::Inline => Source::Here,
            Home::Host(h) => Source::Host(*h),
            Home::Stored(s) => Source::Memory(s.clone()),
        }
    }

    fn group(&mut self, group: &Group, all: &Grouping) -> Result<(), Bug> {
        match &group.kind {
            Kind::Loop { rows, cols, reduces } => {
                self.fused_loop(rows, cols, *reduces, &group.members)
            }
            Kind::ColReduce { kept, reduced } => {
                self.column_reduction(kept, reduced, &group.members, all)
            }
            Kind::Update => self.update(group.members[0]),
            Kind::Dense => self.dense(group.members[0], all),
            Kind::Scan => self.scan(group.members[0]),
        }
    }

    /// Memory with the elements of a node, for a dense kernel: its own, seen through views if strides can say them, else a
    /// packed copy.
    pub(crate) fn operand(&mut self, id: NodeId) -> Result<Stored, Bug> {
        match self.strided(id) {
            Some(stored) => Ok(stored),
            None => self.packed(id, None),
        }
    }

    /// A copy with the given order of axes.
    pub(crate) fn packed(&mut self, id: NodeId, order: Option<&[Name]>) -> Result<Stored, Bug> {
        let mut ty = self.graph.ty(id).clone();
        if let Some(order) = order {
            ty.axes.sort_by_key(|a| order.iter().position(|n| *n == a.name));
        }
        let stored = self.fresh(id, &ty, Class::Activations);
        match self.strided(id) {
            Some(there) => self.copy_stored(&there, &stored, &ty)?,
            None => self.copy_node(id, &ty, &stored)?,
        }
        Ok(stored)
    }

    /// The node's elements where they are stored, if strides can say it.
    pub(crate) fn strided(&self, id: NodeId) -> Option<Stored> {
        if let Home::Stored(s) = &self.homes[id.0 as usize] {
            return Some(s.clone());
        }
        let n = self.graph.node(id);
        let mut s = match &n.op {
            Op::Expand | Op::Rename(_) | Op::Split { .. } => self.strided(n.inputs[0])?,
            Op::Merge { .. } | Op::Window { .. } => self.strided(n.inputs[0])?,
            _computed => return None,
        };
        let input = self.graph.ty(n.inputs[0]);
        match &n.op {
            Op::Rename(names) => {
                for (name, _) in &mut s.strides {
                    if let Some((_, new)) = names.iter().find(|(old, _)| old == name) {
                        *name = new.clone();
                    }
                }
            }
            Op::Split { axis, into } => {
                let mut stride = s.stride(axis);
                s.strides.retain(|(name, _)| name != axis);
                for part in into.iter().rev() {
                    s.strides.push((part.name.clone(), stride));
                    stride *= part.size as i64;
                }
            }
            Op::Merge { axes, into } => {
                // Parts of size 1 say nothing.
                let parts: Vec<(i64, i64)> = axes
                    .iter()
                    .map(|a| (s.stride(a), input.size(a).unwrap_or(1) as i64))
                    .filter(|(_, size)| *size > 1)
                    .collect();
                if parts.windows(2).any(|w| w[0].0 != w[1].0 * w[1].1) {
                    return None;
                }
                let stride = parts.last().map_or(0, |p| p.0);
                s.strides.retain(|(name, _)| !axes.contains(name));
                s.strides.push((into.clone(), stride));
            }
            Op::Window { axis, index, .. } => {
                let size = input.size(axis)? as i64;
                let stride = s.stride(axis);
                s.strides.retain(|(name, _)| name != axis);
                let (mut low, mut high) = (index.offset, index.offset);
                for (name, c) in &index.terms {
                    let last = c * (n.ty.size(name)? as i64 - 1);
                    low += last.min(0);
                    high += last.max(0);
                    match s.strides.iter_mut().find(|(n, _)| n == name) {
                        Some((_, old)) => *old += stride * c,
                        None => s.strides.push((name.clone(), stride * c)),
                    }
                }
                // Negative strides would need a first element that is not the smallest address.
                if low < 0 || high >= size || index.offset < 0 {
                    return None;
                }
                s.offset += (stride * index.offset) as usize * s.dtype.bytes();
            }
            _expand => {}
        }
        Some(s)
    }

    fn scan(&mut self, id: NodeId) -> Result<(), Bug> {
        let graph = self.graph;
        let node = graph.node(id);
        let Op::Scan(scan) = &node.op else { return Err(self.bug("not a scan".into())) };
        let mut given = Vec::new();
        let loop_id = self.context.new_loop();
        for (i, x) in node.inputs.iter().enumerate() {
            if let Some(h) = self.host_value(*x)?
                && i >= scan.carries + scan.scanned
            {
                given.push(Given::Host(h));
                continue;
            }
            let whole = self.operand(*x)?;
            let sliced = i >= scan.carries && i < scan.carries + scan.scanned;
            given.push(Given::Stored(if sliced {
                whole.slice(&scan.axis.name, loop_id)
            } else {
                whole
            }));
        }
        let mut places = Vec::new();
        let mut after = Vec::new();
        for (i, o) in scan.body.outputs.iter().enumerate() {
            if let Some(Given::Stored(carry)) = given.get(i)
                && i < scan.carries
            {
                places.push(carry.clone());
                continue;
            }
            let mut ty = scan.body.ty(o.node).clone();
            ty.axes.insert(0, scan.axis.clone());
            let whole = match self.parts(id, i).first() {
                Some(part) => self.home(*part)?,
                None => self.fresh(id, &ty, Class::Activations),
            };
            let slice = whole.slice(&scan.axis.name, loop_id);
            // Written slice by slice, it may not be read otherwise meanwhile.
            let clash = given.iter().any(|g| match g {
                Given::Stored(s) => s.buffer == slice.buffer && *s != slice,
                Given::Host(_) => false,
            });
            if clash {
                let temporary = self.fresh(id, &ty, Class::Activations);
                places.push(temporary.slice(&scan.axis.name, loop_id));
                after.push((temporary, whole, ty));
            } else {
                places.push(slice);
            }
        }
        let mut path = self.path.to_vec();
        path.push(loop_id);
        let body = emit(self.context, &scan.body, &given, &places, &path)?;
        self.steps.push(Step::Loop {
            id: loop_id,
            count: scan.axis.size,
            reverse: scan.reverse,
            body,
        });
        for (from, to, ty) in after {
            self.copy(&from, &to, &ty)?;
        }
        Ok(())
    }

    /// Copies a stored value.
    pub(crate) fn copy(&mut self, from: &Stored, to: &Stored, ty: &Type) -> Result<(), Bug> {
        if from.is_dense(ty) && to.is_dense(ty) {
            let (from, to) = (from.view(), to.view());
            self.steps.push(Step::Copy { from, to, bytes: ty.bytes() });
            return Ok(());
        }
        self.copy_stored(from, to, ty)
    }

    /// Appends a launch.
    pub(crate) fn launch(
        &mut self,
        kernel: Kernel,
        views: Vec<View>,
        params: Vec<u32>,
        origin: Name,
        flops: u64,
    ) {
        let extents = kernel.extents();
        let bytes = kernel.operands().iter().map(|o| bytes_of(o, &extents)).sum();
        let kernel = self.context.kernel(kernel);
        self.steps.push(Step::Launch(Launch { kernel, views, params, origin, flops, bytes }));
    }

    /// A mistake of ours.
    pub(crate) fn bug(&self, message: String) -> Bug {
        Bug::new("lower", message, print(self.graph))
    }
}

fn bytes_of(operand: &Operand, extents: &[usize]) -> u64 {
    let moved = operand.strides.iter().zip(extents).filter(|(s, _)| **s != 0);
    let count: usize = moved.map(|(_, e)| *e).product();
    let times = match operand.access {
        Access::Read | Access::Write => 1,
        Access::Accumulate => 2,
    };
    (count * operand.dtype.bytes() * times) as u64
}

/// The expressions that may have given a launch of this origin a value that is not finite: its logarithms, roots, powers, quotients and
/// exponentials.
pub fn risks(graph: &Graph, origin: &str) -> Vec<Span> {
    let mut found = Vec::new();
    gather_risks(graph, origin, &mut found);
    found.dedup();
    found
}

fn gather_risks(graph: &Graph, origin: &str, found: &mut Vec<Span>) {
    for id in graph.ids() {
        let node = graph.node(id);
        match &node.op {
            Op::Scan(scan) => gather_risks(&scan.body, origin, found),
            Op::Unary(UnOp::Log | UnOp::Sqrt | UnOp::Rsqrt | UnOp::Recip | UnOp::Exp)
            | Op::Binary(BinOp::Div | BinOp::Pow)
                if origin_of(graph, id).as_str() == origin =>
            {
                found.extend(node.span);
            }
            _ => {}
        }
    }
    found.sort_unstable();
}

/// The layer path and op of a node.
fn origin_of(graph: &Graph, id: NodeId) -> Name {
    let n = graph.node(id);
    let op = match &n.op {
        Op::Part(i) => format!("{}.{i}", op_name(&graph.node(n.inputs[0]).op)),
        op => op_name(op).to_string(),
    };
    let path = n.path.as_str();
    Name::from(if path.is_empty() { op } else { format!("{path}: {op}") })
}

fn op_name(op: &Op) -> &'static str {
    match op {
        Op::Const(_) => "const",
        Op::Pos => "pos",
        Op::Input(_) => "input",
        Op::Runtime(_) => "runtime",
        Op::Random(..) => "random",
        Op::Unary(_) | Op::Binary(_) | Op::Select => "map",
        Op::Cast => "cast",
        Op::Expand => "expand",
        Op::Rename(_) => "rename",
        Op::Split { .. } => "split",
        Op::Merge { .. } => "merge",
        Op::Window { .. } => "window",
        Op::Gather { .. } => "gather",
        Op::ScatterAdd { .. } => "scatter",
        Op::Concat { .. } => "concat",
        Op::Update { .. } => "update",
        Op::Reduce { .. } => "reduce",
        Op::LogSumExp { .. } => "logsumexp",
        Op::Contract { .. } => "dot",
        Op::CumSum { .. } => "cumsum",
        Op::TopK { .. } => "topk",
        Op::ArgSort { .. } => "sort",
        Op::Attention(_) => "attend",
        Op::AttentionGrad { .. } => "attend.grad",
        Op::Scan(_) => "scan",
        Op::Part(_) => "part",
        Op::Stop => "stop",
        Op::Collective(_) => "collective",
    }
}
