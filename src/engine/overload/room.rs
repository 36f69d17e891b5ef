//! How much may wait for its commit.

/// A batch of this size tells what a commit costs by itself.
const SMALL_BYTES: usize = 128 << 10;

/// So many small batches in a row say that little waits. One alone says nothing: under load a small
/// one goes first, and what gathers behind it is the next.
const SMALL_RUN: u32 = 8;

/// A commit may take so many times what a small one takes: the disk does four fifths of the most
/// that it can then.
const COMMIT_FLOORS: u64 = 4;

/// Or such a part of the target, if that is more: batches that stay in the caches of the processor
/// are copied at a fraction of the cost, and a message waits for two commits at most.
const TARGET_PART: u64 = 10;

/// There is always room for so much: enough for a disk to be used well.
const ROOM_BYTES_MIN: usize = 1 << 20;

/// Finds the room in which messages wait for their commit no longer than they should, and the disk
/// is used well.
///
/// What is in flight is divided by what is committed in a second to give the wait. Of that the
/// cost of a commit itself is no matter of the room: with a disk that takes a tenth of a second for
/// a sync, less in flight would only mean less done. More than makes that cost small gains nothing:
/// what waits here waits longer, and nobody can pass it.
#[derive(Clone, Copy, Debug)]
pub struct RoomControl {
    bytes_max: usize,
    bytes: usize,
    /// What a small commit takes.
    floor_ns: Option<u64>,
    /// Small batches since the last large or slow one.
    small_run: u32,
}

impl RoomControl {
    /// Begins with the whole room.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: bytes_max,
            floor_ns: None,
            small_run: 0,
        }
    }

    /// The room: a message may come in while less than this is in flight.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is taken from the room.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.bytes == self.bytes_max
    }

    /// Begins anew with the whole room: what was found is too old to say anything of the disk.
    pub const fn forget(&mut self) {
        self.bytes = self.bytes_max;
        self.small_run = 0;
    }

    /// A batch was committed. `target_ns` is how long messages may wait on top of what a small
    /// commit takes; without it the room is as large as it may be.
    pub fn committed(&mut self, batch_bytes: usize, took_ns: u64, target_ns: Option<u64>) {
        let Some(target_ns) = target_ns else {
            self.bytes = self.bytes_max;
            return;
        };
        let took_ns = took_ns.max(1);
        if batch_bytes <= SMALL_BYTES {
            // A small batch may be held up, but none is faster than the disk.
            let floor_ns = self.floor_ns.unwrap_or(took_ns);
            self.floor_ns = Some(floor_ns / 8 * 7 + took_ns / 8);
            self.small_in(took_ns <= target_ns.saturating_add(floor_ns));
            return;
        }
        self.small_run = 0;
        // Before a small batch has been seen, the large one tells the most that it can be.
        let floor_ns = self.floor_ns.unwrap_or(took_ns).min(took_ns);
        let may_take_ns = aim_ns(target_ns, floor_ns).saturating_add(floor_ns);
        let wide = |value: u64| u128::from(value);
        let batch = wide(u64::try_from(batch_bytes).unwrap_or(u64::MAX));
        let wanted = batch * wide(may_take_ns) / wide(took_ns);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        // Half way: one slow commit is no reason to stop everybody.
        let bytes = self.bytes / 2 + wanted.min(self.bytes_max) / 2;
        self.bytes = bytes.max(ROOM_BYTES_MIN).min(self.bytes_max);
    }

    /// Without large batches nothing is measured: the room of a slow spell goes back by itself.
    fn small_in(&mut self, is_time: bool) {
        self.small_run = match is_time {
            true => self.small_run.saturating_add(1),
            false => 0,
        };
        if self.small_run >= SMALL_RUN {
            self.bytes += (self.bytes_max - self.bytes).div_ceil(2);
        }
    }
}

