//! Typed access to a [`DocumentNode`]; every error names the path of the field.

use super::{
    document_tree::{DocumentMapEntry, DocumentNode, DocumentNodeKind, ScalarNotation},
    error::{LockfileError, LockfileFieldError},
    model::{ArchiveCompression, BundleFileMode, OriginType},
};
use crate::core::{bundle_path::BundlePath, digest::Digest};

/// A value and the path that leads to it.
#[derive(Clone, Debug)]
pub(super) struct NodeView<'a> {
    node: &'a DocumentNode,
    path: String,
}

/// A map whose keys are all known.
pub(super) struct MapView<'a> {
    entries: &'a [DocumentMapEntry],
    path: String,
}

impl<'a> NodeView<'a> {
    pub(super) const fn from_root(node: &'a DocumentNode) -> Self {
        Self {
            node,
            path: String::new(),
        }
    }

    pub(super) fn error_at(&self, fault: impl Into<LockfileFieldError>) -> LockfileError {
        LockfileError::at_field(self.path.clone(), fault)
    }

    /// A string. Plain YAML scalars are accepted as written; null, and JSON's numbers and booleans,
    /// are not.
    pub(super) fn read_text(&self) -> Result<&'a str, LockfileError> {
        match &self.node.kind {
            DocumentNodeKind::Text(text, ScalarNotation::Quoted) => Ok(text),
            DocumentNodeKind::Text(text, ScalarNotation::Plain) if !is_null_word(text) => Ok(text),
            _ => Err(self.error_at(LockfileFieldError::Type("a string"))),
        }
    }

    /// A whole number, written in decimal digits without a sign and without leading zeros.
    pub(super) fn read_number(&self) -> Result<u64, LockfileError> {
        let wrong = || {
            self.error_at(LockfileFieldError::Type(
                "a whole number without quotes, from 0 on",
            ))
        };
        let DocumentNodeKind::Text(text, ScalarNotation::Plain | ScalarNotation::Literal) =
            &self.node.kind
        else {
            return Err(wrong());
        };
        let canonical =
            text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse().ok().filter(|_| canonical).ok_or_else(wrong)
    }

    /// `true` or `false`. `yes`, `on` and their kin are strings.
    pub(super) fn read_bool(&self) -> Result<bool, LockfileError> {
        match &self.node.kind {
            DocumentNodeKind::Text(text, ScalarNotation::Plain | ScalarNotation::Literal)
                if text == "true" =>
            {
                Ok(true)
            }
            DocumentNodeKind::Text(text, ScalarNotation::Plain | ScalarNotation::Literal)
                if text == "false" =>
            {
                Ok(false)
            }
            _ => Err(self.error_at(LockfileFieldError::Type("true or false"))),
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(&self.node.kind, DocumentNodeKind::Text(text, ScalarNotation::Plain | ScalarNotation::Literal) if is_null_word(text))
    }

    /// A string, not a list or map.
    pub(super) const fn is_text(&self) -> bool {
        matches!(self.node.kind, DocumentNodeKind::Text(..))
    }

    pub(super) fn list_items(
        &self,
    ) -> Result<impl Iterator<Item = NodeView<'a>> + use<'a>, LockfileError> {
        let DocumentNodeKind::List(items) = &self.node.kind else {
            return Err(self.error_at(LockfileFieldError::Type("a list")));
        };
        let path = self.path.clone();
        Ok(items.iter().enumerate().map(move |(index, node)| NodeView {
            node,
            path: format!("{path}[{index}]"),
        }))
    }

    /// A map with arbitrary keys.
    pub(super) fn map_entries(&self) -> Result<&'a [DocumentMapEntry], LockfileError> {
        match &self.node.kind {
            DocumentNodeKind::Map(entries) => Ok(entries),
            _ => Err(self.error_at(LockfileFieldError::Type("a map"))),
        }
    }

    /// A map with no other keys than `known`.
    pub(super) fn known_fields(
        &self,
        known: &'static [&'static str],
    ) -> Result<MapView<'a>, LockfileError> {
        let entries = self.map_entries()?;
        match entries
            .iter()
            .find(|entry| !known.contains(&entry.key.as_str()))
        {
            Some(DocumentMapEntry { key, .. }) => Err(LockfileError::at_field(
                join_path(&self.path, key),
                LockfileFieldError::Unknown {
                    field: key.chars().take(60).collect(),
                    known,
                },
            )),
            None => Ok(MapView {
                entries,
                path: self.path.clone(),
            }),
        }
    }

    /// A map with any keys, of which some are looked at.
    pub(super) fn any_fields(&self) -> Result<MapView<'a>, LockfileError> {
        Ok(MapView {
            entries: self.map_entries()?,
            path: self.path.clone(),
        })
    }

    /// The values of a map with any keys.
    pub(super) fn map_values(
        &self,
    ) -> Result<impl Iterator<Item = NodeView<'a>> + use<'a>, LockfileError> {
        let path = self.path.clone();
        Ok(self.map_entries()?.iter().map(move |entry| NodeView {
            node: &entry.value,
            path: format!("{path}.{}", entry.key),
        }))
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// One of the words in `table`.
    pub(super) fn read_choice<T: Copy>(
        &self,
        table: &[(&'static str, T)],
    ) -> Result<T, LockfileError> {
        let text = self.read_text()?;
        let wrong = || {
            let expected = table.iter().map(|(word, _)| *word).collect();
            self.error_at(LockfileFieldError::Choice {
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

    /// One of the values in `all`, by the name that it has in lockfiles.
    fn read_named<T: Copy>(
        &self,
        all: &[T],
        name: fn(T) -> &'static str,
    ) -> Result<T, LockfileError> {
        let table: Vec<_> = all.iter().map(|value| (name(*value), *value)).collect();
        self.read_choice(&table)
    }

    pub(super) fn read_origin_type(&self) -> Result<OriginType, LockfileError> {
        self.read_named(&OriginType::ALL, OriginType::as_str)
    }

    pub(super) fn read_compression(&self) -> Result<ArchiveCompression, LockfileError> {
        self.read_named(&ArchiveCompression::ALL, ArchiveCompression::as_str)
    }

    /// `sha256:` and 64 hexadecimal digits of any case.
    pub(super) fn read_digest(&self) -> Result<Digest, LockfileError> {
        let digits = self
            .read_text()?
            .strip_prefix("sha256:")
            .unwrap_or_default();
        format!("sha256:{}", digits.to_ascii_lowercase())
            .parse()
            .map_err(|_| self.error_at(LockfileFieldError::Digest))
    }

    /// A file mode, in quotes: three YAML parsers read the plain digits as three different numbers.
    pub(super) fn read_file_mode(&self) -> Result<BundleFileMode, LockfileError> {
        match &self.node.kind {
            DocumentNodeKind::Text(text, ScalarNotation::Quoted) if text == "0644" => {
                Ok(BundleFileMode::Plain)
            }
            DocumentNodeKind::Text(text, ScalarNotation::Quoted) if text == "0755" => {
                Ok(BundleFileMode::Executable)
            }
            _ => Err(self.error_at(LockfileFieldError::Mode)),
        }
    }

    pub(super) fn read_target(&self) -> Result<BundlePath, LockfileError> {
        self.read_text()?
            .parse()
            .map_err(|e: crate::core::bundle_path::BundlePathError| self.error_at(e))
    }

    /// The path of a folder, which may end in `/`.
    pub(super) fn read_folder(&self) -> Result<BundlePath, LockfileError> {
        self.read_text()?
            .trim_end_matches('/')
            .parse()
            .map_err(|e: crate::core::bundle_path::BundlePathError| self.error_at(e))
    }
}

impl<'a> MapView<'a> {
    pub(super) fn optional_field(&self, key: &'static str) -> Option<NodeView<'a>> {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| NodeView {
                node: &entry.value,
                path: join_path(&self.path, key),
            })
    }

    pub(super) fn required_field(&self, key: &'static str) -> Result<NodeView<'a>, LockfileError> {
        self.optional_field(key).ok_or_else(|| {
            LockfileError::at_field(join_path(&self.path, key), LockfileFieldError::Missing)
        })
    }

    /// Reads the field with `read` if it is there.
    pub(super) fn read_optional<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&NodeView<'a>) -> Result<T, LockfileError>,
    ) -> Result<Option<T>, LockfileError> {
        self.optional_field(key).as_ref().map(read).transpose()
    }

    /// Reads the field with `read`; it must be there.
    pub(super) fn read_required<T>(
        &self,
        key: &'static str,
        read: impl FnOnce(&NodeView<'a>) -> Result<T, LockfileError>,
    ) -> Result<T, LockfileError> {
        read(&self.required_field(key)?)
    }

    /// A string; it must be there.
    pub(super) fn read_string(&self, key: &'static str) -> Result<String, LockfileError> {
        self.read_required(key, |view| view.read_text().map(str::to_owned))
    }

    /// A list whose items `read` reads; it must be there.
    pub(super) fn read_list<T>(
        &self,
        key: &'static str,
        read: impl Fn(&NodeView<'a>) -> Result<T, LockfileError>,
    ) -> Result<Vec<T>, LockfileError> {
        let list = self.required_field(key)?;
        list.list_items()?.map(|view| read(&view)).collect()
    }

    /// A string, if the field is there.
    pub(super) fn read_optional_string(
        &self,
        key: &'static str,
    ) -> Result<Option<String>, LockfileError> {
        self.read_optional(key, |view| view.read_text().map(str::to_owned))
    }

    pub(super) fn field_path(&self, key: &str) -> String {
        join_path(&self.path, key)
    }
}

/// Keys that would blur the path are left out of it.
pub(super) fn join_path(path: &str, key: &str) -> String {
    let simple = key
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    match (path, simple) {
        (path, false) => path.to_owned(),
        ("", true) => key.to_owned(),
        (path, true) => format!("{path}.{key}"),
    }
}

/// The words for null in YAML 1.2's core schema.
fn is_null_word(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}
