//! The counters of one executor.
//!
//! The list below is the only place that names them: it makes the cells, the snapshot and what the
//! metrics endpoint says of each. Names follow `broker_<noun>_<unit>[_total]`; a family has at most
//! one label, with the few values that stand here.

use std::cell::Cell;
use std::fmt;

use serde::ser::{Serialize, SerializeMap, Serializer};

/// A count that only grows.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Counts one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts `amount`.
    pub fn add(&self, amount: u64) {
        self.0.set(self.0.get().wrapping_add(amount));
    }

    /// The count since the start.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.get()
    }
}

/// A level that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(Cell<u64>);

impl Gauge {
    /// Raises the level by one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Lowers the level by one.
    pub fn decrement(&self) {
        self.subtract(1);
    }

    /// Raises the level by `amount`.
    pub fn add(&self, amount: u64) {
        self.0.set(self.0.get().saturating_add(amount));
    }

    /// Lowers the level by `amount`. A level never shows below zero, whatever was miscounted.
    pub fn subtract(&self, amount: u64) {
        let level = self.0.get();
        debug_assert!(
            level >= amount,
            "a gauge was lowered by more than it was raised"
        );
        self.0.set(level.saturating_sub(amount));
    }

    /// Sets the level, for what is counted elsewhere.
    pub fn set(&self, level: u64) {
        self.0.set(level);
    }

    /// The level.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.get()
    }
}

/// How a sample may change from one scrape to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It rises and falls.
    Gauge,
}

/// One value with its name, as the metrics endpoint shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Name of the family; samples of one family follow one another.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: MetricKind,
    /// The labels, at most one.
    pub labels: &'static [(&'static str, &'static str)],
    /// What the family means, the same for all its samples.
    pub help: &'static str,
    /// The value.
    pub value: u64,
}

/// The sample's name with its labels, as in `broker_drops_total{reason="mesh_full"}`.
impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        for (label, value) in self.labels {
            write!(f, "{{{label}=\"{value}\"}}")?;
        }
        Ok(())
    }
}

macro_rules! cell_of {
    (counter) => {
        Counter
    };
    (gauge) => {
        Gauge
    };
}

macro_rules! kind_of {
    (counter) => {
        MetricKind::Counter
    };
    (gauge) => {
        MetricKind::Gauge
    };
}

/// The name of a sample with its label, for the documentation of its field.
macro_rules! sample_name {
    ($name:literal $(, $label:ident, $value:literal)?) => {
        concat!("(`", $name $(, "{", stringify!($label), "=\"", $value, "\"}")?, "`)")
    };
}

macro_rules! counters {
    ($(
        #[doc = $help:literal]
        $kind:ident $name:literal {
            $( $field:ident $(: $label:ident = $value:literal)? ),+ $(,)?
        }
    )+) => {
        /// The counters of one executor.
        ///
        /// # Threading
        /// Plain cells: they stay on their executor, [`Counters::snapshot`] may leave it.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(
                #[doc = $help]
                #[doc = sample_name!($name $(, $label, $value)?)]
                pub $field: cell_of!($kind),
            )+)+
        }

        impl Counters {
            /// The values of this moment.
            #[must_use]
            pub fn snapshot(&self) -> CountersSnapshot {
                CountersSnapshot { $($( $field: self.$field.value(), )+)+ }
            }
        }

        /// The values of one executor, or of several added up, at one moment.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct CountersSnapshot {
            $($(
                #[doc = $help]
                #[doc = sample_name!($name $(, $label, $value)?)]
                pub $field: u64,
            )+)+
        }

        impl CountersSnapshot {
            /// Adds the values of another executor.
            pub fn add(&mut self, other: &Self) {
                $($( self.$field = self.$field.wrapping_add(other.$field); )+)+
            }

            /// Every value with its name, family by family.
            pub fn iter(&self) -> impl Iterator<Item = Sample> {
                [$($(
                    Sample {
                        name: $name,
                        kind: kind_of!($kind),
                        labels: &[$( (stringify!($label), $value) )?],
                        help: $help.trim_ascii(),
                        value: self.$field,
                    },
                )+)+]
                .into_iter()
            }
        }
    };
}

