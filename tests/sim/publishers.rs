//! Publishers: what they sent, and what they were told.

use std::collections::{BTreeMap, HashMap, VecDeque};

use ringmq::engine::stored::Slots;
use ringmq_storage::{ChannelKey, Position};

use super::deeds::{Deeds, Message};
use super::world::Outcome;

/// A message that was stored, as its publisher knows it.
#[derive(Debug)]
struct Sent {
    key: ChannelKey,
    sequence: u64,
    /// The publisher's own number of it.
    number: u64,
    len: usize,
}

/// A client that sends to one channel, and does not wait for the answers.
#[derive(Debug)]
pub(crate) struct Publisher {
    id: u32,
    /// Which of the channels.
    pub(crate) channel: usize,
    last: u64,
    waiting: VecDeque<(Position, Sent)>,
    acknowledged: Vec<Sent>,
}

/// Bytes in which a payload says whose it is.
const NAME_BYTES: usize = 12;

/// The message `number` of a publisher.
fn payload(id: u32, number: u64, len: usize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(NAME_BYTES + len);
    payload.extend_from_slice(&id.to_le_bytes());
    payload.extend_from_slice(&number.to_le_bytes());
    let mut byte = id.to_le_bytes()[0] ^ number.to_le_bytes()[0];
    payload.resize_with(NAME_BYTES + len, || {
        byte = byte.wrapping_mul(5).wrapping_add(17);
        byte
    });
    payload
}

fn name(payload: &[u8]) -> Option<(u32, u64)> {
    let (id, rest) = payload.split_first_chunk()?;
    let number = rest.first_chunk()?;
    Some((u32::from_le_bytes(*id), u64::from_le_bytes(*number)))
}

impl Publisher {
    pub(crate) fn new(id: u32, channel: usize) -> Self {
        Self {
            id,
            channel,
            last: 0,
            waiting: VecDeque::new(),
            acknowledged: Vec::new(),
        }
    }

    /// The next message.
    pub(crate) fn next(&self, len: usize) -> Vec<u8> {
        payload(self.id, self.last + 1, len)
    }

    /// The broker has taken the next message.
    pub(crate) fn sent(&mut self, key: ChannelKey, sequence: u64, len: usize, end: Position) {
        self.last += 1;
        let number = self.last;
        let sent = Sent {
            key,
            sequence,
            number,
            len,
        };
        self.waiting.push_back((end, sent));
    }

    /// The broker answers what is committed.
    pub(crate) fn answer(&mut self, committed: Position) -> u64 {
        let mut count = 0;
        while self
            .waiting
            .front()
            .is_some_and(|(end, _)| *end <= committed)
        {
            self.acknowledged
                .extend(self.waiting.pop_front().map(|(_, sent)| sent));
            count += 1;
        }
        count
    }

    /// After a start: what was acknowledged is there as it was sent. Returns how many are not,
    /// where that is no breach of a promise.
    pub(crate) fn survive(
        &mut self,
        slots: &Slots,
        read: &HashMap<(ChannelKey, u64), Message>,
        deeds: &Deeds,
        promised: bool,
    ) -> Outcome<u64> {
        self.waiting.clear();
        let (id, mut lost) = (self.id, 0);
        let mut failure = None;
        self.acknowledged.retain(|sent| {
            let place = (sent.key, sent.sequence);
            if let Some(message) = read.get(&place)
                && message.payload == payload(id, sent.number, sent.len)
            {
                return true;
            }
            let channel = slots.channel(sent.key);
            let gone = channel.is_none_or(|channel| sent.sequence < channel.first.get());
            if !gone || !deeds.was_to_go(sent.key, sent.sequence) {
                lost += 1;
                failure.get_or_insert_with(|| format!("acknowledged {sent:?} of {id} is lost"));
            }
            false
        });
        match failure {
            Some(failure) if promised => Err(failure),
            _ => Ok(lost),
        }
    }
}

/// Messages of a publisher lie in the order in which it sent them, and each once.
pub(crate) fn check_order(read: &HashMap<(ChannelKey, u64), Message>) -> Outcome {
    let mut sorted: Vec<_> = read.iter().collect();
    sorted.sort_unstable_by_key(|(place, _)| **place);
    let mut last: BTreeMap<(ChannelKey, u32), u64> = BTreeMap::new();
    for ((key, sequence), message) in sorted {
        let (id, number) = name(&message.payload).ok_or("a message without a name")?;
        if message.payload != payload(id, number, message.payload.len() - NAME_BYTES) {
            return Err(format!("message {sequence} of {key:?} was altered"));
        }
        let before = last.insert((*key, id), number).unwrap_or(0);
        if number <= before {
            return Err(format!(
                "message {number} of {id} lies behind its message {before}"
            ));
        }
    }
    Ok(())
}
