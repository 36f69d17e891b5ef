//! Which pages may ask: by the host that a browser was told to ask, and by where its page is from.

use std::net::IpAddr;

use http::HeaderValue;

use super::super::super::exchange::Exchange;

pub(super) const FOREIGN_HOST: &str = "code=403, message=the Host of this request is no name of \
    this machine: use localhost or an IP address, or add the origin to api.allow_origins";

pub(super) const FOREIGN_ORIGIN: &str = "code=403, message=the Origin of this request is another \
    site: add it to api.allow_origins";

/// The host that a request was sent to; HTTP/2 says it in the target.
fn host(exchange: &Exchange) -> Option<&str> {
    let authority = exchange.head.uri.authority().map(|it| it.as_str());
    exchange.header("host").or(authority)
}

/// Checks that the host is one that no other site can have.
pub(super) fn check_host(exchange: &Exchange) -> Result<(), &'static str> {
    let allowed = &exchange.context.config.api.allow_origins;
    match host(exchange) {
        Some(host) if !is_own_host(host, allowed) => Err(FOREIGN_HOST),
        None if exchange.head.headers.contains_key("host") => Err(FOREIGN_HOST),
        _ => Ok(()),
    }
}

/// Checks where the page is from that makes a request; gives the other site that may read the
/// answer.
pub(super) fn check_origin(exchange: &Exchange) -> Result<Option<HeaderValue>, &'static str> {
    let Some(origin) = exchange.head.headers.get("origin") else {
        // A page of another site may ask without its origin, and use what asking does. Browsers
        // say where it comes from all the same (Fetch Metadata).
        let site = exchange.header("sec-fetch-site").unwrap_or_default();
        let follows_link = exchange.header("sec-fetch-mode") == Some("navigate");
        if matches!(site, "cross-site" | "same-site") && !follows_link {
            return Err(FOREIGN_ORIGIN);
        }
        return Ok(None);
    };
    let allowed = &exchange.context.config.api.allow_origins;
    let host = host(exchange);
    match origin.to_str().map(|text| relation(text, host, allowed)) {
        Ok(Relation::Same) => Ok(None),
        Ok(Relation::Allowed) => Ok(Some(origin.clone())),
        Ok(Relation::Foreign) | Err(_) => Err(FOREIGN_ORIGIN),
    }
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
}
