//! Leader election: only one controller writes.
//!
//! The Lease is replaced with its `resourceVersion`, so of two concurrent writers one gets a
//! conflict. Wall clocks of different replicas are never compared: a record counts as abandoned
//! once it stayed the same for a whole lease duration by the local clock. A leader that cannot
//! renew in time must stop; [`LeaderElector::renew_until_lost`] returns then, and the process ends.
//! A process that was suspended resumes in the middle of its work: [`LeadershipTerm`] stops it from
//! writing.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{Api, api::PostParams};
use tokio::time::{Instant, sleep, timeout};

use crate::clock::Clock;

/// How long a record must be unchanged before it counts as abandoned.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long renewing may fail before the holder must stop. Shorter than [`LEASE_DURATION`], so that
/// there are never two leaders.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// The pause between two attempts.
pub const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// Acquires and renews a Lease.
#[derive(Clone)]
pub struct LeaderElector {
    api: Api<Lease>,
    name: String,
    identity: String,
    times: LeaderElectionTimings,
    clock: Arc<dyn Clock>,
}

/// The durations of an election.
#[derive(Clone, Copy, Debug)]
pub struct LeaderElectionTimings {
    /// See [`LEASE_DURATION`].
    pub duration: Duration,
    /// See [`RENEW_DEADLINE`].
    pub renew_deadline: Duration,
    /// See [`RETRY_PERIOD`].
    pub retry: Duration,
}

impl Default for LeaderElectionTimings {
    fn default() -> Self {
        Self {
            duration: LEASE_DURATION,
            renew_deadline: RENEW_DEADLINE,
            retry: RETRY_PERIOD,
        }
    }
}

/// Until when the Lease is guaranteed to be ours. Updated by its renewal, checked before each
/// write.
#[derive(Clone, Debug)]
pub struct LeadershipTerm(Arc<Mutex<Instant>>);

impl LeadershipTerm {
    /// Runs `work`, but no step of it after the end of the term; then the result is `None`.
    pub async fn run_within_term<F: Future>(&self, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        std::future::poll_fn(|context| {
            if self.has_expired() {
                Poll::Ready(None)
            } else {
                work.as_mut().poll(context).map(Some)
            }
        })
        .await
    }

    fn has_expired(&self) -> bool {
        Instant::now() >= *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn extend_until(&self, end: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }
}

/// A version of the Lease by another holder, and since when it is unchanged.
struct ObservedLeaseVersion {
    version: String,
    since: Instant,
}

impl LeaderElector {
    /// An elector for the Lease `name` as `identity`, which must be unique. `clock` is only for the
    /// times in the Lease, and is never compared.
    pub fn new(
        api: Api<Lease>,
        name: &str,
        identity: &str,
        times: LeaderElectionTimings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            api,
            name: name.to_owned(),
            identity: identity.to_owned(),
            times,
            clock,
        }
    }

    /// Returns once the Lease is acquired. Errors of the API server are logged, and the attempt is
    /// repeated. `responded` is called after each response.
    pub async fn acquire_lease(&self, responded: impl Fn()) {
        let mut seen = None;
        loop {
            match timeout(self.times.retry * 2, self.try_acquire_or_renew(&mut seen)).await {
                Ok(Ok(true)) => return responded(),
                Ok(Ok(false)) => responded(),
                Ok(Err(error)) => {
                    tracing::warn!(%error, lease = self.name, "the Lease cannot be read or written");
                }
                Err(_) => tracing::warn!(lease = self.name, "the API server does not answer"),
            }
            sleep(self.times.retry).await;
        }
    }

    /// The first term of a newly acquired Lease.
    pub fn first_term(&self) -> LeadershipTerm {
        LeadershipTerm(Arc::new(Mutex::new(
            Instant::now() + self.times.renew_deadline,
        )))
    }

    /// Renews the Lease, and with it the term, and returns once it is lost. The caller must stop
    /// writing immediately.
    pub async fn renew_until_lost(&self, term: &LeadershipTerm) {
        let mut last = Instant::now();
        loop {
            sleep(self.times.retry).await;
            let begun = Instant::now();
            let left = (last + self.times.renew_deadline).saturating_duration_since(begun);
            match timeout(left, self.try_acquire_or_renew(&mut None)).await {
                Ok(Ok(true)) => {
                    last = begun;
                    term.extend_until(begun + self.times.renew_deadline);
                }
                Ok(Err(error)) if last.elapsed() < self.times.renew_deadline => {
                    tracing::warn!(%error, lease = self.name, "renewing the Lease failed");
                }
                Ok(Ok(false) | Err(_)) | Err(_) => return,
            }
        }
    }

    /// Releases the Lease, so that another replica need not wait for its expiry.
    pub async fn release_lease(&self) {
        let give_up = async {
            let mut lease = self.api.get(&self.name).await?;
            if holder_identity(&lease) == self.identity {
                lease.spec.get_or_insert_default().holder_identity = Some(String::new());
                self.api
                    .replace(&self.name, &PostParams::default(), &lease)
                    .await?;
            }
            Ok::<_, kube::Error>(())
        };
        match timeout(self.times.renew_deadline, give_up).await {
            Ok(Ok(())) => (),
            Ok(Err(error)) => {
                tracing::warn!(%error, lease = self.name, "the Lease was not released");
            }
            Err(_) => tracing::warn!(
                lease = self.name,
                "the Lease was not released: the API server does not answer"
            ),
        }
    }

    /// Takes or renews the Lease, if allowed.
    async fn try_acquire_or_renew(
        &self,
        seen: &mut Option<ObservedLeaseVersion>,
    ) -> kube::Result<bool> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            return self.create_lease().await;
        };
        if holder_identity(&lease) != self.identity
            && !holder_identity(&lease).is_empty()
            && !self.is_abandoned(&lease, seen)
        {
            return Ok(false);
        }
        lease.spec = Some(self.renewed_spec(lease.spec.take().unwrap_or_default()));
        match self
            .api
            .replace(&self.name, &PostParams::default(), &lease)
            .await
        {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn create_lease(&self) -> kube::Result<bool> {
        let metadata = kube::core::ObjectMeta {
            name: Some(self.name.clone()),
            ..Default::default()
        };
        let lease = Lease {
            metadata,
            spec: Some(self.renewed_spec(LeaseSpec::default())),
        };
        match self.api.create(&PostParams::default(), &lease).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_abandoned(&self, lease: &Lease, seen: &mut Option<ObservedLeaseVersion>) -> bool {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        match seen {
            Some(known) if known.version == version => known.since.elapsed() >= self.times.duration,
            _ => {
                *seen = Some(ObservedLeaseVersion {
                    version,
                    since: Instant::now(),
                });
                false
            }
        }
    }

    fn renewed_spec(&self, old: LeaseSpec) -> LeaseSpec {
        let now = MicroTime(self.clock.now());
        let mine = old.holder_identity.as_deref() == Some(&self.identity);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(
                i32::try_from(self.times.duration.as_secs().max(1)).unwrap_or(i32::MAX),
            ),
            acquire_time: Some(
                old.acquire_time
                    .filter(|_| mine)
                    .unwrap_or_else(|| now.clone()),
            ),
            renew_time: Some(now),
            lease_transitions: Some(old.lease_transitions.unwrap_or_default() + i32::from(!mine)),
            ..old
        }
    }
}

fn holder_identity(lease: &Lease) -> &str {
    lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
