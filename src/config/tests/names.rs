//! Every name of the reference and of the commercial image: it works, is told of, or is refused.

use super::*;
use crate::config::reference;

/// The names of the commercial image.
fn names() -> Vec<&'static str> {
    let list = include_str!("../../../tests/golden/env-keys.txt");
    list.lines().filter(|line| !line.starts_with('#')).collect()
}

/// A value that the setting allows and that is not its default.
fn other_value(key: &Key) -> &'static str {
    match key.allowed {
        Allowed::OneOf(words) => words
            .iter()
            .find(|word| **word != key.default)
            .expect("one word is no choice"),
        Allowed::Range(..) | Allowed::OptionalRange(..) => "4096",
        Allowed::PowerOfTwo(..) => "1048576",
        Allowed::Ratio => "0.5",
        Allowed::Address | Allowed::OptionalAddress => "127.0.0.1",
        Allowed::List(ListOf::Origins, _) => "https://a.example",
        Allowed::Pairs => "name=value",
        Allowed::JsonArray => "[]",
        Allowed::OptionalOneOf(words) => words.first().expect("there is a word"),
        Allowed::OptionalUrl => "https://a.example",
        Allowed::Pem => "-----BEGIN CERTIFICATE-----",
        _ => "other",
    }
}

#[test]
fn every_name_of_the_commercial_image_is_known() {
    let names = names();
    assert_eq!(names.len(), 269);
    let settings = keys().iter().flat_map(|key| key.env);
    let reference = reference::all().flat_map(|key| key.env);
    let known: Vec<_> = settings.chain(reference).collect();
    for name in names {
        assert!(known.contains(&&name), "{name} is not known");
    }
}

#[test]
fn every_name_works_or_is_told_of_or_is_refused() {
    for name in names() {
        let setting = keys().iter().find(|key| key.env.contains(&name));
        if let Some(key) = setting {
            let world = World::new().env(name, other_value(key));
            match Config::load(&world.sources) {
                Ok(config) => assert_eq!(origin(&config, key.name), format!("env {name}")),
                // What is not served, as an address to fetch from, or is half of a pair.
                Err(error) => {
                    let (section, _) = key.name.rsplit_once('.').expect("it is in a section");
                    assert!(error.to_string().contains(section), "{name}: {error}");
                }
            }
            continue;
        }
        let world = World::new().env(name, "true");
        match Config::load(&world.sources) {
            Err(error) => assert!(error.to_string().contains(name), "{name}: {error}"),
            Ok(config) => {
                let shown = |unused: &Unused| unused.origin.to_string().ends_with(name);
                let told = config.provenance.unused.iter().any(shown);
                let licence = name.starts_with("LICENSE");
                let silent = ["KUBEMQ_TOKEN", "CONNECTORS_USAGE_REPORT_URL"].contains(&name);
                let accepted = name == "CONNECTORS_GRPC_ENABLE";
                assert_ne!(told, licence || silent || accepted, "{name}");
            }
        }
    }
}

#[test]
fn both_spellings_of_a_name_set_the_same() {
    let pairs = [
        ("REST_PORT", "CONNECTORS_REST_PORT", "7"),
        ("REST_READ_TIMEOUT", "CONNECTORS_REST_READ_TIMEOUT", "7"),
        ("REST_BODY_LIMIT", "CONNECTORS_REST_BODY_LIMIT", "2M"),
        (
            "REST_CORS_ALLOW_ORIGINS",
            "CONNECTORS_REST_CORS_ALLOW_ORIGINS",
            "https://a, https://b",
        ),
        ("API_BIND", "API_BIND_ADDRESS", "127.0.0.1"),
        ("GRPC_BODY_LIMIT", "CONNECTORS_GRPC_BODY_LIMIT", "4194304"),
    ];
    for (first, second, value) in pairs {
        let load = |name: &str| {
            let mut config = World::new().env(name, value).load();
            config.provenance = Provenance::default();
            config
        };
        assert_eq!(load(first), load(second), "{second}");
        assert_ne!(load(first).rest.port, 0);
        let untouched = Config {
            provenance: Provenance::default(),
            ..Config::default()
        };
        assert_ne!(load(first), untouched);
    }
}

#[test]
fn promises_that_are_not_kept_are_no_start() {
    let cases = [
        ("CLUSTER_ENABLE", "true", "keeps no copies on other nodes"),
        ("STORE_CLEAN_STORE", "true", "deletes no store"),
        ("CONNECTORS_GRPC_ENABLE", "false", "always on"),
    ];
    for (name, value, why) in cases {
        let text = World::new().env(name, value).refusal();
        assert!(text.contains(name) && text.contains(why), "{text}");
    }
}

#[test]
fn switched_on_connectors_have_a_warning_of_their_own() {
    let world = World::new()
        .env("CONNECTORSMQTT_ENABLE", "true")
        .env("CONNECTORSMQTT_PORT", "1883")
        .env("CONNECTORS_AMQP_ENABLE", "false");
    let warnings = world.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(
        warnings[0].contains("nothing here speaks MQTT"),
        "{warnings:?}"
    );
    assert!(warnings[1].contains("CONNECTORSMQTT_PORT"), "{warnings:?}");
}

#[test]
fn licences_are_accepted_without_a_word() {
    let world = World::new()
        .env("LICENSE_KEY_DATA", "secret")
        .env("KEY", "secret")
        .env("KUBEMQ_TOKEN", "secret");
    assert_eq!(world.warnings(), Vec::<String>::new());
}

#[test]
fn records_of_accesses_are_kept_as_long_as_they_say() {
    let hours = |hours: u64| Some(Duration::from_secs(hours * 3_600));
    let world = World::new().env("AUDIT_RETENTION_HOURS", "2");
    let config = world.load();
    assert_eq!(
        config.retention_for("_audit"),
        hours(24),
        "a channel like others"
    );
    let config = world.env("AUDIT_ENABLE", "true").load();
    assert_eq!(config.retention_for("_audit"), hours(2));
    assert_eq!(config.retention_for("other"), hours(24));
    let config = World::new()
        .env("AUDIT_ENABLE", "true")
        .set("audit.retention_hours=0")
        .load();
    assert_eq!(config.retention_for("_audit"), None);
}

#[test]
fn bound_of_the_internal_broker_is_one_of_every_message() {
    let config = World::new().env("BROKER_MAX_PAYLOAD", "1MiB").load();
    assert_eq!(
        (config.grpc.body_limit, config.rest_body_limit()),
        (1 << 20, 1 << 20)
    );
    let shown = setting(&config, "grpc.body_limit").shown();
    assert_eq!(shown, "100 MiB (here: 1048576)");
    let config = World::new()
        .env("BROKER_MAX_PAYLOAD", "100MiB")
        .env("REST_BODY_LIMIT", "200MiB")
        .set("grpc.body_limit=1MiB")
        .load();
    assert_eq!(
        (config.grpc.body_limit, config.rest_body_limit()),
        (1 << 20, 100 << 20)
    );
}

#[test]
fn no_two_spellings_flow_together() {
    let mut seen = std::collections::HashSet::new();
    let settings = keys().iter().map(|key| key.name);
    for name in settings.chain(reference::all().map(|key| key.name)) {
        let (section, rest) = name.split_once('.').unwrap_or(("", name));
        let flat = format!("{section}.{}", rest.replace(['.', '_'], ""));
        assert!(seen.insert(flat), "{name}");
    }
}
