//! Which nodes share a kernel.
//!
//! Takes a prepared graph; gives groups in an order of execution. Every node is then one of: a number that the host
//! computes, *inlined* (computed again inside each kernel that reads it), or *stored* by the group that it is a member of.
//!
//! The nodes are visited from the last to the first, so that whoever reads a value has been placed before the value is:
//! - A dense node (contraction, attention, scatter, sort, scan) is a group of its own. What it reads is stored.
//! - A view is inlined: it only changes how an element's index is computed.
//! - An elementwise node is inlined where it has one reader, or where computing it again costs less than its memory
//!   traffic. Otherwise it is stored, if possible as one more result of a group with the same iteration space.
//! - A reduction along the innermost axes joins a group that reads its result row by row, or that runs over its
//!   operand: so a norm or a softmax is one kernel, with one pass over a row per dependent reduction. Other reductions are
//!   groups of kind `ColReduce`, shared by reductions over the same axes.
//!
//! - Groups over the same iteration space that read one and the same full-size value become one group.
//!
//! *Legality.* A value may be a row value of a group only if every reader in the group reads it at the coordinates of its
//! row: a reader is *aligned* if from it to the value axes keep their names. And no group may come to wait for itself: a node joins
//! a group only if no other reader of the node comes before that group.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Axis, BinOp, DType, Graph, Name, NodeId, Op, ReduceOp};
use crate::lower::effort::{CHEAP, Effort, effort};

/// The partition of a graph.
#[derive(Debug)]
pub(crate) struct Grouping {
    /// In order of execution.
    pub(crate) groups: Vec<Group>,
    /// Per node: whether its value has memory.
    pub(crate) stored: Vec<bool>,
    /// Dense sums that are added into memory: the summand and the node that is the sum.
    pub(crate) absorbed: BTreeMap<NodeId, NodeId>,
    /// Per output: it replaces an input that is still read when it is written, so it goes elsewhere first.
    pub(crate) detour: Vec<bool>,
}

/// Nodes of one kernel.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// What kind of kernel.
    pub(crate) kind: Kind,
    /// The nodes that it stores or reduces, ascending.
    pub(crate) members: Vec<NodeId>,
}

/// Kinds of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Elementwise work; if `reduces`, with reductions over `cols`, else `cols` is empty.
    Loop { rows: Vec<Axis>, cols: Vec<Axis>, reduces: bool },
    /// Reductions over `reduced`.
    ColReduce { kept: Vec<Axis>, reduced: Vec<Axis> },
    /// Rows written into a cache.
    Update,
    /// One dense node.
    Dense,
    /// One loop.
    Scan,
}

impl Kind {
    fn len(&self) -> usize {
        let product = |axes: &[Axis]| axes.iter().map(|a| a.size).product::<usize>();
        match self {
            Self::Loop { rows, cols, .. } => product(rows) * product(cols),
            Self::ColReduce { kept, reduced } => product(kept) * product(reduced),
            Self::Update | Self::Dense | Self::Scan => usize::MAX,
        }
    }
}

/// See the module. `host`: which nodes are host scalars. `replaces`: per output, the input node whose memory it takes.
pub(crate) fn group(graph: &Graph, host: &[bool], replaces: &[Option<NodeId>]) -> Grouping {
    let n = graph.nodes.len();
    let mut f = Fuse {
        graph,
        host,
        effort: effort(graph, host),
        uses: vec![0; n],
        users: vec![BTreeMap::new(); n],
        wanted: vec![false; n],
        stored: vec![false; n],
        absorbed: BTreeMap::new(),
        writer: BTreeMap::new(),
        groups: Vec::new(),
        next: Vec::new(),
        after: Vec::new(),
    };
    for node in &graph.nodes {
        node.inputs.iter().for_each(|x| f.uses[x.0 as usize] += 1);
    }
    for o in &graph.outputs {
        f.uses[o.node.0 as usize] += 1;
        f.wanted[o.node.0 as usize] = true;
    }
    for (o, replaced) in graph.outputs.iter().zip(replaces) {
        if let Some(input) = replaced {
            f.absorb(o.node, *input);
        }
    }
    for id in graph.ids().rev() {
        f.visit(id);
    }
    f.finish(replaces)
}

