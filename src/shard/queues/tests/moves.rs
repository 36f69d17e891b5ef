//! Messages that go to another queue: near and far, refused, and through restarts.

use std::rc::Rc;

use super::bed::{self, Bed, text};
use super::*;
use crate::engine::queues::MoveReason;
use crate::shard::Shard;

/// A queue on another core than the others, when there are two.
const FAR: &str = "elsewhere.other";

fn to(reason: MoveReason, target: &str) -> Action {
    let target = target.into();
    Action::Move { reason, target }
}

/// Receives messages one by one and gives each back, until there are no more.
async fn wear_out(client: &bed::Client, channel: &str, times: usize) {
    for _ in 0..times {
        let polled = client.poll(channel, 1, SECOND).await;
        client
            .settle(&polled, Which::All, Action::Nack)
            .await
            .unwrap();
    }
}

async fn is_empty(client: &bed::Client, channel: &str) -> bool {
    let ticket = client.ask_with(channel, |request| {
        request.peek = true;
        request.wait = Duration::ZERO;
    });
    client.polled(ticket).await.unwrap().sequences.is_empty()
}

/// Moves that the logs of this shard still know of.
fn open_moves(shard: &Rc<Shard>) -> usize {
    let seats = shard.stored.seats.iter();
    let open = seats.map(|seat| {
        let slots = seat.slots.borrow();
        let queues = slots.channels().filter_map(|(key, _)| slots.queue(key));
        queues.map(|queue| queue.moves().count()).sum::<usize>()
    });
    open.sum()
}

