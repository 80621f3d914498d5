//! The slow and obvious meaning of kernels, in f64, for tests; and small helpers to launch a kernel on plain vectors.

use cs336_compiler::kernel::interp;
use cs336_compiler::kernel::{Access, ColReduce, Effect, Inst, Kernel, Loop, Operand};
use cs336_compiler::scalar::{DType, random, round_to};

use super::Cpu;
use super::cells::View;
use crate::memory::Block;
use crate::{Device, Params, Span};

/// Memory of one operand: element 0 is where coordinates 0 are.
pub(crate) type Memory = Vec<f64>;

/// An operand with the given strides.
pub(crate) fn operand(dtype: DType, strides: &[i64], access: Access) -> Operand {
    Operand { dtype, strides: strides.to_vec(), offset: 0, dynamic: None, access }
}

/// Numbers that are the same everywhere: uniform in -1..1 from a counter.
pub(crate) fn noise(n: usize, salt: u64) -> Memory {
    (0..n)
        .map(|i| {
            let c = [i as u32, (i >> 32) as u32, 0];
            2.0 * random(cs336_compiler::scalar::Dist::Uniform, salt, 7, c, 0) - 1.0
        })
        .collect()
}

/// Runs a kernel on this machine; the memories are rounded to the operands' types first.
pub(crate) fn launch(
    kernel: &Kernel,
    memories: &[Memory],
    params: &[f64],
    threads: usize,
) -> Vec<Memory> {
    let cpu = Cpu::new(Some(threads)).expect("threads");
    let loaded = cpu.load(kernel, &[]).expect("compiles");
    let operands = kernel.operands();
    let mut blocks: Vec<Block> = Vec::new();
    for (operand, memory) in operands.iter().zip(memories) {
        let mut block =
            Block::zeroed(memory.len() * operand.dtype.bytes(), "test").expect("memory");
        let plain = Operand { strides: vec![1], ..(*operand).clone() };
        let view = View::new(&plain, block.address());
        for (i, value) in memory.iter().enumerate() {
            if operand.dtype.is_float() {
                // SAFETY: inside the block just made.
                unsafe { view.set(i as i64, *value as f32) }
            } else {
                // SAFETY: as above.
                unsafe { view.set_int(i as i64, *value as i32) }
            }
        }
        blocks.push(block);
    }
    let spans: Vec<Span> = (blocks.iter_mut())
        .map(|b| Span { address: b.address(), before: 0, after: b.len() })
        .collect();
    let words: Vec<u32> = (params.iter().zip(kernel.params().iter().chain([&DType::I32; 4])))
        .map(|(v, dtype)| match dtype {
            DType::F32 => (*v as f32).to_bits(),
            DType::Bf16 | DType::F16 | DType::I32 | DType::Bool => *v as i64 as u32,
        })
        .collect();
    let params = Params { words: &words, slots: &[], table: std::ptr::null() };
    cpu.launch(&loaded, &spans, &params, "test").expect("launches");
    let mut results = Vec::new();
    for ((operand, memory), block) in operands.iter().zip(memories).zip(&mut blocks) {
        let plain = Operand { strides: vec![1], ..(*operand).clone() };
        let view = View::new(&plain, block.address());
        let n = memory.len() as i64;
        // SAFETY: inside the block.
        results.push((0..n).map(|i| f64::from(unsafe { view.get(i) })).collect());
    }
    results
}

/// Memories for the compiler's interpreter of kernels: one buffer per operand.
struct Buffers<'m> {
    memories: &'m mut [Memory],
    sizes: Vec<i64>,
}

impl interp::Memory for Buffers<'_> {
    fn read(&self, buffer: u32, byte: i64, _dtype: DType) -> Result<f64, String> {
        let at = (byte / self.sizes[buffer as usize]) as usize;
        self.memories[buffer as usize].get(at).copied().ok_or_else(|| "outside".to_owned())
    }

    fn write(&mut self, buffer: u32, byte: i64, dtype: DType, value: f64) -> Result<(), String> {
        let at = (byte / self.sizes[buffer as usize]) as usize;
        let cell = self.memories[buffer as usize].get_mut(at);
        *cell.ok_or_else(|| "outside".to_owned())? = round_to(dtype, value);
        Ok(())
    }
}

/// What the compiler's interpreter makes of a kernel.
pub(crate) fn interpret(kernel: &Kernel, memories: &[Memory], params: &[f64]) -> Vec<Memory> {
    let operands: Vec<Operand> = kernel.operands().into_iter().cloned().collect();
    let mut all = rounded(&operands, memories);
    let bases: Vec<interp::Base> =
        (0..operands.len()).map(|i| interp::Base { buffer: i as u32, byte: 0 }).collect();
    let sizes = operands.iter().map(|o| o.dtype.bytes() as i64).collect();
    let mut buffers = Buffers { memories: &mut all, sizes };
    interp::run(kernel, &bases, params, &mut buffers).expect("a well-formed kernel");
    all
}

/// Largest difference, relative to the larger magnitude and 1; NaNs must agree.
pub(crate) fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).fold(0.0, |worst: f64, (x, y)| {
        if x.is_nan() && y.is_nan() || x == y {
            return worst;
        }
        let d = (x - y).abs() / x.abs().max(y.abs()).max(1.0);
        if d.is_nan() { f64::INFINITY } else { worst.max(d) }
    })
}

