//! Who is it, and may they.
//!
//! ```text
//!   token, key, certificate ─► authentication ─► Identity ─► binding ─► authorization ─► limits
//!                              (who is it)                  (as whom)   (may they)      (how much)
//! ```
//!
//! The rules are read and checked on a thread of their own, put together as one [`Rules`], and
//! swapped whole on every executor: a call sees the old ones or the new ones, never a mixture.
//! What is configured is enforced; a rule that cannot be read keeps the broker from starting, and
//! keeps a reload from taking place.
//!
//! # Threading
//! One [`Security`] for each executor. [`Rules`] are shared by all and never change; what changes,
//! such as caches and buckets, belongs to the executor.

pub mod audit;
pub mod authentication;
pub mod limits;
pub mod policy;

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use slab::Slab;

use crate::model::Kind;
use crate::model::identity::{CertificateNames, Identity, Proof};
use crate::rt::Notify;

use audit::Auditor;
use authentication::{Authenticator, Recognised};
use limits::{Did, LimitReached, Limits};
use policy::{Decisions, Policy};

/// What a client shows of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// The value of `authorization` as it came over gRPC, or behind `Bearer ` over HTTP.
    pub token: Option<&'a str>,
    /// The names in the certificate of its connection.
    pub certificate: Option<&'a CertificateNames>,
}

/// Why somebody was not recognised; the text is what the client is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unauthenticated(pub Cow<'static, str>);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// Messages of a kind.
    Messages(Kind),
    /// The broker itself and its channels as things: lists, creation, deletion, purges, settings.
    Management,
}

/// What is to be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Receive, subscribe, peek, look.
    Read,
    /// Send, acknowledge all, change.
    Write,
}

/// One thing that somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// What it is done to.
    pub resource: Resource,
    /// What is done.
    pub action: Action,
    /// The client id of the message, after binding.
    pub client_id: &'a str,
    /// The channel; that of a subscription may hold wildcards, and stands for all that it matches.
    pub channel: &'a str,
}

/// Somebody may not do what was asked for. The client is told nothing more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No rule allows it, or one forbids it.
    #[error("access denied to resource")]
    Policy,
    /// The client id belongs to somebody else.
    #[error("the client id is not the one that this identity may use")]
    ClientId,
}

/// How client ids of messages are tied to who sends them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Binding {
    /// Not at all: whoever speaks may call itself as it likes.
    #[default]
    Off,
    /// An id that is not the identity's is refused; a missing one is filled in.
    Checked,
    /// The identity's id replaces whatever the message says.
    Forced,
}

/// All rules together, as they were read. They never change.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// `None`: nobody is asked who it is.
    pub authentication: Option<Arc<Authenticator>>,
    /// `None`: everybody may do everything.
    pub authorization: Option<Arc<Policy>>,
    /// How ids are bound; counts only for an identity that has one.
    pub binding: Binding,
}

/// The rules as one executor applies them.
#[derive(Debug)]
pub struct Security {
    rules: RefCell<Arc<Rules>>,
    /// Whose proofs were verified lately.
    recognised: RefCell<Recognised>,
    /// What the rules said lately.
    decisions: Decisions,
    audit: OnceCell<Auditor>,
    /// Whether anybody is asked who it is: looked at for each call.
    authenticates: Cell<bool>,
    /// Whether the rules forbid anything: looked at for each message.
    authorizes: Cell<bool>,
    generation: Cell<u64>,
    watching: RefCell<Slab<Notify>>,
    /// Everybody, while nobody is asked.
    anonymous: Rc<Identity>,
    limits: Rc<Limits>,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            rules: RefCell::default(),
            recognised: RefCell::default(),
            decisions: Decisions::default(),
            audit: OnceCell::new(),
            authenticates: Cell::new(false),
            authorizes: Cell::new(false),
            generation: Cell::new(0),
            watching: RefCell::default(),
            anonymous: Rc::new(Identity::anonymous()),
            limits: Rc::default(),
        }
    }
}

impl Security {
    /// Begins with these rules.
    #[must_use]
    pub fn new(rules: Arc<Rules>) -> Rc<Self> {
        Self::with_limits(rules, Rc::default())
    }

    /// Begins with these rules, and with limits.
    #[must_use]
    pub fn with_limits(rules: Arc<Rules>, limits: Rc<Limits>) -> Rc<Self> {
        let security = Rc::new(Self {
            limits,
            ..Self::default()
        });
        security.replace(rules);
        security
    }

    /// What somebody may do in a time, and at once.
    #[must_use]
    pub const fn limits(&self) -> &Rc<Limits> {
        &self.limits
    }

    /// Has what is done and refused written down, from now on.
    pub fn set_audit(&self, audit: Auditor) {
        // Once, at the start: the file does not change while the broker runs.
        let _set_before = self.audit.set(audit);
    }

    /// Where it is written down what was done, and what was refused.
    #[must_use]
    pub fn audit(&self) -> &Auditor {
        const NONE: &Auditor = &Auditor::disabled();
        self.audit.get().unwrap_or(NONE)
    }

