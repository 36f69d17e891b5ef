//! The identity of the broker: read at the start, again when its files change, and when the
//! settings do.
//!
//! What is read is put together whole and then swapped: connections that come from then on see the
//! new certificate, those that are there stay. Only clients whose certificate would not be taken
//! any more are told to go. Files that are bad are told of once, and what counted before stays: a
//! certificate is often replaced a moment before its key.

use std::sync::Arc;
use std::time::Duration;

use ring::digest;

use super::executor::Tls;
use super::{Failed, exit};
use crate::config::{self, Config, PemSource, Security, TlsVersion};
use crate::rt::{self, Instant};
use crate::wire::tls::{
    ClientCertificates, Handshakes, OldestVersion, Pem, ServerTls, ServerTlsSettings, SettingsError,
};

/// The broker's certificate is told of when it ends sooner than this.
const ENDS_SOON: Duration = Duration::from_secs(14 * 86_400);

/// How often it is told of.
const TOLD_EVERY: Duration = Duration::from_secs(86_400);

/// Where the identity comes from, and what was read there last. Blocks: lives on a thread of its
/// own.
#[derive(Debug)]
pub(super) struct Sources {
    security: Security,
    /// The management port speaks TLS, too.
    api: bool,
    handshakes: Handshakes,
    tls: Tls,
    /// Of what was read.
    seen: Seen,
    /// Of what was read, was bad and has been told of.
    refused: Option<Seen>,
    due: Option<Instant>,
    told_at: Option<Instant>,
}

/// A fingerprint of settings and of what their files hold: no key stays in memory for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen(Vec<u8>);

/// Reads what `security` names; none when nothing is named. A bad identity is no start.
pub(super) fn load(config: &Config, executors: usize) -> Result<Option<Sources>, Failed> {
    let security = &config.security;
    let Some(settings) = settings(security) else {
        return Ok(None);
    };
    let handshakes = Handshakes::start(security.handshakes_max, executors)
        .map_err(|error| Failed::new(exit::UNAVAILABLE, &error))?;
    let seen = Seen::now(security);
    let tls = read(&settings, &handshakes, config.api.tls);
    let tls = tls.map_err(|error| Failed::new(exit::CONFIG, &error))?;
    let mut sources = Sources {
        security: security.clone(),
        api: config.api.tls,
        handshakes,
        tls,
        seen,
        refused: None,
        due: None,
        told_at: None,
    };
    sources.looked();
    Ok(Some(sources))
}

impl Sources {
    /// What was read.
    pub(super) fn tls(&self) -> Tls {
        self.tls.clone()
    }

    /// When the files are to be looked at again; `None`: when the settings are.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Looks at the files if they are due, and gives back what they say if that has changed.
    pub(super) fn look(&mut self, now: Instant) -> Option<Tls> {
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        let security = self.security.clone();
        let is_told = self.refused.is_some() && self.refused == Some(Seen::now(&security));
        let changed = match self.read_again(&security) {
            Ok(changed) => changed,
            Err(_) if is_told => None,
            Err(error) => {
                tracing::error!(%error, "the certificate is not replaced; the one before stays");
                None
            }
        };
        self.looked();
        changed.map(|again| self.replace(again))
    }

