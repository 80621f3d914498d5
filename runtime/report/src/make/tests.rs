//! Reports made from the results of a law that is known.

use cs336_compiler::report::{MarkRule, PlotSpec, TableSpec, Trend};
use cs336_compiler::row::RowFunction;
use cs336_compiler::row::interp::apply;

use super::*;
use crate::chart::{Chart, Mark, Shape};
use crate::{Form, files};
use cs336_compiler::row::RowExpr;

/// A small study: three budgets, seven sizes.
struct Study {
    rows: Vec<Row>,
}

fn loss(n: f64, d: f64) -> f64 {
    1.8 + 400.0 / n.powf(0.34) + 1600.0 / d.powf(0.37)
}

fn row(cells: &[(&str, f64)], name: &str) -> Row {
    let mut row = Row::new();
    row.insert("name".to_owned(), RowCell::Text(name.to_owned()));
    row.insert("key".to_owned(), RowCell::Text("0123456789abcdef".to_owned()));
    for (column, x) in cells {
        row.insert((*column).to_owned(), RowCell::Number(*x));
    }
    row
}

fn study() -> Study {
    let mut rows = Vec::new();
    for c in [1e16, 1e17, 1e18] {
        for i in 0..7 {
            let n = (c / 6.0 / 20.0f64).sqrt() * 1.6f64.powi(i - 3);
            let d = c / 6.0 / n;
            let name = format!("iso/{:02}", rows.len());
            rows.push(row(
                &[("budget", c), ("params", n), ("tokens", d), ("valid_loss", loss(n, d))],
                &name,
            ));
        }
    }
    Study { rows }
}

impl Results for Study {
    fn rows(&self, rows: &Rows) -> Result<Vec<Row>, String> {
        match rows.from.as_slice() {
            [RowSource::Runs(node)] if node == "iso" => Ok(apply(&rows.stages, self.rows.clone())),
            [RowSource::Runs(node)] => {
                let own = |r: &&Row| r["name"] == RowCell::Text(node.clone());
                Ok(self.rows.iter().filter(own).cloned().collect())
            }
            _ => Err("there are no such rows".to_owned()),
        }
    }

    fn metrics(&self, _: &str) -> Result<Vec<Row>, String> {
        Ok((0..900)
            .map(|s| row(&[("step", f64::from(s)), ("loss", 9.0 / (1.0 + f64::from(s)))], "a"))
            .collect())
    }

    fn coefficients(&self, _: &str) -> Result<Vec<Row>, String> {
        let row = |name: &str, value: f64| {
            Row::from_iter([
                ("name".to_owned(), RowCell::Text(name.to_owned())),
                ("value".to_owned(), RowCell::Number(value)),
                ("ci95.low".to_owned(), RowCell::Number(value * 0.9)),
                ("ci95.high".to_owned(), RowCell::Number(value * 1.1)),
            ])
        };
        Ok(vec![row("E", 1.8), row("alpha", 0.34)])
    }

    fn residuals(&self, _: &str) -> Result<Vec<Row>, String> {
        Ok(Vec::new())
    }

    fn predict(&self, _: &str, row: &Row) -> Option<f64> {
        Some(loss(row.get("params")?.number()?, row.get("tokens")?.number()?))
    }

    fn optimum(&self, _: &str, flops: f64) -> Option<Optimum> {
        let n = (flops / 120.0).sqrt();
        let around = |value: f64| Between {
            value,
            curve: Some((value * 0.8, value * 1.25)),
            run: Some((value * 0.7, value * 1.4)),
        };
        Some(Optimum {
            params: around(n),
            tokens: around(20.0 * n),
            loss: around(loss(n, 20.0 * n)),
        })
    }
}

fn log(column: &str) -> RowExpr {
    RowExpr::Call { function: RowFunction::Log, args: vec![RowExpr::column(column)] }
}

fn runs(node: &str) -> ReportRows {
    ReportRows::Rows(Rows { from: vec![RowSource::Runs(node.to_owned())], stages: Vec::new() })
}

fn isoflop() -> PlotSpec {
    PlotSpec {
        title: "IsoFLOP curves".to_owned(),
        data: runs("iso"),
        x: log("params"),
        y: RowExpr::column("valid_loss"),
        color: Some(RowExpr::column("budget")),
        trend: Trend::Parabola,
        mark: MarkRule::Minimum,
        line: None,
        extend_to: None,
        law: None,
    }
}

fn made(study: &Study, plot: PlotSpec) -> (Chart, Vec<Warning>) {
    let parts = vec![ReportPart::Plot(Box::new(plot))];
    let spec = ReportSpec { title: "t".to_owned(), parts, export: Vec::new() };
    let (document, warnings) = make(&spec, study).expect("rows are there");
    match document.blocks.into_iter().next() {
        Some(Block::Chart(chart)) => (chart, warnings),
        other => panic!("no chart: {other:?}"),
    }
}

