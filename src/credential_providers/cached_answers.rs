//! What plug-ins gave, as long as it counts.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;
use tokio::time::Instant;

use super::exchange::{CacheKeyType, ProviderResponse};
use crate::core::{digest::Digest, reference::ImageRepository};

/// Bytes of all responses that are kept. Those that were not used for long are dropped first.
const MAX_KEPT_BYTES: u64 = 16 << 20;
/// Bytes that an entry takes besides its response.
const ENTRY_BYTES: usize = 512;
/// A plug-in is run again when this part of the duration is left, before credentials end.
const RENEWAL_PART: u32 = 5;
/// The longest time before their end.
const MAX_RENEWAL_LEAD: Duration = Duration::from_mins(1);
/// Credentials that replaced refused ones are not replaced again before this time: the registry
/// may refuse every one.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);

/// A plug-in, by its place in the list, and as whom it is run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ProviderKey {
    pub(super) plugin: usize,
    pub(super) identity: Option<Digest>,
}

/// The images that an answer is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum AnswerScope {
    Image(String),
    Registry(String),
    Global,
}

/// An answer of a plug-in.
#[derive(Debug)]
pub(super) struct ProviderAnswer {
    pub(super) scope: AnswerScope,
    pub(super) response: ProviderResponse,
}

/// An answer that is kept.
#[derive(Clone, Debug)]
pub(super) struct CachedAnswer {
    pub(super) answer: Arc<ProviderAnswer>,
    ends_at: Instant,
    renew_at: Instant,
    /// When it replaced refused credentials.
    renewed_at: Option<Instant>,
}

/// The answers of all plug-ins.
#[derive(Debug)]
pub(super) struct CachedAnswers(Cache<(ProviderKey, AnswerScope), CachedAnswer>);

impl AnswerScope {
    pub(super) fn new(key_type: CacheKeyType, repository: &ImageRepository) -> Self {
        match key_type {
            CacheKeyType::Image => Self::Image(repository.to_string()),
            CacheKeyType::Registry => Self::Registry(repository.host().to_owned()),
            CacheKeyType::Global => Self::Global,
        }
    }

    pub(super) fn covers(&self, repository: &ImageRepository) -> bool {
        match self {
            Self::Image(name) => *name == repository.to_string(),
            Self::Registry(host) => host == repository.host(),
            Self::Global => true,
        }
    }
}

impl CachedAnswer {
    /// True if a new answer should be fetched before this one ends.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now >= self.renew_at
    }

    /// True if the plug-in may be run again because its credentials were refused.
    pub(super) fn may_be_replaced(&self, now: Instant) -> bool {
        self.renewed_at
            .is_none_or(|at| now.saturating_duration_since(at) >= RENEWAL_PAUSE)
    }
}

