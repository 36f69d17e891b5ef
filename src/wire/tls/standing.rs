//! Connections of clients, and what they stand on.
//!
//! A handshake verifies a certificate once; a connection may live for months. So it is ended when
//! its certificate ends: told to open no more calls, and closed [`GRACE`] later. And when the
//! broker's own settings were read anew, every client is verified again, so that one whose
//! certificate was revoked, or whose authority is believed no more, does not stay on; nor one that
//! shows none where one is required now.
//!
//! A handshake that began under earlier settings ends by those. So it is verified by the newest,
//! too, and enters the list without a pause behind that: whoever is in the list was verified by
//! the newest settings, or will be by the look that follows them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::{Error, ServerTls};
use crate::model::identity::CertificateNames;
use crate::rt::{self, Queue};
use crate::wire::control::ConnectionControl;

/// How long calls may take to finish when the certificate of their connection has ended.
const GRACE: Duration = Duration::from_secs(5);

/// How exactly the end of a certificate is kept.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Certificates that are verified in one piece of work.
const VERIFIED_AT_ONCE: usize = 32;

thread_local! {
    static STANDINGS: Rc<Standings> = Rc::default();
}

/// Connections of one executor, by the end of their certificates.
#[derive(Default)]
struct Standings {
    standing: RefCell<BTreeMap<Key, Entry>>,
    next_number: Cell<u64>,
    /// Whether somebody looks after them.
    watched: Cell<bool>,
    /// The settings that were read last. `None`: those of the start.
    newest: RefCell<Option<ServerTls>>,
    /// Whether somebody verifies them by the newest settings.
    verifying: Cell<bool>,
}

/// When it ends: nanoseconds since 1970; then a number of its own.
type Key = (i64, u64);

/// Before all others.
const FIRST: Key = (i64::MIN, 0);

/// The end of what a client without a certificate stands on.
const NEVER: i64 = i64::MAX;

struct Entry {
    control: ConnectionControl,
    name: Option<Rc<CertificateNames>>,
    /// The client's certificate and those between it and its authority; empty without one.
    chain: Box<[CertificateDer<'static>]>,
    is_told: bool,
}

/// A connection's entry, for as long as the connection is there.
#[derive(Debug)]
pub(crate) struct Standing {
    key: Key,
}

impl Standing {
    /// Lets the connection of `control`, whose handshake `tls` has made, stand as long as its
    /// certificate does; one without a certificate as long as none is required.
    ///
    /// # Errors
    /// When the settings were read anew since `tls`, and do not let the client in.
    pub(crate) async fn enter(
        control: &ConnectionControl,
        name: Option<&Rc<CertificateNames>>,
        chain: &[CertificateDer<'static>],
        tls: &ServerTls,
    ) -> Result<Self, Error> {
        let standings = STANDINGS.with(Rc::clone);
        let mut newer = standings.newer_than(tls);
        while let Some(newest) = newer {
            verify_aside(&newest, chain.to_vec()).await?;
            newer = standings.newer_than(&newest);
        }
        // Without a pause: settings that are read from now on find it in the list.
        Ok(standings.insert(control, name, chain))
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        // An executor that ends may have let go of the list before its connections.
        let _ended = STANDINGS.try_with(|standings| {
            let entry = standings.standing.borrow_mut().remove(&self.key);
            drop(entry);
        });
    }
}

/// Verifies a client at the end of its handshake, which holds a place for the work.
async fn verify_aside(tls: &ServerTls, chain: Vec<CertificateDer<'static>>) -> Result<(), Error> {
    const PEER: &str = "the client";
    let verifying = tls.clone();
    let verified = tls.handshakes().run(move || verifying.verify(&chain)).await;
    let peer = PEER.to_owned();
    match verified {
        Ok(Some(verified)) => verified.map_err(|refused| Error::from_rustls(refused, PEER)),
        Ok(None) => Err(Error::Abandoned { peer }),
        Err(reason) => Err(Error::Io { peer, reason }),
    }
}

/// Ends connections in time, for as long as there are any that end.
async fn watch(standings: Rc<Standings>) {
    while standings.has_endings() {
        standings.look(rt::unix_ns());
        rt::sleep(LOOK_EVERY).await;
    }
    standings.watched.set(false);
}

impl Standings {
    /// The newest settings, if they were read behind `tls`.
    fn newer_than(&self, tls: &ServerTls) -> Option<ServerTls> {
        let newest = self.newest.borrow();
        let newest = newest.as_ref()?;
        (!newest.lets_in_as(tls)).then(|| newest.clone())
    }

