//! Pieces of evidence: what each costs to read, how it is read, and how it is judged when it was.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{Reading, is_its_own_fault};
use crate::{
    core::{
        class::{Classified, Reason},
        digest::Digest,
        limits::Limits,
        oci::{Descriptor, Document, Manifest},
        verify::{Candidate, EvidenceVerifier, LegacyCandidate, Rejected, bundle_layer},
    },
    oci::{OciError, Source, embedded, fetch_stored},
    service::beside::Place,
};

/// Something was not read.
#[derive(Debug, thiserror::Error)]
#[error(
    "it was not read: it has {size} bytes, and of the {limit} bytes of evidence that are read for \
        one digest {left} are left; delete what is not needed"
)]
pub(super) struct NothingLeft {
    pub(super) size: u64,
    pub(super) left: u64,
    pub(super) limit: u64,
}

impl Classified for NothingLeft {
    fn reason(&self) -> Reason {
        Reason::LimitExceeded
    }
}

/// Something that is read.
pub(super) trait Piece {
    /// Its bytes, as they are declared. Of what is larger than such a thing may be nothing is read.
    fn size(&self, limits: &Limits) -> u64;
    /// That it was not read.
    fn unread(&self, error: &dyn Classified) -> Vec<Rejected>;
}

const fn readable(descriptor: &Descriptor, limit: usize) -> u64 {
    if descriptor.size <= limit as u64 {
        descriptor.size
    } else {
        0
    }
}

/// A referrer.
impl Piece for Descriptor {
    fn size(&self, limits: &Limits) -> u64 {
        readable(self, limits.manifest_bytes)
    }

    fn unread(&self, error: &dyn Classified) -> Vec<Rejected> {
        vec![Rejected::unread(self.digest, error)]
    }
}

/// A referrer whose manifest was read, with what must still be.
pub(super) struct Stored {
    referrer: Descriptor,
    config: Option<Descriptor>,
    /// Its manifest and the layer in it that is a Sigstore bundle.
    bundle: Option<(Document, Descriptor)>,
}

impl Piece for Stored {
    fn size(&self, limits: &Limits) -> u64 {
        let config = self
            .config
            .as_ref()
            .map_or(0, |config| readable(config, limits.config_bytes));
        config
            + self.bundle.as_ref().map_or(0, |(_, layer)| {
                readable(layer, limits.sigstore_bundle_bytes)
            })
    }

    fn unread(&self, error: &dyn Classified) -> Vec<Rejected> {
        vec![Rejected::unread(self.referrer.digest, error)]
    }
}

/// A payload under one of cosign's tags, with all signatures over it.
impl Piece for Vec<Place> {
    fn size(&self, limits: &Limits) -> u64 {
        self.first().map_or(0, |place| {
            readable(&place.layer, limits.sigstore_bundle_bytes)
        })
    }

    fn unread(&self, error: &dyn Classified) -> Vec<Rejected> {
        self.iter()
            .map(|place| {
                LegacyCandidate::unread(place.beside, place.manifest, Some(place.position), error)
            })
            .collect()
    }
}

/// What was read of a piece, or that it is nobody else's fault that it was not.
pub(super) type Read<T, B> = (T, Result<B, OciError>);

/// Something that holds, and for whose statement there was no memory.
pub(super) enum Again {
    Bundle(Box<Candidate>),
    Layer(Box<LegacyCandidate>),
}

impl Again {
    pub(super) fn judge(
        self,
        verifier: &mut EvidenceVerifier,
        stopped: &dyn Fn() -> bool,
    ) -> Option<Self> {
        let judged = match &self {
            Self::Bundle(candidate) => verifier.judge(candidate, stopped),
            Self::Layer(candidate) => verifier.judge_legacy(candidate, stopped),
        };
        (!judged).then_some(self)
    }
}

/// Reads what the manifest names. Nothing but digests and sizes is checked of the config.
pub(super) async fn fetch_bundle(
    source: &dyn Source,
    piece: &Stored,
    limits: &Limits,
) -> Result<Option<Bytes>, OciError> {
    if let Some(config) = &piece.config {
        fetch_stored(source, config, limits.config_bytes).await?;
    }
    match &piece.bundle {
        Some((_, layer)) => fetch_stored(source, layer, limits.sigstore_bundle_bytes)
            .await
            .map(Some),
        None => Ok(None),
    }
}

pub(super) fn smallest_first<T: Piece>(mut pieces: Vec<T>, limits: &Limits) -> VecDeque<T> {
    pieces.sort_by_key(|piece| piece.size(limits));
    pieces.into()
}

