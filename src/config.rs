//! The configuration: from layers of texts to checked values.
//!
//! ```text
//! defaults ─► file ─► environment ─► flags ─► fold ─► Config
//!                                              └────► or every problem at once
//! ```
//!
//! The settings stand in one table ([`Key`], in `settings.rs`), with all their names. Every value
//! remembers where it comes from. Texts stay inside this module: what leaves it is a [`Config`]
//! whose values are known to be within their ranges.
//!
//! Who configures the reference keeps the names: its keys in any spelling, its environment
//! variables, its numbers for log levels. Its keys without effect here are accepted with a
//! warning, except those that promise what is not kept: these are refused, because nobody should
//! rely on it.

mod base64;
mod check;
mod cpus;
mod error;
mod file;
mod fold;
mod key;
pub mod machine;
mod origin;
mod protection;
mod reference;
mod reload;
mod routing;
mod rules;
mod secret;
mod security;
mod settings;
mod source;
mod store_keys;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use cpus::CpuList;
pub use error::{Error, Problem};
pub use fold::{Effective, Meaning, Unused};
pub use key::{
    Allowed, CertificateField, ClientCertificates, ClientIdBinding, Compression, ExportProtocol,
    Key, ListOf, LogFormat, LogLevel, Redelivery, Sampler, SignatureType, Sync, TlsVersion,
    TokenSource, Unit, WhenFull,
};
pub use machine::{Finding, Machine};
pub use origin::{FileSource, Origin, Place};
pub use protection::{KeySource, PolicyData, PolicySource};
pub use reference::ReferenceKey;
pub use reload::Change;
pub use routing::{NoUrl, RoutingData};
pub use rules::{ChannelLimits, ChannelRule, ChannelRules, QueueRules};
pub use secret::Secret;
pub use security::{PemSource, PemText};
pub use settings::{
    Api, ApiAuth, Audit, Authentication, Authorization, Cors, Encryption, Engine, Grpc, Limits,
    Log, Metrics, Notification, Queue, Requests, Rest, Routing, Security, Server, Store, Telemetry,
};
pub use source::{DEFAULT_FILE, FlagValue, Sources};

/// The checked configuration of a broker. A reload makes another one, see [`Key::live`].
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Name of this node.
    pub host: String,
    /// The process.
    pub server: Server,
    /// The gRPC service. `max_connections` is what this machine allows if nobody set it.
    pub grpc: Grpc,
    /// The REST and WebSocket service. `max_connections` is what this machine allows if nobody set
    /// it.
    pub rest: Rest,
    /// The management service.
    pub api: Api,
    /// TLS: the identity of the broker, and whose certificates it takes.
    pub security: Security,
    /// Who is it.
    pub authentication: Authentication,
    /// What may they do.
    pub authorization: Authorization,
    /// How much of it.
    pub limits: Limits,
    /// The engine. `cores` is what this machine allows if nobody set it, and never 0.
    pub engine: Engine,
    /// Commands and queries.
    pub requests: Requests,
    /// The store.
    pub store: Store,
    /// Queues.
    pub queue: Queue,
    /// Smart routing.
    pub routing: Routing,
    /// The log.
    pub log: Log,
    /// Metrics.
    pub metrics: Metrics,
    /// Traces for OpenTelemetry.
    pub telemetry: Telemetry,
    /// Reports of every access.
    pub notification: Notification,
    /// The record of what was done to the broker.
    pub audit: Audit,
    /// Where all this comes from.
    pub provenance: Provenance,
}

/// Where a configuration comes from, and what of it does nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The file that was read.
    pub file: Option<FileSource>,
    /// Every setting, in the order of the documentation.
    pub settings: Vec<Effective>,
    /// Keys of the reference that are set and do nothing in this version.
    pub unused: Vec<Unused>,
    /// What an operator should know.
    pub warnings: Vec<Finding>,
    /// What it was read from, and can be read from again.
    pub sources: Arc<Sources>,
}

impl Config {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn load(sources: &Sources) -> Result<Self, Error> {
        check::load(sources)
    }

    /// Largest body of a REST request and largest frame of a WebSocket, in bytes.
    #[must_use]
    pub fn rest_body_limit(&self) -> usize {
        self.rest.body_limit.unwrap_or(self.grpc.body_limit)
    }

    /// Age at which stored events of a channel are removed; `None`: never. The records of accesses
    /// have one of their own.
    #[must_use]
    pub fn retention_for(&self, channel: &str) -> Option<Duration> {
        if self.audit.enable && channel == self.audit.channel {
            let seconds = self.audit.retention_hours.saturating_mul(3_600);
            return (seconds > 0).then(|| Duration::from_secs(seconds));
        }
        self.store.limits_for(channel).retention
    }

    /// The path of the store's directory, absolute where the system can tell.
    #[must_use]
    pub fn store_path_absolute(&self) -> PathBuf {
        std::path::absolute(&self.store.path).unwrap_or_else(|_| self.store.path.clone())
    }
}

/// The defaults, on a made-up machine with one core.
impl Default for Config {
    fn default() -> Self {
        Self::load(&Sources::default()).expect("a test loads the defaults")
    }
}

/// All settings, in the order of the documentation.
#[must_use]
pub const fn keys() -> &'static [&'static Key] {
    settings::KEYS
}

/// What a key means, by any of its names: as files spell it, its environment variables, its flag.
///
/// # Errors
/// The known key that is spelled most alike, if any, when there is no such name.
pub fn find(name: &str) -> Result<Meaning, Option<&'static str>> {
    let settings = settings::KEYS.iter();
    let setting = settings
        .clone()
        .find(|key| key.env.contains(&name) || key.flag == Some(name));
    let reference = || reference::all().find(|key| key.env.contains(&name));
    setting
        .map(|key| Meaning::Setting(key))
        .or_else(|| reference().map(Meaning::Reference))
        .or_else(|| fold::meaning(name))
        .ok_or_else(|| fold::nearest(name))
}

#[cfg(test)]
mod tests;
