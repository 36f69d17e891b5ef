//! What the records of a log say: the newest checkpoint, and what was written behind it.

use std::collections::BTreeMap;

use ringmq_storage::frame::FrameKind;
use ringmq_storage::layout::Layout;
use ringmq_storage::log::Apply;
use ringmq_storage::{ChannelKey, FrameIndex, Position, Sequence, SlotId};

use super::present::Present;
use super::survey::LogFiles;
use super::walk::{GO_ON, walk};
use super::{Error, Opened};
use crate::engine::queues::QueueState;
use crate::engine::stored::Slots;

/// The state of a log's slots, as far as it could be made.
pub(super) struct LogState {
    pub(super) slots: Slots,
    /// Slots whose records do not follow from each other, as behind a damaged range: their state
    /// is that before it.
    pub(super) halted: BTreeMap<SlotId, String>,
}

impl LogState {
    /// A channel for people: its name where it is known.
    pub(super) fn name(&self, key: ChannelKey) -> String {
        match self.slots.channel(key) {
            Some(channel) => channel.name.to_string(),
            None => format!("(channel {} of slot {})", key.channel, key.slot),
        }
    }

    /// Whether the record of a message is needed: a message of a queue has its body there that is
    /// not settled, under this sequence or another one.
    pub(super) fn keeps(&self, key: ChannelKey, sequence: Sequence) -> bool {
        let channel = self.slots.channel(key);
        channel.is_some_and(|channel| match channel.queue() {
            Some(queue) => queue.keeps_body(sequence),
            None => channel.first <= sequence,
        })
    }

    /// Kept messages that a walk over the whole log did not meet, by channel.
    pub(super) fn lost(&self, present: &Present) -> Vec<(ChannelKey, Sequence, Sequence)> {
        let mut lost = Vec::new();
        for (key, channel) in self.slots.channels() {
            for (first, last) in present.missing(key, channel.first, channel.last) {
                match channel.queue() {
                    Some(queue) => bodies_between(queue, first, last, &mut |first, last| {
                        lost.push((key, first, last));
                    }),
                    None => lost.push((key, first, last)),
                }
            }
        }
        lost
    }
}

/// Runs of bodies that a queue needs, of those under `first..=last`.
fn bodies_between(
    queue: &QueueState,
    first: Sequence,
    last: Sequence,
    run: &mut dyn FnMut(Sequence, Sequence),
) {
    let mut next = first;
    let mut open: Option<(Sequence, Sequence)> = None;
    while let Some(body) = queue.next_body(next).filter(|body| *body <= last) {
        next = body.next();
        if !queue.keeps_body(body) {
            continue;
        }
        match &mut open {
            Some((_, end)) if end.next() == body => *end = body,
            _ => {
                if let Some((first, last)) = open.replace((body, body)) {
                    run(first, last);
                }
            }
        }
    }
    if let Some((first, last)) = open {
        run(first, last);
    }
}

/// The slots of a log.
pub(super) fn slots_of(layout: Layout, log: u16) -> impl Iterator<Item = SlotId> {
    SlotId::all().filter(move |slot| slot.index() % layout.log_count == log)
}

/// Makes the state of a log from its newest checkpoint and the frames behind it.
pub(super) fn replay(opened: &Opened, layout: Layout, files: &LogFiles) -> Result<LogState, Error> {
    let mut slots = Slots::new(slots_of(layout, files.number));
    let mut halted = BTreeMap::new();
    let mut from = Position::default();
    if let Some(checkpoint) = files.checkpoint() {
        from = checkpoint.position;
        for section in &checkpoint.sections {
            if let Err(divergence) = slots.restore(section) {
                halted.insert(section.slot, divergence.to_string());
            }
        }
    }
    walk(opened.fs(), files, from, &mut |frame| {
        let Some(slot) = frame.header.slot else {
            return GO_ON;
        };
        let known = frame.header.index <= slots.applied(slot).0;
        if frame.header.kind != FrameKind::Entry || known || halted.contains_key(&slot) {
            return GO_ON;
        }
        let before = FrameIndex::new(frame.header.index.get().saturating_sub(1));
        if before > slots.applied(slot).0 {
            // What is missing is told by the walk over the whole log; the rest goes on behind it.
            slots.lost(slot, before);
        }
        if let Err(divergence) = slots.apply(frame) {
            halted.insert(slot, divergence.to_string());
        }
        GO_ON
    })?;
    Ok(LogState { slots, halted })
}
