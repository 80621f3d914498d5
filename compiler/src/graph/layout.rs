//! Storage orders: which axis of a value is innermost.
//!
//! Takes a simple graph, gives one of equal meaning in which the order of axes of each type is the one in which it is best
//! stored. Inputs and outputs of the whole graph keep theirs. A value that comes to lie as its readers want it needs no
//! copy, and loops run along memory.
//!
//! The rules: a map is stored like its widest operand. A product of data with a weight keeps the axes of the data outermost,
//! then come those of the weight, so that rows stay rows. A window puts its axis where the old one was. A loop
//! carries and slices in the order in which it is given. A value that goes out, or into maps and sums that go out, is made in the order that is wanted
//! there, if its operation can do that in one go; otherwise an [`Op::Expand`] without new axes is the copy that remains, and all
//! others of that kind vanish.

use super::build::Builder;
use super::{Axis, Graph, InputDecl, Name, Node, NodeId, Op, OutputDecl, Role, Scan, Type};

/// Chooses the storage order of every value.
pub fn arrange(graph: &Graph) -> Graph {
    let inputs: Vec<Type> = graph.inputs.iter().map(|i| i.ty.clone()).collect();
    let varies: Vec<bool> = graph.inputs.iter().map(|i| i.role == Role::Data).collect();
    let wanted: Vec<Option<Vec<Axis>>> =
        graph.outputs.iter().map(|o| Some(graph.ty(o.node).axes.clone())).collect();
    Level { graph, inputs, varies, wanted }.arranged()
}

// One graph, whole or the body of a loop.
struct Level<'a> {
    graph: &'a Graph,
    // How the inputs are stored.
    inputs: Vec<Type>,
    // Which inputs come from data.
    varies: Vec<bool>,
    // How each output is to be stored, where that matters.
    wanted: Vec<Option<Vec<Axis>>>,
}

impl Level<'_> {
    fn arranged(self) -> Graph {
        let graph = self.graph;
        let wishes = self.wishes();
        let mut b = Builder::new();
        let decls = graph.inputs.iter().zip(&self.inputs);
        b.graph.inputs =
            decls.map(|(decl, ty)| InputDecl { ty: ty.clone(), ..decl.clone() }).collect();
        let mut place: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
        let mut varies: Vec<bool> = Vec::with_capacity(graph.nodes.len());
        for id in graph.ids() {
            let node = graph.node(id);
            let x: Vec<NodeId> = node.inputs.iter().map(|x| place[x.0 as usize]).collect();
            let live: Vec<bool> = node.inputs.iter().map(|x| varies[x.0 as usize]).collect();
            varies.push(match node.op {
                Op::Input(i) => self.varies[i as usize],
                _ => live.iter().any(|l| *l),
            });
            b.span = node.span;
            b.path = Some(node.path.clone());
            if permutes(graph, node) {
                place.push(x[0]);
                continue;
            }
            let (op, ty) = match &node.op {
                Op::Input(i) => (node.op.clone(), self.inputs[*i as usize].clone()),
                Op::Scan(scan) => {
                    looped(&b, scan, node, &x, &live, self.wanted_of(id, scan, &wishes))
                }
                op => (op.clone(), Type::new(node.ty.dtype, axes(&b, node, &x, &live))),
            };
            let ty = match &wishes[id.0 as usize] {
                Some(order) if grants(&b, &op, &x, order) => Type::new(ty.dtype, order.clone()),
                Some(_) | None => ty,
            };
            place.push(b.raw(op, x, ty));
        }
        for (output, wanted) in graph.outputs.iter().zip(&self.wanted) {
            let mut node = place[output.node.0 as usize];
            let ty = b.ty(node).clone();
            if let Some(axes) = wanted
                && *axes != ty.axes
            {
                node = b.raw(Op::Expand, vec![node], Type::new(ty.dtype, axes.clone()));
            }
            b.graph.outputs.push(OutputDecl { node, ..output.clone() });
        }
        b.graph
    }

    // In which order a value is wanted by its readers, as far as outputs say and readers agree. Maps hand on what is wanted of them; sums take any order;
    // what other readers want is not known, so they keep the natural one.
    fn wishes(&self) -> Vec<Option<Vec<Axis>>> {
        let graph = self.graph;
        let mut wishes = vec![Wish::Open; graph.nodes.len()];
        for (output, wanted) in graph.outputs.iter().zip(&self.wanted) {
            if let Some(wanted) = wanted {
                wishes[output.node.0 as usize].join(wanted);
            }
        }
        for id in graph.ids().rev() {
            let node = graph.node(id);
            let passes = permutes(graph, node) || is_map(&node.op);
            let any = matches!(node.op, Op::Reduce { .. } | Op::LogSumExp { .. });
            let wish = wishes[id.0 as usize].clone();
            for x in &node.inputs {
                let there = &mut wishes[x.0 as usize];
                match &wish {
                    _ if any => {}
                    Wish::For(order) if passes => {
                        if graph.ty(*x).axes.len() == order.len() {
                            there.join(order);
                        }
                    }
                    Wish::Open | Wish::Natural if passes => {}
                    Wish::Open | Wish::For(_) | Wish::Natural => *there = Wish::Natural,
                }
            }
        }
        let order = |wish| match wish {
            Wish::For(order) => Some(order),
            Wish::Open | Wish::Natural => None,
        };
        wishes.into_iter().map(order).collect()
    }

    // Of each result of a loop, how it is wanted outside.
    fn wanted_of(
        &self,
        id: NodeId,
        scan: &Scan,
        wishes: &[Option<Vec<Axis>>],
    ) -> Vec<Option<Vec<Axis>>> {
        let mut wanted = vec![None; scan.body.outputs.len()];
        for (reader, wish) in self.graph.nodes.iter().zip(wishes) {
            if let (Op::Part(n), Some(wish)) = (&reader.op, wish)
                && reader.inputs[0] == id
                && wish.first() == Some(&scan.axis)
            {
                wanted[*n as usize] = Some(wish[1..].to_vec());
            }
        }
        wanted
    }
}

