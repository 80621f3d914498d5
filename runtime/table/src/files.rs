//! Tables in files: CSV, JSON and Parquet, in and out.

use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::path::{Path, PathBuf};

use cs336_compiler::row::interp::{Cell, Row};
use polars::prelude::{
    Column, CsvReadOptions, CsvWriter, DataFrame, JsonFormat, JsonReader, ParquetReader,
    ParquetWriter, PolarsResult, SerReader, SerWriter,
};
use serde_json::{Map, Number, Value};

use crate::frame::Frame;
use crate::rows::{TableError, temporary};

/// Forms that tables are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// A line of names, then a line for each row.
    Csv,
    /// A list of objects.
    Json,
    /// Columns, for other tools.
    Parquet,
}

/// The table in the files that `pattern` names: `csv`, `jsonl` or `parquet`.
pub fn read_table(form: &str, pattern: &Path) -> Result<Frame, TableError> {
    let parts: Result<Vec<Frame>, TableError> =
        matching(pattern).iter().map(|path| read_one(form, path)).collect();
    let parts = parts?;
    if parts.is_empty() {
        return Err(TableError::Table {
            path: pattern.to_owned(),
            form: form.to_owned(),
            why: "there is no such file".to_owned(),
        });
    }
    Frame::below(&parts)
}

/// The columns of the table in the files that `pattern` names, where the first line of each tells them. `None`: they are not there, or only
/// their rows tell.
pub fn column_names(form: &str, pattern: &Path) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let files = matching(pattern);
    for path in &files {
        let found = match form {
            "csv" => {
                let mut line = Vec::new();
                let mut reader = std::io::BufReader::new(File::open(path).ok()?);
                reader.read_until(b'\n', &mut line).ok()?;
                if line.starts_with(&[0xff, 0xfe]) || line.starts_with(&[0xfe, 0xff]) {
                    line = std::fs::read(path).ok()?;
                }
                let text = decoded(&line).ok()?;
                let frame = csv(text.lines().next()?).ok()?;
                frame.get_column_names().iter().map(|n| n.trim().to_owned()).collect::<Vec<_>>()
            }
            "parquet" => {
                let schema = ParquetReader::new(File::open(path).ok()?).schema().ok()?;
                schema.iter_names().map(|n| n.to_string()).collect()
            }
            _ => return None,
        };
        names.extend(found.into_iter().filter(|n| !names.contains(n)).collect::<Vec<_>>());
    }
    (!files.is_empty()).then_some(names)
}

/// The files that a path with `*` and `?` in its last part stands for, sorted.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let last = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !last.contains(['*', '?']) {
        return if pattern.exists() { vec![pattern.to_owned()] } else { Vec::new() };
    }
    let folder = pattern.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let fits = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (name, last): (Vec<char>, Vec<char>) = (name.chars().collect(), last.chars().collect());
        path.is_file() && matches(&last, &name)
    };
    let mut found: Vec<PathBuf> = entries.map(|e| e.path()).filter(fits).collect();
    found.sort();
    found
}

fn matches(pattern: &[char], name: &[char]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (['*', rest @ ..], _) => (0..=name.len()).any(|i| matches(rest, &name[i..])),
        (['?', rest @ ..], [_, tail @ ..]) => matches(rest, tail),
        ([c, rest @ ..], [d, tail @ ..]) => c == d && matches(rest, tail),
        _ => false,
    }
}

fn read_one(form: &str, path: &Path) -> Result<Frame, TableError> {
    let failed =
        |why: String| TableError::Table { path: path.to_owned(), form: form.to_owned(), why };
    let short = |e: polars::error::PolarsError| {
        failed(e.to_string().lines().next().unwrap_or_default().to_owned())
    };
    let unread = |source| TableError::Read { path: path.to_owned(), source };
    let open = || File::open(path).map_err(unread);
    let frame: DataFrame = match form {
        "csv" => {
            let text = decoded(&std::fs::read(path).map_err(unread)?).map_err(failed)?;
            csv(&text).and_then(from_texts).map_err(short)?
        }
        "jsonl" => JsonReader::new(open()?)
            .with_json_format(if is_list(open()?) {
                JsonFormat::Json
            } else {
                JsonFormat::JsonLines
            })
            .infer_schema_len(None)
            .finish()
            .map_err(short)?,
        "parquet" => ParquetReader::new(open()?).finish().map_err(short)?,
        other => return Err(failed(format!("`{other}` is no form of tables"))),
    };
    Frame::from_polars(frame)
}

