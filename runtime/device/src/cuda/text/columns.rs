//! Sums across rows: blocks take ranges of rows and all columns in reach, partial results are combined in a second pass.
//!
//! Into how many ranges the rows are cut follows from the kernel's shape, so that the order of the sums does too.

use std::fmt::Write as _;

use cs336_compiler::kernel::{Access, ColReduce, Operand};
use cs336_compiler::scalar::ReduceOp;

use super::loops::{plain_load, reach, width};
use super::scalar::{Kind, Place, emit, identity, reduction};
use super::{GROWS, Pass, Text, blocks, coordinates, far, head, offset, offsets, stored};

/// About so many blocks keep a large GPU busy; a constant, so that the order of sums is the same on every machine.
const BUSY: usize = 1056;
/// Rows that a block of columns takes at a time.
const LINES: usize = 8;

/// See the module.
pub(super) fn text(k: &ColReduce, aligned: &[usize]) -> Text {
    let cols: usize = k.cols.iter().product();
    let outer: usize = k.outer.iter().product();
    // A grid has at most 65,535 blocks along its second axis.
    if cols >= 32 && outer <= 65_535 { wide(k, aligned, cols) } else { narrow(k, aligned, cols) }
}

struct Work<'k> {
    k: &'k ColReduce,
    /// Kinds of the results.
    kinds: Vec<Kind>,
    by: usize,
    whole: Vec<bool>,
    /// The axis along which a thread takes `by` neighbours.
    inner: Option<usize>,
}

impl<'k> Work<'k> {
    fn new(k: &'k ColReduce, aligned: &[usize], inner: Option<usize>, most: usize) -> Self {
        let extents = [&k.outer[..], &k.reduced, &k.cols].concat();
        // Results are written one by one.
        let read: Vec<Operand> = k.operands.clone();
        let (by, whole) = width(&read, aligned, &extents, inner, most);
        let whole =
            (whole.iter().zip(&k.operands)).map(|(w, o)| *w && o.access == Access::Read).collect();
        let place = Place { operands: &k.operands, rows: &[], loaded: &|_| None, indent: "" };
        let values = emit(&mut String::new(), &place, &k.insts);
        let kinds = k.results.iter().map(|(_, v, _)| values[*v as usize].kind.reduced()).collect();
        Self { k, kinds, by, whole, inner }
    }

    fn begin(&self, out: &mut String) {
        let operands: Vec<&Operand> = self.k.operands.iter().collect();
        let extents = [&self.k.outer[..], &self.k.reduced, &self.k.cols].concat();
        let indirect = self.k.insts.iter().map(reach).fold(0, i64::saturating_add);
        offsets(out, far(&operands, &extents, indirect));
    }

    fn head(&self, out: &mut String, entry: &str, block: u32) {
        let operands: Vec<&Operand> = self.k.operands.iter().collect();
        head(out, entry, block, &operands, self.k.params.len());
    }

    /// Takes in the elements at the coordinates; into `a{n}[l]`, or `a{n}` alone if lanes are summed together.
    fn elements(&self, out: &mut String, indent: &str, lanes_apart: bool) {
        let ops = &self.k.operands;
        let ahead = |o: u32| self.by > 1 && self.whole[o as usize];
        let mut loads: Vec<u32> = self.k.insts.iter().filter_map(plain_load).collect();
        loads.sort_unstable();
        loads.dedup();
        for o in loads.into_iter().filter(|o| ahead(*o)) {
            let operand = &ops[o as usize];
            let (t, at) = (stored(operand.dtype), offset(&operand.strides, 0));
            writeln!(
                out,
                "{indent}alignas(16) {t} x{o}[{0}]; load<{0}>(x{o}, o{o} + ({at}));",
                self.by
            )
            .expect(GROWS);
        }
        let deeper = format!("{indent}  ");
        match self.inner {
            Some(axis) if self.by > 1 => {
                writeln!(out, "{indent}const int first = c{axis};\n#pragma unroll").expect(GROWS);
                writeln!(out, "{indent}for (int l = 0; l < {}; l++) {{", self.by).expect(GROWS);
                writeln!(out, "{deeper}const int c{axis} = first + l;").expect(GROWS);
            }
            _ => writeln!(out, "{indent}{{\n{deeper}const int l = 0;").expect(GROWS),
        }
        let element = |o: u32| ahead(o).then(|| format!("x{o}[l]"));
        let place = Place { operands: ops, rows: &[], loaded: &element, indent: &deeper };
        let values = emit(out, &place, &self.k.insts);
        for (n, ((op, v, _), kind)) in self.k.results.iter().zip(&self.kinds).enumerate() {
            let (name, v) = (reduction(*op), values[*v as usize].to(*kind));
            let a = if lanes_apart { format!("a{n}[l]") } else { format!("a{n}") };
            writeln!(out, "{deeper}{a} = {name}::of({a}, {v});").expect(GROWS);
        }
        writeln!(out, "{indent}}}").expect(GROWS);
    }

