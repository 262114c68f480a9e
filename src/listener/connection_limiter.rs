//! The open connections, and which of them is closed for a new one.
//!
//! A peer that opens many can only exclude itself: at its own limit, or when all slots are taken
//! and it holds the most, one of its own connections is closed. Those that never sent a request are
//! closed first, the oldest of them before the others; then those that wait for the next request.
//! One with a request in progress is never closed, so a peer whose connections are all busy is
//! refused another.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limits::ListenerLimits;

/// Every open connection.
#[derive(Clone)]
pub(super) struct ConnectionLimiter {
    bounds: ListenerLimits,
    open: Arc<Mutex<OpenConnections>>,
}

#[derive(Default)]
struct OpenConnections {
    total: usize,
    by_address: HashMap<IpAddr, Vec<ConnectionEntry>>,
}

struct ConnectionEntry {
    activity: ConnectionActivity,
    evicted: CancellationToken,
}

/// One open connection. Its slot is released when this is dropped.
pub(super) struct AdmittedConnection {
    address: IpAddr,
    activity: ConnectionActivity,
    evicted: CancellationToken,
    open: Arc<Mutex<OpenConnections>>,
}

/// The activity of a connection.
#[derive(Clone)]
pub(super) struct ConnectionActivity(Arc<Mutex<ConnectionActivityState>>);

#[derive(Clone, Copy)]
struct ConnectionActivityState {
    requests_in_progress: usize,
    has_answered: bool,
    /// When it was opened, or when the last response was sent.
    since: Instant,
}

/// A request in progress, until it is dropped.
pub(super) struct RequestInProgress(ConnectionActivity);

impl ConnectionLimiter {
    pub(super) fn new(bounds: ListenerLimits) -> Self {
        Self {
            bounds,
            open: Arc::default(),
        }
    }

    /// A slot for a connection from `address`. `None`: there is none for it.
    pub(super) fn admit_connection(&self, address: IpAddr) -> Option<AdmittedConnection> {
        let mut open = lock_unpoisoned(&self.open);
        let own = open.by_address.get(&address).map_or(0, Vec::len);
        if own >= self.bounds.connections_per_address {
            open.evict_least_needed(address)?;
        } else if open.total >= self.bounds.connections {
            let (holder, most) = open
                .by_address
                .iter()
                .map(|(address, entries)| (*address, entries.len()))
                .max_by_key(|(_, count)| *count)?;
            open.evict_least_needed(if most > own { holder } else { address })?;
        }
        let entry = ConnectionEntry {
            activity: ConnectionActivity::new(),
            evicted: CancellationToken::new(),
        };
        let connection = AdmittedConnection {
            address,
            activity: entry.activity.clone(),
            evicted: entry.evicted.clone(),
            open: Arc::clone(&self.open),
        };
        open.total += 1;
        open.by_address.entry(address).or_default().push(entry);
        Some(connection)
    }

    #[cfg(test)]
    pub(super) fn count_open(&self) -> usize {
        lock_unpoisoned(&self.open).total
    }
}

impl OpenConnections {
    /// Closes the least needed connection of `address`. `None`: all are busy.
    fn evict_least_needed(&mut self, address: IpAddr) -> Option<()> {
        let entries = self.by_address.get(&address)?;
        let idle = entries
            .iter()
            .enumerate()
            .map(|(at, entry)| (at, entry.activity.current_state()))
            .filter(|(_, seen)| seen.requests_in_progress == 0);
        let (at, _) = idle.min_by_key(|(_, seen)| (seen.has_answered, seen.since))?;
        let entry = self.remove_entry(address, at)?;
        entry.evicted.cancel();
        Some(())
    }

    fn remove_entry(&mut self, address: IpAddr, at: usize) -> Option<ConnectionEntry> {
        let entries = self.by_address.get_mut(&address)?;
        let entry = entries.remove(at);
        if entries.is_empty() {
            self.by_address.remove(&address);
        }
        self.total -= 1;
        Some(entry)
    }
}

impl AdmittedConnection {
    /// The address of the peer.
    pub(super) const fn address(&self) -> IpAddr {
        self.address
    }

    /// The current activity.
    pub(super) fn activity(&self) -> ConnectionActivity {
        self.activity.clone()
    }

    /// Cancelled when the connection is evicted.
    pub(super) fn eviction_token(&self) -> CancellationToken {
        self.evicted.clone()
    }
}

impl Drop for AdmittedConnection {
    fn drop(&mut self) {
        let mut open = lock_unpoisoned(&self.open);
        let at = open.by_address.get(&self.address).and_then(|entries| {
            entries
                .iter()
                .position(|entry| Arc::ptr_eq(&entry.activity.0, &self.activity.0))
        });
        if let Some(at) = at {
            open.remove_entry(self.address, at);
        }
    }
}

impl ConnectionActivity {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(ConnectionActivityState {
            requests_in_progress: 0,
            has_answered: false,
            since: Instant::now(),
        })))
    }

    /// Marks the beginning of a request.
    pub(super) fn begin_request(&self) -> RequestInProgress {
        lock_unpoisoned(&self.0).requests_in_progress += 1;
        RequestInProgress(self.clone())
    }

    /// True if a request on it was ever answered.
    pub(super) fn has_answered(&self) -> bool {
        self.current_state().has_answered
    }

    /// When to check its idle timeout again. `None`: it has passed.
    pub(super) fn next_idle_check(&self, bounds: ListenerLimits) -> Option<Instant> {
        let seen = self.current_state();
        if seen.requests_in_progress > 0 {
            return Some(Instant::now() + bounds.head.min(bounds.idle));
        }
        let end = seen.since
            + if seen.has_answered {
                bounds.idle
            } else {
                bounds.head
            };
        (end > Instant::now()).then_some(end)
    }

    fn current_state(&self) -> ConnectionActivityState {
        *lock_unpoisoned(&self.0)
    }
}

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        let mut seen = lock_unpoisoned(&self.0.0);
        *seen = ConnectionActivityState {
            requests_in_progress: seen.requests_in_progress - 1,
            has_answered: true,
            since: Instant::now(),
        };
    }
}

fn lock_unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
