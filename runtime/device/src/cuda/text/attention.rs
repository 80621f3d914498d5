//! Attention forward, and what both directions share: the `A` of attention.cu, written from the kernel's views and expressions.

use std::fmt::Write as _;

use cs336_compiler::kernel::{AttentionKernel, Expr, Inst, KeyBound, Literal, Ref};
use cs336_compiler::scalar::{self, DType, Runtime};

use super::scalar::{Kind, Place, Val, emit, float};
use super::{GROWS, Pass, Text, between, far, offsets, stored};

/// See the module.
pub(super) fn text(k: &AttentionKernel, aligned: &[usize]) -> Result<Text, String> {
    let a = Attention { k, captured: k.captured };
    let mut out = a.begin(&["out", "lse"])?;
    if let Some(cores) = a.cores(aligned, &[0, 1, 2]) {
        let shape = cores.shape(&a, Part::Forward);
        cores.entry(&a, &mut out, "run", ("mma_forward<", ""), &shape, "a");
        let (d, v) = (line(k.over), line(a.values()));
        let bytes = 2 * (shape.rows() * d + 2 * shape.step * (d + v));
        let blocks = a.queries().div_ceil(shape.rows()) * a.problems();
        let passes = vec![shape.pass("run", blocks, bytes)];
        return Ok(Text { source: out, passes, scratch: 0 });
    }
    let tile = a.tile(|bq, bk, d, v| bq * d + bk * d + bk * v + bq * (bk + 1))?;
    a.entry(&mut out, "run", &format!("forward<A, {}, {}>(a)", tile.queries, tile.keys));
    let blocks = a.queries().div_ceil(tile.queries) * a.problems();
    let pass =
        Pass { entry: "run".into(), grid: [blocks as u32, 1, 1], block: 256, shared: tile.shared };
    Ok(Text { source: out, passes: vec![pass], scratch: 0 })
}

/// How attention is cut.
pub(super) struct Tile {
    pub(super) queries: usize,
    pub(super) keys: usize,
    /// Bytes.
    pub(super) shared: u32,
}

pub(super) struct Attention<'k> {
    pub(super) k: &'k AttentionKernel,
    pub(super) captured: usize,
}

/// What a block may have on every GPU from sm_80 on (A100: 163 KiB; smaller ones 99 KiB), less what is static.
const SHARED: usize = 160 << 10;

/// An attention that can be put on tensor cores.
pub(super) struct Cores {
    /// The stored type of all first factors.
    element: &'static str,
}

/// The three kernels of an attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Forward,
    Queries,
    Keys,
}

/// How a block works: so many warps of so many times 16 rows, and rows of the other side per step.
pub(super) struct Shape {
    warps: usize,
    blocks: usize,
    pub(super) step: usize,
}

impl Shape {
    /// Rows of a block.
    pub(super) fn rows(&self) -> usize {
        16 * self.warps * self.blocks
    }

    pub(super) fn pass(&self, name: &str, blocks: usize, shared: usize) -> Pass {
        let (grid, block) = ([blocks as u32, 1, 1], 32 * self.warps as u32);
        Pass { entry: name.to_owned(), grid, block, shared: shared as u32 }
    }
}

/// Elements of a tile's row in shared memory; see attention_mma.cu.
pub(super) fn line(n: usize) -> usize {
    if n.is_multiple_of(16) { n + 8 } else { n }
}

impl Cores {
    /// The fastest of a dozen shapes each, measured on an H100 (tests/bench/README.md): what limits is shared memory, so rows are taken 32 at a
    /// time by a warp as long as its registers hold them.
    pub(super) fn shape(&self, a: &Attention<'_>, part: Part) -> Shape {
        let small = a.k.over.max(a.values()) <= 64;
        let rows = match part {
            Part::Forward | Part::Queries => a.queries(),
            Part::Keys => a.k.keys,
        };
        let (blocks, step) = match (part, small) {
            (Part::Forward, true) => (2, 64),
            (Part::Forward | Part::Queries, _) | (Part::Keys, true) => (2, 32),
            (Part::Keys, false) => (1, 64),
        };
        Shape { warps: 4, blocks: if rows <= 64 { 1 } else { blocks }, step }
    }

    /// An entry that calls `function<A, .., element, warps, blocks, step, rest>`.
    pub(super) fn entry(
        &self,
        a: &Attention<'_>,
        out: &mut String,
        name: &str,
        (function, rest): (&str, &str),
        shape: &Shape,
        arguments: &str,
    ) {
        let Shape { warps, blocks, step } = shape;
        let (function, more) = function.split_once('<').unwrap_or((function, ""));
        let e = self.element;
        let call =
            format!("{function}<A, {more}{e}, {warps}, {blocks}, {step}{rest}>({arguments})");
        a.entry_of(out, name, 32 * *warps as u32, &call);
    }
}

