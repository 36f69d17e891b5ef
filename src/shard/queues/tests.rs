//! Shards that live, with logs on a disk: what consumers see of queues.

mod bed;
mod moves;

use std::time::Duration;

use super::*;
use crate::rt;
use crate::shard::ChannelPolicy;
use bed::{Bed, text};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_message_is_handed_out_once_and_gone_when_acknowledged() {
    for cores in [1, 2] {
        Bed::new(cores).run(|shard| async move {
            let bed = bed::Client::new(&shard);
            for body in ["one", "two", "three"] {
                bed.send("q", body).await;
            }
            let polled = bed.poll("q", 2, SECOND).await;
            assert_eq!(text(&polled), "1:1:one;2:1:two;");
            let rest = bed.poll("q", 10, SECOND).await;
            assert_eq!(text(&rest), "3:1:three;", "what is leased is nobody else's");
            bed.settle(&polled, Which::All, Action::Ack).await.unwrap();
            let again = bed.settle(&polled, Which::All, Action::Ack).await;
            assert!(matches!(again, Err(SettleFailure::LeaseLost { .. })));
            bed.settle(&rest, Which::All, Action::Return).await.unwrap();
            assert_eq!(text(&bed.poll("q", 10, SECOND).await), "3:1:three;");
        });
    }
}

#[test]
fn a_poll_waits_for_a_message_also_of_a_queue_that_is_not_there() {
    for cores in [1, 2] {
        Bed::new(cores).run(|shard| async move {
            let bed = bed::Client::new(&shard);
            for channel in ["new", "known", "known"] {
                let ticket = bed.ask(channel, 10, 10 * SECOND);
                rt::sleep(Duration::from_millis(20)).await;
                assert!(bed.consumer.try_event().is_none());
                bed.send(channel, "late").await;
                let polled = bed.polled(ticket).await.unwrap();
                assert_eq!(polled.sequences.len(), 1);
                bed.settle(&polled, Which::All, Action::Ack).await.unwrap();
            }
        });
    }
}

#[test]
fn every_poll_has_one_answer() {
    for cores in [1, 2] {
        Bed::new(cores).run(|shard| async move {
            let bed = bed::Client::new(&shard);
            bed.send("there", "x").await;
            bed.drain("there").await;
            for channel in ["there", "not there"] {
                let began = rt::now();
                let now = bed.ask(channel, 1, Duration::ZERO);
                assert!(bed.polled(now).await.unwrap().sequences.is_empty());
                let cancelled = bed.ask(channel, 1, 100 * SECOND);
                bed.consumer.cancel(cancelled);
                bed.consumer.cancel(cancelled);
                assert!(bed.polled(cancelled).await.unwrap().sequences.is_empty());
                assert!(rt::now().since(began) < SECOND);
                let short = Duration::from_millis(30);
                let timed = bed.ask(channel, 1, short);
                assert!(bed.polled(timed).await.unwrap().sequences.is_empty());
                assert!(rt::now().since(began) >= short, "not before its time");
                let ended = bed.ask(channel, 1, 100 * SECOND);
                bed.tickets.borrow_mut().push(ended);
            }
            shard.drain();
            let ended: Vec<u64> = bed.tickets.take();
            if shard.count == 1 {
                for ticket in ended {
                    assert_eq!(
                        bed.polled(ticket).await.unwrap_err(),
                        StoreFailure::ShuttingDown
                    );
                }
            }
            let refused = bed.ask("there", 1, SECOND);
            assert_eq!(
                bed.polled(refused).await.unwrap_err(),
                StoreFailure::ShuttingDown
            );
            assert!(
                bed.consumer.try_event().is_none(),
                "nothing is answered twice"
            );
        });
    }
}

