//! Reports of a program: the rows they ask for come from the ledger, their files go to `runs/<name>/`.
//!
//! A report is made anew each time: it is cheap beside what it tells of, and the same runs give the same bytes. What fits found is given.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use cs336_compiler::check::hir::Nodes;
use cs336_compiler::report::ReportSpec;
use cs336_compiler::row::Rows;
use cs336_compiler::row::interp::{Cell, Row};
use cs336_compiler::row::kinds::Kind;
use cs336_report::make::{Optimum, Results, Warning, make};
use cs336_report::page::{Cell as PageCell, Document, Table};
use cs336_report::{Form, files, flat, slug, tables};
use cs336_table::{Frame, Ledger, TableError, written};

use crate::error::LabError;
use crate::files::write_whole;
use crate::fits::{Answered, Fits};
use crate::ledger;

/// What was written.
#[derive(Debug)]
pub struct Report {
    /// The files, the page first.
    pub files: Vec<PathBuf>,
    /// What a reader should know.
    pub warnings: Vec<Warning>,
}

/// Makes the report of a node and writes its files under `root`.
pub fn report(
    name: &str,
    spec: &ReportSpec,
    nodes: &Nodes,
    root: &Path,
    fits: &Fits,
) -> Result<Report, LabError> {
    let ledger = Ledger::open(root)?;
    let asked = Asked { node: name, ledger: &ledger, nodes, fits, failed: RefCell::default() };
    let (document, warnings) = match make(spec, &asked) {
        Ok(made) => made,
        Err(why) => {
            let failed = asked.failed.into_inner();
            return Err(failed.unwrap_or(LabError::Waits { node: name.to_owned(), on: why }));
        }
    };
    let folder = root.join(slug(name));
    let mut paths = Vec::new();
    for (file, bytes) in rendered(&document, &spec.export)? {
        let path = folder.join(file);
        write_whole(&path, &bytes)?;
        paths.push(path);
    }
    Ok(Report { files: paths, warnings })
}

/// The files of a document in the forms that a program names.
fn rendered(document: &Document, export: &[String]) -> Result<Vec<(String, Vec<u8>)>, LabError> {
    let forms = [
        ("html", Form::Html),
        ("markdown", Form::Markdown),
        ("svg", Form::Svg),
        ("png", Form::Png),
        ("csv", Form::Csv),
    ];
    let has = |word: &str| export.iter().any(|e| e == word);
    let forms: Vec<Form> = forms.iter().filter(|(w, _)| has(w)).map(|(_, f)| *f).collect();
    let mut all = files(document, &forms);
    if has("parquet") {
        for (name, table) in tables(document) {
            let bytes = written(&frame(&table)?, cs336_table::Form::Parquet)?;
            all.push((format!("{name}.parquet"), bytes));
        }
    }
    Ok(all)
}

fn frame(table: &Table) -> Result<Frame, TableError> {
    let (columns, rows) = flat(table);
    let cell = |c: &PageCell| match c {
        PageCell::Empty | PageCell::Interval(..) => Cell::Null,
        PageCell::Number(x) => Cell::Number(*x),
        PageCell::Text(t) | PageCell::Run(t) => Cell::Text(t.clone()),
    };
    let rows: Vec<Row> = rows
        .iter()
        .map(|row| columns.iter().cloned().zip(row.iter().map(cell)).collect())
        .collect();
    let first: Vec<(&str, Kind)> = columns.iter().map(|c| (c.as_str(), Kind::Any)).collect();
    Frame::with_columns(&rows, &first)
}

/// The results that a report may ask for.
struct Asked<'a> {
    /// The report.
    node: &'a str,
    ledger: &'a Ledger,
    nodes: &'a Nodes,
    fits: &'a Fits,
    /// What could not be read, with its code.
    failed: RefCell<Option<LabError>>,
}

impl Asked<'_> {
    fn read(&self, made: Result<Frame, TableError>) -> Result<Vec<Row>, String> {
        made.map(|frame| frame.rows()).map_err(|error| self.fails(LabError::from(error)))
    }

    fn fails(&self, error: LabError) -> String {
        let text = error.to_string();
        self.failed.borrow_mut().get_or_insert(error);
        text
    }

    fn fitted(&self, fit: &str) -> Result<&Answered, String> {
        let waits = || LabError::Waits { node: self.node.to_owned(), on: fit.to_owned() };
        self.fits.get(fit).ok_or_else(|| self.fails(waits()))
    }
}

