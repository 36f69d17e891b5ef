//! What a verified token has to say, and whom it makes of its owner.

use serde_json::{Map, Value};

use super::token::Fault;
use crate::model::identity::{Identity, Proof};

/// The roles that one token may give.
pub const ROLES_MAX: usize = 64;

/// What is asked of every token.
#[derive(Clone, Debug)]
pub struct Expectations {
    /// How far the clock of the one who signs may be off, in seconds.
    pub leeway_s: i64,
    /// Whether a token without an end is refused.
    pub expiry_needed: bool,
    /// How long streams go on after the end of their token, in seconds.
    pub grace_s: i64,
    /// The claim with the roles: a name, or a path of names with dots.
    pub roles_claim: String,
    /// The claim with the client id: a name, or a path of names with dots.
    pub client_id_claim: String,
    /// Whether a token without a client id is refused, because ids are bound.
    pub client_id_needed: bool,
}

impl Default for Expectations {
    fn default() -> Self {
        Self {
            leeway_s: 0,
            expiry_needed: false,
            grace_s: 0,
            roles_claim: "roles".to_owned(),
            client_id_claim: "sub".to_owned(),
            client_id_needed: false,
        }
    }
}

/// Whose tokens the keys of one source may sign.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parties {
    /// The issuer that a token must name; `None`: any.
    pub issuer: Option<String>,
    /// A token must name one of these; empty: any.
    pub audience: Vec<String>,
    /// Whether it does not matter when a token begins and ends. Only the reference's form of OIDC
    /// can say so.
    pub ignores_times: bool,
}

/// Somebody whom a token names, and when the token ends without any grace: seconds since 1970.
pub(super) struct Owner {
    pub(super) identity: Identity,
    pub(super) ends_at_s: Option<i64>,
}

impl Expectations {
    /// Checks the claims of a token whose signature is right.
    pub(super) fn check(
        &self,
        claims: &Map<String, Value>,
        parties: &Parties,
        now_s: i64,
    ) -> Result<Owner, Fault> {
        let exp = seconds(claims, "exp")?;
        if !parties.ignores_times {
            self.check_times(claims, exp, now_s)?;
        }
        if exp.is_none() && self.expiry_needed {
            return Err(Fault::NoExpiry);
        }
        if let Some(issuer) = &parties.issuer
            && text(claims, "iss")? != Some(issuer)
        {
            return Err(Fault::Issuer);
        }
        if !parties.audience.is_empty() && !names_one(claims, &parties.audience)? {
            return Err(Fault::Audience);
        }
        let client_id = self.client_id(claims)?;
        let subject = text(claims, "sub")?.or(client_id);
        let ends = exp.filter(|_| !parties.ignores_times);
        let ends_at_s = ends.map(|at| at.saturating_add(self.leeway_s));
        Ok(Owner {
            identity: Identity {
                proof: Proof::Token,
                name: subject.unwrap_or_default().into(),
                client_id: client_id.map(Into::into),
                roles: roles(claims, &self.roles_claim)?,
                expires_at_ns: ends_at_s.map(|at| nanoseconds(at.saturating_add(self.grace_s))),
            },
            ends_at_s,
        })
    }

    /// Of several that are wrong the reference tells the last.
    fn check_times(
        &self,
        claims: &Map<String, Value>,
        exp: Option<i64>,
        now_s: i64,
    ) -> Result<(), Fault> {
        let latest = now_s.saturating_add(self.leeway_s);
        if seconds(claims, "nbf")?.is_some_and(|at| at > latest) {
            return Err(Fault::NotYet);
        }
        if seconds(claims, "iat")?.is_some_and(|at| at > latest) {
            return Err(Fault::BeforeIssued);
        }
        match exp {
            Some(at) if at.saturating_add(self.leeway_s) <= now_s => {
                Err(Fault::Expired(now_s.saturating_sub(at)))
            }
            _ => Ok(()),
        }
    }

