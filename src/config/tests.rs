//! The configuration as a whole: layers, origins, refusals, and the documentation.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

mod files;
mod names;

/// Sources in a directory of their own, in which a test may put a file.
struct World {
    directory: tempfile::TempDir,
    sources: Sources,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sources = Sources {
            directory: directory.path().to_owned(),
            ..Sources::default()
        };
        Self { directory, sources }
    }

    fn file(mut self, text: &str) -> Self {
        let path = self.directory.path().join("given.toml");
        std::fs::write(&path, text).unwrap();
        self.sources.file = Some(path);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources
            .environment
            .insert(name.to_owned(), OsString::from(value));
        self
    }

    fn flag(mut self, key: &'static str, flag: &'static str, value: &str) -> Self {
        let value = value.to_owned();
        self.sources
            .flags
            .push(FlagValue::Setting { key, flag, value });
        self
    }

    fn set(mut self, assignment: &str) -> Self {
        self.sources
            .flags
            .push(FlagValue::Assignment(assignment.to_owned()));
        self
    }

    fn load(&self) -> Config {
        Config::load(&self.sources).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The refusal's text, with the directory cut out of it.
    fn refusal(&self) -> String {
        let text = Config::load(&self.sources)
            .expect_err("must be refused")
            .to_string();
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }

    /// The warnings, without those of the machine.
    fn warnings(&self) -> Vec<String> {
        self.load()
            .provenance
            .warnings
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }
}

fn setting(config: &Config, name: &str) -> Effective {
    let mut settings = config.provenance.settings.iter();
    settings
        .find(|setting| setting.key.name == name)
        .expect("it is a setting")
        .clone()
}

fn origin(config: &Config, name: &str) -> String {
    setting(config, name).origin.to_string()
}

#[test]
fn defaults_are_those_of_the_reference_where_it_has_them() {
    let config = Config::default();
    assert_eq!(
        (config.grpc.port, config.rest.port, config.api.port),
        (50_000, 9_090, 8_080)
    );
    assert_eq!(config.grpc.body_limit, 104_857_600);
    assert_eq!(config.log.level, LogLevel::Info);
    assert_eq!(config.store.sync, Sync::Strict);
    assert_eq!(config.store.retention, Some(Duration::from_secs(86_400)));
    assert_eq!(
        config.store.max_purge_inactive,
        Some(Duration::from_secs(86_400))
    );
    assert_eq!(
        (config.store.messages_max, config.store.channels_max),
        (0, 0)
    );
    assert_eq!(config.server.drain_grace, Duration::from_secs(10));
    assert!(config.provenance.warnings.is_empty());
    assert_eq!(origin(&config, "grpc.port"), "default");
}

#[test]
fn later_layers_win_and_every_value_knows_its_origin() {
    let file = "[grpc]\nport = 1\nbodyLimit = \"1MiB\"\n[rest]\nport = \"2\"\n[log]\nlevel = 3\n";
    let world = World::new()
        .file(file)
        .env("REST_PORT", "3")
        .env("API_PORT", "4")
        .flag("api.port", "--api-port", "5")
        .set("engine.spinUs=50");
    let config = world.load();
    assert_eq!(
        (config.grpc.port, config.rest.port, config.api.port),
        (1, 3, 5)
    );
    assert_eq!(config.grpc.body_limit, 1 << 20);
    assert_eq!(config.log.level, LogLevel::Warn);
    assert_eq!(config.engine.spin, Some(Duration::from_micros(50)));
    assert!(origin(&config, "grpc.port").ends_with("given.toml:2"));
    assert_eq!(origin(&config, "rest.port"), "env REST_PORT");
    assert_eq!(origin(&config, "api.port"), "flag --api-port");
    assert_eq!(origin(&config, "engine.spin_us"), "flag --set");
    assert_eq!(origin(&config, "engine.pin"), "default");
}

