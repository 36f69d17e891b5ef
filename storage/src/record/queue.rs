//! Payloads of the records of queues.
//!
//! The message of a queue is a [`Message`](super::RecordKind::Message) record whose payload begins
//! with a [`QueueHead`]; what follows it is opaque. Everything that happens to a message later is
//! a record of its own, batched by channel: its body is never written again.
//!
//! ```text
//! head of a message                         run                     count
//!  0 u64 visible from, ns; 0: at once        0 u64 first sequence    0 u64 first sequence
//!  8 u64 expires at, ns; 0: never            8 u64 last sequence     8 u32 messages
//! 16 u32 receives at most                                           12 u32 receives so far
//! 20 u16 bytes of the dead-letter queue     requeued
//! 22 u16 bytes of the queue it came from     0 u64 old sequence     move id
//! 24 u8  flags, see below                    8 u32 receives so far   0 u16 slot
//! 25 u8  why it was moved here; 0: sent     12 u32 reserved, 0       2 u16 reserved, 0
//! 26 u16 reserved, 0                                                 4 u32 channel
//! 28 u32 reserved, 0                        move                     8 u64 sequence
//! 32 move id, when it was moved here         0 u8  why
//! .. names of the two queues, the rest       1 7   reserved, 0
//!                                            8     name of the target
//! ```
//!
//! Flags of a head: 1 re-routed (a dead letter), 2 its policy does not count any more, 4 moved
//! here: a move id follows.

use super::payload::BadPayload;
use crate::codec::Fields;
use crate::id::{ChannelId, Sequence};
use crate::slot::SlotId;

/// Bytes of a head without move id and names.
pub const QUEUE_HEAD_BYTES: usize = 32;

/// Bytes of a [`MoveId`].
pub const MOVE_ID_BYTES: usize = 16;

/// Bytes of a [`Run`], a [`Requeued`] or a [`Counted`].
pub const QUEUE_ENTRY_BYTES: usize = 16;

const REROUTED: u8 = 1;
const POLICY_CLEARED: u8 = 2;
const MOVED: u8 = 4;

/// Names one message for its move to another queue: as long as a move is open nothing else has
/// this id, and the target takes it once (rule E13).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MoveId {
    /// Slot of the queue that it leaves.
    pub slot: SlotId,
    /// That queue.
    pub channel: ChannelId,
    /// The message there.
    pub sequence: Sequence,
}

/// What stands before the body of a queue's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueHead<'a> {
    /// When it becomes visible, in nanoseconds since 1970; 0: at once.
    pub visible_at_ns: u64,
    /// When it expires; 0: never.
    pub expires_at_ns: u64,
    /// How often it may be received before it is a dead letter, at least 1.
    pub receives_max: u32,
    /// It is a dead letter.
    pub rerouted: bool,
    /// The policy in its body does not count any more.
    pub policy_cleared: bool,
    /// The queue of its dead letters; empty: none.
    pub dead_letter: &'a str,
    /// The queue that it came from, when it was moved here; empty otherwise.
    pub origin: &'a str,
    /// Why it was moved here, a number of the layers above, and from where.
    pub moved: Option<(u8, MoveId)>,
}

