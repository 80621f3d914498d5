//! Which values are needed: "live on k of expert".
//!
//! Takes a graph, gives per node the share of each axis that has to be computed. A mixture of experts is written densely,
//! `Σ_expert g * experts(x)` with gates `g` that are zero but on `k` experts of each token; whoever counts or executes it
//! computes only the `k`.
//!
//! Two walks find this. *Forward*: a value is **sparse** on `k` of an axis if it is zero elsewhere; that begins at a
//! [`Op::TopK`] and is kept by what maps zero to zero. *Backward*: a value is **demanded** on `k` of an axis if each of its readers
//! multiplies it with something sparse. Both facts remember the mask and its axes, because "k experts per token" says
//! nothing about a value without a token axis: weights are needed whole. Of such a value one can still say what *share* of
//! it a single token uses, which is what active parameters are.
//!
//! What no output needs is marked as such. Bodies of scans are looked at on their own: sparseness does not pass into them.

use std::collections::BTreeMap;

use super::{BinOp, Graph, Name, Node, NodeId, Op, ReduceOp, Type};

/// The facts of a graph.
#[derive(Debug, Clone)]
pub struct Demand {
    /// Per node, the share of its *iterations* that matter, per axis; axes that matter whole are left out. `None`: nothing
    /// needs the node.
    pub work: Vec<Option<BTreeMap<Name, f64>>>,
    /// Per node, the share of its *values* that one coordinate of all other axes uses, per axis.
    pub share: Vec<BTreeMap<Name, f64>>,
    /// The same for the inputs of the graph.
    pub input_share: Vec<BTreeMap<Name, f64>>,
}

/// Finds what is needed.
pub fn demand(graph: &Graph) -> Demand {
    let sparse = sparse(graph);
    let mut facts = Facts {
        graph,
        sparse,
        demand: vec![None; graph.nodes.len()],
        share: vec![None; graph.nodes.len()],
    };
    for output in &graph.outputs {
        facts.demand[output.node.0 as usize] = Some(Vec::new());
        facts.share[output.node.0 as usize] = Some(BTreeMap::new());
    }
    let mut work = vec![None; graph.nodes.len()];
    for id in graph.ids().rev() {
        if let Some(wanted) = facts.demand[id.0 as usize].clone() {
            work[id.0 as usize] = Some(facts.visit(id, &wanted));
        }
    }
    let mut input_share = vec![BTreeMap::new(); graph.inputs.len()];
    let share: Vec<BTreeMap<Name, f64>> =
        facts.share.into_iter().map(Option::unwrap_or_default).collect();
    for id in graph.ids() {
        if let Op::Input(i) = graph.node(id).op {
            input_share[i as usize] = share[id.0 as usize].clone();
        }
    }
    Demand { work, share, input_share }
}

/// Zero, or not needed, but on `k` of `axis` at each coordinate of `others`.
#[derive(Debug, Clone, PartialEq)]
struct Live {
    axis: Name,
    k: usize,
    size: usize,
    // Two facts about one mask are about the same k.
    mask: NodeId,
    others: Vec<Name>,
}

impl Live {
    fn concerns(&self, name: &Name) -> bool {
        self.axis == *name || self.others.contains(name)
    }

    fn within(&self, ty: &Type) -> bool {
        ty.find(&self.axis).is_some() && self.others.iter().all(|o| ty.find(o).is_some())
    }

    fn renamed(&self, names: &[(Name, Name)]) -> Self {
        let new = |name: &Name| {
            let found = names.iter().find(|(from, _)| from == name);
            found.map_or_else(|| name.clone(), |(_, to)| to.clone())
        };
        let others = self.others.iter().map(new).collect();
        Self { axis: new(&self.axis), others, ..self.clone() }
    }
}

