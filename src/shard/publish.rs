//! Plain events: from the publisher to the outboxes.

use bytes::{Bytes, BytesMut};

use super::Shard;
use super::lane::Full;
use super::message::{ChannelAt, Work};
use super::outbox::{Offered, Outbox, SHARED_MIN_BYTES};
use super::subscribe::Local;
use super::taps::TappedWhat;
use crate::engine::subscriptions::SubscriberAddress;
use crate::model::Kind;
use crate::wire::chunks::Pieces;

/// A frame on its way to several subscribers: encoded once, shared from the second core on.
pub(super) enum Encoded<'a> {
    /// In the scratch buffer; copied once when it must outlive the call.
    Scratch(&'a mut BytesMut),
    /// In memory of its own.
    Shared(Bytes),
}

impl Encoded<'_> {
    fn shared(&mut self, pieces: &mut Pieces) -> Bytes {
        if let Self::Scratch(scratch) = self {
            let (copy, ()) = pieces.make(scratch.len(), |out| out.extend_from_slice(scratch));
            *self = Self::Shared(copy);
        }
        match self {
            Self::Shared(bytes) => bytes.clone(),
            Self::Scratch(_) => Bytes::new(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Scratch(scratch) => scratch.len(),
            Self::Shared(frame) => frame.len(),
        }
    }

    fn offer(&mut self, outbox: &Outbox) -> Offered {
        match self {
            // A large frame moves into memory that all its subscribers share.
            Self::Scratch(scratch) if scratch.len() >= SHARED_MIN_BYTES => {
                *self = Self::Shared(scratch.split().freeze());
                self.offer(outbox)
            }
            Self::Scratch(scratch) => outbox.offer_copy(scratch),
            Self::Shared(frame) => outbox.offer_shared(frame),
        }
    }
}

impl Shard {
    /// Publishes an event to `channel`. `encode` appends the frame that subscribers get, of `len`
    /// bytes, and says where in it the channel stands; it runs only when somebody may want the
    /// event, and once.
    ///
    /// # Errors
    /// [`Full`]: the lane to the channel's owner has no room; nothing was sent. Wait with
    /// [`Shard::room`] and try again, or refuse the publisher.
    pub fn publish(
        &self,
        channel: &str,
        len: usize,
        encode: impl FnOnce(&mut BytesMut) -> ChannelAt,
    ) -> Result<(), Full> {
        let owner = self.owner(channel).number();
        if let Some(lane) = self.lane(owner) {
            if !lane.has_room(len) {
                return Err(Full);
            }
            let (frame, channel) = self.pieces.borrow_mut().make(len, encode);
            return lane.push_work(Work::Publish { frame, channel });
        }
        if self.taps.any(Kind::Events) {
            let (frame, channel) = self.pieces.borrow_mut().make(len, encode);
            self.publish_here(frame, channel);
            return Ok(());
        }
        self.select(Kind::Events, channel, len, |shard, chosen| {
            if let [only] = chosen
                && only.core == shard.id
            {
                return shard.deliver_only(only.key, len, |out| {
                    encode(out);
                });
            }
            let mut scratch = shard.scratch.borrow_mut();
            scratch.clear();
            encode(&mut scratch);
            shard.deliver(chosen, Encoded::Scratch(&mut scratch));
        });
        Ok(())
    }

    /// An event that came from another shard, for a channel that this one owns.
    pub(super) fn publish_here(&self, frame: Bytes, channel: ChannelAt) {
        // Borrowed from a clone of the handle, so that the frame itself can be moved on.
        let name = frame.clone();
        let Some(channel) = channel.read(&name) else {
            return;
        };
        if self.taps.any(Kind::Events) {
            self.show(Kind::Events, channel, TappedWhat::Event, &frame);
        }
        let len = frame.len();
        self.select(Kind::Events, channel, len, move |shard, chosen| {
            shard.deliver(chosen, Encoded::Shared(frame));
        });
    }

    /// Finds who gets a message on `channel` and hands them to `then`, if there are any. Gives
    /// back whether anybody is subscribed at all.
    pub(super) fn select(
        &self,
        kind: Kind,
        channel: &str,
        len: usize,
        then: impl FnOnce(&Self, &[SubscriberAddress]),
    ) -> bool {
        let Some((_, table)) = self.table(kind) else {
            return false;
        };
        // Taken out of its cell: nothing below can want it, but a borrow would have to prove that.
        let mut chosen = self.chosen.take();
        let selection = table.borrow_mut().select(channel, &mut chosen);
        self.channels
            .count_message(kind, channel, len, chosen.len());
        let full = u64::try_from(selection.groups_full).unwrap_or(u64::MAX);
        if full > 0 {
            self.counters.drops_no_member_with_room.add(full);
        }
        if !chosen.is_empty() {
            then(self, &chosen);
        }
        self.chosen.replace(chosen);
        selection.matched > 0
    }

    /// Sends one frame to each of the chosen.
    pub(super) fn deliver(&self, chosen: &[SubscriberAddress], mut frame: Encoded<'_>) {
        let subscribers = self.subscribers.borrow();
        for address in chosen {
            if address.core != self.id {
                let frame = frame.shared(&mut self.pieces.borrow_mut());
                self.deliver_elsewhere(*address, frame);
            } else if let Some(local) = subscribers.find(address.key) {
                let len = frame.len();
                self.offered(local, address.key, len, frame.offer(&local.outbox));
            }
        }
    }

    /// Encodes a frame straight into the outbox of its only subscriber.
    fn deliver_only(&self, key: u64, len: usize, encode: impl FnOnce(&mut BytesMut)) {
        let subscribers = self.subscribers.borrow();
        if let Some(local) = subscribers.find(key) {
            self.offered(local, key, len, local.outbox.offer_encoded(len, encode));
        }
    }

    fn deliver_elsewhere(&self, address: SubscriberAddress, frame: Bytes) {
        let Some(lane) = self.lane(address.core) else {
            return;
        };
        if lane
            .push_work(Work::Deliver {
                key: address.key,
                frame,
            })
            .is_err()
        {
            self.counters.drops_mesh_full.increment();
        }
    }

    /// A frame that came from another shard for a subscriber of this core.
    pub(super) fn deliver_here(&self, key: u64, frame: &Bytes) {
        let subscribers = self.subscribers.borrow();
        // A subscriber that has just left: its `Unsubscribe` is on the way.
        let Some(local) = subscribers.find(key) else {
            return;
        };
        self.offered(local, key, frame.len(), local.outbox.offer_shared(frame));
    }

    /// Counts what became of a frame, and tells the owners when the subscriber's buffer got full.
    fn offered(&self, local: &Local, key: u64, len: usize, offered: Offered) {
        match offered {
            Offered::Taken if local.kind == Kind::Events => {
                self.counters.events_delivered.increment();
                self.counters
                    .events_delivered_bytes
                    .add(len.try_into().unwrap_or(u64::MAX));
            }
            Offered::Taken => {}
            Offered::SubscriberFull => self.counters.drops_subscriber_full.increment(),
            Offered::CoreFull => self.counters.drops_core_buffer_full.increment(),
        }
        self.report_fullness(local, key);
    }
}
