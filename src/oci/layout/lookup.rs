//! Finds the manifest or index that a tag or a digest names in a layout.

use std::collections::{HashSet, VecDeque};

use super::OciLayoutTarget;
use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        media_type,
        oci::{Descriptor, ImageIndex, ManifestOrIndex, layout::REF_NAME},
        reference::{ImageTag, TagOrDigest},
    },
    oci::{ContentSource, OciError},
};

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
            TagOrDigest::Tag(tag) => self.find_tag(&index, tag),
        }
    }

    /// A tag on two entries is ambiguous.
    fn find_tag(&self, index: &ImageIndex, tag: &ImageTag) -> Result<Descriptor, OciError> {
        let is_named = |entry: &&Descriptor| {
            entry
                .annotations
                .get(REF_NAME)
                .is_some_and(|name| name == tag.as_str())
        };
        let mut named = index.manifests.iter().filter(is_named);
        let first = named.next().ok_or_else(|| OciError::NotFound {
            what: format!("tag {tag}"),
            location: self.location(),
        })?;
        match named.find(|other| other.digest != first.digest) {
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
