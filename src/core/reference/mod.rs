//! Names of images: `REGISTRY/REPOSITORY[:TAG][@DIGEST]`, and of layouts and archives on disk.
//!
//! The grammar is that of the distribution project's `reference` package, and the defaults
//! (`docker.io`, `library/`) are those of containerd, so that packgate evaluates the same image
//! that a runtime would pull.

pub(in crate::core) mod host;
mod location;
mod registry_mirror;

use std::{fmt, str::FromStr};

pub use host::{RegistryHostError, canonical_host};
pub use location::{BundleLocation, LocalReference};
pub use registry_mirror::{MAX_REGISTRY_MIRRORS, RegistryMirror, RegistryMirrorError};

use host::{DOCKER_HUB, looks_like_host};

use super::{
    digest::{Digest, DigestError},
    display_text::truncate_text,
    reason::{Reason, classify},
};

/// Characters of a refused text in messages.
const MAX_SHOWN: usize = 120;

/// The beginning of the tags that belong to a digest: cosign's and the list of referrers.
pub const DIGEST_TAG_PREFIX: &str = "sha256-";

const MAX_REFERENCE: usize = 4_096;
const MAX_REPOSITORY: usize = 255;

/// A host with an optional port, and a path: canonical form, no tag and no digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageRepository {
    host: String,
    path: String,
}

/// A tag: 1 to 128 characters of `[A-Za-z0-9_.-]`, not starting with `.` or `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageTag(String);

/// An image reference as written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageReference {
    /// The repository.
    pub repository: ImageRepository,
    /// The tag, if there is one.
    pub tag: Option<ImageTag>,
    /// The digest, if there is one. It takes precedence over the tag.
    pub digest: Option<Digest>,
}

/// A repository and a digest: an immutable reference.
///
/// The fields are private, so that a pinned reference always comes from a reference with a digest
/// or one that was resolved to it.
///
/// ```compile_fail
/// # use packgate::core::{digest::Digest, reference::{ImageRepository, PinnedReference}};
/// fn forge(repository: ImageRepository) -> PinnedReference {
///     PinnedReference { repository, digest: Digest::of_bytes(b"") }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PinnedReference {
    repository: ImageRepository,
    digest: Digest,
}

/// A tag or a digest, to resolve in one repository or layout.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TagOrDigest {
    /// By tag.
    Tag(ImageTag),
    /// By digest.
    Digest(Digest),
}

/// Why a string is not a valid reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ImageReferenceError {
    #[error("reference is empty, write REGISTRY/REPOSITORY[:TAG][@DIGEST]")]
    Empty,
    /// It is longer than any valid reference; its size in bytes.
    #[error("reference of {0} characters is too long")]
    TooLong(usize),
    #[error("reference {0:?} must not have a scheme, write REGISTRY/REPOSITORY[:TAG][@DIGEST]")]
    Scheme(String),
    #[error("reference {0:?} does not start with a valid registry host: {1}")]
    Host(String, RegistryHostError),
    #[error(
        "repository {0:?} must consist of lower-case letters, digits and single separators (. _ - \
            /)"
    )]
    Path(String),
    #[error(
        "tag {0:?} must have 1 to 128 characters of A-Z a-z 0-9 _ . - and not start with . or -"
    )]
    Tag(String),
    /// The digest is invalid.
    #[error(transparent)]
    Digest(#[from] DigestError),
    #[error("reference {0} must have a digest (@sha256:…)")]
    NotPinned(String),
}

classify!(ImageReferenceError, |error| match error {
    Self::NotPinned(_) => Reason::DigestRequired,
    _ => Reason::InvalidSpec,
});

impl ImageRepository {
    /// The registry's host with its port, canonical ([`canonical_host`]): lower case, no trailing
    /// dot, no `:443`, one spelling of an address, one name for Docker Hub.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path below the host.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// This repository with a digest.
    pub const fn pin_to_digest(self, digest: Digest) -> PinnedReference {
        PinnedReference {
            repository: self,
            digest,
        }
    }
}

impl ImageReference {
    /// What to resolve: the digest if there is one, else the tag, else `latest`.
    pub fn tag_or_digest(&self) -> TagOrDigest {
        choose_tag_or_digest(self.digest, self.tag.as_ref())
    }

    /// The pinned reference, if it has a digest.
    pub fn to_pinned(&self) -> Result<PinnedReference, ImageReferenceError> {
        let digest = self
            .digest
            .ok_or_else(|| ImageReferenceError::NotPinned(self.to_string()))?;
        Ok(self.repository.clone().pin_to_digest(digest))
    }
}

impl PinnedReference {
    /// The repository.
    pub const fn repository(&self) -> &ImageRepository {
        &self.repository
    }

