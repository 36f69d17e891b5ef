//! The settings: every key that has an effect, with all that is known of it.
//!
//! This list is the only one. It makes the checked types, the fold over the layers, the flags, the
//! output of `ringmq config` and, by a test, the table in `docs/configuration.md`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::cpus::CpuList;
use super::fold::Fold;
use super::key::{Allowed, Key, LogFormat, LogLevel, Redelivery, Sync, Unit, WhenFull};
use super::routing::{NoUrl, RoutingData};
use super::rules::ChannelRules;

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

macro_rules! settings {
    ($(
        #[doc = $section_doc:literal]
        $visibility:vis $section:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty = $default:literal {
                    key: $name:literal,
                    env: [$($env:literal),+],
                    $(flag: $flag:literal,)?
                    $(alias: $alias:literal,)?
                    allowed: $allowed:expr,
                    $(unit: $unit:expr,)?
                }
            )+
        }
    )+) => {
        $(
            #[doc = $section_doc]
            #[derive(Clone, Debug, PartialEq, Eq)]
            $visibility struct $section {
                $( $(#[doc = $doc])+ pub $field: $type, )+
            }

            #[allow(non_upper_case_globals, reason = "the keys are named after their fields")]
            impl $section {
                $(
                    const $field: Key = Key {
                        name: $name,
                        aliases: &[$($alias)?],
                        env: &[$($env),+],
                        flag: settings!(@last None $(Some($flag))?),
                        default: $default,
                        unit: settings!(@last (Unit::None) $(($unit))?),
                        allowed: $allowed,
                        doc: concat!($($doc),+),
                    };
                )+

                pub(super) fn fold(fold: &mut Fold<'_>) -> Self {
                    Self { $( $field: fold.take(&Self::$field), )+ }
                }
            }
        )+

        /// Takes every section, for the test of the defaults.
        #[cfg(test)]
        pub(super) fn fold_all(fold: &mut Fold<'_>) {
            $( let _checked = $section::fold(fold); )+
        }

        /// Every setting, section by section.
        pub(super) const KEYS: &[&Key] = &[$($( &$section::$field, )+)+];
    };
    (@last ($only:expr)) => { $only };
    (@last ($first:expr) ($last:expr)) => { $last };
    (@last None) => { None };
    (@last None Some($last:expr)) => { Some($last) };
}

settings! {
    /// The node.
    pub(super) Node {
        /// Name of this node in answers to `Ping` and in logs. Empty: the machine's host name.
        host: Option<String> = "" {
            key: "host",
            env: ["HOST"],
            allowed: Allowed::OptionalWord,
        }
    }

    /// The process.
    pub Server {
        /// Address on which all ports listen. The default is every IPv4 interface; `::` is every
        /// interface, IPv6 included.
        bind: IpAddr = "0.0.0.0" {
            key: "server.bind",
            env: ["SERVER_BIND"],
            flag: "--bind",
            allowed: Allowed::Address,
        }
        /// How long calls in progress may take to finish once the broker is told to stop.
        drain_grace: Duration = "10" {
            key: "server.drain_grace_seconds",
            env: ["SERVER_DRAIN_GRACE_SECONDS"],
            allowed: Allowed::Range(0, 3_600),
            unit: Unit::Seconds,
        }
        /// File that gets the bound addresses as a JSON object once the broker is ready. Empty:
        /// none.
        addresses_file: Option<PathBuf> = "" {
            key: "server.addresses_file",
            env: ["SERVER_ADDRESSES_FILE"],
            flag: "--addresses-file",
            allowed: Allowed::OptionalPath,
        }
    }

    /// The gRPC service.
    pub Grpc {
        /// Port of the gRPC service; 0 picks a free one.
        port: u16 = "50000" {
            key: "grpc.port",
            env: ["GRPC_PORT", "CONNECTORS_GRPC_PORT"],
            flag: "--grpc-port",
            alias: "connectors.grpc.port",
            allowed: PORT,
        }
        /// Largest message that is taken, also after decompression. A larger one ends its call
        /// with RESOURCE_EXHAUSTED.
        body_limit: usize = "104857600" {
            key: "grpc.body_limit",
            env: ["GRPC_BODY_LIMIT", "CONNECTORS_GRPC_BODY_LIMIT"],
            alias: "connectors.grpc.body_limit",
            allowed: Allowed::Range(KIB, GIB),
            unit: Unit::Bytes,
        }
        /// What may wait for one slow subscriber. When it is full, further events to it are
        /// dropped and counted.
        subscriber_buffer_bytes: usize = "8388608" {
            key: "grpc.subscriber_buffer_bytes",
            env: ["GRPC_SUBSCRIBER_BUFFER_BYTES"],
            allowed: Allowed::Range(KIB, GIB),
            unit: Unit::Bytes,
        }
        /// Calls that one connection may have open. Further ones are refused and retried by the
        /// client.
        max_concurrent_streams: u32 = "4096" {
            key: "grpc.max_concurrent_streams",
            env: ["GRPC_MAX_CONCURRENT_STREAMS"],
            allowed: Allowed::Range(1, 1_000_000),
            unit: Unit::Count("calls per connection"),
        }
        /// Connections that may be open. Further ones are closed at once. 0: as many as the limit
        /// of open files leaves room for.
        max_connections: usize = "0" {
            key: "grpc.max_connections",
            env: ["GRPC_MAX_CONNECTIONS"],
            allowed: Allowed::Range(0, 10_000_000),
            unit: Unit::Count("connections"),
        }
        /// Silence on a connection after which the broker asks whether the client still lives.
        keepalive_time: Duration = "20" {
            key: "grpc.keepalive_time_seconds",
            env: ["GRPC_KEEPALIVE_TIME_SECONDS"],
            allowed: Allowed::Range(1, 86_400),
            unit: Unit::Seconds,
        }
        /// How long the client may take to answer that; then its connection is closed.
        keepalive_timeout: Duration = "10" {
            key: "grpc.keepalive_timeout_seconds",
            env: ["GRPC_KEEPALIVE_TIMEOUT_SECONDS"],
            allowed: Allowed::Range(1, 3_600),
            unit: Unit::Seconds,
        }
        /// Age after which a connection is drained, so that clients spread anew. 0: never.
        max_connection_age: Option<Duration> = "0" {
            key: "grpc.max_connection_age_seconds",
            env: ["GRPC_MAX_CONNECTION_AGE_SECONDS"],
            allowed: Allowed::Range(0, 2_592_000),
            unit: Unit::Seconds,
        }
        /// How long the opening of a connection may take; then it is closed.
        handshake_timeout: Duration = "10" {
            key: "grpc.handshake_timeout_seconds",
            env: ["GRPC_HANDSHAKE_TIMEOUT_SECONDS"],
            allowed: Allowed::Range(1, 300),
            unit: Unit::Seconds,
        }
        /// Receive window of one call: what a sender may have under way before it is read.
        initial_window_bytes: u32 = "1048576" {
            key: "grpc.initial_window_bytes",
            env: ["GRPC_INITIAL_WINDOW_BYTES"],
            allowed: Allowed::Range(64 * KIB, GIB),
            unit: Unit::Bytes,
        }
        /// Receive window of one connection, over all its calls.
        connection_window_bytes: u32 = "8388608" {
            key: "grpc.connection_window_bytes",
            env: ["GRPC_CONNECTION_WINDOW_BYTES"],
            allowed: Allowed::Range(64 * KIB, GIB),
            unit: Unit::Bytes,
        }
    }

    /// The REST and WebSocket service.
    pub Rest {
        /// Port of the REST service; 0 picks a free one. Not served in this version.
        port: u16 = "9090" {
            key: "rest.port",
            env: ["REST_PORT", "CONNECTORS_REST_PORT"],
            flag: "--rest-port",
            alias: "connectors.rest.port",
            allowed: PORT,
        }
    }

    /// The management service.
    pub Api {
        /// Port of the management service; 0 picks a free one. Not served in this version.
        port: u16 = "8080" {
            key: "api.port",
            env: ["API_PORT"],
            flag: "--api-port",
            allowed: PORT,
        }
    }

    /// The engine: what runs on each core.
    pub Engine {
        /// Cores to run on, one executor for each. 0: as many as the processor set and the CPU
        /// quota of the control group allow.
        cores: usize = "0" {
            key: "engine.cores",
            env: ["ENGINE_CORES"],
            flag: "--cores",
            allowed: Allowed::Range(0, 256),
            unit: Unit::Count("cores"),
        }
        /// Whether each executor stays on one processor. `auto`: when there is a processor for
        /// each.
        pin: Option<bool> = "auto" {
            key: "engine.pin",
            env: ["ENGINE_PIN"],
            allowed: Allowed::OneOf(&["auto", "true", "false"]),
        }
        /// Processors of the executors, as `2-5,8`. Empty: any, and while others are to spare none
        /// that serves interrupts of a network card.
        cpus: CpuList = "" {
            key: "engine.cpus",
            env: ["ENGINE_CPUS"],
            flag: "--cpus",
            allowed: Allowed::CpuList,
        }
        /// How long an executor looks at its sockets before it sleeps, when its last sleep was so
        /// short that this pays. More lowers latency and burns the core. 0: not at all.
        spin: Option<Duration> = "25" {
            key: "engine.spin_us",
            env: ["ENGINE_SPIN_US"],
            allowed: Allowed::Range(0, 10_000),
            unit: Unit::Microseconds,
        }
        /// Requests that may wait for their answer on one core. Further ones are refused.
        pending_requests_max: usize = "100000" {
            key: "engine.pending_requests_max",
            env: ["ENGINE_PENDING_REQUESTS_MAX"],
            allowed: Allowed::Range(1, 10_000_000),
            unit: Unit::Count("requests per core"),
        }
        /// What may wait for all subscribers of one core. When it is full, further events are
        /// dropped and counted.
        delivery_buffer_bytes_max: usize = "268435456" {
            key: "engine.delivery_buffer_bytes_max",
            env: ["ENGINE_DELIVERY_BUFFER_BYTES_MAX"],
            allowed: Allowed::Range(MIB, 1024 * GIB),
            unit: Unit::Bytes,
        }
        /// Channel names on one core whose matching subscriptions are remembered, for each kind.
        match_cache_entries: usize = "65536" {
            key: "engine.match_cache_entries",
            env: ["ENGINE_MATCH_CACHE_ENTRIES"],
            allowed: Allowed::Range(1, 16_777_216),
            unit: Unit::Count("names per core"),
        }
        /// Remembered answers to queries on one core. When it is full, the least recently used
        /// ones go.
        query_cache_bytes: usize = "67108864" {
            key: "engine.query_cache_bytes",
            env: ["ENGINE_QUERY_CACHE_BYTES"],
            allowed: Allowed::Range(0, 1024 * GIB),
            unit: Unit::Bytes,
        }
        /// Messages that may wait to leave one core for one other. When it is full, new work is
        /// refused; replies never are.
        mesh_lane_messages_max: usize = "65536" {
            key: "engine.mesh_lane_messages_max",
            env: ["ENGINE_MESH_LANE_MESSAGES_MAX"],
            allowed: Allowed::Range(1, 16_777_216),
            unit: Unit::Count("messages per pair of cores"),
        }
        /// Bytes that may wait to leave one core for one other. When it is full, new work is
        /// refused; replies never are.
        mesh_lane_bytes_max: usize = "33554432" {
            key: "engine.mesh_lane_bytes_max",
            env: ["ENGINE_MESH_LANE_BYTES_MAX"],
            allowed: Allowed::Range(64 * KIB, 64 * GIB),
            unit: Unit::Bytes,
        }
    }

    /// Commands and queries.
    pub Requests {
        /// Whether a request that has no responder fails at once, with the text of a timeout,
        /// instead of waiting for one to come.
        fail_fast: bool = "false" {
            key: "requests.fail_fast",
            env: ["REQUESTS_FAIL_FAST"],
            allowed: BOOL,
        }
    }

    /// The store.
    pub Store {
        /// Directory of the store; made when it is missing. One broker holds it at a time.
        path: PathBuf = "./data" {
            key: "store.store_path",
            env: ["STORE_STORE_PATH"],
            flag: "--data",
            allowed: Allowed::Path,
        }
        /// When a stored message is acknowledged: `strict` after its sync to disk, `interval` after
        /// the append, of which a power cut may undo the last interval.
        sync: Sync = "strict" {
            key: "store.sync",
            env: ["STORE_SYNC"],
            flag: "--sync",
            allowed: Allowed::OneOf(Sync::WORDS),
        }
        /// How long an append may wait for its sync with `store.sync = interval`. No effect with
        /// `strict`.
        sync_interval: Duration = "100" {
            key: "store.sync_interval_ms",
            env: ["STORE_SYNC_INTERVAL_MS"],
            allowed: Allowed::Range(1, 60_000),
            unit: Unit::Milliseconds,
        }
        /// Size of a full segment file of the log. It is also the bound of one stored message, and
        /// the step in which space is given back. The first segments are smaller.
        segment_bytes: u32 = "67108864" {
            key: "store.segment_bytes",
            env: ["STORE_SEGMENT_BYTES"],
            allowed: Allowed::PowerOfTwo(MIB, GIB),
            unit: Unit::Bytes,
        }
        /// Space that the broker leaves free in the file system of the store. No segment is made
        /// that would go below it: new messages are refused instead, until there is room.
        free_bytes_min: u64 = "268435456" {
            key: "store.free_bytes_min",
            env: ["STORE_FREE_BYTES_MIN"],
            allowed: Allowed::Range(0, 64 * TIB),
            unit: Unit::Bytes,
        }
        /// Messages of one core that may wait for their commit. When it is full, publishers wait;
        /// a single larger message passes alone.
        inflight_bytes_max: usize = "33554432" {
            key: "store.inflight_bytes_max",
            env: ["STORE_INFLIGHT_BYTES_MAX"],
            allowed: Allowed::Range(64 * KIB, 64 * GIB),
            unit: Unit::Bytes,
        }
        /// Channels that one log may hold; a store has a log for each core. A message to a further
        /// one is refused. 0: any number.
        channels_max: u64 = "0" {
            key: "store.max_queues",
            env: ["STORE_MAX_QUEUES"],
            allowed: Allowed::Range(0, COUNT_MAX),
            unit: Unit::Count("channels per log"),
        }
        /// Subscribers of the events store that one channel may have at a time. A further one is
        /// refused. 0: any number.
        subscribers_max: u64 = "0" {
            key: "store.max_subscribers",
            env: ["STORE_MAX_SUBSCRIBERS"],
            allowed: Allowed::Range(0, COUNT_MAX),
            unit: Unit::Count("subscribers per channel"),
        }
        /// Messages that one channel keeps; what happens at the limit says `store.when_full`. 0:
        /// any number.
        messages_max: u64 = "0" {
            key: "store.max_messages",
            env: ["STORE_MAX_MESSAGES"],
            allowed: Allowed::Range(0, COUNT_MAX),
            unit: Unit::Count("messages per channel"),
        }
        /// Bytes that one channel keeps, with what the log adds to a message; what happens at the
        /// limit says `store.when_full`. 0: any number.
        bytes_max: u64 = "0" {
            key: "store.max_queue_size",
            env: ["STORE_MAX_QUEUE_SIZE"],
            allowed: Allowed::Range(0, 64 * TIB),
            unit: Unit::Bytes,
        }
        /// What happens to a new message when its channel is at a limit: `reject` refuses it,
        /// `drop-oldest` removes the oldest ones to make room.
        when_full: WhenFull = "reject" {
            key: "store.when_full",
            env: ["STORE_WHEN_FULL"],
            allowed: Allowed::OneOf(WhenFull::WORDS),
        }
        /// Age at which events of the events store are removed. 0: never.
        retention: Option<Duration> = "1440" {
            key: "store.max_retention",
            env: ["STORE_MAX_RETENTION"],
            allowed: Allowed::Range(0, MINUTES_MAX),
            unit: Unit::Minutes,
        }
        /// How long a channel without messages and without durable subscriptions stays unused
        /// until it is deleted. 0: it stays.
        max_purge_inactive: Option<Duration> = "1440" {
            key: "store.max_purge_inactive",
            env: ["STORE_MAX_PURGE_INACTIVE"],
            allowed: Allowed::Range(0, MINUTES_MAX),
            unit: Unit::Minutes,
        }
        /// How long the position of a durable subscription is kept while nobody subscribes with
        /// it. 0: for ever, so that no client loses its place by being away.
        subscription_expiry: Option<Duration> = "0" {
            key: "store.subscription_expiry_minutes",
            env: ["STORE_SUBSCRIPTION_EXPIRY_MINUTES"],
            allowed: Allowed::Range(0, MINUTES_MAX),
            unit: Unit::Minutes,
        }
        /// Limits of the channels that match a pattern, in place of the general ones. Of several
        /// rules that match the first counts; what it leaves out is as in general.
        rules: ChannelRules = "" {
            key: "store.channel_rules",
            env: ["STORE_CHANNEL_RULES"],
            allowed: Allowed::ChannelRules,
        }
    }

    /// Queues.
    pub Queue {
        /// Messages that one unary call may receive. A call that asks for more is refused.
        messages_max: u32 = "1024" {
            key: "queue.max_number_of_messages",
            env: ["QUEUE_MAX_NUMBER_OF_MESSAGES"],
            allowed: Allowed::Range(1, 1_000_000),
            unit: Unit::Count("messages per call"),
        }
        /// Longest time that a unary call or a stream of single messages may wait for a message.
        /// A call that asks for more is refused.
        wait_max: Duration = "3600" {
            key: "queue.max_wait_timeout_seconds",
            env: ["QUEUE_MAX_WAIT_TIMEOUT_SECONDS"],
            allowed: Allowed::Range(1, SECONDS_MAX),
            unit: Unit::Seconds,
        }
        /// How long such a call waits when it does not say.
        wait_default: Duration = "1" {
            key: "queue.default_wait_timeout_seconds",
            env: ["QUEUE_DEFAULT_WAIT_TIMEOUT_SECONDS"],
            allowed: Allowed::Range(1, SECONDS_MAX),
            unit: Unit::Seconds,
        }
        /// Longest time after which a message may expire. A message that asks for more is refused.
        expiration_max: Duration = "43200" {
            key: "queue.max_expiration_seconds",
            env: ["QUEUE_MAX_EXPIRATION_SECONDS"],
            allowed: Allowed::Range(1, SECONDS_MAX),
            unit: Unit::Seconds,
        }
        /// Longest time that a message may be delayed. A message that asks for more is refused.
        delay_max: Duration = "43200" {
            key: "queue.max_delay_seconds",
            env: ["QUEUE_MAX_DELAY_SECONDS"],
            allowed: Allowed::Range(1, SECONDS_MAX),
            unit: Unit::Seconds,
        }
        /// How often a message may ask to be received before it is a dead letter; it counts too for
        /// a message that does not say. One that asks for more is refused.
        receives_max: u32 = "1024" {
            key: "queue.max_receive_count",
            env: ["QUEUE_MAX_RECEIVE_COUNT"],
            allowed: Allowed::Range(1, 1_000_000),
            unit: Unit::Count("deliveries per message"),
        }
        /// Longest time for which a consumer may have a message without settling it. A request for
        /// more is refused.
        visibility_max: Duration = "43200" {
            key: "queue.max_visibility_seconds",
            env: ["QUEUE_MAX_VISIBILITY_SECONDS"],
            allowed: Allowed::Range(1, SECONDS_MAX),
            unit: Unit::Seconds,
        }
        /// How long the consumer of a stream of single messages has a message when it does not say.
        visibility_default: Duration = "60" {
            key: "queue.default_visibility_seconds",
            env: ["QUEUE_DEFAULT_VISIBILITY_SECONDS"],
            allowed: Allowed::Range(1, SECONDS_MAX),
            unit: Unit::Seconds,
        }
        /// Whether messages are delivered with the MD5 of their bodies. It costs about as much as
        /// the rest of a message's way.
        body_md5: bool = "false" {
            key: "queue.body_md5",
            env: ["QUEUE_BODY_MD5"],
            allowed: BOOL,
        }
        /// Where a message goes that a consumer gave back or whose time with it ran out: `tail`
        /// behind the others, so that it does not block them, `in-place` where it was, for strict
        /// order.
        redelivery: Redelivery = "tail" {
            key: "queue.redelivery",
            env: ["QUEUE_REDELIVERY"],
            allowed: Allowed::OneOf(Redelivery::WORDS),
        }
        /// How long the consumer of a downstream stream has its messages when it does not say. 0:
        /// as long as its stream lives, as with the reference.
        visibility: Option<Duration> = "0" {
            key: "queue.visibility_seconds",
            env: ["QUEUE_VISIBILITY_SECONDS"],
            allowed: Allowed::Range(0, SECONDS_MAX),
            unit: Unit::Seconds,
        }
        /// Queue for dead letters that name none. Empty: they are dropped, as with the reference,
        /// and counted.
        dead_letter_queue: Option<Arc<str>> = "" {
            key: "queue.dead_letter_queue",
            env: ["QUEUE_DEAD_LETTER_QUEUE"],
            allowed: Allowed::OptionalChannel,
        }
    }

    /// Smart routing.
    pub Routing {
        /// Whether names `routes:<key>` are looked up in a routing table. Lists of channels need no
        /// table.
        enable: bool = "false" {
            key: "routing.enable",
            env: ["ROUTING_ENABLE"],
            allowed: BOOL,
        }
        /// The routing table itself: a JSON array of objects with `Key` and `Routes`.
        data: RoutingData = "" {
            key: "routing.data",
            env: ["ROUTING_DATA"],
            allowed: Allowed::RoutingTable,
        }
        /// File with the routing table. Empty: none.
        file_path: Option<PathBuf> = "" {
            key: "routing.file_path",
            env: ["ROUTING_FILE_PATH"],
            allowed: Allowed::OptionalPath,
        }
        /// Address to fetch the routing table from. This version fetches nothing: with a value it
        /// does not start.
        url: NoUrl = "" {
            key: "routing.url",
            env: ["ROUTING_URL"],
            allowed: Allowed::Empty,
        }
        /// How often it is looked whether the file with the routing table has changed. A new table
        /// that is bad is refused, and the one before stays. 0: never.
        auto_reload: Option<Duration> = "0" {
            key: "routing.auto_reload",
            env: ["ROUTING_AUTO_RELOAD"],
            allowed: Allowed::Range(0, 86_400),
            unit: Unit::Seconds,
        }
        /// Whether a key of the routing table must match the whole of what is asked for. `false`: a
        /// part of it is enough, as in the reference; for old tables.
        anchored: bool = "true" {
            key: "routing.anchored",
            env: ["ROUTING_ANCHORED"],
            allowed: BOOL,
        }
    }

    /// The log.
    pub Log {
        /// Least serious line that is written. The numbers 0 (trace) to 5 (fatal) are understood.
        level: LogLevel = "info" {
            key: "log.level",
            env: ["LOG_LEVEL"],
            flag: "--log-level",
            allowed: Allowed::OneOf(LogLevel::WORDS),
        }
        /// How lines look: for people, or one JSON object a line.
        format: LogFormat = "text" {
            key: "log.format",
            env: ["LOG_FORMAT"],
            flag: "--log-format",
            allowed: Allowed::OneOf(LogFormat::WORDS),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
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
        for key in reference::KEYS {
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
            let number = matches!(key.allowed, Allowed::Range(..) | Allowed::PowerOfTwo(..));
            let named = number && key.allowed != PORT;
            assert_eq!(named, key.unit != Unit::None, "{} has no unit", key.name);
        }
    }
}
