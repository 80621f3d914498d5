//! Single fused chains, timed, for `tests/bench/chains.py`: `chains [THREADS]` prints a line of JSON for each chain and size.
//!
//! A rate is the bytes that must move (each input read once, each output written once) by the median time; `copy` is a chain like the others.

#![allow(clippy::print_stdout, reason = "a program to be read by a script")]
#![allow(clippy::disallowed_methods, reason = "which is told the time that chains need")]

use std::error::Error;
use std::time::Instant;

use cs336_compiler::check::apply::Given;
use cs336_compiler::front::check;
use cs336_compiler::plan::Place;
use cs336_compiler::scalar::DType;
use cs336_compiler::world::Texts;
use cs336_device::{Cpu, Executable, RuntimeValues, Store};

/// A program whose `f` is applied; what it takes, with how many numbers for each place of the table (`Table`), each column or each row; and how many
/// numbers are read and written for each place.
struct Chain {
    name: &'static str,
    program: &'static str,
    takes: &'static [(&'static str, Shape)],
    with_grad: bool,
    moved: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Table,
    Column,
    Ids,
}

use Shape::{Column, Ids, Table};

const CHAINS: &[Chain] = &[
    Chain {
        name: "copy",
        program: "layer f { forward(x: [a, b]) = x * 2 }",
        takes: &[("x", Table)],
        with_grad: false,
        moved: 2,
    },
    Chain {
        name: "gelu_bias",
        program: "layer f { forward(x: [a, b], y: [b]) = gelu(x + y) }",
        takes: &[("x", Table), ("y", Column)],
        with_grad: false,
        moved: 2,
    },
    Chain {
        name: "rmsnorm",
        program: "layer f { forward(x: [a, b], y: [b]) = x * rsqrt(mean[b](x * x) + 1e-5) * y }",
        takes: &[("x", Table), ("y", Column)],
        with_grad: false,
        moved: 2,
    },
    Chain {
        name: "rmsnorm_backward",
        program: "layer f { forward(x: [a, b], y: [b]) = x * rsqrt(mean[b](x * x) + 1e-5) * y }",
        takes: &[("x", Table), ("y", Column)],
        with_grad: true,
        moved: 4,
    },
    Chain {
        name: "softmax",
        program: "layer f { forward(x: [a, b]) = softmax[b](x) }",
        takes: &[("x", Table)],
        with_grad: false,
        moved: 2,
    },
    Chain {
        name: "cross_entropy_backward",
        program: "loss f[vocab](x: [vocab], y: Id[vocab]) = cross_entropy(x, y)",
        takes: &[("x", Table), ("y", Ids)],
        with_grad: true,
        moved: 2,
    },
    Chain {
        name: "adamw",
        program: "let f = adamw(lr = 0.001)",
        takes: &[("w", Table), ("g", Table), ("m", Table), ("v", Table)],
        with_grad: false,
        moved: 7,
    },
];

/// Rows and columns: in the second cache, in the third, in memory.
const SIZES: [(&str, usize, usize); 3] =
    [("L2", 64, 1024), ("L3", 1024, 1024), ("DRAM", 16 * 1024, 2048)];

fn main() -> Result<(), Box<dyn Error>> {
    let threads = std::env::args().nth(1).map_or(Ok(2), |text| text.parse())?;
    let cpu = Cpu::new(Some(threads))?;
    for chain in CHAINS {
        for (size, rows, columns) in SIZES {
            let seconds = timed(chain, rows, columns, &cpu)?;
            let bytes = 4 * chain.moved * rows * columns;
            let rate = bytes as f64 / seconds / 1e9;
            println!(
                "{{\"chain\": {:?}, \"size\": {size:?}, \"seconds\": {seconds}, \"gb_per_s\": {rate}}}",
                chain.name
            );
        }
    }
    Ok(())
}

/// The median seconds of one application.
fn timed(chain: &Chain, rows: usize, columns: usize, cpu: &Cpu) -> Result<f64, Box<dyn Error>> {
    let world = Texts { files: vec![("chain.cs336".into(), chain.program.into())] };
    let mut checked = check(&world, "chain.cs336", &[]);
    let given = |(name, shape): &(&str, Shape)| Given {
        name: (*name).to_owned(),
        shape: match shape {
            Table => vec![rows, columns],
            Column => vec![columns],
            Ids => vec![rows],
        },
        integer: *shape == Ids,
    };
    let givens: Vec<Given> = chain.takes.iter().map(given).collect();
    let compiled = checked.apply_program("f", &givens, &givens, &[], chain.with_grad);
    let compiled = compiled.map_err(|problems| {
        let texts: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        format!("{}: {}", chain.name, texts.join("; "))
    })?;
    let mut store = Store::new();
    for buffer in &compiled.plan.buffers {
        if let Place::External { storage, .. } = &buffer.place {
            let input = compiled.graph.inputs.iter().find(|input| input.name == *storage);
            let dtype = input.map_or(DType::F32, |input| input.ty.dtype);
            store.declare(storage, dtype, buffer.bytes / dtype.bytes())?;
            let mut state = 7_u32;
            let mut draw = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32
            };
            let count = buffer.bytes / dtype.bytes();
            let most = if dtype == DType::I32 { columns as f32 } else { 1.0 };
            let numbers: Vec<f32> = (0..count).map(|_| draw() * most).collect();
            store.set_floats(storage, &numbers)?;
        }
    }
    let mut executable = Executable::new(&compiled.plan, cpu)?;
    let values = RuntimeValues { step: 1, ..RuntimeValues::default() };
    let (mut times, begin) = (Vec::new(), Instant::now());
    while times.len() < 5 || begin.elapsed().as_secs_f64() < 0.3 {
        let before = Instant::now();
        executable.run(&mut store, &values)?;
        times.push(before.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
