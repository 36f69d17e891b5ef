//! Who makes a request: found out before any handler looks at it, and handed on to the calls that
//! the handler makes.
//!
//! A token, or an API key, comes as `Authorization: Bearer <token>`: the scheme in these letters,
//! one blank, one word. Of several headers the last counts. There is no parameter of a query for
//! it: queries stand in the logs of proxies.

use std::rc::Rc;

use http::HeaderValue;
use http::header::AUTHORIZATION;

use super::exchange::Exchange;
use crate::model::identity::{Identity, Proof};
use crate::rt;
use crate::security::audit::Entry;
use crate::security::{Action, Attempt, Credentials, Resource, Unauthenticated};
use crate::wire::local::LocalClient;

/// Somebody who makes requests.
#[derive(Clone)]
pub(crate) struct Caller {
    identity: Rc<Identity>,
    /// What was shown, as calls of gRPC carry it: a stream shows it again when the rules change.
    token: Option<HeaderValue>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// Why nobody was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unrecognised {
    /// There is no header, or it is none of this form.
    Header,
    /// What it shows is not taken.
    Refused(Unauthenticated),
}

/// What a request shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown<'a> {
    Nothing,
    Token(&'a str),
    /// Something else.
    Odd,
}

impl Caller {
    /// Somebody who was recognised, with the token that did it.
    pub(crate) fn new(identity: Rc<Identity>, token: Option<HeaderValue>) -> Self {
        Self { identity, token }
    }

    /// Somebody whom its port does not ask, whatever the rules of the service say.
    pub(crate) fn unasked() -> Self {
        let identity = Identity {
            proof: Proof::Vouched,
            ..Identity::anonymous()
        };
        Self::new(Rc::new(identity), None)
    }

    /// Who it is.
    pub(crate) const fn identity(&self) -> &Rc<Identity> {
        &self.identity
    }

    /// What was shown.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_ref()?.to_str().ok()
    }

    /// Makes the calls of a client in this name.
    pub(super) fn speaks(&self, client: &mut LocalClient) {
        client.set_identity(self.identity.clone());
        if let Some(token) = &self.token {
            client.add_metadata("authorization", token.clone());
        }
    }
}

impl Exchange {
    /// Who makes the request, by its header or by the certificate of its connection. If nobody has
    /// to be recognised, whatever is shown is taken as it is.
    ///
    /// # Errors
    /// [`Unrecognised`], when somebody has to be recognised and was not.
    pub(crate) fn recognise(&self) -> Result<Caller, Unrecognised> {
        let security = &self.context.security;
        let asked = security.rules().authentication.is_some();
        let (token, odd) = match self.shown() {
            Shown::Token(token) => (Some(token), false),
            Shown::Nothing => (None, false),
            Shown::Odd => (None, true),
        };
        let certificate = self.client.certificate();
        if asked && (odd || (token.is_none() && certificate.is_none())) {
            return Err(Unrecognised::Header);
        }
        let credentials = Credentials {
            token: token.filter(|_| asked),
            certificate: certificate.map(|names| &**names),
        };
        match security.authenticate(&credentials, rt::unix_ns()) {
            Ok(identity) => {
                let token = token.and_then(|token| HeaderValue::from_str(token).ok());
                Ok(Caller::new(identity, token))
            }
            // A certificate that is no proof here is no fault of what was not shown.
            Err(_) if token.is_none() => Err(Unrecognised::Header),
            Err(refusal) => Err(Unrecognised::Refused(refusal)),
        }
    }

    /// Counts and writes down that somebody was not recognised.
    #[cold]
    pub(crate) fn note_unrecognised(&self, port: &str, why: &str) {
        self.context
            .shard
            .counters
            .refusals_unauthenticated
            .increment();
        self.record("auth.refused", port, Err(why));
    }

    /// Counts and writes down that somebody may not do something.
    #[cold]
    pub(crate) fn note_denied(&self, attempt: &Attempt<'_>, why: &str) {
        self.context.shard.counters.refusals_denied.increment();
        let resource = match attempt.resource {
            Resource::Messages(kind) => kind.name(),
            Resource::Management => "management",
        };
        let action = match attempt.action {
            Action::Read => "read",
            Action::Write => "write",
        };
        let target = format!("{action} {resource}:{}", attempt.channel);
        self.record("access.denied", &target, Err(why));
    }

    /// Writes down what was done, or refused.
    pub(crate) fn record(&self, what: &str, target: &str, outcome: Result<(), &str>) {
        let identity = self.caller.as_ref().map(Caller::identity);
        self.context.security.audit().record(Entry {
            who: identity.map_or("", |identity| &identity.name),
            proof: identity.map_or(Proof::None, |identity| identity.proof),
            client_id: "",
            peer: Some(self.peer),
            what,
            target,
            outcome,
        });
    }

    fn shown(&self) -> Shown<'_> {
        match self.head.headers.get_all(AUTHORIZATION).iter().next_back() {
            None => Shown::Nothing,
            Some(value) => value.to_str().map_or(Shown::Odd, shown),
        }
    }
}

/// What a header shows.
fn shown(value: &str) -> Shown<'_> {
    match value.split_once(' ') {
        Some(("Bearer", token)) if !token.contains(' ') => Shown::Token(token),
        _ => Shown::Odd,
    }
}

/// Whether somebody is known by more than what it says of itself.
pub(crate) fn is_known(identity: &Identity) -> bool {
    !matches!(identity.proof, Proof::None | Proof::Vouched)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_two_words_and_its_scheme_these_letters() {
        assert_eq!(shown("Bearer a.b.c"), Shown::Token("a.b.c"));
        assert_eq!(shown("Bearer "), Shown::Token(""));
        for odd in [
            "",
            "Bearer",
            "a.b.c",
            "bearer a.b.c",
            "BEARER a.b.c",
            "Bearer  a.b.c",
            "Bearer a.b.c ",
            "Bearer a b",
            "Basic YTpi",
            " Bearer a",
        ] {
            assert_eq!(shown(odd), Shown::Odd, "{odd:?}");
        }
    }

    #[test]
    fn debug_output_of_a_caller_shows_no_token() {
        let token = HeaderValue::from_static("hunter2");
        let caller = Caller::new(Rc::new(Identity::anonymous()), Some(token));
        assert!(!format!("{caller:?}").contains("hunter2"));
        assert_eq!(caller.token(), Some("hunter2"));
    }
}
