//! From layers to a checked configuration.

use std::time::Duration;

use super::error::{Error, Problem};
use super::fold::{Effective, Fold, Layers, Unused};
use super::machine::{Finding, Machine};
use super::settings::{
    Api, Engine, Grpc, Log, Node, Queue, Requests, Rest, Routing, Server, Store,
};
use super::source::Sources;
use super::{Config, Provenance};

pub(super) fn load(sources: &Sources) -> Result<Config, Error> {
    let mut layers = Layers::default();
    let file = sources.read(&mut layers);
    let unused = layers.take_reference_keys();
    let mut fold = Fold::new(&mut layers);
    let node = Node::fold(&mut fold);
    let mut config = Config {
        host: String::new(),
        server: Server::fold(&mut fold),
        grpc: Grpc::fold(&mut fold),
        rest: Rest::fold(&mut fold),
        api: Api::fold(&mut fold),
        engine: Engine::fold(&mut fold),
        requests: Requests::fold(&mut fold),
        store: Store::fold(&mut fold),
        queue: Queue::fold(&mut fold),
        routing: Routing::fold(&mut fold),
        log: Log::fold(&mut fold),
        provenance: Provenance::default(),
    };
    let settings = fold.into_effective();
    check_ports(&config, &mut layers.problems);
    check_queue_times(&config, &mut layers.problems);
    check_cpus(&config.engine, &sources.machine, &mut layers.problems);
    config.routing.check(&mut layers.problems);
    if !layers.problems.is_empty() {
        return Err(Error::new(layers.problems));
    }
    let warnings = layers.warnings;
    config.provenance = Provenance {
        file,
        settings,
        unused,
        warnings,
    };
    config.resolve(node.host, &sources.machine);
    config.warn(&sources.machine);
    Ok(config)
}

fn check_ports(config: &Config, problems: &mut Vec<Problem>) {
    let ports = [
        ("grpc.port", config.grpc.port),
        ("rest.port", config.rest.port),
        ("api.port", config.api.port),
    ];
    for (n, (first, port)) in ports.into_iter().enumerate() {
        let later = ports.into_iter().skip(n + 1);
        for (second, _) in later.filter(|(_, other)| port != 0 && *other == port) {
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
    fn resolve(&mut self, host: Option<String>, machine: &Machine) {
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
        if self.grpc.max_connections == 0 {
            self.grpc.max_connections = machine.connections_max(self.engine.cores);
            self.resolved(
                "grpc.max_connections",
                &self.grpc.max_connections.to_string(),
            );
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
        warnings.extend(self.too_much_memory(machine));
        self.provenance.warnings.extend(warnings);
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