// In which order a value is wanted.
#[derive(Clone)]
enum Wish {
    // Nobody has said.
    Open,
    For(Vec<Axis>),
    // In the one that comes of itself: readers disagree, or one of them is not known to do without it.
    Natural,
}

impl Wish {
    fn join(&mut self, order: &[Axis]) {
        *self = match self {
            Self::Open => Self::For(order.to_vec()),
            Self::For(known) if known == order => return,
            Self::For(_) | Self::Natural => Self::Natural,
        };
    }
}

// True for an expand that only changes the order.
fn permutes(graph: &Graph, node: &Node) -> bool {
    node.op == Op::Expand && graph.ty(node.inputs[0]).axes.len() == node.ty.axes.len()
}

fn is_map(op: &Op) -> bool {
    matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Select | Op::Random(..))
}

// True if the operation can write its result in that order as well as in any other.
fn grants(b: &Builder, op: &Op, x: &[NodeId], order: &[Axis]) -> bool {
    if is_map(op) {
        return true;
    }
    let Op::Contract { over } = op else {
        return matches!(op, Op::Gather { .. } | Op::ScatterAdd { .. } | Op::Reduce { .. });
    };
    // A matrix product writes rows and columns, each as its operand has them.
    let own = |x: NodeId, other: NodeId| -> Vec<Axis> {
        let other = b.ty(other);
        let own = |a: &&Axis| !over.contains(&a.name) && other.find(&a.name).is_none();
        b.ty(x).axes.iter().filter(own).cloned().collect()
    };
    [own(x[0], x[1]), own(x[1], x[0])].iter().all(|group| {
        group.is_empty() || order.windows(group.len()).any(|window| window == group.as_slice())
    })
}

