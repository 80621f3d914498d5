//! Typed construction of graphs: every function takes nodes, gives a node of the right type or says what does not fit.
//!
//! Equal nodes are made once (hash-consing), so building the same thing twice costs nothing. The functions are the type
//! rules of the operations; `verify` states the same rules as laws. Errors are sentences about axes in the user's
//! words; the caller knows the place and makes problems of them.

use std::collections::BTreeMap;

use super::{
    Affine, Attention, Axis, BinOp, DType, Dist, Graph, InputDecl, Literal, Name, Node, NodeId, Op,
    OutputDecl, ReduceOp, Role, Runtime, Scan, ScanKind, Type, UnOp,
};
use crate::source::Span;

/// What does not fit, and the code of the problem that it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// `E04xx`.
    pub code: &'static str,
    /// What was found.
    pub message: String,
    /// What to write instead, if that is clear.
    pub help: Option<String>,
}

/// A node, or why there is none.
pub type Built = Result<NodeId, Misfit>;

/// Builds one graph.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    /// What has been built.
    pub graph: Graph,
    /// Blame for the nodes that come.
    pub span: Option<Span>,
    /// Layer path for the nodes that come.
    pub path: Option<Name>,
    made: BTreeMap<(Op, Vec<NodeId>, Type), NodeId>,
}

impl Builder {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on building an existing graph.
    pub fn resume(graph: Graph) -> Self {
        let mut made = BTreeMap::new();
        for id in graph.ids() {
            let n = graph.node(id);
            made.entry((n.op.clone(), n.inputs.clone(), n.ty.clone())).or_insert(id);
        }
        Self { graph, span: None, path: None, made }
    }

    /// The type of a node.
    pub fn ty(&self, id: NodeId) -> &Type {
        self.graph.ty(id)
    }

    /// A node as it is: for passes that have already typed it.
    pub fn raw(&mut self, op: Op, inputs: Vec<NodeId>, ty: Type) -> NodeId {
        let key = (op, inputs, ty);
        if let Some(id) = self.made.get(&key) {
            return *id;
        }
        let (op, inputs, ty) = key.clone();
        let path = self.path.clone().unwrap_or_else(|| Name::from(""));
        let id = self.graph.push(Node { op, inputs, ty, span: self.span, path });
        self.made.insert(key, id);
        id
    }

    /// A literal.
    pub fn constant(&mut self, value: f64) -> NodeId {
        self.raw(Op::Const(Literal::new(value)), vec![], Type::scalar(DType::F32))
    }

    /// An integer literal.
    pub fn integer(&mut self, value: i64) -> NodeId {
        self.raw(Op::Const(Literal::new(value as f64)), vec![], Type::scalar(DType::I32))
    }

    /// The coordinate along an axis.
    pub fn pos(&mut self, axis: &Axis) -> NodeId {
        self.raw(Op::Pos, vec![], Type::new(DType::I32, vec![axis.clone()]))
    }

    /// A new input; a second one of the same name is the same input.
    pub fn input(&mut self, name: impl Into<Name>, ty: Type, role: Role) -> NodeId {
        let name = name.into();
        let index = match self.graph.inputs.iter().position(|i| i.name == name) {
            Some(i) => i,
            None => {
                self.graph.inputs.push(InputDecl { name, ty: ty.clone(), role });
                self.graph.inputs.len() - 1
            }
        };
        self.raw(Op::Input(index as u32), vec![], ty)
    }

    /// An output.
    pub fn output(&mut self, name: impl Into<Name>, node: NodeId, into: Option<&str>) {
        let into = into.and_then(|n| self.graph.inputs.iter().position(|i| i.name == n));
        self.graph.outputs.push(OutputDecl {
            name: name.into(),
            node,
            into: into.map(|i| i as u32),
        });
    }

    /// A number of this execution.
    pub fn runtime(&mut self, what: Runtime) -> NodeId {
        let dtype = match what {
            Runtime::Step | Runtime::Position | Runtime::Micro => DType::I32,
            Runtime::Share | Runtime::Seed => DType::F32,
        };
        self.raw(Op::Runtime(what), vec![], Type::scalar(dtype))
    }

    /// Draws, one per element of `axes`, numbered row-major by the coordinates; `layer` distinguishes copies.
    pub fn random(&mut self, dist: Dist, stream: u64, c: [NodeId; 3]) -> Built {
        let axes = self.unite(&c, "a random draw")?;
        Ok(self.raw(Op::Random(dist, stream), c.to_vec(), Type::new(DType::F32, axes)))
    }

