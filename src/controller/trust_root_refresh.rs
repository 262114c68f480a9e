//! Refreshes trust roots from TUF repositories, and stores them in `ConfigMap`s of the system
//! namespace, where verifiers read them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::ObjectMeta,
    runtime::events::{Event, EventType},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    policy_status::ReadinessResult,
    reconcile_context::ReconcileContext,
    reconcile_error::ReconcileError,
    resources::{MANAGED_BY, MANAGER},
};
use crate::{
    api::trust_root::{
        ConfigMapLookup, METADATA_KEY, ROOTS_KEY, STATE_KEY, TRUSTED_ROOT_KEY, TUF_ROOT_KEY,
        TrustRoot, TrustRootFetchState,
    },
    core::{
        digest::Digest,
        job::JobFailure,
        limits::InputLimits,
        reason::{ClassifiedError, Reason},
        verify,
    },
    service::trust_root::{
        FetchedTrustRoot, TrustError, TrustRefreshPolicy, TrustRootRenewal, TrustSource,
        TufRepositoryConfig, TufRootChain, expiry_with_grace, renew_trust_root,
    },
};

/// The longest delay before a failed repository is tried again.
const MAX_RETRY_DELAY: Duration = Duration::from_mins(5);

/// Bytes of roots and last good state in one `ConfigMap` while the newest refresh failed: the limit
/// is one MiB.
const MAX_KEPT: usize = 900 << 10;

type TrustRootConfigMapData = BTreeMap<String, String>;

/// Fetches trust roots, and remembers the last attempts.
pub(super) struct TrustRootRefresher {
    source: Arc<dyn TrustSource>,
    failed: Mutex<HashMap<String, FailedTrustRootRefresh>>,
}

/// The last failed attempt for one object.
#[derive(Clone)]
struct FailedTrustRootRefresh {
    generation: Option<i64>,
    at: Timestamp,
    failure: JobFailure,
}

impl TrustRootRefresher {
    /// A refresher that has not tried anything yet.
    pub(super) fn new(source: Arc<dyn TrustSource>) -> Self {
        Self {
            source,
            failed: Mutex::default(),
        }
    }

    /// The last failure for this generation, if it is too early for another attempt.
    fn recent_failure(
        &self,
        root: &TrustRoot,
        interval: Duration,
        now: Timestamp,
    ) -> Option<JobFailure> {
        let failed = self
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&root_uid(root))
            .cloned()?;
        let is_soon =
            failed.at <= now && now < expiry_with_grace(failed.at, interval.min(MAX_RETRY_DELAY));
        (is_soon && failed.generation == root.metadata.generation).then_some(failed.failure)
    }

    fn record_refresh(&self, root: &TrustRoot, failure: Option<&JobFailure>, now: Timestamp) {
        let mut all = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            Some(failure) => all.insert(
                root_uid(root),
                FailedTrustRootRefresh {
                    generation: root.metadata.generation,
                    at: now,
                    failure: failure.clone(),
                },
            ),
            None => all.remove(&root_uid(root)),
        };
    }
}

fn root_uid(root: &TrustRoot) -> String {
    root.uid().unwrap_or_default()
}

/// The result for a root, after a refresh if it is due.
pub(super) async fn check_trust_root(
    root: &TrustRoot,
    context: &ReconcileContext,
) -> Result<ReadinessResult, ReconcileError> {
    root.validate_spec()
        .map_err(|error| ReconcileError::from_classified(&error))?;
    match root.user_config_map_name() {
        Some(name) => check_provided_root(root, name, context).await,
        None => check_fetched_root(root, context).await,
    }
}

/// A root that users put into the cluster.
async fn check_provided_root(
    root: &TrustRoot,
    name: &str,
    context: &ReconcileContext,
) -> Result<ReadinessResult, ReconcileError> {
    let text = read_required_key(
        name,
        TRUSTED_ROOT_KEY,
        "spec.trustedRoot.configMapRef",
        context,
    )
    .await?;
    let parsed = parse_trust_root(&text)?;
    Ok(ReadinessResult::with_fields(status_fields(
        root, &parsed, None,
    )))
}

