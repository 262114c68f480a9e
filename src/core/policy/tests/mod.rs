//! One case that is admitted and every single fault, each with its one reason. Signatures are real.

mod binding;
mod certificates;
mod compiling;
mod exemptions;
mod legacy;
mod provenance;
mod scope;
mod signatures;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::core::{
    class::Reason,
    digest::Digest,
    intoto::Statement,
    limits::Limits,
    reference::Repository,
    verify::{
        Candidate, Evidence, Findings, Format,
        testing::{TestKey, candidate, evidence, with_content},
        verify,
    },
};

const NOW: &str = "2026-11-21T12:00:00Z";
const BUILDER: &str = "https://ci.example.com/packgate/platform@v1";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

fn judged() -> Digest {
    Digest::of(b"the judged manifest")
}

fn key_authority(name: &str, key: &TestKey) -> Authority {
    Authority {
        name: name.into(),
        means: Means::Key {
            key: key.public(),
            root: None,
        },
    }
}

fn rules(authorities: Vec<Authority>) -> Rules {
    Rules {
        name: "p".into(),
        kind: Kind::Cluster,
        generation: 3,
        mode: Mode::Enforce,
        matcher: Matcher::Names {
            references: vec!["r.example.com/team-a/**".parse().expect("a pattern")],
            except: vec!["r.example.com/team-a/dev/**".parse().expect("a pattern")],
            uses: vec![Use::PackedBundle, Use::ImageVolume],
        },
        authorities,
        threshold: 1,
        formats: vec![Format::Bundle],
        transparency: Transparency::Optional,
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
    rules: Vec<Rules>,
    candidates: Vec<Candidate>,
    evidence: Evidence,
    repository: Repository,
    had_digest: bool,
    used_as: Use,
    namespace: Option<&'static str>,
    now: Timestamp,
}

impl Case {
    fn new(rules: Rules, candidates: Vec<Candidate>) -> Self {
        Self {
            rules: vec![rules],
            candidates,
            evidence: Evidence::default(),
            repository: "r.example.com/team-a/siem".parse().expect("a name"),
            had_digest: true,
            used_as: Use::PackedBundle,
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

    fn decide(&self) -> Decision {
        self.decide_with(None)
    }

    fn decide_with(&self, lock: Option<BundleLock<'_>>) -> Decision {
        let policies = self.policies();
        let evidence = Evidence {
            candidates: self.candidates.clone(),
            ..self.evidence.clone()
        };
        let findings = verify(&judged(), &evidence, &trust(&policies), &Limits::DEFAULT);
        evaluate(&policies, &self.subject(lock), &findings, self.now)
    }

    fn subject<'a>(&'a self, lock: Option<BundleLock<'a>>) -> JudgedSubject<'a> {
        JudgedSubject {
            reference: "r.example.com/team-a/siem:v1",
            repository: Some(&self.repository),
            digest: judged(),
            had_digest: self.had_digest,
            used_as: self.used_as,
            namespace: self.namespace,
            lock,
        }
    }

    fn admitted(&self) -> Admitted {
        match self.decide().outcome {
            Outcome::Governed(Verdict::Admit(admitted)) => admitted,
            other => panic!("should be admitted: {other:?}"),
        }
    }

    fn denied(&self, reason: Reason) -> Vec<Denial> {
        denied(&self.decide(), reason)
    }
}

/// The denials, of which the first has this reason.
fn denied(decision: &Decision, reason: Reason) -> Vec<Denial> {
    let Outcome::Governed(Verdict::Deny(denials)) = &decision.outcome else {
        panic!("should be denied: {:?}", decision.outcome)
    };
    assert_eq!(denials.first().reason, reason, "{denials:?}");
    denials.iter().cloned().collect()
}
