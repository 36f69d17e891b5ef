//! Walks over the frames of a log as they lie on disk, around what is damaged.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use ringmq_storage::cipher::Cipher;
use ringmq_storage::frame::{Frame, FrameKind};
use ringmq_storage::fs::Fs;
use ringmq_storage::layout::LogFileName;
use ringmq_storage::record::{Record, RecordKind, Records};
use ringmq_storage::scan::{Frames, find_next_valid};
use ringmq_storage::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use ringmq_storage::{ChannelKey, FrameIndex, Generation, Position, SlotId};

use super::present::Present;
use super::survey::{Head, LogFiles};
use super::{Error, with_sources};

/// A range that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DamagedRange {
    pub(super) path: PathBuf,
    pub(super) bytes: Range<u64>,
    pub(super) reason: String,
}

/// What a walk over a log found beside its frames.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) frames: u64,
    pub(super) bytes: u64,
    pub(super) damaged: Vec<DamagedRange>,
    /// Every message that was met, wherever it lies.
    pub(super) present: Present,
    /// Bytes behind the last whole frame that belong to a write which was never acknowledged.
    pub(super) torn_bytes: u64,
    /// Where the log ends.
    pub(super) end: Position,
}

/// What a walk does with each whole frame; a break ends it.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&Frame<'_>) -> Result<ControlFlow<()>, Error>;

/// What most walks do after a frame.
pub(super) const GO_ON: Result<ControlFlow<()>, Error> = Ok(ControlFlow::Continue(()));

/// Reads every byte of the log from a position on, frame by frame.
pub(super) fn walk(
    fs: &dyn Fs,
    files: &LogFiles,
    from: Position,
    visit: Visit<'_>,
) -> Result<Walked, Error> {
    let mut walk = Walk {
        path: PathBuf::new(),
        walked: Walked::default(),
        order: Order::default(),
        synced_through: files
            .checkpoint()
            .map_or(Position::default(), |checkpoint| checkpoint.synced_through),
    };
    for file in &files.segments {
        if let Some(reason) = &file.fault {
            let end = match file.head {
                Head::Used(_) => HEADER_BYTES.min(file.len),
                Head::Spare | Head::Unknown => file.len,
            };
            walk.damage(&file.path, 0..end, reason.clone());
        }
    }
    for id in files.missing() {
        let path = files.directory.join(LogFileName::Segment(id).to_string());
        walk.damage(&path, 0..0, "the segment is missing".to_owned());
    }
    let last = files.used().next_back().map(|(file, _)| file.id);
    for (file, header) in files.used() {
        if file.id < from.segment() {
            continue;
        }
        let start = if file.id == from.segment() {
            from.offset()
        } else {
            0
        };
        walk.path.clone_from(&file.path);
        match file.read(fs) {
            Ok(bytes) => {
                let is_last = Some(file.id) == last;
                if walk
                    .segment(&bytes, (header, &file.cipher), start, is_last, visit)?
                    .is_break()
                {
                    return Ok(walk.walked);
                }
            }
            Err(error) => walk.damage(&file.path, 0..file.len, with_sources(&error)),
        }
    }
    Ok(walk.walked)
}

/// Bytes of a segment's header.
const HEADER_BYTES: u64 = SEGMENT_HEADER_BYTES as u64;

struct Walk {
    /// The segment that is read.
    path: PathBuf,
    walked: Walked,
    order: Order,
    synced_through: Position,
}

impl Walk {
    fn damage(&mut self, path: &Path, bytes: Range<u64>, reason: String) {
        self.walked.damaged.push(DamagedRange {
            path: path.to_owned(),
            bytes,
            reason,
        });
    }

    fn segment(
        &mut self,
        bytes: &[u8],
        (header, cipher): (&SegmentHeader, &Cipher),
        start: u32,
        is_last: bool,
        visit: Visit<'_>,
    ) -> Result<ControlFlow<()>, Error> {
        let (seed, id) = (header.seed(), header.segment);
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut from = start.max(u32::try_from(SEGMENT_HEADER_BYTES).unwrap_or(u32::MAX));
        loop {
            let (mut sealed, mut bad) = (false, None);
            let mut frames = Frames::new(bytes, seed, id, from, len);
            for frame in frames.by_ref() {
                match frame {
                    Ok(frame) => {
                        sealed = frame.header.kind == FrameKind::Seal;
                        if self.stored_frame(&frame, cipher, visit)?.is_break() {
                            return Ok(ControlFlow::Break(()));
                        }
                    }
                    Err(end) => bad = Some(end),
                }
            }
            from = frames.offset();
            self.walked.end = Position::new(id, from);
            if sealed {
                return GO_ON;
            }
            let reason = bad.map_or_else(|| "no seal".to_owned(), |bad| bad.reason.to_string());
            // A header that holds says where the next frame is; without one it is looked for.
            let behind = bad.and_then(|bad| bad.next_offset());
            let behind = behind.unwrap_or_else(|| from.saturating_add(8));
            let Some(next) = find_next_valid(bytes, seed, id, behind) else {
                self.rest(bytes, header, from, is_last, reason);
                return GO_ON;
            };
            let path = self.path.clone();
            self.damage(&path, u64::from(from)..u64::from(next), reason);
            from = next;
        }
    }