/// What a batch may take on top of what a small commit takes.
fn aim_ns(target_ns: u64, floor_ns: u64) -> u64 {
    let worth_ns = floor_ns.saturating_mul(COMMIT_FLOORS);
    worth_ns.max(target_ns / TARGET_PART).min(target_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const MIB: usize = 1 << 20;
    const TARGET: Option<u64> = Some(50 * MS);

    /// Commits all that there is room for, on a disk with a cost for each commit and each MiB.
    fn run(room: &mut RoomControl, commit_ms: u64, mib_ms: u64) -> u64 {
        let mut took_ns = 0;
        for _ in 0..50 {
            let mib = u64::try_from(room.bytes() / MIB).unwrap();
            took_ns = commit_ms * MS + mib * mib_ms * MS;
            room.committed(room.bytes(), took_ns, TARGET);
        }
        took_ns
    }

    #[test]
    fn room_shrinks_until_a_commit_takes_a_part_of_the_target() {
        let mut room = RoomControl::new(64 * MIB);
        room.committed(1_000, MS, TARGET);
        let took_ns = run(&mut room, 1, 1);
        assert!((5 * MS..=7 * MS).contains(&took_ns), "{took_ns}");
    }

    #[test]
    fn a_commit_with_a_cost_of_its_own_may_take_more_but_never_above_the_target() {
        let took_ns = |commit_ms| {
            let mut room = RoomControl::new(640 * MIB);
            room.committed(1_000, commit_ms * MS, TARGET);
            run(&mut room, commit_ms, 1)
        };
        let ten = took_ns(10);
        assert!((47 * MS..=51 * MS).contains(&ten), "{ten}");
        let fifty = took_ns(50);
        assert!((95 * MS..=101 * MS).contains(&fifty), "{fifty}");
    }

    #[test]
    fn a_slow_sync_is_no_reason_for_less_room() {
        let mut room = RoomControl::new(64 * MIB);
        room.committed(1_000, 200 * MS, TARGET);
        let took_ns = run(&mut room, 200, 0);
        assert_eq!(room.bytes(), 64 * MIB, "{took_ns}");
    }

    #[test]
    fn room_comes_back_when_the_disk_is_fast_again() {
        let mut room = RoomControl::new(64 * MIB);
        room.committed(1_000, MS, TARGET);
        run(&mut room, 1, 100);
        assert_eq!(room.bytes(), ROOM_BYTES_MIN);
        run(&mut room, 1, 0);
        assert!(room.bytes() > 63 * MIB, "{}", room.bytes());
    }

    #[test]
    fn room_comes_back_with_small_batches_in_a_row_that_are_in_time() {
        let mut room = RoomControl::new(64 * MIB);
        room.committed(1_000, MS, TARGET);
        run(&mut room, 1, 100);
        assert_eq!(room.bytes(), ROOM_BYTES_MIN);
        for _ in 0..100 {
            room.committed(1_000, 200 * MS, TARGET);
            room.committed(1_000, MS, TARGET);
        }
        assert_eq!(room.bytes(), ROOM_BYTES_MIN, "half of them are slow");
        for _ in 0..100 {
            room.committed(1_000, MS, TARGET);
        }
        assert!(room.is_whole(), "{}", room.bytes());
    }

    #[test]
    fn a_small_batch_before_each_large_one_gives_nothing_back() {
        let mut room = RoomControl::new(64 * MIB);
        for _ in 0..100 {
            room.committed(1_000, MS, TARGET);
            room.committed(4 * MIB, 400 * MS, TARGET);
        }
        assert_eq!(room.bytes(), ROOM_BYTES_MIN);
        room.forget();
        assert!(room.is_whole());
    }

    #[test]
    fn without_a_target_the_room_is_whole_and_it_never_leaves_its_bounds() {
        let mut room = RoomControl::new(8 * MIB);
        for (bytes, took_ns) in [
            (0, 0),
            (usize::MAX, 1),
            (MIB, u64::MAX),
            (usize::MAX, u64::MAX),
        ] {
            room.committed(bytes, took_ns, TARGET);
            assert!((ROOM_BYTES_MIN..=8 * MIB).contains(&room.bytes()));
            room.committed(bytes, took_ns, Some(u64::MAX));
            assert!((ROOM_BYTES_MIN..=8 * MIB).contains(&room.bytes()));
        }
        room.committed(MIB, u64::MAX, None);
        assert_eq!(room.bytes(), 8 * MIB);
        let small = RoomControl::new(1_000);
        assert_eq!(small.bytes(), 1_000, "a small bound is kept, too");
    }
}
