//! Fused loops: one thread for a few neighbouring columns where nothing is reduced; else a warp or a block for a row, which keeps what it reads
//! twice in registers.

use std::fmt::Write as _;

use cs336_compiler::kernel::{Access, Effect, Inst, Loop, Operand, Stage};

use super::scalar::{Kind, Place, Val, emit, identity, reduction};
use super::{GROWS, Pass, Text, blocks, coordinates, far, head, offset, offsets, stored};

/// Threads of a block that does no reductions, or rows by warps.
const BLOCK: usize = 256;
/// 32-bit registers per thread for values that a row reads again.
const KEPT: usize = 64;

/// See the module.
pub(super) fn text(k: &Loop, aligned: &[usize]) -> Text {
    let l = Layout::new(k, aligned);
    let mut out = String::new();
    let operands: Vec<&Operand> = k.operands.iter().collect();
    offsets(&mut out, far(&operands, &l.extents, indirect(&k.stages)));
    if l.in_rows { rows(&mut out, &l) } else { map(&mut out, &l) }
}

/// How far indices reach.
fn indirect(stages: &[Stage]) -> i64 {
    let insts = stages.iter().flat_map(|s| &s.insts);
    insts.map(reach).fold(0, i64::saturating_add)
}

/// How far the indices of a load reach, in elements.
pub(super) fn reach(inst: &Inst) -> i64 {
    match inst {
        Inst::Load { indirect, .. } => indirect
            .iter()
            .map(|i| i.stride.abs().saturating_mul(i.limit))
            .fold(0, i64::saturating_add),
        Inst::Coord(_) | Inst::Param(..) | Inst::Row(_) | Inst::Const(..) => 0,
        Inst::Unary(..) | Inst::Binary(..) | Inst::Select(..) | Inst::Cast(..) => 0,
        Inst::Random { .. } => 0,
    }
}

/// How many neighbours along axis `inner` a thread does, and which operands it accesses in one go.
pub(super) fn width(
    operands: &[Operand],
    aligned: &[usize],
    extents: &[usize],
    inner: Option<usize>,
    most: usize,
) -> (usize, Vec<bool>) {
    let Some(inner) = inner else { return (1, vec![false; operands.len()]) };
    let narrow = operands.iter().any(|o| o.dtype.bytes() < 4 && o.strides[inner] == 1);
    let wish = if narrow { 8 } else { 4 };
    for by in [8, 4, 2] {
        if by > wish || by > most || !extents[inner].is_multiple_of(by) {
            continue;
        }
        let whole: Vec<bool> = (operands.iter().zip(aligned))
            .map(|(o, aligned)| {
                let bytes = (by * o.dtype.bytes()).min(16);
                let others = o.strides.iter().enumerate().filter(|(axis, _)| *axis != inner);
                let steps =
                    others.clone().all(|(_, s)| (s * o.dtype.bytes() as i64) % bytes as i64 == 0);
                o.strides[inner] == 1 && steps && aligned.is_multiple_of(bytes)
            })
            .collect();
        if whole.iter().any(|w| *w) {
            return (by, whole);
        }
    }
    (1, vec![false; operands.len()])
}

struct Layout<'k> {
    k: &'k Loop,
    extents: Vec<usize>,
    /// Number of the fastest column axis.
    inner: Option<usize>,
    /// Columns per thread and access.
    by: usize,
    /// Operands that are accessed `by` at a time.
    whole: Vec<bool>,
    /// Whether rows are reduced or written once per row.
    in_rows: bool,
}

impl<'k> Layout<'k> {
    fn new(k: &'k Loop, aligned: &[usize]) -> Self {
        let extents = [&k.rows[..], &k.cols].concat();
        let inner = (!k.cols.is_empty()).then(|| extents.len() - 1);
        let (by, whole) = width(&k.operands, aligned, &extents, inner, 8);
        let reduces = |s: &Stage| s.effects.iter().any(|e| matches!(e, Effect::Reduce { .. }));
        let stores = |s: &Stage| s.effects.iter().any(|e| matches!(e, Effect::Store { .. }));
        let in_rows = k.stages.iter().any(|s| if s.per_row { stores(s) } else { reduces(s) });
        Self { k, extents, inner, by, whole, in_rows }
    }

    /// Columns, in steps of `by`.
    fn steps(&self) -> usize {
        self.k.cols.iter().product::<usize>() / self.by
    }
}

