//! Random lives of receivers against a model that knows the fate of every message.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;
use ringmq_storage::{CursorId, Sequence};

use super::tests::channel;
use super::{Address, Feeds, Mark, NewReceiver, ReceiverKey, Turn};

/// Bytes of a message.
const MESSAGE: usize = 10;
const CHANNELS: u32 = 2;
/// Cursors of a channel: as many receivers on their own, then groups.
const SOLOS: u32 = 2;
const CURSORS: u32 = 4;
const CLIENTS: u64 = 7;

#[derive(Clone, Debug)]
enum Action {
    Store {
        channel: u32,
        count: u64,
    },
    Join {
        channel: u32,
        cursor: u32,
        client: u64,
    },
    Leave {
        which: Index,
    },
    Grant {
        which: Index,
        bytes: u64,
    },
    /// Takes turns and answers them; a read may end early.
    Turns {
        count: usize,
        answer: Answer,
        part: u64,
    },
    Resume {
        which: Index,
    },
    Confirm {
        which: Index,
        part: Index,
    },
    Trim {
        channel: u32,
        part: Index,
    },
    TakeMoves,
    /// Only the durable positions stay.
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Sent,
    Parked,
    SentThenParked,
    Skipped,
    SentThenSkipped,
}

fn action() -> impl Strategy<Value = Action> {
    let which = any::<Index>;
    let answer = prop_oneof![
        6 => Just(Answer::Sent),
        1 => Just(Answer::Parked),
        1 => Just(Answer::SentThenParked),
        1 => Just(Answer::Skipped),
        1 => Just(Answer::SentThenSkipped),
    ];
    prop_oneof![
        6 => (0..CHANNELS, 1..200_u64)
            .prop_map(|(channel, count)| Action::Store { channel, count }),
        5 => (0..CHANNELS, 0..CURSORS, 0..CLIENTS)
            .prop_map(|(channel, cursor, client)| Action::Join { channel, cursor, client }),
        2 => which().prop_map(|which| Action::Leave { which }),
        8 => (which(), 0..2_000_u64).prop_map(|(which, bytes)| Action::Grant { which, bytes }),
        12 => (1..6_usize, answer, 1..70_u64)
            .prop_map(|(count, answer, part)| Action::Turns { count, answer, part }),
        3 => which().prop_map(|which| Action::Resume { which }),
        8 => (which(), which()).prop_map(|(which, part)| Action::Confirm { which, part }),
        1 => (0..CHANNELS, which()).prop_map(|(channel, part)| Action::Trim { channel, part }),
        3 => Just(Action::TakeMoves),
        1 => Just(Action::Restart),
    ]
}

#[derive(Debug, Default)]
struct Log {
    last: u64,
    trimmed: u64,
}

/// What has become of the messages behind one cursor.
#[derive(Debug, Default)]
struct Cursor {
    /// Where the durable record is.
    position: u64,
    confirmed: BTreeSet<u64>,
    in_flight: BTreeSet<u64>,
    /// In flight when a member left, and not sent again.
    given_back: BTreeSet<u64>,
    /// The highest that was ever sent or skipped in this run.
    sent_through: u64,
    parked_by: Option<ReceiverKey>,
}

#[derive(Debug)]
struct Receiver {
    of: (u32, u32),
    client: u64,
    credit: i64,
    /// Unconfirmed chunks: mark, first, last.
    chunks: Vec<(Mark, u64, u64)>,
    got: BTreeSet<u64>,
    last_got: u64,
}

#[derive(Debug, Default)]
struct World {
    feeds: Feeds,
    logs: BTreeMap<u32, Log>,
    cursors: BTreeMap<(u32, u32), Cursor>,
    receivers: BTreeMap<ReceiverKey, Receiver>,
}

impl World {
    fn act(&mut self, action: &Action) {
        match *action {
            Action::Store { channel: of, count } => {
                let log = self.logs.entry(of).or_default();
                log.last += count;
                self.feeds.stored(channel(of), Sequence::new(log.last));
            }
            Action::Join {
                channel,
                cursor,
                client,
            } => self.join(channel, cursor, client),
            Action::Leave { which } => {
                if let Some(key) = self.pick(which) {
                    self.leave(key);
                }
            }
            Action::Grant { which, bytes } => {
                if let Some(key) = self.pick(which) {
                    self.grant(key, bytes);
                }
            }
            Action::Turns {
                count,
                answer,
                part,
            } => {
                for _ in 0..count {
                    if let Some(turn) = self.feeds.next() {
                        self.answer(turn, answer, part);
                    }
                }
            }
            Action::Resume { which } => {
                if let Some(key) = self.pick(which) {
                    self.resume(key);
                }
            }
            Action::Confirm { which, part } => {
                if let Some(key) = self.pick(which) {
                    let chunks = &self.receivers[&key].chunks;
                    if !chunks.is_empty() {
                        let mark = chunks[part.index(chunks.len())].0;
                        self.confirm(key, mark);
                    }
                }
            }
            Action::Trim { channel: of, part } => {
                let log = self.logs.entry(of).or_default();
                let kept = usize::try_from(log.last - log.trimmed).unwrap();
                log.trimmed += u64::try_from(part.index(kept + 1)).unwrap();
                self.feeds.trimmed(channel(of), Sequence::new(log.trimmed));
            }
            Action::TakeMoves => self.take_moves(),
            Action::Restart => self.restart(),
        }
    }

