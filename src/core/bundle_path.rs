//! Paths inside of a bundle.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use super::display_text::is_invisible;

/// The longest path in a bundle, in bytes.
pub const MAX_PATH: usize = 1_024;
/// The longest name between two slashes, in bytes: the limit of Linux's file systems (`NAME_MAX`). A
/// longer one can be neither unpacked nor mounted.
pub const MAX_SEGMENT: usize = 255;
/// The folder that packgate keeps for itself inside of every bundle.
pub const RESERVED_FOLDER: &str = ".packgate";

/// A relative path with `/` between segments that cannot leave the folder it is put under.
///
/// It has no `..`, no empty segment, no control character (nor, in a lock, any other invisible
/// character), no backslash and no scheme, at most [`MAX_PATH`] bytes and [`MAX_SEGMENT`] between
/// slashes, and is not below [`RESERVED_FOLDER`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BundlePath(String);

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum BundlePathError {
    #[error("must not be empty")]
    Empty,
    #[error("must not contain \"..\"")]
    Parent,
    #[error("must not contain control characters")]
    Control,
    /// It contains a character that is invisible, or that changes the display order of others.
    #[error("must not contain invisible or bidirectional control characters, such as U+{0:04X}")]
    Invisible(u32),
    #[error("must not contain a backslash")]
    Backslash,
    #[error("must be a path, not a URL")]
    Scheme,
    /// It is longer than [`MAX_PATH`].
    #[error("must have at most 1024 bytes")]
    TooLong,
    /// A segment is longer than [`MAX_SEGMENT`].
    #[error(
        "must have at most 255 bytes between slashes, file systems take no longer names; shorten it"
    )]
    SegmentTooLong,
    #[error("must not start with .packgate, which is reserved for packgate")]
    Reserved,
    #[error("must name a file, not a folder")]
    Folder,
}

impl BundlePath {
    /// Cleans and checks what an archive calls its entry: as the path of a lock, but it may have
    /// joiners and marks of direction, which names in many scripts need.
    pub fn from_archive_entry(name: &str) -> Result<Self, BundlePathError> {
        check_characters(name)?;
        clean_path(name)
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its segments, outermost first.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// The folders above it, outermost first: `a`, `a/b` for `a/b/c`.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }

    /// True if `other` is below this path.
    pub fn contains(&self, other: &Self) -> bool {
        other
            .0
            .strip_prefix(&self.0)
            .is_some_and(|rest| rest.starts_with('/'))
    }
}

impl FromStr for BundlePath {
    type Err = BundlePathError;

    /// Cleans and checks: leading `/`, `./` and doubled `/` are removed.
    fn from_str(text: &str) -> Result<Self, BundlePathError> {
        check_characters(text)?;
        match text.chars().find(|c| is_invisible(*c)) {
            Some(c) => Err(BundlePathError::Invisible(c.into())),
            None => clean_path(text),
        }
    }
}

fn clean_path(text: &str) -> Result<BundlePath, BundlePathError> {
    let segments: Vec<&str> = text
        .split('/')
        .filter(|segment| !matches!(*segment, "" | "."))
        .collect();
    if segments.contains(&"..") {
        return Err(BundlePathError::Parent);
    }
    if segments.first() == Some(&RESERVED_FOLDER) {
        return Err(BundlePathError::Reserved);
    }
    let path = segments.join("/");
    if path.is_empty() {
        return Err(BundlePathError::Empty);
    }
    if text.ends_with('/') || text.ends_with("/.") {
        return Err(BundlePathError::Folder);
    }
    if path.len() > MAX_PATH {
        return Err(BundlePathError::TooLong);
    }
    if segments.iter().any(|segment| segment.len() > MAX_SEGMENT) {
        Err(BundlePathError::SegmentTooLong)
    } else {
        Ok(BundlePath(path))
    }
}

fn check_characters(text: &str) -> Result<(), BundlePathError> {
    if text.chars().any(char::is_control) {
        return Err(BundlePathError::Control);
    }
    if text.contains('\\') {
        return Err(BundlePathError::Backslash);
    }
    if text.contains("://") {
        Err(BundlePathError::Scheme)
    } else {
        Ok(())
    }
}

impl fmt::Display for BundlePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for BundlePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_cleaned() {
        for (text, clean) in [
            ("/opt/x", "opt/x"),
            ("./a//b/./c", "a/b/c"),
            ("a b/ä", "a b/ä"),
            ("..a/b..", "..a/b.."),
            (".packgatex", ".packgatex"),
        ] {
            assert_eq!(text.parse::<BundlePath>().expect(text).as_str(), clean);
        }
        let name = "a".repeat(MAX_SEGMENT);
        let long = [name.as_str(); 4].join("/");
        assert_eq!(long.len(), MAX_PATH - 1);
        for text in [&name, &long, &"ü".repeat(MAX_SEGMENT / 2)] {
            assert!(text.parse::<BundlePath>().is_ok(), "{text}");
        }
    }

