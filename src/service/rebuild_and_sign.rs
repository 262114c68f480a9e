//! Rebuilds a bundle and signs it: a bundle that another party packed is signed only after every
//! byte of it was derived again from the lock.
//!
//! Of the packing side's claims only the digest is used. The lock, the output and the terms are the
//! [`JobInputs`] that the controller froze; the bundle's small documents are derived again from the
//! lock and compared ([`super::bundle_contents`]), and each layer is read completely and compared
//! ([`super::layer`]). The provenance contains what these inputs say, and nothing else.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};

use super::{
    bundle_contents::{self, BundleContents, BundleContentsError},
    layer::{self, DiscardLayerFiles, ExpectedLayer, LayerError},
    progress::Progress,
    publish::{PublishOutcome, TagAssignment},
    release::{self, BuildRecord, PackRequest, ReleaseError, ReleaseOutcome, SignRequest},
    release_context::ReleaseContext,
};
use crate::{
    core::{
        digest::Digest,
        intoto::COSIGN_SIGN,
        job::{EvidenceDigest, JobInputs, JobInputsError, JobSigningMode, JobSuccess},
        limits::InputLimits,
        pack::{BundleFormatError, PackError, PackOptions, PackPlan},
        provenance::RequestingObject,
        reason::{ClassifiedError, Reason},
        reference::TagOrDigest,
        slsa::PROVENANCE_V1,
    },
    oci::{ContentSource, OciError, ResolvedManifest},
    signing::BundleSigner,
};

/// Layers compared concurrently. More would not be faster: the work is hashing.
const PARALLEL: usize = 2;

