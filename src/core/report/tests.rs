use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::core::{
    policy::{AdHoc, Authority, JudgedSubject, Means, Policy, evaluate, trust},
    verify::{
        KeyError, Trust, TrustRoot, VerificationKey,
        testing::{TestKey, evidence, with_content},
    },
};

fn judged() -> Digest {
    Digest::of(b"the judged manifest")
}

fn asked() -> Asked {
    Asked {
        reference: "r.example.com/team-a/siem:v1".into(),
        digest: Some(judged()),
        reproduce: "packgate verify r.example.com/team-a/siem@sha256:… --key cosign.pub".into(),
        elapsed_ms: 12,
        registry_requests: 3,
        unsafe_settings: vec!["plain HTTP".into()],
        ..Asked::default()
    }
}

fn report(key: &TestKey, builder_id: Option<&str>) -> Report {
    let authorities = vec![Authority {
        name: "cosign.pub".into(),
        means: Means::Key {
            key: key.public(),
            root: None,
        },
    }];
    let policies = [Policy::ad_hoc(AdHoc {
        authorities,
        builder_id: builder_id.map(Into::into),
        lock: None,
        ..AdHoc::default()
    })
    .expect("a policy")];
    let provenance = key.provenance(
        &judged(),
        json!({
            "buildDefinition": {"buildType": "x"},
            "runDetails": {"builder": {"id": "https://b.example.com"}},
        }),
    );
    let evidence = evidence(vec![
        key.sign(&judged()),
        provenance,
        with_content(&judged(), b"{".to_vec()),
    ]);
    let findings = crate::core::verify::verify(
        &judged(),
        &evidence,
        &trust(&policies),
        &crate::core::limits::Limits::DEFAULT,
    );
    let subject = JudgedSubject {
        reference: "r.example.com/team-a/siem:v1",
        repository: None,
        digest: judged(),
        had_digest: false,
        used_as: Use::PackedBundle,
        namespace: None,
        lock: None,
    };
    Report::new(
        asked(),
        &evaluate(&policies, &subject, &findings, jiff::Timestamp::UNIX_EPOCH),
        &findings,
    )
}

#[test]
fn the_serialisation_is_the_contract() {
    let key = TestKey::new();
    let report = report(&key, Some("https://b.example.com"));
    let signer = key.public().fingerprint().to_string();
    let referrer = report.rejected[0].referrer;
    let message = &report.rejected[0].message;
    let golden = format!(
        concat!(
            r#"{{"apiVersion":"packgate.dev/v1alpha1","kind":"Report","outcome":"Admitted","admitted":true,"#,
            r#""reference":"r.example.com/team-a/siem:v1","digest":"{digest}","use":"PackedBundle","#,
            r#""policies":[{{"name":"command-line","generation":0,"mode":"Enforce","verdict":"Admitted","#,
            r#""authorities":[{{"name":"cosign.pub","verified":true,"format":"Bundle","signer":"{signer}"}}],"#,
            r#""slsa":{{"builder":"https://b.example.com","level":0}}}}],"denials":[],"#,
            r#""verified":[{{"referrer":"{signature}","predicateType":"https://sigstore.dev/cosign/sign/v1","format":"Bundle","signer":"{signer}","log":"None"}},"#,
            r#"{{"referrer":"{provenance}","predicateType":"https://slsa.dev/provenance/v1","format":"Bundle","signer":"{signer}","log":"None"}}],"#,
            r#""rejected":[{{"referrer":"{referrer}","reason":"MalformedEvidence","message":"{message}"}}],"#,
            r#""unsafe":["plain HTTP"],"reproduce":"packgate verify r.example.com/team-a/siem@sha256:… --key cosign.pub","elapsedMs":12,"registryRequests":3}}"#
        ),
        digest = judged(),
        signature = report.verified[0].referrer,
        provenance = report.verified[1].referrer,
        signer = signer,
        referrer = referrer,
        message = message,
    );
    assert_eq!(serde_json::to_string(&report).expect("JSON"), golden);
    assert_eq!(
        serde_json::from_str::<Report>(&golden).expect("a report"),
        report
    );
    assert_eq!(report.exit_code(), 0);
}

