//! Asks the plug-ins for the credentials of a repository.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::future::join_all;
use moka::sync::Cache;
use tokio::time::{Instant, timeout_at};

use super::{
    cached_answers::{AnswerScope, CachedAnswers, ProviderAnswer, ProviderKey},
    exchange::CacheKeyType,
    failure::ProviderFailure,
    flights::{Flight, Flights},
    identity::{AccountName, ProviderIdentity, ServiceAccountTokens},
    plugin::ProviderPlugin,
};
use crate::{
    core::{
        credential_provider::CredentialProviderSettings, reason::Reason, reference::ImageRepository,
    },
    oci::credentials::{
        CredentialLookup, CredentialStore, FoundCredentials, RegistryCredentialError,
        RegistryCredentials,
    },
    service::fair_queue::{FairQueue, FairQueueKey, FairQueueLimits},
};

/// Programs that run at the same time, and those that wait for it.
const RUNS: FairQueueLimits = FairQueueLimits {
    all: 16,
    namespace: 4,
    host: 16,
    namespace_at_host: 4,
    waiting: 1_000,
    waiting_of_namespace: 200,
};
/// How long a failure is remembered: a program that fails is not run for every image.
const FAILURE_TTL: Duration = Duration::from_secs(5);
/// The number of failures that are remembered.
const MAX_FAILURES: u64 = 1_024;

/// All plug-ins, in their order. Clones share what they gave.
#[derive(Clone)]
pub struct CredentialProviders(Arc<SharedProviders>);

/// For whom credentials are looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderRequester {
    /// The namespace of the object; empty on the command line.
    pub namespace: String,
    /// The ServiceAccount of the Pod, if there is one.
    pub service_account: Option<String>,
}

struct SharedProviders {
    plugins: Vec<ProviderPlugin>,
    /// Per plug-in, the last `cacheKeyType` that it gave: which runs are the same.
    key_types: Vec<AtomicU8>,
    answers: CachedAnswers,
    failures: Cache<(ProviderKey, String), ProviderFailure>,
    flights: Arc<Flights>,
    runs: Arc<FairQueue>,
    tokens: Option<Arc<dyn ServiceAccountTokens>>,
    wait: Duration,
}

/// The plug-ins, for one requester.
struct RequestedProviders {
    shared: Arc<SharedProviders>,
    requester: ProviderRequester,
}

/// One question to one plug-in.
#[derive(Clone)]
struct ProviderQuestion {
    key: ProviderKey,
    identity: ProviderIdentity,
    repository: ImageRepository,
    namespace: String,
    replaces_refused: bool,
}

impl CredentialProviders {
    /// Plug-ins with valid settings. Programs without `command` are in `folder`. Without `tokens`
    /// there are no ServiceAccounts. Nobody waits longer than `wait` for one.
    pub fn new(
        settings: Vec<CredentialProviderSettings>,
        folder: &Path,
        tokens: Option<Arc<dyn ServiceAccountTokens>>,
        wait: Duration,
    ) -> Self {
        let plugins: Vec<_> = settings
            .into_iter()
            .map(|settings| ProviderPlugin::new(settings, folder))
            .collect();
        Self(Arc::new(SharedProviders {
            key_types: plugins.iter().map(|_| AtomicU8::new(0)).collect(),
            plugins,
            answers: CachedAnswers::default(),
            failures: Cache::builder()
                .max_capacity(MAX_FAILURES)
                .time_to_live(FAILURE_TTL)
                .build(),
            flights: Arc::default(),
            runs: FairQueue::new(RUNS),
            tokens,
            wait,
        }))
    }

    /// The credentials that one requester gets.
    pub fn for_requester(&self, requester: ProviderRequester) -> Arc<dyn CredentialStore> {
        Arc::new(RequestedProviders {
            shared: Arc::clone(&self.0),
            requester,
        })
    }
}

impl fmt::Debug for CredentialProviders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.plugins.iter().map(|plugin| &plugin.settings.name))
            .finish()
    }
}

#[async_trait]
impl CredentialStore for RequestedProviders {
    async fn credentials_for_repository(&self, repository: &ImageRepository) -> CredentialLookup {
        let asking = self.matching(repository).into_iter().map(|at| async move {
            let Some(question) = self.question(at, repository).await? else {
                return Ok(None);
            };
            self.shared.answer(&question).await.map(Some)
        });
        self.collect(repository, join_all(asking).await)
    }

