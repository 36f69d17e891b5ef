//! The engine, and what concerns every message.

use std::time::Duration;

use super::{BOOL, GIB, KIB, MIB};
use crate::config::cpus::CpuList;
use crate::config::fold::Fold;
use crate::config::key::{Allowed, Key, Unit};

settings! {
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

    /// What the reference says of its internal broker and means for ours.
    pub(in crate::config) Broker {
        /// Largest message, whichever way it comes: a second bound beside `grpc.body_limit` and
        /// `rest.body_limit`, of which the smallest counts. 0: none.
        max_payload: u64 = "0" {
            key: "broker.max_payload",
            env: ["BROKER_MAX_PAYLOAD"],
            allowed: Allowed::Range(0, GIB),
            unit: Unit::Bytes,
        }
    }
}
