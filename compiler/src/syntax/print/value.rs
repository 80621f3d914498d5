//! Values, with parentheses only where the precedences need them.

use super::super::ast::{
    Arg, Axis, BinaryOp, Clause, CompareOp, Expr, ExprKind, IndexArg, Suffix, UnaryOp, Unit,
};
use super::Printer;

// As in `build/value.rs`, from the loosest to the tightest.
pub(super) const LAW: u8 = 1;
const PIPE: u8 = 2;
const WITH: u8 = 3;
const OR: u8 = 4;
const AND: u8 = 5;
const NOT: u8 = 6;
const COMPARE: u8 = 7;
const RANGE: u8 = 8;
pub(super) const ADD: u8 = 9;
const MUL: u8 = 10;
const POW: u8 = 11;
pub(super) const TERM: u8 = 12;

impl Printer {
    /// A value where only what binds at least as tight as `least` may stand without parentheses.
    pub(super) fn value(&mut self, value: &Expr, least: u8) {
        let parenthesised = precedence(value) < least;
        if parenthesised {
            self.text("(");
        }
        self.bare(value);
        if parenthesised {
            self.text(")");
        }
    }

    fn bare(&mut self, value: &Expr) {
        match &*value.kind {
            ExprKind::Number { value, suffix } => {
                self.number(*value);
                self.suffix(suffix.as_ref());
            }
            ExprKind::Text(text) => self.string(text),
            ExprKind::Name(name) => self.text(name),
            ExprKind::Dot(name) => {
                self.text(".");
                self.text(&name.name);
            }
            ExprKind::Bool(value) => self.text(if *value { "true" } else { "false" }),
            ExprKind::None => self.text("none"),
            ExprKind::List { values, suffix } => {
                self.text("[");
                self.list(values, |p, v| p.value(v, LAW));
                self.text("]");
                self.suffix(suffix.as_ref());
            }
            ExprKind::Comprehension { value, clauses, suffix } => {
                self.text("[");
                self.value(value, LAW);
                for clause in clauses {
                    self.text(" ");
                    match clause {
                        Clause::For { pattern, iter } => self.for_clause(pattern, iter),
                        Clause::Where(condition) => self.worded("where ", condition),
                    }
                }
                self.text("]");
                self.suffix(suffix.as_ref());
            }
            ExprKind::Block(block) => self.block(block),
            ExprKind::Call { callee, args } => {
                self.base(callee);
                self.text("(");
                self.list(args, |p, Arg { name, value }| match name {
                    Some(name) => {
                        p.text(&name.name);
                        p.set(value);
                    }
                    None => p.value(value, LAW),
                });
                self.text(")");
            }
            ExprKind::Index { base, args } => {
                self.base(base);
                self.index(args);
            }
            ExprKind::Member { base, name } => {
                self.base(base);
                self.text(".");
                self.text(&name.name);
            }
            ExprKind::Unary { op, value } => match op {
                UnaryOp::Neg => {
                    self.text("-");
                    self.value(value, POW);
                }
                UnaryOp::Not => {
                    self.text("not ");
                    self.value(value, NOT);
                }
            },
            ExprKind::Binary { op, left, right, .. } => {
                let level = level_of(*op);
                let is_power = *op == BinaryOp::Pow;
                self.value(left, if is_power { TERM } else { level });
                self.text(sign_of(*op));
                self.value(right, if is_power { POW } else { level + 1 });
            }
            ExprKind::Compare { first, rest } => {
                self.value(first, RANGE);
                for (op, _, value) in rest {
                    self.text(compare_sign(*op));
                    self.value(value, RANGE);
                }
            }
            ExprKind::Range { from, to } => self.range(from, to),
            ExprKind::Pipe { value, into } => {
                self.value(value, PIPE);
                self.text(" |> ");
                self.value(into, WITH);
            }
            ExprKind::With { base, update } => {
                self.value(base, WITH);
                self.text(" with ");
                self.value(update, TERM);
            }
            ExprKind::If { condition, then, otherwise } => {
                self.worded("if ", condition);
                self.worded(" then ", then);
                self.worded(" else ", otherwise);
            }
            ExprKind::Match { subject, arms } => {
                self.text("match ");
                self.value(subject, TERM);
                self.text(" ");
                self.block(arms);
            }
            ExprKind::Scan { args, body } => {
                self.text("scan");
                self.index(args);
                self.text(" ");
                self.block(body);
            }
            ExprKind::Law { left, right } => {
                self.value(left, PIPE);
                self.text(" ~ ");
                self.value(right, PIPE);
            }
            ExprKind::Error => self.text("<error>"),
        }
    }

