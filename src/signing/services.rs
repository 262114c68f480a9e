//! Clients of Sigstore's services: certificate authority, transparency logs and timestamp
//! authorities.

use std::sync::Arc;

use bytes::Bytes;
use sigstore_types::{
    DerCertificate, DsseEnvelope, DsseSignature, KeyId, PayloadBytes, Rfc3161Timestamp,
    SignatureBytes, TimestampToken, TimestampVerificationData, TransparencyLogEntry,
    VerificationMaterial, VerificationMaterialContent,
};
use url::Url;

use super::{IdentityToken, SigningContent, SigningError, service_error::SigstoreServiceError};
use crate::{
    core::{
        digest::Digest,
        display_text::sanitize_line,
        limits::InputLimits,
        media_type,
        pem::encode_pem_block,
        self_verification::verify_own_bundle,
        sigstore::{
            RekorLog, RekorVersion, SelectedServices, SigstoreResponseError, fulcio,
            rekor::{self, ProposedRekorEntry, RekorSignedContent, RekorVerifier},
            timestamp::{self, TimestampNonce},
        },
        verify::{TrustRoot, VerificationKey},
    },
    http::{HttpClient, HttpRequest, HttpResponseHead, StatusCode, header, redact::redact_url},
};

/// The maximum size of a response in bytes. Certificates, log entries and timestamps have a few
/// thousand.
const MAX_ANSWER: usize = 1 << 20;

const FULCIO: &str = "certificate authority";
const REKOR: &str = "transparency log";
const TSA: &str = "timestamp authority";

/// The selected services, and the trust root that verifies their responses.
#[derive(Clone, Debug)]
pub struct SigstoreServices {
    http: HttpClient,
    services: SelectedServices,
    root: Arc<TrustRoot>,
}

/// The holder of a signature.
#[derive(Clone, Copy)]
pub(super) enum SignatureHolder<'a> {
    Certificate(&'a DerCertificate),
    Key {
        key: &'a VerificationKey,
        pem: &'a str,
    },
}

impl SigstoreServices {
    /// Services that are accessed with `http`. All responses are verified with `root`.
    pub const fn new(http: HttpClient, services: SelectedServices, root: Arc<TrustRoot>) -> Self {
        Self {
            http,
            services,
            root,
        }
    }

    /// The trust root that verifies responses.
    pub(super) const fn trust_root(&self) -> &Arc<TrustRoot> {
        &self.root
    }

    /// Checks that the services for an identity exist: a certificate authority and a transparency
    /// log.
    pub(super) const fn check_keyless(&self) -> Result<(), SigstoreServiceError> {
        match (&self.services.fulcio, self.services.logs.is_empty()) {
            (None, _) => Err(SigstoreServiceError::NoAuthority),
            (_, true) => Err(SigstoreServiceError::NoLog),
            _ => Ok(()),
        }
    }

    /// Checks that a service supports the signatures of `key`.
    pub(super) fn check_keyed(&self, key: &VerificationKey) -> Result<(), SigstoreServiceError> {
        if self.services.logs.is_empty() && self.services.timestamps.is_empty() {
            return Err(SigstoreServiceError::NoLogOrTimestamp);
        }
        let only_p256 = self
            .services
            .logs
            .iter()
            .any(|log| log.version == RekorVersion::V2);
        if only_p256 && !rekor::is_p256(key.spki_der()) {
            Err(SigstoreServiceError::UnsupportedLogKey)
        } else {
            Ok(())
        }
    }

    /// A certificate for the key that made `csr`.
    pub(super) async fn request_certificate(
        &self,
        token: &IdentityToken,
        csr_pem: &str,
    ) -> Result<DerCertificate, SigstoreServiceError> {
        let base = self
            .services
            .fulcio
            .as_ref()
            .ok_or(SigstoreServiceError::NoAuthority)?;
        let request = post_request(
            FULCIO,
            base,
            fulcio::SIGNING_CERT_PATH,
            "application/json",
            fulcio::certificate_request_body(token.expose(), csr_pem),
        )?;
        let (head, body) = self.send_request(FULCIO, request).await?;
        if head.status().is_success() {
            return fulcio::parse_certificate(&body)
                .map_err(|cause| SigstoreServiceError::from_response(FULCIO, base, cause));
        }
        let message = sanitize_line(&error_text(&body).replace(token.expose(), "***"), 300);
        let url = redact_url(base);
        let status = head.status().as_u16();
        match status {
            400 | 401 | 403 => Err(SigstoreServiceError::Token {
                url,
                status,
                message,
                audience: token.audience(),
                issuer: token.issuer().to_owned(),
            }),
            _ => Err(SigstoreServiceError::Refused {
                service: FULCIO,
                url,
                status,
                message,
            }),
        }
    }

