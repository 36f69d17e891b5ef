//! How receivers, feeds and channels come and go.

use std::rc::Rc;

use std::collections::VecDeque;

use ringmq_storage::{ChannelKey, CursorId, Sequence};

use super::channel::Channel;
use super::feed::{Feed, Receiver};
use super::{
    Address, Feeds, LIVE_CHANNEL, LIVE_FEED, Mark, NewReceiver, RETIRED_FEEDS_MAX, ReceiverKey,
};

impl<R: Default> Feeds<R> {
    /// Adds a receiver, without credit. If its feed is live or remembered, it reads on where that
    /// is, which may be ahead of `position`.
    ///
    /// # Panics
    /// If the client id has a live receiver on the channel ([`Feeds::holder`]), if a receiver on
    /// its own has a cursor that another one reads behind, or if the cursor is of another group.
    pub fn add(&mut self, new: NewReceiver<'_>) -> ReceiverKey {
        let channel_index = self.channel_index(new.channel);
        let index = self.feed_index(channel_index, &new);
        let feed = self.feeds.at_mut(index).expect(LIVE_FEED);
        assert_eq!(feed.group.as_deref().unwrap_or_default(), new.group);
        assert!(feed.group.is_some() || feed.member_count == 0);
        feed.member_count += 1;
        let client: Rc<str> = new.client.into();
        let key = self.receivers.insert(Receiver {
            feed: index,
            address: new.address,
            client: Rc::clone(&client),
            credit: 0,
            in_flight: VecDeque::new(),
            mark: Mark(0),
            in_rotation: false,
        });
        let channel = self.channels.at_mut(channel_index).expect(LIVE_CHANNEL);
        let holder = channel.clients.insert(client, key);
        assert!(holder.is_none(), "a client id is unique on its channel");
        self.stored(new.channel, new.last);
        ReceiverKey(key)
    }

    /// Removes a receiver. What it had not confirmed goes to the other members of its group before
    /// anything new, or to the next receiver of this position. A stale key does nothing.
    pub fn remove(&mut self, ReceiverKey(key): ReceiverKey) {
        let Some(receiver) = self.receivers.remove(key) else {
            return;
        };
        self.turn.take_if(|turn| turn.receiver == key);
        let feed = self.feeds.at_mut(receiver.feed).expect(LIVE_FEED);
        let channel = self.channels.at_mut(feed.channel).expect(LIVE_CHANNEL);
        let holder = channel.clients.remove(&receiver.client);
        assert_eq!(holder, Some(key));
        if receiver.in_rotation {
            feed.rotation.retain(|member| *member != key);
        }
        feed.parked_by.take_if(|parked_by| *parked_by == key);
        feed.take_back(&receiver.in_flight, channel.trimmed);
        feed.member_count -= 1;
        let retired = feed.member_count == 0 && !feed.retired;
        self.note_move(receiver.feed);
        self.settle(receiver.feed);
        if retired {
            self.retire(receiver.feed);
        }
    }

    /// The cursor has been deleted: nothing is remembered of it. Does nothing while it has a
    /// receiver.
    pub fn cursor_deleted(&mut self, channel: ChannelKey, cursor: CursorId) {
        let Some(index) = self
            .channel(channel)
            .and_then(|c| c.feeds.get(&cursor).copied())
        else {
            return;
        };
        if self.feeds.at(index).expect(LIVE_FEED).member_count == 0 {
            self.retired.retain(|retired| *retired != index);
            self.forget(index);
            self.last_moves
                .retain(|of| (of.0, of.1) != (channel, cursor));
        }
    }

    /// The channel has been deleted, with its cursors: removes its receivers and says who they
    /// were. Positions that have moved are not reported any more.
    pub fn channel_deleted(
        &mut self,
        channel: ChannelKey,
        ended: &mut Vec<(ReceiverKey, Address)>,
    ) {
        let Some(state) = self.channel(channel) else {
            return;
        };
        let mut clients: Vec<_> = state.clients.values().copied().collect();
        let cursors: Vec<_> = state.feeds.keys().copied().collect();
        clients.sort_unstable();
        for key in clients {
            let address = self.receivers.get(key).map(|receiver| receiver.address);
            self.remove(ReceiverKey(key));
            ended.extend(address.map(|address| (ReceiverKey(key), address)));
        }
        for cursor in cursors {
            self.cursor_deleted(channel, cursor);
        }
        self.last_moves.retain(|of| of.0 != channel);
        assert!(self.channel(channel).is_none());
    }

    fn channel_index(&mut self, key: ChannelKey) -> u32 {
        if let Some(&index) = self.by_channel.get(&key) {
            return index;
        }
        let index = self.channels.insert(Channel::new(key)).index();
        self.by_channel.insert(key, index);
        index
    }

    /// The feed of a cursor: made if it has none, moved up to the position if it is behind.
    fn feed_index(&mut self, channel_index: u32, new: &NewReceiver<'_>) -> u32 {
        let channel = self.channels.at_mut(channel_index).expect(LIVE_CHANNEL);
        if let Some(&index) = channel.feeds.get(&new.cursor) {
            let feed = self.feeds.at_mut(index).expect(LIVE_FEED);
            feed.skip_trimmed(new.position);
            feed.reported = feed.reported.max(new.position);
            return index;
        }
        // A move that nobody has taken yet is ahead of the durable position.
        let moves = self.last_moves.iter();
        let moves = moves.filter(|of| (of.0, of.1) == (new.channel, new.cursor));
        let position = moves.map(|of| of.2).fold(new.position, Sequence::max);
        let feed = Feed::new(channel_index, new.cursor, new.group, position);
        let index = self.feeds.insert(feed).index();
        channel.feeds.insert(new.cursor, index);
        index
    }

    /// Remembers a feed without receivers, and forgets the one that retired first if that makes
    /// too many. One that has been taken up again only leaves the list.
    fn retire(&mut self, index: u32) {
        self.feeds.at_mut(index).expect(LIVE_FEED).retired = true;
        self.retired.push_back(index);
        while self.retired.len() > RETIRED_FEEDS_MAX
            && let Some(first) = self.retired.pop_front()
        {
            let feed = self.feeds.at_mut(first).expect(LIVE_FEED);
            feed.retired = false;
            if feed.member_count == 0 {
                self.forget(first);
            }
        }
    }

    /// Drops a feed without receivers, and its channel if that has no other.
    fn forget(&mut self, index: u32) {
        self.settle(index);
        let feed = self.feeds.remove_at(index).expect(LIVE_FEED);
        assert_eq!(feed.member_count, 0);
        let channel = self.channels.at_mut(feed.channel).expect(LIVE_CHANNEL);
        let key = channel.key;
        let floor: Sequence = feed.floor(channel.trimmed);
        if floor > feed.reported {
            self.last_moves.push((key, feed.cursor, floor));
        }
        // Both are rare here: a feed without members leaves these lists with the next turn and the
        // next call for moves.
        self.ready.retain(|ready| *ready != index);
        self.moved.retain(|moved| *moved != index);
        channel.feeds.remove(&feed.cursor);
        if channel.feeds.is_empty() {
            self.by_channel.remove(&key);
            self.channels.remove_at(feed.channel);
        }
    }
}