    /// The digest.
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

fn choose_tag_or_digest(digest: Option<Digest>, tag: Option<&ImageTag>) -> TagOrDigest {
    match (digest, tag) {
        (Some(digest), _) => TagOrDigest::Digest(digest),
        (None, Some(tag)) => TagOrDigest::Tag(tag.clone()),
        (None, None) => TagOrDigest::Tag(ImageTag("latest".into())),
    }
}

impl FromStr for ImageTag {
    type Err = ImageReferenceError;

    fn from_str(text: &str) -> Result<Self, ImageReferenceError> {
        let first = text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        let rest = text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if first && rest && text.len() <= 128 {
            Ok(Self(text.into()))
        } else {
            Err(ImageReferenceError::Tag(truncate_text(text, MAX_SHOWN)))
        }
    }
}

impl FromStr for ImageRepository {
    type Err = ImageReferenceError;

    fn from_str(text: &str) -> Result<Self, ImageReferenceError> {
        let reference: ImageReference = text.parse()?;
        if reference.tag.is_some() || reference.digest.is_some() {
            Err(ImageReferenceError::Path(truncate_text(text, MAX_SHOWN)))
        } else {
            Ok(reference.repository)
        }
    }
}

impl FromStr for ImageReference {
    type Err = ImageReferenceError;

    fn from_str(text: &str) -> Result<Self, ImageReferenceError> {
        check_reference_text(text)?;
        let (name, digest) = split_digest(text)?;
        let (name, tag) = split_tag(name)?;
        let repository = parse_repository(name)?;
        Ok(Self {
            repository,
            tag,
            digest,
        })
    }
}

fn check_reference_text(text: &str) -> Result<(), ImageReferenceError> {
    if text.is_empty() {
        return Err(ImageReferenceError::Empty);
    }
    if text.len() > MAX_REFERENCE {
        return Err(ImageReferenceError::TooLong(text.len()));
    }
    if text.contains("://") {
        Err(ImageReferenceError::Scheme(truncate_text(text, MAX_SHOWN)))
    } else {
        Ok(())
    }
}

fn split_digest(text: &str) -> Result<(&str, Option<Digest>), ImageReferenceError> {
    match text.split_once('@') {
        Some((name, digest)) => Ok((name, Some(digest.parse()?))),
        None => Ok((text, None)),
    }
}

fn split_tag(name: &str) -> Result<(&str, Option<ImageTag>), ImageReferenceError> {
    match name.rsplit_once(':') {
        Some((before, after)) if !after.contains('/') && !after.ends_with(']') => {
            Ok((before, Some(after.parse()?)))
        }
        _ => Ok((name, None)),
    }
}

fn parse_repository(name: &str) -> Result<ImageRepository, ImageReferenceError> {
    let (host, path) = match name.split_once('/') {
        Some((first, rest)) if looks_like_host(first) => (
            canonical_host(first).map_err(|error| {
                ImageReferenceError::Host(truncate_text(first, MAX_SHOWN), error)
            })?,
            rest.to_owned(),
        ),
        _ => (DOCKER_HUB.to_owned(), name.to_owned()),
    };
    let path = if host == DOCKER_HUB && !path.contains('/') {
        format!("library/{path}")
    } else {
        path
    };
    if !path.split('/').all(is_path_component) || host.len() + 1 + path.len() > MAX_REPOSITORY {
        return Err(ImageReferenceError::Path(truncate_text(&path, MAX_SHOWN)));
    }
    Ok(ImageRepository { host, path })
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = |b: Option<u8>| b.is_some_and(alphanumeric);
    let known = component
        .bytes()
        .all(|b| alphanumeric(b) || matches!(b, b'.' | b'_' | b'-'));
    let separators = component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .filter(|s| !s.is_empty());
    known
        && ends(component.bytes().next())
        && ends(component.bytes().last())
        && separators
            .into_iter()
            .all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

impl ImageTag {
    /// The tag as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The cosign tag `sha256-<hex>SUFFIX` of a subject.
    pub(crate) fn cosign_tag(subject: &Digest, suffix: &'static str) -> Self {
        Self(subject.referrers_fallback_tag() + suffix)
    }
}

impl fmt::Display for ImageTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ImageRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

fn write_tag_and_digest(
    f: &mut fmt::Formatter<'_>,
    tag: Option<&ImageTag>,
    digest: Option<Digest>,
) -> fmt::Result {
    tag.map_or(Ok(()), |tag| write!(f, ":{tag}"))?;
    digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        write_tag_and_digest(f, self.tag.as_ref(), self.digest)
    }
}

impl fmt::Display for PinnedReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

impl fmt::Display for TagOrDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
