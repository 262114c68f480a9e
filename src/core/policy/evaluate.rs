//! Evaluation: the subject, what was found about it, and the time, to an answer.

use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;

use crate::core::{
    class::{Class, Reason},
    digest::Digest,
    intoto::{COSIGN_SIGN, Statement},
    lockfile::Lockfile,
    reference::Repository,
    slsa::PROVENANCE_V1,
    verify::{Findings, Issuing, Rejected, Signer, Trust, Verified, rank},
};

use super::{
    Admitted, AttestationRule, Authority, AuthorityFinding, Denial, Denials, Exempted, Means, Mode,
    Outcome, Policy, PolicyVerdict, Revoked, Rules, SlsaFinding, Transparency, Use, Verdict,
    binding::other_name,
    scope::{Scope, in_scope, is_excepted},
    slsa, threshold,
};

/// What is judged: one digest, and how it is about to be used.
#[derive(Clone, Copy, Debug)]
pub struct JudgedSubject<'a> {
    /// The reference as it was written.
    pub reference: &'a str,
    /// Its canonical name. None on disk.
    pub repository: Option<&'a Repository>,
    /// What it was resolved to.
    pub digest: Digest,
    /// Did the reference carry that digest?
    pub had_digest: bool,
    /// What it is used as.
    pub used_as: Use,
    /// In which namespace.
    pub namespace: Option<&'a str>,
    /// The lock in the bundle, if it was read.
    pub lock: Option<BundleLock<'a>>,
}

/// The lock that lies in a bundle.
#[derive(Clone, Copy, Debug)]
pub struct BundleLock<'a> {
    /// What it says.
    pub lock: &'a Lockfile,
    /// Digest of its canonical form.
    pub digest: Digest,
}

/// The answer, and every governing policy's part in it.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What all policies together say.
    pub outcome: Outcome,
    /// What each says.
    pub policies: Vec<PolicyVerdict>,
}

impl Decision {
    /// The answer after modes: no policy that enforces denies. False if nothing governs; what that
    /// means is the installation's word.
    pub fn admitted(&self) -> bool {
        let denies = |policy: &PolicyVerdict| {
            policy.mode == Mode::Enforce && matches!(policy.verdict, Verdict::Deny(_))
        };
        !self.policies.is_empty() && !self.policies.iter().any(denies)
    }

    /// Is this one of the reasons why not?
    pub fn denies_for(&self, reason: Reason) -> bool {
        matches!(&self.outcome, Outcome::Governed(Verdict::Deny(denials)) if denials.iter().any(|denial| denial.reason == reason))
    }
}

/// Everybody whom these policies could recognise: what `core::verify` needs to know, but for the
/// time.
pub fn trust<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> Trust {
    let (mut trust, mut seen) = (Trust::default(), HashSet::new());
    for authority in policies
        .into_iter()
        .flat_map(|policy| &policy.rules().authorities)
    {
        match &authority.means {
            Means::Key { key, root } => {
                if seen.insert(("key", key.fingerprint())) {
                    trust.keys.push(key.clone());
                }
                trust.vouching.extend(
                    root.iter()
                        .filter(|root| seen.insert(("vouching", root.digest())))
                        .cloned(),
                );
            }
            Means::Keyless { root, .. } if seen.insert(("root", root.digest())) => {
                trust.roots.push(root.clone())
            }
            Means::Keyless { .. } => {}
            Means::Certificate {
                authority, root, ..
            } => {
                trust.authorities.push(Issuing {
                    authority: authority.clone(),
                    root: root.clone(),
                });
            }
        }
    }
    trust
}

/// Asks every policy. Those that do not govern this use have no part in the answer.
pub fn evaluate(
    policies: &[Policy],
    subject: &JudgedSubject<'_>,
    findings: &Findings,
    now: Timestamp,
) -> Decision {
    let policies: Vec<_> = policies
        .iter()
        .filter_map(|policy| ask(policy, subject, findings, now))
        .collect();
    Decision {
        outcome: fold(&policies),
        policies,
    }
}

