//! What the configuration means to each part of an executor.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::config::{self, Config, Redelivery, Store, Sync, WhenFull};
use crate::engine::stored::Limits;
use crate::grpc::QueueLimits;
use crate::notifications;
use crate::rt::file::FileHook;
use crate::security::limits;
use crate::shard::{ChannelPolicy, LaneBounds, QueuePolicy, Settings, StoredSettings};
use crate::wire::server::Settings as WireSettings;
use crate::wire::status::Code;

/// What the unfinished messages of one connection may hold at least, when the limit of a message
/// is small: many of them may arrive side by side.
const GATHER_BYTES_MIN: usize = 32 << 20;

/// The settings of an executor that a reload replaces.
pub(super) type Live = Rc<RefCell<Arc<Config>>>;

/// The node's name as the reference tells it: without dots, and never beginning with a digit.
pub(super) fn ping_host(host: &str) -> String {
    let name = host.replace('.', "_");
    match name.chars().next() {
        Some(first) if first.is_ascii_digit() => format!("kubemq-{name}"),
        _ => name,
    }
}

pub(super) fn shard_settings(config: &Config) -> Settings {
    Settings {
        subscriber_buffer_bytes: config.grpc.subscriber_buffer_bytes,
        delivery_buffer_bytes_max: config.engine.delivery_buffer_bytes_max,
        pending_requests_max: config.engine.pending_requests_max,
        match_cache_entries: config.engine.match_cache_entries,
        query_cache_bytes: config.engine.query_cache_bytes,
        lane: LaneBounds {
            messages_max: config.engine.mesh_lane_messages_max,
            bytes_max: config.engine.mesh_lane_bytes_max,
        },
        fail_fast: config.requests.fail_fast,
    }
}

pub(super) fn stored_settings(
    live: &Live,
    file_hook: Option<fn() -> Rc<dyn FileHook>>,
) -> StoredSettings {
    let (config, policies) = (live.borrow(), live.clone());
    let store = &config.store;
    StoredSettings {
        strict: store.sync == Sync::Strict,
        sync_interval: store.sync_interval,
        inflight_bytes_max: store.inflight_bytes_max,
        framing: crate::grpc::stored_framing(),
        queue_framing: crate::grpc::queue_framing(config.queue.body_md5),
        policy: Box::new(move |channel| {
            let config = policies.borrow();
            ChannelPolicy {
                retention: config.retention_for(channel),
                ..channel_policy(&config.store, &config.queue, channel)
            }
        }),
        cursor_expiry: Cell::new(store.subscription_expiry),
        purge_inactive: Cell::new(store.max_purge_inactive),
        file_hook: file_hook.map(|make| make()),
    }
}

/// Where the records of accesses go.
pub(super) fn notification_settings(config: &Config) -> notifications::Settings {
    let (notification, audit) = (&config.notification, &config.audit);
    notifications::Settings {
        prefix: notification
            .enable
            .then(|| notification.prefix.as_str().into()),
        log: notification.enable && notification.log,
        audit: audit.enable.then(|| audit.channel.as_str().into()),
    }
}

/// What the contract's calls of queues may ask for.
pub(super) const fn queue_limits(queues: &config::Queue) -> QueueLimits {
    QueueLimits {
        messages_max: queues.messages_max,
        wait_max: queues.wait_max,
        wait_default: queues.wait_default,
        expiration_max: queues.expiration_max,
        delay_max: queues.delay_max,
        receives_max: queues.receives_max,
        visibility_max: queues.visibility_max,
        visibility_default: queues.visibility_default,
    }
}

/// How much somebody may do.
pub(super) fn limit_settings(limits: &config::Limits) -> limits::Settings {
    limits::Settings {
        requests_per_second: limits.requests_per_second.into(),
        requests_burst: limits.requests_burst.into(),
        bytes_per_second: limits.bytes_per_second,
        bytes_burst: limits.bytes_burst,
        subscriptions_per_client: u32::try_from(limits.subscriptions_per_client)
            .unwrap_or(u32::MAX),
    }
}

/// What a channel is allowed, by the settings and their rules.
fn channel_policy(store: &Store, queues: &config::Queue, channel: &str) -> ChannelPolicy {
    let limits = store.limits_for(channel);
    let rules = queues.rules_for(store, channel);
    ChannelPolicy {
        limits: Limits {
            channels_max: store.channels_max,
            messages_max: limits.messages_max,
            bytes_max: limits.bytes_max,
            drop_oldest: limits.when_full == WhenFull::DropOldest,
            ..Limits::default()
        },
        retention: limits.retention,
        receivers_max: usize::try_from(store.subscribers_max).unwrap_or(usize::MAX),
        queue: QueuePolicy {
            in_place: rules.redelivery == Redelivery::InPlace,
            visibility: rules.visibility,
            visibility_max: queues.visibility_max,
            receives_max: queues.receives_max,
            dead_letter: rules.dead_letter_queue,
        },
    }
}

pub(super) fn wire_settings(config: &Config) -> WireSettings {
    let grpc = &config.grpc;
    let settings = WireSettings {
        stream_window_bytes: grpc.initial_window_bytes,
        connection_window_bytes: grpc.connection_window_bytes,
        concurrent_streams_max: grpc.max_concurrent_streams,
        message_bytes_max: grpc.body_limit,
        gather_bytes_max: grpc.body_limit.saturating_mul(2).max(GATHER_BYTES_MIN),
        keepalive_time: grpc.keepalive_time,
        keepalive_timeout: grpc.keepalive_timeout,
        handshake_timeout: grpc.handshake_timeout,
        connection_age_max: grpc.max_connection_age,
        // A handler that panicked, in the reference's words.
        abandoned: (
            Code::Unknown,
            "Error 200: server crushed and recovered".into(),
        ),
        ..WireSettings::default()
    };
    match config.limits.connection_memory_bytes {
        0 => settings,
        bytes_max => within(settings, bytes_max),
    }
}

/// Bounds what waits on a connection: unread bytes, unfinished messages, what streams send and what
/// answers calls may each have a quarter. A message that does not fit is refused.
fn within(settings: WireSettings, bytes_max: usize) -> WireSettings {
    /// With less, hardly anything would come through.
    const PART_BYTES_MIN: usize = 64 << 10;
    let part = (bytes_max / 4).max(PART_BYTES_MIN);
    let window = u32::try_from(part).unwrap_or(u32::MAX);
    WireSettings {
        stream_window_bytes: settings.stream_window_bytes.min(window),
        connection_window_bytes: settings.connection_window_bytes.min(window),
        gather_bytes_max: settings.gather_bytes_max.min(part),
        stream_send_bytes_max: settings.stream_send_bytes_max.min(part),
        connection_send_bytes_max: settings.connection_send_bytes_max.min(part),
        answers_bytes_max: settings.answers_bytes_max.min(part),
        ..settings
    }
}
