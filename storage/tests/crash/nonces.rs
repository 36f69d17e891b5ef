//! What is handed out to be written, watched for a nonce that comes twice with one key.

use std::collections::HashMap;

use ringmq_storage::SegmentId;
use ringmq_storage::frame::FrameHeader;
use ringmq_storage::log::Batch;
use ringmq_storage::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};

use super::world::Outcome;

/// Salt and offset.
type Nonce = ([u8; 8], u32);

/// Every nonce that was used in a life, by segment, with a checksum of what was encrypted under
/// it. The key of a segment is that of its file; that a new one is drawn for each use of it is
/// not relied on here.
#[derive(Default)]
pub(crate) struct Nonces(HashMap<(SegmentId, Nonce), u32>);

impl Nonces {
    /// Looks at a batch before it is written.
    pub(crate) fn note(&mut self, batch: &Batch) -> Outcome {
        let mut at = 0;
        if batch.offset == 0 && matches!(SegmentHeader::decode(&batch.bytes), Ok(Some(_))) {
            at = SEGMENT_HEADER_BYTES;
        }
        while let Some(rest) = batch.bytes.get(at..)
            && let Ok(header) = FrameHeader::decode_trusted(rest)
        {
            if header.is_encrypted() {
                let payload = header.payload(rest).map_err(|bad| bad.to_string())?;
                let (_, salt) = payload.split_last_chunk().ok_or("no salt")?;
                let offset = batch.offset + u32::try_from(at).unwrap();
                let used = (batch.segment, (*salt, offset));
                let before = self.0.insert(used, header.payload_checksum);
                if before.is_some_and(|before| before != header.payload_checksum) {
                    return Err(format!("nonce {used:?} is used again"));
                }
            }
            at += header.frame_len();
        }
        Ok(())
    }
}
