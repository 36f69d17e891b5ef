//! The reference's form of `authentication.config`: JSON or YAML, of one source of tokens.

use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use crate::security::authentication::Algorithm;

/// What such a text says.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// One key.
    Local { algorithm: Algorithm, key: String },
    /// A provider of OpenID Connect.
    Oidc {
        issuer: String,
        /// `None`: tokens for anybody.
        client_id: Option<String>,
        checks_issuer: bool,
        checks_times: bool,
    },
}

/// Why it is refused. What stands in it is not told: it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::server) enum FormError {
    #[error("authentication.config is neither a JSON object nor YAML of names and values")]
    Shape,
    #[error("authentication.config: the field {0} is there twice")]
    Twice(String),
    #[error("authentication.config: the field {0} is not known")]
    Unknown(String),
    #[error("authentication.config: the field {0} is not of the right type")]
    Type(&'static str),
    #[error("authentication.config: {0} is missing")]
    Missing(&'static str),
    #[error("authentication.config: the method is none of HS, RS, PS, ES (256, 384, 512), EdDSA")]
    Method,
    #[error("authentication.config: insecureSkipSignatureCheck would take forged tokens")]
    Insecure,
}

impl Form {
    pub(super) fn parse(text: &str) -> Result<Self, FormError> {
        let mut fields = Fields::parse(text)?;
        let form = if fields.has("issuer") {
            let issuer = fields.text("issuer")?.ok_or(FormError::Missing("issuer"))?;
            let client_id = fields.text("clientID")?.filter(|id| !id.is_empty());
            let any_client = fields.flag("skipClientIDCheck")?;
            if fields.flag("insecureSkipSignatureCheck")? {
                return Err(FormError::Insecure);
            }
            Self::Oidc {
                issuer,
                client_id: match client_id {
                    _ if any_client => None,
                    None => return Err(FormError::Missing("clientID")),
                    named => named,
                },
                checks_issuer: !fields.flag("skipIssuerCheck")?,
                checks_times: !fields.flag("skipExpiryCheck")?,
            }
        } else {
            let method = fields.text("method")?.ok_or(FormError::Missing("method"))?;
            Self::Local {
                algorithm: Algorithm::configured(&method).ok_or(FormError::Method)?,
                key: fields.text("key")?.ok_or(FormError::Missing("key"))?,
            }
        };
        match fields.0.pop() {
            None => Ok(form),
            Some((name, _)) => Err(FormError::Unknown(name)),
        }
    }
}

enum Scalar {
    Text(String),
    Flag(bool),
    Other,
}

/// Names, in which case does not count, and values.
struct Fields(Vec<(String, Scalar)>);

impl Fields {
    fn parse(text: &str) -> Result<Self, FormError> {
        let fields = match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(object)) => object.into_iter().map(of_json).collect(),
            Ok(_) => return Err(FormError::Shape),
            Err(_) => of_yaml(text).ok_or(FormError::Shape)?,
        };
        let fields: Vec<(String, Scalar)> = fields;
        for (index, (name, _)) in fields.iter().enumerate() {
            let mut before = fields.iter().take(index);
            if before.any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                return Err(FormError::Twice(name.clone()));
            }
        }
        Ok(Self(fields))
    }

    fn at(&self, name: &str) -> Option<usize> {
        let mut names = self.0.iter();
        names.position(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    fn has(&self, name: &str) -> bool {
        self.at(name).is_some()
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, FormError> {
        match self.at(name).map(|at| self.0.swap_remove(at).1) {
            None => Ok(None),
            Some(Scalar::Text(text)) => Ok(Some(text)),
            Some(_) => Err(FormError::Type(name)),
        }
    }

    fn flag(&mut self, name: &'static str) -> Result<bool, FormError> {
        match self.at(name).map(|at| self.0.swap_remove(at).1) {
            None => Ok(false),
            Some(Scalar::Flag(flag)) => Ok(flag),
            Some(_) => Err(FormError::Type(name)),
        }
    }
}

fn of_json((name, value): (String, Value)) -> (String, Scalar) {
    let scalar = match value {
        Value::String(text) => Scalar::Text(text),
        Value::Bool(flag) => Scalar::Flag(flag),
        _ => Scalar::Other,
    };
    (name, scalar)
}

fn of_yaml(text: &str) -> Option<Vec<(String, Scalar)>> {
    let documents = YamlLoader::load_from_str(text).ok()?;
    let [Yaml::Hash(fields)] = documents.as_slice() else {
        return None;
    };
    let fields = fields.iter().map(|(name, value)| {
        let scalar = match value {
            Yaml::String(text) => Scalar::Text(text.clone()),
            Yaml::Boolean(flag) => Scalar::Flag(*flag),
            _ => Scalar::Other,
        };
        Some((name.as_str()?.to_owned(), scalar))
    });
    fields.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oidc(client_id: Option<&str>, checks_issuer: bool, checks_times: bool) -> Form {
        Form::Oidc {
            issuer: "https://a".to_owned(),
            client_id: client_id.map(str::to_owned),
            checks_issuer,
            checks_times,
        }
    }

    #[test]
    fn forms_of_the_reference_are_read_in_json_and_yaml() {
        let local = |algorithm, key: &str| Form::Local {
            algorithm,
            key: key.to_owned(),
        };
        let cases = [
            (
                r#"{"method": "hs256", "key": "s"}"#,
                local(Algorithm::HS256, "s"),
            ),
            (
                "method: RS512\nkey: |\n  a\n  b\n",
                local(Algorithm::RS512, "a\nb\n"),
            ),
            (
                r#"{"Issuer": "https://a", "clientid": "c"}"#,
                oidc(Some("c"), true, true),
            ),
            (
                "issuer: https://a\nskipClientIDCheck: true\nskipExpiryCheck: true\n",
                oidc(None, true, false),
            ),
            (
                r#"{"issuer": "https://a", "clientID": "c", "skipIssuerCheck": true,
                    "insecureSkipSignatureCheck": false}"#,
                oidc(Some("c"), false, true),
            ),
        ];
        for (text, expected) in cases {
            assert!(Form::parse(text) == Ok(expected), "{text}");
        }
    }

    #[test]
    fn forms_that_are_not_understood_are_refused_without_their_secrets() {
        let cases = [
            (
                "",
                "authentication.config is neither a JSON object nor YAML of names and values",
            ),
            (
                "[1]",
                "authentication.config is neither a JSON object nor YAML of names and values",
            ),
            (
                "hunter2",
                "authentication.config is neither a JSON object nor YAML of names and values",
            ),
            ("{}", "authentication.config: method is missing"),
            (
                r#"{"method": "HS256"}"#,
                "authentication.config: key is missing",
            ),
            (
                r#"{"method": 1, "key": "hunter2"}"#,
                "authentication.config: the field method is not of the right type",
            ),
            (
                r#"{"method": "none", "key": "hunter2"}"#,
                "authentication.config: the method is none of HS, RS, PS, ES (256, 384, 512), \
                 EdDSA",
            ),
            (
                r#"{"method": "HS256", "key": "hunter2", "x": 1}"#,
                "authentication.config: the field x is not known",
            ),
            (
                r#"{"key": "hunter2", "Key": "b"}"#,
                "authentication.config: the field key is there twice",
            ),
            (
                r#"{"issuer": "https://a"}"#,
                "authentication.config: clientID is missing",
            ),
            (
                r#"{"issuer": "https://a", "clientID": "c", "insecureSkipSignatureCheck": true}"#,
                "authentication.config: insecureSkipSignatureCheck would take forged tokens",
            ),
        ];
        for (text, expected) in cases {
            let found = Form::parse(text).err().map(|error| error.to_string());
            assert_eq!(found.as_deref(), Some(expected), "{text}");
        }
    }
}
