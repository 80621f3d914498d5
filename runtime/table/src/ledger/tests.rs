//! The ledger against folders that are written, changed and damaged.

use std::path::Path;

use cs336_compiler::row::interp::Cell;

use super::*;

fn write(root: &Path, folder: &str, name: &str, valid_loss: Option<f64>) {
    let path = root.join(folder);
    std::fs::create_dir_all(&path).expect("a folder");
    let meaning = "batch = 64.0 tokens\\nbudget = 1000.0 FLOPs\\nseed = 3.0\\n";
    let manifest = format!(
        r#"{{"version":1,"name":"{name}","key":"k-{name}","inputs":{{"meaning":"{meaning}"}},
        "seeds":{{"order":3}},"machine":{{"os":"linux","arch":"x86_64","threads":2}},"created":5,
        "columns":{{"C":1000.0,"data_tokens":50}}}}"#
    );
    std::fs::write(path.join("manifest.json"), manifest).expect("written");
    std::fs::write(
        path.join("metrics.jsonl"),
        "{\"step\":1,\"tokens\":64.0,\"lr\":0.5,\"loss\":4.0}\n",
    )
    .expect("written");
    if let Some(loss) = valid_loss {
        let result =
            format!(r#"{{"version":1,"step":2,"tokens":100,"loss":3.5,"valid_loss":{loss}}}"#);
        std::fs::write(path.join("result.json"), result).expect("written");
    }
}

