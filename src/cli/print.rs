//! The configuration, printed.

use std::fmt::Write;

use serde::Serialize;

use super::arguments::Format;
use crate::config::{Allowed, Config, Effective, Origin, Unused};

/// All settings in the given format.
pub(super) fn config(config: &Config, format: Format) -> String {
    match format {
        Format::Table => table(config),
        Format::Toml => toml(config),
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
        for Unused { key, origin } in &config.provenance.unused {
            line(&mut text, &format!("{key}  {origin}"));
        }
    }
    text
}

/// A file that means the same. Values that nobody set are comments, so that a broker started from
/// it goes on to follow the defaults.
fn toml(config: &Config) -> String {
    let mut text = String::new();
    let mut section = "";
    for setting in &config.provenance.settings {
        let (table, field) = setting
            .key
            .name
            .rsplit_once('.')
            .unwrap_or(("", setting.key.name));
        if table != section {
            section = table;
            line(&mut text, &format!("\n[{table}]"));
        }
        let value = toml_value(setting);
        let here = setting
            .resolved
            .as_ref()
            .map(|value| format!(", here {value}"));
        let comment = format!("{}{}", setting.origin, here.unwrap_or_default());
        match setting.origin {
            Origin::Default => line(&mut text, &format!("# {field} = {value}  # {comment}")),
            _ => line(&mut text, &format!("{field} = {value}  # {comment}")),
        }
    }
    text
}

fn toml_value(setting: &Effective) -> String {
    match typed(setting, &setting.value) {
        serde_json::Value::String(text) => toml::Value::String(text).to_string(),
        plain => plain.to_string(),
    }
}

/// A value of a setting with its type: a number where it is written as one, a switch, or a text.
fn typed(setting: &Effective, value: &str) -> serde_json::Value {
    match (setting.key.allowed, value.parse::<u64>()) {
        (Allowed::Range(..) | Allowed::PowerOfTwo(..), Ok(number)) => number.into(),
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
}

/// One key of the reference that does nothing.
#[derive(Serialize)]
struct WithoutEffect {
    key: &'static str,
    origin: String,
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
    });
    let unused = config.provenance.unused.iter();
    let unused = unused.map(|Unused { key, origin }| WithoutEffect {
        key,
        origin: origin.to_string(),
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
            "store.store_path=a \"b\" ü",
            "grpc.body_limit=4MiB",
            "engine.pin=FALSE",
        ];
        let before = Config::load(&sources(&odd)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("printed.toml");
        std::fs::write(&file, config(&before, Format::Toml)).unwrap();
        let mut after = Config::load(&Sources {
            file: Some(file),
            ..Sources::default()
        })
        .unwrap();
        after.provenance = before.provenance.clone();
        assert_eq!(after, before);
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
    }
}
