//! What the tables say, as it leaves the core, and the sum over all cores.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;

use foldhash::fast::RandomState;

use super::{ClientTable, Figures};
use crate::model::Kind;

/// A client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFacts {
    /// Its id.
    pub name: Box<str>,
    /// Where its connection came from when it last began something; `None`: it has none.
    pub address: Option<SocketAddr>,
    /// What it did.
    pub figures: Figures,
    /// Its subscriptions and consumers that are there now.
    pub live: u64,
}

/// A client's use of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UseFacts {
    /// The client's id.
    pub client: Box<str>,
    /// The kind of the channel.
    pub kind: Kind,
    /// The channel; of a subscription with wildcards its pattern.
    pub channel: Box<str>,
    /// What the client did to it.
    pub figures: Figures,
    /// Its subscriptions to it, or consumers of it, that are there now.
    pub live: u64,
}

/// Sends to a channel that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureFacts {
    /// The kind of the channel.
    pub kind: Kind,
    /// The channel.
    pub channel: Box<str>,
    /// How many.
    pub errors: u64,
}

/// What clients did, on one core or on all. In no order.
#[derive(Clone, Debug, Default)]
pub struct ClientReport {
    /// The clients that are kept.
    pub clients: Vec<ClientFacts>,
    /// Their uses of channels.
    pub uses: Vec<UseFacts>,
    /// Channels where sends failed.
    pub failures: Vec<FailureFacts>,
    /// What clients did that are not kept, or had no valid name.
    pub other_clients: Figures,
    /// Subscriptions and consumers of these that are there now.
    pub other_live: u64,
    /// Uses that are not kept, by the places of [`Kind::ALL`].
    pub other_uses: [Figures; Kind::ALL.len()],
    /// Failed sends to all channels, kept or not, by the places of [`Kind::ALL`].
    pub errors: [u64; Kind::ALL.len()],
}

impl ClientTable {
    /// The clients at places from `from` on, with the places: for walks that are cut into slices.
    pub fn clients_from(&self, from: usize) -> impl Iterator<Item = (usize, ClientFacts)> {
        self.clients.entries_from(from).map(|(at, client)| {
            let facts = ClientFacts {
                name: (&*client.name).into(),
                address: client.address,
                figures: client.figures,
                live: client.live,
            };
            (at, facts)
        })
    }

    /// The uses at places from `from` on.
    pub fn uses_from(&self, from: usize) -> impl Iterator<Item = (usize, UseFacts)> {
        self.uses.entries_from(from).map(|(at, entry)| {
            let facts = UseFacts {
                client: (&*entry.client).into(),
                kind: entry.kind,
                channel: entry.channel.clone(),
                figures: entry.figures,
                live: entry.live,
            };
            (at, facts)
        })
    }

    /// The failures at places from `from` on.
    pub fn failures_from(&self, from: usize) -> impl Iterator<Item = (usize, FailureFacts)> {
        self.failures.entries_from(from).map(|(at, entry)| {
            let facts = FailureFacts {
                kind: entry.kind,
                channel: entry.channel.clone(),
                errors: entry.errors,
            };
            (at, facts)
        })
    }

    /// A report that has the sums of what is not kept, and no lists.
    #[must_use]
    pub fn others(&self) -> ClientReport {
        ClientReport {
            other_clients: self.others.clients,
            other_live: self.others.live,
            other_uses: self.others.uses,
            errors: self.others.errors,
            ..ClientReport::default()
        }
    }
}

impl ClientReport {
    /// Adds the reports of all cores up, at once. [`Merging`] does it in steps.
    #[must_use]
    pub fn merge(reports: Vec<Self>) -> Self {
        let mut merging = Merging::new(reports);
        while !merging.step(usize::MAX) {}
        merging.into_report()
    }

    /// What all clients did together; exact when the clients were asked for.
    #[must_use]
    pub fn totals(&self) -> Figures {
        let mut sum = self.other_clients;
        let clients = self.clients.iter();
        clients.for_each(|client| sum.add(&client.figures));
        sum
    }