    /// One argument.
    pub fn unary(&mut self, op: UnOp, x: NodeId) -> NodeId {
        let ty = self.ty(x).clone();
        let dtype = match op {
            UnOp::Not | UnOp::IsFinite => DType::Bool,
            UnOp::Neg | UnOp::Abs | UnOp::Sign if ty.dtype == DType::I32 => DType::I32,
            UnOp::Neg
            | UnOp::Abs
            | UnOp::Sign
            | UnOp::Recip
            | UnOp::Exp
            | UnOp::Log
            | UnOp::Sqrt
            | UnOp::Rsqrt
            | UnOp::Sin
            | UnOp::Cos
            | UnOp::Tanh
            | UnOp::Erf
            | UnOp::Sigmoid
            | UnOp::Floor
            | UnOp::Ceil
            | UnOp::Round => DType::F32,
        };
        self.raw(Op::Unary(op), vec![x], Type::new(dtype, ty.axes))
    }

    /// Two arguments, axes united.
    pub fn binary(&mut self, op: BinOp, a: NodeId, b: NodeId) -> Built {
        let axes = self.unite(&[a, b], "these two values")?;
        let ints = |d: DType| matches!(d, DType::I32 | DType::Bool);
        let both_ints = ints(self.ty(a).dtype) && ints(self.ty(b).dtype);
        let dtype = if op.is_bool() {
            DType::Bool
        } else if both_ints && !matches!(op, BinOp::Div | BinOp::Pow) {
            DType::I32
        } else {
            DType::F32
        };
        Ok(self.raw(Op::Binary(op), vec![a, b], Type::new(dtype, axes)))
    }

    /// `if c then a else b`.
    pub fn select(&mut self, c: NodeId, a: NodeId, b: NodeId) -> Built {
        let axes = self.unite(&[c, a, b], "condition and branches")?;
        let (da, db) = (self.ty(a).dtype, self.ty(b).dtype);
        let dtype = if da == db { da } else { DType::F32 };
        let (a, b) = (self.cast(a, dtype), self.cast(b, dtype));
        Ok(self.raw(Op::Select, vec![c, a, b], Type::new(dtype, axes)))
    }

    /// Rounds to a dtype; nothing if it has it already.
    pub fn cast(&mut self, x: NodeId, dtype: DType) -> NodeId {
        let ty = self.ty(x).clone();
        if ty.dtype == dtype {
            return x;
        }
        self.raw(Op::Cast, vec![x], Type::new(dtype, ty.axes))
    }

    /// The same value with further axes, appended in front; nothing if all are there.
    pub fn expand(&mut self, x: NodeId, axes: &[Axis]) -> NodeId {
        let ty = self.ty(x).clone();
        let mut all: Vec<Axis> =
            axes.iter().filter(|a| ty.find(&a.name).is_none()).cloned().collect();
        if all.is_empty() {
            return x;
        }
        all.extend(ty.axes);
        self.raw(Op::Expand, vec![x], Type::new(ty.dtype, all))
    }

    /// Axes renamed, all at once (`a -> b, b -> a` swaps).
    pub fn rename(&mut self, x: NodeId, names: &[(Name, Name)]) -> Built {
        let ty = self.ty(x).clone();
        for (old, _) in names {
            self.need(x, old, "rename")?;
        }
        let axes: Vec<Axis> = ty
            .axes
            .iter()
            .map(|a| match names.iter().find(|(old, _)| *old == a.name) {
                Some((_, new)) => Axis { name: new.clone(), size: a.size },
                None => a.clone(),
            })
            .collect();
        for (i, a) in axes.iter().enumerate() {
            if axes[..i].iter().any(|b| b.name == a.name) {
                return Err(misfit("E0407", format!("renaming gives two axes `{}`", a.name)));
            }
        }
        if axes == ty.axes {
            return Ok(x);
        }
        let names = names.iter().filter(|(a, b)| a != b).cloned().collect();
        Ok(self.raw(Op::Rename(names), vec![x], Type::new(ty.dtype, axes)))
    }

    /// One axis becomes several.
    pub fn split(&mut self, x: NodeId, axis: &Name, into: &[Axis]) -> Built {
        let at = self.need(x, axis, "split")?;
        let ty = self.ty(x).clone();
        let product: usize = into.iter().map(|a| a.size).product();
        if product != ty.axes[at].size {
            let sizes: Vec<String> =
                into.iter().map(|a| format!("{} = {}", a.name, a.size)).collect();
            return Err(misfit(
                "E0408",
                format!(
                    "`{axis}` has size {}, but {} multiply to {product}",
                    ty.axes[at].size,
                    sizes.join(", ")
                ),
            ));
        }
        let mut axes = ty.axes.clone();
        axes.splice(at..=at, into.iter().cloned());
        distinct(&axes)?;
        let op = Op::Split { axis: axis.clone(), into: into.to_vec() };
        Ok(self.raw(op, vec![x], Type::new(ty.dtype, axes)))
    }

