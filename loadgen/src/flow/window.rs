//! What one producer has in flight.

use std::cell::Cell;

use ringmq::rt::{self, Notify};

use crate::scenario::{Calls, Pattern, Scenario};

/// When a message is through, so that another one may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Through {
    /// When the server has confirmed or answered it.
    pub confirmed: bool,
    /// When the slowest group has it.
    pub received: bool,
}

impl Through {
    /// Both, where there are both: a rate that consumers do not keep up with is none that a system
    /// can live with. Requests are answered by their receivers; nothing else is to be waited for.
    pub(crate) const fn of(scenario: &Scenario) -> Self {
        let consumers = scenario.consumers > 0;
        let unary = matches!(scenario.calls, Calls::Unary);
        match scenario.pattern {
            Pattern::Events => Self {
                confirmed: unary,
                received: consumers,
            },
            Pattern::EventsStore | Pattern::Queue => Self {
                confirmed: true,
                received: consumers,
            },
            Pattern::Command | Pattern::Query | Pattern::Echo => Self {
                confirmed: true,
                received: false,
            },
        }
    }
}

/// What one producer has in flight. Numbers of messages only grow.
#[derive(Debug)]
pub(crate) struct Window {
    size: u64,
    through: Through,
    /// The number of the next message.
    next: Cell<u64>,
    /// Confirmed or refused.
    settled: Cell<u64>,
    /// Of these, refused.
    refused: Cell<u64>,
    /// Up to which number the slowest group has come.
    reached: Cell<u64>,
    /// Since when there has been room.
    room_ns: Cell<u64>,
    /// The producer waits for room.
    waiting: Cell<bool>,
    /// For how many messages it waits.
    least: Cell<u64>,
    broken: Cell<bool>,
    /// What a look for stalls saw, and when it was seen first.
    seen: Cell<(u64, u64)>,
    /// Raised when there is room again; the producer's other occasions raise it, too.
    pub moved: Notify,
}

impl Window {
    pub(crate) fn new(size: u64, through: Through) -> Self {
        Self {
            size,
            through,
            next: Cell::new(0),
            settled: Cell::new(0),
            refused: Cell::new(0),
            reached: Cell::new(0),
            room_ns: Cell::new(0),
            waiting: Cell::new(false),
            least: Cell::new(1),
            broken: Cell::new(false),
            seen: Cell::new((0, 0)),
            moved: Notify::new(),
        }
    }

    /// When a message is through.
    pub(crate) const fn through(&self) -> Through {
        self.through
    }

    /// The number of the next message: how many were sent.
    pub(crate) const fn next(&self) -> u64 {
        self.next.get()
    }

    pub(crate) fn in_flight(&self) -> u64 {
        let next = self.next.get();
        let confirmed = if self.through.confirmed {
            self.settled.get()
        } else {
            next
        };
        let received = if self.through.received {
            self.reached.get()
        } else {
            next
        };
        next.saturating_sub(confirmed.min(received))
    }

    /// How many messages may be sent.
    pub(crate) fn room(&self) -> u64 {
        self.size.saturating_sub(self.in_flight())
    }

    /// Since when there has been room.
    pub(crate) const fn room_ns(&self) -> u64 {
        self.room_ns.get()
    }

    /// The stream is gone: nothing can be sent.
    pub(crate) const fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// There was none until now, whatever the window says: the transport was full.
    pub(crate) fn room_from(&self, now_ns: u64) {
        self.room_ns.set(now_ns);
    }

    /// The producer found too little room: it is woken when there is some for `least` messages.
    pub(crate) fn wait_for_room(&self, least: u64) {
        self.least.set(least.clamp(1, self.size.max(1)));
        self.waiting.set(true);
    }

    /// How many messages a closed loop of streams waits for, so that it sends batches and not each
    /// message when its room comes: one that does so for a hundredth of a batch measures its own
    /// system calls and makes the server's.
    pub(crate) fn batch(&self, wanted: u64) -> u64 {
        wanted.min(self.size / 8).max(1)
    }

    /// So many messages are in flight from now on; the number of the first.
    pub(crate) fn begin(&self, count: u64) -> u64 {
        self.next.replace(self.next.get() + count)
    }

    /// The server has confirmed or answered so many.
    pub(crate) fn settled(&self, count: u64) {
        self.settled.set(self.settled.get() + count);
        self.look();
    }

    /// The server has refused so many.
    pub(crate) fn refused(&self, count: u64) {
        self.refused.set(self.refused.get() + count);
        // Nobody will receive them, so nobody is waited for.
        let reached = self.reached.get() + count;
        self.reached.set(reached.min(self.next.get()));
        self.settled(count);
    }

    /// The slowest group has come so far.
    pub(crate) fn reached(&self, number: u64) {
        let number = number.min(self.next.get());
        if number > self.reached.get() {
            self.reached.set(number);
            self.look();
        }
    }

    /// The producer's stream is gone: how many messages that cost.
    pub(crate) fn break_off(&self) -> u64 {
        if self.broken.replace(true) {
            return 0;
        }
        let next = self.next.get();
        let known = if self.through.confirmed {
            self.settled.get()
        } else {
            self.reached.get()
        };
        let in_flight = next.saturating_sub(known);
        self.refused.set(self.refused.get() + in_flight);
        self.settled.set(next);
        self.moved.raise();
        in_flight
    }

    /// How many messages every group should get.
    pub(crate) fn expected(&self) -> u64 {
        self.next.get().saturating_sub(self.refused.get())
    }

    /// How many messages consumers need not get.
    pub(crate) fn excused(&self) -> u64 {
        self.refused.get() + self.unsettled()
    }

    /// How many messages the server has neither confirmed nor refused, where it should.
    pub(crate) fn unsettled(&self) -> u64 {
        if self.through.confirmed {
            self.next.get().saturating_sub(self.settled.get())
        } else {
            0
        }
    }

    /// Whether the server has said what it has to say about each message.
    pub(crate) fn is_settled(&self) -> bool {
        self.unsettled() == 0
    }

    /// What nobody has received for so long is gone, where the server has no more to say of it: the
    /// window opens. Unanswered messages hold it closed.
    pub(crate) fn forgive_stall(&self, now_ns: u64, after_ns: u64) {
        let moved = self.next.get() + self.settled.get() + self.reached.get();
        let (seen, since_ns) = self.seen.get();
        if !self.waiting.get() || moved != seen {
            self.seen.set((moved, now_ns));
        } else if now_ns.saturating_sub(since_ns) >= after_ns && self.is_settled() {
            self.reached(self.next.get());
        }
    }

    fn look(&self) {
        if self.waiting.get() && self.room() >= self.least.get() {
            self.waiting.set(false);
            self.room_ns.set(rt::now().as_ns());
            self.moved.raise();
        }
    }
}
