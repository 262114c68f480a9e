//! A queue for scarce resources that is fair between namespaces and between registries.
//!
//! No namespace and no registry may hold more than its quota. Further requests wait in the queue of
//! their namespace, and released permits go to the namespaces in turn: a namespace with many
//! requests only delays itself, and a slow registry holds only its own quota. Within a queue,
//! requests for other registries overtake those whose registry has used up its quota.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// The total number of permits, and the quotas.
#[derive(Clone, Copy, Debug)]
pub struct FairQueueLimits {
    /// The total number of permits.
    pub all: usize,
    /// Permits of one namespace.
    pub namespace: usize,
    /// Permits for one registry, by its host.
    pub host: usize,
    /// Permits of one namespace for one registry.
    pub namespace_at_host: usize,
    /// The maximum number of waiting requests.
    pub waiting: usize,
    /// The number of waiting requests of one namespace.
    pub waiting_of_namespace: usize,
}

/// The namespace and the registry of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FairQueueKey {
    /// The namespace; empty on the command line.
    pub namespace: Arc<str>,
    /// The registry's host; empty for a layout or archive.
    pub host: Arc<str>,
}

impl FairQueueKey {
    /// The key of this namespace and registry.
    pub fn new(namespace: Option<&str>, host: Option<&str>) -> Self {
        Self {
            namespace: namespace.unwrap_or_default().into(),
            host: host.unwrap_or_default().into(),
        }
    }
}

/// The quota that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExhaustedQuota {
    /// The quota of the namespace.
    Namespace,
    /// The quota of the registry.
    Host,
    /// All permits.
    All,
}

/// The queue that is too long for another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FairQueueFull {
    /// The queue of the namespace.
    Namespace,
    /// All queues together.
    All,
}

/// The shared queue.
#[derive(Debug)]
pub struct FairQueue {
    bounds: FairQueueLimits,
    state: Mutex<FairQueueState>,
}

/// One permit, released on drop.
#[derive(Debug)]
pub struct FairQueuePermit {
    shares: Arc<FairQueue>,
    party: FairQueueKey,
}

type PermitSender = oneshot::Sender<Result<FairQueuePermit, FairQueueFull>>;

#[derive(Debug, Default)]
struct FairQueueState {
    all: usize,
    namespaces: HashMap<Arc<str>, usize>,
    hosts: HashMap<Arc<str>, usize>,
    pairs: HashMap<FairQueueKey, usize>,
    lines: HashMap<Arc<str>, VecDeque<QueuedWaiter>>,
    /// Namespaces with waiting requests, in turn; the first is next.
    turns: VecDeque<Arc<str>>,
    waiting: usize,
    number: u64,
}

#[derive(Debug)]
struct QueuedWaiter {
    number: u64,
    party: FairQueueKey,
    ready: PermitSender,
}

/// A waiting request, which leaves the queue on drop.
struct QueuePlaceGuard<'a> {
    shares: &'a FairQueue,
    namespace: Arc<str>,
    number: u64,
}

impl FairQueue {
    /// A queue with all permits free.
    pub fn new(bounds: FairQueueLimits) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            state: Mutex::default(),
        })
    }

    /// Takes a permit if one is free now. It overtakes no waiting request that could take the same
    /// permit: the quota that blocks those blocks all like them.
    pub fn try_acquire(
        self: &Arc<Self>,
        party: &FairQueueKey,
    ) -> Result<FairQueuePermit, ExhaustedQuota> {
        let mut state = self.lock_state();
        match state.exhausted_quota(party, &self.bounds) {
            Some(taken) => Err(taken),
            None => Ok(self.grant_permit(&mut state, party)),
        }
    }

    /// Takes a permit, and waits for it if necessary.
    pub async fn acquire_permit(
        self: &Arc<Self>,
        party: &FairQueueKey,
    ) -> Result<FairQueuePermit, FairQueueFull> {
        let (receiver, _waiting) = {
            let mut state = self.lock_state();
            if state.exhausted_quota(party, &self.bounds).is_none() {
                return Ok(self.grant_permit(&mut state, party));
            }
            let (ready, receiver) = oneshot::channel();
            let number = state.enqueue_waiter(party, ready, &self.bounds)?;
            (
                receiver,
                QueuePlaceGuard {
                    shares: self,
                    namespace: Arc::clone(&party.namespace),
                    number,
                },
            )
        };
        // A result is sent before the sender is dropped.
        receiver.await.unwrap_or(Err(FairQueueFull::All))
    }

    /// The number of waiting requests.
    pub fn waiting_count(&self) -> usize {
        self.lock_state().waiting
    }

    fn lock_state(&self) -> MutexGuard<'_, FairQueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grant_permit(
        self: &Arc<Self>,
        state: &mut FairQueueState,
        party: &FairQueueKey,
    ) -> FairQueuePermit {
        state.add_usage(party);
        FairQueuePermit {
            shares: Arc::clone(self),
            party: party.clone(),
        }
    }
}

