//! Finds a statement that a signer has signed before: signing it again would only add another
//! signature for everybody to read.

use super::{
    publish::PublishError,
    verification_request::{EvidenceDepth, VerificationRequest},
    verify,
};
use crate::{
    clock::Clock,
    core::{
        digest::Digest,
        intoto::Statement,
        limits::InputLimits,
        policy::{
            AdHocPolicyOptions, AuthorityKind, ClaimsRule, Policy, PolicyAuthority, ReferenceUse,
            SubjectMatcher,
        },
        verify::{PublicKeyError, StoredSignatureFormat, VerificationKey, Verified},
    },
    oci::{ContentSource, ResolvedManifest},
    signing::BundleSignerIdentity,
};

/// Where a statement is searched, and in which form.
#[derive(Clone, Copy)]
pub struct StatementSearch<'a> {
    /// The place that may have it.
    pub source: &'a dyn ContentSource,
    /// What it is about.
    pub subject: &'a ResolvedManifest,
    /// How it is stored.
    pub format: StoredSignatureFormat,
    /// The time of certificates and timestamps.
    pub clock: &'a dyn Clock,
    /// The limits of what is read.
    pub limits: &'a InputLimits,
}

/// The authority that trusts this signer and nobody else.
pub(super) fn signer_authority(
    identity: BundleSignerIdentity,
) -> Result<PolicyAuthority, PublicKeyError> {
    let kind = match identity {
        BundleSignerIdentity::Key { pem, root } => AuthorityKind::Key {
            key: VerificationKey::from_pem(&pem)?,
            root,
        },
        BundleSignerIdentity::Identity { san, issuer, root } => AuthorityKind::Keyless {
            subject: SubjectMatcher::Exact(san),
            issuer,
            claims: ClaimsRule::default(),
            root,
        },
    };
    Ok(PolicyAuthority {
        name: "signer".into(),
        kind,
    })
}

/// The digest of the manifest with a valid signature of `signer` over exactly this statement, if
/// there is one. Of a signer that uses a transparency log only a logged one counts.
///
/// Errors: the evidence could not be read.
pub async fn find_signed_statement(
    search: StatementSearch<'_>,
    wanted: &Statement,
    signer: BundleSignerIdentity,
) -> Result<Option<Digest>, PublishError> {
    let must_be_logged = matches!(signer, BundleSignerIdentity::Key { root: Some(_), .. });
    let policy = [Policy::ad_hoc(AdHocPolicyOptions {
        authorities: vec![signer_authority(signer)?],
        formats: vec![search.format],
        ..AdHocPolicyOptions::default()
    })?];
    let digest = search.subject.descriptor.digest;
    let reference = format!("{}@{digest}", search.source.location());
    let request = VerificationRequest {
        policies: &policy,
        reference: &reference,
        repository: None,
        had_digest: true,
        used_as: ReferenceUse::PackedBundle,
        namespace: None,
        now: search.clock.now(),
        reading: EvidenceDepth::Needed,
    };
    let evaluation =
        verify::evaluate_bundle(search.source, search.subject, &request, search.limits).await?;
    let is_bundle = |format| format == StoredSignatureFormat::Bundle;
    let is_same = |verified: &&Verified<Statement>| {
        verified.claim() == wanted
            && is_bundle(verified.signature_format()) == is_bundle(search.format)
            && (verified.is_logged() || !must_be_logged)
    };
    let found = evaluation.findings.verified.iter().find(is_same);
    Ok(found.map(Verified::referrer).copied())
}
