//! Text from outside, made safe and short for people: in messages, reports, logs and on terminals.
//!
//! Characters that are invisible, or that change how a line is displayed, are replaced, removed or
//! written out. Source of their list: The Unicode Standard 16.0, `DerivedGeneralCategory.txt` (Cc, Cf, Zl, Zp), and
//! `DerivedCoreProperties.txt` for others that are ignored by default
//! (`Default_Ignorable_Code_Point`): fillers, joiners and variation selectors.

use std::fmt::Write;

/// The characters of a text that [`sanitize_text`] keeps.
pub const MAX_SANITIZED_CHARACTERS: usize = 300;

/// First and last of each range of format characters (Cf), separators (Zl, Zp) and ignored
/// characters, in order. Control characters (Cc) are the standard library's.
const INVISIBLE: &[(char, char)] = &[
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// True for a control character, or one that is invisible or changes the display order of others.
pub fn is_invisible(c: char) -> bool {
    let after = INVISIBLE.partition_point(|(first, _)| *first <= c);
    c.is_control()
        || after
            .checked_sub(1)
            .and_then(|at| INVISIBLE.get(at))
            .is_some_and(|(_, last)| c <= *last)
}

/// Text for a message: at most [`MAX_SANITIZED_CHARACTERS`] characters, with U+FFFD for every invisible one.
pub fn sanitize_text(text: &str) -> String {
    text.chars()
        .take(MAX_SANITIZED_CHARACTERS)
        .map(replace_invisible)
        .collect()
}

/// The same without a limit.
pub fn sanitize_long_text(text: &str) -> String {
    text.chars().map(replace_invisible).collect()
}

/// Text for a message that has other parts: one line, with a space for every run of white space and
/// invisible characters, and an ellipsis after `limit` characters.
pub fn sanitize_line(text: &str, limit: usize) -> String {
    let visible: String = text
        .chars()
        .map(|c| if is_invisible(c) { ' ' } else { c })
        .collect();
    let line = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > limit {
        line.chars().take(limit).chain(['…']).collect()
    } else {
        line
    }
}

/// The first `limit` visible characters.
pub fn remove_invisible(text: &str, limit: usize) -> String {
    text.chars()
        .filter(|c| !is_invisible(*c))
        .take(limit)
        .collect()
}

/// The first `limit` characters, for a message that quotes and escapes them.
pub fn truncate_text(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}

/// Text for a terminal: invisible characters are written as `\u{202e}`. Line breaks and tabs are
/// kept.
pub fn escape_invisible(text: &str) -> String {
    escape_invisible_with(text, |c, out| out.extend(c.escape_unicode()))
}

/// A JSON document for a terminal: the same document, with invisible characters written as `\u202e`
/// (RFC 8259, section 7).
pub fn escape_invisible_json(document: &str) -> String {
    let write = |c: char, out: &mut String| {
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            // Writing to a string cannot fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    };
    escape_invisible_with(document, write)
}

fn replace_invisible(c: char) -> char {
    if is_invisible(c) { '\u{fffd}' } else { c }
}

fn escape_invisible_with(text: &str, write: impl Fn(char, &mut String)) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_invisible(c) && !matches!(c, '\n' | '\t') {
            write(c, &mut out);
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_known() {
        for c in [
            '\0',
            '\u{1b}',
            '\u{7f}',
            '\u{9b}',
            '\n',
            '\u{ad}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{202a}',
            '\u{202e}',
            '\u{2028}',
            '\u{2029}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{61c}',
            '\u{180e}',
            '\u{feff}',
            '\u{fff9}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{3164}',
            '\u{ffa0}',
            '\u{115f}',
            '\u{fe0f}',
            '\u{e0100}',
            '\u{34f}',
            '\u{1d173}',
            '\u{13430}',
            '\u{1bca0}',
        ] {
            assert!(is_invisible(c), "{c:?}");
        }
        for c in [
            'a',
            ' ',
            '\u{a0}',
            'ä',
            'е',
            '中',
            'א',
            'ش',
            '\u{301}',
            '😀',
            '\u{ac}',
            '\u{ae}',
            '\u{2027}',
            '\u{202f}',
            '\u{2070}',
            '\u{fffd}',
            '\u{10ffff}',
        ] {
            assert!(!is_invisible(c), "{c:?}");
        }
        assert!(
            INVISIBLE.windows(2).all(|pair| pair[0].1 < pair[1].0)
                && INVISIBLE.iter().all(|(first, last)| first <= last),
            "in order"
        );
    }

    #[test]
    fn what_nobody_sees_is_written_out() {
        assert_eq!(
            escape_invisible("a\u{202e}b\u{1b}[2J\tc\nd"),
            "a\\u{202e}b\\u{1b}[2J\tc\nd"
        );
        let document = serde_json::json!({"a\u{202e}": "b\u{e0041}\u{1b}\u{9b}"});
        let shown = escape_invisible_json(&document.to_string());
        assert!(shown.is_ascii(), "{shown}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"),
            document
        );
    }

    #[test]
    fn text_from_outside_cannot_steer_a_terminal() {
        assert_eq!(
            sanitize_text("a\u{1b}[2Jb\n\u{202e}c"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}c"
        );
        assert_eq!(
            sanitize_text(&"x".repeat(1_000)).len(),
            MAX_SANITIZED_CHARACTERS
        );
    }

    #[test]
    fn foreign_text_is_one_short_line() {
        assert_eq!(
            sanitize_line("a\u{1b}[2Jb\r\n\tc\u{202e}d", 100),
            "a [2Jb c d"
        );
        assert_eq!(sanitize_line(&"x".repeat(50), 10), "xxxxxxxxxx…");
    }
}
