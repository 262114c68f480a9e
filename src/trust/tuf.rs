//! The TUF client workflow (specification 1.0, section 5) round `sigstore-tuf`, over our own
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

use super::{Fetched, ForSigning, MAX_KEPT, Metadata, Repository, Roots, TrustError};
use crate::{
    core::{limits::Limits, verify::TrustRoot},
    http::{HttpClient, Request, StatusCode},
};

/// How long one refresh may take. Ends a repository that answers drop by drop.
const LONGEST: Duration = Duration::from_mins(2);

/// Asks the repository and keeps nothing of what fails but the roots.
pub(super) async fn refresh(
    http: HttpClient,
    repository: &Repository,
    last: Option<&Fetched>,
    roots: &mut Roots,
    now: Timestamp,
) -> Result<Fetched, TrustError> {
    let transport = Http {
        http,
        base: repository.url.clone(),
    };
    let files = Files::of(last, roots);
    let outcome = in_time(repository, walk(transport, repository, files.clone(), now)).await;
    *roots = files.roots();
    outcome.map(|(fetched, _)| fetched)
}

/// The same, and which services a signer uses.
pub(super) async fn for_signing(
    http: HttpClient,
    repository: &Repository,
    last: Option<&Fetched>,
    roots: &mut Roots,
    now: Timestamp,
) -> Result<ForSigning, TrustError> {
    let transport = Http {
        http,
        base: repository.url.clone(),
    };
    let files = Files::of(last, roots);
    let work = async {
        let (fetched, mut updater) = walk(transport, repository, files.clone(), now).await?;
        let signing_config = target(repository, &mut updater, SIGNING_CONFIG_TARGET, now).await?;
        Ok(ForSigning {
            fetched,
            signing_config,
        })
    };
    let outcome = in_time(repository, work).await;
    *roots = files.roots();
    outcome
}

async fn in_time<T>(
    repository: &Repository,
    work: impl Future<Output = Result<T, TrustError>>,
) -> Result<T, TrustError> {
    let late = |_| unreachable(repository, format!("not within {} s", LONGEST.as_secs()));
    tokio::time::timeout(LONGEST, work).await.map_err(late)?
}

/// Walks through what was kept, as of the last moment at which all of it was good.
pub(super) async fn recall(
    repository: &Repository,
    kept: &Fetched,
    roots: &Roots,
    now: Timestamp,
) -> Result<Fetched, TrustError> {
    let files = Files::of(Some(kept), roots);
    let expires = files
        .metadata()
        .expires()
        .map_err(|cause| refused(repository, cause))?;
    let good = expires
        .checked_sub(SignedDuration::from_secs(1))
        .unwrap_or(expires)
        .min(now);
    let (again, _) = walk(StoreRepository::new(files.clone()), repository, files, good).await?;
    Ok(Fetched {
        refreshed: kept.refreshed,
        ..again
    })
}

/// Follows the metadata from the first root on. What was found, and who can go on from there.
async fn walk(
    transport: impl Transport + 'static,
    repository: &Repository,
    files: Files,
    now: Timestamp,
) -> Result<(Fetched, Updater), TrustError> {
    let explain = |error: Error| explain(repository, &error);
    let mut updater = Updater::new(transport, &repository.root)
        .map_err(explain)?
        .with_config(caps())
        .with_store(files.clone());
    updater.refresh(now).await.map_err(explain)?;
    let trusted_root = target(repository, &mut updater, TRUSTED_ROOT_TARGET, now).await?;
    TrustRoot::parse(trusted_root.as_bytes(), &Limits::DEFAULT)
        .map_err(|error| refused(repository, error.to_string()))?;
    let metadata = files.metadata();
    let size = trusted_root.len() + metadata.size();
    if size > MAX_KEPT {
        return Err(TrustError::TooLarge {
            url: repository.url.to_string(),
            size,
        });
    }
    let expires = metadata
        .expires()
        .map_err(|cause| refused(repository, cause))?;
    Ok((
        Fetched {
            trusted_root,
            metadata,
            expires,
            refreshed: now,
        },
        updater,
    ))
}

async fn target(
    repository: &Repository,
    updater: &mut Updater,
    name: &str,
    now: Timestamp,
) -> Result<String, TrustError> {
    let bytes = updater
        .get_target(name, now)
        .await
        .map_err(|error| explain(repository, &error))?;
    String::from_utf8(bytes).map_err(|_| refused(repository, format!("its {name} is no text")))
}