    /// Reads everything anew, by these settings. `None`: nothing has changed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read_again(
        &mut self,
        security: &Security,
    ) -> Result<Option<Again>, SettingsError> {
        // Before the files are read for good: what changes in between is seen the next time.
        let seen = Seen::now(security);
        if seen == self.seen {
            self.refused = None;
            return Ok(None);
        }
        let Some(settings) = settings(security) else {
            return Ok(None);
        };
        match read(&settings, &self.handshakes, self.api) {
            Ok(tls) => Ok(Some(Again { tls, seen })),
            Err(error) => {
                self.refused = Some(seen);
                Err(error)
            }
        }
    }

    /// Goes by what was read again.
    pub(super) fn replace(&mut self, again: Again) -> Tls {
        let Again { tls, seen } = again;
        tracing::info!("the broker's certificate and what it asks of clients were read again");
        self.tls = tls;
        self.seen = seen;
        self.refused = None;
        self.told_at = None;
        self.looked();
        self.tls()
    }

    /// Goes by these settings from now on, which name what was read.
    pub(super) fn set_security(&mut self, security: &Security) {
        self.security = security.clone();
        self.looked();
    }

    fn looked(&mut self) {
        let now = rt::now();
        let every = Duration::from_secs(self.security.reload_seconds);
        self.due = (!every.is_zero()).then(|| now.after(every));
        let told = self.told_at.is_some_and(|at| now.since(at) < TOLD_EVERY);
        if !told {
            self.told_at = Some(now);
            tell_end(&self.tls.grpc);
        }
    }
}

/// What was read anew and does not count yet.
#[derive(Debug)]
pub(super) struct Again {
    tls: Tls,
    seen: Seen,
}

fn tell_end(tls: &ServerTls) {
    let Some(ends_at_ns) = tls.certificate_ends_at_ns() else {
        return;
    };
    let left_ns = ends_at_ns.saturating_sub(rt::unix_ns());
    let Ok(left_ns) = u64::try_from(left_ns) else {
        tracing::error!("the broker's certificate has ended: clients refuse it");
        return;
    };
    let left = Duration::from_nanos(left_ns);
    if left < ENDS_SOON {
        let days = left.as_secs() / 86_400;
        tracing::warn!(days, "the broker's certificate ends soon");
    }
}

impl Seen {
    fn now(security: &Security) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        let sources = [
            security.certificate(),
            security.key(),
            security.authorities(),
            security.revocations(),
        ];
        for source in &sources {
            let found = match source {
                PemSource::None => Vec::new(),
                PemSource::File(path) => match std::fs::read(path) {
                    Ok(bytes) => bytes,
                    Err(error) => error.to_string().into_bytes(),
                },
                PemSource::Text(text) => text.expose().as_bytes().to_vec(),
            };
            let length = u64::try_from(found.len()).unwrap_or(u64::MAX);
            context.update(&length.to_le_bytes());
            context.update(&found);
        }
        let rest = format!(
            "{:?} {:?}",
            security.client_certificates, security.min_version
        );
        context.update(rest.as_bytes());
        Self(context.finish().as_ref().to_vec())
    }
}

fn read(
    settings: &ServerTlsSettings,
    handshakes: &Handshakes,
    api: bool,
) -> Result<Tls, SettingsError> {
    let grpc = ServerTls::load(settings, handshakes)?;
    let rest = Arc::new(grpc.with_http1());
    Ok(Tls {
        api: api.then(|| rest.clone()),
        rest,
        grpc: Arc::new(grpc),
    })
}

fn settings(security: &Security) -> Option<ServerTlsSettings> {
    // The configuration has seen to it that they come together.
    let certificate = pem(&security.certificate(), "security.cert.data")?;
    let key = pem(&security.key(), "security.key.data")?;
    Some(ServerTlsSettings {
        client_ca: pem(&security.authorities(), "security.ca.data"),
        client_certificates: match security.client_certificates {
            config::ClientCertificates::Required => ClientCertificates::Required,
            config::ClientCertificates::Requested => ClientCertificates::Requested,
        },
        revocations: pem(&security.revocations(), "security.crl.data"),
        oldest_version: match security.min_version {
            TlsVersion::Tls12 => OldestVersion::Tls12,
            TlsVersion::Tls13 => OldestVersion::Tls13,
        },
        ..ServerTlsSettings::new(certificate, key)
    })
}

fn pem(source: &PemSource, name: &'static str) -> Option<Pem> {
    match source {
        PemSource::None => None,
        PemSource::File(path) => Some(Pem::File(path.clone())),
        PemSource::Text(text) => Some(Pem::Text {
            name,
            text: text.expose().as_bytes().to_vec(),
        }),
    }
}