    /// Where partial result `n` of a chunk is, in scratch of 4-byte numbers: chunks, results, outputs.
    fn partial(&self, n: usize, outputs: usize, chunk: &str, output: &str) -> String {
        let (ty, all) = (self.kinds[n].ty(), self.kinds.len());
        format!("(({ty}*)scratch)[((u64){chunk} * {all} + {n}) * {outputs}ull + {output}]")
    }

    /// Writes result `n`; the coordinates of outer axes and columns are there, those of reduced ones are not needed.
    fn finish(&self, out: &mut String, indent: &str, n: usize, value: &str) {
        let operand = self.k.results[n].2;
        let o = &self.k.operands[operand as usize];
        let value =
            super::scalar::Val { text: value.to_owned(), kind: self.kinds[n] }.stored(o.dtype);
        let outer = self.k.outer.len();
        let cols = outer + self.k.reduced.len();
        let at =
            format!("{} + {}", offset(&o.strides[..outer], 0), offset(&o.strides[cols..], cols));
        let element = format!("o{operand}[{at}]");
        let value = if o.access == Access::Accumulate {
            format!("get({element}) + {value}")
        } else {
            value
        };
        writeln!(out, "{indent}put({element}, {value});").expect(GROWS);
    }

    fn start(&self, n: usize) -> String {
        identity(self.k.results[n].0, self.kinds[n])
    }

    fn op(&self, n: usize) -> ReduceOp {
        self.k.results[n].0
    }

    /// The second pass: a warp for each output, or a thread where there are many.
    fn combine(&self, out: &mut String, outputs: usize, chunks: usize) -> Pass {
        let warps = outputs < 16_384 && chunks > 4;
        let per = if warps { 8 } else { 256 };
        self.head(out, "combine", 256);
        let (number, lane) =
            if warps { ("threadIdx.x / 32", "threadIdx.x % 32") } else { ("threadIdx.x", "0") };
        let step = if warps { 32 } else { 1 };
        writeln!(out, "  u32 q = blockIdx.x * {per} + {number}; const u32 output = q;")
            .expect(GROWS);
        writeln!(out, "  if (q >= {outputs}) return;").expect(GROWS);
        self.output_coordinates(out, "q");
        for n in 0..self.kinds.len() {
            let (ty, op) = (self.kinds[n].ty(), reduction(self.op(n)));
            writeln!(out, "  {ty} a{n} = {};\n#pragma unroll 4", self.start(n)).expect(GROWS);
            let part = self.partial(n, outputs, "chunk", "output");
            writeln!(out, "  for (int chunk = {lane}; chunk < {chunks}; chunk += {step}) a{n} = {op}::of(a{n}, {part});")
                .expect(GROWS);
            if warps {
                writeln!(out, "  a{n} = together<32, {op}>(a{n}, ({ty}*)nullptr);").expect(GROWS);
            }
        }
        let last = if warps { "  if (threadIdx.x % 32 == 0) {\n" } else { "  {\n" };
        out.push_str(last);
        for n in 0..self.kinds.len() {
            self.finish(out, "    ", n, &format!("a{n}"));
        }
        out.push_str("  }\n}\n");
        Pass { entry: "combine".into(), grid: [blocks(outputs, per), 1, 1], block: 256, shared: 0 }
    }