    /// The Sigstore bundle of a signature, with its log entry and timestamps, verified with the
    /// root.
    pub(super) async fn build_verified_bundle(
        &self,
        content: SigningContent<'_>,
        signature: SignatureBytes,
        holder: SignatureHolder<'_>,
        material: VerificationMaterialContent,
    ) -> Result<Bytes, SigningError> {
        let subject = content.subject_digest()?;
        let timestamps = self.request_timestamps(&signature).await?;
        let entries = self.create_log_entries(content, &signature, holder).await?;
        let material = VerificationMaterial::new(material)
            .with_tlog_entries(entries)
            .with_timestamp_verification_data(TimestampVerificationData::new(timestamps));
        let bundle = content.build_sigstore_bundle(signature, material)?;
        let key = match holder {
            SignatureHolder::Certificate(_) => None,
            SignatureHolder::Key { key, .. } => Some(key),
        };
        verify_own_bundle(&self.root, &bundle, &subject, key, &InputLimits::DEFAULT)
            .map_err(SigstoreServiceError::from_evidence)?;
        Ok(bundle)
    }

    async fn request_timestamps(
        &self,
        signature: &SignatureBytes,
    ) -> Result<Vec<Rfc3161Timestamp>, SigningError> {
        let imprint = Digest::of_bytes(signature.as_bytes());
        let mut all = Vec::new();
        for base in &self.services.timestamps {
            let nonce = random_nonce()?;
            let request = post_request(
                TSA,
                base,
                "",
                timestamp::QUERY_MEDIA_TYPE,
                timestamp::timestamp_request(&imprint, nonce),
            )?;
            let (head, body) = self.send_request(TSA, request).await?;
            check_status(TSA, base, &head, &body)?;
            timestamp::check_response(&body, &imprint, nonce)
                .map_err(|cause| SigstoreServiceError::from_response(TSA, base, cause))?;
            all.push(Rfc3161Timestamp::new(TimestampToken::new(body.to_vec())));
        }
        Ok(all)
    }

    async fn create_log_entries(
        &self,
        content: SigningContent<'_>,
        signature: &SignatureBytes,
        holder: SignatureHolder<'_>,
    ) -> Result<Vec<TransparencyLogEntry>, SigningError> {
        let digest = Digest::of_bytes(&content.signed_bytes());
        let envelope = match content {
            SigningContent::Statement(statement) => Some(dsse_envelope_json(statement, signature)?),
            SigningContent::Message(_) => None,
        };
        let signed = match &envelope {
            Some(json) => RekorSignedContent::Envelope {
                json,
                digest: &digest,
            },
            None => RekorSignedContent::Message { digest: &digest },
        };
        let certificate_pem;
        let verifier = match holder {
            SignatureHolder::Key { key, pem } => RekorVerifier::PublicKey {
                der: key.spki_der(),
                pem,
            },
            SignatureHolder::Certificate(der) => {
                certificate_pem = encode_pem_block("CERTIFICATE", der.as_bytes());
                RekorVerifier::Certificate {
                    der: der.as_bytes(),
                    pem: &certificate_pem,
                }
            }
        };
        let entry = ProposedRekorEntry {
            signed,
            signature: signature.as_bytes(),
            verifier,
        };
        let mut all = Vec::new();
        for log in &self.services.logs {
            all.push(self.create_log_entry(log, &entry).await?);
        }
        Ok(all)
    }