/// One thread for `by` columns; what is computed once per row is computed by each.
fn map(out: &mut String, l: &Layout<'_>) -> Text {
    let total = l.extents.iter().product::<usize>() / l.by;
    let operands: Vec<&Operand> = l.k.operands.iter().collect();
    head(out, "run", BLOCK as u32, &operands, l.k.params.len());
    let wide = if total > u32::MAX as usize / 2 { "u64" } else { "u32" };
    writeln!(out, "  {wide} q = ({wide})blockIdx.x * {BLOCK} + threadIdx.x;").expect(GROWS);
    writeln!(out, "  if (q >= {total}) return;").expect(GROWS);
    let flat = if l.inner.is_some() { l.by } else { 1 };
    coordinates(out, "  ", 0, &l.extents, flat, "q");
    let mut kinds = vec![None; l.k.row_values as usize];
    for stage in &l.k.stages {
        if stage.per_row {
            per_row(out, l, stage, &mut kinds, "");
        } else {
            out.push_str("  {\n");
            columns(out, l, stage, &kinds, &mut Vec::new(), &Kept::default(), "    ");
            out.push_str("  }\n");
        }
    }
    out.push_str("}\n");
    let pass = Pass {
        entry: "run".into(),
        grid: [blocks(total, BLOCK), 1, 1],
        block: BLOCK as u32,
        shared: 0,
    };
    Text { source: std::mem::take(out), passes: vec![pass], scratch: 0 }
}

/// What a row keeps in registers: operands that several stages load.
#[derive(Default)]
struct Kept {
    operands: Vec<u32>,
}

/// T threads for a row.
fn rows(out: &mut String, l: &Layout<'_>) -> Text {
    let (steps, count) = (l.steps(), l.k.rows.iter().product::<usize>());
    // A warp where a row is short, else so many threads that each has about four steps; all of a block where rows are few.
    let threads = if steps <= 128 && count >= 64 {
        32
    } else {
        let wish = if count < 132 { steps } else { steps.div_ceil(4) };
        wish.next_power_of_two().clamp(32, 1024)
    };
    // Warps of several rows may share a block; more than a warp meets at the block's barriers.
    let per_block = if threads == 32 { BLOCK / threads } else { 1 };
    let block = threads * per_block;
    let rounds = steps.div_ceil(threads);
    let kept = kept(l, rounds, if threads >= 1024 { KEPT / 2 } else { KEPT });

    let operands: Vec<&Operand> = l.k.operands.iter().collect();
    head(out, "run", block as u32, &operands, l.k.params.len());
    if threads > 32 {
        writeln!(out, "  __shared__ float shared[32];\n  __shared__ int counts[32];").expect(GROWS);
    } else {
        writeln!(out, "  float* shared = nullptr; int* counts = nullptr;").expect(GROWS);
    }
    writeln!(out, "  const int lane = threadIdx.x % {threads};").expect(GROWS);
    writeln!(out, "  u32 row = blockIdx.x * {per_block} + threadIdx.x / {threads};").expect(GROWS);
    if per_block > 1 {
        writeln!(out, "  if (row >= {count}) return;").expect(GROWS);
    }
    coordinates(out, "  ", 0, &l.k.rows, 1, "row");
    for o in &kept.operands {
        let t = stored(l.k.operands[*o as usize].dtype);
        writeln!(out, "  alignas(16) {t} x{o}[{rounds}][{}];", l.by).expect(GROWS);
    }
    let mut kinds: Vec<Option<Kind>> = vec![None; l.k.row_values as usize];
    let mut loaded: Vec<u32> = Vec::new();
    let sync = if threads > 32 { "__syncthreads();" } else { "__syncwarp();" };
    for stage in &l.k.stages {
        if stage.per_row {
            per_row(out, l, stage, &mut kinds, sync);
            continue;
        }
        let mut body = String::new();
        let results = columns(&mut body, l, stage, &kinds, &mut loaded, &kept, "      ");
        for (op, into, kind) in &results {
            let start = identity(*op, *kind);
            writeln!(out, "  {} r{into} = {start};", kind.ty()).expect(GROWS);
        }
        let unroll = if kept.operands.is_empty() { " 4" } else { "" };
        writeln!(out, "#pragma unroll{unroll}").expect(GROWS);
        writeln!(out, "  for (int it = 0; it < {rounds}; it++) {{").expect(GROWS);
        writeln!(out, "    u32 q = it * {threads} + lane;").expect(GROWS);
        let whole = steps.is_multiple_of(threads);
        writeln!(out, "    {}{{", if whole { String::new() } else { format!("if (q < {steps}) ") })
            .expect(GROWS);
        coordinates(out, "      ", l.k.rows.len(), &l.k.cols, l.by, "q");
        out.push_str(&body);
        out.push_str("    }\n  }\n");
        for (op, into, kind) in &results {
            let (op, shared) = (reduction(*op), if *kind == Kind::F { "shared" } else { "counts" });
            writeln!(out, "  r{into} = together<{threads}, {op}>(r{into}, {shared});")
                .expect(GROWS);
            kinds[*into as usize] = Some(*kind);
        }
    }
    out.push_str("}\n");
    let pass = Pass {
        entry: "run".into(),
        grid: [blocks(count, per_block), 1, 1],
        block: block as u32,
        shared: 0,
    };
    Text { source: std::mem::take(out), passes: vec![pass], scratch: 0 }
}

