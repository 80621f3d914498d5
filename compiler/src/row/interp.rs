//! The meaning of expressions over rows and of their stages, in plain Rust: slow, small, and what other engines must agree with.
//!
//! Total: what does not fit together (`"a" * 2`) is nothing; [`super::kinds`] finds it before.

use std::cmp::Ordering;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{RowCompare, RowExpr, RowFunction, RowOp, RowStage, Summary};

/// What a row has under a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// Nothing.
    Null,
    /// A truth.
    Bool(bool),
    /// A number in base units.
    Number(f64),
    /// A text.
    Text(String),
}

/// A row: cells by name.
pub type Row = IndexMap<String, Cell>;

impl Cell {
    /// As a number; truths are 0 and 1.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(x) => Some(*x),
            Self::Bool(b) => Some(f64::from(*b)),
            Self::Null | Self::Text(_) => None,
        }
    }

    /// True only for `true`.
    pub fn holds(&self) -> bool {
        *self == Self::Bool(true)
    }

    /// What two rows are equal in if they are in one group. NaN is equal to itself here.
    fn key(&self) -> String {
        match self {
            Self::Null => "-".to_owned(),
            Self::Bool(b) => format!("b{b}"),
            Self::Number(x) if x.is_nan() => "nNaN".to_owned(),
            // -0 and 0 are one number.
            Self::Number(x) => format!("n{:?}", x + 0.0),
            Self::Text(t) => format!("t{t}"),
        }
    }
}

/// The value of an expression in a row. Summaries must have been put in by [`settled`]; else they are nothing.
pub fn value(e: &RowExpr, row: &dyn Fn(&str) -> Cell) -> Cell {
    let go = |e: &RowExpr| value(e, row);
    match e {
        RowExpr::Number(x) => Cell::Number(*x),
        RowExpr::Text(t) => Cell::Text(t.clone()),
        RowExpr::Bool(b) => Cell::Bool(*b),
        RowExpr::Null | RowExpr::Summary { .. } => Cell::Null,
        RowExpr::Column(name) => row(name),
        RowExpr::Neg(x) => go(x).number().map_or(Cell::Null, |x| Cell::Number(-x)),
        RowExpr::Not(x) => truth(&go(x)).map_or(Cell::Null, |b| Cell::Bool(!b)),
        RowExpr::Binary { op, left, right } => binary(*op, &go(left), &go(right)),
        RowExpr::Compare { op, left, right } => {
            if let (RowCompare::Eq | RowCompare::Ne, true) =
                (op, **left == RowExpr::Null || **right == RowExpr::Null)
            {
                let both = go(left) == Cell::Null && go(right) == Cell::Null;
                return Cell::Bool(both == (*op == RowCompare::Eq));
            }
            compare(*op, &go(left), &go(right))
        }
        RowExpr::And(all) => logic(all.iter().map(go), false),
        RowExpr::Or(all) => logic(all.iter().map(go), true),
        RowExpr::If { condition, then, otherwise } => {
            if go(condition).holds() {
                go(then)
            } else {
                go(otherwise)
            }
        }
        RowExpr::OneOf { value, options } => {
            let value = go(value);
            logic(options.iter().map(|o| compare(RowCompare::Eq, &value, &go(o))), true)
        }
        RowExpr::Between { value, low, high } => {
            let value = go(value);
            let ends = [
                compare(RowCompare::Ge, &value, &go(low)),
                compare(RowCompare::Le, &value, &go(high)),
            ];
            logic(ends.into_iter(), false)
        }
        RowExpr::Call { function, args } => {
            let args: Vec<Cell> = args.iter().map(go).collect();
            call(*function, &args)
        }
    }
}

