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

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::codec::queue::{MessagesView, QueueMessageView};
use super::codec::sender::{Signed, sender_of, with_sender};
use super::observe::Access;
use super::refused;
use crate::model::Kind;
use crate::model::identity::{CertificateNames, Identity};
use crate::model::name::{self, Target};
use crate::rt;
use crate::security::limits::{LimitReached, Meter, SubscriptionHold};
use crate::security::{
    Action, Attempt, Binding, Changes, Credentials, Denied, Resource, Security, Unauthenticated,
};
use crate::shard::Shard;
use crate::wire::Alarm;
use crate::wire::server::{Call, MessageReader};
use crate::wire::status::Status;
use crate::wire_error::Refusal;

/// What stands for every channel where one is named: who lists them sees all.
const EVERY_CHANNEL: &str = ">";

/// The clock of the day may be set: how much longer a token counts is looked up this often.
const EXPIRY_LOOKED_AT_EVERY: Duration = Duration::from_secs(600);

/// Messages of a request that are looked at in one turn.
const LOOKS_PER_TURN: usize = 1024;

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
    /// Of a call that lives on.
    guard: Option<Box<Guard>>,
}

/// Something that was allowed.
struct Allowed {
    generation: u64,
    resource: Resource,
    action: Action,
    client_id: String,
    channel: String,
}

/// What tells that a call may not go on.
struct Guard {
    changes: Changes,
    expiry: Option<Alarm>,
    /// Shown again when the rules change. What a transport has found out by other means than a
    /// token or a certificate is its own matter.
    token: Option<Box<str>>,
    certificate: Option<Rc<CertificateNames>>,
    shows_again: bool,
    /// What the messages of the stream are measured by.
    meter: Meter,
    /// Its caller has sent what it may for now.
    is_slowed: bool,
    subscription: Option<SubscriptionHold>,
}

