//! A fetched trust root in its `ConfigMap`.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::ObjectMeta,
};
use serde::{Deserialize, Serialize};

use crate::{
    api::trust_root::{
        METADATA_KEY, ROOTS_KEY, STATE_KEY, TRUSTED_ROOT_KEY, TrustRoot, TrustRootFetchState,
    },
    controller::{
        reconcile_error::ReconcileError,
        resources::{MANAGED_BY, MANAGER},
    },
    core::{digest::Digest, reason::Reason},
    service::trust_root::{FetchedTrustRoot, TufRootChain},
};

/// Bytes of roots and last good state in one `ConfigMap` while the newest refresh failed: the limit
/// is one MiB.
const MAX_KEPT: usize = 900 << 10;

/// The data of the `ConfigMap` of one root.
pub(super) type TrustRootConfigMapData = BTreeMap<String, String>;

/// The stored state of the same repository.
pub(super) fn read_stored_root(
    root: &TrustRoot,
    first_root: Option<&str>,
    data: &TrustRootConfigMapData,
) -> Option<FetchedTrustRoot> {
    let kept: TrustRootFetchState = serde_json::from_str(data.get(STATE_KEY)?).ok()?;
    let metadata = serde_json::from_str(data.get(METADATA_KEY)?).ok()?;
    let trusted_root = data.get(TRUSTED_ROOT_KEY)?.clone();
    let fetched = FetchedTrustRoot {
        trusted_root,
        metadata,
        expires: kept.expires,
        refreshed: kept.refreshed,
    };
    (kept.origin == root.origin_digest(first_root)).then_some(fetched)
}

/// All verified roots of the same repository.
pub(super) fn read_verified_roots(
    root: &TrustRoot,
    first_root: Option<&str>,
    data: Option<&TrustRootConfigMapData>,
    kept: Option<&FetchedTrustRoot>,
) -> TufRootChain {
    let chain: Option<StoredTufRootChain> = data
        .and_then(|data| data.get(ROOTS_KEY))
        .and_then(|text| serde_json::from_str(text).ok());
    let mut roots = chain
        .filter(|chain| chain.origin == root.origin_digest(first_root))
        .map(|chain| chain.roots)
        .unwrap_or_default();
    if let Some(kept) = kept {
        roots.add_roots_of(kept);
    }
    roots
}

/// Newer roots with the last good state, or alone if they revoke the keys of that state: it must
/// not be used any more.
pub(super) fn with_root_chain(
    root: &TrustRoot,
    first_root: Option<&str>,
    last: TrustRootConfigMapData,
    roots: &TufRootChain,
) -> Result<TrustRootConfigMapData, ReconcileError> {
    let size = roots.byte_size() + last.values().map(String::len).sum::<usize>();
    if size > MAX_KEPT {
        return Err(ReconcileError::new(
            Reason::LimitExceeded,
            format!(
                "the roots of its TUF repository have {} bytes, the limit is {MAX_KEPT}",
                roots.byte_size()
            ),
        ));
    }
    let chain = StoredTufRootChain {
        origin: root.origin_digest(first_root),
        roots: roots.clone(),
    };
    let text = serde_json::to_string(&chain)
        .map_err(|error| ReconcileError::new(Reason::Internal, error.to_string()))?;
    Ok(last
        .into_iter()
        .chain([(ROOTS_KEY.to_owned(), text)])
        .collect())
}

/// The stored roots of a repository.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredTufRootChain {
    /// The repository: [`TrustRoot::origin_digest`].
    origin: Digest,
    roots: TufRootChain,
}

/// The data for a root that was fetched now.
pub(super) fn config_map_data(
    root: &TrustRoot,
    first_root: Option<&str>,
    fetched: &FetchedTrustRoot,
) -> Result<TrustRootConfigMapData, serde_json::Error> {
    let kept = TrustRootFetchState {
        origin: root.origin_digest(first_root),
        expires: fetched.expires,
        refreshed: fetched.refreshed,
    };
    Ok(TrustRootConfigMapData::from([
        (TRUSTED_ROOT_KEY.to_owned(), fetched.trusted_root.clone()),
        (STATE_KEY.to_owned(), serde_json::to_string(&kept)?),
        (
            METADATA_KEY.to_owned(),
            serde_json::to_string(&fetched.metadata)?,
        ),
    ]))
}

/// Stores it, owned by its `TrustRoot`.
pub(super) async fn apply_config_map(
    root: &TrustRoot,
    data: TrustRootConfigMapData,
    maps: &Api<ConfigMap>,
) -> Result<TrustRootConfigMapData, ReconcileError> {
    let map = ConfigMap {
        metadata: config_map_metadata(root),
        data: Some(data.clone()),
        ..ConfigMap::default()
    };
    maps.patch(
        &root.config_map_name(),
        &PatchParams::apply(MANAGER).force(),
        &Patch::Apply(&map),
    )
    .await?;
    tracing::info!(name = root.name_any(), keys = ?data.keys().collect::<Vec<_>>(), "the fetched state \
        of a trust root was stored");
    Ok(data)
}

pub(super) fn config_map_metadata(root: &TrustRoot) -> ObjectMeta {
    let labels = [
        ("app.kubernetes.io/name", "packgate"),
        (MANAGED_BY, MANAGER),
    ];
    let owner: Option<OwnerReference> = root.owner_ref(&());
    ObjectMeta {
        name: Some(root.config_map_name()),
        labels: Some(
            labels
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        ),
        owner_references: owner.map(|owner| vec![owner]),
        ..ObjectMeta::default()
    }
}
