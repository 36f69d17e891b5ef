//! Keys of the reference that have no effect here, yet.
//!
//! A configuration that works with the reference is accepted, and what of it does nothing is said
//! in one warning. The exceptions are settings that somebody relies on: copies on other nodes that
//! nobody keeps, a port that is to be closed and stays open. With one of these the broker refuses
//! to start.

mod connectors;

/// A key of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferenceKey {
    /// The dotted key.
    pub name: &'static str,
    /// Its environment variables.
    pub env: &'static [&'static str],
    /// What becomes of it here.
    pub note: &'static str,
    pub(super) standing: Standing,
}

/// What it means that somebody sets the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has no effect, which is told.
    NoEffect,
    /// It has no effect and none is missed.
    NotNeeded,
    /// Unless it is false it switches on this protocol, which is not spoken.
    Missing(&'static str),
    /// Unless it is false it asks for what the note says is not done.
    RefusedOn,
    /// Unless it is true it asks for what the note says is not done.
    RefusedOff,
}

/// What is to be done about a key that somebody set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing; it is listed among those without effect.
    List,
    /// Nothing at all: a switch that is off is obeyed, a licence is not needed.
    Accept,
    /// A warning of its own: nothing speaks this protocol.
    Warn(&'static str),
    /// No start, for the reason in the note.
    Refuse,
}

impl ReferenceKey {
    /// What `value` asks for. A switch that is neither on nor off counts as the worse: in doubt
    /// the broker does not run.
    pub(super) fn verdict(&self, value: &str) -> Verdict {
        let value = value.trim();
        let is = |words: [&str; 5]| words.iter().any(|word| word.eq_ignore_ascii_case(value));
        let (off, on) = (
            is(["false", "f", "0", "no", "off"]),
            is(["true", "t", "1", "yes", "on"]),
        );
        match self.standing {
            Standing::NoEffect => Verdict::List,
            Standing::NotNeeded => Verdict::Accept,
            Standing::Missing(_) | Standing::RefusedOn if off => Verdict::Accept,
            Standing::RefusedOff if on => Verdict::Accept,
            Standing::Missing(protocol) => Verdict::Warn(protocol),
            Standing::RefusedOn | Standing::RefusedOff => Verdict::Refuse,
        }
    }
}