impl Default for CachedAnswers {
    fn default() -> Self {
        let weigh = |_: &_, kept: &CachedAnswer| {
            u32::try_from(kept.answer.response.size + ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        Self(
            Cache::builder()
                .max_capacity(MAX_KEPT_BYTES)
                .weigher(weigh)
                .build(),
        )
    }
}

impl CachedAnswers {
    /// The answer for a repository that has not ended: for the image, its registry, or all.
    pub(super) fn get(
        &self,
        key: &ProviderKey,
        repository: &ImageRepository,
        now: Instant,
    ) -> Option<CachedAnswer> {
        [
            CacheKeyType::Image,
            CacheKeyType::Registry,
            CacheKeyType::Global,
        ]
        .into_iter()
        .filter_map(|kind| {
            let scope = AnswerScope::new(kind, repository);
            self.0.get(&(key.clone(), scope))
        })
        .find(|kept| now < kept.ends_at)
    }

    /// Keeps an answer for `duration`. Zero: it is not kept.
    pub(super) fn insert(
        &self,
        key: &ProviderKey,
        answer: &Arc<ProviderAnswer>,
        duration: Duration,
        replaces_refused: bool,
        now: Instant,
    ) {
        if duration.is_zero() {
            return;
        }
        let Some(ends_at) = now.checked_add(duration) else {
            return;
        };
        let lead = (duration / RENEWAL_PART).min(MAX_RENEWAL_LEAD);
        let kept = CachedAnswer {
            answer: Arc::clone(answer),
            ends_at,
            renew_at: ends_at.checked_sub(lead).unwrap_or(now),
            renewed_at: replaces_refused.then_some(now),
        };
        self.0.insert((key.clone(), answer.scope.clone()), kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(plugin: usize, identity: Option<&str>) -> ProviderKey {
        ProviderKey {
            plugin,
            identity: identity.map(|text| Digest::of_bytes(text.as_bytes())),
        }
    }

    fn repository(name: &str) -> ImageRepository {
        name.parse().expect(name)
    }

    fn answer(key_type: &str, repository: &ImageRepository) -> Arc<ProviderAnswer> {
        let version = "credentialprovider.kubelet.k8s.io/v1";
        let document = format!(
            r#"{{"kind":"CredentialProviderResponse","apiVersion":"{version}","cacheKeyType":"{key_type}"}}"#
        );
        let response = ProviderResponse::parse(document.as_bytes(), version).expect("valid");
        Arc::new(ProviderAnswer {
            scope: AnswerScope::new(response.key_type, repository),
            response,
        })
    }

    #[test]
    fn an_answer_counts_for_what_its_key_type_says() {
        let app = repository("r.example.com/team/app");
        for (key_type, other, elsewhere) in [
            ("Image", false, false),
            ("Registry", true, false),
            ("Global", true, true),
        ] {
            let (answers, now) = (CachedAnswers::default(), Instant::now());
            let answer = answer(key_type, &app);
            answers.insert(&key(0, None), &answer, Duration::from_hours(1), false, now);
            for (name, expected) in [
                ("r.example.com/team/app", true),
                ("r.example.com/other", other),
                ("s.example.com/team/app", elsewhere),
            ] {
                let repository = repository(name);
                let found = answers.get(&key(0, None), &repository, now).is_some();
                assert_eq!(found, expected, "{key_type} {name}");
                assert_eq!(
                    answer.scope.covers(&repository),
                    expected,
                    "{key_type} {name}"
                );
            }
            for other in [key(1, None), key(0, Some("a"))] {
                assert!(answers.get(&other, &app, now).is_none(), "{other:?}");
            }
        }
    }

    #[test]
    fn an_answer_ends_and_is_renewed_before() {
        let (app, seconds) = (repository("r.example.com/app"), Duration::from_secs);
        let (answers, now) = (CachedAnswers::default(), Instant::now());
        let (key, answer) = (key(0, None), answer("Image", &app));
        answers.insert(&key, &answer, Duration::ZERO, false, now);
        assert!(answers.get(&key, &app, now).is_none(), "not kept");
        for (duration, due) in [(10, 8), (100, 80), (3_600, 3_540)] {
            answers.insert(&key, &answer, seconds(duration), false, now);
            let at = |after: u64| answers.get(&key, &app, now + seconds(after));
            let kept = at(0).expect("kept");
            assert!(!kept.is_due(now + seconds(due - 1)) && kept.is_due(now + seconds(due)));
            assert!(at(duration - 1).is_some() && at(duration).is_none());
        }
    }

    #[test]
    fn a_registry_that_refuses_all_does_not_keep_a_plug_in_busy() {
        let app = repository("r.example.com/app");
        let (answers, now) = (CachedAnswers::default(), Instant::now());
        for (replaces, at_once) in [(false, true), (true, false)] {
            let answer = answer("Image", &app);
            answers.insert(&key(0, None), &answer, RENEWAL_PAUSE * 2, replaces, now);
            let kept = answers.get(&key(0, None), &app, now).expect("kept");
            assert_eq!(kept.may_be_replaced(now), at_once);
            assert!(kept.may_be_replaced(now + RENEWAL_PAUSE));
        }
    }
}
