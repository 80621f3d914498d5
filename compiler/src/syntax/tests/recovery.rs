//! Several mistakes in one file are all reported, and what is right around them is read.

use super::super::ast::ItemKind;
use super::read;

#[test]
fn five_items_two_broken() {
    let text = "let a = 1\nlet b = = 2\nlet c = 3\ntrain t { x = 1 + }\nlet d = 4\n";
    let (file, problems) = read(text);
    let lines: Vec<&str> = problems.iter().map(|p| &p[..p.find(' ').unwrap_or(0)]).collect();
    assert_eq!(lines, ["2:9", "4:19"], "{problems:?}");
    let lets = file.items.iter().filter(|i| matches!(i.kind, ItemKind::Let { .. })).count();
    assert_eq!(lets, 3);
}

#[test]
fn docs_stand_before_or_behind() {
    let text = "## The file.\nuse a\n\n## Peak rate,\n## as a share.\nknob lr = 1 ## more\nlet b = 2  # no\n";
    let (file, problems) = read(text);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(file.doc.as_deref(), Some("The file."));
    assert_eq!(file.items[1].doc.as_deref(), Some("Peak rate,\nas a share.\nmore"));
    assert_eq!(file.items[2].doc, None);
}

#[test]
fn deep_nesting_is_a_problem_not_a_crash() {
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("{", "}"),
        ("f(", ")"),
        ("x[", "]"),
        ("if a then ", " else b"),
        ("a = {", "}"),
        ("- ", ""),
        ("not ", ""),
        ("a^", ""),
        ("a |> ", ""),
    ] {
        for depth in [20, 60, 64, 200, 5000] {
            let text = format!("a = {}1{}\nb = 2\n", open.repeat(depth), close.repeat(depth));
            let (_, problems) = read(&text);
            if depth >= 5000 {
                assert!(problems.iter().any(|p| p.contains("E0108")), "{open} {problems:?}");
            }
        }
    }
}
