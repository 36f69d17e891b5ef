//! Lists of channels, gathered from all cores.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::chunked::Chunked;
use super::pace::Pace;
use super::survey::join_traced;
use super::unstored::Traced;
use super::walk::Met;
use super::{
    ChannelFacts, ChannelList, ChannelQuestion, LISTS_MAX, ListsBusy, WhichChannels, stored_kind,
};
use crate::model::Kind;
use crate::rt::{self, Notify, Queue};
use crate::shard::Shard;
use crate::shard::message::Note;

/// A part of a list is handed on when it is as large.
const PART_BYTES: usize = 64 << 10;

/// What one core has found.
#[derive(Debug)]
pub(in crate::shard) enum ShardList {
    /// Stored channels: all is known of them there.
    Written(ChannelList),
    /// Others: several cores may know something of one.
    Traced(Chunked<(Box<str>, Traced)>),
    /// It makes as many lists as it may already.
    Busy,
}

/// A list that is being gathered.
#[derive(Debug)]
pub(in crate::shard) struct Gathering {
    missing: Cell<u16>,
    lists: RefCell<Vec<ShardList>>,
    ready: Notify,
}

/// Takes a gathering out of the table, however it ends.
struct Listed<'a> {
    shard: &'a Shard,
    key: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.shard.channels.lists.borrow_mut().remove(self.key);
    }
}

/// One of the walks of a core.
pub(super) struct Walk<'a>(&'a Cell<usize>);

impl<'a> Walk<'a> {
    pub(super) fn begin(running: &'a Cell<usize>) -> Option<Self> {
        (running.get() < LISTS_MAX).then(|| {
            running.set(running.get() + 1);
            Self(running)
        })
    }
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// A list that is being written, in parts.
struct Writer {
    question: Arc<ChannelQuestion>,
    list: ChannelList,
    part: Vec<u8>,
}

impl Writer {
    fn new(question: &Arc<ChannelQuestion>) -> Self {
        Self {
            question: question.clone(),
            list: ChannelList::default(),
            part: Vec::new(),
        }
    }

    fn add(&mut self, facts: &ChannelFacts<'_>) {
        self.list.count += 1;
        self.list.messages_in += facts.traffic.messages_in;
        self.list.delivered += facts.delivered;
        self.list.waiting += facts.waiting;
        (self.question.write)(facts, &mut self.part);
        if self.part.len() >= PART_BYTES {
            let next = Vec::with_capacity(self.part.len());
            let part = std::mem::replace(&mut self.part, next);
            self.list.parts.push(Bytes::from(part));
        }
    }

    fn finish(mut self) -> ChannelList {
        if !self.part.is_empty() {
            self.list.parts.push(Bytes::from(self.part));
        }
        self.list
    }
}

impl Shard {
    /// Lists channels of one kind, on all cores. The walk is cut into slices of 100 us, so that it
    /// disturbs nobody; a channel that comes or goes meanwhile may be there or not.
    ///
    /// # Errors
    /// [`ListsBusy`].
    pub async fn list_channels(
        self: &Rc<Self>,
        question: ChannelQuestion,
    ) -> Result<ChannelList, ListsBusy> {
        let gathering = Rc::new(Gathering {
            missing: Cell::new(self.count),
            lists: RefCell::default(),
            ready: Notify::new(),
        });
        let key = self.channels.lists.borrow_mut().insert(gathering.clone());
        let _listed = Listed { shard: self, key };
        let question = Arc::new(question);
        for peer in 0..self.count {
            match self.lane(peer) {
                None => self.list_here(self.id, key, question.clone()),
                Some(lane) => lane.push_note(Note::Channels {
                    key,
                    question: question.clone(),
                }),
            }
        }
        while gathering.missing.get() > 0 {
            gathering.ready.wait().await;
        }
        let lists = gathering.lists.take();
        let mut all = ChannelList::default();
        let mut traced = Vec::new();
        for list in lists {
            match list {
                ShardList::Written(list) => add(&mut all, list),
                ShardList::Traced(found) => traced.push(found),
                ShardList::Busy => return Err(ListsBusy),
            }
        }
        let mut joined = join_traced(traced).await;
        let mut writer = Writer::new(&question);
        let mut pace = Pace::begin();
        while let Some((name, found)) = joined.pop_first() {
            writer.add(&found.facts(&name));
            pace.step().await;
        }
        add(&mut all, writer.finish());
        Ok(all)
    }

    /// Looks through the channels of this core for one that asks.
    pub(in crate::shard) fn list_here(
        self: &Rc<Self>,
        core: u16,
        key: u64,
        question: Arc<ChannelQuestion>,
    ) {
        let shard = self.clone();
        rt::spawn(Queue::Serve, "list channels", async move {
            let list = match Walk::begin(&shard.channels.lists_running) {
                None => ShardList::Busy,
                Some(_walk) => match question.kind {
                    Kind::EventsStore | Kind::Queues => {
                        ShardList::Written(shard.list_stored(&question).await)
                    }
                    Kind::Events | Kind::Commands | Kind::Queries => {
                        ShardList::Traced(shard.trace(&question).await)
                    }
                },
            };
            match shard.lane(core) {
                None => shard.listed_here(key, list),
                Some(lane) => lane.push_note(Note::ChannelsListed {
                    key,
                    list: Box::new(list),
                }),
            }
        });
    }

    /// A core has looked.
    pub(in crate::shard) fn listed_here(&self, key: u64, list: ShardList) {
        let lists = self.channels.lists.borrow();
        if let Some(gathering) = lists.get(key) {
            gathering.lists.borrow_mut().push(list);
            let missing = gathering.missing.get().saturating_sub(1);
            gathering.missing.set(missing);
            if missing == 0 {
                gathering.ready.raise();
            }
        }
    }

    async fn list_stored(&self, question: &Arc<ChannelQuestion>) -> ChannelList {
        let mut writer = Writer::new(question);
        let kind = stored_kind(question.kind);
        if let WhichChannels::Named(names) = &question.which {
            let mut pace = Pace::begin();
            for name in names {
                self.write_named(name, &mut writer);
                pace.step().await;
            }
            return writer.finish();
        }
        self.walk_stored(kind, |met| {
            if question.wants(&met.channel.name) {
                writer.add(&self.stored_facts(met));
            }
            1
        })
        .await;
        writer.finish()
    }

    fn write_named(&self, name: &str, writer: &mut Writer) {
        let slot = self.placement.slot(name);
        let Some(seat) = self.own_seat(slot) else {
            return;
        };
        let slots = seat.slots.borrow();
        let key = slots.find(slot, stored_kind(writer.question.kind), name);
        if let Some(key) = key
            && let Some(channel) = slots.channel(key)
        {
            writer.add(&self.stored_facts(&Met {
                seat,
                slots: &slots,
                key,
                channel,
            }));
        }
    }
}

fn add(all: &mut ChannelList, list: ChannelList) {
    all.parts.extend(list.parts);
    all.count += list.count;
    all.messages_in += list.messages_in;
    all.delivered += list.delivered;
    all.waiting += list.waiting;
}
