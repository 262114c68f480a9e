//! Finds the manifest or index that a tag or a digest names in a layout.

use std::collections::{HashSet, VecDeque};

use super::OciLayoutTarget;
use crate::{
    core::{
        digest::Digest,
        display_text::sanitize_line,
        limits::InputLimits,
        media_type,
        oci::{Descriptor, ImageIndex, ManifestOrIndex, layout::REF_NAME},
        reference::{ImageTag, TagOrDigest},
    },
    oci::{ContentSource, OciError},
};

/// The name that containerd and Docker give an image in a layout.
const CONTAINERD_IMAGE_NAME: &str = "io.containerd.image.name";
/// What an entry of a layout is that `cosign save` wrote.
const COSIGN_KIND: &str = "kind";
/// The beginning of these kinds: `image`, `imageIndex`, `sigs`, `atts`.
const COSIGN_KIND_PREFIX: &str = "dev.cosignproject.cosign/";
/// Entries of a layout in which the only image is searched.
const MAX_SEARCHED_IMAGES: usize = 256;
/// Entries that an error lists.
const MAX_LISTED: usize = 10;

/// The depth of nested indexes that are searched for a digest.
const MAX_DEPTH: usize = 4;

impl OciLayoutTarget {
    pub(super) fn find_descriptor(
        &self,
        selector: &TagOrDigest,
        limits: &InputLimits,
    ) -> Result<Descriptor, OciError> {
        let index = self.read_index(limits)?;
        match selector {
            TagOrDigest::Digest(digest) => self.find_digest(index, digest, limits),
            TagOrDigest::Tag(tag) => self.find_tag(&index, tag, limits),
        }
    }

    /// A tag on two entries is ambiguous. `latest` stands for a reference without a tag, and means
    /// the only image of a layout as well, whatever its name.
    fn find_tag(
        &self,
        index: &ImageIndex,
        tag: &ImageTag,
        limits: &InputLimits,
    ) -> Result<Descriptor, OciError> {
        let named: Vec<&Descriptor> = index
            .manifests
            .iter()
            .filter(|entry| is_named(entry, tag))
            .collect();
        let signatures = || saved_signatures(index, tag);
        let only = || {
            let images = self.list_images(index, limits);
            let all_same = images.windows(2).all(|two| two[0].digest == two[1].digest);
            if tag.as_str() == "latest" && all_same {
                images
            } else {
                Vec::new()
            }
        };
        let found: Vec<&Descriptor> = non_empty(named)
            .or_else(|| non_empty(signatures()))
            .or_else(|| non_empty(only()))
            .ok_or_else(|| OciError::NotFound {
                what: format!("tag {tag}"),
                location: format!("{}, {}", self.location(), describe_entries(index)),
            })?;
        self.require_one(&found, tag)
    }

    fn require_one(&self, found: &[&Descriptor], tag: &ImageTag) -> Result<Descriptor, OciError> {
        let [first, others @ ..] = found else {
            return Err(OciError::NotFound {
                what: format!("tag {tag}"),
                location: self.location(),
            });
        };
        match others.iter().find(|other| other.digest != first.digest) {
            Some(other) => {
                let cause = format!(
                    "tag {tag} names both {} and {}; use the digest instead",
                    first.digest, other.digest
                );
                Err(OciError::Malformed {
                    location: self.location(),
                    cause,
                })
            }
            None => Ok(first.without_metadata()),
        }
    }

