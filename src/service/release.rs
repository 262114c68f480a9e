//! The use case of this product: pack a lock, push the bundle, sign and attest it, tag it last.
//!
//! The command line does all of it in one process. A PackedBundle's two Jobs share it: one packs
//! and pushes ([`pack_and_push`]), the other derives every byte again
//! ([`super::rebuild_and_sign`]) before it signs and tags ([`sign_and_tag`]).

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::{
    copy::CopyError,
    pack::{PackService, PackServiceError, StoredBundle, push_bundle},
    publish::{PublishError, PublishOutcome, SigningRequest, TagAssignment, publish_bundle},
    release_context::ReleaseContext,
};
use crate::{
    core::{
        digest::Digest,
        lockfile::Lockfile,
        pack::{LayerCompression, PACK_FORMAT, PackOptions, ZSTD_LEVEL},
        provenance::{self, BuildParameters, BuildRun, RecordedCompression, RequestingObject},
        reason::{ClassifiedError, Reason},
        sbom::{SbomDocument, SbomError, SbomFormat},
        slsa::Provenance,
    },
    fetch::ArtifactOrigin,
    oci::{LocalContentStore, OciError, ResolvedManifest, fetch_content},
    signing::BundleSigner,
};

/// Where a bundle is packed.
#[derive(Clone)]
pub enum PackingStore {
    /// In the target, which is on this machine.
    Target(Arc<dyn LocalContentStore>),
    /// In a store on this machine, from which the bundle is copied to the target.
    Staging(Arc<dyn LocalContentStore>),
}

/// What is packed, and how.
#[derive(Clone, Copy, Debug)]
pub struct PackRequest<'a> {
    /// The lock.
    pub lock: &'a Lockfile,
    /// The options that shape the bundle's bytes.
    pub output: &'a PackOptions,
    /// Whether `file` origins may lie outside of the lock's folder.
    pub allow_outside: bool,
}

/// A bundle that was packed, and is at the target.
#[derive(Clone, Debug)]
pub struct PushedBundle {
    /// Its size, and where its artifacts came from.
    pub stored: StoredBundle,
    /// Its manifest or index.
    pub root: ResolvedManifest,
}

/// What is signed, and what is said about it.
#[derive(Clone, Copy)]
pub struct SignRequest<'a> {
    /// The bundle in the target.
    pub root: &'a ResolvedManifest,
    /// How it was packed.
    pub build: BuildRecord<'a>,
    /// The SBOM to attest, if any.
    pub sbom: Option<SbomFormat>,
    /// Signs it; `None` to leave it unsigned.
    pub signer: Option<&'a dyn BundleSigner>,
    /// The subject's name in statements: `registry/repository` without a tag. Empty where there is
    /// none.
    pub subject_name: &'a str,
    /// The tag to set, if any.
    pub tag: Option<TagAssignment<'a>>,
}

/// A bundle's build, for its provenance.
#[derive(Clone, Copy, Debug)]
pub struct BuildRecord<'a> {
    /// What was packed, and how.
    pub request: PackRequest<'a>,
    /// Digest of the canonical lock.
    pub lock_digest: Digest,
    /// The zstd library and its version, such as `libzstd 1.5.7`; `None` if the signer has not
    /// observed the packing, because it would be an unverified claim.
    pub zstd_encoder: Option<&'a str>,
    /// The actual download locations, by artifact name, where they differ from the origin. URLs
    /// without credentials.
    pub downloads: &'a BTreeMap<String, String>,
    /// The builder's id.
    pub builder_id: &'a str,
    /// The id of the run.
    pub invocation_id: &'a str,
    /// The start of the run.
    pub started_on: Timestamp,
    /// The object of a cluster that requested it. `None` on the command line.
    pub requested: Option<RequestingObject<'a>>,
}

/// What was signed, attested and tagged.
#[derive(Debug)]
pub struct ReleaseOutcome {
    /// The referrers that were written.
    pub published: PublishOutcome,
    /// The SBOM that was requested.
    pub sbom: Option<SbomDocument>,
}

