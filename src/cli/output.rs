//! The result of a subcommand.

use std::fmt::Write;

use serde::Serialize;
use serde_json::{Value, json};

use super::error::CliError;
use crate::core::reason::Class;

/// A result, as text and as data.
pub(super) struct CommandResult {
    pub(super) text: String,
    pub(super) json: Value,
    /// Set if the result is not simply success.
    pub(super) class: Option<Class>,
}

impl CommandResult {
    /// A line of text, and the fields of a document of this kind.
    pub(super) fn new(
        line: impl Into<String>,
        kind: &str,
        fields: impl Serialize,
    ) -> Result<Self, CliError> {
        let mut line: String = line.into();
        if !line.is_empty() && !line.ends_with('\n') {
            line.push('\n');
        }
        let mut document = json!({"apiVersion": "packgate.dev/v1alpha1", "kind": kind});
        let fields = serde_json::to_value(fields).map_err(|e| CliError::internal(e.to_string()))?;
        if let (Value::Object(document), Value::Object(fields)) = (&mut document, fields) {
            document.extend(fields);
        }
        Ok(Self {
            text: line,
            json: document,
            class: None,
        })
    }
}

/// Columns, each as wide as its widest cell.
pub(super) fn format_table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A number of bytes for humans.
pub(super) fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut value = bytes;
    let mut rest = 0;
    while value >= 1_024 && unit + 1 < UNITS.len() {
        rest = value % 1_024;
        value /= 1_024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 {
        format!("{value} {name}")
    } else {
        format!("{value}.{} {name}", rest * 10 / 1_024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_536, "1.5 KiB"),
            (1 << 40, "1.0 TiB"),
        ] {
            assert_eq!(format_bytes(bytes), text);
        }
    }

    #[test]
    fn tables_line_up() {
        let rows = [
            vec!["a".into(), "b".into()],
            vec!["long".into(), "c".into()],
        ];
        assert_eq!(format_table(&rows), "a     b\nlong  c\n");
    }
}
