//! cosign's tags of a subject: found, read as evidence, and added to.

use std::time::Duration;

use super::evidence::is_caused_by_evidence;
use crate::{
    core::{
        cosign_tags::{CosignTagKind, manifest_with_layers},
        digest::Digest,
        limits::InputLimits,
        media_type,
        oci::{Descriptor, ImageManifest, ManifestOrIndex},
        reason::Reason,
        reference::TagOrDigest,
        verify::{CosignTagCandidate, RejectedEvidence},
    },
    oci::{ContentSource, ContentTarget, OciError, PushContent, ResolvedManifest},
};

/// Attempts to add a layer under a tag while others write it too.
const ATTEMPTS: u32 = 24;
/// The number of checks after a layer was written.
const LOOKS: u32 = 2;
/// The wait before the first check; the second is twice as long, with jitter against other writers.
const WAIT: Duration = Duration::from_millis(60);

/// The manifest that a cosign tag of `subject` names, if the tag exists.
pub(super) async fn resolve_cosign_tag(
    source: &dyn ContentSource,
    tag_kind: CosignTagKind,
    subject: &Digest,
    limits: &InputLimits,
) -> Result<Option<ResolvedManifest>, OciError> {
    match source
        .resolve_manifest(&TagOrDigest::Tag(tag_kind.tag_for(subject)), limits)
        .await
    {
        Ok(found) => Ok(Some(found)),
        Err(OciError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The contents of the tags, before layers are fetched.
#[derive(Default)]
pub(super) struct CosignTagContents {
    pub(super) layers: Vec<CosignTagLayer>,
    /// The configs of their manifests, for checks that read every blob.
    pub(super) configs: Vec<(CosignTagKind, Digest, Descriptor)>,
    pub(super) unread: Vec<RejectedEvidence>,
}

/// A layer of such a manifest.
pub(super) struct CosignTagLayer {
    pub(super) tag_kind: CosignTagKind,
    pub(super) manifest: Digest,
    pub(super) position: usize,
    pub(super) layer: Descriptor,
}

/// Reads the manifests under `.sig` and `.att`. An absent tag is not an error; a registry that is
/// unavailable or refuses is.
pub(super) async fn read_cosign_tags(
    source: &dyn ContentSource,
    subject: &Digest,
    limits: &InputLimits,
) -> Result<CosignTagContents, OciError> {
    let (signatures, attestations) = futures::try_join!(
        read_cosign_tag(source, CosignTagKind::Signatures, subject, limits),
        read_cosign_tag(source, CosignTagKind::Attestations, subject, limits)
    )?;
    Ok(signatures.merge_with(attestations))
}

async fn read_cosign_tag(
    source: &dyn ContentSource,
    tag_kind: CosignTagKind,
    subject: &Digest,
    limits: &InputLimits,
) -> Result<CosignTagContents, OciError> {
    match resolve_cosign_tag(source, tag_kind, subject, limits).await {
        Ok(Some(found)) => Ok(CosignTagContents::from_manifest(tag_kind, &found, limits)),
        Ok(None) => Ok(CosignTagContents::default()),
        // The manifest itself cannot be read, so the rejection names only the subject.
        Err(error) if is_caused_by_evidence(&error) => Ok(CosignTagContents::from_rejected(
            CosignTagCandidate::rejected_unread(tag_kind, *subject, None, &error),
        )),
        Err(error) => Err(error),
    }
}

impl CosignTagContents {
    fn from_rejected(rejected: RejectedEvidence) -> Self {
        Self {
            unread: vec![rejected],
            ..Self::default()
        }
    }

    fn from_manifest(
        tag_kind: CosignTagKind,
        found: &ResolvedManifest,
        limits: &InputLimits,
    ) -> Self {
        let digest = found.descriptor.digest;
        let manifest = match found.parse_document(limits) {
            Ok(ManifestOrIndex::Manifest(manifest)) => manifest,
            Ok(ManifestOrIndex::Index(_)) => {
                return Self::from_rejected(CosignTagCandidate::rejected_index(tag_kind, digest));
            }
            Err(error) => {
                return Self::from_rejected(CosignTagCandidate::rejected_unread(
                    tag_kind, digest, None, &error,
                ));
            }
        };
        let layers = manifest
            .layers
            .into_iter()
            .enumerate()
            .filter(|(_, layer)| tag_kind.layer_media_type() == Some(layer.media_type.as_str()));
        let layers = layers.map(|(at, layer)| CosignTagLayer {
            tag_kind,
            manifest: digest,
            position: at + 1,
            layer,
        });
        Self {
            layers: layers.collect(),
            configs: vec![(tag_kind, digest, manifest.config)],
            unread: Vec::new(),
        }
    }

    fn merge_with(mut self, other: Self) -> Self {
        self.layers.extend(other.layers);
        self.configs.extend(other.configs);
        self.unread.extend(other.unread);
        self
    }

    /// Keeps `limit` layers, and returns how many were dropped.
    pub(super) fn truncate_layers(&mut self, limit: usize) -> usize {
        let over = self.layers.len().saturating_sub(limit);
        self.layers.truncate(limit);
        over
    }

    /// True if something was not read because it is too large.
    pub(super) fn is_too_large(&self) -> bool {
        self.unread
            .iter()
            .any(|rejected| rejected.reason == Reason::LimitExceeded)
    }
}

/// Adds layers, whose blobs exist already, to the manifest that a cosign tag of `subject` names.
/// Existing layers are kept, and those that other writers add meanwhile as well.
///
/// A registry has no atomic update of a tag. So the tag is read again right before it is written,
/// and a few times afterwards: a writer whose layers were overwritten notices, and writes again.
///
/// Errors: the tag names something other than a manifest, or other writers change it all the time.
pub(super) async fn add_cosign_layers(
    target: &dyn ContentTarget,
    tag_kind: CosignTagKind,
    subject: &Digest,
    layers: &[Descriptor],
    limits: &InputLimits,
) -> Result<Digest, OciError> {
    let (mut attempts, mut looks) = (0, 0);
    while attempts < ATTEMPTS {
        let there = resolve_cosign_tag(target, tag_kind, subject, limits).await?;
        let named = there.as_ref().map(|there| there.descriptor.digest);
        let before = there
            .as_ref()
            .map(|there| parse_tagged_manifest(target, tag_kind, there, limits))
            .transpose()?;
        match (manifest_with_layers(before.as_ref(), layers), named) {
            (None, Some(named)) => {
                // A local layout has no concurrent writers.
                if looks == LOOKS || target.request_count() == 0 {
                    return Ok(named);
                }
                looks += 1;
                tokio::time::sleep(
                    WAIT * looks + Duration::from_millis(named.as_bytes()[0].into()),
                )
                .await;
            }
            (None, None) => return Err(OciError::Invalid("there is nothing to add".into())),
            (Some(next), _) => {
                attempts += 1;
                looks = 0;
                write_cosign_tag(target, tag_kind, subject, next, named, limits).await?;
            }
        }
    }
    let cause = format!(
        "a layer was lost from {} {ATTEMPTS} times while others wrote it",
        tag_kind.tag_for(subject)
    );
    Err(OciError::Unavailable {
        location: target.location(),
        cause,
    })
}

fn parse_tagged_manifest(
    target: &dyn ContentTarget,
    tag_kind: CosignTagKind,
    there: &ResolvedManifest,
    limits: &InputLimits,
) -> Result<ImageManifest, OciError> {
    match there.parse_document(limits)? {
        ManifestOrIndex::Manifest(manifest) => Ok(manifest),
        ManifestOrIndex::Index(_) => {
            let cause = format!(
                "its {} tag names an index and not a manifest with signatures",
                tag_kind.suffix()
            );
            Err(OciError::Malformed {
                location: target.location(),
                cause,
            })
        }
    }
}

/// Writes the tag, unless it changed since it was read.
async fn write_cosign_tag(
    target: &dyn ContentTarget,
    tag_kind: CosignTagKind,
    subject: &Digest,
    (manifest, config): (ImageManifest, Vec<u8>),
    named: Option<Digest>,
    limits: &InputLimits,
) -> Result<(), OciError> {
    let bytes =
        serde_json::to_vec(&manifest).map_err(|error| OciError::Invalid(error.to_string()))?;
    if bytes.len() > limits.manifest_bytes {
        let what = tag_kind.tag_for(subject).to_string();
        return Err(OciError::LimitExceeded {
            what,
            size: bytes.len() as u64,
            limit: limits.manifest_bytes as u64,
        });
    }
    let descriptor = Descriptor::of_bytes(media_type::MANIFEST, &bytes);
    target
        .push_content(&manifest.config, PushContent::Bytes(&config.into()))
        .await?;
    target
        .push_content(&descriptor, PushContent::Bytes(&bytes.into()))
        .await?;
    let there = resolve_cosign_tag(target, tag_kind, subject, limits)
        .await?
        .map(|there| there.descriptor.digest);
    if there != named {
        return Ok(());
    }
    target
        .tag_manifest(&descriptor, &tag_kind.tag_for(subject))
        .await
}
