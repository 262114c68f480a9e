//! Bundles that were signed with a certificate of a company's own authority: no Fulcio, and no log unless the policy names one.
//!
//! `webpki` builds the path: signatures, names, validity, CA:TRUE, path length, name constraints, critical extensions, revocation lists. It
//! refuses a name that it cannot compare with a constraint (a URI, an email address) where there is one of that kind. What it leaves open
//! is closed here: the root's own validity and path length, the key usage of issuers, and that the certificate itself says that it signs
//! code.
//!
//! A path holds at a time. Where somebody whom the policy believes vouches for when it was signed, that time counts. Otherwise it is the
//! time of the question, and how long the path goes on to hold is carried on with what was verified: `core::policy` looks at it again
//! whenever it is asked. Whatever is on a revocation list is revoked, whenever it was signed.

use std::{collections::HashSet, time::Duration};

use jiff::Timestamp;
use pki_types::{CertificateDer, UnixTime};
use sigstore_types::{DsseEnvelope, bundle::VerificationMaterialContent};
use webpki::{
    ALL_VERIFICATION_ALGS, Cert, EndEntityCert, Error, ExpirationPolicy, ExtendedKeyUsageValidator, KeyPurposeId, KeyPurposeIdIter, KeyUsage,
    RequiredEkuNotFoundContext, RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy, VerifiedPath,
};
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
    CertificateAuthority, EvidenceError, Issuing, KeyAlgorithm, SignedAt, Signer, Trust, TrustRoot, Validity, VerificationKey,
    authority::Facts,
    error::shorten,
    san, sigstore,
    verified::{Authenticated, Claims, Format, Vouched},
};

/// Intermediates in a bundle. Bounds path building, whose cost grows with the factorial: who may push a signature chooses them.
const MAX_INTERMEDIATES: usize = 2;
/// Id-kp-codeSigning and anyExtendedKeyUsage, as they stand in a certificate.
const CODE_SIGNING: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x03\x03";
const ANY_PURPOSE: &[u8] = b"\x55\x1d\x25\x00";

/// Finds out who signed, once for every authority and trust root that say so; an error if none does.
///
/// Errors beside it: trust roots that do not vouch for the time or the log of what such a certificate signed.
pub(super) fn authenticate(
    bundle: &SigstoreBundle,
    envelope: &DsseEnvelope,
    subject: &Digest,
    trust: &Trust,
) -> Result<(Vec<Authenticated>, Vec<EvidenceError>), EvidenceError> {
    let leaf = Leaf::of(bundle)?;
    if !leaf.key.verifies(&envelope.pae(), envelope.signature.sig.as_bytes()) {
        return Err(fault(Reason::InvalidSignature, "its signature was not made with the key of its certificate"));
    }
    let (mut found, mut faults, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for Issuing { authority, root } in &trust.authorities {
        // Without anybody's word on the time there is nothing to ask the trust root.
        let root = root.as_ref().filter(|_| bundle.has_time_evidence());
        if seen.insert((authority.digest(), root.map(|root| root.digest()))) {
            let question = Question { leaf: &leaf, authority, bundle, subject, now: trust.now };
            match root.map_or_else(|| question.alone(), |root| question.vouched(root)) {
                Ok(by) => found.push(by),
                Err(error) => faults.push(error),
            }
        }
    }
    if found.is_empty() {
        return Err(sigstore::furthest(faults));
    }
    // That another authority did not issue it is no news.
    faults.retain(|fault| fault.signer().is_some());
    Ok((found, faults))
}

/// The certificate of a bundle whose key made its signature, with what came beside it.
struct Leaf<'a> {
    der: CertificateDer<'a>,
    beside: Vec<CertificateDer<'a>>,
    facts: Facts,
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
            VerificationMaterialContent::X509CertificateChain { certificates } => certificates.get(1..).unwrap_or_default(),
            _ => &[],
        };
        if beside.len() > MAX_INTERMEDIATES {
            let message = format!("it carries {} intermediate certificates, the limit is {MAX_INTERMEDIATES}", beside.len());
            return Err(fault(Reason::LimitExceeded, message));
        }
        let malformed = |problem: &str| fault(Reason::MalformedEvidence, format!("its certificate {problem}"));
        let der = bundle.inner().signing_certificate().ok_or_else(|| malformed("is not there"))?.as_bytes();
        let certificate = Certificate::from_der(der).map_err(|_| malformed("cannot be read"))?;
        let facts = Facts::of(&certificate).ok_or_else(|| malformed("has extensions that cannot be read"))?;
        let spki = certificate.tbs_certificate.subject_public_key_info.to_der().map_err(|_| malformed("has a key that cannot be read"))?;
        let key = VerificationKey::from_spki(spki).map_err(|_| malformed("has a key of a kind that packgate does not verify with"))?;
        let beside = beside.iter().map(|certificate| CertificateDer::from(certificate.raw_bytes.as_bytes())).collect();
        Ok(Self { der: CertificateDer::from(der), beside, facts, key })
    }

    /// The one name that it stands for.
    fn name(&self) -> Result<String, EvidenceError> {
        san::only_name_of_company(&self.der).ok_or_else(|| {
            fault(Reason::IdentityMismatch, "its certificate must have exactly one subject alternative name: a URI, an email address or a DNS name")
        })
    }
}

