//! Finding segments, and the frames in them.

use std::sync::Arc;

use super::Recovery;
use crate::checkpoint::Checkpoint;
use crate::cipher::Cipher;
use crate::codec::BadFile;
use crate::error::io_error;
use crate::frame::{BadFrame, FRAME_HEADER_BYTES, Frame, FrameKind};
use crate::fs::Region;
use crate::id::{FrameIndex, Generation, Position, SegmentId};
use crate::log::commit::index_frame;
use crate::log::gather::{SEAL_BYTES, to_u32, to_usize};
use crate::log::segments::{Segment, index_path, segment_path};
use crate::log::walk::{Fault, Step, Walk};
use crate::log::{FIRST_FRAME, after_seal, seed};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::segment_index::SegmentIndex;
use crate::{Error, SlotId};

/// A frame that was found behind the beginning of the scan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub slot: SlotId,
    pub index: FrameIndex,
    pub position: Position,
    /// Length with its header.
    pub len: u32,
    pub kind: FrameKind,
    /// Whether it counts: nothing supersedes it.
    pub counts: bool,
}

/// How a segment's file was found.
enum Use {
    Used(SegmentHeader),
    /// The header is damaged, but other files, or the frames themselves, say what it was.
    Headless(SegmentHeader),
    Unused,
}