impl Gate {
    /// Finds out who calls.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`].
    pub(super) fn open(
        security: &Rc<Security>,
        call: &Call,
        lives: Lives,
    ) -> Result<Self, Refusal> {
        let identity = match call.identity() {
            Some(identity) => identity.clone(),
            None => identify(security, token(security, call), call.certificate())?,
        };
        let guard = (lives == Lives::On).then(|| {
            // Kept also while nobody asks for it: the next rules may.
            let token = call.metadata(AUTHORIZATION).map(Box::from);
            Box::new(Guard {
                changes: security.watch(),
                expiry: expiry(&identity),
                shows_again: call.identity().is_none() || token.is_some(),
                meter: security.limits().meter(&identity, call.peer().ip()),
                is_slowed: false,
                subscription: None,
                token,
                certificate: call.certificate().cloned(),
            })
        });
        Ok(Self {
            security: security.clone(),
            identity,
            peer: call.peer(),
            allowed: None,
            guard,
        })
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

fn identify(
    security: &Security,
    token: Option<&str>,
    certificate: Option<&Rc<CertificateNames>>,
) -> Result<Rc<Identity>, Refusal> {
    let credentials = Credentials {
        token,
        certificate: certificate.map(|names| &**names),
    };
    // The time of day is asked for only where it matters.
    let now_ns = match security.authenticates() {
        true => rt::unix_ns(),
        false => 0,
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
        counts.map_err(|_denied| self.client_id_bound())
    }

    fn client_id_bound(&self) -> Refusal {
        let id = self.identity.client_id.clone().unwrap_or_default();
        Refusal::ClientIdBound { id }
    }
}

/// What may be done.
impl Gate {
    /// Whether something may be done to a channel.
    ///
    /// # Errors
    /// [`Refusal::AccessDenied`].
    #[inline]
    pub(super) fn allow(&mut self, access: &Access<'_>, action: Action) -> Result<(), Refusal> {
        if !self.security.authorizes() {
            return Ok(());
        }
        self.decide(&Attempt {
            resource: Resource::Messages(access.kind),
            action,
            client_id: access.client,
            channel: access.channel,
        })
    }

    /// Whether messages may come to be in a queue by what a message, or a request, asks for.
    ///
    /// # Errors
    /// [`Refusal::AccessDenied`].
    pub(super) fn allow_target(&mut self, client_id: &str, queue: &str) -> Result<(), Refusal> {
        if !self.security.authorizes() || queue.is_empty() {
            return Ok(());
        }
        self.decide(&Attempt {
            resource: Resource::Messages(Kind::Queues),
            action: Action::Write,
            client_id,
            channel: queue,
        })
    }

    /// Whether a channel may be looked at, or changed, as a thing. Without a name it is all of
    /// them.
    ///
    /// # Errors
    /// [`Refusal::AccessDenied`].
    pub(super) fn allow_managing(
        &mut self,
        client_id: &str,
        channel: Option<&str>,
        action: Action,
    ) -> Result<(), Refusal> {
        if !self.security.authorizes() {
            return Ok(());
        }
        self.decide(&Attempt {
            resource: Resource::Management,
            action,
            client_id,
            channel: channel.unwrap_or(EVERY_CHANNEL),
        })
    }

    /// Whether every queue message of a request may be sent: with the first that may not, none is.
    /// Those for a route count target by target, when they are sent.
    ///
    /// # Errors
    /// [`Refusal::AccessDenied`], [`Refusal::ClientIdBound`].
    pub(super) async fn allow_all(&mut self, messages: &MessagesView<'_>) -> Result<(), Refusal> {
        let bound = self.identity.client_id.is_some();
        if !bound && !self.security.authorizes() {
            return Ok(());
        }
        for (place, message) in messages.messages().enumerate() {
            // One that cannot be decoded is told in its place.
            if let Ok(view) = QueueMessageView::parse(message) {
                self.allow_message(&view)?;
            }
            if place % LOOKS_PER_TURN == LOOKS_PER_TURN - 1 {
                rt::reactor_yield().await;
            }
        }
        Ok(())
    }

    fn allow_message(&mut self, view: &QueueMessageView<'_>) -> Result<(), Refusal> {
        let identity = self.identity.clone();
        let client_id = self.security.client_id(&identity, view.client_id);
        let client_id = client_id.map_err(|_denied| self.client_id_bound())?;
        let sent = QueueMessageView { client_id, ..*view };
        self.allow_target(client_id, sent.policy.max_receive_queue)?;
        match name::check_target(sent.channel) {
            Ok(Target::Channel) => {
                let access = Access::queue_message(&sent, sent.message_id, 0);
                self.allow(&access, Action::Write)
            }
            Ok(Target::Route) | Err(_) => Ok(()),
        }
    }

    /// Whether something that stands, such as a subscription, may go on under the rules of now.
    ///
    /// # Errors
    /// [`Refusal::AccessDenied`], [`Refusal::ClientIdBound`].
    pub(super) fn allow_standing(
        &mut self,
        kind: Kind,
        client_id: &str,
        channel: &str,
    ) -> Result<(), Refusal> {
        if self.client_id(client_id)? != client_id {
            return Err(self.client_id_bound());
        }
        if !self.security.authorizes() {
            return Ok(());
        }
        self.decide(&Attempt {
            resource: Resource::Messages(kind),
            action: Action::Read,
            client_id,
            channel,
        })
    }

    fn decide(&mut self, attempt: &Attempt<'_>) -> Result<(), Refusal> {
        let generation = self.security.generation();
        let allowed = self.allowed.as_ref();
        if allowed.is_some_and(|allowed| allowed.is(generation, attempt)) {
            return Ok(());
        }
        match self.security.authorize(&self.identity, attempt) {
            Ok(()) => {
                let allowed = self.allowed.get_or_insert_with(Allowed::nothing);
                allowed.set(generation, attempt);
                Ok(())
            }
            Err(Denied::Policy | Denied::ClientId) => Err(Refusal::AccessDenied),
        }
    }
}

/// How much.
impl Gate {
    /// The one message of a call, if its caller may ask for so much.
    ///
    /// # Errors
    /// Those of the reader; [`Refusal::LimitReached`].
    pub(super) async fn only_message(
        &self,
        shard: &Shard,
        reader: &mut MessageReader,
    ) -> Result<Bytes, Status> {
        let message = reader.only_message().await?;
        self.security
            .limits()
            .admit(&self.identity, self.peer.ip(), message.len())
            .map_err(|reached| refused(shard, limit_reached(&reached)))?;
        Ok(message)
    }

    /// Counts a message of a stream; false when no other may be read before
    /// [`poll_may_read`](Self::poll_may_read) is ready.
    pub(super) fn read(&mut self, bytes: usize) -> bool {
        let Some(guard) = &mut self.guard else {
            return true;
        };
        // Whoever waits is woken by the poll that follows.
        let mut nobody = Context::from_waker(Waker::noop());
        let limits = self.security.limits();
        let admitted = limits.poll_admit(&mut guard.meter, &mut nobody, bytes);
        guard.is_slowed = admitted.is_pending();
        !guard.is_slowed
    }

    /// Ready while the next message of the stream may be read. Only the last poller is woken.
    pub(super) fn poll_may_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(guard) = self.guard.as_mut().filter(|guard| guard.is_slowed) else {
            return Poll::Ready(());
        };
        let admitted = self.security.limits().poll_admit(&mut guard.meter, cx, 0);
        admitted.map(|()| guard.is_slowed = false)
    }

    /// Takes a place among the subscriptions of a client, for as long as the call lives.
    ///
    /// # Errors
    /// [`Refusal::LimitReached`].
    pub(super) fn hold_subscription(&mut self, client_id: &str) -> Result<(), Refusal> {
        let hold = self.security.limits().subscription(client_id);
        let hold = hold.map_err(|reached| limit_reached(&reached))?;
        if let Some(guard) = &mut self.guard {
            guard.subscription = Some(hold);
        }
        Ok(())
    }
}

fn limit_reached(reached: &LimitReached) -> Refusal {
    Refusal::LimitReached {
        limit: reached.limit,
        retry_after: reached.retry_after,
    }
}

/// How long.
impl Gate {
    /// Ready when the call may not go on: what its caller has shown has ended, or the rules were
    /// replaced and deny it. `standing` asks once more for whatever the call was allowed and still
    /// lives by. Only the last poller is woken.
    pub(super) fn poll_closed(
        &mut self,
        cx: &mut Context<'_>,
        mut standing: impl FnMut(&mut Self) -> Result<(), Refusal>,
    ) -> Poll<Refusal> {
        while self.poll_changed(cx).is_ready() {
            let looked = self.look_again();
            if let Err(refusal) = looked.and_then(|()| standing(self)) {
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
        let token = match self.security.authenticates() {
            true => guard.token.as_deref(),
            false => None,
        };
        let identity = identify(&self.security, token, guard.certificate.as_ref());
        let Ok(identity) = identity else {
            return Err(match self.identity.is_expired(rt::unix_ns()) {
                true => Refusal::TokenExpired,
                false => Refusal::CredentialsWithdrawn,
            });
        };
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

impl Allowed {
    fn nothing() -> Box<Self> {
        Box::new(Self {
            generation: 0,
            resource: Resource::Management,
            action: Action::Read,
            client_id: String::new(),
            channel: String::new(),
        })
    }

    fn is(&self, generation: u64, attempt: &Attempt<'_>) -> bool {
        self.generation == generation
            && self.resource == attempt.resource
            && self.action == attempt.action
            && self.channel == attempt.channel
            && self.client_id == attempt.client_id
    }

    /// Takes the place of what was allowed before, in its memory.
    fn set(&mut self, generation: u64, attempt: &Attempt<'_>) {
        self.generation = generation;
        self.resource = attempt.resource;
        self.action = attempt.action;
        self.client_id.clear();
        self.client_id.push_str(attempt.client_id);
        self.channel.clear();
        self.channel.push_str(attempt.channel);
    }
}
