//! When a producer sends.

use std::rc::Rc;
use std::task::Poll;

use ringmq::rt;

use super::Worker;
use crate::flow::{Flow, Window};
use crate::pace::Schedule;
use crate::scenario::Calls;

/// Tells one producer what is due. While it lives, its producer may send.
#[derive(Debug)]
pub(crate) struct Pacer {
    worker: Rc<Worker>,
    window: Rc<Window>,
    /// None: a closed loop.
    schedule: Option<Schedule>,
    batch: usize,
    /// Room for fewer messages is waited out.
    least: usize,
    /// The alarm that is set.
    alarm_ns: u64,
}

impl Pacer {
    /// The pacer of a producer of this flow; `None` when there is no such producer.
    pub(crate) fn new(worker: &Rc<Worker>, flow: &Flow, producer: u32) -> Option<Self> {
        let scenario = worker.scenario();
        let window = flow.window(producer)?.clone();
        let producers = scenario.producers.saturating_mul(scenario.channels);
        let place = flow.number * scenario.producers + producer;
        let seconds = scenario.warm_up + scenario.duration;
        let schedule = Schedule::new(&scenario.load, seconds, producers, place, scenario.seed);
        let batch = usize::try_from(scenario.batch.max(1)).unwrap_or(usize::MAX);
        let least = match (&schedule, scenario.calls) {
            (None, Calls::Stream) if scenario.pattern.is_streamed() => window.batch(number(batch)),
            _ => 1,
        };
        worker.producer_begins();
        Some(Self {
            worker: worker.clone(),
            window,
            schedule,
            batch,
            least: usize::try_from(least).unwrap_or(usize::MAX),
            alarm_ns: 0,
        })
    }

    /// Waits until something may be sent; fills `due` with up to a batch of intended times. They
    /// count as intended with that. `None`: the run is over, or the producer's stream is gone.
    pub(crate) async fn next(&mut self, due: &mut Vec<u64>) -> Option<()> {
        due.clear();
        loop {
            let now_ns = rt::now().as_ns();
            let (begin_ns, end_ns) = (self.worker.clock.begin_ns(), self.worker.clock.end_ns());
            if now_ns >= end_ns || self.worker.is_closing() || self.window.is_broken() {
                let room = self.window.room() > 0 && !self.window.is_broken();
                self.leave(room);
                return None;
            }
            if now_ns < begin_ns {
                // Woken when the beginning is known; set to it then.
                if begin_ns < u64::MAX {
                    self.alarm(begin_ns);
                }
                self.window.moved.wait().await;
                continue;
            }
            let room = usize::try_from(self.window.room()).unwrap_or(usize::MAX);
            if room < self.least {
                self.window.wait_for_room(number(self.least));
                self.window.moved.wait().await;
                continue;
            }
            let count = room.min(self.batch);
            let Some(schedule) = &mut self.schedule else {
                due.resize(count, now_ns);
                self.hand_out(due, now_ns);
                return Some(());
            };
            let mut next_ns = begin_ns.saturating_add(schedule.peek_ns());
            while due.len() < count && next_ns <= now_ns {
                due.push(next_ns);
                schedule.pop();
                next_ns = begin_ns.saturating_add(schedule.peek_ns());
            }
            if !due.is_empty() {
                self.hand_out(due, now_ns);
                return Some(());
            }
            // The end wakes those whose next message is after it.
            if next_ns < end_ns {
                self.alarm(next_ns);
            }
            self.window.moved.wait().await;
        }
    }

    fn hand_out(&self, due: &[u64], now_ns: u64) {
        let open_loop = self.schedule.is_some();
        let room_ns = self.window.room_ns();
        self.worker.meter.due(due, room_ns, now_ns, open_loop);
    }

    fn alarm(&mut self, due_ns: u64) {
        if self.alarm_ns != due_ns {
            self.alarm_ns = due_ns;
            self.worker.clock.alarm(due_ns, &self.window.moved);
        }
    }

    /// Waits until the transport has taken what is handed to it. Time spent here is the server's:
    /// it does not read.
    pub(crate) async fn hand_over<T>(&mut self, sending: impl Future<Output = T>) -> T {
        let mut sending = std::pin::pin!(sending);
        let mut waited = false;
        let result = std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = sending.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            waited = true;
            // Whoever is stuck here at the end counts then what it could not send.
            while self.window.moved.poll(cx).is_ready() {
                if rt::now().as_ns() >= self.worker.clock.end_ns() {
                    self.leave(false);
                }
            }
            Poll::Pending
        })
        .await;
        if waited {
            self.window.room_from(rt::now().as_ns());
        }
        result
    }

    /// Counts, once, what was due before the end and was not sent.
    fn leave(&mut self, room: bool) {
        let Some(mut schedule) = self.schedule.take() else {
            return;
        };
        let now_ns = rt::now().as_ns();
        let clock = &self.worker.clock;
        let until_ns = clock.end_ns().min(now_ns);
        loop {
            let due_ns = clock.begin_ns().saturating_add(schedule.peek_ns());
            if due_ns >= until_ns {
                return;
            }
            self.worker.meter.unsent(due_ns, now_ns, room);
            schedule.pop();
        }
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.worker.producer_ends();
    }
}