/// Operands that several column stages load plainly, as long as there are registers for them.
fn kept(l: &Layout<'_>, rounds: usize, registers: usize) -> Kept {
    let (mut operands, mut used) = (Vec::new(), 0);
    for (i, o) in l.k.operands.iter().enumerate() {
        let stages = l.k.stages.iter().filter(|s| {
            !s.per_row && s.insts.iter().any(|inst| plain_load(inst) == Some(i as u32))
        });
        let moves = o.strides[l.k.rows.len()..].iter().any(|s| *s != 0);
        let cost = rounds * (l.by * o.dtype.bytes()).div_ceil(4);
        if moves && stages.count() > 1 && used + cost <= registers {
            operands.push(i as u32);
            used += cost;
        }
    }
    Kept { operands }
}

/// The operand of a load without guards and indices.
pub(super) fn plain_load(inst: &Inst) -> Option<u32> {
    match inst {
        Inst::Load { operand, indirect, guards, .. } => {
            (indirect.is_empty() && guards.is_empty()).then_some(*operand)
        }
        Inst::Coord(_) | Inst::Param(..) | Inst::Row(_) | Inst::Const(..) => None,
        Inst::Unary(..) | Inst::Binary(..) | Inst::Select(..) | Inst::Cast(..) => None,
        Inst::Random { .. } => None,
    }
}

/// A stage that runs once per row: all its threads compute it, the first one writes.
fn per_row(
    out: &mut String,
    l: &Layout<'_>,
    stage: &Stage,
    kinds: &mut [Option<Kind>],
    sync: &str,
) {
    let mut body = String::new();
    let place = Place { operands: &l.k.operands, rows: kinds, loaded: &|_| None, indent: "    " };
    let values = emit(&mut body, &place, &stage.insts);
    let rows = l.k.rows.len();
    let mut stores = String::new();
    let mut set = Vec::new();
    for effect in &stage.effects {
        match effect {
            Effect::Reduce { value, into, .. } => {
                let v = &values[*value as usize];
                let kind = v.kind.reduced();
                writeln!(out, "  {} r{into};", kind.ty()).expect(GROWS);
                writeln!(body, "    r{into} = {};", v.to(kind)).expect(GROWS);
                set.push((*into as usize, kind));
            }
            Effect::Store { operand, value } => {
                let o = &l.k.operands[*operand as usize];
                let at = offset(&o.strides[..rows], 0);
                put(
                    &mut stores,
                    "      ",
                    o,
                    &format!("o{operand}[{at}]"),
                    &values[*value as usize],
                );
            }
        }
    }
    out.push_str("  {\n");
    out.push_str(&body);
    if !stores.is_empty() {
        // What others of the row still read may be replaced here.
        writeln!(out, "    {sync}\n    if (lane == 0) {{\n{stores}    }}").expect(GROWS);
    }
    out.push_str("  }\n");
    for (into, kind) in set {
        kinds[into] = Some(kind);
    }
}

/// Writes a value, or adds it.
fn put(out: &mut String, indent: &str, o: &Operand, element: &str, v: &Val) {
    let v = v.stored(o.dtype);
    let v = if o.access == Access::Accumulate { format!("get({element}) + {v}") } else { v };
    writeln!(out, "{indent}put({element}, {v});").expect(GROWS);
}

type Results = Vec<(cs336_compiler::scalar::ReduceOp, u32, Kind)>;

