//! The line: where work stands that may wait, so that turns stay short.
//!
//! All tasks that are woken between two looks at the sockets run before the next look. When a
//! connection with thousands of calls ends, all of these are woken at once; when hundreds of
//! connections have more to read than they may at a time, each of them has a turn. Whoever comes
//! meanwhile with a single call would wait for all of that.
//!
//! So what may wait joins the line: connections that have used up what they may do at a time, ends
//! of connections, and calls that are woken when the turn has lasted long already. First come,
//! first served. After each look as many are let on as are done within [`LINE_TIME`], one at least,
//! behind those who have come by a socket. Nobody starves: the line gets on with each look, and
//! sockets are looked at however long it is.
//!
//! When many connections have something to do that none of them may be blamed for, as for a message
//! of which all have a subscriber, those for which a turn has no time are the first in the next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Notify;
use super::clock::{Instant, now};
use super::poller::Look;
use super::turn;

/// What those who stood in line may have of a turn.
const LINE_TIME: Duration = Duration::from_micros(50);

/// A task that is woken when the turn has lasted for so long joins the line, if it may wait.
pub(super) const TURN_TIME: Duration = Duration::from_millis(1);

/// A connection that is woken when the turn has lasted for so long has its own in the next one.
const CONNECTIONS_TIME: Duration = Duration::from_millis(2);

/// The most that are called at a time. Many more than there is time for would only be asked to
/// wait again.
const CALLED_MAX: usize = 256;

thread_local! {
    static LINES: RefCell<Option<Rc<Lines>>> = const { RefCell::new(None) };
}

/// Who waits, in order.
#[derive(Debug, Default)]
struct Row {
    waiting: VecDeque<Waker>,
    /// Those with a lower number have been called.
    called: u64,
}

impl Row {
    /// Gives the last one its number.
    fn join(&mut self, waker: &Waker) -> u64 {
        let before = u64::try_from(self.waiting.len()).unwrap_or(u64::MAX);
        self.waiting.push_back(waker.clone());
        self.called + before
    }

    fn call(&mut self) -> Option<Waker> {
        let first = self.waiting.pop_front()?;
        self.called += 1;
        Some(first)
    }
}

#[derive(Debug, Default)]
struct Line {
    row: RefCell<Row>,
    /// Those who were called when there was no time left: they go before the others.
    again: RefCell<Row>,
    /// How many were let on since some were called last, and since when.
    let_on: Cell<usize>,
    since: Cell<Instant>,
}

impl Line {
    fn is_empty(&self) -> bool {
        let rows = [&self.row, &self.again];
        rows.iter().all(|row| row.borrow().waiting.is_empty())
    }

    /// Calls as many as there may be time for, going by how many there was time for before. All
    /// who were called in vain are among them, so that they keep their order.
    fn call(&self, wake: impl Fn(Waker)) {
        let count = (2 * self.let_on.take() + 4).min(CALLED_MAX);
        let mut called = 0;
        loop {
            let mut waker = self.again.borrow_mut().call();
            if waker.is_none() && called < count {
                waker = self.row.borrow_mut().call();
            }
            match waker {
                Some(waker) => wake(waker),
                None => return,
            }
            called += 1;
        }
    }

    /// Lets one on who was called, if there is time; the first one in any case.
    fn lets_on(&self, is_time: impl Fn(Instant) -> bool) -> bool {
        let before = self.let_on.get();
        if before == 0 {
            self.since.set(now());
        }
        let lets_on = before == 0 || is_time(self.since.get());
        if lets_on {
            self.let_on.set(before + 1);
        }
        lets_on
    }
}

/// The lines of an executor.
#[derive(Debug, Default)]
struct Lines {
    /// What may wait.
    patient: Line,
    /// Connections that are the first in the next turn.
    next: Line,
    somebody: Notify,
}

/// Starts to call who stands in line on the calling executor.
///
/// # Errors
/// When the executor is ending.
pub(super) fn install() -> std::io::Result<()> {
    let lines = Rc::new(Lines::default());
    LINES.with_borrow_mut(|slot| *slot = Some(Rc::clone(&lines)));
    super::task::spawn_vital(lines.run())
}

impl Lines {
    async fn run(self: Rc<Self>) {
        loop {
            self.somebody.wait().await;
            let mut look = Look::default();
            while !self.patient.is_empty() || !self.next.is_empty() {
                std::future::poll_fn(|cx| look.poll(cx)).await;
                self.next.call(Waker::wake);
                // Behind those whom the look finds.
                self.patient.call(|waker| {
                    let mut cx = Context::from_waker(&waker);
                    let _wakes_it = Look::default().poll(&mut cx);
                });
            }
        }
    }
}

/// A place in a line. Only the task that took it is woken.
#[derive(Debug, Default)]
pub struct PlaceInLine(Option<Place>);

#[derive(Clone, Copy, Debug)]
enum Place {
    Row(u64),
    Again(u64),
}

impl PlaceInLine {
    /// Ready when it is this one's turn: the sockets have been looked at since the first poll, and
    /// whoever came before has been let on. Then it starts over. Ready at once where there is no
    /// line.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        LINES.with_borrow(|lines| match lines {
            Some(lines) => {
                let is_time = |since| now().since(since) < LINE_TIME;
                self.poll_in(&lines.patient, &lines.somebody, is_time, cx)
            }
            None => Poll::Ready(()),
        })
    }

    /// Ready when the turn has time for a connection, otherwise in the next one, behind those who
    /// came before. A place is for this or for [`poll`](Self::poll), not for both.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_taken() && !turn::has_lasted(CONNECTIONS_TIME) {
            return Poll::Ready(());
        }
        LINES.with_borrow(|lines| match lines {
            Some(lines) => {
                let is_time = |_| !turn::has_lasted(CONNECTIONS_TIME);
                self.poll_in(&lines.next, &lines.somebody, is_time, cx)
            }
            None => Poll::Ready(()),
        })
    }

    fn poll_in(
        &mut self,
        line: &Line,
        somebody: &Notify,
        is_time: impl Fn(Instant) -> bool,
        cx: &Context<'_>,
    ) -> Poll<()> {
        let place = match self.0 {
            None => Place::Row(line.row.borrow_mut().join(cx.waker())),
            Some(Place::Row(number)) if number >= line.row.borrow().called => return Poll::Pending,
            Some(Place::Again(number)) if number >= line.again.borrow().called => {
                return Poll::Pending;
            }
            Some(_) if line.lets_on(is_time) => {
                self.0 = None;
                return Poll::Ready(());
            }
            Some(_) => Place::Again(line.again.borrow_mut().join(cx.waker())),
        };
        self.0 = Some(place);
        somebody.raise();
        Poll::Pending
    }

    /// Whether it was taken and has not come to its turn.
    pub(super) const fn is_taken(&self) -> bool {
        self.0.is_some()
    }
}