    fn client_id<'a>(&self, claims: &'a Map<String, Value>) -> Result<Option<&'a str>, Fault> {
        let name = &self.client_id_claim;
        match find(claims, name) {
            Some(Value::String(id)) if !id.is_empty() => Ok(Some(id)),
            None | Some(Value::Null | Value::String(_)) if self.client_id_needed => {
                Err(Fault::Missing(name.as_str().into()))
            }
            None | Some(Value::Null | Value::String(_)) => Ok(None),
            Some(_) => Err(Fault::Claim(name.as_str().into())),
        }
    }
}

/// Seconds since 1970 as nanoseconds; the end of time where they are too many.
pub(super) const fn nanoseconds(seconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000)
}

/// A claim by its name, or by a path: names with dots in them, as URIs have, are found first.
fn find<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let mut names = path.split('.');
    let mut value = claims.get(names.next()?)?;
    for name in names {
        value = value.as_object()?.get(name)?;
    }
    Some(value)
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, Fault> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Fault::Claim(name.into())),
    }
}

/// Whole seconds of a time; those that no clock of ours reaches are the first or the last.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, Fault> {
    let number = match claims.get(name) {
        None => return Ok(None),
        Some(Value::Number(number)) => number,
        Some(_) => return Err(Fault::Claim(name.into())),
    };
    if let Some(whole) = number.as_i64() {
        return Ok(Some(whole));
    }
    let number = number.as_f64().unwrap_or(f64::MAX).floor();
    let saturated = if number < 0.0 { i64::MIN } else { i64::MAX };
    Ok(Some(format!("{number:.0}").parse().unwrap_or(saturated)))
}

fn names_one(claims: &Map<String, Value>, wanted: &[String]) -> Result<bool, Fault> {
    let is_wanted = |name: &String| wanted.contains(name);
    match claims.get("aud") {
        None | Some(Value::Null) => Ok(false),
        Some(Value::String(name)) => Ok(is_wanted(name)),
        Some(Value::Array(names)) => {
            let mut found = false;
            for name in names {
                match name {
                    Value::String(name) => found |= is_wanted(name),
                    _ => return Err(Fault::Claim("aud".into())),
                }
            }
            Ok(found)
        }
        Some(_) => Err(Fault::Claim("aud".into())),
    }
}

