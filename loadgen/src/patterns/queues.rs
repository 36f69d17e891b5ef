//! Queues: what both ways of calling share.

use std::time::Duration;

use super::queue_answers::results;
use crate::flow::{Delivery, Flow};
use crate::payload::{Frames, Sending};
use crate::worker::Worker;

/// What consumers are called.
pub(super) const CONSUMER: &str = "loadgen-consumer";

/// How long a consumer waits after a refusal: a server that refuses at once is not to be asked as
/// fast as it answers.
pub(super) const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// What is said of an answer that is none.
pub(super) const UNREADABLE: &str = "an answer that cannot be read";

/// Whether the server says that a message came before.
pub(super) const fn delivery(receive_count: u64) -> Delivery {
    if receive_count > 1 {
        Delivery::Again
    } else {
        Delivery::First
    }
}

/// The messages of a producer.
pub(super) fn frames(worker: &Worker, flow: &Flow, producer: u32) -> Frames {
    let sending = Sending {
        channel: &flow.channel,
        client_id: "loadgen-producer",
        run: flow.run,
        flow: flow.number,
        producer,
    };
    Frames::queue_message(&sending, worker.bodies(flow, producer))
}

/// Takes the response to a request with several messages, which should have been sent at these
/// times: each has its result, or counts as refused.
pub(super) fn settle_results(
    flow: &Flow,
    producer: u32,
    response: &[u8],
    intended_ns: &[u64],
    now_ns: u64,
) {
    let mut open = intended_ns.iter();
    let verdict = results(response, |result| match (open.next(), result) {
        (Some(intended_ns), Ok(())) => flow.acknowledged(producer, *intended_ns, now_ns),
        (Some(_), Err(reason)) => flow.refused(producer, 1, &reason),
        (None, _) => flow.meter.failed("a result for no message", 1, now_ns),
    });
    let rest = u64::try_from(open.len()).unwrap_or(u64::MAX);
    match verdict {
        _ if rest == 0 => {}
        Some(Err(reason)) => flow.refused(producer, rest, &reason),
        Some(Ok(())) => flow.refused(producer, rest, "no result for a message"),
        None => flow.refused(producer, rest, UNREADABLE),
    }
}
