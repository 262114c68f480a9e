//! Reads single files out of a context artifact, such as the lock.

use bytes::Bytes;

use crate::{
    core::{
        class::{Classified, Reason},
        digest::Digest,
        limits::Limits,
    },
    fetch::{FetchError, context_files},
    oci::{OciError, Source, fetch},
};

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ContextReadError {
    /// The artifact cannot be read, or is none.
    #[error(transparent)]
    Context(#[from] FetchError),
    /// There is no such file.
    #[error("context artifact {artifact} has no file {path:?}; its layers' titles are their paths")]
    NotFound {
        /// The artifact.
        artifact: String,
        /// The path.
        path: String,
    },
    /// The file cannot be read, or is larger than the cap.
    #[error("{path:?} of the context artifact: {source}")]
    File {
        /// The path.
        path: String,
        /// What happened.
        source: OciError,
    },
}

impl Classified for ContextReadError {
    fn reason(&self) -> Reason {
        match self {
            Self::Context(error) => error.reason(),
            Self::NotFound { .. } => Reason::SourceNotFound,
            Self::File { source, .. } => source.reason(),
        }
    }
}

/// The content of the file `path` of the context artifact `digest`, at most `cap` bytes.
pub async fn read_file(
    source: &dyn Source,
    digest: &Digest,
    path: &str,
    cap: usize,
    limits: &Limits,
) -> Result<Bytes, ContextReadError> {
    let files = context_files(source, digest, limits).await?;
    let absent = || ContextReadError::NotFound {
        artifact: format!("{}@{digest}", source.location()),
        path: path.into(),
    };
    let file = files
        .file(path.strip_prefix("./").unwrap_or(path))
        .ok_or_else(absent)?;
    fetch(source, &file.blob, cap)
        .await
        .map_err(|source| ContextReadError::File {
            path: path.into(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        core::{media_type, oci::Descriptor},
        oci::{Content, MemoryTarget, Target},
    };

    async fn push(target: &MemoryTarget, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let bytes = Bytes::from(bytes);
        let descriptor = Descriptor::of(media_type, &bytes);
        target
            .push(&descriptor, Content::Bytes(&bytes))
            .await
            .expect("pushed");
        descriptor
    }

    #[tokio::test]
    async fn one_file_is_read_up_to_its_cap() {
        let target = MemoryTarget::new();
        let layer = push(&target, media_type::OCTET_STREAM, b"the lock".to_vec()).await;
        let layer = json!({"mediaType": layer.media_type, "digest": layer.digest,
            "size": layer.size,
            "annotations": {"org.opencontainers.image.title": "siem/lock.yaml"}});
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type::MANIFEST,
            "artifactType": media_type::CONTEXT,
            "config": Descriptor::empty(), "layers": [layer]});
        let root = push(
            &target,
            media_type::MANIFEST,
            manifest.to_string().into_bytes(),
        )
        .await
        .digest;
        let read = |path: &'static str, cap| {
            let target = target.clone();
            async move {
                read_file(&target, &root, path, cap, &Limits::DEFAULT)
                    .await
                    .map_err(|e| e.reason())
            }
        };
        assert_eq!(
            read("siem/lock.yaml", 8).await,
            Ok(Bytes::from_static(b"the lock"))
        );
        assert_eq!(
            read("./siem/lock.yaml", 8).await,
            Ok(Bytes::from_static(b"the lock"))
        );
        assert_eq!(read("siem/lock.yaml", 7).await, Err(Reason::LimitExceeded));
        assert_eq!(read("lock.yaml", 8).await, Err(Reason::SourceNotFound));
        let other = read_file(
            &target,
            &Digest::of(b"other"),
            "lock.yaml",
            8,
            &Limits::DEFAULT,
        )
        .await
        .expect_err("nothing there");
        assert_eq!(other.reason(), Reason::SourceNotFound);
    }
}
