//! cosign's tags of a subject: found, read as evidence, and added to.

use async_trait::async_trait;

use super::evidence::read_errors::is_caused_by_evidence;
use crate::{
    core::{
        cosign_tags::{CosignTagKind, is_same_layer, manifest_with_layers},
        digest::Digest,
        limits::InputLimits,
        media_type,
        oci::{Descriptor, ImageManifest, ManifestOrIndex},
        reason::Reason,
        reference::TagOrDigest,
        verify::{CosignTagCandidate, RejectedEvidence},
    },
    oci::{
        ContentSource, ContentTarget, OciError, PushContent, ResolvedManifest,
        shared_tag::{self, SharedTag},
    },
};

/// The maximum number of layers under a tag that are kept while others write it. More do not fit
/// into a manifest.
const MAX_LAYERS: usize = 1 << 14;

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
    /// The registry's refusal to show one of the tags.
    pub(super) withheld: Option<OciError>,
}

/// A layer of such a manifest.
pub(super) struct CosignTagLayer {
    pub(super) tag_kind: CosignTagKind,
    pub(super) manifest: Digest,
    pub(super) position: usize,
    pub(super) layer: Descriptor,
}

/// Reads the manifests under `.sig` and `.att`. An absent tag is not an error; a registry that is
/// unavailable is. What it refuses to show is withheld evidence.
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
        Err(error) if error.is_definite_answer() => Ok(CosignTagContents {
            withheld: Some(error),
            ..CosignTagContents::default()
        }),
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
            withheld: None,
        }
    }

    fn merge_with(mut self, other: Self) -> Self {
        self.layers.extend(other.layers);
        self.configs.extend(other.configs);
        self.unread.extend(other.unread);
        self.withheld = self.withheld.or(other.withheld);
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

/// Adds layers, whose blobs exist already, to the manifest that a cosign tag of `subject` names, and
/// returns its digest. Existing layers are kept, and those that other writers add meanwhile as well
/// ([`shared_tag`]).
///
/// Errors: the tag names something other than a manifest, or other writers change it all the time.
pub(super) async fn add_cosign_layers(
    target: &dyn ContentTarget,
    tag_kind: CosignTagKind,
    subject: &Digest,
    layers: &[Descriptor],
    limits: &InputLimits,
) -> Result<Digest, OciError> {
    let tag = CosignTag {
        target,
        tag_kind,
        subject,
        limits,
    };
    let written = shared_tag::add_entries(&tag, layers.to_vec()).await?;
    written
        .named
        .ok_or_else(|| OciError::Invalid("there is nothing to add".into()))
}

/// A cosign tag that layers are added to.
struct CosignTag<'a> {
    target: &'a dyn ContentTarget,
    tag_kind: CosignTagKind,
    subject: &'a Digest,
    limits: &'a InputLimits,
}

/// The manifest that such a tag names, if the tag exists.
struct CosignTagManifest {
    named: Option<Digest>,
    manifest: Option<ImageManifest>,
}

#[async_trait]
impl SharedTag for CosignTag<'_> {
    type Entry = Descriptor;
    type Content = CosignTagManifest;

    fn name(&self) -> String {
        let tag = self.tag_kind.tag_for(self.subject);
        format!("{}:{tag}", self.target.location())
    }

    fn has_other_writers(&self) -> bool {
        self.target.has_other_writers()
    }

    fn entries(content: &CosignTagManifest) -> &[Descriptor] {
        content
            .manifest
            .as_ref()
            .map_or(&[], |manifest| &manifest.layers)
    }

    /// One payload may be signed several times; the signature is in the annotations.
    fn is_same_entry(one: &Descriptor, other: &Descriptor) -> bool {
        is_same_layer(one, other)
    }

    fn check_entry_count(&self, count: usize) -> Result<(), OciError> {
        if count <= MAX_LAYERS {
            return Ok(());
        }
        Err(OciError::LimitExceeded {
            what: format!("the layers of {}", self.tag_kind.tag_for(self.subject)),
            size: count as u64,
            limit: MAX_LAYERS as u64,
        })
    }

    async fn read_content(&self) -> Result<CosignTagManifest, OciError> {
        let there =
            resolve_cosign_tag(self.target, self.tag_kind, self.subject, self.limits).await?;
        let manifest = there
            .as_ref()
            .map(|there| self.parse_tagged_manifest(there));
        Ok(CosignTagManifest {
            manifest: manifest.transpose()?,
            named: there.map(|there| there.descriptor.digest),
        })
    }

    /// Writes the tag, unless it changed since it was read: config and manifest are sent before.
    async fn write_content(
        &self,
        found: CosignTagManifest,
        missing: Vec<Descriptor>,
    ) -> Result<(), OciError> {
        let Some((manifest, config)) = manifest_with_layers(found.manifest.as_ref(), &missing)
        else {
            return Ok(());
        };
        let bytes = self.manifest_bytes(&manifest)?;
        let descriptor = Descriptor::of_bytes(media_type::MANIFEST, &bytes);
        let target = self.target;
        target
            .push_content(&manifest.config, PushContent::Bytes(&config.into()))
            .await?;
        target
            .push_content(&descriptor, PushContent::Bytes(&bytes.into()))
            .await?;
        let there = resolve_cosign_tag(target, self.tag_kind, self.subject, self.limits)
            .await?
            .map(|there| there.descriptor.digest);
        if there != found.named {
            return Ok(());
        }
        target
            .tag_manifest(&descriptor, &self.tag_kind.tag_for(self.subject))
            .await
    }

    fn not_kept_error(&self, cause: String) -> OciError {
        OciError::Unavailable {
            location: self.target.location(),
            cause: format!(
                "a layer of {} was lost: {cause}",
                self.tag_kind.tag_for(self.subject)
            ),
        }
    }
}

impl CosignTag<'_> {
    fn parse_tagged_manifest(&self, there: &ResolvedManifest) -> Result<ImageManifest, OciError> {
        match there.parse_document(self.limits)? {
            ManifestOrIndex::Manifest(manifest) => Ok(manifest),
            ManifestOrIndex::Index(_) => {
                let cause = format!(
                    "its {} tag names an index and not a manifest with signatures",
                    self.tag_kind.suffix()
                );
                Err(OciError::Malformed {
                    location: self.target.location(),
                    cause,
                })
            }
        }
    }

    fn manifest_bytes(&self, manifest: &ImageManifest) -> Result<Vec<u8>, OciError> {
        let bytes =
            serde_json::to_vec(manifest).map_err(|error| OciError::Invalid(error.to_string()))?;
        let limit = self.limits.manifest_bytes;
        if bytes.len() <= limit {
            return Ok(bytes);
        }
        Err(OciError::LimitExceeded {
            what: self.tag_kind.tag_for(self.subject).to_string(),
            size: bytes.len() as u64,
            limit: limit as u64,
        })
    }
}
