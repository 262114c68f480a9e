//! Bundles that were signed with a certificate of a company's own authority: no Fulcio, and no log
//! unless the policy names one.
//!
//! The path to a root is [`super::chain`]'s. It holds at a time. Where somebody whom the policy
//! believes vouches for when it was signed, that time counts. Otherwise it is the time of the
//! question, and how long the path goes on to hold is carried on with what was verified:
//! `core::policy` looks at it again whenever it is asked. Whatever is on a revocation list is
//! revoked, whenever it was signed.

use std::collections::HashSet;

use jiff::Timestamp;
use pki_types::CertificateDer;
use sigstore_types::{DsseEnvelope, bundle::VerificationMaterialContent};
use webpki::Error;
use x509_cert::{
    Certificate,
    der::{Decode, Encode},
};

use crate::core::{
    class::{Classified, Reason},
    digest::Digest,
    sigstore_bundle::SigstoreBundle,
};

use super::{
    CertificateAuthority, EvidenceError, Issuing, KeyAlgorithm, SignedAt, Signer, Trust, TrustRoot,
    Validity, VerificationKey,
    chain::{self, EndEntity, Path, Purpose, unix},
    san, sigstore,
    verified::{Authenticated, Claims, Format, Vouched},
};

/// Intermediates in a bundle. Bounds path building, whose cost grows with the factorial: who may
/// push a signature chooses them.
const MAX_INTERMEDIATES: usize = 2;

/// Finds out who signed, once for every authority and trust root that say so.
///
/// Beside it: why those do not that have something to say about it, or, if nobody does, at least
/// one reason.
///
/// Errors: the key of its certificate did not make the signature, or nothing can be made of the
/// certificate.
pub(super) fn authenticate(
    bundle: &SigstoreBundle,
    envelope: &DsseEnvelope,
    subject: &Digest,
    trust: &Trust,
) -> Result<(Vec<Authenticated>, Vec<EvidenceError>), EvidenceError> {
    let leaf = Leaf::of(bundle)?;
    if !leaf
        .key
        .verifies(&envelope.pae(), envelope.signature.sig.as_bytes())
    {
        return Err(fault(
            Reason::InvalidSignature,
            "its signature was not made with the key of its certificate",
        ));
    }
    let (mut found, mut faults, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for Issuing { authority, root } in &trust.authorities {
        // Without anybody's word on the time there is nothing to ask the trust root.
        let root = root.as_ref().filter(|_| bundle.has_time_evidence());
        if seen.insert((authority.digest(), root.map(|root| root.digest()))) {
            let question = Question {
                leaf: &leaf,
                authority,
                bundle,
                subject,
                now: trust.now,
            };
            match root.map_or_else(|| question.alone(), |root| question.vouched(root)) {
                Ok(by) => found.push(by),
                Err(error) => faults.push(error),
            }
        }
    }
    if found.is_empty() {
        return Ok((found, chain::worth_telling(faults)));
    }
    // That another authority did not issue it is no news.
    faults.retain(|fault| fault.signer().is_some());
    Ok((found, faults))
}

/// The certificate of a bundle whose key made its signature, with what came beside it.
struct Leaf<'a> {
    certificate: EndEntity<'a>,
    beside: Vec<CertificateDer<'a>>,
    key: VerificationKey,
}

/// One certificate before one authority.
struct Question<'a> {
    leaf: &'a Leaf<'a>,
    authority: &'a CertificateAuthority,
    bundle: &'a SigstoreBundle,
    subject: &'a Digest,
    now: Option<Timestamp>,
}

impl<'a> Leaf<'a> {
    fn of(bundle: &'a SigstoreBundle) -> Result<Self, EvidenceError> {
        let beside = match &bundle.inner().verification_material.content {
            VerificationMaterialContent::X509CertificateChain { certificates } => {
                certificates.get(1..).unwrap_or_default()
            }
            _ => &[],
        };
        if beside.len() > MAX_INTERMEDIATES {
            let message = format!(
                "it carries {} intermediate certificates, the limit is {MAX_INTERMEDIATES}",
                beside.len()
            );
            return Err(fault(Reason::LimitExceeded, message));
        }
        let malformed = |problem: &str| {
            fault(
                Reason::MalformedEvidence,
                format!("its certificate {problem}"),
            )
        };
        let der = bundle
            .inner()
            .signing_certificate()
            .ok_or_else(|| malformed("is not there"))?
            .as_bytes();
        let certificate = Certificate::from_der(der).map_err(|_| malformed("cannot be read"))?;
        let end =
            EndEntity::of(der).ok_or_else(|| malformed("has extensions that cannot be read"))?;
        let spki = certificate
            .tbs_certificate
            .subject_public_key_info
            .to_der()
            .map_err(|_| malformed("has a key that cannot be read"))?;
        let key = VerificationKey::from_spki(spki)
            .map_err(|_| malformed("has a key of a kind that packgate does not verify with"))?;
        let beside = beside
            .iter()
            .map(|certificate| CertificateDer::from(certificate.raw_bytes.as_bytes()))
            .collect();
        Ok(Self {
            certificate: end,
            beside,
            key,
        })
    }

