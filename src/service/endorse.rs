//! The trusted step: a bundle that somebody else packed is signed only after every byte of it was
//! re-derived from the lock.
//!
//! Nothing that the packing side says counts but the digest. The lock, the output and the terms are
//! the [`Inputs`] that the controller froze; the bundle's small documents are written anew from the
//! lock and compared ([`super::contents`]), and each layer is read to its end and compared
//! ([`super::layer`]). The provenance says what these inputs say, and nothing else.

use futures::{StreamExt, TryStreamExt, stream};

use super::{
    contents::{self, Contents, ContentsError},
    layer::{self, Layer, LayerError, Nowhere},
    progress::Progress,
    publish::{Label, PublishError, Published, Vouch, publish},
};
use crate::{
    clock::Clock,
    core::{
        class::{Classified, Reason},
        digest::Digest,
        intoto::COSIGN_SIGN,
        job::{EvidenceDigest, Inputs, InputsError, SigningMode, Success},
        limits::Limits,
        pack::{EmbeddedError, LayerCompression, Output, PACK_FORMAT, PackError, PackPlan},
        provenance::{self, Compressed, Packed, Requested, Run},
        reference::Selector,
        sbom::{Sbom, SbomError},
        slsa::{PROVENANCE_V1, Provenance},
    },
    oci::{OciError, Resolved, Source, Target},
    signing::Endorser,
};

/// Layers that are compared at once. More would not be faster: the work is hashing.
const PARALLEL: usize = 2;

