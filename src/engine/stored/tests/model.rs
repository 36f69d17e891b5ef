//! Random commands, against a model that knows no log: it does at once what it is told.

use std::collections::BTreeMap;

use ringmq_storage::log::Refused;
use ringmq_storage::{ChannelKey, CursorId, Sequence, SlotId};

use super::tape::{Tape, restore, section, slot, with_frame};
use crate::engine::stored::{
    CursorOwner, Effect, Limits, NewMessage, Slots, StoreRefusal, StoredKind,
};
use ringmq_storage::log::Apply;

const SLOTS: u16 = 3;
const LIMITS: Limits = Limits {
    channels_max: 9,
    channels_elsewhere: 0,
    messages_max: 5,
    bytes_max: 0,
    drop_oldest: false,
    cursors_per_channel_max: 3,
};

/// A channel as a user would describe it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Expected {
    first: u64,
    last: u64,
    cursors: BTreeMap<(CursorOwner, String), u64>,
}

type Name = (u16, StoredKind, String);

/// What all commands so far add up to.
#[derive(Debug, Default)]
struct Model {
    channels: BTreeMap<Name, Expected>,
}

impl Model {
    /// Creates a channel if it is missing, as one of the appends that are `left`.
    fn channel(&mut self, name: &Name, left: &mut usize) -> Result<&mut Expected, &'static str> {
        if !self.channels.contains_key(name) {
            let stored = self.channels.keys().filter(|name| name.1.has_messages());
            if name.1.has_messages() && stored.count() >= 9 {
                return Err("channels");
            }
            *left = left.checked_sub(1).ok_or("log")?;
            let new = Expected {
                first: 1,
                ..Expected::default()
            };
            self.channels.insert(name.clone(), new);
        }
        Ok(self.channels.get_mut(name).unwrap())
    }

    fn message(&mut self, name: &Name, drop: bool, mut left: usize) -> Result<u64, &'static str> {
        let channel = self.channel(name, &mut left)?;
        if !drop && channel.last + 1 - channel.first >= 5 {
            return Err("messages");
        }
        left = left.checked_sub(1).ok_or("log")?;
        channel.last += 1;
        if drop && channel.last + 1 - channel.first > 5 && left > 0 {
            channel.first = channel.last - 4;
        }
        Ok(channel.last)
    }
}