    /// The one name that it stands for.
    fn name(&self) -> Result<String, EvidenceError> {
        san::only_name_of_company(&self.certificate.der).ok_or_else(|| {
            fault(
                Reason::IdentityMismatch,
                "its certificate must have exactly one subject \
                alternative name: a URI, an email address or a DNS name",
            )
        })
    }
}

impl Question<'_> {
    /// Nobody says when it was signed: the path must hold now.
    fn alone(&self) -> Result<Authenticated, EvidenceError> {
        let now = self.now.ok_or_else(|| {
            fault(
                Reason::NoTrustedTime,
                "nobody says when it was signed, nor what time it is",
            )
        })?;
        let validity = self.path(now).map_err(|error| self.blame(error))?.validity;
        let vouched = if self.bundle.has_time_evidence() {
            Vouched::Unchecked
        } else {
            Vouched::Absent
        };
        self.signed(None, SignedAt::Unknown, vouched, false, validity)
    }

    /// The path must hold at every time that the trust root vouches for. Revocation lists must
    /// still be fresh.
    fn vouched(&self, root: &TrustRoot) -> Result<Authenticated, EvidenceError> {
        if matches!(
            self.leaf.key.algorithm(),
            KeyAlgorithm::EcdsaP521 | KeyAlgorithm::RsaPss
        ) {
            let message = "log entries and timestamps beside signatures of P-521 and RSASSA-PSS \
                keys cannot be checked";
            return Err(self.blame(self.concerning(fault(Reason::InvalidTimestamp, message))));
        }
        let vouching = sigstore::vouch_for_certificate(root, self.bundle, self.subject)
            .map_err(|error| self.blame(self.concerning(error)))?;
        let mut lists = Validity::default();
        for time in &vouching.times {
            lists = lists.and(self.path(*time).map_err(|error| self.blame(error))?.lists);
        }
        let first = vouching
            .times
            .iter()
            .min()
            .copied()
            .ok_or_else(|| fault(Reason::NoTrustedTime, "nobody vouches for a time"))?;
        if self.now.is_some_and(|now| !lists.holds(now)) {
            return Err(chain::explain(
                &Error::CrlExpired {
                    time: unix(first),
                    next_update: unix(lists.until.unwrap_or(first)),
                },
                Purpose::CodeSigning,
            ));
        }
        self.signed(
            Some(root.digest()),
            SignedAt::Known(first),
            Vouched::Holds,
            vouching.logged,
            lists,
        )
    }

    fn signed(
        &self,
        root: Option<Digest>,
        time: SignedAt,
        vouched: Vouched,
        logged: bool,
        validity: Validity,
    ) -> Result<Authenticated, EvidenceError> {
        let signer = Signer::Certificate {
            san: self.leaf.name()?,
            authority: self.authority.digest(),
        };
        let key = Some(self.leaf.key.names());
        Ok(Authenticated {
            signer,
            key,
            root,
            time,
            vouched,
            logged,
            claims: Claims::default(),
            format: Format::Bundle,
            validity,
        })
    }

    /// What this authority never issued is told as that, whatever else is wrong with it.
    fn blame(&self, error: EvidenceError) -> EvidenceError {
        if error.reason() == Reason::UntrustedChain {
            return error;
        }
        match self
            .leaf
            .certificate
            .facts
            .validity
            .from
            .map(|begin| self.path(begin))
        {
            Some(Err(other)) if other.reason() == Reason::UntrustedChain => other,
            _ => error,
        }
    }

    /// A fault of a signature that this authority's certificate made.
    fn concerning(&self, error: EvidenceError) -> EvidenceError {
        let signer = self.leaf.name().ok().map(|san| Signer::Certificate {
            san,
            authority: self.authority.digest(),
        });
        match error {
            EvidenceError::Sigstore {
                reason, message, ..
            } => EvidenceError::Sigstore {
                reason,
                message,
                signer,
            },
            other => other,
        }
    }

    /// A path from the certificate to a root that holds at this time, and how long it does.
    fn path(&self, at: Timestamp) -> Result<Path, EvidenceError> {
        let Self {
            leaf, authority, ..
        } = self;
        authority
            .issuers
            .path(&leaf.certificate, &leaf.beside, authority.lists(), at)
            .map_err(|error| self.refused(error))
    }

    /// That it is revoked concerns its holder: its issuer says so.
    fn refused(&self, error: EvidenceError) -> EvidenceError {
        if error.reason() == Reason::Revoked {
            self.concerning(error)
        } else {
            error
        }
    }
}

fn fault(reason: Reason, message: impl Into<String>) -> EvidenceError {
    EvidenceError::Sigstore {
        reason,
        message: message.into(),
        signer: None,
    }
}
