//! From a graph to a plan: which kernels, in which memory, in which order.
//!
//! Takes a simplified graph (a training step with its loops over micro-batches and layers, or a forward pass); gives a verified
//! [`Plan`]. The line: [`prepare`] rewrites what has no kernel of its own, [`fuse`] says which nodes share a kernel,
//! [`level`] gives each stored node a place and emits the kernels of one graph (scan bodies are levels of their own),
//! [`loops`] and [`dense`] build kernels, and [`memory`](crate::plan::memory) lays the arena out.
//!
//! *Places.* A stored node is dense in the order of its type's axes, unless its place is given: an output's storage, a
//! slice of a stacked value, a carry. A donated storage is replaced in place where every read of the old value comes
//! before, or in the same kernel at the same element; else the new value goes to a temporary and is copied at the end.

mod body;
mod bounds;
mod dense;
mod effort;
mod fuse;
mod hoist;
mod index;
mod level;
mod loops;
mod nest;
mod order;
mod prepare;
mod show;
mod sums;
#[cfg(test)]
mod tests;

pub use level::risks;

use indexmap::IndexMap;

use crate::bug::Bug;
use crate::graph::{Graph, Name, Op, Role, Runtime, Type};
use crate::kernel::{DType, Kernel};
use crate::plan::{Advance, Buffer, Class, Io, Place, Plan, Target, View, memory, share, verify};
use crate::scalar::{BinOp, Expr, Inst, Literal, UnOp};

/// The plan of a graph.
pub fn lower(graph: &Graph, target: &Target) -> Result<Plan, Bug> {
    lowered(graph, target, None).map(|(plan, _)| plan)
}

/// Which nodes share kernels, as text: the groups of each level in order of execution, bodies of loops before the loop that has them.
pub fn groups(graph: &Graph, target: &Target) -> Result<String, Bug> {
    lowered(graph, target, Some(String::new())).map(|(_, groups)| groups.unwrap_or_default())
}

fn lowered(
    graph: &Graph,
    target: &Target,
    groups: Option<String>,
) -> Result<(Plan, Option<String>), Bug> {
    let host = vec![false; graph.inputs.len()];
    let declared = graph;
    let graph = prepare::prepare(declared, &host, &order::Order::of(declared))?;
    let mut context = Context {
        target,
        buffers: Vec::new(),
        scopes: Vec::new(),
        kernels: IndexMap::new(),
        host: IndexMap::new(),
        loops: 0,
        groups,
    };
    let inputs: Vec<level::Given> = graph
        .inputs
        .iter()
        .enumerate()
        .map(|(i, input)| {
            let donated = graph.outputs.iter().any(|o| o.into == Some(i as u32));
            let io = if donated { Io::Updated } else { Io::Input };
            let class = match input.role {
                Role::Weight => Class::Weights,
                Role::State => Class::State,
                Role::Data | Role::Local => Class::Data,
            };
            level::Given::Stored(context.external(&input.name, &input.ty, class, io))
        })
        .collect();
    let mut places = Vec::new();
    for o in &declared.outputs {
        let given = o.into.and_then(|i| inputs.get(i as usize));
        places.push(match given {
            Some(level::Given::Stored(stored)) => stored.clone(),
            Some(level::Given::Host(_)) | None => {
                context.external(&o.name, declared.ty(o.node), Class::Outputs, Io::Output)
            }
        });
    }
    let steps = level::emit(&mut context, &graph, &inputs, &places, &[])?;
    let mut plan = Plan {
        buffers: context.buffers,
        arena_bytes: 0,
        kernels: context.kernels.into_keys().collect(),
        host: context.host.into_keys().collect(),
        steps,
        memory: Vec::new(),
    };
    let mut scopes = context.scopes;
    share::share(&mut plan, &mut scopes);
    memory::place(&mut plan, &scopes);
    verify::verify(&plan)?;
    Ok((plan, context.groups))
}

/// Memory of a node: where it begins, how it moves with the loops around, and its strides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Index in [`Plan::buffers`].
    pub(crate) buffer: u32,
    /// First byte.
    pub(crate) offset: usize,
    /// How it moves.
    pub(crate) advances: Vec<Advance>,
    /// Element type.
    pub(crate) dtype: DType,
    /// Elements between neighbours along each axis; an axis that is missing has none.
    pub(crate) strides: Vec<(Name, i64)>,
}

impl Stored {
    /// Dense, in the order of the type's axes.
    pub(crate) fn dense(buffer: u32, ty: &Type) -> Self {
        let mut stride = 1;
        let mut strides = Vec::new();
        for axis in ty.axes.iter().rev() {
            strides.push((axis.name.clone(), stride));
            stride *= axis.size as i64;
        }
        strides.reverse();
        Self { buffer, offset: 0, advances: Vec::new(), dtype: ty.dtype, strides }
    }

