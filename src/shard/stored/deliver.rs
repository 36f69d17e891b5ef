//! From the log to the receivers, at the pace of each.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ringmq_storage::Sequence;
use ringmq_storage::log::{ReadEnd, Stored, Warm};

use super::receiver::StoredChunk;
use super::seat::LogSeat;
use super::{Framing, record};
use crate::engine::feeds::{Address, ReceiverKey, Turn};
use crate::rt::{self, Queue};
use crate::shard::Shard;
use crate::shard::message::Note;
use crate::shard::outbox::SHARED_MIN_BYTES;

/// How long receivers are served before sockets are looked at again.
const DELIVER_TURN: Duration = Duration::from_micros(400);

/// What framing adds to a message, about: one reservation instead of two.
const FRAMING_BYTES: usize = 64;

/// A chunk begins with this much memory when more than a few messages wait.
const CHUNK_BYTES: usize = 64 << 10;

/// Messages that wait from which on a chunk is taken to become a full one.
const MANY: u64 = 16;

impl Shard {
    /// Gives receivers their turns, for ever. One task for each log runs this.
    pub(super) async fn run_deliveries(self: Rc<Self>, seat: Rc<LogSeat>) {
        loop {
            seat.deliver_ready.wait().await;
            let mut began = rt::now();
            loop {
                let turn = seat.feeds.borrow_mut().next();
                let Some(turn) = turn else { break };
                self.take_turn(&seat, &turn);
                if rt::now().since(began) > DELIVER_TURN {
                    record(&self.latencies.storage_turn, began);
                    rt::reactor_yield().await;
                    began = rt::now();
                }
            }
        }
    }

    fn take_turn(self: &Rc<Self>, seat: &Rc<LogSeat>, turn: &Turn) {
        let waiting = turn.upto.get().saturating_sub(turn.from.get());
        let mut chunk = Chunk::new(self.stored.settings.framing, waiting >= MANY);
        let mut feeds = seat.feeds.borrow_mut();
        let Some(cursor) = feeds.reader(turn.receiver) else {
            // It left since: the turn is answered all the same.
            feeds.parked(turn.receiver);
            return;
        };
        let end = seat.log.borrow().read(
            turn.channel,
            turn.from,
            turn.upto,
            cursor,
            turn.bytes_max,
            &mut |stored| chunk.push(&stored),
        );
        let sent = chunk.range.is_some();
        if let Some((first, last)) = chunk.range {
            let (count, bytes, parts) = chunk.finish();
            let mark = feeds.sent(turn.receiver, first, last, bytes);
            if let Some(channel) = seat.slots.borrow().channel(turn.channel) {
                self.channels.count_deliveries(&channel.name, count, bytes);
            }
            let chunk = StoredChunk {
                mark: mark.get(),
                count,
                bytes,
                parts,
            };
            self.send_chunk(turn.address, chunk);
        }
        match end {
            ReadEnd::CaughtUp | ReadEnd::More if sent => {}
            ReadEnd::CaughtUp | ReadEnd::More => feeds.caught_up(turn.receiver),
            ReadEnd::Cold(warm) => {
                feeds.parked(turn.receiver);
                self.warm_for(seat, turn.receiver, warm);
            }
            ReadEnd::Damaged { first, last } => {
                feeds.skipped(turn.receiver, first, last);
                drop(feeds);
                self.report_damage(seat, turn, first, last);
            }
        }
    }

    fn report_damage(&self, seat: &LogSeat, turn: &Turn, first: Sequence, last: Sequence) {
        let count = last.get().saturating_sub(first.get()).saturating_add(1);
        self.counters.damaged_messages.add(count);
        let slots = seat.slots.borrow();
        let channel = slots.channel(turn.channel).map_or("", |found| &found.name);
        tracing::error!(
            channel,
            log = seat.number,
            %first,
            %last,
            "stored messages are damaged and were left out; run `ringmq store verify`"
        );
    }

    fn send_chunk(&self, to: Address, chunk: StoredChunk) {
        match self.lane(to.core) {
            None => self.chunk_here(to.key, chunk),
            // Bounded by the receiver's credit.
            Some(lane) => lane.push_note(Note::Chunk {
                key: to.key,
                chunk: Box::new(chunk),
            }),
        }
    }

    /// Brings what a receiver reads next into memory, off the executor, and lets it go on.
    fn warm_for(self: &Rc<Self>, seat: &Rc<LogSeat>, receiver: ReceiverKey, warm: Warm) {
        let (shard, seat) = (self.clone(), seat.clone());
        rt::spawn(Queue::Serve, "warm", async move {
            shard.count_warm(&warm);
            let warmed = rt::blocking(move || warm.run()).await;
            let mut log = seat.log.borrow_mut();
            let mut feeds = seat.feeds.borrow_mut();
            if let (Some(warmed), Some(cursor)) = (warmed, feeds.reader(receiver)) {
                log.warmed(warmed, cursor);
            }
            feeds.resume(receiver);
            drop(feeds);
            drop(log);
            seat.deliver_ready.raise();
        });
    }
}

/// Complete frames for one receiver. Small messages are gathered, large ones stay in the mapping.
struct Chunk {
    framing: Framing,
    tail: BytesMut,
    parts: Vec<Bytes>,
    range: Option<(Sequence, Sequence)>,
    count: u64,
    bytes: usize,
}

impl Chunk {
    fn new(framing: Framing, many: bool) -> Self {
        Self {
            framing,
            tail: BytesMut::with_capacity(if many { CHUNK_BYTES } else { 0 }),
            parts: Vec::new(),
            range: None,
            count: 0,
            bytes: 0,
        }
    }

    fn push(&mut self, stored: &Stored<'_>) {
        let (timestamp, sequence) = (stored.timestamp_ns, stored.sequence.get());
        let len = stored.payload.len();
        let before = self.tail.len();
        if len < SHARED_MIN_BYTES {
            self.tail.reserve(len + FRAMING_BYTES);
        }
        (self.framing.before)(len, timestamp, sequence, &mut self.tail);
        if len < SHARED_MIN_BYTES {
            self.tail.extend_from_slice(stored.payload);
            (self.framing.after)(timestamp, sequence, &mut self.tail);
            self.bytes += self.tail.len() - before;
        } else {
            self.bytes += self.tail.len() - before + len;
            self.parts.push(self.tail.split().freeze());
            self.parts.push(stored.shared());
            (self.framing.after)(timestamp, sequence, &mut self.tail);
            self.bytes += self.tail.len();
        }
        self.count += 1;
        let first = self.range.map_or(stored.sequence, |(first, _)| first);
        self.range = Some((first, stored.sequence));
    }

    fn finish(mut self) -> (u64, usize, Vec<Bytes>) {
        if !self.tail.is_empty() {
            self.parts.push(self.tail.freeze());
        }
        (self.count, self.bytes, self.parts)
    }
}
