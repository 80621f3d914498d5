//! A plan as text.
//!
//! Takes a plan; gives its memories, kernels and steps, one a line, in a stable form: what `cs336c plan --kernels` and golden tests show.

use std::fmt::Write;

use super::{Io, Launch, Place, Plan, Step, View};
use crate::kernel;
use crate::scalar::{Expr, Inst};

/// The whole plan.
pub fn print(plan: &Plan) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(format!("arena {} bytes", plan.arena_bytes));
    for (class, bytes) in &plan.memory {
        line(format!("memory {class:?} {bytes}"));
    }
    for (i, b) in plan.buffers.iter().enumerate() {
        let place = match &b.place {
            Place::Arena { offset } => format!("arena+{offset}"),
            Place::External { storage, io } => {
                let io = match io {
                    Io::Input => "input",
                    Io::Output => "output",
                    Io::Updated => "updated",
                };
                format!("{io} `{storage}`")
            }
        };
        line(format!("b{i}: {} bytes {:?} {place}   # {}", b.bytes, b.class, b.name));
    }
    for (i, e) in plan.host.iter().enumerate() {
        line(format!("h{i} = {}", host(e)));
    }
    for (i, k) in plan.kernels.iter().enumerate() {
        line(format!("k{i}: {}", kernel::print::print(k).trim_end().replace('\n', "\n    ")));
    }
    steps(&plan.steps, 0, &mut out);
    out
}

/// An expression as text: `(h0 - 1) * 0.5`.
pub fn host(e: &Expr) -> String {
    fn term(e: &Expr, at: u32) -> String {
        let t = |r: &u32| term(e, *r);
        match &e.insts[at as usize] {
            Inst::Arg(i) => format!("h{i}"),
            Inst::Const(l) => format!("{:?}", l.get()),
            Inst::Pos(i) => format!("pos{i}"),
            Inst::Runtime(r) => format!("{r:?}").to_lowercase(),
            Inst::Unary(op, a) => format!("{op:?}({})", t(a)).to_lowercase(),
            Inst::Binary(op, a, b) => format!("{op:?}({}, {})", t(a), t(b)).to_lowercase(),
            Inst::Select(c, a, b) => format!("select({}, {}, {})", t(c), t(a), t(b)),
            Inst::Cast(d, a) => format!("{}({})", d.name(), t(a)),
            Inst::Random(d, s, c) => {
                format!("{d:?}#{s}({}, {}, {})", t(&c[0]), t(&c[1]), t(&c[2])).to_lowercase()
            }
        }
    }
    term(e, e.result)
}

fn steps(all: &[Step], depth: usize, out: &mut String) {
    let pad = "  ".repeat(depth);
    for step in all {
        match step {
            Step::Launch(l) => launch(l, &pad, out),
            Step::Loop { id, count, reverse, body } => {
                let way = if *reverse { " reverse" } else { "" };
                let _ = writeln!(out, "{pad}loop l{id} {count}{way}");
                steps(body, depth + 1, out);
            }
            Step::Copy { from, to, bytes } => {
                let _ = writeln!(out, "{pad}copy {} -> {} {bytes} bytes", view(from), view(to));
            }
            Step::Zero { view: v, bytes } => {
                let _ = writeln!(out, "{pad}zero {} {bytes} bytes", view(v));
            }
        }
    }
}

fn launch(l: &Launch, pad: &str, out: &mut String) {
    let views: Vec<String> = l.views.iter().map(view).collect();
    let params: Vec<String> = l.params.iter().map(|p| format!("h{p}")).collect();
    let params = if params.is_empty() { String::new() } else { format!("; {}", params.join(", ")) };
    let _ = writeln!(out, "{pad}k{}({}{params})   # {}", l.kernel, views.join(", "), l.origin);
}

fn view(v: &View) -> String {
    let mut text = format!("b{}", v.buffer);
    if v.offset != 0 {
        let _ = write!(text, "+{}", v.offset);
    }
    for a in &v.advances {
        let shift = if a.shift == 0 { String::new() } else { format!("+{}", a.shift) };
        let modulus = a.modulus.map(|m| format!("%{m}")).unwrap_or_default();
        let _ = write!(text, "+{}*(l{}{shift}){modulus}", a.stride_bytes, a.loop_id);
    }
    text
}
