//! What a kernel means, as plain loops over f64.
//!
//! Takes a kernel, where each operand begins, and the parameters; reads and writes a [`Memory`]. It is the oracle of both backends:
//! slow, in the order of the text, with rounding only where values are stored or cast. Sums are not cut into chunks.

use super::{
    Access, AttentionKernel, ColReduce, Effect, Gemm, Guard, Inst, Kernel, Loop, Operand, RowOp,
    RowOpKind, Scatter,
};
use crate::scalar::{self, DType, Runtime, round_to};

/// Bytes that a kernel works on. Addresses are within a numbered buffer; outside of it is an error.
pub trait Memory {
    /// The element at a byte.
    fn read(&self, buffer: u32, byte: i64, dtype: DType) -> Result<f64, String>;
    /// Replaces the element at a byte; rounds.
    fn write(&mut self, buffer: u32, byte: i64, dtype: DType, value: f64) -> Result<(), String>;
}

/// Where an operand begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Which buffer.
    pub buffer: u32,
    /// First byte.
    pub byte: i64,
}

/// Runs a kernel. One base per operand; one parameter per parameter of the kernel, in its dtype.
pub fn run(
    kernel: &Kernel,
    bases: &[Base],
    params: &[f64],
    memory: &mut dyn Memory,
) -> Result<(), String> {
    let operands = kernel.operands().into_iter().cloned().collect::<Vec<_>>();
    if operands.len() != bases.len() {
        return Err(format!("{} operands, {} views", operands.len(), bases.len()));
    }
    let mut m = Machine { operands, bases, params, memory };
    match kernel {
        Kernel::Loop(k) => m.rows(k),
        Kernel::ColReduce(k) => m.col_reduce(k),
        Kernel::Gemm(k) => m.gemm(k),
        Kernel::Attention(k) => m.attention(k),
        Kernel::AttentionGrad(k) => m.attention_grad(k),
        Kernel::Scatter(k) => m.scatter(k),
        Kernel::RowOp(k) => m.row_op(k),
    }
}

struct Machine<'a> {
    operands: Vec<Operand>,
    bases: &'a [Base],
    params: &'a [f64],
    memory: &'a mut dyn Memory,
}

// Calls for every coordinate below the extents, last fastest.
fn each(extents: &[usize], mut f: impl FnMut(&[i64]) -> Result<(), String>) -> Result<(), String> {
    if extents.contains(&0) {
        return Ok(());
    }
    let mut at = vec![0i64; extents.len()];
    loop {
        f(&at)?;
        let mut i = extents.len();
        loop {
            if i == 0 {
                return Ok(());
            }
            i -= 1;
            at[i] += 1;
            if at[i] < extents[i] as i64 {
                break;
            }
            at[i] = 0;
        }
    }
}

