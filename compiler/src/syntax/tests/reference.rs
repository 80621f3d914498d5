//! The language reference: every example reads, and every rule of the grammar is mentioned.

const REFERENCE: &str = include_str!("../../../../grammar/README.md");
const GRAMMAR: &str = include_str!("../../../../grammar/cs336.pest");

#[test]
fn every_example_of_the_reference_reads() {
    let mut examples = 0;
    for part in REFERENCE.split("```cs336\n").skip(1) {
        let (example, _) = part.split_once("```").expect("a block is closed");
        let (_, problems) = super::read(example);
        assert_eq!(problems, Vec::<String>::new(), "in\n{example}");
        examples += 1;
    }
    assert!(examples >= 20);
}

#[test]
fn every_rule_that_a_program_shows_is_in_the_reference() {
    let names = GRAMMAR.lines().filter_map(|l| {
        let (name, rest) = l.split_once('=')?;
        let visible = rest.trim_start().starts_with(['{', '@', '$']);
        visible.then(|| name.trim()).filter(|n| !n.is_empty() && !n.contains([' ', '/']))
    });
    let inner = [
        "lone_",
        "wrong_",
        "kw_",
        "_word",
        "equals",
        "file",
        "per",
        "optional",
        "bound",
        "record_entry",
        "named_argument",
        "rename_side",
        "match_subject",
        "unit_name",
        "augment_op",
        "leading_operator",
        "bind",
    ];
    for name in names {
        let is_inner = inner.iter().any(|i| name.contains(i));
        assert!(is_inner || REFERENCE.contains(&format!("`{name}`")), "`{name}` is not explained");
    }
}
