//! The webhook's certificate: made by the controller, and renewed without a failed review.
//!
//! Each certificate has a CA of its own, whose private key is dropped after it has signed: no key
//! remains that could sign another. A renewal has three steps, so that API server and webhook agree
//! at every moment:
//!
//! 1. the new pair is *staged*: the configuration also lists its CA, while the old certificate is
//!    still served;
//! 2. once API servers have loaded that, the new certificate is *served*, and the old CA is still
//!    listed;
//! 3. when no connection with the old one can be left, the old CA is *dropped*.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::core::ObjectMeta;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

use crate::api::bundle_policy::CA_CERTIFICATES_KEY;
use crate::api::webhook::{
    NOT_AFTER_ANNOTATION, ROTATE_REQUESTED_ANNOTATION, TLS_SECRET, WEBHOOK_SERVICE_NAME,
};

/// The lifetime of a certificate.
const LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How long before its expiry it is renewed.
const RENEW_BEFORE_EXPIRY: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How far the clocks of API servers may be behind.
const BACKDATED: SignedDuration = SignedDuration::from_hours(1);
/// How long API servers may take to load a new CA.
pub(super) const AUTHORITY_PROPAGATION_DELAY: SignedDuration = SignedDuration::from_secs(10);
/// How long an old CA stays listed.
const OLD_AUTHORITY_RETENTION: SignedDuration = SignedDuration::from_mins(10);

/// Annotation: the last rotation request that was handled.
const ROTATED: &str = "packgate.dev/rotated-for";
const STAGED_AT: &str = "packgate.dev/staged-at";
const SHOWN_AT: &str = "packgate.dev/shown-at";

/// The content of the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WebhookCertificates {
    /// The certificate in use.
    pub serving: ServingCertificate,
    /// The next certificate, and since when its CA may be listed.
    pub staged: Option<(ServingCertificate, Timestamp)>,
    /// The CA of the previous certificate, and since when that is not served.
    pub old_authority: Option<(String, Timestamp)>,
    /// The last rotation request that was handled.
    pub handled_request: Option<String>,
}

/// A certificate with its key and its CA, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ServingCertificate {
    pub certificate: String,
    pub key: String,
    pub authority: String,
    pub not_after: Timestamp,
}

impl std::fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServingCertificate")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// The next step of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CertificateRotationStep {
    /// There is no valid one: create one and serve it immediately.
    Create,
    /// Generate the next certificate.
    Stage,
    /// Serve the staged one.
    Promote,
    /// Drop the old CA.
    DropOldAuthority,
    /// Nothing to do now.
    Idle,
}

/// Why no certificate can be generated: always a bug.
#[derive(Debug, thiserror::Error)]
#[error("the webhook certificate cannot be generated: {0}")]
pub(super) struct CertificateGenerationError(String);

impl From<rcgen::Error> for CertificateGenerationError {
    fn from(error: rcgen::Error) -> Self {
        Self(error.to_string())
    }
}

/// The next step. `announced_since`: since when API servers know every CA in the Secret.
pub(super) fn next_rotation_step(
    now: &WebhookCertificates,
    requested: Option<&str>,
    announced_since: Option<Timestamp>,
    at: Timestamp,
) -> CertificateRotationStep {
    let WebhookCertificates {
        serving: shown,
        staged,
        old_authority: old,
        handled_request: handled,
    } = now;
    if shown.not_after <= at {
        return CertificateRotationStep::Create;
    }
    if let Some((_, since)) = staged {
        let known = announced_since.is_some_and(|announced_since| {
            at.duration_since(announced_since.max(*since)) >= AUTHORITY_PROPAGATION_DELAY
        });
        return if known {
            CertificateRotationStep::Promote
        } else {
            CertificateRotationStep::Idle
        };
    }
    let wanted = requested.is_some_and(|requested| handled.as_deref() != Some(requested));
    if wanted || shown.not_after.duration_since(at) <= RENEW_BEFORE_EXPIRY {
        return CertificateRotationStep::Stage;
    }
    if old
        .as_ref()
        .is_some_and(|(_, since)| at.duration_since(*since) >= OLD_AUTHORITY_RETENTION)
    {
        CertificateRotationStep::DropOldAuthority
    } else {
        CertificateRotationStep::Idle
    }
}

impl WebhookCertificates {
    /// A state with one certificate only.
    pub(super) const fn from_single(shown: ServingCertificate, handled: Option<String>) -> Self {
        Self {
            serving: shown,
            staged: None,
            old_authority: None,
            handled_request: handled,
        }
    }

    /// All CAs that API servers have to trust.
    pub(super) fn ca_bundle(&self) -> String {
        let staged = self
            .staged
            .as_ref()
            .map(|(pair, _)| pair.authority.as_str());
        let old = self
            .old_authority
            .as_ref()
            .map(|(authority, _)| authority.as_str());
        [Some(self.serving.authority.as_str()), staged, old]
            .into_iter()
            .flatten()
            .collect()
    }

    /// The state with the next certificate staged, not served yet.
    pub(super) fn stage_next(
        self,
        pair: ServingCertificate,
        requested: Option<&str>,
        at: Timestamp,
    ) -> Self {
        let handled = requested.map(ToOwned::to_owned).or(self.handled_request);
        Self {
            staged: Some((pair, at)),
            handled_request: handled,
            ..self
        }
    }

