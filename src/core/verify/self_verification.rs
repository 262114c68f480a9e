//! What was just signed, before it is shown to anybody: a log, a timestamp authority and a
//! certificate authority are believed only when what they said holds against the trusted root.

use std::{sync::Arc, time::Duration};

use sigstore_crypto::parse_certificate_info;
use sigstore_types::{DerCertificate, DerPublicKey};

use crate::core::{
    digest::Digest, limits::InputLimits, reason::Reason, sigstore_bundle::SigstoreBundle,
};

use super::{
    EvidenceError, TrustRoot, VerificationKey,
    sigstore::{
        MISSING_NAME_OR_ISSUER, authenticate_manifest, sigstore_error, verify_key_time_evidence,
    },
    subject_alt_name,
};

/// What a certificate says. Nobody checked who issued it.
#[derive(Clone, Debug)]
pub struct SigningCertificateInfo {
    /// Its subject alternative name.
    pub san: String,
    /// The OIDC issuer that vouched for it.
    pub issuer: String,
    /// The key, as a DER `SubjectPublicKeyInfo`.
    pub public_key: DerPublicKey,
    /// How long it is good for.
    pub lifetime: Duration,
}

/// Reads a certificate.
pub fn signing_certificate_info(
    certificate: &DerCertificate,
) -> Result<SigningCertificateInfo, EvidenceError> {
    let info = parse_certificate_info(certificate)
        .map_err(|error| sigstore_error(Reason::MalformedEvidence, &error.to_string()))?;
    let issuer = info.issuer.filter(|issuer| !issuer.is_empty());
    let (Some(san), Some(issuer)) = (subject_alt_name::single_san(certificate.as_bytes()), issuer)
    else {
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

/// Does a bundle of ours about `subject` hold? `key` made it, or without one the key in its
/// certificate.
///
/// With a certificate: chain, SCT, log entry, time. With a key: whatever log entries and timestamps
/// it carries, of which there must be one.
pub fn verify_own_bundle(
    root: &Arc<TrustRoot>,
    bundle: &[u8],
    subject: &Digest,
    key: Option<&VerificationKey>,
    limits: &InputLimits,
) -> Result<(), EvidenceError> {
    let bundle = SigstoreBundle::parse(bundle, limits)?;
    match key {
        None => authenticate_manifest(&bundle, subject, std::slice::from_ref(root)).map(drop),
        Some(_) if !bundle.has_time_evidence() => Err(sigstore_error(
            Reason::NoTrustedTime,
            "no log or timestamp authority attests a signing time",
        )),
        Some(key) => verify_key_time_evidence(root, &bundle, key, subject).map(drop),
    }
}