    /// What stands before a call, a bracket or a dot.
    fn base(&mut self, value: &Expr) {
        let loose = match &*value.kind {
            ExprKind::Number { .. } | ExprKind::Block(_) => true,
            ExprKind::List { suffix, .. } | ExprKind::Comprehension { suffix, .. } => {
                suffix.is_some()
            }
            ExprKind::Text(_)
            | ExprKind::Name(_)
            | ExprKind::Dot(_)
            | ExprKind::Bool(_)
            | ExprKind::None
            | ExprKind::Call { .. }
            | ExprKind::Index { .. }
            | ExprKind::Member { .. }
            | ExprKind::Unary { .. }
            | ExprKind::Binary { .. }
            | ExprKind::Compare { .. }
            | ExprKind::Range { .. }
            | ExprKind::Pipe { .. }
            | ExprKind::With { .. }
            | ExprKind::If { .. }
            | ExprKind::Match { .. }
            | ExprKind::Scan { .. }
            | ExprKind::Law { .. }
            | ExprKind::Error => false,
        };
        self.value(value, if loose { TERM + 1 } else { TERM });
    }

    fn index(&mut self, args: &[IndexArg]) {
        self.text("[");
        self.list(args, |p, arg| match arg {
            IndexArg::Arrow { from, to, .. } => {
                p.rename_side(from);
                p.text(" -> ");
                p.rename_side(to);
            }
            IndexArg::Tuple(axes, _) => p.tuple(axes),
            IndexArg::Named { name, value } => {
                p.text(&name.name);
                p.set(value);
            }
            IndexArg::Value(value) => p.value(value, LAW),
        });
        self.text("]");
    }

    fn rename_side(&mut self, axes: &[Axis]) {
        match axes {
            [Axis { name, size: None }] => self.text(&name.name),
            _ => self.tuple(axes),
        }
    }

    fn number(&mut self, value: f64) {
        // The shortest digits that read back to the same number; whole numbers without a dot.
        let digits = format!("{value:?}");
        self.text(digits.strip_suffix(".0").unwrap_or(&digits));
    }

    fn suffix(&mut self, suffix: Option<&Suffix>) {
        match suffix {
            Some(Suffix::Percent) => self.text("%"),
            Some(Suffix::Unit(Unit { amount, per, .. })) => {
                self.text(" ");
                self.text(&amount.name);
                for name in per {
                    self.text("/");
                    self.text(&name.name);
                }
            }
            None => {}
        }
    }

    pub(super) fn string(&mut self, text: &str) {
        self.text("\"");
        for c in text.chars() {
            match c {
                '\n' => self.text("\\n"),
                '\t' => self.text("\\t"),
                '\r' => self.text("\\r"),
                '\0' => self.text("\\0"),
                '"' => self.text("\\\""),
                '\\' => self.text("\\\\"),
                _ => self.out.push(c),
            }
        }
        self.text("\"");
    }
}

fn precedence(value: &Expr) -> u8 {
    match &*value.kind {
        ExprKind::Law { .. } => LAW,
        // Its last part takes everything that follows.
        ExprKind::If { .. } => LAW,
        ExprKind::Pipe { .. } => PIPE,
        ExprKind::With { .. } => WITH,
        ExprKind::Binary { op, .. } => level_of(*op),
        ExprKind::Unary { op: UnaryOp::Not, .. } => NOT,
        ExprKind::Unary { op: UnaryOp::Neg, .. } => POW,
        ExprKind::Compare { .. } => COMPARE,
        ExprKind::Range { .. } => RANGE,
        ExprKind::Number { .. }
        | ExprKind::Text(_)
        | ExprKind::Name(_)
        | ExprKind::Dot(_)
        | ExprKind::Bool(_)
        | ExprKind::None
        | ExprKind::List { .. }
        | ExprKind::Comprehension { .. }
        | ExprKind::Block(_)
        | ExprKind::Call { .. }
        | ExprKind::Index { .. }
        | ExprKind::Member { .. }
        | ExprKind::Match { .. }
        | ExprKind::Scan { .. }
        | ExprKind::Error => TERM,
    }
}

fn level_of(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => OR,
        BinaryOp::And => AND,
        BinaryOp::Add | BinaryOp::Sub => ADD,
        BinaryOp::Mul | BinaryOp::Div => MUL,
        BinaryOp::Pow => POW,
    }
}

fn sign_of(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Or => " or ",
        BinaryOp::And => " and ",
        BinaryOp::Add => " + ",
        BinaryOp::Sub => " - ",
        BinaryOp::Mul => " * ",
        BinaryOp::Div => " / ",
        BinaryOp::Pow => "^",
    }
}

fn compare_sign(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Eq => " == ",
        CompareOp::Ne => " != ",
        CompareOp::Lt => " < ",
        CompareOp::Le => " <= ",
        CompareOp::Gt => " > ",
        CompareOp::Ge => " >= ",
        CompareOp::In => " in ",
    }
}