    fn insert(
        self: &Rc<Self>,
        control: &ConnectionControl,
        name: Option<&Rc<CertificateNames>>,
        chain: &[CertificateDer<'static>],
    ) -> Standing {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        let key = (name.map_or(NEVER, |name| name.expires_at_ns), number);
        let entry = Entry {
            control: control.clone(),
            name: name.cloned(),
            chain: chain.into(),
            is_told: false,
        };
        self.standing.borrow_mut().insert(key, entry);
        if key.0 < NEVER && !self.watched.replace(true) {
            rt::spawn(Queue::Background, "certificates", watch(self.clone()));
        }
        Standing { key }
    }

    fn has_endings(&self) -> bool {
        let standing = self.standing.borrow();
        let first = standing.first_key_value();
        first.is_some_and(|(key, _)| key.0 < NEVER)
    }

    fn look(&self, now_ns: i64) {
        let grace_ns = i64::try_from(GRACE.as_nanos()).unwrap_or(i64::MAX);
        let mut drained = Vec::new();
        let mut closed = Vec::new();
        for (key, entry) in self.standing.borrow_mut().range_mut(..=(now_ns, u64::MAX)) {
            if !std::mem::replace(&mut entry.is_told, true) {
                drained.push((entry.control.clone(), entry.name.clone()));
            }
            if key.0.saturating_add(grace_ns) <= now_ns {
                closed.push(entry.control.clone());
            }
        }
        // With nothing borrowed: it wakes connections, which may leave the list.
        for (control, name) in drained {
            let subject = subject(name.as_deref());
            tracing::info!(%subject, "a client's certificate has ended");
            control.drain();
        }
        closed.iter().for_each(ConnectionControl::close);
    }
}

/// For messages.
fn subject(name: Option<&CertificateNames>) -> &str {
    name.map_or("nobody", |name| &name.subject)
}

/// Goes by `tls` on the calling executor from now on: verifies the clients of all connections
/// again and closes those that would not be let in any more. Takes its time.
pub(super) fn verify_again(tls: ServerTls) {
    let standings = STANDINGS.with(Rc::clone);
    standings.newest.replace(Some(tls));
    // One at a time: a look that is under way sees that there are newer settings.
    if standings.standing.borrow().is_empty() || standings.verifying.replace(true) {
        return;
    }
    rt::spawn(Queue::Background, "certificates again", async move {
        standings.verify_all().await;
        standings.verifying.set(false);
    });
}

impl Standings {
    /// Verifies all by the newest settings, from the first on again when these are replaced
    /// meanwhile. Who enters the list behind the look was verified by them before.
    async fn verify_all(&self) {
        let Some(mut tls) = self.newest.borrow().clone() else {
            return;
        };
        let mut from = FIRST;
        loop {
            if let Some(newest) = self.newer_than(&tls) {
                tls = newest;
                from = FIRST;
            }
            let some = self.some_from(from);
            let Some((last, _)) = some.last() else { return };
            from = (last.0, last.1.saturating_add(1));
            let verifying = tls.clone();
            let verified = tls.handshakes().run(move || {
                let verified = some.into_iter().filter_map(|(key, chain)| {
                    let refused = verifying.verify(&chain).err()?;
                    Some((key, Error::from_rustls(refused, "a client")))
                });
                verified.collect::<Vec<_>>()
            });
            let Ok(Some(refused)) = verified.await else {
                tracing::error!("some certificates of connections could not be verified again");
                continue;
            };
            for (key, reason) in refused {
                self.end(key, &reason);
            }
        }
    }

    fn some_from(&self, from: Key) -> Vec<(Key, Vec<CertificateDer<'static>>)> {
        let standing = self.standing.borrow();
        let some = standing.range(from..).take(VERIFIED_AT_ONCE);
        some.map(|(key, entry)| (*key, entry.chain.to_vec()))
            .collect()
    }

    fn end(&self, key: Key, reason: &Error) {
        let standing = self.standing.borrow();
        let Some(entry) = standing.get(&key) else {
            return;
        };
        let (control, name) = (entry.control.clone(), entry.name.clone());
        drop(standing);
        let subject = subject(name.as_deref());
        tracing::info!(%subject, %reason, "a client is not let in any more");
        control.close();
    }
}
