//! Rust source without its comments and literals, so that rules see code only.

/// The same text, with every byte of comments, strings and characters turned into a space; line
/// ends stay, so that positions keep their lines.
pub(crate) fn code_of(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_comment(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment(bytes, at),
            b'"' => string(bytes, at),
            b'r' | b'b' | b'c' if !in_word(bytes, at) => prefixed(bytes, at).unwrap_or(at),
            b'\'' => character(bytes, at).unwrap_or(at),
            _ => at,
        };
        for byte in &mut code[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(code).expect("whole characters were blanked")
}

fn in_word(bytes: &[u8], at: usize) -> bool {
    at.checked_sub(1)
        .is_some_and(|before| is_word(bytes[before]))
}

pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn line_comment(bytes: &[u8], at: usize) -> usize {
    bytes[at..]
        .iter()
        .position(|b| *b == b'\n')
        .map_or(bytes.len(), |length| at + length)
}

fn block_comment(bytes: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (at, depth) = (at + 2, depth + 1);
        } else if bytes[at..].starts_with(b"*/") {
            (at, depth) = (at + 2, depth - 1);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

/// A string from its opening quote.
fn string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// `r"…"`, `r#"…"#`, `b"…"`, `br#"…"#`, `c"…"`, `b'…'`; `None` if it is none of them.
fn prefixed(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    let mut raw = false;
    while let Some(letter @ (b'r' | b'b' | b'c')) = bytes.get(at) {
        raw |= *letter == b'r';
        at += 1;
    }
    if !raw {
        return match bytes.get(at)? {
            b'"' => Some(string(bytes, at)),
            b'\'' => character(bytes, at),
            _ => None,
        };
    }
    let hashes = bytes[at..].iter().take_while(|b| **b == b'#').count();
    if bytes.get(at + hashes) != Some(&b'"') {
        return None;
    }
    let close = [&b"\""[..], &b"#".repeat(hashes)].concat();
    let body = at + hashes + 1;
    let length = bytes[body..]
        .windows(close.len())
        .position(|window| window == close);
    Some(length.map_or(bytes.len(), |length| body + length + close.len()))
}

/// A character literal; `None` for a lifetime.
fn character(bytes: &[u8], start: usize) -> Option<usize> {
    let first = *bytes.get(start + 1)?;
    let after = match first {
        b'\\' => {
            let close = bytes[start + 3..].iter().position(|b| *b == b'\'')?;
            return Some(start + 3 + close + 1);
        }
        _ => start + 1 + utf8_length(first),
    };
    (bytes.get(after) == Some(&b'\'')).then_some(after + 1)
}

fn utf8_length(first: u8) -> usize {
    match first {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    }
}

/// A module that only tests have: its name, where its attribute stands, and whether its body is a
/// file of its own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TestModule<'a> {
    pub(crate) name: &'a str,
    pub(crate) at: usize,
    pub(crate) is_file: bool,
}

/// The modules behind `#[cfg(test)]`.
pub(crate) fn test_modules(code: &str) -> impl Iterator<Item = TestModule<'_>> {
    code.match_indices("#[cfg(test)]")
        .filter_map(|(at, marker)| {
            let mut rest = code[at + marker.len()..].trim_start();
            while rest.starts_with("#[") {
                rest = rest.split_once(']')?.1.trim_start();
            }
            if let Some(after) = rest.strip_prefix("pub") {
                rest = after.trim_start();
                if rest.starts_with('(') {
                    rest = rest.split_once(')')?.1.trim_start();
                }
            }
            let rest = rest.strip_prefix("mod ")?;
            let end = rest.bytes().position(|b| !is_word(b))?;
            let is_file = rest[end..].trim_start().starts_with(';');
            Some(TestModule {
                name: &rest[..end],
                at,
                is_file,
            })
        })
}

/// Where the tests of a file begin: its `#[cfg(test)] mod … {`, or its end.
pub(crate) fn tests_start(code: &str) -> usize {
    let inline = test_modules(code).find(|module| !module.is_file);
    inline.map_or(code.len(), |module| module.at)
}

#[test]
fn test_modules_are_found_with_and_without_a_body() {
    let code = "#[cfg(test)]\nmod model;\nfn f() {}\n#[cfg(test)]\nuse x;\n\
                #[cfg(test)]\n#[path = \"\"]\npub(super) mod tests {\n}";
    let modules: Vec<_> = test_modules(code).collect();
    assert_eq!(
        modules[0],
        TestModule {
            name: "model",
            at: 0,
            is_file: true
        }
    );
    assert_eq!(
        (modules[1].name, modules[1].is_file, modules.len()),
        ("tests", false, 2)
    );
    assert_eq!(tests_start(code), modules[1].at);
}

#[test]
fn comments_and_literals_are_blanked_and_code_stays() {
    let source = r####"let a = "x // \" y"; // unwrap()
let b = r#"un"wrap"#; /* a /* nested */ b */ let c: &'static str = b"x";
let d = '"'; let e = '\''; let f = 'ü'; let g = br##"#"# "##; call::<'_>(h);"####;
    let code = code_of(source);
    assert_eq!(code.len(), source.len());
    for kept in [
        "let a =",
        "let b =",
        "let c: &'static str =",
        "let e =",
        "call::<'_>(h);",
    ] {
        assert!(code.contains(kept), "{kept} in {code}");
    }
    for gone in ["unwrap", "wrap", "nested", "ü", "x", "y\""] {
        assert!(!code.contains(gone), "{gone} in {code}");
    }
}
