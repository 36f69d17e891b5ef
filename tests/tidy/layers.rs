//! The layers of `docs/ARCHITECTURE.md`: a module uses lower layers and its own children.

use crate::text::{code_of, is_word, tests_start};
use crate::tree::{File, line_at, report, rust_files, shipped_files};

/// The modules of `src/`, with their layers.
const LAYERS: &[(&str, u8)] = &[
    ("main", 6),
    ("cli", 6),
    ("server", 6),
    ("grpc", 5),
    ("http", 5),
    ("security", 4),
    ("spans", 4),
    ("net", 4),
    ("wire_error", 4),
    ("notifications", 4),
    ("shard", 3),
    ("engine", 2),
    ("routing", 2),
    ("telemetry", 1),
    ("config", 1),
    ("rt", 1),
    ("wire", 1),
    ("model", 0),
];

/// Uses within one layer, each with its reason.
const WITHIN_A_LAYER: &[(&str, &str, &str)] = &[
    (
        "wire",
        "rt",
        "the adapter stands on the runtime's connections, timers and tasks",
    ),
    (
        "server",
        "cli",
        "the start-up block is the command line's answer",
    ),
    ("main", "cli", "main parses the command line"),
    ("main", "server", "main runs what was asked for"),
    ("cli", "server", "a command runs the broker"),
];

fn layer(module: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, layer)| *layer)
}

/// The module path of a file of `src/`: `src/grpc/codec/id.rs` is `[grpc, codec, id]`. The crate's
/// own root is empty.
fn module_path(file: &File) -> Option<Vec<&str>> {
    let inside = file.path.strip_prefix("src/")?.strip_suffix(".rs")?;
    Some(if inside == "lib" {
        Vec::new()
    } else {
        inside.split('/').collect()
    })
}

/// A use of a top-level module, and where in the code.
#[derive(Debug, PartialEq, Eq)]
struct Use {
    module: String,
    at: usize,
}

/// Every top-level module that the code names through `crate::`, `ringmq::` or enough `super::`.
fn uses(code: &str, depth: usize) -> Vec<Use> {
    let tests = tests_start(code);
    let mut found = Vec::new();
    for root in ["crate::", "ringmq::"] {
        for (at, _) in whole_words(code, root) {
            names_after(code, at + root.len(), &mut found);
        }
    }
    for (at, _) in whole_words(code, "super::") {
        let before = code[..at].trim_end();
        if before.ends_with("::") {
            continue;
        }
        let mut end = at;
        let mut supers = 0;
        while code[end..].starts_with("super::") {
            end += "super::".len();
            supers += 1;
        }
        // The module of the tests is one level further down.
        let depth_here = depth + usize::from(at > tests);
        if supers == depth_here {
            names_after(code, end, &mut found);
        }
    }
    found
}

fn whole_words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    code.match_indices(word).filter(|(at, _)| {
        !at.checked_sub(1)
            .is_some_and(|before| is_word(code.as_bytes()[before]))
    })
}

/// The names right behind a path's root: one, or those of a braced group.
fn names_after(code: &str, at: usize, found: &mut Vec<Use>) {
    let rest = &code[at..];
    if !rest.starts_with('{') {
        found.push(Use {
            module: word(rest).to_owned(),
            at,
        });
        return;
    }
    let mut depth = 0;
    let mut expects_name = false;
    for (offset, character) in rest.char_indices() {
        match character {
            '{' => {
                depth += 1;
                expects_name = depth == 1;
            }
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return;
                }
            }
            ',' => expects_name = depth == 1,
            c if c.is_whitespace() => {}
            _ => {
                if expects_name {
                    found.push(Use {
                        module: word(&rest[offset..]).to_owned(),
                        at: at + offset,
                    });
                }
                expects_name = false;
            }
        }
    }
}

fn word(text: &str) -> &str {
    let end = text.bytes().position(|b| !is_word(b)).unwrap_or(text.len());
    &text[..end]
}

/// Why `user` may not use `used`; `None` if it may.
fn objection(user: &str, used: &str) -> Option<String> {
    let (Some(from), Some(to)) = (layer(user), layer(used)) else {
        // Items of the crate's root, macros and the like are not modules.
        return None;
    };
    let allowed = user == used
        || to < from
        || WITHIN_A_LAYER
            .iter()
            .any(|(a, b, _reason)| *a == user && *b == used);
    (!allowed).then(|| format!("`{user}` (layer {from}) uses `{used}` (layer {to})"))
}

