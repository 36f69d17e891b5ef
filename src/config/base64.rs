//! Base64, as much as `CONFIG` needs: a file in an environment variable.

/// Decodes standard base64 with or without padding. White space is skipped, since tools wrap
/// lines; anything else that is no base64 makes it `None`.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let bare = digits
        .strip_suffix(b"==")
        .or_else(|| digits.strip_suffix(b"="));
    if bare.is_some() && !digits.len().is_multiple_of(4) {
        return None;
    }
    let mut decoded = Vec::with_capacity(digits.len() / 4 * 3);
    for group in bare.unwrap_or(&digits).chunks(4) {
        decode_group(group, &mut decoded)?;
    }
    Some(decoded)
}

/// Decodes up to four digits; three of them hold two bytes, two hold one, one holds none.
fn decode_group(group: &[u8], decoded: &mut Vec<u8>) -> Option<()> {
    let mut bits: u32 = 0;
    for digit in group {
        bits = bits << 6 | u32::from(value(*digit)?);
    }
    let missing = 4 - u32::try_from(group.len()).ok()?;
    let bytes = (bits << (6 * missing)).to_be_bytes();
    let [_, bytes @ ..] = bytes;
    let count = match missing {
        0 => 3,
        1 => 2,
        2 => 1,
        _ => return None,
    };
    let (kept, unused) = bytes.split_at_checked(count)?;
    decoded.extend_from_slice(kept);
    // Left-over bits that are not zero mean that the text was cut.
    unused.iter().all(|byte| *byte == 0).then_some(())
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_rfc_4648_decode() {
        let vectors = [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
            ("Zm9v\nYmE", "fooba"),
        ];
        for (text, decoded) in vectors {
            assert_eq!(
                decode(text).as_deref(),
                Some(decoded.as_bytes()),
                "{text:?}"
            );
        }
        assert_eq!(decode("++//"), Some(vec![0xfb, 0xef, 0xff]));
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for wrong in [
            "Z",
            "Zg=",
            "Zg===",
            "=",
            "Zh==",
            "Zm9v!",
            "./ringmq.toml",
            "größe",
        ] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
    }
}
