use super::*;
use crate::{
    api::packed_bundle::EvidenceStatus,
    controller::{
        accepted_bundle::UnsignedReason,
        observe::contradicts_record,
        packing_run::{JobState, recorded_bundle_digest},
    },
    core::{
        intoto::COSIGN_SIGN,
        job::{JobRunKey, JobSuccess},
        policy::{AdmissionGrounds, PolicyDecision, PolicyIdentity, PolicyOrigin},
        reference::ImageReference,
        slsa::PROVENANCE_V1,
    },
};

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn good() -> AcceptedBundle {
    let reference: ImageReference = format!("r.example.com/a/b@{}", Digest::of_bytes(b"bundle"))
        .parse()
        .expect("a reference");
    AcceptedBundle {
        reference: reference.to_pinned().expect("pinned"),
        tag: Some("v1".parse().expect("a tag")),
        size: None,
        evidence: Vec::new(),
        warnings: Vec::new(),
        unsigned: None,
        grounds: AdmissionGrounds::Ungoverned(
            PolicyDecision::from_verdicts(Vec::new())
                .ungoverned()
                .expect("no policy"),
        ),
    }
}

fn told(update: &StatusUpdate) -> PackedBundleStatus {
    with_update(
        &PackedBundleStatus::default(),
        update,
        2,
        time("2026-11-21T12:00:00Z"),
    )
}

fn conditions(status: &PackedBundleStatus) -> Vec<(&str, &str, &str)> {
    status
        .conditions
        .iter()
        .map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str()))
        .collect()
}

#[test]
fn ready_is_always_there_and_stalled_says_that_a_person_is_needed() {
    let failed = |reason| StatusUpdate::Failed(JobFailure::new(reason, "why"));
    let working = |phase| StatusUpdate::JobRunning(phase, None);
    for (update, expected) in [
        (
            working(JobPhase::Packing),
            vec![
                ("Ready", "False", "Packing"),
                ("Reconciling", "True", "Packing"),
            ],
        ),
        (
            working(JobPhase::Signing),
            vec![
                ("Ready", "False", "Signing"),
                ("Reconciling", "True", "Signing"),
            ],
        ),
        (
            StatusUpdate::Accepted(Box::new(good())),
            vec![
                ("Ready", "True", "Succeeded"),
                ("Verified", "True", "Succeeded"),
            ],
        ),
        (
            StatusUpdate::Accepted(Box::new(AcceptedBundle {
                unsigned: Some(UnsignedReason::AllowedByInstallation),
                ..good()
            })),
            vec![
                ("Ready", "True", "Unsigned"),
                ("Verified", "False", "NoSignatures"),
            ],
        ),
        (
            StatusUpdate::Suspended,
            vec![("Ready", "False", "Suspended")],
        ),
        (
            failed(Reason::FetchFailed),
            vec![
                ("Ready", "False", "FetchFailed"),
                ("Reconciling", "True", "FetchFailed"),
            ],
        ),
        (
            failed(Reason::SourceNotFound),
            vec![
                ("Ready", "False", "SourceNotFound"),
                ("Stalled", "True", "SourceNotFound"),
            ],
        ),
        (
            failed(Reason::InvalidLock),
            vec![
                ("Ready", "False", "InvalidLock"),
                ("Stalled", "True", "InvalidLock"),
            ],
        ),
        (
            failed(Reason::NoSigner),
            vec![
                ("Ready", "False", "NoSigner"),
                ("Stalled", "True", "NoSigner"),
            ],
        ),
        (
            failed(Reason::PodDenied),
            vec![
                ("Ready", "False", "PodDenied"),
                ("Stalled", "True", "PodDenied"),
            ],
        ),
        (
            failed(Reason::LockMismatch),
            vec![
                ("Ready", "False", "LockMismatch"),
                ("Stalled", "True", "LockMismatch"),
                ("Verified", "False", "LockMismatch"),
            ],
        ),
        (
            failed(Reason::DigestMismatch),
            vec![
                ("Ready", "False", "DigestMismatch"),
                ("Stalled", "True", "DigestMismatch"),
                ("Verified", "False", "DigestMismatch"),
            ],
        ),
    ] {
        let status = told(&update);
        assert_eq!(conditions(&status), expected, "{update:?}");
        assert!(
            status
                .conditions
                .iter()
                .all(|c| c.observed_generation == Some(2))
        );
    }
}

