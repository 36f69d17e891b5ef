//! `ringmq store rewrap`: wraps the keys of all files with the master key that writes now.
//!
//! What is encrypted stays as it is: a file's own key does not change, only what it is wrapped
//! with. So an old master key can be taken away at once, and not only when the last segment that
//! was written under it is gone.
//!
//! INVARIANT: a file is replaced as a whole, after its successor is synced. A crash leaves each
//! file under the one key or the other, and both are still given.

use std::fmt;

use ringmq_storage::checkpoint::Checkpoint;
use ringmq_storage::cipher::{KeyId, KeyMaker};
use ringmq_storage::frame::{FRAME_HEADER_BYTES, FrameHeader, payload_checksum};
use ringmq_storage::segment::{Preamble, SEGMENT_HEADER_BYTES, SegmentHeader};

use super::survey::{LogFiles, SegmentFile, survey, wrapped_key};
use super::{Error, Opened, failed};

/// What was done.
pub(super) struct Done {
    key: KeyId,
    rewrapped: usize,
    /// Files that were under the key already.
    kept: usize,
    /// Files that are not encrypted.
    plain: usize,
}

/// Wraps anew what is under another key.
pub(super) fn run(opened: &Opened) -> Result<Done, Error> {
    let maker = opened.keyring.key_maker();
    let maker = maker.map_err(ringmq_storage::Error::Random)?;
    let Some(mut maker) = maker else {
        let text = "there is no key to wrap with: store.encryption.enable is off";
        return Err(Error::Absent(text.to_owned()));
    };
    let mut done = Done {
        key: maker.master(),
        rewrapped: 0,
        kept: 0,
        plain: 0,
    };
    for files in &survey(opened)?.logs {
        rewrap_log(opened, files, &mut maker, &mut done)?;
    }
    Ok(done)
}

fn rewrap_log(
    opened: &Opened,
    files: &LogFiles,
    maker: &mut KeyMaker,
    done: &mut Done,
) -> Result<(), Error> {
    let fs = opened.fs();
    for (file, header) in files.used() {
        match (wrapped_key(fs, &file.path, header), file.cipher.is_plain()) {
            (None, true) => done.plain += 1,
            (Some(wrapped), _) if wrapped.master == maker.master() => done.kept += 1,
            _ => {
                let bytes = rewrapped(opened, file, header, maker)?;
                let replaced = fs.replace(&file.path, &bytes);
                replaced.map_err(failed("write", &file.path))?;
                done.rewrapped += 1;
            }
        }
    }
    for file in &files.checkpoints {
        let bytes = fs.read(&file.path).map_err(failed("read", &file.path))?;
        match Checkpoint::master_key(&bytes) {
            Ok(Some(key)) if key == maker.master() => done.kept += 1,
            Ok(Some(_)) => {
                let bytes = Checkpoint::rewrap(&bytes, &opened.keyring, maker);
                let bytes = bytes.map_err(|_| Error::NotSound)?.ok_or(Error::NotSound)?;
                let replaced = fs.replace(&file.path, &bytes);
                replaced.map_err(failed("write", &file.path))?;
                done.rewrapped += 1;
            }
            Ok(None) => done.plain += 1,
            // One that cannot be read is none, and goes with the next one that is written.
            Err(_) => {}
        }
    }
    Ok(())
}

/// A segment's file with its key wrapped anew: only its preamble changes.
fn rewrapped(
    opened: &Opened,
    file: &SegmentFile,
    header: &SegmentHeader,
    maker: &mut KeyMaker,
) -> Result<Vec<u8>, Error> {
    let key = file.cipher.key().ok_or(Error::NotSound)?;
    let mut bytes = file.read(opened.fs())?;
    let (seed, from) = (header.seed(), SEGMENT_HEADER_BYTES);
    let offset = u32::try_from(from).unwrap_or(u32::MAX);
    let stored = bytes.get(from..).unwrap_or_default();
    let frame = FrameHeader::decode(stored, &seed, offset);
    let found = frame.and_then(|frame| Ok((frame, frame.check_payload(stored)?)));
    let (mut frame, payload) = found.map_err(|_| Error::NotSound)?;
    let mut preamble = Preamble::decode(payload).map_err(|_| Error::NotSound)?;
    preamble.key = Some(maker.wrap(&key.data(), &header.key_place()));
    let payload = preamble.encode();
    frame.payload_checksum = payload_checksum(&payload);
    debug_assert_eq!(u32::try_from(payload.len()), Ok(frame.payload_len));
    let begin = from + FRAME_HEADER_BYTES;
    let encoded = frame.encode(&seed, offset);
    for (from, part) in [(from, &encoded[..]), (begin, &payload[..])] {
        let place = bytes.get_mut(from..from + part.len());
        place.ok_or(Error::NotSound)?.copy_from_slice(part);
    }
    Ok(bytes)
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "key {}: {} files were wrapped anew, {} were under it already, {} are not encrypted",
            self.key, self.rewrapped, self.kept, self.plain
        )
    }
}
