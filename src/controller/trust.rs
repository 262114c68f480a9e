//! Keeps the content of trust roots that TUF repositories give, in `ConfigMap`s of the system
//! namespace: those who judge read them there.

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
    build::{MANAGED_BY, MANAGER},
    context::Context,
    trouble::Trouble,
    usable::Checked,
};
use crate::{
    api::trust_root::{
        Kept, METADATA_KEY, ROOTS_KEY, STATE_KEY, Seen, TRUSTED_ROOT_KEY, TUF_ROOT_KEY, TrustRoot,
    },
    core::{
        class::{Classified, Reason},
        digest::Digest,
        job::Failure,
        limits::Limits,
        verify,
    },
    service::trust_root::{
        Fetched, Renewal, Repository, Roots, Terms, TrustError, TrustSource, end, renew,
    },
};

/// How soon a repository that failed is asked again, at most.
const AGAIN: Duration = Duration::from_mins(5);

/// Bytes of roots and last good state in one `ConfigMap` while the newest refresh failed: there is
/// room for a MiB.
const MAX_KEPT: usize = 900 << 10;

type Data = BTreeMap<String, String>;

/// How trust roots are fetched, and when that was tried last.
pub(super) struct Trust {
    source: Arc<dyn TrustSource>,
    failed: Mutex<HashMap<String, Failed>>,
}

/// The last try at one object, which failed.
#[derive(Clone)]
struct Failed {
    generation: Option<i64>,
    at: Timestamp,
    failure: Failure,
}

impl Trust {
    /// Nothing was tried yet.
    pub(super) fn new(source: Arc<dyn TrustSource>) -> Self {
        Self {
            source,
            failed: Mutex::default(),
        }
    }

    /// The last try at this generation, if it failed, and it is too soon for another.
    fn too_soon(&self, root: &TrustRoot, interval: Duration, now: Timestamp) -> Option<Failure> {
        let failed = self
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&uid(root))
            .cloned()?;
        let is_soon = failed.at <= now && now < end(failed.at, interval.min(AGAIN));
        (is_soon && failed.generation == root.metadata.generation).then_some(failed.failure)
    }

    fn remember(&self, root: &TrustRoot, failure: Option<&Failure>, now: Timestamp) {
        let mut all = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match failure {
            Some(failure) => all.insert(
                uid(root),
                Failed {
                    generation: root.metadata.generation,
                    at: now,
                    failure: failure.clone(),
                },
            ),
            None => all.remove(&uid(root)),
        };
    }
}

fn uid(root: &TrustRoot) -> String {
    root.uid().unwrap_or_default()
}

/// What is known of a root, after it was fetched if it is time.
pub(super) async fn check(root: &TrustRoot, context: &Context) -> Result<Checked, Trouble> {
    root.check().map_err(|error| Trouble::of(&error))?;
    match root.given() {
        Some(name) => given(root, name, context).await,
        None => fetched(root, context).await,
    }
}

/// A root that people put into the cluster.
async fn given(root: &TrustRoot, name: &str, context: &Context) -> Result<Checked, Trouble> {
    let text = required(
        name,
        TRUSTED_ROOT_KEY,
        "spec.trustedRoot.configMapRef",
        context,
    )
    .await?;
    let parsed = parse(&text)?;
    Ok(Checked::good(fields(root, &parsed, None)))
}

/// A root that a repository gives.
async fn fetched(root: &TrustRoot, context: &Context) -> Result<Checked, Trouble> {
    let now = context.clock.now();
    let interval = root.interval().map_err(|error| Trouble::of(&error))?;
    let first_root = match root.first_root() {
        Some(name) => {
            Some(required(name, TUF_ROOT_KEY, "spec.tuf.root.configMapRef", context).await?)
        }
        None => None,
    };
    let repository =
        repository(root, first_root.as_deref()).map_err(|error| Trouble::of(&error))?;
    let maps =
        Api::<ConfigMap>::namespaced(context.client.clone(), &context.setup.system_namespace);
    let data = maps
        .get_opt(&root.config_map())
        .await?
        .map(|map| map.data.unwrap_or_default());
    let earlier = context.trust.too_soon(root, interval, now);
    let terms = Terms {
        interval,
        max_staleness: root.max_staleness().map_err(|error| Trouble::of(&error))?,
        may_ask: earlier.is_none(),
    };
    let kept = data
        .as_ref()
        .and_then(|data| read(root, first_root.as_deref(), data));
    let before = kept.as_ref().map(|kept| kept.trusted_root.clone());
    let known = roots(root, first_root.as_deref(), data.as_ref(), kept.as_ref());
    let mut roots = known.clone();
    let renewed = renew(
        &*context.trust.source,
        &repository,
        kept,
        &mut roots,
        terms,
        now,
    )
    .await;
    let failure = note(root, &renewed, before.as_deref(), earlier, context).await;
    let held = match &renewed {
        Ok(Renewal {
            root: new,
            is_new: true,
            ..
        }) => {
            let data = data_of(root, first_root.as_deref(), new)
                .map_err(|error| Trouble::new(Reason::Internal, error.to_string()))?;
            write(root, data, &maps).await?
        }
        _ if roots == known => data.unwrap_or_default(),
        outcome => {
            let last = data
                .filter(|_| matches!(outcome, Ok(_) | Err(TrustError::Stale { .. })))
                .unwrap_or_default();
            write(
                root,
                with_roots(root, first_root.as_deref(), last, &roots)?,
                &maps,
            )
            .await?
        }
    };
    let again = interval.min(AGAIN);
    Ok(Checked {
        again,
        ..conclude(root, first_root.as_deref(), &held, failure, now)
    })
}

