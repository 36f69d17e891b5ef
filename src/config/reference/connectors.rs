//! Keys of the commercial image's connectors: other protocols, none of which is spoken here.

use super::{ReferenceKey, Standing, keys};

const WHY: &str = "this connector does not exist here: nothing listens for its protocol";

const fn missing(protocol: &'static str) -> Standing {
    Standing::Missing(protocol)
}

pub(super) const KEYS: &[ReferenceKey] = keys! {
    missing("agents (A2A)"), WHY => { "connectors.a2a.enable" "CONNECTORSA2_A_ENABLE"; }
    Standing::NoEffect, WHY => {
        "connectors.a2a.agent_max_concurrency" "CONNECTORSA2_A_AGENT_MAX_CONCURRENCY";
        "connectors.a2a.agent_max_response_bytes" "CONNECTORSA2_A_AGENT_MAX_RESPONSE_BYTES";
        "connectors.a2a.agent_tls_skip_verify" "CONNECTORSA2_A_AGENT_TLS_SKIP_VERIFY";
        "connectors.a2a.agent_ttl_seconds" "CONNECTORSA2_A_AGENT_TTL_SECONDS";
        "connectors.a2a.default_timeout_seconds" "CONNECTORSA2_A_DEFAULT_TIMEOUT_SECONDS";
        "connectors.a2a.max_agents" "CONNECTORSA2_A_MAX_AGENTS";
        "connectors.a2a.max_sse_idle_seconds" "CONNECTORSA2_A_MAX_SSE_IDLE_SECONDS";
        "connectors.a2a.max_timeout_seconds" "CONNECTORSA2_A_MAX_TIMEOUT_SECONDS";
        "connectors.a2a.metrics_retention_hours" "CONNECTORSA2_A_METRICS_RETENTION_HOURS";
        "connectors.a2a.trusted_origins" "CONNECTORSA2_A_TRUSTED_ORIGINS";
    }
    missing("CloudEvents"), WHY => { "connectors.ce.enable" "CONNECTORSCE_ENABLE"; }
    Standing::NoEffect, WHY => {
        "connectors.ce.max_sse_connections" "CONNECTORSCE_MAX_SSE_CONNECTIONS";
        "connectors.ce.max_sse_idle_seconds" "CONNECTORSCE_MAX_SSE_IDLE_SECONDS";
        "connectors.ce.sub_buff_size" "CONNECTORSCE_SUB_BUFF_SIZE";
        "connectors.ce.timeout_seconds" "CONNECTORSCE_TIMEOUT_SECONDS";
    }
    missing("MCP"), WHY => { "connectors.mcp.enable" "CONNECTORSMCP_ENABLE"; }
    Standing::NoEffect, WHY => {
        "connectors.mcp.tool_timeout_seconds" "CONNECTORSMCP_TOOL_TIMEOUT_SECONDS";
        "connectors.mcp.trusted_origins" "CONNECTORSMCP_TRUSTED_ORIGINS";
    }
    missing("MQTT"), WHY => { "connectors.mqtt.enable" "CONNECTORSMQTT_ENABLE"; }
    Standing::NoEffect, WHY => {
        "connectors.mqtt.capabilities_max_clients" "CONNECTORSMQTT_CAPABILITIES_MAX_CLIENTS";
        "connectors.mqtt.capabilities_max_inflight" "CONNECTORSMQTT_CAPABILITIES_MAX_INFLIGHT";
        "connectors.mqtt.capabilities_max_message_expiry_seconds" "CONNECTORSMQTT_CAPABILITIES_MAX_MESSAGE_EXPIRY_SECONDS";
        "connectors.mqtt.capabilities_max_packet_size_bytes" "CONNECTORSMQTT_CAPABILITIES_MAX_PACKET_SIZE_BYTES";
        "connectors.mqtt.capabilities_max_qos" "CONNECTORSMQTT_CAPABILITIES_MAX_QOS";
        "connectors.mqtt.capabilities_max_session_expiry_seconds" "CONNECTORSMQTT_CAPABILITIES_MAX_SESSION_EXPIRY_SECONDS";
        "connectors.mqtt.capabilities_max_subscriptions_per_client" "CONNECTORSMQTT_CAPABILITIES_MAX_SUBSCRIPTIONS_PER_CLIENT";
        "connectors.mqtt.capabilities_min_protocol_version" "CONNECTORSMQTT_CAPABILITIES_MIN_PROTOCOL_VERSION";
        "connectors.mqtt.capabilities_receive_maximum" "CONNECTORSMQTT_CAPABILITIES_RECEIVE_MAXIMUM";
        "connectors.mqtt.default_pattern" "CONNECTORSMQTT_DEFAULT_PATTERN";
        "connectors.mqtt.detail_history_enabled" "CONNECTORSMQTT_DETAIL_HISTORY_ENABLED";
        "connectors.mqtt.detail_history_max_entities" "CONNECTORSMQTT_DETAIL_HISTORY_MAX_ENTITIES";
        "connectors.mqtt.port" "CONNECTORSMQTT_PORT";
        "connectors.mqtt.queue_ack_timeout_seconds" "CONNECTORSMQTT_QUEUE_ACK_TIMEOUT_SECONDS";
        "connectors.mqtt.rpc_max_pending" "CONNECTORSMQTT_RPC_MAX_PENDING";
        "connectors.mqtt.rpc_timeout_seconds" "CONNECTORSMQTT_RPC_TIMEOUT_SECONDS";
        "connectors.mqtt.sub_buff_size" "CONNECTORSMQTT_SUB_BUFF_SIZE";
        "connectors.mqtt.tls_port" "CONNECTORSMQTT_TLS_PORT";
        "connectors.mqtt.ws_port" "CONNECTORSMQTT_WS_PORT";
    }
    missing("AMQP 1.0"), WHY => { "connectors.amqp10.enable" "CONNECTORS_AMQP10_ENABLE"; }
    Standing::NoEffect, WHY => {
        "connectors.amqp10.default_pattern" "CONNECTORS_AMQP10_DEFAULT_PATTERN";
        "connectors.amqp10.default_rpc_timeout_seconds" "CONNECTORS_AMQP10_DEFAULT_RPC_TIMEOUT_SECONDS";
        "connectors.amqp10.get_batch_size" "CONNECTORS_AMQP10_GET_BATCH_SIZE";
        "connectors.amqp10.idle_timeout_seconds" "CONNECTORS_AMQP10_IDLE_TIMEOUT_SECONDS";
        "connectors.amqp10.max_connections" "CONNECTORS_AMQP10_MAX_CONNECTIONS";
        "connectors.amqp10.max_frame_size" "CONNECTORS_AMQP10_MAX_FRAME_SIZE";
        "connectors.amqp10.max_links_per_session" "CONNECTORS_AMQP10_MAX_LINKS_PER_SESSION";
        "connectors.amqp10.max_message_size" "CONNECTORS_AMQP10_MAX_MESSAGE_SIZE";
        "connectors.amqp10.max_unsettled_per_link" "CONNECTORS_AMQP10_MAX_UNSETTLED_PER_LINK";
        "connectors.amqp10.port" "CONNECTORS_AMQP10_PORT";
        "connectors.amqp10.rpc_max_pending" "CONNECTORS_AMQP10_RPC_MAX_PENDING";
        "connectors.amqp10.session_max" "CONNECTORS_AMQP10_SESSION_MAX";
        "connectors.amqp10.tls_port" "CONNECTORS_AMQP10_TLS_PORT";
    }
    missing("AMQP 0.9.1"), WHY => { "connectors.amqp.enable" "CONNECTORS_AMQP_ENABLE"; }
    Standing::NoEffect, WHY => {
        "connectors.amqp.channel_max" "CONNECTORS_AMQP_CHANNEL_MAX";
        "connectors.amqp.dead_letter_max_hops" "CONNECTORS_AMQP_DEAD_LETTER_MAX_HOPS";
        "connectors.amqp.default_vhost" "CONNECTORS_AMQP_DEFAULT_VHOST";
        "connectors.amqp.frame_max" "CONNECTORS_AMQP_FRAME_MAX";
        "connectors.amqp.get_batch_size" "CONNECTORS_AMQP_GET_BATCH_SIZE";
        "connectors.amqp.heartbeat_seconds" "CONNECTORS_AMQP_HEARTBEAT_SECONDS";
        "connectors.amqp.max_body_size" "CONNECTORS_AMQP_MAX_BODY_SIZE";
        "connectors.amqp.max_connections" "CONNECTORS_AMQP_MAX_CONNECTIONS";
        "connectors.amqp.max_receive_count" "CONNECTORS_AMQP_MAX_RECEIVE_COUNT";
        "connectors.amqp.port" "CONNECTORS_AMQP_PORT";
        "connectors.amqp.tls_port" "CONNECTORS_AMQP_TLS_PORT";
    }
    missing("SQS and SNS"), WHY => { "connectors.aws.enable" "CONNECTORS_AWS_ENABLE"; }
    Standing::NoEffect, WHY => {
        "connectors.aws.account_id" "CONNECTORS_AWS_ACCOUNT_ID";
        "connectors.aws.advertised_url" "CONNECTORS_AWS_ADVERTISED_URL";
        "connectors.aws.body_limit" "CONNECTORS_AWS_BODY_LIMIT";
        "connectors.aws.credentials_data" "CONNECTORS_AWS_CREDENTIALS_DATA";
        "connectors.aws.max_concurrent_polls" "CONNECTORS_AWS_MAX_CONCURRENT_POLLS";
        "connectors.aws.max_inflight_per_queue" "CONNECTORS_AWS_MAX_INFLIGHT_PER_QUEUE";
        "connectors.aws.message_signing" "CONNECTORS_AWS_MESSAGE_SIGNING";
        "connectors.aws.port" "CONNECTORS_AWS_PORT";
        "connectors.aws.read_timeout" "CONNECTORS_AWS_READ_TIMEOUT";
        "connectors.aws.region" "CONNECTORS_AWS_REGION";
        "connectors.aws.signing_cert_ttl_hours" "CONNECTORS_AWS_SIGNING_CERT_TTL_HOURS";
    }
    missing("Pub/Sub"), WHY => { "connectors.gcp.enable" "CONNECTORS_GCP_ENABLE"; }
    Standing::NoEffect, WHY => {
        "connectors.gcp.advertised_endpoint" "CONNECTORS_GCP_ADVERTISED_ENDPOINT";
        "connectors.gcp.default_ack_deadline_seconds" "CONNECTORS_GCP_DEFAULT_ACK_DEADLINE_SECONDS";
        "connectors.gcp.delivery_shards" "CONNECTORS_GCP_DELIVERY_SHARDS";
        "connectors.gcp.enable_reflection" "CONNECTORS_GCP_ENABLE_REFLECTION";
        "connectors.gcp.max_ack_extension_seconds" "CONNECTORS_GCP_MAX_ACK_EXTENSION_SECONDS";
        "connectors.gcp.max_concurrent_polls" "CONNECTORS_GCP_MAX_CONCURRENT_POLLS";
        "connectors.gcp.max_concurrent_streams" "CONNECTORS_GCP_MAX_CONCURRENT_STREAMS";
        "connectors.gcp.max_inflight_per_subscription" "CONNECTORS_GCP_MAX_INFLIGHT_PER_SUBSCRIPTION";
        "connectors.gcp.max_message_bytes" "CONNECTORS_GCP_MAX_MESSAGE_BYTES";
        "connectors.gcp.max_outstanding_messages" "CONNECTORS_GCP_MAX_OUTSTANDING_MESSAGES";
        "connectors.gcp.max_seek_replay" "CONNECTORS_GCP_MAX_SEEK_REPLAY";
        "connectors.gcp.port" "CONNECTORS_GCP_PORT";
        "connectors.gcp.stream_close_seconds" "CONNECTORS_GCP_STREAM_CLOSE_SECONDS";
    }
    Standing::NoEffect, WHY => {
        "connectors.http.base_url" "CONNECTORS_HTTP_BASE_URL";
        "connectors.http.body_limit" "CONNECTORS_HTTP_BODY_LIMIT";
        "connectors.http.cors_allow_credentials" "CONNECTORS_HTTP_CORS_ALLOW_CREDENTIALS";
        "connectors.http.cors_allow_headers" "CONNECTORS_HTTP_CORS_ALLOW_HEADERS";
        "connectors.http.cors_allow_methods" "CONNECTORS_HTTP_CORS_ALLOW_METHODS";
        "connectors.http.cors_allow_origins" "CONNECTORS_HTTP_CORS_ALLOW_ORIGINS";
        "connectors.http.cors_expose_headers" "CONNECTORS_HTTP_CORS_EXPOSE_HEADERS";
        "connectors.http.cors_max_age" "CONNECTORS_HTTP_CORS_MAX_AGE";
        "connectors.http.port" "CONNECTORS_HTTP_PORT";
        "connectors.http.read_timeout" "CONNECTORS_HTTP_READ_TIMEOUT";
    }
    Standing::NoEffect, WHY => {
        "connectors.kafkao.auth_bearer_client_id" "CONNECTORS_KAFKAO_AUTH_BEARER_CLIENT_ID";
        "connectors.kafkao.auth_bearer_insecure_skip_signature_check" "CONNECTORS_KAFKAO_AUTH_BEARER_INSECURE_SKIP_SIGNATURE_CHECK";
        "connectors.kafkao.auth_bearer_issuer" "CONNECTORS_KAFKAO_AUTH_BEARER_ISSUER";
        "connectors.kafkao.auth_bearer_skip_client_id_check" "CONNECTORS_KAFKAO_AUTH_BEARER_SKIP_CLIENT_ID_CHECK";
        "connectors.kafkao.auth_bearer_skip_expiry_check" "CONNECTORS_KAFKAO_AUTH_BEARER_SKIP_EXPIRY_CHECK";
        "connectors.kafkao.auth_bearer_skip_issuer_check" "CONNECTORS_KAFKAO_AUTH_BEARER_SKIP_ISSUER_CHECK";
    }
    missing("Kafka"), WHY => { "connectors.kafka.enable" "CONNECTORS_KAFKA_ENABLE"; }
    Standing::NoEffect, WHY => {
        "connectors.kafka.advertised_host" "CONNECTORS_KAFKA_ADVERTISED_HOST";
        "connectors.kafka.advertised_port" "CONNECTORS_KAFKA_ADVERTISED_PORT";
        "connectors.kafka.fetch_byte_rate" "CONNECTORS_KAFKA_FETCH_BYTE_RATE";
        "connectors.kafka.max_connections" "CONNECTORS_KAFKA_MAX_CONNECTIONS";
        "connectors.kafka.max_fetch_wait_ms" "CONNECTORS_KAFKA_MAX_FETCH_WAIT_MS";
        "connectors.kafka.max_groups" "CONNECTORS_KAFKA_MAX_GROUPS";
        "connectors.kafka.max_message_bytes" "CONNECTORS_KAFKA_MAX_MESSAGE_BYTES";
        "connectors.kafka.max_partitions_per_request" "CONNECTORS_KAFKA_MAX_PARTITIONS_PER_REQUEST";
        "connectors.kafka.max_topics_per_request" "CONNECTORS_KAFKA_MAX_TOPICS_PER_REQUEST";
        "connectors.kafka.max_transactional_i_ds" "CONNECTORS_KAFKA_MAX_TRANSACTIONAL_I_DS";
        "connectors.kafka.max_transaction_timeout_ms" "CONNECTORS_KAFKA_MAX_TRANSACTION_TIMEOUT_MS";
        "connectors.kafka.offsets_retention_minutes" "CONNECTORS_KAFKA_OFFSETS_RETENTION_MINUTES";
        "connectors.kafka.peers" "CONNECTORS_KAFKA_PEERS";
        "connectors.kafka.port" "CONNECTORS_KAFKA_PORT";
        "connectors.kafka.producer_id_block_size" "CONNECTORS_KAFKA_PRODUCER_ID_BLOCK_SIZE";
        "connectors.kafka.produce_byte_rate" "CONNECTORS_KAFKA_PRODUCE_BYTE_RATE";
        "connectors.kafka.produce_pipeline_depth" "CONNECTORS_KAFKA_PRODUCE_PIPELINE_DEPTH";
        "connectors.kafka.sasl_mechanisms" "CONNECTORS_KAFKA_SASL_MECHANISMS";
        "connectors.kafka.scram_iterations" "CONNECTORS_KAFKA_SCRAM_ITERATIONS";
        "connectors.kafka.timestamp_type" "CONNECTORS_KAFKA_TIMESTAMP_TYPE";
        "connectors.kafka.tls_port" "CONNECTORS_KAFKA_TLS_PORT";
        "connectors.kafka.transactional_id_expiration_ms" "CONNECTORS_KAFKA_TRANSACTIONAL_ID_EXPIRATION_MS";
    }
    missing("STOMP"), WHY => { "connectors.stomp.enable" "CONNECTORS_STOMP_ENABLE"; }
    Standing::NoEffect, WHY => {
        "connectors.stomp.default_pattern" "CONNECTORS_STOMP_DEFAULT_PATTERN";
        "connectors.stomp.heartbeat_ms" "CONNECTORS_STOMP_HEARTBEAT_MS";
        "connectors.stomp.max_body_size" "CONNECTORS_STOMP_MAX_BODY_SIZE";
        "connectors.stomp.max_connections" "CONNECTORS_STOMP_MAX_CONNECTIONS";
        "connectors.stomp.port" "CONNECTORS_STOMP_PORT";
        "connectors.stomp.queue_ack_timeout_seconds" "CONNECTORS_STOMP_QUEUE_ACK_TIMEOUT_SECONDS";
        "connectors.stomp.rpc_max_pending" "CONNECTORS_STOMP_RPC_MAX_PENDING";
        "connectors.stomp.rpc_timeout_seconds" "CONNECTORS_STOMP_RPC_TIMEOUT_SECONDS";
        "connectors.stomp.sub_buff_size" "CONNECTORS_STOMP_SUB_BUFF_SIZE";
        "connectors.stomp.tls_port" "CONNECTORS_STOMP_TLS_PORT";
    }
};
