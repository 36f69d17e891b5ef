//! Unary calls of producers that end without an answer.

use std::time::Duration;

use ringmq::wire::client::Client;
use ringmq::wire::status::{Code, Status};

use crate::flow::Flow;
use crate::worker::describe;

/// How long a message counts as in flight whose call found no way to the server: such calls end
/// at once, and a window that opened as fast would leave the core no time for anything else.
const NO_WAY: Duration = Duration::from_millis(10);

/// A call with `count` messages of a producer failed. When its connection has ended, too, no other
/// call can follow: the producer is done.
pub(super) async fn failed(
    flow: &Flow,
    producer: u32,
    client: &Client,
    count: usize,
    status: &Status,
) {
    let text = describe(status);
    if status.code() == Code::Unavailable && !client.control().has_ended() {
        ringmq::rt::sleep(NO_WAY).await;
    }
    if client.control().has_ended() {
        return flow.producer_broke(producer, &text);
    }
    let broken = flow.window(producer).is_none_or(|window| window.is_broken());
    if !broken && !flow.clock.is_closing() {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        flow.refused(producer, count, &text);
    }
}
