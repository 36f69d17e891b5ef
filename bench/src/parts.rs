//! The broker's parts, one by one: each is set up once and then run again and again.
//!
//! A run is some tens of microseconds of work without a runtime, a socket or a sync, so that its
//! instructions can be counted, too. What needs another core or a million entries is a bench of
//! its own.

mod codec;
mod engine;
mod framing;
mod log;
mod queue;

/// What is run. It owns whatever it needs; its state is the same after a run as before, apart from
/// numbers that grow.
pub type Run = Box<dyn FnMut()>;

/// A part of the broker.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Group and name: `append/64 messages`.
    pub name: &'static str,
    /// Messages, timers or whatever it handles in one run.
    pub elements: u64,
    /// Sets it up.
    pub make: fn() -> Run,
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Part> {
    [
        codec::PARTS,
        framing::PARTS,
        engine::PARTS,
        log::PARTS,
        queue::PARTS,
    ]
    .concat()
}

/// Bytes of a message's body.
const BODY_BYTES: usize = 1024;

/// Messages of one run.
const MESSAGES: u64 = 64;

/// The channel of every message.
const CHANNEL: &str = "tenant.7.orders.created";

const fn part(name: &'static str, elements: u64, make: fn() -> Run) -> Part {
    Part {
        name,
        elements,
        make,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_different_names_and_run_again_and_again() {
        let mut names: Vec<&str> = all().iter().map(|part| part.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        for part in all() {
            let mut run = (part.make)();
            (0..3).for_each(|_| run());
        }
    }
}
