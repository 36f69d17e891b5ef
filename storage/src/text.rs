//! The text files of a store: one line that keeps its form in every version to come, so that an
//! old broker can always tell a newer store from a damaged one, and a body.
//!
//! ```text
//! <magic> <version> <checksum>
//! <body>
//! ```
//!
//! The checksum is the CRC-32 (IEEE) of the rest: of the text `<magic> <version>` and a line feed,
//! then of every byte after the first line.

use crate::error::Damage;

/// Why bytes are no file of ours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Newer(u32),
    Damaged(Damage),
}

impl From<Damage> for Unreadable {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

/// The whole file.
pub(crate) fn encode(magic: &str, version: u32, body: &str) -> Vec<u8> {
    let checksum = checksum(magic, version, body.as_bytes());
    format!("{magic} {version} {checksum:08x}\n{body}").into_bytes()
}

/// The body of a file, when it is sound and not newer than `supported`.
pub(crate) fn decode<'a>(
    magic: &'static str,
    supported: u32,
    bytes: &'a [u8],
) -> Result<&'a [u8], Unreadable> {
    let head = split_head(magic, bytes);
    let (version, found, body) = head.ok_or(Damage::Head { magic })?;
    let computed = checksum(magic, version, body);
    if found != computed {
        return Err(Damage::Checksum { found, computed }.into());
    }
    if version > supported {
        return Err(Unreadable::Newer(version));
    }
    Ok(body)
}

/// Version, checksum and what follows the first line. Strict: one spelling of each number, or two
/// different files could have one meaning.
fn split_head<'a>(magic: &str, bytes: &'a [u8]) -> Option<(u32, u32, &'a [u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (head, body) = bytes.split_at_checked(end)?;
    let body = body.strip_prefix(b"\n")?;
    let head = std::str::from_utf8(head).ok()?;
    let (version, checksum) = head
        .strip_prefix(magic)?
        .strip_prefix(' ')?
        .split_once(' ')?;
    let version: u32 = version.parse().ok().filter(|version| *version > 0)?;
    let checksum = u32::from_str_radix(checksum, 16).ok()?;
    (head == format!("{magic} {version} {checksum:08x}")).then_some((version, checksum, body))
}

/// The checksum in the first line.
pub(crate) fn checksum(magic: &str, version: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(format!("{magic} {version}\n").as_bytes());
    hasher.update(body);
    hasher.finalize()
}
