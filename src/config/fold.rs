//! The fold: layers of named texts, later ones over earlier ones, into checked values.

use std::collections::BTreeMap;

use super::error::Problem;
use super::key::{Key, Setting, Unit, show_bytes};
use super::machine::Finding;
use super::origin::Origin;
use super::reference::{self, ReferenceKey, Standing, normalise};
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

/// One setting after the fold, as `ringmq config` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The setting.
    pub key: &'static Key,
    /// Its value, as a file would have it.
    pub value: String,
    /// What the value comes to on this machine, where it leaves that open.
    pub resolved: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
}

/// A key of the reference that is set and does nothing in this version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unused {
    /// The key.
    pub key: &'static str,
    /// Where it is set.
    pub origin: Origin,
}

/// What a name means.
#[derive(Clone, Copy)]
enum Meaning {
    Setting(&'static Key),
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

    /// Refuses what cannot be enforced; gives back what has no effect.
    pub(super) fn take_reference_keys(&mut self) -> Vec<Unused> {
        let mut unused = Vec::new();
        for key in reference::KEYS {
            let Some(Given { text, origin, .. }) = self.given.remove(key.name) else {
                continue;
            };
            match key.unenforceable(text.expose()) {
                Some(what) => {
                    self.problems.push(Problem::Unenforceable {
                        key: key.name,
                        origin,
                        what,
                    });
                }
                None if key.standing == Standing::NoEffect => {
                    unused.push(Unused {
                        key: key.name,
                        origin,
                    });
                }
                // A switch that is off is obeyed.
                None => {}
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
            self.layers.problems.push(Problem::Invalid {
                key: key.name,
                value: shorten(text),
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
        let (value, resolved) = (text.to_owned(), None);
        self.effective.push(Effective {
            key,
            value,
            resolved,
            origin,
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

fn meaning(name: &str) -> Option<Meaning> {
    let wanted = normalise(name);
    let is_wanted = |known: &&str| normalise(known) == wanted;
    let setting = settings::KEYS
        .iter()
        .find(|key| [key.name].iter().chain(key.aliases).any(&is_wanted));
    let reference = || reference::KEYS.iter().find(|key| is_wanted(&key.name));
    setting
        .map(|key| Meaning::Setting(key))
        .or_else(|| reference().map(Meaning::Reference))
}

/// Below this likeness (0 to 1) a suggestion would only confuse.
const LIKENESS_MIN: f64 = 0.5;

/// The known key that is spelled most alike, by the whole name or, for a key whose section was
/// forgotten, by its last part.
fn nearest(name: &str) -> Option<&'static str> {
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
    let known = settings.chain(reference::KEYS.iter().map(|key| key.name));
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
            ("zzzzzzzz", None),
        ];
        for (name, expected) in cases {
            assert_eq!(nearest(name), expected, "{name}");
        }
    }

    #[test]
    fn every_default_is_allowed() {
        let mut layers = Layers::default();
        let mut fold = Fold::new(&mut layers);
        settings::fold_all(&mut fold);
        let effective = fold.into_effective();
        assert_eq!(effective.len(), settings::KEYS.len());
        assert!(
            effective
                .iter()
                .all(|setting| setting.value == setting.key.default)
        );
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
        };
        assert_eq!(setting.shown(), "100 MiB");
        setting.resolved = Some("7".to_owned());
        assert_eq!(setting.shown(), "100 MiB (here: 7)");
        setting.value.clear();
        assert_eq!(setting.shown(), "(here: 7)");
    }
}
