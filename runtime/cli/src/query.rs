//! `cs336c query`: questions to the ledger, in the language or in SQL.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use cs336_compiler::check::hir::Nodes;
use cs336_compiler::front::rows;
use cs336_compiler::row::RowStage;
use cs336_compiler::row::interp::Cell;
use cs336_compiler::world::Texts;
use cs336_lab::{Exit, LabError, fits, ledger};
use cs336_table::{Form, Frame, Ledger, TableError, query, write_table, written};

use crate::args::{Query, Source};
use crate::host::Real;
use crate::program::Known;
use crate::render::Style;

/// What a row is shown with if the question does not say.
const SHORT: &[&str] = &[
    "name",
    "status",
    "params",
    "tokens",
    "flops",
    "budget",
    "loss",
    "valid_loss",
    "bits_per_byte",
    "epochs",
    "seed",
    "failure",
];

pub(crate) fn query(host: &Real, style: Style, asked: &Query) -> Result<Exit, LabError> {
    let ledger = Ledger::open(&asked.runs)?;
    for (path, why) in ledger.damaged() {
        if !style.json {
            let line = format!("warning: `{}` is left out: {why}\n", path.display());
            crate::tell(style, &line);
        }
    }
    let form = form(style, asked)?;
    let frame = match &asked.sql {
        Some(sql) => answer_sql(&ledger, sql)?,
        None => {
            let (frame, chosen) = answer(host, &ledger, asked)?;
            if form == Form::Text && !chosen { brief(&frame, asked)? } else { frame }
        }
    };
    match &asked.out {
        Some(path) => write_table(&frame, form, path)?,
        None => {
            let bytes = written(&frame, form)?;
            // A reader that went away (`| head`) is no error.
            std::io::stdout().write_all(&bytes).ok();
        }
    }
    Ok(Exit::Ok)
}

fn form(style: Style, asked: &Query) -> Result<Form, LabError> {
    if let Some(format) = asked.format {
        return Ok(format.form());
    }
    let Some(path) = &asked.out else {
        return Ok(if style.json { Form::Json } else { Form::Text });
    };
    match path.extension().and_then(|e| e.to_str()) {
        Some("csv") => Ok(Form::Csv),
        Some("json") => Ok(Form::Json),
        Some("parquet") => Ok(Form::Parquet),
        Some("txt") => Ok(Form::Text),
        _ => Err(TableError::Query {
            code: "E0620",
            message: format!("`{}` does not say in which form it is to be", path.display()),
            help: "add `--format csv`, `json`, `parquet` or `table`".to_owned(),
        }
        .into()),
    }
}

/// All rows that the question asks for, and whether it chose columns itself.
fn answer(host: &Real, ledger: &Ledger, asked: &Query) -> Result<(Frame, bool), LabError> {
    let mut names: Vec<String> = Vec::new();
    for column in ["name", "sweep"] {
        names.extend(ledger.runs().texts(column).unwrap_or_default());
    }
    names.retain(|n| !n.is_empty());
    names.sort();
    names.dedup();
    let columns = ledger.runs().columns();
    let source = asked.file.clone().map(|file| Source { file, sets: asked.sets.clone() });
    let (made, nodes) = match &source {
        Some(source) => {
            let known = Known::new(host, source);
            let disk = known.disk();
            let file = Some(source.file.as_str());
            // What a fit is asked may hang on what another fit, or the same one, has said.
            loop {
                let checked = known.program(&disk, source).sound()?;
                let mut columns = columns.clone();
                columns.extend(ledger::places(&checked.nodes));
                let (made, asks) = rows(&disk, file, &source.sets, &asked.query, &names, &columns);
                if !fits::answer_again(&asked.runs, &asks, &known.facts, &checked.nodes)? {
                    break (made, checked.nodes);
                }
            }
        }
        None => {
            let world = Texts::default();
            (rows(&world, None, &[], &asked.query, &names, &columns).0, Nodes::new())
        }
    };
    let made = made.map_err(LabError::Program)?;
    let chosen =
        made.stages.iter().any(|s| matches!(s, RowStage::Select(_) | RowStage::GroupBy { .. }));
    Ok((ledger::rows(ledger, &nodes, &made)?, chosen))
}

fn answer_sql(ledger: &Ledger, sql: &str) -> Result<Frame, LabError> {
    let runs = ledger.runs();
    // Steps of all runs are many: they are read only for a question that names them, and only the columns that it names.
    let bare = sql.to_lowercase().replace("count(*)", "");
    let words: BTreeSet<&str> = bare
        .split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | ':' | '*')))
        .collect();
    let all = words.contains("*");
    let metrics = if sql.to_lowercase().contains("metrics") {
        let wanted = |name: &str| {
            let name = name.to_lowercase();
            all || words.iter().any(|w| *w == name || w.ends_with(&format!(".{name}")))
        };
        Some(ledger.metrics(&wanted)?)
    } else {
        None
    };
    let mut tables = vec![("runs", runs)];
    tables.extend(metrics.iter().map(|m| ("metrics", m)));
    Ok(query::sql(&tables, sql)?)
}

/// Without columns in which there is nothing, and only the usual ones with those that the question names.
fn brief(frame: &Frame, asked: &Query) -> Result<Frame, LabError> {
    let rows = frame.rows();
    let named = |name: &str| {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        asked
            .query
            .match_indices(&format!(".{name}"))
            .any(|(at, found)| !asked.query[at + found.len()..].starts_with(word))
    };
    let is_run = frame.texts("folder").is_some();
    let shown = |name: &str| {
        let full = rows.iter().any(|r| r.get(name).is_some_and(|c| *c != Cell::Null));
        full && (!is_run || SHORT.contains(&name) || named(name))
    };
    let kept = frame.columns().into_keys().filter(|name| shown(name));
    let columns = kept.map(|n| (n.clone(), cs336_compiler::row::RowExpr::Column(n))).collect();
    Ok(query::pipeline(frame, &[RowStage::Select(columns)])?)
}

/// Where runs are, for commands that only name runs.
pub(crate) fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}
