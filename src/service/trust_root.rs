//! Renews the trust root of a TUF repository: refreshes it when it is due, and keeps the last good
//! state as long as that is allowed.

use std::time::Duration;

use jiff::Timestamp;

use crate::core::{reason::ClassifiedError, timestamp::time_after};

pub use crate::trust::{
    FetchedTrustRoot, TrustCache, TrustError, TrustSource, TufRepositoryConfig, TufRootChain,
    TufSigningMaterial,
};

/// The default interval between refreshes.
pub const INTERVAL: Duration = Duration::from_hours(24);
/// How long the last good state is used after its expiry, by default.
pub const MAX_STALENESS: Duration = Duration::from_hours(7 * 24);

/// When to refresh, and how long to go on without a refresh.
#[derive(Clone, Copy, Debug)]
pub struct TrustRefreshPolicy {
    /// The interval between refreshes.
    pub interval: Duration,
    /// How long the last good state is used after its expiry.
    pub max_staleness: Duration,
    /// Whether the network may be used now.
    pub may_ask: bool,
}

/// A trust root that may be used.
#[derive(Debug)]
pub struct TrustRootRenewal {
    /// The trust root in force.
    pub root: FetchedTrustRoot,
    /// True if it was fetched now, and has to be stored.
    pub is_new: bool,
    /// Why it could not be renewed although it was due.
    pub renewal_error: Option<TrustError>,
}

impl Default for TrustRefreshPolicy {
    fn default() -> Self {
        Self {
            interval: INTERVAL,
            max_staleness: MAX_STALENESS,
            may_ask: true,
        }
    }
}

/// The root in force at `now`. `kept` is the stored state; it is verified again, and dropped if it
/// is invalid.
///
/// Newer roots are added to `roots`, which has to be stored whatever the outcome: keys that they
/// revoked are not trusted any more, nor is `kept` if it was signed with one.
///
/// Errors: there is no root that may be used.
pub async fn renew_trust_root(
    source: &dyn TrustSource,
    repository: &TufRepositoryConfig,
    kept: Option<FetchedTrustRoot>,
    roots: &mut TufRootChain,
    terms: TrustRefreshPolicy,
    now: Timestamp,
) -> Result<TrustRootRenewal, TrustError> {
    let mut last = reverify_or_discard(source, repository, kept, roots, now).await;
    let is_fresh = last
        .as_ref()
        .is_some_and(|last| is_fresh(last, terms.interval, now));
    let before = roots.clone();
    let refresh = if terms.may_ask && !is_fresh {
        Some(
            source
                .refresh_trust_root(repository, last.as_ref(), roots, now)
                .await,
        )
    } else {
        None
    };
    if matches!(refresh, Some(Err(_))) && *roots != before {
        last = reverify_or_discard(source, repository, last, roots, now).await;
    }
    match (refresh, last) {
        (Some(Ok(root)), _) => Ok(TrustRootRenewal {
            root,
            is_new: true,
            renewal_error: None,
        }),
        (Some(Err(error)), None) => Err(error),
        (None, None) => Err(TrustError::NothingKept {
            url: repository.url().to_owned(),
        }),
        (refresh, Some(root)) => {
            let renewal_error = refresh.and_then(Result::err);
            if now < time_after(root.expires, terms.max_staleness) {
                Ok(TrustRootRenewal {
                    root,
                    is_new: false,
                    renewal_error,
                })
            } else {
                Err(stale_error(repository, &root, renewal_error))
            }
        }
    }
}

/// The same with a cache.
pub async fn renew_with_cache(
    source: &dyn TrustSource,
    cache: &dyn TrustCache,
    repository: &TufRepositoryConfig,
    terms: TrustRefreshPolicy,
    now: Timestamp,
) -> Result<String, TrustError> {
    let mut roots = cache.load_roots(repository);
    let before = roots.clone();
    let outcome = renew_trust_root(
        source,
        repository,
        cache.load_fetched(repository),
        &mut roots,
        terms,
        now,
    )
    .await;
    store_root_chain(cache, repository, &before, &roots);
    let renewal = outcome?;
    if renewal.is_new {
        store_fetched(cache, repository, &renewal.root);
    }
    if let Some(error) = &renewal.renewal_error {
        tracing::warn!(%error, expires = %renewal.root.expires, "the trust root could not be \
            renewed; the last verified one is used");
    }
    Ok(renewal.root.trusted_root)
}

/// The material for signing, fetched now: signers need the network anyway. The cached state only
/// serves to detect rollbacks.
///
/// Errors: the repository has no valid metadata, or no `signing_config`.
pub async fn refresh_for_signing(
    source: &dyn TrustSource,
    cache: &dyn TrustCache,
    repository: &TufRepositoryConfig,
    now: Timestamp,
) -> Result<TufSigningMaterial, TrustError> {
    let mut roots = cache.load_roots(repository);
    let before = roots.clone();
    let last = reverify_or_discard(
        source,
        repository,
        cache.load_fetched(repository),
        &mut roots,
        now,
    )
    .await;
    let found = source
        .refresh_signing_material(repository, last.as_ref(), &mut roots, now)
        .await;
    store_root_chain(cache, repository, &before, &roots);
    let found = found?;
    store_fetched(cache, repository, &found.fetched);
    Ok(found)
}

fn store_root_chain(
    cache: &dyn TrustCache,
    repository: &TufRepositoryConfig,
    before: &TufRootChain,
    roots: &TufRootChain,
) {
    if before != roots
        && let Err(error) = cache.save_roots(repository, roots)
    {
        tracing::warn!(%error, "the root chain of a TUF repository could not be cached");
    }
}

fn store_fetched(
    cache: &dyn TrustCache,
    repository: &TufRepositoryConfig,
    fetched: &FetchedTrustRoot,
) {
    if let Err(error) = cache.save_fetched(repository, fetched) {
        tracing::warn!(%error, "the trust root could not be cached");
    }
}

/// Whatever happens to the rest, its roots count.
async fn reverify_or_discard(
    source: &dyn TrustSource,
    repository: &TufRepositoryConfig,
    kept: Option<FetchedTrustRoot>,
    roots: &mut TufRootChain,
    now: Timestamp,
) -> Option<FetchedTrustRoot> {
    let kept = kept?;
    roots.add_roots_of(&kept);
    match source.reverify_cached(repository, &kept, roots, now).await {
        Ok(last) => Some(last),
        Err(error) => {
            tracing::warn!(%error, reason = %error.reason(), "cached metadata of a TUF repository \
                failed verification and is discarded");
            None
        }
    }
}

/// If the clock was set back, the state is not fresh, and is refreshed again.
fn is_fresh(last: &FetchedTrustRoot, interval: Duration, now: Timestamp) -> bool {
    last.refreshed <= now && now < time_after(last.refreshed, interval) && now < last.expires
}

fn stale_error(
    repository: &TufRepositoryConfig,
    last: &FetchedTrustRoot,
    renewal_error: Option<TrustError>,
) -> TrustError {
    let cause = renewal_error.map_or_else(
        || "network access is disabled".to_owned(),
        |error| error.to_string(),
    );
    TrustError::Stale {
        url: repository.url().to_owned(),
        expires: last.expires,
        cause,
    }
}