/// Why a bundle was not endorsed. Nothing was tagged.
#[derive(Debug, thiserror::Error)]
pub enum EndorseError {
    /// The inputs are wrong.
    #[error(transparent)]
    Inputs(#[from] InputsError),
    /// There is no key, and somebody is to sign.
    #[error(
        "signing mode is {0:?}, and there is nobody to sign; give --key or --identity-token-file"
    )]
    NoSigner(SigningMode),
    /// The registry failed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// It is not what packing the lock that it carries gives.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// It carries another lock.
    #[error("bundle carries the lock {found}, {expected} was frozen")]
    OtherLock {
        /// The frozen lock's digest.
        expected: Digest,
        /// The digest of the lock in the bundle.
        found: Digest,
    },
    /// It was packed with other choices.
    #[error("bundle was packed as {found}, {expected} was asked for")]
    OtherOutput {
        /// What was asked for.
        expected: String,
        /// What it is.
        found: String,
    },
    /// It is a part of a bundle, such as one platform's manifest.
    #[error("{0} is not the whole bundle that packing the frozen lock gives")]
    OtherRoot(Digest),
    /// The frozen lock cannot be packed as asked.
    #[error(transparent)]
    Plan(#[from] PackError),
    /// A layer is not what the lock says.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// There is no software bill of materials of it.
    #[error(transparent)]
    Sbom(#[from] SbomError),
    /// It could not be signed, attested, verified or tagged.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Classified for EndorseError {
    fn reason(&self) -> Reason {
        match self {
            Self::Inputs(error) => error.reason(),
            Self::NoSigner(_) => Reason::NoSigner,
            Self::Oci(error) => error.reason(),
            // Something else was pushed than was to be packed.
            Self::Contents(ContentsError::Embedded(
                EmbeddedError::NotABundle | EmbeddedError::PackFormat(_),
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

/// Endorses the bundle `digest` in `target`, the destination of `inputs`: re-derives it, and unless
/// the mode is `None` signs, attests, verifies and tags it.
pub async fn endorse(
    target: &dyn Target,
    digest: &Digest,
    inputs: &Inputs,
    signer: Option<&dyn Endorser>,
    clock: &dyn Clock,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<Success, EndorseError> {
    let signer = signer_for(inputs.signing.mode, signer)?;
    let (repository, tag) = (inputs.repository()?.to_string(), inputs.tag()?);
    let (root, contents) = gather(target, digest, limits).await?;
    check(&contents, &root, inputs)?;
    rederive(target, &contents, progress).await?;
    let sbom = inputs
        .sbom
        .map(|format| Sbom::new(format, &contents.lock, inputs.output.source_date_epoch))
        .transpose()?;
    let published = match signer {
        None => Published::Unsigned,
        Some(signer) => {
            let provenance = provenance(&contents, inputs, sbom.as_ref(), clock);
            let vouch = Vouch {
                signer,
                subject_name: &repository,
                provenance: &provenance,
                lock: inputs.lock_digest,
                sbom: sbom.as_ref(),
            };
            let label = tag.as_ref().map(|tag| Label {
                tag,
                policy: inputs.destination.tag_policy,
            });
            publish(target, &root, Some(vouch), label, clock, limits).await?
        }
    };
    Ok(Success {
        lock_digest: inputs.lock_digest,
        digest: *digest,
        size: contents.size()?,
        layers: contents.layers(),
        artifacts: contents.lock.artifacts.len(),
        evidence: evidence(&published, sbom.as_ref()),
    })
}

fn signer_for(
    mode: SigningMode,
    signer: Option<&dyn Endorser>,
) -> Result<Option<&dyn Endorser>, EndorseError> {
    match (mode, signer) {
        (SigningMode::None, _) => Ok(None),
        (SigningMode::Platform | SigningMode::Namespace, None) => Err(EndorseError::NoSigner(mode)),
        (SigningMode::Platform | SigningMode::Namespace, signer) => Ok(signer),
    }
}

async fn gather(
    source: &dyn Source,
    digest: &Digest,
    limits: &Limits,
) -> Result<(Resolved, Contents), EndorseError> {
    let root = source.resolve(&Selector::Digest(*digest), limits).await?;
    let contents = contents::open(source, &root, limits).await?;
    Ok((root, contents))
}

/// Is it the whole bundle of this lock, with these choices?
fn check(contents: &Contents, root: &Resolved, inputs: &Inputs) -> Result<(), EndorseError> {
    let found = contents.plan.lock.digest;
    if found != inputs.lock_digest {
        return Err(EndorseError::OtherLock {
            expected: inputs.lock_digest,
            found,
        });
    }
    if contents.plan.output != inputs.output {
        return Err(EndorseError::OtherOutput {
            expected: describe(&inputs.output),
            found: describe(&contents.plan.output),
        });
    }
    let plan = PackPlan::new(&contents.lock, inputs.output.clone())?;
    let whole = plan.platforms().len() == contents.parts.len()
        && plan.top(&contents.manifests())?.0 == root.descriptor.digest;
    if whole {
        Ok(())
    } else {
        Err(EndorseError::OtherRoot(root.descriptor.digest))
    }
}

fn describe(output: &Output) -> String {
    let Output {
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

/// Reads every layer of every part to its end and compares each byte with what the lock says.
async fn rederive(
    source: &dyn Source,
    contents: &Contents,
    progress: &dyn Progress,
) -> Result<(), LayerError> {
    let layers = contents.parts.iter().flat_map(|part| &part.layers);
    progress.begin(
        "comparing",
        Some(
            layers
                .map(|layer| layer.descriptor.size)
                .fold(0, u64::saturating_add),
        ),
    );
    let mut outcome = Ok(());
    for part in &contents.parts {
        let manifest = contents.manifest(part);
        let layer = |(index, (plan, blob))| Layer {
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
                layer::compare(source, layer, Nowhere).await?;
                progress.advance(layer.blob.descriptor.size);
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
    progress.end();
    outcome.map(drop)
}

/// What the inputs say. Where the packing side really took its artifacts from, and with which
/// encoder it compressed them, are its own words and have no place here.
fn provenance(
    contents: &Contents,
    inputs: &Inputs,
    sbom: Option<&Sbom>,
    clock: &dyn Clock,
) -> Provenance {
    let Inputs {
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
    let packed = Packed {
        lock: &contents.lock,
        lock_digest: inputs.lock_digest,
        pack_format: PACK_FORMAT,
        format: output.format.as_str(),
        compression: match output.compression {
            LayerCompression::None => Compressed::Not,
            LayerCompression::Zstd => Compressed::ZstdUnseen,
        },
        annotations: &output.annotations,
        allow_outside: false,
        source_date_epoch: output.source_date_epoch,
        downloads: &std::collections::BTreeMap::new(),
    };
    let requested = Requested {
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
        run.sign_name()
    );
    provenance::provenance(
        &packed,
        &Run {
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

fn evidence(published: &Published, attested: Option<&Sbom>) -> Vec<EvidenceDigest> {
    match published {
        Published::Unsigned => Vec::new(),
        Published::Signed {
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
