//! Ids for messages that come without one.

/// Length of a generated id.
pub const GENERATED_ID_LEN: usize = 22;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Makes an id of 22 characters out of `0-9A-Za-z`, as KubeMQ clients know them. It holds 128
/// random bits, which `fill_random` provides: ids never collide in practice and cannot be guessed.
pub fn generate(fill_random: &mut dyn FnMut(&mut [u8])) -> String {
    let mut random = [[0; 8]; 2];
    for half in &mut random {
        fill_random(half);
    }
    let mut id = String::with_capacity(GENERATED_ID_LEN);
    for half in random {
        let mut rest = u64::from_le_bytes(half);
        // Eleven digits hold 64 bits.
        for _ in 0..GENERATED_ID_LEN / 2 {
            let digit = usize::try_from(rest % 62).unwrap_or_default();
            id.push(DIGITS.get(digit).copied().map_or('0', char::from));
            rest /= 62;
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_22_letters_and_digits() {
        for byte in [0, 1, 61, 62, 0x7f, 0xff] {
            let id = generate(&mut |bytes| bytes.fill(byte));
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
