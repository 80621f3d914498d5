//! Fused loops as Cranelift functions: [`Loop`] and [`ColReduce`] to CLIF. Pure: no machine, no memory, so the text can be
//! looked at in tests.
//!
//! # The function
//! `(operands, params, first, last, low, high)`, all i64, no result. `operands` points at one address per operand (the constant and
//! dynamic offsets already added) and then one address of 64 harmless bytes, read where a guard fails; `params` at 4
//! bytes per parameter. For a Loop, rows `first..last` of the flattened row space are done, and of the first column axis the
//! coordinates `low..high`. For a ColReduce, `first..last` of the flattened reduced space are reduced for outer index `low`
//! into partial results at address `high`: one 4-byte number per result and column, results outermost.
//!
//! # Lanes
//! The innermost column axis runs in vectors of four f32, several at a time where the body is small; each vector has its own
//! accumulators, which are combined at the end in a fixed order. So the order of a sum is a fact of the kernel. Functions that Cranelift has no
//! instructions for are called for many columns at once: see [`phases`].

mod body;
mod col_reduce;
mod function;
mod lanes;
mod math;
mod phases;
mod rows;
pub(crate) mod sums;
#[cfg(test)]
mod tests;
mod text;

use cranelift_codegen::ir::{self, AbiParam, FuncRef, Signature, types};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cs336_compiler::kernel::{ColReduce, Inst, Loop, Stage};
use cs336_compiler::law::program::Program;
use cs336_compiler::scalar::{BinOp, UnOp};

pub(crate) use function::Function;
pub(crate) use lanes::Kind;
pub use text::clif;

/// What a fused body may call: functions that the host computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extern {
    /// `(f32) -> f32`
    Exp,
    /// `(f32) -> f32`
    Log,
    /// `(f32) -> f32`
    Sin,
    /// `(f32) -> f32`
    Cos,
    /// `(f32) -> f32`
    Tanh,
    /// `(f32) -> f32`
    Erf,
    /// `(f32) -> f32`
    Sigmoid,
    /// `(f32, f32) -> f32`
    Pow,
    /// `(i32, i32) -> i32`, floor modulus.
    Mod,
    /// `(normal, seed, stream, step i64, c0, c1, c2 i32) -> f32`
    Draw,
    /// `(function, a, b, out, count)`, all i64: a [`Function`] of many f32.
    Wide,
    /// `(normal, seed, stream, step, c0, c1, c2, out, count)`, all i64: many draws.
    Draws,
    /// `(function, a, b, out, count)`, all i64: a [`Function`] of many f64; see [`sums`].
    Strip,
}

impl Extern {
    /// All of them.
    pub(crate) const ALL: [Self; 13] = [
        Self::Exp,
        Self::Log,
        Self::Sin,
        Self::Cos,
        Self::Tanh,
        Self::Erf,
        Self::Sigmoid,
        Self::Pow,
        Self::Mod,
        Self::Draw,
        Self::Wide,
        Self::Draws,
        Self::Strip,
    ];

    /// The symbol.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Exp => "cs336_exp",
            Self::Log => "cs336_log",
            Self::Sin => "cs336_sin",
            Self::Cos => "cs336_cos",
            Self::Tanh => "cs336_tanh",
            Self::Erf => "cs336_erf",
            Self::Sigmoid => "cs336_sigmoid",
            Self::Pow => "cs336_pow",
            Self::Mod => "cs336_mod",
            Self::Draw => "cs336_draw",
            Self::Wide => "cs336_wide",
            Self::Draws => "cs336_draws",
            Self::Strip => "cs336_strip",
        }
    }

    /// The types.
    pub(crate) fn signature(self, convention: CallConv) -> Signature {
        use types::{F32, I32, I64};
        let (params, result): (&[_], Option<_>) = match self {
            Self::Exp | Self::Log | Self::Sin | Self::Cos => (&[F32], Some(F32)),
            Self::Tanh | Self::Erf | Self::Sigmoid => (&[F32], Some(F32)),
            Self::Pow => (&[F32, F32], Some(F32)),
            Self::Mod => (&[I32, I32], Some(I32)),
            Self::Draw => (&[I64, I64, I64, I64, I32, I32, I32], Some(F32)),
            Self::Wide | Self::Strip => (&[I64; 5], None),
            Self::Draws => (&[I64; 9], None),
        };
        let mut s = Signature::new(convention);
        s.params.extend(params.iter().map(|t| AbiParam::new(*t)));
        s.returns.extend(result.map(AbiParam::new));
        s
    }
}

