//! A decision is valid until the moment that it names: property tests against evaluating again.

use std::time::Duration;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::core::verify::{
    TrustedMaterial,
    testing_pki::{self, Pki},
};

/// All events of one case are within this many hours.
const HOURS: i64 = 24;

/// When the events of one case happen, in hours after `now()`; `None` if they do not.
#[derive(Clone, Debug)]
struct Events {
    digest_revoked: Option<i64>,
    key_revoked: Option<i64>,
    builder_revoked: Option<i64>,
    exemption_ends: Option<i64>,
    provenance_finished: i64,
    provenance_max_age: Option<u64>,
    certificate_begins: i64,
    certificate_ends: i64,
    requires_provenance: bool,
    signed_by_certificate: bool,
}

fn hour(hours: i64) -> Timestamp {
    now() + SignedDuration::from_hours(hours)
}

fn events() -> impl Strategy<Value = Events> {
    let moment = || proptest::option::of(0..HOURS);
    (
        (moment(), moment(), moment(), moment()),
        (-HOURS..HOURS, proptest::option::of(1..HOURS.unsigned_abs())),
        (-HOURS..HOURS, 1..HOURS),
        any::<(bool, bool)>(),
    )
        .prop_map(|(revoked, provenance, certificate, flags)| Events {
            digest_revoked: revoked.0.filter(|hour| hour % 4 == 0),
            key_revoked: revoked.1.filter(|hour| hour % 2 == 0),
            builder_revoked: revoked.2,
            exemption_ends: revoked.3.filter(|hour| hour % 3 == 0),
            provenance_finished: provenance.0,
            provenance_max_age: provenance.1,
            certificate_begins: certificate.0,
            certificate_ends: certificate.0 + certificate.1,
            requires_provenance: flags.0,
            signed_by_certificate: flags.1,
        })
}

impl Events {
    fn policy_rules(&self, key: &TestKey, pki: &Pki) -> PolicyRules {
        let signer = if self.signed_by_certificate {
            certificates::pki_authority("platform", &pki.authority())
        } else {
            key_authority("platform", key)
        };
        let mut rules = rules(vec![signer, key_authority("ci", key)]);
        rules.revocations = [
            (self.digest_revoked, RevocationTarget::Digest(judged())),
            (
                self.key_revoked,
                RevocationTarget::Key(key.public().fingerprint()),
            ),
            (
                self.builder_revoked,
                RevocationTarget::Builder(BUILDER.into()),
            ),
        ]
        .into_iter()
        .filter_map(|(since, what)| {
            Some(RevocationRule {
                what,
                reason: "INC-7".into(),
                since: Some(hour(since?)),
            })
        })
        .collect();
        rules.exemptions = self
            .exemption_ends
            .map(|ends| ExemptionRule {
                digest: judged(),
                reason: "INC-42".into(),
                expires: hour(ends),
            })
            .into_iter()
            .collect();
        rules.slsa = self.requires_provenance.then(|| SlsaRules {
            max_age: self
                .provenance_max_age
                .map(|hours| Duration::from_secs(hours * 3_600)),
            ..slsa(2, &[(BUILDER, "ci", 3)])
        });
        rules
    }

    /// The policy with findings that are the same at all times.
    fn evaluated_case(&self) -> (Case, Vec<Policy>, VerificationFindings) {
        let key = TestKey::new();
        let date = |hours| {
            time::OffsetDateTime::from_unix_timestamp(hour(hours).as_second()).expect("a time")
        };
        let root = testing_pki::root(testing_pki::ca("Corp Root"));
        let intermediate = testing_pki::issued(testing_pki::ca("Corp Signing"), &root);
        let mut certificate = testing_pki::leaf();
        certificate.not_before = date(self.certificate_begins);
        certificate.not_after = date(self.certificate_ends);
        let leaf = testing_pki::holder(&certificate, &intermediate);
        let pki = Pki {
            root,
            intermediate,
            leaf,
        };
        let mut predicate = predicate(BUILDER);
        predicate["runDetails"]["metadata"] =
            json!({"finishedOn": hour(self.provenance_finished).to_string()});
        let signature = if self.signed_by_certificate {
            pki.leaf.sign(&judged())
        } else {
            key.sign(&judged())
        };
        let candidates = vec![signature, key.provenance(&judged(), predicate)];
        let case = Case::new(self.policy_rules(&key, &pki), candidates);
        let policies = case.policies();
        let trust = TrustedMaterial {
            now: Some(hour(self.certificate_begins)),
            ..trusted_material(&policies)
        };
        let findings = verify_evidence(
            &judged(),
            &evidence(case.candidates.clone()),
            &trust,
            &InputLimits::DEFAULT,
        );
        (case, policies, findings)
    }
}

/// The outcome, with all reasons of a denial.
fn summary(decision: &PolicyDecision) -> (&'static str, Vec<Reason>) {
    match decision.outcome() {
        PolicyOutcome::Ungoverned => ("ungoverned", Vec::new()),
        PolicyOutcome::Governed(AdmissionVerdict::Admit(_)) => ("admitted", Vec::new()),
        PolicyOutcome::Governed(AdmissionVerdict::Exempt(_)) => ("exempt", Vec::new()),
        PolicyOutcome::Governed(AdmissionVerdict::Deny(denials)) => (
            "denied",
            denials.iter().map(|denial| denial.reason).collect(),
        ),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Nothing changes before the named moment, and following the named moments finds every change.
    #[test]
    fn a_decision_is_valid_until_the_moment_that_it_names(events in events()) {
        let (case, policies, findings) = events.evaluated_case();
        let decide = |at| evaluate_policies(&policies, &case.subject(None), &findings, at);
        let (mut decision, end) = (decide(now()), hour(3 * HOURS));
        // Every event is at a full hour, or five minutes (the clock skew) or an instant beside it.
        let instants = (0..3 * HOURS).flat_map(|hours| {
            let offsets = [0, 1, 299_999_999_999, 300_000_000_000, 3_299_999_999_999, 3_300_000_000_000,
                3_300_000_000_001, 3_599_999_999_999];
            offsets.map(|nanos| hour(hours) + SignedDuration::from_nanos(nanos))
        });
        for at in instants.take_while(|at| *at < end) {
            if decision.holds_until().is_some_and(|until| until <= at) {
                decision = decide(at);
                prop_assert!(decision.holds_until().is_none_or(|until| until > at));
            } else {
                let again = decide(at);
                prop_assert_eq!(summary(&decision), summary(&again), "at {}", at);
            }
        }
    }
}

#[test]
fn the_first_event_ends_a_decision() {
    let events = Events {
        digest_revoked: None,
        key_revoked: Some(7),
        builder_revoked: None,
        exemption_ends: None,
        provenance_finished: -1,
        provenance_max_age: Some(4),
        certificate_begins: 0,
        certificate_ends: 1,
        requires_provenance: true,
        signed_by_certificate: false,
    };
    let (case, policies, findings) = events.evaluated_case();
    let decide = |at| evaluate_policies(&policies, &case.subject(None), &findings, at);
    let (first, second) = (decide(now()), decide(hour(4)));
    assert_eq!(summary(&first).0, "admitted");
    let too_old = hour(3) + SignedDuration::from_nanos(1);
    assert_eq!(first.holds_until(), Some(too_old));
    assert_eq!(summary(&second), ("denied", vec![Reason::ProvenanceTooOld]));
    assert_eq!(second.holds_until(), Some(hour(7)));
    assert_eq!(decide(hour(7)).holds_until(), None);
}
