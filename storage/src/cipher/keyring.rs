//! Master keys, and how they wrap the keys of files.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;

use super::parse::{BadKeys, parse};
use super::{DataKey, KEY_BYTES, KeyMaker, TAG_BYTES};
use crate::StoreId;
use crate::codec::Fields;
use crate::error::{Error, io_error};
use crate::id::{Generation, SegmentId};

/// Bytes of a wrapped key on disk.
pub(crate) const WRAPPED_BYTES: usize = 8 + WRAP_SALT_BYTES + KEY_BYTES + TAG_BYTES;
pub(super) const WRAP_SALT_BYTES: usize = 16;

/// A file with keys and comments is smaller; what lies behind is not read.
const FILE_BYTES_MAX: u64 = 64 << 10;

const ID_LABEL: &[u8] = b"ringmq key id";
const WRAP_LABEL: &[u8] = b"ringmq wrap";
const DATA_KEY_LABEL: &[u8] = b"ringmq data key";

/// Where random bytes come from: the system, or a test that wants the same ones again.
pub trait Entropy: fmt::Debug + Send + Sync {
    /// Fills the bytes, each of them random.
    ///
    /// # Errors
    /// When the system has none; nothing is written then.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), getrandom::Error>;
}

/// Random bytes of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), getrandom::Error> {
        getrandom::fill(bytes)
    }
}

/// Names a master key and says nothing about it: 64 bits that are derived from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A master key. It is used to derive from and for nothing else.
#[derive(Clone)]
pub(super) struct MasterKey {
    pub(super) id: KeyId,
    secret: hmac::Key,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

impl MasterKey {
    pub(super) fn new(bytes: &[u8; KEY_BYTES]) -> Self {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        let tag = hmac::sign(&secret, ID_LABEL);
        let id = tag.as_ref().first_chunk().copied().unwrap_or_default();
        Self {
            id: KeyId(id),
            secret,
        }
    }

    /// The key that wraps one data key, and nothing else: its salt is random.
    fn wrapping_key(&self, salt: &[u8; WRAP_SALT_BYTES]) -> LessSafeKey {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(WRAP_LABEL);
        context.update(salt);
        gcm_key(context.sign().as_ref())
    }

    pub(super) fn wrap(
        &self,
        key: &DataKey,
        salt: [u8; WRAP_SALT_BYTES],
        place: &KeyPlace,
    ) -> WrappedKey {
        let mut sealed = *key.bytes();
        let tag = self.wrapping_key(&salt).seal_in_place_separate_tag(
            Nonce::assume_unique_for_key([0; 12]),
            Aad::from(place.encode()),
            &mut sealed,
        );
        let tag = tag.expect("32 bytes are not too many to encrypt");
        let mut tag_bytes = [0; TAG_BYTES];
        tag_bytes.copy_from_slice(tag.as_ref());
        WrappedKey {
            master: self.id,
            salt,
            sealed,
            tag: tag_bytes,
        }
    }

    fn unwrap(&self, wrapped: &WrappedKey, place: &KeyPlace) -> Option<DataKey> {
        let mut bytes = [0; KEY_BYTES + TAG_BYTES];
        let (sealed, tag) = bytes.split_at_mut(KEY_BYTES);
        sealed.copy_from_slice(&wrapped.sealed);
        tag.copy_from_slice(&wrapped.tag);
        let key = self.wrapping_key(&wrapped.salt);
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let opened = key.open_in_place(nonce, Aad::from(place.encode()), &mut bytes);
        let opened = opened.ok()?.first_chunk().copied();
        opened.map(DataKey::from_bytes)
    }
}

/// A key for AES-256-GCM of 32 bytes that were derived.
pub(super) fn gcm_key(bytes: &[u8]) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, bytes);
    LessSafeKey::new(key.expect("a derived key has the length of a key"))
}

/// Which file a data key belongs to. A wrapped key is of no use at another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// One use of a segment's file.
    Segment {
        /// The store.
        store: StoreId,
        /// The log.
        log: u16,
        /// The segment.
        segment: SegmentId,
        /// The generation of its file.
        generation: Generation,
    },
    /// A checkpoint.
    Checkpoint {
        /// The store.
        store: StoreId,
        /// The log.
        log: u16,
        /// Its number.
        number: u64,
    },
}

const PLACE_BYTES: usize = DATA_KEY_LABEL.len() + 32;

