//! How master keys are written down.

use super::KEY_BYTES;

/// Master keys that may be given at once.
pub const KEYS_MAX: usize = 16;

/// Why a text holds no keys. Nothing of the text is in it: it may be a key with a typing error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadKeys {
    /// Nothing but comments.
    #[error("there is no key")]
    None,
    /// More than anybody rotates.
    #[error("there are more than {KEYS_MAX} keys")]
    TooMany,
    /// Not one of the two spellings.
    #[error(
        "key {number} is neither 64 hexadecimal digits nor 32 bytes in base64; make one with \
         `openssl rand -hex 32`"
    )]
    Spelling {
        /// Which key, from 1.
        number: usize,
    },
    /// A placeholder, not a random key.
    #[error("key {number} is the same byte 32 times; make one with `openssl rand -hex 32`")]
    Weak {
        /// Which key, from 1.
        number: usize,
    },
}

/// The keys of a text, in order.
pub(super) fn parse(text: &str) -> Result<Vec<[u8; KEY_BYTES]>, BadKeys> {
    let words = text.lines().flat_map(|line| {
        let line = line.split_once('#').map_or(line, |(before, _)| before);
        line.split([' ', '\t', ',', '\r'])
    });
    let mut keys = Vec::new();
    for word in words.filter(|word| !word.is_empty()) {
        let number = keys.len() + 1;
        if number > KEYS_MAX {
            return Err(BadKeys::TooMany);
        }
        let key = hex(word).or_else(|| base64(word));
        let key = key.ok_or(BadKeys::Spelling { number })?;
        if key.iter().all(|byte| Some(byte) == key.first()) {
            return Err(BadKeys::Weak { number });
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(BadKeys::None);
    }
    Ok(keys)
}

fn hex(word: &str) -> Option<[u8; KEY_BYTES]> {
    if word.len() != 2 * KEY_BYTES {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    for (byte, digits) in key.iter_mut().zip(word.as_bytes().chunks_exact(2)) {
        for digit in digits {
            let digit = char::from(*digit).to_digit(16)?;
            *byte = (*byte << 4) | u8::try_from(digit).ok()?;
        }
    }
    Some(key)
}

/// Base64 in either alphabet, with or without its padding.
fn base64(word: &str) -> Option<[u8; KEY_BYTES]> {
    const DIGITS: usize = 43;
    let digits = word.strip_suffix('=').unwrap_or(word);
    if digits.len() != DIGITS {
        return None;
    }
    let (mut key, mut filled) = (Vec::with_capacity(KEY_BYTES), 0_u32);
    let mut bits = 0;
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        filled += 6;
        if filled >= 8 {
            filled -= 8;
            key.push(u8::try_from((bits >> filled) & 0xff).ok()?);
        }
    }
    // Two bits are left: other values would be further spellings of the same key.
    let rest = bits & ((1 << filled) - 1);
    (rest == 0)
        .then(|| key.first_chunk().copied())
        .flatten()
        .filter(|_| key.len() == KEY_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
    const BASE64: &str = "ABEiM0RVZneImaq7zN3u/wARIjNEVWZ3iJmqu8zd7v8=";

    #[test]
    fn both_spellings_are_the_same_key() {
        let hex = parse(HEX).unwrap();
        assert_eq!(hex, parse(BASE64).unwrap());
        assert_eq!(hex, parse(BASE64.trim_end_matches('=')).unwrap());
        assert_eq!(hex, parse(&BASE64.replace('/', "_")).unwrap());
        assert_eq!(hex[0][..4], [0, 0x11, 0x22, 0x33]);
    }

    #[test]
    fn keys_come_in_order_and_comments_are_none() {
        let other = HEX.replace("00", "01");
        let text = format!("# since May\n{HEX} # the new one\n\n\t{other}\r\n");
        assert_eq!(
            parse(&text).unwrap(),
            parse(&format!("{HEX},{other}")).unwrap()
        );
        assert_eq!(parse(&text).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_key_is_told_without_its_text() {
        assert_eq!(parse(" # nothing\n"), Err(BadKeys::None));
        for bad in ["secret", &HEX[1..], &format!("{HEX}0"), &BASE64[2..], "ä"] {
            let refused = parse(&format!("{HEX}\n{bad}")).unwrap_err();
            assert_eq!(refused, BadKeys::Spelling { number: 2 }, "{bad}");
            assert!(!refused.to_string().contains(bad));
        }
        let odd = BASE64.replace("v8=", "v9=");
        assert_eq!(parse(&odd), Err(BadKeys::Spelling { number: 1 }));
        assert_eq!(parse(&"0".repeat(64)), Err(BadKeys::Weak { number: 1 }));
        let many: Vec<_> = (0..17)
            .map(|n| HEX.replace("00", &format!("{n:02}")))
            .collect();
        assert_eq!(parse(&many.join(" ")), Err(BadKeys::TooMany));
    }
}