    /// Goes by these rules from now on.
    pub fn replace(&self, rules: Arc<Rules>) {
        self.authenticates.set(rules.authentication.is_some());
        self.authorizes.set(rules.authorization.is_some());
        *self.rules.borrow_mut() = rules;
        self.recognised.borrow_mut().clear();
        self.decisions.forget();
        self.generation.set(self.generation.get() + 1);
        let watching = self.watching.borrow();
        watching.iter().for_each(|(_, changed)| changed.raise());
    }

    /// Grows with each replacement of the rules: what was decided before counts no more.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Whether anybody is asked who it is. Otherwise [`authenticate`](Self::authenticate) takes
    /// everybody, and looks at no token.
    #[must_use]
    pub fn authenticates(&self) -> bool {
        self.authenticates.get()
    }

    /// How the client ids of messages are bound.
    #[must_use]
    pub fn binding(&self) -> Binding {
        self.rules.borrow().binding
    }

    /// Whether there are rules that say who may do what. Without them
    /// [`authorize`](Self::authorize) allows everything.
    #[must_use]
    pub fn authorizes(&self) -> bool {
        self.authorizes.get()
    }

    /// Watches for replacements of the rules; for streams that outlive them.
    #[must_use]
    pub fn watch(self: &Rc<Self>) -> Changes {
        let changed = Notify::new();
        let index = self.watching.borrow_mut().insert(changed.clone());
        Changes {
            security: self.clone(),
            index,
            changed,
        }
    }

    /// The rules that count now.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.borrow().clone()
    }

    /// Finds out who calls.
    ///
    /// # Errors
    /// [`Unauthenticated`], when somebody has to be recognised and was not.
    pub fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        now_ns: i64,
    ) -> Result<Rc<Identity>, Unauthenticated> {
        match &self.rules.borrow().authentication {
            Some(authenticator) => {
                let mut recognised = self.recognised.borrow_mut();
                authenticator.authenticate(credentials, now_ns, &mut recognised)
            }
            None => Ok(self.unasked(credentials)),
        }
    }

    /// Whether a token may be shown from an address. To verify one costs more than most calls, and
    /// who is not recognised has no allowance of its own: what is refused counts against the
    /// address ([`note_refused`](Self::note_refused)), and above its rate only tokens are taken
    /// that the executor remembers as good.
    ///
    /// # Errors
    /// [`LimitReached`]; then nothing is to be verified.
    pub fn may_show(
        &self,
        token: Option<&str>,
        peer: IpAddr,
        now_ns: i64,
    ) -> Result<(), LimitReached> {
        let Some(token) = token.filter(|_| self.authenticates()) else {
            return Ok(());
        };
        let Some(reached) = self.limits.would_refuse(&self.anonymous, peer) else {
            return Ok(());
        };
        if self.recognised.borrow_mut().remembers(token, now_ns) {
            return Ok(());
        }
        self.limits.tell(Did::RefusedRequest);
        Err(reached)
    }

    /// Counts a token that was refused against the address that has shown it.
    pub fn note_refused(&self, peer: IpAddr) {
        // If another core has just taken the last one, that is what counts.
        let _counted = self.limits.admit(&self.anonymous, peer, 0);
    }

    fn unasked(&self, credentials: &Credentials<'_>) -> Rc<Identity> {
        match credentials.certificate {
            None => self.anonymous.clone(),
            Some(certificate) => Rc::new(Identity {
                proof: Proof::Certificate,
                name: certificate.common_name.clone(),
                ..Identity::anonymous()
            }),
        }
    }

    /// Whether somebody may do something.
    ///
    /// # Errors
    /// [`Denied::Policy`].
    pub fn authorize(&self, identity: &Identity, attempt: &Attempt<'_>) -> Result<(), Denied> {
        match &self.rules.borrow().authorization {
            Some(policy) if !self.decisions.allows(policy, identity, attempt) => {
                Err(Denied::Policy)
            }
            _ => Ok(()),
        }
    }

    /// The client id that counts for a message that says `given`.
    ///
    /// # Errors
    /// [`Denied::ClientId`].
    pub fn client_id<'a>(&self, identity: &'a Identity, given: &'a str) -> Result<&'a str, Denied> {
        let Some(bound) = identity.client_id.as_deref() else {
            return Ok(given);
        };
        match self.rules.borrow().binding {
            Binding::Off => Ok(given),
            Binding::Forced => Ok(bound),
            Binding::Checked if given.is_empty() || given == bound => Ok(bound),
            Binding::Checked => Err(Denied::ClientId),
        }
    }
}

/// Tells one task of every replacement of the rules; unregisters when dropped.
#[derive(Debug)]
pub struct Changes {
    security: Rc<Security>,
    index: usize,
    changed: Notify,
}

impl Changes {
    /// Ready when the rules were replaced since it was asked last.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.changed.poll(cx)
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.security.watching.borrow_mut().try_remove(self.index);
    }
}
