//! Policy evaluation: a verdict from the subject, the verified evidence about it, and the time.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;

use crate::core::{
    digest::Digest,
    intoto::{COSIGN_SIGN, Statement},
    lockfile::Lockfile,
    reason::{Class, Reason},
    reference::ImageRepository,
    slsa::PROVENANCE_V1,
    verify::{
        RejectedEvidence, SignerIdentity, TrustedCertificateAuthority, TrustedMaterial,
        VerificationFindings, Verified, reason_rank,
    },
};

use super::{
    AdmissionProof, AdmissionVerdict, AppliedExemption, AttestationRule, AuthorityFinding,
    AuthorityKind, Denial, Denials, Policy, PolicyAuthority, PolicyDecision, PolicyRules,
    PolicyVerdict, ReferenceUse, RevocationTarget, SlsaFinding, TransparencyRequirement,
    next_change::next_change,
    repository_binding::other_signed_repository,
    scope::{ReferenceUseScope, in_scope, is_excepted},
    slsa, threshold,
};

/// The subject of an evaluation: one digest, and how it is about to be used.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionSubject<'a> {
    /// The reference as written.
    pub reference: &'a str,
    /// Its canonical repository. `None` for layouts and archives.
    pub repository: Option<&'a ImageRepository>,
    /// The digest that the reference was resolved to.
    pub digest: Digest,
    /// True if the reference contains that digest.
    pub had_digest: bool,
    /// How the image is used.
    pub used_as: ReferenceUse,
    /// The namespace of the use; `None` outside of a cluster.
    pub namespace: Option<&'a str>,
    /// The lock in the bundle, if it was read.
    pub lock: Option<BundleLock<'a>>,
}

/// The lockfile read from the bundle.
#[derive(Clone, Copy, Debug)]
pub struct BundleLock<'a> {
    /// The parsed lockfile.
    pub lock: &'a Lockfile,
    /// Digest of its canonical form.
    pub digest: Digest,
}

/// All keys, certificate authorities and trust roots of these policies: the input of
/// `core::verify`, except for the time.
pub fn trusted_material<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> TrustedMaterial {
    let (mut trust, mut seen) = (TrustedMaterial::default(), HashSet::new());
    for authority in policies
        .into_iter()
        .flat_map(|policy| &policy.rules().authorities)
    {
        match &authority.kind {
            AuthorityKind::Key { key, root } => {
                if seen.insert(("key", key.fingerprint())) {
                    trust.keys.push(key.clone());
                }
                trust.key_trust_roots.extend(
                    root.iter()
                        .filter(|root| seen.insert(("vouching", root.digest())))
                        .cloned(),
                );
            }
            AuthorityKind::Keyless { root, .. } if seen.insert(("root", root.digest())) => {
                trust.roots.push(root.clone());
            }
            AuthorityKind::Keyless { .. } => {}
            AuthorityKind::Certificate {
                authority, root, ..
            } => {
                trust.authorities.push(TrustedCertificateAuthority {
                    authority: authority.clone(),
                    root: root.clone(),
                });
            }
        }
    }
    trust
}

/// Evaluates every policy. Policies that do not govern this use have no part in the decision.
pub fn evaluate_policies(
    policies: &[Policy],
    subject: &AdmissionSubject<'_>,
    findings: &VerificationFindings,
    now: Timestamp,
) -> PolicyDecision {
    let verdicts = policies
        .iter()
        .filter_map(|policy| evaluate_policy(policy, subject, findings, now))
        .collect();
    let holds_until = policies
        .iter()
        .filter_map(|policy| next_change(policy.rules(), subject, findings, now))
        .min();
    PolicyDecision::new(verdicts, holds_until)
}

