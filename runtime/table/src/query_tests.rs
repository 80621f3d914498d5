//! Polars and the plain meaning of pipelines give the same, on rows with nothing, NaN, ties and texts.

use cs336_compiler::row::interp::{Cell, Row, apply};
use cs336_compiler::row::kinds::{Columns, Kind, after};

use super::*;

/// A small seeded generator: the tests need variety, not quality.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn number(&mut self) -> RowExpr {
        match self.below(4) {
            0 => RowExpr::Number(self.below(5) as f64 - 2.0),
            _ => RowExpr::column(["a", "b"][self.below(2) as usize]),
        }
    }

    fn value(&mut self, depth: u32) -> RowExpr {
        let below = |d: &mut Self| Box::new(d.value(depth - 1));
        if depth == 0 {
            return self.number();
        }
        match self.below(9) {
            0 => RowExpr::Neg(below(self)),
            1 | 2 => {
                let op = [RowOp::Add, RowOp::Sub, RowOp::Mul, RowOp::Div][self.below(4) as usize];
                RowExpr::Binary { op, left: below(self), right: below(self) }
            }
            3 => {
                let condition = Box::new(self.condition(depth - 1));
                RowExpr::If { condition, then: below(self), otherwise: below(self) }
            }
            4 => {
                let all =
                    [RowFunction::Abs, RowFunction::Floor, RowFunction::Ceil, RowFunction::Round];
                let function = all[self.below(4) as usize];
                RowExpr::Call { function, args: vec![*below(self)] }
            }
            5 => {
                let function = [RowFunction::Min, RowFunction::Max][self.below(2) as usize];
                RowExpr::Call { function, args: vec![*below(self), *below(self), self.number()] }
            }
            6 => {
                let all = [
                    Summary::Count,
                    Summary::Sum,
                    Summary::Mean,
                    Summary::Median,
                    Summary::Std,
                    Summary::Min,
                    Summary::Max,
                    Summary::Percentile(0.3),
                ];
                let of = all[self.below(8) as usize];
                RowExpr::Summary {
                    of,
                    value: Box::new(RowExpr::column(["a", "b"][self.below(2) as usize])),
                }
            }
            _ => self.number(),
        }
    }

    fn condition(&mut self, depth: u32) -> RowExpr {
        if depth > 0 {
            match self.below(5) {
                0 => return RowExpr::Not(Box::new(self.condition(depth - 1))),
                1 => {
                    return RowExpr::And(vec![
                        self.condition(depth - 1),
                        self.condition(depth - 1),
                    ]);
                }
                2 => {
                    return RowExpr::Or(vec![self.condition(depth - 1), self.condition(depth - 1)]);
                }
                _ => {}
            }
        }
        let ops = [
            RowCompare::Eq,
            RowCompare::Ne,
            RowCompare::Lt,
            RowCompare::Le,
            RowCompare::Gt,
            RowCompare::Ge,
        ];
        let op = ops[self.below(6) as usize];
        match self.below(6) {
            0 => RowExpr::column("c"),
            1 => RowExpr::Compare {
                op,
                left: Box::new(RowExpr::column("t")),
                right: Box::new(RowExpr::Text("x".into())),
            },
            2 => RowExpr::Compare {
                op: RowCompare::Eq,
                left: Box::new(self.number()),
                right: Box::new(RowExpr::Null),
            },
            3 => RowExpr::OneOf {
                value: Box::new(self.number()),
                options: vec![self.number(), self.number()],
            },
            4 => RowExpr::Between {
                value: Box::new(self.number()),
                low: Box::new(self.number()),
                high: Box::new(self.number()),
            },
            _ => RowExpr::Compare {
                op,
                left: Box::new(self.value(depth.min(1))),
                right: Box::new(self.number()),
            },
        }
    }

    fn stage(&mut self) -> RowStage {
        let columns = |d: &mut Self| {
            let all = ["a", "b", "c", "t"];
            (0..=d.below(2)).map(|_| RowExpr::column(all[d.below(4) as usize])).collect::<Vec<_>>()
        };
        match self.below(8) {
            0 => RowStage::Keep(self.condition(2)),
            1 => RowStage::Drop(self.condition(2)),
            2 => RowStage::BestBy {
                value: self.value(1),
                per: columns(self),
                greatest: self.below(2) == 0,
            },
            3 => RowStage::SortBy { by: columns(self), descending: self.below(2) == 0 },
            4 => RowStage::Take { count: self.below(30) },
            5 => RowStage::Set {
                name: ["a", "b"][self.below(2) as usize].into(),
                value: self.value(2),
            },
            6 => RowStage::Select(vec![
                ("a".into(), self.value(2)),
                ("b".into(), RowExpr::column("b")),
                ("c".into(), self.condition(1)),
                ("t".into(), RowExpr::column("t")),
            ]),
            _ => {
                let summary =
                    |of, name| RowExpr::Summary { of, value: Box::new(RowExpr::column(name)) };
                RowStage::GroupBy {
                    per: vec![
                        ("t".into(), RowExpr::column("t")),
                        ("c".into(), RowExpr::column("c")),
                    ],
                    set: vec![
                        ("a".into(), summary(Summary::Mean, "a")),
                        ("b".into(), summary(Summary::Count, "b")),
                    ],
                }
            }
        }
    }

    fn rows(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        for _ in 0..self.below(25) {
            let mut number = || match self.below(8) {
                0 => Cell::Null,
                1 => Cell::Number(f64::NAN),
                n => Cell::Number((n as f64 - 4.0) * 0.5),
            };
            let (a, b) = (number(), number());
            let c =
                [Cell::Null, Cell::Bool(true), Cell::Bool(false)][self.below(3) as usize].clone();
            let t = ["x", "y", ""][self.below(3) as usize];
            let t = if self.below(4) == 0 { Cell::Null } else { Cell::Text(t.into()) };
            let names = ["a", "b", "c", "t"].map(str::to_owned);
            rows.push(names.into_iter().zip([a, b, c, t]).collect());
        }
        rows
    }
}

