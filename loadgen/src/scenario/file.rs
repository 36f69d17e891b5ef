//! Scenarios and recorded rates in files.

use std::path::Path;

use anyhow::{Context, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::check::PARTS_MAX;
use super::{Scenario, Step};

/// Bytes of a scenario file or a rate file at most.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads a scenario: TOML, or JSON when the name ends in `.json`. A JSON result of an earlier run
/// is taken, too: its scenario is read.
///
/// A rate may be `{ file = "…" }`, relative to the scenario's own folder.
///
/// # Errors
/// The file, and within it the line or the key.
pub(crate) fn read(path: &Path) -> anyhow::Result<Scenario> {
    let text = text(path)?;
    let is_json = path
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("json"));
    let folder = path.parent().unwrap_or(Path::new(""));
    let scenario = if is_json {
        from_json(&text, folder)
    } else {
        from_toml(&text, folder)
    };
    scenario.with_context(|| format!("scenario {}", path.display()))
}

/// Reads a recorded rate: lines of `seconds,rate`, each a step of that length.
///
/// # Errors
/// The file and the line.
pub(crate) fn read_rates(path: &Path) -> anyhow::Result<Vec<Step>> {
    parse_rates(&text(path)?).with_context(|| format!("rates {}", path.display()))
}

fn text(path: &Path) -> anyhow::Result<String> {
    let about = || format!("cannot read {}", path.display());
    let bytes = std::fs::metadata(path).with_context(about)?.len();
    ensure!(
        bytes <= FILE_BYTES_MAX,
        "{} has {bytes} bytes, which is above {FILE_BYTES_MAX}",
        path.display()
    );
    std::fs::read_to_string(path).with_context(about)
}

fn from_toml(text: &str, folder: &Path) -> anyhow::Result<Scenario> {
    // Straight from the text wherever possible: errors then show the line.
    let value: Value = toml::from_str(text)?;
    if rate_file(&value).is_none() {
        return Ok(toml::from_str(text)?);
    }
    with_rates(value, folder)
}

fn from_json(text: &str, folder: &Path) -> anyhow::Result<Scenario> {
    let mut value: Value = serde_json::from_str(text)?;
    if let Some(scenario) = value.get_mut("scenario") {
        value = scenario.take();
    }
    with_rates(value, folder)
}

/// A scenario whose rates are read from a file, if it names one.
fn with_rates(mut value: Value, folder: &Path) -> anyhow::Result<Scenario> {
    if let Some(name) = rate_file(&value) {
        let name = name
            .as_str()
            .ok_or_else(|| anyhow!("load.open.rate.file: {name} is not the name of a file"))?;
        let steps = serde_json::json!({ "steps": read_rates(&folder.join(name))? });
        if let Some(rate) = value.pointer_mut("/load/open/rate") {
            *rate = steps;
        }
    }
    Ok(Scenario::deserialize(value)?)
}

fn rate_file(value: &Value) -> Option<&Value> {
    value.pointer("/load/open/rate/file")
}

/// Steps from lines; empty ones, `#` comments and a first line with names are left out.
fn parse_rates(text: &str) -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let is_head = steps.is_empty() && line.replace(' ', "") == "seconds,rate";
        if line.is_empty() || line.starts_with('#') || is_head {
            continue;
        }
        let number = index + 1;
        let step = parse_step(line, ',').with_context(|| format!("line {number}"))?;
        ensure!(
            steps.len() < PARTS_MAX,
            "line {number}: more than {PARTS_MAX} steps"
        );
        steps.push(step);
    }
    ensure!(!steps.is_empty(), "no line with `seconds,rate`");
    Ok(steps)
}

