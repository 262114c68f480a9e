//! Rules for archives that `packgate unpack` extracts.
//!
//! The archive's bytes are exactly what the lock pins, so an archive that cannot be extracted is an
//! error of the lock that requires it: `InvalidLock`. Only what exceeds a limit is `LimitExceeded`.

pub mod tar;

use super::{
    bundle_path::{BundlePath, BundlePathError},
    lockfile::{ArchiveCompression, BundleFileMode, LockedArtifact},
    reason::{Reason, classify},
};

/// The longest target of a symbolic link, in bytes.
const MAX_LINK: usize = 1_024;

/// One archive to be extracted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveExtractionPlan {
    /// The path of the archive in the bundle. The archive itself is kept.
    pub archive: BundlePath,
    /// The compression of the archive.
    pub compression: ArchiveCompression,
    /// The folder that it is extracted into; the bundle's root if absent.
    pub into: Option<BundlePath>,
}

/// Why an archive, or an entry of it, is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ArchiveUnpackError {
    #[error(
        "the compression of {0} cannot be detected from its name; add compression: gzip, bzip2 or zip"
    )]
    UnknownCompression(BundlePath),
    #[error("archive cannot be read: {0}")]
    Malformed(String),
    #[error("entry {0:?} has a name that is not UTF-8")]
    NotUtf8(String),
    #[error("entry {0:?} has an absolute path")]
    Absolute(String),
    #[error("entry {0:?} {1}")]
    Path(String, BundlePathError),
    /// A hard link, a device, a FIFO, a sparse file, or another unsupported kind.
    #[error("entry {name:?} is {what}, only files, folders and symbolic links are unpacked")]
    Kind { name: String, what: &'static str },
    /// A symbolic link that could lead out of the folder.
    #[error("entry {name:?} links to {target:?}, which {why}")]
    Link {
        name: String,
        target: String,
        why: &'static str,
    },
}

classify!(ArchiveUnpackError, |_| Reason::InvalidLock);

/// The extraction of `artifact`: `None`, unless the lock sets `unpack`.
pub fn plan_extraction(
    artifact: &LockedArtifact,
) -> Result<Option<ArchiveExtractionPlan>, ArchiveUnpackError> {
    let Some(unpack) = &artifact.unpack else {
        return Ok(None);
    };
    let archive = artifact.target.clone();
    let compression = unpack
        .compression
        .or_else(|| compression_from_name(&archive));
    let compression =
        compression.ok_or_else(|| ArchiveUnpackError::UnknownCompression(archive.clone()))?;
    let into = unpack.path.clone().or_else(|| {
        archive
            .parents()
            .last()
            .and_then(|folder| folder.parse().ok())
    });
    Ok(Some(ArchiveExtractionPlan {
        archive,
        compression,
        into,
    }))
}

fn compression_from_name(archive: &BundlePath) -> Option<ArchiveCompression> {
    let name = archive.as_str().to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if ends(&[".tar.gz", ".tgz"]) {
        Some(ArchiveCompression::Gzip)
    } else if ends(&[".tar.bz2", ".tbz2", ".tbz"]) {
        Some(ArchiveCompression::Bzip2)
    } else {
        ends(&[".zip"]).then_some(ArchiveCompression::Zip)
    }
}

/// The path in the bundle of a file or link with the archive's `name`.
pub fn entry_file_path(
    into: Option<&BundlePath>,
    name: &[u8],
) -> Result<BundlePath, ArchiveUnpackError> {
    let text = check_entry_name(name)?;
    join_entry_path(into, text)
}

/// The path in the bundle of a folder with the archive's `name`; `None` for `into` itself.
pub fn entry_folder_path(
    into: Option<&BundlePath>,
    name: &[u8],
) -> Result<Option<BundlePath>, ArchiveUnpackError> {
    let text = check_entry_name(name)?;
    let text = text.trim_end_matches('/');
    if text.split('/').all(|segment| matches!(segment, "" | ".")) {
        Ok(None)
    } else {
        join_entry_path(into, text).map(Some)
    }
}