/// The work of one stage on `by` columns that begin at the coordinates; its reductions go into variables `r`.
fn columns(
    out: &mut String,
    l: &Layout<'_>,
    stage: &Stage,
    kinds: &[Option<Kind>],
    loaded: &mut Vec<u32>,
    kept: &Kept,
    indent: &str,
) -> Results {
    let ops = &l.k.operands;
    let is_kept = |o: u32| kept.operands.contains(&o);
    let ahead = |o: u32| l.by > 1 && l.whole[o as usize];
    let mut here: Vec<u32> = stage.insts.iter().filter_map(plain_load).collect();
    here.sort_unstable();
    here.dedup();
    for o in here.iter().copied().filter(|o| ahead(*o) || is_kept(*o)) {
        let operand = &ops[o as usize];
        let (t, at) = (stored(operand.dtype), offset(&operand.strides, 0));
        let to = if is_kept(o) { format!("x{o}[it]") } else { format!("x{o}") };
        if is_kept(o) && loaded.contains(&o) {
            continue;
        }
        if is_kept(o) {
            loaded.push(o);
        } else {
            writeln!(out, "{indent}alignas(16) {t} {to}[{}];", l.by).expect(GROWS);
        }
        if ahead(o) {
            writeln!(out, "{indent}load<{}>({to}, o{o} + ({at}));", l.by).expect(GROWS);
        } else {
            let step = l.inner.map_or(0, |axis| operand.strides[axis]);
            writeln!(out, "#pragma unroll").expect(GROWS);
            writeln!(
                out,
                "{indent}for (int i = 0; i < {}; i++) {to}[i] = o{o}[{at} + (ix){step} * i];",
                l.by
            )
            .expect(GROWS);
        }
    }
    let stores: Vec<(u32, u32)> = (stage.effects.iter())
        .filter_map(|e| match e {
            Effect::Store { operand, value } => Some((*operand, *value)),
            Effect::Reduce { .. } => None,
        })
        .collect();
    for (o, _) in stores.iter().filter(|(o, _)| ahead(*o)) {
        let operand = &ops[*o as usize];
        let (t, at) = (stored(operand.dtype), offset(&operand.strides, 0));
        writeln!(out, "{indent}alignas(16) {t} y{o}[{}];", l.by).expect(GROWS);
        if operand.access == Access::Accumulate {
            writeln!(out, "{indent}load<{}>(y{o}, o{o} + ({at}));", l.by).expect(GROWS);
        }
    }

    let deeper = format!("{indent}  ");
    let element = |o: u32| {
        if is_kept(o) { Some(format!("x{o}[it][l]")) } else { ahead(o).then(|| format!("x{o}[l]")) }
    };
    match l.inner {
        Some(axis) if l.by > 1 => {
            writeln!(out, "{indent}const int first = c{axis};\n#pragma unroll").expect(GROWS);
            writeln!(out, "{indent}for (int l = 0; l < {}; l++) {{", l.by).expect(GROWS);
            writeln!(out, "{deeper}const int c{axis} = first + l;").expect(GROWS);
        }
        _ => writeln!(out, "{indent}{{\n{deeper}const int l = 0;").expect(GROWS),
    }
    let place = Place { operands: ops, rows: kinds, loaded: &element, indent: &deeper };
    let values = emit(out, &place, &stage.insts);
    let mut results = Vec::new();
    for effect in &stage.effects {
        match effect {
            Effect::Store { operand, value } => {
                let o = &ops[*operand as usize];
                let to = if ahead(*operand) {
                    format!("y{operand}[l]")
                } else {
                    format!("o{operand}[{}]", offset(&o.strides, 0))
                };
                put(out, &deeper, o, &to, &values[*value as usize]);
            }
            Effect::Reduce { op, value, into } => {
                let v = &values[*value as usize];
                let kind = v.kind.reduced();
                let (name, v) = (reduction(*op), v.to(kind));
                writeln!(out, "{deeper}r{into} = {name}::of(r{into}, {v});").expect(GROWS);
                results.push((*op, *into, kind));
            }
        }
    }
    writeln!(out, "{indent}}}").expect(GROWS);
    for (o, _) in stores.iter().filter(|(o, _)| ahead(*o)) {
        let at = offset(&ops[*o as usize].strides, 0);
        let first = l.inner.map_or(String::new(), |axis| format!("const int c{axis} = first; "));
        writeln!(out, "{indent}{{ {first}store<{}>(o{o} + ({at}), y{o}); }}", l.by).expect(GROWS);
    }
    results
}
