//! The content of responses to the API server.

use serde_json::{Value, json};

use super::*;
use crate::core::{
    policy::ReferenceUse,
    report::{PolicyKind, PolicyReport},
};

fn request() -> AdmissionRequest<DynamicObject> {
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    serde_json::from_value(json!({
        "uid": "u", "kind": kind, "resource": {
            "group": "",
            "version": "v1",
            "resource": "pods",
        }, "namespace": "team-a", "operation": "CREATE",
        "userInfo": {}, "object": null, "oldObject": null,
    }))
    .expect("a request")
}

/// `NAME` of the cluster, or `NAMESPACE/NAME`.
fn named(policy: &str) -> (String, Option<PolicyKind>, Option<String>) {
    match policy.split_once('/') {
        Some((namespace, name)) => (
            name.to_owned(),
            Some(PolicyKind::BundlePolicy),
            Some(namespace.to_owned()),
        ),
        None => (
            policy.to_owned(),
            Some(PolicyKind::ClusterBundlePolicy),
            None,
        ),
    }
}

fn report(
    outcome: ReportOutcome,
    admitted: bool,
    policies: &[(&str, EnforcementMode, ReportOutcome)],
    denials: &[(Reason, &str)],
) -> AdmissionReport {
    let field = Some("spec.volumes[0].image.reference".to_owned());
    let policy = |(name, mode, verdict): &(&str, EnforcementMode, ReportOutcome)| PolicyReport {
        name: named(name).0,
        kind: named(name).1,
        namespace: named(name).2,
        generation: 2,
        mode: *mode,
        verdict: *verdict,
        authorities: Vec::new(),
        slsa: None,
    };
    let denial = |(reason, policy): &(Reason, &str)| DenialReport {
        reason: *reason,
        class: reason.class(),
        message: format!("because of {reason}"),
        policy: Some(named(policy).0),
        policy_kind: named(policy).1,
        policy_namespace: named(policy).2,
        authority: None,
        field: field.clone(),
    };
    AdmissionReport {
        api_version: "packgate.dev/v1alpha1".into(),
        kind: "Report".into(),
        outcome,
        admitted,
        reference: "r.example.com/a".into(),
        digest: Some(crate::core::digest::Digest::of_bytes(b"")),
        used_as: ReferenceUse::ImageVolume,
        field: field.clone(),
        policies: policies.iter().map(policy).collect(),
        denials: denials.iter().map(denial).collect(),
        verified: Vec::new(),
        rejected: Vec::new(),
        unsafe_settings: Vec::new(),
        reproduce: "packgate verify …".into(),
        elapsed_ms: 1,
        registry_requests: 1,
    }
}

fn answer(judged: Vec<(AdmissionReport, NoMatchAction)>) -> Value {
    let judged = judged
        .into_iter()
        .map(|(report, no_match)| EvaluatedImage { report, no_match })
        .collect();
    serde_json::to_value(build_admission_response(
        &request(),
        &ReviewResponse::Evaluated(judged),
    ))
    .expect("JSON")
}

#[test]
fn a_denial_is_403_with_every_cause() {
    let denied = report(
        ReportOutcome::Denied,
        false,
        &[("p", EnforcementMode::Enforce, ReportOutcome::Denied)],
        &[(Reason::NoSignatures, "p"), (Reason::NoProvenance, "p")],
    );
    let admitted = report(
        ReportOutcome::Admitted,
        true,
        &[("p", EnforcementMode::Enforce, ReportOutcome::Admitted)],
        &[],
    );
    let response = answer(vec![
        (admitted, NoMatchAction::Deny),
        (denied, NoMatchAction::Deny),
    ]);
    assert_eq!(
        (
            &response["allowed"],
            &response["status"]["code"],
            &response["status"]["reason"]
        ),
        (&json!(false), &json!(403), &json!("Forbidden"))
    );
    let message = "spec.volumes[0].image.reference: NoSignatures: ClusterBundlePolicy p: because \
        of NoSignatures (and 1 more); to see the same verdict: packgate verify …";
    assert_eq!(response["status"]["message"], message);
    let causes = response["status"]["details"]["causes"]
        .as_array()
        .expect("causes");
    assert_eq!(
        causes
            .iter()
            .map(|cause| cause["reason"].as_str().expect("a reason"))
            .collect::<Vec<_>>(),
        ["NoSignatures", "NoProvenance"]
    );
    assert!(
        causes
            .iter()
            .all(|cause| cause["field"] == "spec.volumes[0].image.reference")
    );
    assert_eq!(
        response["auditAnnotations"]["outcome"], "Denied",
        "the worst of all"
    );
    assert_eq!(
        response["auditAnnotations"]["policies"],
        "ClusterBundlePolicy p@2=Admitted(Enforce),ClusterBundlePolicy p@2=Denied(Enforce)"
    );
}