#[test]
fn what_a_consumer_had_returns_in_its_place_when_it_ends() {
    for cores in [1, 2] {
        Bed::new(cores).run(|shard| async move {
            let bed = bed::Client::new(&shard);
            for body in ["a", "b", "c"] {
                bed.send("q", body).await;
            }
            let clean = bed::Client::new(&shard);
            assert_eq!(text(&clean.poll("q", 2, SECOND).await), "1:1:a;2:1:b;");
            clean.consumer.close();
            let broken = bed::Client::new(&shard);
            assert_eq!(text(&broken.poll("q", 2, SECOND).await), "1:1:a;2:1:b;");
            drop(broken);
            let unread = bed::Client::new(&shard);
            unread.ask("q", 2, SECOND);
            rt::sleep(Duration::from_millis(50)).await;
            drop(unread);
            let polled = bed.poll("q", 10, SECOND).await;
            assert_eq!(text(&polled), "1:2:a;2:2:b;3:1:c;");
        });
    }
}

#[test]
fn a_nack_goes_to_the_tail_and_counts() {
    Bed::new(1).run(|shard| async move {
        let bed = bed::Client::new(&shard);
        for body in ["a", "b", "c"] {
            bed.send("q", body).await;
        }
        let polled = bed.poll("q", 2, SECOND).await;
        bed.settle(&polled, Which::All, Action::Nack).await.unwrap();
        let polled = bed.poll("q", 10, SECOND).await;
        assert_eq!(text(&polled), "3:1:c;4:2:a;5:2:b;");
    });
}

#[test]
fn a_lease_runs_out_unless_it_is_extended() {
    for cores in [1, 2] {
        Bed::new(cores).run(|shard| async move {
            let bed = bed::Client::new(&shard);
            bed.send("q", "a").await;
            let visibility = Some(Duration::from_millis(50));
            let ticket = bed.ask_with("q", |request| request.visibility = visibility);
            let polled = bed.polled(ticket).await.unwrap();
            let longer = Action::Extend(Duration::from_millis(150));
            let began = rt::now();
            bed.settle(&polled, Which::All, longer).await.unwrap();
            let expired = bed.event().await;
            assert!(rt::now().since(began) >= Duration::from_millis(150));
            let ConsumerEvent::LeaseExpired {
                delivery,
                sequences,
            } = expired
            else {
                panic!("{expired:?}");
            };
            assert_eq!(
                (Some(delivery), sequences),
                (polled.delivery, polled.sequences.clone())
            );
            assert_eq!(
                text(&bed.poll("q", 1, SECOND).await),
                "2:2:a;",
                "nacked by time"
            );
            let late = bed.settle(&polled, Which::All, Action::Ack).await;
            assert!(matches!(late, Err(SettleFailure::LeaseLost { .. })));
        });
    }
}

#[test]
fn a_delayed_message_comes_when_it_is_due_and_not_before() {
    Bed::new(1).run(|shard| async move {
        let bed = bed::Client::new(&shard);
        let due_ns = shard.queue_now_ns() + 80_000_000;
        bed.send_at("q", "late", due_ns).await;
        bed.send("q", "first").await;
        assert_eq!(text(&bed.poll("q", 10, SECOND).await), "2:1:first;");
        let polled = bed.poll("q", 10, SECOND).await;
        let now_ns = shard.queue_now_ns();
        assert_eq!(text(&polled), "1:1:late;");
        assert!(now_ns >= due_ns);
        assert!(now_ns < due_ns + 50_000_000, "{} ns late", now_ns - due_ns);
    });
}

#[test]
fn a_peek_leaves_everything_where_it_is_and_a_drain_nothing() {
    for cores in [1, 2] {
        Bed::new(cores).run(|shard| async move {
            let bed = bed::Client::new(&shard);
            for body in ["a", "b", "c"] {
                bed.send("q", body).await;
            }
            for _ in 0..2 {
                let ticket = bed.ask_with("q", |request| request.peek = true);
                let peeked = bed.polled(ticket).await.unwrap();
                assert_eq!(text(&peeked), "1:1:a;2:1:b;3:1:c;");
                assert_eq!(peeked.delivery, None);
            }
            let held = bed.poll("q", 1, SECOND).await;
            assert_eq!(bed.drain("q").await, 2, "what is leased stays");
            assert_eq!(bed.drain("q").await, 0);
            assert_eq!(bed.drain("not there").await, 0);
            bed.settle(&held, Which::All, Action::Return).await.unwrap();
            assert_eq!(text(&bed.poll("q", 10, SECOND).await), "1:1:a;");
        });
    }
}

