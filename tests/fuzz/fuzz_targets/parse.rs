//! Any text: reading it ends without a panic, places lie in the text, and what reads without a problem prints back.
//!
//! `cargo +nightly fuzz run parse` begins with the sample programs: give it `../programs` as a second corpus folder.

#![no_main]

use cs336_compiler::source::{FileId, Span};
use cs336_compiler::syntax::{canonical, parse, parse_expr, parse_set, print, template};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (file, problems) = parse(FileId(0), text);
    for label in problems.iter().flat_map(|p| &p.labels) {
        let (start, end) = (label.span.start as usize, label.span.end as usize);
        assert!(start <= end && text.get(start..end).is_some(), "{label:?}");
    }
    let printed = print(&file);
    if problems.is_empty() {
        let (again, problems) = parse(FileId(0), &printed);
        assert!(problems.is_empty(), "{printed}");
        let meaning = |f: &cs336_compiler::syntax::ast::File| -> Vec<String> {
            f.items.iter().map(canonical).collect()
        };
        assert_eq!(meaning(&file), meaning(&again));
    }
    drop(parse_expr(FileId(0), text));
    drop(parse_set(FileId(0), text));
    drop(template(text, Span::new(FileId(0), 0, text.len())));
});
