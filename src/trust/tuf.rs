//! The TUF client workflow (specification 1.0, section 5) with `sigstore-tuf`, over our own
//! transport.

use std::{
    collections::BTreeMap,
    error::Error as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use sigstore_trust_root::{SIGNING_CONFIG_TARGET, TRUSTED_ROOT_TARGET};
use sigstore_tuf::{
    Error, MetadataStore, Repository as Transport, StoreRepository, Updater, UpdaterConfig,
    transport::FetchFuture,
};
use url::Url;

use super::{
    FetchedTrustRoot, MAX_KEPT, TrustError, TufMetadata, TufRepositoryConfig, TufRootChain,
    TufSigningMaterial,
};
use crate::{
    core::{limits::InputLimits, verify::TrustRoot},
    http::{HttpClient, HttpRequest, StatusCode},
};

/// The timeout of one refresh. Ends a repository that responds in tiny parts.
const REFRESH_TIMEOUT: Duration = Duration::from_mins(2);

/// Refreshes from the repository; of a failed refresh only the roots are kept.
pub(super) async fn refresh_repository(
    http: HttpClient,
    repository: &TufRepositoryConfig,
    last: Option<&FetchedTrustRoot>,
    roots: &mut TufRootChain,
    now: Timestamp,
) -> Result<FetchedTrustRoot, TrustError> {
    let transport = TufHttpTransport {
        http,
        base: repository.url.clone(),
    };
    let files = TufFileStore::from_cached(last, roots);
    let outcome = with_timeout(
        repository,
        walk_metadata(transport, repository, files.clone(), now),
    )
    .await;
    *roots = files.root_chain();
    outcome.map(|(fetched, _)| fetched)
}

/// The same, with the services of a signer.
pub(super) async fn refresh_for_signing(
    http: HttpClient,
    repository: &TufRepositoryConfig,
    last: Option<&FetchedTrustRoot>,
    roots: &mut TufRootChain,
    now: Timestamp,
) -> Result<TufSigningMaterial, TrustError> {
    let transport = TufHttpTransport {
        http,
        base: repository.url.clone(),
    };
    let files = TufFileStore::from_cached(last, roots);
    let work = async {
        let (fetched, mut updater) =
            walk_metadata(transport, repository, files.clone(), now).await?;
        let signing_config =
            fetch_target_text(repository, &mut updater, SIGNING_CONFIG_TARGET, now).await?;
        Ok(TufSigningMaterial {
            fetched,
            signing_config,
        })
    };
    let outcome = with_timeout(repository, work).await;
    *roots = files.root_chain();
    outcome
}

async fn with_timeout<T>(
    repository: &TufRepositoryConfig,
    work: impl Future<Output = Result<T, TrustError>>,
) -> Result<T, TrustError> {
    let late = |_| {
        unreachable_error(
            repository,
            format!("not within {} s", REFRESH_TIMEOUT.as_secs()),
        )
    };
    tokio::time::timeout(REFRESH_TIMEOUT, work)
        .await
        .map_err(late)?
}

/// Walks through what was kept, as of the last moment at which all of it was good.
pub(super) async fn reverify_metadata(
    repository: &TufRepositoryConfig,
    kept: &FetchedTrustRoot,
    roots: &TufRootChain,
    now: Timestamp,
) -> Result<FetchedTrustRoot, TrustError> {
    let files = TufFileStore::from_cached(Some(kept), roots);
    let expires = files
        .current_metadata()
        .earliest_expiry()
        .map_err(|cause| refused_error(repository, cause))?;
    let good = expires
        .checked_sub(SignedDuration::from_secs(1))
        .unwrap_or(expires)
        .min(now);
    let (again, _) =
        walk_metadata(StoreRepository::new(files.clone()), repository, files, good).await?;
    Ok(FetchedTrustRoot {
        refreshed: kept.refreshed,
        ..again
    })
}

/// Follows the metadata from the first root on. What was found, and who can go on from there.
async fn walk_metadata(
    transport: impl Transport + 'static,
    repository: &TufRepositoryConfig,
    files: TufFileStore,
    now: Timestamp,
) -> Result<(FetchedTrustRoot, Updater), TrustError> {
    let explain = |error: Error| to_trust_error(repository, &error);
    let mut updater = Updater::new(transport, &repository.root)
        .map_err(explain)?
        .with_config(download_limits())
        .with_store(files.clone());
    updater.refresh(now).await.map_err(explain)?;
    let trusted_root =
        fetch_target_text(repository, &mut updater, TRUSTED_ROOT_TARGET, now).await?;
    TrustRoot::parse(trusted_root.as_bytes(), &InputLimits::DEFAULT)
        .map_err(|error| refused_error(repository, error.to_string()))?;
    let metadata = files.current_metadata();
    let size = trusted_root.len() + metadata.byte_size();
    if size > MAX_KEPT {
        return Err(TrustError::TooLarge {
            url: repository.url.to_string(),
            size,
        });
    }
    let expires = metadata
        .earliest_expiry()
        .map_err(|cause| refused_error(repository, cause))?;
    Ok((
        FetchedTrustRoot {
            trusted_root,
            metadata,
            expires,
            refreshed: now,
        },
        updater,
    ))
}

async fn fetch_target_text(
    repository: &TufRepositoryConfig,
    updater: &mut Updater,
    name: &str,
    now: Timestamp,
) -> Result<String, TrustError> {
    let bytes = updater
        .get_target(name, now)
        .await
        .map_err(|error| to_trust_error(repository, &error))?;
    String::from_utf8(bytes)
        .map_err(|_| refused_error(repository, format!("its {name} is no text")))
}

/// Each limit ends an endless response.
fn download_limits() -> UpdaterConfig {
    let mut caps = UpdaterConfig::default();
    caps.root_max_length = 128 << 10;
    caps.timestamp_max_length = 16 << 10;
    caps.snapshot_max_length = 128 << 10;
    caps.targets_max_length = 256 << 10;
    caps.target_max_length = 512 << 10;
    caps
}

fn refused_error(repository: &TufRepositoryConfig, cause: String) -> TrustError {
    TrustError::Refused {
        url: repository.url.to_string(),
        cause,
    }
}

fn unreachable_error(repository: &TufRepositoryConfig, cause: String) -> TrustError {
    TrustError::Unreachable {
        url: repository.url.to_string(),
        cause,
    }
}

fn to_trust_error(repository: &TufRepositoryConfig, error: &Error) -> TrustError {
    let cause = error_chain(error);
    match error {
        Error::Transport { .. } => unreachable_error(repository, cause),
        Error::Expired { .. } => TrustError::Expired {
            url: repository.url.to_string(),
            cause,
        },
        _ => refused_error(repository, cause),
    }
}

/// The error with its causes.
pub(super) fn error_chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A repository over HTTP, by the rules of [`crate::http`].
struct TufHttpTransport {
    http: HttpClient,
    base: Url,
}

impl TufHttpTransport {
    /// A file, or `None` if it does not exist. Object stores respond "forbidden" for absent
    /// objects.
    async fn get_file(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, Error> {
        let url = self.file_url(path)?;
        let failed = |error: crate::http::HttpError| Error::transport(error.to_string());
        let limit = usize::try_from(max).unwrap_or(usize::MAX);
        let work = async {
            let answer = self
                .http
                .send_request(HttpRequest::get(url.clone()))
                .await
                .map_err(failed)?;
            match answer.status() {
                StatusCode::OK => Ok(Some(
                    answer.read_body(limit).await.map_err(failed)?.to_vec(),
                )),
                StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(None),
                status => Err(Error::transport(format!("{path}: HTTP status {status}"))),
            }
        };
        self.http
            .with_response_timeout(&url, work)
            .await
            .map_err(failed)?
    }

    /// Names come out of signed metadata; they can still not lead elsewhere.
    fn file_url(&self, path: &str) -> Result<Url, Error> {
        let plain = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment.bytes().all(|b| {
                    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b'%')
                })
        };
        let refuse = || Error::Malformed(format!("{path:?} is no name of a file"));
        if path.split('/').all(plain) {
            self.base.join(path).map_err(|_| refuse())
        } else {
            Err(refuse())
        }
    }
}

