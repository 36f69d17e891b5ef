//! Files: their syntaxes, their places, and what is wrong with them.

use super::*;

impl World {
    /// A file of the given name, named on the command line.
    fn named(mut self, name: &str, text: &str) -> Self {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        self.sources.file = Some(path);
        self
    }

    /// A file that is only there.
    fn there(self, name: &str, text: &str) -> Self {
        std::fs::write(self.directory.path().join(name), text).unwrap();
        self
    }
}

/// A file as the reference writes it: all keys, in lower case, and the empty ones too.
const REFERENCE: &str = r#"
host: node-7
api:
  port: 8081
grpc:
  port: 50001
  subbuffsize: 100
  bodylimit: 4194304
rest:
  port: 9091
  readtimeout: 60
  writetimeout: 60
  subbuffsize: 100
  bodylimit: "2M"
  cors:
    alloworigins: ["*"]
    allowmethods: [GET, POST]
    allowheaders: []
    exposeheaders: []
    allowcredentials: false
    maxage: 0
log:
  level: debug
store:
  cleanstore: false
  storepath: ./kept
  maxqueues: 0
  maxretention: 60
queue:
  maxnumberofmessages: 512
broker:
  maxpayload: 104857600
  disksyncseconds: 60
security:
  cert: {filename: "", data: ""}
  key: {filename: "", data: ""}
  ca: {filename: "", data: ""}
authentication:
  enable: false
  jwtconfig: {key: "", filepath: "", signaturetype: ""}
authorization:
  enable: false
  policydata: ""
routing:
  enable: false
  data: ""
  autoreload: 0
"#;

#[test]
fn file_that_the_reference_wrote_is_understood() {
    let world = World::new().named("config.yaml", REFERENCE);
    let config = world.load();
    let ports = (config.grpc.port, config.rest.port, config.api.port);
    assert_eq!(ports, (50_001, 9_091, 8_081));
    assert_eq!(config.host, "node-7");
    assert_eq!(config.rest_body_limit(), 2 << 20);
    assert_eq!(config.store.path, PathBuf::from("./kept"));
    assert_eq!(config.queue.messages_max, 512);
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.rest.cors.allow_methods, ["GET", "POST"]);
    assert_eq!(origin(&config, "grpc.port"), {
        let path = world.directory.path().join("config.yaml");
        format!("file {}:6", path.display())
    });
    let unused: Vec<_> = config
        .provenance
        .unused
        .iter()
        .map(|unused| unused.key)
        .collect();
    let expected = [
        "grpc.sub_buff_size",
        "rest.sub_buff_size",
        "broker.disk_sync_seconds",
    ];
    assert_eq!(unused, expected);
    let text = std::fs::read_to_string(world.directory.path().join("config.yaml")).unwrap();
    assert_eq!(text, REFERENCE, "nobody writes into it");
}

#[test]
fn file_of_the_commercial_image_nests_its_services() {
    let yaml = concat!(
        "connectors:\n  grpc:\n    enable: true\n    port: \"50001\"\n    bodyLimit: 4194304\n",
        "  rest:\n    enable: false\n    port: \"9091\"\n",
        "    cors:\n      allowOrigins:\n      - https://a\n",
        "log:\n  level: 2\n",
    );
    let config = World::new().named("config.yaml", yaml).load();
    assert_eq!((config.grpc.port, config.rest.port), (50_001, 9_091));
    assert!(!config.rest.enable);
    assert_eq!(config.grpc.body_limit, 4 << 20);
    assert_eq!(config.rest.cors.allow_origins, ["https://a"]);
    assert_eq!(config.log.level, LogLevel::Info);
}

#[test]
fn wrong_types_are_errors_with_their_lines() {
    let yaml = "grpc:\n  port: [1, 2]\nstore:\n  maxQueues: abc\nlog:\n  levle: info\nrest: 5\n";
    let text = World::new().named("x.yaml", yaml).refusal();
    for expected in [
        "grpc.port (file x.yaml:2): a list, where one value is meant",
        "store.max_queues = \"abc\" (file x.yaml:4): allowed is",
        "log.levle (file x.yaml:6): unknown key; did you mean log.level?",
        "rest (file x.yaml:7): unknown key",
    ] {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn faults_of_the_text_come_with_file_and_line() {
    let text = World::new()
        .named("x.yaml", "grpc:\n  port: \"7\n")
        .refusal();
    assert!(text.contains("file x.yaml: line"), "{text}");
    let text = World::new().named("x.yaml", "a: &a 1\nb: *a\n").refusal();
    assert!(text.contains("file x.yaml: line 2: an alias"), "{text}");
    let text = World::new()
        .named("x.toml", "[grpc]\nport = = 1\n")
        .refusal();
    assert!(text.contains("line 2"), "{text}");
}

#[test]
fn default_files_have_an_order() {
    let reference = World::new().there("config.yaml", "grpc: {port: 1}");
    assert_eq!(reference.load().grpc.port, 1);
    let yaml = reference.there("ringmq.yaml", "grpc: {port: 2}");
    assert_eq!(yaml.load().grpc.port, 2);
    let both = yaml.there("ringmq.toml", "grpc.port = 3");
    let text = both.refusal();
    let expected = "ringmq.toml and ringmq.yaml are both there";
    assert!(text.contains(expected), "{text}");
    assert_eq!(both.named("x.yml", "grpc: {port: 4}").load().grpc.port, 4);
}

#[test]
fn variable_holds_a_file_in_either_syntax() {
    // base64 of "grpc:\n  port: 5\n", of "[grpc]\nport = 3\n"; and a text that is no base64.
    let cases = [
        ("Z3JwYzoKICBwb3J0OiA1Cg==", 5),
        ("W2dycGNdCnBvcnQgPSAzCg==", 3),
        ("grpc:\n  port: 6\n", 6),
    ];
    for (text, port) in cases {
        let config = World::new().env("CONFIG", text).load();
        assert_eq!(config.grpc.port, port);
    }
    let config = World::new()
        .env("CONFIG", "Z3JwYzoKICBwb3J0OiA1Cg==")
        .load();
    assert_eq!(origin(&config, "grpc.port"), "file in env CONFIG, line 2");
}

#[test]
fn tables_of_names_and_lists_are_values_where_they_are_meant() {
    let yaml = "telemetry:\n  exporter:\n    headers:\n      api-key: hunter2\n      x: y=z\n";
    let config = World::new().named("x.yaml", yaml).load();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        config.telemetry.headers,
        [pair("api-key", "hunter2"), pair("x", "y=z")]
    );
    assert_eq!(setting(&config, "telemetry.exporter.headers").value, "***");
    let text = World::new()
        .env("TELEMETRY_EXPORTER_HEADERS", "hunter2 without a name")
        .refusal();
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn rules_of_channels_may_stand_in_yaml() {
    let yaml = "store:\n  channelRules:\n  - pattern: orders.>\n    retentionMinutes: 60\n    \
        whenFull: drop-oldest\n  - pattern: audit\n    deadLetterQueue: \"\"\n";
    let config = World::new().named("x.yaml", yaml).load();
    let limits = config.store.limits_for("orders.eu");
    assert_eq!(limits.when_full, WhenFull::DropOldest);
    assert_eq!(config.store.rules.as_slice().len(), 2);
}
