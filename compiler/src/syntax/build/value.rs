//! Values: the flat lists of terms and operators that the grammar gives, climbed by a table of precedences.

use std::iter::Peekable;

use pest::iterators::Pairs;

use super::super::ast::{
    Arg, Axis, BinaryOp, Clause, CompareOp, Expr, ExprKind, Ident, IndexArg, Suffix, UnaryOp, Unit,
};
use super::super::parse::Rule;
use super::super::problems as say;
use super::super::words::{FOREIGN_LITERALS, UNIT_NAMES, UNIT_SPELLINGS, meant};
use super::{Builder, P};
use crate::source::Span;

type Terms<'a> = Peekable<Pairs<'a, Rule>>;

/// An infix operator.
#[derive(Clone, Copy, PartialEq)]
enum Infix {
    Law,
    Pipe,
    With,
    Binary(BinaryOp),
    Compare(CompareOp),
    NotIn,
    Range,
    Remainder,
    Product,
}

// From the loosest to the tightest. A prefix `not` reads comparisons, a prefix `-` powers: `-x^2` is `-(x^2)`.
const LAW: u8 = 1;
const PIPE: u8 = 2;
const WITH: u8 = 3;
const OR: u8 = 4;
const AND: u8 = 5;
const NOT: u8 = 6;
const COMPARE: u8 = 7;
const RANGE: u8 = 8;
const ADD: u8 = 9;
const MUL: u8 = 10;
const POW: u8 = 11;
const TERM: u8 = 12;

impl Infix {
    fn of(pair: &P<'_>) -> Option<Infix> {
        Some(match (pair.as_rule(), pair.as_str().trim_end()) {
            (Rule::law_op, _) => Infix::Law,
            (Rule::pipe_op, _) => Infix::Pipe,
            (Rule::with_op, _) => Infix::With,
            (Rule::or_op | Rule::wrong_or, _) => Infix::Binary(BinaryOp::Or),
            (Rule::and_op | Rule::wrong_and, _) => Infix::Binary(BinaryOp::And),
            (Rule::wrong_not_in, _) => Infix::NotIn,
            (Rule::range_op, _) => Infix::Range,
            (Rule::compare_op, "!=") | (Rule::wrong_operator, "!==" | "<>") => {
                Infix::Compare(CompareOp::Ne)
            }
            (Rule::compare_op, "<") => Infix::Compare(CompareOp::Lt),
            (Rule::compare_op, "<=") => Infix::Compare(CompareOp::Le),
            (Rule::compare_op, ">") => Infix::Compare(CompareOp::Gt),
            (Rule::compare_op, ">=") => Infix::Compare(CompareOp::Ge),
            (Rule::compare_op, "in") => Infix::Compare(CompareOp::In),
            (Rule::compare_op, _) | (Rule::wrong_operator, "===") => Infix::Compare(CompareOp::Eq),
            (Rule::wrong_operator, "..." | "..=" | "..<") => Infix::Range,
            (Rule::wrong_operator, "%") => Infix::Remainder,
            (Rule::wrong_operator, "@") => Infix::Product,
            (Rule::wrong_operator | Rule::pow_op, _) => Infix::Binary(BinaryOp::Pow),
            (Rule::add_op, "+") => Infix::Binary(BinaryOp::Add),
            (Rule::add_op, _) => Infix::Binary(BinaryOp::Sub),
            (Rule::mul_op, "*") => Infix::Binary(BinaryOp::Mul),
            (Rule::mul_op, _) => Infix::Binary(BinaryOp::Div),
            _ => return None,
        })
    }

    fn precedence(self) -> u8 {
        match self {
            Infix::Law => LAW,
            Infix::Pipe => PIPE,
            Infix::With => WITH,
            Infix::Compare(_) | Infix::NotIn => COMPARE,
            Infix::Range => RANGE,
            Infix::Remainder | Infix::Product => MUL,
            Infix::Binary(op) => match op {
                BinaryOp::Or => OR,
                BinaryOp::And => AND,
                BinaryOp::Add | BinaryOp::Sub => ADD,
                BinaryOp::Mul | BinaryOp::Div => MUL,
                BinaryOp::Pow => POW,
            },
        }
    }
}