fn check_entry_name(name: &[u8]) -> Result<&str, ArchiveUnpackError> {
    let text =
        std::str::from_utf8(name).map_err(|_| ArchiveUnpackError::NotUtf8(displayed_name(name)))?;
    if text.starts_with('/') {
        Err(ArchiveUnpackError::Absolute(displayed_name(name)))
    } else {
        Ok(text)
    }
}

/// `name` is checked on its own first: joined to a folder, an empty name would mean that folder.
fn join_entry_path(
    into: Option<&BundlePath>,
    name: &str,
) -> Result<BundlePath, ArchiveUnpackError> {
    let refused = |error| ArchiveUnpackError::Path(displayed_name(name.as_bytes()), error);
    let path = BundlePath::from_archive_entry(name).map_err(refused)?;
    match into {
        Some(folder) => {
            BundlePath::from_archive_entry(&format!("{folder}/{path}")).map_err(refused)
        }
        None => Ok(path),
    }
}

/// Checks the target of a symbolic link at `at`, which was made by [`entry_file_path`] with the
/// same `into`.
///
/// A target is accepted if its `..` all come first and do not climb above `into`. The folder of a
/// link is a real folder (the writer ensures that), so these `..` are resolved as written; after
/// them a path can only go down, through links that obey the same rule. A `..` after a name is
/// refused, because the name may be a link itself.
pub fn check_link_target(
    into: Option<&BundlePath>,
    at: &BundlePath,
    target: &[u8],
) -> Result<String, ArchiveUnpackError> {
    let refused = |why| ArchiveUnpackError::Link {
        name: at.to_string(),
        target: displayed_name(target),
        why,
    };
    let text = std::str::from_utf8(target).map_err(|_| refused("is not UTF-8"))?;
    if text.is_empty()
        || text.len() > MAX_LINK
        || text.contains('\\')
        || text.chars().any(char::is_control)
    {
        return Err(refused("is not a valid path"));
    }
    if text.starts_with('/') {
        return Err(refused("is absolute"));
    }
    let mut segments = text
        .split('/')
        .filter(|segment| !matches!(*segment, "" | "."))
        .peekable();
    let mut climbs = 0;
    while segments.next_if_eq(&"..").is_some() {
        climbs += 1;
    }
    if segments.any(|segment| segment == "..") {
        return Err(refused("has \"..\" behind a name"));
    }
    let depth = at
        .parents()
        .count()
        .saturating_sub(into.map_or(0, |folder| folder.parents().count() + 1));
    if climbs > depth {
        Err(refused("leads out of the folder that it is unpacked into"))
    } else {
        Ok(text.to_owned())
    }
}

/// The mode of an unpacked file: executable if its owner may execute it. All other mode bits are
/// ignored.
pub const fn unpacked_file_mode(bits: u32) -> BundleFileMode {
    if bits & 0o100 == 0 {
        BundleFileMode::Plain
    } else {
        BundleFileMode::Executable
    }
}

