//! The webhook's certificate: made by the controller, and renewed without a failed review.
//!
//! Each certificate has an authority of its own, whose key is thrown away as soon as it has signed:
//! nothing is left that could sign another. A renewal has three steps, so that API server and
//! webhook agree at every moment:
//!
//! 1. the new pair is *staged*: API servers are told of its authority, while the old certificate is
//!    still shown;
//! 2. once they know it, the new certificate is *shown*, and the old authority is still told;
//! 3. when no connection with the old one can be left, it is *forgotten*.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::core::ObjectMeta;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};

use crate::api::webhook::{NOT_AFTER, ROTATE_REQUESTED, SERVICE, TLS_SECRET};

/// How long a certificate lives.
const LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How long before its end it is renewed.
const RENEW: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How far the clocks of API servers may be behind.
const BACKDATED: SignedDuration = SignedDuration::from_hours(1);
/// How long API servers get to learn of a new authority.
pub(super) const SETTLE: SignedDuration = SignedDuration::from_secs(10);
/// How long an old authority is still told.
const KEEP: SignedDuration = SignedDuration::from_mins(10);

/// A request that was answered.
const ROTATED: &str = "packgate.dev/rotated-for";
const STAGED_AT: &str = "packgate.dev/staged-at";
const SHOWN_AT: &str = "packgate.dev/shown-at";

/// What lies in the Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificates {
    /// What is shown.
    pub shown: Pair,
    /// What is shown next, and since when API servers may be told of it.
    pub staged: Option<(Pair, Timestamp)>,
    /// The authority of what was shown before, and since when it is not.
    pub old: Option<(String, Timestamp)>,
    /// The request for a renewal that was answered last.
    pub answered: Option<String>,
}

/// A certificate with its key and its authority, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pair {
    pub certificate: String,
    pub key: String,
    pub authority: String,
    pub not_after: Timestamp,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is none that can be used: make one and show it at once.
    Make,
    /// Make the next one.
    Stage,
    /// Show the one that is staged.
    Show,
    /// Tell the old authority no longer.
    Forget,
    /// Nothing now.
    Rest,
}

/// Why no certificate can be made: always a defect.
#[derive(Debug, thiserror::Error)]
#[error("no certificate can be made: {0}")]
pub(super) struct MakeError(String);

impl From<rcgen::Error> for MakeError {
    fn from(error: rcgen::Error) -> Self {
        Self(error.to_string())
    }
}

/// What is next. `told`: since when API servers have been told of every authority in the Secret.
pub(super) fn next(
    now: &Certificates,
    requested: Option<&str>,
    told: Option<Timestamp>,
    at: Timestamp,
) -> Step {
    let Certificates {
        shown,
        staged,
        old,
        answered,
    } = now;
    if shown.not_after <= at {
        return Step::Make;
    }
    if let Some((_, since)) = staged {
        let known = told.is_some_and(|told| at.duration_since(told.max(*since)) >= SETTLE);
        return if known { Step::Show } else { Step::Rest };
    }
    let wanted = requested.is_some_and(|requested| answered.as_deref() != Some(requested));
    if wanted || shown.not_after.duration_since(at) <= RENEW {
        return Step::Stage;
    }
    if old
        .as_ref()
        .is_some_and(|(_, since)| at.duration_since(*since) >= KEEP)
    {
        Step::Forget
    } else {
        Step::Rest
    }
}

impl Certificates {
    /// Only one.
    pub(super) const fn only(shown: Pair, answered: Option<String>) -> Self {
        Self {
            shown,
            staged: None,
            old: None,
            answered,
        }
    }

    /// Everything that API servers are told to trust.
    pub(super) fn authorities(&self) -> String {
        let staged = self
            .staged
            .as_ref()
            .map(|(pair, _)| pair.authority.as_str());
        let old = self.old.as_ref().map(|(authority, _)| authority.as_str());
        [Some(self.shown.authority.as_str()), staged, old]
            .into_iter()
            .flatten()
            .collect()
    }

    /// With the next one, which nobody shows yet.
    pub(super) fn stage(self, pair: Pair, requested: Option<&str>, at: Timestamp) -> Self {
        let answered = requested.map(ToOwned::to_owned).or(self.answered);
        Self {
            staged: Some((pair, at)),
            answered,
            ..self
        }
    }

