//! A contraction with any strides and types, in tiles of 64 x 64 through shared memory: for what cuBLASLt's layouts cannot say.

use std::fmt::Write as _;

use cs336_compiler::kernel::{Access, Gemm};

use super::{GROWS, Pass, Text, coordinates, far, head, offset, offsets};

const TILE: usize = 64;
const DEPTH: usize = 16;

/// See the module.
pub(super) fn text(k: &Gemm) -> Text {
    let extents = [&k.batch[..], &[k.m, k.n, k.k]].concat();
    let operands = [&k.a, &k.b, &k.c];
    let axis = k.batch.len();
    let mut out = String::new();
    offsets(&mut out, far(&operands, &extents, 0));
    head(&mut out, "run", 256, &operands, 0);
    let o = &mut out;
    let tiles = k.n.div_ceil(TILE);
    writeln!(o, "  u32 q = blockIdx.y;").expect(GROWS);
    coordinates(o, "  ", 0, &k.batch, 1, "q");
    for (i, operand) in operands.iter().enumerate() {
        writeln!(o, "  o{i} += {};", offset(&operand.strides[..axis], 0)).expect(GROWS);
    }
    writeln!(o, "  const int m0 = (int)(blockIdx.x / {tiles}) * {TILE}, n0 = (int)(blockIdx.x % {tiles}) * {TILE};").expect(GROWS);
    writeln!(o, "  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;").expect(GROWS);
    writeln!(o, "  __shared__ float as[{DEPTH}][{TILE} + 1], bs[{DEPTH}][{TILE} + 1];")
        .expect(GROWS);
    writeln!(o, "  float acc[4][4] = {{}};\n  for (int k0 = 0; k0 < {}; k0 += {DEPTH}) {{", k.k)
        .expect(GROWS);
    // Neighbouring threads read what lies beside each other.
    for (name, o_index, first, extent, stride) in [
        ("as", 0, "m0", k.m, (k.a.strides[axis], k.a.strides[axis + 2])),
        ("bs", 1, "n0", k.n, (k.b.strides[axis + 1], k.b.strides[axis + 2])),
    ] {
        let along = stride.1.abs() == 1;
        let (row, depth) = if along {
            (format!("e / {DEPTH}"), format!("e % {DEPTH}"))
        } else {
            (format!("e % {TILE}"), format!("e / {TILE}"))
        };
        writeln!(
            o,
            "#pragma unroll\n    for (int e = threadIdx.x; e < {}; e += 256) {{",
            TILE * DEPTH
        )
        .expect(GROWS);
        writeln!(o, "      const int i = {row}, d = {depth}, at = {first} + i, k = k0 + d;")
            .expect(GROWS);
        writeln!(
            o,
            "      {name}[d][i] = at < {extent} && k < {} ? get(o{o_index}[(ix){} * at + (ix){} * k]) : 0.0f;\n    }}",
            k.k, stride.0, stride.1
        )
        .expect(GROWS);
    }
    writeln!(o, "    __syncthreads();\n#pragma unroll\n    for (int d = 0; d < {DEPTH}; d++)")
        .expect(GROWS);
    writeln!(o, "#pragma unroll\n      for (int i = 0; i < 4; i++)\n#pragma unroll\n        for (int j = 0; j < 4; j++)").expect(GROWS);
    writeln!(o, "          acc[i][j] = fmaf(as[d][ty + 16 * i], bs[d][tx + 16 * j], acc[i][j]);")
        .expect(GROWS);
    writeln!(o, "    __syncthreads();\n  }}").expect(GROWS);
    writeln!(o, "#pragma unroll\n  for (int i = 0; i < 4; i++)\n#pragma unroll\n    for (int j = 0; j < 4; j++) {{").expect(GROWS);
    writeln!(o, "      const int m = m0 + ty + 16 * i, n = n0 + tx + 16 * j;").expect(GROWS);
    let at = format!("(ix){} * m + (ix){} * n", k.c.strides[axis], k.c.strides[axis + 1]);
    let before =
        if k.c.access == Access::Accumulate { format!("get(o2[{at}]) + ") } else { String::new() };
    writeln!(
        o,
        "      if (m < {} && n < {}) put(o2[{at}], {before}acc[i][j]);\n    }}\n}}",
        k.m, k.n
    )
    .expect(GROWS);
    let batch: usize = k.batch.iter().product();
    let grid = [(k.m.div_ceil(TILE) * tiles) as u32, batch as u32, 1];
    Text {
        source: out,
        passes: vec![Pass { entry: "run".into(), grid, block: 256, shared: 0 }],
        scratch: 0,
    }
}
