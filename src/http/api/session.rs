//! Sessions: how a browser stays somebody.
//!
//! `POST /api/login` with a token or an API key gives a cookie that stands for it. The cookie is a
//! random number; scripts of pages cannot read it, other sites' pages do not send it. What it
//! stands for stays with the broker, and is shown again at each request: a session ends with its
//! token, with a key that is taken away, when it was not used for a while, and at its own end.
//!
//! # Bounds
//! [`SESSIONS_MAX`] in all and [`SESSIONS_OF_ONE_MAX`] of one name; who opens another one ends the
//! one that was not used for longest.
//!
//! # Threading
//! Every executor knows every session by the hash of its cookie. The session itself is shared: it
//! never changes but for the time of its last use and its end.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::config::{Config, Secret};
use crate::http::Context;

/// Sessions that there may be.
const SESSIONS_MAX: usize = 1_024;

/// Sessions that one name may have.
const SESSIONS_OF_ONE_MAX: usize = 16;

/// Random bytes of a cookie.
const COOKIE_BYTES: usize = 32;

/// Name of the cookie. Browsers take one with the prefix over TLS alone, and from no other host.
const NAME: &str = "ringmq-session";
const NAME_WITH_TLS: &str = "__Host-ringmq-session";

type Hash = [u8; 32];

thread_local! {
    static SESSIONS: RefCell<HashMap<Hash, Arc<Session>>> = RefCell::default();
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    hash: Hash,
    /// Who opened it, for the bound of one name.
    name: Box<str>,
    /// What it stands for.
    token: Secret,
    /// Nanoseconds since 1970.
    ends_at_ns: i64,
    idle_ns: i64,
    used_at_ns: AtomicI64,
    closed: AtomicBool,
}

impl Session {
    /// What it stands for.
    pub(super) fn token(&self) -> &Secret {
        &self.token
    }

    /// When it ends by itself, used or not: nanoseconds since 1970.
    pub(super) const fn ends_at_ns(&self) -> i64 {
        self.ends_at_ns
    }

    /// Whether it is still open.
    pub(super) fn is_open(&self, now_ns: i64) -> bool {
        let used_at_ns = self.used_at_ns.load(Ordering::Relaxed);
        !self.is_closed()
            && now_ns < self.ends_at_ns
            && now_ns < used_at_ns.saturating_add(self.idle_ns)
    }

    /// Whether somebody has ended it.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Counts a use.
    pub(super) fn touch(&self, now_ns: i64) {
        self.used_at_ns.fetch_max(now_ns, Ordering::Relaxed);
    }

    /// Ends it, on every executor.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }
}

/// Opens a session for what was shown; gives the value of its cookie. `None` when there is no
/// randomness to be had.
pub(super) async fn open(
    context: &Context,
    name: &str,
    token: Secret,
    token_ends_at_ns: Option<i64>,
    now_ns: i64,
) -> Option<(String, Arc<Session>)> {
    let mut random = [0; COOKIE_BYTES];
    SystemRandom::new().fill(&mut random).ok()?;
    let cookie = hexadecimal(&random);
    let auth = &context.config.api.auth;
    let own_end = now_ns.saturating_add(nanoseconds(auth.session_absolute));
    let session = Arc::new(Session {
        hash: hash(&cookie)?,
        name: name.into(),
        token,
        ends_at_ns: token_ends_at_ns.map_or(own_end, |end| end.min(own_end)),
        idle_ns: nanoseconds(auth.session_idle),
        used_at_ns: AtomicI64::new(now_ns),
        closed: AtomicBool::new(false),
    });
    let opened = session.clone();
    let told = context.shard.ask_all(move |_shard| {
        let session = session.clone();
        async move { remember(session, now_ns) }
    });
    told.await;
    Some((cookie, opened))
}

/// The open session of a cookie.
pub(super) fn find(cookie: &str, now_ns: i64) -> Option<Arc<Session>> {
    // By its hash: how long the comparison takes tells nothing of other cookies.
    let hash = hash(cookie)?;
    let found = SESSIONS.with_borrow(|sessions| sessions.get(&hash).cloned())?;
    if !found.is_open(now_ns) {
        SESSIONS.with_borrow_mut(|sessions| sessions.remove(&hash));
        return None;
    }
    found.touch(now_ns);
    Some(found)
}

/// Adds a session to those of this executor, within the bounds.
fn remember(session: Arc<Session>, now_ns: i64) {
    SESSIONS.with_borrow_mut(|sessions| {
        sessions.retain(|_, session| session.is_open(now_ns));
        let of_one = sessions.values().filter(|it| it.name == session.name);
        if of_one.count() >= SESSIONS_OF_ONE_MAX {
            end_oldest(sessions, Some(&session.name));
        }
        if sessions.len() >= SESSIONS_MAX {
            end_oldest(sessions, None);
        }
        sessions.insert(session.hash, session);
    });
}

