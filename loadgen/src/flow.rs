//! One channel: who sends, who receives, and what has become of each message.
//!
//! A flow lives on one core with all its producers and consumers, so what a consumer sees can be
//! held against what was sent without any message between cores.
//!
//! Completeness and repetition are looked at for each group (a consumer without groups is a group
//! of its own; all consumers of a queue are one). Order is looked at for each consumer alone.

mod window;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ringmq::rt;

pub(crate) use window::{Through, Window};

use crate::clock::Clock;
use crate::meter::{Meter, Violation};
use crate::payload::{self, BodyError, Stamp};
use crate::scenario::{Calls, Pattern, Scenario};
use crate::verify::{Order, Seen, Tracker};

/// Whether the server said that it had handed a message out before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    First,
    /// A repetition that was announced: no violation, and its order is not judged.
    Again,
}

/// One channel.
#[derive(Debug)]
pub(crate) struct Flow {
    /// The channel's number in the run; it is in each stamp.
    pub number: u32,
    /// The channel's name.
    pub channel: String,
    /// The number of the run; it is in each stamp.
    pub run: u64,
    pub checksum: bool,
    pub meter: Rc<Meter>,
    pub clock: Rc<Clock>,
    windows: Vec<Rc<Window>>,
    received: RefCell<Received>,
    broken: Cell<u64>,
}

/// What the consumers have seen.
#[derive(Debug)]
struct Received {
    producers: usize,
    /// Whether order is judged.
    ordered: bool,
    /// The group of each consumer.
    group_of: Vec<usize>,
    /// For each consumer and each producer.
    orders: Vec<Order>,
    groups: Vec<Group>,
    /// For each producer what the slowest group has reached, and how many groups are there.
    slowest: Vec<(u64, usize)>,
}

#[derive(Debug)]
struct Group {
    /// For each producer.
    trackers: Vec<Tracker>,
    /// For each producer the highest number that came, and one.
    reached: Vec<u64>,
    /// Bodies that could not be read: they came, but nobody knows as what.
    corrupted: u64,
    /// A consumer of it broke off: what is missing at its end was not lost by the server.
    broken: bool,
}

impl Flow {
    pub(crate) fn new(
        number: u32,
        run: u64,
        checksum: bool,
        scenario: &Scenario,
        meter: &Rc<Meter>,
    ) -> Rc<Self> {
        let producers = usize::try_from(scenario.producers).unwrap_or(usize::MAX);
        let through = Through::of(scenario);
        let window = u64::from(scenario.window.max(1));
        let windows = (0..producers).map(|_| Rc::new(Window::new(window, through)));
        Rc::new(Self {
            number,
            channel: format!("{}.{run:x}.{number}", scenario.channel_prefix),
            run,
            checksum,
            meter: meter.clone(),
            clock: meter.clock().clone(),
            windows: windows.collect(),
            received: RefCell::new(Received::new(scenario, producers)),
            broken: Cell::new(0),
        })
    }

    /// What a producer has in flight.
    pub(crate) fn window(&self, producer: u32) -> Option<&Rc<Window>> {
        self.windows.get(usize::try_from(producer).ok()?)
    }

    /// The name of a consumer's group; empty: none.
    pub(crate) fn group_name(scenario: &Scenario, consumer: u32) -> String {
        match scenario.groups {
            0 => String::new(),
            groups => format!("group-{}", consumer % groups),
        }
    }

    /// A consumer got a message: it is checked and counted, and its latency recorded. Gives back
    /// its stamp when it is a message of this flow that had not come to this group.
    pub(crate) fn take(
        &self,
        consumer: u32,
        body: &[u8],
        now_ns: u64,
        delivery: Delivery,
    ) -> Option<Stamp> {
        let stamp = self.check(consumer, body, delivery)?;
        self.meter.delivered(stamp.intended_ns, now_ns, body.len());
        Some(stamp)
    }