    /// Several axes become one.
    pub fn merge(&mut self, x: NodeId, from: &[Name], into: &Name) -> Built {
        let mut size = 1;
        let mut first = usize::MAX;
        for name in from {
            let at = self.need(x, name, "merge")?;
            size *= self.ty(x).axes[at].size;
            first = first.min(at);
        }
        let ty = self.ty(x).clone();
        let mut axes: Vec<Axis> = Vec::new();
        for (i, a) in ty.axes.iter().enumerate() {
            if i == first {
                axes.push(Axis { name: into.clone(), size });
            }
            if !from.contains(&a.name) {
                axes.push(a.clone());
            }
        }
        distinct(&axes)?;
        let op = Op::Merge { axes: from.to_vec(), into: into.clone() };
        Ok(self.raw(op, vec![x], Type::new(ty.dtype, axes)))
    }

    /// Reads along an axis at an affine index; `sizes` has the axes of the index.
    pub fn window(
        &mut self,
        x: NodeId,
        axis: &Name,
        index: Affine,
        index_axes: &[Axis],
        outside: f64,
    ) -> Built {
        let at = self.need(x, axis, "pick")?;
        let mut axes = self.ty(x).axes.clone();
        axes.remove(at);
        for a in index_axes {
            match axes.iter().find(|b| b.name == a.name) {
                Some(b) if b.size != a.size => return Err(two_sizes(a, b.size, "pick")),
                Some(_) => {}
                None => axes.push(a.clone()),
            }
        }
        let dtype = self.ty(x).dtype;
        let op = Op::Window { axis: axis.clone(), index, outside: Literal::new(outside) };
        Ok(self.raw(op, vec![x], Type::new(dtype, axes)))
    }

    /// Reads along an axis at a tensor of indices.
    pub fn gather(&mut self, x: NodeId, axis: &Name, index: NodeId) -> Built {
        let at = self.need(x, axis, "pick")?;
        let mut axes = self.ty(index).axes.clone();
        let mut rest = self.ty(x).axes.clone();
        rest.remove(at);
        for a in rest {
            match axes.iter().find(|b| b.name == a.name) {
                Some(b) if b.size != a.size => return Err(two_sizes(&a, b.size, "pick")),
                Some(_) => {}
                None => axes.push(a),
            }
        }
        let dtype = self.ty(x).dtype;
        let index = self.cast(index, DType::I32);
        Ok(self.raw(Op::Gather { axis: axis.clone() }, vec![x, index], Type::new(dtype, axes)))
    }

    /// Puts tensors behind each other.
    pub fn concat(&mut self, xs: &[NodeId], parts: &[Name], into: &Name) -> Built {
        let mut axes: Vec<Axis> = Vec::new();
        let mut size = 0;
        let mut dtype = self.ty(xs[0]).dtype;
        for (x, part) in xs.iter().zip(parts) {
            let at = self.need(*x, part, "concat")?;
            let ty = self.ty(*x).clone();
            size += ty.axes[at].size;
            if ty.dtype != dtype {
                dtype = DType::F32;
            }
            for a in ty.axes.iter().filter(|a| a.name != *part) {
                match axes.iter().find(|b| b.name == a.name) {
                    Some(b) if b.size != a.size => return Err(two_sizes(a, b.size, "concat")),
                    Some(_) => {}
                    None => axes.push(a.clone()),
                }
            }
        }
        let shared = axes.clone();
        let inputs: Vec<NodeId> = xs
            .iter()
            .map(|x| {
                let x = self.cast(*x, dtype);
                self.expand(x, &shared)
            })
            .collect();
        axes.push(Axis { name: into.clone(), size });
        distinct(&axes)?;
        let op = Op::Concat { parts: parts.to_vec(), into: into.clone() };
        Ok(self.raw(op, inputs, Type::new(dtype, axes)))
    }

    /// `dst` with `src` written from `start` on.
    pub fn update(&mut self, dst: NodeId, axis: &Name, src: NodeId, start: NodeId) -> Built {
        self.need(dst, axis, "a cache")?;
        self.need(src, axis, "a cache")?;
        let ty = self.ty(dst).clone();
        let src = self.cast(src, ty.dtype);
        let src = {
            let others: Vec<Axis> = ty.axes.iter().filter(|a| a.name != *axis).cloned().collect();
            self.expand(src, &others)
        };
        let start = self.cast(start, DType::I32);
        Ok(self.raw(Op::Update { axis: axis.clone() }, vec![dst, src, start], ty))
    }

