//! Which pages of other origins may use the routes (the Fetch standard calls it CORS).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, HeaderName, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};

use crate::config;
use crate::http::exchange::Exchange;

/// What a request says of the page that makes it.
#[derive(Debug, Default)]
pub(super) struct Asked {
    origin: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    is_preflight: bool,
}

impl Asked {
    pub(super) fn of(exchange: &Exchange) -> Self {
        let headers = &exchange.head.headers;
        Self {
            origin: headers.get(ORIGIN).cloned(),
            headers: headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned(),
            is_preflight: exchange.head.method == Method::OPTIONS,
        }
    }
}

/// The rules for pages of other origins.
#[derive(Debug)]
pub(super) struct Cors<'a>(&'a config::Cors);

impl<'a> Cors<'a> {
    pub(super) const fn new(rules: &'a config::Cors) -> Self {
        Self(rules)
    }

    /// Adds what a browser must know. A page whose origin is not listed gets nothing, and its
    /// browser keeps the answer from it.
    pub(super) fn apply(&self, asked: &Asked, headers: &mut HeaderMap) {
        let Some(allowed) = asked
            .origin
            .as_ref()
            .and_then(|origin| self.allowed(origin))
        else {
            return;
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        if self.0.allow_credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        if !asked.is_preflight {
            insert_list(
                headers,
                ACCESS_CONTROL_EXPOSE_HEADERS,
                &self.0.expose_headers,
            );
            return;
        }
        for asked_by in [
            "Access-Control-Request-Method",
            "Access-Control-Request-Headers",
        ] {
            headers.append(VARY, HeaderValue::from_static(asked_by));
        }
        insert_list(headers, ACCESS_CONTROL_ALLOW_METHODS, &self.0.allow_methods);
        if self.0.allow_headers.is_empty() {
            if let Some(asked) = &asked.headers {
                headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
            }
        } else {
            insert_list(headers, ACCESS_CONTROL_ALLOW_HEADERS, &self.0.allow_headers);
        }
        if self.0.max_age > 0 {
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.0.max_age));
        }
    }

    /// Whether a page may open a socket: one of an origin that is listed, or of this port's own.
    /// What is no page says no origin.
    pub(super) fn admits(&self, asked: &Asked, host: Option<&str>) -> bool {
        let Some(origin) = &asked.origin else {
            return true;
        };
        let is_own = || {
            let (_, authority) = origin.to_str().ok()?.split_once("://")?;
            Some(authority.eq_ignore_ascii_case(host?))
        };
        self.allowed(origin).is_some() || is_own() == Some(true)
    }

    /// What the answer says to an origin.
    fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        let listed = |name: &str| {
            let mut origins = self.0.allow_origins.iter();
            origins.any(|listed| listed.eq_ignore_ascii_case(name))
        };
        if listed("*") {
            return Some(HeaderValue::from_static("*"));
        }
        listed(origin.to_str().ok()?).then(|| origin.clone())
    }
}

fn insert_list(headers: &mut HeaderMap, name: HeaderName, list: &[String]) {
    if list.is_empty() {
        return;
    }
    if let Ok(value) = HeaderValue::from_str(&list.join(",")) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(origins: &[&str]) -> config::Cors {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        config::Cors {
            allow_origins: owned(origins),
            allow_methods: owned(&["GET", "POST"]),
            allow_headers: Vec::new(),
            expose_headers: owned(&["Broker"]),
            allow_credentials: false,
            max_age: 0,
        }
    }

    fn asked(origin: &'static str, is_preflight: bool) -> Asked {
        Asked {
            origin: Some(HeaderValue::from_static(origin)),
            headers: Some(HeaderValue::from_static("content-type,x-a")),
            is_preflight,
        }
    }

    fn applied(rules: &config::Cors, asked: &Asked) -> HeaderMap {
        let mut headers = HeaderMap::new();
        Cors::new(rules).apply(asked, &mut headers);
        headers
    }

    #[test]
    fn every_origin_may_where_the_star_is_listed() {
        let headers = applied(&rules(&["*"]), &asked("http://a.b", false));
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert_eq!(headers[ACCESS_CONTROL_EXPOSE_HEADERS], "Broker");
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_METHODS));
    }

    #[test]
    fn a_listed_origin_is_repeated_and_another_gets_nothing() {
        let rules = rules(&["http://a.b", "https://c.d:8443"]);
        let headers = applied(&rules, &asked("https://C.d:8443", false));
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "https://C.d:8443");
        for other in ["http://a.b.evil", "https://a.b", "null"] {
            assert!(applied(&rules, &asked(other, true)).is_empty(), "{other}");
        }
        assert!(applied(&rules, &Asked::default()).is_empty());
    }

    #[test]
    fn sockets_are_for_listed_pages_own_pages_and_what_is_no_page() {
        let rules = rules(&["https://c.d"]);
        let admits = |origin: &'static str| {
            let asked = asked(origin, false);
            Cors::new(&rules).admits(&asked, Some("mq.local:9090"))
        };
        assert!(admits("https://C.d") && admits("http://mq.local:9090"));
        for other in ["http://mq.local", "https://c.d.evil", "null", "", "http://"] {
            assert!(!admits(other), "{other}");
        }
        assert!(Cors::new(&rules).admits(&Asked::default(), None));
        let every = self::rules(&["*"]);
        assert!(Cors::new(&every).admits(&asked("null", false), None));
    }

    #[test]
    fn a_preflight_is_told_methods_headers_and_age() {
        let mut rules = rules(&["http://a.b"]);
        let headers = applied(&rules, &asked("http://a.b", true));
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_METHODS], "GET,POST");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_HEADERS], "content-type,x-a");
        assert!(!headers.contains_key(ACCESS_CONTROL_MAX_AGE));
        assert!(!headers.contains_key(ACCESS_CONTROL_EXPOSE_HEADERS));

        rules.allow_headers = vec!["Authorization".into()];
        rules.allow_credentials = true;
        rules.max_age = 600;
        let headers = applied(&rules, &asked("http://a.b", true));
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_HEADERS], "Authorization");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert_eq!(headers[ACCESS_CONTROL_MAX_AGE], "600");
    }
}
