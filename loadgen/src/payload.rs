//! Bodies that carry their number, the time at which they should have been sent and a checksum;
//! and the messages around them, encoded once and stamped for each sending.
//!
//! The head of a body, little-endian; the rest is filling that differs between producers:
//!
//! ```text
//!  0          8      12         16         24             32      36         40
//!  │ run      │ flow │ producer │ number   │ intended_ns  │ crc32 │ reserved │ filling …
//! ```
//!
//! The checksum is that of the filling and, after it, of the stamp: in this order what a producer
//! repeats comes first, and only its stamp is summed up for each message. The reserved field is
//! zero. Sending and receiving touch no `prost`: a message costs a copy of its filling, a checksum
//! and a few length fields.

mod frames;
mod wire;

use bytes::{Buf, BufMut, BytesMut};
use crc32fast::Hasher;

pub(crate) use frames::{Frames, Sending, id, read_id};
pub(crate) use wire::{
    PREFIX_BYTES, Value, any_field, field, number_field, put_varint, varint_bytes,
};

use crate::random::Random;
use crate::scenario::Payload;

/// Bytes of the head of each body, and so of the smallest body.
pub(crate) const STAMP_BYTES: usize = 40;

/// The same, as sizes of scenarios are given.
#[allow(clippy::cast_possible_truncation, reason = "a constant that fits")]
pub(crate) const BODY_BYTES_MIN: u32 = STAMP_BYTES as u32;

/// Where the checksum is.
const CHECKSUM_AT: usize = 32;

/// What a body says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The run that it belongs to.
    pub run: u64,
    /// The number of its channel.
    pub flow: u32,
    /// The number of its producer in that channel.
    pub producer: u32,
    /// The number of the message, from 0 for each producer.
    pub number: u64,
    /// When it should have been sent, by the clock of the generator.
    pub intended_ns: u64,
}

/// Why a body is none that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// Of another run, or of another sender altogether.
    Foreign,
    /// Its checksum, or what has to be zero, differs from what it should be.
    Damaged,
}

/// Reads the stamp of a body of `run`; `checksum`: senders wrote one, and it is verified.
pub(crate) fn read(body: &[u8], checksum: bool, run: u64) -> Result<Stamp, BodyError> {
    let (head, filling) = body
        .split_first_chunk::<STAMP_BYTES>()
        .ok_or(BodyError::Foreign)?;
    let stamp = Stamp::from_head(head);
    if stamp.run != run {
        return Err(BodyError::Foreign);
    }
    if checksum {
        let mut hasher = Hasher::new();
        hasher.update(filling);
        if *head != stamp.to_head(hasher) {
            return Err(BodyError::Damaged);
        }
    }
    Ok(stamp)
}

impl Stamp {
    /// The head of a body with this stamp, whose filling has been summed up.
    fn to_head(self, filling: Hasher) -> [u8; STAMP_BYTES] {
        let mut head = self.without_checksum();
        let mut hasher = filling;
        let (stamp, mut behind) = head.split_at_mut(CHECKSUM_AT);
        hasher.update(stamp);
        behind.put_u32_le(hasher.finalize());
        head
    }

    fn without_checksum(self) -> [u8; STAMP_BYTES] {
        let mut head = [0; STAMP_BYTES];
        let mut rest = head.as_mut_slice();
        rest.put_u64_le(self.run);
        rest.put_u32_le(self.flow);
        rest.put_u32_le(self.producer);
        rest.put_u64_le(self.number);
        rest.put_u64_le(self.intended_ns);
        head
    }

    fn from_head(head: &[u8; STAMP_BYTES]) -> Self {
        let mut rest = head.as_slice();
        Self {
            run: rest.get_u64_le(),
            flow: rest.get_u32_le(),
            producer: rest.get_u32_le(),
            number: rest.get_u64_le(),
            intended_ns: rest.get_u64_le(),
        }
    }
}