/// JSON that is one list of objects rather than an object a line.
fn is_list(file: File) -> bool {
    let mut bytes = std::io::BufReader::new(file).bytes();
    let first = bytes.find_map(|b| b.ok().filter(|b| !b.is_ascii_whitespace()));
    first == Some(b'[')
}

/// The text of a file: UTF-8, or UTF-16 as spreadsheets write it, with a mark in front. `Err` is one sentence.
fn decoded(bytes: &[u8]) -> Result<String, String> {
    let wide = |unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes[2..].chunks_exact(2).map(|b| unit([b[0], b[1]])).collect();
        String::from_utf16(&units).map_err(|_| "it begins as UTF-16 and is not".to_owned())
    };
    match bytes {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        _ => {
            let bytes = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(bytes);
            match std::str::from_utf8(bytes) {
                Ok(text) => Ok(text.to_owned()),
                Err(e) => {
                    let line = 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
                    Err(format!("line {line} is not UTF-8; save it as UTF-8"))
                }
            }
        }
    }
}

/// The cells of a CSV as texts: amounts of compute written out, 10000000000000000000, are no 64-bit integers.
fn csv(text: &str) -> PolarsResult<DataFrame> {
    let separator = separator(text);
    CsvReadOptions::default()
        .with_has_header(true)
        .with_infer_schema_length(Some(0))
        .map_parse_options(|parse| parse.with_separator(separator))
        .into_reader_with_file_handle(std::io::Cursor::new(text.as_bytes()))
        .finish()
}

/// What stands between the names of the first line: commas, else semicolons, else tabs.
fn separator(text: &str) -> u8 {
    let first = text.lines().next().unwrap_or_default();
    let mut quoted = false;
    let outside: Vec<char> = first
        .chars()
        .filter(|c| {
            quoted ^= *c == '"';
            !quoted
        })
        .collect();
    let found = [',', ';', '\t'].into_iter().find(|s| outside.contains(s));
    found.map_or(b',', |s| s as u8)
}

/// What spreadsheets and statistics programs write where there is no number.
const NOTHING: &[&str] = &["NA", "N/A", "n/a", "null", "NULL", "none", "None", "-"];

/// A cell without the blanks around it, if anything is left; a line break within quotation marks is its own.
fn trimmed(cell: Option<&str>) -> Option<&str> {
    cell.map(|t| t.trim_matches([' ', '\t', '\r'])).filter(|t| !t.is_empty())
}

/// Columns of texts as what all their texts are: numbers, truths, or texts. What is empty is nothing, and so is a word for that among numbers.
/// Rows in which there is nothing are no rows.
fn from_texts(frame: DataFrame) -> PolarsResult<DataFrame> {
    let mut cells: Vec<Vec<Option<&str>>> = Vec::new();
    for column in frame.columns() {
        // Blanks around a cell stand there for people; a line break within quotation marks is the cell's own.
        cells.push(column.str()?.iter().map(trimmed).collect());
    }
    let kept: Vec<usize> =
        (0..frame.height()).filter(|row| cells.iter().any(|c| c[*row].is_some())).collect();
    let mut columns = Vec::new();
    for (column, texts) in frame.columns().iter().zip(&cells) {
        let texts: Vec<Option<&str>> = kept.iter().map(|row| texts[*row]).collect();
        let some: Vec<Option<&str>> =
            texts.iter().map(|t| t.filter(|t| !NOTHING.contains(t))).collect();
        let all = |fits: &dyn Fn(&str) -> bool| some.iter().flatten().all(|t| fits(t));
        let any = some.iter().any(Option::is_some) || texts.iter().all(Option::is_none);
        let name = column.name().trim();
        columns.push(if any && all(&|t| t.parse::<f64>().is_ok()) {
            let numbers: Vec<Option<f64>> =
                some.iter().map(|t| t.and_then(|t| t.parse().ok())).collect();
            Column::new(name.into(), numbers)
        } else if any && all(&|t| matches!(t, "true" | "false")) {
            let truths: Vec<Option<bool>> = some.iter().map(|t| t.map(|t| t == "true")).collect();
            Column::new(name.into(), truths)
        } else {
            Column::new(name.into(), texts)
        });
    }
    DataFrame::new(kept.len(), columns)
}