    /// All subscriptions and consumers that are there now; exact when the clients were asked for.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.other_live + self.clients.iter().map(|client| client.live).sum::<u64>()
    }

    /// What all clients did to channels of a kind; exact when the uses were asked for.
    #[must_use]
    pub fn of_kind(&self, kind: Kind) -> Figures {
        let mut sum = of(&self.other_uses, kind).copied().unwrap_or_default();
        let uses = self.uses.iter().filter(|used| used.kind == kind);
        uses.for_each(|used| sum.add(&used.figures));
        sum
    }

    /// Failed sends to all channels of a kind, whatever was asked for.
    #[must_use]
    pub fn errors_of(&self, kind: Kind) -> u64 {
        of(&self.errors, kind).copied().unwrap_or_default()
    }

    /// Those of them that are in no entry of `failures`, when these were asked for.
    #[must_use]
    pub fn other_errors_of(&self, kind: Kind) -> u64 {
        let failures = self.failures.iter().filter(|failed| failed.kind == kind);
        let kept: u64 = failures.map(|failed| failed.errors).sum();
        self.errors_of(kind).saturating_sub(kept)
    }
}

fn of<T>(sums: &[T; Kind::ALL.len()], kind: Kind) -> Option<&T> {
    let place = Kind::ALL.iter().position(|known| *known == kind)?;
    sums.get(place)
}

/// Adds reports up: what several cores know of one client, use or channel becomes one.
#[derive(Debug)]
pub struct Merging {
    left: Vec<ClientReport>,
    sum: ClientReport,
    clients: Merged<Box<str>, ClientFacts>,
    uses: Merged<(Box<str>, Kind, Box<str>), UseFacts>,
    failures: Merged<(Kind, Box<str>), FailureFacts>,
}

impl Merging {
    /// Begins with the reports of all cores.
    #[must_use]
    pub fn new(reports: Vec<ClientReport>) -> Self {
        let most = |count: fn(&ClientReport) -> usize| reports.iter().map(count).max();
        Self {
            clients: Merged::new(most(|report| report.clients.len())),
            uses: Merged::new(most(|report| report.uses.len())),
            failures: Merged::new(most(|report| report.failures.len())),
            sum: ClientReport::default(),
            left: reports,
        }
    }

    /// Adds up to `facts_max` facts; true when there are no more.
    pub fn step(&mut self, facts_max: usize) -> bool {
        for _ in 0..facts_max {
            let Some(report) = self.left.last_mut() else {
                return true;
            };
            if let Some(facts) = report.clients.pop() {
                self.clients.add(facts.name.clone(), facts, |known, facts| {
                    // The core that saw it last knows better where it is.
                    if facts.figures.last_ms > known.figures.last_ms || known.address.is_none() {
                        known.address = facts.address.or(known.address);
                    }
                    known.figures.add(&facts.figures);
                    known.live += facts.live;
                });
            } else if let Some(facts) = report.uses.pop() {
                let name = (facts.client.clone(), facts.kind, facts.channel.clone());
                self.uses.add(name, facts, |known, facts| {
                    known.figures.add(&facts.figures);
                    known.live += facts.live;
                });
            } else if let Some(facts) = report.failures.pop() {
                let name = (facts.kind, facts.channel.clone());
                self.failures.add(name, facts, |known, facts| {
                    known.errors += facts.errors;
                });
            } else if let Some(report) = self.left.pop() {
                self.add_others(&report);
            }
        }
        self.left.is_empty()
    }

    fn add_others(&mut self, report: &ClientReport) {
        let sum = &mut self.sum;
        sum.other_clients.add(&report.other_clients);
        sum.other_live += report.other_live;
        for (sum, more) in sum.other_uses.iter_mut().zip(&report.other_uses) {
            sum.add(more);
        }
        for (sum, more) in sum.errors.iter_mut().zip(&report.errors) {
            *sum += more;
        }
    }

    /// The sum of what was added.
    #[must_use]
    pub fn into_report(self) -> ClientReport {
        ClientReport {
            clients: self.clients.facts,
            uses: self.uses.facts,
            failures: self.failures.facts,
            ..self.sum
        }
    }
}

/// Facts that are found by their names.
#[derive(Debug)]
struct Merged<N, F> {
    facts: Vec<F>,
    places: HashMap<N, usize, RandomState>,
}

impl<N: Hash + Eq, F> Merged<N, F> {
    fn new(expected: Option<usize>) -> Self {
        let expected = expected.unwrap_or_default();
        Self {
            facts: Vec::with_capacity(expected),
            places: HashMap::with_capacity_and_hasher(expected, RandomState::default()),
        }
    }

    fn add(&mut self, name: N, facts: F, add: impl FnOnce(&mut F, &F)) {
        let known = self.places.get(&name).copied();
        match known.and_then(|place| self.facts.get_mut(place)) {
            Some(known) => add(known, &facts),
            None => {
                self.places.insert(name, self.facts.len());
                self.facts.push(facts);
            }
        }
    }
}