impl Results for Asked<'_> {
    fn rows(&self, rows: &Rows) -> Result<Vec<Row>, String> {
        self.read(ledger::rows(self.ledger, self.nodes, rows))
    }

    fn metrics(&self, node: &str) -> Result<Vec<Row>, String> {
        let runs = self.read(ledger::runs_of(self.ledger, self.nodes, node))?;
        let keys: Vec<&Cell> = runs.iter().filter_map(|r| r.get("key")).collect();
        let all = self.read(self.ledger.metrics(&|_| true))?;
        Ok(all.into_iter().filter(|r| r.get("key").is_some_and(|k| keys.contains(&k))).collect())
    }

    fn coefficients(&self, fit: &str) -> Result<Vec<Row>, String> {
        self.fitted(fit).map(Answered::coefficients)
    }

    fn residuals(&self, fit: &str) -> Result<Vec<Row>, String> {
        self.fitted(fit).map(Answered::residuals)
    }

    fn predict(&self, fit: &str, row: &Row) -> Option<f64> {
        self.fits.get(fit)?.predict(row)
    }

    fn optimum(&self, fit: &str, flops: f64) -> Option<Optimum> {
        self.fits.get(fit)?.optimum(flops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cs336_compiler::report::{MarkRule, PlotSpec, ReportPart, ReportRows, TableSpec, Trend};
    use cs336_compiler::row::{RowExpr, RowFunction, RowSource};

    fn log(column: &str) -> RowExpr {
        RowExpr::Call { function: RowFunction::Log, args: vec![RowExpr::column(column)] }
    }

    fn study(folder: &Path) -> ReportSpec {
        let mut text = "params,budget,loss\n".to_owned();
        for budget in [1e16, 1e17] {
            for n in [1e6, 2e6, 4e6, 8e6] {
                let d = budget / 6.0 / n;
                text += &format!(
                    "{n},{budget},{}\n",
                    1.8 + 400.0 / f64::powf(n, 0.34) + 1600.0 / f64::powf(d, 0.37)
                );
            }
        }
        std::fs::write(folder.join("old.csv"), text).expect("written");
        let base = folder.join("a.cs336").display().to_string();
        let source = RowSource::Table { format: "csv".into(), pattern: "old.csv".into(), base };
        let rows = ReportRows::Rows(Rows { from: vec![source], stages: Vec::new() });
        let plot = PlotSpec {
            title: "IsoFLOP".into(),
            data: rows.clone(),
            x: log("params"),
            y: RowExpr::column("loss"),
            color: Some(RowExpr::column("budget")),
            trend: Trend::Parabola,
            mark: MarkRule::Minimum,
            line: None,
            extend_to: None,
            law: None,
        };
        let table = TableSpec { title: "All".into(), rows, columns: Vec::new() };
        let export = ["html", "markdown", "svg", "png", "csv", "parquet"];
        ReportSpec {
            title: "Old results".into(),
            parts: vec![ReportPart::Plot(Box::new(plot)), ReportPart::Table(table)],
            export: export.iter().map(|e| (*e).to_owned()).collect(),
        }
    }

    #[test]
    fn a_table_of_recorded_results_becomes_every_form_twice_the_same() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("runs");
        let spec = study(folder.path());
        let make =
            || report("old", &spec, &Nodes::default(), &root, &Fits::new()).expect("written");
        let bytes = |r: &Report| -> Vec<(PathBuf, Vec<u8>)> {
            r.files.iter().map(|p| (p.clone(), std::fs::read(p).expect("there"))).collect()
        };
        let (first, second) = (bytes(&make()), bytes(&make()));
        assert_eq!(first, second);
        let names: Vec<String> = first
            .iter()
            .filter_map(|(p, _)| Some(p.file_name()?.to_string_lossy().into_owned()))
            .collect();
        assert_eq!(
            names,
            ["report.html", "report.md", "isoflop.png", "isoflop.svg", "all.csv", "all.parquet"]
        );
        let back = cs336_table::read_table("parquet", &root.join("old/all.parquet")).expect("read");
        assert_eq!(back.numbers("params").map(|p| p.len()), Some(8));
    }

    #[test]
    fn what_a_report_waits_for_has_a_code() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut spec = study(folder.path());
        let rows = ReportRows::Coefficients("chinchilla".into());
        spec.parts.push(ReportPart::Table(TableSpec {
            title: "Law".into(),
            rows,
            columns: Vec::new(),
        }));
        let made =
            |spec: &ReportSpec| report("old", spec, &Nodes::default(), folder.path(), &Fits::new());
        assert_eq!(made(&spec).expect_err("no fit").code(), "E0859");
        std::fs::remove_file(folder.path().join("old.csv")).expect("removed");
        assert!(made(&spec).expect_err("no file").code().starts_with("E0"));
    }
}
