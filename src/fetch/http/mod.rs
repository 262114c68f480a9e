//! Downloads: from mirrors and then from the origin itself, with credentials that stay where they
//! belong. A broken connection is resumed; the lock's checksum covers the whole content.

mod access;
mod content_encoding;
mod content_version;
mod credential;
mod download;
mod netrc;
mod proxy;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use url::Url;

pub use access::{DownloadAccess, DownloadOptionNames};
pub use credential::{DownloadCredential, DownloadCredentialError};
pub use netrc::{NetrcEntry, NetrcError, parse_netrc};
pub use proxy::DownloadProxy;

use super::{ArtifactOrigin, ArtifactStream, FetchError, FetchRequest, OpenedArtifact};
use crate::{
    core::{digest::Digest, lockfile::SignedOrigin},
    http::{HttpClient, StatusCode, redact::redact_url},
};
use access::DownloadResponse;
use download::RestartableDownload;

/// Downloads over `http` and `https`.
#[derive(Clone, Debug)]
pub struct HttpOrigin {
    access: Arc<DownloadAccess>,
}

impl HttpOrigin {
    /// Downloads through `client`, without credentials and mirrors.
    pub fn new(client: HttpClient) -> Self {
        Self::with_access(DownloadAccess::anonymous(client))
    }

    /// Downloads with these credentials and mirrors.
    pub fn with_access(access: DownloadAccess) -> Self {
        Self {
            access: Arc::new(access),
        }
    }

    async fn open_url(
        &self,
        url: Url,
        expected_size: Option<u64>,
    ) -> Result<RestartableDownload, FetchError> {
        let location = redact_url(&url);
        let response = self
            .access
            .get(&url, None)
            .await
            .map_err(|source| FetchError::Http {
                hint: self.access.error_hint(&source),
                origin: location.clone(),
                source: Box::new(source),
            })?;
        self.check_status(&location, &url, &response)?;
        let head = response.answer.head();
        content_encoding::check_not_encoded(&url, head)
            .map_err(|cause| read_error(&location, cause))?;
        match (expected_size, head.content_length()) {
            (Some(expected), Some(actual)) if expected != actual => Err(FetchError::WrongLength {
                origin: location,
                expected,
                actual,
            }),
            _ => Ok(RestartableDownload::new(
                Arc::clone(&self.access),
                url,
                response.answer,
            )),
        }
    }

    fn check_status(
        &self,
        location: &str,
        url: &Url,
        response: &DownloadResponse,
    ) -> Result<(), FetchError> {
        match response.answer.status() {
            StatusCode::OK => Ok(()),
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(FetchError::NotFound {
                origin: location.to_owned(),
            }),
            status => Err(read_error(
                location,
                format!(
                    "the server responded with HTTP {}{}",
                    status.as_u16(),
                    self.access
                        .status_hint(status, url, response.credential.as_deref())
                ),
            )),
        }
    }

    /// The first mirror that has the artifact, else the origin itself. A mirror's length is
    /// compared first, because a page that says "not found" with HTTP 200 is no reason to fail.
    async fn open_first(
        &self,
        url: Url,
        expected_size: Option<u64>,
    ) -> Result<(RestartableDownload, Option<String>), FetchError> {
        let mut mirror_errors = Vec::new();
        for mirror in self.access.mirrors_of(&without_credential(&url)) {
            let location = redact_url(&mirror);
            match self.open_url(mirror, expected_size).await {
                Ok(download) => return Ok((download, Some(location))),
                Err(error) => {
                    tracing::warn!("mirror: {error}; trying the next place");
                    mirror_errors.push(error.to_string());
                }
            }
        }
        match self.open_url(url, None).await {
            Ok(download) => Ok((download, None)),
            Err(source) if mirror_errors.is_empty() => Err(source),
            Err(source) => Err(FetchError::MirrorsToo {
                source: Box::new(source),
                mirrors: mirror_errors.join("; "),
            }),
        }
    }
}

#[async_trait]
impl ArtifactOrigin for HttpOrigin {
    async fn open_artifact(&self, request: FetchRequest<'_>) -> Result<OpenedArtifact, FetchError> {
        let url = Url::parse(request.origin)
            .map_err(|e| read_error(&without_query(request.origin), e.to_string()))?;
        let (download, download_location) = self.open_first(url, request.expected_size).await?;
        Ok(OpenedArtifact {
            content: ArtifactStream::Stream(download.into_reader()),
            download_location,
        })
    }

    async fn resolve_oci_digest(&self, _: FetchRequest<'_>) -> Result<Option<Digest>, FetchError> {
        Ok(None)
    }
}

fn read_error(location: &str, cause: String) -> FetchError {
    FetchError::ReadFailed {
        origin: location.to_owned(),
        cause,
    }
}

/// A signed URL is signed for its own host, and its signature is nobody else's business.
fn without_credential(url: &Url) -> Url {
    SignedOrigin::separate(url.as_str())
        .and_then(|(published, _)| Url::parse(&published).ok())
        .unwrap_or_else(|| url.clone())
}

/// Queries may contain access tokens.
fn without_query(origin: &str) -> String {
    origin
        .split(['?', '#'])
        .next()
        .unwrap_or_default()
        .to_owned()
}
