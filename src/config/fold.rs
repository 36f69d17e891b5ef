//! The fold: layers of named texts, later ones over earlier ones, into checked values.

use std::collections::BTreeMap;

use super::error::Problem;
use super::key::{Allowed, Key, Setting, Unit, show_bytes};
use super::machine::Finding;
use super::origin::Origin;
use super::reference::{self, ReferenceKey, Verdict, normalise};
use super::secret::Secret;
use super::settings;

/// What somebody gave for a key.
#[derive(Clone, Debug)]
struct Given {
    /// Hidden until its key has accepted it: it may be anything.
    text: Secret,
    origin: Origin,
    /// The layer that it stands in; a later one replaces it, the same one may not.
    layer: usize,
}

/// What is shown in place of a secret.
pub(super) const HIDDEN: &str = "***";

/// One setting after the fold, as `ringmq config` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The setting.
    pub key: &'static Key,
    /// Its value, as a file would have it; `***` for a secret.
    pub value: String,
    /// What the value comes to on this machine, where it leaves that open.
    pub resolved: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
    /// The value itself, where it is not shown.
    pub(super) hidden: Option<Secret>,
}

/// A key of the reference that is set and does nothing in this version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    /// The key.
    pub key: &'static str,
    /// Where it is set.
    pub origin: Origin,
    /// What becomes of it here.
    pub note: &'static str,
}

/// What a name means.
#[derive(Clone, Copy, Debug)]
pub enum Meaning {
    /// A setting.
    Setting(&'static Key),
    /// A key of the reference without a setting of ours.
    Reference(&'static ReferenceKey),
}

impl Meaning {
    const fn name(self) -> &'static str {
        match self {
            Self::Setting(key) => key.name,
            Self::Reference(key) => key.name,
        }
    }
}

/// The layers on the way in.
#[derive(Debug, Default)]
pub(super) struct Layers {
    given: BTreeMap<&'static str, Given>,
    layer: usize,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Finding>,
}

impl Layers {
    /// Ends the layer: what follows replaces what came before.
    pub(super) fn next_layer(&mut self) {
        self.layer += 1;
    }

    /// Adds a value by the name that a person wrote.
    pub(super) fn put_named(&mut self, name: &str, text: String, origin: Origin) {
        match meaning(name) {
            Some(meaning) => self.put(meaning.name(), text, origin),
            None => {
                let nearest = nearest(name);
                self.problems.push(Problem::Unknown {
                    key: name.to_owned(),
                    origin,
                    nearest,
                });
            }
        }
    }

    /// Notes that a list stands where none may.
    pub(super) fn put_list(&mut self, name: &str, origin: Origin) {
        match meaning(name) {
            Some(meaning) => {
                let key = meaning.name();
                self.problems.push(Problem::List { key, origin });
            }
            None => self.put_named(name, String::new(), origin),
        }
    }

    /// Whether a list may stand behind a name. Of keys without effect anything is taken.
    pub(super) fn takes_list(name: &str) -> bool {
        match meaning(name) {
            Some(Meaning::Setting(key)) => matches!(
                key.allowed,
                Allowed::List(..) | Allowed::Pairs | Allowed::ChannelRules | Allowed::CpuList
            ),
            Some(Meaning::Reference(_)) => true,
            None => false,
        }
    }

    /// Whether a table behind a name is its value.
    pub(super) fn takes_pairs(name: &str) -> bool {
        let key = meaning(name);
        matches!(key, Some(Meaning::Setting(key)) if key.allowed == Allowed::Pairs)
    }

    /// Adds a value by the name in our tables. Of one flag twice the last counts, as usual; two
    /// values in one file, or by two flags, are a mistake.
    pub(super) fn put(&mut self, key: &'static str, text: String, origin: Origin) {
        let given = Given {
            text: Secret::new(text),
            origin,
            layer: self.layer,
        };
        if let Some(before) = self.given.get(key)
            && before.layer == self.layer
            && !(before.origin == given.origin && matches!(given.origin, Origin::Flag(_)))
        {
            let (first, second) = (before.origin.to_string(), given.origin.to_string());
            self.problems.push(Problem::Twice { key, first, second });
            return;
        }
        self.given.insert(key, given);
    }

