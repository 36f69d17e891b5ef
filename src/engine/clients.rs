//! What clients did: messages and bytes in each direction, errors, when they were last seen, and
//! how many subscriptions and consumers of theirs live.
//!
//! ```text
//!   clients   name                   → figures, live, address
//!   uses      name, kind, channel    → figures, live
//!   failures  kind, channel          → sends that failed
//!   others    the sums of all that is in none of the first two (any more)
//! ```
//!
//! Each table is bounded: a full one gives the place of what was not used lately to what is new,
//! and adds the figures of what it forgets to the sums of the others. So a list may leave out a
//! client of last week, but list and others together are exact. Figures live as long as the
//! process.
//!
//! A message costs no hash and no allocation while a stream goes on with the client and the
//! channel of its last message: it remembers the [`Use`] of that.

mod report;
mod table;

use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::rc::Rc;

use foldhash::fast::RandomState;

use crate::model::Kind;

pub use report::{ClientFacts, ClientReport, FailureFacts, Merging, UseFacts};

use table::{Entry, Key, Table};

/// What went between the broker and a client. "In" is towards the broker, "out" is from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Messages, requests and responses that came.
    pub messages_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Messages, requests and responses that were delivered.
    pub messages_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// What was refused or failed.
    pub errors: u64,
    /// When something last happened: milliseconds since 1970; 0: never.
    pub last_ms: u64,
}

impl Figures {
    /// Messages that came.
    #[inline]
    #[must_use]
    pub fn sent(messages: u64, bytes: usize) -> Self {
        Self {
            messages_in: messages,
            bytes_in: to_u64(bytes),
            ..Self::default()
        }
    }

    /// Messages that were delivered.
    #[must_use]
    pub fn delivered(messages: u64, bytes: usize) -> Self {
        Self {
            messages_out: messages,
            bytes_out: to_u64(bytes),
            ..Self::default()
        }
    }

    /// One thing that failed.
    #[must_use]
    pub fn failed() -> Self {
        Self {
            errors: 1,
            ..Self::default()
        }
    }

    /// Adds what was counted elsewhere, or later.
    #[inline]
    pub fn add(&mut self, other: &Self) {
        self.messages_in = self.messages_in.wrapping_add(other.messages_in);
        self.bytes_in = self.bytes_in.wrapping_add(other.bytes_in);
        self.messages_out = self.messages_out.wrapping_add(other.messages_out);
        self.bytes_out = self.bytes_out.wrapping_add(other.bytes_out);
        self.errors = self.errors.wrapping_add(other.errors);
        self.last_ms = self.last_ms.max(other.last_ms);
    }

    fn at(mut self, now_ms: u64) -> Self {
        self.last_ms = now_ms;
        self
    }
}

/// How many entries the tables keep.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Clients.
    pub clients_max: usize,
    /// Channels that clients use, each with each client.
    pub uses_max: usize,
    /// Channels whose failures are counted.
    pub failures_max: usize,
}

/// A client's use of a channel, for as long as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    key: Key,
    kind: Kind,
}

/// Somebody who is there now; to be given back when it leaves.
#[derive(Debug)]
#[must_use = "a presence that is not given back is counted for ever"]
pub struct Presence {
    of: Key,
    client: Option<Key>,
}

/// Who does something, and to what.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// The client's id, as it was checked.
    pub client: &'a str,
    /// The kind of the channel.
    pub kind: Kind,
    /// The channel, or the pattern of a subscription, as it was checked.
    pub channel: &'a str,
    /// Where the client's connection comes from; `None`: from inside.
    pub address: Option<SocketAddr>,
}

/// What the clients of one core did.
#[derive(Debug)]
pub struct ClientTable {
    hasher: RandomState,
    clients: Table<Client>,
    uses: Table<UseEntry>,
    failures: Table<Failure>,
    others: Others,
}

/// What is in no table.
#[derive(Clone, Copy, Debug, Default)]
struct Others {
    clients: Figures,
    live: u64,
    uses: [Figures; Kind::ALL.len()],
    /// Of the failures all: a sum that never falls, whenever it is read.
    errors: [u64; Kind::ALL.len()],
}

