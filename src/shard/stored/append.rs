//! From the publisher into the log of the channel's shard.

use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use ringmq_storage::SlotId;
use ringmq_storage::log::Refused;

use super::seat::LogSeat;
use super::{EVENT_ENCODING, ReceiptAddress, Receipts, StoreBusy, StoreFailure, WAITERS_MAX};
use crate::engine::stored::{NewMessage, StoreRefusal, StoredKind};
use crate::rt;
use crate::shard::message::Work;
use crate::shard::{Full, QUEUE_ENCODING, Shard};

/// A message on its way to the shard that has its log, or waiting there for room.
#[derive(Debug)]
pub(in crate::shard) struct StoreWork {
    /// The channel's name, then the stored form: one allocation.
    pub data: Bytes,
    pub name_len: u32,
    pub slot: SlotId,
    pub kind: StoredKind,
    pub receipt: ReceiptAddress,
}

impl StoreWork {
    fn split(&self) -> Option<(&str, &[u8])> {
        let at = usize::try_from(self.name_len).ok()?;
        let (name, payload) = self.data.split_at_checked(at)?;
        Some((std::str::from_utf8(name).ok()?, payload))
    }
}

/// A message to append.
struct Message<'a> {
    slot: SlotId,
    kind: StoredKind,
    channel: &'a str,
    payload_len: usize,
    receipt: ReceiptAddress,
}

impl Shard {
    /// Stores a message. `encode` appends its stored form of exactly `payload_len` bytes; it runs
    /// once, and only when the message is taken. The next of `receipts` tells what became of it.
    ///
    /// # Errors
    /// [`StoreBusy`]: nothing was taken; wait with [`Shard::store_room`] and try again.
    pub fn store_message(
        self: &Rc<Self>,
        kind: StoredKind,
        channel: &str,
        payload_len: usize,
        encode: &mut dyn FnMut(&mut Vec<u8>),
        receipts: &Receipts,
    ) -> Result<(), StoreBusy> {
        if !self.stored.has_room(payload_len) {
            return Err(StoreBusy);
        }
        let slot = self.placement.slot(channel);
        let owner = self.stored_owner(slot);
        if let Some(lane) = self.lane(owner) {
            if !lane.has_room(channel.len() + payload_len) {
                return Err(StoreBusy);
            }
            let receipt = receipts.expect(payload_len);
            let work = store_work((kind, slot), channel, payload_len, encode, receipt);
            if let Err(Full) = lane.push_work(Work::Store(work)) {
                // It was asked for room before; a receipt that is given must get its outcome.
                self.complete(receipt, 1, Err(StoreFailure::Busy));
            }
            return Ok(());
        }
        let Some(seat) = self.stored.seat_of(slot) else {
            return Err(StoreBusy);
        };
        let receipt = receipts.expect(payload_len);
        let message = Message {
            slot,
            kind,
            channel,
            payload_len,
            receipt,
        };
        // What came first stays first: behind a message that waits, all wait.
        let waits = seat.must_wait();
        if waits || self.append(seat, &message, encode).is_err() {
            let work = store_work((kind, slot), channel, payload_len, encode, receipt);
            seat.backlog.borrow_mut().push_back(work);
        }
        Ok(())
    }

    /// Waits until a message of `bytes` for `channel` may be taken.
    ///
    /// # Errors
    /// When too many wait already.
    pub async fn store_room(&self, channel: &str, bytes: usize) -> Result<(), Full> {
        let mut registered = false;
        std::future::poll_fn(|cx| {
            if self.stored.has_room(bytes) {
                return Poll::Ready(Ok(()));
            }
            let mut waiters = self.stored.room.borrow_mut();
            if !registered && waiters.len() >= WAITERS_MAX {
                return Poll::Ready(Err(Full));
            }
            registered = true;
            waiters.push_back(cx.waker().clone());
            Poll::Pending
        })
        .await?;
        let owner = self.stored_owner(self.placement.slot(channel));
        match self.lane(owner) {
            Some(lane) => lane.room(channel.len() + bytes).await,
            None => Ok(()),
        }
    }

