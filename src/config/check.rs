//! From layers to a checked configuration.

use std::sync::Arc;
use std::time::Duration;

use super::error::{Error, Problem};
use super::fold::{Effective, Fold, Layers, Unused};
use super::machine::{Finding, Machine};
use super::settings::{
    Api, Audit, Authentication, Authorization, Broker, Engine, Grpc, Limits, Log, Metrics, Node,
    Notification, Queue, Requests, Rest, Routing, Security, Server, Store, Telemetry,
};
use super::source::Sources;
use super::{Config, Provenance};

pub(super) fn load(sources: &Sources) -> Result<Config, Error> {
    let mut layers = Layers::default();
    let file = sources.read(&mut layers);
    let unused = layers.take_reference_keys();
    let mut fold = Fold::new(&mut layers);
    let (mut config, left_open) = fold_all(&mut fold);
    let settings = fold.into_effective();
    check_ports(&config, &mut layers.problems);
    check_queue_times(&config, &mut layers.problems);
    check_cpus(&config.engine, &sources.machine, &mut layers.problems);
    config.routing.check(&mut layers.problems);
    config.security.check(&mut layers.problems);
    config.check_protection(&mut layers.problems);
    if !layers.problems.is_empty() {
        return Err(Error::new(layers.problems));
    }
    let warnings = layers.warnings;
    config.provenance = Provenance {
        file,
        settings,
        unused,
        warnings,
        sources: Arc::new(sources.clone()),
    };
    if config.audit.enable {
        let minutes = config.audit.retention_hours.saturating_mul(60);
        config.store.imply_retention(&config.audit.channel, minutes);
    }
    config.resolve(left_open, &sources.machine);
    config.warn(&sources.machine);
    Ok(config)
}

/// What becomes part of other settings.
struct LeftOpen {
    host: Option<String>,
    max_payload: u64,
}

/// Takes every section, in the order of [`super::keys`].
fn fold_all(fold: &mut Fold<'_>) -> (Config, LeftOpen) {
    let Node { host } = Node::fold(fold);
    let (server, grpc, rest, api) = (
        Server::fold(fold),
        Grpc::fold(fold),
        Rest::fold(fold),
        Api::fold(fold),
    );
    let (security, authentication) = (Security::fold(fold), Authentication::fold(fold));
    let (authorization, limits) = (Authorization::fold(fold), Limits::fold(fold));
    let (engine, requests) = (Engine::fold(fold), Requests::fold(fold));
    let Broker { max_payload } = Broker::fold(fold);
    let config = Config {
        host: String::new(),
        server,
        grpc,
        rest,
        api,
        security,
        authentication,
        authorization,
        limits,
        engine,
        requests,
        store: Store::fold(fold),
        queue: Queue::fold(fold),
        routing: Routing::fold(fold),
        log: Log::fold(fold),
        metrics: Metrics::fold(fold),
        telemetry: Telemetry::fold(fold),
        notification: Notification::fold(fold),
        audit: Audit::fold(fold),
        provenance: Provenance::default(),
    };
    (config, LeftOpen { host, max_payload })
}

fn check_ports(config: &Config, problems: &mut Vec<Problem>) {
    let Config {
        grpc, rest, api, ..
    } = config;
    let ports = [
        Some(("grpc.port", grpc.port)),
        rest.enable.then_some(("rest.port", rest.port)),
        api.enable.then_some(("api.port", api.port)),
    ];
    let ports: Vec<_> = ports.into_iter().flatten().collect();
    for (n, &(first, port)) in ports.iter().enumerate() {
        let later = ports.iter().skip(n + 1);
        for &(second, _) in later.filter(|(_, other)| port != 0 && *other == port) {
            problems.push(Problem::SamePort {
                first,
                second,
                port,
            });
        }
    }
}

/// Processors that are named must be there, one for each executor.
fn check_cpus(engine: &Engine, machine: &Machine, problems: &mut Vec<Problem>) {
    let cpus = engine.cpus.as_slice();
    if cpus.is_empty() {
        return;
    }
    if engine.pin == Some(false) {
        problems.push(Problem::Both {
            first: "engine.cpus",
            second: "engine.pin = false",
        });
    }
    if engine.cores > cpus.len() {
        problems.push(Problem::FewCpus {
            cores: engine.cores,
            cpus: cpus.len(),
        });
    }
    let missing = cpus.iter().filter(|cpu| !machine.cpus.contains(cpu));
    problems.extend(missing.map(|cpu| Problem::NoSuchCpu {
        cpu: *cpu,
        usable: machine.cpus.iter().copied().collect(),
    }));
}

