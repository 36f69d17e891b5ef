//! What counts of a frame that is carried.

use super::super::Log;
use super::super::keeps::Keeps;
use crate::frame::{FrameHeader, FrameKind};
use crate::id::{ChannelKey, SegmentId, Sequence};
use crate::record::{BadRecord, RECORD_HEADER_BYTES, Record, RecordKind, Records, record_len};

/// The records of a frame that count.
pub(super) struct Kept {
    pub header: FrameHeader,
    pub payload: Vec<u8>,
}

/// Messages of a channel that lie where the index says they lie, and the next that is needed:
/// asked once for messages in a row.
struct Wanted {
    key: ChannelKey,
    first: Sequence,
    last: Sequence,
    next: Option<Sequence>,
}

impl Log {
    /// The records of a frame whose messages are needed, and found there by the index.
    pub(super) fn kept(
        &self,
        segment: SegmentId,
        header: &FrameHeader,
        payload: &[u8],
        keeps: &dyn Keeps,
    ) -> Result<Kept, BadRecord> {
        let mut kept = Kept {
            header: *header,
            payload: Vec::new(),
        };
        kept.header.record_count = 0;
        let Some(slot) = header.slot else {
            return Ok(kept);
        };
        let carried = header.kind == FrameKind::Carried;
        let mut wanted: Option<Wanted> = None;
        let mut at = 0;
        for record in Records::new(payload) {
            let Record {
                head,
                payload: body,
            } = record?;
            let from = at;
            at += record_len(body.len());
            if head.kind != RecordKind::Message {
                continue;
            }
            let (sequence, channel) = (head.sequence, head.channel);
            let key = ChannelKey { slot, channel };
            let known = wanted
                .take()
                .filter(|known| known.key == key && (known.first..=known.last).contains(&sequence));
            let mut known = known.or_else(|| self.wanted(key, sequence, segment, carried));
            if let Some(known) = &mut known
                && known.needs(sequence, keeps)
            {
                // The last record of a frame may lack its padding; not so in the middle of one.
                let end = from + RECORD_HEADER_BYTES + body.len();
                kept.payload
                    .resize(kept.payload.len().next_multiple_of(8), 0);
                kept.payload
                    .extend_from_slice(payload.get(from..end).unwrap_or_default());
                kept.header.record_count += 1;
            }
            wanted = known;
        }
        Ok(kept)
    }

    /// The block of a message, when it lies in frames of this kind in the segment.
    fn wanted(
        &self,
        key: ChannelKey,
        sequence: Sequence,
        segment: SegmentId,
        carried: bool,
    ) -> Option<Wanted> {
        let channel = self.index.channel(key)?;
        let block = channel.block_for(sequence)?;
        let first = block.from.max(channel.first);
        let here = (block.segment, block.carried) == (segment, carried) && first <= sequence;
        here.then_some(Wanted {
            key,
            first,
            last: block.last,
            next: Some(Sequence::default()),
        })
    }
}

impl Wanted {
    fn needs(&mut self, sequence: Sequence, keeps: &dyn Keeps) -> bool {
        if self.next.is_some_and(|next| next < sequence) {
            self.next = keeps.next_kept(self.key, sequence, self.last);
        }
        self.next == Some(sequence)
    }
}