impl FairQueueState {
    fn exhausted_quota(
        &self,
        party: &FairQueueKey,
        bounds: &FairQueueLimits,
    ) -> Option<ExhaustedQuota> {
        if count_of(&self.namespaces, &party.namespace) >= bounds.namespace
            || count_of(&self.pairs, party) >= bounds.namespace_at_host
        {
            return Some(ExhaustedQuota::Namespace);
        }
        if count_of(&self.hosts, &party.host) >= bounds.host {
            return Some(ExhaustedQuota::Host);
        }
        (self.all >= bounds.all).then_some(ExhaustedQuota::All)
    }

    fn add_usage(&mut self, party: &FairQueueKey) {
        self.all += 1;
        *self
            .namespaces
            .entry(Arc::clone(&party.namespace))
            .or_default() += 1;
        *self.hosts.entry(Arc::clone(&party.host)).or_default() += 1;
        *self.pairs.entry(party.clone()).or_default() += 1;
    }

    fn release_usage(&mut self, party: &FairQueueKey) {
        self.all = self.all.saturating_sub(1);
        decrement_count(&mut self.namespaces, &party.namespace);
        decrement_count(&mut self.hosts, &party.host);
        decrement_count(&mut self.pairs, party);
    }

    /// Adds a request to the queue of its namespace. If too many wait, the last one of the longest
    /// queue is removed.
    fn enqueue_waiter(
        &mut self,
        party: &FairQueueKey,
        ready: PermitSender,
        bounds: &FairQueueLimits,
    ) -> Result<u64, FairQueueFull> {
        let mine = self.lines.get(&party.namespace).map_or(0, VecDeque::len);
        if mine >= bounds.waiting_of_namespace {
            return Err(FairQueueFull::Namespace);
        }
        if self.waiting >= bounds.waiting {
            let longest = self
                .lines
                .iter()
                .max_by_key(|(_, line)| line.len())
                .filter(|(_, line)| line.len() > mine + 1);
            let longest = longest
                .map(|(namespace, _)| Arc::clone(namespace))
                .ok_or(FairQueueFull::All)?;
            let last = self
                .lines
                .get(&longest)
                .map_or(0, VecDeque::len)
                .saturating_sub(1);
            if let Some(waiter) = self.remove_waiter(&longest, last) {
                drop(waiter.ready.send(Err(FairQueueFull::All)));
            }
        }
        self.number += 1;
        let line = self.lines.entry(Arc::clone(&party.namespace)).or_default();
        if line.is_empty() {
            self.turns.push_back(Arc::clone(&party.namespace));
        }
        line.push_back(QueuedWaiter {
            number: self.number,
            party: party.clone(),
            ready,
        });
        self.waiting += 1;
        Ok(self.number)
    }

    /// The next request, in turn, that can be given a permit now.
    fn next_waiter(&mut self, bounds: &FairQueueLimits) -> Option<QueuedWaiter> {
        for turn in 0..self.turns.len() {
            let namespace = self.turns.get(turn).map(Arc::clone)?;
            let line = self.lines.get(&namespace)?;
            let Some(at) = line
                .iter()
                .position(|waiter| self.exhausted_quota(&waiter.party, bounds).is_none())
            else {
                continue;
            };
            let waiter = self.remove_waiter(&namespace, at)?;
            // A namespace with further waiting requests is last in turn now.
            if let Some(at) = self.turns.iter().position(|other| *other == namespace) {
                self.turns.remove(at);
                self.turns.push_back(namespace);
            }
            return Some(waiter);
        }
        None
    }

    fn remove_waiter(&mut self, namespace: &Arc<str>, at: usize) -> Option<QueuedWaiter> {
        let line = self.lines.get_mut(namespace)?;
        let waiter = line.remove(at)?;
        let is_empty = line.is_empty();
        self.waiting -= 1;
        if is_empty {
            self.lines.remove(namespace);
            self.turns.retain(|other| other != namespace);
        }
        Some(waiter)
    }
}

fn count_of<K: Eq + Hash>(counts: &HashMap<K, usize>, key: &K) -> usize {
    counts.get(key).copied().unwrap_or_default()
}

/// Entries with a count of 0 are removed.
fn decrement_count<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Drop for FairQueuePermit {
    fn drop(&mut self) {
        let mut given = Vec::new();
        let mut state = self.shares.lock_state();
        state.release_usage(&self.party);
        while let Some(QueuedWaiter { party, ready, .. }) = state.next_waiter(&self.shares.bounds) {
            given.push((ready, self.shares.grant_permit(&mut state, &party)));
        }
        drop(state);
        // If the receiver is gone, the permit is returned, and goes to the next.
        for (ready, share) in given {
            drop(ready.send(Ok(share)));
        }
    }
}

