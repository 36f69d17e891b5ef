//! Stored channels: what the records of a log say, and what is written next.
//!
//! Two steps, never mixed. `prepare_…` decides, with the clock and the limits as arguments, and
//! appends records; it changes no state. `apply` changes state, from committed records and nothing
//! else: live and in recovery it is the same function, so a restart ends where the broker was.
//!
//! ```text
//!            decide                          committed
//!  request ─────────► prepare ──► log ─ ─ ─ ─ ─ ─ ─ ─ ─► apply ──► state ──► effects
//!                     ▲    │ taken                         │ settles
//!          state and  │    ▼                               ▼
//!          overlay ───┴── overlay: what is on its way ◄────┘
//! ```
//!
//! Each slot has a state of its own; its numbers of channels and positions are given by logged
//! records and are never used again. A channel that is deleted and created again is another one.
//!
//! What must hold (rules E1 to E6 and E12 of `docs/replication.md`): sequences are gap-free from 1;
//! time does not go back in a slot; a position never goes back; a record that does not follow from
//! the state stops the log.

mod apply;
mod bridge;
mod effects;
mod idle;
mod limits;
mod overlay;
mod prepare;
mod queue;
mod section;
mod slot;
mod state;

#[cfg(test)]
mod tests;

pub use effects::Effect;
pub use limits::{CHANNEL_NAME_BYTES_MAX, CURSOR_NAME_BYTES_MAX, Limits, StoreRefusal};
pub use prepare::{Accepted, ChannelLog, NewMessage};
pub use queue::Arrived;
pub use state::{Channel, Cursor, CursorOwner, StoredKind};

use std::ops::Bound;

use ringmq_storage::checkpoint::Section;
use ringmq_storage::frame::Frame;
use ringmq_storage::log::{Apply, Divergence};
use ringmq_storage::{ChannelKey, CursorId, FrameIndex, SLOT_COUNT, Sequence, SlotId};

use effects::Effects;
use slot::Slot;
use state::State;

/// The stored channels of one log's slots.
///
/// Owned by the shard that has the log, changed on its executor only; filled by the log when it is
/// opened, then told to [`go_live`](Self::go_live). A channel with a name of 20 bytes takes about
/// 290 bytes, a queue 460 and what is said of its messages, a position about 160.
#[derive(Debug)]
pub struct Slots {
    /// By slot number; `None` for slots of other logs.
    slots: Vec<Option<Box<Slot>>>,
    effects: Effects,
    idle_cursors_from: usize,
    idle_channels_from: usize,
}

impl Slots {
    /// Empty slots.
    #[must_use]
    pub fn new(slots: impl IntoIterator<Item = SlotId>) -> Self {
        let mut by_number: Vec<Option<Box<Slot>>> = Vec::new();
        by_number.resize_with(usize::from(SLOT_COUNT), || None);
        for slot in slots {
            if let Some(place) = by_number.get_mut(usize::from(slot.index())) {
                *place = Some(Box::new(Slot::new(slot)));
            }
        }
        Self {
            slots: by_number,
            effects: Effects::default(),
            idle_cursors_from: 0,
            idle_channels_from: 0,
        }
    }

    /// Recovery is over: from now on applied records have effects.
    pub fn go_live(&mut self) {
        self.effects.go_live();
        for slot in self.slots.iter_mut().flatten() {
            slot.state.has_gap = false;
        }
    }

    fn slot(&self, slot: SlotId) -> Option<&Slot> {
        self.slots.get(usize::from(slot.index()))?.as_deref()
    }

    /// # Panics
    /// When the slot is none of the log's: whoever asks has the log of that slot.
    fn slot_mut(&mut self, slot: SlotId) -> &mut Slot {
        let found = self.slots.get_mut(usize::from(slot.index()));
        let found = found.and_then(Option::as_deref_mut);
        found.expect("a slot is asked of the log that has it")
    }

    fn states(&self) -> impl Iterator<Item = &State> {
        self.slots.iter().flatten().map(|slot| &slot.state)
    }

    /// The channel of this name, when its creation has been applied.
    #[must_use]
    pub fn find(&self, slot: SlotId, kind: StoredKind, name: &str) -> Option<ChannelKey> {
        let channel = self.slot(slot)?.state.find(kind, name)?;
        Some(ChannelKey { slot, channel })
    }

    /// A channel as far as its records are applied.
    #[must_use]
    pub fn channel(&self, key: ChannelKey) -> Option<&Channel> {
        self.slot(key.slot)?.state.channels.get(&key.channel)
    }

    /// All channels, by slot and number.
    pub fn channels(&self) -> impl Iterator<Item = (ChannelKey, &Channel)> {
        self.states().flat_map(State::keyed_channels)
    }

    /// The channels of one slot, by number: for who looks at all of them a slot at a time.
    pub fn channels_of(&self, slot: SlotId) -> impl Iterator<Item = (ChannelKey, &Channel)> {
        let slot = self.slot(slot).into_iter();
        slot.flat_map(|slot| slot.state.keyed_channels())
    }

