//! The description of REST against REST: requests are made from its schemas and examples, and
//! what comes back must be what it says.

use serde_json::{Map, Value, json};

use crate::broker::{Answer, HttpBroker, websocket};

/// The description, with what is needed to go by it.
struct Document(Value);

impl Document {
    /// A value, or what it refers to.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => {
                let target = self.0.pointer(reference.strip_prefix('#').unwrap());
                self.resolve(target.unwrap_or_else(|| panic!("{reference}")))
            }
            None => value,
        }
    }

    /// The operations that are no sockets: method, path and description.
    fn operations(&self) -> Vec<(String, &str, &Value)> {
        let mut operations = Vec::new();
        for (path, methods) in self.0["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                if operation.get("x-websocket").is_none() {
                    operations.push((method.to_uppercase(), path.as_str(), operation));
                }
            }
        }
        operations
    }

    /// The properties of a schema, and those that are required.
    fn members<'a>(&'a self, schema: &'a Value) -> (&'a Map<String, Value>, Vec<&'a str>) {
        let schema = self.resolve(schema);
        let mut required: Vec<&str> = Vec::new();
        let own = |schema: &'a Value, required: &mut Vec<&'a str>| {
            let names = schema.get("required").and_then(Value::as_array);
            required.extend(names.into_iter().flatten().filter_map(Value::as_str));
        };
        own(schema, &mut required);
        let mut properties = schema.get("properties").and_then(Value::as_object);
        for part in schema
            .get("allOf")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let part = self.resolve(part);
            own(part, &mut required);
            properties = properties.or(part.get("properties").and_then(Value::as_object));
        }
        (properties.expect("an object"), required)
    }

    /// What is wrong with a value, by its schema.
    fn flaw(&self, value: &Value, schema: &Value) -> Option<String> {
        let schema = self.resolve(schema);
        let wrong = |what: &str| Some(format!("{what}: {value}"));
        if let Some(constant) = schema.get("const")
            && constant != value
        {
            return wrong(&format!("not {constant}"));
        }
        if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
            && !allowed.contains(value)
        {
            return wrong("not in the enumeration");
        }
        if let Some(parts) = schema.get("allOf").and_then(Value::as_array)
            && let Some(flaw) = parts.iter().find_map(|part| self.flaw(value, part))
        {
            return Some(flaw);
        }
        if let Some(parts) = schema.get("oneOf").and_then(Value::as_array)
            && parts
                .iter()
                .filter(|part| self.flaw(value, part).is_none())
                .count()
                != 1
        {
            return wrong("not one of the forms");
        }
        let is_of_type = match schema.get("type").and_then(Value::as_str) {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("null") => value.is_null(),
            Some(other) => panic!("a type that this test does not know: {other}"),
            None => true,
        };
        if !is_of_type {
            return wrong("of another type");
        }
        match value {
            Value::Object(members) => self.flaw_of_members(members, schema),
            Value::Array(items) => {
                let of_items = schema.get("items")?;
                items.iter().find_map(|item| self.flaw(item, of_items))
            }
            Value::Number(number) => {
                let least = schema.get("minimum").and_then(Value::as_i64);
                let is_less = least.is_some_and(|least| number.as_i64().is_some_and(|n| n < least));
                is_less.then(|| format!("too small: {value}"))
            }
            _ => None,
        }
    }

    fn flaw_of_members(&self, members: &Map<String, Value>, schema: &Value) -> Option<String> {
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                return Some(format!("no {name}: {members:?}"));
            }
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        members.iter().find_map(|(name, value)| {
            match properties.and_then(|properties| properties.get(name)) {
                Some(schema) => self
                    .flaw(value, schema)
                    .map(|flaw| format!("{name}: {flaw}")),
                None => match schema.get("additionalProperties") {
                    Some(Value::Bool(false)) => Some(format!("{name} is not described")),
                    Some(other) => self.flaw(value, other),
                    // Whoever lists properties means all of them.
                    None if properties.is_some() && schema.get("type").is_some() => {
                        let open = properties.is_some_and(|all| all.contains_key("openapi"));
                        (!open).then(|| format!("{name} is not described"))
                    }
                    None => None,
                },
            }
        })
    }

    /// The answer must be one that the operation describes.
    fn assert_described(&self, operation: &Value, answer: &Answer, request: &str) {
        let described = &operation["responses"][answer.status.to_string()];
        assert!(
            described.is_object(),
            "{request}: status {} is not described",
            answer.status
        );
        let content = self.resolve(described).get("content");
        let Some(content) = content.and_then(Value::as_object) else {
            return;
        };
        let (media, content) = content.iter().next().unwrap();
        let given = answer.header("content-type").unwrap_or_default();
        assert!(given.starts_with(media.as_str()), "{request}: {given}");
        let value = if media == "application/json" {
            answer.json()
        } else {
            Value::String(answer.text.clone())
        };
        let flaw = self.flaw(&value, &content["schema"]);
        assert_eq!(flaw, None, "{request}: {}", answer.text);
    }
}

/// The description as the broker serves it.
fn served(broker: &HttpBroker) -> Document {
    let answer = broker.get("/openapi.json");
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-type"),
        Some("application/json; charset=UTF-8")
    );
    Document(answer.json())
}

fn request_of(operation: &Value) -> Option<&Value> {
    Some(&operation.get("requestBody")?["content"]["application/json"])
}

