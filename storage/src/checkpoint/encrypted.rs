//! Encrypted checkpoints: a plain one, whole, in an envelope.
//!
//! ```text
//!  0 [u8; 8]  magic `RMQCKP1\0`          48 [u8; 32] reserved, 0
//!  8 u32      format version, 2          80 u32 checksum of all that follows the header
//! 12 u16      log                        84 u32 checksum of the header before this field
//! 14 u16      reserved, 0                88 [u8; 72] the data key, wrapped
//! 16 [u8; 16] store                     160 the plain file, encrypted; then the tag
//! 32 u64      number
//! 40 u64      length of the file
//! ```
//!
//! What is authenticated with it are the first 48 bytes. The data key is drawn for one writing of
//! one file, so its nonce may be 0.

use ring::aead::{Aad, Nonce};

use super::{Checkpoint, HEADER_BYTES, MAGIC};
use crate::StoreId;
use crate::cipher::{BadKey, DataKey, KeyMaker, KeyPlace, Keyring, TAG_BYTES, WRAPPED_BYTES};
use crate::cipher::{KeyId, WrappedKey};
use crate::codec::{BadFile, Fields, close_header, open_versioned};
use crate::manifest::ENCRYPTED_VERSION;

/// Bytes of the header that are authenticated with the content.
const BOUND_BYTES: usize = 48;

/// What lies around the content.
struct Envelope<'a> {
    store: StoreId,
    log: u16,
    number: u64,
    key: WrappedKey,
    content: &'a [u8],
}

impl Checkpoint {
    /// The whole file, encrypted with a key that was made for it.
    #[must_use]
    pub fn encrypt(&self, (key, wrapped): &(DataKey, WrappedKey)) -> Vec<u8> {
        let plain = self.encode();
        let place = (self.store, self.log, self.number);
        let len = HEADER_BYTES + WRAPPED_BYTES + plain.len() + TAG_BYTES;
        let bound = bound(place, len);
        let mut content = plain;
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let tag = key
            .gcm()
            .seal_in_place_separate_tag(nonce, Aad::from(&bound), &mut content);
        let tag = tag.expect("a checkpoint is not too long to encrypt");
        content.extend_from_slice(tag.as_ref());
        let out = assemble(&bound, wrapped, &content);
        debug_assert_eq!(out.len(), len);
        out
    }

    /// Reads a file, plain or encrypted. It is taken whole or not at all.
    ///
    /// The caller has to compare store and log with [`check`](Self::check).
    ///
    /// # Errors
    /// [`BadFile`]; [`BadFile::Encrypted`] when the key to it is missing.
    pub fn decrypt(bytes: &[u8], keyring: &Keyring) -> Result<Self, BadFile> {
        let Some(envelope) = Envelope::open(bytes)? else {
            let plain = Self::decode(bytes)?;
            if plain.key_count() > 0 {
                return Err(BadFile::Field("a plain checkpoint holds keys"));
            }
            return Ok(plain);
        };
        let key = envelope.data_key(keyring)?;
        let bound = bytes.get(..BOUND_BYTES).unwrap_or_default();
        let mut content = envelope.content.to_vec();
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let opened = key
            .gcm()
            .open_in_place(nonce, Aad::from(bound), &mut content);
        let checkpoint = Self::decode(opened.map_err(|_| BadFile::Forged)?)?;
        let place = (checkpoint.store, checkpoint.log, checkpoint.number);
        if place != (envelope.store, envelope.log, envelope.number) {
            return Err(BadFile::Forged);
        }
        Ok(checkpoint)
    }

    /// The master key that a file needs; `None` for a plain one.
    ///
    /// # Errors
    /// [`BadFile`], as far as the envelope is concerned.
    pub fn master_key(bytes: &[u8]) -> Result<Option<KeyId>, BadFile> {
        let envelope = Envelope::open(bytes)?;
        Ok(envelope.map(|envelope| envelope.key.master))
    }

    /// The same file with its key wrapped by the master key that writes; `None` for a plain one.
    ///
    /// # Errors
    /// [`BadFile`].
    pub fn rewrap(
        bytes: &[u8],
        keyring: &Keyring,
        maker: &mut KeyMaker,
    ) -> Result<Option<Vec<u8>>, BadFile> {
        let Some(envelope) = Envelope::open(bytes)? else {
            return Ok(None);
        };
        let wrapped = maker.wrap(&envelope.data_key(keyring)?, &envelope.place());
        let bound = bytes.first_chunk().ok_or(BadFile::Short)?;
        Ok(Some(assemble(bound, &wrapped, envelope.content)))
    }
}

impl<'a> Envelope<'a> {
    /// `None` for a file that is plain, or none at all: that is for its own reader to tell.
    fn open(bytes: &'a [u8]) -> Result<Option<Self>, BadFile> {
        let (ENCRYPTED_VERSION, mut fields) = open_versioned(bytes, HEADER_BYTES, MAGIC)? else {
            return Ok(None);
        };
        let reserved = BadFile::Field("a reserved field is not 0");
        let head = Self::read(&mut fields).ok_or(reserved)?;
        let (log, store, number, len, checksum) = head;
        let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
        if u64::try_from(bytes.len()) != Ok(len) {
            return Err(BadFile::Short);
        }
        if crc32fast::hash(body) != checksum {
            return Err(BadFile::Checksum);
        }
        let mut fields = Fields::new(body);
        let key = WrappedKey::read(&mut fields).ok_or(BadFile::Short)?;
        Ok(Some(Self {
            store,
            log,
            number,
            key,
            content: fields.rest(),
        }))
    }

    fn read(fields: &mut Fields<'_>) -> Option<(u16, StoreId, u64, u64, u32)> {
        let log = fields.u16()?;
        fields.reserved::<2>()?;
        let store = StoreId::from_bytes(fields.array()?);
        let (number, len) = (fields.u64()?, fields.u64()?);
        fields.reserved::<32>()?;
        Some((log, store, number, len, fields.u32()?))
    }

    fn place(&self) -> KeyPlace {
        KeyPlace::Checkpoint {
            store: self.store,
            log: self.log,
            number: self.number,
        }
    }

    fn data_key(&self, keyring: &Keyring) -> Result<DataKey, BadFile> {
        let key = keyring.unwrap(&self.key, &self.place());
        key.map_err(|bad| match bad {
            BadKey::Unknown(key) => BadFile::Encrypted { key },
            BadKey::Damaged => BadFile::Forged,
        })
    }
}

/// The part of the header that is authenticated.
fn bound((store, log, number): (StoreId, u16, u64), len: usize) -> [u8; BOUND_BYTES] {
    let mut out = Vec::with_capacity(BOUND_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&ENCRYPTED_VERSION.to_le_bytes());
    out.extend_from_slice(&u32::from(log).to_le_bytes());
    out.extend_from_slice(store.as_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&u64::try_from(len).unwrap_or(u64::MAX).to_le_bytes());
    debug_assert_eq!(out.len(), BOUND_BYTES);
    out.first_chunk().copied().unwrap_or([0; BOUND_BYTES])
}

fn assemble(bound: &[u8; BOUND_BYTES], wrapped: &WrappedKey, content: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(WRAPPED_BYTES + content.len());
    wrapped.encode_to(&mut body);
    body.extend_from_slice(content);
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.extend_from_slice(bound);
    out.resize(HEADER_BYTES - 8, 0);
    out.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    close_header(&mut out, 0);
    debug_assert_eq!(out.len(), HEADER_BYTES);
    out.append(&mut body);
    out
}
