//! Attention backward: dots of rows, then the gradients of queries, of keys and values, and of captured tensors, each summed in an order of its own.

use std::fmt::Write as _;

use cs336_compiler::kernel::AttentionKernel;

use super::attention::{Attention, Part, line};
use super::{GROWS, Pass, Text, blocks};

/// See the module.
pub(super) fn text(k: &AttentionKernel, aligned: &[usize]) -> Result<Text, String> {
    let a = Attention { k, captured: k.captured };
    let wanted: Vec<usize> = (0..k.captured).filter(|c| k.wants[*c]).collect();
    let mut names: Vec<String> =
        ["out", "lse", "dout", "dq", "dk", "dv"].map(str::to_owned).to_vec();
    names.extend(wanted.iter().map(|c| format!("grad{c}")));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut out = a.begin(&names)?;
    let first = 3 + k.captured;
    let [dq, dk, dv] = [3, 4, 5].map(|i| Sharing::of(k, first + i));

    // The struct is closed already: who shares what goes into structs of their own.
    let mut before = String::new();
    dq.write(&mut before, k, "SharedQ");
    dk.write(&mut before, k, "SharedK");
    dv.write(&mut before, k, "SharedV");
    out = out.replacen(
        "struct A {\n",
        &format!(
            "{before}struct A {{\n  static constexpr int Q_SHARED = SharedQ::SHARED;\n  static FN int q_problem(int group, int u) {{ return SharedQ::problem(group, u); }}\n"
        ),
        1,
    );
    let (queries, problems) = (a.queries(), a.problems());
    let mut passes = Vec::new();
    a.entry(&mut out, "dots", "row_dots(a, (float*)scratch)");
    passes.push(Pass {
        entry: "dots".into(),
        grid: [blocks(queries * problems, 8), 1, 1],
        block: 256,
        shared: 0,
    });

    let together = dk.axes == dv.axes;
    let parts: &[(&str, &str, bool, bool)] = if together {
        &[("keys", "SharedK", true, true)]
    } else {
        &[("keys", "SharedK", true, false), ("values", "SharedV", false, true)]
    };
    if let Some(cores) = a.cores(aligned, &[0, 1, 2, first + 2]) {
        let lines = line(k.over) + line(a.values());
        let dots = "a, (const float*)scratch";
        let shape = cores.shape(&a, Part::Queries);
        let bytes = 2 * (shape.rows() + 2 * shape.step) * lines;
        cores.entry(&a, &mut out, "queries", ("mma_grad_queries<", ""), &shape, dots);
        let count = queries.div_ceil(shape.rows()) * (problems / dq.shared());
        passes.push(shape.pass("queries", count, bytes));
        for (name, sharing, keys, values) in parts {
            let shape = cores.shape(&a, Part::Keys);
            let function = format!("mma_grad_keys<{sharing}, ");
            let rest = format!(", {keys}, {values}");
            cores.entry(&a, &mut out, name, (&function, &rest), &shape, dots);
            let shared = if *keys { dk.shared() } else { dv.shared() };
            let count = k.keys.div_ceil(shape.rows()) * (problems / shared);
            let bytes = 2 * (shape.rows() + 2 * shape.step) * lines + 16 * shape.step;
            passes.push(shape.pass(name, count, bytes));
        }
    } else {
        plain(&a, &mut out, &mut passes, (&dq, &dk, &dv), parts)?;
    }
    for (n, c) in wanted.iter().enumerate() {
        let elements = captured(&mut out, &a, *c, first + 6 + n);
        let name = format!("captured{c}");
        a.entry(&mut out, &name, &format!("grad_captured<A, G{c}>(a, (const float*)scratch)"));
        passes.push(Pass { entry: name, grid: [blocks(elements, 8), 1, 1], block: 256, shared: 0 });
    }
    Ok(Text { source: out, passes, scratch: 8 * queries * problems })
}

