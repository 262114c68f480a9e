//! Refreshes trust roots from TUF repositories, and stores them in `ConfigMap`s of the system
//! namespace, where verifiers read them.

mod stored_root;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Resource,
    runtime::events::{Event, EventType},
};
use serde_json::{Value, json};

use self::stored_root::{
    TrustRootConfigMapData, apply_config_map, config_map_data, read_stored_root,
    read_verified_roots, with_root_chain,
};
use super::{
    readiness::ReadinessResult, reconcile_context::ReconcileContext,
    reconcile_error::ReconcileError, trust_root_refresher::MAX_RETRY_DELAY,
};
use crate::{
    api::trust_root::{ConfigMapLookup, TRUSTED_ROOT_KEY, TUF_ROOT_KEY, TrustRoot},
    core::{
        job::JobFailure,
        limits::InputLimits,
        reason::{ClassifiedError, Reason},
        verify,
    },
    service::trust_root::{
        TrustError, TrustRefreshPolicy, TrustRootRenewal, TufRepositoryConfig, TufRootChain,
        renew_trust_root,
    },
};

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
    let first_root = match root.tuf_root_config_map_name() {
        Some(name) => Some(
            read_required_key(name, TUF_ROOT_KEY, "spec.tuf.root.configMapRef", context).await?,
        ),
        None => None,
    };
    let first_root = first_root.as_deref();
    let repository = tuf_repository(root, first_root)
        .map_err(|error| ReconcileError::from_classified(&error))?;
    let maps = Api::<ConfigMap>::namespaced(
        context.client.clone(),
        &context.run_settings.system_namespace,
    );
    let data = maps
        .get_opt(&root.config_map_name())
        .await?
        .map(|map| map.data.unwrap_or_default());
    let (terms, earlier) = refresh_terms(root, now, context)?;
    let kept = data
        .as_ref()
        .and_then(|data| read_stored_root(root, first_root, data));
    let before = kept.as_ref().map(|kept| kept.trusted_root.clone());
    let known = read_verified_roots(root, first_root, data.as_ref(), kept.as_ref());
    let mut roots = known.clone();
    let source = &*context.trust_root_refresher.source;
    let renewed = renew_trust_root(source, &repository, kept, &mut roots, terms, now).await;
    let failure = record_outcome(root, &renewed, before.as_deref(), earlier, context).await;
    let has_new_roots = roots != known;
    let stored = match data_to_store(root, first_root, &renewed, &roots, has_new_roots, data)? {
        StoredChange::Unchanged(data) => data,
        StoredChange::Write(data) => apply_config_map(root, data, &maps).await?,
    };
    Ok(ReadinessResult {
        again: terms.interval.min(MAX_RETRY_DELAY),
        ..evaluate_stored_root(root, first_root, &stored, failure, now)
    })
}

/// When to refresh, and the last failure if it is too early for another attempt.
fn refresh_terms(
    root: &TrustRoot,
    now: Timestamp,
    context: &ReconcileContext,
) -> Result<(TrustRefreshPolicy, Option<JobFailure>), ReconcileError> {
    let interval = root
        .refresh_interval()
        .map_err(|error| ReconcileError::from_classified(&error))?;
    let max_staleness = root
        .max_staleness()
        .map_err(|error| ReconcileError::from_classified(&error))?;
    let earlier = context
        .trust_root_refresher
        .recent_failure(root, interval, now);
    let terms = TrustRefreshPolicy {
        interval,
        max_staleness,
        may_ask: earlier.is_none(),
    };
    Ok((terms, earlier))
}

/// The data of the `ConfigMap` after a refresh.
enum StoredChange {
    /// As they are stored already.
    Unchanged(TrustRootConfigMapData),
    /// To be written.
    Write(TrustRootConfigMapData),
}

fn data_to_store(
    root: &TrustRoot,
    first_root: Option<&str>,
    renewed: &Result<TrustRootRenewal, TrustError>,
    roots: &TufRootChain,
    has_new_roots: bool,
    data: Option<TrustRootConfigMapData>,
) -> Result<StoredChange, ReconcileError> {
    match renewed {
        Ok(TrustRootRenewal {
            root: new,
            is_new: true,
            ..
        }) => config_map_data(root, first_root, new)
            .map(StoredChange::Write)
            .map_err(|error| ReconcileError::new(Reason::Internal, error.to_string())),
        _ if !has_new_roots => Ok(StoredChange::Unchanged(data.unwrap_or_default())),
        outcome => {
            let last = data
                .filter(|_| matches!(outcome, Ok(_) | Err(TrustError::Stale { .. })))
                .unwrap_or_default();
            with_root_chain(root, first_root, last, roots).map(StoredChange::Write)
        }
    }
}

/// The status of the stored root, from the same function that decides whether policies can use it.
fn evaluate_stored_root(
    root: &TrustRoot,
    first_root: Option<&str>,
    stored: &TrustRootConfigMapData,
    failure: Option<JobFailure>,
    now: Timestamp,
) -> ReadinessResult {
    let seen = if stored.is_empty() {
        ConfigMapLookup::Absent
    } else {
        ConfigMapLookup::Present(stored)
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
                last_known_fields(root, first_root, stored),
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
    stored: &TrustRootConfigMapData,
) -> Value {
    let known = read_stored_root(root, first_root, stored).and_then(|fetched| {
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