#[test]
fn runs_become_rows_and_only_changed_ones_are_read_again() {
    let root = tempfile::tempdir().expect("a temporary folder");
    let root = root.path();
    assert!(Ledger::open(&root.join("none")).expect("nothing there").runs().is_empty());
    write(root, "iso/00-aa", "iso/00", Some(2.0));
    write(root, "iso/01-bb", "iso/01", None);
    write(root, "base-cc", "base", Some(3.0));
    let ledger = Ledger::open(root).expect("read");
    assert_eq!((ledger.runs().len(), ledger.read_anew()), (3, 3));
    let rows = ledger.runs().rows();
    assert_eq!(rows[1]["folder"], Cell::Text("iso/00-aa".into()));
    assert_eq!(rows[1]["sweep"], Cell::Text("iso".into()));
    assert_eq!(rows[1]["epochs"], Cell::Number(2.0));
    assert_eq!(rows[1]["unique_tokens"], Cell::Number(50.0));
    assert_eq!(rows[1]["C"], Cell::Number(1000.0));
    assert_eq!(rows[2]["status"], Cell::Text("incomplete".into()));
    assert_eq!((&rows[2]["loss"], &rows[2]["valid_loss"]), (&Cell::Number(4.0), &Cell::Null));
    assert_eq!(rows[2]["lr"], Cell::Null);
    assert_eq!(ledger.of_node("iso").expect("rows").len(), 2);
    let first: Vec<String> = ledger.runs().columns().into_keys().take(3).collect();
    assert_eq!(first, ["name", "sweep", "status"]);

    let again = Ledger::open(root).expect("read");
    assert_eq!((again.runs().rows(), again.read_anew()), (rows, 0));
    let mark = root.join("iso/01-bb/stopped.json");
    std::fs::write(&mark, r#"{"version":1,"rung":2,"step":1,"measure":4.0}"#).expect("written");
    let stopped = Ledger::open(root).expect("read");
    assert_eq!(stopped.read_anew(), 1);
    let row = &stopped.runs().rows()[2];
    assert_eq!((&row["status"], &row["rung"]), (&Cell::Text("stopped".into()), &Cell::Number(2.0)));
    std::fs::remove_file(mark).expect("removed");
    write(root, "iso/01-bb", "iso/01", Some(1.5));
    let after = Ledger::open(root).expect("read");
    assert_eq!(after.read_anew(), 1);
    assert_eq!(after.runs().numbers("valid_loss"), Some(vec![3.0, 2.0, 1.5]));

    // Without the index, or with a damaged one, the same is read again.
    for bytes in [None, Some("PAR1 this is none")] {
        let path = root.join("index.parquet");
        match bytes {
            None => std::fs::remove_file(&path).expect("removed"),
            Some(text) => std::fs::write(&path, text).expect("written"),
        }
        let anew = Ledger::open(root).expect("read");
        assert_eq!((anew.runs().rows(), anew.read_anew()), (after.runs().rows(), 3));
    }
    std::fs::remove_dir_all(root.join("base-cc")).expect("removed");
    assert_eq!(Ledger::open(root).expect("read").runs().len(), 2);
}

#[test]
fn a_damaged_run_is_named_and_hides_no_other() {
    let root = tempfile::tempdir().expect("a temporary folder");
    write(root.path(), "a-1", "a", Some(2.0));
    write(root.path(), "b-1", "b", Some(2.0));
    std::fs::write(root.path().join("a-1/result.json"), "{").expect("written");
    let ledger = Ledger::open(root.path()).expect("read");
    assert_eq!(ledger.runs().texts("name"), Some(vec!["b".to_owned()]));
    assert!(ledger.damaged()[0].0.ends_with("a-1"));
    assert!(ledger.damaged()[0].1.contains("result.json"));
}

#[test]
fn metrics_are_one_table() {
    let root = tempfile::tempdir().expect("a temporary folder");
    write(root.path(), "a-1", "a", Some(2.0));
    write(root.path(), "b-1", "b", None);
    let metrics = Ledger::open(root.path()).expect("read").metrics(&|_| true).expect("read");
    assert_eq!(metrics.texts("name"), Some(vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(metrics.numbers("loss"), Some(vec![4.0, 4.0]));
    // A finished run has its steps as Parquet, and may have measures that others do not have.
    let mut row = crate::Row::new(7);
    row.set("measure:x", 0.5);
    crate::write_parquet(&[row], &root.path().join("a-1/metrics.parquet")).expect("written");
    let ledger = Ledger::open(root.path()).expect("read");
    let metrics = ledger.metrics(&|_| true).expect("read");
    assert_eq!(metrics.numbers("step"), Some(vec![7.0, 1.0]));
    let measures = metrics.numbers("measure:x").expect("a column");
    assert!(measures[0] == 0.5 && measures[1].is_nan());
    let few = ledger.metrics(&|name| name == "loss").expect("read");
    assert_eq!(
        few.columns().into_keys().collect::<Vec<_>>(),
        ["name", "key", "folder", "step", "loss"]
    );
}

#[test]
fn columns_of_texts_are_texts_even_if_no_run_has_one() {
    use cs336_compiler::row::{RowCompare, RowExpr, RowStage};
    let root = tempfile::tempdir().expect("a temporary folder");
    let failed = RowStage::Keep(RowExpr::Compare {
        op: RowCompare::Eq,
        left: Box::new(RowExpr::column("failure")),
        right: Box::new(RowExpr::Text("E0853".into())),
    });
    let ask = |root: &Path| {
        let ledger = Ledger::open(root).expect("read");
        crate::query::pipeline(ledger.runs(), std::slice::from_ref(&failed)).expect("rows").len()
    };
    assert_eq!(ask(root.path()), 0);
    write(root.path(), "a-1", "a", None);
    assert_eq!(ask(root.path()), 0);
    std::fs::write(
        root.path().join("a-1/failure.json"),
        r#"{"version":1,"code":"E0853","why":"NaN"}"#,
    )
    .expect("written");
    assert_eq!(ask(root.path()), 1);
    // Nothing below something: the columns stay.
    let ledger = Ledger::open(root.path()).expect("read");
    let none = ledger.of_node("other").expect("no rows");
    let both = Frame::below(&[none.clone(), none]).expect("no rows");
    assert_eq!(both.columns(), ledger.runs().columns());
}