    async fn create_log_entry(
        &self,
        log: &RekorLog,
        entry: &ProposedRekorEntry<'_>,
    ) -> Result<TransparencyLogEntry, SigstoreServiceError> {
        let request = post_request(
            REKOR,
            &log.url,
            rekor::entries_path(log.version),
            "application/json",
            rekor::entry_request_body(log.version, entry),
        )?;
        let (head, body) = self.send_request(REKOR, request).await?;
        // A repeated request: the log returns the location of the existing entry.
        let (head, body) = if head.status() == StatusCode::CONFLICT {
            self.fetch_existing_entry(log, &head, body).await?
        } else {
            (head, body)
        };
        check_status(REKOR, &log.url, &head, &body)?;
        rekor::parse_log_entry(log.version, &entry.signed, &body)
            .map_err(|cause| SigstoreServiceError::from_response(REKOR, &log.url, cause))
    }

    async fn fetch_existing_entry(
        &self,
        log: &RekorLog,
        head: &HttpResponseHead,
        body: Bytes,
    ) -> Result<(HttpResponseHead, Bytes), SigstoreServiceError> {
        let Some(location) = head.header(header::LOCATION) else {
            return Ok((head.clone(), body));
        };
        let url = head
            .resolve_location(location)
            .map_err(|error| SigstoreServiceError::from_http(REKOR, &error))?;
        if url.origin() != log.url.origin() {
            let cause = SigstoreResponseError("the log names an entry of another host".into());
            return Err(SigstoreServiceError::from_response(REKOR, &log.url, cause));
        }
        self.send_request(REKOR, HttpRequest::get(url)).await
    }

    async fn send_request(
        &self,
        service: &'static str,
        request: HttpRequest,
    ) -> Result<(HttpResponseHead, Bytes), SigstoreServiceError> {
        self.http
            .fetch_body(request, MAX_ANSWER)
            .await
            .map_err(|error| SigstoreServiceError::from_http(service, &error))
    }
}

/// Sending it twice is harmless: another certificate, another timestamp, the same entry.
fn post_request(
    service: &'static str,
    base: &Url,
    path: &str,
    content_type: &str,
    body: Vec<u8>,
) -> Result<HttpRequest, SigstoreServiceError> {
    let text = if path.is_empty() {
        base.to_string()
    } else {
        format!("{}/{path}", base.as_str().trim_end_matches('/'))
    };
    let url: Url = text.parse().map_err(|_| {
        SigstoreServiceError::from_response(
            service,
            base,
            SigstoreResponseError("no path can be added to its URL".into()),
        )
    })?;
    let request = HttpRequest::new(crate::http::Method::POST, url).allow_retries();
    Ok(request
        .header(header::CONTENT_TYPE, content_type)
        .header(header::ACCEPT, accept_header(content_type))
        .body(body))
}

const fn accept_header(content_type: &str) -> &str {
    if content_type.len() == timestamp::QUERY_MEDIA_TYPE.len() {
        "application/timestamp-reply"
    } else {
        "application/json"
    }
}

fn check_status(
    service: &'static str,
    base: &Url,
    head: &HttpResponseHead,
    body: &[u8],
) -> Result<(), SigstoreServiceError> {
    if head.status().is_success() {
        return Ok(());
    }
    Err(SigstoreServiceError::Refused {
        service,
        url: redact_url(base),
        status: head.status().as_u16(),
        message: sanitize_line(&error_text(body), 300),
    })
}

fn error_text(body: &[u8]) -> String {
    let text = || String::from_utf8_lossy(body.get(..1_000).unwrap_or(body)).into_owned();
    fulcio::parse_error_message(body).unwrap_or_else(text)
}

fn dsse_envelope_json(
    statement: &[u8],
    signature: &SignatureBytes,
) -> Result<String, SigningError> {
    let signature = DsseSignature::new(signature.clone(), KeyId::default());
    let envelope = DsseEnvelope::new(
        media_type::IN_TOTO,
        PayloadBytes::from_bytes(statement),
        signature,
    );
    serde_json::to_string(&envelope).map_err(|_| SigningError::Library("serialise an envelope"))
}

fn random_nonce() -> Result<TimestampNonce, SigningError> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| SigningError::Library("give random numbers"))?;
    Ok(TimestampNonce::new(random))
}
