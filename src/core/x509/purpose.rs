//! What a certificate is used for (RFC 5280, section 4.2.1.12).

use x509_cert::der::asn1::ObjectIdentifier;

/// `id-kp-codeSigning`, `id-kp-timeStamping` and `anyExtendedKeyUsage`, DER-encoded.
const CODE_SIGNING: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x03";
const TIME_STAMPING: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x08";
pub(super) const ANY_PURPOSE: &[u8] = b"\x55\x1d\x25\x00";

/// The purpose of an end-entity certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CertificatePurpose {
    /// Signs artifacts (RFC 5280, section 4.2.1.12).
    CodeSigning,
    /// Signs timestamps only (RFC 3161, section 2.3).
    TimeStamping,
}

impl CertificatePurpose {
    pub(super) const fn key_purpose_oid(self) -> ObjectIdentifier {
        match self {
            Self::CodeSigning => ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3"),
            Self::TimeStamping => ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.8"),
        }
    }

    pub(super) const fn key_purpose_der(self) -> &'static [u8] {
        match self {
            Self::CodeSigning => CODE_SIGNING,
            Self::TimeStamping => TIME_STAMPING,
        }
    }

    pub(super) const fn purpose_name(self) -> &'static str {
        match self {
            Self::CodeSigning => "code signing",
            Self::TimeStamping => "timestamps",
        }
    }
}
