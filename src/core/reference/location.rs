//! Locations of bundles: in a registry, or on this machine.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use super::{
    ImageReference, ImageReferenceError, ImageTag, MAX_SHOWN, RegistryHostError, TagOrDigest,
    choose_tag_or_digest, truncate_text, write_tag_and_digest,
};
use crate::core::digest::Digest;

/// A location that the command line can read from or write to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleLocation {
    /// In a registry.
    Registry(ImageReference),
    /// `oci:DIR[:TAG][@DIGEST]`: an OCI layout.
    Layout(LocalReference),
    /// `oci-archive:FILE[:TAG][@DIGEST]`: a tar of a layout.
    Archive(LocalReference),
}

/// A path on this machine with a tag or digest in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReference {
    /// The path of the folder or file.
    pub path: String,
    /// The tag, if there is one.
    pub tag: Option<ImageTag>,
    /// The digest, if there is one.
    pub digest: Option<Digest>,
}

impl LocalReference {
    /// What to resolve: the digest if there is one, else the tag, else `latest`.
    pub fn tag_or_digest(&self) -> TagOrDigest {
        choose_tag_or_digest(self.digest, self.tag.as_ref())
    }
}

impl BundleLocation {
    /// The tag as written.
    pub const fn tag(&self) -> Option<&ImageTag> {
        match self {
            Self::Registry(reference) => reference.tag.as_ref(),
            Self::Layout(local) | Self::Archive(local) => local.tag.as_ref(),
        }
    }

    /// The digest in the reference.
    pub const fn digest(&self) -> Option<Digest> {
        match self {
            Self::Registry(reference) => reference.digest,
            Self::Layout(local) | Self::Archive(local) => local.digest,
        }
    }

    /// The same location with this digest.
    #[must_use]
    pub const fn with_digest(mut self, digest: Digest) -> Self {
        match &mut self {
            Self::Registry(reference) => reference.digest = Some(digest),
            Self::Layout(local) | Self::Archive(local) => local.digest = Some(digest),
        }
        self
    }

    /// What to resolve at the location.
    pub fn tag_or_digest(&self) -> TagOrDigest {
        choose_tag_or_digest(self.digest(), self.tag())
    }
}

impl FromStr for BundleLocation {
    type Err = ImageReferenceError;

    fn from_str(text: &str) -> Result<Self, ImageReferenceError> {
        if let Some(rest) = text.strip_prefix("oci:") {
            parse_local(rest).map(Self::Layout)
        } else if let Some(rest) = text.strip_prefix("oci-archive:") {
            parse_local(rest).map(Self::Archive)
        } else {
            let reference: ImageReference = text.parse()?;
            // A host `OCI` with a port would be printed as a layout.
            let printed = reference.to_string();
            if printed.starts_with("oci:") || printed.starts_with("oci-archive:") {
                return Err(ImageReferenceError::Host(
                    truncate_text(text, MAX_SHOWN),
                    RegistryHostError::Malformed,
                ));
            }
            Ok(Self::Registry(reference))
        }
    }
}

fn parse_local(text: &str) -> Result<LocalReference, ImageReferenceError> {
    let (name, digest) = match text.rsplit_once("@sha256:") {
        Some((name, digits)) => (name, Some(format!("sha256:{digits}").parse()?)),
        None => (text, None),
    };
    let (path, tag) = match name.rsplit_once(':') {
        Some((before, after)) if !after.contains('/') => (before, Some(after.parse()?)),
        _ => (name, None),
    };
    if path.is_empty() {
        return Err(ImageReferenceError::Empty);
    }
    Ok(LocalReference {
        path: path.into(),
        tag,
        digest,
    })
}

impl fmt::Display for BundleLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(reference) => reference.fmt(f),
            Self::Layout(local) => write!(f, "oci:{}", local.path)
                .and_then(|()| write_tag_and_digest(f, local.tag.as_ref(), local.digest)),
            Self::Archive(local) => write!(f, "oci-archive:{}", local.path)
                .and_then(|()| write_tag_and_digest(f, local.tag.as_ref(), local.digest)),
        }
    }
}

impl Serialize for BundleLocation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