/// The expression with each summary replaced by its value over `rows`.
pub fn settled(e: &RowExpr, rows: &[&Row]) -> RowExpr {
    let go = |e: &RowExpr| Box::new(settled(e, rows));
    let all = |list: &[RowExpr]| list.iter().map(|e| settled(e, rows)).collect::<Vec<_>>();
    match e {
        RowExpr::Number(_)
        | RowExpr::Text(_)
        | RowExpr::Bool(_)
        | RowExpr::Null
        | RowExpr::Column(_) => e.clone(),
        RowExpr::Neg(x) => RowExpr::Neg(go(x)),
        RowExpr::Not(x) => RowExpr::Not(go(x)),
        RowExpr::Binary { op, left, right } => {
            RowExpr::Binary { op: *op, left: go(left), right: go(right) }
        }
        RowExpr::Compare { op, left, right } => {
            RowExpr::Compare { op: *op, left: go(left), right: go(right) }
        }
        RowExpr::And(list) => RowExpr::And(all(list)),
        RowExpr::Or(list) => RowExpr::Or(all(list)),
        RowExpr::If { condition, then, otherwise } => {
            RowExpr::If { condition: go(condition), then: go(then), otherwise: go(otherwise) }
        }
        RowExpr::OneOf { value, options } => {
            RowExpr::OneOf { value: go(value), options: all(options) }
        }
        RowExpr::Between { value, low, high } => {
            RowExpr::Between { value: go(value), low: go(low), high: go(high) }
        }
        RowExpr::Call { function, args } => RowExpr::Call { function: *function, args: all(args) },
        RowExpr::Summary { of, value: inner } => {
            let inner = settled(inner, rows);
            let cells: Vec<Cell> = rows.iter().map(|r| value(&inner, &|n| cell(r, n))).collect();
            match summary(*of, &cells) {
                Some(x) => RowExpr::Number(x),
                None => RowExpr::Null,
            }
        }
    }
}

/// A value for each row, summaries included.
pub fn values(e: &RowExpr, rows: &[Row]) -> Vec<Cell> {
    let all: Vec<&Row> = rows.iter().collect();
    let e = settled(e, &all);
    rows.iter().map(|r| value(&e, &|n| cell(r, n))).collect()
}

/// What the rows become.
pub fn apply(stages: &[RowStage], mut rows: Vec<Row>) -> Vec<Row> {
    for stage in stages {
        rows = one(stage, rows);
    }
    rows
}

fn cell(row: &Row, name: &str) -> Cell {
    row.get(name).cloned().unwrap_or(Cell::Null)
}

fn one(stage: &RowStage, mut rows: Vec<Row>) -> Vec<Row> {
    match stage {
        RowStage::Keep(e) => where_true(rows, e, true),
        RowStage::Drop(e) => where_true(rows, e, false),
        RowStage::BestBy { value, per, greatest } => {
            let (scores, keys) = (values(value, &rows), keys(per.iter(), &rows));
            let mut best: IndexMap<String, usize> = IndexMap::new();
            for (i, key) in keys.into_iter().enumerate() {
                if !is_value(&scores[i]) {
                    continue;
                }
                let place = best.entry(key).or_insert(i);
                let order = order(&scores[i], &scores[*place], *greatest);
                if order == Ordering::Less {
                    *place = i;
                }
            }
            let mut kept: Vec<usize> = best.into_values().collect();
            kept.sort_unstable();
            kept.into_iter().map(|i| rows[i].clone()).collect()
        }
        RowStage::SortBy { by, descending } => {
            let columns: Vec<Vec<Cell>> = by.iter().map(|e| values(e, &rows)).collect();
            let mut places: Vec<usize> = (0..rows.len()).collect();
            places.sort_by(|&a, &b| {
                let each = columns.iter().map(|c| order(&c[a], &c[b], *descending));
                each.fold(Ordering::Equal, Ordering::then)
            });
            places.into_iter().map(|i| rows[i].clone()).collect()
        }
        RowStage::Take { count } => {
            rows.truncate(usize::try_from(*count).unwrap_or(usize::MAX));
            rows
        }
        RowStage::Set { name, value } => {
            for (cell, row) in values(value, &rows).into_iter().zip(&mut rows) {
                row.insert(name.clone(), cell);
            }
            rows
        }
        RowStage::Select(columns) => {
            let mut out = vec![Row::new(); rows.len()];
            for (name, e) in columns {
                for (cell, row) in values(e, &rows).into_iter().zip(&mut out) {
                    row.insert(name.clone(), cell);
                }
            }
            out
        }
        RowStage::GroupBy { per, set } => {
            let keys = keys(per.iter().map(|(_, e)| e), &rows);
            let cells: Vec<(&String, Vec<Cell>)> =
                per.iter().map(|(name, e)| (name, values(e, &rows))).collect();
            let mut groups: IndexMap<String, Vec<usize>> = IndexMap::new();
            for (i, key) in keys.into_iter().enumerate() {
                groups.entry(key).or_default().push(i);
            }
            let mut out = Vec::new();
            for members in groups.values() {
                let group: Vec<&Row> = members.iter().map(|&i| &rows[i]).collect();
                let mut row = Row::new();
                for (name, column) in &cells {
                    row.insert((*name).clone(), column[members[0]].clone());
                }
                for (name, e) in set {
                    let made = value(&settled(e, &group), &|n| cell(&row, n));
                    row.insert(name.clone(), made);
                }
                out.push(row);
            }
            out
        }
    }
}

