//! Files of a context artifact. A folder (an origin that ends in `/`) is packed as one
//! deterministic tar, equal to [`super::FileOrigin`]'s for the same files on disk.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    ArtifactOrigin, ArtifactStream, FetchError, FetchRequest, OpenedArtifact,
    tar_stream::{ArchivedFileContent, read_tar_stream},
};
use crate::{
    core::{
        context_artifact::{ContextArtifactFiles, lock_folder, resolve_origin_path},
        digest::Digest,
        limits::InputLimits,
        pack::{TarFile, plan_tar_segments},
        reference::TagOrDigest,
    },
    oci::{ContentSource, OciError},
};

/// The files of one context artifact, relative to the folder of its lock.
pub struct ContextArtifactOrigin {
    source: Arc<dyn ContentSource>,
    files: ContextArtifactFiles,
    folder: String,
}

impl ContextArtifactOrigin {
    /// Reads the list of files of the artifact. Origins are relative to the folder of `lock_path`.
    pub async fn load_artifact(
        source: Arc<dyn ContentSource>,
        digest: &Digest,
        lock_path: &str,
        limits: &InputLimits,
    ) -> Result<Self, FetchError> {
        let files = context_files(&*source, digest, limits).await?;
        Ok(Self {
            source,
            files,
            folder: lock_folder(lock_path).to_owned(),
        })
    }

    async fn open_file(&self, origin: &str, path: &str) -> Result<ArtifactStream, FetchError> {
        let file = self
            .files
            .find_file(path)
            .ok_or_else(|| self.not_found_error(origin, path))?;
        let stream = self
            .source
            .open_content(&file.blob)
            .await
            .map_err(|source| FetchError::Registry {
                origin: origin.into(),
                source: Box::new(source),
            })?;
        Ok(ArtifactStream::Stream(stream))
    }

    fn open_folder(&self, origin: &str, path: &str) -> Result<ArtifactStream, FetchError> {
        let files = self.files.files_below(path).map(|(path, file)| TarFile {
            path: path.to_owned(),
            mode: file.mode,
            size: file.blob.size,
            content: ArchivedFileContent::Blob(file.blob.clone()),
        });
        let files: Vec<_> = files.collect();
        if files.is_empty() {
            return Err(self.not_found_error(origin, path));
        }
        Ok(ArtifactStream::Stream(read_tar_stream(
            Arc::clone(&self.source),
            plan_tar_segments(files),
        )))
    }

    fn not_found_error(&self, origin: &str, path: &str) -> FetchError {
        if !origin.ends_with('/') && self.files.files_below(path).next().is_some() {
            return FetchError::NotAFile {
                origin: origin.into(),
                hint: "; write a final / to pack the folder as a tar",
            };
        }
        FetchError::NotFound {
            origin: format!("{origin} (in the context artifact: {path:?})"),
        }
    }
}

#[async_trait]
impl ArtifactOrigin for ContextArtifactOrigin {
    async fn open_artifact(&self, request: FetchRequest<'_>) -> Result<OpenedArtifact, FetchError> {
        let origin = request.origin;
        let path = resolve_origin_path(&self.folder, origin).ok_or_else(|| {
            FetchError::OutsideContext {
                origin: origin.into(),
            }
        })?;
        let content = if origin.ends_with('/') {
            self.open_folder(origin, &path)?
        } else {
            self.open_file(origin, &path).await?
        };
        Ok(OpenedArtifact {
            content,
            download_location: None,
        })
    }

    async fn resolve_oci_digest(&self, _: FetchRequest<'_>) -> Result<Option<Digest>, FetchError> {
        Ok(None)
    }
}

/// No files at all: the origin for a lock without a context artifact.
#[derive(Clone, Copy, Debug, Default)]
pub struct MissingContextOrigin;

#[async_trait]
impl ArtifactOrigin for MissingContextOrigin {
    async fn open_artifact(&self, request: FetchRequest<'_>) -> Result<OpenedArtifact, FetchError> {
        Err(FetchError::MissingContextArtifact {
            origin: request.origin.into(),
        })
    }

    async fn resolve_oci_digest(&self, _: FetchRequest<'_>) -> Result<Option<Digest>, FetchError> {
        Ok(None)
    }
}

