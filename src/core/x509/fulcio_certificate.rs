//! What Fulcio writes into a certificate: the name, the issuer of the identity, and the workload.

use sigstore_crypto::{FulcioCiClaims, parse_certificate_info};
use sigstore_types::DerCertificate;

use crate::core::evidence::{CertificateClaims, SignerIdentity};

use super::single_san;

pub(crate) const MISSING_NAME_OR_ISSUER: &str = "its certificate must have exactly one name, a URI, an email \
    address or a Fulcio username, and an issuer";
/// The identity in a certificate: exactly one name, and an issuer.
pub(crate) fn fulcio_identity(certificate: &DerCertificate) -> Option<SignerIdentity> {
    let issuer = parse_certificate_info(certificate)
        .ok()?
        .issuer
        .filter(|issuer| !issuer.is_empty())?;
    Some(SignerIdentity::Identity {
        san: single_san(certificate.as_bytes())?,
        issuer,
    })
}

/// The claims about the workload.
pub(crate) fn fulcio_claims(claims: &FulcioCiClaims) -> CertificateClaims {
    CertificateClaims {
        source_repository: claims.source_repository_uri.clone(),
        source_ref: claims.source_repository_ref.clone(),
        workflow: claims.build_config_uri.clone(),
        trigger: claims.build_trigger.clone(),
        runner: claims.runner_environment.clone(),
    }
}