    async fn renew_credentials(
        &self,
        repository: &ImageRepository,
        refused: &[RegistryCredentials],
    ) -> CredentialLookup {
        let asking = self.matching(repository).into_iter().map(|at| async move {
            let Some(question) = self.question(at, repository).await? else {
                return Ok(None);
            };
            self.shared.replace_answer(question, refused).await
        });
        self.collect(repository, join_all(asking).await)
    }
}

/// What one plug-in gave; `None`: it was not asked.
type Answered = Result<Option<Arc<ProviderAnswer>>, ProviderFailure>;

impl RequestedProviders {
    /// The places of the plug-ins for a repository.
    fn matching(&self, repository: &ImageRepository) -> Vec<usize> {
        let plugins = self.shared.plugins.iter().enumerate();
        plugins
            .filter(|(_, plugin)| plugin.matches_repository(repository))
            .map(|(at, _)| at)
            .collect()
    }

    async fn question(
        &self,
        at: usize,
        repository: &ImageRepository,
    ) -> Result<Option<ProviderQuestion>, ProviderFailure> {
        let identity = match &self.shared.plugins[at].settings.token_attributes {
            None => Some(ProviderIdentity::default()),
            Some(attributes) => {
                let account = self.requester.service_account.as_ref();
                let account = account.map(|name| AccountName {
                    namespace: self.requester.namespace.clone(),
                    name: name.clone(),
                });
                let tokens = self.shared.tokens.as_deref();
                ProviderIdentity::resolve(attributes, account.as_ref(), tokens).await?
            }
        };
        Ok(identity.map(|identity| ProviderQuestion {
            key: ProviderKey {
                plugin: at,
                identity: identity.key,
            },
            identity,
            repository: repository.clone(),
            namespace: self.requester.namespace.clone(),
            replaces_refused: false,
        }))
    }

    fn collect(&self, repository: &ImageRepository, answered: Vec<Answered>) -> CredentialLookup {
        let mut lookup = CredentialLookup::default();
        for (at, answered) in self.matching(repository).into_iter().zip(answered) {
            let name = &self.shared.plugins[at].settings.name;
            let mut one = CredentialLookup::default();
            match answered {
                Ok(answer) => {
                    let found = answer.map(|answer| answer.response.credentials_for(repository));
                    one.found
                        .extend(found.unwrap_or_default().into_iter().map(|credentials| {
                            FoundCredentials {
                                credentials,
                                source: format!("credential provider {name}"),
                            }
                        }));
                }
                Err(ProviderFailure { cause, reason }) => {
                    one.failures.push(RegistryCredentialError::Provider {
                        name: name.clone(),
                        cause,
                        reason,
                    });
                }
            }
            lookup.append(one);
        }
        lookup
    }
}

impl SharedProviders {
    /// The answer to a question: a kept one, or that of a run.
    async fn answer(
        self: &Arc<Self>,
        question: &ProviderQuestion,
    ) -> Result<Arc<ProviderAnswer>, ProviderFailure> {
        let (key, repository) = (&question.key, &question.repository);
        let end = Instant::now() + self.wait;
        loop {
            let now = Instant::now();
            if let Some(kept) = self.answers.get(key, repository, now) {
                if kept.is_due(now) && self.known_failure(question).is_none() {
                    // Nobody waits for this one.
                    drop(self.start_run(question));
                }
                return Ok(kept.answer);
            }
            if let Some(failure) = self.known_failure(question) {
                return Err(failure);
            }
            let ended = timeout_at(end, self.start_run(question)).await;
            let outcome = ended.map_err(|_| self.late_failure())?;
            match &outcome.result {
                Ok(answer) if answer.scope.covers(repository) => return Ok(Arc::clone(answer)),
                Err(failure) if outcome.repository == *repository => return Err(failure.clone()),
                // The run was for another image, and its answer is not for this one.
                _ => {}
            }
        }
    }

