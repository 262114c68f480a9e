//! Sigstore's services: whom a signature is shown to, so that others can believe it later.

use std::sync::Arc;

use bytes::Bytes;
use sigstore_types::{
    DerCertificate, DsseEnvelope, DsseSignature, KeyId, PayloadBytes, Rfc3161Timestamp,
    SignatureBytes, TimestampToken, TimestampVerificationData, TransparencyLogEntry,
    VerificationMaterial, VerificationMaterialContent,
};
use url::Url;

use super::{Content, IdentityToken, SigningError, pem, service_error::ServiceError};
use crate::{
    core::{
        digest::Digest,
        limits::Limits,
        media_type,
        sigstore::{
            AnswerError, Log, LogVersion, Services, fulcio,
            rekor::{self, Entry, Signed, Verifier},
            timestamp::{self, Nonce},
        },
        verify::{self, TrustRoot, VerificationKey},
    },
    http::{Head, HttpClient, Request, StatusCode, header, redact},
};

/// Bytes of an answer. Certificates, log entries and timestamps have a few thousand.
const MAX_ANSWER: usize = 1 << 20;

const FULCIO: &str = "certificate authority";
const REKOR: &str = "transparency log";
const TSA: &str = "timestamp authority";

/// The services that were chosen, and what their answers are held against.
#[derive(Clone, Debug)]
pub struct SigstoreServices {
    http: HttpClient,
    services: Services,
    root: Arc<TrustRoot>,
}

/// Whose signature it is.
#[derive(Clone, Copy)]
pub(super) enum Holder<'a> {
    Certificate(&'a DerCertificate),
    Key {
        key: &'a VerificationKey,
        pem: &'a str,
    },
}

impl SigstoreServices {
    /// Services that are asked over `http`. Everything that they say is verified against `root`.
    pub const fn new(http: HttpClient, services: Services, root: Arc<TrustRoot>) -> Self {
        Self {
            http,
            services,
            root,
        }
    }

    /// What answers are held against.
    pub(super) const fn root(&self) -> &Arc<TrustRoot> {
        &self.root
    }

    /// Is there whom an identity needs: somebody who certifies it, and somebody who keeps a record?
    pub(super) const fn check_keyless(&self) -> Result<(), ServiceError> {
        match (&self.services.fulcio, self.services.logs.is_empty()) {
            (None, _) => Err(ServiceError::NoAuthority),
            (_, true) => Err(ServiceError::NoLog),
            _ => Ok(()),
        }
    }

    /// Is there anybody who can vouch for the signatures of `key`?
    pub(super) fn check_keyed(&self, key: &VerificationKey) -> Result<(), ServiceError> {
        if self.services.logs.is_empty() && self.services.timestamps.is_empty() {
            return Err(ServiceError::NoWitness);
        }
        let only_p256 = self
            .services
            .logs
            .iter()
            .any(|log| log.version == LogVersion::V2);
        if only_p256 && !rekor::is_p256(key.spki()) {
            Err(ServiceError::KeyOfLog)
        } else {
            Ok(())
        }
    }

    /// A certificate for the key that made `csr`.
    pub(super) async fn certificate(
        &self,
        token: &IdentityToken,
        csr_pem: &str,
    ) -> Result<DerCertificate, ServiceError> {
        let base = self
            .services
            .fulcio
            .as_ref()
            .ok_or(ServiceError::NoAuthority)?;
        let request = post(
            FULCIO,
            base,
            fulcio::PATH,
            "application/json",
            fulcio::request(token.expose(), csr_pem),
        )?;
        let (head, body) = self.ask(FULCIO, request).await?;
        if head.status().is_success() {
            return fulcio::certificate(&body)
                .map_err(|cause| ServiceError::answer(FULCIO, base, cause));
        }
        let message = redact::clean(&complaint(&body).replace(token.expose(), "***"), 300);
        let url = redact::shown(base);
        let status = head.status().as_u16();
        match status {
            400 | 401 | 403 => Err(ServiceError::Token {
                url,
                status,
                message,
                audience: token.audience(),
                issuer: token.issuer().to_owned(),
            }),
            _ => Err(ServiceError::Refused {
                service: FULCIO,
                url,
                status,
                message,
            }),
        }
    }

    /// The Sigstore bundle of a signature, with what the log and the timestamp authorities say
    /// about it, verified against the root.
    pub(super) async fn bundle(
        &self,
        content: Content<'_>,
        signature: SignatureBytes,
        holder: Holder<'_>,
        material: VerificationMaterialContent,
    ) -> Result<Bytes, SigningError> {
        let subject = content.subject()?;
        let timestamps = self.timestamps(&signature).await?;
        let entries = self.entries(content, &signature, holder).await?;
        let material = VerificationMaterial::new(material)
            .with_tlog_entries(entries)
            .with_timestamp_verification_data(TimestampVerificationData::new(timestamps));
        let bundle = content.bundle(signature, material)?;
        let key = match holder {
            Holder::Certificate(_) => None,
            Holder::Key { key, .. } => Some(key),
        };
        verify::check_own(&self.root, &bundle, &subject, key, &Limits::DEFAULT)
            .map_err(ServiceError::untrue)?;
        Ok(bundle)
    }

