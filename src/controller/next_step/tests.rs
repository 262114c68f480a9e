use super::*;
use crate::{
    api::packed_bundle::PackedBundleSpec,
    controller::packing_run::bundle_tag,
    core::job::{JobRunKey, JobSuccess},
};

const NOW: &str = "2026-11-21T12:00:00Z";

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn validated(spec: serde_json::Value) -> ValidatedPackedBundle {
    let spec: PackedBundleSpec = serde_json::from_value(spec).expect("a spec");
    ValidatedPackedBundle::try_from(&spec).expect("valid")
}

fn packing() -> ValidatedPackedBundle {
    validated(serde_json::json!({
        "source": {"inline": "x"},
        "destination": {"repository": "r.example.com/a/b"},
    }))
}

fn frozen() -> FrozenLock {
    let lock = Digest::of_bytes(b"lock");
    FrozenLock {
        run: JobRunKey::new("u", 1, &lock),
        lock,
        at: time(NOW),
    }
}

/// A frozen run without Jobs.
fn seen() -> ObservedRunState {
    ObservedRunState {
        requested: false,
        frozen: Some(frozen()),
        pack: JobState::Absent,
        sign: JobState::Absent,
        finished: None,
        failures: 0,
        duplicate_destination: None,
        resolved_at: Some(time(NOW)),
        verified_at: None,
        refused: None,
        allow_unsigned: false,
    }
}

fn success(lock: Digest) -> JobState {
    let report = JobSuccess {
        lock_digest: lock,
        digest: Digest::of_bytes(b"bundle"),
        size: 1,
        layers: 2,
        artifacts: 1,
        evidence: Vec::new(),
    };
    JobState::Succeeded {
        report,
        at: time(NOW),
    }
}

fn failure(reason: Reason) -> JobState {
    JobState::Failed {
        failure: JobFailure::new(reason, "why"),
        at: time(NOW),
    }
}

fn next(seen: &ObservedRunState) -> ReconcileStep {
    next_step(&packing(), seen, time(NOW))
}

#[test]
fn a_run_goes_from_lock_to_rest() {
    let bundle = Digest::of_bytes(b"bundle");
    let running = || JobState::Running { problem: None };
    for (observed, step) in [
        (
            ObservedRunState {
                frozen: None,
                ..seen()
            },
            ReconcileStep::Resolve,
        ),
        (seen(), ReconcileStep::Pack(frozen())),
        (
            ObservedRunState {
                pack: running(),
                ..seen()
            },
            ReconcileStep::Wait(JobPhase::Packing, None),
        ),
        (
            ObservedRunState {
                pack: success(frozen().lock),
                ..seen()
            },
            ReconcileStep::Sign(frozen(), bundle),
        ),
        (
            ObservedRunState {
                pack: success(frozen().lock),
                sign: running(),
                ..seen()
            },
            ReconcileStep::Wait(JobPhase::Signing, None),
        ),
        (
            ObservedRunState {
                pack: success(frozen().lock),
                sign: success(frozen().lock),
                ..seen()
            },
            ReconcileStep::Verify(bundle),
        ),
        // After the sign Job has started, the pack Job is never started again.
        (
            ObservedRunState {
                sign: running(),
                ..seen()
            },
            ReconcileStep::Wait(JobPhase::Signing, None),
        ),
        (
            ObservedRunState {
                sign: success(frozen().lock),
                ..seen()
            },
            ReconcileStep::Verify(bundle),
        ),
        (
            ObservedRunState {
                finished: Some(bundle),
                ..seen()
            },
            ReconcileStep::Verify(bundle),
        ),
        (
            ObservedRunState {
                finished: Some(bundle),
                verified_at: Some(time(NOW)),
                ..seen()
            },
            ReconcileStep::Idle(Some(Duration::from_hours(1))),
        ),
        (
            ObservedRunState {
                sign: success(frozen().lock),
                verified_at: Some(time(NOW)),
                refused: Some(JobFailure::new(Reason::NoProvenance, "why")),
                ..seen()
            },
            ReconcileStep::Fail(
                JobFailure::new(Reason::NoProvenance, "why"),
                Some(Duration::from_hours(1)),
            ),
        ),
    ] {
        assert_eq!(next(&observed), step, "{observed:?}");
    }
}

#[test]
fn a_report_about_another_lock_is_refused() {
    let step = next(&ObservedRunState {
        pack: success(Digest::of_bytes(b"other")),
        ..seen()
    });
    assert!(
        matches!(
            step,
            ReconcileStep::Fail(
                JobFailure {
                    reason: Reason::LockMismatch,
                    ..
                },
                None
            )
        ),
        "{step:?}"
    );
}

#[test]
fn what_a_person_must_mend_is_not_tried_again() {
    for reason in [
        Reason::LockMismatch,
        Reason::InvalidLock,
        Reason::ChecksumMismatch,
        Reason::TagConflict,
        Reason::NoSigner,
    ] {
        for observed in [
            ObservedRunState {
                pack: failure(reason),
                ..seen()
            },
            ObservedRunState {
                sign: failure(reason),
                ..seen()
            },
        ] {
            assert_eq!(
                next(&observed),
                ReconcileStep::Fail(JobFailure::new(reason, "why"), None)
            );
        }
    }
}

