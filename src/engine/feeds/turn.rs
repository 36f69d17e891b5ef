//! Turns: who reads what next, and what became of it.

use ringmq_storage::Sequence;

use super::feed::{InFlight, Share, Standing};
use super::{Feeds, LIVE_CHANNEL, LIVE_FEED, LIVE_RECEIVER, Mark, ReceiverKey, Turn};
use crate::engine::arena::Key;

/// The turn that is not answered yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpenTurn {
    pub(super) receiver: Key,
    share: Share,
}

impl<R: Default> Feeds<R> {
    /// The next turn; `None` when nobody with credit has something to read.
    ///
    /// It is to be answered before the next one is taken: with [`Feeds::sent`], and if that was
    /// not all with [`Feeds::parked`] or [`Feeds::skipped`] after it; or, if there was nothing to
    /// send, with one of these two or [`Feeds::caught_up`].
    ///
    /// # Panics
    /// If the turn before was not answered.
    #[allow(
        clippy::should_implement_trait,
        reason = "no iterator: a turn is answered before the next one"
    )]
    pub fn next(&mut self) -> Option<Turn> {
        assert!(self.turn.is_none(), "the turn before this one is answered");
        while let Some(index) = self.ready.pop_front() {
            let feed = self.feeds.at_mut(index).expect(LIVE_FEED);
            assert_eq!(feed.standing, Standing::Ready);
            feed.standing = Standing::Resting;
            let channel = self.channels.at(feed.channel).expect(LIVE_CHANNEL);
            feed.skip_trimmed(channel.trimmed);
            if feed.due(channel.last) != Standing::Ready {
                self.settle(index);
                continue;
            }
            let sharing = feed.rotation.len();
            let key = feed
                .rotation
                .pop_front()
                .expect("a ready feed has a member");
            let receiver = self.receivers.get_mut(key).expect(LIVE_RECEIVER);
            receiver.in_rotation = false;
            let share = feed.share(channel.last, receiver.credit, sharing);
            let share = share.expect("a ready feed has work, its members in rotation have credit");
            self.turn = Some(OpenTurn {
                receiver: key,
                share,
            });
            return Some(Turn {
                receiver: ReceiverKey(key),
                address: receiver.address,
                channel: channel.key,
                from: share.from,
                upto: share.upto,
                bytes_max: share.bytes_max,
            });
        }
        None
    }

    /// The messages `first..=last` of the open turn left for the receiver, as one chunk of `bytes`;
    /// what lies before `first` in the turn is gone. Returns the chunk's number there.
    ///
    /// # Panics
    /// If this is not the receiver in turn, or the range is not in the turn.
    pub fn sent(
        &mut self,
        ReceiverKey(key): ReceiverKey,
        first: Sequence,
        last: Sequence,
        bytes: usize,
    ) -> Mark {
        let share = self.close(key).expect("the receiver is in turn");
        assert!(share.from <= first);
        assert!(first <= last);
        assert!(last <= share.upto);
        let receiver = self.receivers.get_mut(key).expect(LIVE_RECEIVER);
        let index = receiver.feed;
        let feed = self.feeds.at_mut(index).expect(LIVE_FEED);
        if share.redelivery {
            let was_due = feed.redelivery.remove(share.from, last);
            assert!(was_due > 0, "what is delivered again was given back");
        } else {
            assert!(share.from == feed.next, "new messages leave in order");
            feed.next = last.next();
        }
        feed.outstanding.insert(first);
        receiver.mark = Mark(receiver.mark.0 + 1);
        let mark = receiver.mark;
        receiver.in_flight.push_back(InFlight { mark, first, last });
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        receiver.credit = receiver.credit.saturating_sub(bytes);
        self.rotate(key, false);
        self.settle(index);
        mark
    }

    /// The read of the open turn found nothing. The next one looks further, if there is more;
    /// else nobody behind this position gets a turn until the channel grows.
    ///
    /// # Panics
    /// If this is not the receiver in turn.
    pub fn caught_up(&mut self, ReceiverKey(key): ReceiverKey) {
        let share = self.close(key).expect("the receiver is in turn");
        let index = self.receivers.get(key).expect(LIVE_RECEIVER).feed;
        let feed = self.feeds.at_mut(index).expect(LIVE_FEED);
        if share.redelivery {
            // It was there before: it is gone now.
            feed.redelivery.remove(share.from, share.upto);
        } else {
            feed.looked_through = share.upto;
        }
        self.rotate(key, true);
        self.note_move(index);
        self.settle(index);
    }

    /// The receiver's read waits for a cold window: nobody behind this position gets a turn until
    /// [`Feeds::resume`], or until the receiver is removed. A stale key does nothing.
    pub fn parked(&mut self, ReceiverKey(key): ReceiverKey) {
        self.close(key);
        let Some(receiver) = self.receivers.get(key) else {
            return;
        };
        let index = receiver.feed;
        let feed = self.feeds.at_mut(index).expect(LIVE_FEED);
        feed.parked_by = Some(key);
        self.rotate(key, true);
        self.settle(index);
    }

    /// The window is warm. A stale key does nothing.
    pub fn resume(&mut self, ReceiverKey(key): ReceiverKey) {
        let Some(receiver) = self.receivers.get(key) else {
            return;
        };
        let index = receiver.feed;
        let feed = self.feeds.at_mut(index).expect(LIVE_FEED);
        if feed.parked_by == Some(key) {
            feed.parked_by = None;
            self.settle(index);
        }
    }

    /// The receiver's read passed over `first..=last`, which cannot be read: this counts as
    /// delivered. A stale key does nothing.
    pub fn skipped(&mut self, ReceiverKey(key): ReceiverKey, first: Sequence, last: Sequence) {
        self.close(key);
        let Some(receiver) = self.receivers.get(key) else {
            return;
        };
        let index = receiver.feed;
        let feed = self.feeds.at_mut(index).expect(LIVE_FEED);
        feed.redelivery.remove(first, last);
        if first <= feed.next && feed.next <= last {
            feed.next = last.next();
        }
        self.rotate(key, true);
        self.note_move(index);
        self.settle(index);
    }

    /// Ends the open turn if it is this receiver's.
    fn close(&mut self, key: Key) -> Option<Share> {
        let turn = self.turn.take_if(|turn| turn.receiver == key)?;
        Some(turn.share)
    }
}