/// The bodies of one producer: sizes by a distribution, in the order that the seed gives.
#[derive(Clone, Debug)]
pub(crate) struct Bodies {
    sizes: Sizes,
    random: Random,
    /// Bytes behind the stamp, for the largest body.
    filling: Vec<u8>,
    /// The sum over the filling of so many bytes, which is that of the last body. `None`: bodies
    /// have no checksum.
    summed: Option<(usize, Hasher)>,
}

#[derive(Clone, Debug)]
enum Sizes {
    Fixed(usize),
    Uniform {
        least: u64,
        count: u64,
    },
    Normal {
        mean: f64,
        deviation: f64,
    },
    /// Sizes with the sum of the weights up to and with theirs.
    Mix(Vec<(usize, u64)>),
}

impl Bodies {
    /// Bodies with sizes of `payload`. Producers get seeds of their own, or their bodies are alike.
    pub(crate) fn new(payload: &Payload, seed: u64, checksum: bool) -> Self {
        let sizes = Sizes::new(payload);
        let mut random = Random::new(seed, &[]);
        // One pattern, repeated: the checksum compares it, and nobody has to draw it anew.
        let pattern = random.next().to_le_bytes();
        let filling = pattern.into_iter().cycle();
        let filling = filling.take(sizes.most().saturating_sub(STAMP_BYTES));
        Self {
            filling: filling.collect(),
            sizes,
            random,
            summed: checksum.then(|| (0, Hasher::new())),
        }
    }

    /// Draws the size of the next body, stamp included.
    pub(crate) fn next_len(&mut self) -> usize {
        self.sizes.draw(&mut self.random).max(STAMP_BYTES)
    }

    /// Appends a body of a size that was drawn.
    pub(crate) fn put(&mut self, stamp: &Stamp, len: usize, out: &mut BytesMut) {
        let filling = len.saturating_sub(STAMP_BYTES);
        let filling = self.filling.get(..filling).unwrap_or(&self.filling);
        let head = match &mut self.summed {
            None => stamp.without_checksum(),
            Some((bytes, hasher)) => {
                if *bytes != filling.len() {
                    *bytes = filling.len();
                    hasher.reset();
                    hasher.update(filling);
                }
                stamp.to_head(hasher.clone())
            }
        };
        out.extend_from_slice(&head);
        out.extend_from_slice(filling);
    }
}

impl Sizes {
    fn new(payload: &Payload) -> Self {
        match payload {
            Payload::Fixed(bytes) => Self::Fixed(index(*bytes)),
            Payload::Uniform { least, most } => Self::Uniform {
                least: u64::from(*least),
                count: u64::from(most.saturating_sub(*least)) + 1,
            },
            Payload::Normal { mean, deviation } => Self::Normal {
                mean: f64::from(*mean),
                deviation: f64::from(*deviation),
            },
            Payload::Mix(sizes) => {
                let mut sum = 0;
                let sums = sizes.iter().map(|(bytes, weight)| {
                    sum += u64::from(*weight);
                    (index(*bytes), sum)
                });
                Self::Mix(sums.collect())
            }
        }
    }

    fn most(&self) -> usize {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Uniform { least, count } => usize::try_from(least + count - 1).unwrap_or(0),
            Self::Normal { mean, .. } => whole(2.0 * mean),
            Self::Mix(sizes) => sizes.iter().map(|(bytes, _)| *bytes).max().unwrap_or(0),
        }
    }

    fn draw(&self, random: &mut Random) -> usize {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Uniform { least, count } => {
                usize::try_from(least + random.below(*count)).unwrap_or(0)
            }
            Self::Normal { mean, deviation } => {
                let size = deviation.mul_add(random.normal(), *mean);
                whole(size.clamp(0.0, 2.0 * mean))
            }
            Self::Mix(sizes) => {
                let sum = sizes.last().map_or(0, |(_, sum)| *sum);
                let drawn = random.below(sum);
                let at = sizes.partition_point(|(_, sum)| *sum <= drawn);
                sizes.get(at).map_or(0, |(bytes, _)| *bytes)
            }
        }
    }
}

fn index(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes are between zero and twice a u32; the cast saturates"
)]
const fn whole(bytes: f64) -> usize {
    bytes.round() as usize
}

#[cfg(test)]
mod tests;