#[test]
fn values_are_shown_in_their_usual_spelling() {
    let world = World::new()
        .set("grpc.bodyLimit=1MiB")
        .set("log.level=2")
        .set("engine.pin=YES")
        .set("store.sync=Strict")
        .set("requests.failFast=1");
    let config = world.load();
    let value = |name| setting(&config, name).value;
    assert_eq!(
        (value("grpc.body_limit"), value("log.level")),
        ("1048576".into(), "info".into())
    );
    assert_eq!(
        (value("engine.pin"), value("store.sync")),
        ("true".into(), "strict".into())
    );
    assert_eq!(value("requests.fail_fast"), "true");
}

#[test]
fn keys_of_a_file_may_be_spelled_as_the_reference_does() {
    let spellings = [
        "[store]\nstorePath = \"/x\"",
        "[Store]\nstorepath = \"/x\"",
        "[STORE]\nstore_path = \"/x\"",
        "store.storePath = \"/x\"",
    ];
    for file in spellings {
        assert_eq!(
            World::new().file(file).load().store.path,
            PathBuf::from("/x"),
            "{file}"
        );
    }
    let nested = "[connectors.grpc]\nport = \"7\"\n";
    assert_eq!(World::new().file(nested).load().grpc.port, 7);
}

#[test]
fn one_key_in_two_spellings_is_no_accident_to_hide() {
    let text = World::new()
        .file("[grpc]\nbodyLimit = 2048\nbody_limit = 4096\n")
        .refusal();
    assert!(
        text.contains("grpc.body_limit: set twice, by file given.toml"),
        "{text}"
    );
    let text = World::new()
        .flag("grpc.port", "--grpc-port", "1")
        .set("grpc.port=2")
        .refusal();
    assert!(
        text.contains("grpc.port: set twice, by flag --grpc-port and by flag --set"),
        "{text}"
    );
}

#[test]
fn every_problem_is_named_at_once() {
    let file = "[grpc]\nport = 70000\nprot = 1\n[engin]\ncores = 1\n[store]\nsync = \"maybe\"\n";
    let world = World::new()
        .file(file)
        .env("GRPC_BODY_LIMIT", "many")
        .env("AUTHENTICATION_ENABLE", "true")
        .env("GRPC_PRT", "unknown names are ignored here")
        .flag("engine.cores", "--cores", "-1")
        .set("nonsense")
        .set("engine.spin_us = 99999");
    let expected = "\
the configuration is refused:
  grpc.prot (file given.toml:3): unknown key; did you mean grpc.port?
  engin.cores (file given.toml:5): unknown key; did you mean engine.cores?
  flag --set \"nonsense\": expected key=value
  grpc.port = \"70000\" (file given.toml:2): allowed is 0 to 65535
  grpc.body_limit = \"many\" (env GRPC_BODY_LIMIT): allowed is 1 KiB to 1 GiB
  engine.cores = \"-1\" (flag --cores): allowed is 0 to 256
  engine.spin_us = \"99999\" (flag --set): allowed is 0 to 10000
  store.sync = \"maybe\" (file given.toml:7): allowed is strict, interval
  authentication.enable is set, but nothing says how clients are recognised: set \
authentication.jwt_config, authentication.jwks_file, authentication.jwks_url, \
authentication.oidc_issuer, authentication.api_keys_file or authentication.accept_certificates";
    assert_eq!(world.refusal(), expected);
}

#[test]
fn protection_by_halves_is_refused_from_every_source() {
    let variables = [
        ("AUTHENTICATION_ENABLE", "authentication.enable is set"),
        ("AUTHORIZATION_ENABLE", "authorization.enable is set"),
        ("API_AUTH_ENABLE", "api.auth.enable is set without"),
    ];
    for (name, what) in variables {
        let text = World::new().env(name, "TRUE").refusal();
        assert!(text.contains(what), "{text}");
    }
    let text = World::new().set("Authorization.Enable=yes").refusal();
    assert!(text.contains("nothing says what is allowed"), "{text}");
    let text = World::new().set("authentication.enable=maybe").refusal();
    assert!(text.contains("allowed is true, false"), "{text}");
}