/// The decision when no evidence could be fetched: every governing policy denies, each for the same
/// reason. If none governs, the use is ungoverned, because the evidence would not have been read.
pub fn deny_without_evidence(
    policies: &[Policy],
    scope: &ReferenceUseScope<'_>,
    denial: &Denial,
) -> PolicyDecision {
    let refuse = |policy: &Policy| {
        let rules = policy.rules();
        let denial = Denial {
            policy: Some(rules.identity()),
            ..denial.clone()
        };
        PolicyVerdict {
            identity: rules.identity(),
            generation: rules.generation,
            mode: rules.mode,
            verdict: AdmissionVerdict::Deny(Denials::from_denial(denial)),
            authorities: rules
                .authorities
                .iter()
                .map(|authority| AuthorityFinding {
                    name: authority.name.clone(),
                    signature: None,
                })
                .collect(),
            slsa: None,
            unsafe_settings: rules.unsafe_settings(),
        }
    };
    let verdicts = policies
        .iter()
        .filter(|policy| policy.governs_scope(scope))
        .map(refuse)
        .collect();
    PolicyDecision::new(verdicts, None)
}

fn evaluate_policy(
    policy: &Policy,
    subject: &AdmissionSubject<'_>,
    findings: &VerificationFindings,
    now: Timestamp,
) -> Option<PolicyVerdict> {
    let rules = policy.rules();
    if !in_scope(
        rules,
        subject.repository,
        subject.used_as,
        subject.namespace,
    ) {
        return None;
    }
    let evaluation = PolicyEvaluation::new(rules, subject, findings, now);
    // A revocation takes precedence over everything, `except` included.
    if let Some(denial) = evaluation.revoked_digest_denial() {
        return Some(
            evaluation
                .to_policy_verdict(AdmissionVerdict::Deny(Denials::from_denial(denial)), None),
        );
    }
    if is_excepted(rules, subject.repository) {
        return None;
    }
    if let Some(fault) = policy.fault_message() {
        let message = format!(
            "{} cannot be used, so nothing that it may govern passes: {fault}",
            rules.identity()
        );
        return Some(evaluation.to_policy_verdict(
            AdmissionVerdict::Deny(Denials::from_denial(
                evaluation.new_denial(policy.fault_reason(), message),
            )),
            None,
        ));
    }
    if let Some(exempted) = evaluation.find_exemption() {
        // The digest is exempted, not the tag, which may name another digest when the image is
        // pulled.
        let verdict = evaluation
            .missing_digest_denial()
            .map_or(AdmissionVerdict::Exempt(exempted), |denial| {
                AdmissionVerdict::Deny(Denials::from_denial(denial))
            });
        return Some(evaluation.to_policy_verdict(verdict, None));
    }
    let (verdict, slsa) = evaluation.evaluate_rules();
    Some(evaluation.to_policy_verdict(verdict, slsa))
}

/// Why evidence is missing, with its rank. Of several reasons the highest-ranking one, that of the
/// furthest check, is reported.
struct RankedDenialReason {
    rank: u8,
    reason: Reason,
    message: String,
}

impl RankedDenialReason {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            rank: reason_rank(reason),
            reason,
            message: message.into(),
        }
    }
}

/// The evaluation of one policy on one subject.
pub(super) struct PolicyEvaluation<'a> {
    pub(super) rules: &'a PolicyRules,
    pub(super) subject: &'a AdmissionSubject<'a>,
    pub(super) now: Timestamp,
    findings: &'a VerificationFindings,
    /// Verified for this subject and under no other name, by signers with no revoked key and with a
    /// certificate that is valid.
    pub(super) statements: Vec<&'a Verified<Statement>>,
    /// The same, but for another repository than the one in use.
    otherwise_named: Vec<(&'a Verified<Statement>, String)>,
    /// Verified for this subject, by a revoked key.
    revoked: Vec<&'a Verified<Statement>>,
    /// Verified for this subject, by a certificate that has expired or is not valid yet.
    expired: Vec<&'a Verified<Statement>>,
}

