//! How much a connection does in one turn of its executor.
//!
//! Connections have their turns one after the other, so the more of them have something to do, the
//! longer a byte of any other waits to be read. Large turns are worth a little (fewer system calls,
//! fuller segments); so they are large while few compete, and get smaller when the executor's turns
//! get long. One with a single call then waits for a little of everybody, not for a lot.

use std::cell::Cell;
use std::time::Duration;

/// A turn of the executor that is longer makes those of its connections smaller.
const LONG: Duration = Duration::from_millis(4);

/// A turn that is shorter makes them larger again.
const SHORT: Duration = Duration::from_millis(1);

/// How often the parts may be halved.
const HALVINGS_MAX: u32 = 5;

thread_local! {
    static HALVINGS: Cell<u32> = const { Cell::new(0) };
}

/// A turn of this executor has ended; those that follow are adapted to it.
pub fn adapt(turn: Duration) {
    let halvings = HALVINGS.get();
    if turn > LONG {
        HALVINGS.set((halvings + 1).min(HALVINGS_MAX));
    } else if turn < SHORT {
        HALVINGS.set(halvings.saturating_sub(1));
    }
}

/// The part of `whole` that a connection may have in one turn now.
pub(crate) fn part_of(whole: usize) -> usize {
    whole >> HALVINGS.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_shrink_while_turns_are_long_and_grow_back() {
        let ms = Duration::from_millis;
        assert_eq!(part_of(256), 256);
        adapt(ms(5));
        assert_eq!(part_of(256), 128);
        adapt(ms(2));
        assert_eq!(part_of(256), 128, "neither long nor short");
        for _ in 0..100 {
            adapt(ms(50));
        }
        assert_eq!(part_of(256), 8, "never nothing");
        for _ in 0..HALVINGS_MAX {
            adapt(Duration::ZERO);
        }
        assert_eq!(part_of(256), 256);
    }
}