/// Users and programs base decisions on conditions and events.
#[test]
fn no_more_is_said_of_a_bundle_than_was_found() {
    let of = |predicate_type: &str| EvidenceStatus {
        predicate_type: predicate_type.into(),
        digest: "d".into(),
        signer: "a".into(),
    };
    let (signature, provenance, bill) = (
        of(COSIGN_SIGN),
        of(PROVENANCE_V1),
        of("https://spdx.dev/Document"),
    );
    let exempt = UnsignedReason::Exempt(PolicyIdentity {
        kind: PolicyOrigin::Cluster,
        name: "p".into(),
    });
    for (evidence, unsigned, said, reason) in [
        (
            vec![signature.clone()],
            None,
            "is signed and verified",
            "Succeeded",
        ),
        (
            vec![signature.clone(), provenance.clone()],
            None,
            "is signed, attested and verified",
            "Succeeded",
        ),
        (
            vec![signature, bill],
            None,
            "is signed, attested and verified",
            "Succeeded",
        ),
        (
            vec![provenance],
            None,
            "is attested and verified",
            "Succeeded",
        ),
        (Vec::new(), None, "is verified", "Succeeded"),
        (
            Vec::new(),
            Some(UnsignedReason::AllowedByInstallation),
            "nobody signed it",
            "NoSignatures",
        ),
        (
            Vec::new(),
            Some(exempt),
            "ClusterBundlePolicy p exempts it",
            "Exempt",
        ),
        (
            Vec::new(),
            Some(UnsignedReason::NotEnforced),
            "it is not verified",
            "NoSignatures",
        ),
        (
            Vec::new(),
            Some(UnsignedReason::Ungoverned),
            "no policy governs it; it is not verified",
            "Ungoverned",
        ),
    ] {
        let good = AcceptedBundle {
            evidence,
            unsigned,
            ..good()
        };
        let status = told(&StatusUpdate::Accepted(Box::new(good.clone())));
        for condition in &status.conditions {
            assert!(
                condition.message.ends_with(said)
                    || condition.message.contains(said) && good.unsigned.is_some(),
                "{said}: {condition:?}"
            );
        }
        assert_eq!(status.conditions[1].reason, reason, "{said}");
    }
}

#[test]
fn a_good_bundle_stays_ready_while_its_registry_is_away() {
    let ready = told(&StatusUpdate::Accepted(Box::new(good())));
    let away = with_update(
        &ready,
        &StatusUpdate::Failed(JobFailure::new(Reason::RegistryUnavailable, "no answer")),
        2,
        time("2026-11-21T13:00:00Z"),
    );
    let expected = [
        ("Ready", "True", "Succeeded"),
        ("Verified", "True", "Succeeded"),
        ("Reconciling", "True", "RegistryUnavailable"),
    ];
    assert_eq!(conditions(&away), expected);
    assert_eq!(away.bundle, ready.bundle);
}

#[test]
fn the_bundle_can_be_copied_into_a_pod() {
    let bundle = told(&StatusUpdate::Accepted(Box::new(good())))
        .bundle
        .expect("a bundle");
    assert_eq!(
        bundle.reference,
        format!("r.example.com/a/b:v1@{}", Digest::of_bytes(b"bundle"))
    );
}

#[test]
fn nothing_new_changes_nothing() {
    let ready = told(&StatusUpdate::Accepted(Box::new(good())));
    assert_eq!(
        with_update(
            &ready,
            &StatusUpdate::Accepted(Box::new(good())),
            2,
            time("2026-11-22T12:00:00Z")
        ),
        ready
    );
}

#[test]
fn the_history_holds_each_end_once_and_ten_at_most() {
    let lock = Digest::of_bytes(b"lock");
    let frozen = |generation| FrozenLock {
        run: JobRunKey::new("u", generation, &lock),
        lock,
        at: time("2026-11-21T12:00:00Z"),
    };
    let mut status = PackedBundleStatus::default();
    for generation in 0..12 {
        for _ in 0..2 {
            status = with_run_result(
                &status,
                &frozen(generation),
                None,
                "FetchFailed",
                time("2026-11-21T12:00:10Z"),
            );
        }
    }
    assert_eq!(status.history.len(), 10);
    assert_eq!(status.history[0].run, frozen(11).run.to_string());
    assert_eq!(recorded_bundle_digest(&status, &frozen(11).run), None);
    let done = with_run_result(
        &status,
        &frozen(11),
        Some(lock),
        SUCCEEDED,
        time("2026-11-21T12:01:00Z"),
    );
    assert_eq!(recorded_bundle_digest(&done, &frozen(11).run), Some(lock));
    assert_eq!(
        with_run_result(
            &done,
            &frozen(11),
            Some(lock),
            SUCCEEDED,
            time("2026-11-21T13:00:00Z")
        ),
        done,
        "verified again is not finished again"
    );
    let lost = with_run_result(
        &done,
        &frozen(11),
        None,
        "SourceNotFound",
        time("2026-11-21T14:00:00Z"),
    );
    assert_eq!(recorded_bundle_digest(&lost, &frozen(11).run), None);
}