/// What is told of what lies in the cluster now: by the same function that decides whether policies
/// can use it.
fn conclude(
    root: &TrustRoot,
    first_root: Option<&str>,
    held: &Data,
    failure: Option<Failure>,
    now: Timestamp,
) -> Checked {
    let seen = if held.is_empty() {
        Seen::Absent
    } else {
        Seen::There(held)
    };
    let found = match root.fetched(first_root, seen, now) {
        Ok(found) => found,
        Err(error) => {
            // What the repository said, if nothing was ever fetched; that all is over, if that is
            // so.
            let over = error.reason() == Reason::TrustRootExpired;
            let failure = failure
                .filter(|_| !over)
                .unwrap_or_else(|| Failure::of(&error));
            return Checked::bad(last_known(root, first_root, held), failure);
        }
    };
    let parsed = match parse(found.text) {
        Ok(parsed) => parsed,
        Err(Trouble::Told(failure)) => return Checked::bad(json!({}), failure),
        Err(Trouble::Api(_)) => {
            return Checked::bad(
                json!({}),
                Failure::new(Reason::Internal, "internal: the root was not read"),
            );
        }
    };
    let good = Checked::good(fields(root, &parsed, found.expires));
    match (failure, found.ends) {
        (Some(failure), Some(ends)) => Checked {
            message: format!(
                "the last good root is used until {ends}: {}",
                failure.message
            ),
            ..good
        },
        _ => good,
    }
}

/// What is shown of a root that is over.
fn last_known(root: &TrustRoot, first_root: Option<&str>, held: &Data) -> Value {
    let known = read(root, first_root, held)
        .and_then(|fetched| Some((parse(&fetched.trusted_root).ok()?, fetched.expires)));
    known.map_or_else(
        || json!({}),
        |(parsed, expires)| fields(root, &parsed, Some(expires)),
    )
}

fn fields(root: &TrustRoot, parsed: &verify::TrustRoot, expires: Option<Timestamp>) -> Value {
    let not_after = parsed.not_after().into_iter().chain(expires).min();
    let mut fields = json!({"source": root.source(), "contentHash": parsed.digest().to_string()});
    if let Some(end) = not_after {
        fields["notAfter"] = end.to_string().into();
    }
    fields
}

fn parse(text: &str) -> Result<verify::TrustRoot, Trouble> {
    verify::TrustRoot::parse(text.as_bytes(), &Limits::DEFAULT).map_err(|error| Trouble::of(&error))
}

fn repository(root: &TrustRoot, first_root: Option<&str>) -> Result<Repository, TrustError> {
    match (&root.spec.tuf, first_root) {
        (Some(tuf), Some(first_root)) => Repository::new(&tuf.url, first_root.as_bytes()),
        _ => Repository::public_good(),
    }
}

async fn required(
    name: &str,
    key: &'static str,
    field: &str,
    context: &Context,
) -> Result<String, Trouble> {
    let namespace = &context.setup.system_namespace;
    let mut data = context.secrets.config_map(namespace, name, field).await?;
    data.remove(key).ok_or_else(|| {
        Trouble::new(
            Reason::SourceNotFound,
            format!("ConfigMap {namespace}/{name} ({field}) has no key {key}; add it"),
        )
    })
}

/// What was kept of the same repository.
fn read(root: &TrustRoot, first_root: Option<&str>, data: &Data) -> Option<Fetched> {
    let kept: Kept = serde_json::from_str(data.get(STATE_KEY)?).ok()?;
    let metadata = serde_json::from_str(data.get(METADATA_KEY)?).ok()?;
    let trusted_root = data.get(TRUSTED_ROOT_KEY)?.clone();
    let fetched = Fetched {
        trusted_root,
        metadata,
        expires: kept.expires,
        refreshed: kept.refreshed,
    };
    (kept.origin == root.origin(first_root)).then_some(fetched)
}

