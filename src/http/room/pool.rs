//! Mappings that are kept for the next room.
//!
//! To make a mapping costs little, but each of its pages costs much once it is written to, and to
//! give back tens of megabytes takes milliseconds. So what a room leaves behind is kept, with its
//! pages, and the next one of that size takes it. There is one pool for the process, because rooms
//! are made and dropped on executors and on blocking threads, and a body on one thread becomes a
//! message on another.
//!
//! # Bounds
//! Pages that nobody uses are at most [`KEPT_BYTES_MAX`], whether they lie in the pool or behind
//! what a room has written so far: else a client could have large mappings lent to bodies of which
//! hardly anything comes, and hold many times the memory that is counted against it. What comes
//! back beyond that is refused, and unmapped by whoever has brought it. What lies here for
//! [`IDLE`] is taken out by [`Pool::take_idle`].
//!
//! # Threading
//! Everything may be called on any thread, and none waits for another: each size has a bounded
//! queue without locks, and the count is one number.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use memmap2::MmapMut;

use crate::rt::{self, Instant};

/// The smallest mapping. They come in powers of two, so that one that is left fits the next room.
const CLASS_BYTES_MIN: usize = 1 << 20;

/// The largest mapping that is kept: a body of the largest size that is taken without being asked
/// for. Larger ones have the size that is asked for.
const CLASS_BYTES_MAX: usize = CLASS_BYTES_MIN << (CLASSES - 1);

const CLASSES: usize = 8;

/// Mappings of one size that are kept. They may have few pages each, but there is a bound to the
/// mappings of a process as well.
const KEPT_MAX: usize = 64;

/// Pages that are kept, in bytes: twice what large bodies of one core may hold, so that a core that
/// has taken that much finds it again. With half of that, bodies of the largest size one after the
/// other had mappings given back all the time, and whoever made one waited for that, some
/// milliseconds. Those of several cores seldom come together.
const KEPT_BYTES_MAX: usize = 256 << 20;

/// How long a mapping is kept that nobody takes. Long against the pauses of a client that sends one
/// large body after the other, and short for the memory of a machine.
const IDLE: Duration = Duration::from_secs(2);

/// How exactly it is counted what of a lent mapping is not written yet: to count is a write to
/// memory that all cores share.
const COUNT_STEP: usize = 64 << 10;

static OF_PROCESS: LazyLock<Pool> = LazyLock::new(|| Pool::new(KEPT_BYTES_MAX, MmapMut::map_anon));

/// Memory of the kernel: zero at first, and with the bytes of earlier rooms when it was kept.
#[derive(Debug)]
pub(super) struct Mapping {
    memory: MmapMut,
    /// How much was ever written, from the begin on. All behind it is zero, and takes no memory.
    touched: usize,
    /// What of it counts as kept. All of it in the pool; when it is lent, what was not written
    /// again.
    counted: usize,
}

impl Mapping {
    pub(super) fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// The first bytes.
    pub(super) fn first(&self, len: usize) -> &[u8] {
        self.memory.get(..len).unwrap_or_default()
    }

    /// The first bytes, to be changed. Only those that were claimed.
    pub(super) fn first_mut(&mut self, len: usize) -> &mut [u8] {
        debug_assert!(len <= self.touched, "whoever writes claims it before");
        self.memory.get_mut(..len).unwrap_or_default()
    }

    /// The bytes from one place up to another, to be overwritten: who writes less shows what an
    /// earlier room held.
    pub(super) fn claim(&mut self, begin: usize, end: usize) -> &mut [u8] {
        assert!(
            end <= self.memory.len(),
            "there is room for what is written"
        );
        self.touched = self.touched.max(end);
        self.memory.get_mut(begin..end).unwrap_or_default()
    }

