//! The configuration, printed and explained.

mod explain;

use std::fmt::Write;

use serde::Serialize;

use super::arguments::Format;
use crate::config::{Allowed, Config, Effective, Origin, Unused};

pub(super) use explain::explain;

/// All settings in the given format.
pub(super) fn config(config: &Config, format: Format) -> String {
    match format {
        Format::Table => table(config),
        Format::Toml => toml(config),
        Format::Yaml => yaml(config),
        Format::Json => json(config),
    }
}

fn table(config: &Config) -> String {
    let head = ["KEY", "VALUE", "UNIT", "ORIGIN", "ENVIRONMENT"].map(str::to_owned);
    let settings = &config.provenance.settings;
    let rows: Vec<[String; 5]> = std::iter::once(head)
        .chain(settings.iter().map(|setting| {
            let key = setting.key;
            [
                key.name.to_owned(),
                setting.shown(),
                key.unit.name().to_owned(),
                setting.origin.to_string(),
                key.env.join(", "),
            ]
        }))
        .collect();
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        line(&mut text, cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    if !config.provenance.unused.is_empty() {
        line(&mut text, "\nset, but without effect in this version:");
        for Unused { key, origin, note } in &config.provenance.unused {
            line(&mut text, &format!("{key}  {origin}  ({note})"));
        }
    }
    text
}

/// A file that means the same. Values that nobody set are comments, so that a broker started from
/// it goes on to follow the defaults; secrets are comments, since they are not shown.
fn toml(config: &Config) -> String {
    let mut text = String::new();
    let mut section = "";
    for setting in by_table(&config.provenance.settings) {
        let (table, field) = table_of(setting);
        if table != section {
            section = table;
            line(&mut text, &format!("\n[{table}]"));
        }
        let value = match typed(setting, &setting.value) {
            serde_json::Value::String(text) => toml::Value::String(text).to_string(),
            plain => plain.to_string(),
        };
        let mark = if stands(setting) { "" } else { "# " };
        let note = comment(setting);
        line(&mut text, &format!("{mark}{field} = {value}  # {note}"));
    }
    text
}

/// The settings with those of a table together, since a file may name it only once.
fn by_table(settings: &[Effective]) -> Vec<&Effective> {
    let tables: Vec<&str> = settings.iter().map(|it| table_of(it).0).collect();
    let first = |table: &str| tables.iter().position(|it| *it == table);
    let mut sorted: Vec<&Effective> = settings.iter().collect();
    sorted.sort_by_key(|it| first(table_of(it).0));
    sorted
}

/// The table of a setting, and its name there.
fn table_of(setting: &Effective) -> (&'static str, &'static str) {
    let name = setting.key.name;
    name.rsplit_once('.').unwrap_or(("", name))
}

/// The same in YAML. A section of which nothing is set is a comment too: YAML takes an empty one
/// for a value.
fn yaml(config: &Config) -> String {
    let mut text = String::new();
    let mut section = "";
    let settings = &config.provenance.settings;
    for setting in settings {
        let name = setting.key.name;
        let (table, field) = name.split_once('.').unwrap_or(("", name));
        if table != section {
            section = table;
            let inside = |other: &&Effective| other.key.name.split('.').next() == Some(table);
            let any = settings.iter().filter(inside).any(stands);
            let mark = if any { "" } else { "# " };
            line(&mut text, &format!("\n{mark}{table}:"));
        }
        let indent = if table.is_empty() { "" } else { "  " };
        let mark = if stands(setting) { "" } else { "# " };
        // Every value of JSON is one of YAML.
        let value = typed(setting, &setting.value);
        let note = comment(setting);
        line(
            &mut text,
            &format!("{indent}{mark}{field}: {value}  # {note}"),
        );
    }
    text
}

/// Whether a setting stands in a printed file, and not in a comment.
fn stands(setting: &Effective) -> bool {
    setting.origin != Origin::Default && !setting.key.secret
}

fn comment(setting: &Effective) -> String {
    let resolved = setting.resolved.as_ref();
    let here = resolved.map(|value| format!(", here {value}"));
    let hidden = setting.key.secret && !setting.value.is_empty();
    let hidden = if hidden { ", not shown" } else { "" };
    format!("{}{}{hidden}", setting.origin, here.unwrap_or_default())
}

/// A value of a setting with its type: a number where it is written as one, a switch, a list, or a
/// text.
fn typed(setting: &Effective, value: &str) -> serde_json::Value {
    match (setting.key.allowed, value.parse::<u64>()) {
        (Allowed::Range(..) | Allowed::OptionalRange(..) | Allowed::PowerOfTwo(..), Ok(number)) => {
            number.into()
        }
        (Allowed::Ratio, _) => value
            .parse::<f64>()
            .map_or_else(|_| value.into(), serde_json::Value::from),
        (Allowed::List(..), _) => value.split(',').filter(|part| !part.is_empty()).collect(),
        (Allowed::OneOf(words), _) if words.contains(&"true") => match value {
            "true" => true.into(),
            "false" => false.into(),
            other => other.into(),
        },
        _ => value.into(),
    }
}

/// One setting in JSON.
#[derive(Serialize)]
struct Setting<'a> {
    key: &'static str,
    value: serde_json::Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    here: Option<serde_json::Value>,
    unit: &'static str,
    origin: String,
    environment: &'a [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    flag: Option<&'static str>,
    reload: bool,
}

