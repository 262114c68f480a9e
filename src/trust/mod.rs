//! EFFECT. Trust roots from TUF repositories (The Update Framework, specification 1.0).
//!
//! A repository is trusted only as far as its configured first root authenticates it: keys,
//! thresholds, versions that never decrease, expiry. `sigstore-tuf` checks that; this module has
//! the transport, the limits, the last good state and the errors. It is never called while an
//! admission request waits.

mod file_cache;
mod tuf;
mod tuf_source;

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sigstore_trust_root::SigstoreInstance;
use sigstore_tuf::TrustedMetadataSet;
use url::Url;

pub use file_cache::FileTrustCache;
pub use tuf_source::TufSource;

use crate::core::{
    digest::Digest,
    reason::{Reason, classify},
};

/// The maximum size in bytes of one repository's stored content, which must fit into a `ConfigMap`
/// as JSON. Stops a repository that grows without end.
pub const MAX_KEPT: usize = 700 << 10;
/// The maximum size in bytes of a repository's first root.
pub const MAX_ROOT: usize = 256 << 10;

/// A TUF repository and its trusted first root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TufRepositoryConfig {
    url: Url,
    root: Vec<u8>,
}

/// The verified content of a repository: the last good state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FetchedTrustRoot {
    /// The content of `trusted_root.json`.
    pub trusted_root: String,
    /// The metadata that authenticates it, by name.
    pub metadata: TufMetadata,
    /// When the first of the metadata expires.
    pub expires: Timestamp,
    /// When the repository was refreshed.
    pub refreshed: Timestamp,
}

/// The content of a repository for signers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TufSigningMaterial {
    /// The trust root, with which all responses of the services are verified.
    pub fetched: FetchedTrustRoot,
    /// The `signing_config` (version 0.2) with the services.
    pub signing_config: String,
}

/// Signed metadata, by its names in TUF. Not trusted until it was verified again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TufMetadata(BTreeMap<String, String>);

/// The roots of a repository that were verified, each by the one before it, by their names in TUF.
///
/// Each is kept as soon as it was verified, even if the rest of the refresh fails (TUF 1.0, section
/// 5.3.8): a key that one of them revoked is not trusted again. Read back, they are verified again
/// from the first root on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TufRootChain(BTreeMap<String, String>);

/// Why a repository has no valid trust root.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum TrustError {
    #[error("TUF repository {url:?}: {problem}")]
    Url { url: String, problem: &'static str },
    #[error(
        "the first root of TUF repository {url} cannot be used: {cause}; give the root.json that \
            its owners published"
    )]
    FirstRoot { url: String, cause: String },
    #[error("TUF repository {url} does not answer: {cause}")]
    Unreachable {
        url: String,
        /// The requested file, and the error.
        cause: String,
    },
    /// Its metadata is invalid: a wrong signature, an older version, or content that does not
    /// match.
    #[error("TUF repository {url} failed verification: {cause}")]
    Refused { url: String, cause: String },
    #[error("the metadata of TUF repository {url} has expired: {cause}; its owners must renew it")]
    Expired {
        url: String,
        /// Which metadata, and since when.
        cause: String,
    },
    /// The last good state has expired for good.
    #[error(
        "the trust root of TUF repository {url} expired at {expires} and its grace period is over; \
            no newer one could be fetched: {cause}"
    )]
    Stale {
        url: String,
        expires: Timestamp,
        cause: String,
    },
    #[error("TUF repository {url} gives {size} bytes, the limit is {MAX_KEPT}")]
    TooLarge { url: String, size: usize },
    #[error(
        "no cached metadata of TUF repository {url}, and network access is disabled; run once \
            without --offline, or give --trusted-root FILE"
    )]
    NothingKept { url: String },
    #[error("{path}: {cause}; choose another folder with --cache-dir")]
    Cache { path: String, cause: std::io::Error },
}

/// Refreshes trust roots from repositories.
#[async_trait]
pub trait TrustSource: Send + Sync {
    /// Refreshes from a repository, and refuses anything older than `last` and `roots`. Newer roots
    /// are added to `roots`.
    ///
    /// Errors: any violation of TUF. Of a failed refresh only the roots may be kept.
    async fn refresh_trust_root(
        &self,
        repository: &TufRepositoryConfig,
        last: Option<&FetchedTrustRoot>,
        roots: &mut TufRootChain,
        now: Timestamp,
    ) -> Result<FetchedTrustRoot, TrustError>;

    /// The same, with its `signing_config`.
    ///
    /// Errors: the same, and that it has none.
    async fn refresh_signing_material(
        &self,
        repository: &TufRepositoryConfig,
        last: Option<&FetchedTrustRoot>,
        roots: &mut TufRootChain,
        now: Timestamp,
    ) -> Result<TufSigningMaterial, TrustError>;

    /// Verifies stored content, from the first root on, as of the moment when it was fetched, with
    /// the keys of the newest of `roots`. Sends nothing.
    async fn reverify_cached(
        &self,
        repository: &TufRepositoryConfig,
        kept: &FetchedTrustRoot,
        roots: &TufRootChain,
        now: Timestamp,
    ) -> Result<FetchedTrustRoot, TrustError>;
}

