//! The settings: every key that has an effect, with all that is known of it.
//!
//! This list is the only one. It makes the checked types, the fold over the layers, the flags, the
//! output of `ringmq config` and, by a test, the table in `docs/configuration.md`. Its sections
//! stand in files by subject: `services`, `security`, `engine`, `stored`, `insight`.

use super::key::{Allowed, Key};

const BOOL: Allowed = Allowed::OneOf(&["true", "false"]);
const PORT: Allowed = Allowed::Range(0, 65_535);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// A hundred years, so that no sum of times can overflow.
const MINUTES_MAX: u64 = 52_560_000;

/// What clients write as a 32-bit number of seconds: 68 years.
const SECONDS_MAX: u64 = 0x7fff_ffff;

/// More than a store can hold; keeps what is stored in numbers that every language reads exactly.
const COUNT_MAX: u64 = 1_000_000_000_000;

/// Declares sections: their types, their keys, their fold. A section may hold another one, which
/// is declared behind it so that its keys stand there too.
macro_rules! settings {
    ($(
        #[doc = $section_doc:literal]
        $visibility:vis $section:ident $(with $inner:ident: $inner_type:ident)? {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty = $default:literal {
                    key: $name:literal,
                    env: [$($env:literal),+],
                    $(flag: $flag:literal,)?
                    $(alias: $alias:literal,)*
                    allowed: $allowed:expr,
                    $(unit: $unit:expr,)?
                    $(live: $live:literal,)?
                    $(secret: $secret:literal,)?
                }
            )+
        }
    )+) => {
        $(
            #[doc = $section_doc]
            #[derive(Clone, Debug, PartialEq)]
            $visibility struct $section {
                $( $(#[doc = $doc])+ pub $field: $type, )+
                $(
                    /// The section inside.
                    pub $inner: $inner_type,
                )?
            }

            #[allow(non_upper_case_globals, reason = "the keys are named after their fields")]
            impl $section {
                $(
                    const $field: Key = Key {
                        name: $name,
                        aliases: &[$($alias),*],
                        env: &[$($env),+],
                        flag: settings!(@last (None) $((Some($flag)))?),
                        default: $default,
                        unit: settings!(@last (Unit::None) $(($unit))?),
                        allowed: $allowed,
                        live: settings!(@last (false) $(($live))?),
                        secret: settings!(@last (false) $(($secret))?),
                        doc: concat!($($doc),+),
                    };
                )+

                pub(in crate::config) fn fold(fold: &mut Fold<'_>) -> Self {
                    Self {
                        $( $field: fold.take(&Self::$field), )+
                        $( $inner: $inner_type::fold(fold), )?
                    }
                }

                /// Takes over what a reload may change.
                #[allow(dead_code, reason = "what is not kept in the configuration has no need")]
                pub(in crate::config) fn take_live(&mut self, next: &Self) {
                    $(
                        if Self::$field.live {
                            self.$field.clone_from(&next.$field);
                        }
                    )+
                    $( self.$inner.take_live(&next.$inner); )?
                }
            }
        )+

        /// The settings of these sections, in the order in which they are folded.
        pub(super) const KEYS: &[&Key] = &[$($( &$section::$field, )+)+];
    };
    (@last ($only:expr)) => { $only };
    (@last ($first:expr) ($last:expr)) => { $last };
}

mod engine;
mod insight;
mod security;
mod services;
mod stored;

pub(super) use engine::Broker;
pub use engine::{Engine, Requests};
pub use insight::{Audit, Log, Metrics, Notification, Telemetry};
pub use security::{Authentication, Authorization, Limits, Security};
pub(super) use services::Node;
pub use services::{Api, ApiAuth, Cors, Grpc, Rest, Server};
pub use stored::{Encryption, Queue, Routing, Store};

const PARTS: [&[&Key]; 5] = [
    services::KEYS,
    security::KEYS,
    engine::KEYS,
    stored::KEYS,
    insight::KEYS,
];

const COUNT: usize = {
    let [services, security, engine, stored, insight] = PARTS;
    services.len() + security.len() + engine.len() + stored.len() + insight.len()
};

/// Every setting, section by section.
pub(super) const KEYS: &[&Key] = &all();

#[allow(
    clippy::indexing_slicing,
    reason = "runs in the compiler, where it cannot panic later"
)]
const fn all() -> [&'static Key; COUNT] {
    let mut keys: [&'static Key; COUNT] = [services::KEYS[0]; COUNT];
    let (mut part, mut filled) = (0, 0);
    while part < PARTS.len() {
        let mut index = 0;
        while index < PARTS[part].len() {
            keys[filled] = PARTS[part][index];
            filled += 1;
            index += 1;
        }
        part += 1;
    }
    keys
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::key::Unit;
    use crate::config::reference;

    #[test]
    fn first_environment_name_follows_the_rule() {
        for key in KEYS {
            let rule = key.name.replace('.', "_").to_uppercase();
            assert_eq!(key.env.first(), Some(&rule.as_str()), "{}", key.name);
        }
    }

    #[test]
    fn no_name_stands_for_two_settings() {
        let mut names = HashSet::new();
        let mut variables = HashSet::from(["CONFIG"]);
        for key in KEYS {
            for name in [key.name].iter().chain(key.aliases) {
                assert!(names.insert(reference::normalise(name)), "{name}");
            }
            assert!(
                key.env.iter().all(|name| variables.insert(*name)),
                "{}",
                key.name
            );
        }
        for key in reference::all() {
            assert!(names.insert(reference::normalise(key.name)), "{}", key.name);
            assert!(
                key.env.iter().all(|name| variables.insert(*name)),
                "{}",
                key.name
            );
        }
    }

    #[test]
    fn every_setting_says_what_it_does() {
        for key in KEYS {
            let doc = key.doc.trim();
            assert!(doc.ends_with('.') && doc.len() > 20, "{}: {doc}", key.name);
            let number = matches!(
                key.allowed,
                Allowed::Range(..) | Allowed::OptionalRange(..) | Allowed::PowerOfTwo(..)
            );
            let named = number && key.allowed != PORT;
            assert_eq!(named, key.unit != Unit::None, "{} has no unit", key.name);
        }
    }
}
