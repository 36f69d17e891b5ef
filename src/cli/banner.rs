//! The start-up block: what an operator wants to know when the broker is up.

use std::fmt;
use std::net::SocketAddr;

use super::VERSION;
use crate::config::{ClientCertificates, Config, Finding, Origin, Store, Sync};
use crate::server::listen::Addresses;

/// The facts of the start-up block; `Display` makes the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Banner {
    /// Name of the node.
    pub host: String,
    /// What is served and where, or why not, one line each.
    pub services: Vec<(&'static str, String)>,
    /// Executors, each with its core and its shard.
    pub shards: usize,
    /// Cores that this process can use.
    pub usable_cores: usize,
    /// The store's directory.
    pub store: String,
    /// What an acknowledgement is worth.
    pub sync: String,
    /// The bounds that clients may meet, one group a line.
    pub limits: Vec<String>,
    /// Where the settings come from.
    pub sources: String,
    /// What could be better.
    pub warnings: Vec<Finding>,
}

impl Banner {
    /// Collects the facts of a broker with so many shards that serves at `addresses`. `findings`
    /// are those of the machine; those of the configuration are shown too.
    #[must_use]
    pub fn new(
        config: &Config,
        shards: usize,
        addresses: &Addresses,
        findings: &[Finding],
    ) -> Self {
        let security = &config.security;
        let asked = security
            .wants_clients()
            .then_some(security.client_certificates);
        let tls = match (security.has_tls(), asked) {
            (false, _) => "",
            (true, None) => " (TLS)",
            (true, Some(ClientCertificates::Required)) => " (TLS, clients show certificates)",
            (true, Some(ClientCertificates::Requested)) => " (TLS, clients may show certificates)",
        };
        let api_tls = if config.api.tls { tls } else { "" };
        let served = |address: Option<SocketAddr>, key: &str, tls: &str| {
            let off = || format!("not served ({key} = false)");
            address.map_or_else(off, |address| format!("{address}{tls}"))
        };
        let own = config.provenance.warnings.iter();
        Self {
            host: config.host.clone(),
            services: vec![
                ("gRPC", format!("{}{tls}", addresses.grpc)),
                ("REST", served(addresses.rest, "rest.enable", tls)),
                ("management", served(addresses.api, "api.enable", api_tls)),
            ],
            shards,
            usable_cores: crate::config::Machine::read().usable_cores(),
            store: config.store_path_absolute().display().to_string(),
            sync: match config.store.sync {
                Sync::Strict => "strict: acknowledged means on disk".to_owned(),
                Sync::Interval => format!(
                    "interval: a power cut may undo what was acknowledged in the last {} ms",
                    config.store.sync_interval.as_millis()
                ),
            },
            limits: limits(config),
            sources: sources(config),
            warnings: findings
                .iter()
                .filter(|f| !f.is_refusal())
                .chain(own)
                .cloned()
                .collect(),
        }
    }
}

fn mib(bytes: usize) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{bytes} bytes")
    }
}

/// What is kept of a stored channel, in general; rules may say otherwise for some.
fn kept(store: &Store) -> String {
    let mut text = match store.retention {
        Some(age) => format!("stored events are kept for {} minutes", age.as_secs() / 60),
        None => "stored events are kept for ever".to_owned(),
    };
    if store.messages_max > 0 {
        text += &format!(", at most {} in a channel", store.messages_max);
    }
    if store.bytes_max > 0 {
        text += &format!(", at most {} bytes of a channel", store.bytes_max);
    }
    match store.rules.as_slice().len() {
        0 => {}
        1 => text += ", except by 1 rule",
        rules => text += &format!(", except by {rules} rules"),
    }
    text
}

