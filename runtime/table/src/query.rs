//! Questions to tables: pipelines of the language and SQL, answered by polars.
//!
//! Each expression over rows becomes a polars expression that means what `cs336_compiler::row::interp` says, also for what is
//! nothing and for NaN, which polars by itself holds for the greatest number. The tests compare the two.

use cs336_compiler::problem::did_you_mean;
use cs336_compiler::row::kinds::{self, Columns, Kind, Misfit};
use cs336_compiler::row::{RowCompare, RowExpr, RowFunction, RowOp, RowStage, Summary};
use polars::prelude::{
    DataType, Expr, LazyFrame, LiteralValue, NULL, QuantileMethod, RoundMode, SortMultipleOptions,
    UniqueKeepStrategy, col, lit, when,
};
use polars::sql::SQLContext;

use crate::frame::Frame;
use crate::rows::TableError;

/// What the stages make of a table.
pub fn pipeline(frame: &Frame, stages: &[RowStage]) -> Result<Frame, TableError> {
    let mut columns = frame.columns();
    let mut lazy = frame.lazy();
    for stage in stages {
        let after = kinds::after(std::slice::from_ref(stage), Some(columns.clone()))
            .map_err(TableError::from)?;
        lazy = one(lazy, stage, &columns);
        columns = after.unwrap_or_default();
    }
    collected(lazy)
}

/// What SQL makes of named tables.
pub fn sql(tables: &[(&str, &Frame)], query: &str) -> Result<Frame, TableError> {
    let mut context = SQLContext::new();
    for (name, frame) in tables {
        context.register(name, frame.lazy());
    }
    let answer = context.execute(query).and_then(LazyFrame::collect);
    let frame = answer.map_err(|error| {
        let why = error.to_string();
        // The error itself, without the plan and the columns that polars shows behind it.
        let why = why.lines().next().unwrap_or_default();
        let why = why.split("; valid columns").next().unwrap_or_default().to_owned();
        TableError::Query { code: "E0620", help: known(tables, &why), message: why }
    })?;
    Frame::from_polars(frame)
}

/// What may be asked for instead of what a message of polars names.
fn known(tables: &[(&str, &Frame)], why: &str) -> String {
    let names: Vec<String> = tables.iter().flat_map(|(_, f)| f.columns().into_keys()).collect();
    // The second piece between quotes is the name that was not found.
    let near = why
        .split(['"', '\'', '`'])
        .nth(1)
        .and_then(|name| did_you_mean(name, names.iter().map(String::as_str)));
    match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            let tables: Vec<String> = tables
                .iter()
                .map(|(name, f)| {
                    let columns: Vec<String> = f.columns().into_keys().collect();
                    format!("`{name}` has {}", columns.join(", "))
                })
                .collect();
            format!("{}; names with a dot stand in double quotes", tables.join("; "))
        }
    }
}

impl From<Misfit> for TableError {
    fn from(misfit: Misfit) -> Self {
        Self::Query { code: misfit.code, message: misfit.message, help: misfit.help }
    }
}

fn collected(lazy: LazyFrame) -> Result<Frame, TableError> {
    Frame::from_polars(lazy.collect().map_err(|e| TableError::polars(&e))?)
}

/// Columns that a stage needs only for itself have names that no program can write.
const INDEX: &str = ":index";

fn one(lazy: LazyFrame, stage: &RowStage, columns: &Columns) -> LazyFrame {
    let to = To { columns, per: &[] };
    match stage {
        RowStage::Keep(e) => lazy.filter(to.expr(e, Kind::Bool)),
        RowStage::Drop(e) => lazy.filter(to.expr(e, Kind::Bool).fill_null(lit(false)).not()),
        RowStage::BestBy { value, per, greatest } => {
            let keys: Vec<Expr> = (0..per.len()).map(|i| col(format!(":key{i}"))).collect();
            let mut made: Vec<Expr> =
                per.iter().enumerate().map(|(i, e)| to.any(e).alias(format!(":key{i}"))).collect();
            made.push(to.score(value).alias(":score"));
            let best = SortMultipleOptions::default()
                .with_order_descending_multi([*greatest, false])
                .with_maintain_order(true);
            let sorted = lazy
                .with_row_index(INDEX, None)
                .with_columns(made)
                .filter(col(":score").is_not_null())
                .sort_by_exprs([col(":score"), col(INDEX)], best);
            let firsts = if keys.is_empty() {
                sorted.limit(1)
            } else {
                sorted.unique_stable_generic(Some(keys), UniqueKeepStrategy::First)
            };
            firsts
                .sort_by_exprs([col(INDEX)], SortMultipleOptions::default())
                .select(columns.keys().map(|n| col(n.as_str())).collect::<Vec<_>>())
        }
        RowStage::SortBy { by, descending } => {
            let keys: Vec<Expr> = by.iter().map(|e| to.score(e)).collect();
            let order = SortMultipleOptions::default()
                .with_order_descending(*descending)
                .with_nulls_last(true)
                .with_maintain_order(true);
            lazy.sort_by_exprs(keys, order)
        }
        RowStage::Take { count } => lazy.limit(u32::try_from(*count).unwrap_or(u32::MAX)),
        RowStage::Set { name, value } => lazy.with_columns([to.any(value).alias(name.as_str())]),
        RowStage::Select(wanted) => {
            // In two steps, so that a summary fills its column whatever stands beside it.
            let made: Vec<Expr> = wanted
                .iter()
                .enumerate()
                .map(|(i, (_, e))| to.any(e).alias(format!(":made{i}")))
                .collect();
            let named: Vec<Expr> = wanted
                .iter()
                .enumerate()
                .map(|(i, (name, _))| col(format!(":made{i}")).alias(name.as_str()))
                .collect();
            lazy.with_columns(made).select(named)
        }
        RowStage::GroupBy { per, set } => {
            let keys: Vec<Expr> =
                per.iter().map(|(name, e)| to.any(e).alias(name.as_str())).collect();
            let within = To { columns, per };
            let made: Vec<Expr> =
                set.iter().map(|(name, e)| within.any(e).alias(name.as_str())).collect();
            lazy.group_by_stable(keys).agg(made)
        }
    }
}