    /// The state with the staged certificate in use.
    pub(super) fn promote_staged(self, at: Timestamp) -> Self {
        match self.staged {
            Some((pair, _)) => Self {
                old_authority: Some((self.serving.authority, at)),
                serving: pair,
                staged: None,
                handled_request: self.handled_request,
            },
            None => self,
        }
    }

    /// The state without the old CA.
    pub(super) fn drop_old_authority(self) -> Self {
        Self {
            old_authority: None,
            ..self
        }
    }

    /// Parses the Secret. `None` if its content is invalid.
    pub(super) fn from_secret(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
        let annotations = secret.metadata.annotations.clone().unwrap_or_default();
        let time = |key: &str| annotations.get(key)?.parse::<Timestamp>().ok();
        let pair = |prefix: &str, ends: &str| {
            Some(ServingCertificate {
                certificate: text(&format!("{prefix}tls.crt"))?,
                key: text(&format!("{prefix}tls.key"))?,
                authority: text(&format!("{prefix}authority.crt"))?,
                not_after: time(ends)?,
            })
        };
        Some(Self {
            serving: pair("", NOT_AFTER_ANNOTATION)?,
            staged: pair("next-", &format!("{NOT_AFTER_ANNOTATION}-next"))
                .and_then(|pair| Some((pair, time(STAGED_AT)?))),
            old_authority: text("old-authority.crt")
                .and_then(|authority| Some((authority, time(SHOWN_AT)?))),
            handled_request: annotations.get(ROTATED).cloned(),
        })
    }

    /// The Secret with this state.
    pub(super) fn to_secret(
        &self,
        namespace: &str,
        owner: k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference,
    ) -> Secret {
        let mut data = BTreeMap::new();
        let mut annotations = BTreeMap::from([(
            NOT_AFTER_ANNOTATION.to_owned(),
            self.serving.not_after.to_string(),
        )]);
        insert_certificate(&mut data, "", &self.serving);
        data.insert(CA_CERTIFICATES_KEY.to_owned(), self.ca_bundle());
        if let Some((pair, at)) = &self.staged {
            insert_certificate(&mut data, "next-", pair);
            annotations.insert(
                format!("{NOT_AFTER_ANNOTATION}-next"),
                pair.not_after.to_string(),
            );
            annotations.insert(STAGED_AT.to_owned(), at.to_string());
        }
        if let Some((authority, at)) = &self.old_authority {
            data.insert("old-authority.crt".to_owned(), authority.clone());
            annotations.insert(SHOWN_AT.to_owned(), at.to_string());
        }
        if let Some(handled) = &self.handled_request {
            annotations.insert(ROTATED.to_owned(), handled.clone());
        }
        let metadata = ObjectMeta {
            name: Some(TLS_SECRET.to_owned()),
            namespace: Some(namespace.to_owned()),
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        };
        let data = data
            .into_iter()
            .map(|(key, text)| (key, ByteString(text.into_bytes())))
            .collect();
        Secret {
            metadata,
            type_: Some("Opaque".to_owned()),
            data: Some(data),
            ..Secret::default()
        }
    }
}

fn insert_certificate(
    data: &mut BTreeMap<String, String>,
    prefix: &str,
    pair: &ServingCertificate,
) {
    data.insert(format!("{prefix}tls.crt"), pair.certificate.clone());
    data.insert(format!("{prefix}tls.key"), pair.key.clone());
    data.insert(format!("{prefix}authority.crt"), pair.authority.clone());
}

/// The requested rotation, from the Secret's annotation.
pub(super) fn rotation_request(secret: &Secret) -> Option<&str> {
    secret
        .metadata
        .annotations
        .as_ref()?
        .get(ROTATE_REQUESTED_ANNOTATION)
        .map(String::as_str)
}

/// A new certificate for the Service, by a new CA.
pub(super) fn generate_certificate(
    namespace: &str,
    now: Timestamp,
) -> Result<ServingCertificate, CertificateGenerationError> {
    let late = |_| CertificateGenerationError("the clock is out of range".into());
    let (not_before, not_after) = (
        now.checked_sub(BACKDATED).map_err(late)?,
        now.checked_add(LIFETIME).map_err(late)?,
    );
    let dated = |mut params: CertificateParams, name: &str| {
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (
            to_offset_date_time(not_before),
            to_offset_date_time(not_after),
        );
        params
    };
    let authority_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    // Its name contains the time: two CAs with one name would be ambiguous to path builders.
    let mut authority = dated(
        CertificateParams::default(),
        &format!("packgate webhook {}", now.as_second()),
    );
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let names = [
        format!("{WEBHOOK_SERVICE_NAME}.{namespace}.svc"),
        format!("{WEBHOOK_SERVICE_NAME}.{namespace}.svc.cluster.local"),
    ];
    let mut leaf = dated(CertificateParams::new(names)?, WEBHOOK_SERVICE_NAME);
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let certificate = leaf
        .signed_by(&key, &Issuer::new(authority, authority_key))?
        .pem();
    // In whole seconds, as in the certificate.
    let not_after = Timestamp::from_second(not_after.as_second()).map_err(late)?;
    Ok(ServingCertificate {
        certificate,
        key: key.serialize_pem(),
        authority: authority_pem,
        not_after,
    })
}

fn to_offset_date_time(at: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(at.as_second())
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
