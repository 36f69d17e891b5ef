//! Draws the keys of the files that one opening of a log writes.

use std::fmt;

use ring::hmac;

use super::keyring::{MasterKey, WRAP_SALT_BYTES};
use super::{DataKey, Entropy, KEY_BYTES, KeyId, KeyPlace, Salt, SegmentKey, WrappedKey};
use crate::segment::SegmentHeader;

/// Makes the keys of what is written from the opening of a log to its end.
///
/// Its random bytes are drawn once, when the log is opened: what it makes later is derived from
/// them, so that going on in a new segment neither fails nor waits for the system.
pub struct KeyMaker {
    master: MasterKey,
    secret: hmac::Key,
    salt: Salt,
    /// Keys that were made.
    count: u64,
}

impl fmt::Debug for KeyMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyMaker")
            .field("master", &self.master)
            .field("count", &self.count)
            .finish_non_exhaustive()
    }
}

impl KeyMaker {
    pub(super) fn new(master: MasterKey, entropy: &dyn Entropy) -> Result<Self, getrandom::Error> {
        let mut secret = [0; KEY_BYTES];
        let mut salt = [0; 8];
        entropy.fill(&mut secret)?;
        entropy.fill(&mut salt)?;
        Ok(Self {
            master,
            secret: hmac::Key::new(hmac::HMAC_SHA256, &secret),
            salt: Salt::new(salt),
            count: 0,
        })
    }

    /// The master key that wraps what is written.
    #[must_use]
    pub fn master(&self) -> KeyId {
        self.master.id
    }

    /// The salt of this opening: half of the nonce of every frame that it writes.
    #[must_use]
    pub fn salt(&self) -> Salt {
        self.salt
    }

    /// The same with another salt: breaks the rule that the nonces rest on.
    #[cfg(feature = "sim")]
    pub(crate) fn with_salt(self, salt: Salt) -> Self {
        Self { salt, ..self }
    }

    /// A new data key for one use of a segment's file.
    pub fn segment_key(&mut self, header: &SegmentHeader) -> (SegmentKey, WrappedKey) {
        let (key, wrapped) = self.file_key(&header.key_place());
        (SegmentKey::new(key, header, Some(self.master.id)), wrapped)
    }

    /// A new data key for one file.
    pub fn file_key(&mut self, place: &KeyPlace) -> (DataKey, WrappedKey) {
        self.count += 1;
        let key = self.derive(b"data key");
        let key = DataKey::from_bytes(key);
        (key, self.wrap_as_counted(&key, place))
    }

    /// Wraps a key that exists anew, with the master key that writes.
    pub fn wrap(&mut self, key: &DataKey, place: &KeyPlace) -> WrappedKey {
        self.count += 1;
        self.wrap_as_counted(key, place)
    }

    fn wrap_as_counted(&self, key: &DataKey, place: &KeyPlace) -> WrappedKey {
        let salt = self.derive(b"wrap salt");
        let salt: Option<&[u8; WRAP_SALT_BYTES]> = salt.first_chunk();
        let salt = salt.copied().unwrap_or_default();
        self.master.wrap(key, salt, place)
    }

    /// 32 bytes that nobody can tell from random ones who does not know the secret.
    fn derive(&self, label: &[u8]) -> [u8; KEY_BYTES] {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(label);
        context.update(&self.count.to_le_bytes());
        let tag = context.sign();
        tag.as_ref().first_chunk().copied().unwrap_or_default()
    }
}