/// The form in which the spellings of a key are equal: `grpc.bodyLimit`, `grpc.body_limit` and
/// `GRPC.BodyLimit`.
pub(super) fn normalise(name: &str) -> String {
    name.chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static ReferenceKey> {
    KEYS.iter().chain(connectors::KEYS)
}

macro_rules! keys {
    ($( $standing:expr, $note:expr => { $( $name:literal $($env:literal)*; )+ } )+) => {
        &[$($( ReferenceKey {
            name: $name,
            env: &[$($env),*],
            note: $note,
            standing: $standing,
        }, )+)+]
    };
}
use keys;

const SESSIONS: &str = "sessions live in memory, and end with the broker";
const BUFFERS: &str = "buffers are counted in bytes here: grpc.subscriber_buffer_bytes";
const ALWAYS_ON: &str = "the gRPC service is always on; close its port to others by server.bind \
    or a firewall";
const REFLECTION: &str = "reflection is always on; it tells the public contract and nothing else";
const CLEAN: &str = "the broker deletes no store: a restart after a crash would delete what it \
    has just acknowledged; empty the directory before the start, or leave the setting out";
const STORE: &str = "belongs to the reference's store; the log here has its own settings, store.*";
const IDLE: &str = "idle channels are deleted by store.max_purge_inactive";
const QUEUES: &str = "queues know no such bound";
const BROKER: &str = "belongs to the reference's internal broker, which does not exist here";
const SYNC: &str = "a message is on the disk before it is acknowledged; store.sync relaxes that";
const CLIENT: &str = "belongs to the reference's command-line client";
const NODES: &str = "counts with several nodes only, and this version is a single one";
const REPLICATION: &str = "this version keeps no copies on other nodes: a message would live on \
    one disk where several are expected; remove the setting to run a single node";
const METRICS: &str = "metrics are not pushed; Prometheus reads them from /metrics";
const AUDIT: &str = "records are removed by their age, audit.retention_hours";
const LICENCE: &str = "no licence is needed";

pub(super) const KEYS: &[ReferenceKey] = keys! {
    Standing::RefusedOn, REPLICATION => { "cluster.enable" "CLUSTER_ENABLE"; }
    Standing::RefusedOn, CLEAN => { "store.clean_store" "STORE_CLEAN_STORE"; }
    Standing::RefusedOff, ALWAYS_ON => {
        "connectors.grpc.enable" "CONNECTORS_GRPC_ENABLE";
    }

    Standing::NoEffect, SESSIONS => { "api.auth.store_path" "API_AUTH_STORE_PATH"; }
    Standing::NoEffect, BUFFERS => {
        "grpc.sub_buff_size" "GRPC_SUB_BUFF_SIZE";
        "connectors.grpc.sub_buff_size" "CONNECTORS_GRPC_SUB_BUFF_SIZE";
        "rest.sub_buff_size" "REST_SUB_BUFF_SIZE";
        "connectors.rest.sub_buff_size" "CONNECTORS_REST_SUB_BUFF_SIZE";
    }
    Standing::NoEffect, REFLECTION => {
        "connectors.grpc.enable_reflection" "CONNECTORS_GRPC_ENABLE_REFLECTION";
    }
    Standing::NoEffect, STORE => {
        "store.engine" "STORE_ENGINE";
        "store.next.ack_policy" "STORE_NEXT_ACK_POLICY";
        "store.next.balance_leaders" "STORE_NEXT_BALANCE_LEADERS";
        "store.next.raft_address" "STORE_NEXT_RAFT_ADDRESS";
        "store.next.segment_size" "STORE_NEXT_SEGMENT_SIZE";
        "store.next.shards" "STORE_NEXT_SHARDS";
    }
    Standing::NoEffect, IDLE => {
        "store.idle_prune_cutoff_hours" "STORE_IDLE_PRUNE_CUTOFF_HOURS";
    }
    Standing::NoEffect, QUEUES => {
        "queue.max_inflight" "QUEUE_MAX_INFLIGHT";
        "queue.pub_ack_wait_seconds" "QUEUE_PUB_ACK_WAIT_SECONDS";
    }
    Standing::NoEffect, BROKER => {
        "broker.write_deadline" "BROKER_WRITE_DEADLINE";
        "broker.max_conn" "BROKER_MAX_CONN";
        "broker.write_buffer_size" "BROKER_WRITE_BUFFER_SIZE";
        "broker.read_buffer_size" "BROKER_READ_BUFFER_SIZE";
        "broker.slice_max_messages" "BROKER_SLICE_MAX_MESSAGES";
        "broker.slice_max_bytes" "BROKER_SLICE_MAX_BYTES";
        "broker.slice_max_age_seconds" "BROKER_SLICE_MAX_AGE_SECONDS";
        "broker.parallel_recovery" "BROKER_PARALLEL_RECOVERY";
    }
    Standing::NoEffect, SYNC => { "broker.disk_sync_seconds" "BROKER_DISK_SYNC_SECONDS"; }
    Standing::NoEffect, CLIENT => {
        "client.grpc_host";
        "client.grpc_port";
        "client.api_address";
        "client.auth_token";
        "client.client_id";
    }
    Standing::NoEffect, NODES => {
        "cluster.name" "CLUSTER_NAME";
        "cluster.routes" "CLUSTER_ROUTES";
        "cluster.port" "CLUSTER_PORT";
        "cluster.is_seed" "CLUSTER_IS_SEED";
        "cluster.replication.boot_timeout_seconds" "CLUSTER_REPLICATION_BOOT_TIMEOUT_SECONDS";
        "cluster.replication.ca_file" "CLUSTER_REPLICATION_CA_FILE";
        "cluster.replication.cert_file" "CLUSTER_REPLICATION_CERT_FILE";
        "cluster.replication.compaction_overhead" "CLUSTER_REPLICATION_COMPACTION_OVERHEAD";
        "cluster.replication.election_rtt" "CLUSTER_REPLICATION_ELECTION_RTT";
        "cluster.replication.heartbeat_rtt" "CLUSTER_REPLICATION_HEARTBEAT_RTT";
        "cluster.replication.join" "CLUSTER_REPLICATION_JOIN";
        "cluster.replication.key_file" "CLUSTER_REPLICATION_KEY_FILE";
        "cluster.replication.mutual_tls" "CLUSTER_REPLICATION_MUTUAL_TLS";
        "cluster.replication.peers" "CLUSTER_REPLICATION_PEERS";
        "cluster.replication.raft_address" "CLUSTER_REPLICATION_RAFT_ADDRESS";
        "cluster.replication.replica_id" "CLUSTER_REPLICATION_REPLICA_ID";
        "cluster.replication.rtt_millisecond" "CLUSTER_REPLICATION_RTT_MILLISECOND";
        "cluster.replication.snapshot_entries" "CLUSTER_REPLICATION_SNAPSHOT_ENTRIES";
    }
    Standing::NoEffect, METRICS => {
        "telemetry.metrics.enable" "TELEMETRY_METRICS_ENABLE";
        "telemetry.metrics.export_interval" "TELEMETRY_METRICS_EXPORT_INTERVAL";
    }
    Standing::NoEffect, AUDIT => {
        "audit.cleanup_interval_minutes" "AUDIT_CLEANUP_INTERVAL_MINUTES";
    }
    Standing::NotNeeded, LICENCE => {
        "key" "KEY";
        "license" "LICENSE";
        "license_file_name" "LICENSE_FILE_NAME";
        "license_key.data" "LICENSE_KEY_DATA";
        "license_key.filename" "LICENSE_KEY_FILENAME";
        "kubemq_token" "KUBEMQ_TOKEN";
        "connectors.usage_report_url" "CONNECTORS_USAGE_REPORT_URL";
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(name: &str, value: &str) -> Verdict {
        all().find(|key| key.name == name).unwrap().verdict(value)
    }

    #[test]
    fn what_has_no_effect_is_listed() {
        assert_eq!(verdict("rest.sub_buff_size", "x"), Verdict::List);
    }

    #[test]
    fn only_a_clear_no_switches_a_promise_off() {
        for off in ["false", "False", "0", "no", "off", "F", " false "] {
            assert_eq!(verdict("cluster.enable", off), Verdict::Accept);
        }
        for on in ["true", "1", "yes", "maybe", "ture"] {
            assert_eq!(verdict("cluster.enable", on), Verdict::Refuse, "{on}");
        }
    }

    #[test]
    fn promises_that_are_not_kept_are_refused() {
        for name in ["cluster.enable", "store.clean_store"] {
            assert_eq!(verdict(name, "true"), Verdict::Refuse, "{name}");
            assert_eq!(verdict(name, "maybe"), Verdict::Refuse, "{name}");
            assert_eq!(verdict(name, "false"), Verdict::Accept, "{name}");
        }
        assert_eq!(verdict("connectors.grpc.enable", "false"), Verdict::Refuse);
        assert_eq!(verdict("connectors.grpc.enable", "true"), Verdict::Accept);
    }

    #[test]
    fn connectors_that_do_not_exist_are_told_of_when_switched_on() {
        assert_eq!(
            verdict("connectors.mqtt.enable", "true"),
            Verdict::Warn("MQTT")
        );
        assert_eq!(verdict("connectors.mqtt.enable", "false"), Verdict::Accept);
        assert_eq!(verdict("connectors.mqtt.port", "1883"), Verdict::List);
    }

    #[test]
    fn environment_names_follow_the_rule() {
        let odd = [
            "connectors.a2a.",
            "connectors.ce.",
            "connectors.mcp.",
            "connectors.mqtt.",
        ];
        for key in all() {
            let rule = key.name.replace('.', "_").to_uppercase();
            let odd = odd.iter().any(|prefix| key.name.starts_with(prefix));
            let follows = key.env.iter().all(|name| *name == rule);
            assert_ne!(odd, follows, "{}", key.name);
        }
    }

    #[test]
    fn spellings_of_a_key_are_equal() {
        for spelling in [
            "grpc.body_limit",
            "grpc.bodyLimit",
            "GRPC.BodyLimit",
            "grpc.body-limit",
        ] {
            assert_eq!(normalise(spelling), "grpc.bodylimit");
        }
    }
}