/// With a trust root one signature holds twice, by the key alone and as the root vouches for it; it
/// is told once.
#[test]
fn one_signature_is_one_piece_of_evidence() {
    use crate::core::verify::testing::sigstore::{
        Algorithm, Key, Kind, LOGGED, Logging, Recipe, STAMPED, Sigstore, Stamp,
    };
    let (sigstore, key) = (Sigstore::new(), Key::new(Algorithm::P256));
    let statement = json!({"_type": "https://in-toto.io/Statement/v1", "subject": [{
        "digest": {"sha256": judged().hex()},
    }],
        "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {}});
    let mut recipe = Recipe::new(&key, statement.to_string());
    recipe.logging = Some(Logging::new(Kind::HashedRekord002, LOGGED));
    recipe.stamps = vec![Stamp::at(STAMPED)];
    let candidate = with_content(&judged(), recipe.bundle(&sigstore).to_string().into_bytes());
    let root = TrustRoot::parse(
        sigstore.trusted_root().to_string().as_bytes(),
        &crate::core::limits::Limits::DEFAULT,
    )
    .expect("a trust root");
    let keys = vec![VerificationKey::from_pem(&key.pem()).expect("a key")];
    let told = |vouching: Vec<Arc<TrustRoot>>| {
        let trust = Trust {
            keys: keys.clone(),
            vouching,
            ..Trust::default()
        };
        let findings = crate::core::verify::verify(
            &judged(),
            &evidence(vec![candidate.clone()]),
            &trust,
            &crate::core::limits::Limits::DEFAULT,
        );
        let decision = Decision {
            outcome: Outcome::Ungoverned,
            policies: Vec::new(),
        };
        let report = Report::new(asked(), &decision, &findings);
        report
            .verified
            .iter()
            .map(|one| (one.log, one.time.is_some(), one.trust_root.is_some()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        told(vec![Arc::new(root)]),
        [(LogReport::Included, true, true)]
    );
    assert_eq!(told(Vec::new()), [(LogReport::Unchecked, false, false)]);
}

#[test]
fn denials_carry_their_class_policy_and_field() {
    let report = report(&TestKey::new(), Some("https://other.example.com"));
    let denials = serde_json::to_value(&report.denials).expect("JSON");
    assert_eq!(denials[0]["reason"], "BuilderNotTrusted");
    assert_eq!(
        (&denials[0]["class"], &denials[0]["policy"]),
        (&json!("Denied"), &json!("command-line"))
    );
    assert_eq!(
        (report.outcome, report.admitted, report.exit_code()),
        (ReportOutcome::Denied, false, 1)
    );
    let field = Asked {
        field: Some("spec.volumes[0].image.reference".into()),
        ..asked()
    };
    assert_eq!(
        Report::failed(field.clone(), &KeyError::Pem).denials[0].field,
        field.field
    );
}

#[derive(Debug, thiserror::Error)]
#[error("it failed\u{1b}[31m")]
struct Failure(Reason);

impl Classified for Failure {
    fn reason(&self) -> Reason {
        self.0
    }
}

#[test]
fn the_exit_code_follows_the_first_denials_class() {
    for (reason, code) in [
        (Reason::NoSignatures, 1),
        (Reason::InvalidSpec, 2),
        (Reason::RegistryUnavailable, 3),
        (Reason::RegistryDenied, 3),
        (Reason::DigestMismatch, 4),
        (Reason::Internal, 70),
    ] {
        let report = Report::failed(asked(), &Failure(reason));
        assert_eq!(
            (report.exit_code(), report.admitted, report.outcome),
            (code, false, ReportOutcome::Denied),
            "{reason}"
        );
    }
    let ungoverned = Report::blank(asked(), ReportOutcome::Ungoverned, Vec::new());
    assert_eq!(ungoverned.exit_code(), 1);
    assert_eq!(
        Report::blank(asked(), ReportOutcome::Exempt, Vec::new()).exit_code(),
        0
    );
}

#[test]
fn the_text_tells_everything() {
    let key = TestKey::new();
    let report = report(&key, Some("https://b.example.com"));
    let expected = [
        "admitted    r.example.com/team-a/siem:v1".to_owned(),
        format!("  digest    {}", judged()),
        "  use       PackedBundle".into(),
        "  policy    command-line (generation 0, Enforce): Admitted".into(),
        format!(
            "    signed  by cosign.pub, {}, at an unknown time",
            key.public().fingerprint()
        ),
        "    built   by https://b.example.com, SLSA Build level 0".into(),
        format!(
            "  verified  {} https://sigstore.dev/cosign/sign/v1, Bundle",
            report.verified[0].referrer
        ),
        format!(
            "    signer  {}: the signature holds, and the statement is about this digest",
            key.public().fingerprint()
        ),
        "    time    unknown, nobody but the signer could say".into(),
        "    log     none".into(),
        format!(
            "  verified  {} https://slsa.dev/provenance/v1, Bundle",
            report.verified[1].referrer
        ),
        format!(
            "    signer  {}: the signature holds, and the statement is about this digest",
            key.public().fingerprint()
        ),
        "    time    unknown, nobody but the signer could say".into(),
        "    log     none".into(),
        format!(
            "  refused   {} MalformedEvidence: {}",
            report.rejected[0].referrer, report.rejected[0].message
        ),
        "  unsafe    plain HTTP".into(),
        "  reproduce packgate verify r.example.com/team-a/siem@sha256:… --key cosign.pub".into(),
    ];
    assert_eq!(report.to_text().lines().collect::<Vec<_>>(), expected);
    let text = Report::failed(asked(), &Failure(Reason::RegistryUnavailable)).to_text();
    assert!(
        text.starts_with("denied      r.example.com")
            && text.contains("denied    RegistryUnavailable: it failed\u{fffd}[31m"),
        "{text}"
    );
    let value: Value = serde_json::to_value(&report).expect("JSON");
    assert!(value.get("field").is_none());
}
