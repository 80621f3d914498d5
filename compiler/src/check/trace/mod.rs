//! Tracing: running a method on tensors that are nodes of a graph under construction.
//!
//! A trace is a stack of *levels*. Level 0 is the graph itself; each scan (layers, micro-batches, `scan`) opens a level
//! whose graph becomes the scan's body. A tensor remembers its level; used deeper, it is *captured*: it becomes an input of
//! each body on the way, sliced where it has the axis of that scan. So a weight of a stacked layer, which has the stack's axis, is
//! seen one slice at a time without anybody saying so.
//!
//! Axes have two names: the one in the source at hand (bound in the [`Scope`](super::value::Scope)), and the one in the graph, where a name has
//! one size. Locally made axes (`x[seq -> key]`) take their own name where it is free, else `key'2`.

mod attend;
mod layer;
mod ops;
mod reach;
mod scan;

use std::collections::BTreeMap;
use std::rc::Rc;

use indexmap::IndexMap;

pub use layer::{Placed, PlacedForm};
pub use ops::{is_op, op_names, stream};
pub use reach::Held;

use super::value::{BoundAxis, Def, Scope, Tensor};
use crate::graph::build::{Builder, Misfit};
use crate::graph::{Axis, DType, Graph, Name, NodeId, Op, Role, ScanKind, Type};
use crate::source::Span;
use crate::syntax::ast;

/// What kind of execution is being traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Training: `training` is true.
    Train,
    /// Evaluation of whole rows.
    Eval,
    /// Prefill and decoding with caches that hold this many positions.
    Decode(usize),
}

/// A weight or layer state where it is declared; shared by all its uses.
#[derive(Debug)]
pub struct Slot {
    /// Storage name: the path.
    pub name: String,
    /// Axes of the surrounding stacks, outermost first.
    pub stack: Vec<Axis>,
    /// Its own axes.
    pub axes: Vec<Axis>,
    /// Weight or state.
    pub role: Role,
    /// The initialiser, with the scope it is written in.
    pub init: Option<ast::Expr>,
    /// See `init`.
    pub scope: Scope,
    /// `: f32` pins it.
    pub pinned: bool,
    /// Where it is declared.
    pub span: Span,
}

/// What a body gives besides its value.
#[derive(Debug, Clone)]
pub struct Emit {
    /// `measure:blocks.mlp.load`, `penalty:..`, `cache:..`.
    pub name: String,
    /// What it is.
    pub kind: EmitKind,
    /// The value, in the level that holds the emit.
    pub node: NodeId,
}

/// Kinds of emits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmitKind {
    /// Recorded.
    Measure,
    /// Added to the objective.
    Penalty,
    /// The new content of a cache.
    Cache,
}

/// One graph under construction.
#[derive(Debug)]
pub struct Level {
    /// The graph.
    pub b: Builder,
    /// The axis of the scan whose body this is.
    pub axis: Option<Axis>,
    /// What was captured: outer node, inner node, whether it is sliced.
    captures: Vec<(NodeId, NodeId, bool)>,
    /// How many captures there ever were; numbers their names.
    captured: usize,
    /// What leaves besides the value.
    pub emits: Vec<Emit>,
}

/// A trace.
#[derive(Debug)]
pub struct Trace {
    /// Outermost first.
    pub levels: Vec<Level>,
    /// Sizes by the model's axes and the data's, by name.
    pub axes: IndexMap<String, BoundAxis>,
    /// What is traced.
    pub mode: Mode,
    /// `f32`, `bf16` or `fp16`: operands and results of contractions.
    pub compute: DType,
    /// Weights and states that were used, in order of first use.
    pub slots: IndexMap<String, Rc<Slot>>,
    /// How many draws each path has made.
    pub draws: BTreeMap<String, u32>,
    /// How many caches each path has made.
    pub caches: IndexMap<String, Type>,
    /// Placed layers that have a method `step`: path, definition, scope.
    pub steppers: Vec<(String, Rc<Def>, Scope)>,
    /// What the columns hold; `None` where no rows of anybody are at hand, and indices are not judged.
    pub held: Option<Held>,
    /// Layer path of the method being traced.
    pub path: Vec<String>,
    /// Sizes of axes by their names in the graphs.
    sizes: BTreeMap<String, usize>,
}

impl Trace {
    /// A trace with an empty graph.
    pub fn new(mode: Mode, compute: DType) -> Self {
        let level = Level {
            b: Builder::new(),
            axis: None,
            captures: Vec::new(),
            captured: 0,
            emits: Vec::new(),
        };
        Self {
            levels: vec![level],
            axes: IndexMap::new(),
            mode,
            compute,
            slots: IndexMap::new(),
            draws: BTreeMap::new(),
            caches: IndexMap::new(),
            steppers: Vec::new(),
            held: None,
            path: Vec::new(),
            sizes: BTreeMap::new(),
        }
    }

