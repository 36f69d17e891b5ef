//! What applied records mean for those who wait for them.

use ringmq_storage::{ChannelId, ChannelKey, CursorId, Sequence, SlotId};

/// Something that has happened to a stored channel, told after its record was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// There are messages up to `last`; told once for all that were applied together.
    Stored {
        /// The channel.
        key: ChannelKey,
        /// Its last message.
        last: Sequence,
    },
    /// A channel was created.
    Created {
        /// The channel.
        key: ChannelKey,
    },
    /// The messages up to `through` are gone.
    Trimmed {
        /// The channel.
        key: ChannelKey,
        /// The last one that is gone.
        through: Sequence,
        /// How many went; 0 for a queue, where only bodies go.
        messages: u64,
    },
    /// A channel is gone with all that belonged to it.
    Deleted {
        /// The channel.
        key: ChannelKey,
    },
    /// A message of a queue is on its way to another one.
    MoveCommitted {
        /// The queue.
        key: ChannelKey,
        /// The message.
        sequence: Sequence,
    },
    /// A message of a queue stays where it was.
    MoveCancelled {
        /// The queue.
        key: ChannelKey,
        /// The message.
        sequence: Sequence,
    },
    /// A durable position was created.
    CursorCreated {
        /// The channel.
        key: ChannelKey,
        /// The position.
        cursor: CursorId,
    },
    /// A durable position is gone.
    CursorDeleted {
        /// The channel.
        key: ChannelKey,
        /// The position.
        cursor: CursorId,
    },
}

/// The effects that were not taken yet. Records nothing until the log is live: recovery has nobody
/// to tell.
#[derive(Debug, Default)]
pub(super) struct Effects {
    list: Vec<Effect>,
    live: bool,
}

impl Effects {
    pub(super) fn go_live(&mut self) {
        self.live = true;
    }

    pub(super) fn take(&mut self, into: &mut Vec<Effect>) {
        into.append(&mut self.list);
    }

    /// The effects of one slot's records.
    pub(super) fn of(&mut self, slot: SlotId) -> SlotEffects<'_> {
        SlotEffects {
            effects: self,
            slot,
        }
    }
}

/// Where the effects of one slot's records go.
#[derive(Debug)]
pub(super) struct SlotEffects<'a> {
    effects: &'a mut Effects,
    slot: SlotId,
}

impl SlotEffects<'_> {
    fn key(&self, channel: ChannelId) -> ChannelKey {
        ChannelKey {
            slot: self.slot,
            channel,
        }
    }

    fn push(&mut self, effect: Effect) {
        if self.effects.live {
            self.effects.list.push(effect);
        }
    }

    /// Messages were stored. `place` is where the channel's last such effect was put: when it is
    /// still there it grows, so a commit tells each channel once.
    pub(super) fn stored(&mut self, channel: ChannelId, last: Sequence, place: &mut u32) {
        if !self.effects.live {
            return;
        }
        let key = self.key(channel);
        let at = usize::try_from(*place).unwrap_or(usize::MAX);
        if let Some(Effect::Stored {
            key: known,
            last: told,
        }) = self.effects.list.get_mut(at)
            && *known == key
        {
            *told = last;
            return;
        }
        *place = u32::try_from(self.effects.list.len()).unwrap_or(u32::MAX);
        self.push(Effect::Stored { key, last });
    }

    pub(super) fn created(&mut self, channel: ChannelId) {
        let key = self.key(channel);
        self.push(Effect::Created { key });
    }

    pub(super) fn trimmed(&mut self, channel: ChannelId, through: Sequence, messages: u64) {
        let key = self.key(channel);
        self.push(Effect::Trimmed {
            key,
            through,
            messages,
        });
    }

    pub(super) fn deleted(&mut self, channel: ChannelId) {
        let key = self.key(channel);
        self.push(Effect::Deleted { key });
    }

    pub(super) fn move_committed(&mut self, channel: ChannelId, sequence: Sequence) {
        let key = self.key(channel);
        self.push(Effect::MoveCommitted { key, sequence });
    }

    pub(super) fn move_cancelled(&mut self, channel: ChannelId, sequence: Sequence) {
        let key = self.key(channel);
        self.push(Effect::MoveCancelled { key, sequence });
    }

    pub(super) fn cursor_created(&mut self, channel: ChannelId, cursor: CursorId) {
        let key = self.key(channel);
        self.push(Effect::CursorCreated { key, cursor });
    }

    pub(super) fn cursor_deleted(&mut self, channel: ChannelId, cursor: CursorId) {
        let key = self.key(channel);
        self.push(Effect::CursorDeleted { key, cursor });
    }
}