impl Question<'_> {
    /// Nobody says when it was signed: the path must hold now.
    fn alone(&self) -> Result<Authenticated, EvidenceError> {
        let now = self.now.ok_or_else(|| fault(Reason::NoTrustedTime, "nobody says when it was signed, nor what time it is"))?;
        let validity = self.path(now).map_err(|error| self.blame(error))?.validity;
        let vouched = if self.bundle.has_time_evidence() { Vouched::Unchecked } else { Vouched::Absent };
        self.signed(None, SignedAt::Unknown, vouched, false, validity)
    }

    /// The path must hold at every time that the trust root vouches for. Revocation lists must still be fresh.
    fn vouched(&self, root: &TrustRoot) -> Result<Authenticated, EvidenceError> {
        if matches!(self.leaf.key.algorithm(), KeyAlgorithm::EcdsaP521 | KeyAlgorithm::RsaPss) {
            let message = "log entries and timestamps beside signatures of P-521 and RSASSA-PSS keys cannot be checked";
            return Err(self.blame(self.concerning(fault(Reason::InvalidTimestamp, message))));
        }
        let vouching = sigstore::vouch_for_certificate(root, self.bundle, self.subject).map_err(|error| self.blame(self.concerning(error)))?;
        let mut lists = Validity::default();
        for time in &vouching.times {
            lists = lists.and(self.path(*time).map_err(|error| self.blame(error))?.lists);
        }
        let first = vouching.times.iter().min().copied().ok_or_else(|| fault(Reason::NoTrustedTime, "nobody vouches for a time"))?;
        if self.now.is_some_and(|now| !lists.holds(now)) {
            return Err(explain(&Error::CrlExpired { time: unix(first), next_update: unix(lists.until.unwrap_or(first)) }));
        }
        self.signed(Some(root.digest()), SignedAt::Known(first), Vouched::Holds, vouching.logged, lists)
    }

    fn signed(
        &self,
        root: Option<Digest>,
        time: SignedAt,
        vouched: Vouched,
        logged: bool,
        validity: Validity,
    ) -> Result<Authenticated, EvidenceError> {
        let signer = Signer::Certificate { san: self.leaf.name()?, authority: self.authority.digest() };
        let key = Some(self.leaf.key.names());
        Ok(Authenticated { signer, key, root, time, vouched, logged, claims: Claims::default(), format: Format::Bundle, validity })
    }

    /// What this authority never issued is told as that, whatever else is wrong with it.
    fn blame(&self, error: EvidenceError) -> EvidenceError {
        if error.reason() == Reason::UntrustedChain {
            return error;
        }
        match self.leaf.facts.validity.from.map(|begin| self.path(begin)) {
            Some(Err(other)) if other.reason() == Reason::UntrustedChain => other,
            _ => error,
        }
    }

    /// A fault of a signature that this authority's certificate made.
    fn concerning(&self, error: EvidenceError) -> EvidenceError {
        let signer = self.leaf.name().ok().map(|san| Signer::Certificate { san, authority: self.authority.digest() });
        match error {
            EvidenceError::Sigstore { reason, message, .. } => EvidenceError::Sigstore { reason, message, signer },
            other => other,
        }
    }

    /// A path from the certificate to a root that holds at this time, and how long it does.
    fn path(&self, at: Timestamp) -> Result<Path, EvidenceError> {
        let Self { leaf, authority, .. } = self;
        let end = EndEntityCert::try_from(&leaf.der).map_err(|error| explain(&error))?;
        let known = authority.intermediates.iter().map(|known| CertificateDer::from(known.as_ref()));
        let intermediates: Vec<CertificateDer<'_>> = known.chain(leaf.beside.iter().map(|beside| CertificateDer::from(beside.as_ref()))).collect();
        let lists: Vec<_> = authority.lists.iter().map(|list| &list.list).collect();
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let complete = |path: &VerifiedPath<'_>| authority.completes(path, at);
        let found = end
            .verify_for_usage(ALL_VERIFICATION_ALGS, &authority.anchors, &intermediates, unix(at), ForCode, revocation, Some(&complete))
            .map_err(|error| self.refused(&error))?;
        if !leaf.facts.is_for_code() {
            return Err(fault(
                Reason::UntrustedChain,
                "its certificate does not say that it signs code: the extended key usage codeSigning is missing",
            ));
        }
        if !leaf.facts.may_sign() {
            return Err(fault(Reason::UntrustedChain, "its certificate's key may not make signatures, by its key usage"));
        }
        authority.measure(&found, &leaf.facts)
    }

    /// That it is revoked concerns its holder: its issuer says so.
    fn refused(&self, error: &Error) -> EvidenceError {
        let explained = explain(error);
        if explained.reason() == Reason::Revoked { self.concerning(explained) } else { explained }
    }
}