fn where_true(rows: Vec<Row>, e: &RowExpr, keep: bool) -> Vec<Row> {
    let holds = values(e, &rows);
    rows.into_iter().zip(holds).filter(|(_, c)| c.holds() == keep).map(|(r, _)| r).collect()
}

fn keys<'a>(per: impl Iterator<Item = &'a RowExpr>, rows: &[Row]) -> Vec<String> {
    let mut keys = vec![String::new(); rows.len()];
    for e in per {
        for (key, cell) in keys.iter_mut().zip(values(e, rows)) {
            let part = cell.key();
            *key += &format!("{}:{part};", part.len());
        }
    }
    keys
}

fn is_value(cell: &Cell) -> bool {
    match cell {
        Cell::Null => false,
        Cell::Number(x) => !x.is_nan(),
        Cell::Bool(_) | Cell::Text(_) => true,
    }
}

/// Which of two comes first; what is no value comes last, whichever way.
fn order(a: &Cell, b: &Cell, descending: bool) -> Ordering {
    match (is_value(a), is_value(b)) {
        (true, true) => {}
        (x, y) => return y.cmp(&x),
    }
    let order = match (a, b) {
        (Cell::Text(a), Cell::Text(b)) => a.cmp(b),
        (a, b) => match (a.number(), b.number()) {
            (Some(a), Some(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            _ => Ordering::Equal,
        },
    };
    if descending { order.reverse() } else { order }
}

fn truth(cell: &Cell) -> Option<bool> {
    match cell {
        Cell::Bool(b) => Some(*b),
        Cell::Null | Cell::Number(_) | Cell::Text(_) => None,
    }
}

/// `or` if `any`, else `and`, in three values.
fn logic(parts: impl Iterator<Item = Cell>, any: bool) -> Cell {
    let mut unknown = false;
    for part in parts {
        match truth(&part) {
            Some(b) if b == any => return Cell::Bool(any),
            Some(_) => {}
            None => unknown = true,
        }
    }
    if unknown { Cell::Null } else { Cell::Bool(!any) }
}

fn binary(op: RowOp, a: &Cell, b: &Cell) -> Cell {
    if let (RowOp::Add, Cell::Text(a), Cell::Text(b)) = (op, a, b) {
        return Cell::Text(format!("{a}{b}"));
    }
    let (Some(a), Some(b)) = (a.number(), b.number()) else { return Cell::Null };
    Cell::Number(match op {
        RowOp::Add => a + b,
        RowOp::Sub => a - b,
        RowOp::Mul => a * b,
        RowOp::Div => a / b,
        RowOp::Pow => a.powf(b),
    })
}

fn compare(op: RowCompare, a: &Cell, b: &Cell) -> Cell {
    let order = match (a, b) {
        (Cell::Null, _) | (_, Cell::Null) => return Cell::Null,
        (Cell::Text(a), Cell::Text(b)) => Some(a.cmp(b)),
        (a, b) => match (a.number(), b.number()) {
            (Some(a), Some(b)) => a.partial_cmp(&b),
            _ => return Cell::Null,
        },
    };
    Cell::Bool(match op {
        RowCompare::Eq => order == Some(Ordering::Equal),
        RowCompare::Ne => order != Some(Ordering::Equal),
        RowCompare::Lt => order == Some(Ordering::Less),
        RowCompare::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        RowCompare::Gt => order == Some(Ordering::Greater),
        RowCompare::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    })
}

fn call(function: RowFunction, args: &[Cell]) -> Cell {
    let plain = |f: fn(f64) -> f64| {
        args.first().and_then(Cell::number).map_or(Cell::Null, |x| Cell::Number(f(x)))
    };
    match function {
        RowFunction::Log => plain(f64::ln),
        RowFunction::Exp => plain(f64::exp),
        RowFunction::Sqrt => plain(f64::sqrt),
        RowFunction::Abs => plain(f64::abs),
        RowFunction::Floor => plain(f64::floor),
        RowFunction::Ceil => plain(f64::ceil),
        RowFunction::Round => plain(f64::round),
        RowFunction::Min => extreme(args, |new, old| new < old),
        RowFunction::Max => extreme(args, |new, old| new > old),
        RowFunction::Contains => match args {
            [Cell::Text(part), Cell::Text(whole)] => Cell::Bool(whole.contains(part.as_str())),
            _ => Cell::Null,
        },
    }
}

fn extreme(args: &[Cell], better: fn(f64, f64) -> bool) -> Cell {
    let numbers = args.iter().filter_map(Cell::number);
    let found = numbers.reduce(|old, new| if better(new, old) { new } else { old });
    found.map_or(Cell::Null, Cell::Number)
}

/// A summary of the numbers among the cells; of texts only their number.
fn summary(of: Summary, cells: &[Cell]) -> Option<f64> {
    if of == Summary::Count {
        return Some(cells.iter().filter(|c| is_value(c)).count() as f64);
    }
    let mut numbers: Vec<f64> =
        cells.iter().filter(|c| is_value(c)).filter_map(Cell::number).collect();
    let n = numbers.len() as f64;
    let sum: f64 = numbers.iter().sum();
    let mean = (n > 0.0).then(|| sum / n);
    numbers.sort_by(f64::total_cmp);
    match of {
        Summary::Count => Some(n),
        Summary::Sum => Some(sum),
        Summary::Mean => mean,
        Summary::Median => percentile(&numbers, 0.5),
        Summary::Std => {
            let mean = mean.filter(|_| n > 1.0)?;
            let squares: f64 = numbers.iter().map(|x| (x - mean) * (x - mean)).sum();
            Some((squares / (n - 1.0)).sqrt())
        }
        Summary::Min => numbers.first().copied(),
        Summary::Max => numbers.last().copied(),
        Summary::Percentile(share) => percentile(&numbers, share),
    }
}

fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = share.clamp(0.0, 1.0) * last as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(last);
    Some(sorted[below] + (sorted[above] - sorted[below]) * (at - below as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let row = |name: &str, budget: f64, loss: Cell| {
            Row::from_iter([
                ("name".to_owned(), Cell::Text(name.to_owned())),
                ("budget".to_owned(), Cell::Number(budget)),
                ("loss".to_owned(), loss),
            ])
        };
        vec![
            row("a", 1.0, Cell::Number(3.0)),
            row("b", 1.0, Cell::Number(2.0)),
            row("c", 2.0, Cell::Number(f64::NAN)),
            row("d", 2.0, Cell::Null),
            row("e", 2.0, Cell::Number(2.0)),
        ]
    }

    fn names(rows: &[Row]) -> String {
        rows.iter()
            .map(|r| match &r["name"] {
                Cell::Text(t) => t.as_str(),
                _ => "?",
            })
            .collect()
    }

    fn less(column: &str, x: f64) -> RowExpr {
        RowExpr::Compare {
            op: RowCompare::Lt,
            left: Box::new(RowExpr::column(column)),
            right: Box::new(RowExpr::Number(x)),
        }
    }

    #[test]
    fn what_is_unknown_is_neither_kept_nor_dropped() {
        let e = less("loss", 2.5);
        assert_eq!(names(&apply(&[RowStage::Keep(e.clone())], rows())), "be");
        assert_eq!(names(&apply(&[RowStage::Drop(e.clone())], rows())), "acd");
        // `not nothing` is nothing; not-less than NaN holds.
        let not = RowExpr::Not(Box::new(e));
        assert_eq!(names(&apply(&[RowStage::Keep(not)], rows())), "ac");
    }

    #[test]
    fn the_best_of_each_group_keeps_its_place() {
        let best = |greatest| RowStage::BestBy {
            value: RowExpr::column("loss"),
            per: vec![RowExpr::column("budget")],
            greatest,
        };
        assert_eq!(names(&apply(&[best(false)], rows())), "be");
        assert_eq!(names(&apply(&[best(true)], rows())), "ae");
    }

    #[test]
    fn sorting_puts_what_is_no_value_last() {
        let sort = |descending| RowStage::SortBy { by: vec![RowExpr::column("loss")], descending };
        assert_eq!(names(&apply(&[sort(false)], rows())), "beacd");
        assert_eq!(names(&apply(&[sort(true)], rows())), "abecd");
    }

    #[test]
    fn summaries_leave_out_what_is_no_number() {
        let of = |s| RowExpr::Summary { of: s, value: Box::new(RowExpr::column("loss")) };
        let at = |s| values(&of(s), &rows())[0].clone();
        assert_eq!(at(Summary::Count), Cell::Number(3.0));
        assert_eq!(at(Summary::Mean), Cell::Number(7.0 / 3.0));
        assert_eq!(at(Summary::Median), Cell::Number(2.0));
        assert_eq!(at(Summary::Percentile(0.75)), Cell::Number(2.5));
        let group = RowStage::GroupBy {
            per: vec![("budget".into(), RowExpr::column("budget"))],
            set: vec![("n".into(), of(Summary::Count)), ("least".into(), of(Summary::Min))],
        };
        let made = apply(&[group], rows());
        assert_eq!(made.len(), 2);
        assert_eq!((&made[1]["n"], &made[1]["least"]), (&Cell::Number(1.0), &Cell::Number(2.0)));
    }
}