impl<'a> PolicyEvaluation<'a> {
    fn new(
        rules: &'a PolicyRules,
        subject: &'a AdmissionSubject<'a>,
        findings: &'a VerificationFindings,
        now: Timestamp,
    ) -> Self {
        let verified = findings
            .verified
            .iter()
            .filter(|verified| *verified.subject() == subject.digest);
        let (revoked, others): (Vec<_>, Vec<_>) =
            verified.partition(|verified| has_revoked_key(rules, verified, now));
        let (good, expired): (Vec<_>, Vec<_>) = others
            .into_iter()
            .partition(|verified| verified.validity_period().contains_time(now));
        let (mut statements, mut otherwise_named) = (Vec::new(), Vec::new());
        for statement in good {
            match other_signed_repository(rules, subject, statement) {
                Some(name) => otherwise_named.push((statement, name)),
                None => statements.push(statement),
            }
        }
        Self {
            rules,
            subject,
            now,
            findings,
            statements,
            otherwise_named,
            revoked,
            expired,
        }
    }

    fn to_policy_verdict(
        &self,
        verdict: AdmissionVerdict,
        slsa: Option<SlsaFinding>,
    ) -> PolicyVerdict {
        PolicyVerdict {
            identity: self.rules.identity(),
            generation: self.rules.generation,
            mode: self.rules.mode,
            verdict,
            authorities: self
                .rules
                .authorities
                .iter()
                .map(|authority| self.authority_finding(authority))
                .collect(),
            slsa,
            unsafe_settings: self.rules.unsafe_settings(),
        }
    }

    fn authority_finding(&self, authority: &PolicyAuthority) -> AuthorityFinding {
        let signature = self
            .cosign_signatures()
            .find(|signature| self.counts_for_authority(authority, signature));
        let signature = signature.map(|signature| {
            (
                signature.signature_format(),
                signature.signer().clone(),
                signature.signing_time(),
            )
        });
        AuthorityFinding {
            name: authority.name.clone(),
            signature,
        }
    }

    fn new_denial(&self, reason: Reason, message: impl Into<String>) -> Denial {
        Denial {
            policy: Some(self.rules.identity()),
            ..Denial::new(reason, message)
        }
    }

    fn revoked_digest_denial(&self) -> Option<Denial> {
        let revocation = self.rules.revocations.iter().find(|r| {
            r.what == RevocationTarget::Digest(self.subject.digest) && r.is_in_effect(self.now)
        })?;
        Some(self.new_denial(
            Reason::Revoked,
            format!("{} is revoked: {}", self.subject.digest, revocation.reason),
        ))
    }

    /// An exemption never covers a revoked key or builder.
    fn find_exemption(&self) -> Option<AppliedExemption> {
        let exemption = self
            .rules
            .exemptions
            .iter()
            .find(|e| e.digest == self.subject.digest && self.now < e.expires)?;
        let mut known = self
            .statements
            .iter()
            .copied()
            .chain(self.otherwise_named.iter().map(|(statement, _)| *statement));
        let tainted = !self.revoked.is_empty()
            || self.has_issuer_revoked_signer()
            || known.any(|statement| {
                is_provenance(statement) && slsa::has_revoked_builder(self, statement)
            });
        let by = || {
            AppliedExemption::new(
                exemption.digest,
                self.rules.identity(),
                exemption.reason.clone(),
                exemption.expires,
            )
        };
        (!tainted).then(by)
    }

    /// True if an authority's own CA has revoked the certificate of one of its signers.
    fn has_issuer_revoked_signer(&self) -> bool {
        let ours = |signer: &SignerIdentity| {
            self.rules
                .authorities
                .iter()
                .any(|authority| authority.matches_signer(signer))
        };
        self.findings.rejected.iter().any(|rejected| {
            rejected.reason == Reason::Revoked && rejected.signer.as_ref().is_some_and(ours)
        })
    }

