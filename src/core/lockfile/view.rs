//! Typed access to a [`Node`]; every error names the path of the field.

use super::{
    error::{Fault, LockError},
    model::FileMode,
    tree::{Entry, Kind, Node, Style},
};
use crate::core::{digest::Digest, path::BundlePath};

/// A value and the path that leads to it.
#[derive(Clone, Debug)]
pub(super) struct View<'a> {
    node: &'a Node,
    path: String,
}

/// A map whose keys are all known.
pub(super) struct Fields<'a> {
    entries: &'a [Entry],
    path: String,
}

impl<'a> View<'a> {
    pub(super) const fn root(node: &'a Node) -> Self {
        Self {
            node,
            path: String::new(),
        }
    }

    pub(super) fn fail(&self, fault: impl Into<Fault>) -> LockError {
        LockError::at(self.path.clone(), fault)
    }

    /// A string. YAML's bare words count, as they were written; null, and JSON's numbers and
    /// booleans, do not.
    pub(super) fn text(&self) -> Result<&'a str, LockError> {
        match &self.node.kind {
            Kind::Text(text, Style::Quoted) => Ok(text),
            Kind::Text(text, Style::Plain) if !is_null(text) => Ok(text),
            _ => Err(self.fail(Fault::Type("a string"))),
        }
    }

    /// A whole number, written in decimal digits without a sign and without leading zeros.
    pub(super) fn number(&self) -> Result<u64, LockError> {
        let wrong = || self.fail(Fault::Type("a whole number without quotes, from 0 on"));
        let Kind::Text(text, Style::Plain | Style::Literal) = &self.node.kind else {
            return Err(wrong());
        };
        let canonical =
            text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse().ok().filter(|_| canonical).ok_or_else(wrong)
    }

    /// `true` or `false`. `yes`, `on` and their kin are strings.
    pub(super) fn flag(&self) -> Result<bool, LockError> {
        match &self.node.kind {
            Kind::Text(text, Style::Plain | Style::Literal) if text == "true" => Ok(true),
            Kind::Text(text, Style::Plain | Style::Literal) if text == "false" => Ok(false),
            _ => Err(self.fail(Fault::Type("true or false"))),
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(&self.node.kind, Kind::Text(text, Style::Plain | Style::Literal) if is_null(text))
    }

    /// A string, not a list or map.
    pub(super) const fn is_text(&self) -> bool {
        matches!(self.node.kind, Kind::Text(..))
    }

    pub(super) fn items(&self) -> Result<impl Iterator<Item = View<'a>> + use<'a>, LockError> {
        let Kind::List(items) = &self.node.kind else {
            return Err(self.fail(Fault::Type("a list")));
        };
        let path = self.path.clone();
        Ok(items.iter().enumerate().map(move |(index, node)| View {
            node,
            path: format!("{path}[{index}]"),
        }))
    }

    /// A map with any keys.
    pub(super) fn entries(&self) -> Result<&'a [Entry], LockError> {
        match &self.node.kind {
            Kind::Map(entries) => Ok(entries),
            _ => Err(self.fail(Fault::Type("a map"))),
        }
    }

    /// A map with no other keys than `known`.
    pub(super) fn fields(&self, known: &'static [&'static str]) -> Result<Fields<'a>, LockError> {
        let entries = self.entries()?;
        match entries
            .iter()
            .find(|entry| !known.contains(&entry.key.as_str()))
        {
            Some(Entry { key, .. }) => Err(LockError::at(
                join(&self.path, key),
                Fault::Unknown {
                    field: key.chars().take(60).collect(),
                    known,
                },
            )),
            None => Ok(Fields {
                entries,
                path: self.path.clone(),
            }),
        }
    }

    /// A map with any keys, of which some are looked at.
    pub(super) fn any_fields(&self) -> Result<Fields<'a>, LockError> {
        Ok(Fields {
            entries: self.entries()?,
            path: self.path.clone(),
        })
    }

    /// The values of a map with any keys.
    pub(super) fn values(&self) -> Result<impl Iterator<Item = View<'a>> + use<'a>, LockError> {
        let path = self.path.clone();
        Ok(self.entries()?.iter().map(move |entry| View {
            node: &entry.value,
            path: format!("{path}.{}", entry.key),
        }))
    }

    /// The path that leads here.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// One of the words of `table`.
    pub(super) fn choice<T: Copy>(&self, table: &[(&'static str, T)]) -> Result<T, LockError> {
        let text = self.text()?;
        let wrong = || {
            let expected = table.iter().map(|(word, _)| *word).collect();
            self.fail(Fault::Choice {
                found: text.chars().take(60).collect(),
                expected,
            })
        };
        table
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value)
            .ok_or_else(wrong)
    }

    /// `sha256:` and 64 hexadecimal digits of any case.
    pub(super) fn digest(&self) -> Result<Digest, LockError> {
        let digits = self.text()?.strip_prefix("sha256:").unwrap_or_default();
        format!("sha256:{}", digits.to_ascii_lowercase())
            .parse()
            .map_err(|_| self.fail(Fault::Digest))
    }

    /// A mode, in quotes: the bare digits mean three different things to three YAML readers.
    pub(super) fn mode(&self) -> Result<FileMode, LockError> {
        match &self.node.kind {
            Kind::Text(text, Style::Quoted) if text == "0644" => Ok(FileMode::Plain),
            Kind::Text(text, Style::Quoted) if text == "0755" => Ok(FileMode::Executable),
            _ => Err(self.fail(Fault::Mode)),
        }
    }

    pub(super) fn target(&self) -> Result<BundlePath, LockError> {
        self.text()?
            .parse()
            .map_err(|e: crate::core::path::PathError| self.fail(e))
    }

    /// The path of a folder, which may end in `/`.
    pub(super) fn folder(&self) -> Result<BundlePath, LockError> {
        self.text()?
            .trim_end_matches('/')
            .parse()
            .map_err(|e: crate::core::path::PathError| self.fail(e))
    }
}

impl<'a> Fields<'a> {
    pub(super) fn optional(&self, key: &'static str) -> Option<View<'a>> {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| View {
                node: &entry.value,
                path: join(&self.path, key),
            })
    }

    pub(super) fn required(&self, key: &'static str) -> Result<View<'a>, LockError> {
        self.optional(key)
            .ok_or_else(|| LockError::at(join(&self.path, key), Fault::Missing))
    }

    /// Reads the field with `read` if it is there.
    pub(super) fn map<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&View<'a>) -> Result<T, LockError>,
    ) -> Result<Option<T>, LockError> {
        self.optional(key).as_ref().map(read).transpose()
    }

    /// Reads the field with `read`; it must be there.
    pub(super) fn need<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&View<'a>) -> Result<T, LockError>,
    ) -> Result<T, LockError> {
        read(&self.required(key)?)
    }

    /// A string, if the field is there.
    pub(super) fn string(&self, key: &'static str) -> Result<Option<String>, LockError> {
        self.map(key, |view| view.text().map(str::to_owned))
    }

    /// The path of a field of this map.
    pub(super) fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

/// Keys that would blur the path are left out of it.
pub(super) fn join(path: &str, key: &str) -> String {
    let simple = key
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    match (path, simple) {
        (path, false) => path.to_owned(),
        ("", true) => key.to_owned(),
        (path, true) => format!("{path}.{key}"),
    }
}

/// The words of YAML 1.2's core schema for nothing.
fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}
