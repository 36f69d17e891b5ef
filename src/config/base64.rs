//! Base64 as settings carry it: a file in an environment variable, PEM, a routing table.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// With or without padding; bits that are left over mean that the text was cut.
const DECODER: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Decodes standard base64 with or without padding. White space is skipped, since tools wrap
/// lines; anything else that is no base64 makes it `None`.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut digits = text.as_bytes().to_vec();
    digits.retain(|byte| !byte.is_ascii_whitespace());
    if digits.ends_with(b"=") && !digits.len().is_multiple_of(4) {
        return None;
    }
    DECODER.decode(digits).ok()
}

/// Reads a JSON array, also one in base64; an empty text stays empty.
pub(super) fn json_array(text: &str) -> Option<String> {
    // No JSON array is base64, and no base64 begins with a bracket.
    if text.is_empty() || text.starts_with('[') {
        return Some(text.to_owned());
    }
    let json = String::from_utf8(decode(text)?).ok()?;
    json.trim_start().starts_with('[').then_some(json)
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