    /// What lies behind the last whole frame of a segment that has no seal.
    fn rest(
        &mut self,
        bytes: &[u8],
        header: &SegmentHeader,
        from: u32,
        is_last: bool,
        reason: String,
    ) {
        let rest = usize::try_from(from)
            .ok()
            .and_then(|from| bytes.get(from..));
        let rest = rest.unwrap_or_default();
        let written = rest
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        let written = u64::try_from(written).unwrap_or(u64::MAX);
        let begin = u64::from(from);
        // Frames that were seen, or the checkpoint, know what was synced: that must be there.
        let synced = self.synced_through;
        let must = if synced.segment() == header.segment {
            u64::from(synced.offset())
        } else if synced.segment() > header.segment || !is_last {
            u64::from(header.len)
        } else {
            0
        };
        if must > begin {
            let path = self.path.clone();
            self.damage(&path, begin..must.max(begin + written), reason);
        } else if header.generation == Generation::new(1) {
            // Of a recycled file nobody can tell what its former use left from what was torn.
            self.walked.torn_bytes += written;
        }
    }

    /// Hands a frame on as it was before it was encrypted.
    fn stored_frame(
        &mut self,
        frame: &Frame<'_>,
        cipher: &Cipher,
        visit: Visit<'_>,
    ) -> Result<ControlFlow<()>, Error> {
        let begin = frame.position.offset();
        match cipher.decrypt(&frame.header, begin, frame.payload) {
            Ok(Cow::Borrowed(_)) => self.frame(frame, visit),
            Ok(Cow::Owned(payload)) => {
                let plain = Frame {
                    header: frame.header.decrypted(&payload),
                    payload: &payload,
                    position: frame.position,
                };
                self.frame(&plain, visit)
            }
            Err(bad) => {
                let (path, begin) = (self.path.clone(), u64::from(begin));
                let len = u64::try_from(frame.header.frame_len()).unwrap_or(u64::MAX);
                self.damage(&path, begin..begin.saturating_add(len), bad.to_string());
                GO_ON
            }
        }
    }

    fn frame(&mut self, frame: &Frame<'_>, visit: Visit<'_>) -> Result<ControlFlow<()>, Error> {
        self.walked.frames += 1;
        let len = u64::try_from(frame.header.frame_len()).unwrap_or(u64::MAX);
        self.walked.bytes += len;
        self.synced_through = self.synced_through.max(frame.header.synced_through);
        if let Some(reason) = self.order.gap(frame)
            && self.walked.damaged.is_empty()
        {
            let at = u64::from(frame.position.offset());
            let path = self.path.clone();
            self.damage(&path, at..at, reason);
        }
        for (key, record) in messages(frame) {
            self.walked.present.insert(key, record.head.sequence);
        }
        visit(frame)
    }
}

/// The last frame of each slot: what is missing shows in the numbers.
#[derive(Default)]
struct Order(BTreeMap<SlotId, FrameIndex>);

impl Order {
    /// Frames of a slot are dense; on a single node none supersedes another.
    fn gap(&mut self, frame: &Frame<'_>) -> Option<String> {
        let slot = frame.header.slot?;
        let raft = matches!(frame.header.kind, FrameKind::Entry | FrameKind::NoOp);
        let index = frame.header.index;
        let before = raft.then(|| self.0.insert(slot, index)).flatten()?;
        (index != before.next())
            .then(|| format!("frame {index} of slot {slot} comes behind frame {before}"))
    }
}

/// The messages of a frame, with their channels. Carried ones are copies: the originals may be
/// there still.
pub(super) fn messages<'a>(
    frame: &Frame<'a>,
) -> impl Iterator<Item = (ChannelKey, Record<'a>)> + use<'a> {
    let holds = matches!(frame.header.kind, FrameKind::Entry | FrameKind::Carried);
    let slot = frame.header.slot.filter(|_| holds);
    let records = Records::new(frame.payload).map_while(Result::ok);
    records.filter_map(move |record| {
        let channel = record.head.channel;
        let key = slot.map(|slot| ChannelKey { slot, channel })?;
        (record.head.kind == RecordKind::Message).then_some((key, record))
    })
}