fn send(broker: &HttpBroker, method: &str, path: &str, body: &Value) -> (Answer, String) {
    let answer = broker.send_json(broker.rest(), method, path, body);
    (answer, format!("{method} {path} {body}"))
}

/// Whether the broker refused, in either of the two ways.
fn is_refused(answer: &Answer) -> bool {
    answer.status == 400 || answer.json()["data"]["IsError"] == true
}

#[test]
fn every_operation_answers_its_examples_as_described() {
    let broker = HttpBroker::start(2);
    let document = served(&broker);
    assert_eq!(document.0["openapi"], "3.1.0");
    for (method, path, operation) in document.operations() {
        let Some(content) = request_of(operation) else {
            let answer = broker.send(broker.rest(), &method, path, &[], b"");
            assert_eq!(answer.status, 200, "{path}");
            document.assert_described(operation, &answer, path);
            continue;
        };
        let examples = content["examples"].as_object().unwrap();
        assert!(!examples.is_empty(), "{path}");
        for example in examples.values() {
            let body = &example["value"];
            assert_eq!(document.flaw(body, &content["schema"]), None, "{path}");
            let (answer, request) = send(&broker, &method, path, body);
            document.assert_described(operation, &answer, &request);
            // Nobody answers the examples of requests.
            assert_eq!(
                is_refused(&answer),
                path == "/send/request",
                "{request}: {answer:?}"
            );
        }
    }
    broker.end();
}

#[test]
fn the_examples_of_answers_fit_their_schemas() {
    let broker = HttpBroker::start(1);
    let document = served(&broker);
    let mut checked = 0;
    for (_, path, operation) in document.operations() {
        for response in operation["responses"].as_object().unwrap().values() {
            let content = document.resolve(response).get("content");
            let Some(content) = content.and_then(|content| content.get("application/json")) else {
                continue;
            };
            let examples = content.get("examples").and_then(Value::as_object);
            for (name, example) in examples.into_iter().flatten() {
                let flaw = document.flaw(&example["value"], &content["schema"]);
                assert_eq!(flaw, None, "{path} {name}");
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "{checked} examples");
    broker.end();
}

#[test]
fn every_required_field_that_is_missing_is_refused() {
    let broker = HttpBroker::start(2);
    let document = served(&broker);
    let mut checked = 0;
    for (method, path, operation) in document.operations() {
        let Some(content) = request_of(operation) else {
            continue;
        };
        let (_, required) = document.members(&content["schema"]);
        for example in content["examples"].as_object().unwrap().values() {
            for name in &required {
                let mut body = example["value"].clone();
                body.as_object_mut().unwrap().remove(*name).unwrap();
                let (answer, request) = send(&broker, &method, path, &body);
                document.assert_described(operation, &answer, &request);
                assert!(is_refused(&answer), "{request}: {answer:?}");
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "{checked} requests");
    broker.end();
}

/// Values that no property of this schema takes.
fn of_other_types(schema: &Value) -> Vec<Value> {
    let all = [
        json!("text!"),
        json!(1),
        json!(1.5),
        json!(true),
        json!([{}]),
        json!({"a": 1}),
    ];
    let kind = schema.get("type").and_then(Value::as_str);
    let fits = |value: &Value| match kind {
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("boolean") => value.is_boolean(),
        // Of objects only the type itself is wrong: members that are not known are no error.
        Some("object") => value.is_object() && schema.get("additionalProperties").is_none(),
        Some("array") => value.is_array(),
        _ => false,
    };
    all.into_iter().filter(|value| !fits(value)).collect()
}

#[test]
fn every_wrong_type_is_refused_with_the_name_of_its_field() {
    let broker = HttpBroker::start(2);
    let document = served(&broker);
    let mut checked = 0;
    for (method, path, operation) in document.operations() {
        let Some(content) = request_of(operation) else {
            continue;
        };
        let (properties, _) = document.members(&content["schema"]);
        let example = content["examples"]
            .as_object()
            .unwrap()
            .values()
            .next()
            .unwrap();
        for (name, schema) in properties {
            for wrong in of_other_types(document.resolve(schema)) {
                let mut body = example["value"].clone();
                body[name] = wrong;
                let (answer, request) = send(&broker, &method, path, &body);
                document.assert_described(operation, &answer, &request);
                let text = answer.failure(400);
                let known = text.starts_with("code=400, message=Unmarshal type error: expected=")
                    && text.contains(&format!("field={name}"));
                let base64 = text.starts_with("code=400, message=illegal base64 data");
                assert!(known || base64, "{request}: {text}");
                checked += 1;
            }
        }
    }
    assert!(checked > 200, "{checked} requests");
    broker.end();
}

#[test]
fn every_socket_that_is_described_is_there() {
    let broker = HttpBroker::start(1);
    let document = served(&broker);
    let mut checked = 0;
    for (path, methods) in document.0["paths"].as_object().unwrap() {
        let Some(operation) = methods
            .get("get")
            .filter(|get| get.get("x-websocket").is_some())
        else {
            continue;
        };
        checked += 1;
        // Where nothing is asked for in the query, the socket opens; otherwise that is missing.
        let opened = websocket(broker.rest(), path);
        assert_eq!(
            opened.is_ok(),
            operation.get("parameters").is_none(),
            "{path}"
        );
        if let Err(answer) = opened {
            assert_eq!(answer.status, 400, "{path}");
            document.assert_described(operation, &answer, path);
        }
    }
    assert_eq!(checked, 6);
    broker.end();
}