// Where each node is zero.
fn sparse(graph: &Graph) -> Vec<Vec<Live>> {
    let mut all: Vec<Vec<Live>> = Vec::with_capacity(graph.nodes.len());
    for id in graph.ids() {
        let node = graph.node(id);
        let x = |i: usize| all[node.inputs[i].0 as usize].clone();
        let found = match &node.op {
            Op::TopK { axis, k } => {
                let size = node.ty.size(axis).unwrap_or(*k);
                let names = node.ty.axes.iter().map(|a| a.name.clone());
                let others = names.filter(|n| n != axis).collect();
                vec![Live { axis: axis.clone(), k: *k, size, mask: id, others }]
            }
            Op::Unary(op) if op.eval(0.0) == 0.0 => x(0),
            Op::Cast | Op::Expand | Op::Stop => x(0),
            Op::Rename(names) => x(0).iter().map(|l| l.renamed(names)).collect(),
            Op::Binary(op) => match op {
                BinOp::Mul | BinOp::And => meet(x(0), x(1)),
                BinOp::Div => x(0),
                BinOp::Add | BinOp::Sub | BinOp::Or => {
                    // Zero where both are; of one mask they are zero together.
                    let b = x(1);
                    x(0).into_iter().filter(|l| b.contains(l)).collect()
                }
                // With a number on one side the operator is a map of the other: x > 0, max(x, 0).
                BinOp::Pow
                | BinOp::Min
                | BinOp::Max
                | BinOp::Mod
                | BinOp::Lt
                | BinOp::Le
                | BinOp::Eq
                | BinOp::Ne => {
                    let (a, b) = (node.inputs[0], node.inputs[1]);
                    match (number(graph, a), number(graph, b)) {
                        (None, Some(b)) if op.eval(0.0, b) == 0.0 => x(0),
                        (Some(a), None) if op.eval(a, 0.0) == 0.0 => x(1),
                        (None | Some(_), None | Some(_)) => Vec::new(),
                    }
                }
            },
            Op::Select if number(graph, node.inputs[2]) == Some(0.0) => meet(x(0), x(1)),
            Op::Reduce { op: ReduceOp::Sum | ReduceOp::Max | ReduceOp::Min, axes: _ } => x(0),
            Op::Contract { .. } => meet(x(0), x(1)),
            Op::Unary(_)
            | Op::Select
            | Op::Reduce { .. }
            | Op::Const(_)
            | Op::Pos
            | Op::Input(_)
            | Op::Runtime(_)
            | Op::Random(..)
            | Op::Split { .. }
            | Op::Merge { .. }
            | Op::Window { .. }
            | Op::Gather { .. }
            | Op::ScatterAdd { .. }
            | Op::Concat { .. }
            | Op::Update { .. }
            | Op::LogSumExp { .. }
            | Op::CumSum { .. }
            | Op::ArgSort { .. }
            | Op::Attention(_)
            | Op::AttentionGrad { .. }
            | Op::Scan(_)
            | Op::Part(_)
            | Op::Collective(_) => Vec::new(),
        };
        // A sum over an axis of the mask mixes what was zero with what was not.
        all.push(found.into_iter().filter(|l| l.within(&node.ty)).collect());
    }
    all
}

struct Facts<'a> {
    graph: &'a Graph,
    sparse: Vec<Vec<Live>>,
    demand: Vec<Option<Vec<Live>>>,
    share: Vec<Option<BTreeMap<Name, f64>>>,
}

