//! Long walks in slices.

use std::time::Duration;

use crate::rt;

/// How long a walk may go on before others have their turn.
const SLICE: Duration = Duration::from_micros(100);

/// Channels looked at before the clock is.
pub(super) const STEP: usize = 32;

/// How long a walk leaves the core to others after a slice while they have use for it: as long as
/// it had it itself.
const PAUSE: Duration = SLICE;

/// Others have use for a core when they took more than this part of the time that the walk took.
const OTHERS: u64 = 16;

/// Cuts a walk into slices, and leaves the core to others between them.
///
/// A mere turn for the others is not enough where there is traffic: a message would wait for a
/// slice at each of its steps through the broker. Where there is none, a pause would only make the
/// walk longer. So it looks at what others did since it began.
#[derive(Debug)]
pub(super) struct Pace {
    /// Of the slice.
    began: rt::Instant,
    steps: usize,
    /// Time of all tasks when the walk began.
    busy_ns: u64,
    /// Time of the walk in slices that are over.
    own_ns: u64,
}

impl Pace {
    pub(super) fn begin() -> Self {
        Self {
            began: rt::now(),
            steps: 0,
            busy_ns: rt::busy_ns(),
            own_ns: 0,
        }
    }

    /// Whether the slice is over.
    pub(super) fn is_over(&self) -> bool {
        rt::now().since(self.began) > SLICE
    }

    /// Ends a slice; returns when the next one may begin.
    pub(super) async fn pause(&mut self) {
        let slice = rt::now().since(self.began).as_nanos();
        self.own_ns += u64::try_from(slice).unwrap_or(u64::MAX);
        rt::reactor_yield().await;
        let all_ns = rt::busy_ns().saturating_sub(self.busy_ns);
        let others_ns = all_ns.saturating_sub(self.own_ns);
        if others_ns > self.own_ns / OTHERS {
            rt::sleep(PAUSE).await;
        }
        self.began = rt::now();
    }

    /// After each step of a walk.
    pub(super) async fn step(&mut self) {
        self.steps += 1;
        if self.steps.is_multiple_of(STEP) && self.is_over() {
            self.pause().await;
        }
    }
}
