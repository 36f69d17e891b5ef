//! Ids for messages that come without one.

/// Length of a generated id.
pub const GENERATED_ID_LEN: usize = 22;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Makes an id of 22 characters out of `0-9A-Za-z`, as KubeMQ clients know them. It holds 128
/// random bits, which `fill_random` provides: ids never collide in practice and cannot be guessed.
#[must_use]
pub fn generate(fill_random: &mut dyn FnMut(&mut [u8])) -> GeneratedId {
    let mut random = [[0; 8]; 2];
    for half in &mut random {
        fill_random(half);
    }
    let mut id = [b'0'; GENERATED_ID_LEN];
    let (first, second) = id.split_at_mut(GENERATED_ID_LEN / 2);
    for (half, digits) in random.into_iter().zip([first, second]) {
        let mut rest = u64::from_le_bytes(half);
        // Eleven digits hold 64 bits.
        for place in digits {
            let digit = usize::try_from(rest % 62).unwrap_or_default();
            *place = DIGITS.get(digit).copied().unwrap_or(b'0');
            rest /= 62;
        }
    }
    GeneratedId(id)
}

/// A generated id, without memory of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GeneratedId([u8; GENERATED_ID_LEN]);

impl GeneratedId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("an id is made of letters and digits")
    }
}

impl From<GeneratedId> for String {
    fn from(id: GeneratedId) -> Self {
        id.as_str().to_owned()
    }
}

/// The id of a message: the one that came with it, or a generated one.
#[derive(Clone, Copy, Debug)]
pub enum MessageId<'a> {
    /// It came with the message.
    Given(&'a str),
    /// The message came without one.
    Generated(GeneratedId),
}

impl std::ops::Deref for MessageId<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Given(id) => id,
            Self::Generated(id) => id.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_22_letters_and_digits() {
        for byte in [0, 1, 61, 62, 0x7f, 0xff] {
            let id = generate(&mut |bytes| bytes.fill(byte));
            let id = id.as_str();
            assert_eq!(id.len(), GENERATED_ID_LEN);
            assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
        }
    }

    #[test]
    fn every_random_bit_makes_another_id() {
        let mut ids = HashSet::new();
        for bit in 0..128_usize {
            let mut at = 0;
            ids.insert(generate(&mut |bytes| {
                for byte in bytes {
                    *byte = if at == bit / 8 { 1 << (bit % 8) } else { 0 };
                    at += 1;
                }
            }));
        }
        assert_eq!(ids.len(), 128);
    }
}