    /// Elements between neighbours along an axis.
    pub(crate) fn stride(&self, axis: &Name) -> i64 {
        self.strides.iter().find(|(name, _)| name == axis).map_or(0, |(_, s)| *s)
    }

    /// What a launch binds.
    pub(crate) fn view(&self) -> View {
        View { buffer: self.buffer, offset: self.offset, advances: self.advances.clone() }
    }

    /// One slice along an axis, chosen by a loop's counter.
    pub(crate) fn slice(&self, axis: &Name, loop_id: u32) -> Self {
        let stride_bytes = self.stride(axis) * self.dtype.bytes() as i64;
        let mut slice = self.clone();
        slice.strides.retain(|(name, _)| name != axis);
        if stride_bytes != 0 {
            slice.advances.push(Advance { loop_id, stride_bytes, shift: 0, modulus: None });
        }
        slice
    }

    /// Whether the elements of the type lie row-major without gaps.
    pub(crate) fn is_dense(&self, ty: &Type) -> bool {
        let mut stride = 1;
        ty.axes.iter().rev().all(|a| {
            let fits = a.size == 1 || self.stride(&a.name) == stride;
            stride *= a.size as i64;
            fits
        })
    }
}

/// What all levels share.
pub(crate) struct Context<'t> {
    /// For whom.
    pub(crate) target: &'t Target,
    /// Memories so far.
    pub(crate) buffers: Vec<Buffer>,
    /// Per buffer: the loops within which it lives anew in every iteration, outermost first.
    pub(crate) scopes: Vec<Vec<u32>>,
    kernels: IndexMap<Kernel, ()>,
    host: IndexMap<Expr, ()>,
    loops: u32,
    /// The groups of the levels so far as text, if that is wanted.
    pub(crate) groups: Option<String>,
}

impl Context<'_> {
    /// A memory of the store.
    fn external(&mut self, name: &Name, ty: &Type, class: Class, io: Io) -> Stored {
        let place = Place::External { storage: name.clone(), io };
        self.buffers.push(Buffer { name: name.clone(), bytes: ty.bytes(), class, place });
        self.scopes.push(Vec::new());
        Stored::dense(self.buffers.len() as u32 - 1, ty)
    }

    /// A memory of the arena, placed later.
    pub(crate) fn arena(&mut self, name: Name, ty: &Type, class: Class, scope: &[u32]) -> Stored {
        let place = Place::Arena { offset: 0 };
        self.buffers.push(Buffer { name, bytes: ty.bytes(), class, place });
        self.scopes.push(scope.to_vec());
        Stored::dense(self.buffers.len() as u32 - 1, ty)
    }

    /// The number of a kernel.
    pub(crate) fn kernel(&mut self, kernel: Kernel) -> u32 {
        self.kernels.insert_full(kernel, ()).0 as u32
    }

    /// The number of a host scalar.
    pub(crate) fn host(&mut self, expr: Expr) -> u32 {
        self.host.insert_full(expr, ()).0 as u32
    }

    /// A new loop.
    pub(crate) fn new_loop(&mut self) -> u32 {
        self.loops += 1;
        self.loops - 1
    }

    /// A runtime scalar as it is.
    pub(crate) fn runtime(&mut self, what: Runtime) -> u32 {
        self.host(Expr { insts: vec![Inst::Runtime(what)], result: 0 })
    }

    /// The seed's low and high 32 bits, as signed integers of the same bits, and the step; nothing if the graph draws nothing.
    pub(crate) fn random(&mut self, graph: &Graph) -> [u32; 3] {
        if !graph.nodes.iter().any(|n| matches!(n.op, Op::Random(..))) {
            return [0; 3];
        }
        let half = |high: bool| {
            let mut e = Expr { insts: Vec::new(), result: 0 };
            let seed = e.push(Inst::Runtime(Runtime::Seed));
            let two32 = e.push(Inst::Const(Literal::new(4_294_967_296.0)));
            let two31 = e.push(Inst::Const(Literal::new(2_147_483_648.0)));
            let bits = if high {
                let q = e.push(Inst::Binary(BinOp::Div, seed, two32));
                e.push(Inst::Unary(UnOp::Floor, q))
            } else {
                e.push(Inst::Binary(BinOp::Mod, seed, two32))
            };
            let small = e.push(Inst::Binary(BinOp::Lt, bits, two31));
            let wrapped = e.push(Inst::Binary(BinOp::Sub, bits, two32));
            e.result = e.push(Inst::Select(small, bits, wrapped));
            e
        };
        [self.host(half(false)), self.host(half(true)), self.runtime(Runtime::Step)]
    }
}