/// A generator of numbers that anybody can repeat.
pub(super) struct Dice(pub u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

struct World {
    dice: Dice,
    tape: Tape,
    slots: Slots,
    model: Model,
    /// What subscribers would have been told.
    told: BTreeMap<ChannelKey, Sequence>,
    now_ns: u64,
}

fn all_slots() -> impl Iterator<Item = SlotId> {
    (0..SLOTS).map(slot)
}

fn why(refusal: &StoreRefusal) -> &'static str {
    match refusal {
        StoreRefusal::ChannelLimit { .. } => "channels",
        StoreRefusal::MessagesLimit { .. } => "messages",
        StoreRefusal::CursorLimit { .. } => "cursors",
        StoreRefusal::Log(_) => "log",
        other => panic!("{other}"),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut slots = Slots::new(all_slots());
        slots.go_live();
        Self {
            dice: Dice(seed),
            tape: Tape::default(),
            slots,
            model: Model::default(),
            told: BTreeMap::new(),
            now_ns: 1_000_000,
        }
    }

    fn name(&mut self) -> Name {
        let index = u16::try_from(self.dice.roll(SLOTS.into())).unwrap();
        let kind = match self.dice.roll(4) {
            // Queues have a model of their own.
            0 => StoredKind::Events,
            _ => StoredKind::EventsStore,
        };
        (index, kind, format!("channel.{}", self.dice.roll(3)))
    }

    fn owner(&mut self) -> (CursorOwner, String) {
        let owner = match self.dice.roll(2) {
            0 => CursorOwner::Client,
            _ => CursorOwner::Group,
        };
        (owner, format!("reader.{}", self.dice.roll(3)))
    }

    /// Sometimes the log refuses one of the next appends. Returns how many it will take.
    fn maybe_refuse(&mut self) -> usize {
        self.tape.refuse_after = match self.dice.roll(8) {
            0 => Some((0, Refused::Busy)),
            1 => Some((1, Refused::Full)),
            _ => None,
        };
        self.tape
            .refuse_after
            .map_or(usize::MAX, |(after, _)| after)
    }

    /// The channel's number, with all that is on its way.
    fn key(&mut self, name: &Name) -> Option<ChannelKey> {
        self.model.channels.get(name)?;
        let (kind, now_ns) = (name.1, self.now_ns);
        let found = self.slots.prepare_channel(
            &mut self.tape,
            slot(name.0),
            kind,
            &name.2,
            now_ns,
            &LIMITS,
        );
        Some(found.unwrap())
    }

    fn step(&mut self) {
        // The clock of a machine may go back.
        self.now_ns =
            self.now_ns + self.dice.roll(6_000_000_000) - 900_000.min(self.dice.roll(2) * 900_000);
        match self.dice.roll(16) {
            0..=5 => self.message(),
            6 => self.channel(),
            7..=8 => self.cursor(),
            9..=10 => self.moves(),
            11 => self.trim(),
            12 if self.dice.roll(3) == 0 => self.delete_channel(),
            13 => self.delete_cursor(),
            _ => {
                let count = self.dice.roll(6);
                self.commit(usize::try_from(count).unwrap());
            }
        }
        self.tape.refuse_after = None;
    }

    fn commit(&mut self, count: usize) {
        self.tape.commit(&mut self.slots, count);
        let mut effects = Vec::new();
        self.slots.take_effects(&mut effects);
        for effect in effects {
            match effect {
                Effect::Stored { key, last } => {
                    let before = self.told.insert(key, last);
                    assert!(before.is_none_or(|before| before < last));
                }
                Effect::Deleted { key } => {
                    self.told.remove(&key);
                }
                _ => {}
            }
        }
    }

    fn message(&mut self) {
        let mut name = self.name();
        name.1 = StoredKind::EventsStore;
        let left = self.maybe_refuse();
        let limits = Limits {
            drop_oldest: self.dice.roll(2) == 0,
            ..LIMITS
        };
        let request = NewMessage {
            slot: slot(name.0),
            kind: name.1,
            channel: &name.2,
            now_ns: self.now_ns,
            encoding: 1,
            payload_len: 5,
            moved: None,
            limits: &limits,
        };
        let mut write = |out: &mut Vec<u8>| out.extend_from_slice(b"hello");
        let accepted = self
            .slots
            .prepare_message(&mut self.tape, request, &mut write);
        let found = accepted.map(|accepted| accepted.sequence.get());
        let expected = self.model.message(&name, limits.drop_oldest, left);
        assert_eq!(found.map_err(|refusal| why(&refusal)), expected);
    }

    fn channel(&mut self) {
        let name = self.name();
        let mut left = self.maybe_refuse();
        let found = self.slots.prepare_channel(
            &mut self.tape,
            slot(name.0),
            name.1,
            &name.2,
            self.now_ns,
            &LIMITS,
        );
        let expected = self.model.channel(&name, &mut left).map(|_| ());
        let found = found.map(|_| ()).map_err(|refusal| why(&refusal));
        assert_eq!(found, expected);
    }

    fn cursor(&mut self) {
        let (name, (owner, reader)) = (self.name(), self.owner());
        let Some(key) = self.key(&name) else { return };
        let left = self.maybe_refuse();
        let position = self.dice.roll(8);
        let now_ns = self.now_ns;
        let found = self.slots.prepare_cursor(
            &mut self.tape,
            key,
            owner,
            &reader,
            Sequence::new(position),
            now_ns,
            &LIMITS,
        );
        let channel = self.model.channels.get_mut(&name).unwrap();
        let known = channel.cursors.contains_key(&(owner, reader.clone()));
        let expected = match (known, channel.cursors.len() >= 3, left) {
            (true, ..) => Ok(()),
            (false, true, _) => Err("cursors"),
            (false, false, 0) => Err("log"),
            _ => {
                let position = position.min(channel.last);
                channel.cursors.insert((owner, reader), position);
                Ok(())
            }
        };
        let found = found.map(|_| ()).map_err(|refusal| why(&refusal));
        assert_eq!(found, expected);
    }

    /// The number of a position that is applied and will stay.
    fn known_cursor(&mut self) -> Option<(Name, ChannelKey, (CursorOwner, String), CursorId)> {
        let (name, owner) = (self.name(), self.owner());
        let key = self.key(&name)?;
        self.model.channels[&name].cursors.get(&owner)?;
        let (owner_kind, reader) = &owner;
        let found = self.slots.prepare_cursor(
            &mut self.tape,
            key,
            *owner_kind,
            reader,
            Sequence::new(0),
            self.now_ns,
            &LIMITS,
        );
        Some((name, key, owner, found.unwrap()))
    }

    fn moves(&mut self) {
        let mut moves = Vec::new();
        let mut expected = Vec::new();
        let mut on = None;
        for _ in 0..4 {
            let Some((name, key, owner, cursor)) = self.known_cursor() else {
                continue;
            };
            // What receivers confirm was delivered, so its channel and position are applied.
            let Some(last) = self.slots.channel(key).map(|channel| channel.last) else {
                continue;
            };
            let Some((found, _)) = self.slots.cursor(key, owner.0, &owner.1) else {
                continue;
            };
            if found != cursor || on.is_some_and(|on| on != name.0) {
                continue;
            }
            on = Some(name.0);
            let to = self.dice.roll(last.get() + 1);
            moves.push((cursor, Sequence::new(to)));
            expected.push((name, owner, to));
        }
        let Some(on) = on else { return };
        let left = self.maybe_refuse();
        let now_ns = self.now_ns;
        let prepared = self
            .slots
            .prepare_moves(&mut self.tape, slot(on), now_ns, &moves);
        let useful = expected
            .iter()
            .any(|(name, owner, to)| self.model.channels[name].cursors[owner] < *to);
        assert_eq!(prepared.is_err(), useful && left == 0);
        if prepared.is_ok() {
            for (name, owner, to) in expected {
                let channel = self.model.channels.get_mut(&name).unwrap();
                let position = channel.cursors.get_mut(&owner).unwrap();
                *position = to.max(*position);
            }
        }
    }

    fn trim(&mut self) {
        let name = self.name();
        let Some(key) = self.key(&name) else { return };
        let left = self.maybe_refuse();
        let through = self.dice.roll(12);
        let now_ns = self.now_ns;
        let trimmed = self
            .slots
            .prepare_trim(&mut self.tape, key, Sequence::new(through), now_ns);
        let channel = self.model.channels.get_mut(&name).unwrap();
        let through = through.min(channel.last);
        let useful = through >= channel.first;
        assert_eq!(trimmed.is_err(), useful && left == 0);
        if useful && left > 0 {
            channel.first = through + 1;
        }
    }

    fn delete_channel(&mut self) {
        let name = self.name();
        let Some(key) = self.key(&name) else { return };
        let left = self.maybe_refuse();
        let deleted = self
            .slots
            .prepare_channel_delete(&mut self.tape, key, self.now_ns);
        assert_eq!(deleted.is_err(), left == 0);
        if deleted.is_ok() {
            self.model.channels.remove(&name);
            let again = self
                .slots
                .prepare_channel_delete(&mut self.tape, key, self.now_ns);
            assert_eq!(again, Err(StoreRefusal::NoChannel));
        }
    }

    fn delete_cursor(&mut self) {
        let Some((name, key, owner, cursor)) = self.known_cursor() else {
            return;
        };
        let left = self.maybe_refuse();
        let now_ns = self.now_ns;
        let deleted = self
            .slots
            .prepare_cursor_delete(&mut self.tape, key, cursor, now_ns);
        assert_eq!(deleted.is_err(), left == 0);
        if deleted.is_ok() {
            let channel = self.model.channels.get_mut(&name).unwrap();
            channel.cursors.remove(&owner);
        }
    }

    /// Everything committed, the state is what the model says.
    fn check(&mut self) {
        self.commit(usize::MAX);
        let mut found = BTreeMap::new();
        for (key, channel) in self.slots.channels() {
            let name = (key.slot.index(), channel.kind, channel.name.to_string());
            assert_eq!(
                self.slots.find(key.slot, channel.kind, &channel.name),
                Some(key)
            );
            let told = self.told.get(&key).copied().unwrap_or_default();
            assert_eq!(told, channel.last, "subscribers hear of every message");
            let cursors = self.slots.cursors(key).map(|(_, cursor)| {
                (
                    (cursor.owner, cursor.name.to_string()),
                    cursor.position.get(),
                )
            });
            let channel = Expected {
                first: channel.first.get(),
                last: channel.last.get(),
                cursors: cursors.collect(),
            };
            found.insert(name, channel);
        }
        assert_eq!(found, self.model.channels);
        assert!(all_slots().all(|slot| self.slots.is_settled(slot)));
    }

    /// Live, replayed, and restored anywhere in between: the same bytes.
    fn check_restarts(&mut self) {
        let live = all_slots().map(|slot| section(&self.slots, slot));
        let live: Vec<_> = live.collect();
        let replayed = self.tape.replay(all_slots());
        let cut = self.dice.roll(self.tape.frames.len() as u64 + 1);
        let (before, behind) = self.tape.frames.split_at(usize::try_from(cut).unwrap());
        let mut first = Slots::new(all_slots());
        for bytes in before {
            with_frame(bytes, |frame| first.apply(frame)).unwrap();
        }
        let sections: Vec<_> = all_slots().map(|slot| section(&first, slot)).collect();
        let mut restored = restore(&sections).unwrap();
        for bytes in behind {
            with_frame(bytes, |frame| restored.apply(frame)).unwrap();
        }
        for (slot, live) in all_slots().zip(live) {
            assert_eq!(section(&replayed, slot), live);
            assert_eq!(section(&restored, slot), live);
        }
    }
}

#[test]
fn live_replayed_and_restored_states_are_what_the_commands_add_up_to() {
    for seed in 0..2000 {
        let mut world = World::new(seed);
        for round in 0..6 {
            for _ in 0..40 {
                world.step();
            }
            if round % 2 == 1 {
                world.check();
            }
        }
        world.check_restarts();
    }
}

/// The log of a random run, committed, and its slots.
pub(super) fn random_tape(seed: u64) -> (Tape, Vec<SlotId>) {
    let mut world = World::new(seed);
    for _ in 0..150 {
        world.step();
    }
    world.check();
    (world.tape, all_slots().collect())
}
