//! Evidence items: the size of each, how it is read, and how it is verified.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::read_errors::EvidenceRead;
use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        oci::{Descriptor, ImageManifest, ManifestOrIndex},
        reason::ClassifiedError,
        verify::{
            CosignTagCandidate, EvidenceVerifier, ReferrerCandidate, RejectedEvidence,
            sigstore_bundle_layer,
        },
    },
    oci::{ContentSource, OciError, embedded_content, fetch_stored_content},
    service::{cosign_tags::CosignTagLayer, verification_request::EvidenceDepth},
};

/// An evidence item to read.
pub(super) trait EvidenceItem {
    /// Its declared size in bytes. An item over its size limit is not read at all: 0.
    fn read_size(&self, limits: &InputLimits) -> u64;
    /// The rejection of an item that was not read.
    fn reject_unread(&self, error: &dyn ClassifiedError) -> Vec<RejectedEvidence>;
}

const fn readable_size(descriptor: &Descriptor, limit: usize) -> u64 {
    if descriptor.size <= limit as u64 {
        descriptor.size
    } else {
        0
    }
}

/// A referrer.
impl EvidenceItem for Descriptor {
    fn read_size(&self, limits: &InputLimits) -> u64 {
        readable_size(self, limits.manifest_bytes)
    }

    fn reject_unread(&self, error: &dyn ClassifiedError) -> Vec<RejectedEvidence> {
        vec![RejectedEvidence::from_read_error(self.digest, error)]
    }
}

/// A referrer whose manifest was read, with the content still to read.
pub(super) struct PendingReferrer {
    referrer: Descriptor,
    config: Option<Descriptor>,
    /// Its manifest and the layer in it that is a Sigstore bundle.
    bundle: Option<(ManifestOrIndex, Descriptor)>,
}

impl PendingReferrer {
    /// `layer` is the Sigstore bundle in `document`, if there is one.
    fn new(
        referrer: &Descriptor,
        document: &ManifestOrIndex,
        layer: Option<&Descriptor>,
        reading: EvidenceDepth,
    ) -> Self {
        let config = match document {
            ManifestOrIndex::Manifest(manifest) if reading == EvidenceDepth::EveryBlob => {
                Some(manifest.config.without_metadata())
            }
            _ => None,
        };
        Self {
            referrer: referrer.without_metadata(),
            config,
            bundle: layer
                .map(|layer| (minimal_manifest(document, layer), layer.without_metadata())),
        }
    }
}

impl EvidenceItem for PendingReferrer {
    fn read_size(&self, limits: &InputLimits) -> u64 {
        let config = self
            .config
            .as_ref()
            .map_or(0, |config| readable_size(config, limits.config_bytes));
        config
            + self.bundle.as_ref().map_or(0, |(_, layer)| {
                readable_size(layer, limits.sigstore_bundle_bytes)
            })
    }

    fn reject_unread(&self, error: &dyn ClassifiedError) -> Vec<RejectedEvidence> {
        vec![RejectedEvidence::from_read_error(
            self.referrer.digest,
            error,
        )]
    }
}

/// A payload under one of cosign's tags, with all signatures over it.
impl EvidenceItem for Vec<CosignTagLayer> {
    fn read_size(&self, limits: &InputLimits) -> u64 {
        self.first().map_or(0, |place| {
            readable_size(&place.layer, limits.sigstore_bundle_bytes)
        })
    }

    fn reject_unread(&self, error: &dyn ClassifiedError) -> Vec<RejectedEvidence> {
        self.iter()
            .map(|place| {
                CosignTagCandidate::rejected_unread(
                    place.tag_kind,
                    place.manifest,
                    Some(place.position),
                    error,
                )
            })
            .collect()
    }
}

/// Valid evidence whose statement did not fit into memory.
pub(super) enum DeferredEvidence {
    Bundle(Box<ReferrerCandidate>),
    Layer(Box<CosignTagCandidate>),
}

impl DeferredEvidence {
    pub(super) fn verify_again(
        self,
        verifier: &mut EvidenceVerifier,
        stopped: &dyn Fn() -> bool,
    ) -> Option<Self> {
        let judged = match &self {
            Self::Bundle(candidate) => verifier.verify_referrer(candidate, stopped),
            Self::Layer(candidate) => verifier.verify_cosign_tag_layer(candidate, stopped),
        };
        (!judged).then_some(self)
    }
}

/// Reads the content of the manifest. Of the config only digest and size are checked.
pub(super) async fn fetch_referrer_bundle(
    source: &dyn ContentSource,
    item: &PendingReferrer,
    limits: &InputLimits,
) -> Result<Option<Bytes>, OciError> {
    if let Some(config) = &item.config {
        fetch_stored_content(source, config, limits.config_bytes).await?;
    }
    match &item.bundle {
        Some((_, layer)) => fetch_stored_content(source, layer, limits.sigstore_bundle_bytes)
            .await
            .map(Some),
        None => Ok(None),
    }
}

