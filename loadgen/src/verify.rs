//! What came, what came twice, what never came: the numbers of one producer as one receiver (a
//! consumer, or a group of them) sees them.
//!
//! A tracker keeps the next number it expects and, of the numbers before it, which ones are still
//! missing: a ring of bits that is as large as it has to be, and [`WINDOW`] bits at most. While
//! nothing is missing it holds no memory and a message costs a comparison.
//!
//! ```text
//!            abandoned │ ring: 1 = missing                │ not seen yet
//!   ──────────────────┼───────0──0──1──0──1──1──0──0──────┼──────────────▶ numbers
//!                next - ring                              next
//! ```

/// How far behind the newest number a missing one may still come. What is older counts as lost for
/// good, so that a receiver costs 8 KiB at most.
pub(crate) const WINDOW: u64 = 65_536;

/// Bits of the smallest ring.
const RING_MIN: u64 = 512;

/// What a number is to its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Never seen, and above all that were.
    New,
    /// Never seen, and below one that was: reordered, unless several consumers share the messages.
    Late,
    /// Seen before.
    Duplicate,
}

/// The numbers of one producer at one receiver. Each producer numbers from 0 without gaps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracker {
    /// One above the highest number seen.
    next: u64,
    /// Different numbers seen.
    received: u64,
    /// Missing numbers that left the ring.
    abandoned: u64,
    /// Missing numbers in the ring.
    missing: u64,
    /// No missing number in the ring is below this one.
    oldest: u64,
    /// Bit `number % bits`: the number is missing. A power of two of bits, or none.
    ring: Vec<u64>,
}

impl Tracker {
    /// Takes a number that was received. The caller keeps out numbers that were never sent: one of
    /// them would make all before it look lost.
    pub(crate) fn see(&mut self, number: u64) -> Seen {
        if number < self.next {
            return self.see_old(number);
        }
        if number > self.next {
            self.skip_to(number);
        }
        if self.missing > 0 {
            self.grow(number.saturating_add(1) - self.oldest);
            self.leave(number);
        }
        self.next = number.saturating_add(1);
        self.received += 1;
        Seen::New
    }

    /// Different numbers seen.
    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    /// Of `sent` numbers, those that were not seen.
    pub(crate) const fn lost(&self, sent: u64) -> u64 {
        sent.saturating_sub(self.received)
    }

    /// The lowest of `sent` numbers that is missing and was not given up, for the report.
    pub(crate) fn first_lost(&self, sent: u64) -> Option<u64> {
        let oldest = self.oldest.max(self.next.saturating_sub(self.bits()));
        let mut in_ring = (oldest..self.next).filter(|_| self.missing > 0);
        in_ring
            .find(|number| self.is_missing(*number))
            .or_else(|| (self.next < sent).then_some(self.next))
    }

    fn see_old(&mut self, number: u64) -> Seen {
        let age = self.next - number;
        if age > self.bits() {
            // The ring holds every missing number that was not given up: without such ones, this
            // one has been seen. Otherwise it may be either, and it stays lost.
            return if self.abandoned == 0 {
                Seen::Duplicate
            } else {
                Seen::Late
            };
        }
        if !self.is_missing(number) {
            return Seen::Duplicate;
        }
        self.mark(number, false);
        self.missing -= 1;
        self.received += 1;
        Seen::Late
    }

    /// Marks all from the next expected number up to `number` as missing.
    fn skip_to(&mut self, number: u64) {
        if self.missing == 0 {
            self.oldest = self.next;
        }
        self.grow(number.saturating_add(1) - self.oldest);
        // Of a gap wider than the ring only its end fits.
        let first = self.next.max(number - (self.bits() - 1).min(number));
        if first > self.next {
            self.abandoned += self.missing + (first - self.next);
            self.missing = 0;
            self.ring.fill(0);
        }
        for missing in first..number {
            self.leave(missing);
            self.mark(missing, true);
            self.missing += 1;
        }
    }

    /// Takes the number whose bit `number` reuses out of the ring.
    fn leave(&mut self, number: u64) {
        if self.is_missing(number) {
            self.mark(number, false);
            self.missing -= 1;
            self.abandoned += 1;
        }
    }

    /// Makes the ring as large as `span` numbers need it, up to the window.
    fn grow(&mut self, span: u64) {
        let wanted = span.min(WINDOW).next_power_of_two().max(RING_MIN);
        let before = self.bits();
        if wanted <= before {
            return;
        }
        let words = usize::try_from(wanted / 64).expect("the window is small");
        let old = std::mem::replace(&mut self.ring, vec![0; words]);
        for number in self.next.saturating_sub(before)..self.next {
            if bit(&old, number) {
                self.mark(number, true);
            }
        }
    }

    const fn bits(&self) -> u64 {
        self.ring.len() as u64 * 64
    }

    fn is_missing(&self, number: u64) -> bool {
        bit(&self.ring, number)
    }

    fn mark(&mut self, number: u64, missing: bool) {
        let at = word(&self.ring, number);
        if let Some(word) = self.ring.get_mut(at) {
            let mask = 1 << (number % 64);
            *word = if missing { *word | mask } else { *word & !mask };
        }
    }
}

/// Whether numbers of one producer grow at one consumer. With groups and queues, where a consumer
/// sees only some of them, this is the whole order that is promised.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Order {
    next: u64,
}

impl Order {
    /// Takes a number that is no repetition; false: a higher one came before.
    pub(crate) const fn see(&mut self, number: u64) -> bool {
        let grows = number >= self.next;
        if grows {
            self.next = number.saturating_add(1);
        }
        grows
    }
}

fn word(ring: &[u64], number: u64) -> usize {
    // A length of a power of two, or zero: the mask of zero is never used to find a word.
    let mask = (ring.len() as u64).wrapping_sub(1);
    usize::try_from((number / 64) & mask).unwrap_or(usize::MAX)
}

fn bit(ring: &[u64], number: u64) -> bool {
    ring.get(word(ring, number))
        .is_some_and(|word| word & (1 << (number % 64)) != 0)
}

#[cfg(test)]
mod tests;