/// Which input of a node is read at the node's own coordinates.
fn keeps_names(op: &Op, input: usize) -> bool {
    match op {
        Op::Unary(_) | Op::Binary(_) | Op::Select | Op::Cast | Op::Random(..) | Op::Expand => true,
        Op::Gather { .. } => input == 1,
        Op::Const(_)
        | Op::Pos
        | Op::Input(_)
        | Op::Runtime(_)
        | Op::Rename(_)
        | Op::Split { .. }
        | Op::Merge { .. }
        | Op::Window { .. }
        | Op::ScatterAdd { .. }
        | Op::Concat { .. }
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
        | Op::Part(_)
        | Op::Stop
        | Op::Collective(_) => false,
    }
}

fn same(a: &[Axis], b: &[Axis]) -> bool {
    a.len() == b.len() && a.iter().all(|x| b.contains(x))
}

fn without(axes: &[Axis], names: &[Name]) -> Vec<Axis> {
    axes.iter().filter(|a| !names.contains(&a.name)).cloned().collect()
}

fn only(axes: &[Axis], names: &[Name]) -> Vec<Axis> {
    axes.iter().filter(|a| names.contains(&a.name)).cloned().collect()
}

struct Fuse<'a> {
    graph: &'a Graph,
    host: &'a [bool],
    effort: Vec<Effort>,
    // Readers in the graph, outputs included.
    uses: Vec<usize>,
    // Groups that read the value, and whether all of a group's reads are aligned.
    users: Vec<BTreeMap<usize, bool>>,
    // Must be stored: an output, or an operand of a dense node.
    wanted: Vec<bool>,
    stored: Vec<bool>,
    absorbed: BTreeMap<NodeId, NodeId>,
    // The group that stores a node.
    writer: BTreeMap<NodeId, usize>,
    groups: Vec<Group>,
    // Direct successors, and all successors, of each group.
    next: Vec<BTreeSet<usize>>,
    after: Vec<BTreeSet<usize>>,
}