fn points(chart: &Chart, mark: Mark) -> Vec<(f64, f64)> {
    let of = |s: &Shape| match s {
        Shape::Points { points, mark: m } if *m == mark => {
            points.iter().map(|p| (p.x, p.y)).collect()
        }
        _ => Vec::new(),
    };
    chart.layers.iter().flat_map(|l| of(&l.shape)).collect()
}

#[test]
fn isoflop_curves_have_their_minima_where_the_law_has_them() {
    let (chart, warnings) = made(&study(), isoflop());
    assert_eq!(warnings, []);
    assert_eq!(points(&chart, Mark::Dot).len(), 21);
    let minima = points(&chart, Mark::Diamond);
    assert_eq!(minima.len(), 3, "{}", chart.note);
    let steps: Vec<f64> = minima.windows(2).map(|w| (w[1].0 / w[0].0).log10()).collect();
    // N* grows as C^(beta / (alpha + beta)) = C^0.521.
    assert!(steps.iter().all(|s| (s - 0.521).abs() < 0.02), "{steps:?}");
    let legend: Vec<&str> =
        chart.layers.iter().map(|l| l.name.as_str()).filter(|n| !n.is_empty()).collect();
    assert_eq!(legend, ["1e16", "1e16", "1e17", "1e17", "1e18", "1e18"]);
    assert_eq!(
        (chart.x.title.as_str(), chart.legend_title.as_str()),
        ("Parameters", "Compute budget (FLOPs)")
    );
}

#[test]
fn rows_that_cannot_be_shown_are_named() {
    let mut study = study();
    study.rows[3].insert("valid_loss".to_owned(), RowCell::Number(f64::NAN));
    study.rows[4].insert("params".to_owned(), RowCell::Number(-5.0));
    study.rows[5].shift_remove("valid_loss");
    let (chart, warnings) = made(&study, isoflop());
    assert_eq!(points(&chart, Mark::Dot).len(), 18);
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].code, "W0710");
    assert!(
        warnings[0].message.contains("2 of 21 rows, iso/03 and iso/04"),
        "{}",
        warnings[0].message
    );
    assert!(
        chart.note.contains("1 of 21 rows have no value and are left out: iso/05."),
        "{}",
        chart.note
    );
    assert!(chart.problems().is_empty());
}

/// A picture is kept, so that a change of it is seen. To keep another one, delete the file, run this twice and look at it.
#[test]
fn the_picture_of_a_study_is_the_one_that_is_kept() {
    let (chart, _) = made(&study(), isoflop());
    let svg = crate::svg(&chart, "c", crate::Links::None);
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/ref/plots/isoflop.svg");
    match std::fs::read_to_string(&path) {
        Ok(kept) => {
            let line = kept.lines().zip(svg.lines()).find(|(old, new)| old != new);
            assert!(kept == svg, "`{}` has another picture: {line:?}", path.display());
        }
        Err(_) => {
            std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("made");
            std::fs::write(&path, svg).expect("written");
            panic!("`{}` was not there and is written: look at it", path.display());
        }
    }
}

#[test]
fn no_rows_one_row_and_a_misspelt_column() {
    let none = Study { rows: Vec::new() };
    let (chart, warnings) = made(&none, isoflop());
    assert_eq!(warnings[0].message, "the plot \"IsoFLOP curves\" has no rows");
    assert!(crate::svg(&chart, "c", crate::Links::None).contains("no rows to draw"));
    let one = Study { rows: study().rows.drain(..1).collect() };
    let (chart, warnings) = made(&one, isoflop());
    assert_eq!((warnings.len(), points(&chart, Mark::Dot).len()), (0, 1));
    assert_eq!(chart.note, "Too few places of 1e16 for a curve.");
    let (_, warnings) = made(&study(), PlotSpec { y: RowExpr::column("valid_los"), ..isoflop() });
    assert_eq!(
        (warnings[0].code, warnings[0].help.as_str()),
        ("W0711", "did you mean `.valid_loss`?")
    );
}

#[test]
fn the_frontier_has_a_band_and_a_prediction() {
    let plot = PlotSpec {
        x: log("budget"),
        y: log("params"),
        color: None,
        trend: Trend::Law,
        mark: MarkRule::None,
        extend_to: Some(1e20),
        law: Some("chinchilla".to_owned()),
        ..isoflop()
    };
    let (chart, _) = made(&study(), plot);
    // The wide band of a run lies below that of the law, and each says which it is.
    let bands: Vec<(&str, f64)> = chart
        .layers
        .iter()
        .filter_map(|l| match &l.shape {
            Shape::Band { points } => Some((l.name.as_str(), points[0].2 / points[0].1)),
            _ => None,
        })
        .collect();
    let [(run, wide), (curve, narrow)] = bands.as_slice() else { panic!("two bands: {bands:?}") };
    assert!(run.contains("runs") && curve.contains("law") && wide > narrow);
    assert!(chart.note.contains("prediction interval"), "{}", chart.note);
    let star = points(&chart, Mark::Star);
    assert_eq!(star.len(), 1);
    assert!((star[0].1 / (1e20 / 120.0f64).sqrt() - 1.0).abs() < 1e-12);
}

