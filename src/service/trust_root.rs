//! Renews the trust root of a TUF repository: asks when it is time, and goes on with the last good
//! state as long as that is allowed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::core::class::Classified;

pub use crate::trust::{
    Fetched, ForSigning, Repository, Roots, TrustCache, TrustError, TrustSource,
};

/// How often a repository is asked, unless told otherwise.
pub const INTERVAL: Duration = Duration::from_hours(24);
/// How long the last good state is used after it expired, unless told otherwise.
pub const MAX_STALENESS: Duration = Duration::from_hours(7 * 24);

/// When to ask, and how long to go on without an answer.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How often the repository is asked.
    pub interval: Duration,
    /// How long the last good state is used after it expired.
    pub max_staleness: Duration,
    /// May the network be used now?
    pub may_ask: bool,
}

/// A trust root that may be used.
#[derive(Debug)]
pub struct Renewal {
    /// What is in force.
    pub root: Fetched,
    /// Was it fetched now? Then it is to be kept.
    pub is_new: bool,
    /// Why it could not be renewed, though it was time.
    pub trouble: Option<TrustError>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            interval: INTERVAL,
            max_staleness: MAX_STALENESS,
            may_ask: true,
        }
    }
}

/// The root in force at `now`. `kept` is what was kept of the last time; it is checked again, and
/// forgotten if it is not good.
///
/// Newer roots are added to `roots`, which is to be kept whatever the outcome: what they revoked is
/// not believed any more, nor is `kept` if it was signed with it.
///
/// Errors: there is nothing that may be used.
pub async fn renew(
    source: &dyn TrustSource,
    repository: &Repository,
    kept: Option<Fetched>,
    roots: &mut Roots,
    terms: Terms,
    now: Timestamp,
) -> Result<Renewal, TrustError> {
    let mut last = recalled(source, repository, kept, roots, now).await;
    let is_fresh = last
        .as_ref()
        .is_some_and(|last| is_fresh(last, terms.interval, now));
    let before = roots.clone();
    let asked = if terms.may_ask && !is_fresh {
        Some(source.refresh(repository, last.as_ref(), roots, now).await)
    } else {
        None
    };
    if matches!(asked, Some(Err(_))) && *roots != before {
        last = recalled(source, repository, last, roots, now).await;
    }
    match (asked, last) {
        (Some(Ok(root)), _) => Ok(Renewal {
            root,
            is_new: true,
            trouble: None,
        }),
        (Some(Err(error)), None) => Err(error),
        (None, None) => Err(TrustError::NothingKept {
            url: repository.url().to_owned(),
        }),
        (asked, Some(root)) => {
            let trouble = asked.and_then(Result::err);
            if now < end(root.expires, terms.max_staleness) {
                Ok(Renewal {
                    root,
                    is_new: false,
                    trouble,
                })
            } else {
                Err(stale(repository, &root, trouble))
            }
        }
    }
}

/// The same with a cache.
pub async fn obtain(
    source: &dyn TrustSource,
    cache: &dyn TrustCache,
    repository: &Repository,
    terms: Terms,
    now: Timestamp,
) -> Result<String, TrustError> {
    let mut roots = cache.load_roots(repository);
    let before = roots.clone();
    let outcome = renew(
        source,
        repository,
        cache.load(repository),
        &mut roots,
        terms,
        now,
    )
    .await;
    keep_roots(cache, repository, &before, &roots);
    let renewal = outcome?;
    if renewal.is_new {
        keep(cache, repository, &renewal.root);
    }
    if let Some(error) = &renewal.trouble {
        tracing::warn!(%error, expires = %renewal.root.expires, "the trust root could not be \
            renewed; the last good one is used");
    }
    Ok(renewal.root.trusted_root)
}

/// What those who sign need, asked for now: they need the network anyway. What was kept only tells
/// what is too old.
///
/// Errors: the repository gives nothing that can be believed, or no `signing_config`.
pub async fn obtain_for_signing(
    source: &dyn TrustSource,
    cache: &dyn TrustCache,
    repository: &Repository,
    now: Timestamp,
) -> Result<ForSigning, TrustError> {
    let mut roots = cache.load_roots(repository);
    let before = roots.clone();
    let last = recalled(source, repository, cache.load(repository), &mut roots, now).await;
    let found = source
        .for_signing(repository, last.as_ref(), &mut roots, now)
        .await;
    keep_roots(cache, repository, &before, &roots);
    let found = found?;
    keep(cache, repository, &found.fetched);
    Ok(found)
}

fn keep_roots(cache: &dyn TrustCache, repository: &Repository, before: &Roots, roots: &Roots) {
    if before != roots
        && let Err(error) = cache.save_roots(repository, roots)
    {
        tracing::warn!(%error, "the roots of a TUF repository are not kept");
    }
}

fn keep(cache: &dyn TrustCache, repository: &Repository, fetched: &Fetched) {
    if let Err(error) = cache.save(repository, fetched) {
        tracing::warn!(%error, "the trust root is not kept");
    }
}

/// When a root that expires then may not be used any longer.
pub fn end(expires: Timestamp, max_staleness: Duration) -> Timestamp {
    SignedDuration::try_from(max_staleness)
        .ok()
        .and_then(|grace| expires.checked_add(grace).ok())
        .unwrap_or(Timestamp::MAX)
}

/// Whatever becomes of the rest, its roots count.
async fn recalled(
    source: &dyn TrustSource,
    repository: &Repository,
    kept: Option<Fetched>,
    roots: &mut Roots,
    now: Timestamp,
) -> Option<Fetched> {
    let kept = kept?;
    roots.add(&kept);
    match source.recall(repository, &kept, roots, now).await {
        Ok(last) => Some(last),
        Err(error) => {
            tracing::warn!(%error, reason = %error.reason(), "what was kept of a TUF repository is \
                not good and is forgotten");
            None
        }
    }
}

/// A clock that was put back makes it a matter of asking again.
fn is_fresh(last: &Fetched, interval: Duration, now: Timestamp) -> bool {
    last.refreshed <= now && now < end(last.refreshed, interval) && now < last.expires
}

fn stale(repository: &Repository, last: &Fetched, trouble: Option<TrustError>) -> TrustError {
    let cause = trouble.map_or_else(
        || "the network may not be used".to_owned(),
        |error| error.to_string(),
    );
    TrustError::Stale {
        url: repository.url().to_owned(),
        expires: last.expires,
        cause,
    }
}