#[test]
fn protection_that_is_off_is_no_problem() {
    let world = World::new()
        .env("AUTHENTICATION_ENABLE", "false")
        .env("SECURITY_CERT_FILENAME", "")
        .file("[authorization]\nenable = false\n");
    assert!(world.warnings().is_empty());
    // A later layer switches off what an earlier one switched on.
    World::new()
        .file("[authentication]\nenable = true\n")
        .env("AUTHENTICATION_ENABLE", "false")
        .load();
}

#[test]
fn keys_of_the_reference_without_effect_are_one_warning() {
    let file = "[broker]\nmaxConn = 7\n[grpc]\nsubBuffSize = 100\n";
    let world = World::new().file(file).env("QUEUE_MAX_INFLIGHT", "2048");
    let warnings = world.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    for name in [
        "broker.max_conn (file",
        "grpc.sub_buff_size",
        "env QUEUE_MAX_INFLIGHT",
    ] {
        assert!(warnings[0].contains(name), "{warnings:?}");
    }
    assert_eq!(world.load().provenance.unused.len(), 3);
}

#[test]
fn kubernetes_service_variables_are_ignored_with_a_warning() {
    let world = World::new().env("GRPC_PORT", "tcp://10.0.0.7:50000");
    assert_eq!(world.load().grpc.port, 50_000);
    let warnings = world.warnings();
    assert!(
        warnings[0].contains("GRPC_PORT=tcp://10.0.0.7:50000 was ignored"),
        "{warnings:?}"
    );
}

#[test]
fn name_of_the_commercial_image_counts_when_the_own_one_is_not_set() {
    let world = World::new().env("CONNECTORS_GRPC_PORT", "7");
    assert_eq!(
        origin(&world.load(), "grpc.port"),
        "env CONNECTORS_GRPC_PORT"
    );
    let world = world.env("GRPC_PORT", "8");
    assert_eq!(world.load().grpc.port, 8);
    assert!(world.warnings()[0].contains("CONNECTORS_GRPC_PORT was ignored"));
    assert!(world.env("CONNECTORS_GRPC_PORT", "8").warnings().is_empty());
}

#[test]
fn empty_variables_are_not_set_and_wrong_ones_are_named() {
    assert_eq!(World::new().env("GRPC_PORT", "").load().grpc.port, 50_000);
    use std::os::unix::ffi::OsStringExt;
    let mut world = World::new();
    let bytes = OsString::from_vec(vec![0xff]);
    world.sources.environment = HashMap::from([("HOST".to_owned(), bytes)]);
    assert!(world.refusal().contains("env HOST: its value is not UTF-8"));
}

#[test]
fn file_is_found_by_flag_then_variable_then_default_name() {
    let world = World::new();
    assert_eq!(world.load().provenance.file, None);
    let directory = world.directory.path().to_owned();
    std::fs::write(directory.join(DEFAULT_FILE), "grpc.port = 1").unwrap();
    assert_eq!(world.load().grpc.port, 1);

    let named = directory.join("named.toml");
    std::fs::write(&named, "grpc.port = 2").unwrap();
    let world = world.env("CONFIG", named.to_str().unwrap());
    assert_eq!(world.load().grpc.port, 2);

    // printf '[grpc]\nport = 3\n' | base64
    let world = world.env("CONFIG", "W2dycGNdCnBvcnQgPSAzCg==");
    assert_eq!(world.load().grpc.port, 3);
    assert_eq!(
        origin(&world.load(), "grpc.port"),
        "file in env CONFIG, line 2"
    );

    assert_eq!(world.file("grpc.port = 4").load().grpc.port, 4);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let mut world = World::new();
    world.sources.file = Some(world.directory.path().join("nowhere.toml"));
    assert!(
        world
            .refusal()
            .contains("file nowhere.toml: cannot be read")
    );
    let text = World::new().env("CONFIG", "./nowhere.toml").refusal();
    assert!(
        text.contains("neither the path of a file nor a file in base64"),
        "{text}"
    );
    let text = World::new().file("[grpc]\nport = = 1\n").refusal();
    assert!(
        text.contains("file given.toml: ") && text.contains("line 2"),
        "{text}"
    );
}

