//! The pages: one that says how the broker is, on all paths of the dashboard.

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use http::{HeaderName, HeaderValue, StatusCode};

use super::super::body::Body;
use super::super::exchange::{Exchange, Response};
use super::not_found;

/// The page. It brings all that it shows with, and asks this port for the rest.
const STATUS: &str = include_str!("status.html");

/// The page for who has not said who it is. It brings all that it shows with.
const LOGIN: &str = include_str!("login.html");

/// Pages of the dashboard, and how the paths begin that lead to them.
const PAGES: [(&str, &str); 4] = [
    ("/dashboard", "/dash"),
    ("/queues", "/que"),
    ("/pubsub", "/pub"),
    ("/cqrs", "/cq"),
];

/// Nothing is loaded from elsewhere, and nobody shows the page within theirs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn handle(path: &str, exchange: &Exchange) -> Response {
    if path == "/" {
        return status(exchange);
    }
    let page = PAGES.iter().find(|(_, begin)| path.starts_with(begin));
    match page {
        Some((page, _)) if path == *page => moved(&format!("{page}/")),
        Some((page, _)) if path.strip_suffix('/') == Some(page) => status(exchange),
        Some((page, _)) => moved(page),
        None => not_found(),
    }
}

/// Whether a path is one that a person types.
pub(super) fn is_page(path: &str) -> bool {
    path == "/" || PAGES.iter().any(|(_, begin)| path.starts_with(begin))
}

/// Asks a person who it is.
pub(super) fn login(exchange: &Exchange) -> Response {
    let mut response = page(LOGIN, exchange);
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response
}

fn status(exchange: &Exchange) -> Response {
    page(STATUS, exchange)
}

fn page(text: &str, exchange: &Exchange) -> Response {
    let page = text
        .replace("{{version}}", env!("CARGO_PKG_VERSION"))
        .replace("{{host}}", &escape(&exchange.context.process.host));
    let mut response = Response::new(Body::full(page));
    let set: [(HeaderName, &'static str); 3] = [
        (CONTENT_TYPE, "text/html; charset=UTF-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in set {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

fn moved(to: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

/// Text within a page.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
