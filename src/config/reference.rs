//! Keys of the reference that have no effect here, yet.
//!
//! A configuration that works with the reference is accepted, and what of it does nothing is said
//! in one warning. The exception is security: a setting that somebody relies on and that is not
//! enforced makes the broker refuse to start.

/// A key of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReferenceKey {
    pub(super) name: &'static str,
    pub(super) env: &'static [&'static str],
    pub(super) standing: Standing,
}

/// What it means that somebody sets the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has no effect.
    NoEffect,
    /// With any value it asks for something that cannot be enforced, named here.
    RefusedWhenSet(&'static str),
    /// Unless it is false it asks for something that cannot be enforced, named here.
    RefusedUnlessFalse(&'static str),
}

impl ReferenceKey {
    /// What cannot be enforced, if `value` asks for it. A switch that is neither on nor off counts
    /// as on: in doubt the broker does not run unprotected.
    pub(super) fn unenforceable(&self, value: &str) -> Option<&'static str> {
        let off = ["false", "f", "0", "no", "off"];
        match self.standing {
            Standing::NoEffect => None,
            Standing::RefusedWhenSet(what) => Some(what),
            Standing::RefusedUnlessFalse(what) => {
                (!off.iter().any(|word| word.eq_ignore_ascii_case(value))).then_some(what)
            }
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

macro_rules! keys {
    ($( $standing:expr => { $( $name:literal $($env:literal)*; )+ } )+) => {
        &[$($( ReferenceKey { name: $name, env: &[$($env),*], standing: $standing }, )+)+]
    };
}

const TLS: Standing = Standing::RefusedWhenSet("TLS");
const AUTHENTICATION: Standing = Standing::RefusedUnlessFalse("authentication");
const AUTHORIZATION: Standing = Standing::RefusedUnlessFalse("authorization");
const API_AUTHENTICATION: Standing =
    Standing::RefusedUnlessFalse("authentication of the management port");

pub(super) const KEYS: &[ReferenceKey] = keys! {
    TLS => {
        "security.cert.filename" "SECURITY_CERT_FILENAME";
        "security.cert.data" "SECURITY_CERT_DATA";
        "security.key.filename" "SECURITY_KEY_FILENAME";
        "security.key.data" "SECURITY_KEY_DATA";
        "security.ca.filename" "SECURITY_CA_FILENAME";
        "security.ca.data" "SECURITY_CA_DATA";
    }
    AUTHENTICATION => { "authentication.enable" "AUTHENTICATION_ENABLE"; }
    AUTHORIZATION => { "authorization.enable" "AUTHORIZATION_ENABLE"; }
    API_AUTHENTICATION => { "api.auth.enable" "API_AUTH_ENABLE"; }
    Standing::NoEffect => {
        "authentication.type" "AUTHENTICATION_TYPE";
        "authentication.config" "AUTHENTICATION_CONFIG";
        "authentication.jwt_config.key" "AUTHENTICATION_JWT_CONFIG_KEY";
        "authentication.jwt_config.file_path" "AUTHENTICATION_JWT_CONFIG_FILE_PATH";
        "authentication.jwt_config.signature_type" "AUTHENTICATION_JWT_CONFIG_SIGNATURE_TYPE";
        "authorization.policy_data" "AUTHORIZATION_POLICY_DATA";
        "authorization.file_path" "AUTHORIZATION_FILE_PATH";
        "authorization.url" "AUTHORIZATION_URL";
        "authorization.auto_reload" "AUTHORIZATION_AUTO_RELOAD";

        "api.enable" "API_ENABLE";
        "api.bind_address" "API_BIND_ADDRESS";
        "api.allow_origins" "API_ALLOW_ORIGINS";
        "api.auth.session_idle_minutes" "API_AUTH_SESSION_IDLE_MINUTES";
        "api.auth.session_absolute_hours" "API_AUTH_SESSION_ABSOLUTE_HOURS";
        "api.auth.store_path" "API_AUTH_STORE_PATH";
        "api.auth.trusted_tls_proxy" "API_AUTH_TRUSTED_TLS_PROXY";

        "grpc.sub_buff_size" "GRPC_SUB_BUFF_SIZE";
        "connectors.grpc.enable" "CONNECTORS_GRPC_ENABLE";
        "connectors.grpc.sub_buff_size" "CONNECTORS_GRPC_SUB_BUFF_SIZE";
        "connectors.grpc.enable_reflection" "CONNECTORS_GRPC_ENABLE_REFLECTION";

        "rest.enable" "REST_ENABLE";
        "rest.read_timeout" "REST_READ_TIMEOUT";
        "rest.write_timeout" "REST_WRITE_TIMEOUT";
        "rest.sub_buff_size" "REST_SUB_BUFF_SIZE";
        "rest.body_limit" "REST_BODY_LIMIT";
        "rest.cors.allow_origins" "REST_CORS_ALLOW_ORIGINS";
        "rest.cors.allow_methods" "REST_CORS_ALLOW_METHODS";
        "rest.cors.allow_headers" "REST_CORS_ALLOW_HEADERS";
        "rest.cors.expose_headers" "REST_CORS_EXPOSE_HEADERS";
        "rest.cors.allow_credentials" "REST_CORS_ALLOW_CREDENTIALS";
        "rest.cors.max_age" "REST_CORS_MAX_AGE";
        "connectors.rest.enable" "CONNECTORS_REST_ENABLE";
        "connectors.rest.read_timeout" "CONNECTORS_REST_READ_TIMEOUT";
        "connectors.rest.write_timeout" "CONNECTORS_REST_WRITE_TIMEOUT";
        "connectors.rest.sub_buff_size" "CONNECTORS_REST_SUB_BUFF_SIZE";
        "connectors.rest.body_limit" "CONNECTORS_REST_BODY_LIMIT";
        "connectors.rest.cors.allow_origins" "CONNECTORS_REST_CORS_ALLOW_ORIGINS";
        "connectors.rest.cors.allow_methods" "CONNECTORS_REST_CORS_ALLOW_METHODS";
        "connectors.rest.cors.allow_headers" "CONNECTORS_REST_CORS_ALLOW_HEADERS";
        "connectors.rest.cors.expose_headers" "CONNECTORS_REST_CORS_EXPOSE_HEADERS";
        "connectors.rest.cors.allow_credentials" "CONNECTORS_REST_CORS_ALLOW_CREDENTIALS";
        "connectors.rest.cors.max_age" "CONNECTORS_REST_CORS_MAX_AGE";

        "store.clean_store" "STORE_CLEAN_STORE";
        "store.engine" "STORE_ENGINE";
        "store.idle_prune_cutoff_hours" "STORE_IDLE_PRUNE_CUTOFF_HOURS";
        "store.next.ack_policy" "STORE_NEXT_ACK_POLICY";
        "store.next.balance_leaders" "STORE_NEXT_BALANCE_LEADERS";
        "store.next.raft_address" "STORE_NEXT_RAFT_ADDRESS";
        "store.next.segment_size" "STORE_NEXT_SEGMENT_SIZE";
        "store.next.shards" "STORE_NEXT_SHARDS";

        "queue.max_inflight" "QUEUE_MAX_INFLIGHT";
        "queue.pub_ack_wait_seconds" "QUEUE_PUB_ACK_WAIT_SECONDS";

        "broker.max_payload" "BROKER_MAX_PAYLOAD";
        "broker.write_deadline" "BROKER_WRITE_DEADLINE";
        "broker.max_conn" "BROKER_MAX_CONN";
        "broker.write_buffer_size" "BROKER_WRITE_BUFFER_SIZE";
        "broker.read_buffer_size" "BROKER_READ_BUFFER_SIZE";
        "broker.disk_sync_seconds" "BROKER_DISK_SYNC_SECONDS";
        "broker.slice_max_messages" "BROKER_SLICE_MAX_MESSAGES";
        "broker.slice_max_bytes" "BROKER_SLICE_MAX_BYTES";
        "broker.slice_max_age_seconds" "BROKER_SLICE_MAX_AGE_SECONDS";
        "broker.parallel_recovery" "BROKER_PARALLEL_RECOVERY";

        "client.grpc_host";
        "client.grpc_port";
        "client.api_address";
        "client.auth_token";
        "client.client_id";

        "cluster.enable" "CLUSTER_ENABLE";
        "cluster.name" "CLUSTER_NAME";
        "cluster.routes" "CLUSTER_ROUTES";
        "cluster.port" "CLUSTER_PORT";
        "cluster.is_seed" "CLUSTER_IS_SEED";
        "notification.enable" "NOTIFICATION_ENABLE";
        "notification.log" "NOTIFICATION_LOG";
        "notification.report_channel_prefix" "NOTIFICATION_REPORT_CHANNEL_PREFIX";
        "audit.enable" "AUDIT_ENABLE";
        "audit.retention_hours" "AUDIT_RETENTION_HOURS";
        "audit.cleanup_interval_minutes" "AUDIT_CLEANUP_INTERVAL_MINUTES";

        "key";
        "license";
        "license_file_name";
        "license_key.data" "LICENSE_KEY_DATA";
        "license_key.filename" "LICENSE_KEY_FILENAME";
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> &'static ReferenceKey {
        KEYS.iter().find(|key| key.name == name).unwrap()
    }

    #[test]
    fn certificates_cannot_be_enforced_whatever_they_hold() {
        assert_eq!(key("security.cert.data").unenforceable("x"), Some("TLS"));
        assert_eq!(key("rest.read_timeout").unenforceable("x"), None);
    }

    #[test]
    fn only_a_clear_no_switches_authentication_off() {
        let switch = key("authentication.enable");
        for off in ["false", "False", "0", "no", "off", "F"] {
            assert_eq!(switch.unenforceable(off), None, "{off}");
        }
        for on in ["true", "1", "yes", "maybe", "ture"] {
            assert_eq!(switch.unenforceable(on), Some("authentication"), "{on}");
        }
    }

    #[test]
    fn environment_names_follow_the_rule() {
        for key in KEYS {
            let rule = key.name.replace('.', "_").to_uppercase();
            assert!(key.env.iter().all(|name| *name == rule), "{}", key.name);
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
