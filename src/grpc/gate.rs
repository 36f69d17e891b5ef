//! Who calls, and what the call may do: the one gate of all transports.
//!
//! ```text
//!   call ─► Gate::open ─► bind ────────► allow ──────────► the handler's work
//!           who is it     in whose name  may they
//!
//!   a stream lives on ─► poll_closed: its token ends, or new rules take it back
//! ```
//!
//! gRPC shows its credentials with each call. The other transports recognise who asks themselves,
//! because they tell refusals in their own words, and open calls with the [`Identity`] that they
//! found. What follows is the same for all, and is here only.
//!
//! A handler asks before it does anything: [`Gate::bind`] puts the client id that counts into a
//! message, before anything else reads it; [`Gate::allow`] decides what may be done to a channel.
//! What was allowed last is remembered, so that the messages of a stream cost two comparisons; a
//! generation of the rules tells when that counts no more. With nothing configured both cost the
//! test of a flag.
//!
//! How much somebody may do is asked here too: a call that asks for more is refused, a stream is
//! not read on.

mod closing;
mod decisions;
mod limits;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;

use super::codec::sender::{Signed, sender_of, with_sender};
use crate::model::identity::{CertificateNames, Identity, Proof};
use crate::rt;
use crate::security::audit::Entry;
use crate::security::{Binding, Credentials, Security, Unauthenticated};
use crate::wire::server::Call;
use crate::wire_error::Refusal;

use closing::Guard;
use decisions::Allowed;
use limits::limit_reached;

/// How long a call lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lives {
    /// It has one message and one answer.
    Briefly,
    /// It goes on: its end may have to be decided by what its caller may do.
    On,
}

/// What one call may do.
pub(super) struct Gate {
    security: Rc<Security>,
    identity: Rc<Identity>,
    peer: SocketAddr,
    /// What was allowed last.
    allowed: Option<Box<Allowed>>,
    /// How often the rules were asked since a request last let others have their turn.
    asked: usize,
    /// Of a call that lives on.
    guard: Option<Box<Guard>>,
}

impl Gate {
    /// Finds out who calls.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`], [`Refusal::LimitReached`].
    pub(super) fn open(
        security: &Rc<Security>,
        call: &Call,
        lives: Lives,
    ) -> Result<Self, Refusal> {
        let identity = match call.identity() {
            Some(identity) => identity.clone(),
            None => recognise(security, call)?,
        };
        let guard = match lives {
            Lives::On => Some(Guard::new(security, call, &identity)),
            Lives::Briefly => None,
        };
        Ok(Self {
            security: security.clone(),
            identity,
            peer: call.peer(),
            allowed: None,
            asked: 0,
            guard,
        })
    }

    /// Writes down what was done, or was refused, to whom.
    pub(super) fn record(
        &self,
        what: &str,
        client_id: &str,
        target: &str,
        outcome: Result<(), &str>,
    ) {
        self.security.audit().record(Entry {
            who: &self.identity.name,
            proof: self.identity.proof,
            client_id,
            peer: Some(self.peer),
            what,
            target,
            outcome,
        });
    }

    /// Who calls.
    pub(super) fn identity(&self) -> &Rc<Identity> {
        &self.identity
    }
}

/// Metadata with a token.
const AUTHORIZATION: &str = "authorization";

fn token<'a>(security: &Security, call: &'a Call) -> Option<&'a str> {
    match security.authenticates() {
        true => call.metadata(AUTHORIZATION),
        false => None,
    }
}

/// The time of day, where it matters: the clock is not read for nothing.
fn now_ns(security: &Security) -> i64 {
    match security.authenticates() {
        true => rt::unix_ns(),
        false => 0,
    }
}

/// Finds out who shows something by itself, unless its address has shown too much of no worth.
fn recognise(security: &Security, call: &Call) -> Result<Rc<Identity>, Refusal> {
    let (token, now_ns, peer) = (token(security, call), now_ns(security), call.peer().ip());
    let shown = security.may_show(token, peer, now_ns);
    shown.map_err(|reached| limit_reached(&reached))?;
    let found = identify(security, token, call.certificate(), now_ns);
    found.inspect_err(|refusal| {
        if token.is_some() {
            security.note_refused(peer);
        }
        unknown(security, call, refusal);
    })
}

/// Writes down that somebody was not recognised.
#[cold]
fn unknown(security: &Security, call: &Call, refusal: &Refusal) {
    security.audit().record(Entry {
        who: "",
        proof: Proof::None,
        client_id: "",
        peer: Some(call.peer()),
        what: "auth.refused",
        target: call.path(),
        outcome: Err(&refusal.text()),
    });
}

fn identify(
    security: &Security,
    token: Option<&str>,
    certificate: Option<&Rc<CertificateNames>>,
    now_ns: i64,
) -> Result<Rc<Identity>, Refusal> {
    let credentials = Credentials {
        token,
        certificate: certificate.map(|names| &**names),
    };
    security
        .authenticate(&credentials, now_ns)
        .map_err(|Unauthenticated(reason)| Refusal::Unauthenticated(reason))
}

/// In whose name.
impl Gate {
    /// The message in the name that its caller may use. Only what says something else is copied;
    /// what cannot be decoded stays as it is, and is refused by whoever decodes it.
    ///
    /// # Errors
    /// [`Refusal::ClientIdBound`].
    pub(super) fn bind<'a>(
        &self,
        message: &'a [u8],
        signed: Signed,
    ) -> Result<Cow<'a, [u8]>, Refusal> {
        if self.identity.client_id.is_none() || self.security.binding() == Binding::Off {
            return Ok(Cow::Borrowed(message));
        }
        let Some(sender) = sender_of(message, signed) else {
            return Ok(Cow::Borrowed(message));
        };
        let client_id = self.client_id(sender.client_id)?;
        Ok(match sender.once && sender.client_id == client_id {
            true => Cow::Borrowed(message),
            false => Cow::Owned(with_sender(message, signed, client_id)),
        })
    }

    /// The same for a message that is handed on.
    ///
    /// # Errors
    /// As there.
    pub(super) fn bind_whole(&self, message: &Bytes, signed: Signed) -> Result<Bytes, Refusal> {
        Ok(match self.bind(message, signed)? {
            Cow::Borrowed(_) => message.clone(),
            Cow::Owned(bound) => bound.into(),
        })
    }

    /// The client id that counts for a message that says `given`.
    ///
    /// # Errors
    /// [`Refusal::ClientIdBound`].
    pub(super) fn client_id<'a>(&'a self, given: &'a str) -> Result<&'a str, Refusal> {
        let counts = self.security.client_id(&self.identity, given);
        counts.map_err(|_denied| self.client_id_refused(given))
    }

    #[cold]
    fn client_id_refused(&self, given: &str) -> Refusal {
        let id = self.identity.client_id.clone().unwrap_or_default();
        let refusal = Refusal::ClientIdBound { id };
        self.record("client_id.refused", given, "", Err(&refusal.text()));
        refusal
    }
}
