//! Repositories on the network.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Fetched, ForSigning, Repository, Roots, TrustError, TrustSource, tuf};
use crate::http::HttpClient;

/// Repositories on the network, each asked by the client of its host.
#[derive(Clone, Debug)]
pub struct TufSource {
    others: HttpClient,
    hosts: BTreeMap<String, HttpClient>,
}

impl TufSource {
    /// All of them by one client.
    pub const fn new(http: HttpClient) -> Self {
        Self {
            others: http,
            hosts: BTreeMap::new(),
        }
    }

    /// Those at `host`, which is `HOST` or `HOST:PORT`, by another client.
    #[must_use]
    pub fn with_host(mut self, host: &str, http: HttpClient) -> Self {
        self.hosts.insert(host.to_ascii_lowercase(), http);
        self
    }

    fn client(&self, repository: &Repository) -> &HttpClient {
        let host = repository.url.host_str().unwrap_or_default();
        let with_port = repository
            .url
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        self.hosts.get(&with_port).unwrap_or(&self.others)
    }
}

#[async_trait]
impl TrustSource for TufSource {
    async fn refresh(
        &self,
        repository: &Repository,
        last: Option<&Fetched>,
        roots: &mut Roots,
        now: Timestamp,
    ) -> Result<Fetched, TrustError> {
        tuf::refresh(
            self.client(repository).clone(),
            repository,
            last,
            roots,
            now,
        )
        .await
    }

    async fn for_signing(
        &self,
        repository: &Repository,
        last: Option<&Fetched>,
        roots: &mut Roots,
        now: Timestamp,
    ) -> Result<ForSigning, TrustError> {
        tuf::for_signing(
            self.client(repository).clone(),
            repository,
            last,
            roots,
            now,
        )
        .await
    }

    async fn recall(
        &self,
        repository: &Repository,
        kept: &Fetched,
        roots: &Roots,
        now: Timestamp,
    ) -> Result<Fetched, TrustError> {
        tuf::recall(repository, kept, roots, now).await
    }
}
