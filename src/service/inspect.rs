//! Describes a bundle or image and its referrers. Only digests are verified here.

use serde::Serialize;

use super::{
    bundle_contents::{self, BundleContents, BundleContentsError},
    cosign_tags,
};
use crate::{
    core::{
        cosign_tags::{CosignTagKind, PREDICATE_TYPE},
        digest::Digest,
        display_text::sanitize_text,
        limits::InputLimits,
        oci::{Descriptor, ManifestOrIndex},
        pack::{BundleFormatError, PACK_FORMAT_ANNOTATION},
        reason::{ClassifiedError, Reason},
        referrer::BUNDLE_PREDICATE_TYPE,
    },
    oci::{ContentSource, OciError, ResolvedManifest},
};

/// The result of an inspection.
#[derive(Debug)]
pub struct Inspection {
    /// The manifest or index.
    pub root: ResolvedManifest,
    /// Its parsed document.
    pub document: ManifestOrIndex,
    /// Its contents, if packgate packed it.
    pub contents: Option<BundleContents>,
    /// Its referrers, unverified.
    pub referrers: Vec<ReferrerSummary>,
    /// Layers under its cosign tags.
    pub tags: Vec<CosignTagSummary>,
}

/// One layer of the manifest that a cosign tag names; its content is not verified.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CosignTagSummary {
    /// The tag.
    pub tag: String,
    /// The digest of the manifest or index that it names.
    pub digest: Digest,
    /// The media type of the layer, or of an index.
    pub media_type: String,
    /// The predicate type, if its annotations have one.
    pub predicate_type: Option<String>,
}

/// One referrer as listed by a registry or layout; its content is not verified.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferrerSummary {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its artifact type.
    pub artifact_type: Option<String>,
    /// The predicate type, if its annotations have one.
    pub predicate_type: Option<String>,
    /// The size of its manifest in bytes.
    pub size: u64,
}

/// Why an inspection failed.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// Reading failed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// It has packgate's annotations, but is not a valid bundle.
    #[error(transparent)]
    Contents(#[from] BundleContentsError),
}

impl ClassifiedError for InspectError {
    fn reason(&self) -> Reason {
        match self {
            Self::Oci(error) => error.reason(),
            Self::Contents(error) => error.reason(),
        }
    }
}

/// Inspects the manifest or index `root`.
pub async fn inspect_bundle(
    source: &dyn ContentSource,
    root: ResolvedManifest,
    limits: &InputLimits,
) -> Result<Inspection, InspectError> {
    let document = root.parse_document(limits)?;
    let contents = match bundle_contents::open_bundle(source, &root, limits).await {
        Ok(contents) => Some(contents),
        Err(BundleContentsError::Embedded(BundleFormatError::NotABundle))
            if !document.annotations().contains_key(PACK_FORMAT_ANNOTATION) =>
        {
            None
        }
        Err(error) => return Err(error.into()),
    };
    let referrers = source
        .list_referrers(&root.descriptor, limits)
        .await?
        .iter()
        .map(summarize_referrer)
        .collect();
    let mut tags = Vec::new();
    for tag_kind in CosignTagKind::ALL {
        tags.extend(list_cosign_tag(source, tag_kind, &root.descriptor.digest, limits).await?);
    }
    Ok(Inspection {
        root,
        document,
        contents,
        referrers,
        tags,
    })
}

/// The layers of one tag; at most as many as there may be opened referrers.
async fn list_cosign_tag(
    source: &dyn ContentSource,
    tag_kind: CosignTagKind,
    subject: &Digest,
    limits: &InputLimits,
) -> Result<Vec<CosignTagSummary>, InspectError> {
    let Some(found) = cosign_tags::resolve_cosign_tag(source, tag_kind, subject, limits).await?
    else {
        return Ok(Vec::new());
    };
    let entry = |media_type: &str, predicate_type: Option<&String>| CosignTagSummary {
        tag: tag_kind.tag_for(subject).to_string(),
        digest: found.descriptor.digest,
        media_type: sanitize_text(media_type),
        predicate_type: predicate_type.map(|text| sanitize_text(text)),
    };
    Ok(match found.parse_document(limits)? {
        ManifestOrIndex::Index(_) => vec![entry(&found.descriptor.media_type, None)],
        ManifestOrIndex::Manifest(manifest) => {
            let layers = manifest.layers.iter().take(limits.referrers_opened);
            layers
                .map(|layer| entry(&layer.media_type, layer.annotations.get(PREDICATE_TYPE)))
                .collect()
        }
    })
}

/// Whoever can attach a referrer chooses these texts, and they are printed on terminals.
fn summarize_referrer(descriptor: &Descriptor) -> ReferrerSummary {
    ReferrerSummary {
        digest: descriptor.digest,
        artifact_type: descriptor.artifact_type.as_deref().map(sanitize_text),
        predicate_type: descriptor
            .annotations
            .get(BUNDLE_PREDICATE_TYPE)
            .map(|text| sanitize_text(text)),
        size: descriptor.size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{media_type, oci::Annotations};

    #[test]
    fn words_of_strangers_cannot_steer_a_terminal() {
        let hostile = "x\u{1b}]0;evil\u{7}\u{202e}y".to_owned();
        let annotations = Annotations::from([(BUNDLE_PREDICATE_TYPE.to_owned(), hostile.clone())]);
        let descriptor = Descriptor {
            artifact_type: Some(hostile),
            annotations,
            ..Descriptor::of_bytes(media_type::MANIFEST, b"")
        };
        let shown = summarize_referrer(&descriptor);
        for text in [shown.artifact_type, shown.predicate_type] {
            assert_eq!(text.as_deref(), Some("x\u{fffd}]0;evil\u{fffd}\u{fffd}y"));
        }
    }
}
