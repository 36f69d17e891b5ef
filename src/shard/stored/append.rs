//! From the publisher into the log of the channel's shard.

use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use ringmq_storage::SlotId;
use ringmq_storage::log::Refused;
use ringmq_storage::record::queue::MoveId;

use super::seat::LogSeat;
use super::{EVENT_ENCODING, InLine, ReceiptAddress, Receipts, StoreBusy, StoreFailure};
use crate::engine::queues::MESSAGE_ENCODING;
use crate::engine::stored::{NewMessage, StoreRefusal, StoredKind};
use crate::rt;
use crate::shard::message::Work;
use crate::shard::{Full, Shard};

/// A message on its way to the shard that has its log, or waiting there for room.
#[derive(Debug)]
pub(in crate::shard) struct StoreWork {
    /// The channel's name, then the stored form: one allocation.
    pub data: Bytes,
    pub name_len: u32,
    pub slot: SlotId,
    pub kind: StoredKind,
    /// The move that it comes by.
    pub moved: Option<MoveId>,
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
#[derive(Clone, Copy)]
struct Message<'a> {
    slot: SlotId,
    kind: StoredKind,
    channel: &'a str,
    payload_len: usize,
    moved: Option<MoveId>,
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
        self.store(kind, None, (channel, payload_len), encode, receipts)
    }

    /// Stores a message that comes from another queue, as [`store_message`](Self::store_message);
    /// its receipt comes when it is durable. One that has come before is not stored again.
    pub(in crate::shard) fn store_moved(
        self: &Rc<Self>,
        id: MoveId,
        queue: &str,
        payload_len: usize,
        encode: &mut dyn FnMut(&mut Vec<u8>),
        receipts: &Receipts,
    ) -> Result<(), StoreBusy> {
        let (kind, moved) = (StoredKind::Queue, Some(id));
        self.store(kind, moved, (queue, payload_len), encode, receipts)
    }

    fn store(
        self: &Rc<Self>,
        kind: StoredKind,
        moved: Option<MoveId>,
        (channel, payload_len): (&str, usize),
        encode: &mut dyn FnMut(&mut Vec<u8>),
        receipts: &Receipts,
    ) -> Result<(), StoreBusy> {
        let has_room = self.has_store_room(payload_len);
        self.stored.expected.set(false);
        if !has_room {
            return Err(StoreBusy);
        }
        self.admission.came_in_at_once();
        let slot = self.placement.slot(channel);
        let owner = self.stored_owner(slot);
        if let Some(lane) = self.lane(owner) {
            if !lane.has_room(channel.len() + payload_len) {
                return Err(StoreBusy);
            }
            let receipt = receipts.expect(payload_len);
            let message = Message {
                slot,
                kind,
                channel,
                payload_len,
                moved,
                receipt,
            };
            let work = store_work(&message, encode);
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
            moved,
            receipt,
        };
        // What came first stays first: behind a message that waits, all wait.
        let waits = seat.must_wait();
        if waits || self.append(seat, &message, encode).is_err() {
            let work = store_work(&message, encode);
            seat.backlog.borrow_mut().push_back(work);
        }
        Ok(())
    }

    /// Waits until a message of `bytes` for `channel` may be taken.
    ///
    /// # Errors
    /// When too many wait already.
    pub async fn store_room(&self, channel: &str, bytes: usize) -> Result<(), Full> {
        let waits = self.admission.wait();
        let mut place: Option<InLine<'_>> = None;
        std::future::poll_fn(|cx| match &place {
            None if self.has_store_room(bytes) => Poll::Ready(Ok(())),
            None => {
                place = InLine::join(self, bytes, cx.waker());
                match place {
                    Some(_) => Poll::Pending,
                    None => Poll::Ready(Err(Full)),
                }
            }
            Some(place) => place.poll(cx.waker()).map(Ok),
        })
        .await?;
        drop(place);
        waits.came_in();
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
            moved: work.moved,
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
                    StoredKind::Queue => MESSAGE_ENCODING,
                    // The other kinds store nothing.
                    _ => EVENT_ENCODING,
                },
                payload_len: u32::try_from(message.payload_len).unwrap_or(u32::MAX),
                moved: message.moved,
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
                if message.moved.is_some() {
                    self.move_arrived(seat, message.receipt, end);
                } else {
                    seat.wait_for(message.receipt, message.kind, end);
                }
                seat.commit_ready.raise();
                Ok(())
            }
            Err(StoreRefusal::AlreadyHere) => {
                // Its record may be on its way: the source hears when it is durable.
                let end = seat.log.borrow().end();
                self.move_arrived(seat, message.receipt, end);
                Ok(())
            }
            Err(StoreRefusal::Log(Refused::Busy)) => {
                // Its channel's record may be gathered already, and a large message waits until
                // that is committed.
                seat.commit_ready.raise();
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

fn store_work(message: &Message<'_>, encode: &mut dyn FnMut(&mut Vec<u8>)) -> StoreWork {
    let Message {
        slot,
        kind,
        channel,
        payload_len,
        moved,
        receipt,
    } = *message;
    let mut data = Vec::with_capacity(channel.len() + payload_len);
    data.extend_from_slice(channel.as_bytes());
    encode(&mut data);
    debug_assert_eq!(data.len(), channel.len() + payload_len);
    StoreWork {
        data: data.into(),
        name_len: u32::try_from(channel.len()).unwrap_or(0),
        slot,
        kind,
        moved,
        receipt,
    }
}
