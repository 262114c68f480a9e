//! Files of a context artifact. A folder (an origin that ends in `/`) is packed as one
//! deterministic tar, the same bytes that [`super::FileOrigin`] makes of these files on a disk.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    FetchError, OpenContent, Opened, Origin, Request,
    pieces::{Part, read},
};
use crate::{
    core::{
        context::{ContextFiles, folder_of, locate},
        digest::Digest,
        limits::Limits,
        pack::{TarFile, segments},
        reference::Selector,
    },
    oci::{OciError, Source},
};

/// The files of one context artifact, relative to the folder of its lock.
pub struct ContextOrigin {
    source: Arc<dyn Source>,
    files: ContextFiles,
    folder: String,
}

impl ContextOrigin {
    /// Reads which files the artifact has. Origins are relative to the folder of `lock_path`.
    pub async fn open(
        source: Arc<dyn Source>,
        digest: &Digest,
        lock_path: &str,
        limits: &Limits,
    ) -> Result<Self, FetchError> {
        let files = context_files(&*source, digest, limits).await?;
        Ok(Self {
            source,
            files,
            folder: folder_of(lock_path).to_owned(),
        })
    }

    async fn file(&self, origin: &str, path: &str) -> Result<OpenContent, FetchError> {
        let file = self
            .files
            .file(path)
            .ok_or_else(|| self.absent(origin, path))?;
        let stream = self
            .source
            .open(&file.blob)
            .await
            .map_err(|source| FetchError::Registry {
                origin: origin.into(),
                source,
            })?;
        Ok(OpenContent::Stream(stream))
    }

    fn folder(&self, origin: &str, path: &str) -> Result<OpenContent, FetchError> {
        let files = self.files.below(path).map(|(path, file)| TarFile {
            path: path.to_owned(),
            mode: file.mode,
            size: file.blob.size,
            content: Part::Blob(file.blob.clone()),
        });
        let files: Vec<_> = files.collect();
        if files.is_empty() {
            return Err(self.absent(origin, path));
        }
        Ok(OpenContent::Stream(read(
            Arc::clone(&self.source),
            segments(files),
        )))
    }

    fn absent(&self, origin: &str, path: &str) -> FetchError {
        if !origin.ends_with('/') && self.files.below(path).next().is_some() {
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
impl Origin for ContextOrigin {
    async fn open(&self, request: Request<'_>) -> Result<Opened, FetchError> {
        let origin = request.origin;
        let path = locate(&self.folder, origin).ok_or_else(|| FetchError::OutsideContext {
            origin: origin.into(),
        })?;
        let content = if origin.ends_with('/') {
            self.folder(origin, &path)?
        } else {
            self.file(origin, &path).await?
        };
        Ok(Opened {
            content,
            download_location: None,
        })
    }

    async fn pin(&self, _: Request<'_>) -> Result<Option<Digest>, FetchError> {
        Ok(None)
    }
}

/// No files at all: what a lock means that came without a context artifact.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoContext;

#[async_trait]
impl Origin for NoContext {
    async fn open(&self, request: Request<'_>) -> Result<Opened, FetchError> {
        Err(FetchError::NoContext {
            origin: request.origin.into(),
        })
    }

    async fn pin(&self, _: Request<'_>) -> Result<Option<Digest>, FetchError> {
        Ok(None)
    }
}

/// Which files the context artifact `digest` has.
pub async fn context_files(
    source: &dyn Source,
    digest: &Digest,
    limits: &Limits,
) -> Result<ContextFiles, FetchError> {
    let failed = |error: OciError| FetchError::Registry {
        origin: format!("context artifact {}@{digest}", source.location()),
        source: error,
    };
    let resolved = source
        .resolve(&Selector::Digest(*digest), limits)
        .await
        .map_err(failed)?;
    Ok(ContextFiles::of(
        &resolved.document(limits).map_err(failed)?,
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
            class::{Classified, Reason},
            lockfile::OriginType,
            media_type,
            oci::{Annotations, Descriptor, Manifest, descriptor::EMPTY_CONTENT},
            pack::{MODE_ANNOTATION, TITLE_ANNOTATION},
        },
        fetch::{FileOrigin, Outside},
        oci::{Content, MemoryTarget, Target},
    };

    const FILES: [(&str, &str, bool); 4] = [
        ("siem/lock.yaml", "lock", false),
        ("siem/files/sub/run.sh", "#!", true),
        ("siem/files/a", "aa", false),
        ("shared/b", "b", false),
    ];

    async fn push(target: &MemoryTarget, media_type: &str, bytes: &[u8]) -> Descriptor {
        let bytes = Bytes::copy_from_slice(bytes);
        let descriptor = Descriptor::of(media_type, &bytes);
        target
            .push(&descriptor, Content::Bytes(&bytes))
            .await
            .expect("pushed");
        descriptor
    }

    async fn context() -> ContextOrigin {
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
        let manifest = Manifest {
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
        ContextOrigin::open(
            Arc::new(target),
            &root.digest,
            "siem/lock.yaml",
            &Limits::DEFAULT,
        )
        .await
        .expect("a context")
    }

    async fn read_all(origin: &dyn Origin, path: &str) -> Result<Vec<u8>, Reason> {
        let opened = origin
            .open(Request {
                origin_type: OriginType::File,
                origin: path,
                oci: None,
            })
            .await
            .map_err(|e| e.reason())?;
        let mut bytes = Vec::new();
        match opened.content {
            OpenContent::Blocking(mut reader) => reader.read_to_end(&mut bytes).expect("readable"),
            OpenContent::Stream(mut reader) => {
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
            FileOrigin::new(folder.path().join("siem"), Outside::Refused),
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
            read_all(&NoContext, "files/a").await,
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
        let opened = ContextOrigin::open(
            Arc::new(target),
            &root.digest,
            "lock.yaml",
            &Limits::DEFAULT,
        )
        .await;
        assert_eq!(
            opened.map(|_| ()).expect_err("refused").reason(),
            Reason::InvalidSpec
        );
    }
}
