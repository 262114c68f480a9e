//! A `trusted_root.json`: the keys and certificates of the authorities, logs and timestamp
//! authorities that are trusted.

use std::fmt;

use jiff::Timestamp;
use sigstore_trust_root::TrustedRoot;
use sigstore_verify::{Error, Verifier};

use crate::core::{
    digest::Digest,
    evidence::{EvidenceError, sanitize_text},
    json::{self, JsonError},
    limits::InputLimits,
    reason::{ClassifiedError, Reason},
    x509::{CertificatePath, CertificateTransparencyLogs, EndEntityCertificate},
};

use super::{
    TrustedLogs,
    trust_root_authorities::{TrustRootAuthorities, narrow_timestamp_authority},
    trust_root_not_after::trust_root_not_after,
};

/// The prefix of every version's media type (protobuf-specs, `TrustedRoot.media_type`).
const ROOT_MEDIA_TYPE: &str = "application/vnd.dev.sigstore.trustedroot";

/// The keys and certificates of the authorities, logs and timestamp authorities that are trusted: a
/// `trusted_root.json`.
pub struct TrustRoot {
    /// Without certificate authorities and without certificate transparency logs: it does not
    /// verify certificates.
    pub(in crate::core) verifier: Verifier,
    pub(in crate::core) logs: TrustedLogs,
    authorities: TrustRootAuthorities,
    certificate_logs: CertificateTransparencyLogs,
    /// Timestamp authorities that are ignored, and why.
    unused: Vec<String>,
    digest: Digest,
    not_after: Option<Timestamp>,
}

/// Why a trust root is invalid.
#[derive(Debug, thiserror::Error)]
pub enum TrustRootError {
    /// Too large, not JSON, or ambiguous.
    #[error("trust root cannot be read: {0}")]
    Json(#[from] JsonError),
    /// It is not UTF-8.
    #[error("trust root is not UTF-8")]
    NotText,
    /// The fields do not fit `trusted_root.json`.
    #[error("trust root cannot be read: {0}")]
    Format(#[from] sigstore_trust_root::Error),
    /// Its `mediaType` is another one.
    #[error(
        "trust root cannot be read: its mediaType is {0:?}, expected \
            {ROOT_MEDIA_TYPE}+json;version=0.1"
    )]
    MediaType(String),
    /// A key or certificate in it is malformed, unsupported or duplicated.
    #[error("trust root cannot be used: {0}")]
    Material(Box<Error>),
}

impl ClassifiedError for TrustRootError {
    fn reason(&self) -> Reason {
        Reason::InvalidSpec
    }
}

impl TrustRoot {
    /// Parses a `trusted_root.json` of at most `limits.manifest_bytes`.
    pub fn parse(bytes: &[u8], limits: &InputLimits) -> Result<Self, TrustRootError> {
        let _: serde::de::IgnoredAny =
            json::parse_strict(bytes, limits.manifest_bytes, limits.json_depth)?;
        let text = std::str::from_utf8(bytes).map_err(|_| TrustRootError::NotText)?;
        let mut root = TrustedRoot::from_json(text)?;
        if !root.media_type.starts_with(ROOT_MEDIA_TYPE) {
            return Err(TrustRootError::MediaType(sanitize_text(&root.media_type)));
        }
        Verifier::new(&root).map_err(|error| TrustRootError::Material(Box::new(error)))?;
        let not_after = trust_root_not_after(&root);
        let (authorities, certificate_logs) = (
            TrustRootAuthorities::from_trusted_root(&root),
            CertificateTransparencyLogs::from_trusted_root(&root)?,
        );
        let unused = narrow_timestamp_authorities(&mut root);
        root.certificate_authorities.clear();
        root.ctlogs.clear();
        let verifier =
            Verifier::new(&root).map_err(|error| TrustRootError::Material(Box::new(error)))?;
        Ok(Self {
            verifier,
            logs: TrustedLogs::from_trusted_root(&root),
            authorities,
            certificate_logs,
            unused,
            digest: Digest::of_bytes(bytes),
            not_after,
        })
    }

    /// When this root ends for new signatures: the end of the last certificate authority,
    /// transparency log, certificate log or timestamp authority of a kind. `None` if none ends.
    /// Signatures made before stay valid.
    pub const fn not_after(&self) -> Option<Timestamp> {
        self.not_after
    }

    /// The digest of the document: its identifier in policies and caches.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Checks that the certificate chains to one of the certificate authorities at each of these
    /// times, and that it has a valid SCT.
    pub(in crate::core) fn check_certificate(
        &self,
        certificate: &EndEntityCertificate<'_>,
        times: &[Timestamp],
    ) -> Result<(), EvidenceError> {
        let mut known: Option<CertificatePath> = None;
        for time in times {
            if known
                .as_ref()
                .is_some_and(|path| path.validity.contains_time(*time))
            {
                continue;
            }
            let path = self.authorities.find_path(certificate, *time)?;
            self.certificate_logs
                .check_certificate(&certificate.der, &path.issuer)?;
            known = Some(path);
        }
        Ok(())
    }

    /// The error of a timestamp whose listed authority is ignored.
    pub(in crate::core) fn unused_timestamp_authority(&self) -> Option<&str> {
        self.unused.first().map(String::as_str)
    }
}

/// Keeps the timestamp authorities with valid certificates, limited to the certificates' validity.
/// Returns what is wrong with the others.
fn narrow_timestamp_authorities(root: &mut TrustedRoot) -> Vec<String> {
    let (mut unused, mut at) = (Vec::new(), 0);
    root.timestamp_authorities.retain_mut(|authority| {
        at += 1;
        let kept = narrow_timestamp_authority(authority);
        unused.extend(kept.as_ref().err().map(|problem| {
            format!("timestamp authority {at} of the trust root is not used: {problem}")
        }));
        kept.is_ok()
    });
    unused
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustRoot({})", self.digest)
    }
}

#[cfg(test)]
mod tests {
    use sigstore_trust_root::{
        SIGSTORE_GITHUB_TRUSTED_ROOT, SIGSTORE_PRODUCTION_TRUSTED_ROOT,
        SIGSTORE_STAGING_TRUSTED_ROOT,
    };

    use super::*;

    #[test]
    fn every_authority_of_the_public_instances_is_what_it_claims_to_be() {
        for text in [
            SIGSTORE_PRODUCTION_TRUSTED_ROOT,
            SIGSTORE_STAGING_TRUSTED_ROOT,
            SIGSTORE_GITHUB_TRUSTED_ROOT,
        ] {
            let root =
                TrustRoot::parse(text.as_bytes(), &InputLimits::DEFAULT).expect("a trust root");
            assert_eq!(
                (root.authorities.problems(), root.unused.as_slice()),
                (Vec::new(), [].as_slice())
            );
        }
    }
}
