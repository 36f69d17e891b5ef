//! What an action is given: fields of a JSON object, as people and dashboards write them.

use std::collections::HashMap;

use bytes::Bytes;
use serde_json::{Map, Value};

/// The fields of an action. Keys match in any case, as the reference's do.
#[derive(Debug, Default)]
pub(super) struct Input(Map<String, Value>);

/// Reads the body of a request: which action, and its fields.
pub(super) fn parse(body: &[u8]) -> Result<(String, Input), String> {
    if body.trim_ascii().is_empty() {
        return Ok((String::new(), Input::default()));
    }
    let value = serde_json::from_slice(body).map_err(|error| syntax(body, &error))?;
    let fields = match value {
        Value::Object(fields) => Input(fields),
        Value::Null => Input::default(),
        other => return Err(wrong_type("object", &other, "")),
    };
    let action = fields.text("type")?.to_owned();
    match fields.find("data") {
        None | Some(Value::Null) => Ok((action, Input::default())),
        Some(Value::Object(data)) => Ok((action, Input(data.clone()))),
        Some(other) => Err(wrong_type("object", other, "data")),
    }
}

/// Reads an object whose field `tag` says what the others are for.
pub(super) fn parse_flat(text: &[u8], tag: &str) -> Result<(String, Input), String> {
    let value = serde_json::from_slice(text).map_err(|error| syntax(text, &error))?;
    match value {
        Value::Object(fields) => {
            let input = Input(fields);
            Ok((input.text(tag)?.to_owned(), input))
        }
        other => Err(wrong_type("object", &other, "")),
    }
}

/// The text of the reference's decoder, as far as clients can depend on it.
fn syntax(body: &[u8], error: &serde_json::Error) -> String {
    let lines = body.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    let offset = before + error.column();
    format!("code=400, message=Syntax error: offset={offset}, error={error}, internal={error}")
}