/// The first fault that is the registry's, if there is one.
pub(super) fn only_own_faults<T, B>(all: Vec<Read<T, B>>) -> Result<Vec<Read<T, B>>, OciError> {
    let mut kept = Vec::with_capacity(all.len());
    for (piece, read) in all {
        match read {
            Err(error) if !is_its_own_fault(&error) => return Err(error),
            read => kept.push((piece, read)),
        }
    }
    Ok(kept)
}

/// Judges the bundles that lie in their manifests. What lies elsewhere is returned.
pub(super) fn open_manifests(
    verifier: &mut EvidenceVerifier,
    read: Vec<Read<Descriptor, Bytes>>,
    subject: &Digest,
    reading: Reading,
    limits: &Limits,
    stopped: &dyn Fn() -> bool,
) -> (Vec<Again>, Vec<Stored>) {
    let (mut again, mut stored) = (Vec::new(), Vec::new());
    for (referrer, bytes) in read {
        let document =
            bytes.and_then(|bytes| Ok(Document::parse(&referrer.media_type, &bytes, limits)?));
        let document = match document {
            Ok(document) => document,
            Err(error) => {
                verifier.reject(Rejected::unread(referrer.digest, &error));
                continue;
            }
        };
        let config = match &document {
            Document::Manifest(manifest) if reading == Reading::EveryBlob => {
                Some(manifest.config.bare())
            }
            _ => None,
        };
        let layer = match bundle_layer(&document, subject) {
            Ok(layer) => layer.cloned(),
            Err(error) => {
                verifier.reject(Rejected::new(referrer.digest, &error));
                None
            }
        };
        let embedded = layer
            .as_ref()
            .filter(|_| reading == Reading::Needed)
            .and_then(|layer| embedded(layer, limits.sigstore_bundle_bytes));
        let (referrer, bundle) = (
            referrer.bare(),
            layer.map(|layer| (bundle_alone(&document, &layer), layer.bare())),
        );
        match (bundle, embedded) {
            (Some((manifest, _)), Some(content)) => {
                again.extend(
                    Again::Bundle(Box::new(Candidate {
                        referrer,
                        manifest,
                        content,
                    }))
                    .judge(verifier, stopped),
                );
            }
            (bundle, _) if bundle.is_some() || config.is_some() => stored.push(Stored {
                referrer,
                config,
                bundle,
            }),
            _ => {}
        }
    }
    (again, stored)
}

/// A manifest with nothing in it but what its bundle is verified by.
fn bundle_alone(document: &Document, layer: &Descriptor) -> Document {
    Document::Manifest(Manifest {
        schema_version: 2,
        media_type: None,
        artifact_type: None,
        config: Descriptor::empty(),
        layers: vec![layer.bare()],
        subject: document.subject().map(Descriptor::bare),
        annotations: BTreeMap::new(),
    })
}

pub(super) fn judge_bundles(
    verifier: &mut EvidenceVerifier,
    read: Vec<Read<Stored, Option<Bytes>>>,
    stopped: &dyn Fn() -> bool,
) -> Vec<Again> {
    let mut again = Vec::new();
    for (
        Stored {
            referrer, bundle, ..
        },
        content,
    ) in read
    {
        match (content, bundle) {
            (Err(error), _) => verifier.reject(Rejected::unread(referrer.digest, &error)),
            (Ok(Some(content)), Some((manifest, _))) => {
                again.extend(
                    Again::Bundle(Box::new(Candidate {
                        referrer,
                        manifest,
                        content,
                    }))
                    .judge(verifier, stopped),
                );
            }
            (Ok(_), _) => {}
        }
    }
    again
}

pub(super) fn judge_layers(
    verifier: &mut EvidenceVerifier,
    read: Vec<Read<Vec<Place>, Bytes>>,
    stopped: &dyn Fn() -> bool,
) -> Vec<Again> {
    let mut again = Vec::new();
    for (places, content) in read {
        match content {
            Err(error) => places
                .unread(&error)
                .into_iter()
                .for_each(|rejected| verifier.reject(rejected)),
            Ok(content) => {
                for Place {
                    beside,
                    manifest,
                    position,
                    layer,
                } in places
                {
                    let candidate = LegacyCandidate {
                        beside,
                        manifest,
                        position,
                        layer,
                        content: content.clone(),
                    };
                    again.extend(Again::Layer(Box::new(candidate)).judge(verifier, stopped));
                }
            }
        }
    }
    again
}