impl Fuse<'_> {
    fn visit(&mut self, id: NodeId) {
        let i = id.0 as usize;
        if self.host[i] {
            return;
        }
        self.join_readers(id);
        let node = self.graph.node(id);
        match &node.op {
            Op::Const(_) | Op::Pos | Op::Input(_) | Op::Runtime(_) => {}
            Op::Part(_) => {
                self.stored[i] = true;
                let users = self.users[i].clone();
                let multi = node.inputs[0];
                users.into_keys().for_each(|g| self.add_use(multi, g, false));
            }
            Op::Contract { .. }
            | Op::ScatterAdd { .. }
            | Op::CumSum { .. }
            | Op::TopK { .. }
            | Op::ArgSort { .. } => {
                self.stored[i] = !self.absorbed.contains_key(&id);
                self.dense(id, Kind::Dense);
            }
            Op::Attention(_) | Op::AttentionGrad { .. } => self.dense(id, Kind::Dense),
            Op::Scan(_) => self.dense(id, Kind::Scan),
            Op::Update { .. } => {
                self.stored[i] = true;
                let g = self.open(Kind::Update);
                self.place(id, g);
                self.demand(node.inputs[0], g);
                self.add_use(node.inputs[1], g, true);
            }
            Op::Reduce { axes, .. } => self.reduce(id, axes),
            Op::Expand | Op::Rename(_) | Op::Split { .. } | Op::Merge { .. } => self.inline(id),
            Op::Random(..)
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Select
            | Op::Cast
            | Op::Window { .. }
            | Op::Gather { .. }
            | Op::Concat { .. } => {
                if self.absorbed.values().any(|sum| *sum == id) {
                    // Written by the group of its summand.
                    self.stored[i] = true;
                } else if self.inlines(id) {
                    self.inline(id);
                } else {
                    self.root(id);
                }
            }
            // Prepared graphs have none of these.
            Op::LogSumExp { .. } | Op::Stop | Op::Collective(_) => self.inline(id),
        }
    }

    // Groups that run over the node's elements become one, where none waits for the other.
    fn join_readers(&mut self, id: NodeId) {
        let len = self.graph.ty(id).len();
        let readers: Vec<usize> = self.users[id.0 as usize].keys().copied().collect();
        for (i, g) in readers.iter().enumerate() {
            for h in &readers[i + 1..] {
                let (a, b) = (&self.groups[*g], &self.groups[*h]);
                let open = !a.members.is_empty() && !b.members.is_empty();
                let small = a.members.len() + b.members.len() <= 12;
                let free = !self.after[*g].contains(h) && !self.after[*h].contains(g);
                let full = len > 1 && a.kind.len() == len && b.kind.len() == len;
                if let Some(kind) = join_loops(&a.kind, &b.kind)
                    && open
                    && small
                    && free
                    && full
                {
                    self.merge(*g, *h, kind);
                }
            }
        }
    }

    fn merge(&mut self, g: usize, h: usize, kind: Kind) {
        let members = std::mem::take(&mut self.groups[h].members);
        self.groups[g].members.extend(members);
        self.groups[g].kind = kind;
        self.writer.values_mut().filter(|w| **w == h).for_each(|w| *w = g);
        for users in &mut self.users {
            if let Some(aligned) = users.remove(&h) {
                *users.entry(g).or_insert(true) &= aligned;
            }
        }
        let (next, after) = (std::mem::take(&mut self.next[h]), std::mem::take(&mut self.after[h]));
        self.next[g].extend(next);
        self.after[g].extend(after);
        for u in 0..self.groups.len() {
            if self.next[u].remove(&h) && u != g {
                self.next[u].insert(g);
            }
            if self.after[u].remove(&h) {
                self.after[u].insert(g);
            }
        }
        let more = self.after[g].clone();
        for after in &mut self.after {
            if after.contains(&g) {
                after.extend(&more);
            }
        }
    }

    fn add_use(&mut self, x: NodeId, group: usize, aligned: bool) {
        *self.users[x.0 as usize].entry(group).or_insert(true) &= aligned;
    }

    fn inline(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        for (g, aligned) in self.users[id.0 as usize].clone() {
            for (k, x) in node.inputs.iter().enumerate() {
                self.add_use(*x, g, aligned && keeps_names(&node.op, k));
            }
        }
    }

    fn open(&mut self, kind: Kind) -> usize {
        self.groups.push(Group { kind, members: Vec::new() });
        self.next.push(BTreeSet::new());
        self.after.push(BTreeSet::new());
        self.groups.len() - 1
    }

    // Makes a node a member of a group: whoever reads it comes later.
    fn place(&mut self, id: NodeId, g: usize) {
        self.groups[g].members.push(id);
        self.writer.insert(id, g);
        let mut readers: Vec<usize> = self.users[id.0 as usize].keys().copied().collect();
        if let Some(sum) = self.absorbed.get(&id).copied() {
            self.writer.insert(sum, g);
            readers.extend(self.users[sum.0 as usize].keys());
        }
        readers.into_iter().for_each(|h| self.before(g, h));
    }

    fn before(&mut self, g: usize, h: usize) {
        if g == h || !self.next[g].insert(h) {
            return;
        }
        let mut more = self.after[h].clone();
        more.insert(h);
        for u in 0..self.groups.len() {
            if u == g || self.after[u].contains(&g) {
                self.after[u].extend(&more);
            }
        }
    }

    // Whether the node may join: no other reader of it comes before the group.
    fn may_join(&self, id: NodeId, g: usize) -> bool {
        self.groups[g].members.len() < 12
            && self.users[id.0 as usize].keys().all(|h| *h == g || !self.after[*h].contains(&g))
    }

    fn dense(&mut self, id: NodeId, kind: Kind) {
        let g = self.open(kind);
        self.place(id, g);
        for x in self.graph.node(id).inputs.clone() {
            self.demand(x, g);
        }
    }

    // A dense node reads memory: through views, what is behind them is stored.
    fn demand(&mut self, mut x: NodeId, g: usize) {
        loop {
            self.add_use(x, g, false);
            let node = self.graph.node(x);
            match &node.op {
                Op::Rename(_) | Op::Split { .. } | Op::Merge { .. } | Op::Expand => {
                    x = node.inputs[0];
                }
                Op::Const(_) | Op::Pos | Op::Input(_) | Op::Runtime(_) | Op::Part(_) => return,
                Op::Window { axis, index, .. } => {
                    let size = self.graph.ty(node.inputs[0]).size(axis).unwrap_or(0) as i64;
                    let (mut low, mut high) = (index.offset, index.offset);
                    for (name, c) in &index.terms {
                        let last = node.ty.size(name).unwrap_or(1) as i64 - 1;
                        low += (c * last).min(0);
                        high += (c * last).max(0);
                    }
                    if low < 0 || high >= size {
                        self.wanted[x.0 as usize] = true;
                        return;
                    }
                    x = node.inputs[0];
                }
                Op::Random(..)
                | Op::Unary(_)
                | Op::Binary(_)
                | Op::Select
                | Op::Cast
                | Op::Gather { .. }
                | Op::ScatterAdd { .. }
                | Op::Concat { .. }
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
                | Op::Stop
                | Op::Collective(_) => {
                    self.wanted[x.0 as usize] = !self.host[x.0 as usize];
                    return;
                }
            }
        }
    }

    fn inlines(&self, id: NodeId) -> bool {
        let i = id.0 as usize;
        let (node, effort) = (self.graph.node(id), self.effort[i]);
        if self.wanted[i] {
            return false;
        }
        let len = node.ty.len();
        for (g, aligned) in &self.users[i] {
            let kind = &self.groups[*g].kind;
            let domain = match kind {
                Kind::Update => {
                    self.graph.ty(self.graph.node(self.groups[*g].members[0]).inputs[1]).len()
                }
                Kind::Loop { .. } | Kind::ColReduce { .. } | Kind::Dense | Kind::Scan => kind.len(),
            };
            let again = domain / len.max(1);
            if effort.ops == 0 || again < 4 || (*aligned && self.of_row(id, kind, 12)) {
                continue;
            }
            if (node.ty.axes.is_empty() && effort.loads > 0) || effort.ops > 5 {
                return false;
            }
        }
        match self.users[i].len() {
            0 | 1 => true,
            2 => effort.ops <= CHEAP && effort.loads <= 2,
            _more => effort.ops <= CHEAP && effort.loads <= 1,
        }
    }

    // Whether the node is computed per row from a reduction that the group has or could have.
    fn of_row(&self, id: NodeId, kind: &Kind, depth: usize) -> bool {
        let Kind::Loop { rows, cols, .. } = kind else { return false };
        let node = self.graph.node(id);
        node.inputs.iter().any(|x| {
            let input = self.graph.node(*x);
            match &input.op {
                Op::Reduce { .. } => {
                    let full = &self.graph.ty(input.inputs[0]).axes;
                    let domain: Vec<Axis> = rows.iter().chain(cols).cloned().collect();
                    same(&input.ty.axes, &node.ty.axes) && same(full, &domain)
                }
                op => {
                    depth > 0
                        && keeps_names(op, 0)
                        && same(&input.ty.axes, &node.ty.axes)
                        && self.of_row(*x, kind, depth - 1)
                }
            }
        })
    }

    // Groups that read the node, and groups that read one of its inputs of the same size.
    fn candidates(&self, id: NodeId) -> Vec<usize> {
        let node = self.graph.node(id);
        let mut all: Vec<usize> = Vec::new();
        for (g, aligned) in &self.users[id.0 as usize] {
            if *aligned {
                all.push(*g);
            }
        }
        let len = match &node.op {
            Op::Reduce { .. } => self.graph.ty(node.inputs[0]).len(),
            _elementwise => node.ty.len(),
        };
        for x in &node.inputs {
            if len > 1 && self.graph.ty(*x).len() == len {
                for g in self.users[x.0 as usize].keys() {
                    let unaligned = self.users[id.0 as usize].get(g) == Some(&false);
                    if !all.contains(g) && !unaligned {
                        all.push(*g);
                    }
                }
            }
        }
        all
    }

    fn root(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        self.stored[id.0 as usize] = true;
        let axes = &node.ty.axes;
        let fits = |kind: &Kind| match kind {
            Kind::Loop { rows, cols, reduces } => {
                let full: Vec<Axis> = rows.iter().chain(cols).cloned().collect();
                same(&full, axes) || (*reduces && same(rows, axes))
            }
            Kind::ColReduce { .. } | Kind::Update | Kind::Dense | Kind::Scan => false,
        };
        let found = self
            .candidates(id)
            .into_iter()
            .find(|g| fits(&self.groups[*g].kind) && self.may_join(id, *g));
        let g = found.unwrap_or_else(|| {
            self.open(Kind::Loop { rows: axes.clone(), cols: vec![], reduces: false })
        });
        self.place(id, g);
        for (k, x) in node.inputs.iter().enumerate() {
            self.add_use(*x, g, keeps_names(&node.op, k));
        }
    }

    fn reduce(&mut self, id: NodeId, axes: &[Name]) {
        let node = self.graph.node(id);
        let x = node.inputs[0];
        let full = self.graph.ty(x).axes.clone();
        let (rows, cols) = (without(&full, axes), only(&full, axes));
        let by_rows = along_rows(&rows, &cols, &full);
        let i = id.0 as usize;
        let found = self.candidates(id).into_iter().find_map(|g| {
            let kind = &self.groups[g].kind;
            // A sum across rows is known only after its kernel.
            if matches!(kind, Kind::ColReduce { .. }) && self.users[i].contains_key(&g) {
                return None;
            }
            let joined = join_reduce(kind, &rows, &cols, by_rows)?;
            self.may_join(id, g).then_some((g, joined))
        });
        let g = match found {
            Some((g, kind)) => {
                self.groups[g].kind = kind;
                g
            }
            None if by_rows => self.open(Kind::Loop { rows, cols, reduces: true }),
            None => self.open(Kind::ColReduce { kept: rows, reduced: cols }),
        };
        let into_memory = self.absorbed.contains_key(&id);
        let others = self.users[i].iter().any(|(h, aligned)| *h != g || !aligned);
        let as_row = matches!(self.groups[g].kind, Kind::Loop { .. });
        self.stored[i] = !into_memory && (self.wanted[i] || others || !as_row);
        self.place(id, g);
        self.add_use(x, g, true);
    }

    // `sum = input + x` where the output replaces the input and x is dense and used only here: x is added into memory.
    fn absorb(&mut self, sum: NodeId, input: NodeId) {
        let node = self.graph.node(sum);
        if node.op != Op::Binary(BinOp::Add) || node.ty.dtype != DType::F32 {
            return;
        }
        let x = match (node.inputs[0], node.inputs[1]) {
            (a, b) if a == input => b,
            (a, b) if b == input => a,
            _neither => return,
        };
        let term = self.graph.node(x);
        let dense = match &term.op {
            Op::Contract { .. } | Op::ScatterAdd { .. } => true,
            Op::Reduce { op: ReduceOp::Sum, axes } => {
                let full = &self.graph.ty(term.inputs[0]).axes;
                !along_rows(&without(full, axes), &only(full, axes), full)
            }
            _other => false,
        };
        let fits = term.ty.dtype == DType::F32
            && same(&term.ty.axes, &node.ty.axes)
            && same(&self.graph.ty(input).axes, &node.ty.axes)
            && self.graph.ty(input).dtype == DType::F32;
        let alone = self.uses[x.0 as usize] == 1 && self.uses[input.0 as usize] == 1;
        if dense && fits && alone {
            self.absorbed.insert(x, sum);
        }
    }

    fn finish(mut self, replaces: &[Option<NodeId>]) -> Grouping {
        let mut detour = Vec::new();
        for (o, replaced) in self.graph.outputs.iter().zip(replaces) {
            let mut blocked = false;
            if let Some(input) = replaced {
                let node = self.graph.node(o.node);
                let key = if matches!(node.op, Op::Part(_)) { node.inputs[0] } else { o.node };
                if let Some(w) = self.writer.get(&key).copied() {
                    let readers: Vec<usize> =
                        self.users[input.0 as usize].keys().copied().filter(|r| *r != w).collect();
                    blocked = readers.iter().any(|r| self.after[w].contains(r));
                    if !blocked {
                        readers.into_iter().for_each(|r| self.before(r, w));
                    }
                }
            }
            detour.push(blocked);
        }
        let order = self.order();
        for g in &mut self.groups {
            g.members.sort();
        }
        let groups = order.into_iter().map(|g| self.groups[g].clone()).collect();
        Grouping { groups, stored: self.stored, absorbed: self.absorbed, detour }
    }

    // Program order, as far as dependences allow.
    fn order(&self) -> Vec<usize> {
        let mut waiting = vec![0; self.groups.len()];
        self.next.iter().flatten().for_each(|h| waiting[*h] += 1);
        let key = |g: usize| (self.groups[g].members.iter().max().copied(), g);
        let mut ready: BTreeSet<_> =
            (0..self.groups.len()).filter(|g| waiting[*g] == 0).map(key).collect();
        // Groups that were merged into others have no members and no edges.
        ready.retain(|(last, _)| last.is_some());
        let mut order = Vec::new();
        while let Some((_, g)) = ready.pop_first() {
            order.push(g);
            for h in &self.next[g] {
                waiting[*h] -= 1;
                if waiting[*h] == 0 {
                    ready.insert(key(*h));
                }
            }
        }
        order
    }
}

