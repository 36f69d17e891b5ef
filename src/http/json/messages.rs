//! The table: the fields of every message that travels on REST or on a socket, by their numbers.

use ringmq_proto::kubemq;

use super::value::{Read, Value};
use super::{Field, JsonMessage};

/// How the type is read that a field has.
const fn reader_of<M, V: Value>(_field: fn(&M) -> &V) -> Read {
    V::read
}

macro_rules! messages {
    ($($message:ident {
        $($number:literal $name:literal => $field:ident $(as $enumeration:literal)?,)*
    })*) => {$(
        impl JsonMessage for kubemq::$message {
            const NAME: &'static str = concat!("kubemq.", stringify!($message));
            const LIST_NAME: &'static str = concat!("[]*kubemq.", stringify!($message));
            const FIELDS: &'static [Field<Self>] = &[$(Field {
                number: $number,
                name: $name,
                enumeration: messages!(@optional $($enumeration)?),
                get: |message| &message.$field,
                read: reader_of(|message: &Self| &message.$field),
            },)*];
        }
    )*};
    (@optional) => { None };
    (@optional $enumeration:literal) => { Some($enumeration) };
}

messages! {
    Empty {}

    PingResult {
        1 "Host" => host,
        2 "Version" => version,
        3 "ServerStartTime" => server_start_time,
        4 "ServerUpTimeSeconds" => server_up_time_seconds,
    }

    Result {
        1 "EventID" => event_id,
        2 "Sent" => sent,
        3 "Error" => error,
    }

    Event {
        1 "EventID" => event_id,
        2 "ClientID" => client_id,
        3 "Channel" => channel,
        4 "Metadata" => metadata,
        5 "Body" => body,
        6 "Store" => store,
        7 "Tags" => tags,
    }

    EventReceive {
        1 "EventID" => event_id,
        2 "Channel" => channel,
        3 "Metadata" => metadata,
        4 "Body" => body,
        5 "Timestamp" => timestamp,
        6 "Sequence" => sequence,
        7 "Tags" => tags,
    }

    Request {
        1 "RequestID" => request_id,
        2 "RequestTypeData" => request_type_data as "kubemq.Request_RequestType",
        3 "ClientID" => client_id,
        4 "Channel" => channel,
        5 "Metadata" => metadata,
        6 "Body" => body,
        7 "ReplyChannel" => reply_channel,
        8 "Timeout" => timeout,
        9 "CacheKey" => cache_key,
        10 "CacheTTL" => cache_ttl,
        11 "Span" => span,
        12 "Tags" => tags,
    }

    Response {
        1 "ClientID" => client_id,
        2 "RequestID" => request_id,
        3 "ReplyChannel" => reply_channel,
        4 "Metadata" => metadata,
        5 "Body" => body,
        6 "CacheHit" => cache_hit,
        7 "Timestamp" => timestamp,
        8 "Executed" => executed,
        9 "Error" => error,
        10 "Span" => span,
        11 "Tags" => tags,
    }

    QueueMessage {
        1 "MessageID" => message_id,
        2 "ClientID" => client_id,
        3 "Channel" => channel,
        4 "Metadata" => metadata,
        5 "Body" => body,
        6 "Tags" => tags,
        7 "Attributes" => attributes,
        8 "Policy" => policy,
        9 "Topic" => topic,
        10 "Partition" => partition,
        11 "PartitionKey" => partition_key,
    }

    QueueMessagesBatchRequest {
        1 "BatchID" => batch_id,
        2 "Messages" => messages,
    }

    QueueMessagesBatchResponse {
        1 "BatchID" => batch_id,
        2 "Results" => results,
        3 "HaveErrors" => have_errors,
    }

    QueueMessageAttributes {
        1 "Timestamp" => timestamp,
        2 "Sequence" => sequence,
        3 "MD5OfBody" => md5_of_body,
        4 "ReceiveCount" => receive_count,
        5 "ReRouted" => re_routed,
        6 "ReRoutedFromQueue" => re_routed_from_queue,
        7 "ExpirationAt" => expiration_at,
        8 "DelayedTo" => delayed_to,
    }

    QueueMessagePolicy {
        1 "ExpirationSeconds" => expiration_seconds,
        2 "DelaySeconds" => delay_seconds,
        3 "MaxReceiveCount" => max_receive_count,
        4 "MaxReceiveQueue" => max_receive_queue,
    }

    SendQueueMessageResult {
        1 "MessageID" => message_id,
        2 "SentAt" => sent_at,
        3 "ExpirationAt" => expiration_at,
        4 "DelayedTo" => delayed_to,
        5 "IsError" => is_error,
        6 "Error" => error,
        7 "RefChannel" => ref_channel,
        8 "RefTopic" => ref_topic,
        9 "RefPartition" => ref_partition,
        10 "RefHash" => ref_hash,
    }

    ReceiveQueueMessagesRequest {
        1 "RequestID" => request_id,
        2 "ClientID" => client_id,
        3 "Channel" => channel,
        4 "MaxNumberOfMessages" => max_number_of_messages,
        5 "WaitTimeSeconds" => wait_time_seconds,
        6 "IsPeak" => is_peak,
    }

    ReceiveQueueMessagesResponse {
        1 "RequestID" => request_id,
        2 "Messages" => messages,
        3 "MessagesReceived" => messages_received,
        4 "MessagesExpired" => messages_expired,
        5 "IsPeak" => is_peak,
        6 "IsError" => is_error,
        7 "Error" => error,
    }

    AckAllQueueMessagesRequest {
        1 "RequestID" => request_id,
        2 "ClientID" => client_id,
        3 "Channel" => channel,
        4 "WaitTimeSeconds" => wait_time_seconds,
    }

    AckAllQueueMessagesResponse {
        1 "RequestID" => request_id,
        2 "AffectedMessages" => affected_messages,
        3 "IsError" => is_error,
        4 "Error" => error,
    }

    StreamQueueMessagesRequest {
        1 "RequestID" => request_id,
        2 "ClientID" => client_id,
        3 "StreamRequestTypeData" => stream_request_type_data as "kubemq.StreamRequestType",
        4 "Channel" => channel,
        5 "VisibilitySeconds" => visibility_seconds,
        6 "WaitTimeSeconds" => wait_time_seconds,
        7 "RefSequence" => ref_sequence,
        8 "ModifiedMessage" => modified_message,
    }

    StreamQueueMessagesResponse {
        1 "RequestID" => request_id,
        2 "StreamRequestTypeData" => stream_request_type_data as "kubemq.StreamRequestType",
        3 "Message" => message,
        4 "IsError" => is_error,
        5 "Error" => error,
    }

    QueuesUpstreamRequest {
        1 "RequestID" => request_id,
        2 "Messages" => messages,
    }

    QueuesUpstreamResponse {
        1 "RefRequestID" => ref_request_id,
        2 "Results" => results,
        3 "IsError" => is_error,
        4 "Error" => error,
    }

    QueuesDownstreamRequest {
        1 "RequestID" => request_id,
        2 "ClientID" => client_id,
        3 "RequestTypeData" => request_type_data as "kubemq.QueuesDownstreamRequestType",
        4 "Channel" => channel,
        5 "MaxItems" => max_items,
        6 "WaitTimeout" => wait_timeout,
        7 "AutoAck" => auto_ack,
        8 "ReQueueChannel" => re_queue_channel,
        9 "SequenceRange" => sequence_range,
        10 "RefTransactionId" => ref_transaction_id,
        12 "Metadata" => metadata,
    }

    QueuesDownstreamResponse {
        1 "TransactionId" => transaction_id,
        2 "RefRequestId" => ref_request_id,
        3 "RequestTypeData" => request_type_data as "kubemq.QueuesDownstreamRequestType",
        4 "Messages" => messages,
        5 "ActiveOffsets" => active_offsets,
        6 "IsError" => is_error,
        7 "Error" => error,
        8 "TransactionComplete" => transaction_complete,
        9 "Metadata" => metadata,
    }

    QueueInfo {
        1 "Name" => name,
        2 "Messages" => messages,
        3 "Bytes" => bytes,
        4 "FirstSequence" => first_sequence,
        5 "LastSequence" => last_sequence,
        6 "Sent" => sent,
        7 "Delivered" => delivered,
        8 "Waiting" => waiting,
        9 "Subscribers" => subscribers,
    }

    QueuesInfo {
        1 "TotalQueue" => total_queue,
        2 "Sent" => sent,
        3 "Delivered" => delivered,
        4 "Waiting" => waiting,
        5 "Queues" => queues,
    }

    QueuesInfoRequest {
        1 "RequestID" => request_id,
        2 "QueueName" => queue_name,
    }

    QueuesInfoResponse {
        1 "RefRequestID" => ref_request_id,
        2 "Info" => info,
    }
}