/// Ends the session that was not used for longest: of this name, or of all.
fn end_oldest(sessions: &mut HashMap<Hash, Arc<Session>>, name: Option<&str>) {
    let of_name = |session: &&Arc<Session>| name.is_none_or(|name| &*session.name == name);
    let oldest = sessions
        .values()
        .filter(of_name)
        .min_by_key(|session| (session.used_at_ns.load(Ordering::Relaxed), session.hash));
    if let Some(hash) = oldest.map(|session| session.hash)
        && let Some(ended) = sessions.remove(&hash)
    {
        ended.close();
    }
}

/// The value of the session's cookie among those of a request.
pub(super) fn cookie<'a>(config: &Config, cookies: &'a str) -> Option<&'a str> {
    let name = name(config);
    let mut pairs = cookies
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The header that gives a browser its cookie.
pub(super) fn set_cookie(config: &Config, cookie: &str, seconds: i64) -> Option<HeaderValue> {
    let secure = if config.management_is_behind_tls() {
        "; Secure"
    } else {
        ""
    };
    let name = name(config);
    let header =
        format!("{name}={cookie}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let mut header = HeaderValue::from_str(&header).ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn name(config: &Config) -> &'static str {
    if config.management_is_behind_tls() {
        NAME_WITH_TLS
    } else {
        NAME
    }
}

/// `None` for what is no cookie of ours.
fn hash(cookie: &str) -> Option<Hash> {
    if cookie.len() != COOKIE_BYTES * 2 {
        return None;
    }
    digest(&SHA256, cookie.as_bytes()).as_ref().try_into().ok()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _text_never_fails = write!(text, "{byte:02x}");
        text
    })
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: u8, name: &str, used_at_ns: i64) -> Arc<Session> {
        Arc::new(Session {
            hash: [number; 32],
            name: name.into(),
            token: Secret::new("hunter2".to_owned()),
            ends_at_ns: 1_000,
            idle_ns: 100,
            used_at_ns: AtomicI64::new(used_at_ns),
            closed: AtomicBool::new(false),
        })
    }

    fn count(name: &str) -> usize {
        SESSIONS.with_borrow(|sessions| {
            let of_name = sessions.values().filter(|session| &*session.name == name);
            of_name.count()
        })
    }

    #[test]
    fn a_session_ends_unused_at_its_own_end_and_when_it_is_closed() {
        let session = session(1, "a", 10);
        assert!(session.is_open(109) && !session.is_open(110));
        session.touch(950);
        session.touch(20);
        assert!(session.is_open(999), "used later than that");
        assert!(!session.is_open(1_000));
        session.close();
        assert!(!session.is_open(951));
        assert!(!format!("{session:?}").contains("hunter2"));
    }

    #[test]
    fn one_name_has_so_many_and_ends_its_own_oldest() {
        let first = session(200, "b", 1);
        remember(first.clone(), 5);
        for number in 0..SESSIONS_OF_ONE_MAX {
            let number = u8::try_from(number).unwrap();
            remember(session(number, "a", 10 + i64::from(number)), 50);
        }
        assert_eq!(count("a"), SESSIONS_OF_ONE_MAX);
        remember(session(100, "a", 60), 60);
        assert_eq!((count("a"), count("b")), (SESSIONS_OF_ONE_MAX, 1));
        assert!(first.is_open(60), "another one's stays");
        let gone = SESSIONS.with_borrow(|sessions| !sessions.contains_key(&[0; 32]));
        assert!(gone, "the oldest");
        remember(session(101, "c", 190), 190);
        assert_eq!(
            (count("a"), count("b"), count("c")),
            (0, 0, 1),
            "others were idle"
        );
    }

    #[test]
    fn cookies_are_found_among_others_by_their_whole_name() {
        let config = Config::default();
        let found = cookie(&config, "a=1; ringmq-session=x=y; ringmq-session=z");
        assert_eq!(found, Some("x=y"));
        assert_eq!(cookie(&config, "xringmq-session=1; Ringmq-Session=2"), None);
        assert_eq!(find("", 0).map(|session| session.ends_at_ns), None);
        assert_eq!(
            find(&"0".repeat(64), 0).map(|session| session.ends_at_ns),
            None
        );
    }

    #[test]
    fn a_cookie_is_for_tls_alone_where_there_is_tls() {
        let mut config = Config::default();
        let header = set_cookie(&config, "abc", 60).unwrap();
        let plain = "ringmq-session=abc; Path=/; Max-Age=60; HttpOnly; SameSite=Strict";
        assert_eq!(header, plain);
        config.api.auth.trusted_tls_proxy = true;
        let header = set_cookie(&config, "abc", 60).unwrap();
        assert_eq!(header, format!("__Host-{plain}; Secure"));
        assert_eq!(
            cookie(&config, "ringmq-session=abc"),
            None,
            "set without TLS"
        );
    }
}
