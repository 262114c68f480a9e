//! Image manifests and indexes (image-spec 1.1, manifest.md and image-index.md).
//!
//! What is *not* checked here: whether the blobs of a manifest exist, and their content.

use serde::{Deserialize, Serialize};

use super::{Annotations, Descriptor};
use crate::core::{
    json::{self, JsonError},
    limits::InputLimits,
    media_type,
    reason::{Reason, classify},
};

/// An image manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Always 2.
    pub schema_version: u32,
    /// The manifest's own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The type of the artifact, if the config does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The descriptor of the config.
    pub config: Descriptor,
    /// The descriptors of the layers.
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// The annotations.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
}

/// An image index: a list of manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    /// Always 2.
    pub schema_version: u32,
    /// The index's own media type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The type of the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The descriptors of the manifests.
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// The annotations.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
}

impl ImageIndex {
    /// An OCI index of `manifests` without anything else.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::INDEX.into()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: Annotations::new(),
        }
    }
}

/// A manifest or an index, whichever the bytes are.
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time, and never in a collection"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestOrIndex {
    /// A manifest with layers.
    Manifest(ImageManifest),
    /// A list of manifests.
    Index(ImageIndex),
}

impl ManifestOrIndex {
    /// Parses `bytes` with this `media_type` (a descriptor's, or the registry's `Content-Type`).
    ///
    /// A document that could be parsed as both, or whose own `mediaType` differs, is refused: two
    /// readers would see different documents.
    pub fn parse(
        media_type: &str,
        bytes: &[u8],
        limits: &InputLimits,
    ) -> Result<Self, ManifestError> {
        let shape: ManifestFieldPresence =
            json::parse_strict(bytes, limits.manifest_bytes, limits.json_depth)?;
        if let Some(own) = &shape.media_type
            && own != media_type
        {
            return Err(ManifestError::MediaType {
                own: own.chars().take(120).collect(),
                outer: media_type.chars().take(120).collect(),
            });
        }
        if shape.schema_version != 2 {
            return Err(ManifestError::SchemaVersion(shape.schema_version));
        }
        match (
            media_type::is_index(media_type),
            shape.manifests.is_some(),
            shape.layers.is_some() || shape.config.is_some(),
        ) {
            (_, true, true) => Err(ManifestError::Ambiguous),
            (true, true, false) => Ok(Self::Index(
                serde_json::from_slice(bytes).map_err(JsonError::from)?,
            )),
            (false, false, true) if media_type::is_manifest(media_type) => Ok(Self::Manifest(
                serde_json::from_slice(bytes).map_err(JsonError::from)?,
            )),
            _ => Err(ManifestError::Shape(media_type.chars().take(120).collect())),
        }
    }

    /// The manifest that it refers to.
    pub const fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Manifest(manifest) => manifest.subject.as_ref(),
            Self::Index(index) => index.subject.as_ref(),
        }
    }

    /// Its annotations.
    pub const fn annotations(&self) -> &Annotations {
        match self {
            Self::Manifest(manifest) => &manifest.annotations,
            Self::Index(index) => &index.annotations,
        }
    }

    /// All content that must exist for this document to be complete: config and layers, or
    /// children. Not the subject.
    pub fn children(&self) -> Vec<&Descriptor> {
        match self {
            Self::Manifest(manifest) => std::iter::once(&manifest.config)
                .chain(&manifest.layers)
                .collect(),
            Self::Index(index) => index.manifests.iter().collect(),
        }
    }

    /// The type of the artifact: `artifactType`, else the config's media type (distribution-spec
    /// 1.1, "Listing Referrers").
    pub fn artifact_type(&self) -> Option<&str> {
        match self {
            Self::Manifest(manifest) => manifest
                .artifact_type
                .as_deref()
                .or(Some(&manifest.config.media_type)),
            Self::Index(index) => index.artifact_type.as_deref(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestFieldPresence {
    schema_version: u32,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

/// Why a manifest or index was refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ManifestError {
    /// Not JSON, too large, too deep, or a field is missing or of another type.
    #[error("manifest cannot be read: {0}")]
    Json(#[from] JsonError),
    #[error("manifest has schemaVersion {0}, only 2 is supported")]
    SchemaVersion(u32),
    #[error("manifest has mediaType {own:?} but was served as {outer:?}")]
    MediaType {
        own: String,
        /// `mediaType` of the descriptor, or the response's `Content-Type`.
        outer: String,
    },
    #[error("manifest has both layers and manifests, so it is ambiguous")]
    Ambiguous,
    #[error("content does not have the fields of {0:?}")]
    Shape(String),
}

classify!(ManifestError, |_| Reason::MalformedManifest);

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIPTOR: &str = r#"{"mediaType":"x","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}"#;

    fn parse(media_type: &str, text: &str) -> Result<ManifestOrIndex, String> {
        ManifestOrIndex::parse(media_type, text.as_bytes(), &InputLimits::DEFAULT)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn manifests_and_indexes_are_told_apart() {
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{DESCRIPTOR},"layers":[{DESCRIPTOR}],"subject":{DESCRIPTOR}}}"#,
            media_type::MANIFEST
        );
        let ManifestOrIndex::Manifest(read) =
            parse(media_type::MANIFEST, &manifest).expect("a manifest")
        else {
            panic!("an index")
        };
        assert_eq!(read.layers.len(), 1);
        assert!(read.subject.is_some());
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{DESCRIPTOR}]}}"#);
        assert_eq!(
            parse(media_type::INDEX, &index)
                .expect("an index")
                .children()
                .len(),
            1
        );
    }

    #[test]
    fn documents_with_two_meanings_are_refused() {
        let both =
            format!(r#"{{"schemaVersion":2,"config":{DESCRIPTOR},"layers":[],"manifests":[]}}"#);
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{DESCRIPTOR},"layers":[]}}"#,
            media_type::MANIFEST
        );
        let old = format!(r#"{{"schemaVersion":1,"config":{DESCRIPTOR},"layers":[]}}"#);
        let short = r#"{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:00","size":0},"layers":[]}"#;
        for (media_type, text, part) in [
            (
                media_type::MANIFEST,
                both.as_str(),
                "both layers and manifests",
            ),
            (media_type::INDEX, &manifest, "has mediaType"),
            (media_type::MANIFEST, &old, "schemaVersion 1"),
            (
                media_type::MANIFEST,
                r#"{"schemaVersion":2,"manifests":[]}"#,
                "does not have the fields",
            ),
            (
                "text/plain",
                r#"{"schemaVersion":2}"#,
                "does not have the fields",
            ),
            (media_type::MANIFEST, short, "64 lower-case"),
            (media_type::MANIFEST, "[]", "cannot be read"),
        ] {
            let error = parse(media_type, text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
