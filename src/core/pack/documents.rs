//! Configs, manifests and indexes of bundles, written and read back.

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use super::{
    CREATED_ANNOTATION, Format, LOCK_ANNOTATION, LOCK_PATH, LayerCompression, LayerPlan,
    MODE_ANNOTATION, Output, PACK_FORMAT, PACK_FORMAT_ANNOTATION, PackError, Segment,
    TITLE_ANNOTATION, TarFile, is_reserved, segments,
};
use crate::core::{
    class::{Classified, Reason},
    digest::Digest,
    limits::Limits,
    lockfile::CanonicalLock,
    media_type,
    oci::{
        Annotations, Descriptor, Document, Index, Manifest, Platform, descriptor::EMPTY_CONTENT,
    },
};

/// Bytes with their descriptor.
pub type Blob = (Descriptor, Bytes);

/// The small documents of one manifest; the layers with files are elsewhere.
#[derive(Clone, Debug)]
pub struct Documents {
    /// The layer that holds the lock.
    pub lock: Blob,
    /// The config.
    pub config: Blob,
    /// The manifest.
    pub manifest: Blob,
}

/// A layer as it lies in the registry, and what it is uncompressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerBlob {
    /// The blob.
    pub descriptor: Descriptor,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
}

impl LayerBlob {
    /// An uncompressed layer.
    pub fn plain(diff_id: Digest, size: u64) -> Self {
        Self {
            descriptor: Descriptor::new(media_type::LAYER, diff_id, size),
            diff_id,
        }
    }

    /// A compressed layer.
    pub fn zstd(digest: Digest, size: u64, diff_id: Digest) -> Self {
        Self {
            descriptor: Descriptor::new(media_type::LAYER_ZSTD, digest, size),
            diff_id,
        }
    }
}

/// The documents of an `Image`, none larger than anybody reads. The lock's layer is never
/// compressed: it is small, and readable without a decoder.
pub fn image(
    lock: &CanonicalLock,
    output: &Output,
    platform: Option<&Platform>,
    blobs: &[LayerBlob],
) -> Result<Documents, PackError> {
    let lock_layer = lock_layer(lock);
    let lock_blob = (Descriptor::of(media_type::LAYER, &lock_layer), lock_layer);
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
    if let Some(created) = output.created()? {
        config["created"] = created.into();
    }
    let config = document(media_type::CONFIG, &config)?;
    let layers = std::iter::once(lock_blob.0.clone())
        .chain(blobs.iter().map(|blob| blob.descriptor.clone()))
        .collect();
    let manifest = manifest(None, config.0.clone(), layers, annotations(lock, output))?;
    Ok(Documents {
        lock: lock_blob,
        config,
        manifest,
    })
}

/// The documents of an `Artifact`.
pub fn artifact(
    lock: &CanonicalLock,
    output: &Output,
    layers: &[LayerPlan],
) -> Result<Documents, PackError> {
    let lock_bytes = Bytes::from(lock.bytes.clone());
    let lock_blob = (Descriptor::of(media_type::LOCK, &lock_bytes), lock_bytes);
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
    let mut annotations = annotations(lock, output);
    if let Some(created) = output.created()? {
        annotations.insert(CREATED_ANNOTATION.into(), created);
    }
    let manifest = manifest(
        Some(media_type::ARTIFACT),
        Descriptor::empty(),
        layers,
        annotations,
    )?;
    Ok(Documents {
        lock: lock_blob,
        config: (Descriptor::empty(), Bytes::from_static(EMPTY_CONTENT)),
        manifest,
    })
}

/// The index over the manifests of several platforms.
pub fn index(
    lock: &CanonicalLock,
    output: &Output,
    children: impl Iterator<Item = (Platform, Descriptor)>,
) -> Result<Blob, PackError> {
    let manifests = children
        .map(|(platform, manifest)| Descriptor {
            platform: Some(platform),
            ..manifest
        })
        .collect();
    let index = Index {
        annotations: annotations(lock, output),
        ..Index::new(manifests)
    };
    document(media_type::INDEX, &index)
}

fn manifest(
    artifact_type: Option<&str>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    annotations: Annotations,
) -> Result<Blob, PackError> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        artifact_type: artifact_type.map(Into::into),
        config,
        layers,
        subject: None,
        annotations,
    };
    document(media_type::MANIFEST, &manifest)
}

fn annotations(lock: &CanonicalLock, output: &Output) -> Annotations {
    let own = [
        (PACK_FORMAT_ANNOTATION, PACK_FORMAT.to_owned()),
        (LOCK_ANNOTATION, lock.digest.to_string()),
    ];
    own.into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .chain(output.annotations.clone())
        .collect()
}

