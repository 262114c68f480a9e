//! The current state of a bundle in its registry: whether it exists, whether its tag names it, and
//! the policies' verdict.

use jiff::Timestamp;

use super::{
    bundle_contents::{self, BundleContents, BundleContentsError},
    registries::{
        NamedDockerConfig, RepositoryOpenError, RepositoryRequester, TenantRepositoryOpener,
    },
    verification_request::{EvidenceDepth, VerificationRequest, VerifyError},
    verify::{self, BundleEvaluation},
};
use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        policy::{Policy, ReferenceUse},
        reason::{ClassifiedError, Reason},
        reference::{ImageTag, PinnedReference, TagOrDigest},
    },
    oci::{ContentSource, OciError},
};

/// A request for the state of a bundle.
#[derive(Clone, Copy, Debug)]
pub struct BundleStateRequest<'a> {
    /// The bundle.
    pub reference: &'a PinnedReference,
    /// The tag that must name it.
    pub tag: Option<&'a ImageTag>,
    /// The policies that may govern it.
    pub policies: &'a [Policy],
    /// The namespace of the use, as a `PackedBundle`.
    pub namespace: &'a str,
    /// The time of the evaluation.
    pub now: Timestamp,
}

/// The state of a bundle.
#[derive(Debug)]
pub struct BundleState {
    /// The verdict with its findings.
    pub judgement: BundleEvaluation,
    /// Its size, if packgate packed it and no policy denies it.
    pub size: Option<BundleSize>,
}

/// The size of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BundleSize {
    /// Bytes of all its blobs and manifests.
    pub bytes: u64,
    /// Layers of its largest manifest, with the lock's.
    pub layers: usize,
    /// The number of artifacts in its lock.
    pub artifacts: usize,
    /// Digest of its canonical lock.
    pub lock: Digest,
}

/// Why the state cannot be determined.
#[derive(Debug, thiserror::Error)]
pub enum BundleStateError {
    /// The repository cannot be opened.
    #[error(transparent)]
    Open(#[from] RepositoryOpenError),
    /// The bundle or its tag does not exist any more.
    #[error("{0} is not in the registry any more")]
    Gone(String),
    /// The tag names another digest.
    #[error(
        "tag {tag} names {actual}, not {expected}; somebody moved it: tag the bundle again, or \
            choose another tag"
    )]
    Moved {
        /// The tag.
        tag: ImageTag,
        /// The digest of the bundle.
        expected: Digest,
        /// The digest that the tag names.
        actual: Digest,
    },
    /// The registry failed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// Evidence could not be read.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl ClassifiedError for BundleStateError {
    fn reason(&self) -> Reason {
        match self {
            Self::Open(error) => error.reason(),
            Self::Gone(_) => Reason::SourceNotFound,
            Self::Moved { .. } => Reason::TagConflict,
            Self::Oci(error) => error.reason(),
            Self::Verify(error) => error.reason(),
        }
    }
}

/// Reads the state of the bundle, with the credentials for its registry in `configs`.
pub async fn read_bundle_state(
    registries: &dyn TenantRepositoryOpener,
    configs: &[NamedDockerConfig],
    request: &BundleStateRequest<'_>,
    limits: &InputLimits,
) -> Result<BundleState, BundleStateError> {
    let repository = request.reference.repository();
    let requester = RepositoryRequester {
        namespace: request.namespace,
        configs,
        service_account: None,
    };
    let opened = registries.open_repository(repository, &requester).await?;
    read_state_from(&*opened.source, request, limits).await
}