/// The meaning of a Loop.
pub(crate) fn eval_loop(k: &Loop, memories: &[Memory], params: &[f64]) -> Vec<Memory> {
    let mut m: Vec<Memory> = rounded(&k.operands, memories);
    let (rows, cols): (usize, usize) = (k.rows.iter().product(), k.cols.iter().product());
    for row in 0..rows {
        let row_coords = coords(row, &k.rows);
        let mut results: Vec<f64> = vec![0.0; k.row_values as usize];
        for stage in &k.stages {
            let mut sums: Vec<Option<f64>> = vec![None; k.row_values as usize];
            for col in 0..if stage.per_row { 1 } else { cols } {
                let at = [row_coords.clone(), coords(col, &k.cols)].concat();
                let values = body(&stage.insts, &k.operands, &m, &at, &results, params);
                for effect in &stage.effects {
                    match effect {
                        Effect::Store { operand, value } => {
                            let o = &k.operands[*operand as usize];
                            let cell = &mut m[*operand as usize][element(o, &at)];
                            let add = if o.access == Access::Accumulate { *cell } else { 0.0 };
                            *cell = round_to(o.dtype, values[*value as usize] + add);
                        }
                        Effect::Reduce { op, value, into } => {
                            let sum = &mut sums[*into as usize];
                            let before = sum.unwrap_or(op.identity());
                            *sum = Some(op.combine(before, values[*value as usize]));
                        }
                    }
                }
            }
            for (result, sum) in results.iter_mut().zip(sums) {
                *result = sum.unwrap_or(*result);
            }
        }
    }
    m
}

/// The meaning of a ColReduce.
pub(crate) fn eval_col_reduce(k: &ColReduce, memories: &[Memory], params: &[f64]) -> Vec<Memory> {
    let mut m = rounded(&k.operands, memories);
    let read = m.clone();
    let product = |e: &[usize]| e.iter().product::<usize>();
    for outer in 0..product(&k.outer) {
        for col in 0..product(&k.cols) {
            let mut sums: Vec<f64> = k.results.iter().map(|(op, ..)| op.identity()).collect();
            let mut at = Vec::new();
            for index in 0..product(&k.reduced) {
                at = [coords(outer, &k.outer), coords(index, &k.reduced), coords(col, &k.cols)]
                    .concat();
                let values = body(&k.insts, &k.operands, &read, &at, &[], params);
                for (sum, (op, value, _)) in sums.iter_mut().zip(&k.results) {
                    *sum = op.combine(*sum, values[*value as usize]);
                }
            }
            for (sum, (_, _, operand)) in sums.iter().zip(&k.results) {
                let o = &k.operands[*operand as usize];
                let cell = &mut m[*operand as usize][element(o, &at)];
                let add = if o.access == Access::Accumulate { *cell } else { 0.0 };
                *cell = round_to(o.dtype, sum + add);
            }
        }
    }
    m
}

fn rounded(operands: &[Operand], memories: &[Memory]) -> Vec<Memory> {
    (operands.iter().zip(memories))
        .map(|(o, m)| m.iter().map(|v| round_to(o.dtype, *v)).collect())
        .collect()
}

/// Coordinates of a flat index.
pub(crate) fn coords(mut flat: usize, extents: &[usize]) -> Vec<i64> {
    let mut all: Vec<i64> = (extents.iter().rev())
        .map(|e| {
            let c = flat % e;
            flat /= e;
            c as i64
        })
        .collect();
    all.reverse();
    all
}

fn element(o: &Operand, at: &[i64]) -> usize {
    let sum: i64 = o.strides.iter().zip(at).map(|(s, c)| s * c).sum();
    (sum + o.offset) as usize
}

fn body(
    insts: &[Inst],
    operands: &[Operand],
    m: &[Memory],
    at: &[i64],
    rows: &[f64],
    params: &[f64],
) -> Vec<f64> {
    let mut v: Vec<f64> = Vec::new();
    for inst in insts {
        let get = |r: &u32| v[*r as usize];
        v.push(match inst {
            Inst::Load { operand, indirect, guards, outside } => {
                let o = &operands[*operand as usize];
                let mut e: i64 = o.offset;
                e += o.strides.iter().zip(at).map(|(s, c)| s * c).sum::<i64>();
                let mut ok = guards.iter().all(|g| {
                    let sum: i64 = g.terms.iter().map(|(a, c)| at[*a as usize] * c).sum();
                    (0..g.limit).contains(&(sum + g.offset))
                });
                for i in indirect {
                    let index = get(&i.index) as i64;
                    ok &= (0..i.limit).contains(&index);
                    e += index * i.stride;
                }
                if ok { m[*operand as usize][e as usize] } else { outside.get() }
            }
            Inst::Coord(axis) => at[*axis as usize] as f64,
            Inst::Param(i, _) => params[*i as usize],
            Inst::Row(i) => rows[*i as usize],
            Inst::Const(l, _) => l.get(),
            Inst::Unary(op, a) => op.eval(get(a)),
            Inst::Binary(op, a, b) => op.eval(get(a), get(b)),
            Inst::Select(c, a, b) => {
                if get(c) != 0.0 {
                    get(a)
                } else {
                    get(b)
                }
            }
            Inst::Cast(dtype, a) => round_to(*dtype, get(a)),
            Inst::Random { dist, stream, counters, seed, step } => {
                let half = |i: u32| params[i as usize] as i64 as u32;
                let seed = u64::from(half(seed[1])) << 32 | u64::from(half(seed[0]));
                let c = counters.map(|c| get(&c) as u32);
                random(*dist, seed, *stream, c, half(*step))
            }
        });
    }
    v
}