impl Transport for TufHttpTransport {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max: u64) -> FetchFuture<'a> {
        Box::pin(self.get_file(name, max))
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max: u64) -> FetchFuture<'a> {
        Box::pin(async move { self.get_file(&format!("targets/{path}"), max).await })
    }
}

/// What is known while one refresh runs.
#[derive(Clone, Default)]
struct TufFileStore(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl TufFileStore {
    /// Of one name the root of the chain counts, which may be newer.
    fn from_cached(kept: Option<&FetchedTrustRoot>, roots: &TufRootChain) -> Self {
        let metadata = kept
            .into_iter()
            .flat_map(|kept| &kept.metadata.0)
            .chain(&roots.0);
        let metadata = metadata.map(|(name, text)| (name.clone(), text.clone().into_bytes()));
        let target = kept.map(|kept| {
            (
                format!("targets/{TRUSTED_ROOT_TARGET}"),
                kept.trusted_root.clone().into_bytes(),
            )
        });
        Self(Arc::new(Mutex::new(metadata.chain(target).collect())))
    }

    fn lock_files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn root_chain(&self) -> TufRootChain {
        TufRootChain::from_metadata(&self.current_metadata())
    }

    /// All of it but targets, and snapshots that are there under their own name too.
    fn current_metadata(&self) -> TufMetadata {
        let wanted = |name: &str| !name.starts_with("targets/") && !is_versioned_snapshot(name);
        let text = |(name, bytes): (&String, &Vec<u8>)| {
            Some((name.clone(), String::from_utf8(bytes.clone()).ok()?))
        };
        TufMetadata(
            self.lock_files()
                .iter()
                .filter(|(name, _)| wanted(name))
                .filter_map(text)
                .collect(),
        )
    }
}

impl MetadataStore for TufFileStore {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.lock_files().get(name).cloned())
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.lock_files().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }
}

fn is_versioned_snapshot(name: &str) -> bool {
    name.strip_suffix(".snapshot.json")
        .is_some_and(|version| version.bytes().all(|b| b.is_ascii_digit()))
}

/// The fields of a document that contain its expiry.
#[derive(Deserialize)]
struct TufSignedDocument {
    signed: TufExpiry,
}

#[derive(Deserialize)]
struct TufExpiry {
    expires: Timestamp,
}

impl TufMetadata {
    fn byte_size(&self) -> usize {
        self.0
            .iter()
            .map(|(name, text)| name.len() + text.len())
            .sum()
    }

    /// When the first document that is in force ends. Roots that were replaced need not be in
    /// force.
    fn earliest_expiry(&self) -> Result<Timestamp, String> {
        let current = self
            .0
            .iter()
            .filter(|(name, _)| !name.starts_with("root_history/"));
        let ends = current.map(|(name, text)| {
            let document: TufSignedDocument =
                serde_json::from_str(text).map_err(|error| format!("{name}: {error}"))?;
            Ok::<_, String>(document.signed.expires)
        });
        let ends = ends.collect::<Result<Vec<_>, _>>()?;
        ends.into_iter()
            .min()
            .ok_or_else(|| "there is no metadata".to_owned())
    }
}
