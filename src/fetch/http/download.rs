//! A download that goes on after its connection broke.
//!
//! With a validator the rest is requested. Without one, and where a server cannot send a rest, it
//! starts again: what was read already is compared by its digest, so that the whole is always one
//! version of the file, also while a lock is made.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream;
use tokio_util::io::StreamReader;
use url::Url;

use super::{
    access::DownloadAccess, content_encoding::check_not_encoded,
    content_version::HttpContentVersion,
};
use crate::{core::digest::DigestHasher, http::HttpResponse, oci::ContentReader};

/// The maximum number of further requests for one file.
const MAX_RESTARTS: u32 = 5;
/// The wait before the first of them; it doubles each time.
const FIRST_WAIT: Duration = Duration::from_millis(400);

/// A file that is being downloaded.
pub(super) struct RestartableDownload {
    access: Arc<DownloadAccess>,
    url: Url,
    answer: HttpResponse,
    version: HttpContentVersion,
    /// Bytes that were passed on, and their digest.
    done: u64,
    digest: DigestHasher,
    /// What was received with the last skipped bytes.
    remainder: Option<Bytes>,
    restarts: u32,
}

/// Why a further request did not continue the download.
enum RestartError {
    /// Another one may.
    Failed(String),
    /// The file is another one now.
    Changed,
}

impl RestartableDownload {
    pub(super) fn new(access: Arc<DownloadAccess>, url: Url, answer: HttpResponse) -> Self {
        Self {
            access,
            url,
            version: HttpContentVersion::from_response_head(answer.head()),
            answer,
            done: 0,
            digest: DigestHasher::new(),
            remainder: None,
            restarts: 0,
        }
    }

    /// The content as a stream.
    pub(super) fn into_reader(self) -> ContentReader {
        let stream = stream::try_unfold(self, |mut download| async move {
            Ok::<_, std::io::Error>(download.next_chunk().await?.map(|bytes| (bytes, download)))
        });
        Box::new(StreamReader::new(Box::pin(stream)))
    }

    async fn next_chunk(&mut self) -> std::io::Result<Option<Bytes>> {
        loop {
            let chunk = match self.remainder.take() {
                Some(bytes) => Ok(Some(bytes)),
                None => self.answer.next_chunk().await,
            };
            match chunk {
                Ok(Some(bytes)) => {
                    self.done += bytes.len() as u64;
                    self.digest.update(&bytes);
                    return Ok(Some(bytes));
                }
                Ok(None) => return Ok(None),
                Err(error) => self.restart(error.to_string()).await?,
            }
        }
    }

    /// Requests the rest, or all of it again, a few times.
    async fn restart(&mut self, mut cause: String) -> std::io::Result<()> {
        while self.restarts < MAX_RESTARTS {
            let wait = FIRST_WAIT * 2_u32.pow(self.restarts);
            self.restarts += 1;
            tracing::info!(
                "{cause}; requesting it again, {} of {MAX_RESTARTS}",
                self.restarts
            );
            tokio::time::sleep(wait).await;
            cause = match self.request_again().await {
                Ok(()) => return Ok(()),
                Err(RestartError::Failed(cause)) => cause,
                Err(RestartError::Changed) => {
                    return Err(std::io::Error::other(format!(
                        "{cause}, and the file is another one now than when the download began; \
                            try again"
                    )));
                }
            };
        }
        Err(std::io::Error::other(format!(
            "{cause}; gave up after {MAX_RESTARTS} further requests"
        )))
    }

    async fn request_again(&mut self) -> Result<(), RestartError> {
        let validator = self.version.validator.clone();
        let range = validator
            .as_deref()
            .filter(|_| self.done > 0)
            .map(|validator| (self.done, validator));
        let response = self
            .access
            .get(&self.url, range)
            .await
            .map_err(|error| RestartError::Failed(error.to_string()))?;
        let answer = response.answer;
        check_not_encoded(&self.url, answer.head()).map_err(RestartError::Failed)?;
        if range.is_some() && self.version.is_continued_by(answer.head(), self.done) {
            self.answer = answer;
            return Ok(());
        }
        if self.version.is_repeated_by(answer.head()) {
            return self.skip_known_bytes(answer).await;
        }
        let status = answer.status();
        if status.is_success() && range.is_none() {
            return Err(RestartError::Changed);
        }
        // A server that does not understand the range gets no other one.
        self.version.validator = None;
        Err(RestartError::Failed(format!(
            "the server responded with HTTP {} to a request for the rest",
            status.as_u16()
        )))
    }

    /// Reads what was passed on already, which must be the same.
    async fn skip_known_bytes(&mut self, mut answer: HttpResponse) -> Result<(), RestartError> {
        let (mut left, mut digest) = (self.done, DigestHasher::new());
        let mut remainder = None;
        while left > 0 {
            let chunk = answer
                .next_chunk()
                .await
                .map_err(|error| RestartError::Failed(error.to_string()))?;
            let mut chunk = chunk.ok_or(RestartError::Changed)?;
            let known = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
            digest.update(&chunk.split_to(known));
            left -= known as u64;
            remainder = Some(chunk).filter(|rest| !rest.is_empty());
        }
        if digest.finish() != self.digest.clone().finish() {
            return Err(RestartError::Changed);
        }
        self.version = HttpContentVersion::from_response_head(answer.head());
        self.answer = answer;
        self.remainder = remainder;
        Ok(())
    }
}
