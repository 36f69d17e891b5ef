//! Messages of queues: `QueueMessage` as it comes in, as it is stored, as consumers get it.
//!
//! A message is stored in the form in which consumers get it, but for what is only known then. Its
//! attributes are the broker's: what a sender puts there is discarded. Its policy is stored as it
//! counts: the delay is in the record's head and is over when a consumer sees the message; the
//! maximum of receives is written out where the sender left it open.

mod framing;
mod md5;
mod receive;
mod send;
mod stored;
pub mod validate;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use framing::queue_framing;
pub use receive::{AckAllView, ReceiveAnswer, ReceiveView, ack_all_answer};
pub use send::{
    MessagesView, SendFacts, SendOutcome, batch_response, result_as_field, results_of, send_result,
    upstream_refusal, upstream_response,
};
pub use stored::StoredMessage;

use super::DecodeError;
use super::scan::{Field, FieldNumber, Fields};
use super::tags::Tags;

const CHANNEL: FieldNumber = 3;
const BODY: FieldNumber = 5;
const TAGS: FieldNumber = 6;
const ATTRIBUTES: FieldNumber = 7;
const POLICY: FieldNumber = 8;

/// What the contract bounds, as the operator has set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages of one unary receive. 1,024.
    pub messages_max: u32,
    /// How long a receive may wait. 1 h.
    pub wait_max: Duration,
    /// How long it waits when it does not say. 1 s.
    pub wait_default: Duration,
    /// How far away an expiration may be. 12 h.
    pub expiration_max: Duration,
    /// How long a message may be delayed. 12 h.
    pub delay_max: Duration,
    /// How often a message may be received; also what counts when it does not say. 1,024.
    pub receives_max: u32,
    /// How long a lease of a single-message stream may last. 12 h.
    pub visibility_max: Duration,
    /// How long it lasts when the consumer does not say. 60 s.
    pub visibility_default: Duration,
}

impl Default for QueueLimits {
    fn default() -> Self {
        const HALF_A_DAY: Duration = Duration::from_secs(43_200);
        Self {
            messages_max: 1024,
            wait_max: Duration::from_secs(3600),
            wait_default: Duration::from_secs(1),
            expiration_max: HALF_A_DAY,
            delay_max: HALF_A_DAY,
            receives_max: 1024,
            visibility_max: HALF_A_DAY,
            visibility_default: Duration::from_secs(60),
        }
    }
}

/// A `QueueMessage`, borrowed from its encoded form.
#[derive(Clone, Copy, Debug)]
pub struct QueueMessageView<'a> {
    /// The sender's id for the message; empty: one is to be generated.
    pub message_id: &'a str,
    /// Who sends.
    pub client_id: &'a str,
    /// The queue.
    pub channel: &'a str,
    /// Text beside the body.
    pub metadata: &'a str,
    /// The payload.
    pub body: &'a [u8],
    /// Keys and values.
    pub tags: Tags<'a>,
    /// What is to become of it.
    pub policy: PolicyView<'a>,
    /// Carried through.
    pub topic: &'a str,
    /// Carried through.
    pub partition: i32,
    /// Carried through.
    pub partition_key: &'a str,
}

/// A `QueueMessagePolicy`; zeros and an empty name when it is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyView<'a> {
    /// How long it may wait to be consumed, behind its delay; 0: for ever.
    pub expiration_seconds: i32,
    /// How long it stays invisible.
    pub delay_seconds: i32,
    /// How often it may be received; 0: as often as the broker allows.
    pub max_receive_count: i32,
    /// Where it goes then; empty: it is dropped.
    pub max_receive_queue: &'a str,
}

impl<'a> QueueMessageView<'a> {
    /// Scans an encoded `QueueMessage`.
    ///
    /// # Errors
    /// When the message cannot be decoded, see the rules of [`super`].
    pub fn parse(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut view = Self {
            message_id: "",
            client_id: "",
            channel: "",
            metadata: "",
            body: &[],
            tags: Tags::none(message, TAGS),
            policy: PolicyView::default(),
            topic: "",
            partition: 0,
            partition_key: "",
        };
        for field in Fields::of_message(message)? {
            let field = field?;
            match field.number {
                1 => view.message_id = field.text()?,
                2 => view.client_id = field.text()?,
                CHANNEL => view.channel = field.text()?,
                4 => view.metadata = field.text()?,
                BODY => view.body = field.bytes()?,
                TAGS => view.tags.add(&field)?,
                ATTRIBUTES => check_attributes(&field)?,
                POLICY => view.policy.merge(&field)?,
                9 => view.topic = field.text()?,
                10 => view.partition = field.int32()?,
                11 => view.partition_key = field.text()?,
                _ => {}
            }
        }
        Ok(view)
    }

    /// The message's id as far as it can be read from one that cannot be decoded: results carry
    /// it.
    #[must_use]
    pub fn message_id_of(message: &'a [u8]) -> &'a str {
        Fields::new(message)
            .map_while(Result::ok)
            .filter(|field| field.number == 1)
            .filter_map(|field| field.text().ok())
            .last()
            .unwrap_or_default()
    }

    /// Whether there is nothing to deliver: neither metadata nor body. Tags do not count.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.metadata.is_empty() && self.body.is_empty()
    }
}

impl<'a> PolicyView<'a> {
    /// Takes what a `Policy` field says; several are one, as proto3 has it.
    fn merge(&mut self, field: &Field<'a>) -> Result<(), DecodeError> {
        for field in Fields::new(field.bytes()?) {
            let field = field?;
            match field.number {
                1 => self.expiration_seconds = field.int32()?,
                2 => self.delay_seconds = field.int32()?,
                3 => self.max_receive_count = field.int32()?,
                4 => self.max_receive_queue = field.text()?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The sender's attributes are discarded, but a message that other decoders refuse is refused here
/// too.
fn check_attributes(field: &Field<'_>) -> Result<(), DecodeError> {
    for field in Fields::new(field.bytes()?) {
        let field = field?;
        match field.number {
            3 | 6 => field.text().map(|_| ())?,
            1 | 2 | 4 | 5 | 7 | 8 => field.varint().map(|_| ())?,
            _ => {}
        }
    }
    Ok(())
}
