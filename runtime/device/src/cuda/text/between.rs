//! A mask followed with intervals: whether a tile of scores is seen always, never, or here and there.

use std::fmt::Write as _;

use cs336_compiler::scalar::{BinOp, DType, Inst, UnOp};

use super::GROWS;
use super::attention::Attention;
use super::scalar::float;

/// Nothing is known.
const UNKNOWN: &str = "Between{-INF, INF}";

/// Writes `classify(b, i0, i1, j0, j1)`: 0 if no score of queries `i0..=i1` and keys `j0..=j1` is seen, 2 if all are, else 1.
pub(super) fn classify(out: &mut String, a: &Attention<'_>) {
    let k = a.k;
    let nb = k.batch.len();
    writeln!(out, "  FN int classify(int b, int i0, int i1, int j0, int j1) const {{")
        .expect(GROWS);
    writeln!(out, "    u32 qb = b, q0 = i0, q1 = i1;").expect(GROWS);
    super::coordinates(out, "    ", 0, &k.batch, 1, "qb");
    // Along an axis behind others, a tile within one row goes from its first to its last query; else it may be anywhere.
    for (n, extent) in k.queries.iter().enumerate().rev() {
        let c = nb + n;
        if n == 0 {
            writeln!(out, "    const int l{c} = q0, u{c} = q1;").expect(GROWS);
            continue;
        }
        writeln!(out, "    const bool one{c} = q0 / {extent} == q1 / {extent};").expect(GROWS);
        writeln!(
            out,
            "    const int l{c} = one{c} ? q0 % {extent} : 0, u{c} = one{c} ? q1 % {extent} : {};",
            extent - 1
        )
        .expect(GROWS);
        writeln!(out, "    q0 /= {extent}; q1 /= {extent};").expect(GROWS);
    }
    for (n, inst) in k.mask.insts.iter().enumerate() {
        let value = one(a, inst);
        writeln!(out, "    const Between m{n} = {value};").expect(GROWS);
    }
    let result = k.mask.result;
    writeln!(out, "    return surely(m{result}) ? 2 : never(m{result}) ? 0 : 1;\n  }}")
        .expect(GROWS);
}

fn one(a: &Attention<'_>, inst: &Inst) -> String {
    let k = a.k;
    let (nb, key) = (k.batch.len(), a.key_axis());
    let ends = |low: &str, high: &str| format!("Between{{(float){low}, (float){high}}}");
    let at = |r: &u32| format!("m{r}");
    match inst {
        Inst::Arg(_) | Inst::Random(..) => UNKNOWN.to_owned(),
        Inst::Const(l) => {
            let x = float(l.get() as f32);
            ends(&x, &x)
        }
        Inst::Pos(p) => match k.pos.get(*p as usize).map(|axis| *axis as usize) {
            Some(axis) if axis < nb => ends(&format!("c{axis}"), &format!("c{axis}")),
            Some(axis) if axis < key => ends(&format!("l{axis}"), &format!("u{axis}")),
            Some(axis) if axis == key => ends("j0", "j1"),
            Some(_) | None => UNKNOWN.to_owned(),
        },
        Inst::Runtime(r) => match k.runtime.iter().position(|x| x == r) {
            Some(p) => ends(&format!("(int)table[p{p}]"), &format!("(int)table[p{p}]")),
            None => UNKNOWN.to_owned(),
        },
        Inst::Unary(op, x) => unary(*op, &at(x)),
        Inst::Binary(op, x, y) => binary(*op, &at(x), &at(y)),
        Inst::Select(c, x, y) => format!("between_select({}, {}, {})", at(c), at(x), at(y)),
        Inst::Cast(dtype, x) => match dtype {
            DType::F32 => at(x),
            DType::Bool => format!("between_not(between_not({}))", at(x)),
            DType::I32 => each("truncf", &at(x)),
            DType::Bf16 | DType::F16 => UNKNOWN.to_owned(),
        },
    }
}

/// A function that never falls, of both ends.
fn each(function: &str, x: &str) -> String {
    format!("Between{{{function}({x}.lo), {function}({x}.hi)}}")
}

fn unary(op: UnOp, x: &str) -> String {
    match op {
        UnOp::Neg => format!("between_neg({x})"),
        UnOp::Abs => format!("between_abs({x})"),
        UnOp::Not => format!("between_not({x})"),
        UnOp::Floor => each("floorf", x),
        UnOp::Ceil => each("ceilf", x),
        UnOp::Round => each("rintf", x),
        UnOp::IsFinite => "Between{0.0f, 1.0f}".to_owned(),
        UnOp::Recip | UnOp::Exp | UnOp::Log | UnOp::Sqrt | UnOp::Rsqrt | UnOp::Sin => {
            UNKNOWN.to_owned()
        }
        UnOp::Cos | UnOp::Tanh | UnOp::Erf | UnOp::Sigmoid | UnOp::Sign => UNKNOWN.to_owned(),
    }
}

fn binary(op: BinOp, x: &str, y: &str) -> String {
    let name = match op {
        BinOp::Add => "add",
        BinOp::Sub => "sub",
        BinOp::Mul => "mul",
        BinOp::Div => "div",
        BinOp::Min => "min",
        BinOp::Max => "max",
        BinOp::Lt => "lt",
        BinOp::Le => "le",
        BinOp::Eq => "eq",
        BinOp::Ne => "ne",
        BinOp::And => "and",
        BinOp::Or => "or",
        BinOp::Pow | BinOp::Mod => return UNKNOWN.to_owned(),
    };
    format!("between_{name}({x}, {y})")
}
