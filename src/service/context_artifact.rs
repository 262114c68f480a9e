//! Reads single files from a context artifact, such as the lock.

use bytes::Bytes;

use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        reason::{ClassifiedError, Reason},
    },
    fetch::{FetchError, context_files},
    oci::{ContentSource, OciError, fetch_content},
};

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ContextReadError {
    /// The artifact cannot be read, or is not a context artifact.
    #[error(transparent)]
    Context(#[from] FetchError),
    /// The file does not exist.
    #[error("context artifact {artifact} has no file {path:?}; its layers' titles are their paths")]
    NotFound {
        /// The artifact.
        artifact: String,
        /// The path of the file.
        path: String,
    },
    /// The file cannot be read, or is larger than the limit.
    #[error("{path:?} of the context artifact: {source}")]
    File {
        /// The path of the file.
        path: String,
        /// The error.
        source: OciError,
    },
}

impl ClassifiedError for ContextReadError {
    fn reason(&self) -> Reason {
        match self {
            Self::Context(error) => error.reason(),
            Self::NotFound { .. } => Reason::SourceNotFound,
            Self::File { source, .. } => source.reason(),
        }
    }
}

/// The content of the file `path` of the context artifact `digest`, at most `cap` bytes.
pub async fn read_context_file(
    source: &dyn ContentSource,
    digest: &Digest,
    path: &str,
    cap: usize,
    limits: &InputLimits,
) -> Result<Bytes, ContextReadError> {
    let files = context_files(source, digest, limits).await?;
    let absent = || ContextReadError::NotFound {
        artifact: format!("{}@{digest}", source.location()),
        path: path.into(),
    };
    let file = files
        .find_file(path.strip_prefix("./").unwrap_or(path))
        .ok_or_else(absent)?;
    fetch_content(source, &file.blob, cap)
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
        oci::{ContentTarget, MemoryTarget, PushContent},
    };

    async fn push(target: &MemoryTarget, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let bytes = Bytes::from(bytes);
        let descriptor = Descriptor::of_bytes(media_type, &bytes);
        target
            .push_content(&descriptor, PushContent::Bytes(&bytes))
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
                read_context_file(&target, &root, path, cap, &InputLimits::DEFAULT)
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
        let other = read_context_file(
            &target,
            &Digest::of_bytes(b"other"),
            "lock.yaml",
            8,
            &InputLimits::DEFAULT,
        )
        .await
        .expect_err("nothing there");
        assert_eq!(other.reason(), Reason::SourceNotFound);
    }
}