impl Attention<'_> {
    /// Whether it fits tensor cores: 16-bit factors, whole steps of 16, rows that can be copied by 16 bytes. `factors`: operands that are
    /// read as tiles.
    pub(super) fn cores(&self, aligned: &[usize], factors: &[usize]) -> Option<Cores> {
        let k = self.k;
        let element = k.operands[0].dtype;
        let fits = |n: usize| n.is_multiple_of(16) && (16..=128).contains(&n);
        let along = self.key_axis() + 1;
        let rows = factors.iter().all(|o| {
            let operand = &k.operands[*o];
            // q and k go along `over`, the others along the values.
            let axis = if *o < 2 { along } else { along + 1 };
            let steps = operand.strides.iter().enumerate().filter(|(at, _)| *at != axis);
            operand.dtype == element
                && operand.strides[axis] == 1
                && steps.into_iter().all(|(_, s)| s % 8 == 0)
                && aligned[*o] >= 16
        });
        let sixteen = matches!(element, DType::Bf16 | DType::F16);
        let whole = sixteen && k.values.len() == 1 && fits(k.over) && fits(self.values()) && rows;
        whole.then_some(Cores { element: stored(element) })
    }

    pub(super) fn queries(&self) -> usize {
        self.k.queries.iter().product()
    }

    pub(super) fn problems(&self) -> usize {
        self.k.batch.iter().product()
    }

    pub(super) fn values(&self) -> usize {
        self.k.values.iter().product()
    }

    pub(super) fn key_axis(&self) -> usize {
        self.k.batch.len() + self.k.queries.len()
    }

    /// The largest tile whose floats, as counted by `floats(queries, keys, line of d, line of values)`, fit.
    pub(super) fn tile(
        &self,
        floats: impl Fn(usize, usize, usize, usize) -> usize,
    ) -> Result<Tile, String> {
        let line = |n: usize| n.next_multiple_of(16) + 1;
        for (queries, keys) in [(64, 64), (32, 64), (32, 32), (16, 32), (16, 16)] {
            let bytes = 4 * floats(queries, keys, line(self.k.over), line(self.values()));
            if bytes <= SHARED {
                return Ok(Tile { queries, keys, shared: bytes as u32 });
            }
        }
        Err(format!(
            "heads of {} and {} numbers do not fit into a block's shared memory",
            self.k.over,
            self.values()
        ))
    }

    /// An entry that makes `a` and calls.
    pub(super) fn entry(&self, out: &mut String, name: &str, call: &str) {
        self.entry_of(out, name, 256, call);
    }

    fn entry_of(&self, out: &mut String, name: &str, block: u32, call: &str) {
        let operands: Vec<_> = self.k.operands.iter().collect();
        super::head(out, name, block, &operands, self.k.runtime.len());
        let mut fields: Vec<String> = (0..operands.len()).map(|i| format!("o{i}")).collect();
        fields.push("table".to_owned());
        fields.extend((0..self.k.runtime.len()).map(|i| format!("p{i}")));
        writeln!(out, "  const A a = {{{}}};\n  {call};\n}}", fields.join(", ")).expect(GROWS);
    }

    /// Everything before the entries. `written` names the operands behind the captured ones, in order.
    pub(super) fn begin(&self, written: &[&str]) -> Result<String, String> {
        let k = self.k;
        let operands: Vec<_> = k.operands.iter().collect();
        let extents = [&k.batch[..], &k.queries, &[k.keys, k.over], &k.values].concat();
        let mut out = String::new();
        offsets(&mut out, far(&operands, &extents, 0));
        out.push_str(include_str!("between.cu"));
        out.push_str("struct A {\n");
        for (i, o) in operands.iter().enumerate() {
            writeln!(out, "  {}* o{i};", stored(o.dtype)).expect(GROWS);
        }
        out.push_str("  const u32* table;\n");
        for i in 0..k.runtime.len() {
            writeln!(out, "  int p{i};").expect(GROWS);
        }
        for (name, n) in [
            ("NB", self.problems()),
            ("NQ", self.queries()),
            ("NK", k.keys),
            ("D", k.over),
            ("DV", self.values()),
        ] {
            writeln!(out, "  static constexpr int {name} = {n};").expect(GROWS);
        }
        writeln!(out, "  static FN float SCALE() {{ return {}; }}", float(k.scale.get() as f32))
            .expect(GROWS);
        let same = |e: &Expr, inst: scalar::Inst| e.insts.get(e.result as usize) == Some(&inst);
        let one = scalar::Inst::Const(Literal::new(1.0));
        let plain = same(&k.score, scalar::Inst::Arg(0))
            && k.score_grads.first().is_none_or(|slope| same(slope, one))
            && k.scale.get() > 0.0;
        writeln!(out, "  static constexpr bool PLAIN = {plain};").expect(GROWS);
        self.elements(&mut out, written);
        self.function(&mut out, "float", "score", &k.score)?;
        self.function(&mut out, "bool", "seen", &k.mask)?;
        if let Some(slope) = k.score_grads.first() {
            self.function(&mut out, "float", "slope", slope)?;
        }
        for (c, slope) in k.score_grads.iter().skip(1).enumerate() {
            self.function(&mut out, "float", &format!("slope{c}"), slope)?;
        }
        self.bounds(&mut out);
        between::classify(&mut out, self);
        if let Some(at) = written.iter().position(|name| *name == "dout") {
            let dout = 3 + self.captured + at;
            let t = stored(k.operands[dout].dtype);
            writeln!(
                out,
                "  FN const {t}* dout_row(int b, int i) const {{ return o{dout} + at_dout(b, i, 0); }}"
            )
            .expect(GROWS);
        }
        out.push_str("};\n");
        out.push_str(include_str!("attention.cu"));
        out.push_str(include_str!("attention_mma.cu"));
        Ok(out)
    }

    /// Functions that read and write elements.
    fn elements(&self, out: &mut String, written: &[&str]) {
        // Name, operand, whether along queries (else keys), columns: over, values, none.
        let mut all: Vec<(String, usize)> = vec![("q".into(), 0), ("k".into(), 1), ("v".into(), 2)];
        all.extend((0..self.captured).map(|c| (format!("captured{c}"), 3 + c)));
        all.extend(
            written.iter().enumerate().map(|(i, name)| ((*name).to_owned(), 3 + self.captured + i)),
        );
        for (name, operand) in all {
            let o = &self.k.operands[operand];
            let (args, steps) = match name.as_str() {
                "q" | "dq" => ("int b, int i, int d", Steps::QUERY_OVER),
                "k" | "dk" => ("int b, int j, int d", Steps::KEY_OVER),
                "v" | "dv" => ("int b, int j, int w", Steps::KEY_VALUES),
                "out" | "dout" => ("int b, int i, int w", Steps::QUERY_VALUES),
                "lse" => ("int b, int i", Steps::QUERY),
                _ => ("int b, int i, int j", Steps::BOTH),
            };
            writeln!(out, "  static FN ix at_{name}({args}) {{").expect(GROWS);
            let mut terms = vec!["0".to_owned()];
            let (nb, key) = (self.k.batch.len(), self.key_axis());
            self.flat(out, &mut terms, &self.k.batch, &o.strides[..nb], 0, "b");
            if steps.queries {
                self.flat(out, &mut terms, &self.k.queries, &o.strides[nb..key], nb, "i");
            }
            if steps.key {
                terms.push(format!("(ix){} * j", o.strides[key]));
            }
            if steps.over {
                terms.push(format!("(ix){} * d", o.strides[key + 1]));
            }
            if steps.values {
                self.flat(out, &mut terms, &self.k.values, &o.strides[key + 2..], key + 2, "w");
            }
            writeln!(out, "    return {};\n  }}", terms.join(" + ")).expect(GROWS);
            let names: Vec<&str> = args.split(", ").filter_map(|a| a.split(' ').nth(1)).collect();
            let names = names.join(", ");
            writeln!(
                out,
                "  FN float {name}({args}) const {{ return get(o{operand}[at_{name}({names})]); }}"
            )
            .expect(GROWS);
            if self.k.operands[operand].access != cs336_compiler::kernel::Access::Read {
                let value = Val { text: "x".into(), kind: Kind::F }.stored(o.dtype);
                writeln!(
                    out,
                    "  FN void put_{name}({args}, float x) const {{ put(o{operand}[at_{name}({names})], {value}); }}"
                )
                .expect(GROWS);
            }
        }
    }

    /// Terms of an offset along several axes of which `flat` is the number, row-major.
    fn flat(
        &self,
        out: &mut String,
        terms: &mut Vec<String>,
        extents: &[usize],
        strides: &[i64],
        first: usize,
        flat: &str,
    ) {
        let mut rest = flat.to_owned();
        for (i, extent) in extents.iter().enumerate().rev() {
            let name = format!("x{}", first + i);
            if i == 0 {
                writeln!(out, "    const int {name} = {rest};").expect(GROWS);
            } else {
                writeln!(
                    out,
                    "    const int {name} = {rest} % {extent}, y{0} = {rest} / {extent};",
                    first + i
                )
                .expect(GROWS);
                rest = format!("y{}", first + i);
            }
            if strides[i] != 0 {
                terms.push(format!("(ix){} * {name}", strides[i]));
            }
        }
    }

    /// A scalar expression of one score.
    fn function(&self, out: &mut String, ty: &str, name: &str, e: &Expr) -> Result<(), String> {
        let (insts, result) = body(self.k, e)?;
        writeln!(out, "  FN {ty} {name}(float r0, int b, int i, int j) const {{").expect(GROWS);
        self.coordinates(out);
        for c in 0..self.captured {
            if uses(e, 1 + c as u32) {
                let dtype = self.k.operands[3 + c].dtype;
                let kind = Kind::of(dtype).ty();
                writeln!(
                    out,
                    "    const {kind} r{} = get(o{}[at_captured{c}(b, i, j)]);",
                    1 + c,
                    3 + c
                )
                .expect(GROWS);
            }
        }
        let mut rows = vec![Some(Kind::F)];
        rows.extend((0..self.captured).map(|c| Some(Kind::of(self.k.operands[3 + c].dtype))));
        let place =
            Place { operands: &self.k.operands, rows: &rows, loaded: &|_| None, indent: "    " };
        let values = emit(out, &place, &insts);
        let kind = if ty == "bool" { Kind::M } else { Kind::F };
        let value = values.get(result as usize).map_or_else(|| "0".to_owned(), |v| v.to(kind));
        writeln!(out, "    return {value};\n  }}").expect(GROWS);
        Ok(())
    }

    /// `c0, c1, ..` of a score: batch, queries, key.
    fn coordinates(&self, out: &mut String) {
        let (nb, key) = (self.k.batch.len(), self.key_axis());
        writeln!(out, "    u32 qb = b, qi = i;").expect(GROWS);
        super::coordinates(out, "    ", 0, &self.k.batch, 1, "qb");
        super::coordinates(out, "    ", nb, &self.k.queries, 1, "qi");
        writeln!(out, "    const int c{key} = j;").expect(GROWS);
    }

    /// The keys that one query can see at most.
    fn bounds(&self, out: &mut String) {
        writeln!(
            out,
            "  FN void bounds(int b, int i, int& first, int& end) const {{\n    const int j = 0;"
        )
        .expect(GROWS);
        self.coordinates(out);
        let position = self.k.runtime.iter().position(|r| *r == Runtime::Position);
        let value = |bound: &KeyBound| {
            let c = bound.axis.map_or_else(|| "0".to_owned(), |axis| format!("c{axis}"));
            let moved = position.filter(|_| bound.plus_position);
            let moved = moved.map_or_else(String::new, |p| format!(" + (int)table[p{p}]"));
            format!("{c} + {}{moved}", bound.offset)
        };
        for bound in &self.k.lower {
            writeln!(out, "    first = max(first, {});", value(bound)).expect(GROWS);
        }
        for bound in &self.k.upper {
            writeln!(out, "    end = min(end, {} + 1);", value(bound)).expect(GROWS);
        }
        out.push_str("  }\n");
    }
}

