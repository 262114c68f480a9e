use super::*;
use crate::api::packed_bundle::PackedBundleSpec;

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

fn frozen() -> Frozen {
    let lock = Digest::of(b"lock");
    Frozen {
        run: RunKey::new("u", 1, &lock),
        lock,
        at: time(NOW),
    }
}

/// A run that was frozen and has no Jobs yet.
fn seen() -> Observed {
    Observed {
        requested: false,
        frozen: Some(frozen()),
        pack: JobState::Absent,
        sign: JobState::Absent,
        finished: None,
        failures: 0,
        rival: None,
        resolved_at: Some(time(NOW)),
        verified_at: None,
        refused: None,
        allow_unsigned: false,
    }
}

fn success(lock: Digest) -> JobState {
    let report = Success {
        lock_digest: lock,
        digest: Digest::of(b"bundle"),
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
        failure: Failure::new(reason, "why"),
        at: time(NOW),
    }
}

fn next(seen: &Observed) -> Step {
    super::next(&packing(), seen, time(NOW))
}

#[test]
fn a_run_goes_from_lock_to_rest() {
    let bundle = Digest::of(b"bundle");
    let running = || JobState::Running { trouble: None };
    for (observed, step) in [
        (
            Observed {
                frozen: None,
                ..seen()
            },
            Step::Resolve,
        ),
        (seen(), Step::Pack(frozen())),
        (
            Observed {
                pack: running(),
                ..seen()
            },
            Step::Wait(Phase::Packing, None),
        ),
        (
            Observed {
                pack: success(frozen().lock),
                ..seen()
            },
            Step::Sign(frozen(), bundle),
        ),
        (
            Observed {
                pack: success(frozen().lock),
                sign: running(),
                ..seen()
            },
            Step::Wait(Phase::Signing, None),
        ),
        (
            Observed {
                pack: success(frozen().lock),
                sign: success(frozen().lock),
                ..seen()
            },
            Step::Verify(bundle),
        ),
        // Whatever became of the pack Job after the sign Job began, it is not started again.
        (
            Observed {
                sign: running(),
                ..seen()
            },
            Step::Wait(Phase::Signing, None),
        ),
        (
            Observed {
                sign: success(frozen().lock),
                ..seen()
            },
            Step::Verify(bundle),
        ),
        (
            Observed {
                finished: Some(bundle),
                ..seen()
            },
            Step::Verify(bundle),
        ),
        (
            Observed {
                finished: Some(bundle),
                verified_at: Some(time(NOW)),
                ..seen()
            },
            Step::Rest(Some(Duration::from_hours(1))),
        ),
        (
            Observed {
                sign: success(frozen().lock),
                verified_at: Some(time(NOW)),
                refused: Some(Failure::new(Reason::NoProvenance, "why")),
                ..seen()
            },
            Step::Fail(
                Failure::new(Reason::NoProvenance, "why"),
                Some(Duration::from_hours(1)),
            ),
        ),
    ] {
        assert_eq!(next(&observed), step, "{observed:?}");
    }
}

