//! The whole life cycle of certificates.

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn pair(now: Timestamp) -> ServingCertificate {
    generate_certificate("packgate-system", now).expect("a pair")
}

fn owner() -> k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
    k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
        name: "packgate-controller".into(),
        ..Default::default()
    }
}

#[test]
fn a_renewal_has_three_steps_and_trust_never_lags_behind() {
    let start = at("2026-11-21T12:00:00Z");
    let first = WebhookCertificates::from_single(pair(start), None);
    assert_eq!(
        next_rotation_step(&first, None, Some(start), at("2027-01-20T11:59:59Z")),
        CertificateRotationStep::Idle,
        "not before its last month"
    );
    let due = at("2027-01-20T12:00:00Z");
    assert_eq!(
        next_rotation_step(&first, None, Some(start), due),
        CertificateRotationStep::Stage
    );
    let staged = first.clone().stage_next(pair(due), None, due);
    assert_eq!(staged.serving, first.serving, "nobody sees the new one yet");
    assert_eq!(
        staged.ca_bundle().matches("BEGIN CERTIFICATE").count(),
        2,
        "but API servers are told"
    );
    let soon = due
        .checked_add(AUTHORITY_PROPAGATION_DELAY)
        .expect("a time");
    assert_eq!(
        next_rotation_step(&staged, None, None, soon),
        CertificateRotationStep::Idle,
        "API servers were not told yet"
    );
    assert_eq!(
        next_rotation_step(&staged, None, Some(due), due),
        CertificateRotationStep::Idle,
        "they need a moment"
    );
    assert_eq!(
        next_rotation_step(&staged, None, Some(soon), soon),
        CertificateRotationStep::Idle,
        "counted from when they were told"
    );
    assert_eq!(
        next_rotation_step(&staged, None, Some(due), soon),
        CertificateRotationStep::Promote
    );
    let shown = staged.clone().promote_staged(soon);
    assert_eq!(
        Some(&shown.serving),
        staged.staged.as_ref().map(|(pair, _)| pair)
    );
    assert!(
        shown.ca_bundle().contains(&first.serving.authority),
        "connections to the old one may be open"
    );
    assert_eq!(
        next_rotation_step(&shown, None, None, soon),
        CertificateRotationStep::Idle
    );
    let much_later = soon.checked_add(OLD_AUTHORITY_RETENTION).expect("a time");
    assert_eq!(
        next_rotation_step(&shown, None, None, much_later),
        CertificateRotationStep::DropOldAuthority
    );
    let last = shown.drop_old_authority();
    assert_eq!(
        (
            last.ca_bundle().matches("BEGIN CERTIFICATE").count(),
            next_rotation_step(&last, None, None, much_later)
        ),
        (1, CertificateRotationStep::Idle)
    );
}

#[test]
fn a_request_is_answered_once() {
    let now = at("2026-11-21T12:00:00Z");
    let first = WebhookCertificates::from_single(pair(now), None);
    assert_eq!(
        next_rotation_step(&first, Some("now"), Some(now), now),
        CertificateRotationStep::Stage
    );
    let staged = first.stage_next(pair(now), Some("now"), now);
    let shown = staged.promote_staged(now);
    assert_eq!(
        next_rotation_step(&shown, Some("now"), Some(now), now),
        CertificateRotationStep::Idle
    );
    assert_eq!(
        next_rotation_step(&shown, Some("again"), Some(now), now),
        CertificateRotationStep::Stage
    );
}

#[test]
fn one_that_has_ended_is_replaced_at_once() {
    let now = at("2026-11-21T12:00:00Z");
    let first = WebhookCertificates::from_single(pair(now), None);
    assert_eq!(
        next_rotation_step(&first, None, Some(now), at("2027-02-19T12:00:00Z")),
        CertificateRotationStep::Create
    );
}

#[test]
fn the_secret_says_everything() {
    let now = at("2026-11-21T12:00:00Z");
    let only = WebhookCertificates::from_single(pair(now), Some("once".into()));
    let staged = only.clone().stage_next(pair(now), Some("twice"), now);
    let shown = staged.clone().promote_staged(now);
    for certificates in [only, staged, shown] {
        let secret = certificates.to_secret("packgate-system", owner());
        assert_eq!(
            WebhookCertificates::from_secret(&secret).as_ref(),
            Some(&certificates)
        );
        let authorities = secret
            .data
            .as_ref()
            .and_then(|data| data.get("ca.crt"))
            .expect("authorities");
        assert_eq!(
            String::from_utf8_lossy(&authorities.0),
            certificates.ca_bundle()
        );
    }
    assert_eq!(WebhookCertificates::from_secret(&Secret::default()), None);
}

#[test]
fn the_key_is_not_shown_to_logs() {
    let shown = format!(
        "{:?}",
        WebhookCertificates::from_single(pair(at("2026-11-21T12:00:00Z")), None)
    );
    assert!(
        !shown.contains("PRIVATE") && !shown.contains("BEGIN"),
        "{shown}"
    );
}

#[test]
fn the_certificate_is_the_services_and_its_authority_signs_no_other() {
    let made = pair(at("2026-11-21T12:00:00Z"));
    assert!(made.key.contains("PRIVATE KEY") && made.certificate.contains("BEGIN CERTIFICATE"));
    assert_eq!(made.not_after, at("2027-02-19T12:00:00Z"));
    assert_ne!(
        made.authority,
        pair(at("2026-11-21T12:00:00Z")).authority,
        "each has one of its own"
    );
}
