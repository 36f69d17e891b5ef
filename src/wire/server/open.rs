//! How many calls are open, and whether there is room for one more.
//!
//! A call costs some kilobytes from its head on, and a client pays a few bytes for it. So the calls
//! of a core are bounded: all that are open, and those of which no message is here yet, which an
//! honest client has few of: what it calls for comes with the call.

use std::cell::Cell;
use std::ops::Deref;
use std::rc::Rc;
use std::thread::LocalKey;

use super::Shared;
use crate::wire::status::{Code, Status};

/// The calls of a core have room for so many connections with as many as one may have.
const OPEN_FULL: usize = 16;

/// The same of calls without a message.
const ARRIVING_FULL: usize = 2;

/// What any connection may have of either, however many the others have.
const FLOOR: usize = 32;

thread_local! {
    /// The calls of all connections of a core that are not answered.
    static OPEN: Cell<usize> = const { Cell::new(0) };
    /// Those of which no message has come.
    static ARRIVING: Cell<usize> = const { Cell::new(0) };
}

/// The calls of a connection.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    open: Cell<usize>,
    arriving: Cell<usize>,
}

/// Whether the connection may have another call.
///
/// # Errors
/// `RESOURCE_EXHAUSTED` with the name of the setting that the limits go by.
pub(super) fn room(shared: &Shared) -> Result<(), Status> {
    let max = shared.settings.concurrent_streams_max;
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let calls = &shared.calls;
    if !has_room(calls.open.get(), OPEN.get(), max.saturating_mul(OPEN_FULL)) {
        return Err(TOO_MANY_OPEN);
    }
    let arriving_max = max.saturating_mul(ARRIVING_FULL);
    if !has_room(calls.arriving.get(), ARRIVING.get(), arriving_max) {
        return Err(TOO_MANY_ARRIVING);
    }
    Ok(())
}

const TOO_MANY_OPEN: Status = Status::from_static(
    Code::ResourceExhausted,
    "too many calls are open (grpc.max_concurrent_streams)",
);
const TOO_MANY_ARRIVING: Status = Status::from_static(
    Code::ResourceExhausted,
    "too many calls wait for their first message (grpc.max_concurrent_streams)",
);

/// Whether a connection with `own` calls may have another one, when its core has `of_core` of them
/// and may have `max`.
///
/// It may as long as it has fewer than there is room left for. So those with few have room when
/// those with many have none, and a thousand connections hold little more than some do.
const fn has_room(own: usize, of_core: usize, max: usize) -> bool {
    own < FLOOR || own < max.saturating_sub(of_core)
}

fn count(own: &Cell<usize>, of_core: &'static LocalKey<Cell<usize>>) {
    own.set(own.get() + 1);
    of_core.set(of_core.get() + 1);
}

fn discount(own: &Cell<usize>, of_core: &'static LocalKey<Cell<usize>>) {
    own.set(own.get().saturating_sub(1));
    of_core.set(of_core.get().saturating_sub(1));
}

/// What the calls of a connection share, held by one of them until it is answered.
#[derive(Debug)]
pub(super) struct Open(Rc<Shared>);

impl Open {
    pub(super) fn new(shared: Rc<Shared>) -> Self {
        count(&shared.calls.open, &OPEN);
        Self(shared)
    }

    /// Counts on when this one is let go of.
    pub(super) fn another(&self) -> Self {
        Self::new(Rc::clone(&self.0))
    }
}

impl Deref for Open {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        discount(&self.0.calls.open, &OPEN);
    }
}

/// Held by a call until its first message is here.
#[derive(Debug)]
pub(super) struct Arriving(Rc<Shared>);

impl Arriving {
    pub(super) fn new(shared: Rc<Shared>) -> Self {
        count(&shared.calls.arriving, &ARRIVING);
        Self(shared)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        discount(&self.0.calls.arriving, &ARRIVING);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 4096 * OPEN_FULL;

    #[test]
    fn connections_with_many_calls_leave_room_for_those_with_few() {
        let (mut own, mut all) = (vec![0_usize; 300], 0);
        loop {
            let before = all;
            for calls in &mut own {
                if *calls < 4096 && has_room(*calls, all, MAX) {
                    *calls += 1;
                    all += 1;
                }
            }
            if all == before {
                break;
            }
        }
        assert!(all <= MAX, "{all}");
        assert!(own.iter().all(|calls| *calls >= 200), "each has its share");
        assert!(has_room(0, all, MAX) && has_room(FLOOR - 1, usize::MAX, MAX));
        assert!(!has_room(300, all, MAX));
    }

    #[test]
    fn few_connections_may_all_be_full() {
        for connections in 1..OPEN_FULL {
            let all = connections * 4096 - 1;
            assert!(has_room(4095, all, MAX), "{connections}");
        }
    }
}