impl Builder<'_> {
    pub(super) fn error_value(span: Span) -> Expr {
        Expr { kind: Box::new(ExprKind::Error), span }
    }

    /// The value of a pair that holds a flat list of terms and operators.
    pub(super) fn value(&mut self, pair: P<'_>) -> Expr {
        let span = self.span(&pair);
        let mut terms = pair.into_inner().peekable();
        self.climb(&mut terms, LAW).unwrap_or_else(|| Self::error_value(span))
    }

    /// Reads operators that bind at least as tight as `least`.
    fn climb(&mut self, terms: &mut Terms<'_>, least: u8) -> Option<Expr> {
        let mut left = self.prefixed(terms, least)?;
        while let Some(op) = terms.peek().and_then(Infix::of).filter(|o| o.precedence() >= least) {
            let pair = terms.next()?;
            let op_span = self.span(&pair);
            self.foreign_operator(&pair, op_span);
            left = match op {
                Infix::Compare(first) => self.comparison(terms, left, first, op_span)?,
                _ => self.infix(terms, left, op, op_span)?,
            };
        }
        Some(left)
    }

    fn infix(
        &mut self,
        terms: &mut Terms<'_>,
        left: Expr,
        op: Infix,
        op_span: Span,
    ) -> Option<Expr> {
        // A power groups to the right, `with` takes one term, everything else groups to the left.
        let least = match op {
            Infix::Binary(BinaryOp::Pow) => POW,
            Infix::With => TERM,
            Infix::Law
            | Infix::Pipe
            | Infix::Binary(_)
            | Infix::Compare(_)
            | Infix::NotIn
            | Infix::Range
            | Infix::Remainder
            | Infix::Product => op.precedence() + 1,
        };
        let right = self.climb(terms, least)?;
        let span = left.span.to(right.span);
        let chained = terms.peek().and_then(Infix::of) == Some(op);
        let kind = match op {
            Infix::Law | Infix::Range if chained => {
                let sign = if op == Infix::Law { "~" } else { ".." };
                let again = terms.peek().map(|p| self.span(p));
                self.report(say::not_chained(again.unwrap_or(op_span), sign));
                ExprKind::Error
            }
            Infix::Law => ExprKind::Law { left, right },
            Infix::Range => ExprKind::Range { from: left, to: right },
            Infix::Pipe => ExprKind::Pipe { value: left, into: right },
            Infix::With => ExprKind::With { base: left, update: right },
            Infix::Binary(op) => ExprKind::Binary { op, op_span, left, right },
            Infix::Compare(op) => {
                ExprKind::Compare { first: left, rest: vec![(op, op_span, right)] }
            }
            Infix::NotIn => {
                let rest = vec![(CompareOp::In, op_span, right)];
                let value = Expr { kind: Box::new(ExprKind::Compare { first: left, rest }), span };
                ExprKind::Unary { op: UnaryOp::Not, value }
            }
            Infix::Remainder => {
                let callee =
                    Expr { kind: Box::new(ExprKind::Name("mod".to_owned())), span: op_span };
                let args = [left, right].map(|value| Arg { name: None, value }).into();
                ExprKind::Call { callee, args }
            }
            Infix::Product => ExprKind::Error,
        };
        Some(Expr { kind: Box::new(kind), span })
    }

    /// `a <= b < c`: all comparisons of one level become one chain.
    fn comparison(
        &mut self,
        terms: &mut Terms<'_>,
        first: Expr,
        op: CompareOp,
        op_span: Span,
    ) -> Option<Expr> {
        let mut span = first.span;
        let mut rest = Vec::new();
        let mut next = Some((op, op_span));
        while let Some((op, op_span)) = next.take() {
            let right = self.climb(terms, COMPARE + 1)?;
            span = span.to(right.span);
            rest.push((op, op_span, right));
            if let Some(Infix::Compare(op)) = terms.peek().and_then(Infix::of) {
                let pair = terms.next()?;
                let op_span = self.span(&pair);
                self.foreign_operator(&pair, op_span);
                next = Some((op, op_span));
            }
        }
        Some(Expr { kind: Box::new(ExprKind::Compare { first, rest }), span })
    }

    fn foreign_operator(&mut self, pair: &P<'_>, span: Span) {
        match (pair.as_rule(), pair.as_str().trim_end()) {
            (Rule::wrong_operator, "@") => self.report(say::matmul(span)),
            (Rule::wrong_operator | Rule::wrong_and | Rule::wrong_or, found) => {
                self.report(say::foreign_operator(span, found));
            }
            (Rule::wrong_not_in, _) => self.report(say::not_in(span)),
            _ => {}
        }
    }

    fn prefixed(&mut self, terms: &mut Terms<'_>, least: u8) -> Option<Expr> {
        let pair = terms.next()?;
        let start = self.span(&pair);
        let (op, operand) = match pair.as_rule() {
            Rule::minus => (UnaryOp::Neg, POW),
            Rule::kw_not | Rule::wrong_bang => (UnaryOp::Not, NOT),
            _ => return Some(self.term(pair, terms)),
        };
        if pair.as_rule() == Rule::wrong_bang {
            self.report(say::foreign_operator(start, "!"));
        } else if op == UnaryOp::Not && least > NOT {
            self.report(say::loose_not(start));
        }
        let value = self.climb(terms, operand)?;
        let span = start.to(value.span);
        Some(Expr { kind: Box::new(ExprKind::Unary { op, value }), span })
    }

    /// An operand and what follows it directly.
    fn term(&mut self, pair: P<'_>, terms: &mut Terms<'_>) -> Expr {
        let mut value = self.operand(pair);
        let is_postfix = |p: &P<'_>| matches!(p.as_rule(), Rule::call | Rule::index | Rule::member);
        while let Some(pair) = terms.next_if(is_postfix) {
            let span = value.span.to(self.span(&pair));
            let kind = match pair.as_rule() {
                Rule::call => ExprKind::Call { callee: value, args: self.arguments(pair) },
                Rule::index => ExprKind::Index { base: value, args: self.index_arguments(pair) },
                _ => match pair.into_inner().next() {
                    Some(name) => ExprKind::Member { base: value, name: self.ident(&name) },
                    None => ExprKind::Error,
                },
            };
            value = Expr { kind: Box::new(kind), span };
        }
        value
    }

    /// A plain value: a key of a map.
    pub(super) fn plain(&mut self, pair: P<'_>) -> Expr {
        self.operand(pair)
    }

    fn operand(&mut self, pair: P<'_>) -> Expr {
        let span = self.span(&pair);
        let kind = match pair.as_rule() {
            Rule::quantity => self.quantity(pair),
            Rule::string => ExprKind::Text(self.string(&pair)),
            Rule::name => match meant(&FOREIGN_LITERALS, pair.as_str()) {
                Some(meant) => {
                    self.report(say::foreign_literal(span, pair.as_str(), meant));
                    literal(meant)
                }
                None => ExprKind::Name(pair.as_str().to_owned()),
            },
            Rule::literal => literal(pair.as_str().trim_end()),
            Rule::row_field => match pair.into_inner().next() {
                Some(name) => ExprKind::Dot(self.ident(&name)),
                None => ExprKind::Error,
            },
            Rule::list => self.list(pair),
            Rule::group => return self.group(pair, span),
            Rule::block => ExprKind::Block(self.block(pair)),
            Rule::conditional | Rule::wrong_elif => self.conditional(pair),
            Rule::match_value => {
                let mut subject = None;
                let mut arms = None;
                for part in pair.into_inner() {
                    match part.as_rule() {
                        Rule::match_subject => subject = Some(self.value(part)),
                        Rule::block => arms = Some(self.block(part)),
                        _ => {}
                    }
                }
                match (subject, arms) {
                    (Some(subject), Some(arms)) => ExprKind::Match { subject, arms },
                    _ => ExprKind::Error,
                }
            }
            Rule::scan_value => {
                let mut args = Vec::new();
                let mut body = None;
                for part in pair.into_inner() {
                    match part.as_rule() {
                        Rule::index => args = self.index_arguments(part),
                        Rule::block => body = Some(self.block(part)),
                        _ => {}
                    }
                }
                body.map_or(ExprKind::Error, |body| ExprKind::Scan { args, body })
            }
            Rule::wrong_lambda => {
                let word = Span { end: span.start + 6, ..span };
                let help = "give the function a name: `fn f(x) = ..`";
                self.report(say::foreign_word(word, "lambda", help));
                ExprKind::Error
            }
            Rule::wrong_decimal => {
                let found = pair.as_str();
                self.report(say::number_spelling(span, found, &format!("0{found}")));
                ExprKind::Number { value: found.parse().unwrap_or(0.0), suffix: None }
            }
            _ => ExprKind::Error,
        };
        Expr { kind: Box::new(kind), span }
    }

    fn group(&mut self, pair: P<'_>, span: Span) -> Expr {
        let mut values = pair.into_inner().map(|p| self.value(p)).collect::<Vec<_>>().into_iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Expr { span, ..value },
            _ => {
                self.report(say::tuple_value(span));
                Self::error_value(span)
            }
        }
    }

    /// `if a then b else c`, also with the braces or the `elif` of other languages.
    fn conditional(&mut self, pair: P<'_>) -> ExprKind {
        let mut values = Vec::new();
        let mut braces: Option<Span> = None;
        for part in pair.into_inner() {
            let span = self.span(&part);
            match part.as_rule() {
                Rule::value => values.push(self.value(part)),
                Rule::wrong_braces => {
                    braces = braces.or(Some(Span { end: span.start + 1, ..span }));
                    let block = part.into_inner().next().map(|b| self.block(b));
                    values.push(match block {
                        Some(block) => Expr { span, kind: Box::new(ExprKind::Block(block)) },
                        None => Self::error_value(span),
                    });
                }
                Rule::elif_word => {
                    self.report(
                        say::if_form(span, &format!("there is no `{}`", part.as_str()))
                            .fix(span, "else if"),
                    );
                }
                Rule::wrong_elif => {
                    let kind = Box::new(self.conditional(part));
                    values.push(Expr { kind, span });
                }
                _ => {}
            }
        }
        if let Some(span) = braces {
            self.report(
                say::if_form(span, "`then` is missing before this `{`")
                    .fix(Span { end: span.start, ..span }, "then "),
            );
        }
        match <[Expr; 3]>::try_from(values) {
            Ok([condition, then, otherwise]) => ExprKind::If { condition, then, otherwise },
            Err(_) => ExprKind::Error,
        }
    }

    fn list(&mut self, pair: P<'_>) -> ExprKind {
        let mut values: Vec<Expr> = Vec::new();
        let mut clauses = Vec::new();
        let mut suffix = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::value => values.push(self.value(part)),
                Rule::for_item => clauses.extend(
                    self.for_parts(part).map(|(pattern, iter)| Clause::For { pattern, iter }),
                ),
                Rule::where_item => {
                    let condition = part.into_inner().find(|p| p.as_rule() == Rule::value);
                    clauses.extend(condition.map(|c| Clause::Where(self.value(c))));
                }
                Rule::percent => suffix = Some(Suffix::Percent),
                Rule::unit => suffix = Some(Suffix::Unit(self.unit(part))),
                _ => self.missing_comma(&part, values.last().map(|v| v.span)),
            }
        }
        if clauses.is_empty() {
            return ExprKind::List { values, suffix };
        }
        match values.pop() {
            Some(value) => ExprKind::Comprehension { value, clauses, suffix },
            None => ExprKind::Error,
        }
    }

    fn missing_comma(&mut self, pair: &P<'_>, previous: Option<Span>) {
        if pair.as_rule() == Rule::wrong_missing_comma {
            let at = pair.as_span().end();
            let next = self.tokens.partition_point(|t| t.end <= at);
            let end = self.tokens.get(next).map_or(at, |t| t.end);
            let span = self.place_of(at, end);
            let gap = previous.map_or(span, |p| Span { start: p.end, ..p });
            self.report(say::missing_comma(gap, span));
        }
    }

    fn arguments(&mut self, pair: P<'_>) -> Vec<Arg> {
        let mut args: Vec<Arg> = Vec::new();
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::value => args.push(Arg { name: None, value: self.value(part) }),
                Rule::named_argument | Rule::wrong_colon_argument => {
                    if let Some((name, value)) = self.named_argument(part) {
                        args.push(Arg { name: Some(name), value });
                    }
                }
                _ => self.missing_comma(&part, args.last().map(|a| a.value.span)),
            }
        }
        args
    }

    fn named_argument(&mut self, pair: P<'_>) -> Option<(Ident, Expr)> {
        let is_colon = pair.as_rule() == Rule::wrong_colon_argument;
        let mut name = None;
        let mut value = None;
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::ident => {
                    if is_colon {
                        let colon = self.colon_after(&part);
                        self.report(say::colon(colon, part.as_str()));
                    }
                    name = Some(self.ident(&part));
                }
                Rule::value => value = Some(self.value(part)),
                _ => self.walrus(&part),
            }
        }
        Some((name?, value?))
    }

    fn index_arguments(&mut self, pair: P<'_>) -> Vec<IndexArg> {
        let mut args: Vec<IndexArg> = Vec::new();
        let mut last: Option<Span> = None;
        for part in pair.into_inner() {
            let span = self.span(&part);
            match part.as_rule() {
                Rule::value => args.push(IndexArg::Value(self.value(part))),
                Rule::axis_tuple => args.push(IndexArg::Tuple(self.axes(part), span)),
                Rule::rename => {
                    let mut sides = part.into_inner().map(|p| self.rename_side(p));
                    let (from, to) = (sides.next(), sides.next());
                    args.push(IndexArg::Arrow {
                        from: from.unwrap_or_default(),
                        to: to.unwrap_or_default(),
                        span,
                    });
                }
                Rule::named_argument | Rule::wrong_colon_argument => {
                    if let Some((name, value)) = self.named_argument(part) {
                        args.push(IndexArg::Named { name, value });
                    }
                }
                _ => {
                    self.missing_comma(&part, last);
                    continue;
                }
            }
            last = Some(span);
        }
        args
    }

    fn rename_side(&mut self, pair: P<'_>) -> Vec<Axis> {
        if pair.as_str().starts_with('(') {
            return self.axes(pair);
        }
        pair.into_inner().map(|p| Axis { name: self.ident(&p), size: None }).collect()
    }

    fn quantity(&mut self, pair: P<'_>) -> ExprKind {
        let mut value = 0.0;
        let mut suffix = None;
        if let Some(meant) = foreign_number(pair.as_str()) {
            let span = self.span(&pair);
            self.report(say::number_spelling(span, pair.as_str(), &meant));
            return ExprKind::Number { value: meant.parse().unwrap_or(0.0), suffix };
        }
        for part in pair.into_inner() {
            match part.as_rule() {
                Rule::number => value = self.number(&part),
                Rule::percent => suffix = Some(Suffix::Percent),
                _ => suffix = Some(Suffix::Unit(self.unit(part))),
            }
        }
        ExprKind::Number { value, suffix }
    }

    fn number(&mut self, pair: &P<'_>) -> f64 {
        let span = self.span(pair);
        let text = pair.as_str();
        let split = text.find(['K', 'M', 'B', 'T', 'G']).unwrap_or(text.len());
        let (digits, multiplier) = text.split_at(split);
        if let Some(whole) = digits.strip_suffix('.') {
            self.report(say::number_spelling(span, text, &format!("{whole}{multiplier}")));
        }
        let significant = digits.trim_start_matches(['0', '_']);
        if digits.len() > 1 && digits.starts_with('0') && !significant.starts_with(['.', 'e', 'E'])
        {
            let meant = if significant.is_empty() { "0" } else { significant };
            self.report(say::leading_zero(span, text, &format!("{meant}{multiplier}")));
        }
        let number: f64 = digits.replace('_', "").parse().unwrap_or(0.0);
        let value = number * scale_of(multiplier);
        if value.is_infinite() {
            self.report(say::number_range(span));
            return 0.0;
        }
        value
    }

    fn unit(&mut self, pair: P<'_>) -> Unit {
        let span = self.span(&pair);
        let mut names = Vec::new();
        for part in pair.into_inner() {
            let mut name = self.ident(&part);
            if let Some(meant) = meant(&UNIT_SPELLINGS, &name.name) {
                self.report(say::unit_spelling(name.span, &name.name, meant));
                name.name = meant.to_owned();
            }
            names.push(name);
        }
        let mut names = names.into_iter();
        let amount = self.named(names.next());
        let per: Vec<Ident> = names.collect();
        let is_unit = |name: &Ident| UNIT_NAMES.contains(&name.name.as_str());
        let glued = per.iter().find(|name| !is_unit(name));
        if let (true, Some(name)) = (is_unit(&amount), glued) {
            let slash = Span {
                start: name.span.start.saturating_sub(1),
                end: name.span.start,
                ..name.span
            };
            self.report(say::glued_unit(name.span, slash, &name.name));
        }
        Unit { amount, per, span }
    }
}

fn literal(word: &str) -> ExprKind {
    match word {
        "true" => ExprKind::Bool(true),
        "false" => ExprKind::Bool(false),
        _ => ExprKind::None,
    }
}

/// What `0x10`, `0b1` or `1e` should be.
fn foreign_number(text: &str) -> Option<String> {
    if let Some(digits) = text.strip_suffix(['e', 'E']) {
        return digits.parse::<f64>().ok().map(|_| digits.to_owned());
    }
    let (prefix, digits) = text.split_at_checked(2)?;
    let radix = match prefix {
        "0x" | "0X" => 16,
        "0o" => 8,
        "0b" => 2,
        _ => return None,
    };
    Some(u64::from_str_radix(digits, radix).ok()?.to_string())
}

fn scale_of(multiplier: &str) -> f64 {
    match multiplier {
        "K" => 1e3,
        "M" => 1e6,
        "B" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        _ => 1.0,
    }
}