/// A list of words, or one text of them with blanks between. None is left out silently: a rule that
/// denies somebody must see all of them.
fn roles(claims: &Map<String, Value>, path: &str) -> Result<Box<[Box<str>]>, Fault> {
    let wrong = || Fault::Claim(path.into());
    let roles: Vec<Box<str>> = match find(claims, path) {
        None | Some(Value::Null) => return Ok(Box::default()),
        Some(Value::String(words)) => words
            .split_ascii_whitespace()
            .take(ROLES_MAX + 1)
            .map(Into::into)
            .collect(),
        Some(Value::Array(words)) => words
            .iter()
            .take(ROLES_MAX + 1)
            .map(|word| word.as_str().map(Into::into).ok_or_else(wrong))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(wrong()),
    };
    if roles.len() > ROLES_MAX {
        return Err(Fault::Roles);
    }
    Ok(roles.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn check(
        expectations: &Expectations,
        parties: &Parties,
        claims: &Value,
    ) -> Result<Identity, String> {
        let claims = claims.as_object().expect("an object");
        match expectations.check(claims, parties, NOW) {
            Ok(owner) => Ok(owner.identity),
            Err(fault) => Err(fault.to_string()),
        }
    }

    #[test]
    fn times_count_to_the_second_and_saturate() {
        let cases: &[(Value, Result<(), &str>)] = &[
            (json!({}), Ok(())),
            (json!({"exp": NOW + 1, "nbf": NOW, "iat": NOW}), Ok(())),
            (json!({"exp": NOW}), Err("token is expired by 0s")),
            (json!({"exp": NOW - 103}), Err("token is expired by 1m43s")),
            (
                json!({"exp": 1_700_000_000.9}),
                Err("token is expired by 0s"),
            ),
            (json!({"exp": 1_700_000_001.5}), Ok(())),
            (json!({"exp": 1e300}), Ok(())),
            (json!({"exp": u64::MAX}), Ok(())),
            (json!({"exp": 0}), Err("token is expired by 472222h13m20s")),
            (
                json!({"exp": i64::MIN}),
                Err("token is expired by 2562047788015215h30m7s"),
            ),
            (
                json!({"exp": -1e300}),
                Err("token is expired by 2562047788015215h30m7s"),
            ),
            (
                json!({"exp": "1800000000"}),
                Err("claim exp is not of the right type"),
            ),
            (
                json!({"exp": null}),
                Err("claim exp is not of the right type"),
            ),
            (json!({"nbf": NOW + 1}), Err("token is not valid yet")),
            (json!({"nbf": u64::MAX}), Err("token is not valid yet")),
            (
                json!({"nbf": true}),
                Err("claim nbf is not of the right type"),
            ),
            (json!({"iat": NOW + 1}), Err("token used before issued")),
            (json!({"iat": 1e300}), Err("token used before issued")),
            (
                json!({"exp": 1, "iat": NOW + 9}),
                Err("token used before issued"),
            ),
            (
                json!({"exp": 1, "iat": NOW + 9, "nbf": NOW + 9}),
                Err("token is not valid yet"),
            ),
        ];
        for (claims, expected) in cases {
            let found = check(&Expectations::default(), &Parties::default(), claims);
            let expected = expected.map_err(str::to_owned);
            assert_eq!(found.map(|_| ()), expected, "{claims}");
        }
    }

    #[test]
    fn leeway_and_grace_move_the_ends() {
        let lenient = Expectations {
            leeway_s: 30,
            grace_s: 600,
            ..Expectations::default()
        };
        let ends = |claims: &Value| {
            check(&lenient, &Parties::default(), claims).map(|found| found.expires_at_ns)
        };
        let late = nanoseconds(NOW - 29 + 630);
        assert_eq!(ends(&json!({"exp": NOW - 29})), Ok(Some(late)));
        let refused = Err("token is expired by 30s".to_owned());
        assert_eq!(ends(&json!({"exp": NOW - 30})), refused);
        assert_eq!(ends(&json!({"nbf": NOW + 30, "iat": NOW + 30})), Ok(None));
        assert!(ends(&json!({"nbf": NOW + 31})).is_err());
        assert_eq!(ends(&json!({"exp": 1e300})), Ok(Some(i64::MAX)));
        let timeless = Parties {
            ignores_times: true,
            ..Parties::default()
        };
        let found = check(
            &Expectations::default(),
            &timeless,
            &json!({"exp": 1, "nbf": 1e300}),
        );
        assert_eq!(found.map(|found| found.expires_at_ns), Ok(None));
        let strict = Expectations {
            expiry_needed: true,
            ..Expectations::default()
        };
        let found = check(&strict, &Parties::default(), &json!({}));
        assert_eq!(found.map(|_| ()), Err("token has no expiry".to_owned()));
    }

    #[test]
    fn issuer_and_audience_must_be_the_right_ones() {
        let parties = Parties {
            issuer: Some("https://a".to_owned()),
            audience: vec!["x".to_owned(), "y".to_owned()],
            ignores_times: false,
        };
        let cases: &[(Value, Result<(), &str>)] = &[
            (json!({"iss": "https://a", "aud": "x"}), Ok(())),
            (json!({"iss": "https://a", "aud": ["q", "y"]}), Ok(())),
            (
                json!({"iss": "https://a/", "aud": "x"}),
                Err("token was issued by somebody else"),
            ),
            (
                json!({"aud": "x"}),
                Err("token was issued by somebody else"),
            ),
            (
                json!({"iss": 1, "aud": "x"}),
                Err("claim iss is not of the right type"),
            ),
            (
                json!({"iss": "https://a"}),
                Err("token is meant for somebody else"),
            ),
            (
                json!({"iss": "https://a", "aud": []}),
                Err("token is meant for somebody else"),
            ),
            (
                json!({"iss": "https://a", "aud": "X"}),
                Err("token is meant for somebody else"),
            ),
            (
                json!({"iss": "https://a", "aud": ["x", 1]}),
                Err("claim aud is not of the right type"),
            ),
            (
                json!({"iss": "https://a", "aud": {}}),
                Err("claim aud is not of the right type"),
            ),
        ];
        for (claims, expected) in cases {
            let found = check(&Expectations::default(), &parties, claims);
            let expected = expected.map_err(str::to_owned);
            assert_eq!(found.map(|_| ()), expected, "{claims}");
        }
    }

    #[test]
    #[allow(clippy::too_many_lines, reason = "a table of all cases")]
    fn roles_and_client_ids_come_from_their_claims() {
        let many: Vec<_> = (0..=ROLES_MAX).map(|role| role.to_string()).collect();
        let expectations = |roles: &str, client: &str, needed| Expectations {
            roles_claim: roles.to_owned(),
            client_id_claim: client.to_owned(),
            client_id_needed: needed,
            ..Expectations::default()
        };
        type Found<'a> = Result<(&'a str, Option<&'a str>, &'a [&'a str]), &'a str>;
        let usual = ("roles", "sub", false);
        let cases: &[((&str, &str, bool), Value, Found<'_>)] = &[
            (usual, json!({}), Ok(("", None, &[]))),
            (
                usual,
                json!({"sub": "ada", "roles": ["r", "w"]}),
                Ok(("ada", Some("ada"), &["r", "w"])),
            ),
            (
                usual,
                json!({"roles": " r  w "}),
                Ok(("", None, &["r", "w"])),
            ),
            (usual, json!({"roles": null}), Ok(("", None, &[]))),
            (
                usual,
                json!({"roles": [1]}),
                Err("claim roles is not of the right type"),
            ),
            (
                usual,
                json!({"roles": {}}),
                Err("claim roles is not of the right type"),
            ),
            (
                usual,
                json!({"roles": many}),
                Err("token has too many roles"),
            ),
            (
                usual,
                json!({"roles": many.join(" ")}),
                Err("token has too many roles"),
            ),
            (
                usual,
                json!({"sub": 7}),
                Err("claim sub is not of the right type"),
            ),
            (
                ("realm_access.roles", "https://a.b/id", false),
                json!({
                    "sub": "ada", "https://a.b/id": "c-7", "realm_access": {"roles": ["r"]}
                }),
                Ok(("ada", Some("c-7"), &["r"])),
            ),
            (
                ("a.b.c", "azp", false),
                json!({"a": {"b": 1}, "azp": "z"}),
                Ok(("z", Some("z"), &[])),
            ),
            (
                ("roles", "azp", true),
                json!({"sub": "ada"}),
                Err("claim azp is missing"),
            ),
            (
                ("roles", "azp", true),
                json!({"azp": ""}),
                Err("claim azp is missing"),
            ),
            (
                ("roles", "azp", false),
                json!({"azp": ""}),
                Ok(("", None, &[])),
            ),
        ];
        for ((roles, client, needed), claims, expected) in cases {
            let expectations = expectations(roles, client, *needed);
            let found = check(&expectations, &Parties::default(), claims);
            let found = found.as_ref().map(|identity| {
                let roles: Vec<_> = identity.roles.iter().map(|role| &**role).collect();
                (&*identity.name, identity.client_id.as_deref(), roles)
            });
            let expected = expected.map(|(name, client, roles)| (name, client, roles.to_vec()));
            assert_eq!(found.map_err(String::as_str), expected, "{claims}");
        }
    }
}
