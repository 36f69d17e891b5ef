//! The configuration: from layers of texts to checked values.
//!
//! ```text
//! defaults ─► TOML file ─► environment ─► flags ─► fold ─► Config
//!                                                   └────► or every problem at once
//! ```
//!
//! The settings stand in one table ([`Key`], in `settings.rs`), with all their names. Every value
//! remembers where it comes from. Texts stay inside this module: what leaves it is a [`Config`]
//! whose values are known to be within their ranges.
//!
//! Who configures the reference keeps the names: its keys in any spelling, its environment
//! variables, its numbers for log levels. Its keys without effect here are accepted with a
//! warning, except those that ask for protection: these are refused, because nobody should run
//! unprotected without knowing it.

mod base64;
mod check;
mod cpus;
mod error;
mod fold;
mod key;
pub mod machine;
mod origin;
mod reference;
mod routing;
mod rules;
mod secret;
mod settings;
mod source;

use std::path::PathBuf;

pub use cpus::CpuList;
pub use error::{Error, Problem};
pub use fold::{Effective, Unused};
pub use key::{Allowed, Key, LogFormat, LogLevel, Redelivery, Sync, Unit, WhenFull};
pub use machine::{Finding, Machine};
pub use origin::{FileSource, Origin};
pub use routing::{NoUrl, RoutingData};
pub use rules::{ChannelLimits, ChannelRule, ChannelRules, QueueRules};
pub use secret::Secret;
pub use settings::{Api, Engine, Grpc, Log, Queue, Requests, Rest, Routing, Server, Store};
pub use source::{DEFAULT_FILE, FlagValue, Sources};

/// The checked configuration of a broker. It does not change while the broker runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of this node.
    pub host: String,
    /// The process.
    pub server: Server,
    /// The gRPC service. `max_connections` is what this machine allows if nobody set it.
    pub grpc: Grpc,
    /// The REST and WebSocket service.
    pub rest: Rest,
    /// The management service.
    pub api: Api,
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
}

impl Config {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn load(sources: &Sources) -> Result<Self, Error> {
        check::load(sources)
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

#[cfg(test)]
mod tests;
