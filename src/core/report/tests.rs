use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::core::{
    policy::{
        AdHocPolicyOptions, AdmissionSubject, AuthorityKind, Policy, PolicyAuthority,
        evaluate_policies, trusted_material,
    },
    reason::Reason,
    verify::{
        PublicKeyError, TrustRoot, TrustedMaterial, VerificationKey,
        testing::{TestKey, evidence, with_content},
    },
};

fn judged() -> Digest {
    Digest::of_bytes(b"the judged manifest")
}

fn asked() -> ReportInputs {
    ReportInputs {
        reference: "r.example.com/team-a/siem:v1".into(),
        digest: Some(judged()),
        reproduce: "packgate verify r.example.com/team-a/siem@sha256:… --key cosign.pub".into(),
        elapsed_ms: 12,
        registry_requests: 3,
        unsafe_settings: vec!["plain HTTP".into()],
        ..ReportInputs::default()
    }
}

fn report(key: &TestKey, builder_id: Option<&str>) -> AdmissionReport {
    let authorities = vec![PolicyAuthority {
        name: "cosign.pub".into(),
        kind: AuthorityKind::Key {
            key: key.public(),
            root: None,
        },
    }];
    let policies = [Policy::ad_hoc(AdHocPolicyOptions {
        authorities,
        builder_id: builder_id.map(Into::into),
        lock: None,
        ..AdHocPolicyOptions::default()
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
    let findings = crate::core::verify::verify_evidence(
        &judged(),
        &evidence,
        &trusted_material(&policies),
        &crate::core::limits::InputLimits::DEFAULT,
    );
    let subject = AdmissionSubject {
        reference: "r.example.com/team-a/siem:v1",
        repository: None,
        digest: judged(),
        had_digest: false,
        used_as: ReferenceUse::PackedBundle,
        namespace: None,
        lock: None,
    };
    AdmissionReport::new(
        asked(),
        &evaluate_policies(&policies, &subject, &findings, jiff::Timestamp::UNIX_EPOCH),
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
    assert_eq!(report.exit_code(), 0);
}

/// With a trust root one signature is verified twice, by the key alone and with the root; it is
/// reported once.
#[test]
fn one_signature_is_one_piece_of_evidence() {
    use crate::core::verify::testing::sigstore::{
        Algorithm, Key, Kind, LOGGED, Logging, Recipe, STAMPED, Sigstore, Stamp,
    };
    let (sigstore, key) = (Sigstore::new(), Key::new(Algorithm::P256));
    let statement = json!({"_type": "https://in-toto.io/Statement/v1", "subject": [{
        "digest": {"sha256": judged().hex_digits()},
    }],
        "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {}});
    let mut recipe = Recipe::new(&key, statement.to_string());
    recipe.logging = Some(Logging::new(Kind::HashedRekord002, LOGGED));
    recipe.stamps = vec![Stamp::at(STAMPED)];
    let candidate = with_content(&judged(), recipe.bundle(&sigstore).to_string().into_bytes());
    let root = TrustRoot::parse(
        sigstore.trusted_root().to_string().as_bytes(),
        &crate::core::limits::InputLimits::DEFAULT,
    )
    .expect("a trust root");
    let keys = vec![VerificationKey::from_pem(&key.pem()).expect("a key")];
    let told = |vouching: Vec<Arc<TrustRoot>>| {
        let trust = TrustedMaterial {
            keys: keys.clone(),
            key_trust_roots: vouching,
            ..TrustedMaterial::default()
        };
        let findings = crate::core::verify::verify_evidence(
            &judged(),
            &evidence(vec![candidate.clone()]),
            &trust,
            &crate::core::limits::InputLimits::DEFAULT,
        );
        let decision = PolicyDecision::from_verdicts(Vec::new());
        let report = AdmissionReport::new(asked(), &decision, &findings);
        report
            .verified
            .iter()
            .map(|one| (one.log, one.time.is_some(), one.trust_root.is_some()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        told(vec![Arc::new(root)]),
        [(TransparencyLogReport::Included, true, true)]
    );
    assert_eq!(
        told(Vec::new()),
        [(TransparencyLogReport::Unchecked, false, false)]
    );
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
    let field = ReportInputs {
        field: Some("spec.volumes[0].image.reference".into()),
        ..asked()
    };
    assert_eq!(
        AdmissionReport::from_error(field.clone(), &PublicKeyError::Pem).denials[0].field,
        field.field
    );
}

#[derive(Debug, thiserror::Error)]
#[error("it failed\u{1b}[31m")]
struct Failure(Reason);

impl ClassifiedError for Failure {
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
        let report = AdmissionReport::from_error(asked(), &Failure(reason));
        assert_eq!(
            (report.exit_code(), report.admitted, report.outcome),
            (code, false, ReportOutcome::Denied),
            "{reason}"
        );
    }
    let ungoverned =
        AdmissionReport::without_findings(asked(), ReportOutcome::Ungoverned, Vec::new());
    assert_eq!(ungoverned.exit_code(), 1);
    assert_eq!(
        AdmissionReport::without_findings(asked(), ReportOutcome::Exempt, Vec::new()).exit_code(),
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
        "    time    unknown, no transparency log or timestamp authority attests it".into(),
        "    log     none".into(),
        format!(
            "  verified  {} https://slsa.dev/provenance/v1, Bundle",
            report.verified[1].referrer
        ),
        format!(
            "    signer  {}: the signature holds, and the statement is about this digest",
            key.public().fingerprint()
        ),
        "    time    unknown, no transparency log or timestamp authority attests it".into(),
        "    log     none".into(),
        format!(
            "  rejected  {} MalformedEvidence: {}",
            report.rejected[0].referrer, report.rejected[0].message
        ),
        "  unsafe    plain HTTP".into(),
        "  reproduce packgate verify r.example.com/team-a/siem@sha256:… --key cosign.pub".into(),
    ];
    assert_eq!(report.to_text().lines().collect::<Vec<_>>(), expected);
    let text =
        AdmissionReport::from_error(asked(), &Failure(Reason::RegistryUnavailable)).to_text();
    assert!(
        text.starts_with("denied      r.example.com")
            && text.contains("denied    RegistryUnavailable: it failed\u{fffd}[31m"),
        "{text}"
    );
    let value: Value = serde_json::to_value(&report).expect("JSON");
    assert!(value.get("field").is_none());
}
