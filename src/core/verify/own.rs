//! What was just signed, before it is shown to anybody: a log, a timestamp authority and a
//! certificate authority are believed only when what they said holds against the trusted root.

use std::{sync::Arc, time::Duration};

use sigstore_crypto::parse_certificate_info;
use sigstore_types::{DerCertificate, DerPublicKey};

use crate::core::{class::Reason, digest::Digest, limits::Limits, sigstore_bundle::SigstoreBundle};

use super::{
    EvidenceError, TrustRoot, VerificationKey, san,
    sigstore::{NAMELESS, authenticate, fault, vouch},
};

/// What a certificate says. Nobody checked who issued it.
#[derive(Clone, Debug)]
pub struct Certified {
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
pub fn certified(certificate: &DerCertificate) -> Result<Certified, EvidenceError> {
    let info = parse_certificate_info(certificate)
        .map_err(|error| fault(Reason::MalformedEvidence, &error.to_string()))?;
    let issuer = info.issuer.filter(|issuer| !issuer.is_empty());
    let (Some(san), Some(issuer)) = (san::only_name(certificate.as_bytes()), issuer) else {
        return Err(fault(Reason::IdentityMismatch, NAMELESS));
    };
    let lifetime = info.not_after.duration_since(info.not_before);
    let lifetime = Duration::try_from(lifetime).map_err(|_| {
        fault(
            Reason::CertificateExpired,
            "its certificate ends before it begins",
        )
    })?;
    Ok(Certified {
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
pub fn check_own(
    root: &Arc<TrustRoot>,
    bundle: &[u8],
    subject: &Digest,
    key: Option<&VerificationKey>,
    limits: &Limits,
) -> Result<(), EvidenceError> {
    let bundle = SigstoreBundle::parse(bundle, limits)?;
    match key {
        None => authenticate(&bundle, subject, std::slice::from_ref(root)).map(drop),
        Some(_) if !bundle.has_time_evidence() => {
            Err(fault(Reason::NoTrustedTime, "nobody vouches for it"))
        }
        Some(key) => vouch(root, &bundle, key, subject).map(drop),
    }
}
