//! The connections that are open, and which of them makes room for another.
//!
//! A peer that opens many can keep out nobody but itself: at its own bound, or when all places are
//! taken and it holds the most, one of its own connections is closed. The first to go are those
//! that never brought a request, the oldest first; then those that wait for the next one. One with
//! a request under way never goes, so a peer whose connections are all at work is refused another.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Bounds;

/// Every open connection.
#[derive(Clone)]
pub(super) struct Connections {
    bounds: Bounds,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    total: usize,
    of: HashMap<IpAddr, Vec<Entry>>,
}

struct Entry {
    activity: Activity,
    evicted: CancellationToken,
}

/// One open connection. Its place is free again when it is dropped.
pub(super) struct Connection {
    address: IpAddr,
    activity: Activity,
    evicted: CancellationToken,
    open: Arc<Mutex<Open>>,
}

/// What happens on one connection.
#[derive(Clone)]
pub(super) struct Activity(Arc<Mutex<Seen>>);

#[derive(Clone, Copy)]
struct Seen {
    under_way: usize,
    has_answered: bool,
    /// When it was opened, or when the last answer was given.
    since: Instant,
}

/// A request under way, until it is dropped.
pub(super) struct UnderWay(Activity);

impl Connections {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            open: Arc::default(),
        }
    }

    /// A place for a connection from `address`. `None`: there is none for it.
    pub(super) fn admit(&self, address: IpAddr) -> Option<Connection> {
        let mut open = lock(&self.open);
        let own = open.of.get(&address).map_or(0, Vec::len);
        if own >= self.bounds.connections_per_address {
            open.evict(address)?;
        } else if open.total >= self.bounds.connections {
            let (holder, most) = open
                .of
                .iter()
                .map(|(address, entries)| (*address, entries.len()))
                .max_by_key(|(_, count)| *count)?;
            open.evict(if most > own { holder } else { address })?;
        }
        let entry = Entry {
            activity: Activity::new(),
            evicted: CancellationToken::new(),
        };
        let connection = Connection {
            address,
            activity: entry.activity.clone(),
            evicted: entry.evicted.clone(),
            open: Arc::clone(&self.open),
        };
        open.total += 1;
        open.of.entry(address).or_default().push(entry);
        Some(connection)
    }

    #[cfg(test)]
    pub(super) fn total(&self) -> usize {
        lock(&self.open).total
    }
}

impl Open {
    /// Closes the connection of `address` that is missed least. `None`: all are at work.
    fn evict(&mut self, address: IpAddr) -> Option<()> {
        let entries = self.of.get(&address)?;
        let idle = entries
            .iter()
            .enumerate()
            .map(|(at, entry)| (at, entry.activity.seen()))
            .filter(|(_, seen)| seen.under_way == 0);
        let (at, _) = idle.min_by_key(|(_, seen)| (seen.has_answered, seen.since))?;
        let entry = self.remove(address, at)?;
        entry.evicted.cancel();
        Some(())
    }

    fn remove(&mut self, address: IpAddr, at: usize) -> Option<Entry> {
        let entries = self.of.get_mut(&address)?;
        let entry = entries.remove(at);
        if entries.is_empty() {
            self.of.remove(&address);
        }
        self.total -= 1;
        Some(entry)
    }
}

impl Connection {
    /// Who opened it.
    pub(super) const fn address(&self) -> IpAddr {
        self.address
    }

    /// What happens on it.
    pub(super) fn activity(&self) -> Activity {
        self.activity.clone()
    }

    /// Cancelled when it has to make room.
    pub(super) fn evicted(&self) -> CancellationToken {
        self.evicted.clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        let at = open.of.get(&self.address).and_then(|entries| {
            entries
                .iter()
                .position(|entry| Arc::ptr_eq(&entry.activity.0, &self.activity.0))
        });
        if let Some(at) = at {
            open.remove(self.address, at);
        }
    }
}

impl Activity {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Seen {
            under_way: 0,
            has_answered: false,
            since: Instant::now(),
        })))
    }

    /// A request begins.
    pub(super) fn begin(&self) -> UnderWay {
        lock(&self.0).under_way += 1;
        UnderWay(self.clone())
    }

    /// Was a request of it ever answered?
    pub(super) fn has_answered(&self) -> bool {
        self.seen().has_answered
    }

    /// When to look again whether it has been idle for too long. `None`: it has.
    pub(super) fn due(&self, bounds: Bounds) -> Option<Instant> {
        let seen = self.seen();
        if seen.under_way > 0 {
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

    fn seen(&self) -> Seen {
        *lock(&self.0)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut seen = lock(&self.0.0);
        *seen = Seen {
            under_way: seen.under_way - 1,
            has_answered: true,
            since: Instant::now(),
        };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
