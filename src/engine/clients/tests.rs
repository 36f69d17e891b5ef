//! The tables alone, and against a model that forgets nothing.

use std::collections::HashMap;
use std::net::SocketAddr;

use proptest::prelude::*;

use super::{
    Bounds, ClientReport, ClientTable, FailureFacts, Figures, Merging, Presence, Use, Who,
};
use crate::model::Kind;

const AMPLE: Bounds = Bounds {
    clients_max: 100,
    uses_max: 100,
    failures_max: 100,
};

fn who<'a>(client: &'a str, kind: Kind, channel: &'a str) -> Who<'a> {
    Who {
        client,
        kind,
        channel,
        address: None,
    }
}

fn events<'a>(client: &'a str, channel: &'a str) -> Who<'a> {
    who(client, Kind::Events, channel)
}

/// All that the table of one core says.
fn report(table: &ClientTable) -> ClientReport {
    ClientReport {
        clients: table.clients_from(0).map(|(_, facts)| facts).collect(),
        uses: table.uses_from(0).map(|(_, facts)| facts).collect(),
        failures: table.failures_from(0).map(|(_, facts)| facts).collect(),
        ..table.others()
    }
}

fn client(report: &ClientReport, name: &str) -> (Figures, u64) {
    let mut found = report.clients.iter().filter(|facts| *facts.name == *name);
    let facts = found.next().expect("the client is kept");
    assert_eq!(found.next(), None, "a client stands there once");
    (facts.figures, facts.live)
}

#[test]
fn a_client_has_the_sum_of_its_uses_and_each_use_has_its_own_figures() {
    let mut table = ClientTable::new(AMPLE);
    let orders = table.find(None, &events("alice", "orders"));
    table.count(orders, Figures::sent(1, 10), 5);
    table.count(orders, Figures::sent(2, 30), 7);
    let stored = table.find(Some(orders), &who("alice", Kind::EventsStore, "orders"));
    table.count(stored, Figures::delivered(4, 50), 6);
    table.count_client("alice", Figures::sent(1, 1), 9);
    let report = report(&table);
    let expected = Figures {
        messages_in: 4,
        bytes_in: 41,
        messages_out: 4,
        bytes_out: 50,
        errors: 0,
        last_ms: 9,
    };
    assert_eq!(client(&report, "alice"), (expected, 0));
    assert_eq!(report.totals(), expected);
    let of_events = report.of_kind(Kind::Events);
    assert_eq!((of_events.messages_in, of_events.bytes_in), (3, 40));
    assert_eq!(of_events.last_ms, 7);
    assert_eq!(report.of_kind(Kind::EventsStore).messages_out, 4);
    assert_eq!(report.of_kind(Kind::Queues), Figures::default());
}

#[test]
fn a_stream_that_goes_on_finds_its_use_again_and_another_channel_is_another_use() {
    let mut table = ClientTable::new(AMPLE);
    let first = table.find(None, &events("alice", "orders"));
    assert_eq!(table.find(Some(first), &events("alice", "orders")), first);
    assert_eq!(table.find(None, &events("alice", "orders")), first);
    let others = [
        events("alice", "orders.x"),
        events("alicia", "orders"),
        who("alice", Kind::Queues, "orders"),
    ];
    for other in others {
        assert_ne!(table.find(Some(first), &other), first, "{other:?}");
    }
}

#[test]
fn what_full_tables_forget_is_in_the_sums_of_the_others() {
    let mut table = ClientTable::new(Bounds {
        clients_max: 2,
        uses_max: 3,
        failures_max: 1,
    });
    for number in 0_u64..50 {
        let (name, channel) = (format!("client-{number}"), format!("channel-{number}"));
        let used = table.find(None, &events(&name, &channel));
        table.count(used, Figures::sent(1, 10), number);
        table.count_failed(used, number);
    }
    table.count_nameless(Figures::failed(), 60);
    let report = report(&table);
    assert_eq!((report.clients.len(), report.uses.len()), (2, 3));
    assert_eq!(report.failures.len(), 1);
    let totals = report.totals();
    assert_eq!((totals.messages_in, totals.bytes_in), (50, 500));
    assert_eq!((totals.errors, totals.last_ms), (51, 60));
    assert_eq!(report.of_kind(Kind::Events).errors, 50);
    assert_eq!(report.errors_of(Kind::Events), 50);
    assert_eq!(report.other_errors_of(Kind::Events), 49);
    assert_eq!(report.errors_of(Kind::Queries), 0);
}

