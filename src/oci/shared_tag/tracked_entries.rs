//! What the writers of one tag in this process know about its list.

use std::{
    any::Any,
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use super::tag::SharedTag;

/// One list, shared by all of its writers in this process.
pub(super) struct TrackedTag<E> {
    turn: tokio::sync::Mutex<()>,
    /// True if this process has written it.
    written: AtomicBool,
    known: Mutex<TrackedEntries<E>>,
}

/// Entries that are, were, or will be in a list.
pub(super) struct TrackedEntries<E> {
    /// The entries of this process.
    pub(super) own: Vec<E>,
    /// Entries of other writers.
    pub(super) others: Vec<E>,
}

impl<E> Default for TrackedTag<E> {
    fn default() -> Self {
        let known = TrackedEntries {
            own: Vec::new(),
            others: Vec::new(),
        };
        Self {
            turn: tokio::sync::Mutex::default(),
            written: AtomicBool::default(),
            known: Mutex::new(known),
        }
    }
}

impl<E: Clone + Send + Sync + 'static> TrackedTag<E> {
    /// The state of the tag with this name. A tag has entries of one type.
    pub(super) fn get_shared(name: &str) -> Arc<Self> {
        static TAGS: LazyLock<Mutex<HashMap<String, Weak<dyn Any + Send + Sync>>>> =
            LazyLock::new(Mutex::default);
        let mut tags = TAGS.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tags.get(name).and_then(Weak::upgrade);
        if let Some(Ok(tag)) = known.map(Arc::downcast) {
            return tag;
        }
        tags.retain(|_, tag| tag.strong_count() > 0);
        let tag = Arc::new(Self::default());
        let shared: Arc<dyn Any + Send + Sync> = Arc::<Self>::clone(&tag);
        tags.insert(name.into(), Arc::downgrade(&shared));
        tag
    }

    /// Waits until no other task of this process reads and writes the list.
    pub(super) async fn take_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    pub(super) fn is_written(&self) -> bool {
        self.written.load(Ordering::Relaxed)
    }

    pub(super) fn set_written(&self) {
        self.written.store(true, Ordering::Relaxed);
    }

    pub(super) fn add_own<T: SharedTag<Entry = E>>(&self, entry: E) {
        let mut known = self.lock_known();
        known
            .others
            .retain(|other| !T::is_same_entry(other, &entry));
        if !contains_entry::<T>(&known.own, &entry) {
            known.own.push(entry);
        }
    }

    /// Remembers entries of other writers, and returns how many these are.
    pub(super) fn track_others<T: SharedTag<Entry = E>>(&self, found: &[E]) -> usize {
        let mut known = self.lock_known();
        for entry in found {
            if !contains_entry::<T>(&known.own, entry) && !contains_entry::<T>(&known.others, entry)
            {
                known.others.push(entry.clone());
            }
        }
        known.others.len()
    }

    /// Tracked entries that are missing.
    pub(super) fn missing_entries<T: SharedTag<Entry = E>>(
        &self,
        found: &[E],
    ) -> TrackedEntries<E> {
        let known = self.lock_known();
        let absent = |entries: &[E]| {
            entries
                .iter()
                .filter(|entry| !contains_entry::<T>(found, entry))
                .cloned()
                .collect()
        };
        TrackedEntries {
            own: absent(&known.own),
            others: absent(&known.others),
        }
    }

    fn lock_known(&self) -> MutexGuard<'_, TrackedEntries<E>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn contains_entry<T: SharedTag>(entries: &[T::Entry], entry: &T::Entry) -> bool {
    entries.iter().any(|other| T::is_same_entry(other, entry))
}