counters! {
    /// Connections that are open.
    gauge "broker_connections" { connections }
    /// Connections that were accepted.
    counter "broker_connections_opened_total" { connections_opened }
    /// Connections that have ended, by what ended them.
    counter "broker_connections_closed_total" {
        connections_closed_by_peer: reason = "peer",
        connections_closed_keepalive: reason = "keepalive",
        connections_closed_abuse: reason = "abuse",
        connections_closed_error: reason = "error",
        connections_closed_shutdown: reason = "shutdown",
    }
    /// Connections that were turned away before they carried a call.
    counter "broker_connections_refused_total" {
        connections_refused_limit: reason = "limit",
        connections_refused_handshake: reason = "handshake",
    }
    /// Calls that were opened.
    counter "broker_streams_opened_total" { streams_opened }
    /// Violations of HTTP/2 or gRPC by a peer.
    counter "broker_protocol_errors_total" { protocol_errors }
    /// Bytes read from client sockets.
    counter "broker_received_bytes_total" { received_bytes }
    /// Bytes written to client sockets.
    counter "broker_sent_bytes_total" { sent_bytes }

    /// Events that publishers sent and that were accepted.
    counter "broker_events_received_total" { events_received }
    /// Bytes of accepted events, as they were on the wire.
    counter "broker_events_received_bytes_total" { events_received_bytes }
    /// Events handed to subscribers, counted for each of them.
    counter "broker_events_delivered_total" { events_delivered }
    /// Bytes of events handed to subscribers, counted for each of them.
    counter "broker_events_delivered_bytes_total" { events_delivered_bytes }
    /// Deliveries that were given up instead of made.
    counter "broker_drops_total" {
        drops_subscriber_full: reason = "subscriber_full",
        drops_mesh_full: reason = "mesh_full",
        drops_core_buffer_full: reason = "core_buffer_full",
        drops_no_member_with_room: reason = "no_member_with_room",
    }
    /// Records of accesses that went where they go: to subscribers, into the audit channel.
    counter "broker_notifications_total" {
        notifications_published: to = "subscribers",
        notifications_stored: to = "audit",
    }
    /// Records of accesses that were dropped.
    counter "broker_notification_drops_total" {
        notification_drops_buffer_full: reason = "buffer_full",
        notification_drops_mesh_full: reason = "mesh_full",
        notification_drops_store_full: reason = "store_full",
        notification_drops_store_failed: reason = "store_failed",
    }
    /// Spans that the collector took.
    counter "broker_spans_exported_total" { spans_exported }
    /// Spans that were recorded and dropped.
    counter "broker_span_drops_total" {
        span_drops_queue_full: reason = "queue_full",
        span_drops_refused: reason = "refused",
        span_drops_unreachable: reason = "unreachable",
        span_drops_shutdown: reason = "shutdown",
    }
    /// Messages and requests that were refused: the sender got an error.
    counter "broker_refusals_total" {
        refusals_invalid: reason = "invalid",
        refusals_mesh_full: reason = "mesh_full",
        refusals_pending_full: reason = "pending_full",
        refusals_shutdown: reason = "shutdown",
        refusals_unimplemented: reason = "unimplemented",
        refusals_client_id: reason = "client_id",
        refusals_too_large: reason = "too_large",
        refusals_store_limit: reason = "store_limit",
        refusals_store_busy: reason = "store_busy",
        refusals_disk_full: reason = "disk_full",
        refusals_log_failed: reason = "log_failed",
        refusals_unauthenticated: reason = "unauthenticated",
        refusals_denied: reason = "denied",
        refusals_limit: reason = "limit",
        refusals_overload: reason = "overload",
    }

    /// What a limit of `limits.*` refused; `slowed` are messages of streams that it held back.
    counter "broker_limits_reached_total" {
        limits_requests: limit = "requests_per_second",
        limits_bytes: limit = "bytes_per_second",
        limits_subscriptions: limit = "subscriptions_per_client",
        limits_slowed: limit = "slowed",
    }
    /// Cores that have more to do than they can, by what is short.
    gauge "broker_overloaded_cores" {
        overloaded_processor: reason = "processor",
        overloaded_store: reason = "store",
    }
    /// Senders whose stored message waits to be taken, because too much is in flight.
    gauge "broker_store_senders_waiting" { store_senders_waiting }
    /// Bytes of stored messages that may be in flight, for their wait to stay short.
    gauge "broker_store_room_bytes" { store_room_bytes }

    /// Stored events that publishers sent and that are durable.
    counter "broker_events_store_received_total" { events_store_received }
    /// Bytes of durable stored events, as they lie in the log.
    counter "broker_events_store_received_bytes_total" { events_store_received_bytes }
    /// Stored events handed to subscribers, counted for each of them and each time.
    counter "broker_events_store_delivered_total" { events_store_delivered }
    /// Bytes of stored events handed to subscribers, counted for each of them and each time.
    counter "broker_events_store_delivered_bytes_total" { events_store_delivered_bytes }
    /// Messages of queues that are durable.
    counter "broker_queue_received_total" { queue_received }
    /// Bytes of messages of queues that were accepted, as they lie in the log.
    counter "broker_queue_received_bytes_total" { queue_received_bytes }
    /// Messages of queues handed to consumers, counted each time.
    counter "broker_queue_delivered_total" { queue_delivered }
    /// Bytes of messages of queues handed to consumers, counted each time.
    counter "broker_queue_delivered_bytes_total" { queue_delivered_bytes }
    /// Messages of queues handed to consumers that had been received before.
    counter "broker_queue_redelivered_total" { queue_redelivered }
    /// Messages of queues that were looked at and left in place.
    counter "broker_queue_peeked_total" { queue_peeked }
    /// What consumers have done with messages of queues.
    counter "broker_queue_settled_total" {
        queue_acked: action = "ack",
        queue_nacked: action = "nack",
        queue_returned: action = "return",
        queue_sent_on: action = "move",
    }
    /// Settlements of queues that were refused: the lease was over.
    counter "broker_queue_leases_lost_total" { queue_leases_lost }
    /// Leases of queues whose time was over.
    counter "broker_queue_leases_expired_total" { queue_leases_expired }
    /// Messages of queues that went to the tail.
    counter "broker_queue_requeued_total" { queue_requeued }
    /// Messages that left queues otherwise than by being acknowledged.
    counter "broker_queue_removed_total" {
        queue_expired: reason = "expired",
        queue_dropped: reason = "receives",
        queue_dead_lettered: reason = "dead_letter",
        queue_moved: reason = "moved",
        queue_purged: reason = "purged",
        queue_overflowed: reason = "overflow",
        queue_damaged: reason = "damaged",
    }
    /// Messages of queues that the next poll may get.
    gauge "broker_queue_waiting" { queue_waiting }
    /// Messages of queues that consumers have leased.
    gauge "broker_queue_leased" { queue_leased }
    /// Messages of queues that become visible later.
    gauge "broker_queue_delayed" { queue_delayed }
    /// Messages of queues on their way to another queue.
    gauge "broker_queue_moving" { queue_moving }
    /// Polls of queues that wait for messages.
    gauge "broker_queue_polls_waiting" { queue_polls_waiting }
    /// Calls and streams that take messages from queues.
    gauge "broker_queue_consumers" { queue_consumers }
    /// Publishers' messages that wait to be durable.
    gauge "broker_receipts_waiting" { receipts_waiting }
    /// Channels with stored messages.
    gauge "broker_stored_channels" { stored_channels }
    /// Durable positions of subscribers.
    gauge "broker_cursors" { cursors }
    /// Durable positions that were moved on.
    counter "broker_cursor_moves_total" { cursor_moves }
    /// Times that messages at the beginning of a channel were given up to its retention.
    counter "broker_trims_total" { trims }
    /// Messages that were given up to the retention of their channel.
    counter "broker_trimmed_messages_total" { trimmed_messages }
    /// Messages that can no longer be read because their bytes on the disk are damaged.
    counter "broker_damaged_messages_total" { damaged_messages }

    /// Batches that were made durable together.
    counter "broker_log_commits_total" { commits }
    /// Bytes of those batches.
    counter "broker_log_commit_bytes_total" { commit_bytes }
    /// Frames of those batches.
    counter "broker_log_commit_frames_total" { commit_frames }
    /// Syncs of log files.
    counter "broker_log_syncs_total" { log_syncs }
    /// Windows of cold segments that were brought into memory for reading.
    counter "broker_log_warms_total" { warms }
    /// Bytes of those windows.
    counter "broker_log_warmed_bytes_total" { warmed_bytes }
    /// Steps of the log's upkeep: segments made, indexed and dropped, checkpoints written.
    counter "broker_log_jobs_total" { log_jobs }
    /// Steps of the log's upkeep that failed and are tried again.
    counter "broker_log_job_failures_total" { log_job_failures }
    /// Bytes that the log takes on the disk.
    gauge "broker_log_bytes" { log_bytes }
    /// Bytes of the log that hold messages still kept.
    gauge "broker_log_live_bytes" { log_live_bytes }
    /// Segments of the log, those in reserve included.
    gauge "broker_log_segments" { log_segments }
    /// Bytes that the index of the log takes in memory.
    gauge "broker_log_index_bytes" { log_index_bytes }
    /// Logs that take no more writes because a write or a sync failed.
    gauge "broker_log_failed" { log_failed }
    /// Logs that take no more messages because the disk has no room for another segment.
    gauge "broker_log_full" { log_full }

    /// Requests that callers sent and that were accepted.
    counter "broker_requests_received_total" {
        commands_received: kind = "commands",
        queries_received: kind = "queries",
    }
    /// Requests that a responder, or the query cache, answered in time.
    counter "broker_requests_answered_total" {
        commands_answered: kind = "commands",
        queries_answered: kind = "queries",
    }
    /// Requests that nobody answered in time.
    counter "broker_requests_timed_out_total" {
        commands_timed_out: kind = "commands",
        queries_timed_out: kind = "queries",
    }
    /// Requests whose caller went away before the answer.
    counter "broker_requests_cancelled_total" {
        commands_cancelled: kind = "commands",
        queries_cancelled: kind = "queries",
    }
    /// Requests that wait for their answer.
    gauge "broker_requests_pending" { requests_pending }
    /// Responses that reached nobody.
    counter "broker_responses_dropped_total" {
        responses_late: reason = "late",
        responses_unknown: reason = "unknown",
    }
    /// Queries with a cache key that were answered from the cache.
    counter "broker_query_cache_hits_total" { query_cache_hits }
    /// Queries with a cache key that went to a responder.
    counter "broker_query_cache_misses_total" { query_cache_misses }
    /// Cached responses that had to make room.
    counter "broker_query_cache_evictions_total" { query_cache_evictions }
    /// Bytes that the query cache holds.
    gauge "broker_query_cache_bytes" { query_cache_bytes }

    /// Subscriptions that exist.
    gauge "broker_subscriptions" {
        subscriptions_events: kind = "events",
        subscriptions_commands: kind = "commands",
        subscriptions_queries: kind = "queries",
        subscriptions_events_store: kind = "events_store",
    }
    /// Subscriptions that were added.
    counter "broker_subscriptions_added_total" {
        subscriptions_added_events: kind = "events",
        subscriptions_added_commands: kind = "commands",
        subscriptions_added_queries: kind = "queries",
        subscriptions_added_events_store: kind = "events_store",
    }
    /// Subscriptions that were removed.
    counter "broker_subscriptions_removed_total" {
        subscriptions_removed_events: kind = "events",
        subscriptions_removed_commands: kind = "commands",
        subscriptions_removed_queries: kind = "queries",
        subscriptions_removed_events_store: kind = "events_store",
    }
    /// Bytes that wait in subscribers' buffers.
    gauge "broker_delivery_buffer_bytes" { delivery_buffer_bytes }

    /// Batches sent to other executors.
    counter "broker_mesh_batches_total" { mesh_batches }
    /// Messages sent to other executors.
    counter "broker_mesh_messages_total" { mesh_messages }
    /// Messages that wait to leave for other executors.
    gauge "broker_mesh_depth" { mesh_depth }
    /// Subscriptions that executors hold for their channels; each holds those with wildcards.
    gauge "broker_subscriptions_held" { subscriptions_held }
    /// Timers that are set.
    gauge "broker_timers" { timers }
    /// Tasks that have not ended.
    gauge "broker_tasks" { tasks }
    /// Turns in which the tasks of an executor kept its core for more than a millisecond.
    counter "broker_executor_stalls_total" { executor_stalls }
    /// Tasks that ended in a panic: each one is a bug.
    counter "broker_task_panics_total" { task_panics }
}

