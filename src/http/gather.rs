//! What comes in pieces and is needed whole: bodies of requests, messages of sockets.
//!
//! Small ones grow as they come. A large one gets the room for all that it may become at once, of
//! which it takes what has come, and never moves.
//!
//! # Bounds
//! What gathers counts against the limit of its connection, as unfinished messages of gRPC do.
//! Large ones count against [`LARGE_BYTES_MAX`] of their core besides: from the first byte until
//! what was made of them has gone. Who comes when that is held is refused, and told so; small ones
//! are not asked, so that nobody is shut out by a few who send much.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::room::{self, ASIDE_BYTES_MIN, Room};
use crate::security::limits::LimitReached;
use crate::wire::framing::GatherLimit;

/// What large bodies and messages of a core may hold together, unless one alone may be larger.
const LARGE_BYTES_MAX: usize = 128 << 20;

/// From this size on they are large.
const LARGE_BYTES_MIN: usize = 64 << 10;

/// What is gathered first gets this much room.
const FIRST_BYTES: usize = 4 << 10;

/// What those are told who come when others hold [`LARGE_BYTES_MAX`].
pub(super) const NO_ROOM: LimitReached = LimitReached {
    limit: "large bodies and messages over HTTP, 128 MiB of a core",
    retry_after: Some(Duration::from_secs(1)),
};

thread_local! {
    /// What they hold on this core.
    static LARGE: Arc<AtomicUsize> = Arc::default();
}

/// What one of them holds of it. Given back when this is dropped, on whichever thread that is.
#[derive(Debug, Default)]
struct Share {
    of: Option<Arc<AtomicUsize>>,
    bytes: usize,
}

impl Share {
    /// Takes as many bytes as it now needs; false when others hold too much. One alone may always
    /// have `alone_max`.
    fn reach(&mut self, bytes: usize, alone_max: usize) -> bool {
        let of = self.of.get_or_insert_with(|| LARGE.with(Arc::clone));
        let more = bytes.saturating_sub(self.bytes);
        // Others can only have given back meanwhile: this core alone takes.
        let held = of.load(Ordering::Relaxed).saturating_add(more);
        let fits = held <= LARGE_BYTES_MAX.max(alone_max);
        if fits {
            of.fetch_add(more, Ordering::Relaxed);
            self.bytes += more;
        }
        fits
    }

    /// Holds so many from now on.
    fn set(&mut self, bytes: usize) {
        let Some(of) = &self.of else { return };
        of.fetch_add(bytes, Ordering::Relaxed);
        of.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Why there is no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The connection holds as much as it may.
    Connection,
    /// The core does: [`NO_ROOM`].
    Core,
}

/// Something that gathers.
#[derive(Debug)]
pub(super) struct Gathering {
    /// What came in one piece is not copied.
    first: Bytes,
    room: Room,
    /// Bytes of all of it, as far as that is known.
    expected: usize,
    connection: Rc<GatherLimit>,
    share: Share,
}

impl Gathering {
    /// Begins with nothing; `expected` bytes will come, or at most.
    pub(super) fn new(connection: Rc<GatherLimit>, expected: usize) -> Self {
        Self {
            first: Bytes::new(),
            room: Room::default(),
            expected,
            connection,
            share: Share::default(),
        }
    }

    /// How much has come.
    pub(super) const fn len(&self) -> usize {
        self.first.len() + self.room.len()
    }

    /// What has come.
    pub(super) fn gathered(&self) -> &[u8] {
        if self.first.is_empty() {
            self.room.written()
        } else {
            &self.first
        }
    }

    /// Adds a piece, which is kept as it is when it stays the only one.
    ///
    /// # Errors
    /// [`Full`]: it was not added.
    pub(super) fn add(&mut self, piece: Bytes) -> Result<(), Full> {
        self.count(piece.len())?;
        if self.len() == 0 {
            self.first = piece;
            return Ok(());
        }
        let first = std::mem::take(&mut self.first);
        self.append(&first);
        self.append(&piece);
        Ok(())
    }