    /// As [`take`](Self::take), for what is not the end of a message's way: nothing is counted as
    /// delivered.
    pub(crate) fn check(&self, consumer: u32, body: &[u8], delivery: Delivery) -> Option<Stamp> {
        self.meter.checked();
        if delivery == Delivery::Again {
            self.meter.redelivered();
        }
        let stamp = self.stamp(consumer, body)?;
        let mut received = self.received.borrow_mut();
        let (seen, late, reached) = received.see(consumer, &stamp, delivery)?;
        drop(received);
        if let Some(reached) = reached
            && let Some(window) = self.window(stamp.producer)
        {
            window.reached(reached);
        }
        let what = || {
            let Stamp {
                producer, number, ..
            } = stamp;
            let channel = &self.channel;
            format!("consumer {consumer} of {channel}: message {number} of producer {producer}")
        };
        if seen == Seen::Duplicate {
            if delivery == Delivery::First {
                let text = || format!("{} came twice", what());
                self.meter.violation(Violation::Duplicated, 1, text);
            }
            return None;
        }
        if late {
            let text = || format!("{} came after a later one", what());
            self.meter.violation(Violation::Reordered, 1, text);
        }
        Some(stamp)
    }

    /// The stamp of a body, if it is one of this flow's.
    fn stamp(&self, consumer: u32, body: &[u8]) -> Option<Stamp> {
        let problem = match payload::read(body, self.checksum, self.run) {
            Err(BodyError::Foreign) => "a body that is not of this run",
            Err(BodyError::Damaged) => "a damaged body",
            Ok(stamp) if stamp.flow != self.number => "a message of another channel",
            Ok(stamp) => match self.window(stamp.producer) {
                Some(window) if stamp.number < window.next() => return Some(stamp),
                _ => "a message that was never sent",
            },
        };
        self.corrupted(consumer, problem);
        None
    }

    /// `count` messages of a producer are in flight from now on; the number of the first.
    pub(crate) fn number(&self, producer: u32, count: usize) -> u64 {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.window(producer)
            .map_or(0, |window| window.begin(count))
    }

    /// The server confirmed a message.
    pub(crate) fn acknowledged(&self, producer: u32, intended_ns: u64, now_ns: u64) {
        self.meter.acknowledged(intended_ns, now_ns);
        if let Some(window) = self.window(producer) {
            window.settled(1);
        }
    }

    /// A request was answered: that is its delivery.
    pub(crate) fn answered(&self, producer: u32, intended_ns: u64, now_ns: u64, body_bytes: usize) {
        self.meter.delivered(intended_ns, now_ns, body_bytes);
        if let Some(window) = self.window(producer) {
            window.settled(1);
        }
    }

    /// `count` messages were refused, or are not known to have been accepted. Consumers need not
    /// get them: they failed and are not lost.
    pub(crate) fn refused(&self, producer: u32, count: u64, text: &str) {
        self.meter.failed(text, count, rt::now().as_ns());
        if let Some(window) = self.window(producer) {
            window.refused(count);
        }
    }

    /// A producer's stream broke off. What it had in flight failed; it sends nothing any more.
    pub(crate) fn producer_broke(&self, producer: u32, text: &str) {
        if self.clock.is_closing() {
            return;
        }
        if let Some(window) = self.window(producer)
            && !window.is_broken()
        {
            self.broken.set(self.broken.get() + 1);
            let in_flight = window.break_off();
            self.meter.failed(text, in_flight.max(1), rt::now().as_ns());
        }
    }

    /// A consumer's stream broke off. What its group did not get is not counted as lost.
    pub(crate) fn consumer_broke(&self, consumer: u32, text: &str) {
        if self.clock.is_closing() {
            return;
        }
        self.broken.set(self.broken.get() + 1);
        self.meter.failed(text, 1, rt::now().as_ns());
        let slowest = self.received.borrow_mut().break_off(consumer);
        for (window, reached) in self.windows.iter().zip(slowest) {
            window.reached(reached);
        }
    }

    /// A message without a body that could be looked at.
    pub(crate) fn corrupted(&self, consumer: u32, problem: &str) {
        self.received.borrow_mut().corrupted(consumer);
        let text = || format!("consumer {consumer} of {}: {problem}", self.channel);
        self.meter.violation(Violation::Corrupted, 1, text);
    }

    /// Messages were handed to the transport, with bodies of so many bytes.
    pub(crate) fn sent(&self, count: usize, body_bytes: usize) {
        let wide = |number| u64::try_from(number).unwrap_or(u64::MAX);
        let now_ns = rt::now().as_ns();
        self.meter.sent(wide(count), wide(body_bytes), now_ns);
    }

