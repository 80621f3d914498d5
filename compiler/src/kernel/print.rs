//! A kernel as text.
//!
//! Takes a kernel; gives a header with its extents, one line per operand and one per instruction, in a stable form.

use std::fmt::Write;

use super::{Access, AttentionKernel, Effect, Inst, Kernel, Operand};

/// The whole kernel.
pub fn print(kernel: &Kernel) -> String {
    let mut out = String::new();
    match kernel {
        Kernel::Loop(k) => {
            let _ = writeln!(out, "loop rows {:?} cols {:?}", k.rows, k.cols);
            operands(&kernel.operands(), &mut out);
            for stage in &k.stages {
                let _ = writeln!(out, "  {}", if stage.per_row { "per row" } else { "per column" });
                insts(&stage.insts, &mut out);
                for effect in &stage.effects {
                    let _ = match effect {
                        Effect::Store { operand, value } => {
                            writeln!(out, "    o{operand} = %{value}")
                        }
                        Effect::Reduce { op, value, into } => {
                            writeln!(out, "    row{into} = {op:?}(%{value})")
                        }
                    };
                }
            }
        }
        Kernel::ColReduce(k) => {
            let _ = writeln!(
                out,
                "column reduction outer {:?} reduced {:?} cols {:?} chunks {}",
                k.outer, k.reduced, k.cols, k.chunks
            );
            operands(&kernel.operands(), &mut out);
            insts(&k.insts, &mut out);
            for (op, value, operand) in &k.results {
                let _ = writeln!(out, "    o{operand} = {op:?}(%{value})");
            }
        }
        Kernel::Gemm(k) => {
            let _ = writeln!(out, "gemm batch {:?} m {} n {} k {}", k.batch, k.m, k.n, k.k);
            operands(&kernel.operands(), &mut out);
        }
        Kernel::Attention(k) => attention("attention", k, &mut out),
        Kernel::AttentionGrad(k) => attention("attention gradient", k, &mut out),
        Kernel::Scatter(k) => {
            let _ = writeln!(
                out,
                "scatter outer {:?} rows {:?} cols {:?} limit {} stride {}",
                k.outer, k.rows, k.cols, k.limit, k.stride
            );
            operands(&kernel.operands(), &mut out);
        }
        Kernel::RowOp(k) => {
            let _ = writeln!(out, "{:?} rows {:?} n {}", k.op, k.rows, k.n);
            operands(&kernel.operands(), &mut out);
        }
    }
    out
}

fn attention(name: &str, k: &AttentionKernel, out: &mut String) {
    let _ = writeln!(
        out,
        "{name} batch {:?} queries {:?} keys {} over {} values {:?} scale {:?}",
        k.batch, k.queries, k.keys, k.over, k.values, k.scale
    );
    let mut line = |text: String| {
        let _ = writeln!(out, "  {text}");
    };
    line(format!("score {:?} at {:?}", k.score.insts, k.pos));
    line(format!("mask {:?}", k.mask.insts));
    for bound in &k.upper {
        line(format!("key <= {bound:?}"));
    }
    for bound in &k.lower {
        line(format!("key >= {bound:?}"));
    }
    operands(&k.operands.iter().collect::<Vec<_>>(), out);
}

fn operands(all: &[&Operand], out: &mut String) {
    for (i, o) in all.iter().enumerate() {
        let access = match o.access {
            Access::Read => "read",
            Access::Write => "write",
            Access::Accumulate => "add",
        };
        let _ = write!(out, "  o{i}: {access} {} {:?}", o.dtype.name(), o.strides);
        if o.offset != 0 {
            let _ = write!(out, " offset {}", o.offset);
        }
        if let Some((param, stride)) = o.dynamic {
            let _ = write!(out, " at p{param} * {stride}");
        }
        out.push('\n');
    }
}

fn insts(all: &[Inst], out: &mut String) {
    for (i, inst) in all.iter().enumerate() {
        let text = match inst {
            Inst::Load { operand, indirect, guards, outside } => {
                let mut text = format!("load o{operand}");
                for x in indirect {
                    let _ = write!(text, " + {} * %{} below {}", x.stride, x.index, x.limit);
                }
                for g in guards {
                    let _ = write!(text, " if 0 <= {} + {:?} < {}", g.offset, g.terms, g.limit);
                }
                if !(indirect.is_empty() && guards.is_empty()) && outside.get() != 0.0 {
                    let _ = write!(text, " else {outside:?}");
                }
                text
            }
            Inst::Coord(axis) => format!("coord {axis}"),
            Inst::Param(p, dtype) => format!("param p{p} {}", dtype.name()),
            Inst::Row(r) => format!("row{r}"),
            Inst::Const(l, dtype) => format!("{l:?} {}", dtype.name()),
            Inst::Unary(op, a) => format!("{op:?} %{a}"),
            Inst::Binary(op, a, b) => format!("{op:?} %{a} %{b}"),
            Inst::Select(c, a, b) => format!("select %{c} %{a} %{b}"),
            Inst::Cast(dtype, a) => format!("cast {} %{a}", dtype.name()),
            Inst::Random { dist, stream, counters, .. } => {
                format!("{dist:?} #{stream} {counters:?}")
            }
        };
        let _ = writeln!(out, "    %{i} = {text}");
    }
}
