//! Graphs as text, for dumps, golden tests and reading.
//!
//! Takes a graph (or a type, operation, expression), gives text that depends on nothing but it: equal graphs print equally.
//!
//! ```text
//! axes batch = 2, d = 4
//! %0: f32[batch, d] = data x
//! %1: f32[d] = weight gain
//! %2: f32[batch, d] = mul(%0, %1)   # norm
//! y = %2
//! ```

use std::collections::BTreeMap;

use super::{
    Affine, Attention, Axis, Collective, Dist, Expr, Graph, Inst, Name, Node, Op, Role, Runtime,
    Scan, ScanKind, Type,
};
use crate::scalar::{BinOp, ReduceOp, UnOp};

/// The whole graph.
pub fn print(graph: &Graph) -> String {
    let mut sizes: BTreeMap<&Name, Vec<usize>> = BTreeMap::new();
    collect(graph, &mut sizes);
    let mut out = String::new();
    if !sizes.is_empty() {
        let shown: Vec<String> = sizes
            .iter()
            .map(|(name, sizes)| {
                let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
                format!("{name} = {}", sizes.join(" or "))
            })
            .collect();
        out = format!("axes {}\n", shown.join(", "));
    }
    body(graph, 0, &mut out);
    out
}

/// `f32[batch, d]`; a scalar is just `f32`.
pub fn show_type(ty: &Type) -> String {
    if ty.axes.is_empty() {
        return ty.dtype.name().into();
    }
    let names: Vec<&str> = ty.axes.iter().map(|a| a.name.as_str()).collect();
    format!("{}[{}]", ty.dtype.name(), names.join(", "))
}

/// One line for a node, without its number: `f32[batch, d] = mul(%0, %1)`. Bodies are left out.
pub fn show_node(graph: &Graph, node: &Node) -> String {
    let name = match &node.op {
        Op::Input(i) => match graph.inputs.get(*i as usize) {
            Some(decl) => format!("{} {}", role(decl.role), decl.name),
            None => format!("input {i}"),
        },
        op => show_op(op),
    };
    let inputs: Vec<String> = node.inputs.iter().map(|i| format!("{i:?}")).collect();
    let args = if inputs.is_empty() { String::new() } else { format!("({})", inputs.join(", ")) };
    format!("{} = {name}{args}", show_type(&node.ty))
}

/// The name of an operation with its settings: `contract[d]`, `reduce.sum[seq]`.
pub fn show_op(op: &Op) -> String {
    match op {
        Op::Const(literal) => format!("{:?}", literal.get()),
        Op::Pos => "pos".into(),
        Op::Input(i) => format!("input {i}"),
        Op::Runtime(what) => format!("runtime {}", runtime(*what)),
        Op::Random(dist, stream) => format!("{}[{stream:016x}]", dist_name(*dist)),
        Op::Unary(op) => unary_name(*op).into(),
        Op::Binary(op) => binary_name(*op).into(),
        Op::Select => "select".into(),
        Op::Cast => "cast".into(),
        Op::Expand => "expand".into(),
        Op::Rename(pairs) => {
            let pairs: Vec<String> = pairs.iter().map(|(a, b)| format!("{a} -> {b}")).collect();
            format!("rename[{}]", pairs.join(", "))
        }
        Op::Split { axis, into } => {
            let into: Vec<String> =
                into.iter().map(|a| format!("{} = {}", a.name, a.size)).collect();
            format!("split[{axis} -> ({})]", into.join(", "))
        }
        Op::Merge { axes, into } => format!("merge[({}) -> {into}]", names(axes)),
        Op::Window { axis, index, outside } => {
            format!("window[{axis} = {}, outside = {:?}]", affine(index), outside.get())
        }
        Op::Gather { axis } => format!("gather[{axis}]"),
        Op::ScatterAdd { axis } => format!("scatter_add[{axis}]"),
        Op::Concat { parts, into } => format!("concat[({}) -> {into}]", names(parts)),
        Op::Update { axis } => format!("update[{axis}]"),
        Op::Reduce { op, axes } => format!("reduce.{}[{}]", reduce_name(*op), names(axes)),
        Op::LogSumExp { axes } => format!("logsumexp[{}]", names(axes)),
        Op::Contract { over } => format!("contract[{}]", names(over)),
        Op::CumSum { axis, reverse } => format!("cumsum[{axis}{}]", backwards(*reverse)),
        Op::TopK { axis, k } => format!("topk[{axis}, {k}]"),
        Op::ArgSort { axis } => format!("argsort[{axis}]"),
        Op::Attention(a) => format!("attention{}", attention(a)),
        Op::AttentionGrad { of, wants } => {
            let wants: Vec<&str> =
                wants.iter().map(|want| if *want { "yes" } else { "no" }).collect();
            let wants = if wants.is_empty() {
                String::new()
            } else {
                format!(" wants {}", wants.join(", "))
            };
            format!("attention_grad{}{wants}", attention(of))
        }
        Op::Scan(scan) => scan_name(scan),
        Op::Part(i) => format!("part[{i}]"),
        Op::Stop => "stop".into(),
        Op::Collective(collective) => match collective {
            Collective::AllReduce(mesh) => format!("all_reduce[{}]", names(mesh)),
            Collective::AllGather { mesh, axis } => {
                format!("all_gather[{}, axis = {axis}]", names(mesh))
            }
            Collective::ReduceScatter { mesh, axis } => {
                format!("reduce_scatter[{}, axis = {axis}]", names(mesh))
            }
            Collective::AllToAll { mesh, split, gather } => {
                format!("all_to_all[{}, split = {split}, gather = {gather}]", names(mesh))
            }
        },
    }
}