/// A root from a repository.
async fn check_fetched_root(
    root: &TrustRoot,
    context: &ReconcileContext,
) -> Result<ReadinessResult, ReconcileError> {
    let now = context.clock.now();
    let interval = root
        .refresh_interval()
        .map_err(|error| ReconcileError::from_classified(&error))?;
    let first_root = match root.tuf_root_config_map_name() {
        Some(name) => Some(
            read_required_key(name, TUF_ROOT_KEY, "spec.tuf.root.configMapRef", context).await?,
        ),
        None => None,
    };
    let repository = tuf_repository(root, first_root.as_deref())
        .map_err(|error| ReconcileError::from_classified(&error))?;
    let maps = Api::<ConfigMap>::namespaced(
        context.client.clone(),
        &context.run_settings.system_namespace,
    );
    let data = maps
        .get_opt(&root.config_map_name())
        .await?
        .map(|map| map.data.unwrap_or_default());
    let earlier = context
        .trust_root_refresher
        .recent_failure(root, interval, now);
    let terms = TrustRefreshPolicy {
        interval,
        max_staleness: root
            .max_staleness()
            .map_err(|error| ReconcileError::from_classified(&error))?,
        may_ask: earlier.is_none(),
    };
    let kept = data
        .as_ref()
        .and_then(|data| read_stored_root(root, first_root.as_deref(), data));
    let before = kept.as_ref().map(|kept| kept.trusted_root.clone());
    let known = read_verified_roots(root, first_root.as_deref(), data.as_ref(), kept.as_ref());
    let mut roots = known.clone();
    let renewed = renew_trust_root(
        &*context.trust_root_refresher.source,
        &repository,
        kept,
        &mut roots,
        terms,
        now,
    )
    .await;
    let failure = record_outcome(root, &renewed, before.as_deref(), earlier, context).await;
    let held = match &renewed {
        Ok(TrustRootRenewal {
            root: new,
            is_new: true,
            ..
        }) => {
            let data = config_map_data(root, first_root.as_deref(), new)
                .map_err(|error| ReconcileError::new(Reason::Internal, error.to_string()))?;
            apply_config_map(root, data, &maps).await?
        }
        _ if roots == known => data.unwrap_or_default(),
        outcome => {
            let last = data
                .filter(|_| matches!(outcome, Ok(_) | Err(TrustError::Stale { .. })))
                .unwrap_or_default();
            apply_config_map(
                root,
                with_root_chain(root, first_root.as_deref(), last, &roots)?,
                &maps,
            )
            .await?
        }
    };
    let again = interval.min(MAX_RETRY_DELAY);
    Ok(ReadinessResult {
        again,
        ..evaluate_stored_root(root, first_root.as_deref(), &held, failure, now)
    })
}

/// The status of the stored root, from the same function that decides whether policies can use it.
fn evaluate_stored_root(
    root: &TrustRoot,
    first_root: Option<&str>,
    held: &TrustRootConfigMapData,
    failure: Option<JobFailure>,
    now: Timestamp,
) -> ReadinessResult {
    let seen = if held.is_empty() {
        ConfigMapLookup::Absent
    } else {
        ConfigMapLookup::Present(held)
    };
    let found = match root.find_fetched_root(first_root, seen, now) {
        Ok(found) => found,
        Err(error) => {
            // The repository's error, if nothing was ever fetched; the expiry, if the stored root
            // has expired.
            let over = error.reason() == Reason::TrustRootExpired;
            let failure = failure
                .filter(|_| !over)
                .unwrap_or_else(|| JobFailure::from_error(&error));
            return ReadinessResult::with_failure(
                last_known_fields(root, first_root, held),
                failure,
            );
        }
    };
    let parsed = match parse_trust_root(found.text) {
        Ok(parsed) => parsed,
        Err(ReconcileError::StatusFailure(failure)) => {
            return ReadinessResult::with_failure(json!({}), failure);
        }
        Err(ReconcileError::Api(_)) => {
            return ReadinessResult::with_failure(
                json!({}),
                JobFailure::new(Reason::Internal, "internal: the root was not read"),
            );
        }
    };
    let good = ReadinessResult::with_fields(status_fields(root, &parsed, found.expires));
    match (failure, found.ends) {
        (Some(failure), Some(ends)) => ReadinessResult {
            message: format!(
                "the last good root is used until {ends}: {}",
                failure.message
            ),
            ..good
        },
        _ => good,
    }
}

