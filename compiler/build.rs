//! Lists the pages of `explain/`, so that a page that is added is also shown.

use std::fmt::Write as _;
use std::path::PathBuf;

fn main() {
    let folder = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
        .join("explain");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("pages.rs");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .expect("the folder of pages is part of this crate")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| Some(name.strip_suffix(".md")?.to_owned()))
        .collect();
    names.sort();
    let mut text = String::from("&[\n");
    for name in names {
        let path = folder.join(format!("{name}.md"));
        writeln!(text, "    ({name:?}, include_str!({path:?})),").expect("a text takes all");
    }
    text.push(']');
    std::fs::write(out, text).expect("cargo's folder can be written");
}
