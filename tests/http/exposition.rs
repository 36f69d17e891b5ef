//! A strict reader of metrics in both text formats: what it takes, every scraper takes.

use std::collections::{BTreeMap, HashSet};

/// The formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Prometheus,
    OpenMetrics,
}

/// The labels of a series, by name.
pub(crate) type Labels = BTreeMap<String, String>;

/// One family.
#[derive(Clone, Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
    /// Name of the sample, labels, value; in their order.
    pub(crate) samples: Vec<(String, Labels, f64)>,
}

/// All families, by the name under which they were announced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exposition(pub(crate) BTreeMap<String, Family>);

impl Exposition {
    /// Reads a text.
    ///
    /// # Panics
    /// When anything in it is not as the format has it.
    pub(crate) fn read(text: &str, format: Format) -> Self {
        let mut families = BTreeMap::<String, Family>::new();
        let (mut open, mut seen) = (String::new(), HashSet::new());
        assert!(text.ends_with('\n'), "the last line has an end");
        let mut lines = text.lines();
        if format == Format::OpenMetrics {
            assert_eq!(lines.next_back(), Some("# EOF"));
        }
        let mut lines = lines.peekable();
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help has a text");
                check_name(name);
                let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE "));
                let (same, kind) = kind.expect("a type follows").split_once(' ').unwrap();
                assert_eq!(same, name, "help and type are of one family");
                check_kind(name, kind, format);
                let family = Family {
                    kind: kind.to_owned(),
                    help: help.to_owned(),
                    samples: Vec::new(),
                };
                assert!(
                    families.insert(name.to_owned(), family).is_none(),
                    "{name} twice"
                );
                name.clone_into(&mut open);
                continue;
            }
            assert!(!line.starts_with('#') && !line.is_empty(), "{line:?}");
            let (name, labels, value) = read_sample(line);
            let family = families
                .get_mut(&open)
                .expect("a sample follows its family");
            check_sample(&open, family, &name, &labels, value, format, line);
            assert!(seen.insert((name.clone(), labels.clone())), "twice: {line}");
            family.samples.push((name, labels, value));
        }
        for (name, family) in &families {
            if family.kind == "histogram" {
                check_histogram(name, family);
            }
        }
        Self(families)
    }

    /// The values of samples of this name with at least these labels.
    pub(crate) fn all(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let samples = self.0.values().flat_map(|family| &family.samples);
        let wanted = samples.filter(|(known, found, _)| {
            let has =
                |(label, value): &(&str, &str)| found.get(*label).is_some_and(|it| it == value);
            known == name && labels.iter().all(has)
        });
        wanted.map(|(_, _, value)| *value).collect()
    }

    /// Their sum.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.all(name, labels).into_iter().sum()
    }

    /// The value of the one sample of this name with these labels.
    pub(crate) fn one(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let all = self.all(name, labels);
        assert_eq!(all.len(), 1, "{name} {labels:?}: {all:?}");
        all[0]
    }
}

fn check_name(name: &str) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    assert!(!name.is_empty() && name.chars().all(is_name), "{name:?}");
    assert!(!name.starts_with(|c: char| c.is_ascii_digit()), "{name:?}");
}

fn check_kind(name: &str, kind: &str, format: Format) {
    let allowed: &[&str] = match format {
        Format::Prometheus => &["counter", "gauge", "histogram"],
        Format::OpenMetrics => &["counter", "gauge", "histogram", "info", "unknown"],
    };
    assert!(allowed.contains(&kind), "{name} {kind}");
    if format == Format::OpenMetrics {
        assert!(
            !name.ends_with("_total") && !name.ends_with("_info"),
            "{name}"
        );
    } else if kind == "counter" {
        assert!(
            name.ends_with("_total") || name.starts_with("kubemq_"),
            "{name}"
        );
    }
}

fn check_sample(
    open: &str,
    family: &Family,
    name: &str,
    labels: &Labels,
    value: f64,
    format: Format,
    line: &str,
) {
    assert!(value.is_finite() && value >= 0.0, "{line}");
    let ending = name
        .strip_prefix(open)
        .unwrap_or_else(|| panic!("{line} in {open}"));
    let allowed: &[&str] = match (format, &*family.kind) {
        (Format::OpenMetrics, "counter") => &["_total"],
        (Format::OpenMetrics, "info") => &["_info"],
        (_, "histogram") => &["_bucket", "_sum", "_count"],
        _ => &[""],
    };
    assert!(allowed.contains(&ending), "{line} in {open}");
    assert_eq!(labels.contains_key("le"), ending == "_bucket", "{line}");
}

fn read_sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).expect("a name ends");
    let (name, mut rest) = line.split_at(end);
    check_name(name);
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, behind) = rest.split_once("=\"").expect("a label has a value");
            check_name(label);
            let (value, behind) = read_value(behind);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            if let Some(behind) = behind.strip_prefix(',') {
                rest = behind;
                continue;
            }
            rest = behind.strip_prefix('}').expect("the labels end");
            break;
        }
    }
    let value = rest.strip_prefix(' ').expect("a blank before the value");
    assert!(!value.contains(' '), "{line}");
    (name.to_owned(), labels, value.parse().expect("a number"))
}

/// Reads the value of a label up to its quote.
fn read_value(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        match chars.next().expect("a value ends") {
            '"' => return (value, chars.as_str()),
            '\\' => value.push(match chars.next() {
                Some('n') => '\n',
                Some(quoted @ ('\\' | '"')) => quoted,
                other => panic!("{other:?} behind a backslash in {text:?}"),
            }),
            plain => value.push(plain),
        }
    }
}

fn check_histogram(name: &str, family: &Family) {
    let mut series = BTreeMap::<Labels, Vec<(f64, f64)>>::new();
    for (sample, labels, value) in &family.samples {
        if sample.ends_with("_bucket") {
            let mut labels = labels.clone();
            let bound = labels.remove("le").unwrap();
            let bound = if bound == "+Inf" {
                f64::INFINITY
            } else {
                bound.parse().unwrap()
            };
            series.entry(labels).or_default().push((bound, *value));
        }
    }
    for (labels, buckets) in series {
        let rises = buckets
            .windows(2)
            .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
        assert!(rises, "{name} {labels:?}: {buckets:?}");
        let (bound, all) = *buckets.last().unwrap();
        assert_eq!(bound, f64::INFINITY, "{name} {labels:?}");
        for ending in ["_sum", "_count"] {
            let of = |(sample, found, _): &&(String, Labels, f64)| {
                *sample == format!("{name}{ending}") && *found == labels
            };
            let found: Vec<_> = family.samples.iter().filter(of).collect();
            assert_eq!(found.len(), 1, "{name}{ending} {labels:?}");
            if ending == "_count" {
                assert_eq!(found[0].2, all, "{name} {labels:?}");
            }
        }
    }
}
