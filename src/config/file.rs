//! A configuration file as names with texts, whatever it is written in.
//!
//! TOML is ours, YAML is the reference's; JSON is read as the YAML that it is. The shape is bounded
//! in depth and size, and aliases are refused, so that no file can make much of little.

mod toml_text;
mod yaml_text;

use super::fold::Layers;
use super::origin::{FileSource, Origin, Place};

/// A larger file is no configuration.
pub(super) const FILE_BYTES_MAX: usize = 1 << 20;

/// Tables inside tables: the deepest setting stands in the fourth.
const DEPTH_MAX: usize = 16;

/// A value with what is in it, and the line where it stands.
#[derive(Debug, PartialEq, Eq)]
struct Node {
    line: usize,
    value: Value,
}

#[derive(Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

/// Why a text is no file of settings: what the parser says, with the line.
type Fault = String;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    Toml,
    Yaml,
    /// To be seen by what is in it.
    Unknown,
}

impl Syntax {
    /// The syntax that a file's name promises.
    pub(super) fn of_name(source: &FileSource) -> Self {
        let FileSource::Path(path) = source else {
            return Self::Unknown;
        };
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("toml") => Self::Toml,
            Some("yaml" | "yml" | "json") => Self::Yaml,
            _ => Self::Unknown,
        }
    }
}

/// Adds the settings of a file to the layer.
pub(super) fn put(layers: &mut Layers, source: &FileSource, text: &str) -> Result<(), Fault> {
    let table = parse(Syntax::of_name(source), text)?;
    put_table(layers, source, "", table);
    Ok(())
}