#[derive(Debug)]
struct Client {
    name: Rc<str>,
    address: Option<SocketAddr>,
    figures: Figures,
    live: u64,
}

#[derive(Debug)]
struct UseEntry {
    /// The client's entry may be gone before this one is.
    of: Key,
    client: Rc<str>,
    kind: Kind,
    channel: Box<str>,
    figures: Figures,
    live: u64,
}

#[derive(Debug)]
struct Failure {
    kind: Kind,
    channel: Box<str>,
    errors: u64,
}

impl Entry for Client {
    fn is_held(&self) -> bool {
        self.live > 0
    }
}

impl Entry for UseEntry {
    fn is_held(&self) -> bool {
        self.live > 0
    }
}

impl Entry for Failure {
    fn is_held(&self) -> bool {
        false
    }
}

impl ClientTable {
    /// Makes empty tables.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            hasher: RandomState::default(),
            clients: Table::new(bounds.clients_max),
            uses: Table::new(bounds.uses_max),
            failures: Table::new(bounds.failures_max),
            others: Others::default(),
        }
    }

    /// The use of a channel by a client; `last` is what the same stream used last. Allocates for
    /// one that is new.
    pub fn find(&mut self, last: Option<Use>, who: &Who<'_>) -> Use {
        if let Some(last) = last
            && let Some(found) = self.uses.get(last.key)
            && found.is(who)
        {
            let of = found.of;
            if self.clients.get(of).is_some() {
                return last;
            }
        }
        self.look_up(who)
    }

    /// Counts what a client did to a channel; `last` is what the same stream used last. Gives what
    /// it is to remember.
    #[inline]
    pub fn find_and_count(
        &mut self,
        last: Option<Use>,
        who: &Who<'_>,
        figures: Figures,
        now_ms: u64,
    ) -> Use {
        let figures = figures.at(now_ms);
        if let Some(last) = last
            && let Some(entry) = self.uses.get(last.key)
            && entry.is(who)
            && let Some(client) = self.clients.get(entry.of)
        {
            entry.figures.add(&figures);
            client.figures.add(&figures);
            return last;
        }
        let used = self.look_up(who);
        self.count(used, figures, now_ms);
        used
    }

    fn look_up(&mut self, who: &Who<'_>) -> Use {
        let of = self.client(who.client, who.address);
        let hash = (who.client, who.kind, who.channel);
        let hash = self.hasher.hash_one(hash);
        let kind = who.kind;
        if let Some(key) = self.uses.find(hash, |entry| entry.is(who)) {
            if let Some(entry) = self.uses.get(key) {
                entry.of = of;
            }
            return Use { key, kind };
        }
        let client = self.clients.get(of).map(|client| client.name.clone());
        let (key, replaced) = self.uses.enter(
            hash,
            UseEntry {
                of,
                client: client.unwrap_or_else(|| who.client.into()),
                kind,
                channel: who.channel.into(),
                figures: Figures::default(),
                live: 0,
            },
        );
        if let Some(replaced) = replaced {
            self.others.use_of(replaced.kind).add(&replaced.figures);
        }
        Use { key, kind }
    }

    /// The entry of a client, which begins now if it is new.
    fn client(&mut self, name: &str, address: Option<SocketAddr>) -> Key {
        let hash = self.hasher.hash_one(name);
        if let Some(key) = self.clients.find(hash, |client| *client.name == *name) {
            if let (Some(client), Some(_)) = (self.clients.get(key), address) {
                client.address = address;
            }
            return key;
        }
        let client = Client {
            name: name.into(),
            address,
            figures: Figures::default(),
            live: 0,
        };
        let (key, replaced) = self.clients.enter(hash, client);
        if let Some(replaced) = replaced {
            self.others.clients.add(&replaced.figures);
            self.others.live += replaced.live;
        }
        key
    }

    /// Counts what a client did to a channel.
    pub fn count(&mut self, used: Use, figures: Figures, now_ms: u64) {
        let figures = figures.at(now_ms);
        let of = match self.uses.get(used.key) {
            Some(entry) => {
                entry.figures.add(&figures);
                Some(entry.of)
            }
            None => {
                self.others.use_of(used.kind).add(&figures);
                None
            }
        };
        self.count_at(of, &figures);
    }

    /// Counts what a client did, whatever the channel.
    pub fn count_client(&mut self, name: &str, figures: Figures, now_ms: u64) {
        let key = self.client(name, None);
        self.count_at(Some(key), &figures.at(now_ms));
    }

    /// Counts what somebody did whose name is none.
    pub fn count_nameless(&mut self, figures: Figures, now_ms: u64) {
        self.others.clients.add(&figures.at(now_ms));
    }

    fn count_at(&mut self, client: Option<Key>, figures: &Figures) {
        match client.and_then(|key| self.clients.get(key)) {
            Some(client) => client.figures.add(figures),
            None => self.others.clients.add(figures),
        }
    }

    /// Counts a send that failed, for its channel; for the client it is counted as well by the
    /// caller, since that may have no valid name.
    pub fn count_failure(&mut self, kind: Kind, channel: &str) {
        *self.others.errors_of(kind) += 1;
        let hash = self.hasher.hash_one((kind, channel));
        let known = self.failures.find(hash, |entry| {
            entry.kind == kind && *entry.channel == *channel
        });
        if let Some(entry) = known.and_then(|key| self.failures.get(key)) {
            entry.errors += 1;
            return;
        }
        let entry = Failure {
            kind,
            channel: channel.into(),
            errors: 1,
        };
        let _forgotten = self.failures.enter(hash, entry);
    }

    /// Counts a send that failed after its use was found.
    pub fn count_failed(&mut self, used: Use, now_ms: u64) {
        self.count(used, Figures::failed(), now_ms);
        match self.uses.get(used.key) {
            Some(entry) => {
                // A failure is rare, and its channel must outlive the entry.
                let channel = entry.channel.clone();
                self.count_failure(used.kind, &channel);
            }
            None => *self.others.errors_of(used.kind) += 1,
        }
    }

    /// Notes a subscription or a consumer that lives from now on.
    pub fn arrive(&mut self, used: Use) -> Presence {
        let client = match self.uses.get(used.key) {
            Some(entry) => {
                entry.live += 1;
                Some(entry.of)
            }
            None => None,
        };
        match client.and_then(|key| self.clients.get(key)) {
            Some(client) => client.live += 1,
            None => self.others.live += 1,
        }
        Presence {
            of: used.key,
            client,
        }
    }

    /// It lives no more.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "one who has left cannot leave again"
    )]
    pub fn leave(&mut self, presence: Presence) {
        let Presence { of, client } = presence;
        if let Some(entry) = self.uses.get(of) {
            debug_assert!(entry.live > 0, "one who was never there leaves");
            entry.live = entry.live.saturating_sub(1);
        }
        let live = match client.and_then(|key| self.clients.get(key)) {
            Some(client) => &mut client.live,
            None => &mut self.others.live,
        };
        debug_assert!(*live > 0, "one who was never there leaves");
        *live = live.saturating_sub(1);
    }
}

impl UseEntry {
    fn is(&self, who: &Who<'_>) -> bool {
        // The channel first: it differs more often than the client does.
        self.kind == who.kind && *self.channel == *who.channel && *self.client == *who.client
    }
}

impl Others {
    fn use_of(&mut self, kind: Kind) -> &mut Figures {
        let [events, events_store, queues, commands, queries] = &mut self.uses;
        match kind {
            Kind::Events => events,
            Kind::EventsStore => events_store,
            Kind::Queues => queues,
            Kind::Commands => commands,
            Kind::Queries => queries,
        }
    }

    fn errors_of(&mut self, kind: Kind) -> &mut u64 {
        let [events, events_store, queues, commands, queries] = &mut self.errors;
        match kind {
            Kind::Events => events,
            Kind::EventsStore => events_store,
            Kind::Queues => queues,
            Kind::Commands => commands,
            Kind::Queries => queries,
        }
    }
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