#[test]
fn rules_for_channels_may_come_from_a_table_or_a_text() {
    let file = "[store]\nmaxMessages = 10\n\
        [[store.channelRules]]\npattern = \"orders.>\"\nretentionMinutes = 60\n\
        [[store.channel_rules]]\npattern = \"audit\"\nwhenFull = \"drop-oldest\"\n";
    let text = World::new().file(file).refusal();
    assert!(text.contains("set twice"), "two spellings: {text}");
    let world = World::new().file(&file.replace("channelRules", "channel_rules"));
    let config = world.load();
    let limits = config.store.limits_for("orders.eu");
    assert_eq!(limits.retention, Some(Duration::from_secs(3_600)));
    assert_eq!(limits.messages_max, 10);
    assert_eq!(
        config.store.limits_for("audit").when_full,
        WhenFull::DropOldest
    );
    let spelled = setting(&config, "store.channel_rules").value;
    assert_eq!(
        spelled,
        "pattern=orders.>;retention_minutes=60,pattern=audit;when_full=drop-oldest"
    );
    let again = World::new().env("STORE_CHANNEL_RULES", &spelled).load();
    assert_eq!(again.store.rules, config.store.rules);
    let text = World::new()
        .env("STORE_CHANNEL_RULES", "pattern=a*")
        .refusal();
    assert!(text.contains("rule 1: "), "{text}");
}

#[test]
fn no_page_of_any_origin_may_use_the_management_service() {
    let world = World::new()
        .env("API_ALLOW_ORIGINS", "https://a, *")
        .env("REST_CORS_ALLOW_CREDENTIALS", "true");
    assert_eq!(world.load().api.allow_origins, ["https://a"]);
    let warnings = world.warnings();
    assert!(warnings[0].contains("which is ignored"), "{warnings:?}");
    assert!(warnings[1].contains("browsers send none"), "{warnings:?}");
}

#[test]
fn services_need_ports_of_their_own() {
    let text = World::new().set("rest.port=50000").refusal();
    assert!(
        text.contains("grpc.port and rest.port are both 50000"),
        "{text}"
    );
    World::new()
        .set("grpc.port=0")
        .set("rest.port=0")
        .set("api.port=0")
        .load();
}