    fn evaluate_rules(&self) -> (AdmissionVerdict, Option<SlsaFinding>) {
        let mut denials: Vec<Denial> = self.missing_digest_denial().into_iter().collect();
        let mut note = |denial: Denial| denials.push(denial);
        let signatures = self
            .signatures_meeting_threshold()
            .and_then(|signatures| self.check_repository_binding().map(|()| signatures))
            .map_err(&mut note)
            .unwrap_or_default();
        let lock = self.check_expected_lock().map_err(&mut note);
        let provenance = self
            .rules
            .slsa
            .as_ref()
            .map(|rules| slsa::evaluate_provenance(self, rules))
            .transpose()
            .map_err(&mut note)
            .ok()
            .flatten();
        let attestations: Vec<_> = self
            .rules
            .attestations
            .iter()
            .filter_map(|rule| self.find_attestation(rule).map_err(&mut note).ok())
            .collect();
        // The lockfile is read only after all other checks pass. Before that no verdict about it
        // exists.
        if self.subject.lock.is_none()
            && denials
                .iter()
                .any(|denial| denial.reason != Reason::LockMismatch)
        {
            denials.retain(|denial| denial.reason != Reason::LockMismatch);
        }
        let finding = provenance.as_ref().map(|(_, finding)| finding.clone());
        let statements = signatures
            .iter()
            .copied()
            .chain(provenance.map(|(statement, _)| statement))
            .chain(attestations);
        let verdict = match (Denials::from_denials(denials), signatures.first(), lock) {
            (Some(denials), ..) => AdmissionVerdict::Deny(denials),
            (None, Some(first), Ok(())) => AdmissionVerdict::Admit(statements.fold(
                AdmissionProof::from_signature(first),
                AdmissionProof::with_statement,
            )),
            (None, ..) => AdmissionVerdict::Deny(Denials::from_denial(
                self.new_denial(Reason::NoSignatures, "no signature counts"),
            )),
        };
        (verdict, finding)
    }

    fn missing_digest_denial(&self) -> Option<Denial> {
        let subject = self.subject;
        let missing = self.rules.require_digest && !subject.had_digest;
        let name = subject
            .repository
            .map_or_else(|| subject.reference.to_owned(), ToString::to_string);
        missing.then(|| {
            self.new_denial(
                Reason::DigestRequired,
                format!(
                    "{} carries no digest; write {name}@{}",
                    subject.reference, subject.digest
                ),
            )
        })
    }

    fn check_expected_lock(&self) -> Result<(), Denial> {
        match (self.rules.lock, self.subject.lock) {
            (None, _) => Ok(()),
            (Some(expected), Some(lock)) if lock.digest == expected => Ok(()),
            (Some(expected), Some(lock)) => Err(self.new_denial(
                Reason::LockMismatch,
                format!(
                    "the bundle was packed from the lock {}, not from {expected}",
                    lock.digest
                ),
            )),
            (Some(_), None) => {
                Err(self.new_denial(Reason::LockMismatch, "the bundle carries no lock"))
            }
        }
    }

    /// A signature is a statement of cosign's type. An attestation does not count as one.
    fn cosign_signatures(&self) -> impl Iterator<Item = &'a Verified<Statement>> + '_ {
        self.statements
            .iter()
            .copied()
            .filter(|statement| statement.claim().predicate_type == COSIGN_SIGN)
    }

    pub(super) fn provenance_statements(
        &self,
    ) -> impl Iterator<Item = &'a Verified<Statement>> + '_ {
        self.statements
            .iter()
            .copied()
            .filter(|statement| is_provenance(statement))
    }