/// Why a step of a release failed. Nothing was tagged.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The lock could not be packed.
    #[error(transparent)]
    Pack(#[from] PackServiceError),
    /// The bundle could not be copied to the target.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The target failed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// Its SBOM cannot be generated.
    #[error(transparent)]
    Sbom(#[from] SbomError),
    /// It could not be signed, attested, verified or tagged.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl ClassifiedError for ReleaseError {
    fn reason(&self) -> Reason {
        match self {
            Self::Pack(error) => error.reason(),
            Self::Copy(error) => error.reason(),
            Self::Oci(error) => error.reason(),
            Self::Sbom(error) => error.reason(),
            Self::Publish(error) => error.reason(),
        }
    }
}

/// Packs into `packing` and brings the bundle to the target, by digest: nothing is tagged.
pub async fn pack_and_push(
    context: &ReleaseContext<'_>,
    packing: &PackingStore,
    origin: Arc<dyn ArtifactOrigin>,
    request: PackRequest<'_>,
) -> Result<PushedBundle, ReleaseError> {
    let (PackingStore::Target(store) | PackingStore::Staging(store)) = packing;
    let stored = PackService::new(Arc::clone(store), origin, Arc::clone(&context.progress))
        .pack_lock(request.lock, request.output.clone(), request.allow_outside)
        .await?;
    let (root, limits) = (&stored.root, context.limits);
    let root = match packing {
        PackingStore::Target(store) => ResolvedManifest {
            descriptor: root.clone(),
            bytes: fetch_content(&**store, root, limits.manifest_bytes).await?,
        },
        PackingStore::Staging(store) => {
            push_bundle(&**store, context.target, root, limits, &*context.progress).await?
        }
    };
    Ok(PushedBundle { stored, root })
}

/// Signs the bundle, attests its provenance and SBOM, verifies the result, and tags it last.
///
/// What is *not* checked here: whether the bundle may be signed. The caller has packed it, or
/// derived it again.
pub async fn sign_and_tag(
    context: &ReleaseContext<'_>,
    request: SignRequest<'_>,
) -> Result<ReleaseOutcome, ReleaseError> {
    let build = &request.build;
    let PackRequest { lock, output, .. } = build.request;
    let sbom = request
        .sbom
        .map(|format| SbomDocument::new(format, lock, output.source_date_epoch))
        .transpose()?;
    let provenance = build.build_provenance(sbom.as_ref(), context.clock.now());
    let signing = request.signer.map(|signer| SigningRequest {
        signer,
        subject_name: request.subject_name,
        provenance: &provenance,
        lock: build.lock_digest,
        sbom: sbom.as_ref(),
    });
    let published = publish_bundle(context, request.root, signing, request.tag).await?;
    Ok(ReleaseOutcome { published, sbom })
}

impl BuildRecord<'_> {
    fn build_provenance(&self, sbom: Option<&SbomDocument>, finished_on: Timestamp) -> Provenance {
        let PackRequest {
            lock,
            output,
            allow_outside,
        } = self.request;
        let packed = BuildParameters {
            lock,
            lock_digest: self.lock_digest,
            pack_format: PACK_FORMAT,
            format: output.format.as_str(),
            compression: match (output.compression, self.zstd_encoder) {
                (LayerCompression::None, _) => RecordedCompression::Uncompressed,
                (LayerCompression::Zstd, Some(encoder)) => RecordedCompression::Zstd {
                    encoder,
                    level: ZSTD_LEVEL,
                },
                (LayerCompression::Zstd, None) => RecordedCompression::ZstdUnknownEncoder,
            },
            annotations: &output.annotations,
            allow_outside,
            source_date_epoch: output.source_date_epoch,
            downloads: self.downloads,
        };
        let run = BuildRun {
            builder_id: self.builder_id,
            version: env!("CARGO_PKG_VERSION"),
            invocation_id: self.invocation_id,
            started_on: self.started_on,
            finished_on,
            requested: self.requested,
            sbom,
        };
        provenance::build_provenance(&packed, &run)
    }
}
