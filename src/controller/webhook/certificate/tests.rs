//! A life of certificates.

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn pair(now: Timestamp) -> Pair {
    make("packgate-system", now).expect("a pair")
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
    let first = Certificates::only(pair(start), None);
    assert_eq!(
        next(&first, None, Some(start), at("2027-01-20T11:59:59Z")),
        Step::Rest,
        "not before its last month"
    );
    let due = at("2027-01-20T12:00:00Z");
    assert_eq!(next(&first, None, Some(start), due), Step::Stage);
    let staged = first.clone().stage(pair(due), None, due);
    assert_eq!(staged.shown, first.shown, "nobody sees the new one yet");
    assert_eq!(
        staged.authorities().matches("BEGIN CERTIFICATE").count(),
        2,
        "but API servers are told"
    );
    let soon = due.checked_add(SETTLE).expect("a time");
    assert_eq!(
        next(&staged, None, None, soon),
        Step::Rest,
        "API servers were not told yet"
    );
    assert_eq!(
        next(&staged, None, Some(due), due),
        Step::Rest,
        "they need a moment"
    );
    assert_eq!(
        next(&staged, None, Some(soon), soon),
        Step::Rest,
        "counted from when they were told"
    );
    assert_eq!(next(&staged, None, Some(due), soon), Step::Show);
    let shown = staged.clone().show(soon);
    assert_eq!(
        Some(&shown.shown),
        staged.staged.as_ref().map(|(pair, _)| pair)
    );
    assert!(
        shown.authorities().contains(&first.shown.authority),
        "connections to the old one may be open"
    );
    assert_eq!(next(&shown, None, None, soon), Step::Rest);
    let much_later = soon.checked_add(KEEP).expect("a time");
    assert_eq!(next(&shown, None, None, much_later), Step::Forget);
    let last = shown.forget();
    assert_eq!(
        (
            last.authorities().matches("BEGIN CERTIFICATE").count(),
            next(&last, None, None, much_later)
        ),
        (1, Step::Rest)
    );
}

#[test]
fn a_request_is_answered_once() {
    let now = at("2026-11-21T12:00:00Z");
    let first = Certificates::only(pair(now), None);
    assert_eq!(next(&first, Some("now"), Some(now), now), Step::Stage);
    let staged = first.stage(pair(now), Some("now"), now);
    let shown = staged.show(now);
    assert_eq!(next(&shown, Some("now"), Some(now), now), Step::Rest);
    assert_eq!(next(&shown, Some("again"), Some(now), now), Step::Stage);
}

#[test]
fn one_that_has_ended_is_replaced_at_once() {
    let now = at("2026-11-21T12:00:00Z");
    let first = Certificates::only(pair(now), None);
    assert_eq!(
        next(&first, None, Some(now), at("2027-02-19T12:00:00Z")),
        Step::Make
    );
}

#[test]
fn the_secret_says_everything() {
    let now = at("2026-11-21T12:00:00Z");
    let only = Certificates::only(pair(now), Some("once".into()));
    let staged = only.clone().stage(pair(now), Some("twice"), now);
    let shown = staged.clone().show(now);
    for certificates in [only, staged, shown] {
        let secret = certificates.secret("packgate-system", owner());
        assert_eq!(Certificates::read(&secret).as_ref(), Some(&certificates));
        let authorities = secret
            .data
            .as_ref()
            .and_then(|data| data.get("ca.crt"))
            .expect("authorities");
        assert_eq!(
            String::from_utf8_lossy(&authorities.0),
            certificates.authorities()
        );
    }
    assert_eq!(Certificates::read(&Secret::default()), None);
}

#[test]
fn the_key_is_not_shown_to_logs() {
    let shown = format!(
        "{:?}",
        Certificates::only(pair(at("2026-11-21T12:00:00Z")), None)
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