    /// Adds a piece that may not be kept as it is.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub(super) fn add_copied(&mut self, piece: &[u8]) -> Result<(), Full> {
        debug_assert!(self.first.is_empty(), "pieces are added in one of two ways");
        self.count(piece.len())?;
        self.append(piece);
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Full> {
        let whole = self.len() + bytes;
        if whole >= LARGE_BYTES_MIN && !self.share.reach(whole, self.expected) {
            return Err(Full::Core);
        }
        match self.connection.take(bytes) {
            true => Ok(()),
            false => Err(Full::Connection),
        }
    }

    fn append(&mut self, piece: &[u8]) {
        let whole = self.room.len() + piece.len();
        if whole > self.room.capacity() {
            self.room.widen(match whole >= ASIDE_BYTES_MIN {
                true => self.expected.max(whole),
                // Not yet large: it moves there once, when it is.
                false => (2 * self.room.len())
                    .min(ASIDE_BYTES_MIN - 1)
                    .max(whole)
                    .max(FIRST_BYTES),
            });
        }
        self.room.extend(piece);
    }

    /// It is whole. It counts no longer against its connection, but still against its core.
    pub(super) fn finish(mut self) -> Gathered {
        let bytes = match self.first.is_empty() {
            true => std::mem::take(&mut self.room).into_bytes(),
            false => std::mem::take(&mut self.first),
        };
        // The drop finds nothing any more.
        self.connection.give_back(bytes.len());
        Gathered {
            bytes,
            share: std::mem::take(&mut self.share),
        }
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.connection.give_back(self.len());
        if self.len() >= ASIDE_BYTES_MIN {
            let (room, share) = (&mut self.room, &mut self.share);
            room::let_go(std::mem::take(room), std::mem::take(share));
        }
    }
}

/// What was gathered. As long as it lives it counts against its core.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    bytes: Bytes,
    share: Share,
}

impl Gathered {
    /// What was made of it takes its place.
    pub(super) fn replaced_by(mut self, bytes: Bytes) -> Bytes {
        if self.share.bytes == 0 {
            return bytes;
        }
        // On the thread that has made it: this is large.
        drop(std::mem::take(&mut self.bytes));
        self.share.set(bytes.len());
        self.bytes = bytes;
        Bytes::from_owner(self)
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        if self.bytes.len() >= ASIDE_BYTES_MIN {
            let (bytes, share) = (&mut self.bytes, &mut self.share);
            room::let_go(std::mem::take(bytes), std::mem::take(share));
        }
    }
}

impl From<Bytes> for Gathered {
    fn from(bytes: Bytes) -> Self {
        let share = Share::default();
        Self { bytes, share }
    }
}

impl Deref for Gathered {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Gathered {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Gathered {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Gathered {}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::rt;
    use crate::rt::start::{Plan, start};

    const MIB: usize = 1 << 20;

    const UNPINNED: Plan = Plan {
        cpu: None,
        spin: None,
    };

    fn begin(expected: usize) -> Gathering {
        Gathering::new(GatherLimit::new(usize::MAX), expected)
    }

    /// What is held on this thread.
    fn held() -> usize {
        LARGE.with(|held| held.load(Ordering::Relaxed))
    }

    #[test]
    fn one_piece_is_not_copied_and_several_are_put_together() {
        let piece = Bytes::from(vec![7; 100]);
        let mut gathering = begin(100);
        gathering.add(piece.clone()).unwrap();
        assert_eq!(gathering.gathered(), &piece[..]);
        assert_eq!(gathering.finish().as_ptr(), piece.as_ptr());

        for step in [1_000, 70_000, 3 * MIB] {
            let mut gathering = begin(0);
            let mut expected = Vec::new();
            for number in 0..5_u8 {
                gathering.add(vec![number; step].into()).unwrap();
                expected.extend(vec![number; step]);
            }
            assert!(gathering.gathered() == expected, "{step}");
            assert!(*gathering.finish() == expected, "{step}");
        }
        assert!(begin(0).finish().is_empty());
        assert_eq!(held(), 0);
    }

