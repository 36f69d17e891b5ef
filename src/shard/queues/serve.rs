//! From the log to those who poll: whoever has the turn gets what is visible, up to its maximum.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use ringmq_storage::Sequence;
use ringmq_storage::log::{ReadCursor, ReadEnd, Stored, Warm};
use ringmq_storage::record::queue::QueueHead;

use super::answer::Answer;
use super::seat::{Asked, QueueSeat};
use super::{Delivery, HandedMessage, Polled};
use crate::engine::feeds::Address;
use crate::engine::queues::MESSAGE_ENCODING;
use crate::engine::queues::dispatcher::{Dispatcher, Taken, Turn};
use crate::rt::{self, Queue};
use crate::shard::Shard;
use crate::shard::stored::{LogSeat, record};

/// How long polls are served before sockets are looked at again.
const SERVE_TURN: Duration = Duration::from_micros(400);

/// Messages that are taken for an answer before it is looked whether they fit: putting back costs
/// a little.
const TAKE_MAX: usize = 256;

/// An answer that is being made.
#[derive(Debug)]
pub(super) struct Serving {
    pub turn: Turn<Address>,
    pub asked: Asked,
    answer: Answer,
    /// What was taken last, and how much of it was read.
    taken: Vec<Taken>,
    read: usize,
    /// There is nothing behind what was taken.
    is_all: bool,
    /// Some of it cannot be read.
    met_damage: bool,
    cursor: ReadCursor,
    began: rt::Instant,
}

/// How a step of an answer ended.
enum Step {
    More,
    Done,
    Cold(Warm),
}

impl Serving {
    /// Everything that was taken and not put back.
    pub(super) fn sequences(&self) -> Vec<Sequence> {
        let unread = self.taken.iter().skip(self.read);
        let unread = unread.map(|taken| taken.sequence);
        self.answer
            .sequences
            .iter()
            .copied()
            .chain(unread)
            .collect()
    }

    /// What is to be read next: how many bodies lie in a row, the first and the last of them.
    fn run(&self) -> Option<(usize, Sequence, Sequence)> {
        let mut rest = self.taken.iter().skip(self.read);
        let first = rest.next()?.body;
        let (mut count, mut last) = (1, first);
        for taken in rest {
            if taken.body != last.next() {
                break;
            }
            last = taken.body;
            count += 1;
        }
        Some((count, first, last))
    }
}

impl QueueSeat {
    /// Takes answers out that are being made.
    pub(super) fn stop_serving(
        &mut self,
        whose: impl Fn(&Serving) -> bool,
    ) -> VecDeque<Box<Serving>> {
        if self.active.is_empty() && self.cold.is_empty() {
            return VecDeque::new();
        }
        let active = std::mem::take(&mut self.active).into_iter();
        let (mut stopped, kept): (VecDeque<_>, _) = active.partition(|it| whose(it));
        self.active = kept;
        let cold = self.cold.extract_if(|_, it| whose(it));
        stopped.extend(cold.map(|(_, it)| it));
        stopped
    }
}

impl Shard {
    /// Serves polls, for ever. One task for each log runs this.
    pub(in crate::shard) async fn run_queues(self: Rc<Self>, seat: Rc<LogSeat>) {
        loop {
            seat.queues_ready.wait().await;
            let mut began = rt::now();
            while self.serve_next(&seat) {
                if rt::now().since(began) > SERVE_TURN {
                    record(&self.latencies.storage_turn, began);
                    rt::reactor_yield().await;
                    began = rt::now();
                }
            }
            self.answer_hasty(&seat);
            self.write_decisions_soon(&seat);
        }
    }

    /// Gives the next waiter its turn and makes a step of an answer; `false` when there is none.
    fn serve_next(self: &Rc<Self>, seat: &Rc<LogSeat>) -> bool {
        let serving = {
            let mut queues = seat.queues.borrow_mut();
            let queues = &mut *queues;
            if let Some(serving) = self.next_serving(queues) {
                queues.active.push_back(serving);
            }
            queues.active.pop_front()
        };
        let Some(mut serving) = serving else {
            return false;
        };
        match self.make_step(seat, &mut serving) {
            Step::More => seat.queues.borrow_mut().active.push_back(serving),
            Step::Done => self.finish_answer(seat, *serving),
            Step::Cold(warm) => self.warm_for_poll(seat, serving, warm),
        }
        true
    }

    fn next_serving(&self, queues: &mut QueueSeat) -> Option<Box<Serving>> {
        let turn = queues.dispatcher.next_turn(self.queue_now_ns())?;
        let place = (turn.request.consumer, turn.request.number);
        let asked = queues.polls.remove(&place);
        debug_assert!(asked.is_some(), "who waits is in the table");
        let asked = asked?;
        let (framing, items_max) = (self.stored.settings.queue_framing, turn.request.items_max);
        Some(Box::new(Serving {
            answer: Answer::new(framing, asked.field, items_max, asked.bytes_max),
            cursor: queues.take_cursor(turn.key),
            turn,
            asked,
            taken: Vec::new(),
            read: 0,
            is_all: false,
            met_damage: false,
            began: rt::now(),
        }))
    }