/// One key of the reference that does nothing.
#[derive(Serialize)]
struct WithoutEffect {
    key: &'static str,
    origin: String,
    note: &'static str,
}

#[derive(Serialize)]
struct Document<'a> {
    settings: Vec<Setting<'a>>,
    without_effect: Vec<WithoutEffect>,
}

fn json(config: &Config) -> String {
    let settings = config.provenance.settings.iter().map(|setting| Setting {
        key: setting.key.name,
        value: typed(setting, &setting.value),
        here: setting.resolved.as_ref().map(|value| typed(setting, value)),
        unit: setting.key.unit.name(),
        origin: setting.origin.to_string(),
        environment: setting.key.env,
        flag: setting.key.flag,
        reload: setting.key.live,
    });
    let unused = config.provenance.unused.iter();
    let unused = unused.map(|Unused { key, origin, note }| WithoutEffect {
        key,
        origin: origin.to_string(),
        note,
    });
    let document = Document {
        settings: settings.collect(),
        without_effect: unused.collect(),
    };
    let mut text = serde_json::to_string_pretty(&document).expect("strings always serialise");
    text.push('\n');
    text
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FlagValue, Sources};

    fn sources(assignments: &[&str]) -> Sources {
        let flags = assignments
            .iter()
            .map(|text| FlagValue::Assignment((*text).to_owned()));
        Sources {
            flags: flags.collect(),
            ..Sources::default()
        }
    }

    #[test]
    fn printed_file_means_the_same() {
        let odd = [
            "host=node-1",
            "store.store_path=a \"b\" ü",
            "grpc.body_limit=4MiB",
            "engine.pin=FALSE",
            "rest.cors.allow_origins=https://a, https://b",
            "telemetry.traces.sampling_ratio=0.25",
            "store.channel_rules=pattern=a.>;retention_minutes=1,pattern=b",
        ];
        let before = Config::load(&sources(&odd)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        for (format, name) in [(Format::Toml, "x.toml"), (Format::Yaml, "x.yaml")] {
            let file = directory.path().join(name);
            let text = config(&before, format);
            std::fs::write(&file, &text).unwrap();
            let sources = Sources {
                file: Some(file),
                ..Sources::default()
            };
            let mut after =
                Config::load(&sources).unwrap_or_else(|error| panic!("{error}\n{text}"));
            after.provenance = before.provenance.clone();
            assert_eq!(after, before, "{text}");
        }
    }

    #[test]
    fn secrets_are_in_no_format() {
        let secret = ["telemetry.exporter.headers=authorization=hunter2"];
        let loaded = Config::load(&sources(&secret)).unwrap();
        for format in [Format::Table, Format::Toml, Format::Yaml, Format::Json] {
            let text = config(&loaded, format);
            assert!(text.contains("***") && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn columns_are_aligned() {
        let text = config(
            &Config::load(&sources(&["store.store_path=ü"])).unwrap(),
            Format::Table,
        );
        let column = text.lines().next().unwrap().find("ORIGIN").unwrap();
        for line in text.lines().skip(1) {
            let before: String = line.chars().take(column).collect();
            assert!(before.ends_with("  "), "{line}");
        }
    }

    #[test]
    fn json_has_types_and_both_values() {
        let text = config(
            &Config::load(&sources(&["grpc.port=7"])).unwrap(),
            Format::Json,
        );
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let find = |key: &str| {
            json["settings"]
                .as_array()
                .unwrap()
                .iter()
                .find(|s| s["key"] == key)
                .unwrap()
        };
        assert_eq!(find("grpc.port")["value"], 7);
        assert_eq!(find("grpc.port")["origin"], "flag --set");
        assert_eq!(find("engine.cores")["here"], 1);
        assert_eq!(find("requests.fail_fast")["value"], false);
        assert_eq!(find("engine.pin")["value"], "auto");
        assert_eq!(find("log.level")["reload"], true);
        assert_eq!(
            find("rest.cors.allow_methods")["value"],
            serde_json::json!(["GET", "POST"])
        );
    }
}