/// Why a bundle was not signed. Nothing was tagged.
#[derive(Debug, thiserror::Error)]
pub enum RebuildAndSignError {
    /// The inputs are invalid.
    #[error(transparent)]
    Inputs(#[from] JobInputsError),
    /// The mode requires a signature, and there is no key.
    #[error("signing mode is {0:?}, but no signer was given; give --key or --identity-token-file")]
    NoSigner(JobSigningMode),
    /// The registry failed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// It differs from what packing the lock in it gives.
    #[error(transparent)]
    Contents(#[from] BundleContentsError),
    /// The bundle contains another lock.
    #[error("bundle embeds the lock {found}, the frozen lock is {expected}")]
    OtherLock {
        /// The digest of the frozen lock.
        expected: Digest,
        /// The digest of the lock in the bundle.
        found: Digest,
    },
    /// It was packed with other options.
    #[error("bundle was packed as {found}, {expected} was asked for")]
    OtherOutput {
        /// The requested output.
        expected: String,
        /// The actual one.
        found: String,
    },
    /// The digest is only a part of a bundle, such as one platform's manifest.
    #[error("{0} is not the whole bundle that packing the frozen lock gives")]
    OtherRoot(Digest),
    /// The frozen lock cannot be packed with these options.
    #[error(transparent)]
    Plan(#[from] PackError),
    /// A layer differs from the lock.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// It could not be signed, attested, verified or tagged.
    #[error(transparent)]
    Release(#[from] Box<ReleaseError>),
}

impl ClassifiedError for RebuildAndSignError {
    fn reason(&self) -> Reason {
        match self {
            Self::Inputs(error) => error.reason(),
            Self::NoSigner(_) => Reason::NoSigner,
            Self::Oci(error) => error.reason(),
            // The pushed bundle is not the requested one.
            Self::Contents(BundleContentsError::Embedded(
                BundleFormatError::NotABundle | BundleFormatError::PackFormat(_),
            ))
            | Self::OtherLock { .. }
            | Self::OtherOutput { .. }
            | Self::OtherRoot(_) => Reason::LockMismatch,
            Self::Contents(error) => error.reason(),
            Self::Plan(error) => error.reason(),
            Self::Layer(error) => error.reason(),
            Self::Release(error) => error.reason(),
        }
    }
}

/// Rebuilds and signs the bundle `digest` in the target, the destination of `inputs`: derives it
/// again, and unless the mode is `None` signs, attests, verifies and tags it.
pub async fn rebuild_and_sign(
    context: &ReleaseContext<'_>,
    digest: &Digest,
    inputs: &JobInputs,
    signer: Option<&dyn BundleSigner>,
) -> Result<JobSuccess, RebuildAndSignError> {
    let signer = signer_for(inputs.signing.mode, signer)?;
    let repository = inputs.destination_repository()?.to_string();
    let tag = inputs.destination_tag()?;
    let (target, limits) = (context.target, context.limits);
    let (root, contents) = open_pushed_bundle(target, digest, limits).await?;
    check_matches_inputs(&contents, &root, inputs)?;
    compare_layers(target, &contents, &*context.progress).await?;
    let assignment = tag.as_ref().map(|tag| TagAssignment {
        tag,
        policy: inputs.destination.tag_policy,
    });
    let invocation_id = invocation_id(inputs);
    let request = SignRequest {
        root: &root,
        build: build_record(&contents, inputs, &invocation_id),
        sbom: inputs.sbom,
        signer,
        subject_name: &repository,
        // An unsigned bundle gets no tag in a cluster.
        tag: signer.and(assignment),
    };
    let released = release::sign_and_tag(context, request)
        .await
        .map_err(Box::new)?;
    Ok(JobSuccess {
        lock_digest: inputs.lock_digest,
        digest: *digest,
        size: contents.total_size()?,
        layers: contents.layer_count(),
        artifacts: contents.lock.artifacts.len(),
        evidence: evidence_digests(&released),
    })
}

fn signer_for(
    mode: JobSigningMode,
    signer: Option<&dyn BundleSigner>,
) -> Result<Option<&dyn BundleSigner>, RebuildAndSignError> {
    match (mode, signer) {
        (JobSigningMode::None, _) => Ok(None),
        (JobSigningMode::Platform | JobSigningMode::Namespace, None) => {
            Err(RebuildAndSignError::NoSigner(mode))
        }
        (JobSigningMode::Platform | JobSigningMode::Namespace, signer) => Ok(signer),
    }
}

async fn open_pushed_bundle(
    source: &dyn ContentSource,
    digest: &Digest,
    limits: &InputLimits,
) -> Result<(ResolvedManifest, BundleContents), RebuildAndSignError> {
    let root = source
        .resolve_manifest(&TagOrDigest::Digest(*digest), limits)
        .await?;
    let contents = bundle_contents::open_bundle(source, &root, limits).await?;
    Ok((root, contents))
}

/// Checks that it is the whole bundle of this lock, with these options.
fn check_matches_inputs(
    contents: &BundleContents,
    root: &ResolvedManifest,
    inputs: &JobInputs,
) -> Result<(), RebuildAndSignError> {
    let found = contents.plan.lock.digest;
    if found != inputs.lock_digest {
        return Err(RebuildAndSignError::OtherLock {
            expected: inputs.lock_digest,
            found,
        });
    }
    if contents.plan.output != inputs.output {
        return Err(RebuildAndSignError::OtherOutput {
            expected: describe_output(&inputs.output),
            found: describe_output(&contents.plan.output),
        });
    }
    let plan = PackPlan::new(&contents.lock, inputs.output.clone())?;
    let whole = plan.platforms().len() == contents.parts.len()
        && plan
            .bundle_digest_and_index(&contents.manifest_descriptors())?
            .0
            == root.descriptor.digest;
    if whole {
        Ok(())
    } else {
        Err(RebuildAndSignError::OtherRoot(root.descriptor.digest))
    }
}

fn describe_output(output: &PackOptions) -> String {
    let PackOptions {
        format,
        compression,
        source_date_epoch,
        annotations,
    } = output;
    let epoch = source_date_epoch.map_or_else(|| "none".to_owned(), |seconds| seconds.to_string());
    format!(
        "{}/{} with {} annotations and sourceDateEpoch {epoch}",
        format.as_str(),
        compression.as_str(),
        annotations.len()
    )
}

/// Reads every layer of every manifest completely and compares each byte with the lock.
async fn compare_layers(
    source: &dyn ContentSource,
    contents: &BundleContents,
    progress: &dyn Progress,
) -> Result<(), LayerError> {
    let layers = contents.parts.iter().flat_map(|part| &part.layers);
    progress.begin_task(
        "comparing",
        Some(
            layers
                .map(|layer| layer.descriptor.size)
                .fold(0, u64::saturating_add),
        ),
    );
    let mut outcome = Ok(());
    for part in &contents.parts {
        let manifest = contents.manifest_plan(part);
        let layer = |(index, (plan, blob))| ExpectedLayer {
            number: index + 1,
            platform: part.platform.as_ref(),
            plan,
            blob,
            format: contents.plan.output.format,
        };
        let comparisons: Vec<_> = manifest
            .layers
            .iter()
            .zip(&part.layers)
            .enumerate()
            .map(layer)
            .map(|layer| async move {
                layer::compare_layer(source, layer, DiscardLayerFiles).await?;
                progress.advance_bytes(layer.blob.descriptor.size);
                Ok::<_, LayerError>(())
            })
            .collect();
        outcome = stream::iter(comparisons)
            .buffer_unordered(PARALLEL)
            .try_collect::<Vec<()>>()
            .await
            .map(drop);
        if outcome.is_err() {
            break;
        }
    }
    progress.end_task();
    outcome.map(drop)
}

/// The build, from the inputs. Where the packing side really fetched its artifacts, and which encoder
/// it used, are unverified claims and are not part of it.
fn build_record<'a>(
    contents: &'a BundleContents,
    inputs: &'a JobInputs,
    invocation_id: &'a str,
) -> BuildRecord<'a> {
    static NO_DOWNLOADS: BTreeMap<String, String> = BTreeMap::new();
    let JobInputs {
        bundle,
        started_on,
        source,
        output,
        signing,
        packer,
        ..
    } = inputs;
    BuildRecord {
        request: PackRequest {
            lock: &contents.lock,
            output,
            allow_outside: false,
        },
        lock_digest: inputs.lock_digest,
        zstd_encoder: None,
        downloads: &NO_DOWNLOADS,
        builder_id: &signing.builder_id,
        invocation_id,
        started_on: *started_on,
        requested: Some(RequestingObject {
            namespace: &bundle.namespace,
            name: &bundle.name,
            uid: &bundle.uid,
            lock_uri: &source.uri,
            packer: packer
                .as_ref()
                .map(|packer| (packer.uri.as_str(), packer.digest)),
        }),
    }
}

fn invocation_id(inputs: &JobInputs) -> String {
    let JobInputs {
        run,
        bundle,
        cluster,
        ..
    } = inputs;
    format!(
        "{cluster}/{}/{}/{}/{}",
        bundle.namespace,
        bundle.name,
        bundle.generation,
        run.sign_job_name()
    )
}

fn evidence_digests(released: &ReleaseOutcome) -> Vec<EvidenceDigest> {
    match &released.published {
        PublishOutcome::Unsigned => Vec::new(),
        PublishOutcome::Signed {
            signature,
            provenance,
            sbom,
        } => {
            let sbom = sbom
                .zip(released.sbom.as_ref())
                .map(|(digest, sbom)| (sbom.predicate_type(), digest));
            let all = [(COSIGN_SIGN, *signature), (PROVENANCE_V1, *provenance)]
                .into_iter()
                .chain(sbom);
            all.map(|(predicate_type, digest)| EvidenceDigest {
                predicate_type: predicate_type.into(),
                digest,
            })
            .collect()
        }
    }
}
