//! Data on stdout: tables in the style of `docker ps`, and JSON.

use std::io::{self, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// Spaces between two columns.
const GAP: u16 = 3;

/// The table's text: upper-case headers, no borders, a line a row.
pub(super) fn table<const N: usize>(
    headers: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(headers);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

pub(super) fn line(text: &str) -> io::Result<()> {
    print(&format!("{text}\n"))
}

/// Indented by four spaces, as Docker's `inspect`.
pub(super) fn json<T: Serialize>(value: &T) -> io::Result<()> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    value.serialize(&mut serializer)?;
    text.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&text)?;
    out.flush()
}

/// An id as people read it.
pub(super) fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

/// `value` or `-`.
pub(super) fn or_dash(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".to_owned())
}

/// At most `limit` characters.
pub(super) fn ellipsis(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(limit.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Seconds as `42s`, `3m12s`, `2h05m` or `4d03h`.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_three_spaces_between_columns_and_none_at_the_end() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        assert_eq!(
            table(["NAME", "PORTS"], [row("web", ""), row("a-long-one", "80/tcp")]),
            "NAME         PORTS\nweb\na-long-one   80/tcp\n"
        );
    }

    #[test]
    fn an_empty_table_is_its_headers() {
        assert_eq!(table(["NAME", "STATE"], []), "NAME   STATE\n");
    }

    #[test]
    fn ages_have_two_units_at_most() {
        let ages: Vec<_> = [0, 59, 60, 3599, 3600, 86_399, 90_000].map(age).into();
        assert_eq!(ages, ["0s", "59s", "1m00s", "59m59s", "1h00m", "23h59m", "1d01h"]);
    }

    #[test]
    fn a_long_text_is_cut_by_characters() {
        assert_eq!(ellipsis("ääää", 4), "ääää");
        assert_eq!(ellipsis("äääää", 4), "äää…");
    }
}
