//! The description of REST and its sockets for tools: OpenAPI 3.1, as `GET /openapi.json` serves
//! it.

use http::StatusCode;

use super::body::Body;
use super::envelope;
use super::exchange::Response;

const DOCUMENT: &str = include_str!("openapi.json");

pub(crate) fn response() -> Response {
    envelope::response(StatusCode::OK, Body::full(DOCUMENT))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_schemas_have_the_fields_of_the_contract() {
        use prost::Message as _;
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let set = ringmq_proto::FILE_DESCRIPTOR_SET;
        let set = prost_types::FileDescriptorSet::decode(set).unwrap();
        let kubemq = set
            .file
            .iter()
            .find(|file| file.package() == "kubemq")
            .unwrap();
        let mut described = 0;
        for message in &kubemq.message_type {
            // Empty has no fields; subscriptions travel in the query string.
            if ["Empty", "Subscribe"].contains(&message.name()) {
                continue;
            }
            let schema = &schemas[message.name()];
            let properties = schema["properties"].as_object().unwrap();
            let mut ours: Vec<_> = properties.keys().map(String::as_str).collect();
            let mut theirs: Vec<_> = message.field.iter().map(|field| field.name()).collect();
            ours.sort_unstable();
            theirs.sort_unstable();
            assert_eq!(ours, theirs, "{}", message.name());
            described += 1;
        }
        // And the two forms of failures.
        assert_eq!(schemas.len(), described + 2);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(value: &Value, document: &Value) {
            if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
                let target = document.pointer(reference.strip_prefix('#').unwrap());
                assert!(target.is_some(), "{reference}");
            }
            match value {
                Value::Object(members) => members.values().for_each(|value| check(value, document)),
                Value::Array(items) => items.iter().for_each(|value| check(value, document)),
                _ => {}
            }
        }
        let document = serde_json::from_str(DOCUMENT).unwrap();
        check(&document, &document);
    }
}