#[test]
fn an_answer_is_as_long_as_it_may_be_and_no_longer() {
    for cores in [1, 2] {
        Bed::new(cores).run(|shard| async move {
            let bed = bed::Client::new(&shard);
            let body = "x".repeat(1000);
            for _ in 0..1000 {
                bed.queue("q", &body, 0);
            }
            bed.all_stored().await;
            let mut seen = 0;
            while seen < 1000 {
                let ticket = bed.ask_with("q", |request| request.bytes_max = 100_000);
                let polled = bed.polled(ticket).await.unwrap();
                assert!(polled.bytes <= 100_000);
                assert_eq!(
                    polled.parts.iter().map(Bytes::len).sum::<usize>(),
                    polled.bytes
                );
                for sequence in &polled.sequences {
                    seen += 1;
                    assert_eq!(sequence.get(), seen);
                }
                bed.settle(&polled, Which::All, Action::Ack).await.unwrap();
            }
            let ticket = bed.ask("q", 1, Duration::ZERO);
            assert!(bed.polled(ticket).await.unwrap().sequences.is_empty());
        });
    }
}

#[test]
fn a_restart_forgets_leases_and_nothing_else() {
    let mut bed = Bed::new(1);
    bed.run(|shard| async move {
        let bed = bed::Client::new(&shard);
        for body in ["a", "b", "c", "d"] {
            bed.send("q", body).await;
        }
        let polled = bed.poll("q", 3, SECOND).await;
        let list = |sequence| Which::List(vec![Sequence::new(sequence)]);
        bed.settle(&polled, list(2), Action::Ack).await.unwrap();
        bed.settle(&polled, list(1), Action::Nack).await.unwrap();
        // Longer than a lease may be open without being counted.
        rt::sleep(Duration::from_millis(150)).await;
        shard.close_logs().await;
        std::mem::forget(bed);
    });
    bed.run(|shard| async move {
        let bed = bed::Client::new(&shard);
        let polled = bed.poll("q", 10, SECOND).await;
        assert_eq!(text(&polled), "3:2:c;4:1:d;5:2:a;");
        bed.settle(&polled, Which::All, Action::Ack).await.unwrap();
        shard.close_logs().await;
    });
    bed.run(|shard| async move {
        let bed = bed::Client::new(&shard);
        let ticket = bed.ask("q", 1, Duration::ZERO);
        assert!(bed.polled(ticket).await.unwrap().sequences.is_empty());
        bed.send("q", "next").await;
        assert_eq!(text(&bed.poll("q", 1, SECOND).await), "6:1:next;");
    });
}

#[test]
fn a_log_that_has_failed_still_hands_out_what_it_has() {
    Bed::new(1).run(|shard| async move {
        let bed = bed::Client::new(&shard);
        for body in ["a", "b"] {
            bed.send("q", body).await;
        }
        let polled = bed.poll("q", 1, SECOND).await;
        let seat = shard.stored.seats[0].clone();
        seat.log.borrow_mut().fail("the disk is gone".to_owned());
        let failed = bed.settle(&polled, Which::All, Action::Ack).await;
        assert_eq!(failed, Err(SettleFailure::Store(StoreFailure::Poisoned)));
        bed.settle(&polled, Which::All, Action::Return)
            .await
            .unwrap();
        assert_eq!(text(&bed.poll("q", 10, SECOND).await), "1:1:a;2:1:b;");
    });
}

