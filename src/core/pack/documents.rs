//! Configs, manifests and indexes of bundles, written and read back.

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use super::{
    BundleFormat, CREATED_ANNOTATION, LOCK_ANNOTATION, LOCK_PATH, LayerCompression, LayerPlan,
    MODE_ANNOTATION, PACK_FORMAT, PACK_FORMAT_ANNOTATION, PackError, PackOptions, TITLE_ANNOTATION,
    TarFile, TarSegment, is_reserved_annotation, plan_tar_segments,
};
use crate::core::{
    digest::Digest,
    limits::InputLimits,
    lockfile::CanonicalLock,
    media_type,
    oci::{
        Annotations, Descriptor, ImageIndex, ImageManifest, ManifestOrIndex, Platform,
        descriptor::EMPTY_CONTENT,
    },
    reason::{Reason, classify},
};

/// Bytes with their descriptor.
pub type DescribedBlob = (Descriptor, Bytes);

/// The small documents of one manifest; the layers with files are elsewhere.
#[derive(Clone, Debug)]
pub struct ManifestDocuments {
    /// The layer with the lock.
    pub lock: DescribedBlob,
    /// The config.
    pub config: DescribedBlob,
    /// The manifest.
    pub manifest: DescribedBlob,
}

/// A layer in the registry, with the digest of its uncompressed form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerBlob {
    /// The descriptor of the blob.
    pub descriptor: Descriptor,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
}

impl LayerBlob {
    /// An uncompressed layer.
    pub fn uncompressed_layer(diff_id: Digest, size: u64) -> Self {
        Self {
            descriptor: Descriptor::new(media_type::LAYER, diff_id, size),
            diff_id,
        }
    }

    /// A layer compressed with zstd.
    pub fn zstd_layer(digest: Digest, size: u64, diff_id: Digest) -> Self {
        Self {
            descriptor: Descriptor::new(media_type::LAYER_ZSTD, digest, size),
            diff_id,
        }
    }
}

/// The documents of an `Image`, none larger than the limits of registries. The lock's layer is
/// never compressed: it is small, and readable without a decoder.
pub fn image_documents(
    lock: &CanonicalLock,
    output: &PackOptions,
    platform: Option<&Platform>,
    blobs: &[LayerBlob],
) -> Result<ManifestDocuments, PackError> {
    let lock_layer = build_lock_layer(lock);
    let lock_blob = (
        Descriptor::of_bytes(media_type::LAYER, &lock_layer),
        lock_layer,
    );
    let platform = platform.cloned().unwrap_or_else(Platform::linux_amd64);
    let diff_ids: Vec<Digest> = std::iter::once(lock_blob.0.digest)
        .chain(blobs.iter().map(|blob| blob.diff_id))
        .collect();
    let mut config = json!({
        "architecture": platform.architecture,
        "config": {},
        "os": platform.os,
        "rootfs": {"diff_ids": diff_ids, "type": "layers"},
    });
    if let Some(variant) = platform.variant {
        config["variant"] = variant.into();
    }
    if let Some(created) = output.created_rfc3339()? {
        config["created"] = created.into();
    }
    let config = canonical_blob(media_type::CONFIG, &config)?;
    let layers = std::iter::once(lock_blob.0.clone())
        .chain(blobs.iter().map(|blob| blob.descriptor.clone()))
        .collect();
    let manifest = manifest_blob(
        None,
        config.0.clone(),
        layers,
        manifest_annotations(lock, output),
    )?;
    Ok(ManifestDocuments {
        lock: lock_blob,
        config,
        manifest,
    })
}

/// The documents of an `Artifact`.
pub fn artifact_documents(
    lock: &CanonicalLock,
    output: &PackOptions,
    layers: &[LayerPlan],
) -> Result<ManifestDocuments, PackError> {
    let lock_bytes = Bytes::from(lock.bytes.clone());
    let lock_blob = (
        Descriptor::of_bytes(media_type::LOCK, &lock_bytes),
        lock_bytes,
    );
    let raw = layers
        .iter()
        .flat_map(|layer| &layer.files)
        .map(|file| Descriptor {
            annotations: Annotations::from([
                (TITLE_ANNOTATION.to_owned(), file.path.as_str().to_owned()),
                (MODE_ANNOTATION.to_owned(), file.mode.as_str().to_owned()),
            ]),
            ..Descriptor::new(media_type::OCTET_STREAM, file.checksum, file.size)
        });
    let layers = std::iter::once(lock_blob.0.clone()).chain(raw).collect();
    let mut annotations = manifest_annotations(lock, output);
    if let Some(created) = output.created_rfc3339()? {
        annotations.insert(CREATED_ANNOTATION.into(), created);
    }
    let manifest = manifest_blob(
        Some(media_type::ARTIFACT),
        Descriptor::empty(),
        layers,
        annotations,
    )?;
    Ok(ManifestDocuments {
        lock: lock_blob,
        config: (Descriptor::empty(), Bytes::from_static(EMPTY_CONTENT)),
        manifest,
    })
}

/// The index over the manifests of several platforms.
pub fn platform_index(
    lock: &CanonicalLock,
    output: &PackOptions,
    children: impl Iterator<Item = (Platform, Descriptor)>,
) -> Result<DescribedBlob, PackError> {
    let manifests = children
        .map(|(platform, manifest)| Descriptor {
            platform: Some(platform),
            ..manifest
        })
        .collect();
    let index = ImageIndex {
        annotations: manifest_annotations(lock, output),
        ..ImageIndex::new(manifests)
    };
    canonical_blob(media_type::INDEX, &index)
}