    /// A message that came from another core.
    pub(in crate::shard) fn store_here(&self, work: StoreWork) {
        let Some(seat) = self.stored.seat_of(work.slot) else {
            return;
        };
        if seat.must_wait() || self.append_work(seat, &work).is_err() {
            seat.backlog.borrow_mut().push_back(work);
        }
    }

    /// Appends what waited for room, as far as there is room now.
    pub(super) fn append_backlog(&self, seat: &LogSeat) {
        while !seat.held.get() {
            let Some(work) = seat.backlog.borrow_mut().pop_front() else {
                return;
            };
            if self.append_work(seat, &work).is_err() {
                seat.backlog.borrow_mut().push_front(work);
                return;
            }
        }
    }

    fn append_work(&self, seat: &LogSeat, work: &StoreWork) -> Result<(), StoreBusy> {
        let Some((channel, payload)) = work.split() else {
            return Ok(());
        };
        let message = Message {
            slot: work.slot,
            kind: work.kind,
            channel,
            payload_len: payload.len(),
            receipt: work.receipt,
        };
        self.append(seat, &message, &mut |out| out.extend_from_slice(payload))
    }

    /// Appends a message to the log, or refuses it. [`StoreBusy`]: it must wait, nothing happened.
    fn append(
        &self,
        seat: &LogSeat,
        message: &Message<'_>,
        write: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<(), StoreBusy> {
        let policy = self.stored.policy(seat, message.channel);
        let prepared = {
            let mut log = seat.log.borrow_mut();
            let mut slots = seat.slots.borrow_mut();
            let request = NewMessage {
                slot: message.slot,
                kind: message.kind,
                channel: message.channel,
                now_ns: rt::unix_ns().cast_unsigned(),
                encoding: match message.kind {
                    StoredKind::Queue => QUEUE_ENCODING,
                    // The other kinds store nothing.
                    _ => EVENT_ENCODING,
                },
                payload_len: u32::try_from(message.payload_len).unwrap_or(u32::MAX),
                moved: None,
                limits: &policy.limits,
            };
            let prepared = slots.prepare_message(&mut *log, request, write);
            prepared.map(|accepted| (accepted, log.end()))
        };
        match prepared {
            Ok((accepted, end)) => {
                let received_bytes = match message.kind {
                    StoredKind::Queue => &self.counters.queue_received_bytes,
                    _ => &self.counters.events_store_received_bytes,
                };
                received_bytes.add(message.payload_len.try_into().unwrap_or(u64::MAX));
                if accepted.overflow > 0 {
                    self.drop_oldest(seat, accepted.key, accepted.overflow);
                }
                seat.wait_for(message.receipt, message.kind, end);
                seat.commit_ready.raise();
                Ok(())
            }
            Err(StoreRefusal::Log(Refused::Busy)) => {
                seat.jobs_ready.raise();
                Err(StoreBusy)
            }
            Err(refusal) => {
                // Receipts have numbers: this one may overtake those that wait for their commit.
                self.complete(message.receipt, 1, Err(refusal.into()));
                seat.jobs_ready.raise();
                Ok(())
            }
        }
    }

    /// The shard that has the log of a slot.
    pub(in crate::shard) fn stored_owner(&self, slot: SlotId) -> u16 {
        let placement = self.stored.placement;
        placement.owner_of(placement.log_of(slot)).number()
    }
}

fn store_work(
    (kind, slot): (StoredKind, SlotId),
    channel: &str,
    payload_len: usize,
    encode: &mut dyn FnMut(&mut Vec<u8>),
    receipt: ReceiptAddress,
) -> StoreWork {
    let mut data = Vec::with_capacity(channel.len() + payload_len);
    data.extend_from_slice(channel.as_bytes());
    encode(&mut data);
    debug_assert_eq!(data.len(), channel.len() + payload_len);
    StoreWork {
        data: data.into(),
        name_len: u32::try_from(channel.len()).unwrap_or(0),
        slot,
        kind,
        receipt,
    }
}