    /// With the staged one shown.
    pub(super) fn show(self, at: Timestamp) -> Self {
        match self.staged {
            Some((pair, _)) => Self {
                old: Some((self.shown.authority, at)),
                shown: pair,
                staged: None,
                answered: self.answered,
            },
            None => self,
        }
    }

    /// Without the old authority.
    pub(super) fn forget(self) -> Self {
        Self { old: None, ..self }
    }

    /// Reads the Secret. `None` if nothing in it can be used.
    pub(super) fn read(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
        let annotations = secret.metadata.annotations.clone().unwrap_or_default();
        let time = |key: &str| annotations.get(key)?.parse::<Timestamp>().ok();
        let pair = |prefix: &str, ends: &str| {
            Some(Pair {
                certificate: text(&format!("{prefix}tls.crt"))?,
                key: text(&format!("{prefix}tls.key"))?,
                authority: text(&format!("{prefix}authority.crt"))?,
                not_after: time(ends)?,
            })
        };
        Some(Self {
            shown: pair("", NOT_AFTER)?,
            staged: pair("next-", &format!("{NOT_AFTER}-next"))
                .and_then(|pair| Some((pair, time(STAGED_AT)?))),
            old: text("old-authority.crt").and_then(|authority| Some((authority, time(SHOWN_AT)?))),
            answered: annotations.get(ROTATED).cloned(),
        })
    }

    /// The Secret that says this.
    pub(super) fn secret(
        &self,
        namespace: &str,
        owner: k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference,
    ) -> Secret {
        let mut data = BTreeMap::new();
        let mut annotations =
            BTreeMap::from([(NOT_AFTER.to_owned(), self.shown.not_after.to_string())]);
        put(&mut data, "", &self.shown);
        data.insert("ca.crt".to_owned(), self.authorities());
        if let Some((pair, at)) = &self.staged {
            put(&mut data, "next-", pair);
            annotations.insert(format!("{NOT_AFTER}-next"), pair.not_after.to_string());
            annotations.insert(STAGED_AT.to_owned(), at.to_string());
        }
        if let Some((authority, at)) = &self.old {
            data.insert("old-authority.crt".to_owned(), authority.clone());
            annotations.insert(SHOWN_AT.to_owned(), at.to_string());
        }
        if let Some(answered) = &self.answered {
            annotations.insert(ROTATED.to_owned(), answered.clone());
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

fn put(data: &mut BTreeMap<String, String>, prefix: &str, pair: &Pair) {
    data.insert(format!("{prefix}tls.crt"), pair.certificate.clone());
    data.insert(format!("{prefix}tls.key"), pair.key.clone());
    data.insert(format!("{prefix}authority.crt"), pair.authority.clone());
}

/// What somebody asks for, in the Secret's annotation.
pub(super) fn requested(secret: &Secret) -> Option<&str> {
    secret
        .metadata
        .annotations
        .as_ref()?
        .get(ROTATE_REQUESTED)
        .map(String::as_str)
}

/// A new certificate for the Service, by a new authority.
pub(super) fn make(namespace: &str, now: Timestamp) -> Result<Pair, MakeError> {
    let late = |_| MakeError("the clock is out of range".into());
    let (not_before, not_after) = (
        now.checked_sub(BACKDATED).map_err(late)?,
        now.checked_add(LIFETIME).map_err(late)?,
    );
    let dated = |mut params: CertificateParams, name: &str| {
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (date(not_before), date(not_after));
        params
    };
    let authority_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    // Its name carries the time: two authorities of one name would confuse whoever builds chains.
    let mut authority = dated(
        CertificateParams::default(),
        &format!("packgate webhook {}", now.as_second()),
    );
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let names = [
        format!("{SERVICE}.{namespace}.svc"),
        format!("{SERVICE}.{namespace}.svc.cluster.local"),
    ];
    let mut leaf = dated(CertificateParams::new(names)?, SERVICE);
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let certificate = leaf
        .signed_by(&key, &Issuer::new(authority, authority_key))?
        .pem();
    // To the second, as the certificate has it.
    let not_after = Timestamp::from_second(not_after.as_second()).map_err(late)?;
    Ok(Pair {
        certificate,
        key: key.serialize_pem(),
        authority: authority_pem,
        not_after,
    })
}

fn date(at: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(at.as_second())
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