    /// Reads the next messages in a row into the answer.
    fn make_step(&self, seat: &LogSeat, serving: &mut Serving) -> Step {
        if serving.read >= serving.taken.len() && !self.take_more(seat, serving) {
            return Step::Done;
        }
        let Some((count, from, upto)) = serving.run() else {
            return Step::Done;
        };
        let key = serving.turn.key;
        let log = seat.log.borrow();
        let slots = seat.slots.borrow();
        let Some(channel) = slots.channel(key) else {
            return Step::Done;
        };
        let mut queues = seat.queues.borrow_mut();
        let Serving {
            turn,
            answer,
            taken,
            read,
            cursor,
            ..
        } = serving;
        let mut reading = Reading {
            channel: &channel.name,
            dispatcher: &mut queues.dispatcher,
            turn,
            run: taken.get(..*read + count).unwrap_or_default(),
            read,
            is_full: false,
            damaged: 0,
            redelivered: 0,
            answer,
        };
        let room = reading.answer.room();
        let end = log.read(key, from, upto, cursor, room, &mut |stored| {
            reading.visit(&stored);
        });
        let lost_upto = match &end {
            // What is taken is stored: a body that is not there is lost.
            ReadEnd::CaughtUp => Some(upto),
            ReadEnd::Damaged { last, .. } => Some((*last).min(upto)),
            ReadEnd::More | ReadEnd::Cold(_) => None,
        };
        let is_full = reading.is_full;
        if let Some(upto) = lost_upto
            && !is_full
        {
            reading.lose(upto);
        }
        let (damaged, redelivered) = (reading.damaged, reading.redelivered);
        self.counters.queue_redelivered.add(redelivered);
        if damaged > 0 {
            serving.met_damage = true;
            self.report_lost_bodies(seat, &channel.name, (from, upto), damaged);
        }
        match end {
            _ if is_full => {
                put_rest_back(&mut queues.dispatcher, serving, self.queue_now_ns());
                Step::Done
            }
            ReadEnd::Cold(warm) => Step::Cold(warm),
            _ => Step::More,
        }
    }

    /// Takes what is visible next; `false` when there is nothing, or no use for it.
    fn take_more(&self, seat: &LogSeat, serving: &mut Serving) -> bool {
        let items_max = usize::try_from(serving.turn.request.items_max).unwrap_or(usize::MAX);
        let have = serving.answer.sequences.len();
        let want = items_max.saturating_sub(have).min(TAKE_MAX);
        let is_full = have > 0 && serving.answer.room() == 0;
        if serving.is_all || is_full || want == 0 {
            return false;
        }
        serving.taken.clear();
        serving.read = 0;
        let slots = seat.slots.borrow();
        let Some(state) = slots.queue(serving.turn.key) else {
            return false;
        };
        let mut queues = seat.queues.borrow_mut();
        let (now_ns, taken) = (self.queue_now_ns(), &mut serving.taken);
        queues
            .dispatcher
            .take(&serving.turn, want, state, now_ns, taken);
        serving.is_all = serving.taken.len() < want;
        !serving.taken.is_empty()
    }

    fn finish_answer(&self, seat: &LogSeat, mut serving: Serving) {
        let key = serving.turn.key;
        let peek = serving.turn.request.peek;
        let now_ns = self.queue_now_ns();
        let mut queues = seat.queues.borrow_mut();
        queues.keep_cursor(key, std::mem::take(&mut serving.cursor));
        // A peek leaves what is damaged where it is: it would meet it again at once.
        let waits_on = !(peek && serving.met_damage);
        if serving.answer.sequences.is_empty() && waits_on {
            // All that was there had expired, or cannot be read.
            queues.dispatcher.requeue_waiter(&serving.turn);
            let place = (serving.turn.request.consumer, serving.turn.request.number);
            queues.polls.insert(place, serving.asked);
            return;
        }
        let leased = queues.dispatcher.leased(&serving.turn, now_ns);
        let expired = queues.dispatcher.expired_since(key);
        drop(queues);
        serving.answer.finish();
        let Answer {
            parts,
            bytes,
            sequences,
            ..
        } = serving.answer;
        let count = u64::try_from(sequences.len()).unwrap_or(u64::MAX);
        let delivery = (leased > 0).then_some(Delivery {
            log: seat.number,
            key,
            number: serving.turn.delivery,
        });
        debug_assert_eq!(delivery.is_none(), peek, "what is handed out is leased");
        if peek {
            self.counters.queue_peeked.add(count);
        } else {
            self.counters.queue_delivered.add(count);
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            self.counters.queue_delivered_bytes.add(bytes);
        }
        let polled = Polled {
            delivery,
            sequences,
            parts,
            bytes,
            expired,
        };
        self.answer_poll(&serving.asked, Ok(polled));
        record(&self.latencies.queue_poll, serving.began);
    }

