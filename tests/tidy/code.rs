//! Rules for Rust source: sizes, attributes, and words that stay out.

use std::path::Path;

use crate::text::{code_of, tests_start};
use crate::tree::{line_at, report, root, rust_files, shipped_files};

const COLUMNS_MAX: usize = 100;
const LINES_MAX: usize = 1_000;
const LINES_WARN: usize = 600;

/// The one file that may hold unsafe code: the mapping of the log's segments.
const UNSAFE: &str = "storage/src/region.rs";

#[test]
fn files_are_short_enough_to_be_read() {
    let mut findings = Vec::new();
    for file in rust_files() {
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            findings.push(format!("{}: {lines} lines", file.path));
        } else if lines > LINES_WARN {
            eprintln!("consider a split: {} has {lines} lines", file.path);
        }
    }
    report(
        "A file has at most 1,000 lines; aim for 150 to 400. Split it by topic.",
        &findings,
    );
}

/// Addresses and rows of tables cannot be broken; a text that someone may search for stays whole.
fn stays_whole(line: &str) -> bool {
    let row = ["//! |", "/// |"]
        .iter()
        .any(|start| line.starts_with(start));
    row || line.contains("://") || line.starts_with('"')
}

#[test]
fn lines_fit_the_page() {
    let mut findings = Vec::new();
    for file in rust_files() {
        for (number, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX && !stays_whole(line.trim_start()) {
                findings.push(format!("{}:{}: {columns} columns", file.path, number + 1));
            }
        }
    }
    report(
        "Lines of Rust stop at 100 columns; rustfmt does not break strings.",
        &findings,
    );
}

#[test]
fn modules_are_files_next_to_their_folders() {
    let named_mod = |path: &str| {
        Path::new(path)
            .file_name()
            .is_some_and(|name| name == "mod.rs")
    };
    let findings: Vec<_> = rust_files()
        .into_iter()
        .map(|file| file.path)
        .filter(|path| named_mod(path))
        .collect();
    report("No mod.rs: `foo.rs` stands beside `foo/`.", &findings);
}

#[test]
fn every_allowed_lint_has_a_reason() {
    let mut findings = Vec::new();
    for file in rust_files() {
        let code = code_of(&file.text);
        for marker in ["#[allow(", "#![allow(", "#[expect(", "#![expect("] {
            for (at, _) in code.match_indices(marker) {
                let attribute = &code[at..];
                let end = attribute.find(")]").unwrap_or(attribute.len());
                if !attribute[..end].contains("reason =") {
                    findings.push(format!("{}:{}: {marker}…)]", file.path, line_at(&code, at)));
                }
            }
        }
    }
    report("An allowed lint says why: `reason = \"…\"`.", &findings);
}

/// Findings for words that may not stand in code outside of tests.
fn words_outside_of_tests(words: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in shipped_files() {
        let code = code_of(&file.text);
        let code = &code[..tests_start(&code)];
        for word in words {
            for (at, _) in code.match_indices(word) {
                findings.push(format!("{}:{}: `{word}`", file.path, line_at(code, at)));
            }
        }
    }
    findings
}

#[test]
fn nothing_is_unwrapped_outside_of_tests() {
    let rule = "Outside of tests nothing is unwrapped: return an error, or `expect` with the \
                reason why it holds.";
    report(rule, &words_outside_of_tests(&[".unwrap()"]));
}

#[test]
fn no_unfinished_or_debugging_macros_stay() {
    let words = ["todo!(", "unimplemented!(", "dbg!("];
    report(
        "No unfinished work and no debugging output.",
        &words_outside_of_tests(&words),
    );
}

#[test]
fn unsafe_code_stays_in_its_one_file() {
    let mut findings = Vec::new();
    for file in rust_files().into_iter().filter(|file| file.path != UNSAFE) {
        let code = code_of(&file.text);
        for form in [
            "unsafe {",
            "unsafe fn",
            "unsafe impl",
            "unsafe trait",
            "unsafe extern",
        ] {
            for (at, _) in code.match_indices(form) {
                findings.push(format!("{}:{}: `{form}`", file.path, line_at(&code, at)));
            }
        }
    }
    report(
        "Unsafe code lives in storage/src/region.rs only.",
        &findings,
    );
}

/// The crates of the workspace, as folders.
const CRATES: &[&str] = &["", "proto/", "storage/", "bench/", "loadgen/"];

#[test]
fn crate_roots_forbid_unsafe_code() {
    let mut findings = Vec::new();
    for folder in CRATES {
        for name in ["src/lib.rs", "src/main.rs"] {
            let path = format!("{folder}{name}");
            let Ok(text) = std::fs::read_to_string(root().join(&path)) else {
                continue;
            };
            let code = code_of(&text);
            let denies = *folder == "storage/" && code.contains("#![deny(unsafe_code)]");
            if !denies && !code.contains("#![forbid(unsafe_code)]") {
                findings.push(path);
            }
        }
    }
    let rule = "Every crate root says #![forbid(unsafe_code)]; storage may say deny, for its \
                mapping.";
    report(rule, &findings);
}

#[test]
fn unbounded_channels_and_locks_stay_out_of_the_data_path() {
    let data_path = [
        "src/engine",
        "src/shard",
        "src/grpc",
        "src/wire",
        "src/model",
    ];
    let mut findings = Vec::new();
    for file in shipped_files() {
        if !data_path.iter().any(|prefix| file.path.starts_with(prefix)) {
            continue;
        }
        let code = code_of(&file.text);
        let code = &code[..tests_start(&code)];
        for word in ["Mutex", "RwLock", "mpsc::channel"] {
            for (at, _) in code.match_indices(word) {
                findings.push(format!("{}:{}: `{word}`", file.path, line_at(code, at)));
            }
        }
    }
    report(
        "The data path has no locks and no unbounded queues.",
        &findings,
    );
}