impl Facts<'_> {
    // Tells the inputs of a node what is wanted of them; gives the share of its own work.
    fn visit(&mut self, id: NodeId, wanted: &[Live]) -> BTreeMap<Name, f64> {
        let node = self.graph.node(id);
        let sparse = |i: usize| self.sparse[node.inputs[i].0 as usize].clone();
        let all = || wanted.to_vec();
        // What each input is needed for, and how its axes are called here.
        let mut renamed: &[(Name, Name)] = &[];
        let per_input: Vec<Vec<Live>> = match &node.op {
            Op::Binary(op) => match op {
                BinOp::Mul | BinOp::And => vec![meet(all(), sparse(1)), meet(all(), sparse(0))],
                BinOp::Add
                | BinOp::Sub
                | BinOp::Div
                | BinOp::Pow
                | BinOp::Min
                | BinOp::Max
                | BinOp::Mod
                | BinOp::Lt
                | BinOp::Le
                | BinOp::Eq
                | BinOp::Ne
                | BinOp::Or => vec![all(), all()],
            },
            Op::Contract { .. } => vec![meet(all(), sparse(1)), meet(all(), sparse(0))],
            Op::Select => vec![all(), meet(all(), sparse(0)), all()],
            Op::Unary(_) | Op::Cast | Op::Expand | Op::Stop => vec![all()],
            Op::Random(..) => vec![all(), all(), all()],
            Op::Reduce { .. } | Op::LogSumExp { .. } => vec![all()],
            Op::CumSum { axis, .. } => {
                vec![wanted.iter().filter(|l| !l.concerns(axis)).cloned().collect()]
            }
            Op::Rename(names) => {
                renamed = names;
                let back: Vec<(Name, Name)> =
                    names.iter().map(|(a, b)| (b.clone(), a.clone())).collect();
                vec![wanted.iter().map(|l| l.renamed(&back)).collect()]
            }
            Op::Const(_)
            | Op::Pos
            | Op::Input(_)
            | Op::Runtime(_)
            | Op::Split { .. }
            | Op::Merge { .. }
            | Op::Window { .. }
            | Op::Gather { .. }
            | Op::ScatterAdd { .. }
            | Op::Concat { .. }
            | Op::Update { .. }
            | Op::TopK { .. }
            | Op::ArgSort { .. }
            | Op::Attention(_)
            | Op::AttentionGrad { .. }
            | Op::Scan(_)
            | Op::Part(_)
            | Op::Collective(_) => vec![Vec::new(); node.inputs.len()],
        };
        let mut lives = all();
        if matches!(node.op, Op::Contract { .. } | Op::Binary(BinOp::Mul | BinOp::And)) {
            lives = meet(meet(lives, sparse(0)), sparse(1));
        }
        let work = shares(&lives);
        let inner = self.inner(node);
        let own = self.share[id.0 as usize].clone().unwrap_or_default();
        for (i, (x, lives)) in node.inputs.iter().zip(per_input).enumerate() {
            let ty = self.graph.ty(*x);
            let fits: Vec<Live> = lives.iter().filter(|l| l.within(ty)).cloned().collect();
            let slot = &mut self.demand[x.0 as usize];
            *slot = Some(match slot.take() {
                Some(known) => join(known, fits),
                None => fits,
            });
            let share = match &inner {
                Some(inner) => inner[i].clone(),
                None if keeps_axes(&node.op) => {
                    let here = |name: &Name| {
                        let new = renamed.iter().find(|(old, _)| old == name);
                        new.map_or_else(|| name.clone(), |(_, new)| new.clone())
                    };
                    let least = |name: &Name| {
                        let of = |m: &BTreeMap<Name, f64>| m.get(&here(name)).copied();
                        of(&own).unwrap_or(1.0).min(of(&work).unwrap_or(1.0))
                    };
                    let shares = ty.axes.iter().map(|a| (a.name.clone(), least(&a.name)));
                    shares.filter(|(_, s)| *s < 1.0).collect()
                }
                None => BTreeMap::new(),
            };
            let slot = &mut self.share[x.0 as usize];
            *slot = Some(match slot.take() {
                Some(known) => larger(&known, &share),
                None => share,
            });
        }
        work
    }

    // For a loop, the shares of its inputs as its body sees them.
    fn inner(&self, node: &Node) -> Option<Vec<BTreeMap<Name, f64>>> {
        let Op::Scan(scan) = &node.op else { return None };
        Some(demand(&scan.body).input_share)
    }
}

// True where a coordinate of an input's axis is used for that coordinate of the result, or summed.
fn keeps_axes(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(_)
            | Op::Binary(_)
            | Op::Select
            | Op::Cast
            | Op::Expand
            | Op::Stop
            | Op::Rename(_)
            | Op::Reduce { .. }
            | Op::LogSumExp { .. }
            | Op::Contract { .. }
    )
}

// A node that is one number everywhere.
fn number(graph: &Graph, id: NodeId) -> Option<f64> {
    let node = graph.node(id);
    if let Op::Const(literal) = node.op {
        return Some(literal.get());
    }
    matches!(node.op, Op::Cast | Op::Expand).then(|| number(graph, node.inputs[0]))?
}

// Both hold.
fn meet(mut a: Vec<Live>, b: Vec<Live>) -> Vec<Live> {
    for live in b {
        if !a.contains(&live) {
            a.push(live);
        }
    }
    a
}

// Needed here or there: of one mask the same k, of two masks on one axis k of each.
fn join(a: Vec<Live>, b: Vec<Live>) -> Vec<Live> {
    let mut both = Vec::new();
    for x in &a {
        if b.contains(x) {
            both.push(x.clone());
            continue;
        }
        let other = b.iter().find(|y| y.axis == x.axis && y.others == x.others && !a.contains(y));
        if let Some(y) = other
            && x.k + y.k < x.size
        {
            both.push(Live { k: x.k + y.k, ..x.clone() });
        }
    }
    both
}

fn shares(lives: &[Live]) -> BTreeMap<Name, f64> {
    let mut shares: BTreeMap<Name, f64> = BTreeMap::new();
    for live in lives {
        let share = live.k as f64 / live.size as f64;
        let least = shares.entry(live.axis.clone()).or_insert(1.0);
        *least = least.min(share);
    }
    shares
}

fn larger(a: &BTreeMap<Name, f64>, b: &BTreeMap<Name, f64>) -> BTreeMap<Name, f64> {
    a.iter().filter_map(|(name, x)| b.get(name).map(|y| (name.clone(), x.max(*y)))).collect()
}