fn limits(config: &Config) -> Vec<String> {
    let (grpc, engine) = (&config.grpc, &config.engine);
    vec![
        format!(
            "{} connections, {} calls on each, {} a message",
            grpc.max_connections,
            grpc.max_concurrent_streams,
            mib(grpc.body_limit)
        ),
        format!(
            "{} for a subscriber, {} for those of one core",
            mib(grpc.subscriber_buffer_bytes),
            mib(engine.delivery_buffer_bytes_max)
        ),
        format!(
            "{} waiting requests and {} of cached answers on one core",
            engine.pending_requests_max,
            mib(engine.query_cache_bytes)
        ),
        kept(&config.store),
    ]
}

fn sources(config: &Config) -> String {
    let (mut variables, mut flags) = (0, 0);
    for setting in &config.provenance.settings {
        match setting.origin {
            Origin::Environment(_) => variables += 1,
            Origin::Flag(_) => flags += 1,
            Origin::Default | Origin::File(_) => {}
        }
    }
    let file = config.provenance.file.as_ref();
    let file = file.map_or_else(|| "no file".to_owned(), ToString::to_string);
    format!("{file}, {variables} from the environment, {flags} by flags (see `ringmq config`)")
}

impl fmt::Display for Banner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "RingMQ {VERSION} on {}", self.host)?;
        let plural = if self.shards == 1 { "" } else { "s" };
        let cores = self.usable_cores;
        line(
            f,
            "shards",
            &format!("{} shard{plural} on {cores} usable cores", self.shards),
        )?;
        for (name, address) in &self.services {
            line(f, name, address)?;
        }
        line(f, "store", &self.store)?;
        line(f, "sync", &self.sync)?;
        for (n, limit) in self.limits.iter().enumerate() {
            line(f, if n == 0 { "limits" } else { "" }, limit)?;
        }
        line(f, "settings", &self.sources)?;
        for warning in &self.warnings {
            line(f, "warning", &warning.what)?;
            line(f, "", &format!("-> {}", warning.remedy))?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    writeln!(f, "  {name:<12}{value}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FlagValue, Sources};

    fn addresses() -> Addresses {
        Addresses {
            grpc: "127.0.0.1:50000".parse().unwrap(),
            rest: None,
            api: Some("127.0.0.1:8080".parse().unwrap()),
        }
    }

    #[test]
    fn block_is_readable() {
        let assignments = [
            "host=node-1",
            "store.store_path=/data",
            "grpc.max_connections=1000",
        ];
        let flags = assignments
            .map(|text| FlagValue::Assignment(text.to_owned()))
            .to_vec();
        let config = Config::load(&Sources {
            flags,
            ..Sources::default()
        })
        .unwrap();
        let findings = [
            Finding::warning("the nofile limit is 1024".into(), "raise it".into()),
            Finding::refusal("this is said elsewhere".into(), String::new()),
        ];
        let mut banner = Banner::new(&config, 2, &addresses(), &findings);
        banner.usable_cores = 4;
        let expected = format!(
            "\
RingMQ {VERSION} on node-1
  shards      2 shards on 4 usable cores
  gRPC        127.0.0.1:50000
  REST        not served (rest.enable = false)
  management  127.0.0.1:8080
  store       /data
  sync        strict: acknowledged means on disk
  limits      1000 connections, 4096 calls on each, 100 MiB a message
              8 MiB for a subscriber, 256 MiB for those of one core
              100000 waiting requests and 64 MiB of cached answers on one core
              stored events are kept for 1440 minutes
  settings    no file, 0 from the environment, 3 by flags (see `ringmq config`)
  warning     the nofile limit is 1024
              -> raise it
"
        );
        assert_eq!(banner.to_string(), expected);
    }

    #[test]
    fn what_a_power_cut_may_undo_is_said() {
        let mut config = Config::default();
        config.store.sync = Sync::Interval;
        config.store.retention = None;
        config.store.messages_max = 9;
        let banner = Banner::new(&config, 1, &addresses(), &[]);
        let text = banner.to_string();
        assert!(text.contains("acknowledged in the last 100 ms"), "{text}");
        assert!(
            text.contains("kept for ever, at most 9 in a channel"),
            "{text}"
        );
    }
}
