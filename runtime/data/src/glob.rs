//! File patterns: from a base folder and a pattern to sorted paths.
//!
//! `*` stands for any characters and `?` for one, both within a name; the name `**` stands for any number of folders. Names
//! that begin with a dot are only found by patterns that begin with a dot. Matching is on names as text, the order is
//! that of the paths' components, so it is the same everywhere.

use std::io;
use std::path::{Path, PathBuf};

/// Whether `pattern` has a wildcard at all.
pub(crate) fn is_pattern(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

/// The files under `base` that match `pattern`, sorted.
pub(crate) fn files_matching(base: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let (root, rest) = match pattern.strip_prefix('/') {
        Some(rest) => (Path::new("/"), rest),
        None => (base, pattern),
    };
    let names: Vec<&str> =
        rest.split('/').filter(|name| !name.is_empty() && *name != ".").collect();
    walk(root, &names, &mut found)?;
    found.sort();
    found.dedup();
    Ok(found)
}

/// All files under `folder`, at any depth, sorted.
pub(crate) fn files_under(folder: &Path) -> io::Result<Vec<PathBuf>> {
    files_matching(folder, "**/*")
}

fn walk(folder: &Path, names: &[&str], found: &mut Vec<PathBuf>) -> io::Result<()> {
    let [name, rest @ ..] = names else { return Ok(()) };
    if *name == "**" {
        walk(folder, rest, found)?;
        for (_, path) in entries(folder)?.iter().filter(|(name, _)| !name.starts_with('.')) {
            // Links to folders are not followed here: they may lead back.
            if path.is_dir() && !path.is_symlink() {
                walk(path, names, found)?;
            }
        }
        return Ok(());
    }
    if !is_pattern(name) {
        return visit(folder.join(name), rest, found);
    }
    for (entry, path) in entries(folder)? {
        if matches(&entry, name) {
            visit(path, rest, found)?;
        }
    }
    Ok(())
}

fn visit(path: PathBuf, rest: &[&str], found: &mut Vec<PathBuf>) -> io::Result<()> {
    if rest.is_empty() {
        if path.is_file() {
            found.push(path);
        }
        return Ok(());
    }
    if path.is_dir() { walk(&path, rest, found) } else { Ok(()) }
}

/// Names and paths in a folder; a folder that is not there has none.
fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    std::fs::read_dir(folder)?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
        })
        .collect()
}

/// Whether a name matches a pattern of one name.
fn matches(name: &str, pattern: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (name, pattern): (Vec<char>, Vec<char>) =
        (name.chars().collect(), pattern.chars().collect());
    // `reached[i]`: the pattern so far matches the first `i` characters.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for wanted in pattern {
        if wanted == '*' {
            for at in 1..reached.len() {
                reached[at] |= reached[at - 1];
            }
        } else {
            for at in (1..reached.len()).rev() {
                reached[at] = reached[at - 1] && (wanted == '?' || wanted == name[at - 1]);
            }
            reached[0] = false;
        }
    }
    reached[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (name, pattern, expected) in [
            ("a.txt", "*.txt", true),
            ("a.txt", "?.txt", true),
            ("ab.txt", "?.txt", false),
            (".txt", "*.txt", false),
            (".a", ".*", true),
            ("aXbXc", "a*X*c", true),
            ("aXb", "a*X", false),
            ("", "*", true),
            ("é", "?", true),
        ] {
            assert_eq!(matches(name, pattern), expected, "{name} {pattern}");
        }
    }

    #[test]
    fn folders() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for path in ["b.txt", "a.txt", "x/c.txt", "x/y/d.txt", "x/y/e.md", ".git/f.txt"] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, "text").expect("written");
        }
        let list = |pattern: &str| -> Vec<String> {
            files_matching(folder.path(), pattern)
                .expect("readable")
                .iter()
                .map(|p| p.strip_prefix(folder.path()).expect("under it").display().to_string())
                .collect()
        };
        assert_eq!(list("*.txt"), ["a.txt", "b.txt"]);
        assert_eq!(list("**/*.txt"), ["a.txt", "b.txt", "x/c.txt", "x/y/d.txt"]);
        assert_eq!(list("x/*/d.txt"), ["x/y/d.txt"]);
        assert_eq!(list("./x/**/e.md"), ["x/y/e.md"]);
        assert_eq!(list("nothing/*"), Vec::<String>::new());
        assert_eq!(files_under(&folder.path().join("x")).expect("readable").len(), 3);
    }
}
