//! The contract: the `kubemq` service, gRPC health and reflection, as prost types; and OTLP, which
//! spans are exported with.
//!
//! The `.proto` files lie next to this crate's manifest. They are compiled without `protoc`.
//! Bodies are [`bytes::Bytes`], so that decoding from a `Bytes` buffer copies no payload.

#![forbid(unsafe_code)]

/// The `kubemq` package.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod kubemq {
    include!(concat!(env!("OUT_DIR"), "/kubemq.rs"));
}

/// The `grpc.health.v1` package.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

/// The `grpc.reflection.v1` package.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod reflection_v1 {
    include!(concat!(env!("OUT_DIR"), "/grpc.reflection.v1.rs"));
}

/// The `grpc.reflection.v1alpha` package.
#[allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod reflection_v1alpha {
    include!(concat!(env!("OUT_DIR"), "/grpc.reflection.v1alpha.rs"));
}

/// OTLP: how spans go to a collector of OpenTelemetry. Not part of what is served.
pub mod otlp {
    #[allow(
        clippy::all,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]
    mod generated {
        include!(concat!(env!("OUT_DIR"), "/otlp.rs"));
    }

    pub use generated::opentelemetry::proto::collector::trace::v1 as collector;
    pub use generated::opentelemetry::proto::common::v1 as common;
    pub use generated::opentelemetry::proto::resource::v1 as resource;
    pub use generated::opentelemetry::proto::trace::v1 as trace;

    /// Path of the method that takes spans.
    pub const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
}

/// An encoded `google.protobuf.FileDescriptorSet` of all files above, without source positions.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Full names of the services.
pub mod service {
    /// The broker.
    pub const KUBEMQ: &str = "kubemq.kubemq";
    /// Health.
    pub const HEALTH: &str = "grpc.health.v1.Health";
    /// Reflection.
    pub const REFLECTION_V1: &str = "grpc.reflection.v1.ServerReflection";
    /// Reflection, as older tools ask for it.
    pub const REFLECTION_V1ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";
}

/// Paths of the methods, as `:path` carries them.
pub mod method {
    /// Publishes one event.
    pub const SEND_EVENT: &str = "/kubemq.kubemq/SendEvent";
    /// Publishes events over one call.
    pub const SEND_EVENTS_STREAM: &str = "/kubemq.kubemq/SendEventsStream";
    /// Receives events or stored events.
    pub const SUBSCRIBE_TO_EVENTS: &str = "/kubemq.kubemq/SubscribeToEvents";
    /// Receives commands or queries.
    pub const SUBSCRIBE_TO_REQUESTS: &str = "/kubemq.kubemq/SubscribeToRequests";
    /// Sends a command or a query and waits for its answer.
    pub const SEND_REQUEST: &str = "/kubemq.kubemq/SendRequest";
    /// Answers a command or a query.
    pub const SEND_RESPONSE: &str = "/kubemq.kubemq/SendResponse";
    /// Sends one queue message.
    pub const SEND_QUEUE_MESSAGE: &str = "/kubemq.kubemq/SendQueueMessage";
    /// Sends several queue messages.
    pub const SEND_QUEUE_MESSAGES_BATCH: &str = "/kubemq.kubemq/SendQueueMessagesBatch";
    /// Receives or peeks queue messages.
    pub const RECEIVE_QUEUE_MESSAGES: &str = "/kubemq.kubemq/ReceiveQueueMessages";
    /// Holds one queue message at a time.
    pub const STREAM_QUEUE_MESSAGE: &str = "/kubemq.kubemq/StreamQueueMessage";
    /// Removes what is waiting in a queue.
    pub const ACK_ALL_QUEUE_MESSAGES: &str = "/kubemq.kubemq/AckAllQueueMessages";
    /// Says who answers, in which version and since when.
    pub const PING: &str = "/kubemq.kubemq/Ping";
    /// Receives queue messages in transactions.
    pub const QUEUES_DOWNSTREAM: &str = "/kubemq.kubemq/QueuesDownstream";
    /// Sends queue messages over one call.
    pub const QUEUES_UPSTREAM: &str = "/kubemq.kubemq/QueuesUpstream";
    /// Lists queues with their counts.
    pub const QUEUES_INFO: &str = "/kubemq.kubemq/QueuesInfo";

    /// Asks for the health of one service.
    pub const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
    /// Asks for the health of all services.
    pub const HEALTH_LIST: &str = "/grpc.health.v1.Health/List";
    /// Follows the health of one service.
    pub const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";
    /// Describes the services.
    pub const REFLECTION_V1: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    /// Describes the services to older tools.
    pub const REFLECTION_V1ALPHA: &str =
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::{FILE_DESCRIPTOR_SET, method};

    #[test]
    fn every_method_of_the_contract_has_its_path() {
        let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let mut paths = Vec::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    paths.push(format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
        paths.sort();
        let mut ours = vec![
            method::SEND_EVENT,
            method::SEND_EVENTS_STREAM,
            method::SUBSCRIBE_TO_EVENTS,
            method::SUBSCRIBE_TO_REQUESTS,
            method::SEND_REQUEST,
            method::SEND_RESPONSE,
            method::SEND_QUEUE_MESSAGE,
            method::SEND_QUEUE_MESSAGES_BATCH,
            method::RECEIVE_QUEUE_MESSAGES,
            method::STREAM_QUEUE_MESSAGE,
            method::ACK_ALL_QUEUE_MESSAGES,
            method::PING,
            method::QUEUES_DOWNSTREAM,
            method::QUEUES_UPSTREAM,
            method::QUEUES_INFO,
            method::HEALTH_CHECK,
            method::HEALTH_LIST,
            method::HEALTH_WATCH,
            method::REFLECTION_V1,
            method::REFLECTION_V1ALPHA,
        ];
        ours.sort_unstable();
        assert_eq!(paths, ours);
    }

    #[test]
    fn the_descriptor_set_carries_no_source_positions() {
        let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        assert!(set.file.iter().all(|file| file.source_code_info.is_none()));
    }
}