#[test]
fn a_use_that_was_replaced_still_counts_in_the_sums_and_for_no_other() {
    let mut table = ClientTable::new(Bounds {
        uses_max: 1,
        ..AMPLE
    });
    let old = table.find(None, &events("alice", "a"));
    let new = table.find(Some(old), &events("alice", "b"));
    table.count(old, Figures::sent(1, 10), 1);
    table.count_failed(old, 2);
    let report = report(&table);
    assert_eq!(report.uses.len(), 1);
    assert_eq!(report.uses[0].figures, Figures::default());
    assert_eq!(report.of_kind(Kind::Events).messages_in, 1);
    assert_eq!(report.totals().errors, 1);
    assert_eq!(report.errors_of(Kind::Events), 1);
    let again = table.find(Some(new), &events("alice", "b"));
    assert_eq!(again, new);
}

#[test]
fn who_is_there_is_counted_until_it_leaves_also_when_its_entry_has_gone_before() {
    let mut table = ClientTable::new(Bounds {
        clients_max: 1,
        uses_max: 1,
        failures_max: 1,
    });
    let used = table.find(None, &events("alice", "a"));
    let alice = [table.arrive(used), table.arrive(used)];
    assert_eq!(client(&report(&table), "alice").1, 2);
    let used = table.find(None, &events("bob", "b"));
    let bob = table.arrive(used);
    assert_eq!(report(&table).live(), 3);
    assert_eq!(client(&report(&table), "bob").1, 1);
    // Alice is back, under a new entry: those from before are not its.
    let used = table.find(None, &events("alice", "a"));
    let again = table.arrive(used);
    assert_eq!(client(&report(&table), "alice").1, 1);
    assert_eq!(report(&table).live(), 4);
    for presence in alice {
        table.leave(presence);
    }
    assert_eq!(client(&report(&table), "alice").1, 1);
    table.leave(bob);
    table.leave(again);
    assert_eq!(report(&table).live(), 0);
    assert_eq!(report(&table).uses[0].live, 0);
}

#[test]
fn clients_that_are_there_are_kept_before_those_that_only_were() {
    let mut table = ClientTable::new(Bounds {
        clients_max: 4,
        uses_max: 4,
        failures_max: 1,
    });
    let used = table.find(None, &events("subscriber", "a"));
    let presence = table.arrive(used);
    for number in 0..100 {
        let name = format!("client-{number}");
        table.find(None, &events(&name, "a"));
    }
    assert_eq!(client(&report(&table), "subscriber").1, 1);
    table.leave(presence);
}

#[test]
fn a_client_has_the_address_that_it_was_last_seen_at() {
    let mut table = ClientTable::new(AMPLE);
    let at = |port| SocketAddr::from(([10, 0, 0, 1], port));
    let seen = |table: &mut ClientTable, address| {
        let who = Who {
            address,
            ..events("alice", "a")
        };
        table.find(None, &who);
        let known = report(table).clients.remove(0);
        known.address
    };
    assert_eq!(seen(&mut table, None), None);
    assert_eq!(seen(&mut table, Some(at(1))), Some(at(1)));
    assert_eq!(seen(&mut table, Some(at(2))), Some(at(2)));
    assert_eq!(seen(&mut table, None), Some(at(2)), "from inside");
}

