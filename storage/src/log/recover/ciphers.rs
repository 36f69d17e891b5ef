//! How the frames of each segment are to be read.
//!
//! The data key lies wrapped in the preamble. Where that is damaged, an encrypted checkpoint has a
//! copy; without one, what the segment holds is lost. A master key that is missing is no damage:
//! the log is refused, before anything was changed.

use std::path::PathBuf;

use super::Recovery;
use crate::Error;
use crate::checkpoint::Checkpoint;
use crate::cipher::{Cipher, MissingKey};
use crate::frame::FrameKind;
use crate::fs::Region;
use crate::log::walk::{Step, Walk};
use crate::log::{FIRST_FRAME, seed};
use crate::segment::{Preamble, SegmentHeader};

impl Recovery {
    /// How the frames of a segment are to be read.
    ///
    /// # Errors
    /// [`Error::Encrypted`].
    pub(super) fn cipher_of(
        &self,
        header: &SegmentHeader,
        region: &dyn Region,
        checkpoint: &Checkpoint,
        path: PathBuf,
    ) -> Result<Cipher, Error> {
        let preamble = self.read_preamble(header, region);
        let wrapped = preamble.and_then(|preamble| preamble.key);
        let mut listed = checkpoint.segments.iter().filter(|entry| {
            entry.segment == header.segment && entry.generation == header.generation
        });
        let copy = listed.find_map(|entry| entry.key);
        let keyring = &self.options.keyring;
        let cipher = Cipher::of_segment(header, wrapped.as_ref(), copy, keyring);
        cipher.map_err(|MissingKey(key)| Error::Encrypted {
            path,
            key,
            given: keyring.ids().count(),
        })
    }

    fn read_preamble(&self, header: &SegmentHeader, region: &dyn Region) -> Option<Preamble> {
        let seed = seed(&self.options, header.segment, header.generation);
        let range = FIRST_FRAME..region.len();
        let mut walk = Walk::new(region, header.segment, seed, range).by(FIRST_FRAME);
        match walk.next() {
            Step::Frame(frame) if frame.header.kind == FrameKind::Preamble => {
                Preamble::decode(frame.payload).ok()
            }
            _ => None,
        }
    }
}