#[test]
fn a_report_about_another_lock_is_refused() {
    let step = next(&Observed {
        pack: success(Digest::of(b"other")),
        ..seen()
    });
    assert!(
        matches!(
            step,
            Step::Fail(
                Failure {
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
            Observed {
                pack: failure(reason),
                ..seen()
            },
            Observed {
                sign: failure(reason),
                ..seen()
            },
        ] {
            assert_eq!(
                next(&observed),
                Step::Fail(Failure::new(reason, "why"), None)
            );
        }
    }
}

#[test]
fn a_dependency_that_did_not_answer_is_asked_again_later_and_later() {
    let at = |seconds: i64, failures| {
        let observed = Observed {
            pack: failure(Reason::FetchFailed),
            failures,
            ..seen()
        };
        super::next(
            &packing(),
            &observed,
            time(NOW) + SignedDuration::from_secs(seconds),
        )
    };
    let failed = |seconds| {
        Step::Fail(
            Failure::new(Reason::FetchFailed, "why"),
            Some(Duration::from_secs(seconds)),
        )
    };
    assert_eq!(at(0, 1), failed(15));
    assert_eq!(at(10, 1), failed(5));
    assert_eq!(at(15, 1), Step::Restart(frozen()));
    assert_eq!(at(15, 2), failed(15));
    assert_eq!(at(30, 2), Step::Restart(frozen()));
    assert_eq!(at(899, 40), failed(1));
}

#[test]
fn a_requested_reconcile_resolves_anew_but_not_in_the_middle_of_a_run() {
    let bundle = Some(Digest::of(b"bundle"));
    for observed in [
        seen(),
        Observed {
            finished: bundle,
            ..seen()
        },
        Observed {
            pack: failure(Reason::InvalidLock),
            ..seen()
        },
    ] {
        assert_eq!(
            next(&Observed {
                requested: true,
                ..observed
            }),
            Step::Resolve
        );
    }
    let middle = Observed {
        requested: true,
        pack: JobState::Running { trouble: None },
        ..seen()
    };
    assert_eq!(next(&middle), Step::Wait(Phase::Packing, None));
}

#[test]
fn after_the_interval_source_and_bundle_are_looked_at_again() {
    let bundle = Digest::of(b"bundle");
    let observed = Observed {
        finished: Some(bundle),
        verified_at: Some(time(NOW)),
        ..seen()
    };
    let later = time(NOW) + SignedDuration::from_hours(1);
    assert_eq!(super::next(&packing(), &observed, later), Step::Resolve);
    let resolved = Observed {
        resolved_at: Some(later),
        ..observed.clone()
    };
    assert_eq!(
        super::next(&packing(), &resolved, later),
        Step::Verify(bundle)
    );
    let never = validated(serde_json::json!({
        "interval": "0s",
        "source": {"inline": "x"},
        "destination": {"repository": "r.example.com/a/b"},
    }));
    assert_eq!(super::next(&never, &observed, later), Step::Rest(None));
}

#[test]
fn the_older_of_two_rivals_wins() {
    for (rival, told) in [
        (
            Rival::Here {
                name: "siem".into(),
            },
            "PackedBundle siem is older",
        ),
        (Rival::Elsewhere, "of another namespace has pushed"),
    ] {
        let step = next(&Observed {
            rival: Some(rival),
            ..seen()
        });
        assert!(
            matches!(&step, Step::Fail(Failure { reason: Reason::TagConflict, message }, Some(_)) if message.contains(told)),
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
    let step = super::next(&unsigned, &seen(), time(NOW));
    assert!(
        matches!(
            step,
            Step::Fail(
                Failure {
                    reason: Reason::InvalidSpec,
                    ..
                },
                None
            )
        ),
        "{step:?}"
    );
    assert_eq!(
        super::next(
            &unsigned,
            &Observed {
                allow_unsigned: true,
                ..seen()
            },
            time(NOW)
        ),
        Step::Pack(frozen())
    );
    let Work::Pack(packing) = unsigned.work else {
        panic!("no packing")
    };
    assert_eq!(tag(&packing, &frozen().lock), None);
}

#[test]
fn suspended_objects_are_left_alone() {
    let suspended = ValidatedPackedBundle {
        suspend: true,
        ..packing()
    };
    assert_eq!(
        super::next(
            &suspended,
            &Observed {
                frozen: None,
                ..seen()
            },
            time(NOW)
        ),
        Step::Suspend
    );
}

#[test]
fn an_adopted_bundle_is_only_verified() {
    let digest = Digest::of(b"bundle");
    let adopting = validated(serde_json::json!({
        "source": {"bundle": {"reference": format!("r.example.com/a/b@{digest}")}},
    }));
    let observed = Observed {
        frozen: None,
        resolved_at: None,
        ..seen()
    };
    assert_eq!(
        super::next(&adopting, &observed, time(NOW)),
        Step::Verify(digest)
    );
    let verified = Observed {
        verified_at: Some(time(NOW)),
        ..observed
    };
    assert_eq!(
        super::next(&adopting, &verified, time(NOW)),
        Step::Rest(Some(Duration::from_hours(1)))
    );
}

#[test]
fn without_a_tag_the_lock_gives_one() {
    let Work::Pack(packing) = packing().work else {
        panic!("no packing")
    };
    let lock = Digest::of(b"lock");
    assert_eq!(
        tag(&packing, &lock).expect("a tag").as_str(),
        format!("lock-{}", &lock.hex()[..12])
    );
}

#[test]
fn a_missing_source_is_looked_for_soon() {
    assert_eq!(
        look_again(Reason::SourceNotFound, 0),
        Some(Duration::from_secs(2))
    );
    assert_eq!(
        look_again(Reason::SourceNotFound, 9),
        Some(Duration::from_secs(30))
    );
    assert_eq!(look_again(Reason::InvalidLock, 0), None);
}