#[test]
fn reports_of_several_cores_become_one_by_name() {
    let cores: Vec<ClientReport> = (0_u64..3)
        .map(|core| {
            let mut table = ClientTable::new(AMPLE);
            for name in ["alice".to_owned(), format!("only-{core}")] {
                let used = table.find(None, &events(&name, "a"));
                table.count(used, Figures::sent(1, 10), core);
                table.count_failed(used, core);
                // It stays: the table goes with the test.
                let _presence = table.arrive(used);
            }
            table.count_nameless(Figures::failed(), core);
            report(&table)
        })
        .collect();
    let mut merging = Merging::new(cores.clone());
    while !merging.step(2) {}
    let slowly = merging.into_report();
    for merged in [ClientReport::merge(cores), slowly] {
        assert_eq!((merged.clients.len(), merged.uses.len()), (4, 4));
        let (alice, live) = client(&merged, "alice");
        assert_eq!((alice.messages_in, alice.errors), (3, 3));
        assert_eq!((alice.last_ms, live), (2, 3));
        assert_eq!(merged.totals().errors, 9);
        assert_eq!(merged.live(), 6);
        let channel = "a".into();
        let expected = FailureFacts {
            kind: Kind::Events,
            channel,
            errors: 6,
        };
        assert_eq!(merged.failures, [expected]);
    }
    assert!(ClientReport::merge(Vec::new()).clients.is_empty());
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Send { of: usize, bytes: usize },
    Deliver { of: usize, messages: u64 },
    Fail { of: usize },
    Arrive { of: usize },
    Leave { which: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let of = 0_usize..24;
    let step = prop_oneof![
        (of.clone(), 0_usize..100).prop_map(|(of, bytes)| Step::Send { of, bytes }),
        (of.clone(), 1_u64..9).prop_map(|(of, messages)| Step::Deliver { of, messages }),
        of.clone().prop_map(|of| Step::Fail { of }),
        of.prop_map(|of| Step::Arrive { of }),
        any::<usize>().prop_map(|which| Step::Leave { which }),
    ];
    proptest::collection::vec(step, 0..200)
}

/// What happened, with nothing forgotten.
#[derive(Default)]
struct Model {
    totals: Figures,
    kinds: HashMap<Kind, Figures>,
    present: Vec<Presence>,
}

impl Model {
    fn count(&mut self, kind: Kind, figures: Figures) {
        self.totals.add(&figures);
        self.kinds.entry(kind).or_default().add(&figures);
    }
}

proptest! {
    /// Whatever the bounds, lists and others together are what happened, and no list is longer
    /// than it may be. With ample bounds the lists alone are.
    #[test]
    fn lists_and_others_together_are_exact(
        steps in steps(),
        clients_max in 1_usize..12,
        uses_max in 1_usize..30,
    ) {
        let bounds = Bounds { clients_max, uses_max, failures_max: 3 };
        let mut table = ClientTable::new(bounds);
        let mut model = Model::default();
        let mut last: Option<Use> = None;
        for (now_ms, step) in (1..).zip(steps) {
            let of = match step {
                Step::Send { of, .. } | Step::Deliver { of, .. } => of,
                Step::Fail { of } | Step::Arrive { of } => of,
                Step::Leave { which } => {
                    if !model.present.is_empty() {
                        let which = which % model.present.len();
                        table.leave(model.present.swap_remove(which));
                    }
                    continue;
                }
            };
            let (name, kind) = (format!("client-{}", of / 3), Kind::ALL[of % 5]);
            let channel = format!("channel-{}", of % 3);
            let used = table.find(last, &who(&name, kind, &channel));
            last = Some(used);
            let figures = match step {
                Step::Send { bytes, .. } => Figures::sent(1, bytes),
                Step::Deliver { messages, .. } => Figures::delivered(messages, 7),
                Step::Fail { .. } => {
                    table.count_failed(used, now_ms);
                    let failed = Figures { last_ms: now_ms, ..Figures::failed() };
                    model.count(kind, failed);
                    continue;
                }
                Step::Arrive { .. } | Step::Leave { .. } => {
                    model.present.push(table.arrive(used));
                    continue;
                }
            };
            // The way of streams and the way of what is counted later come to the same.
            if of % 2 == 0 {
                table.count(used, figures, now_ms);
            } else {
                let who = who(&name, kind, &channel);
                let again = table.find_and_count(last, &who, figures, now_ms);
                prop_assert_eq!(again, used);
            }
            model.count(kind, Figures { last_ms: now_ms, ..figures });
        }
        let report = report(&table);
        prop_assert!(report.clients.len() <= clients_max);
        prop_assert!(report.uses.len() <= uses_max);
        prop_assert!(report.failures.len() <= 3);
        prop_assert_eq!(report.totals(), model.totals);
        prop_assert_eq!(report.live(), u64::try_from(model.present.len()).unwrap());
        for kind in Kind::ALL {
            let expected = model.kinds.get(&kind).copied().unwrap_or_default();
            prop_assert_eq!(report.of_kind(kind), expected);
            prop_assert_eq!(report.errors_of(kind), expected.errors);
        }
        for presence in model.present.drain(..) {
            table.leave(presence);
        }
        prop_assert_eq!(self::report(&table).live(), 0);
        prop_assert!(self::report(&table).uses.iter().all(|used| used.live == 0));
    }
}