    /// Waits until the run closes. For a producer that has sent all it has to.
    pub(crate) async fn closed(&self, producer: u32) {
        if let Some(window) = self.window(producer) {
            while !self.clock.is_closing() && !window.is_broken() {
                window.moved.wait().await;
            }
        }
    }

    /// Wakes every producer: the run ends.
    pub(crate) fn wake(&self) {
        for window in &self.windows {
            window.moved.raise();
        }
    }

    /// Opens windows in which nothing has moved for so long: what is in flight there is gone.
    pub(crate) fn forgive_stalls(&self, now_ns: u64, after_ns: u64) {
        for window in &self.windows {
            window.forgive_stall(now_ns, after_ns);
        }
    }

    /// Whether everything has come that will come.
    pub(crate) fn is_complete(&self) -> bool {
        let received = self.received.borrow();
        let mut whole = received.groups.iter().filter(|group| !group.broken);
        self.windows.iter().all(|window| window.is_settled())
            && whole.all(|group| {
                let windows = self.windows.iter().enumerate();
                let missing = windows.map(|(producer, window)| {
                    let expected = window.expected();
                    expected.saturating_sub(group.received(producer))
                });
                missing.sum::<u64>() <= group.corrupted
            })
    }

    /// Counts what the server has neither confirmed nor refused as failed: it had its time. Gives
    /// back how many these are.
    pub(crate) fn fail_unsettled(&self) -> u64 {
        let open = self.windows.iter().map(|window| window.unsettled()).sum();
        if open > 0 {
            let text = "not confirmed by the end of the run";
            self.meter.failed(text, open, rt::now().as_ns());
        }
        open
    }

    /// Streams of producers and consumers that broke off.
    pub(crate) fn broken(&self) -> u64 {
        self.broken.get()
    }

    /// Messages that came to all groups together; for telling whether some still come.
    pub(crate) fn received(&self) -> u64 {
        let received = self.received.borrow();
        let trackers = received.groups.iter().flat_map(|group| &group.trackers);
        trackers.map(Tracker::received).sum()
    }

    /// Counts what is missing as lost. With `all`, everything that was sent should have come by
    /// now; without it, only what was overtaken counts. Gives back how many are still on the way.
    pub(crate) fn count_lost(&self, all: bool) -> u64 {
        let received = self.received.borrow();
        let mut on_the_way = 0;
        for (place, group) in received.groups.iter().enumerate() {
            // What came damaged is told as that, and not as lost, too.
            let mut damaged = group.corrupted;
            for (producer, window) in self.windows.iter().enumerate() {
                let (lost, open) = group.missing(producer, window, all && !group.broken);
                on_the_way += open;
                let known = lost.min(damaged);
                damaged -= known;
                let lost = lost - known;
                if lost > 0 {
                    self.meter.violation(Violation::Lost, lost, || {
                        let one = group.first_lost(producer, window);
                        format!(
                            "{}: {lost} of producer {producer} never came to group {place}, such \
                             as number {one}",
                            self.channel
                        )
                    });
                }
            }
        }
        on_the_way
    }
}

impl Received {
    fn new(scenario: &Scenario, producers: usize) -> Self {
        // An echo's senders get their own messages back.
        let consumers = match scenario.pattern {
            Pattern::Echo => scenario.producers,
            _ => scenario.consumers,
        };
        let groups = match scenario.pattern {
            Pattern::Queue | Pattern::Echo => 1,
            _ if scenario.groups == 0 => consumers,
            _ => scenario.groups,
        };
        // Groups without a member get nothing.
        let groups = groups.min(consumers);
        let index = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let group = || Group {
            trackers: (0..producers).map(|_| Tracker::default()).collect(),
            reached: vec![0; producers],
            corrupted: 0,
            broken: false,
        };
        Self {
            producers,
            // Calls overtake each other before they reach the server.
            ordered: scenario.calls == Calls::Stream
                && !matches!(scenario.pattern, Pattern::Command | Pattern::Query),
            group_of: (0..consumers).map(|c| index(c % groups)).collect(),
            orders: vec![Order::default(); index(consumers).saturating_mul(producers)],
            groups: (0..groups).map(|_| group()).collect(),
            slowest: vec![(0, index(groups)); producers],
        }
    }

