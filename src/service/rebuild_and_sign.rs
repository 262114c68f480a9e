//! Rebuilds a bundle and signs it: a bundle that another party packed is signed only after every
//! byte of it was derived again from the lock.
//!
//! Of the packing side's claims only the digest is used. The lock, the output and the terms are the
//! [`JobInputs`] that the controller froze; the bundle's small documents are derived again from the
//! lock and compared ([`super::bundle_contents`]), and each layer is read completely and compared
//! ([`super::layer`]). The provenance contains what these inputs say, and nothing else.

use futures::{StreamExt, TryStreamExt, stream};

use super::{
    bundle_contents::{self, BundleContents, BundleContentsError},
    layer::{self, DiscardLayerFiles, ExpectedLayer, LayerError},
    progress::Progress,
    publish::{PublishError, PublishOutcome, SigningRequest, TagAssignment, publish_bundle},
};
use crate::{
    clock::Clock,
    core::{
        digest::Digest,
        intoto::COSIGN_SIGN,
        job::{EvidenceDigest, JobInputs, JobInputsError, JobSigningMode, JobSuccess},
        limits::InputLimits,
        pack::{
            BundleFormatError, LayerCompression, PACK_FORMAT, PackError, PackOptions, PackPlan,
        },
        provenance::{self, BuildParameters, BuildRun, RecordedCompression, RequestingObject},
        reason::{ClassifiedError, Reason},
        reference::TagOrDigest,
        sbom::{SbomDocument, SbomError},
        slsa::{PROVENANCE_V1, Provenance},
    },
    oci::{ContentSource, ContentTarget, OciError, ResolvedManifest},
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
    /// Its SBOM cannot be generated.
    #[error(transparent)]
    Sbom(#[from] SbomError),
    /// It could not be signed, attested, verified or tagged.
    #[error(transparent)]
    Publish(#[from] PublishError),
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
            Self::Sbom(error) => error.reason(),
            Self::Publish(error) => error.reason(),
        }
    }
}

/// Rebuilds and signs the bundle `digest` in `target`, the destination of `inputs`: derives it
/// again, and unless the mode is `None` signs, attests, verifies and tags it.
pub async fn rebuild_and_sign(
    target: &dyn ContentTarget,
    digest: &Digest,
    inputs: &JobInputs,
    signer: Option<&dyn BundleSigner>,
    clock: &dyn Clock,
    limits: &InputLimits,
    progress: &dyn Progress,
) -> Result<JobSuccess, RebuildAndSignError> {
    let signer = signer_for(inputs.signing.mode, signer)?;
    let (repository, tag) = (
        inputs.destination_repository()?.to_string(),
        inputs.destination_tag()?,
    );
    let (root, contents) = open_pushed_bundle(target, digest, limits).await?;
    check_matches_inputs(&contents, &root, inputs)?;
    compare_layers(target, &contents, progress).await?;
    let sbom = inputs
        .sbom
        .map(|format| SbomDocument::new(format, &contents.lock, inputs.output.source_date_epoch))
        .transpose()?;
    let published = match signer {
        None => PublishOutcome::Unsigned,
        Some(signer) => {
            let provenance = build_provenance(&contents, inputs, sbom.as_ref(), clock);
            let request = SigningRequest {
                signer,
                subject_name: &repository,
                provenance: &provenance,
                lock: inputs.lock_digest,
                sbom: sbom.as_ref(),
            };
            let label = tag.as_ref().map(|tag| TagAssignment {
                tag,
                policy: inputs.destination.tag_policy,
            });
            publish_bundle(target, &root, Some(request), label, clock, limits).await?
        }
    };
    Ok(JobSuccess {
        lock_digest: inputs.lock_digest,
        digest: *digest,
        size: contents.total_size()?,
        layers: contents.layer_count(),
        artifacts: contents.lock.artifacts.len(),
        evidence: evidence_digests(&published, sbom.as_ref()),
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

/// The provenance from the inputs. Where the packing side really fetched its artifacts, and which
/// encoder it used, are unverified claims and are not part of it.
fn build_provenance(
    contents: &BundleContents,
    inputs: &JobInputs,
    sbom: Option<&SbomDocument>,
    clock: &dyn Clock,
) -> Provenance {
    let JobInputs {
        run,
        bundle,
        cluster,
        started_on,
        source,
        output,
        signing,
        packer,
        ..
    } = inputs;
    let packed = BuildParameters {
        lock: &contents.lock,
        lock_digest: inputs.lock_digest,
        pack_format: PACK_FORMAT,
        format: output.format.as_str(),
        compression: match output.compression {
            LayerCompression::None => RecordedCompression::Uncompressed,
            LayerCompression::Zstd => RecordedCompression::ZstdUnknownEncoder,
        },
        annotations: &output.annotations,
        allow_outside: false,
        source_date_epoch: output.source_date_epoch,
        downloads: &std::collections::BTreeMap::new(),
    };
    let requested = RequestingObject {
        namespace: &bundle.namespace,
        name: &bundle.name,
        uid: &bundle.uid,
        lock_uri: &source.uri,
        packer: packer
            .as_ref()
            .map(|packer| (packer.uri.as_str(), packer.digest)),
    };
    let invocation_id = format!(
        "{cluster}/{}/{}/{}/{}",
        bundle.namespace,
        bundle.name,
        bundle.generation,
        run.sign_job_name()
    );
    provenance::build_provenance(
        &packed,
        &BuildRun {
            builder_id: &signing.builder_id,
            version: env!("CARGO_PKG_VERSION"),
            invocation_id: &invocation_id,
            started_on: *started_on,
            finished_on: clock.now(),
            requested: Some(requested),
            sbom,
        },
    )
}

fn evidence_digests(
    published: &PublishOutcome,
    attested: Option<&SbomDocument>,
) -> Vec<EvidenceDigest> {
    match published {
        PublishOutcome::Unsigned => Vec::new(),
        PublishOutcome::Signed {
            signature,
            provenance,
            sbom,
        } => {
            let sbom = sbom
                .zip(attested)
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
