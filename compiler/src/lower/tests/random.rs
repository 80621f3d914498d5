//! Random graphs: whatever is fused with whatever, the plan means the same.

use super::{Dice, axis, same, ty};
use crate::graph::build::Builder;
use crate::graph::{Axis, BinOp, DType, Name, NodeId, ReduceOp, Role, UnOp};

#[test]
fn random_graphs() {
    for seed in 0..300 {
        let mut dice = Dice(seed * 7919 + 1);
        same(&graph(&mut dice));
    }
}

fn sizes(name: &str) -> usize {
    match name {
        "a" => 2,
        "b" => 3,
        "c" => 4,
        "e" => 6,
        _many => 20,
    }
}

fn graph(dice: &mut Dice) -> crate::graph::Graph {
    let mut b = Builder::new();
    let mut all: Vec<NodeId> = Vec::new();
    for (i, axes) in
        [&["a", "b", "c"][..], &["b", "c"], &["c", "e"], &["m", "b"], &["c"]].iter().enumerate()
    {
        let axes: Vec<(&str, usize)> = axes.iter().map(|n| (*n, sizes(n))).collect();
        let role = if i == 0 { Role::State } else { Role::Data };
        all.push(b.input(format!("x{i}"), ty(&axes), role));
    }
    for _ in 0..8 + dice.below(16) {
        let recent = all.len() - dice.below(all.len().min(6)) - 1;
        let x = if dice.below(3) == 0 { all[dice.below(all.len())] } else { all[recent] };
        if let Some(new) = step(&mut b, dice, x, &all)
            && b.ty(new).len() <= 3000
            && b.ty(new).dtype.is_float()
        {
            all.push(new);
        }
    }
    for i in 0..3 {
        let node = all[all.len() - 1 - dice.below(all.len().min(8))];
        b.output(format!("o{i}"), node, None);
    }
    let donated = all.iter().rev().find(|x| b.ty(**x) == b.ty(all[0])).copied();
    if let Some(x) = donated {
        b.output("x0", x, Some("x0"));
    }
    b.graph
}

fn pick(dice: &mut Dice, axes: &[Axis]) -> Option<Name> {
    (!axes.is_empty()).then(|| axes[dice.below(axes.len())].name.clone())
}

fn step(b: &mut Builder, dice: &mut Dice, x: NodeId, all: &[NodeId]) -> Option<NodeId> {
    let axes = b.ty(x).axes.clone();
    let other = all[dice.below(all.len())];
    Some(match dice.below(13) {
        0 => {
            let ops = [UnOp::Tanh, UnOp::Neg, UnOp::Sigmoid, UnOp::Cos];
            b.unary(ops[dice.below(4)], x)
        }
        1 | 2 => b.binary([BinOp::Add, BinOp::Mul, BinOp::Max][dice.below(3)], x, other).ok()?,
        3 => {
            let over = pick(dice, &axes)?;
            let op = [ReduceOp::Sum, ReduceOp::Max][dice.below(2)];
            let r = b.reduce(op, x, &[over]).ok()?;
            b.unary(UnOp::Tanh, r)
        }
        4 => {
            let over = pick(dice, &axes)?;
            let l = b.logsumexp(x, &[over]).ok()?;
            let d = b.binary(BinOp::Sub, x, l).ok()?;
            b.unary(UnOp::Exp, d)
        }
        5 => {
            let over = pick(dice, &axes)?;
            let c = b.contract(x, other, &[over], DType::F32).ok()?;
            b.unary(UnOp::Tanh, c)
        }
        6 => {
            let (p, q) = (pick(dice, &axes)?, pick(dice, &axes)?);
            if p == q {
                return None;
            }
            let size = b.ty(x).size(&p)? * b.ty(x).size(&q)?;
            let merged = b.merge(x, &[p, q], &format!("z{size}").into()).ok()?;
            // Taken apart another way.
            let inner = [2, 3, 4].into_iter().find(|n| size % n == 0)?;
            let parts = [
                axis(&format!("u{}", size / inner), size / inner),
                axis(&format!("v{inner}"), inner),
            ];
            let y = b.split(merged, &format!("z{size}").into(), &parts).ok()?;
            let s = b.reduce(ReduceOp::Sum, y, &[parts[0].name.clone()]).ok()?;
            b.unary(UnOp::Tanh, s)
        }
        7 => {
            let name = pick(dice, &axes)?;
            let size = b.ty(x).size(&name)?;
            let terms = vec![(name.clone(), 1)];
            let index = crate::graph::Affine { terms, offset: dice.below(3) as i64 - 1 };
            b.window(x, &name, index, &[Axis { name: name.clone(), size }], 0.5).ok()?
        }
        8 => {
            let name = pick(dice, &axes)?;
            b.cumsum(x, &name, dice.below(2) == 0).ok()?
        }
        9 => {
            // Of an input, whose values differ: what is computed may have ties but for rounding.
            let x = all[dice.below(5)];
            let name = pick(dice, &b.ty(x).axes.clone())?;
            let k = b.topk(x, &name, 1).ok()?;
            b.binary(BinOp::Mul, k, x).ok()?
        }
        10 => {
            let name = pick(dice, &axes)?;
            let order = b.argsort(x, &name).ok()?;
            b.gather(x, &name, order).ok()?
        }
        11 => {
            let name = pick(dice, &axes)?;
            let long = Name::from(format!("w{}", 2 * b.ty(x).size(&name)?));
            let joined = b.concat(&[x, x], &[name.clone(), name.clone()], &long).ok()?;
            let s = b.reduce(ReduceOp::Max, joined, &[long]).ok()?;
            b.binary(BinOp::Sub, x, s).ok()?
        }
        _cast => {
            // Of an input: a computed value may round the other way for a last bit.
            let low = b.cast(all[dice.below(5)], DType::Bf16);
            b.cast(low, DType::F32)
        }
    })
}