impl<'a> QueueHead<'a> {
    /// Bytes that [`encode`](Self::encode) writes.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        let id = if self.moved.is_some() {
            MOVE_ID_BYTES
        } else {
            0
        };
        QUEUE_HEAD_BYTES + id + self.dead_letter.len() + self.origin.len()
    }

    /// Appends the head. Names of more than 65,535 bytes are not representable; the layers above
    /// have refused them.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let len = |name: &str| u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes();
        out.extend_from_slice(&self.visible_at_ns.to_le_bytes());
        out.extend_from_slice(&self.expires_at_ns.to_le_bytes());
        out.extend_from_slice(&self.receives_max.to_le_bytes());
        out.extend_from_slice(&len(self.dead_letter));
        out.extend_from_slice(&len(self.origin));
        let mut flags = 0;
        for (set, flag) in [
            (self.rerouted, REROUTED),
            (self.policy_cleared, POLICY_CLEARED),
            (self.moved.is_some(), MOVED),
        ] {
            flags |= if set { flag } else { 0 };
        }
        let reason = self.moved.map_or(0, |(reason, _)| reason);
        out.extend_from_slice(&[flags, reason, 0, 0, 0, 0, 0, 0]);
        if let Some((_, id)) = &self.moved {
            encode_move_id(id, out);
        }
        out.extend_from_slice(self.dead_letter.as_bytes());
        out.extend_from_slice(self.origin.as_bytes());
    }

    /// Reads a head, and gives what follows it.
    ///
    /// # Errors
    /// [`BadPayload`].
    pub fn decode(payload: &'a [u8]) -> Result<(Self, &'a [u8]), BadPayload> {
        Self::read(payload).ok_or(BadPayload)
    }

    fn read(payload: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut fields = Fields::new(payload);
        let visible_at_ns = fields.u64()?;
        let expires_at_ns = fields.u64()?;
        let receives_max = fields.u32()?;
        let (dead_letter_len, origin_len) = (fields.u16()?, fields.u16()?);
        let (flags, reason) = (fields.u8()?, fields.u8()?);
        fields.reserved::<6>()?;
        if flags & !(REROUTED | POLICY_CLEARED | MOVED) != 0 || receives_max == 0 {
            return None;
        }
        let moved = if flags & MOVED == 0 {
            (reason == 0).then_some(None)?
        } else {
            Some((reason, read_move_id(&mut fields)?))
        };
        let mut name = |len: u16| std::str::from_utf8(fields.take(usize::from(len))?).ok();
        let (dead_letter, origin) = (name(dead_letter_len)?, name(origin_len)?);
        let head = Self {
            visible_at_ns,
            expires_at_ns,
            receives_max,
            rerouted: flags & REROUTED != 0,
            policy_cleared: flags & POLICY_CLEARED != 0,
            dead_letter,
            origin,
            moved,
        };
        Some((head, fields.rest()))
    }
}

/// Messages in a row, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub first: Sequence,
    /// The last, not before the first.
    pub last: Sequence,
}

/// A message that goes to the tail of its queue. Its new sequence follows that of the entry
/// before; the first one's is in the record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requeued {
    /// Its sequence until now.
    pub old: Sequence,
    /// How often it has been received.
    pub receives: u32,
}

/// How often messages in a row have been received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The first.
    pub first: Sequence,
    /// How many, at least 1.
    pub count: u32,
    /// How often each has been received.
    pub receives: u32,
}

/// Appends the payload of a [`QueueSettle`](super::RecordKind::QueueSettle) record: bytes of the
/// payloads that are released, then the runs.
pub fn encode_settle(bytes: u64, runs: &[Run], out: &mut Vec<u8>) {
    out.reserve(8 + runs.len() * QUEUE_ENTRY_BYTES);
    out.extend_from_slice(&bytes.to_le_bytes());
    for run in runs {
        out.extend_from_slice(&run.first.get().to_le_bytes());
        out.extend_from_slice(&run.last.get().to_le_bytes());
    }
}

/// Reads the payload of a `QueueSettle` record: all of it is checked before the first run comes.
///
/// # Errors
/// [`BadPayload`].
pub fn decode_settle(
    payload: &[u8],
) -> Result<(u64, impl ExactSizeIterator<Item = Run> + '_), BadPayload> {
    let (bytes, entries) = payload.split_first_chunk().ok_or(BadPayload)?;
    let runs = entries_of(entries, |fields| {
        let (first, last) = (Sequence::new(fields.u64()?), Sequence::new(fields.u64()?));
        (first.get() > 0 && first <= last).then_some(Run { first, last })
    })?;
    Ok((u64::from_le_bytes(*bytes), runs))
}

/// Appends the payload of a [`QueueRequeue`](super::RecordKind::QueueRequeue) record.
pub fn encode_requeued(entries: &[Requeued], out: &mut Vec<u8>) {
    for entry in entries {
        out.extend_from_slice(&entry.old.get().to_le_bytes());
        out.extend_from_slice(&u64::from(entry.receives).to_le_bytes());
    }
}

