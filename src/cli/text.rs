//! Numbers, times and tables for people; base64 for programs.

use std::borrow::Cow;

use base64::Engine as _;
use comfy_table::{CellAlignment, Table};

use crate::model::calendar::date;

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

/// A moment in UTC, as RFC 3339 has it, to the millisecond.
pub(in crate::cli) fn time_ms(unix_ns: u64) -> String {
    let millis = unix_ns / 1_000_000 % 1_000;
    let seconds = time(unix_ns);
    format!("{}.{millis:03}Z", seconds.trim_end_matches('Z'))
}

/// Seconds as `3d 4h`, `4h 5m`, `5m 6s` or `6s`.
pub(in crate::cli) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// So many of something.
pub(in crate::cli) fn counted(count: u64, what: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {what}{end}")
}

/// Rows under a head, in columns; those that hold numbers are aligned to the right.
pub(in crate::cli) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut table = plain_table(head.to_vec());
    for (at, column) in table.column_iter_mut().enumerate() {
        let mut cells = rows.iter().filter_map(|row| row.get(at));
        if cells.all(|cell| is_number(cell)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for row in rows {
        table.add_row(row.iter());
    }
    format!("{}\n", table.trim_fmt())
}

fn is_number(cell: &str) -> bool {
    cell.starts_with(|c: char| c.is_ascii_digit()) || cell == "-"
}

/// A table without lines, two blanks before each column.
pub(in crate::cli) fn plain_table(head: Vec<&str>) -> Table {
    let mut table = Table::new();
    table
        .load_preset(comfy_table::presets::NOTHING)
        .set_header(head);
    for column in table.column_iter_mut() {
        column.set_padding((2, 0));
    }
    table
}

/// Standard base64 with padding.
pub(in crate::cli) fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A text of somebody else's, without what would move the cursor of a terminal or worse.
pub(in crate::cli) fn harmless(text: &str) -> Cow<'_, str> {
    let harms = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(harms) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| {
        if harms(c) {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    Cow::Owned(text.chars().map(shown).collect())
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
    fn spans_have_two_units() {
        let shown = [0, 59, 61, 3_600, 90_061].map(span);
        assert_eq!(shown, ["0s", "59s", "1m 1s", "1h 0m", "1d 1h"]);
        assert_eq!([1, 2].map(|n| counted(n, "event")), ["1 event", "2 events"]);
        assert_eq!(time_ms(1_250_000_000), "1970-01-01T00:00:01.250Z");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(harmless("a\n\tb"), "a\n\tb");
        assert_eq!(harmless("\u{1b}[2Jx"), "\u{fffd}[2Jx");
    }

    #[test]
    fn tables_align_numbers_to_the_right() {
        let rows = [["a", "7"], ["long", "1234"]].map(|row| row.map(str::to_owned));
        let expected = "  NAME  COUNT\n  a         7\n  long   1234\n";
        assert_eq!(table(["NAME", "COUNT"], &rows), expected);
    }
}