    /// Notes a message: whether it is new to the group, whether it came to the consumer behind one
    /// that it should precede, and what the slowest group has reached when that changed.
    fn see(
        &mut self,
        consumer: u32,
        stamp: &Stamp,
        delivery: Delivery,
    ) -> Option<(Seen, bool, Option<u64>)> {
        let consumer = usize::try_from(consumer).ok()?;
        let producer = usize::try_from(stamp.producer).ok()?;
        let place = *self.group_of.get(consumer)?;
        let group = self.groups.get_mut(place)?;
        let seen = group.trackers.get_mut(producer)?.see(stamp.number);
        let order = self.orders.get_mut(consumer * self.producers + producer)?;
        let judged = self.ordered && delivery == Delivery::First;
        let late = seen != Seen::Duplicate && judged && !order.see(stamp.number);
        let reached = group.reached.get_mut(producer)?;
        let before = *reached;
        *reached = before.max(stamp.number + 1);
        let moved = *reached > before;
        let slowest = moved && self.moved_on(producer, before);
        let slowest = slowest
            .then(|| self.slowest.get(producer).map(|(reached, _)| *reached))
            .flatten();
        Some((seen, late, slowest))
    }

    /// A body that cannot be read came to a consumer.
    fn corrupted(&mut self, consumer: u32) {
        if let Some(group) = self.group_mut(consumer) {
            group.corrupted += 1;
        }
    }

    fn group_mut(&mut self, consumer: u32) -> Option<&mut Group> {
        let consumer = usize::try_from(consumer).ok()?;
        let place = *self.group_of.get(consumer)?;
        self.groups.get_mut(place)
    }

    /// A group left `before`; whether the slowest group is another one, or further now.
    fn moved_on(&mut self, producer: usize, before: u64) -> bool {
        let Some((least, holders)) = self.slowest.get_mut(producer) else {
            return false;
        };
        if before != *least {
            return false;
        }
        *holders = holders.saturating_sub(1);
        *holders == 0 && self.find_slowest(producer)
    }

    /// Looks through the groups. It is done once for each step of the slowest one, so that its
    /// cost is shared by the deliveries to all of them.
    fn find_slowest(&mut self, producer: usize) -> bool {
        let whole = self.groups.iter().filter(|group| !group.broken);
        let reached = whole.filter_map(|group| group.reached.get(producer).copied());
        let found = reached.fold((u64::MAX, 0), |(least, holders), reached| {
            match reached.cmp(&least) {
                std::cmp::Ordering::Less => (reached, 1),
                std::cmp::Ordering::Equal => (least, holders + 1),
                std::cmp::Ordering::Greater => (least, holders),
            }
        });
        self.slowest
            .get_mut(producer)
            .is_some_and(|slowest| std::mem::replace(slowest, found) != found)
    }

    /// A consumer is gone: its group holds nobody back any more. What the slowest has reached now,
    /// for each producer.
    fn break_off(&mut self, consumer: u32) -> Vec<u64> {
        if let Some(group) = self.group_mut(consumer) {
            group.broken = true;
        }
        for producer in 0..self.producers {
            self.find_slowest(producer);
        }
        self.slowest.iter().map(|(reached, _)| *reached).collect()
    }
}

impl Group {
    fn received(&self, producer: usize) -> u64 {
        self.trackers.get(producer).map_or(0, Tracker::received)
    }

    /// The number of the first message that is missing, as far as it is known.
    fn first_lost(&self, producer: usize, window: &Window) -> u64 {
        let tracker = self.trackers.get(producer);
        tracker
            .and_then(|tracker| tracker.first_lost(window.next()))
            .unwrap_or(0)
    }

    /// Messages of a producer that are lost, and those that may still come.
    fn missing(&self, producer: usize, window: &Window, all: bool) -> (u64, u64) {
        let (Some(tracker), Some(reached)) =
            (self.trackers.get(producer), self.reached.get(producer))
        else {
            return (0, 0);
        };
        let excused = window.excused();
        let missing = tracker.lost(window.next()).saturating_sub(excused);
        if all {
            return (missing, 0);
        }
        let overtaken = tracker.lost(*reached).saturating_sub(excused);
        (overtaken, missing.saturating_sub(overtaken))
    }
}
