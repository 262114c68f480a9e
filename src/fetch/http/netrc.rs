//! netrc files, as ftp(1) and curl read them.
//!
//! `default` entries are left out: they would be sent to every host. Macros are skipped. The few
//! crates for this format are no longer maintained.

use std::fmt;

use crate::{
    core::reason::{Reason, classify},
    http::Redacted,
};

/// The entry of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetrcEntry {
    /// The host, without a port.
    pub machine: String,
    /// The user name; empty if there is none.
    pub login: String,
    /// The password; empty if there is none.
    pub password: Redacted<String>,
}

/// Why a netrc file is refused. Nothing of its content is repeated but keywords.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct NetrcError {
    line: usize,
    fault: NetrcFault,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NetrcFault {
    UnknownKeyword,
    MissingValue(&'static str),
    OutsideOfEntry(&'static str),
    OpenQuote,
}

impl fmt::Display for NetrcFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKeyword => {
                f.write_str("expected machine, default, login, password, account or macdef")
            }
            Self::MissingValue(keyword) => write!(f, "{keyword} needs a value"),
            Self::OutsideOfEntry(keyword) => write!(f, "{keyword} must come after machine"),
            Self::OpenQuote => f.write_str("a quote is not closed"),
        }
    }
}

classify!(NetrcError, |_| Reason::InvalidSpec);

/// The entries of a netrc file that name a machine, in order.
pub fn parse_netrc(text: &str) -> Result<Vec<NetrcEntry>, NetrcError> {
    let mut words = NetrcWords::split(text)?.into_iter();
    let mut entries: Vec<NetrcEntry> = Vec::new();
    let mut place = NetrcPlace::Outside;
    while let Some((line, word)) = words.next() {
        let keyword = known_keyword(&word).ok_or(NetrcError {
            line,
            fault: NetrcFault::UnknownKeyword,
        })?;
        if keyword == "default" {
            place = NetrcPlace::Ignored;
            continue;
        }
        let (_, value) = words.next().ok_or(NetrcError {
            line,
            fault: NetrcFault::MissingValue(keyword),
        })?;
        match (keyword, place) {
            ("machine", _) => {
                place = NetrcPlace::Machine;
                entries.push(NetrcEntry {
                    machine: value,
                    login: String::new(),
                    password: Redacted::new(String::new()),
                });
            }
            ("macdef", _) | (_, NetrcPlace::Ignored) => {}
            (_, NetrcPlace::Outside) => {
                return Err(NetrcError {
                    line,
                    fault: NetrcFault::OutsideOfEntry(keyword),
                });
            }
            (_, NetrcPlace::Machine) => {
                if let Some(entry) = entries.last_mut() {
                    set_field(entry, keyword, value);
                }
            }
        }
    }
    Ok(entries)
}

/// Where a keyword stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NetrcPlace {
    Outside,
    Machine,
    Ignored,
}

fn known_keyword(word: &str) -> Option<&'static str> {
    [
        "machine", "default", "login", "password", "account", "macdef",
    ]
    .into_iter()
    .find(|keyword| *keyword == word)
}

fn set_field(entry: &mut NetrcEntry, keyword: &str, value: String) {
    match keyword {
        "login" => entry.login = value,
        "password" => entry.password = Redacted::new(value),
        _ => {}
    }
}

/// Words with the lines that they stand in, without comments and the bodies of macros.
struct NetrcWords(Vec<(usize, String)>);

impl NetrcWords {
    fn split(text: &str) -> Result<Vec<(usize, String)>, NetrcError> {
        let mut words = Self(Vec::new());
        let mut in_macro = false;
        for (index, line) in text.lines().enumerate() {
            if in_macro {
                // A macro ends with an empty line.
                in_macro = !line.trim().is_empty();
                continue;
            }
            let before = words.0.len();
            words.add_line(index + 1, line)?;
            in_macro = words
                .0
                .get(before..)
                .is_some_and(|added| added.iter().any(|(_, word)| word == "macdef"));
        }
        Ok(words.0)
    }

    fn add_line(&mut self, line: usize, text: &str) -> Result<(), NetrcError> {
        let mut rest = text.trim_start();
        while !rest.is_empty() && !rest.starts_with('#') {
            let (word, after) = if let Some(quoted) = rest.strip_prefix('"') {
                read_quoted(quoted).ok_or(NetrcError {
                    line,
                    fault: NetrcFault::OpenQuote,
                })?
            } else {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                (word.to_owned(), after)
            };
            self.0.push((line, word));
            rest = after.trim_start();
        }
        Ok(())
    }
}

/// The text up to the closing quote, with the escapes that curl knows, and what follows.
fn read_quoted(text: &str) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((word, &text[at + 1..])),
            '\\' => word.push(match characters.next()?.1 {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            }),
            other => word.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<(String, String, String)>, String> {
        parse_netrc(text)
            .map(|entries| {
                entries
                    .into_iter()
                    .map(|entry| (entry.machine, entry.login, entry.password.expose().clone()))
                    .collect()
            })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn entries_are_read_as_curl_reads_them() {
        let entry = |machine: &str, login: &str, password: &str| {
            (machine.to_owned(), login.to_owned(), password.to_owned())
        };
        let file = "# a comment\n\
            machine f.example.com login user password hunter2\n\
            machine g.example.com\n\tlogin other\n\taccount x\n\tpassword \"with \\\"space\\\" #1\"\n\
            macdef init\ncd /\nmachine no.example.com\n\n\
            machine h.example.com password only#hash\n\
            default login anonymous password everywhere\n";
        assert_eq!(
            parse(file),
            Ok(vec![
                entry("f.example.com", "user", "hunter2"),
                entry("g.example.com", "other", "with \"space\" #1"),
                entry("h.example.com", "", "only#hash"),
            ])
        );
        assert_eq!(parse(""), Ok(Vec::new()));
    }

    #[test]
    fn malformed_files_are_refused_without_their_content() {
        for (text, fault) in [
            ("hunter2", "line 1: expected machine"),
            ("machine", "line 1: machine needs a value"),
            ("\nlogin hunter2", "line 2: login must come after machine"),
            ("machine a login", "line 1: login needs a value"),
            (
                "machine a password \"hunter2",
                "line 1: a quote is not closed",
            ),
            ("machine a login b hunter2 c", "line 1: expected machine"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.starts_with(fault), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