#[test]
fn a_dependency_that_did_not_answer_is_asked_again_later_and_later() {
    let at = |seconds: i64, failures| {
        let observed = ObservedRunState {
            pack: failure(Reason::FetchFailed),
            failures,
            ..seen()
        };
        next_step(
            &packing(),
            &observed,
            time(NOW) + SignedDuration::from_secs(seconds),
        )
    };
    let failed = |seconds| {
        ReconcileStep::Fail(
            JobFailure::new(Reason::FetchFailed, "why"),
            Some(Duration::from_secs(seconds)),
        )
    };
    assert_eq!(at(0, 1), failed(15));
    assert_eq!(at(10, 1), failed(5));
    assert_eq!(at(15, 1), ReconcileStep::Restart(frozen()));
    assert_eq!(at(15, 2), failed(15));
    assert_eq!(at(30, 2), ReconcileStep::Restart(frozen()));
    assert_eq!(at(899, 40), failed(1));
}

#[test]
fn a_requested_reconcile_resolves_anew_but_not_in_the_middle_of_a_run() {
    let bundle = Some(Digest::of_bytes(b"bundle"));
    for observed in [
        seen(),
        ObservedRunState {
            finished: bundle,
            ..seen()
        },
        ObservedRunState {
            pack: failure(Reason::InvalidLock),
            ..seen()
        },
    ] {
        assert_eq!(
            next(&ObservedRunState {
                requested: true,
                ..observed
            }),
            ReconcileStep::Resolve
        );
    }
    let middle = ObservedRunState {
        requested: true,
        pack: JobState::Running { problem: None },
        ..seen()
    };
    assert_eq!(next(&middle), ReconcileStep::Wait(JobPhase::Packing, None));
}

#[test]
fn after_the_interval_source_and_bundle_are_looked_at_again() {
    let bundle = Digest::of_bytes(b"bundle");
    let observed = ObservedRunState {
        finished: Some(bundle),
        verified_at: Some(time(NOW)),
        ..seen()
    };
    let later = time(NOW) + SignedDuration::from_hours(1);
    assert_eq!(
        next_step(&packing(), &observed, later),
        ReconcileStep::Resolve
    );
    let resolved = ObservedRunState {
        resolved_at: Some(later),
        ..observed.clone()
    };
    assert_eq!(
        next_step(&packing(), &resolved, later),
        ReconcileStep::Verify(bundle)
    );
    let never = validated(serde_json::json!({
        "interval": "0s",
        "source": {"inline": "x"},
        "destination": {"repository": "r.example.com/a/b"},
    }));
    assert_eq!(
        next_step(&never, &observed, later),
        ReconcileStep::Idle(None)
    );
}

#[test]
fn the_older_of_two_rivals_wins() {
    for (duplicate, told) in [
        (
            DuplicateDestination::SameNamespace {
                name: "siem".into(),
            },
            "PackedBundle siem is older",
        ),
        (
            DuplicateDestination::OtherNamespace,
            "of another namespace has pushed",
        ),
    ] {
        let step = next(&ObservedRunState {
            duplicate_destination: Some(duplicate),
            ..seen()
        });
        assert!(
            matches!(&step, ReconcileStep::Fail(JobFailure { reason: Reason::TagConflict, message }, Some(_)) if message.contains(told)),
            "{step:?}"
        );
    }
}

#[test]
fn nobody_signs_only_where_that_is_allowed() {
    let unsigned = validated(serde_json::json!({
        "signing": {"mode": "None"},
        "source": {"inline": "x"},
        "destination": {"repository": "r.example.com/a/b"},
    }));
    let step = next_step(&unsigned, &seen(), time(NOW));
    assert!(
        matches!(
            step,
            ReconcileStep::Fail(
                JobFailure {
                    reason: Reason::InvalidSpec,
                    ..
                },
                None
            )
        ),
        "{step:?}"
    );
    assert_eq!(
        next_step(
            &unsigned,
            &ObservedRunState {
                allow_unsigned: true,
                ..seen()
            },
            time(NOW)
        ),
        ReconcileStep::Pack(frozen())
    );
    let PackedBundleWork::Pack(packing) = unsigned.work else {
        panic!("no packing")
    };
    assert_eq!(bundle_tag(&packing, &frozen().lock), None);
}

#[test]
fn suspended_objects_are_left_alone() {
    let suspended = ValidatedPackedBundle {
        suspend: true,
        ..packing()
    };
    assert_eq!(
        next_step(
            &suspended,
            &ObservedRunState {
                frozen: None,
                ..seen()
            },
            time(NOW)
        ),
        ReconcileStep::Suspend
    );
}

#[test]
fn an_adopted_bundle_is_only_verified() {
    let digest = Digest::of_bytes(b"bundle");
    let adopting = validated(serde_json::json!({
        "source": {"bundle": {"reference": format!("r.example.com/a/b@{digest}")}},
    }));
    let observed = ObservedRunState {
        frozen: None,
        resolved_at: None,
        ..seen()
    };
    assert_eq!(
        next_step(&adopting, &observed, time(NOW)),
        ReconcileStep::Verify(digest)
    );
    let verified = ObservedRunState {
        verified_at: Some(time(NOW)),
        ..observed
    };
    assert_eq!(
        next_step(&adopting, &verified, time(NOW)),
        ReconcileStep::Idle(Some(Duration::from_hours(1)))
    );
}

#[test]
fn without_a_tag_the_lock_gives_one() {
    let PackedBundleWork::Pack(packing) = packing().work else {
        panic!("no packing")
    };
    let lock = Digest::of_bytes(b"lock");
    assert_eq!(
        bundle_tag(&packing, &lock).expect("a tag").as_str(),
        format!("lock-{}", &lock.hex_digits()[..12])
    );
}

#[test]
fn a_missing_source_is_looked_for_soon() {
    assert_eq!(
        recheck_delay(Reason::SourceNotFound, 0),
        Some(Duration::from_secs(2))
    );
    assert_eq!(
        recheck_delay(Reason::SourceNotFound, 9),
        Some(Duration::from_secs(30))
    );
    assert_eq!(recheck_delay(Reason::InvalidLock, 0), None);
}