    /// The builder of the innermost graph.
    pub fn b(&mut self) -> &mut Builder {
        &mut self.levels.last_mut().expect("a trace has at least one level").b
    }

    /// The depth of the innermost graph.
    pub fn depth(&self) -> u32 {
        self.levels.len() as u32 - 1
    }

    /// A node of the innermost graph as a tensor.
    pub fn tensor(&self, node: NodeId) -> Tensor {
        Tensor { level: self.depth(), node }
    }

    /// The type of a tensor at its own level.
    pub fn ty(&self, t: Tensor) -> &Type {
        self.levels[t.level as usize].b.ty(t.node)
    }

    /// The tensor as a node of the innermost graph.
    pub fn here(&mut self, t: Tensor) -> NodeId {
        let mut node = t.node;
        for level in t.level as usize + 1..self.levels.len() {
            node = self.capture(level, node);
        }
        node
    }

    fn capture(&mut self, level: usize, outer: NodeId) -> NodeId {
        let (below, above) = self.levels.split_at_mut(level);
        let outer_graph = &below[level - 1].b.graph;
        let this = &mut above[0];
        if let Some((_, inner, _)) = this.captures.iter().find(|(o, _, _)| *o == outer) {
            return *inner;
        }
        let node = outer_graph.node(outer);
        let mut ty = node.ty.clone();
        let at = this.axis.as_ref().and_then(|a| ty.find(&a.name));
        // What costs nothing is made anew inside.
        if at.is_none() && matches!(node.op, Op::Const(_) | Op::Pos | Op::Runtime(_)) {
            return this.b.raw(node.op.clone(), vec![], ty);
        }
        let sliced = if let Some(at) = at {
            ty.axes.remove(at);
            true
        } else {
            false
        };
        let name = format!("{}{}", if sliced { "slice" } else { "outer" }, this.captured);
        this.captured += 1;
        let inner = this.b.input(name, ty, Role::Local);
        this.captures.push((outer, inner, sliced));
        inner
    }

    /// What an input of the graph of a level is in the graph around it.
    fn outside(&self, level: usize, inner: NodeId) -> Option<NodeId> {
        let captures = &self.levels.get(level)?.captures;
        captures.iter().find(|(_, i, _)| *i == inner).map(|(outer, _, _)| *outer)
    }

    /// Opens a level.
    pub fn open(&mut self, axis: Option<Axis>) {
        let mut b = Builder::new();
        let top = self.b();
        b.span = top.span;
        b.path = top.path.clone();
        self.levels.push(Level { b, axis, captures: Vec::new(), captured: 0, emits: Vec::new() });
    }

    /// Closes the innermost level: makes its graph the body of a scan of the level around it. `carries` are pairs of an input of
    /// the body (made with [`Builder::input`]) and its start outside; `next` are their new values and `stacked` what is
    /// stacked, inside. Gives last carries and stacked values, outside. Emits go up, with the axis.
    pub fn close(
        &mut self,
        kind: ScanKind,
        reverse: bool,
        carries: &[(NodeId, NodeId)],
        next: &[NodeId],
        stacked: &[NodeId],
    ) -> Result<Vec<NodeId>, Misfit> {
        let mut level = self.levels.pop().expect("close follows open");
        let axis = level.axis.clone().expect("only scans are closed");
        let mut order: Vec<NodeId> = carries.iter().map(|(inner, _)| *inner).collect();
        let mut outer_sliced = Vec::new();
        let mut outer_whole = Vec::new();
        for pass in [true, false] {
            for (outer, inner, sliced) in &level.captures {
                if *sliced == pass {
                    order.push(*inner);
                    if pass { &mut outer_sliced } else { &mut outer_whole }.push(*outer);
                }
            }
        }
        reorder_inputs(&mut level.b.graph, &order);
        for (i, n) in next.iter().enumerate() {
            let want = level.b.graph.ty(order[i]).clone();
            let n = conform(&mut level.b, *n, &want);
            level.b.output(format!("carry{i}"), n, None);
        }
        for (i, n) in stacked.iter().enumerate() {
            level.b.output(format!("stack{i}"), *n, None);
        }
        for (i, e) in level.emits.iter().enumerate() {
            level.b.output(format!("emit{i}"), e.node, None);
        }
        let inits: Vec<NodeId> = carries.iter().map(|(_, outer)| *outer).collect();
        let body = level.b.graph;
        let b = self.b();
        let inits: Vec<NodeId> = inits
            .iter()
            .zip(&order)
            .map(|(outer, inner)| conform(b, *outer, &body.ty(*inner).clone()))
            .collect();
        let mut parts = b.scan(axis, reverse, kind, body, &inits, &outer_sliced, &outer_whole)?;
        let emitted = parts.split_off(next.len() + stacked.len());
        let up = self.levels.last_mut().expect("level 0 is never closed");
        for (e, node) in level.emits.into_iter().zip(emitted) {
            up.emits.push(Emit { node, ..e });
        }
        Ok(parts)
    }

