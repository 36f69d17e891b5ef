//! Inflating gzip-compressed messages within a limit.

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status as Inflated};

use crate::wire::status::{Code, Status};

/// Inflates a gzip member; the output never grows past the limit, whatever the input promises.
pub(super) fn inflate(compressed: &[u8], limit_bytes: usize) -> Result<Bytes, Status> {
    let broken = |reason: &str| {
        Status::new(
            Code::Internal,
            format!("grpc: failed to decompress the received message: {reason}"),
        )
    };
    let mut rest = gzip_body(compressed).ok_or_else(|| broken("gzip: invalid header"))?;
    let mut inflater = Decompress::new(false);
    let mut out = Vec::with_capacity(compressed.len().saturating_mul(2).clamp(256, 64 << 10));
    loop {
        let before = (inflater.total_in(), out.len());
        let state = inflater
            .decompress_vec(rest, &mut out, FlushDecompress::None)
            .map_err(|_| broken("flate: corrupt input"))?;
        if out.len() > limit_bytes {
            return Err(Status::new(
                Code::ResourceExhausted,
                format!("grpc: received message after decompression larger than max {limit_bytes}"),
            ));
        }
        let consumed = usize::try_from(inflater.total_in() - before.0).unwrap_or(usize::MAX);
        rest = rest.get(consumed..).unwrap_or_default();
        if state == Inflated::StreamEnd {
            break;
        }
        if out.len() == out.capacity() {
            out.reserve(out.len().min(limit_bytes.saturating_sub(out.len()) + 1));
        } else if (inflater.total_in(), out.len()) == before {
            return Err(broken("unexpected EOF"));
        }
    }
    check_gzip_trailer(rest, &out)
        .then(|| Bytes::from(out))
        .ok_or_else(|| broken("gzip: invalid checksum"))
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

fn check_gzip_trailer(trailer: &[u8], out: &[u8]) -> bool {
    let Some((crc, tail)) = trailer.split_first_chunk::<4>() else {
        return false;
    };
    let Some((length, _)) = tail.split_first_chunk::<4>() else {
        return false;
    };
    let mut sum = flate2::Crc::new();
    sum.update(out);
    let length_matches = u64::from(u32::from_le_bytes(*length)) == out.len() as u64 & 0xffff_ffff;
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
