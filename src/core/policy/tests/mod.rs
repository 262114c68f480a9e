//! One admitted case and every single fault, each with its one reason. Signatures are real.

mod binding;
mod certificates;
mod compiling;
mod exemptions;
mod holds_until;
mod legacy;
mod provenance;
mod scope;
mod signatures;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::core::{
    digest::Digest,
    intoto::Statement,
    limits::InputLimits,
    reason::Reason,
    reference::ImageRepository,
    verify::{
        ReferrerCandidate, StoredSignatureFormat, UnverifiedEvidence, VerificationFindings,
        testing::{TestKey, candidate, evidence, with_content},
        verify_evidence,
    },
};

const NOW: &str = "2026-11-21T12:00:00Z";
const BUILDER: &str = "https://ci.example.com/packgate/platform@v1";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

fn judged() -> Digest {
    Digest::of_bytes(b"the judged manifest")
}

fn key_authority(name: &str, key: &TestKey) -> PolicyAuthority {
    PolicyAuthority {
        name: name.into(),
        kind: AuthorityKind::Key {
            key: key.public(),
            root: None,
        },
    }
}

fn rules(authorities: Vec<PolicyAuthority>) -> PolicyRules {
    PolicyRules {
        name: "p".into(),
        kind: PolicyOrigin::Cluster,
        generation: 3,
        mode: EnforcementMode::Enforce,
        matcher: PolicyMatcher::Names {
            references: vec!["r.example.com/team-a/**".parse().expect("a pattern")],
            except: vec!["r.example.com/team-a/dev/**".parse().expect("a pattern")],
            uses: vec![ReferenceUse::PackedBundle, ReferenceUse::ImageVolume],
        },
        authorities,
        threshold: 1,
        formats: vec![StoredSignatureFormat::Bundle],
        transparency: TransparencyRequirement::Optional,
        require_digest: true,
        bind_repository: None,
        slsa: None,
        attestations: Vec::new(),
        lock: None,
        revocations: Vec::new(),
        exemptions: Vec::new(),
    }
}

fn slsa(minimum_level: u8, builders: &[(&str, &str, u8)]) -> SlsaRules {
    let builder = |(id, authority, level): &(&str, &str, u8)| BuilderRule {
        id: (*id).into(),
        authority: (*authority).into(),
        level: *level,
    };
    SlsaRules {
        minimum_level,
        builders: builders.iter().map(builder).collect(),
        sources: Vec::new(),
        max_age: None,
        lock: LockRule::Unchecked,
    }
}

fn predicate(builder: &str) -> Value {
    json!({
        "buildDefinition": {"buildType": "https://packgate.dev/pack/v1", "externalParameters": {}},
        "runDetails": {"builder": {"id": builder}},
    })
}

/// Everything that a single case varies.
struct Case {
    rules: Vec<PolicyRules>,
    candidates: Vec<ReferrerCandidate>,
    evidence: UnverifiedEvidence,
    repository: ImageRepository,
    had_digest: bool,
    used_as: ReferenceUse,
    namespace: Option<&'static str>,
    now: Timestamp,
}

impl Case {
    fn new(rules: PolicyRules, candidates: Vec<ReferrerCandidate>) -> Self {
        Self {
            rules: vec![rules],
            candidates,
            evidence: UnverifiedEvidence::default(),
            repository: "r.example.com/team-a/siem".parse().expect("a name"),
            had_digest: true,
            used_as: ReferenceUse::PackedBundle,
            namespace: None,
            now: now(),
        }
    }

    fn policies(&self) -> Vec<Policy> {
        self.rules
            .iter()
            .cloned()
            .map(|rules| Policy::new(rules).expect("a policy"))
            .collect()
    }

    fn decide(&self) -> PolicyDecision {
        self.decide_with(None)
    }

    fn decide_with(&self, lock: Option<BundleLock<'_>>) -> PolicyDecision {
        let policies = self.policies();
        let evidence = UnverifiedEvidence {
            candidates: self.candidates.clone(),
            ..self.evidence.clone()
        };
        let findings = verify_evidence(
            &judged(),
            &evidence,
            &trusted_material(&policies),
            &InputLimits::DEFAULT,
        );
        evaluate_policies(&policies, &self.subject(lock), &findings, self.now)
    }

    fn subject<'a>(&'a self, lock: Option<BundleLock<'a>>) -> AdmissionSubject<'a> {
        AdmissionSubject {
            reference: "r.example.com/team-a/siem:v1",
            repository: Some(&self.repository),
            digest: judged(),
            had_digest: self.had_digest,
            used_as: self.used_as,
            namespace: self.namespace,
            lock,
        }
    }

    fn admitted(&self) -> AdmissionProof {
        match self.decide().outcome() {
            PolicyOutcome::Governed(AdmissionVerdict::Admit(admitted)) => admitted.clone(),
            other => panic!("should be admitted: {other:?}"),
        }
    }

    fn denied(&self, reason: Reason) -> Vec<Denial> {
        denied(&self.decide(), reason)
    }
}

/// The denials, of which the first has this reason.
fn denied(decision: &PolicyDecision, reason: Reason) -> Vec<Denial> {
    let PolicyOutcome::Governed(AdmissionVerdict::Deny(denials)) = decision.outcome() else {
        panic!("should be denied: {:?}", decision.outcome())
    };
    assert_eq!(denials.first().reason, reason, "{denials:?}");
    denials.iter().cloned().collect()
}