    fn pick(&self, which: Index) -> Option<ReceiverKey> {
        let keys: Vec<_> = self.receivers.keys().copied().collect();
        (!keys.is_empty()).then(|| *which.get(&keys))
    }

    fn join(&mut self, of: u32, cursor: u32, client: u64) {
        let (client, group) = if cursor < SOLOS {
            (u64::from(cursor) + 100, String::new())
        } else {
            (client, format!("group {cursor}"))
        };
        let name = client.to_string();
        if self.feeds.holder(channel(of), &name).is_some() {
            let held = self.receivers.values();
            let mut held = held.map(|held| (held.of.0, held.client));
            assert!(held.any(|held| held == (of, client)));
            return;
        }
        let log = self.logs.entry(of).or_default();
        let position = self.cursors.entry((of, cursor)).or_default().position;
        let key = self.feeds.add(NewReceiver {
            channel: channel(of),
            client: &name,
            group: &group,
            cursor: CursorId::new(cursor),
            position: Sequence::new(position),
            last: Sequence::new(log.last),
            address: Address {
                core: 1,
                key: client,
            },
        });
        // A restart or a life without receivers may have missed it.
        self.feeds.trimmed(channel(of), Sequence::new(log.trimmed));
        let receiver = Receiver {
            of: (of, cursor),
            client,
            credit: 0,
            chunks: Vec::new(),
            got: BTreeSet::new(),
            last_got: 0,
        };
        assert!(self.receivers.insert(key, receiver).is_none());
        assert_eq!(self.feeds.receiver_count(), self.receivers.len());
    }

    fn leave(&mut self, key: ReceiverKey) {
        self.feeds.remove(key);
        let receiver = self.receivers.remove(&key).unwrap();
        let cursor = self.cursors.get_mut(&receiver.of).unwrap();
        cursor.parked_by.take_if(|by| *by == key);
        for message in receiver
            .chunks
            .iter()
            .flat_map(|(_, first, last)| *first..=*last)
        {
            if cursor.in_flight.remove(&message) {
                cursor.given_back.insert(message);
            }
        }
    }

    fn grant(&mut self, key: ReceiverKey, bytes: u64) {
        self.feeds.grant(key, bytes);
        self.receivers.get_mut(&key).unwrap().credit += i64::try_from(bytes).unwrap();
    }

    fn resume(&mut self, key: ReceiverKey) {
        self.feeds.resume(key);
        let of = self.receivers[&key].of;
        let cursor = self.cursors.get_mut(&of).unwrap();
        cursor.parked_by.take_if(|by| *by == key);
    }

    fn confirm(&mut self, key: ReceiverKey, mark: Mark) {
        self.feeds.confirmed(key, mark);
        let receiver = self.receivers.get_mut(&key).unwrap();
        let cursor = self.cursors.get_mut(&receiver.of).unwrap();
        for (_, first, last) in receiver.chunks.extract_if(.., |chunk| chunk.0 <= mark) {
            for message in first..=last {
                if cursor.in_flight.remove(&message) {
                    cursor.confirmed.insert(message);
                }
            }
        }
    }

    /// Plays the shard: reads at most `part` messages and what fits.
    fn answer(&mut self, turn: Turn, answer: Answer, part: u64) {
        let key = turn.receiver;
        let of = self.receivers[&key].of;
        let log = &self.logs[&of.0];
        let cursor = self.cursors.get_mut(&of).unwrap();
        assert!(self.receivers[&key].credit > 0);
        assert_eq!(
            cursor.parked_by, None,
            "nobody reads behind a parked position"
        );
        assert_eq!(turn.channel, channel(of.0));
        assert_eq!(turn.address.key, self.receivers[&key].client);
        let (from, upto) = (turn.from.get(), turn.upto.get());
        assert!(from > log.trimmed && from <= upto && upto <= log.last);
        cursor.given_back.retain(|message| *message > log.trimmed);
        if let Some(&again) = cursor.given_back.first() {
            assert_eq!(from, again, "what was given back comes first");
        } else {
            assert_eq!(from, cursor.sent_through.max(cursor.floor(log.trimmed)) + 1);
        }
        let fit = u64::try_from(turn.bytes_max / MESSAGE).unwrap().max(1);
        let last = upto.min(from + part.min(fit) - 1);
        if !matches!(answer, Answer::Parked | Answer::Skipped) {
            self.send(key, from, last);
        }
        let next = if matches!(answer, Answer::Skipped) {
            from
        } else {
            last + 1
        };
        match answer {
            Answer::Sent => {}
            Answer::Parked | Answer::SentThenParked => {
                self.feeds.parked(key);
                self.cursors.get_mut(&of).unwrap().parked_by = Some(key);
            }
            Answer::Skipped | Answer::SentThenSkipped if next <= upto => {
                let end = upto.min(next + 2);
                self.feeds
                    .skipped(key, Sequence::new(next), Sequence::new(end));
                let cursor = self.cursors.get_mut(&of).unwrap();
                cursor.sent_through = cursor.sent_through.max(end);
                for message in next..=end {
                    cursor.given_back.remove(&message);
                    if !cursor.in_flight.contains(&message) {
                        cursor.confirmed.insert(message);
                    }
                }
            }
            Answer::Skipped | Answer::SentThenSkipped => {}
        }
    }