impl Recovery {
    /// Maps the segments that are in use; removes the files of those that are not.
    pub(super) fn map_segments(&mut self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let oldest = checkpoint
            .segments
            .first()
            .map_or(SegmentId::new(0), |entry| entry.segment);
        let mut used: Vec<(SegmentHeader, Arc<dyn Region>, bool)> = Vec::new();
        let mut unused = Vec::new();
        for id in self.files.segments.clone() {
            // Its removal was under way at the end.
            if id < oldest {
                unused.push(id);
                continue;
            }
            let path = segment_path(&self.options.directory, id);
            let region = match self.fs.map(&path) {
                Ok(region) => region,
                Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
                    unused.push(id);
                    continue;
                }
                Err(error) => return Err(io_error("map", &path)(error)),
            };
            match self.look_at(id, &*region, checkpoint)? {
                Use::Used(header) => used.push((header, region, false)),
                Use::Headless(header) => used.push((header, region, true)),
                Use::Unused => unused.push(id),
            }
        }
        self.require_checkpoint(used.first().map(|(header, ..)| header.segment))?;
        // What may refuse the log comes first: it must not have been changed by then.
        let mut with_ciphers = Vec::new();
        for (header, region, headless) in used {
            let path = segment_path(&self.options.directory, header.segment);
            let cipher = self.cipher_of(&header, &*region, checkpoint, path)?;
            with_ciphers.push((header, region, cipher, headless));
        }
        for path in std::mem::take(&mut self.files.temporary) {
            self.fs.remove(&path).map_err(io_error("remove", &path))?;
        }
        for (header, region, cipher, headless) in with_ciphers {
            self.add_segment(header, region, cipher, headless);
        }
        for id in unused {
            // Between segments that are in use it is one that is lost.
            if self.segments.get(id).is_none() {
                let path = segment_path(&self.options.directory, id);
                self.fs.remove(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }

    /// Without a checkpoint the log must be there from its beginning. Files that were never in use
    /// do not count: the removal of the first of them may be all that a crash let happen.
    fn require_checkpoint(&self, oldest: Option<SegmentId>) -> Result<(), Error> {
        let complete = match oldest {
            Some(oldest) => oldest == SegmentId::new(1),
            None => self.files.last_number <= 1,
        };
        if self.files.checkpoint.is_some() || complete {
            return Ok(());
        }
        Err(Error::CheckpointLost {
            path: self.options.directory.clone(),
        })
    }

    fn add_segment(
        &mut self,
        header: SegmentHeader,
        region: Arc<dyn Region>,
        cipher: Cipher,
        headless: bool,
    ) {
        let next = self.segments.back().map(|last| last.id.next());
        self.add_missing(next.unwrap_or(header.segment), header.segment);
        let mut segment = Segment::new(header.segment, Some(region));
        segment.generation = header.generation;
        segment.cipher = cipher;
        let found = segment.region.as_ref().map_or(0, |region| region.len());
        segment.len = found;
        self.segments.push(segment);
        if headless {
            let range = 0..FIRST_FRAME;
            self.add_damage(
                header.segment,
                range,
                "the segment's header is damaged".to_owned(),
            );
        }
        if found < header.len {
            let reason = format!("the file has {found} bytes of {}", header.len);
            self.add_damage(header.segment, found..header.len, reason);
        }
    }

    /// Takes up the segments `first..before` as lost.
    pub(super) fn add_missing(&mut self, first: SegmentId, before: SegmentId) {
        let mut missing = first;
        while missing < before {
            self.segments.push(Segment::new(missing, None));
            self.add_damage(missing, 0..0, "the segment is missing".to_owned());
            missing = missing.next();
        }
    }

    /// Tells whether a file is in use as a segment, and as which.
    fn look_at(
        &self,
        id: SegmentId,
        region: &dyn Region,
        checkpoint: &Checkpoint,
    ) -> Result<Use, Error> {
        let options = &self.options;
        let end = FIRST_FRAME.min(region.len());
        let bytes = region
            .populate(0..end)
            .ok()
            .and_then(|()| region.slice(0..end));
        let decoded = SegmentHeader::decode(&bytes.unwrap_or_default());
        let path = || segment_path(&options.directory, id);
        match decoded {
            Ok(Some(header)) => match header.check(options.store, options.log, id) {
                Ok(()) => return Ok(Use::Used(header)),
                // Recycled, and not in use yet.
                Err(BadFile::OtherPlace(_)) if header.log == options.log && header.segment < id => {
                    return Ok(Use::Unused);
                }
                Err(bad) => return Err(Error::Unusable { path: path(), bad }),
            },
            Err(bad @ BadFile::NewerFormat { .. }) => {
                return Err(Error::Unusable { path: path(), bad });
            }
            Ok(None) | Err(_) => {}
        }
        let header = |generation| SegmentHeader {
            store: options.store,
            log: options.log,
            segment: id,
            generation,
            len: region.len(),
            encrypted: false,
        };
        let listed = checkpoint.segments.iter().find(|entry| entry.segment == id);
        let listed = listed.map(|entry| entry.generation);
        let indexed = || self.read_index(id).map(|index| index.generation);
        if let Some(generation) = listed.or_else(indexed) {
            return Ok(Use::Headless(header(generation)));
        }
        // A header that was never complete, or one that was damaged since: the preamble tells.
        let newest = self
            .segments
            .iter()
            .map(|segment| segment.generation.get())
            .max();
        let generations = 1..=newest.unwrap_or(0).saturating_add(2);
        for generation in generations.map(Generation::new) {
            let seed = seed(options, id, generation);
            let mut walk = Walk::new(region, id, seed, FIRST_FRAME..region.len());
            if let Step::Frame(frame) = walk.next()
                && frame.header.kind == FrameKind::Preamble
            {
                return Ok(Use::Headless(header(generation)));
            }
        }
        Ok(Use::Unused)
    }

    fn read_index(&self, id: SegmentId) -> Option<SegmentIndex> {
        if !self.files.indexes.contains(&id) {
            return None;
        }
        let path = index_path(&self.options.directory, id);
        let index = SegmentIndex::decode(&self.fs.read(&path).ok()?).ok()?;
        let ours = index.store == self.options.store && index.log == self.options.log;
        (ours && index.segment == id).then_some(index)
    }

    /// Takes the indexes of the segments before the checkpoint's from disk; one that is missing
    /// or damaged is made anew from its segment.
    pub(super) fn load_indexes(&mut self) -> Result<(), Error> {
        let before: Vec<_> = self
            .segments
            .iter()
            .filter(|segment| segment.id < self.from.segment())
            .map(|segment| (segment.id, segment.generation))
            .collect();
        for (id, generation) in before {
            let index = self.read_index(id);
            let Some(index) = index.filter(|index| index.generation == generation) else {
                self.rebuild_index(id)?;
                continue;
            };
            for block in index.blocks {
                self.index.restore(id, block, &mut self.segments);
            }
            if let Some(segment) = self.segments.get_mut(id) {
                let end = index.seal_offset + to_u32(FRAME_HEADER_BYTES);
                segment.end = Some(end);
                segment.indexed = true;
                if matches!(segment.cipher, Cipher::Lost) {
                    self.add_damage(id, FIRST_FRAME..end, BadFrame::NoKey.to_string());
                }
            }
        }
        for id in self.files.indexes.clone() {
            if self.segments.get(id).is_none() {
                // Of no use without its segment; removing it is not worth a failed start.
                let _left_behind = self.fs.remove(&index_path(&self.options.directory, id));
            }
        }
        Ok(())
    }

    fn rebuild_index(&mut self, id: SegmentId) -> Result<(), Error> {
        let mut found = self.scan_segment(id, false)?;
        self.report.indexes_rebuilt += 1;
        self.unindexed.push(id);
        self.supersede(&mut found);
        for frame in found.iter().filter(|frame| frame.counts) {
            let read = self.with_frame(frame, |recovery, frame| {
                let indexed = index_frame(&mut recovery.index, &mut recovery.segments, frame);
                if let Err(divergence) = indexed {
                    recovery.report.halted.push(divergence);
                }
            });
            self.note_unread(frame, read);
        }
        Ok(())
    }

    /// Scans the segments from the checkpoint's on.
    pub(super) fn scan_tail(&mut self) -> Result<(), Error> {
        let ids: Vec<_> = self
            .segments
            .iter()
            .map(|segment| segment.id)
            .filter(|id| *id >= self.from.segment())
            .collect();
        let last = self.segments.back().map(|segment| segment.id);
        self.end = last.map_or_else(Position::default, after_seal);
        for id in ids {
            let found = self.scan_segment(id, Some(id) == last)?;
            self.found.extend(found);
            if Some(id) != last {
                self.unindexed.push(id);
            }
        }
        self.settle_end();
        Ok(())
    }

    /// Walks a segment from its beginning. In the last one a bad frame may be the end of the log;
    /// in any other it is damage (rule L6).
    fn scan_segment(&mut self, id: SegmentId, last: bool) -> Result<Vec<Found>, Error> {
        let mut found = Vec::new();
        let Some(segment) = self.segments.get(id) else {
            return Ok(found);
        };
        let (len, generation) = (segment.len, segment.generation);
        let Some(region) = segment.region.clone() else {
            self.set_end(id, 0);
            return Ok(found);
        };
        let seed = seed(&self.options, id, generation);
        let mut walk = Walk::new(&*region, id, seed, FIRST_FRAME..len);
        if !last {
            walk = walk.releasing();
        }
        let mut sealed = false;
        while !sealed {
            let at = walk.offset();
            let fault = match walk.next() {
                Step::Frame(frame) => {
                    sealed = frame.header.kind == FrameKind::Seal;
                    self.known_synced = self.known_synced.max(frame.header.synced_through);
                    found.extend(found_frame(&frame));
                    continue;
                }
                Step::End if last => break,
                Step::End => Fault::Frame(BadFrame::Short),
                // Rule L10: a newer version wrote it; neither cut nor skipped.
                Step::Bad(Fault::Frame(bad)) if bad.is_unknown() => {
                    return Err(Error::Unusable {
                        path: segment_path(&self.options.directory, id),
                        bad: BadFile::NewerFrame { offset: at, bad },
                    });
                }
                Step::Bad(fault) => fault,
            };
            let promised = self.promised(id, at);
            let next = if last && !promised && fault != Fault::Unreadable {
                damage_end(&mut walk, Position::new(id, at))
            } else {
                Some(walk.find(at + 8).unwrap_or(len))
            };
            // The end of what was promised is the beginning of a frame.
            let known = (self.from.segment() == id).then(|| self.from.offset());
            let known = known.filter(|known| promised && *known > at);
            let next = next.map(|next| known.map_or(next, |known| next.min(known)));
            let Some(next) = next else {
                walk.go_to(at);
                break;
            };
            if next > at {
                self.add_damage(id, at..next, fault.to_string());
            }
            walk.go_to(next);
            if next >= len {
                break;
            }
        }
        let end = walk.offset();
        self.report.bytes_scanned += u64::from(end.saturating_sub(FIRST_FRAME));
        if sealed || !last {
            self.set_end(id, end);
        }
        self.end = if sealed {
            after_seal(id)
        } else {
            Position::new(id, end)
        };
        // Room for its seal is enough: without one, its end would look like damage later.
        let room = to_usize(len - end.min(len)) >= SEAL_BYTES;
        // What is appended must be readable; and a segment without its preamble was never in use.
        let lost = end > FIRST_FRAME && self.is_lost(id);
        self.appendable = last && !sealed && room && !lost;
        Ok(found)
    }

    fn is_lost(&self, id: SegmentId) -> bool {
        let segment = self.segments.get(id);
        segment.is_some_and(|segment| matches!(segment.cipher, Cipher::Lost))
    }

    /// Whether the checkpoint knows that a place was synced.
    fn promised(&self, id: SegmentId, offset: u32) -> bool {
        Position::new(id, offset) < self.from
    }

    fn set_end(&mut self, id: SegmentId, end: u32) {
        if let Some(segment) = self.segments.get_mut(id) {
            segment.end = Some(end);
        }
    }
}

/// Where the frames go on behind a bad one that was synced: some later frame says so (rule L8).
/// `None` when none does: the log ends before the bad frame.
fn damage_end(walk: &mut Walk<'_>, bad: Position) -> Option<u32> {
    let next = walk.find(bad.offset() + 8)?;
    walk.go_to(next);
    loop {
        match walk.next() {
            Step::Frame(frame) if frame.header.synced_through > bad => return Some(next),
            Step::Frame(_) => {}
            Step::Bad(_) => {
                let at = walk.offset() + 8;
                let further = walk.find(at)?;
                walk.go_to(further);
            }
            Step::End => return None,
        }
    }
}

fn found_frame(frame: &Frame<'_>) -> Option<Found> {
    let kept = matches!(
        frame.header.kind,
        FrameKind::Entry | FrameKind::NoOp | FrameKind::Carried
    );
    Some(Found {
        slot: frame.header.slot.filter(|_| kept)?,
        index: frame.header.index,
        position: frame.position,
        len: to_u32(frame.header.frame_len()),
        kind: frame.header.kind,
        counts: true,
    })
}

const _: () = assert!(SEGMENT_HEADER_BYTES == 64);
