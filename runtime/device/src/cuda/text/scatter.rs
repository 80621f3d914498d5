//! Adding rows into a table: the rows are sorted by where they go, then each place of the table sums its own in order.

use std::fmt::Write as _;

use cs336_compiler::kernel::{Access, Scatter};

use super::loops::width;
use super::{GROWS, Pass, Text, blocks, coordinates, far, head, offset, offsets, stored};

/// Numbers that a block sorts.
const SORTED: usize = 2048;

/// See the module.
pub(super) fn text(k: &Scatter, aligned: &[usize]) -> Text {
    let extents = [&k.outer[..], &k.rows, &k.cols].concat();
    let [y, index, table] = &k.operands;
    let operands = [y, index, table];
    let (outer, rows): (usize, usize) = (k.outer.iter().product(), k.rows.iter().product());
    let cols: usize = k.cols.iter().product();
    let (axes, first) = (k.outer.len() + k.rows.len(), k.outer.len());
    let n = outer * rows;
    let places = outer * k.limit;
    let inner = (!k.cols.is_empty()).then(|| extents.len() - 1);
    let both = [y.clone(), table.clone()];
    let (by, whole) = width(&both, &[aligned[0], aligned[2]], &extents, inner, 8);
    // Neighbouring places of the table must be aligned too.
    let step = k.stride * table.dtype.bytes() as i64;
    let fits = whole.iter().all(|w| *w) && step % (by * table.dtype.bytes()).min(16) as i64 == 0;
    let by = if fits { by } else { 1 };

    let sort_blocks = n.div_ceil(SORTED);
    let counts = 256 * sort_blocks;
    let mut out = include_str!("scatter.cu").to_owned();
    let indirect = k.stride.abs().saturating_mul(k.limit as i64);
    offsets(&mut out, far(&operands, &extents, indirect));
    let o = &mut out;
    // Scratch: keys and rows twice, then counts.
    let part = |which: usize| format!("((u32*)scratch + {}ull)", which * n);
    let mut passes = Vec::new();
    let pass = |entry: &str, grid: u32, block: u32| Pass {
        entry: entry.to_owned(),
        grid: [grid, 1, 1],
        block,
        shared: 0,
    };

    head(o, "keys", 256, &operands, 0);
    writeln!(
        o,
        "  const u32 at = blockIdx.x * 256 + threadIdx.x;\n  if (at >= {n}) return;\n  u32 q = at;"
    )
    .expect(GROWS);
    coordinates(o, "  ", 0, &extents[..axes], 1, "q");
    writeln!(o, "  const int i = get(o1[{}]);", offset(&index.strides[..axes], 0)).expect(GROWS);
    writeln!(
        o,
        "  {}[at] = (u32)i < {}u ? at / {rows}u * {1}u + i : {places}u;\n  {}[at] = at;\n}}",
        part(0),
        k.limit,
        part(1)
    )
    .expect(GROWS);
    passes.push(pass("keys", blocks(n, 256), 256));
    if table.access != Access::Accumulate {
        head(o, "clear", 256, &operands, 0);
        let wide = if places * cols / by > u32::MAX as usize / 2 { "u64" } else { "u32" };
        writeln!(o, "  {wide} t = ({wide})blockIdx.x * 256 + threadIdx.x;").expect(GROWS);
        writeln!(o, "  if (t >= {}ull) return;", places * cols / by).expect(GROWS);
        let last = cols / by;
        writeln!(o, "  {wide} s = t % {last}; t /= {last};").expect(GROWS);
        coordinates(o, "  ", axes, &k.cols, by, "s");
        writeln!(o, "  const ix place = (ix)(t % {0}) * {1}; t /= {0};", k.limit, k.stride)
            .expect(GROWS);
        coordinates(o, "  ", 0, &k.outer, 1, "t");
        let first = offset(&table.strides[..first], 0);
        let at = format!("o2 + place + {first} + {}", offset(&table.strides[axes..], axes));
        let t = stored(table.dtype);
        writeln!(o, "  alignas(16) const {t} none[{by}] = {{}};\n  store<{by}>({at}, none);\n}}")
            .expect(GROWS);
        passes.push(pass("clear", blocks(places * cols / by, 256), 256));
    }
    let bits = usize::BITS - places.leading_zeros();
    let digits = bits.div_ceil(8).max(1) as usize;
    let counted = format!("((u32*)scratch + {}ull)", 4 * n);
    for d in 0..digits {
        let (keys, to) = if d % 2 == 0 { (0, 2) } else { (2, 0) };
        let shift = 8 * d;
        head(o, &format!("count{d}"), 256, &operands, 0);
        writeln!(o, "  count_digits<{n}, {shift}>({}, {counted}, {sort_blocks});\n}}", part(keys))
            .expect(GROWS);
        head(o, &format!("sums{d}"), 1024, &operands, 0);
        writeln!(o, "  running_sums({counted}, {counts}u);\n}}").expect(GROWS);
        head(o, &format!("place{d}"), 256, &operands, 0);
        writeln!(
            o,
            "  place_by_digit<{n}, {shift}>({}, {}, {}, {}, {counted}, {sort_blocks});\n}}",
            part(keys),
            part(keys + 1),
            part(to),
            part(to + 1)
        )
        .expect(GROWS);
        passes.push(pass(&format!("count{d}"), sort_blocks as u32, 256));
        passes.push(pass(&format!("sums{d}"), 1, 1024));
        passes.push(pass(&format!("place{d}"), sort_blocks as u32, 256));
    }
    let sorted = if digits.is_multiple_of(2) { 0 } else { 2 };

    let threads = (cols / by).next_power_of_two().clamp(32, 256);
    head(o, "add", threads as u32, &operands, 0);
    writeln!(o, "  const u32* keys = {}; const u32* rows = {};", part(sorted), part(sorted + 1))
        .expect(GROWS);
    writeln!(o, "  const u32 begin = blockIdx.x, key = keys[begin];").expect(GROWS);
    writeln!(o, "  if (key >= {places}u || (begin > 0 && keys[begin - 1] == key)) return;")
        .expect(GROWS);
    // The first place with a larger key.
    writeln!(o, "  u32 end = begin + 1, beyond = {n}u;").expect(GROWS);
    writeln!(o, "  while (end < beyond) {{ const u32 mid = (end + beyond) / 2; if (keys[mid] == key) end = mid + 1; else beyond = mid; }}").expect(GROWS);
    writeln!(o, "  u32 p = key / {}u;", k.limit).expect(GROWS);
    // Coordinates of the outer axes, under other names than those of each row.
    let mut outer_text = String::new();
    coordinates(&mut outer_text, "  ", 0, &k.outer, 1, "p");
    o.push_str(&outer_text);
    writeln!(
        o,
        "  const ix place = (ix)(key % {}u) * {} + {};",
        k.limit,
        k.stride,
        offset(&table.strides[..first], 0)
    )
    .expect(GROWS);
    writeln!(
        o,
        "  for (u32 step = threadIdx.x; step < {}u; step += {threads}) {{\n    u32 s = step;",
        cols / by
    )
    .expect(GROWS);
    coordinates(o, "    ", axes, &k.cols, by, "s");
    let t = stored(table.dtype);
    let to = format!("o2 + place + {}", offset(&table.strides[axes..], axes));
    writeln!(o, "    alignas(16) {t} sum[{by}]; load<{by}>(sum, {to});\n    float a[{by}];")
        .expect(GROWS);
    writeln!(
        o,
        "#pragma unroll\n    for (int l = 0; l < {by}; l++) a[l] = get(sum[l]);\n#pragma unroll 4"
    )
    .expect(GROWS);
    writeln!(o, "    for (u32 i = begin; i < end; i++) {{\n      u32 r = rows[i];").expect(GROWS);
    coordinates(o, "      ", 0, &extents[..axes], 1, "r");
    let from =
        format!("o0 + {} + {}", offset(&y.strides[..axes], 0), offset(&y.strides[axes..], axes));
    writeln!(o, "      alignas(16) {} x[{by}]; load<{by}>(x, {from});", stored(y.dtype))
        .expect(GROWS);
    writeln!(o, "#pragma unroll\n      for (int l = 0; l < {by}; l++) a[l] += get(x[l]);\n    }}")
        .expect(GROWS);
    writeln!(o, "#pragma unroll\n    for (int l = 0; l < {by}; l++) put(sum[l], a[l]);\n    store<{by}>({to}, sum);\n  }}\n}}").expect(GROWS);
    passes.push(pass("add", n as u32, threads as u32));
    Text { source: out, passes, scratch: 4 * (4 * n + counts) }
}
