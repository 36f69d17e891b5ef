//! The table: the fields of every message that travels on REST or on a socket.

use ringmq_proto::kubemq;

use super::{Field, JsonMessage};

macro_rules! messages {
    ($($message:ident {
        $($name:literal => $field:ident $(as $enumeration:literal)?,)*
    })*) => {$(
        impl JsonMessage for kubemq::$message {
            const NAME: &'static str = concat!("kubemq.", stringify!($message));
            const LIST_NAME: &'static str = concat!("[]*kubemq.", stringify!($message));
            const FIELDS: &'static [Field<Self>] = &[$(Field {
                name: $name,
                enumeration: messages!(@optional $($enumeration)?),
                get: |message| &message.$field,
                get_mut: |message| &mut message.$field,
            },)*];
        }
    )*};
    (@optional) => { None };
    (@optional $enumeration:literal) => { Some($enumeration) };
}

messages! {
    Empty {}

    PingResult {
        "Host" => host,
        "Version" => version,
        "ServerStartTime" => server_start_time,
        "ServerUpTimeSeconds" => server_up_time_seconds,
    }

    Result {
        "EventID" => event_id,
        "Sent" => sent,
        "Error" => error,
    }

    Event {
        "EventID" => event_id,
        "ClientID" => client_id,
        "Channel" => channel,
        "Metadata" => metadata,
        "Body" => body,
        "Store" => store,
        "Tags" => tags,
    }

    EventReceive {
        "EventID" => event_id,
        "Channel" => channel,
        "Metadata" => metadata,
        "Body" => body,
        "Timestamp" => timestamp,
        "Sequence" => sequence,
        "Tags" => tags,
    }

    Request {
        "RequestID" => request_id,
        "RequestTypeData" => request_type_data as "kubemq.Request_RequestType",
        "ClientID" => client_id,
        "Channel" => channel,
        "Metadata" => metadata,
        "Body" => body,
        "ReplyChannel" => reply_channel,
        "Timeout" => timeout,
        "CacheKey" => cache_key,
        "CacheTTL" => cache_ttl,
        "Span" => span,
        "Tags" => tags,
    }

    Response {
        "ClientID" => client_id,
        "RequestID" => request_id,
        "ReplyChannel" => reply_channel,
        "Metadata" => metadata,
        "Body" => body,
        "CacheHit" => cache_hit,
        "Timestamp" => timestamp,
        "Executed" => executed,
        "Error" => error,
        "Span" => span,
        "Tags" => tags,
    }

    QueueMessage {
        "MessageID" => message_id,
        "ClientID" => client_id,
        "Channel" => channel,
        "Metadata" => metadata,
        "Body" => body,
        "Tags" => tags,
        "Attributes" => attributes,
        "Policy" => policy,
        "Topic" => topic,
        "Partition" => partition,
        "PartitionKey" => partition_key,
    }

    QueueMessagesBatchRequest {
        "BatchID" => batch_id,
        "Messages" => messages,
    }

    QueueMessagesBatchResponse {
        "BatchID" => batch_id,
        "Results" => results,
        "HaveErrors" => have_errors,
    }

    QueueMessageAttributes {
        "Timestamp" => timestamp,
        "Sequence" => sequence,
        "MD5OfBody" => md5_of_body,
        "ReceiveCount" => receive_count,
        "ReRouted" => re_routed,
        "ReRoutedFromQueue" => re_routed_from_queue,
        "ExpirationAt" => expiration_at,
        "DelayedTo" => delayed_to,
    }

    QueueMessagePolicy {
        "ExpirationSeconds" => expiration_seconds,
        "DelaySeconds" => delay_seconds,
        "MaxReceiveCount" => max_receive_count,
        "MaxReceiveQueue" => max_receive_queue,
    }

    SendQueueMessageResult {
        "MessageID" => message_id,
        "SentAt" => sent_at,
        "ExpirationAt" => expiration_at,
        "DelayedTo" => delayed_to,
        "IsError" => is_error,
        "Error" => error,
        "RefChannel" => ref_channel,
        "RefTopic" => ref_topic,
        "RefPartition" => ref_partition,
        "RefHash" => ref_hash,
    }

    ReceiveQueueMessagesRequest {
        "RequestID" => request_id,
        "ClientID" => client_id,
        "Channel" => channel,
        "MaxNumberOfMessages" => max_number_of_messages,
        "WaitTimeSeconds" => wait_time_seconds,
        "IsPeak" => is_peak,
    }

    ReceiveQueueMessagesResponse {
        "RequestID" => request_id,
        "Messages" => messages,
        "MessagesReceived" => messages_received,
        "MessagesExpired" => messages_expired,
        "IsPeak" => is_peak,
        "IsError" => is_error,
        "Error" => error,
    }

    AckAllQueueMessagesRequest {
        "RequestID" => request_id,
        "ClientID" => client_id,
        "Channel" => channel,
        "WaitTimeSeconds" => wait_time_seconds,
    }

    AckAllQueueMessagesResponse {
        "RequestID" => request_id,
        "AffectedMessages" => affected_messages,
        "IsError" => is_error,
        "Error" => error,
    }

    StreamQueueMessagesRequest {
        "RequestID" => request_id,
        "ClientID" => client_id,
        "StreamRequestTypeData" => stream_request_type_data as "kubemq.StreamRequestType",
        "Channel" => channel,
        "VisibilitySeconds" => visibility_seconds,
        "WaitTimeSeconds" => wait_time_seconds,
        "RefSequence" => ref_sequence,
        "ModifiedMessage" => modified_message,
    }

    StreamQueueMessagesResponse {
        "RequestID" => request_id,
        "StreamRequestTypeData" => stream_request_type_data as "kubemq.StreamRequestType",
        "Message" => message,
        "IsError" => is_error,
        "Error" => error,
    }

    QueuesUpstreamRequest {
        "RequestID" => request_id,
        "Messages" => messages,
    }

    QueuesUpstreamResponse {
        "RefRequestID" => ref_request_id,
        "Results" => results,
        "IsError" => is_error,
        "Error" => error,
    }

    QueuesDownstreamRequest {
        "RequestID" => request_id,
        "ClientID" => client_id,
        "RequestTypeData" => request_type_data as "kubemq.QueuesDownstreamRequestType",
        "Channel" => channel,
        "MaxItems" => max_items,
        "WaitTimeout" => wait_timeout,
        "AutoAck" => auto_ack,
        "ReQueueChannel" => re_queue_channel,
        "SequenceRange" => sequence_range,
        "RefTransactionId" => ref_transaction_id,
        "Metadata" => metadata,
    }

    QueuesDownstreamResponse {
        "TransactionId" => transaction_id,
        "RefRequestId" => ref_request_id,
        "RequestTypeData" => request_type_data as "kubemq.QueuesDownstreamRequestType",
        "Messages" => messages,
        "ActiveOffsets" => active_offsets,
        "IsError" => is_error,
        "Error" => error,
        "TransactionComplete" => transaction_complete,
        "Metadata" => metadata,
    }

    QueueInfo {
        "Name" => name,
        "Messages" => messages,
        "Bytes" => bytes,
        "FirstSequence" => first_sequence,
        "LastSequence" => last_sequence,
        "Sent" => sent,
        "Delivered" => delivered,
        "Waiting" => waiting,
        "Subscribers" => subscribers,
    }

    QueuesInfo {
        "TotalQueue" => total_queue,
        "Sent" => sent,
        "Delivered" => delivered,
        "Waiting" => waiting,
        "Queues" => queues,
    }

    QueuesInfoRequest {
        "RequestID" => request_id,
        "QueueName" => queue_name,
    }

    QueuesInfoResponse {
        "RefRequestID" => ref_request_id,
        "Info" => info,
    }
}
