//! Kernels as CUDA C++: pure functions from a kernel to text and launch shapes, the same on every machine.
//!
//! # What a text promises
//! Each entry takes the operands' addresses in launch order (the constant and dynamic offsets added), the table of host scalars, one index
//! into it per parameter, and scratch memory; its passes run in order. The shape of a launch depends on the kernel alone, and every sum is
//! taken in an order that follows from the shape: the same GPU model gives the same bits. No text includes a header.

mod attention;
mod attention_grad;
mod between;
mod columns;
mod loops;
mod matmul;
mod rowop;
mod scalar;
mod scatter;

use std::fmt::Write as _;

use cs336_compiler::kernel::{Kernel, Operand};
use cs336_compiler::scalar::DType;

/// What is put before each text.
pub(crate) const PRELUDE: &str = include_str!("prelude.cu");

/// A kernel for the GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    /// CUDA C++ without the prelude.
    pub(crate) source: String,
    /// What is launched, in order.
    pub(crate) passes: Vec<Pass>,
    /// Bytes of scratch memory.
    pub(crate) scratch: usize,
}

/// One launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pass {
    /// The function's name.
    pub(crate) entry: String,
    /// Blocks.
    pub(crate) grid: [u32; 3],
    /// Threads of a block.
    pub(crate) block: u32,
    /// Bytes of dynamic shared memory.
    pub(crate) shared: u32,
}

/// Writes a kernel. `aligned` has, per operand, a power of two of bytes by which every address that it is bound to is divisible.
/// An error is a reason why this kernel cannot be done.
pub(crate) fn text(kernel: &Kernel, aligned: &[usize]) -> Result<Text, String> {
    let aligned: Vec<usize> = (kernel.operands().iter().enumerate())
        .map(|(i, o)| with_offsets(o, aligned.get(i).copied().unwrap_or(1)))
        .collect();
    match kernel {
        Kernel::Loop(k) => Ok(loops::text(k, &aligned)),
        Kernel::ColReduce(k) => Ok(columns::text(k, &aligned)),
        Kernel::Gemm(k) => Ok(matmul::text(k)),
        Kernel::Attention(k) => attention::text(k, &aligned),
        Kernel::AttentionGrad(k) => attention_grad::text(k, &aligned),
        Kernel::Scatter(k) => Ok(scatter::text(k, &aligned)),
        Kernel::RowOp(k) => Ok(rowop::text(k)),
    }
}

/// The alignment of an operand's first element.
pub(super) fn with_offsets(operand: &Operand, aligned: usize) -> usize {
    let size = operand.dtype.bytes() as i64;
    let by =
        |a: usize, step: i64| if step == 0 { a } else { a.min(1 << step.trailing_zeros().min(30)) };
    let a = by(aligned.max(1), operand.offset * size);
    operand.dynamic.map_or(a, |(_, stride)| by(a, stride * size))
}

/// The name of a stored type.
fn stored(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "float",
        DType::Bf16 => "bf16",
        DType::F16 => "f16",
        DType::I32 => "int",
        DType::Bool => "truth",
    }
}

/// The beginning of an entry, up to and with the typed addresses of its operands.
fn head(out: &mut String, entry: &str, block: u32, operands: &[&Operand], params: usize) {
    write!(out, "extern \"C\" __global__ void __launch_bounds__({block}) {entry}(").expect(GROWS);
    for i in 0..operands.len() {
        write!(out, "char* b{i}, ").expect(GROWS);
    }
    out.push_str("const u32* table");
    for i in 0..params {
        write!(out, ", int p{i}").expect(GROWS);
    }
    out.push_str(", char* scratch) {\n");
    for (i, o) in operands.iter().enumerate() {
        let t = stored(o.dtype);
        writeln!(out, "  {t}* o{i} = ({t}*)b{i};").expect(GROWS);
    }
}

/// A string takes what it is given.
const GROWS: &str = "a string grows";

/// Whether offsets need 64 bits: the farthest that any operand reaches, in elements.
fn far(operands: &[&Operand], extents: &[usize], indirect: i64) -> bool {
    operands.iter().any(|o| {
        let reach: i64 = (o.strides.iter().zip(extents))
            .map(|(s, e)| s.abs().saturating_mul(*e as i64))
            .fold(0, i64::saturating_add);
        reach.saturating_add(indirect) >= 1 << 30
    })
}

/// Declares the types of offsets.
fn offsets(out: &mut String, far: bool) {
    let (signed, unsigned) = if far { ("i64", "u64") } else { ("int", "u32") };
    writeln!(out, "typedef {signed} ix;\ntypedef {unsigned} ux;").expect(GROWS);
}

/// `int c{first}, ..` from a flat number in variable `q` (which is used up), last axis fastest. The last axis counts in steps of `by`.
fn coordinates(
    out: &mut String,
    indent: &str,
    first: usize,
    extents: &[usize],
    by: usize,
    q: &str,
) {
    for (i, extent) in extents.iter().enumerate().rev() {
        let (c, last) = (first + i, i + 1 == extents.len());
        let steps = if last { extent / by } else { *extent };
        let times = if last && by > 1 { format!(" * {by}") } else { String::new() };
        if i == 0 {
            writeln!(out, "{indent}const int c{c} = (int){q}{times};").expect(GROWS);
        } else {
            writeln!(out, "{indent}const int c{c} = (int)({q} % {steps}){times}; {q} /= {steps};")
                .expect(GROWS);
        }
    }
}

/// `Σ stride * c{first + i}`.
fn offset(strides: &[i64], first: usize) -> String {
    let mut terms: Vec<String> = Vec::new();
    for (i, stride) in strides.iter().enumerate() {
        let c = first + i;
        match stride {
            0 => {}
            1 => terms.push(format!("c{c}")),
            s => terms.push(format!("(ix){s} * c{c}")),
        }
    }
    if terms.is_empty() { "0".to_owned() } else { terms.join(" + ") }
}

/// Blocks along x for so many threads or rows.
fn blocks(items: usize, per_block: usize) -> u32 {
    u32::try_from(items.div_ceil(per_block)).unwrap_or(u32::MAX).max(1)
}
