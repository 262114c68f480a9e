//! Fulcio, version 2: `POST /api/v2/signingCert`.
//!
//! Source: fulcio, `fulcio.proto`, "CreateSigningCertificateRequest". The key is sent in a
//! certificate signing request, whose signature proves possession; the token provides the subject.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::json;
use sigstore_types::DerCertificate;

use super::SigstoreResponseError;

/// The path of the request, after the service's URL.
pub const SIGNING_CERT_PATH: &str = "api/v2/signingCert";

/// The body of a certificate request. It contains the token: it is sent to this service only.
pub fn certificate_request_body(identity_token: &str, csr_pem: &str) -> Vec<u8> {
    let body = json!({
        "credentials": {"oidcIdentityToken": identity_token},
        "certificateSigningRequest": STANDARD.encode(csr_pem),
    });
    body.to_string().into_bytes()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FulcioResponse {
    signed_certificate_embedded_sct: Option<FulcioIssuedCertificate>,
    signed_certificate_detached_sct: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct FulcioIssuedCertificate {
    chain: FulcioCertificateChain,
}

#[derive(Deserialize)]
struct FulcioCertificateChain {
    certificates: Vec<String>,
}

/// The certificate in a response; the rest of the chain is in the trusted root, or missing.
pub fn parse_certificate(body: &[u8]) -> Result<DerCertificate, SigstoreResponseError> {
    let answer: FulcioResponse = serde_json::from_slice(body).map_err(|error| {
        SigstoreResponseError::new(format!("the response cannot be read: {error}"))
    })?;
    let issued = match (
        answer.signed_certificate_embedded_sct,
        answer.signed_certificate_detached_sct,
    ) {
        (Some(issued), _) => issued,
        (None, Some(_)) => {
            return Err(SigstoreResponseError::new(
                "the SCT is detached from the certificate, and a Sigstore bundle cannot contain a detached SCT",
            ));
        }
        (None, None) => {
            return Err(SigstoreResponseError::new(
                "the response contains no certificate",
            ));
        }
    };
    let first = issued
        .chain
        .certificates
        .first()
        .ok_or_else(|| SigstoreResponseError::new("the response contains no certificate"))?;
    DerCertificate::from_pem(first).map_err(|error| {
        SigstoreResponseError::new(format!("the certificate cannot be read: {error}"))
    })
}

/// The message of an error response, if there is one.
pub fn parse_error_message(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct FulcioErrorBody {
        message: String,
    }
    serde_json::from_slice::<FulcioErrorBody>(body)
        .ok()
        .map(|complaint| complaint.message)
        .filter(|message| !message.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";

    #[test]
    fn the_request_is_the_documented_one() {
        let body = String::from_utf8(certificate_request_body("a.b.c", "CSR")).expect("text");
        assert_eq!(
            body,
            r#"{"certificateSigningRequest":"Q1NS","credentials":{"oidcIdentityToken":"a.b.c"}}"#
        );
    }

    #[test]
    fn the_first_certificate_is_ours() {
        let body =
            json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": [PEM, "other"]}}})
                .to_string();
        assert_eq!(
            parse_certificate(body.as_bytes())
                .expect("a certificate")
                .as_bytes(),
            [0x30, 0]
        );
    }

    #[test]
    fn other_answers_are_refused() {
        for (part, body) in [
            ("cannot be read", json!([])),
            ("contains no certificate", json!({})),
            (
                "contains no certificate",
                json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": []}}}),
            ),
            (
                "detached from the certificate",
                json!({"signedCertificateDetachedSct": {"chain": {"certificates": [PEM]}}}),
            ),
            (
                "certificate cannot be read",
                json!({"signedCertificateEmbeddedSct": {"chain": {"certificates": ["x"]}}}),
            ),
        ] {
            let error = parse_certificate(body.to_string().as_bytes()).expect_err(part);
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(
            parse_error_message(br#"{"code":3,"message":"no"}"#).as_deref(),
            Some("no")
        );
        assert_eq!(parse_error_message(b"<html>"), None);
    }
}