/// The status fields of an expired root.
fn last_known_fields(
    root: &TrustRoot,
    first_root: Option<&str>,
    held: &TrustRootConfigMapData,
) -> Value {
    let known = read_stored_root(root, first_root, held).and_then(|fetched| {
        Some((
            parse_trust_root(&fetched.trusted_root).ok()?,
            fetched.expires,
        ))
    });
    known.map_or_else(
        || json!({}),
        |(parsed, expires)| status_fields(root, &parsed, Some(expires)),
    )
}

fn status_fields(
    root: &TrustRoot,
    parsed: &verify::TrustRoot,
    expires: Option<Timestamp>,
) -> Value {
    let not_after = parsed.not_after().into_iter().chain(expires).min();
    let mut fields = json!({"source": root.source(), "contentHash": parsed.digest().to_string()});
    if let Some(end) = not_after {
        fields["notAfter"] = end.to_string().into();
    }
    fields
}

fn parse_trust_root(text: &str) -> Result<verify::TrustRoot, ReconcileError> {
    verify::TrustRoot::parse(text.as_bytes(), &InputLimits::DEFAULT)
        .map_err(|error| ReconcileError::from_classified(&error))
}

fn tuf_repository(
    root: &TrustRoot,
    first_root: Option<&str>,
) -> Result<TufRepositoryConfig, TrustError> {
    match (&root.spec.tuf, first_root) {
        (Some(tuf), Some(first_root)) => TufRepositoryConfig::new(&tuf.url, first_root.as_bytes()),
        _ => TufRepositoryConfig::public_good(),
    }
}

async fn read_required_key(
    name: &str,
    key: &'static str,
    field: &str,
    context: &ReconcileContext,
) -> Result<String, ReconcileError> {
    let namespace = &context.run_settings.system_namespace;
    let mut data = context
        .secrets
        .read_config_map(namespace, name, field)
        .await?;
    data.remove(key).ok_or_else(|| {
        ReconcileError::new(
            Reason::SourceNotFound,
            format!("ConfigMap {namespace}/{name} ({field}) has no key {key}; add it"),
        )
    })
}

/// The stored state of the same repository.
fn read_stored_root(
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
fn read_verified_roots(
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
fn with_root_chain(
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

fn config_map_data(
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
async fn apply_config_map(
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

fn config_map_metadata(root: &TrustRoot) -> ObjectMeta {
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

/// Records the result of an attempt, and reports a new failure. Returns the failure that remains.
async fn record_outcome(
    root: &TrustRoot,
    renewed: &Result<TrustRootRenewal, TrustError>,
    before: Option<&str>,
    earlier: Option<JobFailure>,
    context: &ReconcileContext,
) -> Option<JobFailure> {
    if earlier.is_some() {
        return earlier;
    }
    let failure = match renewed {
        Ok(renewal) => renewal
            .renewal_error
            .as_ref()
            .map(|error| JobFailure::from_error(error)),
        Err(error) => Some(JobFailure::from_error(error)),
    };
    context
        .trust_root_refresher
        .record_refresh(root, failure.as_ref(), context.clock.now());
    if let Some(failure) = &failure {
        record_event(
            root,
            EventType::Warning,
            failure.reason.as_str(),
            &failure.message,
            context,
        )
        .await;
    } else if let Ok(renewal) = renewed
        && before != Some(renewal.root.trusted_root.as_str())
    {
        record_event(
            root,
            EventType::Normal,
            "Fetched",
            "a new trust root is in use",
            context,
        )
        .await;
    }
    failure
}

async fn record_event(
    root: &TrustRoot,
    type_: EventType,
    reason: &str,
    message: &str,
    context: &ReconcileContext,
) {
    let event = Event {
        type_,
        reason: reason.to_owned(),
        note: Some(message.to_owned()),
        action: "Refresh".to_owned(),
        secondary: None,
    };
    if let Err(error) = context
        .events
        .record_event(event, &root.object_ref(&()))
        .await
    {
        tracing::debug!(%error, "an event was not recorded");
    }
}

#[cfg(test)]
mod tests;