// The natural order of a result, given how the operands are stored.
fn axes(b: &Builder, node: &Node, x: &[NodeId], varies: &[bool]) -> Vec<Axis> {
    let of = |i: usize| b.ty(x[i]).axes.clone();
    let without = |axes: Vec<Axis>, names: &[Name]| -> Vec<Axis> {
        axes.into_iter().filter(|a| !names.contains(&a.name)).collect()
    };
    let known = &node.ty.axes;
    match &node.op {
        Op::Const(_) | Op::Pos | Op::Runtime(_) | Op::Input(_) => known.clone(),
        Op::Random(..) | Op::Unary(_) | Op::Binary(_) | Op::Select => {
            let mut order: Vec<usize> = (0..x.len()).collect();
            order.sort_by_key(|i| std::cmp::Reverse((of(*i).len(), b.ty(x[*i]).len())));
            united(order.into_iter().flat_map(of))
        }
        Op::Cast | Op::Stop => of(0),
        Op::Collective(_) => in_order(&of(0), known),
        // New axes outermost.
        Op::Expand => {
            let old = of(0);
            let new = known.iter().filter(|a| !old.contains(a)).cloned();
            new.chain(old.iter().cloned()).collect()
        }
        Op::Rename(pairs) => {
            let new = |a: Axis| match pairs.iter().find(|(old, _)| *old == a.name) {
                Some((_, new)) => Axis { name: new.clone(), size: a.size },
                None => a,
            };
            of(0).into_iter().map(new).collect()
        }
        Op::Split { axis, into } => {
            let parts = |a: Axis| if a.name == *axis { into.clone() } else { vec![a] };
            of(0).into_iter().flat_map(parts).collect()
        }
        Op::Merge { axes, into } => {
            let size = known.iter().find(|a| a.name == *into).map_or(1, |a| a.size);
            let mut new: Vec<Axis> = Vec::new();
            for a in of(0) {
                let merged = axes.contains(&a.name);
                let first = merged && !new.iter().any(|n| n.name == *into);
                if first {
                    new.push(Axis { name: into.clone(), size });
                } else if !merged {
                    new.push(a);
                }
            }
            new
        }
        Op::Window { axis, .. } => {
            let old = of(0);
            let fresh: Vec<Axis> = known
                .iter()
                .filter(|k| *k.name.as_str() == *axis.as_str() || !old.contains(k))
                .cloned()
                .collect();
            let parts = |a: Axis| if a.name == *axis { fresh.clone() } else { vec![a] };
            let placed: Vec<Axis> = old.into_iter().flat_map(parts).collect();
            in_order(&placed, known)
        }
        Op::Gather { axis } => in_order(
            &united(of(1).into_iter().chain(without(of(0), std::slice::from_ref(axis)))),
            known,
        ),
        Op::ScatterAdd { .. } => known.clone(),
        Op::Concat { parts, into } => {
            let size = known.iter().find(|a| a.name == *into).map_or(1, |a| a.size);
            let new = |a: Axis| {
                if a.name == parts[0] { Axis { name: into.clone(), size } } else { a }
            };
            of(0).into_iter().map(new).collect()
        }
        Op::Update { .. } | Op::CumSum { .. } | Op::TopK { .. } | Op::ArgSort { .. } => of(0),
        Op::Reduce { axes, .. } | Op::LogSumExp { axes } => without(of(0), axes),
        Op::Contract { over } => {
            let rows = usize::from(!varies[0] && varies[1]);
            without(united(of(rows).into_iter().chain(of(1 - rows))), over)
        }
        Op::Attention(a) => a.output(b.ty(x[0]), b.ty(x[1]), b.ty(x[2])),
        Op::AttentionGrad { .. } => of(0),
        Op::Part(n) => {
            let multi = b.graph.node(x[0]);
            let part = super::verify::part(&b.graph, multi, *n as usize);
            part.map_or_else(|| known.clone(), |ty| ty.axes)
        }
        // `looped` does this one.
        Op::Scan(_) => known.clone(),
    }
}

// A loop whose body is arranged for what it is given; and the type of its first result.
fn looped(
    b: &Builder,
    scan: &Scan,
    node: &Node,
    x: &[NodeId],
    varies: &[bool],
    outside: Vec<Option<Vec<Axis>>>,
) -> (Op, Type) {
    let axis = &scan.axis;
    let given = |i: usize| {
        let mut ty = b.ty(x[i]).clone();
        if i >= scan.carries && i < scan.carries + scan.scanned {
            ty.axes.retain(|a| a.name != axis.name);
        }
        ty
    };
    let inputs: Vec<Type> = (0..x.len()).map(given).collect();
    // A carry becomes what the others are.
    let any = varies.iter().any(|v| *v);
    let varies = varies.iter().enumerate().map(|(i, v)| *v || i < scan.carries && any).collect();
    let wanted = scan.body.outputs.iter().zip(outside).enumerate().map(|(i, (output, outside))| {
        let node = scan.body.node(output.node);
        if i < scan.carries {
            return Some(inputs[i].axes.clone());
        }
        // An order that was asked for: gradients in the order of their weights.
        outside.or_else(|| permutes(&scan.body, node).then(|| node.ty.axes.clone()))
    });
    let wanted = wanted.collect();
    let body = Level { graph: &scan.body, inputs, varies, wanted }.arranged();
    let mut ty = body.outputs.first().map_or_else(|| node.ty.clone(), |o| body.ty(o.node).clone());
    if scan.carries == 0 {
        ty.axes.insert(0, axis.clone());
    }
    (Op::Scan(Box::new(Scan { body, ..scan.clone() })), ty)
}