#[test]
fn what_lies_on_the_disk_is_read_from_there_in_order() {
    for cores in [1, 2] {
        let mut bed = Bed::new(cores);
        bed.run(|shard| async move {
            let bed = bed::Client::new(&shard);
            for _ in 0..6 {
                for _ in 0..100 {
                    bed.queue("q", &"x".repeat(10_000), 0);
                }
                bed.all_stored().await;
            }
            let polled = bed.poll("q", 40, SECOND).await;
            let third = polled.sequences.iter().copied().step_by(3).collect();
            bed.settle(&polled, Which::List(third), Action::Nack)
                .await
                .unwrap();
            bed.consumer.close();
            shard.close_logs().await;
        });
        bed.run(move |shard| async move {
            let bed = bed::Client::new(&shard);
            // Whoever leaves while the disk is asked takes nothing along, and nothing counts.
            let hasty = bed::Client::new(&shard);
            hasty.ask("q", 600, SECOND);
            rt::reactor_yield().await;
            drop(hasty);
            let mut seen = Vec::new();
            while seen.len() < 600 {
                let polled = bed.poll("q", 600, SECOND).await;
                for (sequence, part) in polled.sequences.iter().zip(text(&polled).split(';')) {
                    let receives = if sequence.get() > 600 { 2 } else { 1 };
                    let before = format!("{sequence}:{receives}:xx");
                    assert!(part.starts_with(&before), "{before}: {}", &part[..20]);
                    seen.push(sequence.get());
                }
                bed.settle(&polled, Which::All, Action::Ack).await.unwrap();
            }
            if cores == 1 {
                assert!(shard.counters.warms.value() > 0, "the disk was asked");
            }
            let nacked: Vec<u64> = (1..=40).step_by(3).collect();
            let stayed = (1..=600).filter(|it| !nacked.contains(it));
            let requeued = (601..).take(nacked.len());
            assert_eq!(seen, stayed.chain(requeued).collect::<Vec<u64>>());
        });
    }
}

#[test]
fn waiting_consumers_are_served_in_the_order_they_came() {
    Bed::new(1).run(|shard| async move {
        let bed = bed::Client::new(&shard);
        let waiting: Vec<_> = (0..5).map(|_| bed::Client::new(&shard)).collect();
        for client in &waiting {
            client.ask("q", 10, 10 * SECOND);
        }
        for (number, client) in waiting.iter().enumerate() {
            bed.send("q", "x").await;
            let polled = client.polled(1).await.unwrap();
            assert_eq!(text(&polled), format!("{}:1:x;", number + 1));
        }
        assert!(
            waiting
                .iter()
                .all(|client| client.consumer.try_event().is_none())
        );
    });
}

#[test]
fn who_waits_for_a_queue_that_is_deleted_gets_the_messages_of_its_successor() {
    Bed::new(1).run(|shard| async move {
        let bed = bed::Client::new(&shard);
        bed.send("q", "old").await;
        let held = bed.poll("q", 1, SECOND).await;
        let waiting = bed.ask("q", 1, 10 * SECOND);
        let seat = shard.stored.seats[0].clone();
        let slot = shard.placement.slot("q");
        let key = shard.find_queue(&seat, slot, "q").unwrap();
        {
            let (mut log, mut slots) = (seat.log.borrow_mut(), seat.slots.borrow_mut());
            let now_ns = shard.queue_now_ns();
            slots
                .prepare_channel_delete(&mut *log, key, now_ns)
                .unwrap();
        }
        seat.commit_ready.raise();
        let lost = bed.event().await;
        let ConsumerEvent::LeaseExpired {
            delivery,
            sequences,
        } = lost
        else {
            panic!("{lost:?}");
        };
        assert_eq!((Some(delivery), sequences.len()), (held.delivery, 0));
        let late = bed.settle(&held, Which::All, Action::Ack).await;
        assert!(matches!(late, Err(SettleFailure::LeaseLost { .. })));
        bed.send("q", "new").await;
        assert_eq!(text(&bed.polled(waiting).await.unwrap()), "1:1:new;");
    });
}

#[test]
fn a_full_queue_lets_go_of_its_oldest_messages_but_of_none_that_is_leased() {
    let mut policy = ChannelPolicy::default();
    policy.limits.messages_max = 3;
    policy.limits.drop_oldest = true;
    policy.queue.in_place = true;
    Bed::with_policy(1, policy).run(|shard| async move {
        let bed = bed::Client::new(&shard);
        bed.send("q", "a").await;
        let held = bed.poll("q", 1, SECOND).await;
        for body in ["b", "c", "d", "e"] {
            bed.send("q", body).await;
        }
        bed.settle(&held, Which::All, Action::Nack).await.unwrap();
        let polled = bed.poll("q", 10, SECOND).await;
        assert_eq!(text(&polled), "1:2:a;4:1:d;5:1:e;");
    });
}
