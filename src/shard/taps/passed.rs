//! Requests that are watched: shown when they are sent, and again when they have ended.

use bytes::Bytes;

use super::{TappedWhat, Unanswered};
use crate::model::Kind;
use crate::shard::message::ChannelAt;
use crate::shard::{Outcome, Shard};

/// A request that was shown, until its end is.
#[derive(Debug)]
pub(in crate::shard) struct AskedRequest {
    kind: Kind,
    frame: Bytes,
    channel: ChannelAt,
}

impl Shard {
    /// Shows a request that was sent. To be asked only when there are taps of this kind.
    pub(in crate::shard) fn show_request(
        &self,
        kind: Kind,
        frame: Bytes,
        channel: ChannelAt,
    ) -> AskedRequest {
        if let Some(name) = channel.read(&frame) {
            self.show(kind, name, TappedWhat::Request, &frame);
        }
        AskedRequest {
            kind,
            frame,
            channel,
        }
    }

    /// Shows how it ended; `None`: who had asked has gone.
    pub(in crate::shard) fn show_outcome(&self, asked: &AskedRequest, outcome: Option<&Outcome>) {
        let Some(name) = asked.channel.read(&asked.frame) else {
            return;
        };
        let (what, frame) = match outcome {
            Some(Outcome::Response(message) | Outcome::CacheHit(message)) => {
                (TappedWhat::Response, message)
            }
            Some(Outcome::TimedOut | Outcome::NoResponder) => {
                (TappedWhat::Unanswered(Unanswered::TimedOut), &asked.frame)
            }
            Some(Outcome::ShuttingDown) => {
                let ended = Unanswered::ShuttingDown;
                (TappedWhat::Unanswered(ended), &asked.frame)
            }
            None => (TappedWhat::Unanswered(Unanswered::GivenUp), &asked.frame),
        };
        self.show(asked.kind, name, what, frame);
    }
}