/// Waits until the sources of this shard have written that their messages have left.
async fn all_settled(shard: &Rc<Shard>) {
    let began = rt::now();
    while open_moves(shard) > 0 {
        assert!(rt::now().since(began) < 10 * SECOND, "moves end");
        rt::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn messages_are_sent_on_in_their_order_and_say_where_they_came_from() {
    for (cores, target) in [(1, "other"), (2, "other"), (2, FAR)] {
        Bed::new(cores).run(move |shard| async move {
            let client = bed::Client::new(&shard);
            for body in ["a", "b", "c"] {
                client.send("q", body).await;
            }
            let polled = client.poll("q", 10, SECOND).await;
            let first = Which::List(polled.sequences[..2].to_vec());
            let requeue = to(MoveReason::Requeue, target);
            client
                .settle(&polled, first, requeue.clone())
                .await
                .unwrap();
            let moved = client.poll(target, 10, SECOND).await;
            assert_eq!(text(&moved), "1:1:(2 from q)a;2:1:(2 from q)b;");
            // Those that are on their way are not this consumer's any more.
            let again = client
                .settle(&polled, Which::List(vec![Sequence::new(1)]), requeue)
                .await;
            assert!(matches!(again, Err(SettleFailure::LeaseLost { .. })));
            client
                .settle(&polled, Which::All, to(MoveReason::Resend, "q"))
                .await
                .unwrap();
            // Onto itself: a new message at the tail.
            assert_eq!(
                text(&client.poll("q", 10, SECOND).await),
                "4:1:(3 from q)c;"
            );
        });
    }
}

#[test]
fn dead_letters_go_to_their_queue_or_to_the_operators_or_nowhere() {
    for cores in [1, 2] {
        Bed::new(cores).run(|shard| async move {
            let client = bed::Client::new(&shard);
            for (channel, dead_letter) in [("q", FAR), ("q.parked", ""), ("q.lost", "")] {
                client.queue_with(channel, "x", |head| {
                    head.receives_max = 2;
                    head.dead_letter = dead_letter;
                });
                client.all_stored().await;
                wear_out(&client, channel, 2).await;
                assert!(is_empty(&client, channel).await);
            }
            let dead = client.poll(FAR, 1, 5 * SECOND).await;
            assert_eq!(text(&dead), "1:1:(1 dead from q)x;");
            let parked = client.poll("elsewhere.parking", 1, 5 * SECOND).await;
            assert_eq!(text(&parked), "1:1:(1 dead from q.parked)x;");
            if shard.count == 1 {
                all_settled(&shard).await;
                let counters = shard.counters();
                assert_eq!(
                    (counters.queue_dropped, counters.queue_dead_lettered),
                    (1, 2)
                );
            }
            // Sent back, a dead letter is under its policy again: twice, and it is dead.
            let redrive = to(MoveReason::Redrive, "");
            client.settle(&parked, Which::All, redrive).await.unwrap();
            let polled = client.poll("q.parked", 1, SECOND).await;
            assert_eq!(text(&polled), "3:1:(4 from q.parked)x;");
            client
                .settle(&polled, Which::All, Action::Nack)
                .await
                .unwrap();
            wear_out(&client, "q.parked", 1).await;
            let parked = client.poll("elsewhere.parking", 1, 5 * SECOND).await;
            assert_eq!(text(&parked), "2:1:(1 dead from q.parked)x;");
        });
    }
}

#[test]
fn message_that_its_target_refuses_is_back_in_its_place() {
    for (cores, small) in [(1, "small"), (2, "elsewhere.small")] {
        Bed::new(cores).run(move |shard| async move {
            let client = bed::Client::new(&shard);
            client.send(small, "there").await;
            for body in ["a", "b"] {
                client.send("q", body).await;
            }
            let polled = client.poll("q", 1, SECOND).await;
            let requeue = to(MoveReason::Requeue, small);
            let refused = client.settle(&polled, Which::All, requeue).await;
            let refused = refused.unwrap_err();
            assert!(
                matches!(refused, SettleFailure::NotMoved { .. }),
                "{refused}"
            );
            rt::sleep(Duration::from_millis(50)).await;
            assert_eq!(text(&client.poll("q", 10, SECOND).await), "1:1:a;2:1:b;");
        });
    }
}

#[test]
fn dead_letter_that_cannot_be_moved_is_tried_again() {
    for (cores, small) in [(1, "small"), (2, "elsewhere.small")] {
        Bed::new(cores).run(move |shard| async move {
            let client = bed::Client::new(&shard);
            client.send(small, "there").await;
            client.queue_with("q", "x", |head| {
                head.receives_max = 1;
                head.dead_letter = small;
            });
            client.all_stored().await;
            wear_out(&client, "q", 1).await;
            rt::sleep(Duration::from_millis(50)).await;
            assert!(
                is_empty(&client, "q").await,
                "nobody gets it in the meantime"
            );
            let there = client.poll(small, 1, SECOND).await;
            client
                .settle(&there, Which::All, Action::Ack)
                .await
                .unwrap();
            let dead = client.poll(small, 1, 10 * SECOND).await;
            assert_eq!(text(&dead), "2:1:(1 dead from q)x;");
        });
    }
}

#[test]
fn large_messages_and_long_queues_move_too() {
    for (cores, target) in [(1, "other"), (2, FAR)] {
        Bed::new(cores).run(move |shard| async move {
            let client = bed::Client::new(&shard);
            let large = "x".repeat(3 << 20);
            client.send("q", &large).await;
            for number in 0..3_000 {
                client.queue("q", &number.to_string(), 0);
            }
            client.all_stored().await;
            let mut count = 0;
            while count < 3_001 {
                let polled = client.poll("q", 1_000, SECOND).await;
                count += polled.sequences.len();
                let requeue = to(MoveReason::Requeue, target);
                client.settle(&polled, Which::All, requeue).await.unwrap();
            }
            let first = client.poll(target, 1, SECOND).await;
            assert_eq!(text(&first).len(), large.len() + "1:1:(2 from q);".len());
            let mut next = 0;
            while next < 3_000 {
                let polled = client.poll(target, 10_000, SECOND).await;
                for message in text(&polled).split_terminator(';') {
                    assert!(message.ends_with(&format!("(2 from q){next}")), "{message}");
                    next += 1;
                }
            }
            assert!(is_empty(&client, "q").await);
            all_settled(&shard).await;
        });
    }
}

#[test]
fn moves_that_a_crash_leaves_open_are_driven_on_and_every_message_is_there_once() {
    for (cores, target) in [(1, "other"), (2, FAR)] {
        let mut bed = Bed::new(cores);
        bed.run(|shard| async move {
            let client = bed::Client::new(&shard);
            for number in 0..500 {
                client.queue("q", &number.to_string(), 0);
            }
            client.all_stored().await;
            shard.close_logs().await;
        });
        for pause_us in [0, 300, 1_000, 3_000] {
            bed.run(move |shard| async move {
                let client = bed::Client::new(&shard);
                let polled = client.poll("q", 100, SECOND).await;
                let delivery = polled.delivery.unwrap();
                let requeue = to(MoveReason::Requeue, target);
                client.consumer.settle(delivery, Which::All, requeue, false);
                rt::sleep(Duration::from_micros(pause_us)).await;
                // The executors end in the middle of it, as if they were killed.
                std::mem::forget(client);
            });
        }
        bed.run(move |shard| async move {
            let client = bed::Client::new(&shard);
            rt::sleep(Duration::from_millis(300)).await;
            all_settled(&shard).await;
            let mut seen = Vec::new();
            for channel in ["q", target] {
                while !is_empty(&client, channel).await {
                    let polled = client.poll(channel, 10_000, SECOND).await;
                    for message in text(&polled).split_terminator(';') {
                        let body = message.rsplit([')', ':']).next().unwrap();
                        seen.push(body.parse::<u32>().unwrap());
                    }
                    client
                        .settle(&polled, Which::All, Action::Ack)
                        .await
                        .unwrap();
                }
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..500).collect::<Vec<_>>());
            let known: usize = shard
                .stored
                .seats
                .iter()
                .map(|seat| seat.slots.borrow().arrivals().count())
                .sum();
            assert_eq!(known, 0, "what is over is forgotten");
        });
    }
}