/// A scalar expression as one line, for instance `le(pos key, pos seq)`. A value that is used twice is written twice.
pub fn show_expr(expr: &Expr, pos: &[Name]) -> String {
    let mut texts: Vec<String> = Vec::with_capacity(expr.insts.len());
    for inst in &expr.insts {
        let at = |r: &u32| texts.get(*r as usize).map_or("?", String::as_str);
        let text = match inst {
            Inst::Arg(0) => "s".into(),
            Inst::Arg(i) => format!("captured {}", i - 1),
            Inst::Const(literal) => format!("{:?}", literal.get()),
            Inst::Pos(i) => match pos.get(*i as usize) {
                Some(name) => format!("pos {name}"),
                None => format!("pos {i}"),
            },
            Inst::Runtime(what) => format!("runtime {}", runtime(*what)),
            Inst::Unary(op, a) => format!("{}({})", unary_name(*op), at(a)),
            Inst::Binary(op, a, b) => format!("{}({}, {})", binary_name(*op), at(a), at(b)),
            Inst::Select(c, a, b) => format!("select({}, {}, {})", at(c), at(a), at(b)),
            Inst::Cast(dtype, a) => format!("{}({})", dtype.name(), at(a)),
            Inst::Random(dist, stream, [a, b, c]) => {
                format!("{}[{stream:016x}]({}, {}, {})", dist_name(*dist), at(a), at(b), at(c))
            }
        };
        texts.push(text);
    }
    texts.get(expr.result as usize).cloned().unwrap_or_else(|| "?".into())
}

fn collect<'a>(graph: &'a Graph, sizes: &mut BTreeMap<&'a Name, Vec<usize>>) {
    let mut note = |axis: &'a Axis| {
        let known = sizes.entry(&axis.name).or_default();
        if !known.contains(&axis.size) {
            known.push(axis.size);
            known.sort_unstable();
        }
    };
    graph.inputs.iter().flat_map(|i| &i.ty.axes).for_each(&mut note);
    graph.nodes.iter().flat_map(|n| &n.ty.axes).for_each(&mut note);
    for node in &graph.nodes {
        if let Op::Scan(scan) = &node.op {
            note(&scan.axis);
        }
    }
    for node in &graph.nodes {
        if let Op::Scan(scan) = &node.op {
            collect(&scan.body, sizes);
        }
    }
}

fn body(graph: &Graph, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    for id in graph.ids() {
        let node = graph.node(id);
        let path = if node.path == "" { String::new() } else { format!("   # {}", node.path) };
        out.push_str(&format!("{indent}{id:?}: {}{path}\n", show_node(graph, node)));
        if let Op::Scan(scan) = &node.op {
            body(&scan.body, depth + 1, out);
        }
    }
    for output in &graph.outputs {
        let into = output.into.and_then(|i| graph.inputs.get(i as usize));
        let into = into.map(|decl| format!(" into {}", decl.name)).unwrap_or_default();
        out.push_str(&format!("{indent}{} = {:?}{into}\n", output.name, output.node));
    }
}

fn scan_name(scan: &Scan) -> String {
    let kind = match scan.kind {
        ScanKind::Layers => "layers",
        ScanKind::Micro => "micro",
        ScanKind::Blocks => "blocks",
        ScanKind::Program => "scan",
    };
    format!(
        "{kind}[{}{}] carries {} slices {}",
        scan.axis.name,
        backwards(scan.reverse),
        scan.carries,
        scan.scanned
    )
}

fn attention(a: &Attention) -> String {
    format!(
        "[{}, {}] scale {:?} score {} mask {}",
        a.over,
        a.key,
        a.scale.get(),
        show_expr(&a.score, &a.pos),
        show_expr(&a.mask, &a.pos)
    )
}

fn affine(index: &Affine) -> String {
    let mut text = String::new();
    for (name, coefficient) in &index.terms {
        let sign = match (text.is_empty(), *coefficient < 0) {
            (true, false) => "",
            (true, true) => "-",
            (false, false) => " + ",
            (false, true) => " - ",
        };
        let size = coefficient.unsigned_abs();
        let times = if size == 1 { String::new() } else { format!("{size} * ") };
        text.push_str(&format!("{sign}{times}pos({name})"));
    }
    match (text.is_empty(), index.offset) {
        (true, offset) => offset.to_string(),
        (false, 0) => text,
        (false, offset) if offset < 0 => format!("{text} - {}", offset.unsigned_abs()),
        (false, offset) => format!("{text} + {offset}"),
    }
}