/// Reads the payload of a `QueueRequeue` record, as [`decode_settle`].
///
/// # Errors
/// [`BadPayload`].
pub fn decode_requeued(
    payload: &[u8],
) -> Result<impl ExactSizeIterator<Item = Requeued> + '_, BadPayload> {
    entries_of(payload, |fields| {
        let (old, receives) = (Sequence::new(fields.u64()?), fields.u32()?);
        fields.reserved::<4>()?;
        Some(Requeued { old, receives })
    })
}

/// Appends the payload of a [`QueueCount`](super::RecordKind::QueueCount) record.
pub fn encode_counted(entries: &[Counted], out: &mut Vec<u8>) {
    for entry in entries {
        out.extend_from_slice(&entry.first.get().to_le_bytes());
        out.extend_from_slice(&entry.count.to_le_bytes());
        out.extend_from_slice(&entry.receives.to_le_bytes());
    }
}

/// Reads the payload of a `QueueCount` record, as [`decode_settle`].
///
/// # Errors
/// [`BadPayload`].
pub fn decode_counted(
    payload: &[u8],
) -> Result<impl ExactSizeIterator<Item = Counted> + '_, BadPayload> {
    entries_of(payload, |fields| {
        let first = Sequence::new(fields.u64()?);
        let (count, receives) = (fields.u32()?, fields.u32()?);
        let ends = first.get().checked_add(u64::from(count))?;
        (count > 0 && ends > 0).then_some(Counted {
            first,
            count,
            receives,
        })
    })
}

/// Appends the payload of a [`QueueMove`](super::RecordKind::QueueMove) record.
pub fn encode_move(reason: u8, target: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&[reason, 0, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(target.as_bytes());
}

/// Reads the payload of a `QueueMove` record: why, and the name of the target.
///
/// # Errors
/// [`BadPayload`].
pub fn decode_move(payload: &[u8]) -> Result<(u8, &str), BadPayload> {
    let mut fields = Fields::new(payload);
    let reason = fields.u8().ok_or(BadPayload)?;
    fields.reserved::<7>().ok_or(BadPayload)?;
    let target = std::str::from_utf8(fields.rest()).map_err(|_| BadPayload)?;
    Ok((reason, target))
}

/// Appends the payload of a [`QueueMoveForget`](super::RecordKind::QueueMoveForget) record.
pub fn encode_move_ids(ids: &[MoveId], out: &mut Vec<u8>) {
    for id in ids {
        encode_move_id(id, out);
    }
}

/// Reads the payload of a `QueueMoveForget` record, as [`decode_settle`].
///
/// # Errors
/// [`BadPayload`].
pub fn decode_move_ids(
    payload: &[u8],
) -> Result<impl ExactSizeIterator<Item = MoveId> + '_, BadPayload> {
    entries_of(payload, read_move_id)
}

fn encode_move_id(id: &MoveId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.slot.index().to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&id.channel.get().to_le_bytes());
    out.extend_from_slice(&id.sequence.get().to_le_bytes());
}

fn read_move_id(fields: &mut Fields<'_>) -> Option<MoveId> {
    let slot = SlotId::new(fields.u16()?)?;
    fields.reserved::<2>()?;
    let (channel, sequence) = (ChannelId::new(fields.u32()?), Sequence::new(fields.u64()?));
    Some(MoveId {
        slot,
        channel,
        sequence,
    })
}

/// Reads an entry; `None` when it is none.
type ReadEntry<T> = fn(&mut Fields<'_>) -> Option<T>;

/// The entries of a payload, each of which can be read.
struct Entries<'a, T> {
    entries: std::slice::Iter<'a, [u8; QUEUE_ENTRY_BYTES]>,
    read: ReadEntry<T>,
}

impl<T> Iterator for Entries<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let entry = self.entries.next()?;
        (self.read)(&mut Fields::new(entry))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl<T> ExactSizeIterator for Entries<'_, T> {}

/// The entries of a payload, when each of them can be read.
fn entries_of<T>(payload: &[u8], read: ReadEntry<T>) -> Result<Entries<'_, T>, BadPayload> {
    let (entries, behind) = payload.as_chunks::<QUEUE_ENTRY_BYTES>();
    let mut all = entries.iter();
    let good = all.all(|entry| read(&mut Fields::new(entry)).is_some());
    if !good || !behind.is_empty() {
        return Err(BadPayload);
    }
    let entries = entries.iter();
    Ok(Entries { entries, read })
}
