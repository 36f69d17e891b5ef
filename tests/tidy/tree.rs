//! The files that the rules look at.

use std::path::{Path, PathBuf};

use crate::text::{code_of, test_modules};

/// Folders that hold nothing of ours.
const FOREIGN: &[&str] = &[
    "target",
    ".git",
    "data",
    ".venv",
    "node_modules",
    "__pycache__",
    ".pytest_cache",
];

/// A file of the source tree.
#[derive(Debug)]
pub(crate) struct File {
    /// From the root of the repository, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    /// Rust that runs only in tests and benches, as far as its folder tells.
    fn is_test(&self) -> bool {
        let part = |folder: &str| {
            self.path.starts_with(&format!("{folder}/"))
                || self.path.contains(&format!("/{folder}/"))
        };
        part("tests") || part("benches")
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the repository with one of the extensions.
pub(crate) fn files(extensions: &[&str]) -> Vec<File> {
    let mut paths = Vec::new();
    collect(root(), &mut paths);
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        if !path
            .extension()
            .is_some_and(|e| extensions.iter().any(|wanted| e == *wanted))
        {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("source files are UTF-8");
        let path = path
            .strip_prefix(root())
            .unwrap()
            .to_str()
            .unwrap()
            .replace('\\', "/");
        found.push(File { path, text });
    }
    assert!(
        !found.is_empty(),
        "no files with {extensions:?}: is this the repository?"
    );
    found
}

pub(crate) fn rust_files() -> Vec<File> {
    files(&["rs"])
}

/// The Rust that ships: no tests, no benches.
pub(crate) fn shipped_files() -> Vec<File> {
    let files = rust_files();
    let mut test_paths = Vec::new();
    for file in &files {
        let code = code_of(&file.text);
        let parent = file.path.trim_end_matches(".rs");
        // The modules of a crate's root lie beside it.
        let folder = match parent.rsplit_once('/') {
            Some((folder, "lib" | "main")) => folder,
            _ => parent,
        };
        let modules = test_modules(&code).filter(|module| module.is_file);
        test_paths.extend(modules.map(|module| format!("{folder}/{}", module.name)));
    }
    let in_test_module = |file: &File| {
        let of_module = |path: &String| {
            file.path
                .strip_prefix(path.as_str())
                .is_some_and(|rest| rest.starts_with(['.', '/']))
        };
        test_paths.iter().any(of_module)
    };
    files
        .into_iter()
        .filter(|file| !file.is_test() && !in_test_module(file))
        .collect()
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
        let entry = entry.unwrap();
        let name = entry.file_name();
        // Links could lead out of the repository, or in circles.
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !FOREIGN.iter().any(|foreign| name == *foreign) {
            collect(&entry.path(), into);
        } else if kind.is_file() {
            into.push(entry.path());
        }
    }
}

/// Fails with all findings at once.
pub(crate) fn report(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "\n{rule}\n\n{}\n", findings.join("\n"));
}

/// The number, from 1, of the line that holds this byte.
pub(crate) fn line_at(text: &str, byte: usize) -> usize {
    1 + text.as_bytes()[..byte]
        .iter()
        .filter(|b| **b == b'\n')
        .count()
}
