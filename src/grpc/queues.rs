//! Queues: sending to them, receiving from them.
//!
//! Whatever is wrong with a message or a request is told in the answer, as clients of queues
//! expect it; the status of the call stays OK. Only what cannot be decoded, and the end of the
//! broker, is a status.

mod ack_all;
mod batch;
mod downstream;
mod info;
mod outgoing;
mod receive;
mod results;
pub(super) mod send;
mod stream;
mod upstream;

pub(super) use ack_all::{ack_all, drain};
pub(super) use batch::send_batch;
pub(super) use downstream::queues_downstream;
pub(super) use info::info;
pub(super) use receive::receive;
pub(super) use send::send_message;
pub(super) use stream::stream_queue_message;
pub(super) use upstream::upstream;

use std::borrow::Cow;

use bytes::Bytes;

use super::codec::id;
use super::refused;
use crate::shard::Shard;
use crate::wire::status::Status;
use crate::wire_error::Refusal;

/// Bytes of messages in one answer, with room for what is around them: some SDKs take 4 MiB. A
/// single larger message goes out all the same.
pub(super) const ANSWER_BYTES_MAX: usize = 7 << 19;

/// A request lets others have their turn behind so many messages.
const MESSAGES_PER_TURN: usize = 256;

/// The id that came, or a new one.
fn given_or_new<'a>(shard: &Shard, id: &'a str) -> Cow<'a, str> {
    match id {
        "" => Cow::Owned(id::generate(&mut |bytes| shard.fill_random(bytes)).into()),
        given => Cow::Borrowed(given),
    }
}

/// Counts a refusal and gives its text for an answer.
fn told(shard: &Shard, refusal: Refusal) -> Cow<'static, str> {
    let text = refusal.text();
    refused(shard, refusal);
    text
}

/// The answer to a request that was refused: `answer` makes one of the text. What says nothing of
/// the request itself is a status, such as the end of the broker: clients take that for what it is
/// and try again elsewhere.
fn answer_refusal(
    shard: &Shard,
    refusal: Refusal,
    answer: impl FnOnce(&str) -> Bytes,
) -> Result<Bytes, Status> {
    match refusal.is_about_the_call() {
        true => Err(refused(shard, refusal)),
        false => Ok(answer(&told(shard, refusal))),
    }
}
