//! Who may ask what, while the port knows no users.
//!
//! - `/health`, `/ready` and `/metrics` answer everybody: probes and scrapers come from anywhere,
//!   and learn nothing that they could use.
//! - Everything else answers peers on this machine.
//! - A browser on this machine is such a peer, whatever page it shows. A page of another site that
//!   was given this machine's address as its own (DNS rebinding) is known by `Host`, any other page
//!   of another site by `Origin`; both are checked. `api.allow_origins` names sites that may ask
//!   all the same.

use std::net::{IpAddr, SocketAddr};

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    CONTENT_TYPE, VARY,
};
use http::{HeaderValue, StatusCode};

use super::super::body::Body;
use super::super::exchange::{Exchange, Response, text};

/// Paths that answer everybody.
const OPEN: [&str; 3] = ["/health", "/ready", "/metrics"];

const ONLY_LOCAL: &str = "code=403, message=the management port answers other machines only for \
    /health, /ready and /metrics: it knows no users yet, and no setting opens it further. Ask from \
    this machine (ssh -L, kubectl port-forward)";

const FOREIGN_HOST: &str = "code=403, message=the Host of this request is no name of this machine: \
    use localhost or an IP address, or add the origin to api.allow_origins";

const FOREIGN_ORIGIN: &str = "code=403, message=the Origin of this request is another site: add it \
    to api.allow_origins";

/// A request that may be answered.
pub(super) struct Admitted {
    /// The other site that may read the answer.
    origin: Option<HeaderValue>,
}

/// Checks whether a request may be answered; otherwise gives the refusal.
pub(super) fn check(exchange: &Exchange) -> Result<Admitted, Box<Response>> {
    if OPEN.contains(&exchange.path()) {
        return Ok(Admitted { origin: None });
    }
    let refuse = |reason: &'static str| Box::new(text(StatusCode::FORBIDDEN, reason));
    if !is_local(exchange.peer) {
        return Err(refuse(ONLY_LOCAL));
    }
    let allowed = &exchange.context.config.api.allow_origins;
    // HTTP/2 says the host in the target.
    let authority = exchange.head.uri.authority().map(|it| it.as_str());
    let host = exchange.header("host").or(authority);
    if exchange.head.headers.contains_key("host") && host.is_none() {
        return Err(refuse(FOREIGN_HOST));
    }
    if host.is_some_and(|host| !is_own_host(host, allowed)) {
        return Err(refuse(FOREIGN_HOST));
    }
    let Some(origin) = exchange.head.headers.get("origin") else {
        // A page of another site may ask without its origin, and use what asking does. Browsers
        // say where it comes from all the same (Fetch Metadata).
        let site = exchange.header("sec-fetch-site").unwrap_or_default();
        let follows_link = exchange.header("sec-fetch-mode") == Some("navigate");
        if matches!(site, "cross-site" | "same-site") && !follows_link {
            return Err(refuse(FOREIGN_ORIGIN));
        }
        return Ok(Admitted { origin: None });
    };
    match origin.to_str().map(|text| relation(text, host, allowed)) {
        Ok(Relation::Same) => Ok(Admitted { origin: None }),
        Ok(Relation::Allowed) => Ok(Admitted {
            origin: Some(origin.clone()),
        }),
        Ok(Relation::Foreign) | Err(_) => Err(refuse(FOREIGN_ORIGIN)),
    }
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
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, CONTENT_TYPE.into());
        self.mark(response)
    }
}

pub(super) fn is_local(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

/// Whether a `Host` is one that no other site can have: an address, or a name that resolvers
/// know to be this machine.
fn is_own_host(host: &str, allowed: &[String]) -> bool {
    let name = host_name(host);
    let local = |name: &str| {
        let name = name.strip_suffix('.').unwrap_or(name);
        let last = name.rsplit('.').next().unwrap_or_default();
        last.eq_ignore_ascii_case("localhost")
    };
    // The unspecified address leads here too, and browsers tell it less of where they come from.
    let address = name.parse::<IpAddr>();
    let is_address = address.is_ok_and(|address| !address.is_unspecified());
    let is_allowed = |origin: &String| {
        authority_of(origin)
            .is_some_and(|authority| host_name(authority).eq_ignore_ascii_case(name))
    };
    local(name) || is_address || allowed.iter().any(is_allowed)
}

/// A host without its port and brackets.
fn host_name(host: &str) -> &str {
    let host = host.trim();
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split_once(']').map_or("", |(address, _)| address);
    }
    host.split_once(':').map_or(host, |(name, _)| name)
}

/// `http://a.b:8080` is `a.b:8080`.
fn authority_of(origin: &str) -> Option<&str> {
    let (_, authority) = origin.split_once("://")?;
    Some(authority.trim_end_matches('/'))
}

#[derive(Debug, PartialEq, Eq)]
enum Relation {
    /// A page of this port.
    Same,
    /// A page of a site that the operator has named.
    Allowed,
    Foreign,
}

fn relation(origin: &str, host: Option<&str>, allowed: &[String]) -> Relation {
    let authority = authority_of(origin);
    let same = |(a, b): (&str, &str)| a.eq_ignore_ascii_case(b);
    if authority.zip(host).is_some_and(same) {
        return Relation::Same;
    }
    let named = allowed
        .iter()
        .any(|it| it.trim_end_matches('/').eq_ignore_ascii_case(origin));
    if named && authority.is_some() {
        Relation::Allowed
    } else {
        Relation::Foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_own_hosts_and_others_are_not() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "mq.localhost:80",
            "localhost.",
            "127.0.0.1:8080",
            "[::1]:8080",
            "192.0.2.7",
        ] {
            assert!(is_own_host(host, &[]), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:8080",
            "127.0.0.1.evil.example",
            "",
            "notlocalhost",
            "[evil]:80",
        ] {
            assert!(!is_own_host(host, &[]), "{host}");
        }
        let allowed = ["https://mq.example.com".to_owned()];
        assert!(is_own_host("mq.example.com:8443", &allowed));
        assert!(!is_own_host("example.com", &allowed));
    }

    #[test]
    fn only_own_and_named_pages_may_ask() {
        let host = Some("localhost:8080");
        let allowed = ["https://ops.example.com".to_owned(), "*".to_owned()];
        let of = |origin| relation(origin, host, &allowed);
        assert_eq!(of("http://localhost:8080"), Relation::Same);
        assert_eq!(of("http://localhost:3000"), Relation::Foreign);
        assert_eq!(of("https://ops.example.com"), Relation::Allowed);
        assert_eq!(of("http://ops.example.com"), Relation::Foreign);
        assert_eq!(of("null"), Relation::Foreign);
        assert_eq!(of("*"), Relation::Foreign);
        assert_eq!(of("https://evil.example"), Relation::Foreign);
    }

    #[test]
    fn an_address_of_ipv4_within_ipv6_is_local_too() {
        let local = |text: &str| is_local(text.parse().unwrap());
        assert!(local("127.0.0.1:1") && local("[::1]:1") && local("[::ffff:127.0.0.1]:1"));
        assert!(!local("192.0.2.1:1") && !local("[::ffff:192.0.2.1]:1"));
    }
}
