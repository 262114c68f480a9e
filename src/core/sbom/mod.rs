//! The software bill of materials of a bundle: the content of its lock, as SPDX or `CycloneDX`.
//!
//! It follows from the lock and the epoch alone, byte for byte: identifiers come from the lock's
//! digest, the time is `sourceDateEpoch` or 1970, and no version of packgate is in it. What is
//! *not* in it: the content of archives and images, which is not analysed here.

mod cyclonedx;
mod spdx;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    digest::Digest,
    intoto::Statement,
    lockfile::{BundleFileMode, Lockfile},
    media_type,
    names::names,
    oci::Platform,
    reason::{Reason, classify},
    timestamp::format_rfc3339,
};

/// Predicate type of a statement that names a document elsewhere (in-toto attestation framework,
/// spec/predicates/reference.md).
pub const REFERENCE_PREDICATE_TYPE: &str = "https://in-toto.io/attestation/reference/v0.1";
/// Bytes of the largest document that is attested as a whole. A larger one is a referrer of its
/// own, whose digest is attested: transparency logs do not accept statements of megabytes.
pub const MAX_ATTESTED_BYTES: usize = 1 << 20;

/// The format of an SBOM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SbomFormat {
    /// SPDX 2.3.
    #[serde(rename = "SPDX")]
    Spdx,
    /// `CycloneDX` 1.6.
    CycloneDX,
}

names!(SbomFormat, Spdx = "SPDX", CycloneDX = "CycloneDX");

impl SbomFormat {
    /// The predicate type of such a document.
    pub const fn predicate_type(self) -> &'static str {
        match self {
            Self::Spdx => "https://spdx.dev/Document",
            Self::CycloneDX => "https://cyclonedx.org/bom",
        }
    }

    /// The media type of the document.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Spdx => media_type::SPDX,
            Self::CycloneDX => media_type::CYCLONEDX,
        }
    }

    /// The file name of the document.
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Spdx => "sbom.spdx.json",
            Self::CycloneDX => "sbom.cdx.json",
        }
    }
}

/// Why an SBOM cannot be generated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SbomError {
    #[error("source date epoch {0} is out of range")]
    Epoch(i64),
    #[error("cannot serialise the software bill of materials: {0}")]
    Canonical(String),
}

classify!(SbomError, |error| match error {
    Self::Epoch(_) => Reason::InvalidSpec,
    Self::Canonical(_) => Reason::Internal,
});

/// An SBOM of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SbomDocument {
    format: SbomFormat,
    document: Value,
    bytes: Bytes,
    digest: Digest,
}

impl SbomDocument {
    /// The SBOM of a bundle with this lock and this epoch.
    ///
    /// Errors: the epoch is out of range.
    pub fn new(format: SbomFormat, lock: &Lockfile, epoch: Option<i64>) -> Result<Self, SbomError> {
        let seconds = epoch.unwrap_or_default();
        let created = Timestamp::from_second(seconds).map_err(|_| SbomError::Epoch(seconds))?;
        let bill = SbomInput {
            lock,
            digest: lock.to_canonical().digest,
            epoch,
            created: format_rfc3339(created),
        };
        let document = match format {
            SbomFormat::Spdx => spdx::spdx_document(&bill),
            SbomFormat::CycloneDX => cyclonedx::cyclonedx_document(&bill),
        };
        let bytes = Bytes::from(
            serde_json_canonicalizer::to_vec(&document)
                .map_err(|e| SbomError::Canonical(e.to_string()))?,
        );
        let digest = Digest::of_bytes(&bytes);
        Ok(Self {
            format,
            document,
            bytes,
            digest,
        })
    }

    /// The format.
    pub const fn format(&self) -> SbomFormat {
        self.format
    }

    /// The document, in the canonical form of RFC 8785.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The digest of the document.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// True if it is too large to be attested as a whole ([`MAX_ATTESTED_BYTES`]).
    pub const fn is_attested_by_reference(&self) -> bool {
        self.bytes.len() > MAX_ATTESTED_BYTES
    }

    /// The predicate type of the statement that attests it.
    pub const fn predicate_type(&self) -> &'static str {
        if self.is_attested_by_reference() {
            REFERENCE_PREDICATE_TYPE
        } else {
            self.format.predicate_type()
        }
    }

    /// The predicate that attests it. One that is stored separately is at `location`, and
    /// `attester`, a URI, attests that.
    pub fn attestation_predicate(&self, attester: &str, location: &str) -> Value {
        if !self.is_attested_by_reference() {
            return self.document.clone();
        }
        let reference = json!({
            "name": self.format.file_name(),
            "downloadLocation": location,
            "digest": {"sha256": self.digest.hex_digits()},
            "mediaType": self.format.media_type(),
        });
        json!({"attester": {"id": attester}, "references": [reference]})
    }

    /// True if the statement attests it.
    pub fn is_attested_by(&self, statement: &Statement) -> bool {
        if statement.predicate_type != self.predicate_type() {
            return false;
        }
        if !self.is_attested_by_reference() {
            return statement.predicate == self.document;
        }
        let references = statement
            .predicate
            .get("references")
            .and_then(Value::as_array);
        references.is_some_and(|references| {
            references
                .iter()
                .any(|reference| reference["digest"]["sha256"] == self.digest.hex_digits())
        })
    }
}

/// The data of both formats.
struct SbomInput<'a> {
    lock: &'a Lockfile,
    digest: Digest,
    epoch: Option<i64>,
    created: String,
}

impl SbomInput<'_> {
    /// The name of the bundle: the lock's name, or its digest.
    fn bundle_name(&self) -> String {
        self.lock
            .name
            .clone()
            .unwrap_or_else(|| format!("lock-{}", &self.digest.hex_digits()[..12]))
    }

    /// The files in the lock's order, the entrypoint last.
    fn list_files(&self) -> Vec<SbomFile<'_>> {
        let artifacts = self.lock.artifacts.iter().map(|artifact| SbomFile {
            name: &artifact.name,
            kind: artifact.origin_type.as_str(),
            origin: &artifact.origin,
            target: artifact.target.as_str(),
            checksum: artifact.checksum,
            size: artifact.size,
            mode: artifact.mode,
            platforms: &artifact.platforms,
        });
        let entrypoint = self.lock.entrypoint.iter().map(|entrypoint| SbomFile {
            name: "entrypoint",
            kind: "file",
            origin: &entrypoint.script,
            target: entrypoint.target.as_str(),
            checksum: entrypoint.checksum,
            size: entrypoint.size,
            mode: entrypoint.mode,
            platforms: &[],
        });
        artifacts.chain(entrypoint).collect()
    }
}

/// One file of the bundle.
struct SbomFile<'a> {
    name: &'a str,
    kind: &'static str,
    origin: &'a str,
    target: &'a str,
    checksum: Digest,
    size: u64,
    mode: BundleFileMode,
    platforms: &'a [Platform],
}

impl SbomFile<'_> {
    /// Properties without a field in either format.
    fn extra_properties(&self) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("name", self.name.to_owned()),
            ("type", self.kind.to_owned()),
            ("origin", self.origin.to_owned()),
            ("size", self.size.to_string()),
            ("mode", self.mode.as_str().to_owned()),
        ];
        if !self.platforms.is_empty() {
            let platforms: Vec<String> = self.platforms.iter().map(ToString::to_string).collect();
            facts.push(("platforms", platforms.join(" ")));
        }
        facts
    }
}
