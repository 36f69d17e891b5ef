//! The effective configuration, without what must not show.
//!
//! Keys are those of the configuration in the spelling of the reference: `store.max_retention` is
//! `maxRetention` in `store`. A secret comes out of the configuration as `***` already; what a URL
//! holds before its host is hidden here.

use http::StatusCode;
use serde_json::{Map, Value};

use super::super::body::Body;
use super::super::exchange::{Exchange, Response};
use super::json;
use crate::config::{Allowed, Config, Effective};

/// What is shown in place of credentials within a URL.
const HIDDEN: &str = "***";

pub(super) fn show(exchange: &Exchange) -> Response {
    json(StatusCode::OK, Body::full(text(&exchange.context.config)))
}

fn text(config: &Config) -> Vec<u8> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    let shown = serde::Serialize::serialize(&tree(config), &mut serializer);
    debug_assert!(shown.is_ok(), "texts and numbers can be written");
    text.push(b'\n');
    text
}

fn tree(config: &Config) -> Value {
    let mut root = Map::new();
    for setting in &config.provenance.settings {
        put(&mut root, setting.key.name, value(setting));
    }
    Value::Object(root)
}

/// Puts a value where its dotted key says.
fn put(fields: &mut Map<String, Value>, key: &str, value: Value) {
    let Some((section, rest)) = key.split_once('.') else {
        fields.insert(camel_case(key), value);
        return;
    };
    let section = fields
        .entry(camel_case(section))
        .or_insert_with(|| Value::Object(Map::new()));
    // No key is a section of others as well.
    if let Value::Object(fields) = section {
        put(fields, rest, value);
    }
}

fn value(setting: &Effective) -> Value {
    let text = setting.resolved.as_ref().unwrap_or(&setting.value);
    match (setting.key.allowed, text.parse::<u64>()) {
        (Allowed::Range(..) | Allowed::PowerOfTwo(..), Ok(number)) => number.into(),
        (Allowed::OneOf(words), _) if words.contains(&"true") => match text.as_str() {
            "true" => true.into(),
            "false" => false.into(),
            other => other.into(),
        },
        _ => without_credentials(text).into(),
    }
}

/// A URL may hold a name and a password before its host.
fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{HIDDEN}@{host}{path}"),
        None => text.to_owned(),
    }
}

/// `max_retention` is `maxRetention`.
fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut joined = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        joined.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        joined.push_str(letters.as_str());
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_spelled_as_the_reference_does() {
        assert_eq!(camel_case("max_purge_inactive"), "maxPurgeInactive");
        assert_eq!(camel_case("port"), "port");
        let tree = tree(&Config::default());
        assert_eq!(tree["grpc"]["port"], 50_000);
        assert_eq!(tree["api"]["port"], 8_080);
        assert!(tree["store"]["storePath"].is_string());
        assert!(tree["requests"]["failFast"].is_boolean());
    }

    #[test]
    fn credentials_in_a_url_do_not_show() {
        assert_eq!(
            without_credentials("https://me:pass@host/p@th"),
            "https://***@host/p@th"
        );
        assert_eq!(without_credentials("https://host/a"), "https://host/a");
        assert_eq!(without_credentials("./data"), "./data");
    }
}
