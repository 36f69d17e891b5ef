//! Scrapes that are being sent: each holds what it has gathered until its last byte has left, so
//! there may be only so many. Whoever takes a scrape as slowly as this is no monitoring.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use super::steps::Exposition;
use crate::rt::{self, Instant};

/// Scrapes that one core sends at a time.
const SENDING_MAX: usize = 8;

/// How long one may take when others wait for its place; monitoring gives up after some seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A scrape that is being sent; `None` once its place was wanted.
pub(super) type Sent = Rc<RefCell<Option<Exposition>>>;

/// When a scrape began to be sent, and the scrape while it is.
type Since = (Instant, Weak<RefCell<Option<Exposition>>>);

thread_local! {
    static SENDING: RefCell<Vec<Since>> = const { RefCell::new(Vec::new()) };
}

/// Whether another scrape may begin. Ends those that take too long when there are too many.
pub(super) fn has_room() -> bool {
    let now = rt::now();
    let mut overdue = Vec::new();
    let room = SENDING.with_borrow_mut(|sending| {
        sending.retain(|(_, scrape)| scrape.strong_count() > 0);
        if sending.len() >= SENDING_MAX {
            sending.retain(|(since, scrape)| {
                let stays = now.since(*since) < PATIENCE;
                if !stays {
                    overdue.extend(scrape.upgrade());
                }
                stays
            });
        }
        sending.len() < SENDING_MAX
    });
    // Behind the borrow: what is dropped starts a task.
    for scrape in overdue {
        drop(scrape.take());
    }
    room
}

/// Counts a scrape that begins to be sent.
pub(super) fn begin(exposition: Exposition) -> Sent {
    let sent: Sent = Rc::new(RefCell::new(Some(exposition)));
    SENDING.with_borrow_mut(|sending| sending.push((rt::now(), Rc::downgrade(&sent))));
    sent
}