/// The answer when no evidence could be had: every policy that governs says no, each for the same
/// reason. None governs: ungoverned, because nobody would have looked at the evidence.
pub fn refuse(policies: &[Policy], scope: &Scope<'_>, denial: &Denial) -> Decision {
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
            verdict: Verdict::Deny(Denials::one(denial)),
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
    let policies: Vec<_> = policies
        .iter()
        .filter(|policy| policy.concerns(scope))
        .map(refuse)
        .collect();
    Decision {
        outcome: fold(&policies),
        policies,
    }
}

fn ask(
    policy: &Policy,
    subject: &JudgedSubject<'_>,
    findings: &Findings,
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
    let case = Case::new(rules, subject, findings, now);
    // A revocation beats everything, `except` included.
    if let Some(denial) = case.revoked_digest() {
        return Some(case.answer(Verdict::Deny(Denials::one(denial)), None));
    }
    if is_excepted(rules, subject.repository) {
        return None;
    }
    if let Some(fault) = policy.fault() {
        let message = format!(
            "{} cannot be used, so nothing that it may govern passes: {fault}",
            rules.identity()
        );
        return Some(case.answer(
            Verdict::Deny(Denials::one(case.deny(policy.fault_reason(), message))),
            None,
        ));
    }
    if let Some(exempted) = case.exemption() {
        // The digest is exempted, not the tag: what it names when the image is pulled may be
        // another.
        let verdict = case
            .digest_required()
            .map_or(Verdict::Exempt(exempted), |denial| {
                Verdict::Deny(Denials::one(denial))
            });
        return Some(case.answer(verdict, None));
    }
    let (verdict, slsa) = case.judge();
    Some(case.answer(verdict, slsa))
}

fn fold(policies: &[PolicyVerdict]) -> Outcome {
    let mut denials = Vec::new();
    let mut exempted = None;
    let mut admitted: Option<Admitted> = None;
    for policy in policies {
        match &policy.verdict {
            Verdict::Deny(more) => denials.extend(more.iter().cloned()),
            Verdict::Exempt(by) => exempted = exempted.or_else(|| Some(by.clone())),
            Verdict::Admit(more) => {
                admitted = Some(admitted.map_or_else(|| more.clone(), |known| known.and_all(more)))
            }
        }
    }
    match (Denials::all(denials), exempted, admitted) {
        (Some(denials), ..) => Outcome::Governed(Verdict::Deny(denials)),
        (None, Some(by), _) => Outcome::Governed(Verdict::Exempt(by)),
        (None, None, Some(admitted)) => Outcome::Governed(Verdict::Admit(admitted)),
        (None, None, None) => Outcome::Ungoverned,
    }
}

/// A reason why something that is missing is missing. Of several, the one that came furthest is
/// told.
struct Fault {
    rank: u8,
    reason: Reason,
    message: String,
}

impl Fault {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            rank: rank(reason),
            reason,
            message: message.into(),
        }
    }
}

/// One policy, and what was found about one subject.
pub(super) struct Case<'a> {
    pub(super) rules: &'a Rules,
    pub(super) subject: &'a JudgedSubject<'a>,
    pub(super) now: Timestamp,
    findings: &'a Findings,
    /// Verified for this very subject, by nobody whose key is revoked or whose certificate holds no
    /// longer, and under no other name.
    pub(super) statements: Vec<&'a Verified<Statement>>,
    /// The same, but for another repository than the one that is used.
    otherwise_named: Vec<(&'a Verified<Statement>, String)>,
    /// Verified for this very subject, by a key that is revoked.
    revoked: Vec<&'a Verified<Statement>>,
    /// Verified for this very subject, by a certificate that holds no longer or not yet.
    expired: Vec<&'a Verified<Statement>>,
}