    /// Reduces over axes.
    pub fn reduce(&mut self, op: ReduceOp, x: NodeId, over: &[Name]) -> Built {
        for name in over {
            self.need(x, name, "the reduction")?;
        }
        if over.is_empty() {
            return Ok(x);
        }
        let ty = self.ty(x).clone();
        let dtype = if ty.dtype.is_float() { DType::F32 } else { DType::I32 };
        let axes = ty.axes.into_iter().filter(|a| !over.contains(&a.name)).collect();
        Ok(self.raw(Op::Reduce { op, axes: over.to_vec() }, vec![x], Type::new(dtype, axes)))
    }

    /// log Σ exp over axes.
    pub fn logsumexp(&mut self, x: NodeId, over: &[Name]) -> Built {
        for name in over {
            self.need(x, name, "logsumexp")?;
        }
        let ty = self.ty(x).clone();
        let axes = ty.axes.into_iter().filter(|a| !over.contains(&a.name)).collect();
        let op = Op::LogSumExp { axes: over.to_vec() };
        Ok(self.raw(op, vec![x], Type::new(DType::F32, axes)))
    }

    /// Sum of products over axes that both have.
    pub fn contract(&mut self, a: NodeId, b: NodeId, over: &[Name], dtype: DType) -> Built {
        for name in over {
            for (x, side) in [(a, "left"), (b, "right")] {
                if self.ty(x).find(name).is_none() {
                    return Err(Misfit {
                        code: "E0412",
                        message: format!(
                            "`dot[{name}]` needs axis `{name}` on both sides; the {side} side has {}",
                            show(&self.ty(x).axes)
                        ),
                        help: None,
                    });
                }
            }
        }
        let axes = self.unite(&[a, b], "the two sides of `dot`")?;
        let axes = axes.into_iter().filter(|x| !over.contains(&x.name)).collect();
        let op = Op::Contract { over: over.to_vec() };
        Ok(self.raw(op, vec![a, b], Type::new(dtype, axes)))
    }

    /// Running sum.
    pub fn cumsum(&mut self, x: NodeId, axis: &Name, reverse: bool) -> Built {
        self.need(x, axis, "cumsum")?;
        let ty = self.ty(x).clone();
        let dtype = if ty.dtype.is_float() { DType::F32 } else { DType::I32 };
        let op = Op::CumSum { axis: axis.clone(), reverse };
        Ok(self.raw(op, vec![x], Type::new(dtype, ty.axes)))
    }

    /// 1 on the k largest.
    pub fn topk(&mut self, x: NodeId, axis: &Name, k: usize) -> Built {
        let at = self.need(x, axis, "topk")?;
        let ty = self.ty(x).clone();
        if k == 0 || k > ty.axes[at].size {
            return Err(misfit(
                "E0409",
                format!("topk takes {k} of `{axis}`, which has size {}", ty.axes[at].size),
            ));
        }
        Ok(self.raw(Op::TopK { axis: axis.clone(), k }, vec![x], Type::new(DType::Bool, ty.axes)))
    }

    /// The sorting permutation.
    pub fn argsort(&mut self, x: NodeId, axis: &Name) -> Built {
        self.need(x, axis, "sort")?;
        let axes = self.ty(x).axes.clone();
        Ok(self.raw(Op::ArgSort { axis: axis.clone() }, vec![x], Type::new(DType::I32, axes)))
    }

    /// Attention: the output in `dtype`, and the log-sum-exp.
    pub fn attention(
        &mut self,
        attention: Attention,
        q: NodeId,
        k: NodeId,
        v: NodeId,
        captured: &[NodeId],
        dtype: DType,
    ) -> Result<(NodeId, NodeId), Misfit> {
        for (x, name) in
            [(q, &attention.over), (k, &attention.over), (k, &attention.key), (v, &attention.key)]
        {
            self.need(x, name, "attend")?;
        }
        if self.ty(q).find(&attention.key).is_some() {
            return Err(misfit(
                "E0410",
                format!("the queries of `attend` may not have the key axis `{}`", attention.key),
            ));
        }
        self.unite(&[q, k], "queries and keys of `attend`")?;
        self.unite(&[k, v], "keys and values of `attend`")?;
        let axes = attention.output(self.ty(q), self.ty(k), self.ty(v));
        let rows = attention.rows(self.ty(q), self.ty(k));
        let mut inputs = vec![q, k, v];
        inputs.extend(captured);
        let ty = Type::new(dtype, axes);
        let both = self.raw(Op::Attention(Box::new(attention)), inputs, ty.clone());
        let out = self.raw(Op::Part(0), vec![both], ty);
        let lse = self.raw(Op::Part(1), vec![both], Type::new(DType::F32, rows));
        Ok((out, lse))
    }

