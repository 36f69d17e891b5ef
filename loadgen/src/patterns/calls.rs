//! Unary calls: many at a time, and what becomes of those that end without an answer.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use ringmq::rt::{Notify, Queue, spawn};
use ringmq::wire::client::Client;
use ringmq::wire::status::{Code, Status};

use crate::flow::Flow;
use crate::worker::describe;

/// How long a message counts as in flight whose call found no way to the server: such calls end
/// at once, and a window that opened as fast would leave the core no time for anything else.
const NO_WAY: Duration = Duration::from_millis(10);

/// Tasks that make calls, each one at a time. There are as many as calls were open at once; a task
/// of its own for each call would cost as much as half the call.
#[derive(Debug)]
pub(super) struct Callers<J> {
    waiting: RefCell<VecDeque<J>>,
    /// Tasks without a call.
    idle: RefCell<Vec<Notify>>,
    closed: Cell<bool>,
}

impl<J: 'static> Callers<J> {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            waiting: RefCell::default(),
            idle: RefCell::default(),
            closed: Cell::new(false),
        })
    }

    /// Has a call made, now or as soon as the core gets to it. `make` says how, for a task that
    /// has to be started first.
    pub(super) fn call<F>(self: &Rc<Self>, job: J, make: impl FnOnce() -> F)
    where
        F: AsyncFn(J) + 'static,
    {
        self.waiting.borrow_mut().push_back(job);
        let idle = self.idle.borrow_mut().pop();
        match idle {
            Some(idle) => idle.raise(),
            None => spawn(Queue::Serve, "caller", self.clone().work(make())),
        }
    }

    /// No more calls: tasks end when theirs are through.
    pub(super) fn close(&self) {
        self.closed.set(true);
        for idle in self.idle.take() {
            idle.raise();
        }
    }

    async fn work(self: Rc<Self>, make: impl AsyncFn(J)) {
        let called = Notify::new();
        loop {
            let job = self.waiting.borrow_mut().pop_front();
            match job {
                Some(job) => make(job).await,
                None if self.closed.get() => return,
                None => {
                    self.idle.borrow_mut().push(called.clone());
                    called.wait().await;
                }
            }
        }
    }
}

/// A call with `count` messages of a producer failed. When its connection has ended, too, no other
/// call can follow: the producer is done.
pub(super) async fn failed(
    flow: &Flow,
    producer: u32,
    client: &Client,
    count: usize,
    status: &Status,
) {
    let text = describe(status);
    if status.code() == Code::Unavailable && !client.control().has_ended() {
        ringmq::rt::sleep(NO_WAY).await;
    }
    if client.control().has_ended() {
        return flow.producer_broke(producer, &text);
    }
    let broken = flow
        .window(producer)
        .is_none_or(|window| window.is_broken());
    if !broken && !flow.clock.is_closing() {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        flow.refused(producer, count, &text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use ringmq::rt;
    use ringmq::rt::start::{Plan, start};

    use super::*;

    #[test]
    fn as_many_callers_are_made_as_calls_are_open_at_once_and_all_of_them_end() {
        let plan = Plan {
            cpu: None,
            spin: None,
        };
        let (tx, made) = mpsc::channel();
        let executors = start(&[plan], vec![()], move |_, ()| {
            let tx = tx.clone();
            async move { tx.send(call_in_rounds().await).unwrap() }
        });
        executors.unwrap().join();
        assert_eq!(made.recv(), Ok(5));
    }

    /// Makes five calls at once, three times; gives back how many callers were made for that, when
    /// all of them have ended.
    async fn call_in_rounds() -> u64 {
        let callers = Callers::new();
        let (made, done) = (Cell::new(0), Rc::new(Cell::new(0)));
        for round in 1..=3 {
            for _ in 0..5 {
                callers.call(Duration::from_millis(2), || {
                    made.set(made.get() + 1);
                    let done = done.clone();
                    async move |pause| {
                        rt::sleep(pause).await;
                        done.set(done.get() + 1);
                    }
                });
            }
            while done.get() < 5 * round {
                rt::sleep(Duration::from_millis(1)).await;
            }
        }
        callers.close();
        while rt::task_stats().live > 0 {
            rt::sleep(Duration::from_millis(1)).await;
        }
        made.get()
    }
}
