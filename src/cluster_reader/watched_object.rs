//! Watches one object.

use std::{convert::Infallible, ops::ControlFlow, time::Duration};

use futures::StreamExt;
use kube::{Api, Resource, runtime::watcher};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// The observed state of an object.
#[derive(Clone, Debug)]
pub enum WatchedObjectState<T> {
    /// The watch has not started, or it failed and is started again.
    Unknown,
    /// The object does not exist.
    Absent,
    /// The object as observed.
    Present(T),
}

/// Calls `observe` with each state of the object, until it breaks. `None`: the watch ended.
pub async fn follow_object<K, T>(
    api: Api<K>,
    name: &str,
    retry_delay: Duration,
    mut observe: impl FnMut(WatchedObjectState<K>) -> ControlFlow<T>,
) -> Option<T>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    let mut events = std::pin::pin!(watcher::watch_object(api, name));
    while let Some(event) = events.next().await {
        let failed = event.is_err();
        let state = match event {
            Ok(found) => found.map_or(WatchedObjectState::Absent, WatchedObjectState::Present),
            Err(error) => {
                tracing::warn!(%error, name, kind = %K::kind(&()), "a watch failed, it is restarted");
                WatchedObjectState::Unknown
            }
        };
        if let ControlFlow::Break(result) = observe(state) {
            return Some(result);
        }
        if failed {
            tokio::time::sleep(retry_delay).await;
        }
    }
    None
}

/// The last observed state of an object, until it is dropped.
pub struct WatchedObject<K> {
    object: watch::Receiver<WatchedObjectState<K>>,
    _watching: AbortOnDropHandle<()>,
}

impl<K> WatchedObject<K>
where
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    /// Starts the watch. After an error it pauses for `retry_delay`.
    pub fn start(api: Api<K>, name: &'static str, retry_delay: Duration) -> Self {
        let (newest, object) = watch::channel(WatchedObjectState::Unknown);
        let watching = tokio::spawn(async move {
            let observe = |state| {
                // What was seen before an error is still the newest that is known.
                if !matches!(state, WatchedObjectState::Unknown) {
                    newest.send_replace(state);
                }
                ControlFlow::<Infallible>::Continue(())
            };
            follow_object(api, name, retry_delay, observe).await;
        });
        Self {
            object,
            _watching: AbortOnDropHandle::new(watching),
        }
    }

    /// The last observed state.
    pub fn get(&self) -> WatchedObjectState<K> {
        self.object.borrow().clone()
    }
}
