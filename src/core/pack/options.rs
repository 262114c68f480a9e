//! The user's options for a bundle. All of them are covered by the digest and recorded in
//! provenance.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::PackError;
use crate::core::{names::names, oci::Annotations};

/// The annotation that carries [`super::PACK_FORMAT`].
pub const PACK_FORMAT_ANNOTATION: &str = "dev.packgate.pack-format";
/// The annotation that carries the canonical lock's digest.
pub const LOCK_ANNOTATION: &str = "dev.packgate.lock.digest";
/// The annotation that carries a file's mode in the `Artifact` format.
pub const MODE_ANNOTATION: &str = "dev.packgate.file.mode";
/// The annotation that `oras pull` reads a file's name from.
pub const TITLE_ANNOTATION: &str = "org.opencontainers.image.title";
/// The annotation that carries the creation time.
pub const CREATED_ANNOTATION: &str = "org.opencontainers.image.created";

/// The format of a bundle's manifest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BundleFormat {
    /// Image-shaped, with deterministic tar layers: can be mounted as a Kubernetes image volume.
    #[default]
    Image,
    /// One raw blob for each file, for `oras pull`.
    Artifact,
}

names!(BundleFormat, Image = "Image", Artifact = "Artifact");

/// How the layers of an `Image` are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum LayerCompression {
    /// No compression.
    #[default]
    None,
    /// Zstandard, at [`super::ZSTD_LEVEL`], one thread.
    Zstd,
}

names!(LayerCompression, None = "None", Zstd = "Zstd");

/// The user's options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PackOptions {
    /// The format of the manifest.
    pub format: BundleFormat,
    /// The compression of the layers.
    pub compression: LayerCompression,
    /// The creation time of the bundle, in seconds since 1970. Absent by default; 0 is a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_date_epoch: Option<i64>,
    /// Further annotations of the manifest.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
}

impl PackOptions {
    /// Checks options: annotations that packgate sets itself, a creation time out of range,
    /// compressed raw blobs.
    pub fn check_options(&self) -> Result<(), PackError> {
        if let Some(key) = self
            .annotations
            .keys()
            .find(|key| is_reserved_annotation(key))
        {
            return Err(PackError::ReservedAnnotation(key.clone()));
        }
        if self.format == BundleFormat::Artifact && self.compression != LayerCompression::None {
            return Err(PackError::CompressedArtifact);
        }
        self.created_rfc3339().map(|_| ())
    }

    /// The creation time in RFC 3339, if it is set.
    pub fn created_rfc3339(&self) -> Result<Option<String>, PackError> {
        let to_text = |seconds| {
            Timestamp::from_second(seconds)
                .ok()
                .filter(|_| seconds >= 0)
                .map(|time| time.to_string())
        };
        match self.source_date_epoch {
            None => Ok(None),
            Some(seconds) => to_text(seconds).map(Some).ok_or(PackError::Epoch(seconds)),
        }
    }
}

/// Keys that only packgate sets.
pub fn is_reserved_annotation(key: &str) -> bool {
    key.is_empty() || key == CREATED_ANNOTATION || key.starts_with("dev.packgate.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str) -> PackOptions {
        PackOptions {
            annotations: Annotations::from([(key.into(), "x".into())]),
            ..PackOptions::default()
        }
    }

    #[test]
    fn what_packgate_sets_itself_cannot_be_set() {
        for key in [
            "dev.packgate.pack-format",
            "dev.packgate.x",
            "org.opencontainers.image.created",
            "",
        ] {
            assert!(
                matches!(
                    with(key).check_options(),
                    Err(PackError::ReservedAnnotation(_))
                ),
                "{key}"
            );
        }
        assert!(
            with("org.opencontainers.image.title")
                .check_options()
                .is_ok()
        );
    }

    #[test]
    fn a_creation_time_is_seconds_since_1970() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
        ] {
            let output = PackOptions {
                source_date_epoch: Some(seconds),
                ..PackOptions::default()
            };
            assert_eq!(
                output.created_rfc3339().expect("valid").as_deref(),
                Some(text)
            );
        }
        for seconds in [-1, i64::MAX] {
            assert!(
                PackOptions {
                    source_date_epoch: Some(seconds),
                    ..PackOptions::default()
                }
                .check_options()
                .is_err(),
                "{seconds}"
            );
        }
    }

    #[test]
    fn raw_blobs_are_not_compressed() {
        let output = PackOptions {
            format: BundleFormat::Artifact,
            compression: LayerCompression::Zstd,
            ..PackOptions::default()
        };
        assert!(matches!(
            output.check_options(),
            Err(PackError::CompressedArtifact)
        ));
    }
}
