//! Rules for prose and settings: widths, white space, links.

use std::path::{Component, Path, PathBuf};

use crate::tree::{File, files, report, root};

const COLUMNS_MAX: usize = 120;

/// Lines of a Markdown file outside of code blocks, with their numbers.
fn prose(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let mut in_block = false;
    file.text
        .lines()
        .enumerate()
        .filter_map(move |(number, line)| {
            if line.trim_start().starts_with("```") {
                in_block = !in_block;
                return None;
            }
            (!in_block).then_some((number + 1, line))
        })
}

#[test]
fn prose_fits_the_page() {
    let mut findings = Vec::new();
    for file in files(&["md"]) {
        for (number, line) in prose(&file) {
            // Rows of tables and addresses cannot be broken.
            let breakable = !line.trim_start().starts_with('|') && !line.contains("://");
            let columns = line.chars().count();
            if breakable && columns > COLUMNS_MAX {
                findings.push(format!("{}:{number}: {columns} columns", file.path));
            }
        }
    }
    report("Lines of Markdown stop at 120 columns.", &findings);
}

#[test]
fn no_line_ends_with_white_space() {
    let mut findings = Vec::new();
    for file in files(&["rs", "md", "toml", "py", "sh", "yml", "proto", "txt", "ini"]) {
        for (number, line) in file.text.split('\n').enumerate() {
            if line.ends_with([' ', '\t', '\r']) {
                findings.push(format!("{}:{}", file.path, number + 1));
            }
        }
        if !file.text.is_empty() && !file.text.ends_with('\n') {
            findings.push(format!("{}: no line end at the end of the file", file.path));
        }
    }
    report(
        "No trailing white space; files end with a line end.",
        &findings,
    );
}

/// The targets of `[text](target)` in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter_map(|(at, open)| {
        let rest = &line[at + open.len()..];
        rest.find(')').map(|end| &rest[..end])
    })
}

/// Folds `..` without asking the file system.
fn normalized(path: &Path) -> PathBuf {
    let mut folded = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                folded.pop();
            }
            Component::CurDir => {}
            part => folded.push(part),
        }
    }
    folded
}

#[test]
fn links_of_the_documents_resolve() {
    let mut findings = Vec::new();
    for file in files(&["md"]) {
        let folder = root().join(&file.path);
        let folder = folder.parent().unwrap();
        for (number, line) in prose(&file) {
            for link in links(line) {
                let target = link.split(['#', ' ']).next().unwrap_or_default();
                if target.is_empty() || link.contains("://") || link.starts_with("mailto:") {
                    continue;
                }
                let path = normalized(&folder.join(target));
                if !path.starts_with(root()) || !path.exists() {
                    findings.push(format!("{}:{number}: {link}", file.path));
                }
            }
        }
    }
    report(
        "A link leads to a file of this repository, by a relative path.",
        &findings,
    );
}

/// `docs/….md` as it is written in comments, settings and texts.
fn mentions(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("docs/").filter_map(|(at, _)| {
        let before = line[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '/' | '.' | '-')) {
            return None;
        }
        let part_of_a_path = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
        let rest = &line[at..];
        let end = rest.find(|c| !part_of_a_path(c)).unwrap_or(rest.len());
        let path = rest[..end].trim_end_matches('.');
        Path::new(path)
            .extension()
            .is_some_and(|e| e == "md")
            .then_some(path)
    })
}

#[test]
fn documents_that_are_mentioned_exist() {
    let mut findings = Vec::new();
    for file in files(&["rs", "md", "toml", "py", "yml"]) {
        // Documents of other projects may be cited here.
        if file.path.starts_with("tests/tidy") {
            continue;
        }
        for (number, line) in file.text.lines().enumerate() {
            for path in mentions(line) {
                if !root().join(path).exists() {
                    findings.push(format!("{}:{}: {path}", file.path, number + 1));
                }
            }
        }
    }
    report("A document that is named exists.", &findings);
}

/// Files and tests in the tables of a document: `path/to/file.rs`, `name_of_a_test`.
fn named_in_code(line: &str) -> impl Iterator<Item = &str> {
    let is_path = |name: &str| name.contains('/') && !name.contains(' ');
    let is_test = |name: &str| {
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        name.matches('_').count() >= 2 && name.chars().all(word)
    };
    let spans = line.split('`').skip(1).step_by(2);
    spans.filter(move |span| line.starts_with('|') && (is_path(span) || is_test(span)))
}

/// The record of the rules is only worth something if its evidence is there.
#[test]
fn evidence_for_the_rules_exists() {
    let sources = files(&["rs"]);
    // A test may be made by a macro that takes its name.
    let is_there = |name: &str| {
        let (function, argument) = (format!("fn {name}("), format!(" {name}: "));
        let mut texts = sources.iter().map(|file| &file.text);
        texts.any(|text| text.contains(&function) || text.contains(&argument))
    };
    let mut findings = Vec::new();
    let path = "docs/replication.md";
    let document = files(&["md"]).into_iter().find(|file| file.path == path);
    let document = document.expect("the record of the rules");
    for (number, line) in prose(&document) {
        for name in named_in_code(line) {
            let found = if name.contains('/') {
                root().join(name).exists()
            } else {
                is_there(name)
            };
            if !found {
                findings.push(format!("{path}:{number}: {name}"));
            }
        }
    }
    report("A file or test that a rule rests on exists.", &findings);
}

#[test]
fn links_and_mentions_are_found() {
    let row =
        "| **L6** `a/b.rs`; `a_test_of_it`, `Batch::must_sync` in `two_words`, `sync = strict` |";
    assert_eq!(
        named_in_code(row).collect::<Vec<_>>(),
        ["a/b.rs", "a_test_of_it"]
    );
    assert_eq!(named_in_code(&row[2..]).count(), 0, "prose is no table");

    let line = "see [the map](../docs/map.md#here), [x](a.md) and (docs/performance.md).";
    assert_eq!(
        links(line).collect::<Vec<_>>(),
        ["../docs/map.md#here", "a.md"]
    );
    assert_eq!(mentions(line).collect::<Vec<_>>(), ["docs/performance.md"]);
}
