//! Row work that depends on order: running sums by scanning a block at a time, sorts and top-k by counting who comes before.

use std::fmt::Write as _;

use cs336_compiler::kernel::{RowOp, RowOpKind};

use super::scalar::{Kind, Val};
use super::{GROWS, Pass, Text, blocks, coordinates, far, head, offset, offsets};

const BLOCK: usize = 256;

/// See the module.
pub(super) fn text(k: &RowOp) -> Text {
    let extents = [&k.rows[..], &[k.n]].concat();
    let [x, result] = &k.operands;
    let (operands, n, rows) = ([x, result], k.n, k.rows.iter().product::<usize>());
    let axis = k.rows.len();
    let kind = Kind::of(x.dtype);
    let mut out = String::new();
    offsets(&mut out, far(&operands, &extents, 0));
    head(&mut out, "run", BLOCK as u32, &operands, 0);
    let o = &mut out;
    writeln!(o, "  const u32 row = blockIdx.x; u32 q = row;").expect(GROWS);
    coordinates(o, "  ", 0, &k.rows, 1, "q");
    let (from, to) = (offset(&x.strides[..axis], 0), offset(&result.strides[..axis], 0));
    writeln!(o, "  o0 += {from}; o1 += {to};").expect(GROWS);
    let at = |stride: i64, i: &str| format!("(ix){stride} * ({i})");
    let put = |value: &str, kind: Kind, i: &str| {
        let v = Val { text: value.to_owned(), kind }.stored(result.dtype);
        format!("put(o1[{}], {v});", at(result.strides[axis], i))
    };
    match k.op {
        RowOpKind::CumSum { reverse } => {
            let ty = kind.ty();
            let place = if reverse { format!("{n} - 1 - i") } else { "i".to_owned() };
            writeln!(o, "  __shared__ {ty} sums[8];\n  {ty} before = 0;").expect(GROWS);
            writeln!(o, "  for (int first = 0; first < {n}; first += {BLOCK}) {{").expect(GROWS);
            writeln!(o, "    const int i = first + threadIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;").expect(GROWS);
            writeln!(
                o,
                "    {ty} v = i < {n} ? get(o0[{}]) : ({ty})0;",
                at(x.strides[axis], &place)
            )
            .expect(GROWS);
            writeln!(o, "#pragma unroll\n    for (int by = 1; by < 32; by *= 2) {{").expect(GROWS);
            writeln!(o, "      const {ty} w = __shfl_up_sync(0xffffffffu, v, by);\n      if (lane >= by) v += w;\n    }}").expect(GROWS);
            writeln!(o, "    if (lane == 31) sums[warp] = v;\n    __syncthreads();\n    {ty} all = 0, mine = 0;").expect(GROWS);
            writeln!(o, "#pragma unroll\n    for (int w = 0; w < 8; w++) {{ if (w == warp) mine = all; all += sums[w]; }}").expect(GROWS);
            writeln!(o, "    v += before + mine;\n    if (i < {n}) {}", put("v", kind, &place))
                .expect(GROWS);
            writeln!(o, "    before += all;\n    __syncthreads();\n  }}\n}}").expect(GROWS);
        }
        RowOpKind::TopK { .. } | RowOpKind::ArgSort => {
            // Numbers in the order of IEEE 754's totalOrder, as integers.
            let key = |i: &str| {
                let load = format!("get(o0[{}])", at(x.strides[axis], i));
                match kind {
                    Kind::F => format!("ordered({load})"),
                    Kind::I | Kind::M => load,
                }
            };
            writeln!(o, "  for (int i = threadIdx.x; i < {n}; i += {BLOCK}) {{").expect(GROWS);
            writeln!(o, "    const int mine = {};\n    int before = 0;", key("i")).expect(GROWS);
            let earlier = match k.op {
                RowOpKind::TopK { .. } => "other > mine",
                RowOpKind::ArgSort | RowOpKind::CumSum { .. } => "other < mine",
            };
            writeln!(
                o,
                "    for (int j = 0; j < {n}; j++) {{\n      const int other = {};",
                key("j")
            )
            .expect(GROWS);
            writeln!(o, "      before += {earlier} || (other == mine && j < i);\n    }}")
                .expect(GROWS);
            match k.op {
                RowOpKind::TopK { k } => {
                    writeln!(o, "    {}", put(&format!("(before < {k})"), Kind::M, "i"))
                        .expect(GROWS);
                }
                RowOpKind::ArgSort | RowOpKind::CumSum { .. } => {
                    writeln!(o, "    {}", put("i", Kind::I, "before")).expect(GROWS);
                }
            }
            out.push_str("  }\n}\n");
        }
    }
    let pass =
        Pass { entry: "run".into(), grid: [blocks(rows, 1), 1, 1], block: BLOCK as u32, shared: 0 };
    Text { source: out, passes: vec![pass], scratch: 0 }
}