/// The bytes of a table in a form.
pub fn written(frame: &Frame, form: Form) -> Result<Vec<u8>, TableError> {
    let polars = |e: polars::error::PolarsError| TableError::polars(&e);
    let mut bytes = Vec::new();
    match form {
        Form::Text => bytes = shown(frame).into_bytes(),
        Form::Csv => {
            let mut frame = frame.polars().clone();
            CsvWriter::new(&mut bytes).include_header(true).finish(&mut frame).map_err(polars)?;
        }
        Form::Json => {
            let rows: Vec<Value> = frame.rows().into_iter().map(object).collect();
            for (i, row) in rows.iter().enumerate() {
                let start = if i == 0 { "[\n  " } else { ",\n  " };
                bytes.extend_from_slice(format!("{start}{row}").as_bytes());
            }
            bytes.extend_from_slice(if rows.is_empty() { b"[]\n" } else { b"\n]\n" });
        }
        Form::Parquet => {
            let mut frame = frame.polars().clone();
            ParquetWriter::new(&mut bytes).finish(&mut frame).map_err(polars)?;
        }
    }
    Ok(bytes)
}

/// Writes a table whole or not at all.
pub fn write_table(frame: &Frame, form: Form, path: &Path) -> Result<(), TableError> {
    let failed = |source| TableError::Write { path: path.to_owned(), source };
    let bytes = written(frame, form)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = temporary().tempfile_in(folder).map_err(failed)?;
    file.write_all(&bytes).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// A row as JSON; what is nothing or not finite is `null`.
pub fn object(row: Row) -> Value {
    let cell = |cell| match cell {
        Cell::Null => Value::Null,
        Cell::Bool(b) => Value::Bool(b),
        // Whole numbers are written as such.
        Cell::Number(x) if x.fract() == 0.0 && x.abs() < 9e15 => Value::from(x as i64),
        Cell::Number(x) => Number::from_f64(x).map_or(Value::Null, Value::Number),
        Cell::Text(t) => Value::String(t),
    };
    Value::Object(row.into_iter().map(|(n, c)| (n, cell(c))).collect::<Map<_, _>>())
}

/// A table for people: numbers to the right, texts to the left.
fn shown(frame: &Frame) -> String {
    let rows = frame.rows();
    let names: Vec<String> = frame.columns().into_keys().collect();
    let mut columns: Vec<(bool, Vec<String>)> = Vec::new();
    for name in &names {
        let cells: Vec<&Cell> = rows.iter().filter_map(|r| r.get(name)).collect();
        let right = cells.iter().any(|c| matches!(c, Cell::Number(_)));
        let texts = std::iter::once(name.clone()).chain(cells.into_iter().map(text));
        columns.push((right, texts.collect()));
    }
    let mut out = String::new();
    for line in 0..=rows.len() {
        let mut text = String::new();
        for (i, (right, cells)) in columns.iter().enumerate() {
            let width = cells.iter().map(|c| c.chars().count()).max().unwrap_or(0);
            let gap = " ".repeat(width - cells[line].chars().count());
            let sep = if i == 0 { "" } else { "  " };
            let (before, after) = if *right { (gap.as_str(), "") } else { ("", gap.as_str()) };
            text += &format!("{sep}{before}{}{after}", cells[line]);
        }
        out += text.trim_end();
        out.push('\n');
    }
    out
}

fn text(cell: &Cell) -> String {
    match cell {
        Cell::Null => "-".to_owned(),
        Cell::Bool(b) => b.to_string(),
        Cell::Text(t) => t.replace(['\n', '\r', '\t'], " "),
        Cell::Number(x) => number(*x),
    }
}

/// Five digits are enough to read; files have all of them.
fn number(x: f64) -> String {
    let size = x.abs();
    if x.is_nan() || x.is_infinite() || x == 0.0 || (x.fract() == 0.0 && size < 1e7) {
        return x.to_string();
    }
    if (1e-3..1e5).contains(&size) {
        let places = (4 - size.log10().floor() as i32).max(0) as usize;
        let text = format!("{x:.places$}");
        return if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        };
    }
    let text = format!("{x:.4e}");
    let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{}e{power}", digits.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use cs336_compiler::row::kinds::Kind;

    use super::*;

    fn frame() -> Frame {
        let row = |name: &str, x: f64| {
            Row::from_iter([
                ("name".to_owned(), Cell::Text(name.to_owned())),
                ("x".to_owned(), Cell::Number(x)),
                ("y".to_owned(), if x > 2.0 { Cell::Null } else { Cell::Bool(true) }),
            ])
        };
        Frame::from_rows(&[row("a", 0.1 + 0.2), row("b, \"c\"\n", 3e18), row("", f64::NAN)])
            .expect("a table")
    }

    #[test]
    fn tables_survive_their_files() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (form, name) in [(Form::Csv, "csv"), (Form::Parquet, "parquet")] {
            let path = folder.path().join(format!("t.{name}"));
            write_table(&frame(), form, &path).expect("written");
            let back = read_table(name, &path).expect("read");
            assert_eq!(back.numbers("x").expect("numbers")[..2], [0.1 + 0.2, 3e18]);
            assert_eq!(back.texts("name"), frame().texts("name"), "{name}");
        }
        let both = read_table("csv", &folder.path().join("*.csv")).expect("read");
        assert_eq!(both.len(), 3);
        std::fs::write(folder.path().join("u.jsonl"), "{\"x\":1}\n{\"x\":2.5,\"t\":\"z\"}\n")
            .expect("written");
        let lines = read_table("jsonl", &folder.path().join("u.jsonl")).expect("read");
        assert_eq!(lines.numbers("x"), Some(vec![1.0, 2.5]));
        std::fs::write(folder.path().join("v.json"), " [{\"x\":1},\n {\"x\":2.5}]")
            .expect("written");
        let list = read_table("jsonl", &folder.path().join("v.json")).expect("read");
        assert_eq!(list.numbers("x"), Some(vec![1.0, 2.5]));
        let none = read_table("csv", &folder.path().join("none.csv")).expect_err("no file");
        assert!(none.to_string().contains("none.csv"), "{none}");
        let wrong = read_table("parquet", &folder.path().join("t.csv"));
        assert!(matches!(wrong, Err(TableError::Table { .. })));
    }

    #[test]
    fn json_and_text_show_what_is_there() {
        let json = written(&frame(), Form::Json).expect("JSON");
        let values: Vec<Value> = serde_json::from_slice(&json).expect("it is JSON");
        assert_eq!(values[0]["x"], Value::from(0.1 + 0.2));
        assert_eq!(values[2]["x"], Value::Null);
        let text = String::from_utf8(written(&frame(), Form::Text).expect("text")).expect("UTF-8");
        assert_eq!(text.lines().next(), Some("name        x  y"));
        assert_eq!(text.lines().nth(1), Some("a         0.3  true"));
    }

    #[test]
    fn numbers_are_short() {
        for (x, shown) in [
            (1234.0, "1234"),
            (3e18, "3e18"),
            (2.618_034, "2.618"),
            (0.000_123_456, "1.2346e-4"),
            (12_345_678.0, "1.2346e7"),
            (f64::NAN, "NaN"),
            (-0.5, "-0.5"),
        ] {
            assert_eq!(number(x), shown);
        }
    }

    #[test]
    fn columns_of_a_csv_are_what_all_their_cells_are() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("t.csv");
        let text = "flops,loss,done,name,none\n10000000000000000000,3,true,7,\n1e18,2.5,false,a b,\n,NaN,,,\n";
        std::fs::write(&path, text).expect("written");
        let frame = read_table("csv", &path).expect("read");
        let flops = frame.numbers("flops").expect("numbers");
        assert_eq!((flops[0], flops[1], flops[2].is_nan()), (1e19, 1e18, true));
        assert!(frame.numbers("loss").expect("numbers")[2].is_nan());
        let kinds = frame.columns();
        assert_eq!(
            (kinds["done"], kinds["name"], kinds["none"]),
            (Kind::Bool, Kind::Text, Kind::Number)
        );
    }

    #[test]
    fn tables_of_other_programs_are_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("t.csv");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("written");
            read_table("csv", &path)
        };
        let wide: Vec<u8> = [0xfeff]
            .into_iter()
            .chain("a;b\r\n1;2.5\r\n".encode_utf16())
            .flat_map(u16::to_le_bytes)
            .collect();
        for bytes in [
            b"a,b\n1,2.5\n\n".as_slice(),
            b"a, b\n1, 2.5\n,\n",
            b"a;b\n1;2.5\n",
            b"a\tb\n1\t2.5\n",
            b"\xef\xbb\xbfa,b\n1,2.5\n",
            &wide,
        ] {
            let frame = read(bytes).expect("read");
            let found = (frame.numbers("a"), frame.numbers("b"));
            assert_eq!(found, (Some(vec![1.0]), Some(vec![2.5])), "{}", bytes.escape_ascii());
        }
        // Among numbers a word for nothing is nothing; among texts it is a text.
        let frame = read(b"x,t\n1,a\nNA,NA\n-,b\n").expect("read");
        let x = frame.numbers("x").expect("numbers");
        assert!(x[0] == 1.0 && x[1].is_nan() && x[2].is_nan());
        let texts = ["a", "NA", "b"].map(str::to_owned).to_vec();
        assert_eq!(frame.texts("t"), Some(texts));
        let error = read(b"a,b\n1,\xe9\n").expect_err("Latin 1").to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
