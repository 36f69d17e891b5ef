//! From other threads to an executor.
//!
//! The runtime's own cross-thread wakers are not to be trusted with foreign threads, so the
//! kernel does the waking: a byte in a socket pair. That is dear (a system call), and meant for
//! what is rare: accepted connections, control messages, the heartbeat.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use super::line::PlaceInLine;
use super::net::Conn;

/// What is taken before others have their turn: a flood of connections comes by here, and each is
/// some tens of microseconds of work. It stands in the same line as their ends, so that none are
/// made faster than they go.
const ITEMS_PER_TURN: usize = 4;

/// The sending half; cheap to clone, usable from any thread.
#[derive(Debug)]
pub struct InboxSender<T> {
    items: mpsc::Sender<T>,
    bell: Arc<UnixStream>,
    turns: Arc<AtomicU64>,
}

impl<T> Clone for InboxSender<T> {
    fn clone(&self) -> Self {
        Self {
            items: self.items.clone(),
            bell: self.bell.clone(),
            turns: self.turns.clone(),
        }
    }
}

/// The receiving half; moved to its executor, then opened there.
#[derive(Debug)]
pub struct Inbox<T> {
    items: mpsc::Receiver<T>,
    bell: UnixStream,
    turns: Arc<AtomicU64>,
}

/// Makes a pair.
///
/// # Errors
/// When the process may open no more files.
pub fn inbox<T: Send>() -> io::Result<(InboxSender<T>, Inbox<T>)> {
    let (items_tx, items_rx) = mpsc::channel();
    let (near, far) = UnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    let turns = Arc::new(AtomicU64::new(0));
    let sender = InboxSender {
        items: items_tx,
        bell: Arc::new(near),
        turns: turns.clone(),
    };
    Ok((
        sender,
        Inbox {
            items: items_rx,
            bell: far,
            turns,
        },
    ))
}

impl<T: Send> InboxSender<T> {
    /// Hands `item` to the executor; gives it back when the executor has ended.
    ///
    /// # Errors
    /// The item, when nobody will receive it.
    pub fn send(&self, item: T) -> Result<(), T> {
        self.items.send(item).map_err(|refused| refused.0)?;
        self.ring();
        Ok(())
    }

    /// Makes the executor turn once, whatever it believes; says whether it still lives.
    pub fn ring(&self) -> bool {
        match (&*self.bell).write_all(&[1]) {
            Ok(()) => true,
            // A full socket means that bells are waiting to be heard: nothing is lost.
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// How often the executor has answered a bell.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }
}

impl<T> Inbox<T> {
    /// Receives until every sender is gone. `each` is called on the executor, in order of arrival.
    pub async fn run(self, mut each: impl FnMut(T)) {
        let mut bell = match Conn::from_socket(self.bell.into()) {
            Ok(bell) => bell,
            Err(error) => return tracing::error!(%error, "the inbox cannot be watched"),
        };
        let mut rung = [0_u8; 64];
        let mut place = PlaceInLine::default();
        loop {
            let read = std::future::poll_fn(|cx| bell.poll_read(cx, &mut rung)).await;
            self.turns.fetch_add(1, Ordering::Relaxed);
            let mut taken = 0;
            loop {
                match self.items.try_recv() {
                    Ok(item) => {
                        each(item);
                        taken += 1;
                        if taken % ITEMS_PER_TURN == 0 {
                            std::future::poll_fn(|cx| place.poll(cx)).await;
                        }
                    }
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
            match read {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::error!(%error, "inbox bell is broken");
                    return;
                }
            }
        }
    }
}
