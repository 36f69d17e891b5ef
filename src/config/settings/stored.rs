//! What is stored, and where messages go.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{BOOL, COUNT_MAX, GIB, KIB, MIB, MINUTES_MAX, SECONDS_MAX, TIB};
use crate::config::fold::Fold;
use crate::config::key::{Allowed, Key, Redelivery, Sync, Unit, WhenFull};
use crate::config::routing::{NoUrl, RoutingData};
use crate::config::rules::ChannelRules;
use crate::config::secret::Secret;

settings! {
    /// The store.
    pub Store with encryption: Encryption {
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
            live: true,
        }
        /// Subscribers of the events store that one channel may have at a time. A further one is
        /// refused. 0: any number.
        subscribers_max: u64 = "0" {
            key: "store.max_subscribers",
            env: ["STORE_MAX_SUBSCRIBERS"],
            allowed: Allowed::Range(0, COUNT_MAX),
            unit: Unit::Count("subscribers per channel"),
            live: true,
        }
        /// Messages that one channel keeps; what happens at the limit says `store.when_full`. 0:
        /// any number.
        messages_max: u64 = "0" {
            key: "store.max_messages",
            env: ["STORE_MAX_MESSAGES"],
            allowed: Allowed::Range(0, COUNT_MAX),
            unit: Unit::Count("messages per channel"),
            live: true,
        }
        /// Bytes that one channel keeps, with what the log adds to a message; what happens at the
        /// limit says `store.when_full`. 0: any number.
        bytes_max: u64 = "0" {
            key: "store.max_queue_size",
            env: ["STORE_MAX_QUEUE_SIZE"],
            allowed: Allowed::Range(0, 64 * TIB),
            unit: Unit::Bytes,
            live: true,
        }
        /// What happens to a new message when its channel is at a limit: `reject` refuses it,
        /// `drop-oldest` removes the oldest ones to make room.
        when_full: WhenFull = "reject" {
            key: "store.when_full",
            env: ["STORE_WHEN_FULL"],
            allowed: Allowed::OneOf(WhenFull::WORDS),
            live: true,
        }
        /// Age at which events of the events store are removed. 0: never.
        retention: Option<Duration> = "1440" {
            key: "store.max_retention",
            env: ["STORE_MAX_RETENTION"],
            allowed: Allowed::Range(0, MINUTES_MAX),
            unit: Unit::Minutes,
            live: true,
        }
        /// How long a channel without messages and without durable subscriptions stays unused
        /// until it is deleted. 0: it stays.
        max_purge_inactive: Option<Duration> = "1440" {
            key: "store.max_purge_inactive",
            env: ["STORE_MAX_PURGE_INACTIVE"],
            allowed: Allowed::Range(0, MINUTES_MAX),
            unit: Unit::Minutes,
            live: true,
        }
        /// How long the position of a durable subscription is kept while nobody subscribes with
        /// it. 0: for ever, so that no client loses its place by being away.
        subscription_expiry: Option<Duration> = "0" {
            key: "store.subscription_expiry_minutes",
            env: ["STORE_SUBSCRIPTION_EXPIRY_MINUTES"],
            allowed: Allowed::Range(0, MINUTES_MAX),
            unit: Unit::Minutes,
            live: true,
        }
        /// Limits of the channels that match a pattern, in place of the general ones. Of several
        /// rules that match the first counts; what it leaves out is as in general.
        rules: ChannelRules = "" {
            key: "store.channel_rules",
            env: ["STORE_CHANNEL_RULES"],
            allowed: Allowed::ChannelRules,
            live: true,
        }
    }

    /// What of the store is sealed.
    pub Encryption {
        /// Whether segments of the log, and what is kept beside them, are encrypted from now on.
        /// Those that were written before are read as they are.
        enable: bool = "false" {
            key: "store.encryption.enable",
            env: ["STORE_ENCRYPTION_ENABLE"],
            allowed: BOOL,
        }
        /// File with the master keys, one a line: the first writes, all of them read. Empty: none.
        key_file: Option<PathBuf> = "" {
            key: "store.encryption.key_file",
            env: ["STORE_ENCRYPTION_KEY_FILE"],
            allowed: Allowed::OptionalPath,
        }
        /// The same keys in place of a file.
        key: Secret = "" {
            key: "store.encryption.key",
            env: ["STORE_ENCRYPTION_KEY"],
            allowed: Allowed::Text,
            secret: true,
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
            live: true,
        }
        /// Longest time that a unary call or a stream of single messages may wait for a message.
        /// A call that asks for more is refused.
        wait_max: Duration = "3600" {
            key: "queue.max_wait_timeout_seconds",
            env: ["QUEUE_MAX_WAIT_TIMEOUT_SECONDS"],
            allowed: Allowed::Range(1, SECONDS_MAX),
            unit: Unit::Seconds,
            live: true,
        }
        /// How long such a call waits when it does not say.
        wait_default: Duration = "1" {
            key: "queue.default_wait_timeout_seconds",
            env: ["QUEUE_DEFAULT_WAIT_TIMEOUT_SECONDS"],
            allowed: Allowed::Range(1, SECONDS_MAX),
            unit: Unit::Seconds,
            live: true,
        }
        /// Longest time after which a message may expire. A message that asks for more is refused.
        expiration_max: Duration = "43200" {
            key: "queue.max_expiration_seconds",
            env: ["QUEUE_MAX_EXPIRATION_SECONDS"],
            allowed: Allowed::Range(1, SECONDS_MAX),
            unit: Unit::Seconds,
            live: true,
        }
        /// Longest time that a message may be delayed. A message that asks for more is refused.
        delay_max: Duration = "43200" {
            key: "queue.max_delay_seconds",
            env: ["QUEUE_MAX_DELAY_SECONDS"],
            allowed: Allowed::Range(1, SECONDS_MAX),
            unit: Unit::Seconds,
            live: true,
        }
        /// How often a message may ask to be received before it is a dead letter; it counts too for
        /// a message that does not say. One that asks for more is refused.
        receives_max: u32 = "1024" {
            key: "queue.max_receive_count",
            env: ["QUEUE_MAX_RECEIVE_COUNT"],
            allowed: Allowed::Range(1, 1_000_000),
            unit: Unit::Count("deliveries per message"),
            live: true,
        }
        /// Longest time for which a consumer may have a message without settling it. A request for
        /// more is refused.
        visibility_max: Duration = "43200" {
            key: "queue.max_visibility_seconds",
            env: ["QUEUE_MAX_VISIBILITY_SECONDS"],
            allowed: Allowed::Range(1, SECONDS_MAX),
            unit: Unit::Seconds,
            live: true,
        }
        /// How long the consumer of a stream of single messages has a message when it does not say.
        visibility_default: Duration = "60" {
            key: "queue.default_visibility_seconds",
            env: ["QUEUE_DEFAULT_VISIBILITY_SECONDS"],
            allowed: Allowed::Range(1, SECONDS_MAX),
            unit: Unit::Seconds,
            live: true,
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
            live: true,
        }
        /// How long the consumer of a downstream stream has its messages when it does not say. 0:
        /// as long as its stream lives, as with the reference.
        visibility: Option<Duration> = "0" {
            key: "queue.visibility_seconds",
            env: ["QUEUE_VISIBILITY_SECONDS"],
            allowed: Allowed::Range(0, SECONDS_MAX),
            unit: Unit::Seconds,
            live: true,
        }
        /// Queue for dead letters that name none. Empty: they are dropped, as with the reference,
        /// and counted.
        dead_letter_queue: Option<Arc<str>> = "" {
            key: "queue.dead_letter_queue",
            env: ["QUEUE_DEAD_LETTER_QUEUE"],
            allowed: Allowed::OptionalChannel,
            live: true,
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
            live: true,
        }
        /// The routing table itself: a JSON array of objects with `Key` and `Routes`.
        data: RoutingData = "" {
            key: "routing.data",
            env: ["ROUTING_DATA"],
            allowed: Allowed::JsonArray,
            live: true,
        }
        /// File with the routing table. Empty: none.
        file_path: Option<PathBuf> = "" {
            key: "routing.file_path",
            env: ["ROUTING_FILE_PATH"],
            allowed: Allowed::OptionalPath,
            live: true,
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
            live: true,
        }
        /// Whether a key of the routing table must match the whole of what is asked for. `false`: a
        /// part of it is enough, as in the reference; for old tables.
        anchored: bool = "true" {
            key: "routing.anchored",
            env: ["ROUTING_ANCHORED"],
            allowed: BOOL,
            live: true,
        }
    }
}