fn wrong_type(expected: &str, found: &Value, field: &str) -> String {
    let got = match found {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("code=400, message=Unmarshal type error: expected={expected}, got={got}, field={field}")
}

impl Input {
    fn find(&self, key: &str) -> Option<&Value> {
        let exact = self.0.get(key);
        exact.or_else(|| {
            let mut pairs = self.0.iter();
            let found = pairs.find(|(name, _)| name.eq_ignore_ascii_case(key));
            found.map(|(_, value)| value)
        })
    }

    /// A text; empty when it is missing.
    pub(super) fn text(&self, key: &str) -> Result<&str, String> {
        match self.find(key) {
            None | Some(Value::Null) => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(wrong_type("string", other, key)),
        }
    }

    /// A text that must be there; otherwise the refusal is `<name> not set`.
    pub(super) fn required(&self, key: &str, name: &str) -> Result<&str, String> {
        match self.text(key)? {
            "" => Err(format!("{name} not set")),
            text => Ok(text),
        }
    }

    /// A whole number within the contract's 32 bits; 0 when it is missing.
    pub(super) fn number(&self, key: &str) -> Result<i32, String> {
        match self.find(key) {
            None | Some(Value::Null) => Ok(0),
            Some(found) => {
                let number = found.as_i64().and_then(|it| i32::try_from(it).ok());
                number.ok_or_else(|| wrong_type("int32", found, key))
            }
        }
    }

    /// A number of 64 bits; 0 when it is missing.
    pub(super) fn sequence(&self, key: &str) -> Result<u64, String> {
        match self.find(key) {
            None | Some(Value::Null) => Ok(0),
            Some(found) => found
                .as_u64()
                .ok_or_else(|| wrong_type("uint64", found, key)),
        }
    }

    /// A switch; off when it is missing.
    pub(super) fn flag(&self, key: &str) -> Result<bool, String> {
        match self.find(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(wrong_type("bool", other, key)),
        }
    }

    /// A body: the bytes of a text, or an object or array as JSON without blanks; `None` when it
    /// is missing or empty.
    pub(super) fn body(&self) -> Result<Option<Bytes>, String> {
        match self.find("body") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => Ok(Some(Bytes::copy_from_slice(text.as_bytes()))),
            Some(value @ (Value::Object(_) | Value::Array(_))) => {
                Ok(Some(value.to_string().into()))
            }
            // The names of the reference's types.
            Some(Value::Number(_)) => Err("unsupported data type: float64".to_owned()),
            Some(Value::Bool(_)) => Err("unsupported data type: bool".to_owned()),
        }
    }

    /// A body that must be there.
    pub(super) fn required_body(&self) -> Result<Bytes, String> {
        self.body()?.ok_or_else(|| "body not set".to_owned())
    }

    /// Tags: `k=v,k2=v2`, or an object of texts.
    pub(super) fn tags(&self) -> Result<HashMap<String, String>, String> {
        match self.find("tags") {
            Some(Value::Object(pairs)) => pairs
                .iter()
                .map(|(key, value)| match value {
                    Value::String(text) => Ok((key.clone(), text.clone())),
                    other => Err(wrong_type("string", other, "tags")),
                })
                .collect(),
            _ => self
                .text("tags")?
                .split(',')
                .filter(|tag| !tag.is_empty())
                .map(|tag| {
                    let (key, value) = tag
                        .split_once('=')
                        .ok_or_else(|| format!("invalid tag {tag}"))?;
                    Ok((key.to_owned(), value.to_owned()))
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(json: &str) -> Input {
        let body = format!("{{\"type\":\"x\",\"data\":{json}}}");
        parse(body.as_bytes()).unwrap().1
    }

    #[test]
    fn keys_match_in_any_case_and_what_is_missing_is_empty() {
        let input = input(r#"{"Channel":"a","MESSAGEID":"m","isPeek":true,"count":3}"#);
        assert_eq!(input.text("channel").unwrap(), "a");
        assert_eq!(input.text("messageId").unwrap(), "m");
        assert!(input.flag("isPeek").unwrap());
        assert_eq!(input.number("count").unwrap(), 3);
        assert_eq!(input.text("metadata").unwrap(), "");
        assert_eq!(
            input.required("name", "name"),
            Err("name not set".to_owned())
        );
    }

    #[test]
    fn bodies_are_texts_or_json_and_nothing_else() {
        let body = |json: &str| input(&format!("{{\"body\":{json}}}")).body();
        assert_eq!(body("\"hé\"").unwrap().unwrap(), "hé".as_bytes());
        assert_eq!(
            body(r#"{"x": [1, 2]}"#).unwrap().unwrap(),
            &b"{\"x\":[1,2]}"[..]
        );
        assert_eq!(body("\"\"").unwrap(), None);
        assert_eq!(body("5").unwrap_err(), "unsupported data type: float64");
        assert_eq!(body("true").unwrap_err(), "unsupported data type: bool");
        assert_eq!(input("{}").required_body().unwrap_err(), "body not set");
    }

    #[test]
    fn tags_are_pairs_or_an_object() {
        let tags = |json: &str| input(&format!("{{\"tags\":{json}}}")).tags();
        let found = tags("\"a=1,b=x=y\"").unwrap();
        assert_eq!(found["a"], "1");
        assert_eq!(found["b"], "x=y");
        assert_eq!(tags(r#"{"k":"v"}"#).unwrap()["k"], "v");
        assert!(tags("\"\"").unwrap().is_empty());
        assert_eq!(tags("\"a:1\"").unwrap_err(), "invalid tag a:1");
    }

    #[test]
    fn what_is_no_json_is_refused_as_the_reference_does() {
        let error = parse(b"{bad").unwrap_err();
        assert!(
            error.starts_with("code=400, message=Syntax error: offset=2, "),
            "{error}"
        );
        let error = parse(br#"{"type":"x","data":{"channel":5}}"#).unwrap().1;
        let error = error.text("channel").unwrap_err();
        assert!(
            error.starts_with("code=400, message=Unmarshal type error: "),
            "{error}"
        );
        assert_eq!(parse(b"").unwrap().0, "");
        assert_eq!(parse(b"null").unwrap().0, "");
        assert!(parse(b"[1]").is_err());
    }
}