#[test]
fn a_record_that_the_sign_job_contradicts_is_corrected() {
    let (lock, honest, forged) = (
        Digest::of_bytes(b"lock"),
        Digest::of_bytes(b"bundle"),
        Digest::of_bytes(b"forged"),
    );
    let frozen = FrozenLock {
        run: JobRunKey::new("u", 1, &lock),
        lock,
        at: time("2026-11-21T12:00:00Z"),
    };
    let at = time("2026-11-21T12:01:00Z");
    let wrong = with_run_result(
        &PackedBundleStatus::default(),
        &frozen,
        Some(forged),
        SUCCEEDED,
        at,
    );
    let report = JobSuccess {
        lock_digest: lock,
        digest: honest,
        size: 1,
        layers: 2,
        artifacts: 1,
        evidence: Vec::new(),
    };
    let sign = JobState::Succeeded { report, at };
    assert!(contradicts_record(&sign, &forged));
    assert!(!contradicts_record(&sign, &honest));
    assert!(
        !contradicts_record(&JobState::Absent, &forged),
        "a Job that is gone says nothing"
    );
    assert_eq!(
        recorded_bundle_digest(&with_run_restarted(&wrong, &frozen.run), &frozen.run),
        None
    );
    assert_eq!(
        with_run_restarted(&wrong, &JobRunKey::new("u", 2, &lock)),
        wrong,
        "another run is nothing to it"
    );
    let corrected = with_run_result(&wrong, &frozen, Some(honest), SUCCEEDED, at);
    assert_eq!(corrected.history.len(), 1);
    assert_eq!(
        recorded_bundle_digest(&corrected, &frozen.run),
        Some(honest)
    );
}

#[test]
fn what_somebody_else_wrote_is_taken_out() {
    let found = serde_json::json!({
        "bundle": {"digest": "a", "tag": "x"},
        "history": [{"run": "r"}],
        "lock": {"digest": "l"},
    });
    let wanted =
        serde_json::json!({"bundle": {"digest": "b"}, "conditions": [1], "lock": {"digest": "l"}});
    let patch = serde_json::json!({
        "bundle": {"digest": "b", "tag": null},
        "conditions": [1],
        "history": null,
        "lock": {"digest": "l"},
    });
    assert_eq!(overwrite_patch(&found, &wanted), patch);
    assert_eq!(overwrite_patch(&Value::Null, &wanted), wanted);
}

#[test]
fn an_interruption_says_nothing_about_the_generation_and_ends_without_a_trace() {
    let ready = told(&StatusUpdate::Accepted(Box::new(good())));
    let now = time("2026-11-21T13:00:00Z");
    let failure = JobFailure::new(Reason::DeadlineExceeded, "the API server: gone");
    let interrupted = StatusUpdate::Interrupted(failure);
    let waiting = with_update(&ready, &interrupted, 3, now);
    assert_eq!(waiting.observed_generation, Some(2), "not the newest");
    assert_eq!(
        conditions(&waiting),
        [
            ("Ready", "True", "Succeeded"),
            ("Verified", "True", "Succeeded"),
            ("Reconciling", "True", "DeadlineExceeded"),
        ]
    );
    let recover = |status| with_update(status, &StatusUpdate::Recovered, 3, now);
    assert_eq!(recover(&waiting), ready);
    assert_eq!(recover(&ready), ready);
    let new = with_update(&PackedBundleStatus::default(), &interrupted, 1, now);
    assert_eq!(
        (new.observed_generation, conditions(&new)[0]),
        (None, ("Ready", "False", "DeadlineExceeded"))
    );
    assert_eq!(recover(&new), new, "it waits for a result");
}
