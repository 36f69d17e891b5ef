//! Numbers, times and tables for people; base64 for programs.

use std::fmt::Write;

/// Bytes in the largest unit that leaves something before the point.
pub(in crate::cli) fn bytes(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    for (shift, name) in units {
        if bytes >> shift > 0 {
            let tenths = (u128::from(bytes) * 10) >> shift;
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

/// A moment in UTC, as RFC 3339 has it, to the second.
pub(in crate::cli) fn time(unix_ns: u64) -> String {
    let seconds = unix_ns / 1_000_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

/// The date so many days behind 1970-01-01. Years begin in March here, so that a leap day is the
/// last day of its year; 400 years are one round.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (round, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (round * 400 + year + next, month, day)
}

/// Rows under a head, in columns; those that hold numbers are aligned to the right.
pub(in crate::cli) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|cell| cell.chars().count());
    let mut numbers = [true; N];
    for row in rows {
        for ((width, number), cell) in widths.iter_mut().zip(&mut numbers).zip(row) {
            *width = cell.chars().count().max(*width);
            *number &= cell.starts_with(|c: char| c.is_ascii_digit()) || cell == "-";
        }
    }
    let mut text = String::new();
    let head = head.map(str::to_owned);
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for ((cell, width), number) in row.iter().zip(widths).zip(numbers) {
            let _infallible = if number {
                write!(line, "  {cell:>width$}")
            } else {
                write!(line, "  {cell:<width$}")
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard base64 with padding.
pub(in crate::cli) fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut three = [0; 3];
        for (place, byte) in three.iter_mut().zip(group) {
            *place = *byte;
        }
        let [a, b, c] = three;
        let bits = u32::from_be_bytes([0, a, b, c]);
        for place in 0..4 {
            let digit = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or(0);
            let digit = DIGITS.get(digit).copied().unwrap_or(b'=');
            text.push(if place <= group.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_one_digit_behind_the_point() {
        let shown = [0, 1_023, 1_024, 1_536, 64 << 20, (5 << 40) - 1].map(bytes);
        let expected = ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "64.0 MiB", "4.9 TiB"];
        assert_eq!(shown.as_slice(), expected.as_slice());
    }

    /// Seconds as `date -u -d` prints them.
    #[test]
    fn times_are_those_of_the_calendar() {
        let times = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_795_219_200, "2026-11-21T00:00:00Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ];
        for (seconds, expected) in times {
            assert_eq!(time(seconds * 1_000_000_000), expected);
        }
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, expected) in vectors {
            assert_eq!(base64(plain.as_bytes()), expected);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn tables_align_numbers_to_the_right() {
        let rows = [["a", "7"], ["long", "1234"]].map(|row| row.map(str::to_owned));
        let expected = "  NAME  COUNT\n  a         7\n  long   1234\n";
        assert_eq!(table(["NAME", "COUNT"], &rows), expected);
    }
}