impl<'a> Case<'a> {
    fn new(
        rules: &'a Rules,
        subject: &'a JudgedSubject<'a>,
        findings: &'a Findings,
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
            .partition(|verified| verified.valid_during().holds(now));
        let (mut statements, mut otherwise_named) = (Vec::new(), Vec::new());
        for statement in good {
            match other_name(rules, subject, statement) {
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

    fn answer(&self, verdict: Verdict, slsa: Option<SlsaFinding>) -> PolicyVerdict {
        PolicyVerdict {
            identity: self.rules.identity(),
            generation: self.rules.generation,
            mode: self.rules.mode,
            verdict,
            authorities: self
                .rules
                .authorities
                .iter()
                .map(|authority| self.finding(authority))
                .collect(),
            slsa,
            unsafe_settings: self.rules.unsafe_settings(),
        }
    }

    fn finding(&self, authority: &Authority) -> AuthorityFinding {
        let signature = self
            .signatures()
            .find(|signature| self.counts(authority, signature));
        let signature = signature.map(|signature| {
            (
                signature.format(),
                signature.signer().clone(),
                signature.time(),
            )
        });
        AuthorityFinding {
            name: authority.name.clone(),
            signature,
        }
    }

    fn deny(&self, reason: Reason, message: impl Into<String>) -> Denial {
        Denial {
            policy: Some(self.rules.identity()),
            ..Denial::new(reason, message)
        }
    }

    fn revoked_digest(&self) -> Option<Denial> {
        let revocation = self
            .rules
            .revocations
            .iter()
            .find(|r| r.what == Revoked::Digest(self.subject.digest) && r.holds(self.now))?;
        Some(self.deny(
            Reason::Revoked,
            format!("{} is revoked: {}", self.subject.digest, revocation.reason),
        ))
    }

    /// An exemption never covers up what a revoked key or builder made.
    fn exemption(&self) -> Option<Exempted> {
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
            || self.is_revoked_by_its_issuer()
            || known.any(|statement| {
                is_provenance(statement) && slsa::has_revoked_builder(self, statement)
            });
        let by = || Exempted {
            policy: self.rules.identity(),
            reason: exemption.reason.clone(),
            expires: exemption.expires,
        };
        (!tainted).then(by)
    }

    /// Did somebody of this policy sign, whose certificate its own authority has revoked?
    fn is_revoked_by_its_issuer(&self) -> bool {
        let ours = |signer: &Signer| {
            self.rules
                .authorities
                .iter()
                .any(|authority| authority.may_be(signer))
        };
        self.findings.rejected.iter().any(|rejected| {
            rejected.reason == Reason::Revoked && rejected.signer.as_ref().is_some_and(ours)
        })
    }

    fn judge(&self) -> (Verdict, Option<SlsaFinding>) {
        let mut denials: Vec<Denial> = self.digest_required().into_iter().collect();
        let mut note = |denial: Denial| denials.push(denial);
        let signatures = self
            .counted()
            .and_then(|signatures| self.bound().map(|()| signatures))
            .map_err(&mut note)
            .unwrap_or_default();
        let lock = self.expected_lock().map_err(&mut note);
        let provenance = self
            .rules
            .slsa
            .as_ref()
            .map(|rules| slsa::judge(self, rules))
            .transpose()
            .map_err(&mut note)
            .ok()
            .flatten();
        let attestations: Vec<_> = self
            .rules
            .attestations
            .iter()
            .filter_map(|rule| self.attestation(rule).map_err(&mut note).ok())
            .collect();
        // The lock is opened only where everything else holds. Until then nothing is said about it.
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
        let verdict = match (Denials::all(denials), signatures.first(), lock) {
            (Some(denials), ..) => Verdict::Deny(denials),
            (None, Some(first), Ok(())) => {
                Verdict::Admit(statements.fold(Admitted::from_signature(first), Admitted::and))
            }
            (None, ..) => Verdict::Deny(Denials::one(
                self.deny(Reason::NoSignatures, "no signature counts"),
            )),
        };
        (verdict, finding)
    }

    fn digest_required(&self) -> Option<Denial> {
        let subject = self.subject;
        let missing = self.rules.require_digest && !subject.had_digest;
        let name = subject
            .repository
            .map_or_else(|| subject.reference.to_owned(), ToString::to_string);
        missing.then(|| {
            self.deny(
                Reason::DigestRequired,
                format!(
                    "{} carries no digest; write {name}@{}",
                    subject.reference, subject.digest
                ),
            )
        })
    }

    fn expected_lock(&self) -> Result<(), Denial> {
        match (self.rules.lock, self.subject.lock) {
            (None, _) => Ok(()),
            (Some(expected), Some(lock)) if lock.digest == expected => Ok(()),
            (Some(expected), Some(lock)) => Err(self.deny(
                Reason::LockMismatch,
                format!(
                    "the bundle was packed from the lock {}, not from {expected}",
                    lock.digest
                ),
            )),
            (Some(_), None) => Err(self.deny(Reason::LockMismatch, "the bundle carries no lock")),
        }
    }

    /// A signature is a statement of cosign's type. An attestation never counts as one.
    fn signatures(&self) -> impl Iterator<Item = &'a Verified<Statement>> + '_ {
        self.statements
            .iter()
            .copied()
            .filter(|statement| statement.claim().predicate_type == COSIGN_SIGN)
    }

    pub(super) fn provenance(&self) -> impl Iterator<Item = &'a Verified<Statement>> + '_ {
        self.statements
            .iter()
            .copied()
            .filter(|statement| is_provenance(statement))
    }

    /// The signatures that meet the threshold. Neither signatures nor names are counted, but pairs
    /// of an authority and a signer: one key counts once, and so does an authority that several
    /// people may speak for.
    fn counted(&self) -> Result<Vec<&'a Verified<Statement>>, Denial> {
        let ours: Vec<_> = self
            .signatures()
            .filter(|signature| self.is_ours(signature))
            .collect();
        let signers = threshold::signers(
            ours.iter()
                .map(|signature| (signature.signer(), signature.key_numbers())),
        );
        let by_authority: Vec<Vec<usize>> = self
            .rules
            .authorities
            .iter()
            .map(|authority| self.speaks_for(authority, &ours, &signers))
            .collect();
        let pairs = threshold::pairs(&by_authority, ours.len());
        if pairs >= self.rules.threshold {
            Ok(ours)
        } else {
            Err(self.signature_fault(pairs))
        }
    }

    /// Which of the signers signed as this authority.
    fn speaks_for(
        &self,
        authority: &Authority,
        ours: &[&Verified<Statement>],
        signers: &[usize],
    ) -> Vec<usize> {
        let signed = ours
            .iter()
            .zip(signers)
            .filter(|(signature, _)| self.counts(authority, signature))
            .map(|(_, signer)| *signer);
        signed.collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(super) fn is_ours(&self, statement: &Verified<Statement>) -> bool {
        self.rules
            .authorities
            .iter()
            .any(|authority| self.counts(authority, statement))
    }

    /// Is it the authority's, in a form and with the transparency that the policy asks for?
    pub(super) fn counts(&self, authority: &Authority, statement: &Verified<Statement>) -> bool {
        let logged = self.rules.transparency == Transparency::Optional || statement.is_logged();
        logged
            && self.rules.formats.contains(&statement.format())
            && authority.recognises(statement)
    }

    fn signature_fault(&self, signers: usize) -> Denial {
        let mut faults: Vec<Fault> = self
            .findings
            .rejected
            .iter()
            .map(|rejected| self.rejection(rejected))
            .collect();
        faults.extend(
            self.statements
                .iter()
                .filter_map(|statement| self.miss(statement)),
        );
        faults.extend(self.unseen());
        if signers > 0 {
            let message = format!(
                "{signers} of the policy's authorities signed, {} must have",
                self.rules.threshold
            );
            faults.push(Fault::new(Reason::ThresholdNotMet, message));
        }
        self.furthest(faults, Reason::NoSignatures, "no signature was found")
    }

    /// Why an attestation or the provenance is missing, as far as that is not its own fault: nobody
    /// could look at it.
    pub(super) fn missing(&self, reason: Reason, message: impl Into<String>) -> Denial {
        let unread = self
            .findings
            .rejected
            .iter()
            .filter(|r| matches!(r.reason.class(), Class::Corrupt | Class::Unavailable));
        let faults = unread
            .map(|rejected| self.rejection(rejected))
            .chain(self.unseen())
            .collect();
        self.furthest(faults, reason, message)
    }

    fn furthest(
        &self,
        faults: Vec<Fault>,
        otherwise: Reason,
        message: impl Into<String>,
    ) -> Denial {
        let count = faults.len();
        // The first of equals: `max_by_key` takes the last.
        match faults.into_iter().rev().max_by_key(|fault| fault.rank) {
            Some(fault) if count > 1 => self.deny(
                fault.reason,
                format!("{} (and {} more)", fault.message, count - 1),
            ),
            Some(fault) => self.deny(fault.reason, fault.message),
            None => self.deny(otherwise, message),
        }
    }

    /// A rejection that concerns somebody else's key is, for this policy, a signature by nobody
    /// that it knows.
    fn rejection(&self, rejected: &Rejected) -> Fault {
        let foreign = rejected.signer.as_ref().is_some_and(|signer| {
            !self
                .rules
                .authorities
                .iter()
                .any(|ours| ours.may_be(signer))
        });
        let message = format!("referrer {}: {}", rejected.referrer, rejected.message);
        if foreign {
            Fault::new(Reason::NoMatchingAuthority, message)
        } else {
            Fault {
                rank: rejected.rank(),
                reason: rejected.reason,
                message,
            }
        }
    }

    /// Why a verified statement is no signature that counts here.
    fn miss(&self, statement: &Verified<Statement>) -> Option<Fault> {
        let (who, kind) = (statement.signer(), &statement.claim().predicate_type);
        if self.is_ours(statement) {
            return (kind != COSIGN_SIGN).then(|| {
                Fault::new(
                    Reason::PredicateTypeMismatch,
                    format!("{who} attested {}, which is no signature", shown(kind)),
                )
            });
        }
        if self
            .rules
            .authorities
            .iter()
            .any(|authority| authority.may_be(who))
        {
            return self.insufficient(statement);
        }
        let reason = if matches!(who, Signer::Key { .. }) {
            Reason::NoMatchingAuthority
        } else {
            Reason::IdentityMismatch
        };
        let called = if matches!(who, Signer::Key { .. }) {
            "the key "
        } else {
            ""
        };
        Some(Fault::new(
            reason,
            format!("{called}{who} is no authority of this policy"),
        ))
    }

    /// Why what somebody wanted signed does not count. What no trust root vouches for was told
    /// already, where it was refused.
    fn insufficient(&self, statement: &Verified<Statement>) -> Option<Fault> {
        let who = statement.signer();
        let told = |rejected: &Rejected| {
            rejected.referrer == *statement.referrer() && rejected.signer.as_ref() == Some(who)
        };
        if self.findings.rejected.iter().any(told) {
            return None;
        }
        let (reason, problem) = if !self.rules.formats.contains(&statement.format()) {
            (
                Reason::NoMatchingAuthority,
                "in a form that spec.signatureFormats does not list",
            )
        } else if self.rules.transparency == Transparency::Required && !statement.is_logged() {
            (
                Reason::NoTrustedTime,
                "but it is in no transparency log, and transparency is Required",
            )
        } else if matches!(who, Signer::Key { .. }) {
            (
                Reason::NoTrustedTime,
                "but the authority's trust root was not asked about its log entries and timestamps",
            )
        } else if matches!(who, Signer::Certificate { .. }) {
            (
                Reason::NoTrustedTime,
                "but the authority's trust root does not vouch for its log entries and timestamps",
            )
        } else {
            (
                Reason::IdentityMismatch,
                "but its certificate chains to another trust root, or makes other claims, than the \
                    policy asks for",
            )
        };
        Some(Fault::new(reason, format!("{who} signed, {problem}")))
    }

    fn unseen(&self) -> impl Iterator<Item = Fault> + '_ {
        let revoked = self.revoked.iter().map(|statement| {
            Fault::new(
                Reason::Revoked,
                format!("the key of {} is revoked", statement.signer()),
            )
        });
        let unopened = self.findings.unopened;
        let over_budget = self.findings.over_budget;
        let message = || {
            format!(
                "{over_budget} signatures or attestations were not judged to the end, together \
                    they need too much to be read or checked"
            )
        };
        let exceeded = (over_budget > 0).then(|| Fault {
            rank: rank(Reason::TooManyReferrers),
            ..Fault::new(Reason::LimitExceeded, message())
        });
        let over = (unopened > 0).then(|| {
            Fault::new(
                Reason::TooManyReferrers,
                format!("{unopened} referrers were not looked at, there are too many"),
            )
        });
        let expired = self.expired.iter().map(|statement| {
            let until = statement.valid_during().until.map_or_else(
                || "before it began".to_owned(),
                |until| format!("until {until}"),
            );
            let message = format!(
                "{}: its certificate, or a revocation list that says it is good, held {until}",
                statement.signer()
            );
            Fault::new(Reason::CertificateExpired, message)
        });
        let otherwise_named = self.otherwise_named.iter().map(|(statement, name)| {
            let used = self
                .subject
                .repository
                .map_or_else(|| "what lies on disk".to_owned(), ToString::to_string);
            let message = format!(
                "{} signed it as {name}, and {used} is used",
                statement.signer()
            );
            Fault::new(Reason::RepositoryMismatch, message)
        });
        revoked
            .chain(over)
            .chain(exceeded)
            .chain(expired)
            .chain(otherwise_named)
    }

    fn attestation(&self, rule: &AttestationRule) -> Result<&'a Verified<Statement>, Denial> {
        let wanted: Vec<&Authority> = self
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
                .filter(|s| is_type(&rule.predicate_type, &s.claim().predicate_type))
        };
        if let Some(found) = typed().find(|statement| {
            wanted
                .iter()
                .any(|authority| self.counts(authority, statement))
        }) {
            return Ok(found);
        }
        let denial = match typed().next() {
            Some(other) => self.deny(
                Reason::NoMatchingAuthority,
                format!(
                    "{} was attested by {} only",
                    rule.predicate_type,
                    other.signer()
                ),
            ),
            None => self.missing(
                Reason::PredicateTypeMismatch,
                format!("there is no attestation of type {}", rule.predicate_type),
            ),
        };
        Err(Denial {
            authority: rule.authority.clone(),
            ..denial
        })
    }

    /// Has somebody of this policy attested something that is neither a signature nor provenance?
    pub(super) fn has_other_attestation(&self) -> bool {
        let other = |kind: &str| kind != COSIGN_SIGN && kind != PROVENANCE_V1;
        self.statements
            .iter()
            .any(|statement| self.is_ours(statement) && other(&statement.claim().predicate_type))
    }

    pub(super) fn denial(&self, reason: Reason, message: impl Into<String>) -> Denial {
        self.deny(reason, message)
    }
}

fn is_provenance(statement: &Verified<Statement>) -> bool {
    statement.claim().predicate_type == PROVENANCE_V1
}

fn has_revoked_key(rules: &Rules, statement: &Verified<Statement>, now: Timestamp) -> bool {
    let Some(key) = statement.key() else {
        return false;
    };
    rules
        .revocations
        .iter()
        .any(|revocation| revocation.what == Revoked::Key(*key) && revocation.holds(now))
}

/// SPDX and `CycloneDX` put the version of their format behind the type:
/// `https://spdx.dev/Document/v2.3`.
fn is_type(wanted: &str, actual: &str) -> bool {
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

fn shown(text: &str) -> String {
    crate::core::verify::shorten(text)
}