/// The files of the context artifact `digest`.
pub async fn context_files(
    source: &dyn ContentSource,
    digest: &Digest,
    limits: &InputLimits,
) -> Result<ContextArtifactFiles, FetchError> {
    let failed = |error: OciError| FetchError::Registry {
        origin: format!("context artifact {}@{digest}", source.location()),
        source: Box::new(error),
    };
    let resolved = source
        .resolve_manifest(&TagOrDigest::Digest(*digest), limits)
        .await
        .map_err(failed)?;
    Ok(ContextArtifactFiles::from_manifest(
        &resolved.parse_document(limits).map_err(failed)?,
    )?)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read, os::unix::fs::PermissionsExt};

    use bytes::Bytes;
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::{
        core::{
            lockfile::OriginType,
            media_type,
            oci::{Annotations, Descriptor, ImageManifest, descriptor::EMPTY_CONTENT},
            pack::{MODE_ANNOTATION, TITLE_ANNOTATION},
            reason::{ClassifiedError, Reason},
        },
        fetch::{FileOrigin, OutsideFolderPolicy},
        oci::{ContentTarget, MemoryTarget, PushContent},
    };

    const FILES: [(&str, &str, bool); 4] = [
        ("siem/lock.yaml", "lock", false),
        ("siem/files/sub/run.sh", "#!", true),
        ("siem/files/a", "aa", false),
        ("shared/b", "b", false),
    ];

    async fn push(target: &MemoryTarget, media_type: &str, bytes: &[u8]) -> Descriptor {
        let bytes = Bytes::copy_from_slice(bytes);
        let descriptor = Descriptor::of_bytes(media_type, &bytes);
        target
            .push_content(&descriptor, PushContent::Bytes(&bytes))
            .await
            .expect("pushed");
        descriptor
    }

    async fn context() -> ContextArtifactOrigin {
        let target = MemoryTarget::new();
        let mut layers = Vec::new();
        for (path, content, executable) in FILES {
            let mut annotations =
                Annotations::from([(TITLE_ANNOTATION.to_owned(), path.to_owned())]);
            if executable {
                annotations.insert(MODE_ANNOTATION.into(), "0755".into());
            }
            layers.push(Descriptor {
                annotations,
                ..push(&target, media_type::OCTET_STREAM, content.as_bytes()).await
            });
        }
        let config = push(&target, media_type::EMPTY, EMPTY_CONTENT).await;
        let manifest = ImageManifest {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.into()),
            artifact_type: Some(media_type::CONTEXT.into()),
            config,
            layers,
            subject: None,
            annotations: Annotations::new(),
        };
        let root = push(
            &target,
            media_type::MANIFEST,
            &serde_json::to_vec(&manifest).expect("JSON"),
        )
        .await;
        ContextArtifactOrigin::load_artifact(
            Arc::new(target),
            &root.digest,
            "siem/lock.yaml",
            &InputLimits::DEFAULT,
        )
        .await
        .expect("a context")
    }

    async fn read_all(origin: &dyn ArtifactOrigin, path: &str) -> Result<Vec<u8>, Reason> {
        let opened = origin
            .open_artifact(FetchRequest {
                origin_type: OriginType::File,
                origin: path,
                oci: None,
                expected_size: None,
            })
            .await
            .map_err(|e| e.reason())?;
        let mut bytes = Vec::new();
        match opened.content {
            ArtifactStream::Blocking(mut reader) => {
                reader.read_to_end(&mut bytes).expect("readable")
            }
            ArtifactStream::Stream(mut reader) => {
                reader.read_to_end(&mut bytes).await.expect("readable")
            }
        };
        Ok(bytes)
    }

    #[tokio::test]
    async fn files_are_found_relative_to_the_lock() {
        let context = context().await;
        for (origin, content) in [
            ("files/a", "aa"),
            ("./files/sub/run.sh", "#!"),
            ("../shared/b", "b"),
            ("lock.yaml", "lock"),
        ] {
            assert_eq!(
                read_all(&context, origin).await,
                Ok(content.into()),
                "{origin}"
            );
        }
    }

    #[tokio::test]
    async fn a_folder_has_the_bytes_that_it_has_on_a_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, content, executable) in FILES {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
            fs::write(&path, content).expect("a file");
            fs::set_permissions(
                &path,
                fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 }),
            )
            .expect("a mode");
        }
        let (context, disk) = (
            context().await,
            FileOrigin::new(folder.path().join("siem"), OutsideFolderPolicy::Refused),
        );
        for origin in ["files/", "./", "files/sub/"] {
            let on_disk = read_all(&disk, origin).await.expect("a tar");
            assert_eq!(read_all(&context, origin).await, Ok(on_disk), "{origin}");
        }
    }

    #[tokio::test]
    async fn what_is_not_in_the_artifact_is_refused() {
        let context = context().await;
        for (origin, reason) in [
            ("../../etc/passwd", Reason::InvalidLock),
            ("/etc/passwd", Reason::InvalidLock),
            ("files", Reason::InvalidLock),
            ("files/none", Reason::SourceNotFound),
            ("none/", Reason::SourceNotFound),
            ("files/a/", Reason::SourceNotFound),
        ] {
            assert_eq!(read_all(&context, origin).await, Err(reason), "{origin}");
        }
        assert_eq!(
            read_all(&MissingContextOrigin, "files/a").await,
            Err(Reason::InvalidLock)
        );
    }

    #[tokio::test]
    async fn another_artifact_is_no_context() {
        let target = MemoryTarget::new();
        let config = push(&target, media_type::CONFIG, b"{}").await;
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": media_type::MANIFEST,
            "config": config,
            "layers": [],
        });
        let root = push(
            &target,
            media_type::MANIFEST,
            manifest.to_string().as_bytes(),
        )
        .await;
        let opened = ContextArtifactOrigin::load_artifact(
            Arc::new(target),
            &root.digest,
            "lock.yaml",
            &InputLimits::DEFAULT,
        )
        .await;
        assert_eq!(
            opened.map(|_| ()).expect_err("refused").reason(),
            Reason::InvalidSpec
        );
    }
}