pub(super) fn smallest_first<T: EvidenceItem>(
    mut pieces: Vec<T>,
    limits: &InputLimits,
) -> VecDeque<T> {
    pieces.sort_by_key(|item| item.read_size(limits));
    pieces.into()
}

/// Verifies the bundles that are embedded in their manifests. Returns the others.
pub(super) fn open_manifests(
    verifier: &mut EvidenceVerifier,
    read: Vec<EvidenceRead<Descriptor, Bytes>>,
    subject: &Digest,
    reading: EvidenceDepth,
    limits: &InputLimits,
    stopped: &dyn Fn() -> bool,
) -> (Vec<DeferredEvidence>, Vec<PendingReferrer>) {
    let (mut again, mut stored) = (Vec::new(), Vec::new());
    for (referrer, bytes) in read {
        let document = bytes.and_then(|bytes| {
            Ok(ManifestOrIndex::parse(
                &referrer.media_type,
                &bytes,
                limits,
            )?)
        });
        let document = match document {
            Ok(document) => document,
            Err(error) => {
                verifier
                    .record_rejection(RejectedEvidence::from_read_error(referrer.digest, &error));
                continue;
            }
        };
        let layer = match sigstore_bundle_layer(&document, subject) {
            Ok(layer) => layer.cloned(),
            Err(error) => {
                verifier.record_rejection(RejectedEvidence::new(referrer.digest, &error));
                None
            }
        };
        let embedded = layer
            .as_ref()
            .filter(|_| reading == EvidenceDepth::Needed)
            .and_then(|layer| embedded_content(layer, limits.sigstore_bundle_bytes));
        let pending = PendingReferrer::new(&referrer, &document, layer.as_ref(), reading);
        match (pending.bundle, embedded) {
            (Some((manifest, _)), Some(content)) => {
                again.extend(
                    DeferredEvidence::Bundle(Box::new(ReferrerCandidate {
                        referrer: pending.referrer,
                        manifest,
                        content,
                    }))
                    .verify_again(verifier, stopped),
                );
            }
            (bundle, _) if bundle.is_some() || pending.config.is_some() => {
                stored.push(PendingReferrer { bundle, ..pending });
            }
            _ => {}
        }
    }
    (again, stored)
}

/// A manifest with only the fields that are needed to verify its bundle.
fn minimal_manifest(document: &ManifestOrIndex, layer: &Descriptor) -> ManifestOrIndex {
    ManifestOrIndex::Manifest(ImageManifest {
        schema_version: 2,
        media_type: None,
        artifact_type: None,
        config: Descriptor::empty(),
        layers: vec![layer.without_metadata()],
        subject: document.subject().map(Descriptor::without_metadata),
        annotations: BTreeMap::new(),
    })
}

pub(super) fn verify_bundles(
    verifier: &mut EvidenceVerifier,
    read: Vec<EvidenceRead<PendingReferrer, Option<Bytes>>>,
    stopped: &dyn Fn() -> bool,
) -> Vec<DeferredEvidence> {
    let mut again = Vec::new();
    for (
        PendingReferrer {
            referrer, bundle, ..
        },
        content,
    ) in read
    {
        match (content, bundle) {
            (Err(error), _) => verifier
                .record_rejection(RejectedEvidence::from_read_error(referrer.digest, &error)),
            (Ok(Some(content)), Some((manifest, _))) => {
                again.extend(
                    DeferredEvidence::Bundle(Box::new(ReferrerCandidate {
                        referrer,
                        manifest,
                        content,
                    }))
                    .verify_again(verifier, stopped),
                );
            }
            (Ok(_), _) => {}
        }
    }
    again
}

pub(super) fn verify_tag_layers(
    verifier: &mut EvidenceVerifier,
    read: Vec<EvidenceRead<Vec<CosignTagLayer>, Bytes>>,
    stopped: &dyn Fn() -> bool,
) -> Vec<DeferredEvidence> {
    let mut again = Vec::new();
    for (places, content) in read {
        match content {
            Err(error) => places
                .reject_unread(&error)
                .into_iter()
                .for_each(|rejected| verifier.record_rejection(rejected)),
            Ok(content) => {
                for CosignTagLayer {
                    tag_kind,
                    manifest,
                    position,
                    layer,
                } in places
                {
                    let candidate = CosignTagCandidate {
                        tag_kind,
                        manifest,
                        position,
                        layer,
                        content: content.clone(),
                    };
                    again.extend(
                        DeferredEvidence::Layer(Box::new(candidate))
                            .verify_again(verifier, stopped),
                    );
                }
            }
        }
    }
    again
}