    /// The signatures that meet the threshold. Pairs of an authority and a signer are counted,
    /// rather than signatures or names: one key counts once, and so does an authority with several
    /// permitted signers.
    fn signatures_meeting_threshold(&self) -> Result<Vec<&'a Verified<Statement>>, Denial> {
        let ours: Vec<_> = self
            .cosign_signatures()
            .filter(|signature| self.is_by_policy_authority(signature))
            .collect();
        let signers = threshold::distinct_signers(
            ours.iter()
                .map(|signature| (signature.signer(), signature.normalized_key_fingerprint())),
        );
        let by_authority: Vec<Vec<usize>> = self
            .rules
            .authorities
            .iter()
            .map(|authority| self.signers_for_authority(authority, &ours, &signers))
            .collect();
        let pairs = threshold::max_matching(&by_authority, ours.len());
        if pairs >= self.rules.threshold {
            Ok(ours)
        } else {
            Err(self.signature_denial(pairs))
        }
    }

    /// The signers of this authority.
    fn signers_for_authority(
        &self,
        authority: &PolicyAuthority,
        ours: &[&Verified<Statement>],
        signers: &[usize],
    ) -> Vec<usize> {
        let signed = ours
            .iter()
            .zip(signers)
            .filter(|(signature, _)| self.counts_for_authority(authority, signature))
            .map(|(_, signer)| *signer);
        signed.collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(super) fn is_by_policy_authority(&self, statement: &Verified<Statement>) -> bool {
        self.rules
            .authorities
            .iter()
            .any(|authority| self.counts_for_authority(authority, statement))
    }

    /// True if the authority made the statement, in an accepted format and with the transparency
    /// that the policy requires.
    pub(super) fn counts_for_authority(
        &self,
        authority: &PolicyAuthority,
        statement: &Verified<Statement>,
    ) -> bool {
        let logged =
            self.rules.transparency == TransparencyRequirement::Optional || statement.is_logged();
        logged
            && self.rules.formats.contains(&statement.signature_format())
            && authority.accepts_statement(statement)
    }

    fn signature_denial(&self, signers: usize) -> Denial {
        let mut faults: Vec<RankedDenialReason> = self
            .findings
            .rejected
            .iter()
            .map(|rejected| self.rejected_evidence_reason(rejected))
            .collect();
        faults.extend(
            self.statements
                .iter()
                .filter_map(|statement| self.uncounted_statement_reason(statement)),
        );
        faults.extend(self.unused_evidence_reasons());
        if signers > 0 {
            let message = format!(
                "{signers} of the policy's authorities signed, {} must have",
                self.rules.threshold
            );
            faults.push(RankedDenialReason::new(Reason::ThresholdNotMet, message));
        }
        self.furthest_denial(faults, Reason::NoSignatures, "no signature was found")
    }

    /// Why an attestation or the provenance is missing, if the cause is that evidence could not be
    /// read.
    pub(super) fn missing_evidence_denial(
        &self,
        reason: Reason,
        message: impl Into<String>,
    ) -> Denial {
        let unread = self
            .findings
            .rejected
            .iter()
            .filter(|r| matches!(r.reason.class(), Class::Corrupt | Class::Unavailable));
        let faults = unread
            .map(|rejected| self.rejected_evidence_reason(rejected))
            .chain(self.unused_evidence_reasons())
            .collect();
        self.furthest_denial(faults, reason, message)
    }

    fn furthest_denial(
        &self,
        faults: Vec<RankedDenialReason>,
        otherwise: Reason,
        message: impl Into<String>,
    ) -> Denial {
        let count = faults.len();
        // The first of equals: `max_by_key` returns the last.
        match faults.into_iter().rev().max_by_key(|fault| fault.rank) {
            Some(fault) if count > 1 => self.new_denial(
                fault.reason,
                format!("{} (and {} more)", fault.message, count - 1),
            ),
            Some(fault) => self.new_denial(fault.reason, fault.message),
            None => self.new_denial(otherwise, message),
        }
    }

    /// The reason for a rejected item of evidence. For this policy, rejected evidence by a key that
    /// it does not list is a signature by an unknown signer.
    fn rejected_evidence_reason(&self, rejected: &RejectedEvidence) -> RankedDenialReason {
        let foreign = rejected.signer.as_ref().is_some_and(|signer| {
            !self
                .rules
                .authorities
                .iter()
                .any(|ours| ours.matches_signer(signer))
        });
        let message = format!("referrer {}: {}", rejected.referrer, rejected.message);
        if foreign {
            RankedDenialReason::new(Reason::NoMatchingAuthority, message)
        } else {
            RankedDenialReason {
                rank: rejected.rejection_rank(),
                reason: rejected.reason,
                message,
            }
        }
    }

    /// Why a verified statement does not count as a signature here.
    fn uncounted_statement_reason(
        &self,
        statement: &Verified<Statement>,
    ) -> Option<RankedDenialReason> {
        let (who, kind) = (statement.signer(), &statement.claim().predicate_type);
        if self.is_by_policy_authority(statement) {
            return (kind != COSIGN_SIGN).then(|| {
                RankedDenialReason::new(
                    Reason::PredicateTypeMismatch,
                    format!(
                        "{who} attested {}, which is not a signature",
                        sanitized_type(kind)
                    ),
                )
            });
        }
        if self
            .rules
            .authorities
            .iter()
            .any(|authority| authority.matches_signer(who))
        {
            return self.insufficient_signature_reason(statement);
        }
        let reason = if matches!(who, SignerIdentity::Key { .. }) {
            Reason::NoMatchingAuthority
        } else {
            Reason::IdentityMismatch
        };
        let called = if matches!(who, SignerIdentity::Key { .. }) {
            "the key "
        } else {
            ""
        };
        Some(RankedDenialReason::new(
            reason,
            format!("{called}{who} is not an authority of this policy"),
        ))
    }

    /// Why a verified signature does not count. Evidence that no trust root verifies was rejected,
    /// and reported, earlier.
    fn insufficient_signature_reason(
        &self,
        statement: &Verified<Statement>,
    ) -> Option<RankedDenialReason> {
        let who = statement.signer();
        let told = |rejected: &RejectedEvidence| {
            rejected.referrer == *statement.referrer() && rejected.signer.as_ref() == Some(who)
        };
        if self.findings.rejected.iter().any(told) {
            return None;
        }
        let (reason, problem) = if !self.rules.formats.contains(&statement.signature_format()) {
            (
                Reason::NoMatchingAuthority,
                "in a form that spec.signatureFormats does not list",
            )
        } else if self.rules.transparency == TransparencyRequirement::Required
            && !statement.is_logged()
        {
            (
                Reason::NoTrustedTime,
                "but it is in no transparency log, and transparency is Required",
            )
        } else if matches!(who, SignerIdentity::Key { .. }) {
            (
                Reason::NoTrustedTime,
                "but its log entries and timestamps were not verified against the authority's trust root",
            )
        } else if matches!(who, SignerIdentity::Certificate { .. }) {
            (
                Reason::NoTrustedTime,
                "but its log entries and timestamps do not verify against the authority's trust root",
            )
        } else {
            (
                Reason::IdentityMismatch,
                "but its certificate chains to another trust root, or makes other claims, than the \
                    policy asks for",
            )
        };
        Some(RankedDenialReason::new(
            reason,
            format!("{who} signed, {problem}"),
        ))
    }

    fn unused_evidence_reasons(&self) -> impl Iterator<Item = RankedDenialReason> + '_ {
        let revoked = self.revoked.iter().map(|statement| {
            RankedDenialReason::new(
                Reason::Revoked,
                format!("the key of {} is revoked", statement.signer()),
            )
        });
        let unopened = self.findings.unopened;
        let over_budget = self.findings.over_budget;
        let message = || {
            format!(
                "{over_budget} signatures or attestations were not fully verified, together \
                    they need too much to be read or checked"
            )
        };
        let exceeded = (over_budget > 0).then(|| RankedDenialReason {
            rank: reason_rank(Reason::TooManyReferrers),
            ..RankedDenialReason::new(Reason::LimitExceeded, message())
        });
        let over = (unopened > 0).then(|| {
            RankedDenialReason::new(
                Reason::TooManyReferrers,
                format!("{unopened} referrers were not verified, there are too many"),
            )
        });
        let expired = self.expired.iter().map(|statement| {
            let until = statement.validity_period().until.map_or_else(
                || "only from a later time on".to_owned(),
                |until| format!("until {until}"),
            );
            let message = format!(
                "{}: its certificate, or a revocation list that covers it, was valid {until}",
                statement.signer()
            );
            RankedDenialReason::new(Reason::CertificateExpired, message)
        });
        let otherwise_named = self.otherwise_named.iter().map(|(statement, name)| {
            let used = self
                .subject
                .repository
                .map_or_else(|| "the local artifact".to_owned(), ToString::to_string);
            let message = format!(
                "{} signed it as {name}, and {used} is used",
                statement.signer()
            );
            RankedDenialReason::new(Reason::RepositoryMismatch, message)
        });
        revoked
            .chain(over)
            .chain(exceeded)
            .chain(expired)
            .chain(otherwise_named)
    }

    fn find_attestation(&self, rule: &AttestationRule) -> Result<&'a Verified<Statement>, Denial> {
        let wanted: Vec<&PolicyAuthority> = self
            .rules
            .authorities
            .iter()
            .filter(|authority| {
                rule.authority
                    .as_ref()
                    .is_none_or(|name| *name == authority.name)
            })
            .collect();
        let typed = || {
            self.statements
                .iter()
                .filter(|s| is_predicate_type(&rule.predicate_type, &s.claim().predicate_type))
        };
        if let Some(found) = typed().find(|statement| {
            wanted
                .iter()
                .any(|authority| self.counts_for_authority(authority, statement))
        }) {
            return Ok(found);
        }
        let denial = match typed().next() {
            Some(other) => self.new_denial(
                Reason::NoMatchingAuthority,
                format!(
                    "{} was attested by {} only",
                    rule.predicate_type,
                    other.signer()
                ),
            ),
            None => self.missing_evidence_denial(
                Reason::PredicateTypeMismatch,
                format!("there is no attestation of type {}", rule.predicate_type),
            ),
        };
        Err(Denial {
            authority: rule.authority.clone(),
            ..denial
        })
    }

    /// True if an authority of this policy attested anything other than a signature or provenance.
    pub(super) fn has_other_attestation(&self) -> bool {
        let other = |kind: &str| kind != COSIGN_SIGN && kind != PROVENANCE_V1;
        self.statements.iter().any(|statement| {
            self.is_by_policy_authority(statement) && other(&statement.claim().predicate_type)
        })
    }

    pub(super) fn policy_denial(&self, reason: Reason, message: impl Into<String>) -> Denial {
        self.new_denial(reason, message)
    }
}

fn is_provenance(statement: &Verified<Statement>) -> bool {
    statement.claim().predicate_type == PROVENANCE_V1
}

fn has_revoked_key(rules: &PolicyRules, statement: &Verified<Statement>, now: Timestamp) -> bool {
    let Some(key) = statement.key_fingerprint() else {
        return false;
    };
    rules.revocations.iter().any(|revocation| {
        revocation.what == RevocationTarget::Key(*key) && revocation.is_in_effect(now)
    })
}

/// SPDX and `CycloneDX` append the version of their format to the type:
/// `https://spdx.dev/Document/v2.3`.
fn is_predicate_type(wanted: &str, actual: &str) -> bool {
    let versioned = matches!(
        wanted,
        "https://spdx.dev/Document" | "https://cyclonedx.org/bom"
    );
    let version = || {
        actual
            .strip_prefix(wanted)
            .and_then(|rest| rest.strip_prefix("/v"))
    };
    actual == wanted
        || (versioned
            && version().is_some_and(|v| {
                !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            }))
}

fn sanitized_type(text: &str) -> String {
    crate::core::verify::sanitize_text(text)
}
