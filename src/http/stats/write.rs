//! Text that grows at the end of a buffer: JSON of lists, numbers of metrics.

/// Appends text as it is.
pub(in crate::http) fn put(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(text.as_bytes());
}

/// Appends a whole number.
pub(in crate::http) fn put_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    for digit in digits.iter_mut().rev() {
        at -= 1;
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Appends a JSON string, with its quotes.
pub(in crate::http) fn put_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '\\' || c < ' ') {
        let (plain, special) = rest.split_at(at);
        put(plain, out);
        let mut chars = special.chars();
        match chars.next() {
            Some('\n') => put("\\n", out),
            Some('\t') => put("\\t", out),
            Some('\r') => put("\\r", out),
            Some(quoted @ ('"' | '\\')) => {
                out.push(b'\\');
                out.push(if quoted == '"' { b'"' } else { b'\\' });
            }
            Some(control) => put(&format!("\\u{:04x}", u32::from(control)), out),
            None => {}
        }
        rest = chars.as_str();
    }
    put(rest, out);
    out.push(b'"');
}

/// Appends `"key":number`, with a comma before it.
pub(in crate::http) fn put_member(key: &str, number: u64, out: &mut Vec<u8>) {
    put(",\"", out);
    put(key, out);
    put("\":", out);
    put_number(number, out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn strings_are_read_back(text in "\\PC*|[\\x00-\\x7f]*") {
            let mut out = Vec::new();
            put_string(&text, &mut out);
            let read: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(read, text);
        }

        #[test]
        fn numbers_are_read_back(number: u64) {
            let mut out = Vec::new();
            put_number(number, &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