/// An object with one member for each sample, named as [`Sample`] displays it.
impl Serialize for CountersSnapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for sample in self.iter() {
            map.serialize_entry(&sample.to_string(), &sample.value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn snapshots_of_executors_add_up() {
        let (a, b) = (Counters::default(), Counters::default());
        a.events_received.add(5);
        b.events_received.increment();
        b.connections.increment();
        b.connections.increment();
        b.connections.decrement();
        let mut sum = a.snapshot();
        sum.add(&b.snapshot());
        assert_eq!((sum.events_received, sum.connections), (6, 1));
        assert_eq!(sum.iter().map(|sample| sample.value).sum::<u64>(), 7);
    }

    #[test]
    fn names_follow_the_convention() {
        for sample in CountersSnapshot::default().iter() {
            let name = sample.name;
            assert!(name.starts_with("broker_"), "{name}");
            let is_counter = sample.kind == MetricKind::Counter;
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            assert!(
                sample.help.ends_with('.') && sample.help.trim() == sample.help,
                "{name}"
            );
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{name}"
            );
        }
    }

    #[test]
    fn samples_are_unique_and_families_stay_together() {
        let (mut seen, mut families) = (HashSet::new(), Vec::new());
        for sample in CountersSnapshot::default().iter() {
            assert!(seen.insert(sample.to_string()), "{sample} stands twice");
            if families.last() != Some(&sample.name) {
                families.push(sample.name);
            }
        }
        let unique: HashSet<_> = families.iter().collect();
        assert_eq!(unique.len(), families.len(), "a family is torn apart");
    }

    #[test]
    fn json_names_the_labels() {
        let snapshot = CountersSnapshot {
            drops_mesh_full: 3,
            ..CountersSnapshot::default()
        };
        let json = serde_json::to_value(&snapshot).unwrap();
        assert_eq!(json["broker_drops_total{reason=\"mesh_full\"}"], 3);
        assert_eq!(json["broker_connections"], 0);
    }
}