fn names(names: &[Name]) -> String {
    let names: Vec<&str> = names.iter().map(Name::as_str).collect();
    names.join(", ")
}

fn backwards(reverse: bool) -> &'static str {
    if reverse { ", reverse" } else { "" }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Weight => "weight",
        Role::State => "state",
        Role::Data => "data",
        Role::Local => "local",
    }
}

fn runtime(what: Runtime) -> &'static str {
    match what {
        Runtime::Step => "step",
        Runtime::Share => "share",
        Runtime::Position => "position",
        Runtime::Seed => "seed",
        Runtime::Micro => "micro",
    }
}

fn dist_name(dist: Dist) -> &'static str {
    match dist {
        Dist::Uniform => "uniform",
        Dist::Normal => "normal",
    }
}

fn unary_name(op: UnOp) -> &'static str {
    match op {
        UnOp::Neg => "neg",
        UnOp::Abs => "abs",
        UnOp::Recip => "recip",
        UnOp::Exp => "exp",
        UnOp::Log => "log",
        UnOp::Sqrt => "sqrt",
        UnOp::Rsqrt => "rsqrt",
        UnOp::Sin => "sin",
        UnOp::Cos => "cos",
        UnOp::Tanh => "tanh",
        UnOp::Erf => "erf",
        UnOp::Sigmoid => "sigmoid",
        UnOp::Floor => "floor",
        UnOp::Ceil => "ceil",
        UnOp::Round => "round",
        UnOp::Sign => "sign",
        UnOp::Not => "not",
        UnOp::IsFinite => "is_finite",
    }
}

fn binary_name(op: BinOp) -> &'static str {
    match op {
        BinOp::Add => "add",
        BinOp::Sub => "sub",
        BinOp::Mul => "mul",
        BinOp::Div => "div",
        BinOp::Pow => "pow",
        BinOp::Min => "min",
        BinOp::Max => "max",
        BinOp::Mod => "mod",
        BinOp::Lt => "lt",
        BinOp::Le => "le",
        BinOp::Eq => "eq",
        BinOp::Ne => "ne",
        BinOp::And => "and",
        BinOp::Or => "or",
    }
}

fn reduce_name(op: ReduceOp) -> &'static str {
    match op {
        ReduceOp::Sum => "sum",
        ReduceOp::Max => "max",
        ReduceOp::Min => "min",
        ReduceOp::Prod => "prod",
    }
}

#[cfg(test)]
mod tests {
    use super::super::build::Builder;
    use super::super::{DType, NodeId};
    use super::*;
    use crate::scalar::Literal;

    fn axis(name: &str, size: usize) -> Axis {
        Axis { name: name.into(), size }
    }

    #[test]
    fn a_graph_with_a_scan() {
        let mut body = Builder::new();
        let h = body.input("h", Type::new(DType::F32, vec![axis("d", 2)]), Role::Local);
        let x = body.input("x", Type::new(DType::F32, vec![axis("d", 2)]), Role::Local);
        let sum = body.binary(BinOp::Add, h, x).unwrap();
        body.output("h", sum, None);
        let mut b = Builder::new();
        b.path = Some("mix".into());
        let zero = b.constant(0.0);
        let xs = Type::new(DType::F32, vec![axis("seq", 3), axis("d", 2)]);
        let xs = b.input("xs", xs, Role::Data);
        let seq = axis("seq", 3);
        let last = b.scan(seq, true, ScanKind::Program, body.graph, &[zero], &[xs], &[]).unwrap();
        b.output("last", last[0], None);
        assert_eq!(
            print(&b.graph),
            "axes d = 2, seq = 3\n\
             %0: f32 = 0.0   # mix\n\
             %1: f32[seq, d] = data xs   # mix\n\
             %2: f32[d] = expand(%0)   # mix\n\
             %3: f32[d] = scan[seq, reverse] carries 1 slices 1(%2, %1)   # mix\n\
             \x20 %0: f32[d] = local h\n\
             \x20 %1: f32[d] = local x\n\
             \x20 %2: f32[d] = add(%0, %1)\n\
             \x20 h = %2\n\
             %4: f32[d] = part[0](%3)   # mix\n\
             last = %4\n"
        );
    }

    #[test]
    fn settings_of_operations() {
        let index = Affine { terms: vec![("seq".into(), 1), ("tap".into(), -2)], offset: -1 };
        let op = Op::Window { axis: "seq".into(), index, outside: Literal::new(0.0) };
        assert_eq!(show_op(&op), "window[seq = pos(seq) - 2 * pos(tap) - 1, outside = 0.0]");
        let mut mask = Expr::constant(1.0);
        let (a, b) = (mask.push(Inst::Pos(0)), mask.push(Inst::Pos(1)));
        mask.result = mask.push(Inst::Binary(BinOp::Le, a, b));
        assert_eq!(show_expr(&mask, &["key".into(), "seq".into()]), "le(pos key, pos seq)");
        assert_eq!(format!("{:?}", NodeId(3)), "%3");
    }
}