    /// A scan over a finished body; gives one node per result: last carries, then stacked values.
    #[allow(clippy::too_many_arguments, reason = "the parts of one scan")]
    pub fn scan(
        &mut self,
        axis: Axis,
        reverse: bool,
        kind: ScanKind,
        body: Graph,
        inits: &[NodeId],
        scanned: &[NodeId],
        captured: &[NodeId],
    ) -> Result<Vec<NodeId>, Misfit> {
        let carries = inits.len();
        let mut inputs = Vec::new();
        for (i, x) in inits.iter().chain(scanned).chain(captured).enumerate() {
            let want = body.inputs[i].ty.clone();
            let is_scanned = i >= carries && i < carries + scanned.len();
            if is_scanned {
                self.need(*x, &axis.name, "scan")?;
            }
            // A carry may start smaller than it becomes (`state h[..] = 0`): it is expanded here.
            let x = if is_scanned { *x } else { self.expand(*x, &want.axes) };
            inputs.push(self.cast(x, want.dtype));
        }
        let types: Vec<Type> = body
            .outputs
            .iter()
            .enumerate()
            .map(|(i, o)| {
                let mut ty = body.ty(o.node).clone();
                if i >= carries {
                    ty.axes.insert(0, axis.clone());
                }
                ty
            })
            .collect();
        let Some(first) = types.first().cloned() else {
            return Err(misfit("E0411", "a scan must give a value".into()));
        };
        let scan = Scan { axis, reverse, carries, scanned: scanned.len(), body, kind };
        let node = self.raw(Op::Scan(Box::new(scan)), inputs, first);
        let part = |(i, ty)| self.raw(Op::Part(i as u32), vec![node], ty);
        Ok(types.into_iter().enumerate().map(part).collect())
    }

    /// No gradient passes.
    pub fn stop(&mut self, x: NodeId) -> NodeId {
        let ty = self.ty(x).clone();
        self.raw(Op::Stop, vec![x], ty)
    }

    /// The union of axes by name, in order of appearance, largest input first so that storage order follows it.
    pub fn unite(&self, xs: &[NodeId], what: &str) -> Result<Vec<Axis>, Misfit> {
        let mut order: Vec<NodeId> = xs.to_vec();
        order.sort_by_key(|x| std::cmp::Reverse(self.ty(*x).axes.len()));
        let mut axes: Vec<Axis> = Vec::new();
        for x in order {
            for a in &self.ty(x).axes {
                match axes.iter().find(|b| b.name == a.name) {
                    Some(b) if b.size != a.size => return Err(two_sizes(a, b.size, what)),
                    Some(_) => {}
                    None => axes.push(a.clone()),
                }
            }
        }
        Ok(axes)
    }

    fn need(&self, x: NodeId, axis: &Name, what: &str) -> Result<usize, Misfit> {
        self.ty(x).find(axis).ok_or_else(|| Misfit {
            code: "E0403",
            message: format!(
                "{what} needs axis `{axis}`, but the value has {}",
                show(&self.ty(x).axes)
            ),
            help: None,
        })
    }
}

/// Axes as the user writes them: `[batch, seq, d]`.
pub fn show(axes: &[Axis]) -> String {
    let names: Vec<&str> = axes.iter().map(|a| a.name.as_str()).collect();
    format!("[{}]", names.join(", "))
}

fn misfit(code: &'static str, message: String) -> Misfit {
    Misfit { code, message, help: None }
}

fn two_sizes(a: &Axis, other: usize, what: &str) -> Misfit {
    Misfit {
        code: "E0404",
        message: format!("{what} have two sizes for axis `{}`: {} and {other}", a.name, a.size),
        help: Some(format!("rename one of them: `x[{} -> other]`", a.name)),
    }
}

fn distinct(axes: &[Axis]) -> Result<(), Misfit> {
    for (i, a) in axes.iter().enumerate() {
        if axes[..i].iter().any(|b| b.name == a.name) {
            return Err(misfit("E0407", format!("the result has two axes `{}`", a.name)));
        }
    }
    Ok(())
}