    /// A new answer in place of one whose credentials were refused. `None`: there is none, or it
    /// was replaced just now.
    async fn replace_answer(
        self: &Arc<Self>,
        question: ProviderQuestion,
        refused: &[RegistryCredentials],
    ) -> Answered {
        let (key, repository) = (&question.key, &question.repository);
        let now = Instant::now();
        let Some(kept) = self.answers.get(key, repository, now) else {
            // Somebody else has found out first.
            return match self
                .flights
                .current(&(key.clone(), self.scope_of_run(&question)))
            {
                Some(_) => self.answer(&question).await.map(Some),
                None => Ok(None),
            };
        };
        let given = kept.answer.response.credentials_for(repository);
        if !given
            .iter()
            .any(|credentials| refused.contains(credentials))
        {
            return Ok(Some(kept.answer));
        }
        if !kept.may_be_replaced(now) {
            return Ok(None);
        }
        if let Some(failure) = self.known_failure(&question) {
            return Err(failure);
        }
        let question = ProviderQuestion {
            replaces_refused: true,
            ..question
        };
        // The kept answer counts for others until there is a new one.
        let ended = timeout_at(now + self.wait, self.start_run(&question)).await;
        let outcome = ended.map_err(|_| self.late_failure())?;
        match &outcome.result {
            Ok(answer) if answer.scope.covers(&question.repository) => Ok(Some(Arc::clone(answer))),
            Ok(_) => Ok(None),
            Err(failure) => Err(failure.clone()),
        }
    }

    fn known_failure(&self, question: &ProviderQuestion) -> Option<ProviderFailure> {
        let name = question.repository.to_string();
        self.failures.get(&(question.key.clone(), name))
    }

    fn late_failure(&self) -> ProviderFailure {
        let seconds = self.wait.as_secs_f32();
        ProviderFailure::unavailable(format!(
            "no response within {seconds} s; it may still run, try again"
        ))
    }

    /// Which runs are the same: those that the last answer would have been kept for. As long as
    /// nothing is known, one program runs at a time.
    fn scope_of_run(&self, question: &ProviderQuestion) -> AnswerScope {
        let key_type = match self.key_types[question.key.plugin].load(Ordering::Relaxed) {
            1 => CacheKeyType::Image,
            2 => CacheKeyType::Registry,
            _ => CacheKeyType::Global,
        };
        AnswerScope::new(key_type, &question.repository)
    }

    /// The run in progress, or a new one.
    fn start_run(self: &Arc<Self>, question: &ProviderQuestion) -> Flight {
        let key = (question.key.clone(), self.scope_of_run(question));
        let (shared, run) = (Arc::clone(self), question.clone());
        self.flights
            .join(key, &question.repository, move || async move {
                shared.run_plugin(&run).await
            })
    }

    async fn run_plugin(
        &self,
        question: &ProviderQuestion,
    ) -> Result<Arc<ProviderAnswer>, ProviderFailure> {
        let (plugin, repository) = (&self.plugins[question.key.plugin], &question.repository);
        let party = FairQueueKey::new(Some(&question.namespace), Some(repository.host()));
        let _permit = self.runs.acquire_permit(&party).await.map_err(|_| {
            let cause = "too many credential providers wait to be run; try again".to_owned();
            ProviderFailure {
                cause,
                reason: Reason::Overloaded,
            }
        })?;
        let ran = self.ask_plugin(plugin, question).await;
        match ran {
            Ok(answer) => {
                tracing::debug!(provider = %plugin.settings.name, %repository, "credentials given");
                Ok(answer)
            }
            Err(failure) => {
                let (provider, cause) = (&plugin.settings.name, &failure.cause);
                tracing::warn!(%provider, %repository, %cause, "a credential provider failed");
                let name = repository.to_string();
                self.failures
                    .insert((question.key.clone(), name), failure.clone());
                Err(failure)
            }
        }
    }

    async fn ask_plugin(
        &self,
        plugin: &ProviderPlugin,
        question: &ProviderQuestion,
    ) -> Result<Arc<ProviderAnswer>, ProviderFailure> {
        let (identity, repository) = (&question.identity, &question.repository);
        let token = identity.token(self.tokens.as_deref()).await?;
        let begun = Instant::now();
        let response = plugin.run(repository, identity, token.as_ref()).await?;
        let hint = match response.key_type {
            CacheKeyType::Image => 1,
            CacheKeyType::Registry => 2,
            CacheKeyType::Global => 3,
        };
        self.key_types[question.key.plugin].store(hint, Ordering::Relaxed);
        let kept_for = response
            .cache_duration
            .unwrap_or_else(|| plugin.settings.default_cache());
        let answer = Arc::new(ProviderAnswer {
            scope: AnswerScope::new(response.key_type, repository),
            response,
        });
        let replaces = question.replaces_refused;
        self.answers
            .insert(&question.key, &answer, kept_for, replaces, begun);
        Ok(answer)
    }
}

#[cfg(test)]
#[path = "providers_tests.rs"]
mod tests;