    #[test]
    fn a_large_one_never_moves_and_counts_until_what_was_made_of_it_is_gone() {
        let mut gathering = begin(20 * MIB);
        gathering.add_copied(&vec![1; 2 * MIB]).unwrap();
        let at = gathering.gathered().as_ptr();
        for _ in 0..18 {
            gathering.add_copied(&vec![1; MIB]).unwrap();
        }
        assert_eq!(gathering.gathered().as_ptr(), at);
        let gathered = gathering.finish();
        assert_eq!(held(), 20 * MIB);
        let made = gathered.replaced_by(vec![0; 5 * MIB].into());
        assert_eq!((held(), made.len()), (5 * MIB, 5 * MIB));
        let part = made.slice(1..2);
        drop(made);
        assert_eq!(held(), 5 * MIB);
        drop(part);
        assert_eq!(held(), 0);
    }

    #[test]
    fn a_core_holds_so_much_of_large_ones_and_small_ones_come_through() {
        let fill = |mut gathering: Gathering| {
            let piece = Bytes::from(vec![0; MIB]);
            let added = (0..200).take_while(|_| gathering.add(piece.clone()).is_ok());
            (added.count(), gathering)
        };
        let (first, one) = fill(begin(100 * MIB));
        assert_eq!(first, 128, "one alone");
        assert_eq!(begin(MIB).add(vec![0; MIB].into()).unwrap_err(), Full::Core);
        let small = Bytes::from(vec![0; LARGE_BYTES_MIN - 1]);
        assert!(begin(MIB).add(small).is_ok());
        drop(one);
        assert_eq!(held(), 0);
        let (alone, one) = fill(begin(150 * MIB));
        assert_eq!(alone, 150, "as large as one may be");
        drop(one);
        assert_eq!(held(), 0);
    }

    #[test]
    fn what_is_not_kept_for_the_next_counts_until_it_is_given_back() {
        let (tell, told) = mpsc::channel();
        let executors = start(&[UNPINNED], vec![tell], |_, tell| async move {
            let dropped = rt::Notify::new();
            let drops = dropped.clone();
            // In a task: only there is an executor to be held up.
            rt::spawn(rt::Queue::Serve, "drops", async move {
                let large = || {
                    // Larger than what is ever kept.
                    let mut gathering = begin(200 * MIB);
                    gathering.add_copied(&vec![1; 2 * MIB]).unwrap();
                    gathering
                };
                let (broken, whole) = (large(), large().finish());
                assert_eq!(held(), 4 * MIB);
                drop(broken);
                drop(whole);
                assert_eq!(held(), 4 * MIB, "they are still being given back");
                drops.raise();
            });
            dropped.wait().await;
            while held() > 0 {
                rt::reactor_yield().await;
            }
            rt::blocking_ended().await;
            tell.send(()).unwrap();
        });
        told.recv_timeout(Duration::from_secs(30)).unwrap();
        executors.unwrap().join();
    }

    #[test]
    fn what_gathers_counts_against_its_connection_until_it_is_whole() {
        let limit = GatherLimit::new(1_000);
        let mut one = Gathering::new(limit.clone(), 0);
        let mut other = Gathering::new(limit.clone(), 0);
        one.add_copied(&[1; 600]).unwrap();
        assert_eq!(other.add(vec![2; 600].into()), Err(Full::Connection));
        let one = one.finish();
        assert_eq!((one.len(), limit.held_bytes()), (600, 0));
        other.add(vec![2; 600].into()).unwrap();
        other.add(vec![2; 400].into()).unwrap();
        assert_eq!(limit.held_bytes(), 1_000);
        drop(other);
        assert_eq!(limit.held_bytes(), 0);
    }
}