/// What the emitter must know of the machine.
pub(crate) struct Target<'a> {
    /// How functions are called.
    pub(crate) config: TargetFrontendConfig,
    /// Makes an external function known to the one being written.
    pub(crate) import: &'a mut dyn FnMut(&mut ir::Function, Extern) -> FuncRef,
}

/// The signature that all fused functions have.
pub(crate) fn signature(convention: CallConv) -> Signature {
    let mut s = Signature::new(convention);
    s.params.extend([AbiParam::new(types::I64); 6]);
    s
}

/// A Loop as a function.
pub(crate) fn emit_loop(kernel: &Loop, function: &mut ir::Function, target: &mut Target<'_>) {
    with_builder(function, target, |b, calls| rows::emit(kernel, b, calls));
}

/// A ColReduce as a function, with what each result is (f32 or i32).
pub(crate) fn emit_col_reduce(
    kernel: &ColReduce,
    function: &mut ir::Function,
    target: &mut Target<'_>,
) -> Vec<Kind> {
    with_builder(function, target, |b, calls| col_reduce::emit(kernel, b, calls))
}

/// Sums of a program's results as a function, with how many strips of scratch memory it needs.
pub(crate) fn emit_sums(
    program: &Program,
    function: &mut ir::Function,
    target: &mut Target<'_>,
) -> usize {
    with_builder(function, target, |b, calls| sums::emit(program, b, calls(Extern::Strip)))
}

fn with_builder<T>(
    function: &mut ir::Function,
    target: &mut Target<'_>,
    emit: impl FnOnce(&mut FunctionBuilder<'_>, &dyn Fn(Extern) -> FuncRef) -> T,
) -> T {
    function.signature = signature(target.config.default_call_conv);
    let refs = Extern::ALL.map(|call| (target.import)(function, call));
    let calls = move |call: Extern| {
        let at = Extern::ALL.iter().position(|c| *c == call).unwrap_or(0);
        refs[at]
    };
    let mut context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(function, &mut context);
    let result = emit(&mut b, &calls);
    b.seal_all_blocks();
    b.finalize(target.config);
    result
}

/// About how many machine instructions a body is, to choose how often it is repeated and whether it is worth threads.
pub(crate) fn weight(insts: &[Inst]) -> usize {
    insts.iter().map(inst_weight).sum()
}

/// [`weight`] of all stages.
pub(crate) fn stages_weight(stages: &[Stage]) -> usize {
    stages.iter().map(|s| weight(&s.insts) + s.effects.len()).sum()
}

fn inst_weight(inst: &Inst) -> usize {
    match inst {
        Inst::Load { indirect, guards, .. } => 1 + 8 * indirect.len() + 8 * guards.len(),
        Inst::Coord(_) | Inst::Param(..) | Inst::Row(_) | Inst::Const(..) => 0,
        Inst::Unary(op, _) => match op {
            UnOp::Neg | UnOp::Abs | UnOp::Floor | UnOp::Ceil | UnOp::Round => 1,
            UnOp::Not | UnOp::IsFinite | UnOp::Sign => 2,
            UnOp::Recip | UnOp::Sqrt | UnOp::Rsqrt => 4,
            UnOp::Exp | UnOp::Sigmoid => 20,
            UnOp::Log | UnOp::Tanh | UnOp::Erf => 30,
            UnOp::Sin | UnOp::Cos => 40,
        },
        Inst::Binary(op, ..) => match op {
            BinOp::Pow => 200,
            BinOp::Mod | BinOp::Div | BinOp::Min | BinOp::Max => 4,
            BinOp::Add | BinOp::Sub | BinOp::Mul | BinOp::Lt | BinOp::Le => 1,
            BinOp::Eq | BinOp::Ne | BinOp::And | BinOp::Or => 1,
        },
        Inst::Select(..) => 1,
        Inst::Cast(..) => 4,
        Inst::Random { .. } => 200,
    }
}
