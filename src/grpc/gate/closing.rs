//! How long a call may go on: until its token ends, or new rules take back what it was allowed.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{AUTHORIZATION, Gate, identify};
use crate::model::identity::{CertificateNames, Identity, Proof};
use crate::rt;
use crate::security::limits::{Meter, SubscriptionHold};
use crate::security::{Changes, Security};
use crate::wire::Alarm;
use crate::wire::server::Call;
use crate::wire_error::Refusal;

/// The clock of the day may be set: how much longer a token counts is looked up this often.
const EXPIRY_LOOKED_AT_EVERY: Duration = Duration::from_secs(600);

/// What tells that a call may not go on.
pub(super) struct Guard {
    changes: Changes,
    expiry: Option<Alarm>,
    /// Shown again when the rules change, unless the transport vouches for its caller.
    token: Option<Box<str>>,
    certificate: Option<Rc<CertificateNames>>,
    shows_again: bool,
    /// When it counted. It is looked at as of then: whether it has ended since is the alarm's
    /// matter, which knows of the grace.
    shown_at_ns: Option<i64>,
    /// What the messages of the stream are measured by.
    pub(super) meter: Meter,
    /// Its caller has sent what it may for now.
    pub(super) is_slowed: bool,
    pub(super) subscription: Option<SubscriptionHold>,
}

impl Guard {
    pub(super) fn new(security: &Rc<Security>, call: &Call, identity: &Identity) -> Box<Self> {
        // Kept also while nobody asks for it: the next rules may.
        let token = call.metadata(AUTHORIZATION).map(Box::from);
        Box::new(Self {
            changes: security.watch(),
            expiry: expiry(identity),
            shows_again: call
                .identity()
                .is_none_or(|identity| identity.proof != Proof::Vouched),
            shown_at_ns: security.authenticates().then(rt::unix_ns),
            token,
            certificate: call.certificate().cloned(),
            meter: security.limits().meter(identity, call.peer().ip()),
            is_slowed: false,
            subscription: None,
        })
    }
}

impl Gate {
    /// Ready when the call may not go on: what its caller has shown has ended, or the rules were
    /// replaced and deny it. `standing` asks once more for whatever the call was allowed and still
    /// lives by. Only the last poller is woken.
    pub(in crate::grpc) fn poll_closed(
        &mut self,
        cx: &mut Context<'_>,
        mut standing: impl FnMut(&mut Self) -> Result<(), Refusal>,
    ) -> Poll<Refusal> {
        while self.poll_changed(cx).is_ready() {
            let looked = self.look_again();
            if let Err(refusal) = looked.and_then(|()| standing(self)) {
                self.record("stream.ended", "", "", Err(&refusal.text()));
                return Poll::Ready(refusal);
            }
        }
        self.poll_expired(cx)
    }

    fn poll_changed(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.guard {
            Some(guard) => guard.changes.poll(cx),
            None => Poll::Pending,
        }
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Refusal> {
        let expiry = self.guard.as_mut().and_then(|guard| guard.expiry.as_mut());
        let Some(expiry) = expiry else {
            return Poll::Pending;
        };
        while expiry.poll(cx).is_ready() {
            match left(&self.identity) {
                Some(left) if !left.is_zero() => expiry.reset(left.min(EXPIRY_LOOKED_AT_EVERY)),
                _ => return Poll::Ready(Refusal::TokenExpired),
            }
        }
        Poll::Pending
    }

    /// Has the caller recognised by the rules of now.
    fn look_again(&mut self) -> Result<(), Refusal> {
        let Some(guard) = self.guard.as_mut().filter(|guard| guard.shows_again) else {
            return Ok(());
        };
        let asked = self.security.authenticates();
        let token = guard.token.as_deref().filter(|_| asked);
        let at_ns = guard.shown_at_ns.unwrap_or_else(rt::unix_ns);
        guard.shown_at_ns = asked.then_some(at_ns);
        let certificate = guard.certificate.as_ref();
        let identity = identify(&self.security, token, certificate, at_ns);
        let identity = identity.map_err(|_reason| Refusal::CredentialsWithdrawn)?;
        guard.expiry = expiry(&identity);
        self.identity = identity;
        // It was allowed to somebody else.
        self.allowed = None;
        Ok(())
    }
}

/// How much longer somebody counts as recognised; `None`: for ever.
fn left(identity: &Identity) -> Option<Duration> {
    let at_ns = identity.expires_at_ns?;
    let left_ns = at_ns.saturating_sub(rt::unix_ns()).max(0);
    Some(Duration::from_nanos(left_ns.unsigned_abs()))
}

fn expiry(identity: &Identity) -> Option<Alarm> {
    let left = left(identity)?;
    Some(Alarm::new(left.min(EXPIRY_LOOKED_AT_EVERY)))
}