/// A name for messages: short, and valid text.
pub fn displayed_name(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reason::ClassifiedError;
    use crate::core::{
        digest::Digest,
        lockfile::{OriginType, UnpackSpec},
    };

    fn path(text: &str) -> BundlePath {
        text.parse().expect(text)
    }

    fn artifact(target: &str, unpack: Option<UnpackSpec>) -> LockedArtifact {
        LockedArtifact {
            name: "a".into(),
            origin_type: OriginType::File,
            origin: "a".into(),
            signed_origin: None,
            target: path(target),
            checksum: Digest::of_bytes(b""),
            size: 0,
            mode: BundleFileMode::Plain,
            unpack,
            oci: None,
            platforms: Vec::new(),
        }
    }

    #[test]
    fn the_lock_says_what_is_extracted_and_where() {
        let told = |target, compression, into: Option<&str>| {
            plan_extraction(&artifact(
                target,
                Some(UnpackSpec {
                    compression,
                    path: into.map(path),
                }),
            ))
        };
        for (target, compression, into, expected) in [
            (
                "opt/rules.tgz",
                None,
                None,
                (ArchiveCompression::Gzip, Some("opt")),
            ),
            ("rules.TAR.GZ", None, None, (ArchiveCompression::Gzip, None)),
            (
                "a/b/rules.tar.bz2",
                None,
                Some("c"),
                (ArchiveCompression::Bzip2, Some("c")),
            ),
            ("rules.zip", None, None, (ArchiveCompression::Zip, None)),
            (
                "rules.zip",
                Some(ArchiveCompression::Gzip),
                None,
                (ArchiveCompression::Gzip, None),
            ),
            (
                "rules",
                Some(ArchiveCompression::Zip),
                None,
                (ArchiveCompression::Zip, None),
            ),
        ] {
            let found = told(target, compression, into)
                .expect(target)
                .expect("an extraction");
            assert_eq!(
                (
                    found.compression,
                    found.into.as_ref().map(BundlePath::as_str)
                ),
                expected,
                "{target}"
            );
        }
        assert_eq!(
            told("rules.gz", None, None).expect_err("no tar").reason(),
            Reason::InvalidLock
        );
        assert_eq!(plan_extraction(&artifact("rules.tgz", None)), Ok(None));
    }

    #[test]
    fn names_stay_below_the_folder() {
        let into = path("opt/x");
        for (name, expected) in [
            ("a", "opt/x/a"),
            ("./a//b", "opt/x/a/b"),
            (".packgate/x", ""),
        ] {
            let found = entry_file_path(Some(&into), name.as_bytes())
                .map(|path| path.to_string())
                .unwrap_or_default();
            assert_eq!(found, expected);
        }
        for name in [
            "",
            ".",
            "/a",
            "..",
            "a/../b",
            "a/",
            "a\\b",
            "a\nb",
            "x://y",
            &format!("{}a", "a/".repeat(600)),
        ] {
            for into in [None, Some(&into)] {
                assert!(entry_file_path(into, name.as_bytes()).is_err(), "{name:?}");
            }
        }
        assert!(matches!(
            entry_file_path(None, b"\xff"),
            Err(ArchiveUnpackError::NotUtf8(_))
        ));
    }

    #[test]
    fn folders_may_be_the_folder_itself() {
        let into = path("opt");
        for name in [".", "./", "", ".//."] {
            assert_eq!(
                entry_folder_path(Some(&into), name.as_bytes()),
                Ok(None),
                "{name:?}"
            );
        }
        assert_eq!(
            entry_folder_path(Some(&into), b"./a/b/"),
            Ok(Some(path("opt/a/b")))
        );
        for name in ["/", "//a", "..", "a/..", "./../"] {
            assert!(
                entry_folder_path(Some(&into), name.as_bytes()).is_err(),
                "{name:?}"
            );
        }
    }

    #[test]
    fn links_cannot_lead_out() {
        let into = path("opt/x");
        for (at, target) in [
            ("opt/x/a/l", "b"),
            ("opt/x/a/l", "../b/./c"),
            ("opt/x/l", "."),
            ("opt/x/a/b/l", "../../c"),
            ("opt/x/l", "a..b/..c"),
        ] {
            assert!(
                check_link_target(Some(&into), &path(at), target.as_bytes()).is_ok(),
                "{at} -> {target}"
            );
        }
        for (at, target, part) in [
            ("opt/x/l", "..", "leads out"),
            ("opt/x/l", "./../x/a", "leads out"),
            ("opt/x/a/l", "../../b", "leads out"),
            ("opt/x/l", "/etc/passwd", "absolute"),
            ("opt/x/a/l", "s/../../b", "behind a name"),
            ("opt/x/a/l", "", "not a valid path"),
            ("opt/x/a/l", "a\\b", "not a valid path"),
            ("opt/x/a/l", "a\0b", "not a valid path"),
        ] {
            let error =
                check_link_target(Some(&into), &path(at), target.as_bytes()).expect_err(target);
            assert!(
                error.to_string().contains(part),
                "{at} -> {target}: {error}"
            );
        }
        assert!(check_link_target(None, &path("l"), b"..").is_err());
        assert!(check_link_target(None, &path("a/l"), b"../b").is_ok());
    }

    #[test]
    fn modes_are_the_two_of_a_bundle() {
        for (bits, mode) in [
            (0o644, BundleFileMode::Plain),
            (0o4755, BundleFileMode::Executable),
            (0o7666, BundleFileMode::Plain),
            (0o100, BundleFileMode::Executable),
        ] {
            assert_eq!(unpacked_file_mode(bits), mode);
        }
    }
}
