//! Inflating gzip-compressed messages within a limit, a slice at a time.
//!
//! A kilobyte of gzip may be a megabyte of message, so a message of the largest size comes in a
//! tenth of a second's work from a client that sent next to nothing. It is inflated in slices, and
//! the core does other work between them.

use std::rc::Rc;

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status as Inflated};

use super::{GATHER_REFUSAL, GatherLimit, Held};
use crate::wire::status::{Code, Status};

/// What is inflated in one go: some tens of microseconds.
pub(super) const SLICE_BYTES: usize = 64 << 10;

/// One gzip member on its way to be a message.
#[derive(Debug)]
pub(super) struct Inflater {
    compressed: Bytes,
    /// Where in it the inflater goes on.
    at: usize,
    inflater: Decompress,
    out: Vec<u8>,
    /// The most that the message may have: what the member says, or the limit.
    bytes_max: usize,
    limit_bytes: usize,
    sum: flate2::Crc,
    held: Held,
    /// What the compressed message held, if it was gathered.
    _source: Option<Held>,
}

impl Inflater {
    /// Begins. The output never grows past the limit, whatever the input promises.
    pub(super) fn new(
        compressed: Bytes,
        source: Option<Held>,
        limit_bytes: usize,
        limit: &Rc<GatherLimit>,
    ) -> Result<Self, Status> {
        let body = gzip_body(&compressed).ok_or_else(|| broken("gzip: invalid header"))?;
        let at = compressed.len() - body.len();
        // The length is the last thing that a member says; one that lies is damaged.
        let said = compressed.last_chunk::<4>().map_or(0, |length| {
            usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX)
        });
        Ok(Self {
            at,
            inflater: Decompress::new(false),
            out: Vec::new(),
            bytes_max: said.min(limit_bytes),
            limit_bytes,
            sum: flate2::Crc::new(),
            held: Held::none(limit),
            compressed,
            _source: source,
        })
    }

    /// Inflates another slice: the message and what it holds, once it is whole.
    pub(super) fn step(&mut self) -> Result<Option<(Bytes, Held)>, Status> {
        let start = self.out.len();
        // A byte more than there may be, to see whether there is more.
        let most = (start + SLICE_BYTES).min(self.bytes_max + 1);
        if self.out.capacity() == 0 {
            // Memory of which nothing is touched yet; it never moves.
            self.out.reserve_exact(self.bytes_max + 1);
        }
        if !self.held.take(most - start) {
            return Err(Status::new(Code::ResourceExhausted, GATHER_REFUSAL));
        }
        self.out.resize(most, 0);
        let rest = self.compressed.get(self.at..).unwrap_or_default();
        let (_, room) = self.out.split_at_mut(start);
        let (read, written) = (self.inflater.total_in(), self.inflater.total_out());
        let state = (self.inflater)
            .decompress(rest, room, FlushDecompress::None)
            .map_err(|_| broken("flate: corrupt input"))?;
        let count = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(usize::MAX);
        let read = count(self.inflater.total_in(), read);
        let written = count(self.inflater.total_out(), written);
        self.at += read;
        self.out.truncate(start + written);
        self.sum.update(self.out.get(start..).unwrap_or_default());
        if self.out.len() > self.bytes_max {
            return Err(self.too_long());
        }
        if state == Inflated::StreamEnd {
            return self.finish().map(Some);
        }
        if read == 0 && written == 0 {
            return Err(broken("unexpected EOF"));
        }
        Ok(None)
    }

    fn too_long(&self) -> Status {
        if self.out.len() <= self.limit_bytes {
            return broken("gzip: invalid checksum");
        }
        let limit = self.limit_bytes;
        let text = format!("grpc: received message after decompression larger than max {limit}");
        Status::new(Code::ResourceExhausted, text)
    }

    fn finish(&mut self) -> Result<(Bytes, Held), Status> {
        let trailer = self.compressed.get(self.at..).unwrap_or_default();
        let out = std::mem::take(&mut self.out);
        if !check_gzip_trailer(trailer, &self.sum, out.len()) {
            return Err(broken("gzip: invalid checksum"));
        }
        Ok((Bytes::from(out), self.held.split()))
    }
}