/// Reads the text. The reference writes YAML into files whatever they are called: the name only
/// decides which syntax the fault is told of.
fn parse(syntax: Syntax, text: &str) -> Result<Vec<(String, Node)>, Fault> {
    if text.len() > FILE_BYTES_MAX {
        return Err(format!("larger than {FILE_BYTES_MAX} bytes"));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let yaml = looks_like_yaml(text);
    match syntax {
        Syntax::Yaml => yaml_text::parse(text),
        Syntax::Unknown if yaml => yaml_text::parse(text),
        Syntax::Unknown => toml_text::parse(text),
        Syntax::Toml => toml_text::parse(text).or_else(|fault| {
            let read = yaml.then(|| yaml_text::parse(text).ok()).flatten();
            read.ok_or(fault)
        }),
    }
}

/// Whether the first line that says something is one of YAML, or of JSON.
fn looks_like_yaml(text: &str) -> bool {
    let lines = text.lines().map(str::trim);
    let first = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .find(|line| !line.starts_with('%'));
    let Some(first) = first else { return false };
    first.starts_with("---")
        || first.starts_with('{')
        || first
            .split_once(':')
            .is_some_and(|(key, _)| !key.contains(['=', '[']))
}

/// Adds the values of a table, depth first, under dotted keys.
fn put_table(layers: &mut Layers, source: &FileSource, prefix: &str, table: Vec<(String, Node)>) {
    for (key, Node { line, value }) in table {
        let name = if prefix.is_empty() {
            key
        } else {
            format!("{prefix}.{key}")
        };
        let origin = || {
            Origin::File(Place {
                source: source.clone(),
                line,
            })
        };
        match value {
            Value::Table(inner) if Layers::takes_pairs(&name) => {
                layers.put_named(&name, pairs(inner, ","), origin());
            }
            Value::Table(inner) => put_table(layers, source, &name, inner),
            Value::List(_) if !Layers::takes_list(&name) => layers.put_list(&name, origin()),
            value => layers.put_named(&name, plain(value), origin()),
        }
    }
}

/// A value as it would stand in the environment: lists are separated by commas there, and the
/// fields of an element by semicolons.
fn plain(value: Value) -> String {
    match value {
        Value::Text(text) => text,
        Value::List(values) => {
            let values = values.into_iter().map(|node| plain(node.value));
            values.collect::<Vec<_>>().join(",")
        }
        Value::Table(fields) => pairs(fields, ";"),
    }
}

fn pairs(fields: Vec<(String, Node)>, separator: &str) -> String {
    let fields = fields
        .into_iter()
        .map(|(name, node)| format!("{name}={}", plain(node.value)));
    fields.collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(syntax: Syntax, text: &str) -> Result<Vec<String>, Fault> {
        fn walk(prefix: &str, table: Vec<(String, Node)>, found: &mut Vec<String>) {
            for (key, node) in table {
                let name = format!("{prefix}{key}");
                match node.value {
                    Value::Table(inner) => walk(&format!("{name}."), inner, found),
                    value => found.push(format!("{}: {name} = {}", node.line, plain(value))),
                }
            }
        }
        let mut found = Vec::new();
        walk("", parse(syntax, text)?, &mut found);
        Ok(found)
    }

    #[test]
    fn both_syntaxes_say_the_same() {
        let toml = "host = \"a\"\n[grpc]\nport = 7\n[rest.cors]\nallow_origins = [\"x\", \"y\"]\n";
        let yaml = "host: a\ngrpc:\n  port: 7\nrest:\n  cors:\n    allow_origins: [x, \"y\"]\n";
        let expected = |lines: [usize; 3]| {
            let [host, port, origins] = lines;
            Ok(vec![
                format!("{host}: host = a"),
                format!("{port}: grpc.port = 7"),
                format!("{origins}: rest.cors.allow_origins = x,y"),
            ])
        };
        assert_eq!(flat(Syntax::Toml, toml), expected([1, 3, 5]));
        assert_eq!(flat(Syntax::Yaml, yaml), expected([1, 3, 6]));
        assert_eq!(flat(Syntax::Unknown, toml), expected([1, 3, 5]));
        assert_eq!(flat(Syntax::Unknown, yaml), expected([1, 3, 6]));
    }

    #[test]
    fn lists_of_tables_become_rules() {
        let yaml =
            "store:\n  channelRules:\n  - pattern: a.>\n    bytes_max: 1GiB\n  - {pattern: b}\n";
        let expected = "3: store.channelRules = pattern=a.>;bytes_max=1GiB,pattern=b";
        assert_eq!(flat(Syntax::Yaml, yaml), Ok(vec![expected.to_owned()]));
    }

    #[test]
    fn reference_writes_yaml_into_files_of_any_name() {
        let yaml = "# written at the start\ngrpc:\n  port: \"7\"\n";
        let expected = vec!["3: grpc.port = 7".to_owned()];
        assert_eq!(flat(Syntax::Toml, yaml), Ok(expected));
        let fault = flat(Syntax::Toml, "grpc = = 7\n").unwrap_err();
        assert!(fault.contains("line 1"), "{fault}");
    }

    #[test]
    fn json_is_yaml() {
        let json = "{\"grpc\": {\"port\": 7, \"bodyLimit\": \"4MiB\"}}";
        let expected = ["1: grpc.port = 7", "1: grpc.bodyLimit = 4MiB"];
        assert_eq!(
            flat(Syntax::Unknown, json),
            Ok(expected.map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn nothing_makes_much_of_little() {
        let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
        let fault = flat(Syntax::Yaml, bomb).unwrap_err();
        assert!(
            fault.contains("line 2") && fault.contains("alias"),
            "{fault}"
        );
        let keys = (0..40).map(|depth| format!("{}a:\n", " ".repeat(depth)));
        let fault = flat(Syntax::Yaml, &keys.collect::<String>()).unwrap_err();
        assert!(fault.contains("line 17: deeper"), "{fault}");
        // The parser has a bound of its own for this.
        for (open, close) in [("[", "]"), ("{a: ", "}")] {
            let deep = format!("a: {}{}", open.repeat(100_000), close.repeat(100_000));
            assert!(flat(Syntax::Yaml, &deep).is_err());
        }
        let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(flat(Syntax::Toml, &deep).is_err());
        let long = format!("a = \"{}\"", "x".repeat(FILE_BYTES_MAX));
        assert!(flat(Syntax::Toml, &long).unwrap_err().contains("larger"));
    }

    #[test]
    fn what_is_no_table_of_texts_is_named_with_its_line() {
        let cases = [
            ("- a\n- b\n", "line 1", "keys with values"),
            ("just text\n", "line 1", "keys with values"),
            ("a: 1\n---\nb: 2\n", "line 2", "second document"),
            ("a:\n  [1, 2]: 3\n", "line 2", "key"),
            ("a: !secret x\n", "line 1", "tag"),
            ("a: 1\n\tb: 2\n", "line", ""),
        ];
        for (text, line, what) in cases {
            let fault = flat(Syntax::Yaml, text).expect_err(text);
            assert!(
                fault.contains(line) && fault.contains(what),
                "{text}: {fault}"
            );
        }
        assert_eq!(flat(Syntax::Yaml, ""), Ok(Vec::new()));
        assert_eq!(flat(Syntax::Yaml, "# nothing\n"), Ok(Vec::new()));
    }

    #[test]
    fn values_are_texts_as_they_stand() {
        let yaml = "a: 010\nb: null\nc: ~\nd:\ne: yes\nf: 1.0\ng: \"null\"\nh: !!str 5\n";
        let texts = ["010", "", "", "", "yes", "1.0", "null", "5"];
        let found = flat(Syntax::Yaml, yaml).unwrap();
        for (found, text) in found.iter().zip(texts) {
            assert!(found.ends_with(&format!("= {text}")), "{found} is {text:?}");
        }
        let toml = "a = 0x10\nb = 1_000\nc = 1.0\nd = true\ne = 'x'\n";
        let texts = ["16", "1000", "1.0", "true", "x"];
        let found = flat(Syntax::Toml, toml).unwrap();
        for (found, text) in found.iter().zip(texts) {
            assert!(found.ends_with(&format!("= {text}")), "{found} is {text:?}");
        }
    }
}
