//! Attention backward: dots of rows, then the gradients of queries, of keys and values, and of captured tensors, each summed in an order of its own.

use std::fmt::Write as _;

use cs336_compiler::kernel::AttentionKernel;

use super::attention::Attention;
use super::{GROWS, Pass, Text, blocks};

/// See the module.
pub(super) fn text(k: &AttentionKernel) -> Result<Text, String> {
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

    let tile = a.tile(|bq, bk, d, v| bq * (d + v) + bk * (d + v) + bq * (bk + 1))?;
    a.entry(
        &mut out,
        "queries",
        &format!("grad_queries<A, {}, {}>(a, (const float*)scratch)", tile.queries, tile.keys),
    );
    let count = queries.div_ceil(tile.queries) * (problems / dq.shared());
    passes.push(Pass {
        entry: "queries".into(),
        grid: [count as u32, 1, 1],
        block: 256,
        shared: tile.shared,
    });

    let together = dk.axes == dv.axes;
    for (name, sharing, keys, values) in
        [("keys", "SharedK", true, together), ("values", "SharedV", false, true)]
    {
        if name == "values" && together {
            continue;
        }
        let (bq, bk) = (tile.queries, tile.keys);
        let call = format!(
            "grad_keys<A, {sharing}, {bq}, {bk}, {keys}, {values}>(a, (const float*)scratch)"
        );
        a.entry(&mut out, name, &call);
        let shared = if name == "keys" { dk.shared() } else { dv.shared() };
        let count = k.keys.div_ceil(bk) * (problems / shared);
        passes.push(Pass {
            entry: name.into(),
            grid: [count as u32, 1, 1],
            block: 256,
            shared: tile.shared,
        });
    }
    for (n, c) in wanted.iter().enumerate() {
        let elements = captured(&mut out, &a, *c, first + 6 + n);
        let name = format!("captured{c}");
        a.entry(&mut out, &name, &format!("grad_captured<A, G{c}>(a, (const float*)scratch)"));
        passes.push(Pass { entry: name, grid: [blocks(elements, 8), 1, 1], block: 256, shared: 0 });
    }
    Ok(Text { source: out, passes, scratch: 4 * queries * problems })
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
