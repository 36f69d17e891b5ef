//! Who may ask what.
//!
//! `/health`, `/ready` and `/metrics` answer everybody: probes and scrapers come from anywhere, and
//! learn nothing that they could use. For everything else there are two ways:
//!
//! - Nobody has to say who it is. Then peers on this machine are answered. A browser on this
//!   machine is such a peer, whatever page it shows. A page of another site that was given this
//!   machine's address as its own (DNS rebinding) is known by `Host`, any other page of another
//!   site by `Origin`; both are checked.
//! - Everybody has to (`api.auth`): by a token or an API key in each request, by a certificate, or
//!   by a session. Then peers are answered from anywhere, and what they may do says the policy. A
//!   page of another site is known by `Origin` again: it could use the session of a browser. Its
//!   host does not matter, since no cookie of ours is sent to another one.
//!
//! `api.allow_origins` names sites that may ask all the same.

mod sites;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    COOKIE, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Method, StatusCode};

use super::super::body::Body;
use super::super::caller::{Caller, Unrecognised, is_known};
use super::super::exchange::{Exchange, Response, text};
use super::session::{self, Session};
use super::{CLIENT_ID, envelope, json, pages};
use crate::model::identity::{Identity, Proof};
use crate::rt;
use crate::security::limits::LimitReached;
use crate::security::{Action, Attempt, Credentials, Denied, Resource, Unauthenticated};

/// Paths that answer everybody.
const OPEN: [&str; 3] = ["/health", "/ready", "/metrics"];

/// Where somebody says who it is.
pub(super) const LOGIN: &str = "/api/login";

const ONLY_LOCAL: &str = "code=403, message=the management port answers other machines only for \
    /health, /ready and /metrics while nobody has to say who it is: set up authentication, or ask \
    from this machine (ssh -L, kubectl port-forward)";

const WHO: &str = "authentication required: show a token or an API key (Authorization: Bearer …), \
    or open a session by POST /api/login";

/// What everybody is told who may not do something.
pub(super) const DENIED: &str = "Error 412: access denied to resource";

/// A request that may be answered.
pub(super) struct Admitted {
    /// The other site that may read the answer.
    origin: Option<HeaderValue>,
}

/// Checks whether a request may be answered, and finds out who makes it; otherwise gives the
/// refusal.
pub(super) fn check(exchange: &mut Exchange) -> Result<Admitted, Box<Response>> {
    if OPEN.contains(&exchange.path()) {
        exchange.caller = Some(Caller::unasked());
        return Ok(Admitted { origin: None });
    }
    let forbid = |reason: &'static str| Box::new(text(StatusCode::FORBIDDEN, reason));
    let asks = exchange.context.config.management_asks();
    if !asks {
        if !is_local(exchange.peer) {
            return Err(forbid(ONLY_LOCAL));
        }
        sites::check_host(exchange).map_err(forbid)?;
    }
    let origin = sites::check_origin(exchange).map_err(forbid)?;
    let is_question = exchange.head.method == Method::OPTIONS;
    if asks && !is_question && exchange.path() != LOGIN {
        may_show(exchange)?;
        let caller = recognise(exchange).map_err(|refusal| turn_away(exchange, &refusal))?;
        let is_admin = is_admin(exchange, caller.identity());
        exchange.caller = Some(caller);
        if !is_admin {
            exchange.record("access.denied", "api.admin_username", Err(DENIED));
            return Err(Box::new(denied()));
        }
    } else {
        exchange.caller = Some(Caller::unasked());
    }
    Ok(Admitted { origin })
}

impl Admitted {
    /// Lets another site read the answer that may.
    pub(super) fn mark(self, mut response: Response) -> Response {
        if let Some(origin) = self.origin {
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        response
    }

    /// Answers the question of a browser whether it may ask.
    pub(super) fn preflight(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        let methods = HeaderValue::from_static("GET,POST");
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        let asked_with = HeaderValue::from_static("content-type,authorization");
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked_with);
        self.mark(response)
    }
}

