//! Sums of a program's results over points: the kernel of fits.
//!
//! Points are taken in blocks that stay in the nearest cache; the order of additions is a fact of the number of points alone.

use std::sync::Arc;

use cs336_compiler::law::program::Program;
use cs336_compiler::scalar::Inst;

use super::clif;
use super::jit::{Code, Range};
use crate::error::DeviceError;

/// Points per block.
const BLOCK: usize = 256;

/// A compiled [`Program`].
#[derive(Debug)]
pub struct SumKernel {
    code: Arc<Code>,
    uniforms: usize,
    columns: usize,
    results: usize,
    /// Strips of scratch memory.
    strips: usize,
}

impl SumKernel {
    /// How many points are done at a time: columns have a multiple of this length.
    pub const GRAIN: usize = 8;

    /// Compiles a program.
    pub fn compile(program: &Program) -> Result<Self, DeviceError> {
        let fail = |reason: &str| DeviceError::Compile {
            kernel: "law".to_owned(),
            reason: reason.to_owned(),
        };
        if program.columns == 0 {
            return Err(fail("it reads no column"));
        }
        for (i, inst) in program.insts.iter().enumerate() {
            let ordered = cs336_compiler::law::reads(inst).iter().all(|r| (*r as usize) < i);
            let known = match inst {
                Inst::Arg(a) => (*a as usize) < program.uniforms + program.columns,
                Inst::Const(_) | Inst::Unary(..) | Inst::Binary(..) | Inst::Select(..) => true,
                Inst::Pos(_) | Inst::Runtime(_) | Inst::Cast(..) | Inst::Random(..) => false,
            };
            if !ordered || !known {
                return Err(fail("it is no program over numbers and columns"));
            }
        }
        if program.results.iter().any(|r| *r as usize >= program.insts.len()) {
            return Err(fail("a result is not there"));
        }
        let (code, strips) =
            Code::compile("law", |function, target| clif::emit_sums(program, function, target))?;
        Ok(Self {
            code,
            uniforms: program.uniforms,
            columns: program.columns,
            results: program.results.len(),
            strips,
        })
    }

