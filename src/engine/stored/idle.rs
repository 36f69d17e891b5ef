//! What nobody has used for long: the candidates for being forgotten.

use std::ops::ControlFlow;

use ringmq_storage::{ChannelKey, CursorId};

use super::Slots;
use super::slot::Slot;

/// Channels or positions that one call looks at before it stops behind a slot.
const LOOKED_AT_MAX: usize = 8192;

/// What one call returns at most.
const FOUND_MAX: usize = 1024;

impl Slots {
    /// Durable positions that were last used before `before_ns`, by slot and number. At most 1024
    /// at once, and in a large store only of some slots: the next call goes on with the next ones.
    ///
    /// The time of the last use survives restarts. That a position is held by a live receiver is
    /// not known here.
    pub fn idle_cursors(&mut self, before_ns: u64) -> Vec<(ChannelKey, CursorId)> {
        let mut found = Vec::new();
        let from = self.idle_cursors_from;
        self.idle_cursors_from = self.visit_round(from, |slot, looked_at| {
            *looked_at += slot.state.cursors.len();
            for (id, cursor) in &slot.state.cursors {
                let busy = slot.overlay.cursor_position(*id).is_some()
                    || slot.overlay.channel(cursor.channel).is_some();
                if cursor.last_active_ns < before_ns && !busy {
                    let (slot, channel) = (slot.state.slot, cursor.channel);
                    found.push((ChannelKey { slot, channel }, *id));
                    if found.len() >= FOUND_MAX {
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        });
        found
    }

    /// Channels without messages and positions that were last used before `before_ns`, by slot and
    /// number; bounded like [`idle_cursors`](Self::idle_cursors).
    pub fn idle_channels(&mut self, before_ns: u64) -> Vec<ChannelKey> {
        let mut found = Vec::new();
        let from = self.idle_channels_from;
        self.idle_channels_from = self.visit_round(from, |slot, looked_at| {
            *looked_at += slot.state.channels.len();
            for (id, channel) in &slot.state.channels {
                // What an operator has registered stays until it is deleted.
                let empty = channel.kind.has_messages()
                    && channel.messages() == 0
                    && channel.cursor_count() == 0;
                let busy = slot.overlay.channel(*id).is_some();
                if channel.last_active_ns < before_ns && empty && !busy {
                    let (slot, channel) = (slot.state.slot, *id);
                    found.push(ChannelKey { slot, channel });
                    if found.len() >= FOUND_MAX {
                        return ControlFlow::Break(());
                    }
                }
            }
            ControlFlow::Continue(())
        });
        found
    }

    /// Visits slots from number `from` on, each at most once, until the visitor has looked at
    /// enough. Returns where the next round begins: with the slot that was cut short, if one was.
    fn visit_round(
        &self,
        from: usize,
        mut visit: impl FnMut(&Slot, &mut usize) -> ControlFlow<()>,
    ) -> usize {
        let mut looked_at = 0;
        let count = self.slots.len().max(1);
        for step in 0..self.slots.len() {
            let at = (from + step) % count;
            let Some(Some(slot)) = self.slots.get(at) else {
                continue;
            };
            if visit(slot, &mut looked_at).is_break() {
                return at;
            }
            if looked_at >= LOOKED_AT_MAX {
                return (at + 1) % count;
            }
        }
        from
    }
}
