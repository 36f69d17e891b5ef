//! A configuration that is read again while the broker runs.
//!
//! All of it is read and checked like the first one, and a bad one changes nothing. Of a good one
//! only the settings count that can change ([`Key::live`]); the others stay as they were at the
//! start, and the operator is told that they wait for the next one.

use std::sync::Arc;

use super::error::Error;
use super::fold::Effective;
use super::key::Key;
use super::{Config, Provenance};

/// A setting that is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The setting.
    pub key: &'static Key,
    /// Whether the change counts already, and not from the next start on.
    pub counts: bool,
    /// What it was.
    pub before: String,
    /// What the sources say now.
    pub after: String,
}

impl Config {
    /// Reads and checks the sources of this configuration again, as they are now.
    ///
    /// # Errors
    /// Everything that is wrong with them, at once.
    pub fn read_again(&self) -> Result<Self, Error> {
        Self::load(&self.provenance.sources)
    }

    /// This configuration with what of `next` counts without a start, and all that differs.
    #[must_use]
    pub fn reloaded(&self, next: &Self) -> (Self, Vec<Change>) {
        let pairs = || {
            let settings = self.provenance.settings.iter();
            settings.zip(&next.provenance.settings)
        };
        let counts = |key: &Key| key.live && (self.keeps_tls(next) || !is_tls(key));
        let changes = pairs().filter_map(|(before, after)| {
            let counts = counts(before.key);
            change(before, after, counts)
        });
        let changes = changes.collect();
        let settings = pairs().map(|(before, after)| {
            debug_assert_eq!(
                before.key.name, after.key.name,
                "all settings, in one order"
            );
            if counts(before.key) { after } else { before }.clone()
        });
        let provenance = Provenance {
            settings: settings.collect(),
            sources: Arc::clone(&self.provenance.sources),
            ..next.provenance.clone()
        };
        let mut merged = Self {
            provenance,
            ..self.clone()
        };
        merged.take_live(next);
        (merged, changes)
    }

    fn take_live(&mut self, next: &Self) {
        self.server.take_live(&next.server);
        self.grpc.take_live(&next.grpc);
        self.rest.take_live(&next.rest);
        self.api.take_live(&next.api);
        self.engine.take_live(&next.engine);
        self.requests.take_live(&next.requests);
        self.store.take_live(&next.store);
        self.queue.take_live(&next.queue);
        self.routing.take_live(&next.routing);
        self.log.take_live(&next.log);
        self.metrics.take_live(&next.metrics);
        self.telemetry.take_live(&next.telemetry);
        self.notification.take_live(&next.notification);
        self.audit.take_live(&next.audit);
        if self.keeps_tls(next) {
            self.security.take_live(&next.security);
        }
        self.authentication.take_live(&next.authentication);
        self.authorization.take_live(&next.authorization);
        self.limits.take_live(&next.limits);
    }

    /// Whether the ports go on as they are. With another certificate one does; without any, or
    /// with the first one, it would be another port.
    fn keeps_tls(&self, next: &Self) -> bool {
        self.security.has_tls() == next.security.has_tls()
    }
}

/// Whether a setting is one of TLS.
fn is_tls(key: &Key) -> bool {
    key.name.starts_with("security.")
}

fn change(before: &Effective, after: &Effective, counts: bool) -> Option<Change> {
    let same = before.value == after.value && before.hidden == after.hidden;
    (!same).then(|| Change {
        key: before.key,
        counts,
        before: before.shown(),
        after: after.shown(),
    })
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, FlagValue, Sources, keys};

    fn load(assignments: &[&str]) -> Config {
        let flags = assignments
            .iter()
            .map(|text| FlagValue::Assignment((*text).to_owned()));
        let sources = Sources {
            flags: flags.collect(),
            ..Sources::default()
        };
        Config::load(&sources).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn live_settings_change_and_the_others_wait() {
        let before = load(&["grpc.port=7"]);
        let next = load(&[
            "grpc.port=8",
            "log.level=debug",
            "store.max_messages=5",
            "rest.cors.allow_origins=https://a",
        ]);
        let (merged, changes) = before.reloaded(&next);
        let told: Vec<_> = changes
            .iter()
            .map(|change| (change.key.name, change.counts, &*change.after))
            .collect();
        let expected = [
            ("grpc.port", false, "8"),
            ("rest.cors.allow_origins", true, "https://a"),
            ("store.max_messages", true, "5"),
            ("log.level", true, "debug"),
        ];
        assert_eq!(told, expected);
        assert_eq!((merged.grpc.port, merged.store.messages_max), (7, 5));
        assert_eq!(merged.rest.cors.allow_origins, ["https://a"]);
        assert_eq!(merged.log.level, next.log.level);
        let shown = |name: &str| {
            let mut settings = merged.provenance.settings.iter();
            let found = settings.find(|setting| setting.key.name == name);
            found.map(|setting| setting.value.clone())
        };
        assert_eq!(shown("grpc.port").as_deref(), Some("7"));
        assert_eq!(shown("store.max_messages").as_deref(), Some("5"));
    }

    #[test]
    fn certificates_change_and_tls_itself_waits() {
        let tls = |name: &str| {
            load(&[
                &format!("security.cert.filename=/{name}.pem"),
                "security.key.filename=/key.pem",
            ])
        };
        let plain = load(&[]);
        let told = |changes: Vec<super::Change>| -> Vec<_> {
            let told = changes.iter();
            told.map(|change| (change.key.name, change.counts))
                .collect()
        };
        let (merged, changes) = tls("old").reloaded(&tls("new"));
        assert_eq!(merged.security, tls("new").security);
        assert_eq!(told(changes), [("security.cert.filename", true)]);
        for (before, after) in [(&plain, &tls("new")), (&tls("new"), &plain)] {
            let (merged, changes) = before.reloaded(after);
            assert_eq!(merged.security, before.security);
            let waiting = ["security.cert.filename", "security.key.filename"];
            assert_eq!(told(changes), waiting.map(|name| (name, false)));
        }
    }

    #[test]
    fn nothing_changes_when_nothing_did() {
        let config = load(&["queue.max_visibility_seconds=100"]);
        let (merged, changes) = config.reloaded(&config.read_again().expect("it was good"));
        assert_eq!((merged, changes), (config, Vec::new()));
    }

    #[test]
    fn changed_secrets_are_noticed_and_not_shown() {
        let [before, next] = ["a=hunter2", "a=hunter3"]
            .map(|headers| load(&[&format!("telemetry.exporter.headers={headers}")]));
        let (_, changes) = before.reloaded(&next);
        assert_eq!(changes.len(), 1);
        assert!(!format!("{changes:?}").contains("hunter"), "{changes:?}");
    }

    /// What is marked as live must be in the configuration: else a reload tells of a change that
    /// nobody sees.
    #[test]
    fn sections_that_are_resolved_away_have_nothing_live() {
        for key in keys() {
            let away = ["host", "broker.max_payload"].contains(&key.name);
            assert!(!(away && key.live), "{}", key.name);
        }
    }
}