    /// Brings what is read next into memory, off the executor, and goes on with the answer.
    fn warm_for_poll(self: &Rc<Self>, seat: &Rc<LogSeat>, mut serving: Box<Serving>, warm: Warm) {
        // Delayed messages come due all over the log, and mostly nobody has asked for their memory
        // in the meantime.
        if warm.is_resident() {
            seat.log
                .borrow_mut()
                .warmed(warm.run(), &mut serving.cursor);
            seat.queues.borrow_mut().active.push_front(serving);
            return;
        }
        let number = serving.turn.delivery;
        seat.queues.borrow_mut().cold.insert(number, serving);
        let (shard, seat) = (self.clone(), seat.clone());
        rt::spawn(Queue::Serve, "warm", async move {
            shard.count_warm(&warm);
            let warmed = rt::blocking(move || warm.run()).await;
            let mut log = seat.log.borrow_mut();
            let mut queues = seat.queues.borrow_mut();
            // Its consumer, or its queue, may have gone in the meantime.
            if let Some(mut serving) = queues.cold.remove(&number) {
                if let Some(warmed) = warmed {
                    log.warmed(warmed, &mut serving.cursor);
                }
                queues.active.push_back(serving);
            }
            drop(queues);
            drop(log);
            seat.queues_ready.raise();
        });
    }

    fn report_lost_bodies(
        &self,
        seat: &LogSeat,
        channel: &str,
        (first, last): (Sequence, Sequence),
        count: u64,
    ) {
        self.counters.damaged_messages.add(count);
        tracing::error!(
            channel,
            log = seat.number,
            count,
            %first,
            %last,
            "messages of a queue are damaged and were left out; run `ringmq store verify`"
        );
    }
}

fn put_rest_back(dispatcher: &mut Dispatcher<Address>, serving: &Serving, now_ns: u64) {
    let rest = serving.taken.iter().skip(serving.read);
    let rest: Vec<Sequence> = rest.map(|taken| taken.sequence).collect();
    dispatcher.put_back(&serving.turn, &rest, now_ns);
}

/// One call of the log's reader.
struct Reading<'a> {
    channel: &'a str,
    dispatcher: &'a mut Dispatcher<Address>,
    turn: &'a Turn<Address>,
    /// What was taken, up to the end of the run.
    run: &'a [Taken],
    read: &'a mut usize,
    answer: &'a mut Answer,
    is_full: bool,
    damaged: u64,
    redelivered: u64,
}

impl Reading<'_> {
    fn visit(&mut self, stored: &Stored<'_>) {
        if self.is_full {
            return;
        }
        // What the log does not show, it has lost.
        if stored.sequence.get() > 0 {
            self.lose(Sequence::new(stored.sequence.get() - 1));
        }
        let Some(taken) = self.run.get(*self.read).copied() else {
            return;
        };
        if taken.body != stored.sequence {
            return;
        }
        let len = u32::try_from(stored.payload.len()).unwrap_or(u32::MAX);
        let known = stored.encoding == MESSAGE_ENCODING;
        let Some((head, body)) = QueueHead::decode(stored.payload).ok().filter(|_| known) else {
            self.dispatcher.damaged(self.turn, taken.sequence, len);
            self.damaged += 1;
            *self.read += 1;
            return;
        };
        if taken.receives >= head.receives_max && !self.turn.request.peek {
            // Counted before a crash that forgot its consequence.
            self.dispatcher.exhausted(self.turn, taken.sequence, len);
            *self.read += 1;
            return;
        }
        let message = HandedMessage {
            channel: self.channel,
            sequence: taken.sequence.get(),
            timestamp_ns: stored.timestamp_ns,
            receives: taken.receives.saturating_add(1),
            head,
            body,
        };
        let shared = || stored.share(body);
        if self.answer.push(&message, shared) {
            let max = head.receives_max;
            self.redelivered += u64::from(taken.receives > 0);
            self.dispatcher.handed(self.turn, taken.sequence, len, max);
            *self.read += 1;
        } else {
            self.is_full = true;
        }
    }

    /// The bodies up to `upto` cannot be read.
    fn lose(&mut self, upto: Sequence) {
        while let Some(taken) = self.run.get(*self.read)
            && taken.body <= upto
        {
            self.dispatcher.damaged(self.turn, taken.sequence, 0);
            self.damaged += 1;
            *self.read += 1;
        }
    }
}
