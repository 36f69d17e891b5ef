//! Whether somebody who looks on for long may still do so.
//!
//! A socket and a stream of events outlive what their opener has shown: a token ends, a key is
//! taken away, a session is closed, a policy changes. What the service streams it ends itself;
//! what this port shows by itself is looked at again here.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use super::super::caller::{Caller, is_known};
use super::super::context::Context;
use super::super::exchange::Exchange;
use super::access;
use super::session::Session;
use crate::model::identity::CertificateNames;
use crate::rt;
use crate::security::{Action, Attempt, Credentials, Resource, Rules};
use crate::wire::Alarm;

/// How often it is looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// The standing of one who looks on. Where nobody has to say who it is, it never ends.
pub(in crate::http) struct Standing(Option<Shown>);

struct Shown {
    context: Rc<Context>,
    caller: Caller,
    certificate: Option<Rc<CertificateNames>>,
    session: Option<Arc<Session>>,
    /// What it looks at, and by which name.
    looks_at: Vec<(Resource, String)>,
    client_id: String,
    /// The rules by which this was allowed.
    rules: Arc<Rules>,
    tick: Alarm,
}

impl Standing {
    /// Of one who was just allowed to look at these things.
    pub(in crate::http) fn of(exchange: &Exchange, looks_at: Vec<(Resource, String)>) -> Self {
        let context = exchange.context.clone();
        let caller = exchange.caller.clone();
        let asks = context.config.management_asks();
        Self(caller.filter(|_| asks).map(|caller| Shown {
            certificate: exchange.client.certificate().cloned(),
            session: access::session_of(exchange),
            client_id: access::client_id(exchange),
            rules: context.security.rules(),
            tick: Alarm::new(PERIOD),
            context,
            caller,
            looks_at,
        }))
    }

    /// Whether it may do something else meanwhile, as far as the service is not asked for it.
    pub(super) fn may(&self, resource: Resource, action: Action, channel: &str) -> bool {
        self.0.as_ref().is_none_or(|shown| {
            let attempt = Attempt {
                resource,
                action,
                client_id: &shown.client_id,
                channel,
            };
            let security = &shown.context.security;
            security
                .authorize(shown.caller.identity(), &attempt)
                .is_ok()
        })
    }

    /// Ready when it has ended.
    pub(in crate::http) fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        let Some(shown) = &mut self.0 else {
            return Poll::Pending;
        };
        while shown.tick.poll(cx).is_ready() {
            if !shown.holds(rt::unix_ns()) {
                return Poll::Ready(());
            }
            shown.tick.reset(PERIOD);
        }
        Poll::Pending
    }
}

impl Shown {
    fn holds(&mut self, now_ns: i64) -> bool {
        let closed = self
            .session
            .as_ref()
            .is_some_and(|session| session.is_closed());
        if closed || self.caller.identity().is_expired(now_ns) {
            return false;
        }
        let rules = self.context.security.rules();
        if Arc::ptr_eq(&rules, &self.rules) {
            return true;
        }
        self.rules = rules;
        self.is_allowed_again(now_ns)
    }

    /// Shows everything once more.
    fn is_allowed_again(&self, now_ns: i64) -> bool {
        let security = &self.context.security;
        let credentials = Credentials {
            token: self.caller.token(),
            certificate: self.certificate.as_deref(),
        };
        let Ok(identity) = security.authenticate(&credentials, now_ns) else {
            return false;
        };
        let mut looks_at = self.looks_at.iter();
        is_known(&identity)
            && looks_at.all(|(resource, channel)| {
                let attempt = Attempt {
                    resource: *resource,
                    action: Action::Read,
                    client_id: &self.client_id,
                    channel,
                };
                security.authorize(&identity, &attempt).is_ok()
            })
    }
}
