//! The instructions of a fused body as C++ statements: one value each, of three kinds.

use std::fmt::Write as _;

use cs336_compiler::kernel::{Guard, Indirect, Inst, Operand};
use cs336_compiler::scalar::{BinOp, DType, Dist, Literal, ReduceOp, UnOp};

use super::{GROWS, offset};

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `float`
    F,
    /// `int`
    I,
    /// `bool`
    M,
}

impl Kind {
    /// What loads of a stored type yield.
    pub(super) fn of(dtype: DType) -> Self {
        match dtype {
            DType::F32 | DType::Bf16 | DType::F16 => Self::F,
            DType::I32 | DType::Bool => Self::I,
        }
    }

    /// The type of a variable.
    pub(super) fn ty(self) -> &'static str {
        match self {
            Self::F => "float",
            Self::I => "int",
            Self::M => "bool",
        }
    }

    /// As it is reduced: truth values are counted.
    pub(super) fn reduced(self) -> Self {
        match self {
            Self::F => Self::F,
            Self::I | Self::M => Self::I,
        }
    }
}

/// A C++ expression without side effects, a name or a literal.
#[derive(Debug, Clone)]
pub(super) struct Val {
    pub(super) text: String,
    pub(super) kind: Kind,
}

impl Val {
    pub(super) fn to(&self, kind: Kind) -> String {
        let t = &self.text;
        match (self.kind, kind) {
            (Kind::F, Kind::F) | (Kind::I, Kind::I) | (Kind::M, Kind::M) => t.clone(),
            (Kind::I, Kind::F) => format!("(float){t}"),
            (Kind::M, Kind::F) => format!("({t} ? 1.0f : 0.0f)"),
            (Kind::F | Kind::M, Kind::I) => format!("(int){t}"),
            (Kind::F, Kind::M) => format!("({t} != 0.0f)"),
            (Kind::I, Kind::M) => format!("({t} != 0)"),
        }
    }

    /// As an operand of the type takes it.
    pub(super) fn stored(&self, dtype: DType) -> String {
        match dtype {
            DType::Bool => self.to(Kind::M),
            DType::F32 | DType::Bf16 | DType::F16 => self.to(Kind::F),
            DType::I32 => self.to(Kind::I),
        }
    }
}

/// Where a body stands. Coordinates are variables `c0, c1, ..`, row results `r0, r1, ..`, addresses `o0, o1, ..`.
pub(super) struct Place<'p> {
    /// The views.
    pub(super) operands: &'p [Operand],
    /// Kinds of the row results so far.
    pub(super) rows: &'p [Option<Kind>],
    /// The element of an operand that has been loaded before, if it has.
    pub(super) loaded: &'p dyn Fn(u32) -> Option<String>,
    /// What is put before each line.
    pub(super) indent: &'p str,
}

/// Writes the instructions; gives their values.
pub(super) fn emit(out: &mut String, place: &Place<'_>, insts: &[Inst]) -> Vec<Val> {
    let mut values: Vec<Val> = Vec::with_capacity(insts.len());
    for (i, inst) in insts.iter().enumerate() {
        let (kind, text) = one(place, inst, &values);
        let name = format!("v{i}");
        let plain = matches!(inst, Inst::Const(..) | Inst::Coord(_) | Inst::Row(_));
        if plain {
            values.push(Val { text, kind });
            continue;
        }
        writeln!(out, "{}const {} {name} = {text};", place.indent, kind.ty()).expect(GROWS);
        values.push(Val { text: name, kind });
    }
    values
}