fn broken(reason: &str) -> Status {
    let text = format!("grpc: failed to decompress the received message: {reason}");
    Status::new(Code::Internal, text)
}

/// Skips the header of a gzip member (RFC 1952).
fn gzip_body(member: &[u8]) -> Option<&[u8]> {
    let (header, mut rest) = member.split_first_chunk::<10>()?;
    let &[0x1f, 0x8b, 8, flags, ..] = header else {
        return None;
    };
    if flags & 4 != 0 {
        let (length, tail) = rest.split_first_chunk::<2>()?;
        rest = tail.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    // File name and comment, each ended by a zero.
    for flag in [8, 16] {
        if flags & flag != 0 {
            let end = rest.iter().position(|&byte| byte == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & 2 != 0 {
        rest.get(2..)
    } else {
        Some(rest)
    }
}

fn check_gzip_trailer(trailer: &[u8], sum: &flate2::Crc, length: usize) -> bool {
    let Some((crc, tail)) = trailer.split_first_chunk::<4>() else {
        return false;
    };
    let Some((said, _)) = tail.split_first_chunk::<4>() else {
        return false;
    };
    let length_matches = u64::from(u32::from_le_bytes(*said)) == length as u64 & 0xffff_ffff;
    u32::from_le_bytes(*crc) == sum.sum() && length_matches
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::GzBuilder::new()
            .filename("name")
            .comment("comment")
            .extra(vec![1, 2, 3])
            .write(Vec::new(), flate2::Compression::fast());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    /// All slices of a member.
    fn inflate(member: &[u8], limit_bytes: usize) -> Result<Bytes, Status> {
        let limit = GatherLimit::new(usize::MAX);
        let member = Bytes::copy_from_slice(member);
        let mut inflater = Inflater::new(member, None, limit_bytes, &limit)?;
        loop {
            let before = inflater.out.len();
            if let Some((whole, held)) = inflater.step()? {
                assert!(limit.held_bytes() >= whole.len());
                drop(held);
                return Ok(whole);
            }
            assert!(
                inflater.out.len() - before <= SLICE_BYTES,
                "a slice at a time"
            );
        }
    }

    #[test]
    fn what_is_inflated_counts_against_the_limit() {
        let bomb = Bytes::from(gzip(&vec![0; 1_000_000]));
        let limit = GatherLimit::new(1_500_000);
        let mut first = Inflater::new(bomb.clone(), None, 2_000_000, &limit).unwrap();
        let (_whole, held) = loop {
            if let Some(whole) = first.step().unwrap() {
                break whole;
            }
        };
        let mut second = Inflater::new(bomb, None, 2_000_000, &limit).unwrap();
        let status = loop {
            match second.step() {
                Ok(whole) => assert!(whole.is_none(), "there is no room for it"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::ResourceExhausted);
        drop((first, second, held));
        assert_eq!(limit.held_bytes(), 0);
    }

    #[test]
    fn what_was_compressed_comes_back() {
        let noise: Vec<u8> = (0..200_000_u64)
            .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
            .collect();
        for plain in [&b""[..], b"x", &vec![0; 1_000_000], &noise] {
            assert_eq!(inflate(&gzip(plain), 1_000_000).unwrap(), plain);
        }
    }

    #[test]
    fn limit_holds_while_inflating() {
        let bomb = gzip(&vec![0; 10_000_000]);
        assert!(bomb.len() < 100_000);
        let status = inflate(&bomb, 9_999_999).unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(inflate(&bomb, 10_000_000).is_ok());
    }

    #[test]
    fn damaged_members_are_refused() {
        let whole = gzip(b"some text that is compressed");
        for length in 0..whole.len() {
            let status = inflate(&whole[..length], 1_000).unwrap_err();
            assert_eq!(status.code(), Code::Internal, "{length}");
        }
        let mut wrong_sum = whole.clone();
        let sum = whole.len() - 8;
        wrong_sum[sum] ^= 1;
        assert_eq!(
            inflate(&wrong_sum, 1_000).unwrap_err().code(),
            Code::Internal
        );
        assert_eq!(
            inflate(b"not gzip at all", 1_000).unwrap_err().code(),
            Code::Internal
        );
    }
}