/// From expressions over rows to those of polars.
struct To<'a> {
    columns: &'a Columns,
    /// In a group: what its rows are equal in.
    per: &'a [(String, RowExpr)],
}

impl To<'_> {
    fn kind(&self, e: &RowExpr) -> Kind {
        if let RowExpr::Column(name) = e
            && let Some((_, e)) = self.per.iter().find(|(n, _)| n == name)
        {
            return To { per: &[], ..*self }.kind(e);
        }
        // The stage was judged before; what is of no kind is nothing.
        kinds::kind(e, Some(self.columns)).unwrap_or(Kind::Any)
    }

    fn any(&self, e: &RowExpr) -> Expr {
        self.expr(e, self.kind(e))
    }

    /// As what can be less: NaN is nothing.
    fn score(&self, e: &RowExpr) -> Expr {
        match self.kind(e) {
            Kind::Number => {
                let x = self.expr(e, Kind::Number);
                when(x.clone().is_nan()).then(lit(NULL).cast(DataType::Float64)).otherwise(x)
            }
            kind @ (Kind::Any | Kind::Text | Kind::Bool) => self.expr(e, kind),
        }
    }

    fn number(&self, e: &RowExpr) -> Expr {
        self.expr(e, Kind::Number)
    }

    /// The expression as cells of a kind: truths become numbers where numbers are wanted.
    fn expr(&self, e: &RowExpr, wanted: Kind) -> Expr {
        let made = self.bare(e, wanted);
        match (wanted, self.kind(e)) {
            (Kind::Number, Kind::Bool) => made.cast(DataType::Float64),
            _ => made,
        }
    }

    fn bare(&self, e: &RowExpr, wanted: Kind) -> Expr {
        match e {
            RowExpr::Number(x) => lit(*x),
            RowExpr::Text(t) => lit(t.as_str()),
            RowExpr::Bool(b) => lit(*b),
            RowExpr::Null => nothing(wanted),
            RowExpr::Column(name) => match self.per.iter().find(|(n, _)| n == name) {
                Some((_, e)) => To { per: &[], ..*self }.any(e).first(),
                None => col(name.as_str()),
            },
            RowExpr::Neg(x) => lit(-1.0) * self.number(x),
            RowExpr::Not(x) => self.expr(x, Kind::Bool).not(),
            RowExpr::Binary { op: RowOp::Add, left, right } if self.kind(e) == Kind::Text => {
                self.expr(left, Kind::Text) + self.expr(right, Kind::Text)
            }
            RowExpr::Binary { op, left, right } => {
                let (a, b) = (self.number(left), self.number(right));
                match op {
                    RowOp::Add => a + b,
                    RowOp::Sub => a - b,
                    RowOp::Mul => a * b,
                    RowOp::Div => a / b,
                    RowOp::Pow => a.pow(b),
                }
            }
            RowExpr::Compare { op, left, right } => self.compare(*op, left, right),
            RowExpr::And(all) => self.joined(all.iter().map(|e| self.expr(e, Kind::Bool)), false),
            RowExpr::Or(all) => self.joined(all.iter().map(|e| self.expr(e, Kind::Bool)), true),
            RowExpr::If { condition, then, otherwise } => {
                let kind = self.kind(e);
                when(self.expr(condition, Kind::Bool))
                    .then(self.expr(then, kind))
                    .otherwise(self.expr(otherwise, kind))
            }
            RowExpr::OneOf { value, options } => {
                self.joined(options.iter().map(|o| self.compare(RowCompare::Eq, value, o)), true)
            }
            RowExpr::Between { value, low, high } => {
                let ends = [
                    self.compare(RowCompare::Ge, value, low),
                    self.compare(RowCompare::Le, value, high),
                ];
                self.joined(ends.into_iter(), false)
            }
            RowExpr::Call { function, args } => self.call(*function, args),
            RowExpr::Summary { of, value } => self.summary(*of, value),
        }
    }

    fn joined(&self, parts: impl Iterator<Item = Expr>, any: bool) -> Expr {
        let join = |a: Expr, b: Expr| if any { a.or(b) } else { a.and(b) };
        parts.reduce(join).unwrap_or_else(|| lit(!any))
    }

    fn compare(&self, op: RowCompare, left: &RowExpr, right: &RowExpr) -> Expr {
        if let (RowCompare::Eq | RowCompare::Ne, true) =
            (op, *left == RowExpr::Null || *right == RowExpr::Null)
        {
            let both = self.any(left).is_null().and(self.any(right).is_null());
            return if op == RowCompare::Eq { both } else { both.not() };
        }
        let (a, b) = (self.kind(left), self.kind(right));
        if a == Kind::Any && b == Kind::Any {
            return nothing(Kind::Bool);
        }
        if a == Kind::Text || b == Kind::Text {
            return plain(op, self.expr(left, Kind::Text), self.expr(right, Kind::Text));
        }
        let (a, b) = (self.number(left), self.number(right));
        let unknown = a.clone().is_null().or(b.clone().is_null());
        let nan = a.clone().is_nan().or(b.clone().is_nan());
        when(unknown)
            .then(nothing(Kind::Bool))
            .when(nan)
            .then(lit(op == RowCompare::Ne))
            .otherwise(plain(op, a, b))
    }

    fn call(&self, function: RowFunction, args: &[RowExpr]) -> Expr {
        let first = || args.first().map_or_else(|| nothing(Kind::Number), |e| self.number(e));
        match function {
            RowFunction::Log => first().log(lit(std::f64::consts::E)),
            RowFunction::Exp => first().exp(),
            RowFunction::Sqrt => first().sqrt(),
            RowFunction::Abs => first().abs(),
            RowFunction::Floor => first().floor(),
            RowFunction::Ceil => first().ceil(),
            RowFunction::Round => first().round(0, RoundMode::HalfAwayFromZero),
            RowFunction::Min => self.extreme(args, RowCompare::Lt),
            RowFunction::Max => self.extreme(args, RowCompare::Gt),
            RowFunction::Contains => match args {
                [part, whole] => {
                    let part = self.expr(part, Kind::Text);
                    self.expr(whole, Kind::Text).str().contains_literal(part)
                }
                _ => nothing(Kind::Bool),
            },
        }
    }

    fn extreme(&self, args: &[RowExpr], better: RowCompare) -> Expr {
        let pick = |old: Expr, new: Expr| {
            let nan = new.clone().is_nan().or(old.clone().is_nan());
            when(new.clone().is_null())
                .then(old.clone())
                .when(old.clone().is_null())
                .then(new.clone())
                .when(nan.not().and(plain(better, new.clone(), old.clone())))
                .then(new)
                .otherwise(old)
        };
        let numbers = args.iter().map(|e| self.number(e));
        numbers.reduce(pick).unwrap_or_else(|| nothing(Kind::Number))
    }

    fn summary(&self, of: Summary, value: &RowExpr) -> Expr {
        let to = To { per: &[], ..*self };
        if of == Summary::Count {
            return to.score(value).is_not_null().sum().cast(DataType::Float64);
        }
        // NaN is nothing here, and summaries of polars leave out what is nothing.
        let x = {
            let x = to.number(value);
            when(x.clone().is_nan()).then(nothing(Kind::Number)).otherwise(x)
        };
        match of {
            Summary::Count | Summary::Sum => x.sum(),
            Summary::Mean => x.mean(),
            Summary::Median => x.median(),
            Summary::Std => x.std(1),
            Summary::Min => x.min(),
            Summary::Max => x.max(),
            Summary::Percentile(share) => x.quantile(lit(share), QuantileMethod::Linear),
        }
    }
}

fn nothing(kind: Kind) -> Expr {
    let null = Expr::Literal(LiteralValue::untyped_null());
    match kind {
        Kind::Any | Kind::Number => null.cast(DataType::Float64),
        Kind::Text => null.cast(DataType::String),
        Kind::Bool => null.cast(DataType::Boolean),
    }
}

fn plain(op: RowCompare, a: Expr, b: Expr) -> Expr {
    match op {
        RowCompare::Eq => a.eq(b),
        RowCompare::Ne => a.neq(b),
        RowCompare::Lt => a.lt(b),
        RowCompare::Le => a.lt_eq(b),
        RowCompare::Gt => a.gt(b),
        RowCompare::Ge => a.gt_eq(b),
    }
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
