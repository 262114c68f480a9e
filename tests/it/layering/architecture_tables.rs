//! The tables of layers as ARCHITECTURE.md shows them.

use std::fmt::Write as _;

use super::layers::{EffectHome, HOMES, LAYERS, Layer};

/// The columns of a page.
const WIDTH: usize = 100;

pub(super) fn layer_tables() -> String {
    let mut text = String::from(
        "Each module may name these modules of the crate, and no others:\n\n| module | may name |\n|---|---|\n",
    );
    for layer in LAYERS {
        text.push_str(&layer_row(layer));
    }
    text.push_str("\nThese may appear only in some files and folders:\n\n| name | may appear only in |\n|---|---|\n");
    for home in HOMES {
        text.push_str(&home_rows(home));
    }
    text
}

fn layer_row(layer: &Layer) -> String {
    let names = if layer.may_name.is_empty() {
        "–".to_owned()
    } else {
        layer.may_name.join(" ")
    };
    let note = note_in_parentheses(layer.note);
    format!("| {} | {names}{note} |\n", code_spans(layer.modules))
}

/// One row, and further ones without a name while the places are too long for a line.
fn home_rows(home: &EffectHome) -> String {
    let names: Vec<&str> = home
        .names
        .iter()
        .map(|name| name.trim_end_matches("::"))
        .collect();
    let mut first = format!("{}{}", code_spans(&names), note_in_parentheses(home.note));
    if home.places.is_empty() {
        return format!("| {first} | nowhere |\n");
    }
    let (mut rows, mut line) = (String::new(), String::new());
    for (at, place) in home.places.iter().enumerate() {
        let place = format!(
            "{place}{}",
            if at + 1 < home.places.len() { "," } else { "" }
        );
        if !line.is_empty() && first.len() + line.len() + place.len() + 8 > WIDTH {
            let _ = writeln!(rows, "| {first} | {line} |");
            (first, line) = (String::new(), String::new());
        }
        line = if line.is_empty() {
            place
        } else {
            format!("{line} {place}")
        };
    }
    let _ = writeln!(rows, "| {first} | {line} |");
    rows
}

fn code_spans(names: &[&str]) -> String {
    let spans: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    spans.join(" ")
}

fn note_in_parentheses(note: &str) -> String {
    if note.is_empty() {
        String::new()
    } else {
        format!(" ({note})")
    }
}