/// A step from two numbers.
pub(crate) fn parse_step(text: &str, separator: char) -> anyhow::Result<Step> {
    let numbers = text.split_once(separator).and_then(|(seconds, rate)| {
        Some((seconds.trim().parse().ok()?, rate.trim().parse().ok()?))
    });
    match numbers {
        Some((seconds, rate)) => Ok(Step { seconds, rate }),
        None => bail!("`{text}` is not `seconds{separator}rate`"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Arrivals, Calls, Load, Pattern, Payload, Rate};
    use super::*;

    const TOML: &str = r#"
        name = "all keys"
        pattern = "events-store"
        calls = "unary"
        channels = 2
        channel_prefix = "orders"
        producers = 3
        consumers = 4
        groups = 2
        connections = 5
        window = 6
        batch = 7
        warm_up = 1
        duration = 2.5
        drain = 3
        seed = 8

        [payload.uniform]
        least = 100
        most = 200

        [load.open]
        arrivals = "poisson"
        rate = { ramp = { from = 10, to = 20.5 } }

        [queue]
        items = 9
        wait_ms = 10
        auto_ack = true

        [request]
        timeout_ms = 11
        answer_bytes = 12
    "#;

    fn folder_with(name: &str, text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        (folder, path)
    }

    fn error(name: &str, text: &str) -> String {
        let (_folder, path) = folder_with(name, text);
        format!("{:#}", read(&path).unwrap_err())
    }

    #[test]
    fn every_key_is_read_and_survives_json() {
        let (_folder, path) = folder_with("a.toml", TOML);
        let scenario = read(&path).unwrap();
        assert_eq!(scenario.pattern, Pattern::EventsStore);
        assert_eq!(scenario.calls, Calls::Unary);
        assert_eq!(
            scenario.payload,
            Payload::Uniform {
                least: 100,
                most: 200
            }
        );
        assert_eq!(
            scenario.load,
            Load::Open {
                arrivals: Arrivals::Poisson,
                rate: Rate::Ramp {
                    from: 10.0,
                    to: 20.5
                },
            }
        );
        assert_eq!((scenario.duration, scenario.queue.auto_ack), (2.5, true));
        assert_eq!(scenario.request.answer_bytes, 12);

        let plain = serde_json::to_string(&scenario).unwrap();
        let (_folder, path) = folder_with("a.json", &plain);
        assert_eq!(read(&path).unwrap(), scenario);
        let result = format!(r#"{{"verdict":"good","scenario":{plain}}}"#);
        let (_folder, path) = folder_with("result.json", &result);
        assert_eq!(read(&path).unwrap(), scenario, "a result repeats its run");
    }

    #[test]
    fn an_empty_file_is_the_default() {
        let (_folder, path) = folder_with("a.toml", "");
        assert_eq!(read(&path).unwrap(), Scenario::default());
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let unknown = error("a.toml", "producers = 1\nproducer = 2\n");
        assert!(
            unknown.contains("a.toml") && unknown.contains("line 2"),
            "{unknown}"
        );
        assert!(unknown.contains("producer"), "{unknown}");
        let kind = error("a.toml", "window = \"many\"\n");
        assert!(kind.contains("line 1") && kind.contains("window"), "{kind}");
        assert!(error("a.json", "{").contains("a.json"));
        assert!(error("a.json", r#"{"windows":1}"#).contains("windows"));
        let missing = format!("{:#}", read(Path::new("/nowhere.toml")).unwrap_err());
        assert!(missing.contains("cannot read /nowhere.toml"), "{missing}");
    }

    #[test]
    fn a_rate_file_beside_the_scenario_becomes_its_steps() {
        let text = "[load.open]\narrivals = \"constant\"\nrate = { file = \"trace.csv\" }\n";
        let (folder, path) = folder_with("a.toml", text);
        let rates = "# a morning\nseconds, rate\n10, 100\n\n0.5,2e3\n";
        std::fs::write(folder.path().join("trace.csv"), rates).unwrap();
        let Load::Open { rate, .. } = read(&path).unwrap().load else {
            panic!("an open loop");
        };
        let steps = [(10.0, 100.0), (0.5, 2000.0)];
        let steps = steps.map(|(seconds, rate)| Step { seconds, rate });
        assert_eq!(rate, Rate::Steps(steps.to_vec()));
    }

    #[test]
    fn a_bad_rate_file_names_its_line() {
        let line = |text: &str| format!("{:#}", parse_rates(text).unwrap_err());
        assert!(line("1,2\n3;4\n").contains("line 2: `3;4` is not `seconds,rate`"));
        assert!(line("1,2\nseconds,rate\n").contains("line 2"));
        assert!(line("# nothing\n").contains("no line"));
    }
}