fn one(place: &Place<'_>, inst: &Inst, values: &[Val]) -> (Kind, String) {
    let at = |r: &u32| &values[*r as usize];
    match inst {
        Inst::Load { operand, indirect, guards, outside } => {
            let dtype = place.operands[*operand as usize].dtype;
            (Kind::of(dtype), load(place, *operand, indirect, guards, *outside, values))
        }
        Inst::Coord(axis) => (Kind::I, format!("c{axis}")),
        Inst::Param(i, DType::F32) => (Kind::F, format!("__uint_as_float(table[p{i}])")),
        Inst::Param(i, _) => (Kind::I, format!("(int)table[p{i}]")),
        Inst::Row(i) => {
            (place.rows.get(*i as usize).copied().flatten().unwrap_or(Kind::F), format!("r{i}"))
        }
        Inst::Const(l, dtype) => (Kind::of(*dtype), constant(*l, *dtype)),
        Inst::Unary(op, a) => unary(*op, at(a)),
        Inst::Binary(op, a, b) => binary(*op, at(a), at(b)),
        Inst::Select(c, a, b) => {
            let kind = common(at(a), at(b));
            let (a, b) = (at(a).to(kind), at(b).to(kind));
            (kind, format!("{} ? {a} : {b}", at(c).to(Kind::M)))
        }
        Inst::Cast(dtype, a) => match dtype {
            DType::F32 => (Kind::F, at(a).to(Kind::F)),
            DType::Bf16 => (Kind::F, format!("as_bf16({})", at(a).to(Kind::F))),
            DType::F16 => (Kind::F, format!("as_f16({})", at(a).to(Kind::F))),
            DType::I32 => (Kind::I, at(a).to(Kind::I)),
            DType::Bool => (Kind::M, at(a).to(Kind::M)),
        },
        Inst::Random { dist, stream, counters, seed, step } => {
            let [a, b, c] = counters.map(|c| format!("(u32)({})", at(&c).to(Kind::I)));
            let normal = *dist == Dist::Normal;
            let [low, high] = seed.map(|p| format!("table[p{p}]"));
            let text = format!(
                "draw({normal}, (u64){low} | (u64){high} << 32, {stream}ull, table[p{step}], {a}, {b}, {c})"
            );
            (Kind::F, text)
        }
    }
}

/// A literal as f32, or as an integer.
pub(super) fn constant(literal: Literal, dtype: DType) -> String {
    match dtype {
        DType::F32 | DType::Bf16 | DType::F16 => float(literal.get() as f32),
        DType::I32 => int(literal.get() as i32),
        DType::Bool => i32::from(literal.get() != 0.0).to_string(),
    }
}

/// An f32 literal, exact.
pub(super) fn float(x: f32) -> String {
    if x.is_nan() {
        "NAN".to_owned()
    } else if x.is_infinite() {
        if x > 0.0 { "INF".to_owned() } else { "(-INF)".to_owned() }
    } else if x < 0.0 || (x == 0.0 && x.is_sign_negative()) {
        format!("({x:?}f)")
    } else {
        format!("{x:?}f")
    }
}

fn int(x: i32) -> String {
    match x {
        i32::MIN => "(-2147483647 - 1)".to_owned(),
        x if x < 0 => format!("({x})"),
        x => x.to_string(),
    }
}

/// The wider kind: float, else int, else bool.
fn common(a: &Val, b: &Val) -> Kind {
    match (a.kind, b.kind) {
        (Kind::F, _) | (_, Kind::F) => Kind::F,
        (Kind::I, _) | (_, Kind::I) => Kind::I,
        (Kind::M, Kind::M) => Kind::M,
    }
}

fn unary(op: UnOp, a: &Val) -> (Kind, String) {
    let number = a.kind.reduced();
    let (x, f) = (a.to(number), a.to(Kind::F));
    let call = |name: &str| (Kind::F, format!("{name}({f})"));
    match op {
        UnOp::Neg => (number, format!("-{x}")),
        UnOp::Abs if number == Kind::I => (number, format!("abs({x})")),
        UnOp::Abs => call("fabsf"),
        UnOp::Sign => (number, format!("sign({x})")),
        UnOp::Floor | UnOp::Ceil | UnOp::Round if number == Kind::I => (number, x),
        UnOp::Floor => call("floorf"),
        UnOp::Ceil => call("ceilf"),
        UnOp::Round => call("rintf"),
        UnOp::Recip => (Kind::F, format!("1.0f / {f}")),
        UnOp::Exp => call("expf"),
        UnOp::Log => call("logf"),
        UnOp::Sqrt => call("sqrtf"),
        UnOp::Rsqrt => (Kind::F, format!("1.0f / sqrtf({f})")),
        UnOp::Sin => call("sinf"),
        UnOp::Cos => call("cosf"),
        UnOp::Tanh => call("tanhf"),
        UnOp::Erf => call("erff"),
        UnOp::Sigmoid => call("sigmoid"),
        UnOp::Not => (Kind::M, format!("!{}", a.to(Kind::M))),
        UnOp::IsFinite => (Kind::M, format!("fabsf({f}) < INF")),
    }
}

