//! Evidence as it was fetched.

use bytes::Bytes;

use crate::core::{
    cosign_tags::CosignTagKind,
    digest::Digest,
    media_type,
    oci::{Descriptor, ManifestOrIndex},
    reason::ClassifiedError,
};

use super::{EvidenceError, RejectedEvidence, sanitize_text};

/// The evidence fetched for one digest. None of it is trusted.
#[derive(Clone, Debug, Default)]
pub struct UnverifiedEvidence {
    /// Referrers that may be a signature or an attestation.
    pub candidates: Vec<ReferrerCandidate>,
    /// Layers of the manifests that cosign's tags name, if a policy accepts them.
    pub legacy: Vec<CosignTagCandidate>,
    /// Referrers that could not be fetched, and why.
    pub unread: Vec<RejectedEvidence>,
    /// The number of referrers that are not Sigstore bundles, such as a plain SBOM. They are not
    /// used.
    pub unrelated: usize,
    /// The number of referrers that were not fetched because there were too many.
    pub unopened: usize,
}

/// One referrer with the content of its only layer.
#[derive(Clone, Debug)]
pub struct ReferrerCandidate {
    /// The descriptor in the referrers list.
    pub referrer: Descriptor,
    /// The manifest of the referrer.
    pub manifest: ManifestOrIndex,
    /// The bytes of the layer from [`sigstore_bundle_layer`].
    pub content: Bytes,
}

/// One layer of the manifest that a cosign tag of the subject names.
#[derive(Clone, Debug)]
pub struct CosignTagCandidate {
    /// The kind of tag: `.sig` or `.att`.
    pub tag_kind: CosignTagKind,
    /// The digest of the manifest that the tag names.
    pub manifest: Digest,
    /// The position of the layer, from 1.
    pub position: usize,
    /// The layer's descriptor, with its annotations.
    pub layer: Descriptor,
    /// The bytes of the layer.
    pub content: Bytes,
}

impl CosignTagCandidate {
    /// The rejection because of `error`.
    pub(in crate::core) fn to_rejected(&self, error: &EvidenceError) -> RejectedEvidence {
        with_tag_location(
            self.tag_kind,
            Some(self.position),
            RejectedEvidence::new(self.manifest, error),
        )
    }

    /// A layer, or the whole manifest, could not be fetched because of `error`.
    pub fn rejected_unread(
        kind: CosignTagKind,
        manifest: Digest,
        position: Option<usize>,
        error: &dyn ClassifiedError,
    ) -> RejectedEvidence {
        with_tag_location(
            kind,
            position,
            RejectedEvidence::from_read_error(manifest, error),
        )
    }

    /// The tag names an index instead of a manifest.
    pub fn rejected_index(kind: CosignTagKind, index: Digest) -> RejectedEvidence {
        with_tag_location(
            kind,
            None,
            RejectedEvidence::new(index, &EvidenceError::CosignTagIndex),
        )
    }
}

fn with_tag_location(
    kind: CosignTagKind,
    position: Option<usize>,
    rejected: RejectedEvidence,
) -> RejectedEvidence {
    let layer = position
        .map(|position| format!("layer {position} of "))
        .unwrap_or_default();
    let message = sanitize_text(&format!(
        "{layer}its {} tag: {}",
        kind.suffix(),
        rejected.message
    ));
    RejectedEvidence {
        message,
        ..rejected
    }
}

/// The layer of a referrer's manifest that holds a Sigstore bundle about `subject`.
///
/// `None` if the referrer is not a Sigstore bundle, such as a plain SBOM. The descriptor's
/// `artifactType` is never looked at: on registries without the referrers API cosign writes
/// `application/vnd.oci.empty.v1+json` there.
///
/// Errors: [`EvidenceError::ForeignSubject`] if the manifest refers to another digest,
/// [`EvidenceError::Layers`] if a bundle is not its only layer.
pub fn sigstore_bundle_layer<'a>(
    manifest: &'a ManifestOrIndex,
    subject: &Digest,
) -> Result<Option<&'a Descriptor>, EvidenceError> {
    let refers_to = manifest.subject().map(|subject| subject.digest);
    if refers_to != Some(*subject) {
        return Err(EvidenceError::ForeignSubject(refers_to));
    }
    let ManifestOrIndex::Manifest(manifest) = manifest else {
        return Ok(None);
    };
    if !manifest
        .layers
        .iter()
        .any(|layer| media_type::is_sigstore_bundle(&layer.media_type))
    {
        return Ok(None);
    }
    match &manifest.layers[..] {
        [layer] => Ok(Some(layer)),
        layers => Err(EvidenceError::Layers(layers.len())),
    }
}