/// The gradients of queries, keys and values in f32.
fn plain(
    a: &Attention<'_>,
    out: &mut String,
    passes: &mut Vec<Pass>,
    (dq, dk, dv): (&Sharing, &Sharing, &Sharing),
    parts: &[(&str, &str, bool, bool)],
) -> Result<(), String> {
    let (queries, problems) = (a.queries(), a.problems());
    let tile = a.tile(|bq, bk, d, v| bq * (d + v) + bk * (d + v) + bq * (bk + 1))?;
    let (bq, bk) = (tile.queries, tile.keys);
    let pass = |name: &str, count: usize| Pass {
        entry: name.to_owned(),
        grid: [count as u32, 1, 1],
        block: 256,
        shared: tile.shared,
    };
    a.entry(out, "queries", &format!("grad_queries<A, {bq}, {bk}>(a, (const float*)scratch)"));
    passes.push(pass("queries", queries.div_ceil(bq) * (problems / dq.shared())));
    for (name, sharing, keys, values) in parts {
        let what = format!("A, {sharing}, {bq}, {bk}, {keys}, {values}");
        a.entry(out, name, &format!("grad_keys<{what}>(a, (const float*)scratch)"));
        let shared = if *keys { dk.shared() } else { dv.shared() };
        passes.push(pass(name, a.k.keys.div_ceil(bk) * (problems / shared)));
    }
    Ok(())
}

/// The batch axes along which problems share a gradient.
struct Sharing {
    axes: Vec<bool>,
    batch: Vec<usize>,
}

impl Sharing {
    fn of(k: &AttentionKernel, operand: usize) -> Self {
        let strides = &k.operands[operand].strides;
        let axes = k.batch.iter().zip(strides).map(|(e, s)| *e > 1 && *s == 0).collect();
        Self { axes, batch: k.batch.clone() }
    }

    fn shared(&self) -> usize {
        self.axes.iter().zip(&self.batch).filter(|(s, _)| **s).map(|(_, e)| e).product()
    }

    /// `SHARED` and `problem(group, u)`: the number of a problem from that of its group and within it.
    fn write(&self, out: &mut String, k: &AttentionKernel, name: &str) {
        writeln!(out, "struct {name} {{\n  static constexpr int SHARED = {};", self.shared())
            .expect(GROWS);
        writeln!(out, "  static FN int problem(int group, int u) {{").expect(GROWS);
        mixed(out, "    ", &self.axes, &k.batch, ("group", "u"));
        let mut flat = "0".to_owned();
        for (i, extent) in k.batch.iter().enumerate() {
            flat = format!("({flat} * {extent} + x{i})");
        }
        writeln!(out, "    return {flat};\n  }}\n}};").expect(GROWS);
    }
}

/// `x0, x1, ..`: coordinates along axes, of which some are counted by the second number and the others by the first.
fn mixed(out: &mut String, indent: &str, second: &[bool], extents: &[usize], from: (&str, &str)) {
    writeln!(out, "{indent}u32 s = {}, t = {};", from.0, from.1).expect(GROWS);
    for (i, extent) in extents.iter().enumerate().rev() {
        let n = if second[i] { "t" } else { "s" };
        writeln!(out, "{indent}const int x{i} = (int)({n} % {extent}); {n} /= {extent};")
            .expect(GROWS);
    }
}

/// `G{c}`: which scores read an element of captured tensor c. Gives the number of elements.
fn captured(out: &mut String, a: &Attention<'_>, c: usize, operand: usize) -> usize {
    let k = a.k;
    let key = a.key_axis();
    let extents = [&k.batch[..], &k.queries, &[k.keys]].concat();
    let strides = &k.operands[operand].strides[..=key];
    let lacking: Vec<bool> = extents.iter().zip(strides).map(|(e, s)| *e > 1 && *s == 0).collect();
    let count = |which: bool| -> usize {
        extents.iter().zip(&lacking).filter(|(_, l)| **l == which).map(|(e, _)| e).product()
    };
    writeln!(
        out,
        "struct G{c} {{\n  static constexpr u32 ELEMENTS = {}, SHARED = {};",
        count(false),
        count(true)
    )
    .expect(GROWS);
    writeln!(out, "  static FN void place(u32 e, u32 u, int& b, int& i, int& j) {{").expect(GROWS);
    mixed(out, "    ", &lacking, &extents, ("e", "u"));
    let nb = k.batch.len();
    for (name, axes) in [("b", 0..nb), ("i", nb..key), ("j", key..key + 1)] {
        let mut flat = "0".to_owned();
        for i in axes {
            flat = format!("({flat} * {} + x{i})", extents[i]);
        }
        writeln!(out, "    {name} = {flat};").expect(GROWS);
    }
    writeln!(out, "  }}\n  static FN float slope(const A& a, float s, int b, int i, int j) {{ return a.slope{c}(s, b, i, j); }}").expect(GROWS);
    writeln!(out, "  static FN void put_element(const A& a, int b, int i, int j, float x) {{ a.put_grad{c}(b, i, j, x); }}\n}};").expect(GROWS);
    count(false)
}
