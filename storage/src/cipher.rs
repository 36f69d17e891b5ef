//! Encryption at rest: names and messages are written encrypted, with AES-256-GCM.
//!
//! ```text
//! master key (file, environment) ── wraps ─► data key, one for each use of a segment's file and
//!                                            for each checkpoint; lies wrapped in that file
//! data key ── encrypts ─► the payloads of a segment's frames, the content of a checkpoint
//! ```
//!
//! INVARIANT: no nonce is used twice with one key.
//!
//! - A data key is drawn for one use of a file (store, log, segment, generation), or for one
//!   writing of a checkpoint, and encrypts nothing else.
//! - Of a segment, a frame's nonce is the salt of the opening, 64 random bits, and the offset of
//!   the frame. Within an opening no byte is written twice, so no offset comes again; what is
//!   written at an offset again after a crash, in a copy of the store, or behind a torn tail, is
//!   written by another opening, with another salt. The salt lies behind each payload.
//! - Of a checkpoint, the nonce is 0: its key encrypts once.
//! - A data key is wrapped with a key that is derived from the master key and 128 random bits, and
//!   wraps once.
//!
//! `docs/adr/2026-11-21-sealed-segments.md` has the reasons, `docs/FORMAT.md` the bytes.

mod data_key;
mod key_maker;
mod keyring;
mod parse;

pub use self::data_key::{Cipher, DataKey, ENCRYPTION_BYTES, MissingKey, Salt, SegmentKey};
pub use self::key_maker::KeyMaker;
pub use self::keyring::{BadKey, Entropy, KeyId, KeyPlace, Keyring, SystemEntropy, WrappedKey};
pub use self::parse::{BadKeys, KEYS_MAX};

pub(crate) use self::keyring::WRAPPED_BYTES;

/// Bytes of a key: AES-256.
pub const KEY_BYTES: usize = 32;

/// Bytes of the tag that tells what was encrypted from anything else.
pub(crate) const TAG_BYTES: usize = 16;