#[test]
fn laws_follow_their_groups_and_fill_surfaces() {
    let law = Some("chinchilla".to_owned());
    let plot = PlotSpec { trend: Trend::Law, mark: MarkRule::None, law: law.clone(), ..isoflop() };
    let (chart, _) = made(&study(), plot);
    let Shape::Line { points: line, .. } = &chart.layers[0].shape else { panic!("a curve first") };
    for (n, l) in line {
        assert!((l - loss(*n, 1e16 / 6.0 / n)).abs() < 1e-9);
    }
    let plot = PlotSpec {
        y: log("tokens"),
        trend: Trend::Contour,
        mark: MarkRule::None,
        law,
        ..isoflop()
    };
    let (chart, _) = made(&study(), plot);
    let Shape::Contour { levels, .. } = &chart.layers[0].shape else { panic!("a surface first") };
    assert!(levels.len() >= 5 && levels.windows(2).all(|w| w[0] < w[1]), "{levels:?}");
}

#[test]
fn a_whole_report_is_the_same_bytes_each_time() {
    let coefficients = TableSpec {
        title: "Law".to_owned(),
        rows: ReportRows::Coefficients("chinchilla".to_owned()),
        columns: vec![RowExpr::column("name"), RowExpr::column("value"), RowExpr::column("ci95")],
    };
    let value = Piece::Value { text: "2.9".to_owned(), node: Some("iso/03".to_owned()) };
    let steps = PlotSpec {
        data: ReportRows::Metrics("iso".to_owned()),
        x: RowExpr::column("step"),
        y: RowExpr::column("loss"),
        color: None,
        ..isoflop()
    };
    let spec = ReportSpec {
        title: "Scaling".to_owned(),
        parts: vec![
            ReportPart::Text(vec![Piece::Text("\n  The best has ".to_owned()), value]),
            ReportPart::Plot(Box::new(isoflop())),
            ReportPart::Plot(Box::new(steps)),
            ReportPart::Table(coefficients),
        ],
        export: Vec::new(),
    };
    let build = || make(&spec, &study()).expect("rows are there");
    let (document, warnings) = build();
    assert_eq!((warnings.len(), document.runs.len()), (0, 22));
    let Block::Table(table) = &document.blocks[3] else { panic!("a table") };
    assert_eq!(table.rows[0][2], Cell::Interval(1.8 * 0.9, 1.8 * 1.1));
    let forms = [Form::Html, Form::Markdown, Form::Png, Form::Csv];
    let first = files(&document, &forms);
    assert_eq!(first, files(&build().0, &forms));
    let page = String::from_utf8_lossy(&first[0].1).into_owned();
    assert!(page.contains("<a class=\"value\" href=\"#run-iso-03\">2.9</a>"));
}

#[test]
fn the_appendix_says_of_a_run_what_its_own_row_says() {
    let steps = PlotSpec {
        data: ReportRows::Metrics("iso/03".to_owned()),
        x: RowExpr::column("step"),
        y: RowExpr::column("loss"),
        color: None,
        ..isoflop()
    };
    struct Steps(Study);
    impl Results for Steps {
        fn rows(&self, rows: &Rows) -> Result<Vec<Row>, String> {
            self.0.rows(rows)
        }
        fn metrics(&self, node: &str) -> Result<Vec<Row>, String> {
            Ok(vec![row(&[("step", 1.0), ("tokens", 7.0), ("loss", 9.0)], node)])
        }
        fn coefficients(&self, fit: &str) -> Result<Vec<Row>, String> {
            self.0.coefficients(fit)
        }
        fn residuals(&self, fit: &str) -> Result<Vec<Row>, String> {
            self.0.residuals(fit)
        }
        fn predict(&self, fit: &str, row: &Row) -> Option<f64> {
            self.0.predict(fit, row)
        }
        fn optimum(&self, fit: &str, flops: f64) -> Option<Optimum> {
            self.0.optimum(fit, flops)
        }
    }
    let parts = vec![ReportPart::Plot(Box::new(steps))];
    let spec = ReportSpec { title: "Steps".to_owned(), parts, export: Vec::new() };
    let study = study();
    let tokens = study.rows[3]["tokens"].clone();
    let (document, _) = make(&spec, &Steps(study)).expect("rows are there");
    let [run] = document.runs.as_slice() else { panic!("one run") };
    assert_eq!(run.name, "iso/03");
    assert!(run.figures.iter().any(|(_, cell)| *cell == cell_of(&tokens)), "{:?}", run.figures);
}