    /// Coordinates of an output: outer axes, then columns; `q` is used up.
    fn output_coordinates(&self, out: &mut String, q: &str) {
        let (outer, reduced) = (self.k.outer.len(), self.k.reduced.len());
        for (i, extent) in self.k.cols.iter().enumerate().rev() {
            let c = outer + reduced + i;
            writeln!(out, "  const int c{c} = (int)({q} % {extent}); {q} /= {extent};")
                .expect(GROWS);
        }
        coordinates(out, "  ", 0, &self.k.outer, 1, q);
    }
}

/// Many columns: 32 threads beside each other take columns, eight rows at a time.
fn wide(k: &ColReduce, aligned: &[usize], cols: usize) -> Text {
    let inner = k.outer.len() + k.reduced.len() + k.cols.len() - 1;
    let w = Work::new(k, aligned, Some(inner), if k.results.len() > 2 { 4 } else { 8 });
    let (outer, reduced): (usize, usize) = (k.outer.iter().product(), k.reduced.iter().product());
    let tiles = (cols / w.by).div_ceil(32);
    let chunks = BUSY.div_ceil(tiles * outer).clamp(1, reduced.div_ceil(LINES * 8));
    let per = reduced.div_ceil(chunks);
    let outputs = outer * cols;
    let mut out = String::new();
    w.begin(&mut out);
    w.head(&mut out, "run", 256);
    let o = &mut out;
    writeln!(o, "  const int x = threadIdx.x % 32, y = threadIdx.x / 32;").expect(GROWS);
    writeln!(o, "  u32 step = blockIdx.x * 32 + x, q = step;").expect(GROWS);
    writeln!(o, "  const bool inside = step < {};\n  if (!inside) q = 0;", cols / w.by)
        .expect(GROWS);
    coordinates(o, "  ", k.outer.len() + k.reduced.len(), &k.cols, w.by, "q");
    writeln!(o, "  u32 p = blockIdx.y;").expect(GROWS);
    coordinates(o, "  ", 0, &k.outer, 1, "p");
    for n in 0..w.kinds.len() {
        let ty = w.kinds[n].ty();
        writeln!(
            o,
            "  {ty} a{n}[{}];\n#pragma unroll\n  for (int l = 0; l < {0}; l++) a{n}[l] = {};",
            w.by,
            w.start(n)
        )
        .expect(GROWS);
    }
    writeln!(
        o,
        "  const u32 last = min((u32){reduced}, (blockIdx.z + 1) * {per}u);\n#pragma unroll 4"
    )
    .expect(GROWS);
    writeln!(
        o,
        "  for (u32 r = blockIdx.z * {per}u + y; r < last; r += {LINES}) {{\n    u32 s = r;"
    )
    .expect(GROWS);
    coordinates(o, "    ", k.outer.len(), &k.reduced, 1, "s");
    w.elements(o, "    ", true);
    o.push_str("  }\n");
    for n in 0..w.kinds.len() {
        let (ty, op) = (w.kinds[n].ty(), reduction(w.op(n)));
        writeln!(o, "  __shared__ {ty} s{n}[{LINES}][{} + 1];", 32 * w.by).expect(GROWS);
        writeln!(
            o,
            "#pragma unroll\n  for (int l = 0; l < {}; l++) s{n}[y][x * {0} + l] = a{n}[l];",
            w.by
        )
        .expect(GROWS);
        writeln!(o, "  __syncthreads();\n  if (y == 0 && inside) {{\n#pragma unroll").expect(GROWS);
        writeln!(o, "    for (int l = 0; l < {}; l++) {{", w.by).expect(GROWS);
        writeln!(o, "      {ty} v = s{n}[0][x * {} + l];", w.by).expect(GROWS);
        writeln!(
            o,
            "      for (int i = 1; i < {LINES}; i++) v = {op}::of(v, s{n}[i][x * {} + l]);",
            w.by
        )
        .expect(GROWS);
        if chunks == 1 {
            writeln!(o, "      const int first = c{inner}; {{ const int c{inner} = first + l;")
                .expect(GROWS);
            w.finish(o, "        ", n, "v");
            writeln!(o, "      }}").expect(GROWS);
        } else {
            let output = format!("((u64)blockIdx.y * {cols} + (u64)step * {} + l)", w.by);
            writeln!(o, "      {} = v;", w.partial(n, outputs, "blockIdx.z", &output))
                .expect(GROWS);
        }
        writeln!(o, "    }}\n  }}").expect(GROWS);
    }
    o.push_str("}\n");
    let grid = [tiles as u32, outer as u32, chunks as u32];
    let mut passes = vec![Pass { entry: "run".into(), grid, block: 256, shared: 0 }];
    finish(&w, &mut passes, &mut out, outputs, chunks);
    Text { source: out, passes, scratch: scratch(&w, outputs, chunks) }
}

