//! Runs in progress: whoever needs the same one waits for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::sync::oneshot;

use super::{
    cached_answers::{AnswerScope, ProviderAnswer, ProviderKey},
    failure::ProviderFailure,
};
use crate::core::reference::ImageRepository;

/// Which runs are the same.
pub(super) type FlightKey = (ProviderKey, AnswerScope);
/// A run that several wait for.
pub(super) type Flight = Shared<BoxFuture<'static, Arc<FlightOutcome>>>;

/// How a run ended.
#[derive(Debug)]
pub(super) struct FlightOutcome {
    /// For which repository the program was run.
    pub(super) repository: ImageRepository,
    pub(super) result: Result<Arc<ProviderAnswer>, ProviderFailure>,
}

/// The runs in progress.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<FlightKey, Flight>>);

/// Removes a run when it ends, however that is.
struct FlightGuard {
    flights: Arc<Flights>,
    key: FlightKey,
}

impl Flights {
    /// The run in progress.
    pub(super) fn current(&self, key: &FlightKey) -> Option<Flight> {
        self.lock().get(key).cloned()
    }

    /// The run in progress, or a new one. It goes on when nobody waits for it any more.
    pub(super) fn join<F>(
        self: &Arc<Self>,
        key: FlightKey,
        repository: &ImageRepository,
        run: impl FnOnce() -> F,
    ) -> Flight
    where
        F: Future<Output = Result<Arc<ProviderAnswer>, ProviderFailure>> + Send + 'static,
    {
        let mut flights = self.lock();
        if let Some(flight) = flights.get(&key) {
            return flight.clone();
        }
        let (sender, receiver) = oneshot::channel();
        let stopped = FlightOutcome {
            repository: repository.clone(),
            result: Err(ProviderFailure::unavailable("its run was stopped".into())),
        };
        let flight: Flight = receiver
            .map(|ended| ended.unwrap_or_else(|_| Arc::new(stopped)))
            .boxed()
            .shared();
        flights.insert(key.clone(), flight.clone());
        let guard = FlightGuard {
            flights: Arc::clone(self),
            key,
        };
        let (running, repository) = (run(), repository.clone());
        tokio::spawn(async move {
            let result = running.await;
            drop(guard);
            // Nobody may wait for it any more.
            let _ = sender.send(Arc::new(FlightOutcome { repository, result }));
        });
        flight
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<FlightKey, Flight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FlightGuard {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.key);
    }
}