/// Every root that was verified of the same repository.
fn roots(
    root: &TrustRoot,
    first_root: Option<&str>,
    data: Option<&Data>,
    kept: Option<&Fetched>,
) -> Roots {
    let chain: Option<Chain> = data
        .and_then(|data| data.get(ROOTS_KEY))
        .and_then(|text| serde_json::from_str(text).ok());
    let mut roots = chain
        .filter(|chain| chain.origin == root.origin(first_root))
        .map(|chain| chain.roots)
        .unwrap_or_default();
    if let Some(kept) = kept {
        roots.add(kept);
    }
    roots
}

/// Newer roots beside the last good state, or alone where they revoked the keys of that: nobody is
/// to read it any more.
fn with_roots(
    root: &TrustRoot,
    first_root: Option<&str>,
    last: Data,
    roots: &Roots,
) -> Result<Data, Trouble> {
    let size = roots.size() + last.values().map(String::len).sum::<usize>();
    if size > MAX_KEPT {
        return Err(Trouble::new(
            Reason::LimitExceeded,
            format!(
                "the roots of its TUF repository have {} bytes, the limit is {MAX_KEPT}",
                roots.size()
            ),
        ));
    }
    let chain = Chain {
        origin: root.origin(first_root),
        roots: roots.clone(),
    };
    let text = serde_json::to_string(&chain)
        .map_err(|error| Trouble::new(Reason::Internal, error.to_string()))?;
    Ok(last
        .into_iter()
        .chain([(ROOTS_KEY.to_owned(), text)])
        .collect())
}

/// What is kept of the roots of a repository.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Chain {
    /// Of which one: [`TrustRoot::origin`].
    origin: Digest,
    roots: Roots,
}

fn data_of(
    root: &TrustRoot,
    first_root: Option<&str>,
    fetched: &Fetched,
) -> Result<Data, serde_json::Error> {
    let kept = Kept {
        origin: root.origin(first_root),
        expires: fetched.expires,
        refreshed: fetched.refreshed,
    };
    Ok(Data::from([
        (TRUSTED_ROOT_KEY.to_owned(), fetched.trusted_root.clone()),
        (STATE_KEY.to_owned(), serde_json::to_string(&kept)?),
        (
            METADATA_KEY.to_owned(),
            serde_json::to_string(&fetched.metadata)?,
        ),
    ]))
}

/// Keeps it, owned by its `TrustRoot`.
async fn write(root: &TrustRoot, data: Data, maps: &Api<ConfigMap>) -> Result<Data, Trouble> {
    let map = ConfigMap {
        metadata: metadata(root),
        data: Some(data.clone()),
        ..ConfigMap::default()
    };
    maps.patch(
        &root.config_map(),
        &PatchParams::apply(MANAGER).force(),
        &Patch::Apply(&map),
    )
    .await?;
    tracing::info!(name = root.name_any(), keys = ?data.keys().collect::<Vec<_>>(), "what is known \
        of a trust root was kept");
    Ok(data)
}

fn metadata(root: &TrustRoot) -> ObjectMeta {
    let labels = [
        ("app.kubernetes.io/name", "packgate"),
        (MANAGED_BY, MANAGER),
    ];
    let owner: Option<OwnerReference> = root.owner_ref(&());
    ObjectMeta {
        name: Some(root.config_map()),
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

/// Remembers how the try ended, and tells a failure that is news. The failure that still stands.
async fn note(
    root: &TrustRoot,
    renewed: &Result<Renewal, TrustError>,
    before: Option<&str>,
    earlier: Option<Failure>,
    context: &Context,
) -> Option<Failure> {
    if earlier.is_some() {
        return earlier;
    }
    let failure = match renewed {
        Ok(renewal) => renewal.trouble.as_ref().map(|error| Failure::of(error)),
        Err(error) => Some(Failure::of(error)),
    };
    context
        .trust
        .remember(root, failure.as_ref(), context.clock.now());
    if let Some(failure) = &failure {
        tell(
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
        tell(
            root,
            EventType::Normal,
            "Fetched",
            "another trust root is in force",
            context,
        )
        .await;
    }
    failure
}

async fn tell(root: &TrustRoot, type_: EventType, reason: &str, message: &str, context: &Context) {
    let event = Event {
        type_,
        reason: reason.to_owned(),
        note: Some(message.to_owned()),
        action: "Refresh".to_owned(),
        secondary: None,
    };
    if let Err(error) = context.events.tell(event, &root.object_ref(&())).await {
        tracing::debug!(%error, "an event was not taken");
    }
}

#[cfg(test)]
mod tests;
