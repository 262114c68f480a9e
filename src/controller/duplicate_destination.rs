//! Duplicate destinations: which other object blocks one, as a pure function of stored objects.
//!
//! Namespaces do not trust each other. A tenant's object alone blocks no other namespace: only one
//! that has pushed to the tag does, which needs the registry's permission. The first push is
//! decided by the check at the registry (`TagConflict` of the sign Job).

use jiff::Timestamp;
use kube::ResourceExt;

use super::packing_run::{bundle_tag, recorded_bundle_digest};
use crate::{
    api::packed_bundle::{PackedBundle, PackedBundleWork, PackingRequest, ValidatedPackedBundle},
    core::{digest::Digest, job::JobRunKey, reference::ImageTag},
};

/// The object that has the same destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DuplicateDestination {
    /// An older object of the same namespace.
    SameNamespace {
        /// The name of the other object.
        name: String,
    },
    /// An older object of another namespace, which has pushed to the tag. Its name is not
    /// disclosed.
    OtherNamespace,
}

/// The older object with the same destination as `object`, whose lock is `lock`.
pub(super) fn find_duplicate_destination<'a>(
    object: &PackedBundle,
    packing: &PackingRequest,
    lock: &Digest,
    others: impl IntoIterator<Item = &'a PackedBundle>,
) -> Option<DuplicateDestination> {
    let wanted = bundle_tag(packing, lock)?;
    let age = |object: &PackedBundle| (creation_time(object), object.uid());
    let mut elsewhere = false;
    for other in others {
        let is_older = other.uid() != object.uid()
            && age(other) < age(object)
            && other.metadata.deletion_timestamp.is_none();
        if !is_older || !has_same_destination(other, packing, &wanted) {
            continue;
        }
        if other.namespace() == object.namespace() {
            return Some(DuplicateDestination::SameNamespace {
                name: other.name_any(),
            });
        }
        elsewhere = elsewhere || has_pushed(other);
    }
    elsewhere.then_some(DuplicateDestination::OtherNamespace)
}

fn creation_time(object: &PackedBundle) -> Timestamp {
    object
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// True if its destination is this repository and tag.
fn has_same_destination(other: &PackedBundle, packing: &PackingRequest, wanted: &ImageTag) -> bool {
    let Ok(ValidatedPackedBundle {
        work: PackedBundleWork::Pack(theirs),
        ..
    }) = ValidatedPackedBundle::try_from(other)
    else {
        return false;
    };
    let tag =
        frozen_lock(other).map_or_else(|| theirs.tag.clone(), |lock| bundle_tag(&theirs, &lock));
    theirs.repository == packing.repository && tag.as_ref() == Some(wanted)
}

/// True if a run of its current spec has succeeded: its sign Job has set the tag, and the bundle
/// was read back and verified. Only the controller writes the status, no tenant.
fn has_pushed(other: &PackedBundle) -> bool {
    let (Some(status), Some(lock)) = (&other.status, frozen_lock(other)) else {
        return false;
    };
    let run = JobRunKey::new(
        &other.uid().unwrap_or_default(),
        other.metadata.generation.unwrap_or_default(),
        &lock,
    );
    recorded_bundle_digest(status, &run).is_some()
}

fn frozen_lock(object: &PackedBundle) -> Option<Digest> {
    object.status.as_ref()?.lock.as_ref()?.digest.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TAG: &str = "v1";

    /// An object, `age` seconds old, with the result of its only run in `run`.
    fn object(namespace: &str, name: &str, age: i64, run: Option<&str>) -> PackedBundle {
        let lock = Digest::of_bytes(name.as_bytes());
        let uid = format!("{namespace}-{name}");
        let history = run.map(|reason| {
            json!({"run": JobRunKey::new(&uid, 1, &lock).as_str(), "lockDigest": lock,
                "digest": Digest::of_bytes(b"bundle"), "reason": reason,
                "started": "2026-11-21T12:00:00Z", "finished": "2026-11-21T12:00:00Z"})
        });
        let created = Timestamp::from_second(1_790_000_000 - age).expect("a time");
        serde_json::from_value(json!({
            "apiVersion": "packgate.dev/v1alpha1",
            "kind": "PackedBundle",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": uid,
                "generation": 1,
                "creationTimestamp": created,
            },
            "spec": {
                "source": {"inline": "x"},
                "destination": {"repository": "r.example.com/shared/app", "tag": TAG},
            },
            "status": {
                "lock": {"digest": lock, "artifacts": 1},
                "history": history.into_iter().collect::<Vec<_>>(),
            },
        }))
        .expect("an object")
    }

    fn rival_of(object: &PackedBundle, others: &[PackedBundle]) -> Option<DuplicateDestination> {
        let PackedBundleWork::Pack(packing) =
            ValidatedPackedBundle::try_from(object).expect("valid").work
        else {
            panic!("no packing")
        };
        find_duplicate_destination(
            object,
            &packing,
            &frozen_lock(object).expect("a lock"),
            others,
        )
    }

    #[test]
    fn what_never_pushed_blocks_nobody_in_another_namespace() {
        let product = object("team-b", "product", 0, None);
        let mut suspended = object("team-a", "squat", 100, None);
        suspended.spec.suspend = true;
        let mut unfrozen = object("team-a", "new", 100, None);
        unfrozen.status = None;
        let mut edited = object("team-a", "edited", 100, Some("Succeeded"));
        edited.metadata.generation = Some(2); // the success was of another generation
        let failed = object("team-a", "failed", 100, Some("RegistryDenied"));
        for squatter in [
            suspended,
            unfrozen,
            edited,
            failed,
            object("team-a", "waiting", 100, None),
        ] {
            assert_eq!(
                rival_of(&product, std::slice::from_ref(&squatter)),
                None,
                "{squatter:?}"
            );
        }
    }

    #[test]
    fn who_has_pushed_there_before_has_the_place_and_is_not_named() {
        let product = object("team-b", "product", 0, None);
        let older = object("team-a", "app", 100, Some("Succeeded"));
        assert_eq!(
            rival_of(&product, std::slice::from_ref(&older)),
            Some(DuplicateDestination::OtherNamespace)
        );
        assert_eq!(rival_of(&older, &[product]), None, "the older one goes on");
        let mut other_tag = older.clone();
        other_tag
            .spec
            .destination
            .as_mut()
            .expect("a destination")
            .tag = Some("v2".into());
        let mut leaving = older;
        leaving.metadata.deletion_timestamp = leaving.metadata.creation_timestamp.clone();
        assert_eq!(
            rival_of(&object("team-b", "product", 0, None), &[other_tag, leaving]),
            None
        );
    }

    #[test]
    fn in_one_namespace_the_older_of_two_has_the_place() {
        let younger = object("team-a", "siem", 0, Some("Succeeded"));
        let older = object("team-a", "app", 100, None);
        let foreign = object("team-b", "app", 200, Some("Succeeded"));
        assert_eq!(
            rival_of(&younger, &[foreign, older.clone()]),
            Some(DuplicateDestination::SameNamespace { name: "app".into() })
        );
        assert_eq!(rival_of(&older, &[younger]), None);
    }
}