#[test]
fn only_modes_soften_a_denial() {
    for (mode, allowed, warnings) in [
        (EnforcementMode::Enforce, false, 0),
        (EnforcementMode::Warn, true, 1),
        (EnforcementMode::Audit, true, 0),
    ] {
        let admitted = mode != EnforcementMode::Enforce;
        let denied = report(
            ReportOutcome::Denied,
            admitted,
            &[("p", mode, ReportOutcome::Denied)],
            &[(Reason::NoSignatures, "p")],
        );
        let response = answer(vec![(denied, NoMatchAction::Allow)]);
        assert_eq!(response["allowed"], allowed, "{mode:?}");
        assert_eq!(
            response["warnings"].as_array().map_or(0, Vec::len),
            warnings,
            "{mode:?}: {response}"
        );
        assert_eq!(
            response["auditAnnotations"]["outcome"], "Denied",
            "{mode:?}: the log says what the mode hid"
        );
    }
}

/// A `BundlePolicy` may have the name of a cluster policy.
#[test]
fn a_namespaces_policy_bears_nobody_elses_name() {
    let policies = [
        ("p", EnforcementMode::Audit, ReportOutcome::Denied),
        ("team-a/p", EnforcementMode::Warn, ReportOutcome::Denied),
        ("team-b/p", EnforcementMode::Audit, ReportOutcome::Denied),
    ];
    let denials = [
        (Reason::NoSignatures, "p"),
        (Reason::NoProvenance, "team-a/p"),
        (Reason::LockMismatch, "team-b/p"),
    ];
    let response = answer(vec![(
        report(ReportOutcome::Denied, true, &policies, &denials),
        NoMatchAction::Allow,
    )]);
    let warnings = json!([
        "packgate: spec.volumes[0].image.reference: NoProvenance: BundlePolicy team-a/p: because \
            of NoProvenance"
    ]);
    assert_eq!(response["warnings"], warnings, "only the one that warns");
    let audited = "BundlePolicy team-a/p@2=Denied(Warn),BundlePolicy \
        team-b/p@2=Denied(Audit),ClusterBundlePolicy p@2=Denied(Audit)";
    assert_eq!(response["auditAnnotations"]["policies"], audited);
    let refused = report(
        ReportOutcome::Denied,
        false,
        &[("team-a/p", EnforcementMode::Enforce, ReportOutcome::Denied)],
        &[(Reason::NoSignatures, "team-a/p")],
    );
    let response = answer(vec![(refused, NoMatchAction::Allow)]);
    let cause = response["status"]["details"]["causes"][0]["message"]
        .as_str()
        .expect("a message");
    assert!(
        cause.contains("NoSignatures: BundlePolicy team-a/p: "),
        "{cause}"
    );
}

#[test]
fn the_installation_says_what_becomes_of_the_ungoverned() {
    for (action, allowed, warnings) in [
        (NoMatchAction::Deny, false, 0),
        (NoMatchAction::Warn, true, 1),
        (NoMatchAction::Allow, true, 0),
    ] {
        let response = answer(vec![(
            report(ReportOutcome::Ungoverned, false, &[], &[]),
            action,
        )]);
        assert_eq!(response["allowed"], allowed, "{action:?}");
        assert_eq!(
            response["warnings"].as_array().map_or(0, Vec::len),
            warnings,
            "{action:?}"
        );
        if !allowed {
            assert_eq!(
                response["status"]["details"]["causes"][0]["reason"],
                "Ungoverned"
            );
        }
    }
}

#[test]
fn what_weakens_an_admission_is_a_warning() {
    let mut exempt = report(
        ReportOutcome::Exempt,
        true,
        &[("p", EnforcementMode::Enforce, ReportOutcome::Exempt)],
        &[],
    );
    exempt.unsafe_settings = (0..20)
        .map(|n| format!("{n} {}", "x".repeat(400)))
        .collect();
    let response = answer(vec![(exempt, NoMatchAction::Deny)]);
    let warnings = response["warnings"].as_array().expect("warnings");
    assert_eq!(
        (&response["allowed"], warnings.len()),
        (&json!(true), MAX_WARNINGS)
    );
    assert!(
        warnings
            .iter()
            .all(|warning| warning.as_str().expect("text").chars().count() <= MAX_WARNING)
    );
}

#[test]
fn shapes_and_rights_have_codes_of_their_own() {
    let shape = ReviewResponse::Invalid {
        field: "spec.source".into(),
        message: "must be there".into(),
    };
    let response =
        serde_json::to_value(build_admission_response(&request(), &shape)).expect("JSON");
    assert_eq!(
        (
            &response["allowed"],
            &response["status"]["code"],
            &response["status"]["reason"]
        ),
        (&json!(false), &json!(422), &json!("Invalid"))
    );
    let forbidden = ReviewResponse::Forbidden {
        reason: Reason::SecretAccessDenied,
        field: "spec.x".into(),
        message: "no".into(),
    };
    let response =
        serde_json::to_value(build_admission_response(&request(), &forbidden)).expect("JSON");
    assert_eq!(
        (
            &response["status"]["code"],
            &response["status"]["details"]["causes"][0]["reason"]
        ),
        (&json!(403), &json!("SecretAccessDenied"))
    );
    let nothing = serde_json::to_value(build_admission_response(
        &request(),
        &ReviewResponse::NothingToEvaluate,
    ))
    .expect("JSON");
    assert_eq!(
        (&nothing["allowed"], &nothing["uid"]),
        (&json!(true), &json!("u"))
    );
}
