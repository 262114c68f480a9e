//! The cost of a lock that is packed for many platforms.

use super::{
    golden_tests::{test_artifact, test_lock},
    *,
};
use crate::core::reason::{ClassifiedError, Reason};

/// Artifacts for every platform, and one for each of this many platforms.
fn lock_for_platforms(shared: usize, platforms: usize) -> Lockfile {
    let own = (0..platforms).map(|i| test_artifact(shared + i, &[&format!("linux/a{i}")]));
    test_lock(
        (0..shared)
            .map(|i| test_artifact(i, &[]))
            .chain(own)
            .collect(),
        None,
    )
}

#[test]
fn platforms_share_their_files() {
    let plan =
        PackPlan::new(&lock_for_platforms(1_000, 64), PackOptions::default()).expect("a plan");
    assert_eq!(
        (plan.files.len(), plan.choices.len()),
        (1_064, 64),
        "a file is kept once"
    );
    let files = |number| -> Vec<Arc<PackedFile>> {
        plan.manifest_plan_at(number)
            .expect("planned")
            .layers
            .into_iter()
            .flat_map(|layer| layer.files)
            .collect()
    };
    let (first, last) = (files(0), files(63));
    assert_eq!((first.len(), last.len()), (1_001, 1_001));
    assert!(
        first
            .iter()
            .zip(&last)
            .take(1_000)
            .all(|(one, other)| Arc::ptr_eq(one, other)),
        "in every manifest it is the same"
    );
    assert_ne!(first[1_000], last[1_000]);
    drop((first, last));
    assert!(
        plan.files
            .iter()
            .all(|planned| Arc::strong_count(&planned.file) == 1),
        "no manifest stays"
    );
    let only = plan
        .clone()
        .with_only_platform(&"linux/a7".parse().expect("a platform"));
    let names: Vec<String> = only
        .platforms()
        .flatten()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        (
            names,
            only.manifest_plan_at(0).map(|manifest| manifest.platform)
        ),
        (
            vec!["linux/a7".to_owned()],
            Some(plan.manifest_plan_at(61).expect("planned").platform)
        )
    );
}

#[test]
fn what_would_be_packed_too_often_is_refused() {
    let told = |lock: &Lockfile| {
        PackPlan::new(lock, PackOptions::default())
            .err()
            .map(|error| (error.reason(), error.to_string()))
    };
    let refused = |shared, platforms| told(&lock_for_platforms(shared, platforms));
    assert_eq!(refused(1, 64), None);
    let mut lock = lock_for_platforms(1, 64); // the parser refuses one more already
    lock.artifacts.push(test_artifact(99, &["linux/b"]));
    let (reason, message) = told(&lock).expect("more platforms than an index may have");
    assert_eq!(
        (
            reason,
            message.contains("65 platforms, the limit is 64; split it into several bundles")
        ),
        (Reason::LimitExceeded, true),
        "{message}"
    );
    // 1,561 for each of 64, and one more for each: 99,968.
    assert_eq!(refused(1_561, 64), None);
    let (reason, message) = refused(1_562, 64).expect("100,032 files");
    assert_eq!(
        (
            reason,
            message.contains("100032 artifacts") && message.contains("the limit is 100000")
        ),
        (Reason::LimitExceeded, true),
        "{message}"
    );
}
