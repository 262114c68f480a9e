//! The data of a `ConfigMap` that a policy refers to.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use crate::core::digest::Digest;

/// The key of a public key in a `ConfigMap`.
pub(super) const PUBLIC_KEY: &str = "cosign.pub";
/// The key of CA certificates in a `ConfigMap`.
pub const CA_CERTIFICATES_KEY: &str = "ca.crt";
/// The key of revocation lists in a `ConfigMap`.
pub(super) const REVOCATION_LISTS: &str = "ca.crl";

/// The data of a `ConfigMap`, with its digest and size, which are computed once. Clones share it.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "BTreeMap<String, String>")]
pub struct ConfigMapData(Arc<HashedConfigMapData>);

#[derive(Debug)]
struct HashedConfigMapData {
    data: BTreeMap<String, String>,
    digest: Digest,
    bytes: usize,
}

impl ConfigMapData {
    /// One with this many bytes and without its content: it exceeds the budget of its namespace.
    pub fn without_content(bytes: usize) -> Self {
        Self(Arc::new(HashedConfigMapData {
            data: BTreeMap::new(),
            digest: Digest::of_bytes(format!("{bytes} bytes").as_bytes()),
            bytes,
        }))
    }

    /// True if made by [`Self::without_content`].
    pub fn is_without_content(&self) -> bool {
        self.0.data.is_empty() && self.0.bytes > 0
    }

    /// The data.
    pub fn data(&self) -> &BTreeMap<String, String> {
        &self.0.data
    }

    /// The data for a `BundlePolicy`: only the keys that such policies read are kept.
    pub fn with_policy_keys_only(mut data: BTreeMap<String, String>) -> Self {
        data.retain(|key, _| {
            [PUBLIC_KEY, CA_CERTIFICATES_KEY, REVOCATION_LISTS].contains(&key.as_str())
        });
        data.into()
    }

    /// The data as policies see them: all of a `ConfigMap` of the system namespace, and otherwise
    /// only the keys that a `BundlePolicy` reads.
    pub fn for_policies(data: BTreeMap<String, String>, is_of_system: bool) -> Self {
        if is_of_system {
            data.into()
        } else {
            Self::with_policy_keys_only(data)
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.data.get(key).map(String::as_str)
    }

    /// The digest of the data.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// The size of the data in bytes.
    pub fn size_in_bytes(&self) -> usize {
        self.0.bytes
    }
}

impl From<BTreeMap<String, String>> for ConfigMapData {
    fn from(data: BTreeMap<String, String>) -> Self {
        let texts = data.iter().flat_map(<[&String; 2]>::from);
        let digest = Digest::of_parts(texts.map(String::as_bytes));
        let bytes = data
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        Self(Arc::new(HashedConfigMapData {
            data,
            digest,
            bytes,
        }))
    }
}

impl<const N: usize> From<[(String, String); N]> for ConfigMapData {
    fn from(data: [(String, String); N]) -> Self {
        BTreeMap::from(data).into()
    }
}