/// How long a path holds.
struct Path {
    /// As a whole.
    validity: Validity,
    /// As far as revocation lists are concerned.
    lists: Validity,
}

impl CertificateAuthority {
    /// What webpki does not look at: the root itself, and the key usage of issuers.
    fn completes(&self, path: &VerifiedPath<'_>, at: Timestamp) -> Result<(), Error> {
        let root = self.root_of(path).ok_or(Error::UnknownIssuer)?;
        let Validity { from, until } = root.validity;
        if let Some(from) = from.filter(|from| at < *from) {
            return Err(Error::CertNotValidYet { time: unix(at), not_before: unix(from) });
        }
        if let Some(until) = until.filter(|until| at >= *until) {
            return Err(Error::CertExpired { time: unix(at), not_after: unix(until) });
        }
        let between: Vec<&Cert<'_>> = path.intermediate_certificates().collect();
        if root.path_len.is_some_and(|longest| between.len() > usize::from(longest)) {
            return Err(Error::PathLenConstraintViolated);
        }
        let issues = |certificate: &&Cert<'_>| facts(certificate).is_some_and(|facts| facts.may_issue());
        if between.iter().all(issues) { Ok(()) } else { Err(Error::EndEntityUsedAsCa) }
    }

    fn root_of(&self, path: &VerifiedPath<'_>) -> Option<&Facts> {
        let mut roots = self.anchors.iter().zip(&self.roots);
        roots
            .find(|(anchor, _)| std::ptr::eq(std::ptr::from_ref(*anchor).cast::<()>(), std::ptr::from_ref(path.anchor()).cast()))
            .map(|(_, root)| root)
    }

    fn measure(&self, path: &VerifiedPath<'_>, leaf: &Facts) -> Result<Path, EvidenceError> {
        let unreadable = || fault(Reason::UntrustedChain, "an intermediate certificate cannot be read");
        let mut validity = leaf.validity.and(self.root_of(path).ok_or_else(unreadable)?.validity);
        let mut lists = self.lists_of(path.end_entity());
        for certificate in path.intermediate_certificates() {
            validity = validity.and(facts(certificate).ok_or_else(unreadable)?.validity);
            lists = lists.and(self.lists_of(certificate));
        }
        Ok(Path { validity: validity.and(lists), lists })
    }