/// Along what an operand of attention has elements.
struct Steps {
    queries: bool,
    key: bool,
    over: bool,
    values: bool,
}

impl Steps {
    const QUERY: Self = Self { queries: true, key: false, over: false, values: false };
    const QUERY_OVER: Self = Self { over: true, ..Self::QUERY };
    const QUERY_VALUES: Self = Self { values: true, ..Self::QUERY };
    const KEY: Self = Self { queries: false, key: true, over: false, values: false };
    const KEY_OVER: Self = Self { over: true, ..Self::KEY };
    const KEY_VALUES: Self = Self { values: true, ..Self::KEY };
    const BOTH: Self = Self { key: true, ..Self::QUERY };
}

fn uses(e: &Expr, argument: u32) -> bool {
    e.insts.contains(&scalar::Inst::Arg(argument))
}

/// The expression as instructions whose row results are the arguments.
fn body(k: &AttentionKernel, e: &Expr) -> Result<(Vec<Inst>, Ref), String> {
    let mut insts = Vec::with_capacity(e.insts.len());
    for inst in &e.insts {
        insts.push(match inst {
            scalar::Inst::Arg(i) => Inst::Row(*i),
            scalar::Inst::Const(l) => Inst::Const(*l, DType::F32),
            scalar::Inst::Pos(i) => {
                Inst::Coord(*k.pos.get(*i as usize).ok_or("a coordinate has no axis")?)
            }
            scalar::Inst::Runtime(r) => {
                let at = k.runtime.iter().position(|x| x == r);
                Inst::Param(at.ok_or("a runtime scalar has no parameter")? as u32, DType::I32)
            }
            scalar::Inst::Unary(op, a) => Inst::Unary(*op, *a),
            scalar::Inst::Binary(op, a, b) => Inst::Binary(*op, *a, *b),
            scalar::Inst::Select(c, a, b) => Inst::Select(*c, *a, *b),
            scalar::Inst::Cast(dtype, a) => Inst::Cast(*dtype, *a),
            scalar::Inst::Random(..) => {
                return Err("a score or mask draws random numbers".to_owned());
            }
        });
    }
    Ok((insts, e.result))
}
