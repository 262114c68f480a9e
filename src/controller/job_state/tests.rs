use serde_json::{Value, json};

use super::*;
use crate::core::digest::Digest;

fn job(conditions: &Value) -> Job {
    serde_json::from_value(
        json!({"metadata": {"name": "j", "uid": "u"}, "status": {"conditions": conditions}}),
    )
    .expect("a Job")
}

fn running() -> Job {
    job(&json!([]))
}

fn over(type_: &str, reason: &str) -> Job {
    job(&json!([
        {
            "type": type_,
            "status": "True",
            "reason": reason,
            "message": "m",
            "lastTransitionTime": "2026-11-21T12:00:00Z",
        },
    ]))
}

fn pod(owner: &str, exit: i32, message: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": "p",
            "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": owner},
            ],
        },
        "status": {"containerStatuses": [{"name": "packgate", "image": "", "imageID": "",
            "ready": false, "restartCount": 0,
            "state": {
                "terminated": {
                    "exitCode": exit,
                    "message": message,
                    "reason": "Error",
                    "finishedAt": "2026-11-21T12:00:00Z",
                },
            }}]}
    }))
    .expect("a Pod")
}

fn packed(content: &[u8]) -> String {
    let success = JobSuccess {
        lock_digest: Digest::of_bytes(b"lock"),
        digest: Digest::of_bytes(content),
        size: 1,
        layers: 2,
        artifacts: 1,
        evidence: Vec::new(),
    };
    JobReport {
        step: JobStep::Pack,
        result: Ok(success),
    }
    .to_termination_message()
    .expect("written")
}

fn failed(reason: Reason) -> String {
    JobReport {
        step: JobStep::Pack,
        result: Err(JobFailure::new(reason, "why")),
    }
    .to_termination_message()
    .expect("written")
}

fn reason_of(state: &JobState) -> Reason {
    match state {
        JobState::Failed { failure, .. } => failure.reason,
        other => panic!("{other:?} is no failure"),
    }
}

#[test]
fn a_pod_that_ended_well_is_believed_before_the_job_is_complete() {
    let state = job_state(
        Some(&running()),
        &[pod("u", 0, &packed(b"a"))],
        None,
        JobStep::Pack,
    );
    assert!(
        matches!(state, JobState::Succeeded { report, .. } if report.digest == Digest::of_bytes(b"a"))
    );
}

#[test]
fn pods_of_others_and_reports_of_failed_pods_do_not_count() {
    for pods in [
        vec![],
        vec![pod("other", 0, &packed(b"a"))],
        vec![pod("u", 1, &packed(b"a"))],
        vec![pod("u", 0, "hello")],
    ] {
        assert_eq!(
            job_state(Some(&running()), &pods, None, JobStep::Pack),
            JobState::Running { problem: None }
        );
    }
    let signed = job_state(
        Some(&running()),
        &[pod("u", 0, &packed(b"a"))],
        None,
        JobStep::Sign,
    );
    assert_eq!(
        signed,
        JobState::Running { problem: None },
        "a pack report says nothing about signing"
    );
    assert_eq!(
        job_state(None, &[pod("u", 0, &packed(b"a"))], None, JobStep::Pack),
        JobState::Absent
    );
}

#[test]
fn two_reports_that_differ_are_a_mismatch() {
    let state = job_state(
        Some(&running()),
        &[pod("u", 0, &packed(b"a")), pod("u", 0, &packed(b"b"))],
        None,
        JobStep::Pack,
    );
    assert_eq!(reason_of(&state), Reason::LockMismatch);
    let same = job_state(
        Some(&running()),
        &[pod("u", 0, &packed(b"a")), pod("u", 0, &packed(b"a"))],
        None,
        JobStep::Pack,
    );
    assert!(matches!(same, JobState::Succeeded { .. }));
}

#[test]
fn a_failed_job_says_why() {
    for (job, pods, reason) in [
        (
            Box::new(over("Failed", "PodFailurePolicy")),
            vec![pod("u", 4, &failed(Reason::ChecksumMismatch))],
            Reason::ChecksumMismatch,
        ),
        (
            Box::new(over("FailureTarget", "PodFailurePolicy")),
            vec![pod("u", 2, &failed(Reason::InvalidLock))],
            Reason::InvalidLock,
        ),
        (
            Box::new(over("Failed", "BackoffLimitExceeded")),
            vec![pod("u", 3, &failed(Reason::FetchFailed))],
            Reason::FetchFailed,
        ),
        (
            Box::new(over("Failed", "BackoffLimitExceeded")),
            vec![pod("u", 137, "")],
            Reason::JobFailed,
        ),
        (
            Box::new(over("Failed", "BackoffLimitExceeded")),
            vec![],
            Reason::JobFailed,
        ),
        (
            Box::new(over("Failed", "DeadlineExceeded")),
            vec![],
            Reason::DeadlineExceeded,
        ),
        (
            Box::new(over("Complete", "CompletionsReached")),
            vec![],
            Reason::JobFailed,
        ),
    ] {
        assert_eq!(
            reason_of(&job_state(Some(&job), &pods, None, JobStep::Pack)),
            reason
        );
    }
    let retried = job_state(
        Some(&running()),
        &[pod("u", 3, &failed(Reason::FetchFailed))],
        None,
        JobStep::Pack,
    );
    assert_eq!(
        retried,
        JobState::Running { problem: None },
        "the Job tries again by itself"
    );
}

#[test]
fn what_keeps_a_pod_from_starting_is_told() {
    let waiting = |status: Value| -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "p",
                "ownerReferences": [
                    {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u"},
                ],
            }, "status": status
        }))
        .expect("a Pod")
    };
    let image = waiting(
        json!({"containerStatuses": [{"name": "packgate", "image": "", "imageID": "",
            "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}]}),
    );
    let node = waiting(
        json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes \
            are available"}]}),
    );
    for (pod, text) in [
        (image, "ErrImagePull no such image"),
        (node, "0/1 nodes are available"),
    ] {
        let state = job_state(Some(&running()), &[pod], None, JobStep::Pack);
        assert!(
            matches!(&state, JobState::Running { problem: Some(problem) } if problem.contains(text)),
            "{state:?}"
        );
    }
    assert_eq!(
        job_state(
            Some(&running()),
            &[],
            Some("violates PodSecurity"),
            JobStep::Pack
        ),
        JobState::PodDenied {
            why: "violates PodSecurity".into()
        }
    );
}
