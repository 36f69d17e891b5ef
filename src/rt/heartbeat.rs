//! The heartbeat: a thread of the operating system that makes every executor turn at least once
//! in [`PERIOD`], and the watchdog that notices when one does not.
//!
//! The runtime can park an executor although tasks are ready (its preempt timer fired before the
//! first task queue ran: the thread was descheduled at that moment). Nothing in the process would
//! wake it again; the heartbeat does, from outside, through the kernel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::clock::now;
use super::inbox::InboxSender;

/// How often each executor is made to turn.
pub const PERIOD: Duration = Duration::from_millis(10);

/// A turn that is later than this is counted as a stall.
pub const STALL: Duration = Duration::from_millis(100);

/// A stall of this length is logged while it lasts.
const STALL_LOGGED: Duration = Duration::from_secs(1);

/// What the watchdog has seen of one executor; written by the heartbeat thread only.
#[derive(Debug, Default)]
pub struct Watch {
    /// Turns later than [`STALL`].
    pub stalls: AtomicU64,
    /// The longest time without a turn, in microseconds.
    pub longest_us: AtomicU64,
    /// How often the heartbeat itself came late by more than [`STALL`]: the whole process or
    /// machine was paused, and stalls of that moment are not the executor's.
    pub paused: AtomicU64,
}

/// The running heartbeat; ends when dropped.
#[derive(Debug)]
pub struct Heartbeat {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    watches: Arc<[Arc<Watch>]>,
}

impl Heartbeat {
    /// Starts the thread for the given executors, in order of their shards, each with its watch.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start<T: Send + 'static>(
        inboxes: Vec<InboxSender<T>>,
        watches: Arc<[Arc<Watch>]>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let beats: Vec<_> = inboxes
            .into_iter()
            .zip(&*watches)
            .map(|(inbox, watch)| Beat {
                inbox,
                watch: watch.clone(),
                turns: 0,
                since_ns: 0,
            })
            .collect();
        let stopping = stop.clone();
        let thread = std::thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || run(beats, &stopping))?;
        Ok(Self {
            stop,
            thread: Some(thread),
            watches,
        })
    }

    /// The watchdog's counters, one for each executor.
    #[must_use]
    pub fn watches(&self) -> &[Arc<Watch>] {
        &self.watches
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

struct Beat<T> {
    inbox: InboxSender<T>,
    watch: Arc<Watch>,
    turns: u64,
    since_ns: u64,
}

#[allow(
    clippy::disallowed_methods,
    reason = "this thread is no executor: it may sleep"
)]
fn run<T: Send>(mut beats: Vec<Beat<T>>, stop: &AtomicBool) {
    super::aside::step_aside();
    let mut last = now();
    for beat in &mut beats {
        beat.since_ns = last.as_ns();
    }
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(PERIOD);
        let time = now();
        let paused = time.since(last) > STALL;
        last = time;
        for (shard, beat) in beats.iter_mut().enumerate() {
            if paused {
                beat.watch.paused.fetch_add(1, Ordering::Relaxed);
                beat.since_ns = time.as_ns();
            }
            // One that has ended is its supervisor's affair.
            if beat.inbox.ring() {
                observe(shard, beat, time.as_ns());
            }
        }
    }
}

fn observe<T: Send>(shard: usize, beat: &mut Beat<T>, time_ns: u64) {
    let turns = beat.inbox.turns();
    let late = Duration::from_nanos(time_ns.saturating_sub(beat.since_ns));
    if turns == beat.turns {
        // Once, in the beat in which the stall becomes one worth a line.
        if late >= STALL_LOGGED && late < STALL_LOGGED + PERIOD {
            tracing::warn!(
                shard,
                stalled_ms = late.as_millis(),
                "executor does not turn"
            );
        }
        return;
    }
    if late > STALL {
        beat.watch.stalls.fetch_add(1, Ordering::Relaxed);
    }
    let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
    beat.watch.longest_us.fetch_max(late_us, Ordering::Relaxed);
    beat.turns = turns;
    beat.since_ns = time_ns;
}