impl Drop for QueuePlaceGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.shares.lock_state();
        let at = state
            .lines
            .get(&self.namespace)
            .and_then(|line| line.iter().position(|waiter| waiter.number == self.number));
        if let Some(at) = at {
            state.remove_waiter(&self.namespace, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const BOUNDS: FairQueueLimits = FairQueueLimits {
        all: 6,
        namespace: 4,
        host: 4,
        namespace_at_host: 3,
        waiting: 6,
        waiting_of_namespace: 4,
    };

    fn party(namespace: &str, host: &str) -> FairQueueKey {
        FairQueueKey::new(Some(namespace), Some(host))
    }

    fn take(
        shares: &Arc<FairQueue>,
        namespace: &str,
        host: &str,
        count: usize,
    ) -> Vec<FairQueuePermit> {
        (0..count)
            .map(|_| shares.try_acquire(&party(namespace, host)).expect("free"))
            .collect()
    }

    #[test]
    fn nobody_has_more_than_their_part() {
        let shares = FairQueue::new(BOUNDS);
        let mut held = take(&shares, "a", "slow", 3);
        assert_eq!(
            shares.try_acquire(&party("a", "slow")).err(),
            Some(ExhaustedQuota::Namespace),
            "its part of this registry"
        );
        held.extend(take(&shares, "a", "other", 1));
        assert_eq!(
            shares.try_acquire(&party("a", "other")).err(),
            Some(ExhaustedQuota::Namespace)
        );
        held.extend(take(&shares, "b", "slow", 1));
        assert_eq!(
            shares.try_acquire(&party("b", "slow")).err(),
            Some(ExhaustedQuota::Host)
        );
        held.extend(take(&shares, "b", "fast", 1));
        assert_eq!(
            shares.try_acquire(&party("c", "fast")).err(),
            Some(ExhaustedQuota::All)
        );
        drop(held);
        let state = shares.lock_state();
        assert!(
            (
                state.all,
                state.namespaces.len(),
                state.hosts.len(),
                state.pairs.len()
            ) == (0, 0, 0, 0),
            "{state:?}"
        );
    }

    #[tokio::test]
    async fn namespaces_take_turns_and_a_slow_registry_holds_up_only_itself() {
        let shares = FairQueue::new(FairQueueLimits {
            all: 2,
            host: 1,
            namespace: 2,
            ..BOUNDS
        });
        let (slow, fast) = (take(&shares, "a", "slow", 1), take(&shares, "a", "fast", 1));
        let wanted = [("a", "slow"), ("a", "fast"), ("a", "fast"), ("b", "fast")];
        let parties = wanted.map(|(namespace, host)| party(namespace, host));
        let mut waiting: Vec<_> = parties
            .iter()
            .map(|party| Box::pin(shares.acquire_permit(party)))
            .collect();
        assert!(
            waiting
                .iter_mut()
                .all(|waiter| waiter.now_or_never().is_none())
        );
        let (mut order, mut given) = (Vec::new(), fast);
        while order.len() < 3 {
            given.clear();
            for (at, waiter) in waiting
                .iter_mut()
                .enumerate()
                .filter(|(at, _)| !order.contains(at))
                .collect::<Vec<_>>()
            {
                if let Some(share) = waiter.as_mut().now_or_never() {
                    given.push(share.expect("a share"));
                    order.push(at);
                }
            }
            assert_eq!(given.len(), 1, "one was given back: {order:?}");
        }
        assert_eq!(
            order,
            [1, 3, 2],
            "the other registry first, then the other namespace"
        );
        drop((waiting, slow));
        assert_eq!(shares.waiting_count(), 0);
    }

    #[tokio::test]
    async fn lines_are_bounded_and_the_longest_gives_way() {
        let shares = FairQueue::new(BOUNDS);
        let _held = [take(&shares, "x", "one", 3), take(&shares, "y", "two", 3)];
        let (a, b, c) = (party("a", "h"), party("b", "h"), party("c", "h"));
        let mut waiting = Vec::new();
        for party in [&a, &a, &a, &a, &b, &b] {
            let mut waiter = Box::pin(shares.acquire_permit(party));
            assert!(waiter.as_mut().now_or_never().is_none());
            waiting.push(waiter);
        }
        assert_eq!(
            shares.acquire_permit(&a).await.err(),
            Some(FairQueueFull::Namespace)
        );
        let mut third = Box::pin(shares.acquire_permit(&c));
        assert!(
            third.as_mut().now_or_never().is_none(),
            "there is a place in line for who has none"
        );
        assert_eq!(
            waiting[3].as_mut().now_or_never().map(Result::err),
            Some(Some(FairQueueFull::All)),
            "the last of the longest line"
        );
        assert_eq!(shares.waiting_count(), BOUNDS.waiting);
        drop((waiting, third));
        assert_eq!(shares.waiting_count(), 0);
    }

    #[tokio::test]
    async fn who_has_left_is_passed_over() {
        let shares = FairQueue::new(FairQueueLimits { all: 1, ..BOUNDS });
        let held = take(&shares, "a", "h", 1);
        let (b, c) = (party("b", "h"), party("c", "h"));
        let mut gone = Box::pin(shares.acquire_permit(&b));
        let mut waits = Box::pin(shares.acquire_permit(&c));
        assert!(gone.as_mut().now_or_never().is_none() && waits.as_mut().now_or_never().is_none());
        drop(held);
        drop(gone);
        assert!(
            waits
                .as_mut()
                .now_or_never()
                .is_some_and(|share| share.is_ok()),
            "it was given to somebody who was gone by then"
        );
    }
}
