//! Packing, opening, unpacking and copying together, in memory.

mod copying;
mod endorsing;
mod evidence;
mod forged;
mod packing;
mod round_trip;

use std::{collections::BTreeMap, io::Cursor, sync::Arc};

use async_trait::async_trait;

use super::{
    bundle_contents::{self, BundleContents, BundleContentsError},
    pack::{PackService, PackServiceError, StoredBundle},
    progress::SilentProgress,
    unpack::{self, BundleUnpackError, UnpackPermission, UnpackRequest, UnpackSelection},
};
use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        lockfile::{
            BundleFileMode, LockedArtifact, LockedEntrypoint, Lockfile, LockfileGeneration,
            OriginType,
        },
        media_type,
        oci::{Descriptor, Platform},
        pack::PackOptions,
        reason::{ClassifiedError, Reason},
        reference::TagOrDigest,
    },
    fetch::{ArtifactOrigin, ArtifactStream, FetchError, FetchRequest, OpenedArtifact},
    oci::{ContentSource, MemoryTarget, ResolvedManifest},
    outdir::OutDirStaging,
};

/// Content by origin.
#[derive(Clone, Debug, Default)]
struct Files(BTreeMap<String, Vec<u8>>);

#[async_trait]
impl ArtifactOrigin for Files {
    async fn open_artifact(&self, request: FetchRequest<'_>) -> Result<OpenedArtifact, FetchError> {
        let content = self
            .0
            .get(request.origin)
            .ok_or_else(|| FetchError::NotFound {
                origin: request.origin.into(),
            })?;
        Ok(OpenedArtifact {
            content: ArtifactStream::Blocking(Box::new(Cursor::new(content.clone()))),
            download_location: None,
        })
    }

    async fn resolve_oci_digest(&self, _: FetchRequest<'_>) -> Result<Option<Digest>, FetchError> {
        Ok(None)
    }
}

/// A file to pack.
#[derive(Clone, Debug)]
struct File {
    path: String,
    content: Vec<u8>,
    mode: BundleFileMode,
    platforms: Vec<Platform>,
}

impl File {
    fn new(path: &str, content: &[u8]) -> Self {
        Self {
            path: path.into(),
            content: content.into(),
            mode: BundleFileMode::Plain,
            platforms: Vec::new(),
        }
    }

    fn on(self, platform: &str) -> Self {
        Self {
            platforms: vec![platform.parse().expect("a platform")],
            ..self
        }
    }
}

/// The lock of these files, with the entrypoint `run.sh` if one is given, and their origin.
fn lock(files: &[File], entrypoint: Option<&[u8]>) -> (Lockfile, Files) {
    let mut origins: BTreeMap<String, Vec<u8>> = files
        .iter()
        .map(|file| (format!("in/{}", file.path), file.content.clone()))
        .collect();
    let artifacts = files
        .iter()
        .enumerate()
        .map(|(index, file)| LockedArtifact {
            name: format!("n{index}"),
            origin_type: OriginType::File,
            origin: format!("in/{}", file.path),
            signed_origin: None,
            target: file.path.parse().expect("a path"),
            checksum: Digest::of_bytes(&file.content),
            size: file.content.len() as u64,
            mode: file.mode,
            unpack: None,
            oci: None,
            platforms: file.platforms.clone(),
        });
    let artifacts = artifacts.collect();
    let entrypoint = entrypoint.map(|content| {
        origins.insert("scripts/run.sh".into(), content.into());
        let (script, target) = ("scripts/run.sh".into(), "run.sh".parse().expect("a path"));
        LockedEntrypoint {
            script,
            target,
            mode: BundleFileMode::Executable,
            checksum: Digest::of_bytes(content),
            size: content.len() as u64,
        }
    });
    let lock = Lockfile {
        generation: LockfileGeneration::Packgate,
        name: None,
        version: None,
        entrypoint,
        artifacts,
        layers: Vec::new(),
    };
    (
        lock.into_checked(&InputLimits::DEFAULT)
            .expect("a valid lock"),
        Files(origins),
    )
}

async fn pack(
    lock: &Lockfile,
    origin: Files,
    output: PackOptions,
) -> Result<(MemoryTarget, StoredBundle), PackServiceError> {
    let target = MemoryTarget::new();
    let packed = PackService::new(
        Arc::new(target.clone()),
        Arc::new(origin),
        Arc::new(SilentProgress),
    )
    .pack_lock(lock, output, false)
    .await?;
    Ok((target, packed))
}

async fn open(
    source: &dyn ContentSource,
    root: Digest,
) -> Result<BundleContents, BundleContentsError> {
    let root: ResolvedManifest = source
        .resolve_manifest(&TagOrDigest::Digest(root), &InputLimits::DEFAULT)
        .await?;
    bundle_contents::open_bundle(source, &root, &InputLimits::DEFAULT).await
}

type Tree = BTreeMap<String, (u32, Vec<u8>)>;

/// The files that `unpack` writes.
async fn unpacked(
    source: &dyn ContentSource,
    contents: &BundleContents,
    selection: &UnpackSelection,
) -> Result<Tree, BundleUnpackError> {
    let permission = UnpackPermission::WithoutVerification;
    let root = Digest::of_bytes(b"");
    unpacked_with(permission, source, root, contents, selection).await
}

async fn unpacked_with(
    permission: UnpackPermission,
    source: &dyn ContentSource,
    root: Digest,
    contents: &BundleContents,
    selection: &UnpackSelection,
) -> Result<Tree, BundleUnpackError> {
    let folder = tempfile::tempdir().expect("a folder");
    let staging = OutDirStaging::create(&folder.path().join("out")).expect("staging");
    let mut descriptor = Descriptor::of_bytes(media_type::MANIFEST, b"");
    descriptor.digest = root;
    let root = ResolvedManifest {
        descriptor,
        bytes: bytes::Bytes::new(),
    };
    let request = UnpackRequest {
        source,
        root: &root,
        contents,
        selection: selection.clone(),
        limits: &InputLimits::DEFAULT,
        progress: Arc::new(SilentProgress),
    };
    let (staging, count) = unpack::unpack_bundle(request, permission, staging).await?;
    staging.commit_folder().expect("committed");
    let mut tree = Tree::new();
    collect(&folder.path().join("out"), "", &mut tree);
    assert_eq!(tree.len(), count);
    Ok(tree)
}

fn collect(folder: &std::path::Path, prefix: &str, tree: &mut Tree) {
    use std::{fs, os::unix::fs::PermissionsExt};
    for entry in fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry"))
    {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let found = entry.metadata().expect("metadata");
        if found.is_dir() {
            assert_eq!(found.permissions().mode() & 0o7777, 0o755, "{name}");
            collect(&entry.path(), &format!("{name}/"), tree);
        } else {
            tree.insert(
                name,
                (
                    found.permissions().mode() & 0o7777,
                    fs::read(entry.path()).expect("a file"),
                ),
            );
        }
    }
}

/// Opens and unpacks all of it, as far as that succeeds.
async fn judge(source: &dyn ContentSource, root: Digest) -> Result<Tree, (Reason, String)> {
    let contents = open(source, root)
        .await
        .map_err(|e| (e.reason(), e.to_string()))?;
    unpacked(source, &contents, &UnpackSelection::default())
        .await
        .map_err(|e| (e.reason(), e.to_string()))
}
