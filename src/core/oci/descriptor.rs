//! Content descriptors (image-spec 1.1, descriptor.md).

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::Annotations;
use crate::core::{digest::Digest, media_type};

/// The media type, size and digest of content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type of the content.
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// Length of the content in bytes.
    pub size: u64,
    /// Platform, on the children of an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// The artifact's type, on a referrer's descriptor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The annotations.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
    /// The content itself in base64, for very small content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

impl Descriptor {
    /// A descriptor without extras.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            artifact_type: None,
            annotations: Annotations::new(),
            data: None,
        }
    }

    /// The descriptor of `bytes`.
    pub fn of_bytes(media_type: impl Into<String>, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of_bytes(bytes), bytes.len() as u64)
    }

    /// The empty descriptor with its content `{}` inside (image-spec 1.1, manifest.md, "Guidance
    /// for an Empty Descriptor").
    pub fn empty() -> Self {
        Self {
            data: Some("e30=".into()),
            ..Self::of_bytes(media_type::EMPTY, EMPTY_CONTENT)
        }
    }

    /// Only what identifies the content: media type, digest, size. The form that a `subject` takes.
    #[must_use]
    pub fn without_metadata(&self) -> Self {
        Self::new(self.media_type.clone(), self.digest, self.size)
    }

    /// The same descriptor with embedded content. For small content only: base64 adds a third to
    /// the size of the document.
    #[must_use]
    pub fn with_embedded_content(self, bytes: &[u8]) -> Self {
        Self {
            data: Some(STANDARD.encode(bytes)),
            ..self
        }
    }

    /// The embedded content, if it exists and is valid base64. A claim: the caller compares the
    /// digest.
    pub fn embedded_content(&self) -> Option<Vec<u8>> {
        STANDARD.decode(self.data.as_ref()?).ok()
    }

    /// True if it describes a manifest or an index.
    pub fn is_manifest_or_index(&self) -> bool {
        media_type::is_manifest(&self.media_type) || media_type::is_index(&self.media_type)
    }
}

/// The content of [`Descriptor::empty`].
pub const EMPTY_CONTENT: &[u8] = b"{}";

/// Operating system and architecture of an index's child, written `os/architecture[/variant]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// The GOOS value, such as `linux`.
    pub os: String,
    /// The GOARCH value, such as `amd64`.
    pub architecture: String,
    /// The CPU variant, such as `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// `linux/amd64`: what a bundle without platforms carries in its config, because the
    /// specification requires some value.
    pub fn linux_amd64() -> Self {
        Self {
            os: "linux".into(),
            architecture: "amd64".into(),
            variant: None,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant
            .as_ref()
            .map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// A string is not a valid platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("platform {0:?} must be os/architecture or os/architecture/variant, such as linux/amd64")]
pub struct PlatformError(String);

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let wrong = || PlatformError(text.chars().take(100).collect());
        let word = |s: &str| {
            !s.is_empty()
                && s.len() <= 32
                && s.bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| word(part)) {
            return Err(wrong());
        }
        match parts[..] {
            [os, architecture] => Ok(Self {
                os: os.into(),
                architecture: architecture.into(),
                variant: None,
            }),
            [os, architecture, variant] => Ok(Self {
                os: os.into(),
                architecture: architecture.into(),
                variant: Some(variant.into()),
            }),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_descriptor_is_the_specifications_own() {
        let json = serde_json::to_string(&Descriptor::empty()).expect("serialisable");
        assert_eq!(
            json,
            r#"{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2,"data":"e30="}"#
        );
    }

    #[test]
    fn platforms_are_read_and_written() {
        for text in ["linux/amd64", "linux/arm64/v8"] {
            assert_eq!(text.parse::<Platform>().expect(text).to_string(), text);
        }
        for text in [
            "",
            "linux",
            "linux/",
            "/amd64",
            "linux/amd64/v8/x",
            "Linux/amd64",
            "linux/am d",
        ] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
