//! The content of responses to the API server.

use serde_json::{Value, json};

use super::*;
use crate::core::{
    digest::Digest,
    policy::{
        AdmissionVerdict, AppliedExemption, Denial, Denials, PolicyDecision, PolicyIdentity,
        PolicyOrigin, PolicyVerdict, ReferenceUse,
    },
    report::ReportInputs,
    verify::VerificationFindings,
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

const FIELD: &str = "spec.volumes[0].image.reference";

/// `NAME` of the cluster, or `NAMESPACE/NAME`.
fn identity(policy: &str) -> PolicyIdentity {
    let (kind, name) = match policy.split_once('/') {
        Some((namespace, name)) => (PolicyOrigin::Namespaced(namespace.to_owned()), name),
        None => (PolicyOrigin::Cluster, policy),
    };
    PolicyIdentity {
        kind,
        name: name.to_owned(),
    }
}

fn verdict(policy: &str, mode: EnforcementMode, verdict: AdmissionVerdict) -> PolicyVerdict {
    PolicyVerdict {
        identity: identity(policy),
        generation: 2,
        mode,
        verdict,
        authorities: Vec::new(),
        slsa: None,
        unsafe_settings: Vec::new(),
    }
}

/// The verdict of a policy that denies for these reasons.
fn denied(policy: &str, mode: EnforcementMode, reasons: &[Reason]) -> PolicyVerdict {
    let denial = |reason: &Reason| Denial {
        policy: Some(identity(policy)),
        ..Denial::new(*reason, format!("because of {reason}"))
    };
    let denials = Denials::from_denials(reasons.iter().map(denial).collect());
    verdict(
        policy,
        mode,
        AdmissionVerdict::Deny(denials.expect("a reason")),
    )
}

fn exempted(policy: &str) -> PolicyVerdict {
    let exemption = AppliedExemption::for_test(digest());
    verdict(
        policy,
        EnforcementMode::Enforce,
        AdmissionVerdict::Exempt(exemption),
    )
}

fn digest() -> Digest {
    Digest::of_bytes(b"")
}

/// An image that these policies govern; without any it is ungoverned.
fn image(policies: Vec<PolicyVerdict>) -> CheckedImage {
    let decision = PolicyDecision::from_verdicts(policies);
    let inputs = ReportInputs {
        reference: "r.example.com/a".into(),
        digest: Some(digest()),
        used_as: ReferenceUse::ImageVolume,
        field: Some(FIELD.to_owned()),
        reproduce: "packgate verify …".into(),
        ..ReportInputs::default()
    };
    CheckedImage {
        report: AdmissionReport::new(inputs, &decision, &VerificationFindings::default()),
        grounds: decision.admission_grounds(Some(&digest())),
        ungoverned: decision.ungoverned(),
    }
}

fn respond(images: Vec<CheckedImage>, no_match: NoMatchAction) -> Value {
    let images = images
        .into_iter()
        .map(|image| EvaluatedImage::new(image, no_match))
        .collect();
    serde_json::to_value(build_admission_response(
        &request(),
        ReviewResponse::Evaluated(images),
    ))
    .expect("JSON")
}

#[test]
fn a_denial_is_403_with_every_cause() {
    let reasons = [Reason::NoSignatures, Reason::NoProvenance];
    let response = respond(
        vec![
            image(vec![exempted("p")]),
            image(vec![denied("p", EnforcementMode::Enforce, &reasons)]),
        ],
        NoMatchAction::Deny,
    );
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
        "ClusterBundlePolicy p@2=Denied(Enforce),ClusterBundlePolicy p@2=Exempt(Enforce)"
    );
}

#[test]
fn only_modes_soften_a_denial() {
    for (mode, allowed, warnings) in [
        (EnforcementMode::Enforce, false, 0),
        (EnforcementMode::Warn, true, 1),
        (EnforcementMode::Audit, true, 0),
    ] {
        let policies = vec![denied("p", mode, &[Reason::NoSignatures])];
        let response = respond(vec![image(policies)], NoMatchAction::Allow);
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
    let policies = vec![
        denied("p", EnforcementMode::Audit, &[Reason::NoSignatures]),
        denied("team-a/p", EnforcementMode::Warn, &[Reason::NoProvenance]),
        denied("team-b/p", EnforcementMode::Audit, &[Reason::LockMismatch]),
    ];
    let response = respond(vec![image(policies)], NoMatchAction::Allow);
    let warnings = json!([
        "packgate: spec.volumes[0].image.reference: NoProvenance: BundlePolicy team-a/p: because \
            of NoProvenance"
    ]);
    assert_eq!(response["warnings"], warnings, "only the one that warns");
    let audited = "BundlePolicy team-a/p@2=Denied(Warn),BundlePolicy \
        team-b/p@2=Denied(Audit),ClusterBundlePolicy p@2=Denied(Audit)";
    assert_eq!(response["auditAnnotations"]["policies"], audited);
    let policies = vec![denied(
        "team-a/p",
        EnforcementMode::Enforce,
        &[Reason::NoSignatures],
    )];
    let response = respond(vec![image(policies)], NoMatchAction::Allow);
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
        let response = respond(vec![image(Vec::new())], action);
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
    let mut exempt = exempted("p");
    exempt.unsafe_settings = (0..20)
        .map(|n| format!("{n} {}", "x".repeat(400)))
        .collect();
    let response = respond(vec![image(vec![exempt])], NoMatchAction::Deny);
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
    let response = serde_json::to_value(build_admission_response(&request(), shape)).expect("JSON");
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
        serde_json::to_value(build_admission_response(&request(), forbidden)).expect("JSON");
    assert_eq!(
        (
            &response["status"]["code"],
            &response["status"]["details"]["causes"][0]["reason"]
        ),
        (&json!(403), &json!("SecretAccessDenied"))
    );
    let nothing = serde_json::to_value(build_admission_response(
        &request(),
        ReviewResponse::NothingToEvaluate,
    ))
    .expect("JSON");
    assert_eq!(
        (&nothing["allowed"], &nothing["uid"]),
        (&json!(true), &json!("u"))
    );
}

/// A defect would have to give a report that admits without the grounds for it: that is refused.
#[test]
fn without_grounds_nothing_is_allowed() {
    let image = CheckedImage {
        grounds: None,
        ..image(vec![exempted("p")])
    };
    let response = respond(vec![image], NoMatchAction::Allow);
    assert_eq!(
        (
            &response["allowed"],
            &response["status"]["code"],
            &response["status"]["details"]["causes"][0]["reason"]
        ),
        (&json!(false), &json!(500), &json!("Internal"))
    );
}