    /// Puts a builder in place of the innermost one. Captures made since `before` refer to the builder that goes (`old`): those whose inputs
    /// the new one has are kept under their new ids, the others are forgotten.
    fn mend_captures(&mut self, before: usize, old: &Builder) {
        let level = self.levels.last_mut().expect("a trace has a level");
        let late = level.captures.split_off(before);
        for (outer, inner, sliced) in late {
            let Op::Input(i) = old.graph.node(inner).op else { continue };
            let decl = old.graph.inputs[i as usize].clone();
            if level.b.graph.inputs.iter().any(|d| d.name == decl.name) {
                let inner = level.b.input(decl.name, decl.ty, decl.role);
                level.captures.push((outer, inner, sliced));
            }
        }
    }

    /// Forgets the innermost level and everything in it.
    pub fn abandon(&mut self) {
        if self.levels.len() > 1 {
            self.levels.pop();
        }
    }

    /// The axis that a local name means: bound in the scope, or the model's or data's own of that name, or one that exists in the graph.
    pub fn axis(&self, scope: &Scope, name: &str) -> Option<BoundAxis> {
        if let Some(a) = scope.axis(name) {
            return Some(a);
        }
        if let Some(a) = self.axes.get(name) {
            return Some(a.clone());
        }
        let size = *self.sizes.get(name)?;
        Some(BoundAxis { axis: Axis { name: Name::from(name), size }, origin: None })
    }

    /// A local axis `name` of `size`: the one that the scope has under this name if its size is right, else a new one, bound
    /// in the scope.
    pub fn local_axis(&mut self, scope: &Scope, name: &str, size: usize) -> Axis {
        if let Some(known) = scope.axis(name)
            && known.axis.size == size
        {
            return known.axis;
        }
        let taken = |trace: &Self, graph_name: &str| {
            let other = |s: Option<usize>| s.is_some_and(|s| s != size);
            other(trace.sizes.get(graph_name).copied())
                || other(trace.axes.get(graph_name).map(|a| a.axis.size))
        };
        let mut graph_name = name.to_owned();
        let mut n = 1;
        while taken(self, &graph_name) {
            n += 1;
            graph_name = format!("{name}'{n}");
        }
        self.fresh(scope, name, graph_name, size)
    }

    /// A new axis that differs from every axis so far, bound in the scope under `name`.
    pub fn private_axis(&mut self, scope: &Scope, name: &str, size: usize) -> Axis {
        let mut n = 1;
        let mut graph_name = name.to_owned();
        while self.sizes.contains_key(&graph_name) || self.axes.contains_key(&graph_name) {
            n += 1;
            graph_name = format!("{name}'{n}");
        }
        self.fresh(scope, name, graph_name, size)
    }

    fn fresh(&mut self, scope: &Scope, name: &str, graph_name: String, size: usize) -> Axis {
        self.sizes.insert(graph_name.clone(), size);
        let axis = Axis { name: Name::from(graph_name), size };
        scope.bind_axis(name, BoundAxis { axis: axis.clone(), origin: None });
        axis
    }

    /// The weight or state as a tensor: an input of the outermost graph, made at its first use.
    pub fn slot(&mut self, slot: &Rc<Slot>) -> Tensor {
        self.slots.entry(slot.name.clone()).or_insert_with(|| slot.clone());
        let mut axes = slot.stack.clone();
        axes.extend(slot.axes.iter().cloned());
        let b = &mut self.levels[0].b;
        let node = b.input(slot.name.as_str(), Type::new(DType::F32, axes), slot.role);
        Tensor { level: 0, node }
    }

    /// The current layer path.
    pub fn path(&self) -> String {
        self.path.last().cloned().unwrap_or_default()
    }
}

/// The same value with the axes of `want`, in its order, and its dtype. Axes that `x` has beyond `want` stay behind.
pub fn conform(b: &mut Builder, x: NodeId, want: &Type) -> NodeId {
    let x = b.cast(x, want.dtype);
    let x = b.expand(x, &want.axes);
    let ty = b.ty(x).clone();
    let mut axes = want.axes.clone();
    axes.extend(ty.axes.iter().filter(|a| want.find(&a.name).is_none()).cloned());
    if axes == ty.axes {
        return x;
    }
    // An expand that adds nothing only says the storage order.
    b.raw(Op::Expand, vec![x], Type::new(want.dtype, axes))
}

fn reorder_inputs(graph: &mut Graph, order: &[NodeId]) {
    let old: Vec<u32> = order
        .iter()
        .map(|id| match graph.node(*id).op {
            Op::Input(i) => i,
            _ => unreachable!("captures and carries are inputs"),
        })
        .collect();
    let inputs = old.iter().map(|i| graph.inputs[*i as usize].clone()).collect();
    graph.inputs = inputs;
    for node in &mut graph.nodes {
        if let Op::Input(i) = &mut node.op
            && let Some(new) = old.iter().position(|o| o == i)
        {
            *i = new as u32;
        }
    }
}