    /// The same, all zero.
    pub(super) fn claim_zeroed(&mut self, begin: usize, end: usize) -> &mut [u8] {
        // The rest was never written.
        let touched = self.touched.min(end);
        let claimed = self.claim(begin, end);
        let used = touched.saturating_sub(begin);
        claimed.get_mut(..used).unwrap_or_default().fill(0);
        claimed
    }
}

/// A mapping that waits for the next room.
#[derive(Debug)]
struct Kept {
    mapping: Mapping,
    since: Instant,
}

/// Keeps mappings, and asks the kernel for others.
#[derive(Debug)]
pub(super) struct Pool {
    /// Those of each size, in the order in which they came.
    classes: [ArrayQueue<Kept>; CLASSES],
    /// What counts as kept of all mappings; never more than `kept_max`.
    kept: AtomicUsize,
    kept_max: usize,
    map: fn(usize) -> std::io::Result<MmapMut>,
}

impl Pool {
    /// The one of all rooms.
    pub(super) fn of_process() -> &'static Self {
        &OF_PROCESS
    }

    /// Keeps up to `kept_max` bytes; `map` makes a mapping.
    pub(super) fn new(kept_max: usize, map: fn(usize) -> std::io::Result<MmapMut>) -> Self {
        Self {
            classes: std::array::from_fn(|_| ArrayQueue::new(KEPT_MAX)),
            kept: AtomicUsize::new(0),
            kept_max,
            map,
        }
    }

    /// What counts as kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    /// Takes a mapping of at least so many bytes; `None` when the kernel refuses it.
    pub(super) fn take(&self, bytes: usize) -> Option<Mapping> {
        let size = size_for(bytes);
        if let Some(kept) = self.class(size).and_then(ArrayQueue::pop) {
            debug_assert_eq!(kept.mapping.capacity(), size, "each size has its queue");
            return Some(kept.mapping);
        }
        let memory = (self.map)(size).ok()?;
        Some(Mapping {
            memory,
            touched: 0,
            counted: 0,
        })
    }

    /// Counts that so much of a lent mapping is in use now.
    pub(super) fn used(&self, mapping: &mut Mapping, len: usize) {
        if mapping.counted == 0 {
            return;
        }
        let unused = mapping.touched.saturating_sub(len);
        let over = mapping.counted.saturating_sub(unused);
        if over >= COUNT_STEP || unused == 0 {
            mapping.counted -= over;
            self.kept.fetch_sub(over, Ordering::Relaxed);
        }
    }

    /// Keeps a mapping for the next room. A few hundred nanoseconds at most, and no system call.
    ///
    /// # Errors
    /// The mapping, when it is too large or too much is kept.
    pub(super) fn put(&self, mut mapping: Mapping) -> Result<(), Mapping> {
        let more = mapping.touched.saturating_sub(mapping.counted);
        let Some(class) = self.class(mapping.capacity()).filter(|_| self.count(more)) else {
            return Err(self.no_longer_counted(mapping));
        };
        mapping.counted += more;
        let since = rt::now();
        class
            .push(Kept { mapping, since })
            .map_err(|full| self.no_longer_counted(full.mapping))
    }

    /// Takes out what nobody has taken for a while. To be dropped where that may take long.
    pub(super) fn take_idle(&self, now: Instant) -> Vec<Mapping> {
        let mut idle = Vec::new();
        for class in &self.classes {
            // Each is looked at once; those that stay keep their order.
            for _ in 0..class.len() {
                let Some(kept) = class.pop() else { break };
                let stays = now.since(kept.since) < IDLE;
                let gone = match stays {
                    true => class.push(kept).err(),
                    false => Some(kept),
                };
                idle.extend(gone.map(|kept| self.no_longer_counted(kept.mapping)));
            }
        }
        idle
    }

    /// The queue of a size; `None` for mappings that are not kept.
    fn class(&self, size: usize) -> Option<&ArrayQueue<Kept>> {
        if size > CLASS_BYTES_MAX {
            return None;
        }
        debug_assert_eq!(size, size_for(size), "sizes are powers of two");
        let class = usize::try_from((size / CLASS_BYTES_MIN).trailing_zeros()).ok()?;
        self.classes.get(class)
    }

    /// Counts more as kept; false when that is too much.
    fn count(&self, more: usize) -> bool {
        let fits = |kept: usize| kept.checked_add(more).filter(|sum| *sum <= self.kept_max);
        let counted = self
            .kept
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        counted.is_ok()
    }

    fn no_longer_counted(&self, mut mapping: Mapping) -> Mapping {
        let counted = std::mem::take(&mut mapping.counted);
        self.kept.fetch_sub(counted, Ordering::Relaxed);
        mapping
    }
}