    async fn timestamps(
        &self,
        signature: &SignatureBytes,
    ) -> Result<Vec<Rfc3161Timestamp>, SigningError> {
        let imprint = Digest::of(signature.as_bytes());
        let mut all = Vec::new();
        for base in &self.services.timestamps {
            let nonce = nonce()?;
            let request = post(
                TSA,
                base,
                "",
                timestamp::QUERY,
                timestamp::request(&imprint, nonce),
            )?;
            let (head, body) = self.ask(TSA, request).await?;
            check(TSA, base, &head, &body)?;
            timestamp::check(&body, &imprint, nonce)
                .map_err(|cause| ServiceError::answer(TSA, base, cause))?;
            all.push(Rfc3161Timestamp::new(TimestampToken::new(body.to_vec())));
        }
        Ok(all)
    }

    async fn entries(
        &self,
        content: Content<'_>,
        signature: &SignatureBytes,
        holder: Holder<'_>,
    ) -> Result<Vec<TransparencyLogEntry>, SigningError> {
        let digest = Digest::of(&content.signed_bytes());
        let envelope = match content {
            Content::Statement(statement) => Some(envelope(statement, signature)?),
            Content::Message(_) => None,
        };
        let signed = match &envelope {
            Some(json) => Signed::Envelope {
                json,
                digest: &digest,
            },
            None => Signed::Message { digest: &digest },
        };
        let certificate_pem;
        let verifier = match holder {
            Holder::Key { key, pem } => Verifier::PublicKey {
                der: key.spki(),
                pem,
            },
            Holder::Certificate(der) => {
                certificate_pem = pem::encode("CERTIFICATE", der.as_bytes());
                Verifier::Certificate {
                    der: der.as_bytes(),
                    pem: &certificate_pem,
                }
            }
        };
        let entry = Entry {
            signed,
            signature: signature.as_bytes(),
            verifier,
        };
        let mut all = Vec::new();
        for log in &self.services.logs {
            all.push(self.entry(log, &entry).await?);
        }
        Ok(all)
    }

    async fn entry(
        &self,
        log: &Log,
        entry: &Entry<'_>,
    ) -> Result<TransparencyLogEntry, ServiceError> {
        let request = post(
            REKOR,
            &log.url,
            rekor::path(log.version),
            "application/json",
            rekor::request(log.version, entry),
        )?;
        let (head, body) = self.ask(REKOR, request).await?;
        // A repeated request: the log names the entry that it has.
        let (head, body) = if head.status() == StatusCode::CONFLICT {
            self.known_entry(log, &head, body).await?
        } else {
            (head, body)
        };
        check(REKOR, &log.url, &head, &body)?;
        rekor::entry(log.version, &entry.signed, &body)
            .map_err(|cause| ServiceError::answer(REKOR, &log.url, cause))
    }

    async fn known_entry(
        &self,
        log: &Log,
        head: &Head,
        body: Bytes,
    ) -> Result<(Head, Bytes), ServiceError> {
        let Some(location) = head.header(header::LOCATION) else {
            return Ok((head.clone(), body));
        };
        let url = head
            .follow(location)
            .map_err(|error| ServiceError::http(REKOR, &error))?;
        if url.origin() != log.url.origin() {
            let cause = AnswerError("the log names an entry of another host".into());
            return Err(ServiceError::answer(REKOR, &log.url, cause));
        }
        self.ask(REKOR, Request::get(url)).await
    }

    async fn ask(
        &self,
        service: &'static str,
        request: Request,
    ) -> Result<(Head, Bytes), ServiceError> {
        self.http
            .fetch(request, MAX_ANSWER)
            .await
            .map_err(|error| ServiceError::http(service, &error))
    }
}

/// Sending it twice does no harm: another certificate, another timestamp, the same entry.
fn post(
    service: &'static str,
    base: &Url,
    path: &str,
    content_type: &str,
    body: Vec<u8>,
) -> Result<Request, ServiceError> {
    let text = if path.is_empty() {
        base.to_string()
    } else {
        format!("{}/{path}", base.as_str().trim_end_matches('/'))
    };
    let url: Url = text.parse().map_err(|_| {
        ServiceError::answer(
            service,
            base,
            AnswerError("no path can be added to its URL".into()),
        )
    })?;
    let request = Request::new(crate::http::Method::POST, url).repeatable();
    Ok(request
        .header(header::CONTENT_TYPE, content_type)
        .header(header::ACCEPT, accepted(content_type))
        .body(body))
}

const fn accepted(content_type: &str) -> &str {
    if content_type.len() == timestamp::QUERY.len() {
        "application/timestamp-reply"
    } else {
        "application/json"
    }
}

fn check(service: &'static str, base: &Url, head: &Head, body: &[u8]) -> Result<(), ServiceError> {
    if head.status().is_success() {
        return Ok(());
    }
    Err(ServiceError::Refused {
        service,
        url: redact::shown(base),
        status: head.status().as_u16(),
        message: redact::clean(&complaint(body), 300),
    })
}

fn complaint(body: &[u8]) -> String {
    let text = || String::from_utf8_lossy(body.get(..1_000).unwrap_or(body)).into_owned();
    fulcio::complaint(body).unwrap_or_else(text)
}

fn envelope(statement: &[u8], signature: &SignatureBytes) -> Result<String, SigningError> {
    let signature = DsseSignature::new(signature.clone(), KeyId::default());
    let envelope = DsseEnvelope::new(
        media_type::IN_TOTO,
        PayloadBytes::from_bytes(statement),
        signature,
    );
    serde_json::to_string(&envelope).map_err(|_| SigningError::Library("serialise an envelope"))
}

fn nonce() -> Result<Nonce, SigningError> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| SigningError::Library("give random numbers"))?;
    Ok(Nonce::new(random))
}
