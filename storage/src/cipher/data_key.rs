//! Data keys: what the frames of a segment are encrypted with.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use ring::aead::{Aad, LessSafeKey, Nonce};

use super::keyring::gcm_key;
use super::{BadKey, KEY_BYTES, KeyId, Keyring, TAG_BYTES, WrappedKey};
use crate::frame::{BadFrame, FrameHeader};
use crate::segment::SegmentHeader;

/// Bytes that encryption adds to a frame's payload: the tag and the salt.
pub const ENCRYPTION_BYTES: usize = TAG_BYTES + SALT_BYTES;
const SALT_BYTES: usize = 8;

/// The random half of a nonce: drawn at every opening of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt([u8; SALT_BYTES]);

impl Salt {
    /// The salt of these bytes.
    #[must_use]
    pub const fn new(bytes: [u8; SALT_BYTES]) -> Self {
        Self(bytes)
    }

    fn nonce(self, offset: u32) -> Nonce {
        let mut nonce = [0; 12];
        let (salt, place) = nonce.split_at_mut(SALT_BYTES);
        salt.copy_from_slice(&self.0);
        place.copy_from_slice(&offset.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The key of one file. It is never printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DataKey([u8; KEY_BYTES]);

impl DataKey {
    /// The key of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The key, ready for the one thing that it is for.
    pub(crate) fn gcm(&self) -> LessSafeKey {
        gcm_key(&self.0)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}

/// Bytes that name the place of a segment in what is authenticated.
const PLACE_BYTES: usize = 26;

/// What of a frame's header is authenticated: all but the checksums, which are those of the
/// encrypted payload and of the place.
const HEADER_BYTES: usize = 48;

/// The data key of a segment: encrypts its frames and decrypts them.
pub struct SegmentKey {
    data: DataKey,
    key: LessSafeKey,
    place: [u8; PLACE_BYTES],
    master: Option<KeyId>,
}

impl fmt::Debug for SegmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentKey")
            .field("master", &self.master)
            .finish_non_exhaustive()
    }
}

impl SegmentKey {
    /// The key of a segment; `master` is the one that it lies wrapped with in the segment, if that
    /// could be read.
    #[must_use]
    pub fn new(data: DataKey, header: &SegmentHeader, master: Option<KeyId>) -> Self {
        let mut place = Vec::with_capacity(PLACE_BYTES);
        place.extend_from_slice(header.store.as_bytes());
        place.extend_from_slice(&header.segment.get().to_le_bytes());
        place.extend_from_slice(&header.generation.get().to_le_bytes());
        place.extend_from_slice(&header.log.to_le_bytes());
        debug_assert_eq!(place.len(), PLACE_BYTES);
        Self {
            data,
            key: data.gcm(),
            place: place.first_chunk().copied().unwrap_or([0; PLACE_BYTES]),
            master,
        }
    }

    /// The master key that it lies wrapped with.
    #[must_use]
    pub fn master(&self) -> Option<KeyId> {
        self.master
    }

    /// The key itself: a checkpoint keeps a copy, itself encrypted.
    #[must_use]
    pub fn data(&self) -> DataKey {
        self.data
    }

    /// Encrypts the payload of a frame, the bytes of `buffer` from `from` on, and appends tag and
    /// salt. The header is told: flag and length are those of the encrypted payload then.
    ///
    /// INVARIANT: with one salt an offset comes once.
    ///
    /// # Panics
    /// When there is no such payload, or it has 4 GiB.
    pub fn encrypt(
        &self,
        salt: Salt,
        header: &mut FrameHeader,
        offset: u32,
        buffer: &mut Vec<u8>,
        from: usize,
    ) {
        let len = buffer
            .len()
            .checked_sub(from)
            .map(|len| len + ENCRYPTION_BYTES);
        let len = len.and_then(|len| u32::try_from(len).ok());
        header.payload_len = len.expect("a payload fits its segment");
        header.flags = FrameHeader::ENCRYPTED;
        let payload = buffer.get_mut(from..).unwrap_or_default();
        let aad = Aad::from(self.aad(header, offset));
        let tag = self
            .key
            .seal_in_place_separate_tag(salt.nonce(offset), aad, payload);
        let tag = tag.expect("a payload of less than 4 GiB is not too long");
        buffer.extend_from_slice(tag.as_ref());
        buffer.extend_from_slice(&salt.0);
    }

    /// Decrypts the payload of a frame.
    ///
    /// # Errors
    /// [`BadFrame::Forged`] when it is not what was encrypted for this frame at this place.
    pub fn decrypt(
        &self,
        header: &FrameHeader,
        offset: u32,
        stored: &[u8],
    ) -> Result<Vec<u8>, BadFrame> {
        let (sealed, salt) = stored
            .split_last_chunk::<SALT_BYTES>()
            .ok_or(BadFrame::Forged)?;
        let mut payload = sealed.to_vec();
        let aad = Aad::from(self.aad(header, offset));
        let opened = self
            .key
            .open_in_place(Salt(*salt).nonce(offset), aad, &mut payload);
        let len = opened.map_err(|_| BadFrame::Forged)?.len();
        payload.truncate(len);
        Ok(payload)
    }

    fn aad(&self, header: &FrameHeader, offset: u32) -> [u8; PLACE_BYTES + 4 + HEADER_BYTES] {
        let mut aad = [0; PLACE_BYTES + 4 + HEADER_BYTES];
        let (place, rest) = aad.split_at_mut(PLACE_BYTES);
        let (at, fields) = rest.split_at_mut(4);
        place.copy_from_slice(&self.place);
        at.copy_from_slice(&offset.to_le_bytes());
        let header = header.fields();
        fields.copy_from_slice(header.get(..HEADER_BYTES).unwrap_or_default());
        aad
    }
}

/// The master key that a file needs, where that can be read, was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingKey(pub Option<KeyId>);

/// How the frames of a segment are to be read.
#[derive(Clone, Debug, Default)]
pub enum Cipher {
    /// As they lie there.
    #[default]
    Plain,
    /// With the segment's key.
    Encrypted(Arc<SegmentKey>),
    /// Not at all: the segment's key is damaged.
    Lost,
}

impl Cipher {
    /// How a segment is to be read whose preamble holds this key; `copy` is that of a checkpoint,
    /// for when the preamble is damaged. The header may be one that was put together from what
    /// other files say, which do not know whether the segment is encrypted.
    ///
    /// # Errors
    /// [`MissingKey`]: that is no damage, but a key that was not given.
    pub fn of_segment(
        header: &SegmentHeader,
        wrapped: Option<&WrappedKey>,
        copy: Option<DataKey>,
        keyring: &Keyring,
    ) -> Result<Self, MissingKey> {
        let key = |data, master| Self::Encrypted(Arc::new(SegmentKey::new(data, header, master)));
        if let Some(wrapped) = wrapped {
            match keyring.unwrap(wrapped, &header.key_place()) {
                Ok(data) => return Ok(key(data, Some(wrapped.master))),
                Err(BadKey::Unknown(master)) => return Err(MissingKey(Some(master))),
                Err(BadKey::Damaged) => {}
            }
        }
        match copy {
            Some(data) => Ok(key(data, None)),
            None if !header.encrypted && wrapped.is_none() => Ok(Self::Plain),
            None if keyring.is_empty() => Err(MissingKey(None)),
            None => Ok(Self::Lost),
        }
    }

    /// The records of a frame: as they lie in its payload, or a decrypted copy.
    ///
    /// # Errors
    /// [`BadFrame::NoKey`] and [`BadFrame::Forged`].
    pub fn decrypt<'a>(
        &self,
        header: &FrameHeader,
        offset: u32,
        stored: &'a [u8],
    ) -> Result<Cow<'a, [u8]>, BadFrame> {
        match self {
            // Nothing of the log's own is secret.
            _ if header.slot.is_none() && !header.is_encrypted() => Ok(Cow::Borrowed(stored)),
            Self::Plain if !header.is_encrypted() => Ok(Cow::Borrowed(stored)),
            // Whoever can write the file could put it there.
            Self::Encrypted(_) if !header.is_encrypted() => Err(BadFrame::Forged),
            Self::Encrypted(key) => key.decrypt(header, offset, stored).map(Cow::Owned),
            Self::Plain | Self::Lost => Err(BadFrame::NoKey),
        }
    }

    /// Whether nothing is encrypted.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain)
    }

    /// The segment's key.
    #[must_use]
    pub fn key(&self) -> Option<&Arc<SegmentKey>> {
        match self {
            Self::Encrypted(key) => Some(key),
            Self::Plain | Self::Lost => None,
        }
    }
}
