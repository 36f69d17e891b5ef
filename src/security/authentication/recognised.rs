//! Whom an executor has recognised lately: verifying a signature for every message would cost more
//! than the message.

use std::collections::HashMap;
use std::rc::Rc;

use super::api_keys::fingerprint;
use super::claims::nanoseconds;
use super::token::TOKEN_BYTES_MAX;
use crate::model::identity::Identity;

/// What is remembered in one generation; there are two.
const GENERATION_MAX: usize = 2048;

/// The SHA-256 of what was shown. To find an entry by guessing, one has to guess the whole proof:
/// how long a comparison of hashes takes says nothing of it.
pub(super) type Fingerprint = [u8; 32];

/// What was shown. The kinds are apart: the fingerprint of a certificate is made of a text that
/// anybody can send as a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shown {
    /// A token or an API key.
    Secret(Fingerprint),
    /// A certificate, which the handshake has verified.
    Certificate(Fingerprint),
}

/// Proofs that were verified, by their fingerprints. Bounded: when the young generation is full it
/// becomes the old one, and what was old is forgotten unless it was seen since.
#[derive(Debug, Default)]
pub struct Recognised {
    young: HashMap<Shown, Entry>,
    old: HashMap<Shown, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    identity: Rc<Identity>,
    /// When the proof ends for new calls: seconds since 1970.
    ends_at_s: Option<i64>,
}

impl Recognised {
    /// Forgets everybody: the rules have changed.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    /// Whether a token or an API key was verified before, and has not ended.
    pub(in crate::security) fn remembers(&mut self, token: &str, now_ns: i64) -> bool {
        if token.len() > TOKEN_BYTES_MAX {
            return false;
        }
        let mark = Shown::Secret(fingerprint(token.as_bytes()));
        let now_s = now_ns.div_euclid(nanoseconds(1));
        self.find(&mark, now_s).is_some()
    }

    /// Who has shown this before; `None` also when that has ended.
    pub(super) fn find(&mut self, shown: &Shown, now_s: i64) -> Option<Rc<Identity>> {
        let entry = match self.young.get(shown) {
            Some(entry) => entry.clone(),
            None => {
                let entry = self.old.remove(shown)?;
                self.put(*shown, entry.clone());
                entry
            }
        };
        if entry.ends_at_s.is_some_and(|at| at <= now_s) {
            self.young.remove(shown);
            return None;
        }
        Some(entry.identity)
    }

    /// Remembers somebody who was verified.
    pub(super) fn add(&mut self, shown: Shown, identity: Rc<Identity>, ends_at_s: Option<i64>) {
        self.put(
            shown,
            Entry {
                identity,
                ends_at_s,
            },
        );
    }

    fn put(&mut self, shown: Shown, entry: Entry) {
        if self.young.len() >= GENERATION_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(shown, entry);
        debug_assert!(self.young.len() + self.old.len() <= 2 * GENERATION_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody() -> Rc<Identity> {
        Rc::new(Identity::anonymous())
    }

    fn shown(number: usize) -> Shown {
        let mut fingerprint = [0; 32];
        fingerprint[..8].copy_from_slice(&number.to_be_bytes());
        Shown::Secret(fingerprint)
    }

    #[test]
    fn what_is_used_stays_and_the_rest_is_forgotten_within_bounds() {
        let mut recognised = Recognised::default();
        recognised.add(shown(0), somebody(), None);
        for number in 1..GENERATION_MAX * 5 {
            recognised.add(shown(number), somebody(), None);
            assert!(recognised.find(&shown(0), 0).is_some(), "{number}");
            let held = recognised.young.len() + recognised.old.len();
            assert!(held <= 2 * GENERATION_MAX, "{held}");
        }
        assert!(recognised.find(&shown(1), 0).is_none());
        assert!(recognised.find(&shown(GENERATION_MAX * 5 - 1), 0).is_some());
        recognised.clear();
        assert!(recognised.find(&shown(0), 0).is_none());
    }

    #[test]
    fn what_has_ended_is_not_found() {
        let mut recognised = Recognised::default();
        recognised.add(shown(1), somebody(), Some(100));
        assert!(recognised.find(&shown(1), 99).is_some());
        assert!(recognised.find(&shown(1), 100).is_none());
        assert!(recognised.find(&shown(1), 99).is_none());
    }
}