/// Stores the content of repositories.
pub trait TrustCache: Send + Sync {
    /// The stored content. Invalid content is treated as absent.
    fn load_fetched(&self, repository: &TufRepositoryConfig) -> Option<FetchedTrustRoot>;

    /// Stores it. Errors: it cannot be written.
    fn save_fetched(
        &self,
        repository: &TufRepositoryConfig,
        fetched: &FetchedTrustRoot,
    ) -> Result<(), TrustError>;

    /// The stored roots. Invalid ones are treated as absent.
    fn load_roots(&self, repository: &TufRepositoryConfig) -> TufRootChain;

    /// Stores them. Errors: they cannot be written.
    fn save_roots(
        &self,
        repository: &TufRepositoryConfig,
        roots: &TufRootChain,
    ) -> Result<(), TrustError>;
}

impl TufRootChain {
    /// The roots in signed metadata. `None` if there is only the first one, which is configured.
    fn from_metadata(metadata: &TufMetadata) -> Self {
        if metadata
            .0
            .keys()
            .filter(|name| name.starts_with("root_history/"))
            .count()
            < 2
        {
            return Self::default();
        }
        let is_root = |name: &str| name == "root.json" || name.starts_with("root_history/");
        Self(
            metadata
                .0
                .iter()
                .filter(|(name, _)| is_root(name))
                .map(|(name, text)| (name.clone(), text.clone()))
                .collect(),
        )
    }

    /// Adds the roots with which `fetched` was verified. An existing one of the same name is kept:
    /// it is as new, or newer.
    pub fn add_roots_of(&mut self, fetched: &FetchedTrustRoot) {
        for (name, text) in Self::from_metadata(&fetched.metadata).0 {
            self.0.entry(name).or_insert(text);
        }
    }

    /// Their total size in bytes.
    pub fn byte_size(&self) -> usize {
        self.0
            .iter()
            .map(|(name, text)| name.len() + text.len())
            .sum()
    }
}

impl TufRepositoryConfig {
    /// The repository at `url`, `http` or `https` without user info, query and fragment, with the
    /// trusted first root.
    ///
    /// Errors: another URL, a root that is too large or not signed by its own keys.
    pub fn new(url: &str, root: &[u8]) -> Result<Self, TrustError> {
        let parsed = parse_repository_url(url).map_err(|problem| TrustError::Url {
            url: url.to_owned(),
            problem,
        })?;
        let refuse = |cause| TrustError::FirstRoot {
            url: parsed.to_string(),
            cause,
        };
        if root.len() > MAX_ROOT {
            return Err(refuse(format!(
                "it has {} bytes, the limit is {MAX_ROOT}",
                root.len()
            )));
        }
        TrustedMetadataSet::from_root(root).map_err(|error| refuse(tuf::error_chain(&error)))?;
        Ok(Self {
            url: parsed,
            root: root.to_vec(),
        })
    }

    /// Sigstore's public instance, with the root in this build.
    ///
    /// Errors: that root is invalid, which is a bug.
    pub fn public_good() -> Result<Self, TrustError> {
        Self::from_instance(SigstoreInstance::PublicGood)
    }

    /// Sigstore's instance for tests, whose signatures have no meaning, with the root in this
    /// build.
    ///
    /// Errors: that root is invalid, which is a bug.
    pub fn staging() -> Result<Self, TrustError> {
        Self::from_instance(SigstoreInstance::Staging)
    }

    fn from_instance(instance: SigstoreInstance) -> Result<Self, TrustError> {
        Self::new(instance.tuf_url(), instance.tuf_root())
    }

    /// The URL of the repository.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The identity of the repository: its URL and its first root.
    pub fn id(&self) -> Digest {
        let root = Digest::of_bytes(&self.root);
        Digest::of_bytes(format!("{}\n{root}", self.url).as_bytes())
    }
}

/// A URL that ends with a slash.
fn parse_repository_url(url: &str) -> Result<Url, &'static str> {
    let mut parsed: Url = url
        .parse()
        .map_err(|_| "is no URL; write it as https://tuf.example.com")?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err("must begin with https:// or http://");
    }
    if !parsed.username().is_empty()
        || parsed.password().is_some()
        || parsed.query().is_some()
        || parsed.fragment().is_some()
    {
        return Err("must have no user info, query and fragment");
    }
    if !parsed.path().ends_with('/') {
        let path = format!("{}/", parsed.path());
        parsed.set_path(&path);
    }
    Ok(parsed)
}

classify!(TrustError, |error| match error {
    Self::Url { .. } | Self::FirstRoot { .. } => Reason::InvalidSpec,
    Self::Unreachable { .. } | Self::Refused { .. } | Self::NothingKept { .. } => {
        Reason::TrustRootUnavailable
    }
    Self::Expired { .. } | Self::Stale { .. } => Reason::TrustRootExpired,
    Self::TooLarge { .. } => Reason::LimitExceeded,
    Self::Cache { .. } => Reason::StorageFailed,
});

#[cfg(test)]
#[path = "../../tests/it/support/tuf.rs"]
#[allow(
    unreachable_pub,
    dead_code,
    reason = "the file belongs to the integration tests"
)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