// Whether a reduction runs along rows: the innermost axis is reduced, and there are rows enough, or work little enough.
fn along_rows(rows: &[Axis], cols: &[Axis], full: &[Axis]) -> bool {
    let count = |axes: &[Axis]| axes.iter().map(|a| a.size).product::<usize>();
    let innermost = full.iter().rev().find(|a| a.size > 1);
    let inner = innermost.is_none_or(|a| cols.contains(a));
    let (n, len) = (count(rows), count(cols));
    if inner { n >= 16 || len <= 16_384 } else { len <= 64 && n * len <= 4096 }
}

// The kind of two groups in one, if both run over the same elements.
fn join_loops(a: &Kind, b: &Kind) -> Option<Kind> {
    match (a, b) {
        (
            Kind::Loop { rows, cols, reduces },
            Kind::Loop { rows: other_rows, cols: other_cols, reduces: other_reduces },
        ) => {
            let all = |r: &[Axis], c: &[Axis]| [r, c].concat();
            let same_rows = same(rows, other_rows) && same(cols, other_cols);
            let same_elements = same(&all(rows, cols), &all(other_rows, other_cols));
            match (reduces, other_reduces) {
                (true, true) => same_rows.then(|| a.clone()),
                (_, false) => same_elements.then(|| a.clone()),
                (false, true) => same_elements.then(|| b.clone()),
            }
        }
        (_, _) => None,
    }
}

// The kind of a group after a reduction has joined it, if it can.
fn join_reduce(kind: &Kind, rows: &[Axis], cols: &[Axis], by_rows: bool) -> Option<Kind> {
    match kind {
        Kind::Loop { rows: r, cols: c, reduces } if by_rows => {
            let fits = if *reduces {
                same(r, rows) && same(c, cols)
            } else {
                let full: Vec<Axis> = rows.iter().chain(cols).cloned().collect();
                same(r, &full) || same(r, rows)
            };
            let joined = || Kind::Loop { rows: rows.to_vec(), cols: cols.to_vec(), reduces: true };
            fits.then(|| if *reduces { kind.clone() } else { joined() })
        }
        Kind::ColReduce { kept, reduced } if !by_rows => {
            (same(kept, rows) && same(reduced, cols)).then(|| kind.clone())
        }
        Kind::Loop { .. } | Kind::ColReduce { .. } => None,
        Kind::Update | Kind::Dense | Kind::Scan => None,
    }
}
