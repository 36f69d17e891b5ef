//! Names of transactions, as the reference makes them: UUIDs.

use std::fmt;

/// Names a transaction. Nobody else can guess it, though it is worth something on its stream only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TransactionId(u128);

impl TransactionId {
    #[cfg(test)]
    pub(super) const fn from_number(number: u128) -> Self {
        Self(number)
    }

    pub(super) fn random(fill_random: impl FnOnce(&mut [u8])) -> Self {
        let mut bytes = [0; 16];
        fill_random(&mut bytes);
        // Version 4, variant 1: clients may parse it.
        let number = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62);
        Self(number | 0x4 << 76 | 0x2 << 62)
    }

    /// Reads one that this broker may have made.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut number = 0_u128;
        let mut groups = text.split('-');
        for digits in GROUPS {
            let group = groups.next().filter(|group| group.len() == digits)?;
            // A sign is no digit.
            group.bytes().all(|b| b.is_ascii_hexdigit()).then_some(())?;
            number = number << (4 * digits) | u128::from_str_radix(group, 16).ok()?;
        }
        groups.next().is_none().then_some(Self(number))
    }
}

/// Digits of the groups of a UUID.
const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = 32;
        for digits in GROUPS {
            if left < 32 {
                f.write_str("-")?;
            }
            left -= digits;
            let group = self.0 >> (4 * left) & ((1 << (4 * digits)) - 1);
            write!(f, "{group:0digits$x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_and_is_read_back() {
        for byte in [0, 0x5a, 0xff] {
            let id = TransactionId::random(|bytes| bytes.fill(byte));
            let text = id.to_string();
            assert_eq!(text.len(), 36);
            assert_eq!(text.get(14..15), Some("4"), "{text}: version 4");
            assert!(matches!(text.get(19..20), Some("8" | "9" | "a" | "b")));
            assert_eq!(TransactionId::parse(&text), Some(id));
            assert_eq!(TransactionId::parse(&text.to_uppercase()), Some(id));
        }
        for text in [
            "",
            "nope",
            "00000000-0000-0000-0000-00000000000",
            "00000000-0000-0000-0000-0000000000000",
            "00000000-0000-0000-0000-000000000000-",
            "+0000000-0000-0000-0000-000000000000",
            "00000000-0000-0000-0000-00000000000\u{e9}",
        ] {
            assert_eq!(TransactionId::parse(text), None, "{text:?}");
        }
    }
}
