//! Repositories on the network.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    FetchedTrustRoot, TrustError, TrustSource, TufRepositoryConfig, TufRootChain,
    TufSigningMaterial, tuf,
};
use crate::http::HttpClient;

/// Repositories on the network, each with the client of its host.
#[derive(Clone, Debug)]
pub struct TufSource {
    others: HttpClient,
    hosts: BTreeMap<String, HttpClient>,
}

impl TufSource {
    /// All repositories with one client.
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

    fn client_for_repository(&self, repository: &TufRepositoryConfig) -> &HttpClient {
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
    async fn refresh_trust_root(
        &self,
        repository: &TufRepositoryConfig,
        last: Option<&FetchedTrustRoot>,
        roots: &mut TufRootChain,
        now: Timestamp,
    ) -> Result<FetchedTrustRoot, TrustError> {
        tuf::refresh_repository(
            self.client_for_repository(repository).clone(),
            repository,
            last,
            roots,
            now,
        )
        .await
    }

    async fn refresh_signing_material(
        &self,
        repository: &TufRepositoryConfig,
        last: Option<&FetchedTrustRoot>,
        roots: &mut TufRootChain,
        now: Timestamp,
    ) -> Result<TufSigningMaterial, TrustError> {
        tuf::refresh_for_signing(
            self.client_for_repository(repository).clone(),
            repository,
            last,
            roots,
            now,
        )
        .await
    }

    async fn reverify_cached(
        &self,
        repository: &TufRepositoryConfig,
        kept: &FetchedTrustRoot,
        roots: &TufRootChain,
        now: Timestamp,
    ) -> Result<FetchedTrustRoot, TrustError> {
        tuf::reverify_metadata(repository, kept, roots, now).await
    }
}
