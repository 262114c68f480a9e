//! A `PackedBundle` in the controller's cache: without fields that may be large. Code that acts on
//! one reads it anew.

use std::borrow::Cow;

use kube::{Resource, api::ObjectMeta};
use serde::{Deserialize, Deserializer};

use crate::api::packed_bundle::{PackedBundle, PackedBundleStatus};

/// Replaces an inline lock in the cache, so that the object is still known to have one.
const INLINE_LOCK_PLACEHOLDER: &str = "";

/// A `PackedBundle` with its names, its status and its destination.
///
/// Otherwise seventy objects with the largest lock, or with as many annotations, would fill the
/// memory of every leader until they are deleted.
#[derive(Clone, Debug)]
pub struct CachedBundle(pub PackedBundle);

impl<'de> Deserialize<'de> for CachedBundle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PackedBundle::deserialize(deserializer).map(Self::from_bundle)
    }
}

impl CachedBundle {
    /// The cached form of `object`.
    pub(super) fn from_bundle(mut object: PackedBundle) -> Self {
        strip_large_fields(&mut object);
        let ObjectMeta {
            name,
            namespace,
            uid,
            generation,
            creation_timestamp,
            deletion_timestamp,
            resource_version,
            ..
        } = object.metadata;
        object.metadata = ObjectMeta {
            name,
            namespace,
            uid,
            generation,
            creation_timestamp,
            deletion_timestamp,
            resource_version,
            ..ObjectMeta::default()
        };
        (object.spec.output, object.spec.fetch, object.spec.pack_pod) = (None, None, None);
        Self(object)
    }
}

/// Drops the lock, and fields that only the API server needs.
pub(super) fn strip_large_fields(object: &mut PackedBundle) {
    if let Some(text) = &mut object.spec.source.inline {
        INLINE_LOCK_PLACEHOLDER.clone_into(text);
    }
    object.metadata.managed_fields = None;
}

/// The status of a `PackedBundle` in the API server. The rest of the response, possibly a megabyte,
/// is skipped while it is parsed.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct StoredStatus {
    /// Absent until the first status is written.
    #[serde(default)]
    pub status: Option<PackedBundleStatus>,
    #[serde(skip)]
    metadata: ObjectMeta,
}

/// Each type is a `PackedBundle` of the API server.
macro_rules! packed_bundle_resource {
    ($type:ty, $($metadata:tt)+) => {
        impl Resource for $type {
            type DynamicType = ();
            type Scope = <PackedBundle as Resource>::Scope;

            fn kind((): &()) -> Cow<'_, str> {
                PackedBundle::kind(&())
            }

            fn group((): &()) -> Cow<'_, str> {
                PackedBundle::group(&())
            }

            fn version((): &()) -> Cow<'_, str> {
                PackedBundle::version(&())
            }

            fn plural((): &()) -> Cow<'_, str> {
                PackedBundle::plural(&())
            }

            fn meta(&self) -> &ObjectMeta {
                &self.$($metadata)+
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.$($metadata)+
            }
        }
    };
}

packed_bundle_resource!(CachedBundle, 0.metadata);
packed_bundle_resource!(StoredStatus, metadata);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::packed_bundle::{LockSource, PackedBundleWork, ValidatedPackedBundle};

    #[test]
    fn an_inline_lock_is_not_kept() {
        let lock = "x".repeat(1 << 20);
        let fields = json!([{"manager": "m", "fieldsV1": {"f:spec": {"f:source": {}}}}]);
        let object = json!({
            "apiVersion": "packgate.dev/v1alpha1", "kind": "PackedBundle",
            "metadata": {
                "name": "a",
                "namespace": "b",
                "uid": "u",
                "managedFields": fields,
                "annotations": {"packgate.dev/x": lock},
                "labels": {"a": lock},
            },
            "spec": {
                "suspend": true,
                "source": {"inline": lock},
                "destination": {"repository": "r.example.com/a"},
                "output": {"annotations": {"x": lock}},
            },
        });
        let CachedBundle(kept) = serde_json::from_value(object).expect("an object");
        assert_eq!(
            (
                kept.spec.source.inline.as_deref(),
                &kept.metadata.managed_fields
            ),
            (Some(""), &None)
        );
        assert!(
            serde_json::to_string(&kept).expect("JSON").len() < 2_000,
            "four megabytes are gone"
        );
        let validated = ValidatedPackedBundle::try_from(&kept)
            .expect("it still says where its bundle goes, for others to compare");
        assert!(
            matches!(&validated.work, PackedBundleWork::Pack(packing) if matches!(packing.source, LockSource::Inline(_)))
        );
        assert!(validated.suspend);
    }
}