    #[test]
    fn targets_that_escape_are_refused() {
        let long = "a/".repeat(MAX_PATH / 2) + "bc";
        let (name, folder) = (
            "a".repeat(MAX_SEGMENT + 1),
            "a".repeat(MAX_SEGMENT + 1) + "/b",
        );
        let wide = "ü".repeat(MAX_SEGMENT / 2 + 1);
        for (text, error) in [
            ("", BundlePathError::Empty),
            ("/", BundlePathError::Empty),
            ("./.", BundlePathError::Empty),
            ("a/../b", BundlePathError::Parent),
            ("/..", BundlePathError::Parent),
            ("a\nb", BundlePathError::Control),
            ("a\u{0}", BundlePathError::Control),
            ("a\u{9b}b", BundlePathError::Control),
            ("a\u{202e}cod.exe", BundlePathError::Invisible(0x202e)),
            ("a\u{200b}/b", BundlePathError::Invisible(0x200b)),
            ("a\u{2028}b", BundlePathError::Invisible(0x2028)),
            ("\u{feff}a", BundlePathError::Invisible(0xfeff)),
            ("a\u{e0041}", BundlePathError::Invisible(0xe0041)),
            ("a\\b", BundlePathError::Backslash),
            ("oci://r/x", BundlePathError::Scheme),
            (".packgate/lock.json", BundlePathError::Reserved),
            ("./.packgate", BundlePathError::Reserved),
            ("a/", BundlePathError::Folder),
            (&long, BundlePathError::TooLong),
            (&name, BundlePathError::SegmentTooLong),
            (&folder, BundlePathError::SegmentTooLong),
            (&wide, BundlePathError::SegmentTooLong),
        ] {
            assert_eq!(text.parse::<BundlePath>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn entries_of_archives_may_have_joiners_and_may_not_escape() {
        assert_eq!(
            BundlePath::from_archive_entry("./\u{645}\u{200c}\u{646}")
                .expect("a name in Persian")
                .as_str(),
            "\u{645}\u{200c}\u{646}"
        );
        for (text, error) in [
            ("a\u{1b}", BundlePathError::Control),
            ("a/../b", BundlePathError::Parent),
            (".packgate/x", BundlePathError::Reserved),
            (
                &"a".repeat(MAX_SEGMENT + 1),
                BundlePathError::SegmentTooLong,
            ),
        ] {
            assert_eq!(BundlePath::from_archive_entry(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn parents_and_children_are_told() {
        let path: BundlePath = "a/b/c".parse().expect("valid");
        assert_eq!(path.parents().collect::<Vec<_>>(), ["a", "a/b"]);
        let folder: BundlePath = "a/b".parse().expect("valid");
        assert!(folder.contains(&path) && !path.contains(&folder) && !folder.contains(&folder));
        assert!(!"a/bc".parse::<BundlePath>().expect("valid").contains(&path));
    }
}