impl KeyPlace {
    fn encode(&self) -> [u8; PLACE_BYTES] {
        let (kind, store, log, number, generation) = match *self {
            Self::Segment {
                store,
                log,
                segment,
                generation,
            } => (1, store, log, u64::from(segment.get()), generation.get()),
            Self::Checkpoint { store, log, number } => (2, store, log, number, 0),
        };
        let mut out = Vec::with_capacity(PLACE_BYTES);
        out.extend_from_slice(DATA_KEY_LABEL);
        out.extend_from_slice(store.as_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&generation.to_le_bytes());
        out.extend_from_slice(&log.to_le_bytes());
        out.extend_from_slice(&u16::to_le_bytes(kind));
        debug_assert_eq!(out.len(), PLACE_BYTES);
        out.first_chunk().copied().unwrap_or([0; PLACE_BYTES])
    }
}

/// The data key of a file as it lies in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// The master key that it was wrapped with.
    pub master: KeyId,
    salt: [u8; WRAP_SALT_BYTES],
    sealed: [u8; KEY_BYTES],
    tag: [u8; TAG_BYTES],
}

impl WrappedKey {
    pub(crate) fn encode_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.master.0);
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.sealed);
        out.extend_from_slice(&self.tag);
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            master: KeyId(fields.array()?),
            salt: fields.array()?,
            sealed: fields.array()?,
            tag: fields.array()?,
        })
    }
}

/// Why a wrapped key is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// It was wrapped with a master key that is not in the keyring.
    #[error("encrypted with key {0}")]
    Unknown(KeyId),
    /// The master key is there; the bytes are not what it wrapped for this place.
    #[error("the key of the file is damaged")]
    Damaged,
}

/// The master keys that were given: the first wraps, all unwrap. Without any nothing is encrypted.
///
/// Clones share the keys. They are never printed.
#[derive(Clone, Debug)]
pub struct Keyring {
    keys: Arc<[MasterKey]>,
    encrypts: bool,
    entropy: Arc<dyn Entropy>,
}

impl Default for Keyring {
    fn default() -> Self {
        Self {
            keys: Arc::default(),
            encrypts: false,
            entropy: Arc::new(SystemEntropy),
        }
    }
}

impl Keyring {
    /// Reads keys: each 32 bytes as 64 hexadecimal digits or in base64, apart by white space or
    /// commas; `#` begins a comment that goes to the end of its line. The first key is the one
    /// that new files are encrypted with.
    ///
    /// # Errors
    /// [`BadKeys`], which holds nothing of the text.
    pub fn parse(text: &str) -> Result<Self, BadKeys> {
        let mut keys: Vec<MasterKey> = Vec::new();
        for bytes in parse(text)? {
            let key = MasterKey::new(&bytes);
            if keys.iter().all(|known| known.id != key.id) {
                keys.push(key);
            }
        }
        Ok(Self {
            keys: keys.into(),
            encrypts: true,
            ..Self::default()
        })
    }

    /// Reads keys from a file, as [`parse`](Self::parse) does.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Keys`] for a file that holds none or is too large to be one.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bad = |bad| Error::Keys {
            path: Some(path.to_owned()),
            bad,
        };
        let file = File::open(path).map_err(io_error("open", path))?;
        let mut bytes = Vec::new();
        let read = file.take(FILE_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(io_error("read", path))?;
        let text = String::from_utf8(bytes).map_err(|_| bad(BadKeys::Spelling { number: 1 }))?;
        Self::parse(&text).map_err(bad)
    }

    /// The same keys for reading only: what is written from now on is plain.
    #[must_use]
    pub fn reading_only(self) -> Self {
        Self {
            encrypts: false,
            ..self
        }
    }

    /// The same keys, with random bytes from elsewhere than the system.
    #[must_use]
    pub fn with_entropy(self, entropy: Arc<dyn Entropy>) -> Self {
        Self { entropy, ..self }
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Names of the keys, in order.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().map(|key| key.id)
    }

    /// The key that new files are encrypted with; `None` when they are not.
    #[must_use]
    pub fn writing(&self) -> Option<KeyId> {
        self.writer().map(|key| key.id)
    }

    fn writer(&self) -> Option<&MasterKey> {
        self.keys.first().filter(|_| self.encrypts)
    }

    /// What makes the keys of the files that a log writes which is opened now; `None` when they
    /// are to be plain.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn key_maker(&self) -> Result<Option<KeyMaker>, getrandom::Error> {
        let maker = self
            .writer()
            .map(|master| KeyMaker::new(master.clone(), &*self.entropy));
        maker.transpose()
    }

    /// The data key of a file.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn unwrap(&self, wrapped: &WrappedKey, place: &KeyPlace) -> Result<DataKey, BadKey> {
        let master = self.keys.iter().find(|key| key.id == wrapped.master);
        let master = master.ok_or(BadKey::Unknown(wrapped.master))?;
        master.unwrap(wrapped, place).ok_or(BadKey::Damaged)
    }
}