/// Few columns or none: a block for each output and range of rows.
fn narrow(k: &ColReduce, aligned: &[usize], cols: usize) -> Text {
    let inner = (!k.reduced.is_empty()).then(|| k.outer.len() + k.reduced.len() - 1);
    let w = Work::new(k, aligned, inner, 8);
    let (outer, reduced): (usize, usize) = (k.outer.iter().product(), k.reduced.iter().product());
    let outputs = outer * cols;
    let steps = reduced / w.by;
    let chunks = BUSY.div_ceil(outputs).clamp(1, steps.div_ceil(1024));
    let per = steps.div_ceil(chunks);
    let mut out = String::new();
    w.begin(&mut out);
    w.head(&mut out, "run", 256);
    let o = &mut out;
    writeln!(o, "  u32 q = blockIdx.x; const u32 output = q;").expect(GROWS);
    w.output_coordinates(o, "q");
    for n in 0..w.kinds.len() {
        writeln!(o, "  {} a{n} = {};", w.kinds[n].ty(), w.start(n)).expect(GROWS);
    }
    writeln!(
        o,
        "  const u32 last = min((u32){steps}, (blockIdx.y + 1) * {per}u);\n#pragma unroll 4"
    )
    .expect(GROWS);
    writeln!(
        o,
        "  for (u32 r = blockIdx.y * {per}u + threadIdx.x; r < last; r += 256) {{\n    u32 s = r;"
    )
    .expect(GROWS);
    coordinates(o, "    ", k.outer.len(), &k.reduced, w.by, "s");
    w.elements(o, "    ", false);
    o.push_str("  }\n");
    for n in 0..w.kinds.len() {
        let (ty, op) = (w.kinds[n].ty(), reduction(w.op(n)));
        writeln!(o, "  __shared__ {ty} s{n}[32];\n  a{n} = together<256, {op}>(a{n}, s{n});")
            .expect(GROWS);
        writeln!(o, "  if (threadIdx.x == 0) {{").expect(GROWS);
        if chunks == 1 {
            w.finish(o, "    ", n, &format!("a{n}"));
        } else {
            writeln!(o, "    {} = a{n};", w.partial(n, outputs, "blockIdx.y", "output"))
                .expect(GROWS);
        }
        writeln!(o, "  }}").expect(GROWS);
    }
    o.push_str("}\n");
    let grid = [outputs as u32, chunks as u32, 1];
    let mut passes = vec![Pass { entry: "run".into(), grid, block: 256, shared: 0 }];
    finish(&w, &mut passes, &mut out, outputs, chunks);
    Text { source: out, passes, scratch: scratch(&w, outputs, chunks) }
}

fn finish(w: &Work<'_>, passes: &mut Vec<Pass>, out: &mut String, outputs: usize, chunks: usize) {
    if chunks > 1 {
        passes.push(w.combine(out, outputs, chunks));
    }
}

fn scratch(w: &Work<'_>, outputs: usize, chunks: usize) -> usize {
    if chunks > 1 { chunks * outputs * w.kinds.len() * 4 } else { 0 }
}