    fn send(&mut self, key: ReceiverKey, first: u64, last: u64) {
        let count = usize::try_from(last - first + 1).unwrap();
        let bytes = count * MESSAGE;
        let mark = self
            .feeds
            .sent(key, Sequence::new(first), Sequence::new(last), bytes);
        let receiver = self.receivers.get_mut(&key).unwrap();
        let cursor = self.cursors.get_mut(&receiver.of).unwrap();
        for message in first..=last {
            let again = cursor.given_back.remove(&message);
            assert!(again || message > cursor.sent_through, "{message} again");
            assert!(
                !cursor.confirmed.contains(&message),
                "{message} was confirmed"
            );
            assert!(cursor.in_flight.insert(message), "{message} is in flight");
            assert!(receiver.got.insert(message), "{message} twice in one life");
            assert!(again || message > receiver.last_got, "new messages ascend");
            if receiver.of.1 < SOLOS {
                assert!(
                    message > receiver.last_got,
                    "on its own, all messages ascend"
                );
            }
            receiver.last_got = receiver.last_got.max(message);
        }
        cursor.sent_through = cursor.sent_through.max(last);
        receiver.credit -= i64::try_from(bytes).unwrap();
        receiver.chunks.push((mark, first, last));
    }

    fn take_moves(&mut self) {
        let mut moves = Vec::new();
        self.feeds.take_moves(&mut moves);
        let mut seen = BTreeSet::new();
        for (of, cursor, to) in moves {
            let of = (of.channel.get(), cursor.get());
            assert!(seen.insert(of), "each position moves once");
            let cursor = self.cursors.get_mut(&of).unwrap();
            assert!(to.get() > cursor.position, "positions move up");
            assert!(to.get() <= cursor.floor(self.logs[&of.0].trimmed));
            cursor.position = to.get();
        }
    }

    fn restart(&mut self) {
        self.feeds = Feeds::new();
        self.receivers.clear();
        for cursor in self.cursors.values_mut() {
            let position = cursor.position;
            *cursor = Cursor {
                position,
                ..Cursor::default()
            };
        }
    }

    /// Everything works from here on: all messages must arrive and all positions move to the end.
    fn drain(&mut self) {
        let cursors: Vec<_> = self.cursors.keys().copied().collect();
        for (of, cursor) in cursors {
            self.join(of, cursor, CLIENTS + u64::from(cursor));
        }
        let keys: Vec<_> = self.receivers.keys().copied().collect();
        for key in keys.iter().copied() {
            self.resume(key);
            self.grant(key, 1 << 30);
        }
        while let Some(turn) = self.feeds.next() {
            self.answer(turn, Answer::Sent, u64::MAX);
        }
        for key in keys {
            if let Some(&(mark, ..)) = self.receivers[&key].chunks.last() {
                self.confirm(key, mark);
            }
        }
        self.take_moves();
        for (of, cursor) in &self.cursors {
            let log = &self.logs[&of.0];
            assert_eq!(
                cursor.floor(log.trimmed),
                log.last,
                "cursor {of:?} missed something"
            );
            if log.last > log.trimmed {
                assert_eq!(cursor.position, log.last, "cursor {of:?}");
            }
        }
    }
}

impl Cursor {
    /// Everything up to here is confirmed or gone.
    fn floor(&self, trimmed: u64) -> u64 {
        let mut floor = self.position.max(trimmed);
        while self.confirmed.contains(&(floor + 1)) {
            floor += 1;
        }
        floor
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_message_is_delivered_and_no_position_passes_an_unconfirmed_one(
        actions in prop::collection::vec(action(), 1..150)
    ) {
        let mut world = World::default();
        for action in &actions {
            world.act(action);
        }
        world.drain();
    }
}
