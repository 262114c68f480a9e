//! How a bundle stands in its registry now: there or not, under its tag or not, and what the
//! policies say of it.

use jiff::Timestamp;

use super::{
    contents::{self, Contents, ContentsError},
    registries::{OpenError, Registries},
    verify::{self, Judgement, Question, Reading, VerifyError},
};
use crate::{
    core::{
        class::{Classified, Reason},
        digest::Digest,
        limits::Limits,
        policy::{Policy, Use},
        reference::{PinnedReference, Selector, Tag},
    },
    oci::{OciError, Source},
};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The bundle.
    pub reference: &'a PinnedReference,
    /// The tag that must name it.
    pub tag: Option<&'a Tag>,
    /// The policies that may have a say.
    pub policies: &'a [Policy],
    /// The namespace that it is used in, as a `PackedBundle`.
    pub namespace: &'a str,
    /// When.
    pub now: Timestamp,
}

/// How it stands.
#[derive(Debug)]
pub struct Standing {
    /// The verdict.
    pub judgement: Judgement,
    /// What it consists of, if packgate packed it and no policy refuses it.
    pub size: Option<Size>,
}

/// What a bundle consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Bytes of all its blobs and manifests.
    pub bytes: u64,
    /// Layers of its largest manifest, with the lock's.
    pub layers: usize,
    /// Artifacts in its lock.
    pub artifacts: usize,
    /// Digest of its canonical lock.
    pub lock: Digest,
}

/// Why it cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum StandingError {
    /// The repository cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The bundle, or its tag, is gone.
    #[error("{0} is not in the registry any more")]
    Gone(String),
    /// The tag names something else.
    #[error(
        "tag {tag} names {actual}, not {expected}; somebody moved it: tag the bundle again, or \
            choose another tag"
    )]
    Moved {
        /// The tag.
        tag: Tag,
        /// The bundle.
        expected: Digest,
        /// What it names.
        actual: Digest,
    },
    /// The registry failed.
    #[error(transparent)]
    Oci(#[from] OciError),
    /// Evidence could not be read.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl Classified for StandingError {
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

/// Looks at the bundle, reading with what `docker_config` knows of its registry.
pub async fn look(
    registries: &dyn Registries,
    docker_config: Option<&[u8]>,
    asked: &Asked<'_>,
    limits: &Limits,
) -> Result<Standing, StandingError> {
    let source = registries.open(asked.reference.repository(), docker_config)?;
    look_in(&*source, asked, limits).await
}

async fn look_in(
    source: &dyn Source,
    asked: &Asked<'_>,
    limits: &Limits,
) -> Result<Standing, StandingError> {
    let digest = asked.reference.digest();
    let root = source
        .resolve(&Selector::Digest(digest), limits)
        .await
        .map_err(|error| gone(error, asked.reference))?;
    if let Some(tag) = asked.tag {
        let named = source.resolve(&Selector::Tag(tag.clone()), limits).await;
        let actual = named
            .map_err(|error| {
                gone(
                    error,
                    format_args!("{}:{tag}", asked.reference.repository()),
                )
            })?
            .descriptor
            .digest;
        if actual != digest {
            return Err(StandingError::Moved {
                tag: tag.clone(),
                expected: digest,
                actual,
            });
        }
    }
    let question = Question {
        policies: asked.policies,
        reference: &asked.reference.to_string(),
        repository: Some(asked.reference.repository()),
        had_digest: true,
        used_as: Use::PackedBundle,
        namespace: Some(asked.namespace),
        now: asked.now,
        reading: Reading::Needed,
    };
    let judgement = verify::judge(source, &root, &question, limits).await?;
    let size = match &judgement.contents {
        Some(contents) => Some(size(contents)?),
        // Nobody asks for the size of what is refused, and nothing that nobody signed is opened
        // where a signature is asked for.
        None if !judgement.decision.policies.is_empty() && !judgement.decision.admitted() => None,
        None => match contents::open(source, &root, limits).await {
            Ok(contents) => Some(size(&contents)?),
            Err(ContentsError::Oci(error)) => return Err(error.into()),
            // What others packed can be adopted as well.
            Err(_) => None,
        },
    };
    Ok(Standing { judgement, size })
}

fn size(contents: &Contents) -> Result<Size, VerifyError> {
    Ok(Size {
        bytes: contents.size().map_err(ContentsError::from)?,
        layers: contents.layers(),
        artifacts: contents.lock.artifacts.len(),
        lock: contents.plan.lock.digest,
    })
}

fn gone(error: OciError, what: impl std::fmt::Display) -> StandingError {
    match error {
        OciError::NotFound { .. } => StandingError::Gone(what.to_string()),
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
        oci::{Content, MemoryTarget, Target},
    };

    struct One(Arc<MemoryTarget>);

    impl Registries for One {
        fn open(
            &self,
            _: &crate::core::reference::Repository,
            _: Option<&[u8]>,
        ) -> Result<Arc<dyn Source>, OpenError> {
            Ok(Arc::<MemoryTarget>::clone(&self.0))
        }
    }

    async fn store(target: &MemoryTarget, content: &'static [u8]) -> Descriptor {
        let (bytes, root) = (
            Bytes::from_static(content),
            Descriptor::of(media_type::INDEX, content),
        );
        target
            .push(&root, Content::Bytes(&bytes))
            .await
            .expect("pushed");
        root
    }

    async fn look_at(
        target: &Arc<MemoryTarget>,
        digest: Digest,
        tag: &Tag,
    ) -> Result<Standing, Reason> {
        let reference: crate::core::reference::Reference = format!("r.example.com/a/b@{digest}")
            .parse()
            .expect("a reference");
        let reference = reference.pinned().expect("pinned");
        let now = "2026-11-21T12:00:00Z".parse().expect("a time");
        let asked = Asked {
            reference: &reference,
            tag: Some(tag),
            policies: &[],
            namespace: "team-a",
            now,
        };
        look(&One(Arc::clone(target)), None, &asked, &Limits::DEFAULT)
            .await
            .map_err(|error| error.reason())
    }

    #[tokio::test]
    async fn what_is_gone_or_moved_is_told_apart() {
        let (target, tag) = (
            Arc::new(MemoryTarget::new()),
            "v1".parse::<Tag>().expect("a tag"),
        );
        let absent = Digest::of(b"absent");
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
        target.tag(&first, &tag).await.expect("tagged");
        let standing = look_at(&target, first.digest, &tag).await.expect("there");
        assert_eq!(standing.size, None, "somebody else's bundle has no lock");
        let second = store(&target, br#"{"schemaVersion":2,"manifests":[] }"#).await;
        target.tag(&second, &tag).await.expect("tagged");
        assert_eq!(
            look_at(&target, first.digest, &tag).await.err(),
            Some(Reason::TagConflict)
        );
    }
}
