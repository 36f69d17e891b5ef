//! `POST /api/login`, `POST /api/logout`, `GET /api/session`: how somebody at a browser says who it
//! is, once.

use http::header::{CACHE_CONTROL, SET_COOKIE};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::super::body::Body;
use super::super::caller::{Caller, is_known};
use super::super::exchange::{Exchange, Response};
use super::{access, actions, envelope, json, refused, session, time};
use crate::config::Secret;
use crate::rt;
use crate::security::{Credentials, Unauthenticated};

/// The largest body that a token fits into.
const BODY_BYTES_MAX: usize = 64 << 10;

const NANOSECONDS: i64 = 1_000_000_000;

/// What is shown.
#[derive(Deserialize)]
struct Shown {
    token: String,
}

/// Who somebody is.
#[derive(Serialize)]
struct Who<'a> {
    name: &'a str,
    proof: &'static str,
    roles: &'a [Box<str>],
    /// As RFC 3339 has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl<'a> Who<'a> {
    fn of(caller: &'a Caller) -> Self {
        let identity = caller.identity();
        Self {
            name: &identity.name,
            proof: identity.proof.word(),
            roles: &identity.roles,
            expires_at: identity.expires_at_ns.map(time::rfc3339),
        }
    }
}

/// Says who asks.
pub(super) fn show(exchange: &Exchange) -> Response {
    let who = exchange.caller.as_ref().map(Who::of);
    private(json(StatusCode::OK, Body::full(envelope(Ok(who)))))
}

/// Opens a session.
pub(super) async fn log_in(mut exchange: Exchange) -> Response {
    if !exchange.context.config.management_asks() {
        return refused("there are no sessions: nobody has to say who it is (api.auth.enable)");
    }
    let body = match exchange.read_body(BODY_BYTES_MAX).await {
        Ok(body) => body,
        Err(error) => return actions::unread(error),
    };
    // Pages of other sites can send forms without being asked; JSON they cannot.
    let is_json = exchange.header("content-type").is_some_and(|value| {
        let sort = value.split(';').next().unwrap_or_default();
        sort.trim().eq_ignore_ascii_case("application/json")
    });
    let shown = is_json.then(|| serde_json::from_slice::<Shown>(&body).ok());
    let Some(Shown { token }) = shown.flatten() else {
        let form = "a login is JSON: {\"token\": \"a token or an API key\"}";
        let body = Body::full(envelope::<()>(Err(form)));
        return json(StatusCode::BAD_REQUEST, body);
    };
    open(&exchange, Secret::new(token)).await
}

async fn open(exchange: &Exchange, token: Secret) -> Response {
    let context = &exchange.context;
    let now_ns = rt::unix_ns();
    if let Err(reached) = exchange.may_show(Some(token.expose())) {
        return access::too_often(&reached);
    }
    let credentials = Credentials {
        token: Some(token.expose()),
        certificate: None,
    };
    let identity = match context.security.authenticate(&credentials, now_ns) {
        Ok(identity) if is_known(&identity) => identity,
        Ok(_) => return access::unauthorised("nobody is recognised here at the moment"),
        Err(Unauthenticated(text)) => {
            context.security.note_refused(exchange.peer.ip());
            exchange.record("session.login_refused", "", Err(&text));
            return access::unauthorised(&text);
        }
    };
    if !access::is_admin(exchange, &identity) {
        let name = &identity.name;
        exchange.record("session.login_refused", name, Err(access::DENIED));
        return access::denied();
    }
    let expires = identity.expires_at_ns;
    let opened = session::open(context, &identity.name, token, expires, now_ns).await;
    let Some((cookie, session)) = opened else {
        let body = Body::full(envelope::<()>(Err("no random numbers are to be had")));
        return json(StatusCode::SERVICE_UNAVAILABLE, body);
    };
    exchange.record("session.login", &identity.name, Ok(()));
    let seconds = session.ends_at_ns().saturating_sub(now_ns) / NANOSECONDS;
    let caller = Caller::new(identity, None);
    let who = Who {
        expires_at: Some(time::rfc3339(session.ends_at_ns())),
        ..Who::of(&caller)
    };
    let response = json(StatusCode::OK, Body::full(envelope(Ok(Some(who)))));
    with_cookie(exchange, response, &cookie, seconds)
}

/// Ends the session. One that is over already is as good.
pub(super) fn log_out(exchange: &Exchange) -> Response {
    if let Some(session) = access::session_of(exchange) {
        session.close();
        exchange.record("session.logout", "", Ok(()));
    }
    let response = json(StatusCode::OK, Body::full(envelope::<()>(Ok(None))));
    with_cookie(exchange, response, "", 0)
}

fn with_cookie(
    exchange: &Exchange,
    mut response: Response,
    cookie: &str,
    seconds: i64,
) -> Response {
    let config = &exchange.context.config;
    if let Some(header) = session::set_cookie(config, cookie, seconds) {
        response.headers_mut().insert(SET_COOKIE, header);
    }
    private(response)
}

/// Keeps an answer out of caches.
fn private(mut response: Response) -> Response {
    let value = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, value);
    response
}