    /// Refuses what is promised and not kept; gives back what has no effect.
    pub(super) fn take_reference_keys(&mut self) -> Vec<Unused> {
        let mut unused = Vec::new();
        for reference in reference::all() {
            let ReferenceKey {
                name: key, note, ..
            } = *reference;
            let given = self.given.remove(key);
            // The reference writes a file with all its keys: those that are empty ask for nothing.
            let given = given.filter(|given| !given.text.expose().trim().is_empty());
            let Some(Given { text, origin, .. }) = given else {
                continue;
            };
            match reference.verdict(text.expose()) {
                Verdict::Accept => {}
                Verdict::List => unused.push(Unused { key, origin, note }),
                Verdict::Warn(protocol) => {
                    self.warnings.push(nothing_listens(key, &origin, protocol));
                    unused.push(Unused { key, origin, note });
                }
                Verdict::Refuse => {
                    let why = note;
                    self.problems.push(Problem::NotDone { key, origin, why });
                }
            }
        }
        unused
    }
}

/// The way from texts to checked values.
#[derive(Debug)]
pub(super) struct Fold<'a> {
    layers: &'a mut Layers,
    effective: Vec<Effective>,
}

impl<'a> Fold<'a> {
    pub(super) const fn new(layers: &'a mut Layers) -> Self {
        Self {
            layers,
            effective: Vec::new(),
        }
    }

    /// The value of a setting. A wrong one is a problem, and its default goes on in its place so
    /// that the other problems are found too.
    pub(super) fn take<T: Setting>(&mut self, key: &'static Key) -> T {
        let given = self.layers.given.remove(key.name);
        if let Some(Given { text, origin, .. }) = given {
            let text = text.expose().trim();
            if let Some(value) = T::parse(text, key) {
                self.push(key, &value.spell(text), origin);
                return value;
            }
            let shown = if key.secret { HIDDEN } else { text };
            self.layers.problems.push(Problem::Invalid {
                key: key.name,
                value: shorten(shown),
                origin,
                expected: T::expected(text, key),
            });
        }
        self.push(key, key.default, Origin::Default);
        T::parse(key.default, key).expect("a test reads every default")
    }

    /// Every setting that was taken, in that order.
    pub(super) fn into_effective(self) -> Vec<Effective> {
        self.effective
    }

    fn push(&mut self, key: &'static Key, text: &str, origin: Origin) {
        let hidden = (key.secret && !text.is_empty()).then(|| Secret::new(text.to_owned()));
        let value = if hidden.is_some() { HIDDEN } else { text }.to_owned();
        let resolved = None;
        self.effective.push(Effective {
            key,
            value,
            resolved,
            origin,
            hidden,
        });
    }
}

impl Effective {
    /// The value with what it comes to, for people: `8 MiB`, `0 (here: 2)`.
    #[must_use]
    pub fn shown(&self) -> String {
        let plain = match (self.key.unit, self.value.parse::<u64>()) {
            (Unit::Bytes, Ok(bytes)) => show_bytes(bytes),
            _ => self.value.clone(),
        };
        match &self.resolved {
            Some(resolved) => format!("{plain} (here: {resolved})")
                .trim_start()
                .to_owned(),
            None => plain,
        }
    }
}

/// The longest part of a wrong value that an error text repeats.
const SHOWN_CHARS_MAX: usize = 64;