/// A time that counts when nobody says otherwise must be one that somebody may say.
fn check_queue_times(config: &Config, problems: &mut Vec<Problem>) {
    let queue = &config.queue;
    let (wait_max, visibility_max) = (
        ("queue.max_wait_timeout_seconds", queue.wait_max),
        ("queue.max_visibility_seconds", queue.visibility_max),
    );
    let wait = ("queue.default_wait_timeout_seconds", queue.wait_default);
    let visibility = ("queue.default_visibility_seconds", queue.visibility_default);
    let streams = queue.visibility.unwrap_or_default();
    let rules = config.store.rules.as_slice().iter();
    let ruled = rules.filter_map(|rule| rule.visibility_seconds).max();
    let ruled = Duration::from_secs(ruled.unwrap_or_default());
    for ((key, value), (bound, max)) in [
        (wait, wait_max),
        (visibility, visibility_max),
        (("queue.visibility_seconds", streams), visibility_max),
        (
            ("visibility_seconds of a channel rule", ruled),
            visibility_max,
        ),
    ] {
        if value > max {
            let (seconds, max_seconds) = (value.as_secs(), max.as_secs());
            problems.push(Problem::AboveBound {
                key,
                seconds,
                bound,
                max_seconds,
            });
        }
    }
}

impl Config {
    /// Fills in what the settings leave to the machine.
    fn resolve(&mut self, left_open: LeftOpen, machine: &Machine) {
        let LeftOpen { host, max_payload } = left_open;
        if host.is_none() {
            self.resolved("host", &machine.host_name);
        }
        self.host = host.unwrap_or_else(|| machine.host_name.clone());
        if self.engine.cores == 0 {
            self.engine.cores = match self.engine.cpus.as_slice().len() {
                0 => machine.usable_cores(),
                listed => listed,
            };
            self.resolved("engine.cores", &self.engine.cores.to_string());
        }
        self.resolve_connections(machine.connections_max(self.engine.cores));
        self.resolve_bodies(usize::try_from(max_payload).unwrap_or(usize::MAX));
    }

    /// Divides the connections that can be had between the services that do not say.
    fn resolve_connections(&mut self, possible: usize) {
        if self.rest.max_connections == 0 {
            self.rest.max_connections = (possible / 4).max(1);
            let connections = self.rest.max_connections.to_string();
            self.resolved("rest.max_connections", &connections);
        }
        if self.grpc.max_connections == 0 {
            let others = if self.rest.enable {
                self.rest.max_connections
            } else {
                0
            };
            // What somebody gave to REST beyond all that can be had is warned of, not obeyed here.
            self.grpc.max_connections = possible.saturating_sub(others).max(possible / 4).max(1);
            let connections = self.grpc.max_connections.to_string();
            self.resolved("grpc.max_connections", &connections);
        }
    }

    /// The smallest of the bounds of a message counts.
    fn resolve_bodies(&mut self, max_payload: usize) {
        if max_payload > 0 && max_payload < self.grpc.body_limit {
            self.grpc.body_limit = max_payload;
            self.resolved("grpc.body_limit", &max_payload.to_string());
        }
        if let Some(limit) = self.rest.body_limit
            && max_payload > 0
            && max_payload < limit
        {
            self.rest.body_limit = Some(max_payload);
            self.resolved("rest.body_limit", &max_payload.to_string());
        }
    }

    fn resolved(&mut self, name: &str, value: &str) {
        let mut settings = self.provenance.settings.iter_mut();
        let setting: Option<&mut Effective> = settings.find(|setting| setting.key.name == name);
        debug_assert!(setting.is_some(), "{name} is a setting");
        if let Some(setting) = setting {
            setting.resolved = Some(value.to_owned());
        }
    }

