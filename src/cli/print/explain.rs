//! One key, explained.

use super::line;
use crate::config::{self, Config, Key, Meaning, ReferenceKey};

/// All that is known of a key, by any of its names. Without a configuration, as when it is
/// refused, its present value is left out.
///
/// # Errors
/// What to tell whoever asked for a key that does not exist.
pub(in crate::cli) fn explain(config: Option<&Config>, name: &str) -> Result<String, String> {
    match config::find(name) {
        Ok(Meaning::Setting(key)) => Ok(setting(config, key)),
        Ok(Meaning::Reference(key)) => Ok(reference(config, key)),
        Err(Some(nearest)) => Err(format!("{name}: unknown key; did you mean {nearest}?")),
        Err(None) => Err(format!("{name}: unknown key; `ringmq config` lists them")),
    }
}

/// Columns of an explanation.
const WIDTH: usize = 76;

/// The widest of the names in front.
const NAME: usize = 13;

fn setting(config: Option<&Config>, key: &Key) -> String {
    let mut text = format!("{}\n", key.name);
    paragraph(&mut text, key.doc.trim());
    text.push('\n');
    let settings = config.map(|config| config.provenance.settings.iter());
    let present = settings.and_then(|mut all| all.find(|setting| setting.key.name == key.name));
    if let Some(present) = present {
        let shown = present.shown();
        fact(
            &mut text,
            "value",
            if shown.is_empty() { "empty" } else { &shown },
        );
        fact(&mut text, "set by", &present.origin.to_string());
    }
    let default = if key.default.is_empty() {
        "empty"
    } else {
        key.default
    };
    fact(&mut text, "default", default);
    fact(&mut text, "allowed", &key.expected());
    fact(&mut text, "unit", key.unit.name());
    fact(&mut text, "environment", &key.env.join(", "));
    fact(&mut text, "flag", key.flag.unwrap_or("--set"));
    fact(&mut text, "other names", &key.aliases.join(", "));
    let reload = if key.live {
        "yes: SIGHUP changes it while the broker runs"
    } else {
        "no: it counts from the next start on"
    };
    fact(&mut text, "reload", reload);
    text
}

fn reference(config: Option<&Config>, key: &ReferenceKey) -> String {
    let mut text = format!("{}\n", key.name);
    let note = format!(
        "A key of the reference without a setting here: {}.",
        key.note
    );
    paragraph(&mut text, &note);
    text.push('\n');
    let unused = config.map(|config| config.provenance.unused.iter());
    let present = unused.and_then(|mut all| all.find(|unused| unused.key == key.name));
    if let Some(present) = present {
        fact(&mut text, "set by", &present.origin.to_string());
    }
    fact(&mut text, "environment", &key.env.join(", "));
    text
}

fn fact(text: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        line(text, &format!("  {name:NAME$}{value}"));
    }
}

/// Breaks a paragraph at blanks.
fn paragraph(text: &mut String, paragraph: &str) {
    let mut row = String::new();
    for word in paragraph.split_whitespace() {
        if !row.is_empty() && row.chars().count() + word.chars().count() >= WIDTH {
            line(text, &format!("  {row}"));
            row.clear();
        }
        if !row.is_empty() {
            row.push(' ');
        }
        row.push_str(word);
    }
    line(text, &format!("  {row}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    #[test]
    fn every_key_is_explained_by_all_its_names() {
        let config = Config::default();
        for key in keys() {
            let expected = explain(Some(&config), key.name).unwrap();
            assert!(expected.starts_with(&format!("{}\n", key.name)));
            assert!(expected.contains("set by       default"), "{expected}");
            let names = key.env.iter().chain(key.aliases).chain(key.flag.as_ref());
            for name in names {
                assert_eq!(
                    explain(Some(&config), name).as_ref(),
                    Ok(&expected),
                    "{name}"
                );
            }
            assert!(expected.lines().all(|line| line.chars().count() < 140));
        }
    }

    #[test]
    fn keys_of_the_reference_say_what_becomes_of_them() {
        let text = explain(None, "broker.diskSyncSeconds").unwrap();
        assert!(text.contains("store.sync relaxes that"), "{text}");
        let text = explain(None, "CLUSTER_ENABLE").unwrap();
        assert!(text.contains("no copies"), "{text}");
    }

    #[test]
    fn unknown_keys_come_with_a_suggestion() {
        let text = explain(None, "grpc.prot").unwrap_err();
        assert!(text.contains("did you mean grpc.port?"), "{text}");
    }
}