fn document(media_type: &str, value: &impl Serialize) -> Result<Blob, PackError> {
    let bytes = Bytes::from(
        serde_json_canonicalizer::to_vec(value).map_err(|e| PackError::Canonical(e.to_string()))?,
    );
    let limit = Limits::DEFAULT.manifest_bytes;
    if bytes.len() > limit {
        return Err(PackError::TooLarge {
            what: media_type.into(),
            size: bytes.len(),
            limit,
        });
    }
    Ok((Descriptor::of(media_type, &bytes), bytes))
}

fn lock_layer(lock: &CanonicalLock) -> Bytes {
    let file = TarFile {
        path: LOCK_PATH.into(),
        mode: 0o644,
        size: lock.bytes.len() as u64,
        content: (),
    };
    let pieces = segments([file]).into_iter().map(|segment| match segment {
        Segment::Literal(bytes) => bytes,
        Segment::Content { .. } => lock.bytes.clone(),
    });
    pieces.collect::<Vec<_>>().concat().into()
}

/// Takes the lock's bytes out of the first layer of an `Image`. Refuses a layer that holds anything
/// else.
pub fn lock_in_layer(layer: &[u8]) -> Result<Vec<u8>, EmbeddedError> {
    // Folder header, file header, content: the file's size stands at a fixed place.
    let field = layer
        .get(512 + 124..512 + 135)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    let size = field
        .and_then(|digits| usize::from_str_radix(digits, 8).ok())
        .ok_or(EmbeddedError::Layer)?;
    let bytes = layer
        .get(1_024..)
        .and_then(|rest| rest.get(..size))
        .ok_or(EmbeddedError::Layer)?;
    let lock = CanonicalLock {
        bytes: bytes.to_vec(),
        digest: Digest::of(bytes),
    };
    if lock_layer(&lock) == layer {
        Ok(lock.bytes)
    } else {
        Err(EmbeddedError::Layer)
    }
}

/// Reads back what a bundle was packed with, from its manifest and config. [`image`] and
/// [`artifact`] then say whether every byte is as packgate would write it.
pub fn output_of(
    manifest: &Manifest,
    config: &[u8],
    limits: &Limits,
) -> Result<Output, EmbeddedError> {
    let format = manifest
        .annotations
        .get(PACK_FORMAT_ANNOTATION)
        .ok_or(EmbeddedError::NotABundle)?;
    if format != PACK_FORMAT {
        return Err(EmbeddedError::PackFormat(format.chars().take(20).collect()));
    }
    let is_artifact = manifest.artifact_type.as_deref() == Some(media_type::ARTIFACT);
    let zstd = manifest
        .layers
        .iter()
        .any(|layer| layer.media_type == media_type::LAYER_ZSTD);
    let created = if is_artifact {
        manifest.annotations.get(CREATED_ANNOTATION).cloned()
    } else {
        created_of(config, limits)?
    };
    let epoch = created.map(|text| {
        text.parse::<jiff::Timestamp>()
            .map(jiff::Timestamp::as_second)
            .map_err(|_| EmbeddedError::Created(text.chars().take(40).collect()))
    });
    Ok(Output {
        format: if is_artifact {
            Format::Artifact
        } else {
            Format::Image
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
            .filter(|(key, _)| !is_reserved(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    })
}

fn created_of(config: &[u8], limits: &Limits) -> Result<Option<String>, EmbeddedError> {
    #[derive(serde::Deserialize)]
    struct Config {
        created: Option<String>,
    }
    let config: Config = crate::core::json::parse(config, limits.config_bytes, limits.json_depth)
        .map_err(|e| EmbeddedError::Config(e.to_string()))?;
    Ok(config.created)
}

/// The manifest in a document, or why there is none.
pub fn manifest_of(document: Document) -> Result<Manifest, EmbeddedError> {
    match document {
        Document::Manifest(manifest) => Ok(manifest),
        Document::Index(_) => Err(EmbeddedError::NotABundle),
    }
}

/// Why something is no bundle of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmbeddedError {
    /// No pack format annotation.
    #[error("not a packgate bundle: the manifest has no annotation dev.packgate.pack-format")]
    NotABundle,
    /// A pack format that this version does not know.
    #[error("bundle has pack format {0:?}, this version reads \"1\"; use a newer packgate")]
    PackFormat(String),
    /// The config cannot be read.
    #[error("config cannot be read: {0}")]
    Config(String),
    /// The creation time is none.
    #[error("creation time {0:?} is not in RFC 3339")]
    Created(String),
    /// The first layer does not hold exactly the lock.
    #[error("first layer does not hold exactly the file .packgate/lock.json")]
    Layer,
}

impl Classified for EmbeddedError {
    fn reason(&self) -> Reason {
        match self {
            Self::NotABundle | Self::PackFormat(_) => Reason::InvalidSpec,
            _ => Reason::MalformedManifest,
        }
    }
}