async fn read_state_from(
    source: &dyn ContentSource,
    request: &BundleStateRequest<'_>,
    limits: &InputLimits,
) -> Result<BundleState, BundleStateError> {
    let digest = request.reference.digest();
    let root = source
        .resolve_manifest(&TagOrDigest::Digest(digest), limits)
        .await
        .map_err(|error| gone_error(error, request.reference))?;
    if let Some(tag) = request.tag {
        let named = source
            .resolve_manifest(&TagOrDigest::Tag(tag.clone()), limits)
            .await;
        let actual = named
            .map_err(|error| {
                gone_error(
                    error,
                    format_args!("{}:{tag}", request.reference.repository()),
                )
            })?
            .descriptor
            .digest;
        if actual != digest {
            return Err(BundleStateError::Moved {
                tag: tag.clone(),
                expected: digest,
                actual,
            });
        }
    }
    let verification = VerificationRequest {
        policies: request.policies,
        reference: &request.reference.to_string(),
        repository: Some(request.reference.repository()),
        had_digest: true,
        used_as: ReferenceUse::PackedBundle,
        namespace: Some(request.namespace),
        now: request.now,
        reading: EvidenceDepth::Needed,
    };
    let judgement = verify::evaluate_bundle(source, &root, &verification, limits).await?;
    let size = match &judgement.contents {
        Some(contents) => Some(bundle_size(contents)?),
        // The size of a denied bundle is not needed, and an unsigned bundle is not opened where a
        // signature is required.
        None if !judgement.decision.policies().is_empty() && !judgement.decision.is_admitted() => {
            None
        }
        None => match bundle_contents::open_bundle(source, &root, limits).await {
            Ok(contents) => Some(bundle_size(&contents)?),
            Err(BundleContentsError::Oci(error)) => return Err(error.into()),
            // Bundles packed by other tools can be adopted as well.
            Err(_) => None,
        },
    };
    Ok(BundleState { judgement, size })
}

fn bundle_size(contents: &BundleContents) -> Result<BundleSize, VerifyError> {
    Ok(BundleSize {
        bytes: contents.total_size().map_err(BundleContentsError::from)?,
        layers: contents.layer_count(),
        artifacts: contents.lock.artifacts.len(),
        lock: contents.plan.lock.digest,
    })
}

fn gone_error(error: OciError, what: impl std::fmt::Display) -> BundleStateError {
    match error {
        OciError::NotFound { .. } => BundleStateError::Gone(what.to_string()),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::{
        core::{media_type, oci::Descriptor},
        oci::{ContentTarget, MemoryTarget, PushContent},
        service::registries::OpenedRepository,
    };

    struct One(Arc<MemoryTarget>);

    #[async_trait::async_trait]
    impl TenantRepositoryOpener for One {
        async fn open_repository(
            &self,
            _: &crate::core::reference::ImageRepository,
            _: &RepositoryRequester<'_>,
        ) -> Result<OpenedRepository, RepositoryOpenError> {
            Ok(OpenedRepository::anonymous(Arc::<MemoryTarget>::clone(
                &self.0,
            )))
        }
    }

    async fn store(target: &MemoryTarget, content: &'static [u8]) -> Descriptor {
        let (bytes, root) = (
            Bytes::from_static(content),
            Descriptor::of_bytes(media_type::INDEX, content),
        );
        target
            .push_content(&root, PushContent::Bytes(&bytes))
            .await
            .expect("pushed");
        root
    }

    async fn look_at(
        target: &Arc<MemoryTarget>,
        digest: Digest,
        tag: &ImageTag,
    ) -> Result<BundleState, Reason> {
        let reference: crate::core::reference::ImageReference =
            format!("r.example.com/a/b@{digest}")
                .parse()
                .expect("a reference");
        let reference = reference.to_pinned().expect("pinned");
        let now = "2026-11-21T12:00:00Z".parse().expect("a time");
        let request = BundleStateRequest {
            reference: &reference,
            tag: Some(tag),
            policies: &[],
            namespace: "team-a",
            now,
        };
        read_bundle_state(
            &One(Arc::clone(target)),
            &[],
            &request,
            &InputLimits::DEFAULT,
        )
        .await
        .map_err(|error| error.reason())
    }

    #[tokio::test]
    async fn what_is_gone_or_moved_is_told_apart() {
        let (target, tag) = (
            Arc::new(MemoryTarget::new()),
            "v1".parse::<ImageTag>().expect("a tag"),
        );
        let absent = Digest::of_bytes(b"absent");
        assert_eq!(
            look_at(&target, absent, &tag).await.err(),
            Some(Reason::SourceNotFound)
        );
        let first = store(&target, br#"{"schemaVersion":2,"manifests":[]}"#).await;
        assert_eq!(
            look_at(&target, first.digest, &tag).await.err(),
            Some(Reason::SourceNotFound),
            "without its tag"
        );
        target.tag_manifest(&first, &tag).await.expect("tagged");
        let state = look_at(&target, first.digest, &tag).await.expect("there");
        assert_eq!(state.size, None, "somebody else's bundle has no lock");
        let second = store(&target, br#"{"schemaVersion":2,"manifests":[] }"#).await;
        target.tag_manifest(&second, &tag).await.expect("tagged");
        assert_eq!(
            look_at(&target, first.digest, &tag).await.err(),
            Some(Reason::TagConflict)
        );
    }
}
