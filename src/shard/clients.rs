//! What the clients of this core did, for those who count and those who ask.

use std::cell::RefCell;
use std::rc::Rc;

use super::Shard;
use crate::engine::clients::{
    Bounds, ClientReport, ClientTable, Figures, Merging, Presence, Use, Who,
};
use crate::model::Kind;
use crate::rt;

/// What one core keeps: 5 MiB with names of usual length.
const BOUNDS: Bounds = Bounds {
    clients_max: 8_192,
    uses_max: 16_384,
    failures_max: 1_024,
};

/// Entries that are copied in one turn: some 50 µs.
const ENTRIES_PER_TURN: usize = 256;

/// The clients of one core.
#[derive(Debug)]
pub(super) struct Clients(RefCell<ClientTable>);

impl Default for Clients {
    fn default() -> Self {
        Self(RefCell::new(ClientTable::new(BOUNDS)))
    }
}

/// Which lists a report is to have. The sums are always there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientQuestion {
    /// The clients.
    pub clients: bool,
    /// Their uses of channels.
    pub uses: bool,
    /// Channels where sends failed.
    pub failures: bool,
}

impl Shard {
    /// Counts what a client did to a channel; `last` is what the same stream used last. Gives
    /// what it is to remember.
    pub fn count_use(&self, last: Option<Use>, who: &Who<'_>, figures: Figures) -> Use {
        let now_ms = self.channels.coarse_ms();
        let mut table = self.clients.0.borrow_mut();
        table.find_and_count(last, who, figures, now_ms)
    }

    /// The use of a channel by a client, to count by later.
    pub fn client_use(&self, last: Option<Use>, who: &Who<'_>) -> Use {
        self.clients.0.borrow_mut().find(last, who)
    }

    /// Counts what a client did to a channel that it used before.
    pub fn count_again(&self, used: Use, figures: Figures) {
        let now_ms = self.channels.coarse_ms();
        self.clients.0.borrow_mut().count(used, figures, now_ms);
    }

    /// Counts a send that failed after it was taken.
    pub fn count_failed(&self, used: Use) {
        let now_ms = self.channels.coarse_ms();
        self.clients.0.borrow_mut().count_failed(used, now_ms);
    }

    /// Counts what a client did, whatever the channel; `None`: it has no valid name.
    pub fn count_client(&self, name: Option<&str>, figures: Figures) {
        let now_ms = self.channels.coarse_ms();
        let mut table = self.clients.0.borrow_mut();
        match name {
            Some(name) => table.count_client(name, figures, now_ms),
            None => table.count_nameless(figures, now_ms),
        }
    }

    /// Counts a send that failed, for its channel.
    pub fn count_channel_failure(&self, kind: Kind, channel: &str) {
        self.clients.0.borrow_mut().count_failure(kind, channel);
    }

    /// Notes a subscription or a consumer that lives until the guard is dropped.
    pub fn client_arrives(self: &Rc<Self>, used: Use) -> ClientIsHere {
        let presence = self.clients.0.borrow_mut().arrive(used);
        ClientIsHere {
            shard: self.clone(),
            used,
            presence: Some(presence),
        }
    }

    /// What the clients of this core did, gathered in slices.
    pub async fn client_report(self: &Rc<Self>, question: ClientQuestion) -> ClientReport {
        let table = &self.clients.0;
        let mut report = table.borrow().others();
        if question.clients {
            report.clients = in_slices(|from, out| {
                let table = table.borrow();
                let slice = table.clients_from(from).take(ENTRIES_PER_TURN);
                out.extend(slice.map(|(_, facts)| facts));
            })
            .await;
        }
        if question.uses {
            report.uses = in_slices(|from, out| {
                let table = table.borrow();
                let slice = table.uses_from(from).take(ENTRIES_PER_TURN);
                out.extend(slice.map(|(_, facts)| facts));
            })
            .await;
        }
        if question.failures {
            report.failures = in_slices(|from, out| {
                let table = table.borrow();
                let slice = table.failures_from(from).take(ENTRIES_PER_TURN);
                out.extend(slice.map(|(_, facts)| facts));
            })
            .await;
        }
        report
    }
}

/// Gathers what `slice` appends from a place on, until it appends no whole slice. Places are never
/// given up, so each is seen once, in one state or another.
async fn in_slices<T>(mut slice: impl FnMut(usize, &mut Vec<T>)) -> Vec<T> {
    let mut out = Vec::new();
    loop {
        let from = out.len();
        slice(from, &mut out);
        if out.len() - from < ENTRIES_PER_TURN {
            return out;
        }
        rt::reactor_yield().await;
    }
}

/// Adds the reports of all cores up, in slices.
pub async fn merge_client_reports(reports: Vec<ClientReport>) -> ClientReport {
    let mut merging = Merging::new(reports);
    while !merging.step(ENTRIES_PER_TURN) {
        rt::reactor_yield().await;
    }
    merging.into_report()
}

/// A subscription or a consumer of a client; it leaves when this is dropped.
#[derive(Debug)]
pub struct ClientIsHere {
    shard: Rc<Shard>,
    used: Use,
    presence: Option<Presence>,
}

impl ClientIsHere {
    /// What it uses.
    #[must_use]
    pub const fn used(&self) -> Use {
        self.used
    }
}

impl Drop for ClientIsHere {
    fn drop(&mut self) {
        if let Some(presence) = self.presence.take() {
            self.shard.clients.0.borrow_mut().leave(presence);
        }
    }
}
