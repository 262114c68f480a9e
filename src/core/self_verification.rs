//! Verifies a new signature before it is published: responses of a log, a timestamp authority and a
//! certificate authority are accepted only if the trust root verifies them.

use std::{sync::Arc, time::Duration};

use sigstore_crypto::parse_certificate_info;
use sigstore_types::{DerCertificate, DerPublicKey};

use super::{
    digest::Digest,
    evidence::EvidenceError,
    limits::InputLimits,
    public_key::VerificationKey,
    reason::Reason,
    sigstore_bundle::SigstoreBundle,
    sigstore_errors::sigstore_error,
    trusted_material::TrustRoot,
    verify::verify_artifact,
    x509::{MISSING_NAME_OR_ISSUER, single_san},
};

/// The contents of a certificate. Its issuer was not verified.
#[derive(Clone, Debug)]
pub struct SigningCertificateInfo {
    /// Its subject alternative name.
    pub san: String,
    /// The OIDC issuer in the certificate.
    pub issuer: String,
    /// The key, as a DER `SubjectPublicKeyInfo`.
    pub public_key: DerPublicKey,
    /// How long it is valid.
    pub lifetime: Duration,
}

/// Parses a certificate.
pub fn signing_certificate_info(
    certificate: &DerCertificate,
) -> Result<SigningCertificateInfo, EvidenceError> {
    let info = parse_certificate_info(certificate)
        .map_err(|error| sigstore_error(Reason::MalformedEvidence, &error.to_string()))?;
    let issuer = info.issuer.filter(|issuer| !issuer.is_empty());
    let (Some(san), Some(issuer)) = (single_san(certificate.as_bytes()), issuer) else {
        return Err(sigstore_error(
            Reason::IdentityMismatch,
            MISSING_NAME_OR_ISSUER,
        ));
    };
    let lifetime = info.not_after.duration_since(info.not_before);
    let lifetime = Duration::try_from(lifetime).map_err(|_| {
        sigstore_error(
            Reason::CertificateExpired,
            "its certificate ends before it begins",
        )
    })?;
    Ok(SigningCertificateInfo {
        san,
        issuer,
        public_key: info.public_key,
        lifetime,
    })
}

/// Verifies a bundle that this process made about `subject`, with `key`, or without one with the
/// key in its certificate.
///
/// With a certificate: chain, SCT, log entry, time. With a key: all log entries and timestamps in
/// it, at least one.
pub fn verify_own_bundle(
    root: &Arc<TrustRoot>,
    bundle: &[u8],
    subject: &Digest,
    key: Option<&VerificationKey>,
    limits: &InputLimits,
) -> Result<(), EvidenceError> {
    let bundle_digest = Digest::of_bytes(bundle);
    let bundle = SigstoreBundle::parse(bundle, limits)?;
    if key.is_some() && !bundle.has_time_evidence() {
        return Err(sigstore_error(
            Reason::NoTrustedTime,
            "no log or timestamp authority attests a signing time",
        ));
    }
    verify_artifact(root, &bundle, bundle_digest, key, *subject, None).map(drop)
}