fn binary(op: BinOp, a: &Val, b: &Val) -> (Kind, String) {
    let kind = common(a, b).reduced();
    let (x, y) = (a.to(kind), b.to(kind));
    let infix = |sign: &str| format!("{x} {sign} {y}");
    let (f, g) = (a.to(Kind::F), b.to(Kind::F));
    match op {
        BinOp::Add => (kind, infix("+")),
        BinOp::Sub => (kind, infix("-")),
        BinOp::Mul => (kind, infix("*")),
        BinOp::Div => (Kind::F, format!("{f} / {g}")),
        BinOp::Pow => (Kind::F, format!("powf({f}, {g})")),
        BinOp::Min => (kind, format!("least({x}, {y})")),
        BinOp::Max => (kind, format!("most({x}, {y})")),
        BinOp::Mod => (kind, format!("modulo({x}, {y})")),
        BinOp::Lt => (Kind::M, infix("<")),
        BinOp::Le => (Kind::M, infix("<=")),
        BinOp::Eq => (Kind::M, infix("==")),
        BinOp::Ne => (Kind::M, infix("!=")),
        BinOp::And => (Kind::M, format!("{} && {}", a.to(Kind::M), b.to(Kind::M))),
        BinOp::Or => (Kind::M, format!("{} || {}", a.to(Kind::M), b.to(Kind::M))),
    }
}

fn load(
    place: &Place<'_>,
    operand: u32,
    indirect: &[Indirect],
    guards: &[Guard],
    outside: Literal,
    values: &[Val],
) -> String {
    let o = &place.operands[operand as usize];
    if indirect.is_empty()
        && guards.is_empty()
        && let Some(element) = (place.loaded)(operand)
    {
        return format!("get({element})");
    }
    let mut index = offset(&o.strides, 0);
    let mut conditions: Vec<String> = Vec::new();
    for i in indirect {
        let v = values[i.index as usize].to(Kind::I);
        conditions.push(format!("(u32){v} < {}u", i.limit.clamp(0, i64::from(u32::MAX))));
        index = format!("{index} + (ix){} * {v}", i.stride);
    }
    for g in guards {
        let terms: Vec<String> =
            g.terms.iter().map(|(axis, c)| format!(" + (ix){c} * c{axis}")).collect();
        conditions.push(format!("(ux)({}{}) < (ux){}", g.offset, terms.concat(), g.limit));
    }
    let element = format!("get(o{operand}[{index}])");
    if conditions.is_empty() {
        return element;
    }
    format!("{} ? {element} : {}", conditions.join(" && "), constant(outside, o.dtype))
}

/// The name of a reduction in the prelude.
pub(super) fn reduction(op: ReduceOp) -> &'static str {
    match op {
        ReduceOp::Sum => "Sum",
        ReduceOp::Prod => "Prod",
        ReduceOp::Max => "Max",
        ReduceOp::Min => "Min",
    }
}

/// The value of an empty reduction.
pub(super) fn identity(op: ReduceOp, kind: Kind) -> String {
    match (op, kind) {
        (_, Kind::F) => float(op.identity() as f32),
        (ReduceOp::Sum, Kind::I | Kind::M) => "0".to_owned(),
        (ReduceOp::Prod, Kind::I | Kind::M) => "1".to_owned(),
        (ReduceOp::Max, Kind::I | Kind::M) => int(i32::MIN),
        (ReduceOp::Min, Kind::I | Kind::M) => int(i32::MAX),
    }
}