impl Machine<'_> {
    // The byte of an operand's element at loop coordinates, plus some elements.
    fn byte(&self, o: usize, at: &[i64], extra: i64) -> i64 {
        let operand = &self.operands[o];
        let dynamic = operand.dynamic.map_or(0, |(p, s)| self.params[p as usize] as i64 * s);
        let moved: i64 = operand.strides.iter().zip(at).map(|(s, c)| s * c).sum();
        self.bases[o].byte
            + (operand.offset + dynamic + moved + extra) * operand.dtype.bytes() as i64
    }

    fn read(&self, o: usize, at: &[i64], extra: i64) -> Result<f64, String> {
        let byte = self.byte(o, at, extra);
        self.memory.read(self.bases[o].buffer, byte, self.operands[o].dtype)
    }

    // Writes, or adds to what is there.
    fn put(&mut self, o: usize, at: &[i64], extra: i64, value: f64) -> Result<(), String> {
        let old = match self.operands[o].access {
            Access::Accumulate => self.read(o, at, extra)?,
            Access::Read | Access::Write => 0.0,
        };
        let byte = self.byte(o, at, extra);
        let dtype = self.operands[o].dtype;
        self.memory.write(self.bases[o].buffer, byte, dtype, old + value)
    }

    fn insts(&self, insts: &[Inst], at: &[i64], rows: &[f64]) -> Result<Vec<f64>, String> {
        let mut values: Vec<f64> = Vec::with_capacity(insts.len());
        for inst in insts {
            let v = |r: u32| values[r as usize];
            let value = match inst {
                Inst::Load { operand, indirect, guards, outside } => {
                    let mut extra = 0;
                    let mut inside = guards.iter().all(|g| holds(g, at));
                    for i in indirect {
                        let index = v(i.index) as i64;
                        inside &= (0..i.limit).contains(&index);
                        extra += index * i.stride;
                    }
                    if inside { self.read(*operand as usize, at, extra)? } else { outside.get() }
                }
                Inst::Coord(axis) => at[*axis as usize] as f64,
                Inst::Param(i, dtype) => round_to(*dtype, self.params[*i as usize]),
                Inst::Row(i) => rows[*i as usize],
                Inst::Const(l, _) => l.get(),
                Inst::Unary(op, a) => op.eval(v(*a)),
                Inst::Binary(op, a, b) => op.eval(v(*a), v(*b)),
                Inst::Select(c, a, b) => {
                    if v(*c) != 0.0 {
                        v(*a)
                    } else {
                        v(*b)
                    }
                }
                Inst::Cast(DType::F32, a) => v(*a),
                Inst::Cast(dtype, a) => round_to(*dtype, v(*a)),
                Inst::Random { dist, stream, counters, seed, step } => {
                    let half = |p: u32| self.params[p as usize] as i64 as u32;
                    let seed = u64::from(half(seed[0])) | u64::from(half(seed[1])) << 32;
                    let c = counters.map(|r| v(r) as i64 as u32);
                    scalar::random(*dist, seed, *stream, c, half(*step))
                }
            };
            values.push(value);
        }
        Ok(values)
    }

    fn rows(&mut self, k: &Loop) -> Result<(), String> {
        let still = vec![0; k.cols.len()];
        each(&k.rows, |row| {
            let mut rows = vec![0.0; k.row_values as usize];
            for stage in &k.stages {
                for effect in &stage.effects {
                    if let Effect::Reduce { op, into, .. } = effect {
                        rows[*into as usize] = op.identity();
                    }
                }
                let known = rows.clone();
                let mut column = |col: &[i64]| -> Result<(), String> {
                    let at = [row, col].concat();
                    let values = self.insts(&stage.insts, &at, &known)?;
                    for effect in &stage.effects {
                        match effect {
                            Effect::Store { operand, value } => {
                                self.put(*operand as usize, &at, 0, values[*value as usize])?;
                            }
                            Effect::Reduce { op, value, into } => {
                                let sum = &mut rows[*into as usize];
                                *sum = op.combine(*sum, values[*value as usize]);
                            }
                        }
                    }
                    Ok(())
                };
                if stage.per_row {
                    column(&still)?;
                } else {
                    each(&k.cols, column)?;
                }
            }
            Ok(())
        })
    }

    fn col_reduce(&mut self, k: &ColReduce) -> Result<(), String> {
        each(&k.outer, |outer| {
            each(&k.cols, |cols| {
                let mut sums: Vec<f64> = k.results.iter().map(|(op, _, _)| op.identity()).collect();
                each(&k.reduced, |reduced| {
                    let at = [outer, reduced, cols].concat();
                    let values = self.insts(&k.insts, &at, &[])?;
                    for (sum, (op, value, _)) in sums.iter_mut().zip(&k.results) {
                        *sum = op.combine(*sum, values[*value as usize]);
                    }
                    Ok(())
                })?;
                let at = [outer, &vec![0; k.reduced.len()], cols].concat();
                for (sum, (_, _, operand)) in sums.iter().zip(&k.results) {
                    self.put(*operand as usize, &at, 0, *sum)?;
                }
                Ok(())
            })
        })
    }

    fn gemm(&mut self, k: &Gemm) -> Result<(), String> {
        let outer = [&k.batch[..], &[k.m, k.n]].concat();
        each(&outer, |out| {
            let mut sum = 0.0;
            let mut at = [out, &[0]].concat();
            for i in 0..k.k {
                at[out.len()] = i as i64;
                sum += self.read(0, &at, 0)? * self.read(1, &at, 0)?;
            }
            at[out.len()] = 0;
            self.put(2, &at, 0, sum)
        })
    }

    // Coordinates of attention: batch, queries, key, over, values.
    fn scores(
        &self,
        k: &AttentionKernel,
        batch: &[i64],
        query: &[i64],
    ) -> Result<Vec<(f64, Vec<f64>, Option<f64>)>, String> {
        let values = vec![0; k.values.len()];
        let runtime = |r: Runtime| {
            let i = k.runtime.iter().position(|x| *x == r);
            i.map_or(0.0, |i| self.params[i])
        };
        let mut all = Vec::new();
        for key in 0..k.keys as i64 {
            let mut dot = 0.0;
            for over in 0..k.over as i64 {
                let at = [batch, query, &[key, over], &values].concat();
                dot += self.read(0, &at, 0)? * self.read(1, &at, 0)?;
            }
            let at = [batch, query, &[key, 0], &values].concat();
            let mut args = vec![dot * k.scale.get()];
            for c in 0..k.captured {
                args.push(self.read(3 + c, &at, 0)?);
            }
            let arg = |i: u32| args[i as usize];
            let pos = |i: u32| at[k.pos[i as usize] as usize] as f64;
            let seen = k.mask.eval(&arg, &pos, &runtime) != 0.0;
            let score = seen.then(|| k.score.eval(&arg, &pos, &runtime));
            all.push((args[0], args, score));
        }
        Ok(all)
    }

    fn attention(&mut self, k: &AttentionKernel) -> Result<(), String> {
        let (out, lse) = (3 + k.captured, 4 + k.captured);
        each(&k.batch, |batch| {
            each(&k.queries, |query| {
                let scores = self.scores(k, batch, query)?;
                let live = scores.iter().filter_map(|s| s.2);
                let max = live.clone().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = live.map(|s| (s - max).exp()).sum();
                let log_sum = if sum > 0.0 { max + sum.ln() } else { f64::NEG_INFINITY };
                let at = [batch, query, &[0, 0], &vec![0; k.values.len()]].concat();
                self.put(lse, &at, 0, log_sum)?;
                each(&k.values, |value| {
                    let mut mean = 0.0;
                    for (key, (_, _, score)) in scores.iter().enumerate() {
                        if let Some(s) = score {
                            let at = [batch, query, &[key as i64, 0], value].concat();
                            mean += (s - log_sum).exp() * self.read(2, &at, 0)?;
                        }
                    }
                    let at = [batch, query, &[0, 0], value].concat();
                    self.put(out, &at, 0, mean)
                })
            })
        })
    }

    // p = exp(s - lse); dv = Σ p dout; ds = p (dout·v - dout·out); dq = Σ ds s' scale k; dk likewise.
    fn attention_grad(&mut self, k: &AttentionKernel) -> Result<(), String> {
        let first = 3 + k.captured;
        let (out, lse, dout) = (first, first + 1, first + 2);
        let (dq, dk, dv) = (first + 3, first + 4, first + 5);
        let mut sums: std::collections::BTreeMap<(usize, i64), f64> =
            std::collections::BTreeMap::new();
        let runtime: Vec<(Runtime, f64)> =
            k.runtime.iter().copied().zip(self.params.iter().copied()).collect();
        let runtime = |r: Runtime| runtime.iter().find(|(x, _)| *x == r).map_or(0.0, |(_, v)| *v);
        let none = vec![0; k.values.len()];
        each(&k.batch, |batch| {
            each(&k.queries, |query| {
                let scores = self.scores(k, batch, query)?;
                let row = [batch, query, &[0, 0], &none].concat();
                let log_sum = self.read(lse, &row, 0)?;
                let mut mean = 0.0;
                each(&k.values, |value| {
                    let at = [batch, query, &[0, 0], value].concat();
                    mean += self.read(dout, &at, 0)? * self.read(out, &at, 0)?;
                    Ok(())
                })?;
                for (key, (_, args, score)) in scores.iter().enumerate() {
                    let key = key as i64;
                    let at = [batch, query, &[key, 0], &none].concat();
                    let p = score.map_or(0.0, |s| (s - log_sum).exp());
                    let mut dp = 0.0;
                    each(&k.values, |value| {
                        let at = [batch, query, &[key, 0], value].concat();
                        let g = self.read(dout, &at, 0)?;
                        dp += g * self.read(2, &at, 0)?;
                        *sums.entry((dv, self.byte(dv, &at, 0))).or_insert(0.0) += p * g;
                        Ok(())
                    })?;
                    let arg = |i: u32| args[i as usize];
                    let pos = |i: u32| at[k.pos[i as usize] as usize] as f64;
                    let ds = if score.is_some() { p * (dp - mean) } else { 0.0 };
                    let slope = |i: usize| k.score_grads[i].eval(&arg, &pos, &runtime);
                    let d = if score.is_some() { ds * slope(0) * k.scale.get() } else { 0.0 };
                    for over in 0..k.over as i64 {
                        let at = [batch, query, &[key, over], &none].concat();
                        let (to_q, to_k) = (self.byte(dq, &at, 0), self.byte(dk, &at, 0));
                        *sums.entry((dq, to_q)).or_insert(0.0) += d * self.read(1, &at, 0)?;
                        *sums.entry((dk, to_k)).or_insert(0.0) += d * self.read(0, &at, 0)?;
                    }
                    let wanted = (0..k.captured).filter(|c| k.wants[*c]);
                    for (n, c) in wanted.enumerate() {
                        let o = dv + 1 + n;
                        let g = if score.is_some() { ds * slope(1 + c) } else { 0.0 };
                        *sums.entry((o, self.byte(o, &at, 0))).or_insert(0.0) += g;
                    }
                }
                Ok(())
            })
        })?;
        for ((o, byte), sum) in sums {
            self.memory.write(self.bases[o].buffer, byte, self.operands[o].dtype, sum)?;
        }
        Ok(())
    }

    fn scatter(&mut self, k: &Scatter) -> Result<(), String> {
        let still = vec![0; k.rows.len()];
        if k.operands[2].access != Access::Accumulate {
            each(&k.outer, |outer| {
                each(&k.cols, |cols| {
                    let at = [outer, &still, cols].concat();
                    (0..k.limit as i64).try_for_each(|i| self.put(2, &at, i * k.stride, 0.0))
                })
            })?;
        }
        each(&k.outer, |outer| {
            each(&k.cols, |cols| {
                each(&k.rows, |rows| {
                    let at = [outer, rows, cols].concat();
                    let index = self.read(1, &at, 0)? as i64;
                    if !(0..k.limit as i64).contains(&index) {
                        return Ok(());
                    }
                    let (to, extra) = ([outer, &still, cols].concat(), index * k.stride);
                    let sum = self.read(2, &to, extra)? + self.read(0, &at, 0)?;
                    let byte = self.byte(2, &to, extra);
                    self.memory.write(self.bases[2].buffer, byte, k.operands[2].dtype, sum)
                })
            })
        })
    }

    fn row_op(&mut self, k: &RowOp) -> Result<(), String> {
        each(&k.rows, |row| {
            let at = |i: usize| [row, &[i as i64]].concat();
            let x: Vec<f64> =
                (0..k.n).map(|i| self.read(0, &at(i), 0)).collect::<Result<_, _>>()?;
            let mut order: Vec<usize> = (0..k.n).collect();
            let result: Vec<f64> = match k.op {
                RowOpKind::CumSum { reverse } => {
                    let mut sums = vec![0.0; k.n];
                    let mut sum = 0.0;
                    for step in 0..k.n {
                        let i = if reverse { k.n - 1 - step } else { step };
                        sum += x[i];
                        sums[i] = sum;
                    }
                    sums
                }
                RowOpKind::TopK { k: count } => {
                    order.sort_by(|a, b| x[*b].total_cmp(&x[*a]));
                    let mut chosen = vec![0.0; k.n];
                    order[..count].iter().for_each(|i| chosen[*i] = 1.0);
                    chosen
                }
                RowOpKind::ArgSort => {
                    order.sort_by(|a, b| x[*a].total_cmp(&x[*b]));
                    order.iter().map(|i| *i as f64).collect()
                }
            };
            result.into_iter().enumerate().try_for_each(|(i, v)| self.put(1, &at(i), 0, v))
        })
    }
}

fn holds(guard: &Guard, at: &[i64]) -> bool {
    let moved: i64 = guard.terms.iter().map(|(axis, c)| c * at[*axis as usize]).sum();
    (0..guard.limit).contains(&(guard.offset + moved))
}