/// The size of the mapping for so many bytes.
fn size_for(bytes: usize) -> usize {
    match bytes {
        ..=CLASS_BYTES_MAX => bytes.max(CLASS_BYTES_MIN).next_power_of_two(),
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn pool(kept_max: usize) -> Pool {
        Pool::new(kept_max, MmapMut::map_anon)
    }

    /// Of so many bytes, of which some are written.
    fn written(pool: &Pool, bytes: usize, len: usize) -> Mapping {
        let mut mapping = pool.take(bytes).unwrap();
        mapping.claim(0, len).fill(0xaa);
        pool.used(&mut mapping, len);
        mapping
    }

    fn at(mapping: &Mapping) -> *const u8 {
        mapping.memory.as_ptr()
    }

    #[test]
    fn sizes_are_powers_of_two_up_to_the_largest_that_is_kept() {
        for (bytes, size) in [
            (0, MIB),
            (1, MIB),
            (MIB, MIB),
            (MIB + 1, 2 * MIB),
            (100 * MIB, 128 * MIB),
            (128 * MIB, 128 * MIB),
            (128 * MIB + 1, 128 * MIB + 1),
            (256 * MIB, 256 * MIB),
            (usize::MAX, usize::MAX),
        ] {
            assert_eq!(size_for(bytes), size, "{bytes}");
        }
    }

    #[test]
    fn what_is_put_back_is_taken_by_the_next_of_its_size() {
        let pool = pool(16 * MIB);
        let mapping = written(&pool, 3 * MIB, 2 * MIB);
        let place = at(&mapping);
        assert_eq!(pool.kept(), 0, "what is in use is not kept");
        assert!(pool.put(mapping).is_ok());
        assert_eq!(pool.kept(), 2 * MIB);

        let smaller = pool.take(2 * MIB).unwrap();
        assert_eq!((smaller.capacity(), smaller.touched), (2 * MIB, 0));
        let again = pool.take(4 * MIB).unwrap();
        assert_eq!((at(&again), again.capacity()), (place, 4 * MIB));
        assert_eq!(again.touched, 2 * MIB);
        assert_ne!(at(&pool.take(4 * MIB).unwrap()), place, "it is lent");
    }

    #[test]
    fn no_more_is_kept_than_the_bound_whether_it_lies_here_or_is_lent() {
        let pool = pool(8 * MIB);
        assert!(pool.put(written(&pool, 4 * MIB, 3 * MIB)).is_ok());
        let (first, second) = (written(&pool, MIB, MIB), written(&pool, 8 * MIB, 6 * MIB));
        assert!(pool.put(first).is_ok());
        let refused = pool.put(second).unwrap_err();
        assert_eq!((refused.counted, pool.kept()), (0, 4 * MIB));

        // Somebody takes the first one and hardly writes to it: its pages count.
        let mut slow = written(&pool, 4 * MIB, 10);
        assert_eq!(pool.kept(), 4 * MIB);
        let refused = pool.put(refused).unwrap_err();
        // They do not once they are written again, to within a step.
        pool.used(&mut slow, 2 * MIB);
        assert_eq!(pool.kept(), 2 * MIB);
        pool.used(&mut slow, 2 * MIB + 1);
        assert_eq!(pool.kept(), 2 * MIB);
        assert!(pool.put(refused).is_ok());
        assert_eq!(pool.kept(), 8 * MIB);
        // It comes back to a pool that is full.
        assert!(pool.put(slow).is_err());
        assert_eq!(pool.kept(), 7 * MIB);
    }

    #[test]
    fn so_many_of_a_size_are_kept_and_none_above_the_largest() {
        let pool = pool(usize::MAX);
        let many: Vec<_> = (0..=KEPT_MAX).map(|_| written(&pool, MIB, 1)).collect();
        let refused = many.into_iter().filter_map(|it| pool.put(it).err());
        assert_eq!(refused.count(), 1);
        assert_eq!(pool.kept(), KEPT_MAX);
        for size in [CLASS_BYTES_MAX + 1, 2 * CLASS_BYTES_MAX] {
            assert!(pool.put(written(&pool, size, 1)).is_err());
        }
        assert_eq!(pool.kept(), KEPT_MAX);
    }

    #[test]
    fn what_nobody_takes_for_a_while_goes_and_the_rest_stays() {
        let pool = pool(usize::MAX);
        let before = rt::now();
        let three = [(MIB, MIB), (MIB, 5), (64 * MIB, 7)];
        let three = three.map(|(bytes, len)| written(&pool, bytes, len));
        assert!(three.into_iter().all(|mapping| pool.put(mapping).is_ok()));
        let lent = pool.take(64 * MIB).unwrap();
        assert!(pool.take_idle(before).is_empty());
        assert_eq!(pool.kept(), MIB + 12);
        let later = rt::now().after(IDLE);
        assert_eq!(pool.take_idle(later).len(), 2);
        assert_eq!(pool.kept(), 7, "what is lent");
        assert!(pool.take_idle(later).is_empty());
        assert!(pool.put(lent).is_ok());
        assert_eq!(pool.take_idle(rt::now().after(IDLE)).len(), 1);
        assert_eq!(pool.kept(), 0);
    }

    #[test]
    fn what_is_claimed_zeroed_is_zero_whoever_wrote_there() {
        let pool = pool(usize::MAX);
        assert!(pool.put(written(&pool, MIB, 1_000)).is_ok());
        let mut again = pool.take(MIB).unwrap();
        for (begin, end) in [(10, 20), (990, 1_010), (500, 500), (2_000, 3_000)] {
            assert!(again.claim_zeroed(begin, end).iter().all(|it| *it == 0));
            again.claim(begin, end).fill(0xbb);
        }
        assert_eq!(again.touched, 3_000);
        assert!(again.claim_zeroed(0, MIB).iter().all(|it| *it == 0));
    }

    #[test]
    fn a_refusal_of_the_kernel_is_none() {
        let pool = Pool::new(usize::MAX, |_| Err(std::io::ErrorKind::OutOfMemory.into()));
        assert!(pool.take(MIB).is_none());
        assert!(Pool::of_process().take(usize::MAX / 2).is_none());
    }

    #[test]
    fn threads_take_and_put_and_nobody_sees_the_other() {
        let pool = pool(6 * MIB);
        std::thread::scope(|scope| {
            for number in 1..=4_u8 {
                let pool = &pool;
                scope.spawn(move || {
                    for round in 0..200_usize {
                        let len = 4_096 * (1 + round % 200);
                        let mut mapping = pool.take(MIB << (round % 2)).unwrap();
                        mapping.claim(0, len).fill(number);
                        pool.used(&mut mapping, len);
                        assert!(mapping.first(len).iter().all(|it| *it == number));
                        let _refused = pool.put(mapping);
                        assert!(pool.kept() <= 6 * MIB);
                        if round % 50 == 0 {
                            drop(pool.take_idle(rt::now()));
                        }
                    }
                });
            }
        });
        drop(pool.take_idle(rt::now().after(IDLE)));
        assert_eq!(pool.kept(), 0);
    }
}