    /// Notes what is allowed but will not work out.
    fn warn(&mut self, machine: &Machine) {
        let mut warnings = Vec::new();
        if !self.provenance.unused.is_empty() {
            warnings.push(without_effect(&self.provenance.unused));
        }
        let usable = machine.usable_cores();
        if self.engine.cores > usable {
            warnings.push(Finding::warning(
                format!(
                    "engine.cores is {}, but {usable} can be used here",
                    self.engine.cores
                ),
                "executors that share a core slow each other down: lower it, or leave it at 0"
                    .to_owned(),
            ));
        }
        let possible = machine.connections_max(self.engine.cores);
        if self.grpc.max_connections > possible {
            warnings.push(Finding::warning(
                format!(
                    "grpc.max_connections is {}, but the limit of open files allows {possible}",
                    self.grpc.max_connections
                ),
                "raise the limit: `ulimit -n`, LimitNOFILE= in a systemd unit, --ulimit nofile= \
                 for a container"
                    .to_owned(),
            ));
        }
        warnings.extend(self.routing.unused_table());
        warnings.extend(self.origins());
        self.warn_of_protection(&mut warnings);
        warnings.extend(self.too_much_memory(machine));
        self.provenance.warnings.extend(warnings);
    }

    /// Notes origins that browsers, or we, do not accept.
    fn origins(&mut self) -> Vec<Finding> {
        let mut warnings = Vec::new();
        let every = |origins: &[String]| origins.iter().any(|origin| origin == "*");
        if every(&self.api.allow_origins) {
            self.api.allow_origins.retain(|origin| origin != "*");
            warnings.push(Finding::warning(
                "api.allow_origins holds *, which is ignored: any page could command the broker"
                    .to_owned(),
                "name the origins of the pages, as https://example.com".to_owned(),
            ));
        }
        let cors = &self.rest.cors;
        if cors.allow_credentials && every(&cors.allow_origins) {
            warnings.push(Finding::warning(
                "rest.cors.allow_credentials is set, but browsers send none to the origin *"
                    .to_owned(),
                "name the origins in rest.cors.allow_origins".to_owned(),
            ));
        }
        warnings
    }

    /// The buffers at their bounds must fit into the memory, or the bounds protect nothing.
    fn too_much_memory(&self, machine: &Machine) -> Option<Finding> {
        let limit = machine.memory_bytes?;
        let engine = &self.engine;
        let lanes = engine
            .mesh_lane_bytes_max
            .saturating_mul(engine.cores.saturating_sub(1));
        let per_core = [
            engine.delivery_buffer_bytes_max,
            engine.query_cache_bytes,
            lanes,
            self.store.inflight_bytes_max,
        ]
        .into_iter()
        .fold(0, usize::saturating_add);
        let bytes = u64::try_from(per_core.saturating_mul(engine.cores)).unwrap_or(u64::MAX);
        let mib = |bytes: u64| bytes >> 20;
        (bytes > limit).then(|| {
            Finding::warning(
                format!(
                    "the buffers may grow to {} MiB, the memory is {} MiB",
                    mib(bytes),
                    mib(limit)
                ),
                "lower engine.delivery_buffer_bytes_max, engine.query_cache_bytes, \
                 engine.mesh_lane_bytes_max or store.inflight_bytes_max, or raise the memory limit"
                    .to_owned(),
            )
        })
    }
}

fn without_effect(unused: &[Unused]) -> Finding {
    let names: Vec<_> = unused
        .iter()
        .map(|unused| format!("{} ({})", unused.key, unused.origin))
        .collect();
    Finding::warning(
        format!(
            "settings without effect in this version: {}",
            names.join(", ")
        ),
        "remove them, or read in docs/configuration.md what they would do".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    #[test]
    fn every_default_is_allowed_and_taken_in_the_order_of_the_keys() {
        let mut layers = Layers::default();
        let mut fold = Fold::new(&mut layers);
        let _folded = fold_all(&mut fold);
        let effective = fold.into_effective();
        assert!(layers.problems.is_empty(), "{:?}", layers.problems);
        assert_eq!(effective.len(), keys().len());
        for (setting, key) in effective.iter().zip(keys()) {
            assert_eq!(setting.key.name, key.name);
            assert_eq!(setting.value, key.default);
        }
    }
}
