//! What was prepared, in order, and what it adds up to: a model that knows no log.

use std::collections::{BTreeMap, HashMap, HashSet};

use ringmq::engine::stored::{ChannelLog, Slots};
use ringmq_storage::log::{Appender, Class, Log, Refused, Usage};
use ringmq_storage::record::payload::{self, ChannelCreate, CursorCreate};
use ringmq_storage::record::{RecordHead, RecordKind};
use ringmq_storage::{ChannelKey, Position, Sequence, SlotId};

use super::world::Outcome;

/// A record that the log has taken.
#[derive(Debug)]
pub(crate) struct Deed {
    slot: SlotId,
    timestamp_ns: u64,
    head: RecordHead,
    payload: Vec<u8>,
    /// Committed when the log is committed this far.
    end: Position,
}

impl Deed {
    fn subject(&self) -> (ChannelKey, u64) {
        let (slot, channel) = (self.slot, self.head.channel);
        (ChannelKey { slot, channel }, self.head.sequence.get())
    }
}

/// The log, with a witness.
pub(crate) struct Witnessed<'a> {
    pub(crate) log: &'a mut Log,
    pub(crate) deeds: &'a mut Deeds,
}

impl Appender for Witnessed<'_> {
    fn append(
        &mut self,
        slot: SlotId,
        timestamp_ns: u64,
        head: RecordHead,
        class: Class,
        write: &mut dyn FnMut(&mut Vec<u8>),
    ) -> Result<(), Refused> {
        let mut payload = Vec::new();
        let mut seen = |out: &mut Vec<u8>| {
            let before = out.len();
            write(out);
            payload = out[before..].to_vec();
        };
        self.log
            .append(slot, timestamp_ns, head, class, &mut seen)?;
        self.deeds.list.push(Deed {
            slot,
            timestamp_ns,
            head,
            payload,
            end: self.log.end(),
        });
        Ok(())
    }
}

impl ChannelLog for Witnessed<'_> {
    fn usage(&self, key: ChannelKey) -> Usage {
        self.log.usage(key)
    }

    fn through_bytes(&self, key: ChannelKey, bytes_max: u64) -> Option<Sequence> {
        self.log.through_bytes(key, bytes_max)
    }
}

/// A channel as a user would describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shown {
    kind: u8,
    name: String,
    first: u64,
    last: u64,
    /// By owner and name: number and position.
    cursors: BTreeMap<(u8, String), (u32, u64)>,
}

/// All that can be seen of the state without reading messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Picture {
    channels: BTreeMap<ChannelKey, Shown>,
    /// Numbers given so far, of channels and of positions.
    given: BTreeMap<SlotId, (u32, u32)>,
}

/// A message as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) payload: Vec<u8>,
    pub(crate) timestamp_ns: u64,
}

/// The deeds since the last start, and what was there before them.
#[derive(Debug, Default)]
pub(crate) struct Deeds {
    /// Where the first `base_len` deeds have led.
    base: Picture,
    base_len: usize,
    list: Vec<Deed>,
    committed: usize,
    durable: usize,
    /// Every message that the log has taken and that may still be there.
    messages: HashMap<(ChannelKey, u64), Message>,
    noted: usize,
    /// How far each channel was ever to be trimmed.
    trimmed: HashMap<ChannelKey, u64>,
    /// Channels that were ever to be deleted.
    deleted: HashSet<ChannelKey>,
}

impl Picture {
    fn of(slots: &Slots, own: &[SlotId]) -> Self {
        let mut picture = Self::default();
        for slot in own {
            let mut bytes = Vec::new();
            slots.encode_section(*slot, &mut bytes);
            let next = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            picture.given.insert(*slot, (next(4) - 1, next(8) - 1));
        }
        for (key, channel) in slots.channels() {
            let cursors = slots.cursors(key).map(|(id, cursor)| {
                let name = (cursor.owner as u8, cursor.name.to_string());
                (name, (id.get(), cursor.position.get()))
            });
            let shown = Shown {
                kind: channel.kind as u8,
                name: channel.name.to_string(),
                first: channel.first.get(),
                last: channel.last.get(),
                cursors: cursors.collect(),
            };
            picture.channels.insert(key, shown);
        }
        picture
    }

