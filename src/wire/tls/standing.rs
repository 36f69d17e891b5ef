//! Connections that stand on a client's certificate, and fall with it.
//!
//! A handshake verifies a certificate once; a connection may live for months. So it is ended when
//! its certificate ends: told to open no more calls, and closed [`GRACE`] later. And when the
//! broker's own settings were read anew, every certificate is verified again, so that one that was
//! revoked, or whose authority is believed no more, does not stay on.

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
}

/// When it ends: nanoseconds since 1970; then a number of its own.
type Key = (i64, u64);

struct Entry {
    control: ConnectionControl,
    name: Rc<CertificateNames>,
    /// The client's certificate and those between it and its authority.
    chain: Rc<[CertificateDer<'static>]>,
    is_told: bool,
}

/// A connection's entry, for as long as the connection is there.
#[derive(Debug)]
pub(crate) struct Standing {
    key: Key,
}

impl Standing {
    /// Lets the connection of `control` stand as long as its certificate does.
    pub(crate) fn enter(
        control: &ConnectionControl,
        name: &Rc<CertificateNames>,
        chain: &[CertificateDer<'static>],
    ) -> Self {
        STANDINGS.with(|standings| {
            let number = standings.next_number.get();
            standings.next_number.set(number + 1);
            let key = (name.expires_at_ns, number);
            let entry = Entry {
                control: control.clone(),
                name: name.clone(),
                chain: chain.iter().map(|one| one.clone().into_owned()).collect(),
                is_told: false,
            };
            standings.standing.borrow_mut().insert(key, entry);
            if !standings.watched.replace(true) {
                rt::spawn(Queue::Background, "certificates", watch(standings.clone()));
            }
            Self { key }
        })
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

/// Ends connections in time, for as long as there are any.
async fn watch(standings: Rc<Standings>) {
    while !standings.standing.borrow().is_empty() {
        standings.look(rt::unix_ns());
        rt::sleep(LOOK_EVERY).await;
    }
    standings.watched.set(false);
}

impl Standings {
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
            tracing::info!(subject = %name.subject, "a client's certificate has ended");
            control.drain();
        }
        closed.iter().for_each(ConnectionControl::close);
    }
}

/// Verifies the certificates of all connections of the calling executor again, by what `tls` says
/// now, and closes those that would not be let in any more. Takes its time.
pub(super) fn verify_again(tls: ServerTls) {
    if STANDINGS.with(|standings| standings.standing.borrow().is_empty()) {
        return;
    }
    rt::spawn(Queue::Background, "certificates again", async move {
        let standings = STANDINGS.with(Rc::clone);
        let mut from: Key = (i64::MIN, 0);
        loop {
            let some: Vec<_> = standings
                .standing
                .borrow()
                .range(from..)
                .take(VERIFIED_AT_ONCE)
                .map(|(key, entry)| (*key, entry.chain.to_vec()))
                .collect();
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
                tracing::error!("certificates of connections could not be verified again");
                return;
            };
            for (key, reason) in refused {
                standings.end(key, &reason);
            }
        }
    });
}

impl Standings {
    fn end(&self, key: Key, reason: &Error) {
        let standing = self.standing.borrow();
        let Some(entry) = standing.get(&key) else {
            return;
        };
        let (control, name) = (entry.control.clone(), entry.name.clone());
        drop(standing);
        tracing::info!(subject = %name.subject, %reason, "a client's certificate is not accepted \
                        any more");
        control.close();
    }
}
