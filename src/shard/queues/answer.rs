//! The messages of one answer, as fields of it. Small bodies are gathered, large ones stay in the
//! mapping.

use bytes::{Bytes, BytesMut};
use ringmq_storage::Sequence;

use super::{HandedMessage, QueueFraming};
use crate::shard::outbox::SHARED_MIN_BYTES;

/// What framing adds to a message, about: one reservation instead of two.
const FRAMING_BYTES: usize = 256;

/// Messages are gathered in parts of this size when there are more than a few of them.
const PART_BYTES: usize = 64 << 10;

/// Messages that are asked for from which on parts are taken to become full ones.
const MANY: u32 = 16;

/// An answer that is being made.
#[derive(Debug)]
pub(super) struct Answer {
    framing: QueueFraming,
    field: u32,
    bytes_max: usize,
    part_bytes: usize,
    tail: BytesMut,
    /// What comes behind a large body, until it is known to fit.
    behind: BytesMut,
    pub(super) parts: Vec<Bytes>,
    pub(super) bytes: usize,
    pub(super) sequences: Vec<Sequence>,
}

impl Answer {
    pub(super) fn new(framing: QueueFraming, field: u32, items_max: u32, bytes_max: usize) -> Self {
        let part_bytes = if items_max >= MANY { PART_BYTES } else { 0 };
        Self {
            framing,
            field,
            bytes_max,
            part_bytes,
            tail: BytesMut::new(),
            behind: BytesMut::new(),
            parts: Vec::new(),
            bytes: 0,
            sequences: Vec::new(),
        }
    }

    /// Bytes that may still come.
    pub(super) fn room(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes)
    }

    /// Takes a message in; `false` when it does not fit any more. The first always fits.
    pub(super) fn push(
        &mut self,
        message: &HandedMessage<'_>,
        shared: impl FnOnce() -> Bytes,
    ) -> bool {
        let body = message.body;
        let is_small = body.len() < SHARED_MIN_BYTES;
        self.reserve(if is_small { body.len() } else { 0 });
        let before = self.tail.len();
        (self.framing.before)(self.field, message, &mut self.tail);
        let (len, behind) = if is_small {
            self.tail.extend_from_slice(body);
            (self.framing.after)(message, &mut self.tail);
            (self.tail.len() - before, None)
        } else {
            self.behind.clear();
            (self.framing.after)(message, &mut self.behind);
            let len = self.tail.len() - before + body.len() + self.behind.len();
            (len, Some(shared))
        };
        if !self.sequences.is_empty() && self.bytes.saturating_add(len) > self.bytes_max {
            self.tail.truncate(before);
            return false;
        }
        if let Some(shared) = behind {
            self.seal();
            self.parts.push(shared());
            self.tail.extend_from_slice(&self.behind);
        }
        self.bytes += len;
        self.sequences.push(Sequence::new(message.sequence));
        true
    }

    /// Makes room for a small message, in a new part when the last one is full.
    fn reserve(&mut self, body_len: usize) {
        let need = body_len + FRAMING_BYTES;
        if self.tail.capacity() - self.tail.len() >= need {
            return;
        }
        self.seal();
        self.tail = BytesMut::with_capacity(self.part_bytes.min(self.bytes_max).max(need));
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.parts.push(self.tail.split().freeze());
        }
    }

    /// The parts, all of them.
    pub(super) fn finish(&mut self) {
        self.seal();
    }
}

#[cfg(test)]
mod tests {
    use ringmq_storage::record::queue::QueueHead;

    use super::*;
    use crate::shard::BodyPolicy;

    const FRAMING: QueueFraming = QueueFraming {
        before: |field, message, out| {
            out.extend_from_slice(format!("<{field}:{}:", message.sequence).as_bytes());
        },
        after: |message, out| {
            out.extend_from_slice(format!(":{}>", message.receives).as_bytes());
        },
        policy: |_| BodyPolicy::default(),
    };

    fn message(sequence: u64, body: &[u8]) -> HandedMessage<'_> {
        HandedMessage {
            channel: "q",
            sequence,
            timestamp_ns: 0,
            receives: 1,
            head: QueueHead {
                visible_at_ns: 0,
                expires_at_ns: 0,
                receives_max: 1,
                rerouted: false,
                policy_cleared: false,
                dead_letter: "",
                origin: "",
                moved: None,
            },
            body,
        }
    }

    fn push(answer: &mut Answer, sequence: u64, body: &[u8]) -> bool {
        answer.push(&message(sequence, body), || Bytes::copy_from_slice(body))
    }

    #[test]
    fn small_and_large_messages_keep_their_order_and_their_bytes() {
        let large = vec![b'x'; SHARED_MIN_BYTES];
        let mut answer = Answer::new(FRAMING, 7, 100, 10 << 20);
        let mut expected = Vec::new();
        for sequence in 1..=300 {
            let body: &[u8] = if sequence % 50 == 0 { &large } else { b"small" };
            assert!(push(&mut answer, sequence, body));
            expected.extend_from_slice(format!("<7:{sequence}:").as_bytes());
            expected.extend_from_slice(body);
            expected.extend_from_slice(b":1>");
        }
        answer.finish();
        assert_eq!(answer.parts.concat(), expected);
        assert_eq!(answer.bytes, expected.len());
        assert_eq!(answer.sequences.len(), 300);
    }

    #[test]
    fn an_answer_stays_below_its_bound_but_for_one_message() {
        for body_len in [100, SHARED_MIN_BYTES] {
            let body = vec![0; body_len];
            let mut answer = Answer::new(FRAMING, 1, 10, body_len / 2);
            assert!(push(&mut answer, 1, &body), "the first always fits");
            assert!(!push(&mut answer, 2, b"x"));
            let mut answer = Answer::new(FRAMING, 1, 10, 2 * (body_len + 8));
            assert!(push(&mut answer, 1, &body));
            assert!(push(&mut answer, 2, &body));
            assert!(!push(&mut answer, 3, b""), "not one byte more");
            answer.finish();
            assert_eq!(answer.bytes, 2 * (body_len + 8));
            assert_eq!(
                answer.parts.iter().map(Bytes::len).sum::<usize>(),
                answer.bytes
            );
        }
    }
}
