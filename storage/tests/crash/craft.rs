//! Frames as replication will leave them: of another leader, in the place of frames of ours. One
//! node never makes them, yet its recovery must read them (rules L3 and L4 of
//! `docs/replication.md`). They are written behind the end of a log that was closed in order.

use std::path::{Path, PathBuf};

use ringmq_storage::checkpoint::Checkpoint;
use ringmq_storage::cipher::{Cipher, KeyPlace, Salt};
use ringmq_storage::frame::{FrameHeader, FrameKind, Seed, frame_len};
use ringmq_storage::fs::Fs;
use ringmq_storage::record::RecordKind;
use ringmq_storage::segment::{Preamble, SegmentHeader};
use ringmq_storage::{FrameIndex, Position, SlotId, Term};

use super::oracle::Deed;
use super::state::{SlotState, head};
use super::world::{Outcome, World};

/// Where the first frame of a segment lies.
const FIRST_FRAME: u32 = 64;

/// Where a closed log ends.
pub(crate) struct Tail {
    pub(crate) end: Position,
    pub(crate) path: PathBuf,
}

/// A frame with one record, to be written.
struct Crafted {
    index: u64,
    term: u64,
    deed: Deed,
    /// Whether no later one takes its place.
    counts: bool,
}

impl World {
    /// Adds frames of a leader that was not followed, and those of the one that was: frames
    /// `applied + 1` and on, and then one that takes the place of some of them. None of the lost
    /// ones was ever committed.
    pub(crate) fn supersede(&mut self, tail: &Tail) -> Outcome {
        let slot = self.habits.slots[self.random.below(self.habits.slots.len())];
        let applied = self.model.applied.get(&slot).map_or(0, |index| index.get());
        let mut state = self.oracle.ahead(slot);
        let mut frames = Vec::new();
        let mut index = applied;
        for _ in 0..self.random.below(3) {
            index += 1;
            let deed = self.next_deed(slot, &mut state);
            frames.push(Crafted {
                index,
                term: 1,
                deed,
                counts: true,
            });
        }
        let replaced = index + 1;
        let mut lost = state.clone();
        for _ in 0..self.random.between(1, 3) {
            index += 1;
            let deed = self.next_deed(slot, &mut lost);
            frames.push(Crafted {
                index,
                term: 1,
                deed,
                counts: false,
            });
        }
        self.add_other(slot, &mut frames);
        let deed = self.next_deed(slot, &mut state);
        frames.push(Crafted {
            index: replaced,
            term: 2,
            deed,
            counts: true,
        });
        if !self.write_frames(tail, &frames)? {
            return Ok(());
        }
        for frame in frames.into_iter().filter(|frame| frame.counts) {
            self.oracle.push(frame.deed);
        }
        self.oracle.note_committed(Position::default());
        self.oracle.note_durable(Position::default());
        self.seen.superseded += 1;
        if self.random.percent(50) {
            self.advance_checkpoint(tail, slot, FrameIndex::new(replaced))?;
        }
        Ok(())
    }

    /// Adds a frame of another slot, which has no part in this.
    fn add_other(&mut self, slot: SlotId, frames: &mut Vec<Crafted>) {
        let others = self.habits.slots.iter();
        let others: Vec<_> = others.copied().filter(|other| *other != slot).collect();
        let Some(other) = others.get(self.random.below(others.len())) else {
            return;
        };
        let index = self
            .model
            .applied
            .get(other)
            .map_or(1, |index| index.get() + 1);
        let deed = self.next_deed(*other, &mut self.oracle.ahead(*other));
        frames.push(Crafted {
            index,
            term: 1,
            deed,
            counts: true,
        });
    }

    /// Makes a checkpoint that begins before what was crafted and holds one slot as it is behind
    /// it: recovery meets the lost frames, the replacing one is not above the checkpoint.
    fn advance_checkpoint(&mut self, tail: &Tail, slot: SlotId, applied: FrameIndex) -> Outcome {
        let Some((path, mut checkpoint)) = self.checkpoints()?.pop() else {
            return Ok(());
        };
        let mut sections = checkpoint.sections.iter_mut();
        let Some(section) = sections.find(|section| section.slot == slot) else {
            return Ok(());
        };
        if checkpoint.position != tail.end {
            return Ok(());
        }
        section.applied = applied;
        section.term = Term::new(2);
        section.last_timestamp_ns = self.now_ns;
        section.logical.clear();
        self.oracle.ahead(slot).encode(&mut section.logical);
        checkpoint.number += 1;
        let path = path.with_file_name(format!("checkpoint-{:016}", checkpoint.number));
        let fs: &dyn Fs = &self.fs;
        let replaced = fs.replace(&path, &self.encode_checkpoint(checkpoint));
        replaced.map_err(|error| error.to_string())
    }