#[test]
fn modules_use_only_lower_layers() {
    let mut findings = Vec::new();
    for file in rust_files() {
        let Some(path) = module_path(&file) else {
            continue;
        };
        let Some(module) = path.first() else { continue };
        let code = code_of(&file.text);
        for used in uses(&code, path.len()) {
            if let Some(objection) = objection(module, &used.module) {
                let line = line_at(&code, used.at);
                findings.push(format!("{}:{line}: {objection}", file.path));
            }
        }
    }
    let rule = "A module uses only strictly lower layers and its own children (LAYERS in \
                tests/tidy/layers.rs). Move what is shared down, or turn the call around with a \
                trait that the lower layer owns.";
    report(rule, &findings);
}

#[test]
fn every_module_has_a_layer() {
    let mut findings = Vec::new();
    for file in rust_files() {
        let Some(path) = module_path(&file) else {
            continue;
        };
        if let Some(module) = path.first().filter(|module| layer(module).is_none()) {
            findings.push(format!("{}: `{module}` has no layer", file.path));
        }
    }
    let rule = "Give the module a layer here, in LAYERS, and in docs/ARCHITECTURE.md.";
    report(rule, &findings);
}

/// Findings for a name that only some places may use.
fn outside(name: &str, allowed: &[&str]) -> Vec<String> {
    let mut findings = Vec::new();
    for file in rust_files() {
        if allowed.iter().any(|prefix| file.path.starts_with(prefix)) {
            continue;
        }
        let code = code_of(&file.text);
        let places = whole_words(&code, name);
        let whole = places.filter(|(at, _)| {
            !code
                .as_bytes()
                .get(at + name.len())
                .is_some_and(|after| is_word(*after))
        });
        for (at, _) in whole {
            findings.push(format!("{}:{}: `{name}`", file.path, line_at(&code, at)));
        }
    }
    findings
}

#[test]
fn the_runtime_is_named_only_behind_its_seam() {
    let rule = "The runtime is named in src/rt only, so that it can be replaced; use crate::rt.";
    report(rule, &outside("glommio", &["src/rt.rs", "src/rt/"]));
}

#[test]
fn the_contract_stays_at_the_edge() {
    let allowed = [
        "src/grpc",
        "src/http",
        // Of the crate it uses the messages of OTLP only, which are another contract.
        "src/spans",
        "src/cli",
        "src/server/demo",
        "proto/",
        "loadgen/",
        "bench/",
        "tests/",
    ];
    let rule = "Contract types stop at grpc and http (and the demo and the load generator, which \
                are clients); below them the model speaks.";
    report(rule, &outside("ringmq_proto", &allowed));
}

#[test]
fn the_engine_reads_no_clock_and_does_no_io() {
    let mut findings = Vec::new();
    let banned = [
        "std::time::Instant",
        "SystemTime",
        "std::fs",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "tracing::",
        "async ",
    ];
    for file in shipped_files() {
        if !file.path.starts_with("src/engine") {
            continue;
        }
        let code = code_of(&file.text);
        let code = &code[..tests_start(&code)];
        for name in banned {
            for (at, _) in whole_words(code, name) {
                findings.push(format!("{}:{}: `{name}`", file.path, line_at(code, at)));
            }
        }
    }
    let rule = "The engine is synchronous and deterministic: time and randomness are arguments, \
                effects are returned, nothing is logged.";
    report(rule, &findings);
}

#[test]
fn uses_are_found_in_all_their_forms() {
    let code = "use crate::rt::{self, Conn};\nuse crate::{model::Kind, shard::{Full, Shard}};\n\
                fn f() { crate::wire::x(); super::super::config::y(); super::z(); mycrate::no(); }";
    let mut modules: Vec<_> = uses(code, 2).into_iter().map(|used| used.module).collect();
    modules.sort();
    assert_eq!(modules, ["config", "model", "rt", "shard", "wire"]);
}

#[test]
fn upward_and_sideways_uses_are_refused() {
    assert!(objection("engine", "shard").is_some());
    assert!(objection("rt", "wire").is_some());
    assert!(objection("telemetry", "config").is_some());
    assert!(objection("wire", "rt").is_none());
    assert!(objection("grpc", "model").is_none());
    assert!(objection("shard", "shard").is_none());
}