/// Every bound ends an answer without an end.
fn caps() -> UpdaterConfig {
    let mut caps = UpdaterConfig::default();
    caps.root_max_length = 128 << 10;
    caps.timestamp_max_length = 16 << 10;
    caps.snapshot_max_length = 128 << 10;
    caps.targets_max_length = 256 << 10;
    caps.target_max_length = 512 << 10;
    caps
}

fn refused(repository: &Repository, cause: String) -> TrustError {
    TrustError::Refused {
        url: repository.url.to_string(),
        cause,
    }
}

fn unreachable(repository: &Repository, cause: String) -> TrustError {
    TrustError::Unreachable {
        url: repository.url.to_string(),
        cause,
    }
}

fn explain(repository: &Repository, error: &Error) -> TrustError {
    let cause = told(error);
    match error {
        Error::Transport { .. } => unreachable(repository, cause),
        Error::Expired { .. } => TrustError::Expired {
            url: repository.url.to_string(),
            cause,
        },
        _ => refused(repository, cause),
    }
}

/// The error with its causes.
pub(super) fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A repository over HTTP, by the rules of [`crate::http`].
struct Http {
    http: HttpClient,
    base: Url,
}

impl Http {
    /// A file, or nothing if it is not there. Stores of objects say "forbidden" of what is not
    /// there.
    async fn get(&self, path: &str, max: u64) -> Result<Option<Vec<u8>>, Error> {
        let url = self.file(path)?;
        let failed = |error: crate::http::HttpError| Error::transport(error.to_string());
        let limit = usize::try_from(max).unwrap_or(usize::MAX);
        let work = async {
            let answer = self
                .http
                .send(Request::get(url.clone()))
                .await
                .map_err(failed)?;
            match answer.status() {
                StatusCode::OK => Ok(Some(answer.bytes(limit).await.map_err(failed)?.to_vec())),
                StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(None),
                status => Err(Error::transport(format!("{path}: HTTP status {status}"))),
            }
        };
        self.http
            .within_answer_time(&url, work)
            .await
            .map_err(failed)?
    }

    /// Names come out of signed metadata; they can still not lead elsewhere.
    fn file(&self, path: &str) -> Result<Url, Error> {
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

impl Transport for Http {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max: u64) -> FetchFuture<'a> {
        Box::pin(self.get(name, max))
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max: u64) -> FetchFuture<'a> {
        Box::pin(async move { self.get(&format!("targets/{path}"), max).await })
    }
}

/// What is known while one refresh runs.
#[derive(Clone, Default)]
struct Files(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Files {
    /// Of one name the root of the chain counts, which may be newer.
    fn of(kept: Option<&Fetched>, roots: &Roots) -> Self {
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

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn roots(&self) -> Roots {
        Roots::of(&self.metadata())
    }

    /// All of it but targets, and snapshots that are there under their own name too.
    fn metadata(&self) -> Metadata {
        let wanted = |name: &str| !name.starts_with("targets/") && !is_versioned_snapshot(name);
        let text = |(name, bytes): (&String, &Vec<u8>)| {
            Some((name.clone(), String::from_utf8(bytes.clone()).ok()?))
        };
        Metadata(
            self.all()
                .iter()
                .filter(|(name, _)| wanted(name))
                .filter_map(text)
                .collect(),
        )
    }
}

impl MetadataStore for Files {
    fn load(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.all().get(name).cloned())
    }

    fn store(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.all().insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }
}

fn is_versioned_snapshot(name: &str) -> bool {
    name.strip_suffix(".snapshot.json")
        .is_some_and(|version| version.bytes().all(|b| b.is_ascii_digit()))
}

/// As much of a document as tells when it ends.
#[derive(Deserialize)]
struct Signed {
    signed: Ends,
}

#[derive(Deserialize)]
struct Ends {
    expires: Timestamp,
}

impl Metadata {
    fn size(&self) -> usize {
        self.0
            .iter()
            .map(|(name, text)| name.len() + text.len())
            .sum()
    }

    /// When the first document that is in force ends. Roots that were replaced need not be in
    /// force.
    fn expires(&self) -> Result<Timestamp, String> {
        let current = self
            .0
            .iter()
            .filter(|(name, _)| !name.starts_with("root_history/"));
        let ends = current.map(|(name, text)| {
            let document: Signed =
                serde_json::from_str(text).map_err(|error| format!("{name}: {error}"))?;
            Ok::<_, String>(document.signed.expires)
        });
        let ends = ends.collect::<Result<Vec<_>, _>>()?;
        ends.into_iter()
            .min()
            .ok_or_else(|| "there is no metadata".to_owned())
    }
}