    /// How long the lists of its issuer say that it is not revoked. The newest that is about everything says all; of partial ones it is not
    /// known which one was asked.
    fn lists_of(&self, certificate: &Cert<'_>) -> Validity {
        let concerned: Vec<_> = self.lists.iter().filter(|list| list.list.issuer() == certificate.issuer()).collect();
        let whole = concerned.first().filter(|first| first.list.issuing_distribution_point().is_none());
        let asked = whole.map_or(concerned.as_slice(), std::slice::from_ref);
        asked.iter().fold(Validity::default(), |validity, list| validity.and(Validity { from: None, until: Some(list.until) }))
    }
}

fn facts(certificate: &Cert<'_>) -> Option<Facts> {
    Facts::of(&Certificate::from_der(&certificate.der()).ok()?)
}

/// Issuers that say what they are for must be for code signing too. What the certificate itself says is looked at apart.
struct ForCode;

impl ExtendedKeyUsageValidator for ForCode {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        let mut is_silent = true;
        for purpose in purposes {
            let purpose = purpose?;
            is_silent = false;
            if purpose == KeyPurposeId::new(CODE_SIGNING) || purpose == KeyPurposeId::new(ANY_PURPOSE) {
                return Ok(());
            }
        }
        let missing = RequiredEkuNotFoundContext { required: KeyUsage::required(CODE_SIGNING), present: Vec::new() };
        if is_silent { Ok(()) } else { Err(Error::RequiredEkuNotFoundContext(missing)) }
    }
}

/// Whole seconds, which is all that certificates know. Before 1970 nothing was signed.
fn unix(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0)))
}

fn fault(reason: Reason, message: impl Into<String>) -> EvidenceError {
    EvidenceError::Sigstore { reason, message: message.into(), signer: None }
}

fn explain(error: &Error) -> EvidenceError {
    let when = |time: &UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_second(seconds).map_or_else(|_| "the end of time".to_owned(), |time| time.to_string())
    };
    let (reason, message) = match error {
        Error::CertExpired { not_after, .. } => (Reason::CertificateExpired, format!("a certificate of its chain expired at {}", when(not_after))),
        Error::CertNotValidYet { not_before, .. } => {
            (Reason::CertificateExpired, format!("a certificate of its chain is not valid before {}", when(not_before)))
        }
        Error::InvalidCertValidity => (Reason::CertificateExpired, "a certificate of its chain is never valid".into()),
        Error::CrlExpired { next_update, .. } => {
            (Reason::CertificateExpired, format!("a revocation list of its issuers is stale since {}; put a new one in its place", when(next_update)))
        }
        Error::CertRevoked => (Reason::Revoked, "a certificate of its chain is revoked".into()),
        Error::UnknownRevocationStatus => {
            (Reason::UntrustedChain, "nobody says that its chain is not revoked: there is no revocation list of one of its issuers".into())
        }
        Error::InvalidCrlSignatureForPublicKey => (Reason::UntrustedChain, "a revocation list was not signed by the issuer that it names".into()),
        Error::IssuerNotCrlSigner => (Reason::UntrustedChain, "a revocation list was signed by an issuer that may not sign any".into()),
        Error::UnknownIssuer => (Reason::UntrustedChain, "its certificate chains to no root of the authority".into()),
        Error::InvalidSignatureForPublicKey => (Reason::UntrustedChain, "a certificate of its chain was not signed by its issuer".into()),
        Error::CaUsedAsEndEntity => (Reason::UntrustedChain, "its certificate is a certificate authority's".into()),
        Error::EndEntityUsedAsCa => (Reason::UntrustedChain, "an issuer in its chain may not sign certificates".into()),
        Error::PathLenConstraintViolated => (Reason::UntrustedChain, "its chain is longer than an issuer allows".into()),
        Error::NameConstraintViolation => (
            Reason::UntrustedChain,
            "a name in its chain is outside of an issuer's name constraints, or of a kind that cannot be compared with them".into(),
        ),
        Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => {
            (Reason::UntrustedChain, "a certificate of its chain is not for code signing, by its extended key usage".into())
        }
        other => (Reason::UntrustedChain, format!("its certificate cannot be trusted: {other:?}")),
    };
    fault(reason, shorten(&message))
}
