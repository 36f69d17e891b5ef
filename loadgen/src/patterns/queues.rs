//! Queues: what both ways of calling share.

use std::time::Duration;

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