fn manifest_blob(
    artifact_type: Option<&str>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    annotations: Annotations,
) -> Result<DescribedBlob, PackError> {
    let manifest = ImageManifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        artifact_type: artifact_type.map(Into::into),
        config,
        layers,
        subject: None,
        annotations,
    };
    canonical_blob(media_type::MANIFEST, &manifest)
}

fn manifest_annotations(lock: &CanonicalLock, output: &PackOptions) -> Annotations {
    let own = [
        (PACK_FORMAT_ANNOTATION, PACK_FORMAT.to_owned()),
        (LOCK_ANNOTATION, lock.digest.to_string()),
    ];
    own.into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .chain(output.annotations.clone())
        .collect()
}

fn canonical_blob(media_type: &str, value: &impl Serialize) -> Result<DescribedBlob, PackError> {
    let bytes = Bytes::from(
        serde_json_canonicalizer::to_vec(value).map_err(|e| PackError::Canonical(e.to_string()))?,
    );
    let limit = InputLimits::DEFAULT.manifest_bytes;
    if bytes.len() > limit {
        return Err(PackError::TooLarge {
            what: media_type.into(),
            size: bytes.len(),
            limit,
        });
    }
    Ok((Descriptor::of_bytes(media_type, &bytes), bytes))
}

fn build_lock_layer(lock: &CanonicalLock) -> Bytes {
    let file = TarFile {
        path: LOCK_PATH.into(),
        mode: 0o644,
        size: lock.bytes.len() as u64,
        content: (),
    };
    let pieces = plan_tar_segments([file])
        .into_iter()
        .map(|segment| match segment {
            TarSegment::Literal(bytes) => bytes,
            TarSegment::Content { .. } => lock.bytes.clone(),
        });
    pieces.collect::<Vec<_>>().concat().into()
}

/// The lock's bytes in the first layer of an `Image`. Refuses a layer with any other content.
pub fn read_lock_from_layer(layer: &[u8]) -> Result<Vec<u8>, BundleFormatError> {
    // Folder header, file header, content: the file's size is at a fixed offset.
    let field = layer
        .get(512 + 124..512 + 135)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    let size = field
        .and_then(|digits| usize::from_str_radix(digits, 8).ok())
        .ok_or(BundleFormatError::Layer)?;
    let bytes = layer
        .get(1_024..)
        .and_then(|rest| rest.get(..size))
        .ok_or(BundleFormatError::Layer)?;
    let lock = CanonicalLock {
        bytes: bytes.to_vec(),
        digest: Digest::of_bytes(bytes),
    };
    if build_lock_layer(&lock) == layer {
        Ok(lock.bytes)
    } else {
        Err(BundleFormatError::Layer)
    }
}

/// Derives the pack options of a bundle from its manifest and config. With [`image_documents`] and
/// [`artifact_documents`] the caller then compares every byte.
pub fn read_pack_options(
    manifest: &ImageManifest,
    config: &[u8],
    limits: &InputLimits,
) -> Result<PackOptions, BundleFormatError> {
    let format = manifest
        .annotations
        .get(PACK_FORMAT_ANNOTATION)
        .ok_or(BundleFormatError::NotABundle)?;
    if format != PACK_FORMAT {
        return Err(BundleFormatError::PackFormat(
            format.chars().take(20).collect(),
        ));
    }
    let is_artifact = manifest.artifact_type.as_deref() == Some(media_type::ARTIFACT);
    let zstd = manifest
        .layers
        .iter()
        .any(|layer| layer.media_type == media_type::LAYER_ZSTD);
    let created = if is_artifact {
        manifest.annotations.get(CREATED_ANNOTATION).cloned()
    } else {
        read_created_time(config, limits)?
    };
    let epoch = created.map(|text| {
        text.parse::<jiff::Timestamp>()
            .map(jiff::Timestamp::as_second)
            .map_err(|_| BundleFormatError::Created(text.chars().take(40).collect()))
    });
    Ok(PackOptions {
        format: if is_artifact {
            BundleFormat::Artifact
        } else {
            BundleFormat::Image
        },
        compression: if zstd {
            LayerCompression::Zstd
        } else {
            LayerCompression::None
        },
        source_date_epoch: epoch.transpose()?,
        annotations: manifest
            .annotations
            .iter()
            .filter(|(key, _)| !is_reserved_annotation(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    })
}

fn read_created_time(
    config: &[u8],
    limits: &InputLimits,
) -> Result<Option<String>, BundleFormatError> {
    #[derive(serde::Deserialize)]
    struct ImageConfigCreated {
        created: Option<String>,
    }
    let config: ImageConfigCreated =
        crate::core::json::parse_strict(config, limits.config_bytes, limits.json_depth)
            .map_err(|e| BundleFormatError::Config(e.to_string()))?;
    Ok(config.created)
}

/// The manifest in a document, or why it is not one.
pub fn require_manifest(document: ManifestOrIndex) -> Result<ImageManifest, BundleFormatError> {
    match document {
        ManifestOrIndex::Manifest(manifest) => Ok(manifest),
        ManifestOrIndex::Index(_) => Err(BundleFormatError::NotABundle),
    }
}

/// Why something is not a packgate bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum BundleFormatError {
    #[error("not a packgate bundle: the manifest has no annotation dev.packgate.pack-format")]
    NotABundle,
    #[error("bundle has pack format {0:?}, this version reads \"1\"; use a newer packgate")]
    PackFormat(String),
    #[error("config cannot be read: {0}")]
    Config(String),
    #[error("creation time {0:?} is not in RFC 3339")]
    Created(String),
    #[error("first layer must contain exactly the file .packgate/lock.json")]
    Layer,
}

classify!(BundleFormatError, |error| match error {
    Self::NotABundle | Self::PackFormat(_) => Reason::InvalidSpec,
    _ => Reason::MalformedManifest,
});