    fn apply(&mut self, deed: &Deed) {
        let (key, sequence) = deed.subject();
        let (slot, channel) = (key.slot, key.channel);
        let given = self.given.entry(slot).or_default();
        match deed.head.kind {
            RecordKind::Message => self.channels.get_mut(&key).unwrap().last = sequence,
            RecordKind::ChannelCreate => {
                let create = ChannelCreate::decode(&deed.payload).unwrap();
                given.0 = channel.get();
                let shown = Shown {
                    kind: create.kind,
                    name: create.name.to_owned(),
                    first: 1,
                    ..Shown::default()
                };
                self.channels.insert(key, shown);
            }
            RecordKind::ChannelDelete => {
                self.channels.remove(&key);
            }
            RecordKind::Trim => self.channels.get_mut(&key).unwrap().first = sequence + 1,
            RecordKind::CursorCreate => {
                let create = CursorCreate::decode(&deed.payload).unwrap();
                given.1 = create.cursor.get();
                let name = (create.owner, create.name.to_owned());
                let shown = self.channels.get_mut(&key).unwrap();
                shown.cursors.insert(name, (create.cursor.get(), sequence));
            }
            RecordKind::CursorMove => {
                for (id, to) in payload::decode_moves(&deed.payload).unwrap() {
                    let shown = self.channels.iter_mut().filter(|(key, _)| key.slot == slot);
                    let cursors = shown.flat_map(|(_, shown)| shown.cursors.values_mut());
                    for cursor in cursors.filter(|cursor| cursor.0 == id.get()) {
                        cursor.1 = to.get();
                    }
                }
            }
            RecordKind::CursorDelete => {
                let id = payload::decode_cursor_delete(&deed.payload).unwrap();
                let shown = self.channels.get_mut(&key).unwrap();
                shown.cursors.retain(|_, cursor| cursor.0 != id.get());
            }
            RecordKind::QueueSettle
            | RecordKind::QueueRequeue
            | RecordKind::QueueCount
            | RecordKind::QueueMove
            | RecordKind::QueueMoveCancel
            | RecordKind::QueueMoveForget => panic!("no queue is in this world"),
        }
    }
}

impl Deeds {
    /// Notes what was taken since the last call.
    pub(crate) fn note_taken(&mut self) {
        for deed in &self.list[self.noted..] {
            let (key, sequence) = deed.subject();
            match deed.head.kind {
                RecordKind::Message => {
                    let message = Message {
                        payload: deed.payload.clone(),
                        timestamp_ns: deed.timestamp_ns,
                    };
                    let before = self.messages.insert((key, sequence), message);
                    assert!(before.is_none(), "a sequence is given once");
                }
                RecordKind::Trim => {
                    let through = self.trimmed.entry(key).or_default();
                    *through = sequence.max(*through);
                }
                RecordKind::ChannelDelete => {
                    self.deleted.insert(key);
                }
                _ => {}
            }
        }
        self.noted = self.list.len();
    }

    /// Whether somebody wanted a message to go.
    pub(crate) fn was_to_go(&self, key: ChannelKey, sequence: u64) -> bool {
        let trimmed = self
            .trimmed
            .get(&key)
            .is_some_and(|through| sequence <= *through);
        trimmed || self.deleted.contains(&key)
    }

    pub(crate) fn message(&self, key: ChannelKey, sequence: u64) -> Option<&Message> {
        self.messages.get(&(key, sequence))
    }

    pub(crate) fn note_committed(&mut self, through: Position) {
        let more = &self.list[self.committed..];
        self.committed += more.iter().take_while(|deed| deed.end <= through).count();
    }

    pub(crate) fn note_durable(&mut self, through: Position) {
        let more = &self.list[self.durable..];
        self.durable += more.iter().take_while(|deed| deed.end <= through).count();
    }

    /// After a start: the state must be what some first deeds add up to, at least those that are
    /// promised. The others have not happened. Returns how many those are.
    pub(crate) fn survive(&mut self, slots: &Slots, own: &[SlotId], cut: bool) -> Outcome<usize> {
        let found = Picture::of(slots, own);
        let promised = if cut { self.durable } else { self.committed };
        for slot in own {
            self.base.given.entry(*slot).or_default();
        }
        let before = self.list.len();
        while self.base_len < promised {
            self.base.apply(&self.list[self.base_len]);
            self.base_len += 1;
        }
        while self.base != found {
            let Some(deed) = self.list.get(self.base_len) else {
                return Err(format!(
                    "after the start there is {found:?}, which {before} deeds ({promised} \
                     promised) never led to; the last is {:?}",
                    self.base
                ));
            };
            self.base.apply(deed);
            self.base_len += 1;
        }
        let survived = self.base_len;
        for deed in &self.list[survived..] {
            if deed.head.kind == RecordKind::Message {
                self.messages.remove(&deed.subject());
            }
        }
        self.messages.retain(|(key, sequence), _| {
            let shown = found.channels.get(key);
            shown.is_some_and(|shown| *sequence >= shown.first)
        });
        self.list.clear();
        (self.base_len, self.committed, self.durable, self.noted) = (0, 0, 0, 0);
        Ok(before - survived)
    }

    /// How many messages must be readable after a start.
    pub(crate) fn kept(&self) -> usize {
        self.messages.len()
    }

    /// How many records were taken since the start.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }
}