    /// The channels of a kind behind `after` in the order of [`channels`](Self::channels), or all
    /// of them: for walks that are cut into slices. Slots without any are passed over; in the
    /// others it goes over the channels of all kinds, which are not shown.
    pub fn channels_after(
        &self,
        kind: StoredKind,
        after: Option<ChannelKey>,
    ) -> impl Iterator<Item = (ChannelKey, Option<&Channel>)> {
        let first = after.map_or(0, |after| usize::from(after.slot.index()));
        let slots = self.slots.iter().skip(first).flatten();
        let states = slots.map(|slot| &slot.state);
        let states = states.filter(move |state| state.has_kind(kind));
        states.flat_map(move |state| {
            let slot = state.slot;
            let from = match after {
                Some(after) if after.slot == slot => Bound::Excluded(after.channel),
                _ => Bound::Unbounded,
            };
            let channels = state.channels.range((from, Bound::Unbounded));
            channels.map(move |(id, found)| {
                let channel = *id;
                (
                    ChannelKey { slot, channel },
                    (found.kind == kind).then_some(found),
                )
            })
        })
    }

    /// How many channels with messages there are.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.states().map(State::stored_count).sum()
    }

    /// The same with what is on its way.
    fn channel_count_to_be(&self) -> u64 {
        let slots = self.slots.iter().flatten();
        let counts = slots.map(|slot| slot.overlay.channel_count(slot.state.stored_count()));
        u64::try_from(counts.sum::<usize>()).unwrap_or(u64::MAX)
    }

    /// How many durable positions there are.
    #[must_use]
    pub fn cursor_count(&self) -> usize {
        self.states().map(|state| state.cursors.len()).sum()
    }

    /// A durable position of a channel, and the last message that counts as delivered there.
    #[must_use]
    pub fn cursor(
        &self,
        key: ChannelKey,
        owner: CursorOwner,
        name: &str,
    ) -> Option<(CursorId, Sequence)> {
        let state = &self.slot(key.slot)?.state;
        let id = state.find_cursor(key.channel, owner, name)?;
        Some((id, state.cursors.get(&id)?.position))
    }

    /// The durable positions of a channel, by owner and name.
    pub fn cursors(&self, key: ChannelKey) -> impl Iterator<Item = (CursorId, &Cursor)> {
        let state = self.slot(key.slot).map(|slot| &slot.state);
        state.into_iter().flat_map(move |state| {
            let ids = state
                .channels
                .get(&key.channel)
                .map(|found| found.cursors.as_slice());
            let ids = ids.unwrap_or_default();
            ids.iter()
                .filter_map(|id| Some((*id, state.cursors.get(id)?)))
        })
    }

    /// Whether records of the slot are on their way: prepared and not applied.
    #[must_use]
    pub fn is_settled(&self, slot: SlotId) -> bool {
        self.slot(slot).is_none_or(|slot| slot.overlay.is_empty())
    }

    /// Takes what the records applied since the last call led to, in their order. Messages are
    /// told once for each channel.
    pub fn take_effects(&mut self, into: &mut Vec<Effect>) {
        self.effects.take(into);
    }

    /// The last frame that was applied to a slot, and the slot's last time in nanoseconds.
    #[must_use]
    pub fn applied(&self, slot: SlotId) -> (FrameIndex, u64) {
        self.slot(slot).map_or_else(Default::default, |slot| {
            (slot.state.applied, slot.state.last_timestamp_ns)
        })
    }

    /// Appends the applied state of a slot, as a checkpoint keeps it. What is on its way is no
    /// part of it.
    pub fn encode_section(&self, slot: SlotId, out: &mut Vec<u8>) {
        if let Some(slot) = self.slot(slot) {
            slot.state.encode(out);
        }
    }
}

impl Apply for Slots {
    fn restore(&mut self, section: &Section) -> Result<(), Divergence> {
        let slot = section.slot;
        let divergence = |reason: String| Divergence {
            slot,
            index: section.applied,
            reason,
        };
        let place = self.slots.get_mut(usize::from(slot.index()));
        let Some(Some(place)) = place else {
            return Err(divergence("the slot belongs to another log".to_owned()));
        };
        let state = State::decode(
            slot,
            section.applied,
            section.last_timestamp_ns,
            &section.logical,
        );
        place.state = state.map_err(|bad| divergence(bad.to_string()))?;
        Ok(())
    }

    fn lost(&mut self, slot: SlotId, through: FrameIndex) {
        let found = self.slots.get_mut(usize::from(slot.index()));
        if let Some(slot) = found.and_then(Option::as_deref_mut) {
            slot.state.lost(through);
        }
    }

    fn apply(&mut self, frame: &Frame<'_>) -> Result<(), Divergence> {
        // Frames of the log itself concern no slot.
        let Some(number) = frame.header.slot else {
            return Ok(());
        };
        let divergence = |reason: String| Divergence {
            slot: number,
            index: frame.header.index,
            reason,
        };
        let found = self.slots.get_mut(usize::from(number.index()));
        let Some(slot) = found.and_then(Option::as_deref_mut) else {
            return Err(divergence("the slot belongs to another log".to_owned()));
        };
        let mut effects = self.effects.of(number);
        let applied = slot.state.apply(&mut slot.overlay, frame, &mut effects);
        applied.map_err(|diverged| divergence(diverged.to_string()))
    }
}
