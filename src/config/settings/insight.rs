//! What the broker tells about itself.

use std::path::PathBuf;
use std::time::Duration;

use super::{BOOL, MINUTES_MAX};
use crate::config::fold::Fold;
use crate::config::key::{
    Allowed, Compression, ExportProtocol, Key, LogFormat, LogLevel, Sampler, Unit,
};

settings! {
    /// The log.
    pub Log {
        /// Least serious line that is written. The numbers 0 (trace) to 5 (fatal) are understood.
        level: LogLevel = "info" {
            key: "log.level",
            env: ["LOG_LEVEL"],
            flag: "--log-level",
            allowed: Allowed::OneOf(LogLevel::WORDS),
            live: true,
        }
        /// How lines look: for people, or one JSON object a line.
        format: LogFormat = "text" {
            key: "log.format",
            env: ["LOG_FORMAT"],
            flag: "--log-format",
            allowed: Allowed::OneOf(LogFormat::WORDS),
        }
    }

    /// Metrics.
    pub Metrics {
        /// Channels that have series of their own in a scrape: those that were used last. The
        /// others are summed in one; totals count them all.
        channels_max: usize = "10000" {
            key: "metrics.channels_max",
            env: ["METRICS_CHANNELS_MAX"],
            allowed: Allowed::Range(0, 1_000_000),
            unit: Unit::Count("channels"),
            live: true,
        }
        /// Whether series have a label with the client id, as those of the reference do. With many
        /// clients there are as many series.
        client_label: bool = "false" {
            key: "metrics.client_label",
            env: ["METRICS_CLIENT_LABEL"],
            allowed: BOOL,
            live: true,
        }
    }

    /// Traces for OpenTelemetry.
    pub Telemetry {
        /// Whether spans are made and exported. When not, they cost nothing.
        enable: bool = "false" {
            key: "telemetry.enable",
            env: ["TELEMETRY_ENABLE"],
            allowed: BOOL,
        }
        /// Name of the service in traces.
        service_name: String = "ringmq" {
            key: "telemetry.service_name",
            env: ["TELEMETRY_SERVICE_NAME"],
            allowed: Allowed::Word,
        }
        /// The collector that spans are sent to, as `host:port`, `http://host:port` or
        /// `https://host:port`. `http` and `https` count more than `telemetry.exporter.insecure`.
        endpoint: String = "http://localhost:4317" {
            key: "telemetry.exporter.endpoint",
            env: ["TELEMETRY_EXPORTER_ENDPOINT"],
            allowed: Allowed::Word,
        }
        /// How they are sent: OTLP over gRPC or over HTTP.
        protocol: ExportProtocol = "grpc" {
            key: "telemetry.exporter.protocol",
            env: ["TELEMETRY_EXPORTER_PROTOCOL"],
            allowed: Allowed::OneOf(ExportProtocol::WORDS),
        }
        /// Whether they are sent without TLS.
        insecure: bool = "false" {
            key: "telemetry.exporter.insecure",
            env: ["TELEMETRY_EXPORTER_INSECURE"],
            allowed: BOOL,
        }
        /// Headers that go along, as `name=value,name=value`. They may hold a password and are not
        /// shown.
        headers: Vec<(String, String)> = "" {
            key: "telemetry.exporter.headers",
            env: ["TELEMETRY_EXPORTER_HEADERS"],
            allowed: Allowed::Pairs,
            secret: true,
        }
        /// How long the collector may take to accept what is sent.
        timeout: Duration = "10" {
            key: "telemetry.exporter.timeout",
            env: ["TELEMETRY_EXPORTER_TIMEOUT"],
            allowed: Allowed::Range(1, 600),
            unit: Unit::Seconds,
        }
        /// Whether what is sent is compressed.
        compression: Compression = "none" {
            key: "telemetry.exporter.compression",
            env: ["TELEMETRY_EXPORTER_COMPRESSION"],
            allowed: Allowed::OneOf(Compression::WORDS),
        }
        /// Whether traces are among what is exported, when anything is.
        traces_enable: bool = "true" {
            key: "telemetry.traces.enable",
            env: ["TELEMETRY_TRACES_ENABLE"],
            allowed: BOOL,
        }
        /// Which traces are exported; the words are those of OpenTelemetry.
        sampler: Sampler = "parentbased_traceidratio" {
            key: "telemetry.traces.sampler",
            env: ["TELEMETRY_TRACES_SAMPLER"],
            allowed: Allowed::OneOf(Sampler::WORDS),
        }
        /// Share of traces that are exported, for samplers that take a ratio.
        sampling_ratio: f64 = "1" {
            key: "telemetry.traces.sampling_ratio",
            env: ["TELEMETRY_TRACES_SAMPLING_RATIO"],
            allowed: Allowed::Ratio,
        }
    }

    /// Reports of every access, as events.
    pub Notification {
        /// Whether each access to a channel is reported, as an event on
        /// `<prefix>.<resource>.<channel>`.
        enable: bool = "false" {
            key: "notification.enable",
            env: ["NOTIFICATION_ENABLE"],
            allowed: BOOL,
            live: true,
        }
        /// What the names of the report channels begin with.
        prefix: String = "notifications" {
            key: "notification.report_channel_prefix",
            env: ["NOTIFICATION_REPORT_CHANNEL_PREFIX"],
            alias: "notification.prefix",
            allowed: Allowed::Channel,
            live: true,
        }
        /// Whether reports go to the log too.
        log: bool = "false" {
            key: "notification.log",
            env: ["NOTIFICATION_LOG"],
            allowed: BOOL,
            live: true,
        }
    }

    /// The record of what was done to the broker.
    pub Audit {
        /// Whether changes and refusals are recorded, as events of the events store.
        enable: bool = "false" {
            key: "audit.enable",
            env: ["AUDIT_ENABLE"],
            allowed: BOOL,
            live: true,
        }
        /// How long records are kept. 0: for ever.
        retention_hours: u64 = "720" {
            key: "audit.retention_hours",
            env: ["AUDIT_RETENTION_HOURS"],
            allowed: Allowed::Range(0, MINUTES_MAX / 60),
            unit: Unit::Hours,
            live: true,
        }
        /// The channel of the events store that holds them.
        channel: String = "_audit" {
            key: "audit.channel",
            env: ["AUDIT_CHANNEL"],
            allowed: Allowed::Channel,
            live: true,
        }
        /// File that gets a line for each administrative act and each refusal, every line with the
        /// hash of the one before. Empty: none.
        log_file: Option<PathBuf> = "" {
            key: "audit.log_file",
            env: ["AUDIT_LOG_FILE"],
            allowed: Allowed::OptionalPath,
        }
    }
}