    /// The file of a checkpoint, as the log would write it.
    fn encode_checkpoint(&self, mut checkpoint: Checkpoint) -> Vec<u8> {
        let maker = self.options.keyring.key_maker().unwrap();
        let Some(mut maker) = maker else {
            for entry in &mut checkpoint.segments {
                entry.key = None;
            }
            return checkpoint.encode();
        };
        let place = KeyPlace::Checkpoint {
            store: checkpoint.store,
            log: checkpoint.log,
            number: checkpoint.number,
        };
        checkpoint.encrypt(&maker.file_key(&place))
    }

    /// A record that fits the state, which moves on by it.
    fn next_deed(&mut self, slot: SlotId, state: &mut SlotState) -> Deed {
        let channel = state.channels.iter().next();
        let head = match channel {
            Some((id, channel)) => {
                let len = self.payload_len();
                head(RecordKind::Message, *id, channel.last + 1, len)
            }
            None => head(RecordKind::ChannelCreate, state.channel_next + 1, 0, 5),
        };
        let deed = Deed {
            slot,
            head,
            timestamp_ns: self.pass_time(),
            content: self.next_content(),
            runs: Vec::new(),
            end: Position::default(),
        };
        let applied = state.apply(&deed.head, deed.timestamp_ns, &deed.payload());
        applied.expect("the record fits the state");
        deed
    }

    /// Writes frames behind the end; false when the segment has no room.
    fn write_frames(&mut self, tail: &Tail, frames: &[Crafted]) -> Outcome<bool> {
        let text = |error: std::io::Error| format!("crafting: {error}");
        let file = self.fs.read(&tail.path).map_err(text)?;
        let header = SegmentHeader::decode(&file).map_err(|bad| bad.to_string())?;
        let Some(header) = header else {
            // Nothing was ever written.
            return Ok(false);
        };
        let seed = Seed {
            store: self.options.store,
            segment: header.segment,
            generation: header.generation,
        };
        let from = usize::try_from(FIRST_FRAME).unwrap();
        let preamble = FrameHeader::decode(&file[from..], &seed, FIRST_FRAME);
        let preamble = preamble.and_then(|frame| frame.payload(&file[from..]));
        let preamble = preamble.map(|payload| Preamble::decode(payload).unwrap());
        let wrapped = preamble.map_err(|bad| bad.to_string())?.key;
        let keyring = &self.options.keyring;
        let cipher = Cipher::of_segment(&header, wrapped.as_ref(), None, keyring).unwrap();
        // No opening has this salt.
        let salt = Salt::new(self.now_ns.to_le_bytes());
        let mut bytes = Vec::new();
        for frame in frames {
            let offset = usize::try_from(tail.end.offset()).unwrap() + bytes.len();
            bytes.extend(encode(
                frame,
                (&seed, &cipher, salt),
                u32::try_from(offset).unwrap(),
                tail.end,
            ));
        }
        let start = usize::try_from(tail.end.offset()).unwrap();
        // A seal fits behind it, as the log leaves it.
        if start + bytes.len() + 64 > file.len() {
            return Ok(false);
        }
        let mut file = self.fs.open(&tail.path).map_err(text)?;
        file.write_at(u64::from(tail.end.offset()), &bytes)
            .map_err(text)?;
        file.sync().map_err(text)?;
        Ok(true)
    }

    /// The checkpoints of the closed log, by number.
    fn checkpoints(&self) -> Outcome<Vec<(PathBuf, Checkpoint)>> {
        let directory: &Path = &self.options.directory;
        let mut entries = self.fs.list(directory).map_err(|error| error.to_string())?;
        entries.retain(|entry| entry.name.starts_with("checkpoint-") && !entry.name.contains('.'));
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        let paths = entries.iter().map(|entry| directory.join(&entry.name));
        let read = |path: PathBuf| {
            let bytes = self.fs.read(&path).map_err(|error| error.to_string())?;
            let checkpoint = Checkpoint::decrypt(&bytes, &self.options.keyring);
            let checkpoint = checkpoint.map_err(|bad| bad.to_string())?;
            Ok((path, checkpoint))
        };
        paths.map(read).collect()
    }
}

fn encode(
    frame: &Crafted,
    (seed, cipher, salt): (&Seed, &Cipher, Salt),
    offset: u32,
    synced_through: Position,
) -> Vec<u8> {
    let content = frame.deed.payload();
    let mut records = frame.deed.head.encode().to_vec();
    records.extend_from_slice(&content);
    let mut header = FrameHeader {
        payload_len: u32::try_from(records.len()).unwrap(),
        kind: FrameKind::Entry,
        flags: 0,
        slot: Some(frame.deed.slot),
        record_count: 1,
        term: Term::new(frame.term),
        index: FrameIndex::new(frame.index),
        base_timestamp_ns: frame.deed.timestamp_ns,
        synced_through,
        payload_checksum: 0,
    };
    if let Cipher::Encrypted(key) = cipher {
        key.encrypt(salt, &mut header, offset, &mut records, 0);
    }
    header.payload_checksum = crc32fast::hash(&records);
    let mut bytes = header.encode(seed, offset).to_vec();
    bytes.extend_from_slice(&records);
    bytes.resize(frame_len(records.len()), 0);
    bytes
}