#[test]
fn times_of_queues_stay_within_their_bounds() {
    let text = World::new()
        .env("QUEUE_DEFAULT_VISIBILITY_SECONDS", "61")
        .env("QUEUE_MAX_VISIBILITY_SECONDS", "60")
        .set("queue.visibilitySeconds=70")
        .set("queue.max_wait_timeout_seconds=5")
        .set("queue.default_wait_timeout_seconds=6")
        .set("store.channel_rules=pattern=a;visibility_seconds=80")
        .refusal();
    for expected in [
        "queue.default_wait_timeout_seconds is 6 s, but queue.max_wait_timeout_seconds is 5 s",
        "queue.default_visibility_seconds is 61 s, but queue.max_visibility_seconds is 60 s",
        "queue.visibility_seconds is 70 s, but",
        "visibility_seconds of a channel rule is 80 s, but",
    ] {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn queue_for_dead_letters_is_a_channel() {
    let queue = |name: &str| World::new().set(&format!("queue.dead_letter_queue={name}"));
    let named = |name| queue(name).load().queue.dead_letter_queue;
    assert_eq!(named("dead.letters").as_deref(), Some("dead.letters"));
    assert_eq!(named(""), None);
    for (wrong, why) in [
        ("a.", "ends with a dot"),
        ("a.*", "wildcard"),
        ("a b", "white"),
    ] {
        let text = queue(wrong).refusal();
        assert!(text.contains("a channel, or empty: name "), "{text}");
        assert!(text.contains(why), "{text}");
    }
}

#[test]
fn what_is_left_open_is_filled_in_from_the_machine() {
    let mut world = World::new();
    world.sources.machine = Machine {
        host_name: "node-1".to_owned(),
        cpus: vec![0, 2, 4],
        quota_millis: Some(1_500),
        files: Some(20_000),
        ..Machine::default()
    };
    let config = world.load();
    assert_eq!((config.host.as_str(), config.engine.cores), ("node-1", 2));
    let possible = 20_000 - 128 - 64;
    assert_eq!(config.rest.max_connections, possible / 4);
    assert_eq!(config.grpc.max_connections, possible - possible / 4);
    assert_eq!(setting(&config, "engine.cores").shown(), "0 (here: 2)");

    let world = world.env("HOST", "other").set("engine.cores=4");
    let config = world.load();
    assert_eq!((config.host.as_str(), config.engine.cores), ("other", 4));
    assert_eq!(setting(&config, "host").shown(), "other");
    let warnings = world.warnings();
    assert!(
        warnings[0].contains("engine.cores is 4, but 2 can be used here"),
        "{warnings:?}"
    );
}

#[test]
fn limits_beyond_the_machine_are_warned_of() {
    let mut world = World::new().set("grpc.max_connections=5000");
    world.sources.machine.memory_bytes = Some(256 << 20);
    let warnings = world.warnings();
    assert!(
        warnings[0].contains("limit of open files allows 3936"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].contains("may grow to 352 MiB, the memory is 256 MiB"),
        "{warnings:?}"
    );
}

#[test]
fn debug_output_of_sources_shows_no_values() {
    let world = World::new()
        .env("SECURITY_KEY_DATA", "hunter2")
        .set("authentication.jwtConfig.key=hunter2")
        .flag("log.level", "--log-level", "hunter2");
    let text = format!("{:?}", world.sources);
    assert!(
        !text.contains("hunter2") && text.contains("SECURITY_KEY_DATA"),
        "{text}"
    );
}

/// The documentation's row of a setting.
fn row(key: &Key) -> String {
    let code = |text: &&str| format!("`{text}`");
    let list = |names: &[&str]| names.iter().map(code).collect::<Vec<_>>().join(", ");
    let default = match (key.default, key.unit) {
        ("", _) => "empty".to_owned(),
        (default, Unit::Bytes) => match default.parse() {
            Ok(bytes) if bytes > 0 => format!("`{default}` ({})", super::key::show_bytes(bytes)),
            _ => format!("`{default}`"),
        },
        (default, _) => format!("`{default}`"),
    };
    format!(
        "| `{}` | {default} | {} | {} | {} | {} | {} | {} |",
        key.name,
        key.unit.name(),
        key.expected(),
        list(key.env),
        key.flag.map_or_else(String::new, |flag| code(&flag)),
        if key.live { "yes" } else { "" },
        key.doc.trim(),
    )
}

/// With `UPDATE_GOLDEN` set, prints the rows as they should be.
#[test]
fn documentation_has_the_row_of_every_setting_and_no_other() {
    let document = include_str!("../../docs/configuration.md");
    let expected: Vec<String> = keys().iter().map(|key| row(key)).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        println!("{}", expected.join("\n"));
    }
    let rows: Vec<&str> = document
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    for (row, expected) in rows.iter().zip(&expected) {
        assert_eq!(row, expected);
    }
    assert_eq!(rows.len(), expected.len());
}

#[test]
fn documentation_names_every_key_of_the_reference() {
    let document = include_str!("../../docs/configuration.md");
    for key in reference::all() {
        let family = key
            .name
            .rsplit_once('.')
            .map_or(key.name, |(family, _)| family);
        let named = document.contains(&format!("`{}`", key.name))
            || document.contains(&format!("`{family}.*`"));
        assert!(
            named,
            "docs/configuration.md does not say what {} does",
            key.name
        );
    }
}