fn columns() -> Columns {
    let kinds = [("a", Kind::Number), ("b", Kind::Number), ("c", Kind::Bool), ("t", Kind::Text)];
    kinds.into_iter().map(|(n, k)| (n.to_owned(), k)).collect()
}

/// With all columns, whatever the rows hold.
fn frame(rows: &[Row]) -> Frame {
    let mut all = rows.to_vec();
    let witness =
        [Cell::Number(0.0), Cell::Number(0.0), Cell::Bool(true), Cell::Text(String::new())];
    all.push(columns().into_keys().zip(witness).collect());
    let made = Frame::from_rows(&all).expect("a table");
    let take = RowStage::Take { count: rows.len() as u64 };
    pipeline(&made, &[take]).expect("its first rows")
}

fn close(a: &Cell, b: &Cell) -> bool {
    match (a, b) {
        (Cell::Number(a), Cell::Number(b)) => {
            (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= 1e-9 * a.abs().max(1.0)
        }
        (a, b) => a == b,
    }
}

#[test]
fn pipelines_mean_what_the_interpreter_says() {
    let mut draw = Draw(7);
    let mut compared = 0;
    for case in 0..1500 {
        let rows = draw.rows();
        let stages: Vec<RowStage> = (0..=draw.below(3)).map(|_| draw.stage()).collect();
        if after(&stages, Some(columns())).is_err() {
            continue;
        }
        let shown: String = stages.iter().map(|s| format!(" |> {s}")).collect();
        let expected = apply(&stages, rows.clone());
        let found = pipeline(&frame(&rows), &stages)
            .unwrap_or_else(|e| panic!("{case}: {shown}: {e}"))
            .rows();
        assert_eq!(
            found.len(),
            expected.len(),
            "{case}: {shown}\n{rows:?}\n{found:?}\n{expected:?}"
        );
        for (a, b) in found.iter().zip(&expected) {
            for (name, cell) in a {
                let other = b.get(name).unwrap_or(&Cell::Null);
                assert!(
                    close(cell, other),
                    "{case}: {shown}: `{name}` is {cell:?}, not {other:?}\n{rows:?}"
                );
            }
        }
        compared += 1;
    }
    assert!(compared > 1000, "only {compared} of the pipelines could be compared");
}

#[test]
fn what_is_not_there_is_named() {
    let rows = frame(&Draw(3).rows());
    let stage = RowStage::Keep(RowExpr::column("bb"));
    let TableError::Query { code, message, help } = pipeline(&rows, &[stage]).expect_err("unknown")
    else {
        panic!("another error")
    };
    assert_eq!((code, message.as_str()), ("E0205", "these rows have no `.bb`"));
    assert!(help.contains("`.b`") || help.contains("a, b"), "{help}");
    let error = sql(&[("runs", &rows)], "select aaa from runs").expect_err("unknown");
    assert!(matches!(&error, TableError::Query { code: "E0620", .. }), "{error:?}");
}

#[test]
fn sql_sees_the_same_rows() {
    let rows = Draw(11).rows();
    let made = sql(
        &[("runs", &frame(&rows))],
        "select count(*) as n, t from runs where t = 'x' group by t",
    )
    .expect("an answer");
    let n = rows.iter().filter(|r| r["t"] == Cell::Text("x".into())).count();
    assert_eq!(made.numbers("n"), Some(vec![n as f64]));
}