pub(super) fn is_local(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

/// Whether what a request shows, itself or by its session, may be looked at.
fn may_show(exchange: &Exchange) -> Result<(), Box<Response>> {
    let session = session_of(exchange);
    let token = match &session {
        Some(session) => Some(session.token().expose()),
        None => exchange.bearer(),
    };
    let shown = exchange.may_show(token);
    shown.map_err(|reached| Box::new(too_often(&reached)))
}

/// Who makes a request, where everybody has to say so.
pub(super) fn recognise(exchange: &Exchange) -> Result<Caller, Unrecognised> {
    let caller = match session_of(exchange) {
        Some(session) => by_session(exchange, &session)?,
        None => exchange.recognise()?,
    };
    // Between two reloads the rules may ask nobody while the settings already do.
    if is_known(caller.identity()) {
        Ok(caller)
    } else {
        Err(Unrecognised::Header)
    }
}

/// The session that a request names. One that shows a token means that.
pub(super) fn session_of(exchange: &Exchange) -> Option<Arc<Session>> {
    if exchange.head.headers.contains_key("authorization") {
        return None;
    }
    let config = &exchange.context.config;
    let cookies = exchange.head.headers.get_all(COOKIE).iter();
    let mut cookies = cookies.filter_map(|value| session::cookie(config, value.to_str().ok()?));
    session::find(cookies.next()?, rt::unix_ns())
}

/// Shows what a session stands for.
fn by_session(exchange: &Exchange, session: &Session) -> Result<Caller, Unrecognised> {
    let credentials = Credentials {
        token: Some(session.token().expose()),
        certificate: None,
    };
    let security = &exchange.context.security;
    let shown = security.authenticate(&credentials, rt::unix_ns());
    let identity = shown.map_err(Unrecognised::Refused)?;
    if !is_known(&identity) {
        return Err(Unrecognised::Header);
    }
    let ends_at_ns = session.ends_at_ns();
    let expires_at_ns = identity.expires_at_ns.unwrap_or(ends_at_ns);
    let identity = Identity {
        proof: Proof::Session,
        expires_at_ns: Some(expires_at_ns.min(ends_at_ns)),
        ..Identity::clone(&identity)
    };
    let token = HeaderValue::from_str(session.token().expose()).ok();
    Ok(Caller::new(Rc::new(identity), token))
}

/// Whether somebody is the one who may use the port, if there is only one.
pub(super) fn is_admin(exchange: &Exchange, identity: &Identity) -> bool {
    let admin = exchange.context.config.api.auth.admin_username.as_deref();
    admin.is_none_or(|admin| admin == &*identity.name)
}

/// Answers somebody who was not recognised. One who looks at a page gets one to say who it is.
fn turn_away(exchange: &Exchange, unrecognised: &Unrecognised) -> Box<Response> {
    if matches!(unrecognised, Unrecognised::Refused(_)) {
        let security = &exchange.context.security;
        security.note_refused(exchange.peer.ip());
    }
    let reads = exchange.head.method == Method::GET;
    if reads && pages::is_page(exchange.path()) {
        return Box::new(pages::login(exchange));
    }
    let text = match unrecognised {
        Unrecognised::Header if exchange.head.headers.contains_key("authorization") => {
            "invalid authentication header"
        }
        Unrecognised::Header => WHO,
        Unrecognised::Refused(Unauthenticated(text)) => text,
    };
    exchange.note_unrecognised("api", text);
    Box::new(unauthorised(text))
}

pub(super) fn unauthorised(error: &str) -> Response {
    let body = Body::full(envelope::<()>(Err(error)));
    let mut response = json(StatusCode::UNAUTHORIZED, body);
    let scheme = HeaderValue::from_static("Bearer");
    response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    response
}

/// Answers somebody who may not do that.
pub(super) fn denied() -> Response {
    let body = Body::full(envelope::<()>(Err(DENIED)));
    json(StatusCode::FORBIDDEN, body)
}

/// The client id of what somebody does by this port: its own, if ids are bound.
pub(super) fn client_id(exchange: &Exchange) -> String {
    let identity = exchange.caller.as_ref().map(Caller::identity);
    let security = &exchange.context.security;
    let bound = identity.map(|identity| security.client_id(identity, ""));
    match bound {
        Some(Ok(bound)) if !bound.is_empty() => bound.to_owned(),
        _ => CLIENT_ID.to_owned(),
    }
}

/// Whether who asks may do something, as far as the service is not asked for it anyway. Where
/// nobody has to say who it is, this machine may.
pub(super) fn authorise(
    exchange: &Exchange,
    resource: Resource,
    action: Action,
    channel: &str,
) -> Result<(), Denied> {
    let (true, Some(caller)) = (exchange.context.config.management_asks(), &exchange.caller) else {
        return Ok(());
    };
    let client_id = client_id(exchange);
    let attempt = Attempt {
        resource,
        action,
        client_id: &client_id,
        channel,
    };
    let allowed = exchange
        .context
        .security
        .authorize(caller.identity(), &attempt);
    allowed.inspect_err(|_denied| exchange.note_denied(&attempt, DENIED))
}

/// Whether who asks has asked too often. Calls of the service are counted there.
pub(super) fn admit(exchange: &Exchange) -> Result<(), Box<Response>> {
    let Some(caller) = &exchange.caller else {
        return Ok(());
    };
    let limits = exchange.context.security.limits();
    let admitted = limits.admit(caller.identity(), exchange.peer.ip(), 0);
    admitted.map_err(|reached| {
        exchange.context.shard.counters.refusals_limit.increment();
        Box::new(too_often(&reached))
    })
}

/// Answers somebody who has asked too often.
pub(super) fn too_often(reached: &LimitReached) -> Response {
    let body = Body::full(envelope::<()>(Err(&reached.to_string())));
    let mut response = json(StatusCode::TOO_MANY_REQUESTS, body);
    if let Some(seconds) = reached.retry_after_seconds() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ipv4_within_ipv6_is_local_too() {
        let local = |text: &str| is_local(text.parse().unwrap());
        assert!(local("127.0.0.1:1") && local("[::1]:1") && local("[::ffff:127.0.0.1]:1"));
        assert!(!local("192.0.2.1:1") && !local("[::ffff:192.0.2.1]:1"));
    }
}