fn united(axes: impl Iterator<Item = Axis>) -> Vec<Axis> {
    let mut all: Vec<Axis> = Vec::new();
    for axis in axes {
        if !all.iter().any(|a| a.name == axis.name) {
            all.push(axis);
        }
    }
    all
}

// The axes of `known` in the order in which they stand in `order`.
fn in_order(order: &[Axis], known: &[Axis]) -> Vec<Axis> {
    let mut axes = known.to_vec();
    axes.sort_by_key(|k| order.iter().position(|a| a.name == k.name));
    axes
}

#[cfg(test)]
mod tests {
    use super::super::interp::{first_step, interpret};
    use super::super::print::print;
    use super::super::random::random_graph;
    use super::super::rewrite::simplify;
    use super::super::verify::verify;
    use super::super::{BinOp, DType, ReduceOp};
    use super::*;

    fn axis(name: &str, size: usize) -> Axis {
        Axis { name: name.into(), size }
    }

    fn f32s(axes: &[&Axis]) -> Type {
        Type::new(DType::F32, axes.iter().map(|a| (*a).clone()).collect())
    }

    #[test]
    fn random_graphs_keep_their_meaning() {
        for seed in 0..2000 {
            let (graph, given) = random_graph(seed, 40);
            let graph = if seed % 2 == 0 { simplify(graph) } else { graph };
            let arranged = arrange(&graph);
            let shown = || format!("seed {seed}\n{}\nbecame\n{}", print(&graph), print(&arranged));
            verify(&arranged).unwrap_or_else(|bug| panic!("{}\n{}", bug.message, shown()));
            let before = interpret(&graph, &given, &first_step).unwrap();
            let after = interpret(&arranged, &given, &first_step).unwrap();
            for (name, x) in &before {
                let y = &after[name.as_str()];
                assert_eq!(x.ty, y.ty, "{}", shown());
                for (x, y) in x.data.iter().zip(&y.data) {
                    let wild = |x: f64| !x.is_finite() || x.abs() > 1e60;
                    let close = (x - y).abs() <= 1e-7 * (1.0 + x.abs().max(y.abs()));
                    assert!(close || wild(*x) && wild(*y), "{name}: {x} {y}\n{}", shown());
                }
            }
            assert!(arrange(&arranged) == arranged, "{}", shown());
        }
    }

    #[test]
    fn rows_stay_rows() {
        let (batch, seq, d) = (axis("batch", 2), axis("seq", 3), axis("d", 4));
        let (head, dh) = (axis("head", 2), axis("dh", 8));
        let mut b = Builder::new();
        let x = b.input("x", f32s(&[&batch, &seq, &d]), Role::Data);
        let w = b.input("w", f32s(&[&d, &head, &dh]), Role::Weight);
        for pair in [[x, w], [w, x]] {
            let mut b = b.clone();
            let q = b.contract(pair[0], pair[1], &["d".into()], DType::F32).unwrap();
            let scale = b.input("s", f32s(&[&batch, &seq]), Role::Data);
            let wide = b.expand(scale, &[head.clone(), dh.clone()]);
            let y = b.binary(BinOp::Mul, wide, q).unwrap();
            let sum = b.reduce(ReduceOp::Sum, y, &["dh".into()]).unwrap();
            b.output("sum", sum, None);
            let text = print(&arrange(&b.graph));
            assert!(text.contains(": f32[batch, seq, head, dh] = contract[d]"), "{text}");
        }
    }

    #[test]
    fn a_gradient_is_made_in_the_order_of_its_weight() {
        let (batch, d, o) = (axis("batch", 2), axis("d", 4), axis("o", 3));
        let mut b = Builder::new();
        let x = b.input("x", f32s(&[&batch, &d]), Role::Data);
        let dy = b.input("dy", f32s(&[&batch, &o]), Role::Data);
        let grad = b.contract(dy, x, &["batch".into()], DType::F32).unwrap();
        let turned = b.raw(Op::Expand, vec![grad], f32s(&[&d, &o]));
        b.output("grad", turned, None);
        let text = print(&arrange(&b.graph));
        assert!(text.contains("%2: f32[d, o] = contract[batch](%1, %0)\ngrad = %2"), "{text}");
    }
}
