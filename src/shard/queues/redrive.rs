//! Sending dead letters back: a consumer of the broker's own, at a bounded pace.

use std::rc::Rc;
use std::time::Duration;

use super::{Action, Consumer, ConsumerEvent, PollRequest, Polled, SettleFailure, Which};
use crate::engine::queues::MoveReason;
use crate::model::Kind;
use crate::rt;
use crate::shard::{ChannelQuestion, Shard, StoreFailure, WhichChannels};

/// Messages that are taken at a time.
const BATCH_MAX: u64 = 500;

/// Bytes of them; a single larger message is taken alone.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// Dead letters to send back.
#[derive(Clone, Copy, Debug)]
pub struct Redrive<'a> {
    /// The queue that they are in.
    pub source: &'a str,
    /// The queue that they go to; empty: each to the one that it came from.
    pub target: &'a str,
    /// Messages a second; 0: as fast as it goes.
    pub rate: u64,
    /// Messages at most; 0: all that are there when it begins.
    pub max: u64,
}

/// How far it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redriven {
    /// Messages that are in their targets for good.
    pub moved: u64,
    /// Why it ended early; what was not moved is in its place.
    pub failure: Option<SettleFailure>,
}

impl Shard {
    /// Sends messages of a queue back where they came from, or on to another queue; those that are
    /// delayed or leased stay. Each moves as any other message does, so a crash leaves it in
    /// exactly one queue. It is over when everything that was there at the beginning has been
    /// taken once: what comes back as a dead letter meanwhile is not sent again.
    ///
    /// # Errors
    /// [`StoreFailure`]: the queue could not be read.
    pub async fn redrive(self: &Rc<Self>, redrive: &Redrive<'_>) -> Result<Redriven, StoreFailure> {
        let waiting = self.waiting_in(redrive.source).await?;
        let mut left = match redrive.max {
            0 => waiting,
            max => max.min(waiting),
        };
        let consumer = self.consumer();
        let began = rt::now();
        let mut done = Redriven {
            moved: 0,
            failure: None,
        };
        while left > 0 && !self.is_draining() {
            let batch = left.min(batch_for(redrive.rate));
            let polled = poll(&consumer, redrive.source, batch).await?;
            let count = u64::try_from(polled.sequences.len()).unwrap_or(u64::MAX);
            let Some(delivery) = polled.delivery.filter(|_| count > 0) else {
                break;
            };
            let action = Action::Move {
                reason: MoveReason::Redrive,
                target: redrive.target.into(),
            };
            let ticket = consumer.settle(delivery, Which::All, action, true);
            if let Err(failure) = settled(&consumer, ticket).await {
                done.failure = Some(failure);
                break;
            }
            done.moved += count;
            left = left.saturating_sub(count);
            if left > 0 {
                keep_pace(began, done.moved, redrive.rate).await;
            }
        }
        consumer.close();
        Ok(done)
    }

    async fn waiting_in(self: &Rc<Self>, queue: &str) -> Result<u64, StoreFailure> {
        let question = ChannelQuestion {
            kind: Kind::Queues,
            which: WhichChannels::Named(vec![queue.into()]),
            write: |_, _| {},
        };
        let listed = self.list_channels(question).await;
        listed
            .map(|list| list.waiting)
            .map_err(|_busy| StoreFailure::Busy)
    }
}

/// A tenth of a second's worth, so that the pace is even.
fn batch_for(rate: u64) -> u64 {
    match rate {
        0 => BATCH_MAX,
        rate => rate.div_ceil(10).min(BATCH_MAX),
    }
}

/// Waits until so many messages may have been moved since `began`.
async fn keep_pace(began: rt::Instant, moved: u64, rate: u64) {
    let Some(due_ms) = moved.saturating_mul(1_000).checked_div(rate) else {
        return;
    };
    let due = Duration::from_millis(due_ms);
    let passed = rt::now().since(began);
    if let Some(left) = due.checked_sub(passed) {
        rt::sleep(left).await;
    }
}

async fn poll(consumer: &Consumer, channel: &str, items: u64) -> Result<Polled, StoreFailure> {
    let asked = consumer.poll(&PollRequest {
        channel,
        items_max: u32::try_from(items).unwrap_or(u32::MAX),
        bytes_max: BATCH_BYTES_MAX,
        wait: Duration::ZERO,
        peek: false,
        visibility: None,
        field: 1,
    });
    loop {
        let event = std::future::poll_fn(|cx| consumer.poll_event(cx)).await;
        if let ConsumerEvent::Polled { ticket, outcome } = event
            && ticket == asked
        {
            return outcome;
        }
    }
}

async fn settled(consumer: &Consumer, asked: u64) -> Result<(), SettleFailure> {
    loop {
        let event = std::future::poll_fn(|cx| consumer.poll_event(cx)).await;
        if let ConsumerEvent::Settled { ticket, outcome } = event
            && ticket == asked
        {
            return outcome;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_follow_the_pace() {
        let batches = [0, 1, 10, 11, 1_000, 1_000_000].map(batch_for);
        assert_eq!(batches, [BATCH_MAX, 1, 1, 2, 100, BATCH_MAX]);
    }
}