    /// The entries that are images: no signatures, and nothing that refers to another manifest.
    fn list_images<'a>(&self, index: &'a ImageIndex, limits: &InputLimits) -> Vec<&'a Descriptor> {
        let is_image = |entry: &&Descriptor| {
            let refers = || {
                self.read_and_parse(entry, limits)
                    .is_ok_and(|document| document.subject().is_some())
            };
            entry.is_manifest_or_index()
                && cosign_kind(entry).is_none_or(|kind| kind.starts_with("image"))
                && !ref_names(entry).any(|name| name.starts_with("sha256-"))
                && !refers()
        };
        if index.manifests.len() > MAX_SEARCHED_IMAGES {
            return Vec::new();
        }
        index.manifests.iter().filter(is_image).collect()
    }

    /// The descriptor of a digest in the layout's index, or in an index below it. An index that
    /// cannot be parsed only hides its own entries.
    fn find_digest(
        &self,
        index: ImageIndex,
        digest: &Digest,
        limits: &InputLimits,
    ) -> Result<Descriptor, OciError> {
        let mut seen = HashSet::new();
        let mut queue: VecDeque<(Descriptor, usize)> = index
            .manifests
            .into_iter()
            .map(|entry| (entry, 0))
            .collect();
        while let Some((entry, depth)) = queue.pop_front() {
            if entry.digest == *digest {
                return Ok(entry.without_metadata());
            }
            if media_type::is_index(&entry.media_type)
                && depth < MAX_DEPTH
                && seen.insert(entry.digest)
                && let Ok(ManifestOrIndex::Index(inner)) = self.read_and_parse(&entry, limits)
            {
                queue.extend(inner.manifests.into_iter().map(|child| (child, depth + 1)));
            }
        }
        Err(OciError::NotFound {
            what: digest.to_string(),
            location: self.location(),
        })
    }
}

fn non_empty<T>(all: Vec<T>) -> Option<Vec<T>> {
    (!all.is_empty()).then_some(all)
}

/// The names of an entry: a tag, or a whole reference with one.
fn ref_names(entry: &Descriptor) -> impl Iterator<Item = &str> {
    [REF_NAME, CONTAINERD_IMAGE_NAME]
        .into_iter()
        .filter_map(move |key| entry.annotations.get(key))
        .map(String::as_str)
}

fn is_named(entry: &Descriptor, tag: &ImageTag) -> bool {
    ref_names(entry).any(|name| {
        let tag_of_name = name.rsplit_once(':').map(|(_, tag)| tag);
        name == tag.as_str() || tag_of_name == Some(tag.as_str())
    })
}

fn cosign_kind(entry: &Descriptor) -> Option<&str> {
    entry
        .annotations
        .get(COSIGN_KIND)?
        .strip_prefix(COSIGN_KIND_PREFIX)
}

/// What a tag of cosign names in a layout that `cosign save` wrote: it keeps the kind instead of
/// the tag. With several images in one layout, the names of both have to be equal.
fn saved_signatures<'a>(index: &'a ImageIndex, tag: &ImageTag) -> Vec<&'a Descriptor> {
    let of_kind = |entry: &&Descriptor| {
        let suffix = match cosign_kind(entry) {
            Some("sigs") => ".sig",
            Some("atts") => ".att",
            Some("sboms") => ".sbom",
            _ => return false,
        };
        tag.as_str().ends_with(suffix)
    };
    let is_image =
        |entry: &&Descriptor| cosign_kind(entry).is_some_and(|kind| kind.starts_with("image"));
    let images: Vec<&Descriptor> = index.manifests.iter().filter(is_image).collect();
    let subject = images.iter().find(|image| {
        let fallback = image.digest.referrers_fallback_tag();
        tag.as_str().starts_with(&fallback)
    });
    let Some(subject) = subject else {
        return Vec::new();
    };
    index
        .manifests
        .iter()
        .filter(of_kind)
        .filter(|entry| {
            let name_of_entry = entry.annotations.get(REF_NAME);
            images.len() == 1 || name_of_entry == subject.annotations.get(REF_NAME)
        })
        .collect()
}

/// The names and digests in a layout.
fn describe_entries(index: &ImageIndex) -> String {
    let shown: Vec<String> = index
        .manifests
        .iter()
        .take(MAX_LISTED)
        .map(|entry| match ref_names(entry).next() {
            Some(name) => format!("{} ({})", sanitize_line(name, 120), entry.digest),
            None => entry.digest.to_string(),
        })
        .collect();
    let more = index.manifests.len().saturating_sub(MAX_LISTED);
    match (shown.is_empty(), more) {
        (true, _) => "which is empty".into(),
        (_, 0) => format!("which has {}", shown.join(", ")),
        (_, more) => format!("which has {} and {more} more", shown.join(", ")),
    }
}
