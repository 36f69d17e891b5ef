//! The state of a queue as bytes: its part of a checkpoint.
//!
//! ```text
//!   0 u64 bytes of payloads               detail, 40 bytes
//!   8 u64 counters, 11                     0 u64 message
//!  96 u32 runs                             8 u64 body
//! 100 u32 details                         16 u64 visible from
//! 104 u32 open moves                      24 u64 expires at
//! 108 u32 reserved, 0                     32 u32 receives
//! 112 runs: first and last of each        36 u32 bytes of the payload
//!  .. details, by message
//!  .. open moves, by message              open move, 16 bytes and the name of the target
//!                                          0 u64 message
//!                                          8 u8  why
//!                                          9 u8  reserved, 0
//!                                         10 u16 bytes of the name
//!                                         12 u32 reserved, 0
//! ```

use ringmq_storage::Sequence;

use super::{Exceptions, OpenMove, QueueCounters, QueueState};
use crate::engine::queues::{Detail, MoveReason};
use crate::engine::runs::SequenceRuns;

const HEAD_BYTES: usize = 112;
const RUN_BYTES: usize = 16;
const DETAIL_BYTES: usize = 40;

impl QueueState {
    /// Appends the state as bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let none = Exceptions::default();
        let exceptions = self.exceptions.as_deref().unwrap_or(&none);
        let (runs, details) = (self.live.run_count(), exceptions.details.len());
        out.reserve(HEAD_BYTES + runs * RUN_BYTES + details * DETAIL_BYTES);
        let mut put = |number: u64| out.extend_from_slice(&number.to_le_bytes());
        put(self.bytes);
        self.counters.to_array().into_iter().for_each(&mut put);
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        for number in [
            count(runs),
            count(details),
            count(exceptions.moves.len()),
            0,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for (first, last) in self.live.iter() {
            out.extend_from_slice(&first.get().to_le_bytes());
            out.extend_from_slice(&last.get().to_le_bytes());
        }
        for (sequence, detail) in exceptions.details.iter_from(Sequence::new(0)) {
            let body = detail.body.get();
            for number in [
                sequence.get(),
                body,
                detail.visible_at_ns,
                detail.expires_at_ns,
            ] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&detail.receives.to_le_bytes());
            out.extend_from_slice(&detail.len.to_le_bytes());
        }
        for (sequence, open) in &exceptions.moves {
            let len = u16::try_from(open.target.len()).unwrap_or(u16::MAX);
            out.extend_from_slice(&sequence.get().to_le_bytes());
            out.extend_from_slice(&[open.reason as u8, 0]);
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(open.target.as_bytes());
        }
    }

    /// Reads what [`encode`](Self::encode) wrote from the front of `rest`, for a queue whose last
    /// sequence is `last`. `None` unless everything holds that holds for a state. Takes no more
    /// memory than the bytes do.
    pub(crate) fn decode(rest: &mut &[u8], last: Sequence, name_max: usize) -> Option<Self> {
        let mut state = Self {
            last,
            bytes: u64_of(rest)?,
            ..Self::default()
        };
        let mut counters = [0; QueueCounters::COUNT];
        for counter in &mut counters {
            *counter = u64_of(rest)?;
        }
        state.counters = QueueCounters::from_array(counters);
        let (runs, details) = (u32_of(rest)?, u32_of(rest)?);
        let (moves, reserved) = (u32_of(rest)?, u32_of(rest)?);
        (reserved == 0).then_some(())?;
        for _ in 0..runs {
            state.decode_run(rest)?;
        }
        for _ in 0..details {
            state.decode_detail(rest)?;
        }
        for _ in 0..moves {
            state.decode_move(rest, name_max)?;
        }
        let empty = state.is_empty() && state.bytes > 0;
        (!empty && state.bodies_are_apart()).then_some(state)
    }

    fn decode_run(&mut self, rest: &mut &[u8]) -> Option<()> {
        let (first, last) = (Sequence::new(u64_of(rest)?), Sequence::new(u64_of(rest)?));
        let apart = self.live.last().is_none_or(|before| before.next() < first);
        let sound = first.get() > 0 && first <= last && last <= self.last && apart;
        sound.then(|| self.live.insert(first, last)).map(|_| ())
    }

    fn decode_detail(&mut self, rest: &mut &[u8]) -> Option<()> {
        let sequence = Sequence::new(u64_of(rest)?);
        let detail = Detail {
            body: Sequence::new(u64_of(rest)?),
            visible_at_ns: u64_of(rest)?,
            expires_at_ns: u64_of(rest)?,
            receives: u32_of(rest)?,
            len: u32_of(rest)?,
        };
        let displaced = detail.body != sequence;
        let plain = !displaced
            && detail.visible_at_ns == 0
            && detail.expires_at_ns == 0
            && detail.receives == 0;
        let known = self.live.contains(sequence) && !plain;
        let bodied = detail.body.get() > 0 && detail.body <= sequence;
        (known && bodied).then_some(())?;
        let exceptions = self.exceptions();
        let ascends = exceptions.details.last().is_none_or(|last| last < sequence);
        ascends.then_some(())?;
        exceptions.details.insert(sequence, detail);
        if displaced {
            let added = exceptions.displaced.insert(detail.body, detail.body);
            (added == 1).then_some(())?;
        }
        Some(())
    }

    fn decode_move(&mut self, rest: &mut &[u8], name_max: usize) -> Option<()> {
        let sequence = Sequence::new(u64_of(rest)?);
        let [reason, zero] = array_of(rest)?;
        let len = usize::from(u16::from_le_bytes(array_of(rest)?));
        let reserved = u32_of(rest)?;
        let (name, behind) = rest.split_at_checked(len)?;
        *rest = behind;
        let reason = MoveReason::from_u8(reason)?;
        let target = std::str::from_utf8(name).ok()?.into();
        let known = self.live.contains(sequence) && (1..=name_max).contains(&len);
        (known && zero == 0 && reserved == 0).then_some(())?;
        let moves = &mut self.exceptions().moves;
        let last = moves.last_key_value();
        let ascends = last.is_none_or(|(last, _)| *last < sequence);
        moves.insert(sequence, OpenMove { reason, target });
        ascends.then_some(())
    }

    /// No body belongs to two messages.
    fn bodies_are_apart(&self) -> bool {
        let displaced = self.exceptions.as_ref().map(|found| &found.displaced);
        let runs = displaced.into_iter().flat_map(SequenceRuns::iter);
        let mut bodies = runs.flat_map(|(first, last)| first.get()..=last.get());
        bodies.all(|body| {
            let body = Sequence::new(body);
            !self.live.contains(body) || self.body_of(body) != body
        })
    }
}

fn array_of<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*bytes)
}

fn u64_of(rest: &mut &[u8]) -> Option<u64> {
    array_of(rest).map(u64::from_le_bytes)
}

fn u32_of(rest: &mut &[u8]) -> Option<u32> {
    array_of(rest).map(u32::from_le_bytes)
}
