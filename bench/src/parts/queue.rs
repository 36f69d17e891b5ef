//! The queue engine: what a message costs from the prepared record to its settlement, in the state
//! and in the dispatcher.

use ringmq::engine::queues::dispatcher::{Action, Dispatcher, Pending, PollRequest, Which};
use ringmq::engine::stored::StoredKind;
use ringmq_storage::record::queue::QueueHead;

use super::log::Bed;
use super::{BODY_BYTES, MESSAGES, Part, Run, part};

/// How often a message may be received.
const RECEIVES_MAX: u32 = 3;

pub(super) const PARTS: &[Part] = &[
    part("queue/send, receive, acknowledge", MESSAGES, || {
        through(MESSAGES)
    }),
    part(
        "queue/send, receive, acknowledge one by one",
        MESSAGES,
        || through(1),
    ),
];

/// Stores 64 messages and hands them to one consumer, `items_max` at a time.
fn through(items_max: u64) -> Run {
    let mut bed = Bed::new();
    let mut dispatcher = Dispatcher::<u64>::new(1, bed.now_ns);
    let (mut taken, mut polls) = (Vec::new(), 0);
    let payload = payload();
    let len = u32::try_from(payload.len()).expect("a small message");
    Box::new(move || {
        bed.store(StoredKind::Queue, &payload, MESSAGES);
        bed.commit();
        let key = bed.key(StoredKind::Queue);
        let state = bed.slots.queue(key).expect("it is a queue");
        dispatcher.stored(key, state.last(), state, bed.now_ns);
        let mut settled = 0;
        while settled < MESSAGES {
            polls += 1;
            let request = PollRequest {
                consumer: 1,
                number: polls,
                items_max: u32::try_from(items_max).expect("a small count"),
                peek: false,
                visible_ms: None,
                deadline_ms: bed.now_ns / 1_000_000 + 60_000,
            };
            dispatcher.poll(key, request);
            let turn = dispatcher.next_turn(bed.now_ns).expect("messages wait");
            dispatcher.take(&turn, usize::MAX, state, bed.now_ns, &mut taken);
            for message in taken.drain(..) {
                dispatcher.handed(&turn, message.sequence, len, RECEIVES_MAX);
            }
            dispatcher.leased(&turn, bed.now_ns);
            let count = dispatcher
                .settle(turn.delivery, key, Which::All, Action::Ack, bed.now_ns)
                .expect("they are leased");
            settled += u64::from(count);
        }
        while let Some((key, pending)) = dispatcher.next_pending() {
            if let Pending::Settle {
                reason,
                bytes,
                runs,
            } = &pending
            {
                bed.append(|slots, log, now_ns| {
                    Ok(slots.prepare_settle(log, key, *reason, *bytes, runs, now_ns)?)
                });
            }
            dispatcher.recycle(pending);
        }
        bed.commit();
        bed.trim_some(StoredKind::Queue);
    })
}

fn payload() -> Vec<u8> {
    let head = QueueHead {
        visible_at_ns: 0,
        expires_at_ns: 0,
        receives_max: RECEIVES_MAX,
        rerouted: false,
        policy_cleared: false,
        dead_letter: "",
        origin: "",
        moved: None,
    };
    let mut payload = Vec::new();
    head.encode(&mut payload);
    payload.resize(payload.len() + BODY_BYTES, 7);
    payload
}
