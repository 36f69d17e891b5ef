//! The node, the process, and its services.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{BOOL, GIB, KIB, PORT, SECONDS_MAX};
use crate::config::fold::Fold;
use crate::config::key::{Allowed, Key, ListOf, Unit};

settings! {
    /// The node.
    pub(in crate::config) Node {
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
    pub Rest with cors: Cors {
        /// Whether the REST and WebSocket service is served.
        enable: bool = "true" {
            key: "rest.enable",
            env: ["REST_ENABLE", "CONNECTORS_REST_ENABLE"],
            alias: "connectors.rest.enable",
            allowed: BOOL,
        }
        /// Address on which the REST service listens. Empty: that of `server.bind`.
        bind: Option<IpAddr> = "" {
            key: "rest.bind",
            env: ["REST_BIND"],
            allowed: Allowed::OptionalAddress,
        }
        /// Port of the REST service; 0 picks a free one.
        port: u16 = "9090" {
            key: "rest.port",
            env: ["REST_PORT", "CONNECTORS_REST_PORT"],
            flag: "--rest-port",
            alias: "connectors.rest.port",
            allowed: PORT,
        }
        /// How long the head and the body of a request may take to arrive; then its connection is
        /// closed. A long poll waits for messages as long as it asks to.
        read_timeout: Duration = "60" {
            key: "rest.read_timeout",
            env: ["REST_READ_TIMEOUT", "CONNECTORS_REST_READ_TIMEOUT"],
            alias: "connectors.rest.read_timeout",
            allowed: Allowed::Range(1, 86_400),
            unit: Unit::Seconds,
            live: true,
        }
        /// How long the client may take no byte of an answer; then its connection is closed. The
        /// time in which an answer is made does not count.
        write_timeout: Duration = "60" {
            key: "rest.write_timeout",
            env: ["REST_WRITE_TIMEOUT", "CONNECTORS_REST_WRITE_TIMEOUT"],
            alias: "connectors.rest.write_timeout",
            allowed: Allowed::Range(1, 86_400),
            unit: Unit::Seconds,
            live: true,
        }
        /// Largest body of a request, and largest frame of a WebSocket. Empty: as
        /// `grpc.body_limit`.
        body_limit: Option<usize> = "" {
            key: "rest.body_limit",
            env: ["REST_BODY_LIMIT", "CONNECTORS_REST_BODY_LIMIT"],
            alias: "connectors.rest.body_limit",
            allowed: Allowed::OptionalRange(KIB, GIB),
            unit: Unit::Bytes,
            live: true,
        }
        /// Connections of the REST service that may be open. Further ones are closed at once. 0: a
        /// quarter of what the limit of open files leaves room for.
        max_connections: usize = "0" {
            key: "rest.max_connections",
            env: ["REST_MAX_CONNECTIONS"],
            allowed: Allowed::Range(0, 10_000_000),
            unit: Unit::Count("connections"),
        }
        /// Silence on a WebSocket after which the broker asks whether the client still lives. One
        /// that does not answer within 10 seconds is closed. 0: never.
        ping_seconds: u64 = "20" {
            key: "rest.ping_seconds",
            env: ["REST_PING_SECONDS"],
            allowed: Allowed::Range(0, 86_400),
            unit: Unit::Seconds,
            live: true,
        }
    }

    /// Which pages of other origins may use the REST service.
    pub Cors {
        /// Origins that may: `*` for all, or as `https://example.com`.
        allow_origins: Vec<String> = "*" {
            key: "rest.cors.allow_origins",
            env: ["REST_CORS_ALLOW_ORIGINS", "CONNECTORS_REST_CORS_ALLOW_ORIGINS"],
            alias: "connectors.rest.cors.allow_origins",
            allowed: Allowed::List(ListOf::Origins, 1),
            live: true,
        }
        /// Methods that they may use.
        allow_methods: Vec<String> = "GET,POST" {
            key: "rest.cors.allow_methods",
            env: ["REST_CORS_ALLOW_METHODS", "CONNECTORS_REST_CORS_ALLOW_METHODS"],
            alias: "connectors.rest.cors.allow_methods",
            allowed: Allowed::List(ListOf::Names, 1),
            live: true,
        }
        /// Headers that their requests may have. Empty: those that a page asks for.
        allow_headers: Vec<String> = "" {
            key: "rest.cors.allow_headers",
            env: ["REST_CORS_ALLOW_HEADERS", "CONNECTORS_REST_CORS_ALLOW_HEADERS"],
            alias: "connectors.rest.cors.allow_headers",
            allowed: Allowed::List(ListOf::Names, 0),
            live: true,
        }
        /// Headers of answers that their scripts may read.
        expose_headers: Vec<String> = "" {
            key: "rest.cors.expose_headers",
            env: ["REST_CORS_EXPOSE_HEADERS", "CONNECTORS_REST_CORS_EXPOSE_HEADERS"],
            alias: "connectors.rest.cors.expose_headers",
            allowed: Allowed::List(ListOf::Names, 0),
            live: true,
        }
        /// Whether they may send cookies and credentials. Not together with the origin `*`.
        allow_credentials: bool = "false" {
            key: "rest.cors.allow_credentials",
            env: ["REST_CORS_ALLOW_CREDENTIALS", "CONNECTORS_REST_CORS_ALLOW_CREDENTIALS"],
            alias: "connectors.rest.cors.allow_credentials",
            allowed: BOOL,
            live: true,
        }
        /// How long a browser may remember the answer to its question. 0: it is not told.
        max_age: u64 = "0" {
            key: "rest.cors.max_age",
            env: ["REST_CORS_MAX_AGE", "CONNECTORS_REST_CORS_MAX_AGE"],
            alias: "connectors.rest.cors.max_age",
            allowed: Allowed::Range(0, SECONDS_MAX),
            unit: Unit::Seconds,
            live: true,
        }
    }

    /// The management service.
    pub Api with auth: ApiAuth {
        /// Whether the management service is served: health, metrics, statistics.
        enable: bool = "true" {
            key: "api.enable",
            env: ["API_ENABLE"],
            allowed: BOOL,
        }
        /// Address on which the management service listens. Empty: that of `server.bind`.
        bind: Option<IpAddr> = "" {
            key: "api.bind",
            env: ["API_BIND", "API_BIND_ADDRESS"],
            alias: "api.bind_address",
            allowed: Allowed::OptionalAddress,
        }
        /// Port of the management service; 0 picks a free one.
        port: u16 = "8080" {
            key: "api.port",
            env: ["API_PORT"],
            flag: "--api-port",
            allowed: PORT,
        }
        /// Whether it speaks TLS only, with the certificate of `security.cert`.
        tls: bool = "false" {
            key: "api.tls",
            env: ["API_TLS"],
            allowed: BOOL,
        }
        /// Origins of other pages that may use it, besides its own. Each as
        /// `https://example.com`; `*` is ignored, since any page could then command the broker.
        allow_origins: Vec<String> = "" {
            key: "api.allow_origins",
            env: ["API_ALLOW_ORIGINS"],
            allowed: Allowed::List(ListOf::Origins, 0),
            live: true,
        }
    }

    /// Who may use the management service.
    pub ApiAuth {
        /// Name of the only one who may use it, as its token, key or certificate says. Empty:
        /// whoever was recognised; with a policy, whoever that allows.
        admin_username: Option<String> = "" {
            key: "api.admin_username",
            env: ["API_ADMIN_USERNAME", "KUBEMQ_API_ADMIN_USERNAME"],
            allowed: Allowed::OptionalWord,
            live: true,
        }
        /// Whether whoever uses it has to say who it is, but for health and metrics. `auto`: when
        /// clients have to, too. `false`: only this machine is answered, and not asked.
        enable: Option<bool> = "auto" {
            key: "api.auth.enable",
            env: ["API_AUTH_ENABLE"],
            allowed: Allowed::OneOf(&["auto", "true", "false"]),
            live: true,
        }
        /// How long a session stays open that is not used.
        session_idle: Duration = "30" {
            key: "api.auth.session_idle_minutes",
            env: ["API_AUTH_SESSION_IDLE_MINUTES"],
            allowed: Allowed::Range(1, 44_640),
            unit: Unit::Minutes,
            live: true,
        }
        /// How long a session stays open at most.
        session_absolute: Duration = "12" {
            key: "api.auth.session_absolute_hours",
            env: ["API_AUTH_SESSION_ABSOLUTE_HOURS"],
            allowed: Allowed::Range(1, 8_760),
            unit: Unit::Hours,
            live: true,
        }
        /// Whether a proxy in front of the port speaks TLS with browsers: the cookies of sessions
        /// are then for TLS only.
        trusted_tls_proxy: bool = "false" {
            key: "api.auth.trusted_tls_proxy",
            env: ["API_AUTH_TRUSTED_TLS_PROXY"],
            allowed: BOOL,
            live: true,
        }
    }
}
