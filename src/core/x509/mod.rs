//! X.509 (RFC 5280): certificate paths, private certificate authorities, revocation lists, signed
//! certificate timestamps, and the name in a certificate.
//!
//! These modules answer questions about certificates, such as whether a path to a root is valid at
//! one time. That a signature holds is decided in [`crate::core::verify`], which asks them.

mod authority_error;
mod certificate_authority;
mod certificate_properties;
mod chain;
mod error_messages;
mod fulcio_certificate;
mod issuer_signatures;
mod pem_blocks;
mod private_ca_certificate;
mod purpose;
mod revocation_lists;
mod sct;
mod subject_alt_name;
mod validity_period;

pub use authority_error::CertificateAuthorityError;
pub use certificate_authority::CertificateAuthority;
pub(crate) use certificate_properties::{CertificateProperties, is_self_issued};
pub(crate) use chain::{CertificatePath, EndEntityCertificate, IssuerCertificates};
pub(crate) use error_messages::{errors_to_report, furthest_error, untrusted_chain_error};
pub(crate) use fulcio_certificate::{MISSING_NAME_OR_ISSUER, fulcio_claims, fulcio_identity};
pub(crate) use private_ca_certificate::{
    PrivateCaCertificate, SignerCertificate, require_current_lists,
};
pub(crate) use purpose::CertificatePurpose;
pub use revocation_lists::RevocationLists;
pub(crate) use sct::CertificateTransparencyLogs;
pub(crate) use subject_alt_name::single_san;
pub use validity_period::ValidityPeriod;
