//! cosign's tags beside a subject: found, gathered as evidence, and added to.

use std::time::Duration;

use super::evidence::is_its_own_fault;
use crate::{
    core::{
        class::Reason,
        digest::Digest,
        legacy::{Beside, with_layers},
        limits::Limits,
        media_type,
        oci::{Descriptor, Document, Manifest},
        reference::Selector,
        verify::{LegacyCandidate, Rejected},
    },
    oci::{Content, OciError, Resolved, Source, Target},
};

/// Attempts to get a layer under a tag while others write it too.
const ATTEMPTS: u32 = 24;
/// Looks whether a layer is still there after it was written.
const LOOKS: u32 = 2;
/// Wait before the first look; the second is twice as long, and none of them begins with that of
/// another writer.
const WAIT: Duration = Duration::from_millis(60);

/// What the tag beside `subject` names, if it is there.
pub(super) async fn find(
    source: &dyn Source,
    beside: Beside,
    subject: &Digest,
    limits: &Limits,
) -> Result<Option<Resolved>, OciError> {
    match source
        .resolve(&Selector::Tag(beside.tag(subject)), limits)
        .await
    {
        Ok(found) => Ok(Some(found)),
        Err(OciError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What was found under the tags, before its layers are fetched.
#[derive(Default)]
pub(super) struct Found {
    pub(super) layers: Vec<Place>,
    /// Configs of their manifests, of which somebody may want to see every byte.
    pub(super) configs: Vec<(Beside, Digest, Descriptor)>,
    pub(super) unread: Vec<Rejected>,
}

/// A layer of such a manifest.
pub(super) struct Place {
    pub(super) beside: Beside,
    pub(super) manifest: Digest,
    pub(super) position: usize,
    pub(super) layer: Descriptor,
}

/// Reads the manifests under `.sig` and `.att`. That there is none is no error; a registry that
/// does not answer or refuses is.
pub(super) async fn read(
    source: &dyn Source,
    subject: &Digest,
    limits: &Limits,
) -> Result<Found, OciError> {
    let (signatures, attestations) = futures::try_join!(
        read_one(source, Beside::Signatures, subject, limits),
        read_one(source, Beside::Attestations, subject, limits)
    )?;
    Ok(signatures.and(attestations))
}

async fn read_one(
    source: &dyn Source,
    beside: Beside,
    subject: &Digest,
    limits: &Limits,
) -> Result<Found, OciError> {
    match find(source, beside, subject, limits).await {
        Ok(Some(found)) => Ok(Found::of(beside, &found, limits)),
        Ok(None) => Ok(Found::default()),
        // There is no digest that it could be called by but the subject's.
        Err(error) if is_its_own_fault(&error) => Ok(Found::unread(LegacyCandidate::unread(
            beside, *subject, None, &error,
        ))),
        Err(error) => Err(error),
    }
}

impl Found {
    fn unread(rejected: Rejected) -> Self {
        Self {
            unread: vec![rejected],
            ..Self::default()
        }
    }

    fn of(beside: Beside, found: &Resolved, limits: &Limits) -> Self {
        let digest = found.descriptor.digest;
        let manifest = match found.document(limits) {
            Ok(Document::Manifest(manifest)) => manifest,
            Ok(Document::Index(_)) => return Self::unread(LegacyCandidate::index(beside, digest)),
            Err(error) => {
                return Self::unread(LegacyCandidate::unread(beside, digest, None, &error));
            }
        };
        let layers = manifest
            .layers
            .into_iter()
            .enumerate()
            .filter(|(_, layer)| beside.layer_type() == Some(layer.media_type.as_str()));
        let layers = layers.map(|(at, layer)| Place {
            beside,
            manifest: digest,
            position: at + 1,
            layer,
        });
        Self {
            layers: layers.collect(),
            configs: vec![(beside, digest, manifest.config)],
            unread: Vec::new(),
        }
    }

    fn and(mut self, other: Self) -> Self {
        self.layers.extend(other.layers);
        self.configs.extend(other.configs);
        self.unread.extend(other.unread);
        self
    }

    /// Leaves `limit` layers, and says how many were too many.
    pub(super) fn truncate(&mut self, limit: usize) -> usize {
        let over = self.layers.len().saturating_sub(limit);
        self.layers.truncate(limit);
        over
    }

    /// Is there something that was not read because it is too large?
    pub(super) fn is_too_large(&self) -> bool {
        self.unread
            .iter()
            .any(|rejected| rejected.reason == Reason::LimitExceeded)
    }
}

/// Adds layers, whose blobs are there, to what the tag beside `subject` names. What is there stays;
/// what others add meanwhile as well.
///
/// A registry protects nothing between reading a tag and writing it. So the tag is read again right
/// before it is written, and a few times afterwards: whoever overwrites what others wrote is
/// noticed by these, and they write again.
///
/// Errors: something else than a manifest is under the tag, or others write it all the time.
pub(super) async fn add(
    target: &dyn Target,
    beside: Beside,
    subject: &Digest,
    layers: &[Descriptor],
    limits: &Limits,
) -> Result<Digest, OciError> {
    let (mut attempts, mut looks) = (0, 0);
    while attempts < ATTEMPTS {
        let there = find(target, beside, subject, limits).await?;
        let named = there.as_ref().map(|there| there.descriptor.digest);
        let before = there
            .as_ref()
            .map(|there| manifest(target, beside, there, limits))
            .transpose()?;
        match (with_layers(before.as_ref(), layers), named) {
            (None, Some(named)) => {
                // On this machine nobody else writes meanwhile.
                if looks == LOOKS || target.requests() == 0 {
                    return Ok(named);
                }
                looks += 1;
                tokio::time::sleep(WAIT * looks + Duration::from_millis(named.bytes()[0].into()))
                    .await;
            }
            (None, None) => return Err(OciError::Invalid("there is nothing to add".into())),
            (Some(next), _) => {
                attempts += 1;
                looks = 0;
                write(target, beside, subject, next, named, limits).await?;
            }
        }
    }
    let cause = format!(
        "a layer was lost from {} {ATTEMPTS} times while others wrote it",
        beside.tag(subject)
    );
    Err(OciError::Unavailable {
        location: target.location(),
        cause,
    })
}

fn manifest(
    target: &dyn Target,
    beside: Beside,
    there: &Resolved,
    limits: &Limits,
) -> Result<Manifest, OciError> {
    match there.document(limits)? {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => {
            let cause = format!(
                "its {} tag names an index and not a manifest with signatures",
                beside.suffix()
            );
            Err(OciError::Malformed {
                location: target.location(),
                cause,
            })
        }
    }
}

/// Writes the tag, unless it no longer names what was read.
async fn write(
    target: &dyn Target,
    beside: Beside,
    subject: &Digest,
    (manifest, config): (Manifest, Vec<u8>),
    named: Option<Digest>,
    limits: &Limits,
) -> Result<(), OciError> {
    let bytes =
        serde_json::to_vec(&manifest).map_err(|error| OciError::Invalid(error.to_string()))?;
    if bytes.len() > limits.manifest_bytes {
        let what = beside.tag(subject).to_string();
        return Err(OciError::LimitExceeded {
            what,
            size: bytes.len() as u64,
            limit: limits.manifest_bytes as u64,
        });
    }
    let descriptor = Descriptor::of(media_type::MANIFEST, &bytes);
    target
        .push(&manifest.config, Content::Bytes(&config.into()))
        .await?;
    target
        .push(&descriptor, Content::Bytes(&bytes.into()))
        .await?;
    let there = find(target, beside, subject, limits)
        .await?
        .map(|there| there.descriptor.digest);
    if there != named {
        return Ok(());
    }
    target.tag(&descriptor, &beside.tag(subject)).await
}
