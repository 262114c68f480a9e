//! A policy object from a file or a request.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    api::API_VERSION,
    core::reason::{ClassifiedError, Reason},
};

use super::{AuthoritySpec, BundlePolicy, ClusterBundlePolicy};

/// One policy object of either kind. Clones share it.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyObject {
    /// Applies to all namespaces.
    Cluster(Arc<ClusterBundlePolicy>),
    /// Applies to its own namespace.
    Namespaced(Arc<BundlePolicy>),
}

/// Why an object is not a policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyObjectError {
    /// Another group, version or kind.
    #[error(
        "{found} is not a policy; packgate.dev/v1alpha1 ClusterBundlePolicy or BundlePolicy is \
            expected"
    )]
    Kind {
        /// Its `apiVersion` and `kind`.
        found: String,
    },
    /// An unknown top-level field.
    #[error("unknown field `{0}`, expected apiVersion, kind, metadata, spec or status")]
    Unknown(String),
    /// A field is unknown, missing, or has another type.
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
}

impl ClassifiedError for PolicyObjectError {
    fn reason(&self) -> Reason {
        Reason::InvalidSpec
    }
}

impl PolicyObject {
    /// True if `object` is of a kind that [`Self::from_json`] accepts.
    pub fn is_policy(object: &Value) -> bool {
        object["apiVersion"] == API_VERSION
            && matches!(
                object["kind"].as_str(),
                Some("ClusterBundlePolicy" | "BundlePolicy")
            )
    }

    /// Parses an object. Unknown fields are refused at every level.
    pub fn from_json(object: Value) -> Result<Self, PolicyObjectError> {
        if !Self::is_policy(&object) {
            return Err(PolicyObjectError::Kind {
                found: format!("{} {}", object["apiVersion"], object["kind"]),
            });
        }
        let known = |key: &&String| {
            !["apiVersion", "kind", "metadata", "spec", "status"].contains(&key.as_str())
        };
        if let Some(unknown) = object
            .as_object()
            .and_then(|fields| fields.keys().find(known))
        {
            return Err(PolicyObjectError::Unknown(unknown.clone()));
        }
        if object["kind"] == "BundlePolicy" {
            Ok(Self::Namespaced(Arc::new(serde_json::from_value(object)?)))
        } else {
            Ok(Self::Cluster(Arc::new(serde_json::from_value(object)?)))
        }
    }

    /// The authorities of the policy.
    pub fn authorities(&self) -> &[AuthoritySpec] {
        match self {
            Self::Cluster(policy) => &policy.spec.authorities,
            Self::Namespaced(policy) => &policy.spec.authorities,
        }
    }

    /// The size in bytes of its content as JSON.
    pub fn size(&self) -> usize {
        self.canonical_json().len()
    }

    /// Its content as JSON: all fields that have an effect.
    pub(super) fn canonical_json(&self) -> String {
        let metadata = self.metadata();
        let spec = match self {
            Self::Cluster(policy) => serde_json::to_value(&policy.spec),
            Self::Namespaced(policy) => serde_json::to_value(&policy.spec),
        };
        serde_json::json!([
            metadata.namespace,
            metadata.name,
            metadata.uid,
            metadata.generation,
            spec.ok()
        ])
        .to_string()
    }

    /// Its metadata.
    pub fn metadata(&self) -> &kube::core::ObjectMeta {
        match self {
            Self::Cluster(policy) => &policy.metadata,
            Self::Namespaced(policy) => &policy.metadata,
        }
    }
}
