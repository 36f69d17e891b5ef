//! The fuzz targets of `tests/fuzz`, a few seconds each, on random and mutated bytes from a seeded
//! generator: the same bytes in every run. A failure names the seed.

#![forbid(unsafe_code)]
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a broken assumption is a failed test"
)]

use std::thread;

use ringmq_storage::record::{Record, Records};

#[path = "../../tests/fuzz/checks.rs"]
#[allow(unreachable_pub, dead_code, reason = "shared with the fuzz targets")]
mod checks;
#[path = "golden/sample.rs"]
#[allow(unreachable_pub, dead_code, reason = "shared by several test binaries")]
mod sample;

/// SplitMix64: small, and good enough to choose bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// Random bytes, or an example with a few things changed.
    fn input(&mut self, examples: &[Vec<u8>]) -> Vec<u8> {
        if self.below(8) == 0 {
            let len = self.below(2048);
            return (0..len).map(|_| self.byte()).collect();
        }
        let mut bytes = examples[self.below(examples.len())].clone();
        for _ in 0..self.below(8) {
            self.mutate(&mut bytes, examples);
        }
        bytes
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, examples: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        let rest = bytes.len() - at;
        match self.below(7) {
            0 => bytes.truncate(at),
            1 => {
                let other = &examples[self.below(examples.len())];
                let from = self.below(other.len());
                bytes.extend_from_slice(&other[from..]);
            }
            2 if rest > 0 => {
                let (to, len) = (self.below(bytes.len()), self.below(rest));
                let len = len.min(bytes.len() - to);
                bytes.copy_within(at..at + len, to);
            }
            3 => {
                let extremes = [0, 1, 7, 8, 0x7fff_ffff, 0x8000_0000, 0xffff_fff8, u32::MAX];
                let number = extremes[self.below(extremes.len())].to_le_bytes();
                let at = at & !3;
                if let Some(place) = bytes.get_mut(at..at + 4) {
                    place.copy_from_slice(&number);
                }
            }
            4 => {
                let len = self.below(rest);
                bytes[at..at + len].fill(0);
            }
            _ if rest > 0 => bytes[at] ^= 1 << self.below(8),
            _ => bytes.push(self.byte()),
        }
    }
}

/// Says which input it was when a check fails.
struct Case(u64);

impl Drop for Case {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the input was made from seed {}", self.0);
        }
    }
}

fn run(check: fn(&[u8]) -> bool, examples: &[Vec<u8>], cases: u64) {
    for example in examples {
        assert!(check(example), "what was written can be read");
    }
    let mut read = 0;
    for seed in 0..cases {
        let case = Case(seed);
        read += u64::from(check(&Random(case.0).input(examples)));
    }
    assert!(
        read > cases / 4,
        "only {read} of {cases} inputs got anywhere"
    );
}

/// A slow interpreter gets fewer.
const CASES: u64 = if cfg!(miri) { 20 } else { 150_000 };

#[test]
fn any_bytes_can_be_walked_as_a_segment() {
    run(checks::segment, &[sample::segment()], CASES / 2);
}

#[test]
fn any_bytes_can_be_read_as_a_checkpoint() {
    run(checks::checkpoint, &[sample::checkpoint().encode()], CASES);
}

#[test]
fn any_bytes_can_be_read_as_an_index() {
    run(checks::segment_index, &[sample::index().encode()], CASES);
}

#[test]
fn any_bytes_can_be_read_as_a_payload() {
    let segment = sample::segment();
    let frames = sample::scan(&segment).unwrap();
    let records = frames[1..]
        .iter()
        .flat_map(|frame| Records::new(frame.payload).map(Result::unwrap));
    let queues = sample::queue_records();
    let records = records.chain(Records::new(&queues).map(Result::unwrap));
    // The first byte chooses the kind.
    let example = |record: Record<'_>| {
        let kind = checks::KINDS
            .iter()
            .position(|kind| *kind == record.head.kind);
        [&[u8::try_from(kind.unwrap()).unwrap()], record.payload].concat()
    };
    let examples: Vec<_> = records.map(example).collect();
    run(checks::record_payload, &examples, CASES);
}
