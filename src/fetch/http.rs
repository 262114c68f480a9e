//! Downloads. A connection that breaks in the middle is taken up again where it broke; the lock's checksum covers the whole.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use tokio_util::io::StreamReader;
use url::Url;

use super::{FetchError, OpenContent, Opened, Origin, Request};
use crate::{
    core::digest::Digest,
    http::{self, Answer, HttpClient, StatusCode, header},
};

/// How often a download that broke is taken up again.
const RESUMES: u32 = 5;

/// Downloads over `http` and `https`.
#[derive(Clone, Debug)]
pub struct HttpOrigin {
    client: HttpClient,
}

impl HttpOrigin {
    /// Downloads through `client`.
    pub const fn new(client: HttpClient) -> Self {
        Self { client }
    }
}

#[async_trait]
impl Origin for HttpOrigin {
    async fn open(&self, request: Request<'_>) -> Result<Opened, FetchError> {
        let url = Url::parse(request.origin).map_err(|e| FetchError::Failed { origin: without_query(request.origin), cause: e.to_string() })?;
        let answer = self.client.send(http::Request::get(url.clone())).await.map_err(|e| failed(request.origin, &e.to_string()))?;
        check_status(request.origin, answer.status())?;
        let download = Download { client: self.client.clone(), url, answer: Some(answer), done: 0, resumes: 0 };
        let stream =
            stream::try_unfold(
                download,
                |mut download| async move { Ok::<_, std::io::Error>(download.next().await?.map(|bytes| (bytes, download))) },
            );
        Ok(Opened { content: OpenContent::Stream(Box::new(StreamReader::new(Box::pin(stream)))), download_location: None })
    }

    async fn pin(&self, _: Request<'_>) -> Result<Option<Digest>, FetchError> {
        Ok(None)
    }
}

struct Download {
    client: HttpClient,
    url: Url,
    answer: Option<Answer>,
    done: u64,
    resumes: u32,
}

impl Download {
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        loop {
            let Some(answer) = &mut self.answer else { return Ok(None) };
            match answer.chunk().await {
                Ok(Some(bytes)) => {
                    self.done += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Ok(None) => return Ok(None),
                Err(error) => self.resume(error.to_string()).await?,
            }
        }
    }

    /// Asks for the rest. A server that cannot give just the rest ends the download.
    async fn resume(&mut self, cause: String) -> std::io::Result<()> {
        self.resumes += 1;
        if self.resumes > RESUMES {
            return Err(std::io::Error::other(cause));
        }
        tokio::time::sleep(Duration::from_millis(200 << self.resumes)).await;
        let request = http::Request::get(self.url.clone()).header(header::RANGE, &format!("bytes={}-", self.done));
        let answer = self.client.send(request).await.map_err(|e| std::io::Error::other(e.to_string()))?;
        let from = format!("bytes {}-", self.done);
        let continues = answer.status() == StatusCode::PARTIAL_CONTENT
            && answer.head().header(header::CONTENT_RANGE).is_some_and(|range| range.starts_with(&from));
        if !continues {
            return Err(std::io::Error::other(cause));
        }
        self.answer = Some(answer);
        Ok(())
    }
}

fn check_status(origin: &str, status: StatusCode) -> Result<(), FetchError> {
    match status {
        StatusCode::OK => Ok(()),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(FetchError::NotFound { origin: without_query(origin) }),
        other => Err(failed(origin, &format!("the server answered HTTP {}", other.as_u16()))),
    }
}

fn failed(origin: &str, cause: &str) -> FetchError {
    FetchError::Failed { origin: without_query(origin), cause: cause.into() }
}

/// Queries carry access tokens.
fn without_query(origin: &str) -> String {
    origin.split(['?', '#']).next().unwrap_or_default().to_owned()
}
