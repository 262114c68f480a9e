//! The one name in a certificate.
//!
//! Names of several kinds are compared as text, so no name of one kind may be confused with one of
//! another: a URI contains a colon; an email address contains an `@` and no colon; a Fulcio
//! username contains a `!` and neither. A certificate with two names, or with a name of another
//! kind, is refused: which of them is meant would be ambiguous.

use x509_cert::{
    Certificate,
    der::{
        Decode,
        asn1::{ObjectIdentifier, Utf8StringRef},
    },
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// Fulcio's `otherName` for users of an issuer without email addresses.
const FULCIO_USERNAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.7");

/// The certificate's subject alternative name, if there is exactly one.
pub(crate) fn single_san(der: &[u8]) -> Option<String> {
    let certificate = Certificate::from_der(der).ok()?;
    let (_, SubjectAltName(names)) = certificate.tbs_certificate.get::<SubjectAltName>().ok()??;
    match names.as_slice() {
        [name] => general_name_text(name),
        _ => None,
    }
}

/// The same for a private CA's certificate, which may also have a DNS name, which contains none of
/// `:`, `@`, `!`.
pub(crate) fn single_private_ca_san(der: &[u8]) -> Option<String> {
    let certificate = Certificate::from_der(der).ok()?;
    let (_, SubjectAltName(names)) = certificate.tbs_certificate.get::<SubjectAltName>().ok()??;
    let name = match names.as_slice() {
        [GeneralName::DnsName(host)] => Some(host.as_str())
            .filter(|host| is_dns_name(host))
            .map(ToOwned::to_owned),
        // Only Fulcio issues usernames.
        [GeneralName::OtherName(_)] => None,
        [name] => general_name_text(name),
        _ => None,
    };
    name.filter(|name| !name.chars().any(char::is_control))
}

/// A host name, not a wildcard pattern.
fn is_dns_name(host: &str) -> bool {
    !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

fn general_name_text(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str())
            .filter(|uri| uri.contains(':'))
            .map(ToOwned::to_owned),
        GeneralName::Rfc822Name(email) => Some(email.as_str())
            .filter(|email| email.contains('@') && !email.contains(':'))
            .map(ToOwned::to_owned),
        GeneralName::OtherName(other) if other.type_id == FULCIO_USERNAME => {
            let name: Utf8StringRef<'_> = other.value.decode_as().ok()?;
            Some(name.as_str())
                .filter(|name| name.contains('!') && !name.contains([':', '@']))
                .map(ToOwned::to_owned)
        }
        _ => None,
    }
}