/// Keeps an error text readable, whatever was pasted into a variable.
pub(super) fn shorten(text: &str) -> String {
    let mut chars = text.chars();
    let mut short: String = chars.by_ref().take(SHOWN_CHARS_MAX).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

fn nothing_listens(key: &str, origin: &Origin, protocol: &str) -> Finding {
    Finding::warning(
        format!("{key} is set ({origin}), but nothing here speaks {protocol}: no port is opened"),
        "clients of that protocol need another server; remove the setting".to_owned(),
    )
}

/// The form in which the spellings of a key are equal. Behind its section the dots do not count:
/// the reference's environment names do not tell where they are, and its files nest keys otherwise
/// than we do.
fn flatten(name: &str) -> String {
    let name = normalise(name);
    match name.split_once('.') {
        Some((section, rest)) => format!("{section}.{}", rest.replace('.', "")),
        None => name,
    }
}

/// What a name stands for, in any of its spellings.
pub(super) fn meaning(name: &str) -> Option<Meaning> {
    let wanted = flatten(name);
    let is_wanted = |known: &&str| flatten(known) == wanted;
    let setting = settings::KEYS
        .iter()
        .find(|key| [key.name].iter().chain(key.aliases).any(&is_wanted));
    let reference = || reference::all().find(|key| is_wanted(&key.name));
    setting
        .map(|key| Meaning::Setting(key))
        .or_else(|| reference().map(Meaning::Reference))
}

/// Below this likeness (0 to 1) a suggestion would only confuse.
const LIKENESS_MIN: f64 = 0.5;

/// The known key that is spelled most alike, by the whole name or, for a key whose section was
/// forgotten, by its last part.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let wanted = normalise(name);
    let likeness = |known: &str| {
        let known = normalise(known);
        let whole = strsim::normalized_damerau_levenshtein(&wanted, &known);
        let last = known.rsplit('.').next().unwrap_or_default();
        // A little less than the same likeness of the whole.
        let part = strsim::normalized_damerau_levenshtein(&wanted, last) * 0.9;
        whole.max(part)
    };
    let settings = settings::KEYS.iter().map(|key| key.name);
    let known = settings.chain(reference::all().map(|key| key.name));
    let scored = known.map(|known| (likeness(known), known));
    let best = scored.fold((0.0, None), |best, (score, known)| {
        // Strictly: of equals the first, which is one that has an effect.
        if score > best.0 {
            (score, Some(known))
        } else {
            best
        }
    });
    let (score, known) = best;
    known.filter(|_| score >= LIKENESS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_find_typos_and_forgotten_sections() {
        let cases = [
            ("grpc.prot", Some("grpc.port")),
            ("gprc.port", Some("grpc.port")),
            ("engin.cores", Some("engine.cores")),
            ("cores", Some("engine.cores")),
            ("Log.Levle", Some("log.level")),
            ("store.path", Some("store.store_path")),
            ("queue.maxInflite", Some("queue.max_inflight")),
            (
                "telemetry.exporter.endpiont",
                Some("telemetry.exporter.endpoint"),
            ),
            ("zzzzzzzz", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name), expected, "{name}");
        }
    }

    #[test]
    fn dots_behind_the_section_do_not_count() {
        for spelling in [
            "telemetry.traces.sampler",
            "telemetry.tracesSampler",
            "Telemetry.Traces.Sampler",
        ] {
            let name = meaning(spelling).map(Meaning::name);
            assert_eq!(name, Some("telemetry.traces.sampler"), "{spelling}");
        }
        assert!(meaning("grpcport").is_none());
        assert!(meaning("grpc_port").is_none());
    }

    #[test]
    fn error_texts_repeat_a_little_of_a_value() {
        assert_eq!(shorten("short"), "short");
        assert_eq!(
            shorten(&"ü".repeat(1000)).chars().count(),
            SHOWN_CHARS_MAX + 1
        );
    }

    #[test]
    fn bytes_and_resolved_values_are_readable() {
        let key = settings::KEYS
            .iter()
            .find(|key| key.name == "grpc.body_limit")
            .unwrap();
        let (value, origin) = ("104857600".to_owned(), Origin::Default);
        let mut setting = Effective {
            key,
            value,
            resolved: None,
            origin,
            hidden: None,
        };
        assert_eq!(setting.shown(), "100 MiB");
        setting.resolved = Some("7".to_owned());
        assert_eq!(setting.shown(), "100 MiB (here: 7)");
        setting.value.clear();
        assert_eq!(setting.shown(), "(here: 7)");
    }
}