    /// Sums of the results over all points. Columns are equally long, a multiple of [`GRAIN`](Self::GRAIN); `scratch` is memory that may be
    /// kept between calls.
    ///
    /// # Panics
    /// If columns, uniforms or results are not as many or as long as the program says.
    pub fn run(
        &self,
        uniforms: &[f64],
        columns: &[&[f64]],
        out: &mut [f64],
        scratch: &mut Vec<f64>,
    ) {
        let points = columns[0].len();
        assert!(uniforms.len() == self.uniforms && columns.len() == self.columns);
        assert!(out.len() == self.results && points.is_multiple_of(Self::GRAIN));
        assert!(columns.iter().all(|c| c.len() == points));
        // Two more numbers per strip than a block, so that strips do not all begin at the same place of a cache.
        let stride = BLOCK + Self::GRAIN;
        let sums = self.strips * stride;
        scratch.resize(sums + 2 * self.results, 0.0);
        scratch[sums..].fill(0.0);
        let base = scratch.as_mut_ptr();
        let mut operands: [*mut u8; 64] = [std::ptr::null_mut(); 64];
        let count = 2 + self.columns + self.strips;
        let mut long = Vec::new();
        let table = if count <= 64 {
            &mut operands[..count]
        } else {
            long.resize(count, std::ptr::null_mut());
            long.as_mut_slice()
        };
        table[0] = uniforms.as_ptr().cast_mut().cast();
        for s in 0..self.strips {
            table[1 + self.columns + s] = base.wrapping_add(s * stride).cast();
        }
        table[count - 1] = base.wrapping_add(sums).cast();
        let mut first = 0;
        while first < points {
            let here = BLOCK.min(points - first);
            for (slot, c) in table[1..].iter_mut().zip(columns) {
                *slot = c[first..].as_ptr().cast_mut().cast();
            }
            let range = Range { first: here, last: 0, low: 0, high: 0 };
            // SAFETY: the function reads `here` points (even) of each column and the uniforms, which are there as asserted, and
            // writes scratch strips and sums, which are ours and long enough: `strips` and `results` are its own.
            unsafe { self.code.run(table, &[], range) };
            first += here;
        }
        for (r, o) in out.iter_mut().enumerate() {
            *o = scratch[sums + 2 * r] + scratch[sums + 2 * r + 1];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cs336_compiler::scalar::{BinOp, Literal, UnOp};

    /// Every operator, on uniforms and on columns, against the interpreter.
    #[test]
    fn compiled_programs_mean_what_the_interpreter_says() {
        let unary = [
            UnOp::Neg,
            UnOp::Abs,
            UnOp::Recip,
            UnOp::Exp,
            UnOp::Log,
            UnOp::Sqrt,
            UnOp::Rsqrt,
            UnOp::Sin,
            UnOp::Cos,
            UnOp::Tanh,
            UnOp::Erf,
            UnOp::Sigmoid,
            UnOp::Floor,
            UnOp::Ceil,
            UnOp::Round,
            UnOp::Sign,
            UnOp::Not,
            UnOp::IsFinite,
        ];
        let binary = [
            BinOp::Add,
            BinOp::Sub,
            BinOp::Mul,
            BinOp::Div,
            BinOp::Pow,
            BinOp::Min,
            BinOp::Max,
            BinOp::Mod,
            BinOp::Lt,
            BinOp::Le,
            BinOp::Eq,
            BinOp::Ne,
            BinOp::And,
            BinOp::Or,
        ];
        let points = 1000usize;
        let a: Vec<f64> = (0..points).map(|i| 0.01 + i as f64 * 0.013).collect();
        let b: Vec<f64> = (0..points).map(|i| 4.0 - i as f64 * 0.003).collect();
        let mut insts =
            vec![Inst::Arg(0), Inst::Arg(1), Inst::Arg(2), Inst::Const(Literal::new(0.7))];
        let mut results = Vec::new();
        let mut push = |inst: Inst| {
            insts.push(inst);
            results.push(insts.len() as u32 - 1);
        };
        for op in unary {
            push(Inst::Unary(op, 0));
            push(Inst::Unary(op, 1));
        }
        for op in binary {
            for (x, y) in [(0, 3), (0, 1), (1, 0), (1, 2)] {
                push(Inst::Binary(op, x, y));
            }
        }
        // Strips of strips, and a value that is used two loops later.
        let deep = insts.len() as u32;
        insts.push(Inst::Unary(UnOp::Log, 1));
        insts.push(Inst::Binary(BinOp::Mul, deep, 2));
        insts.push(Inst::Unary(UnOp::Exp, deep + 1));
        insts.push(Inst::Binary(BinOp::Add, deep + 2, deep + 1));
        insts.push(Inst::Select(deep + 1, deep + 3, 2));
        results.extend([deep + 2, deep + 3, deep + 4]);
        let p = Program { uniforms: 1, columns: 2, insts, results };
        let kernel = SumKernel::compile(&p).expect("it compiles");
        let mut out = vec![0.0; p.results.len()];
        let mut scratch = Vec::new();
        kernel.run(&[1.3], &[&a, &b], &mut out, &mut scratch);
        let mut want = vec![0.0; out.len()];
        let mut room = Vec::new();
        for i in 0..points {
            let r = p.eval(&[1.3, a[i], b[i]], &mut room);
            want.iter_mut().zip(r).for_each(|(w, r)| *w += r);
        }
        for (i, (w, o)) in want.iter().zip(&out).enumerate() {
            let near = (w - o).abs() <= 1e-12 * w.abs().max(1.0) || (w.is_nan() && o.is_nan());
            assert!(near, "result {i} ({:?}): {o}, not {w}", p.insts[p.results[i] as usize]);
        }
    }
}
