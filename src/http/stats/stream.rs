//! A list on its way out: written piece by piece, so that neither the core nor the memory has to
//! do with all of it at once.

use std::io::Write as _;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::http::body::Body;
use crate::rt::{self, Queue, Sleep};
use crate::shard::{Survey, Surveyed};

/// A piece is handed on when it is as large: some 100 µs of writing.
const PIECE_BYTES: usize = 48 << 10;

/// How long the core is left to others after each piece.
const PAUSE: Duration = Duration::from_micros(50);

/// Bytes that are packed in one go: some 100 µs.
const PACK_BYTES: usize = 8 << 10;

/// Appends a channel.
type WriteRow = Box<dyn FnMut(&Surveyed, &mut Vec<u8>)>;

/// A text with rows in it that are written as they leave.
pub(in crate::http) struct List {
    before: Vec<u8>,
    rows: Option<Rows>,
    after: Vec<u8>,
}

struct Rows {
    survey: Survey,
    left: usize,
    first: bool,
    write: WriteRow,
}

impl List {
    /// A text that is complete.
    pub(in crate::http) const fn text(text: Vec<u8>) -> Self {
        Self {
            before: text,
            rows: None,
            after: Vec::new(),
        }
    }

    /// The first `count` channels of a survey between two texts, with commas between them.
    pub(in crate::http) fn of(
        before: Vec<u8>,
        survey: Survey,
        count: usize,
        after: Vec<u8>,
        write: impl FnMut(&Surveyed, &mut Vec<u8>) + 'static,
    ) -> Self {
        Self {
            before,
            rows: Some(Rows {
                survey,
                left: count,
                first: true,
                write: Box::new(write),
            }),
            after,
        }
    }

    /// The next piece; `None` when all is written.
    fn next(&mut self) -> Option<Vec<u8>> {
        let mut piece = std::mem::take(&mut self.before);
        if let Some(rows) = &mut self.rows {
            if rows.write_some(&mut piece) {
                return Some(piece);
            }
            self.rows = None;
        }
        piece.append(&mut self.after);
        (!piece.is_empty()).then_some(piece)
    }

    /// The body that sends it, at a pace that leaves the core to others.
    pub(in crate::http) fn into_body(mut self) -> Body {
        let mut pause: Option<Sleep> = None;
        Body::stream(move |cx: &mut Context<'_>| {
            if let Some(sleep) = &mut pause {
                if sleep.poll(cx).is_pending() {
                    return Poll::Pending;
                }
                pause = None;
            }
            let piece = self.next();
            if piece.is_some() && self.rows.is_some() {
                pause = Some(Sleep::new(PAUSE));
            }
            Poll::Ready(piece.map(Bytes::from))
        })
    }
}

impl Rows {
    /// Writes rows until a piece is full; `false` when there are no more.
    fn write_some(&mut self, piece: &mut Vec<u8>) -> bool {
        while piece.len() < PIECE_BYTES {
            if self.left == 0 {
                return false;
            }
            let Some(row) = self.survey.pop() else {
                return false;
            };
            self.left -= 1;
            if !std::mem::take(&mut self.first) {
                piece.push(b',');
            }
            (self.write)(&row, piece);
        }
        true
    }
}

impl Drop for Rows {
    /// One who does not want the rest leaves nothing that takes long to drop.
    fn drop(&mut self) {
        let survey = std::mem::take(&mut self.survey);
        if survey.is_large() {
            rt::spawn(Queue::Background, "discard list", survey.discard());
        }
    }
}

/// Packed pieces, ready to be sent.
pub(in crate::http) struct Packed(Vec<Vec<u8>>);

impl Packed {
    pub(in crate::http) fn into_body(self) -> Body {
        let mut pieces = self.0.into_iter();
        Body::stream(move |_| Poll::Ready(pieces.next().map(Bytes::from)))
    }
}

/// Packs a list, in slices.
pub(in crate::http) async fn gzip(mut list: List) -> Packed {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let mut packed = Vec::new();
    while let Some(piece) = list.next() {
        for part in piece.chunks(PACK_BYTES) {
            // Writing into memory cannot fail.
            let written = encoder.write_all(part);
            debug_assert!(written.is_ok());
            rt::sleep(PAUSE).await;
        }
        if encoder.get_ref().len() >= PIECE_BYTES {
            packed.push(std::mem::take(encoder.get_mut()));
        }
    }
    packed.push(encoder.finish().unwrap_or_default());
    Packed(packed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_rows_is_one_piece() {
        let mut list = List::text(b"all".to_vec());
        assert_eq!(list.next(), Some(b"all".to_vec()));
        assert_eq!(list.next(), None);
        let mut empty = List::of(
            b"[".to_vec(),
            Survey::default(),
            9,
            b"]".to_vec(),
            |_, _| {},
        );
        assert_eq!(empty.next(), Some(b"[]".to_vec()));
        assert_eq!(empty.next(), None);
    }
}
