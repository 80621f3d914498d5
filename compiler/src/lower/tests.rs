//! Plans mean what their graphs mean.
//!
//! Every test builds a graph, fills its inputs, and compares the executed plan with the interpreted graph.

mod blocks;
mod programs;
mod random;
mod scans;
mod shapes;

use indexmap::IndexMap;

use super::lower;
use crate::graph::build::Builder;
use crate::graph::interp::{Tensor, interpret};
use crate::graph::{Axis, DType, Graph, InputDecl, Name, NodeId, Role, Runtime, Type, verify};
use crate::plan::interp::{decode, encode, execute};
use crate::plan::{Plan, Step, Target, print};

fn axis(name: &str, size: usize) -> Axis {
    Axis { name: name.into(), size }
}

fn ty(axes: &[(&str, usize)]) -> Type {
    Type::new(DType::F32, axes.iter().map(|(n, s)| axis(n, *s)).collect())
}

fn int(axes: &[(&str, usize)]) -> Type {
    Type { dtype: DType::I32, ..ty(axes) }
}

fn names(all: &[&str]) -> Vec<Name> {
    all.iter().map(|n| Name::from(*n)).collect()
}

fn input(b: &mut Builder, name: &str, axes: &[(&str, usize)]) -> NodeId {
    b.input(name, ty(axes), Role::Data)
}

// Numbers in -1..1, or 0..limit for integers, from a seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let x = self.0;
        (x ^ (x >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn tensor(&mut self, ty: &Type, limit: usize) -> Tensor {
        Tensor::of(ty, |_| match ty.dtype {
            DType::F32 => f64::from((self.next() % 20_001) as f32 / 10_000.0 - 1.0),
            DType::Bf16 | DType::F16 => self.below(256) as f64 / 128.0 - 1.0,
            DType::I32 => self.below(limit) as f64,
            DType::Bool => self.below(2) as f64,
        })
    }
}

fn runtime(what: Runtime) -> f64 {
    match what {
        Runtime::Step => 3.0,
        Runtime::Share => 0.25,
        Runtime::Position => 2.0,
        Runtime::Seed => 81_985_529_216_486_895.0 / 16.0,
        Runtime::Micro => 0.0,
    }
}

// Integers of inputs are below `limit`. Gives the plan for looking at.
fn same_below(graph: &Graph, limit: usize) -> Plan {
    let mut dice = Dice(graph.nodes.len() as u64);
    let fill = |i: &InputDecl| (i.name.clone(), dice.tensor(&i.ty, limit));
    let inputs = graph.inputs.iter().map(fill).collect();
    same_with(graph, &inputs, 1e-5)
}

fn same_with(graph: &Graph, inputs: &IndexMap<Name, Tensor>, slack: f64) -> Plan {
    verify::verify(graph).unwrap_or_else(|b| panic!("{b}"));
    let wanted = interpret(graph, inputs, &runtime).unwrap_or_else(|b| panic!("{b}"));
    let plan = lower(graph, &Target::cpu()).unwrap_or_else(|b| panic!("{b}"));
    let mut store: IndexMap<Name, Vec<u8>> = IndexMap::new();
    for (name, t) in inputs {
        let size = t.ty.dtype.bytes();
        let mut bytes = vec![0; t.ty.bytes()];
        for (place, x) in bytes.chunks_mut(size).zip(&t.data) {
            encode(place, t.ty.dtype, *x);
        }
        store.insert(name.clone(), bytes);
    }
    execute(&plan, &mut store, &runtime).unwrap_or_else(|b| panic!("{b}\n{}", print::print(&plan)));
    for o in &graph.outputs {
        let storage = o.into.map_or(&o.name, |i| &graph.inputs[i as usize].name);
        let want = &wanted[&o.name];
        let order = match o.into {
            Some(i) => graph.inputs[i as usize].ty.clone(),
            None => want.ty.clone(),
        };
        let want = want.arranged(&order).unwrap_or_else(|| panic!("{}", o.name));
        let size = order.dtype.bytes();
        for (i, (bytes, want)) in store[storage].chunks(size).zip(&want.data).enumerate() {
            let got = decode(bytes, order.dtype);
            let slack = if order.dtype == DType::F32 { slack } else { slack.max(1e-2) };
            let close = got == *want
                || (got.is_nan() && want.is_nan())
                || (got - want).abs() <= slack * (1.0 + want.abs());
            assert!(
                close,
                "`{}`[{i}] is {got}, not {want}\n{}\n{}",
                o.name,
                crate::graph::print::print(graph),
                print::print(&plan)
            );
        }
    }
    plan
}

fn same(graph: &Graph) -> Plan {
    same_below(graph, 3)
}

// Launches, with those in loops counted once.
fn launches(steps: &[Step]) -> usize {
    steps
        .iter()
        .map(|s| match s {
            Step::Launch(_) => 1,
            Step::Loop { body, .. } => launches(body),
            Step::Copy { .. } | Step::Zero { .. } => 0,
        })
        .sum()
}
