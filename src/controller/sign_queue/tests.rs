use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};

use super::*;

const LIMITS: SignJobsConfig = SignJobsConfig {
    max_concurrent: 3,
    max_concurrent_per_namespace: 2,
    timeout_seconds: 3_600,
    resources: None,
};

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).expect("a time")
}

fn job(namespace: &str, uid: &str, over: Option<&str>) -> Job {
    let mut job = Job::default();
    job.metadata.labels = Some(
        [
            (BUNDLE_NAMESPACE.to_owned(), namespace.to_owned()),
            (BUNDLE_UID.to_owned(), uid.to_owned()),
        ]
        .into(),
    );
    let condition = |type_: &str| JobCondition {
        type_: type_.to_owned(),
        status: "True".to_owned(),
        ..JobCondition::default()
    };
    job.status = over.map(|type_| JobStatus {
        conditions: Some(vec![condition(type_)]),
        ..JobStatus::default()
    });
    job
}

fn waiting(namespace: &str, since: i64) -> SignQueueEntry {
    SignQueueEntry {
        namespace: namespace.to_owned(),
        since: time(since),
        asked: time(1_000),
    }
}

#[test]
fn a_namespace_that_floods_waits_for_itself_and_nobody_for_it() {
    let queue = SignQueue::default();
    let own = [job("flood", "1", None), job("flood", "2", None)];
    // It was first, a hundred times.
    for n in 0..100 {
        let wait = queue
            .request_slot(
                &format!("flood-{n}"),
                &waiting("flood", n),
                &own,
                &StartingSignJobs::new(),
                &LIMITS,
            )
            .expect("it waits");
        assert!(
            wait.why.contains("maxConcurrentPerNamespace") && wait.why.contains("namespace flood"),
            "{wait:?}"
        );
    }
    assert_eq!(
        queue.request_slot(
            "honest",
            &waiting("honest", 500),
            &own,
            &StartingSignJobs::new(),
            &LIMITS
        ),
        None
    );
}

#[test]
fn whoever_has_fewest_goes_first_and_then_who_waits_longest() {
    let queue = SignQueue::default();
    let full = [
        job("a", "1", None),
        job("a", "2", None),
        job("b", "3", None),
    ];
    for (uid, namespace, since) in [("b-old", "b", 1), ("c-young", "c", 9), ("c-old", "c", 5)] {
        let wait = queue
            .request_slot(
                uid,
                &waiting(namespace, since),
                &full,
                &StartingSignJobs::new(),
                &LIMITS,
            )
            .expect("no place is free");
        assert!(
            wait.why.contains("jobs.sign.maxConcurrent)") && !wait.why.contains("namespace"),
            "{wait:?}"
        );
    }
    let one_free = &full[1..];
    assert!(
        queue
            .request_slot(
                "b-old",
                &waiting("b", 1),
                one_free,
                &StartingSignJobs::new(),
                &LIMITS
            )
            .is_some(),
        "its namespace has one already"
    );
    assert!(
        queue
            .request_slot(
                "c-young",
                &waiting("c", 9),
                one_free,
                &StartingSignJobs::new(),
                &LIMITS
            )
            .is_some()
    );
    assert_eq!(
        queue.request_slot(
            "c-old",
            &waiting("c", 5),
            one_free,
            &StartingSignJobs::new(),
            &LIMITS
        ),
        None
    );
}

#[test]
fn what_is_over_and_what_is_forgotten_takes_no_place() {
    let queue = SignQueue::default();
    let jobs = [
        job("a", "1", Some("Complete")),
        job("a", "2", Some("Failed")),
        job("b", "3", None),
        job("b", "own", None),
    ];
    assert_eq!(
        queue.request_slot(
            "own",
            &waiting("b", 1),
            &jobs,
            &StartingSignJobs::new(),
            &LIMITS
        ),
        None,
        "its own Job does not count against it"
    );
    let full = [
        job("a", "1", None),
        job("b", "2", None),
        job("c", "3", None),
    ];
    assert!(
        queue
            .request_slot(
                "gone",
                &waiting("d", 1),
                &full,
                &StartingSignJobs::new(),
                &LIMITS
            )
            .is_some()
    );
    let later = SignQueueEntry {
        asked: time(1_200),
        ..waiting("d", 900)
    };
    assert_eq!(
        queue.request_slot(
            "there",
            &later,
            &full[..2],
            &StartingSignJobs::new(),
            &LIMITS
        ),
        None,
        "who asked no more is not waited for"
    );
}

#[test]
fn a_new_process_counts_what_runs() {
    let full = [
        job("a", "1", None),
        job("b", "2", None),
        job("c", "3", None),
    ];
    assert!(
        SignQueue::default()
            .request_slot(
                "next",
                &waiting("d", 1),
                &full,
                &StartingSignJobs::new(),
                &LIMITS
            )
            .is_some()
    );
    let wait = SignQueue::default()
        .request_slot(
            "next",
            &waiting("d", 1),
            &full,
            &StartingSignJobs::new(),
            &LIMITS,
        )
        .expect("it waits");
    assert!(wait.again >= FIRST_RETRY_DELAY && wait.again <= MAX_RETRY_DELAY);
}

#[test]
fn who_makes_a_job_has_a_place_until_it_is_there() {
    let queue = SignQueue::default();
    let (one, two) = (
        queue.take_slot("one".into(), "a".into()),
        queue.take_slot("two".into(), "a".into()),
    );
    let starting = queue.starting_jobs();
    assert!(
        queue
            .request_slot("three", &waiting("a", 1), &[], &starting, &LIMITS)
            .is_some(),
        "both places of its namespace are taken"
    );
    assert_eq!(
        queue.request_slot("other", &waiting("b", 1), &[], &starting, &LIMITS),
        None,
        "nobody else's"
    );
    assert_eq!(
        queue.request_slot("one", &waiting("a", 1), &[], &starting, &LIMITS),
        None,
        "its own place is not in its way"
    );
    let made = [job("a", "one", None)];
    assert!(
        queue
            .request_slot("three", &waiting("a", 1), &made, &starting, &LIMITS)
            .is_some(),
        "a Job and its making are one"
    );
    drop((one, two));
    assert_eq!(queue.starting_jobs(), StartingSignJobs::new());
    assert_eq!(
        queue.request_slot(
            "three",
            &waiting("a", 1),
            &made,
            &queue.starting_jobs(),
            &LIMITS
        ),
        None
    );
}

#[test]
fn who_waits_behind_its_own_namespace_is_told_so() {
    let queue = SignQueue::default();
    let one = [job("a", "1", None)];
    assert_eq!(
        queue.request_slot(
            "first",
            &waiting("a", 1),
            &[],
            &StartingSignJobs::new(),
            &LIMITS
        ),
        None
    );
    let full = [
        job("a", "1", None),
        job("b", "2", None),
        job("c", "3", None),
    ];
    assert!(
        queue
            .request_slot(
                "old",
                &waiting("a", 2),
                &full,
                &StartingSignJobs::new(),
                &LIMITS
            )
            .is_some()
    );
    let wait = queue
        .request_slot(
            "young",
            &waiting("a", 9),
            &one,
            &StartingSignJobs::new(),
            &LIMITS,
        )
        .expect("it waits");
    assert!(
        wait.why.contains("1 sign Jobs of it run and 1 are next"),
        "two places are free, and one is its namespace's: {wait:?}"
    );
}
