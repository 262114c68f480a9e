//! Downloads. A broken connection is resumed; the lock's checksum covers the whole content.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use tokio_util::io::StreamReader;
use url::Url;

use super::{ArtifactOrigin, ArtifactStream, FetchError, FetchRequest, OpenedArtifact};
use crate::{
    core::digest::Digest,
    http::{self, HttpClient, HttpResponse, HttpResponseHead, StatusCode, header},
};

/// The maximum number of resumptions of a download.
const MAX_RESUMES: u32 = 5;

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
impl ArtifactOrigin for HttpOrigin {
    async fn open_artifact(&self, request: FetchRequest<'_>) -> Result<OpenedArtifact, FetchError> {
        let url = Url::parse(request.origin).map_err(|e| FetchError::ReadFailed {
            origin: without_query(request.origin),
            cause: e.to_string(),
        })?;
        let sent = self
            .client
            .send_request(http::HttpRequest::get(url.clone()))
            .await;
        let answer = sent.map_err(|source| FetchError::Http {
            origin: without_query(request.origin),
            source,
        })?;
        check_status(request.origin, answer.status())?;
        let version = HttpContentVersion::from_response_head(answer.head());
        let download = ResumableHttpDownload {
            client: self.client.clone(),
            url,
            answer,
            version,
            done: 0,
            resumes: 0,
        };
        let stream = stream::try_unfold(download, |mut download| async move {
            Ok::<_, std::io::Error>(download.next_chunk().await?.map(|bytes| (bytes, download)))
        });
        Ok(OpenedArtifact {
            content: ArtifactStream::Stream(Box::new(StreamReader::new(Box::pin(stream)))),
            download_location: None,
        })
    }

    async fn resolve_oci_digest(&self, _: FetchRequest<'_>) -> Result<Option<Digest>, FetchError> {
        Ok(None)
    }
}

/// The validators of a version of the content (RFC 9110, sections 8.8 and 13.1.5).
#[derive(Clone, Debug, PartialEq, Eq)]
struct HttpContentVersion {
    /// The value of `If-Range`: a strong entity tag, else the time of the last change.
    validator: Option<String>,
    length: Option<u64>,
}

impl HttpContentVersion {
    fn from_response_head(head: &HttpResponseHead) -> Self {
        let tag = head.header(header::ETAG).filter(|tag| tag.starts_with('"'));
        let validator = tag
            .or_else(|| head.header(header::LAST_MODIFIED))
            .map(ToOwned::to_owned);
        Self {
            validator,
            length: head.content_length(),
        }
    }

    /// True if this response is the rest of the same content, from byte `done` on.
    fn is_continued_by(&self, head: &HttpResponseHead, done: u64) -> bool {
        let range = head
            .header(header::CONTENT_RANGE)
            .and_then(|range| range.strip_prefix("bytes ")?.split_once('/'));
        let Some((range, total)) = range else {
            return false;
        };
        let same_length = match (total.parse::<u64>(), self.length) {
            (Ok(total), Some(length)) => total == length,
            _ => true,
        };
        let same_tag = head.header(header::ETAG).is_none_or(|tag| {
            self.validator
                .as_deref()
                .is_none_or(|own| !own.starts_with('"') || own == tag)
        });
        head.status() == StatusCode::PARTIAL_CONTENT
            && range.starts_with(&format!("{done}-"))
            && same_length
            && same_tag
    }
}

struct ResumableHttpDownload {
    client: HttpClient,
    url: Url,
    answer: HttpResponse,
    version: HttpContentVersion,
    done: u64,
    resumes: u32,
}

impl ResumableHttpDownload {
    async fn next_chunk(&mut self) -> std::io::Result<Option<Bytes>> {
        loop {
            match self.answer.next_chunk().await {
                Ok(Some(bytes)) => {
                    self.done += bytes.len() as u64;
                    return Ok(Some(bytes));
                }
                Ok(None) => return Ok(None),
                Err(error) => self.resume_download(error.to_string()).await?,
            }
        }
    }

    /// Requests the rest. If the server cannot send just the rest, or not confirm that it is of the
    /// same version, the download fails: two halves of two versions would go unnoticed while a lock
    /// is made.
    async fn resume_download(&mut self, cause: String) -> std::io::Result<()> {
        let ended = || std::io::Error::other(cause.clone());
        let validator = self.version.validator.clone().ok_or_else(ended)?;
        self.resumes += 1;
        if self.resumes > MAX_RESUMES {
            return Err(ended());
        }
        tokio::time::sleep(Duration::from_millis(200 << self.resumes)).await;
        let request = http::HttpRequest::get(self.url.clone())
            .header(header::RANGE, &format!("bytes={}-", self.done))
            .header(header::IF_RANGE, &validator);
        let answer = self
            .client
            .send_request(request)
            .await
            .map_err(|e| std::io::Error::other(e.to_string()))?;
        if !self.version.is_continued_by(answer.head(), self.done) {
            return Err(ended());
        }
        self.answer = answer;
        Ok(())
    }
}

fn check_status(origin: &str, status: StatusCode) -> Result<(), FetchError> {
    match status {
        StatusCode::OK => Ok(()),
        StatusCode::NOT_FOUND | StatusCode::GONE => Err(FetchError::NotFound {
            origin: without_query(origin),
        }),
        other => Err(download_error(
            origin,
            &format!("the server responded with HTTP {}", other.as_u16()),
        )),
    }
}

fn download_error(origin: &str, cause: &str) -> FetchError {
    FetchError::ReadFailed {
        origin: without_query(origin),
        cause: cause.into(),
    }
}

/// Queries may contain access tokens.
fn without_query(origin: &str) -> String {
    origin
        .split(['?', '#'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        core::{
            lockfile::OriginType,
            reason::{ClassifiedError, Reason},
        },
        http::{HttpOptions, HttpProxy, PrivateAddresses},
    };

    /// Responds to one connection after the other with these bytes, and returns the requests.
    fn serve(answers: Vec<String>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let origin = format!(
            "http://{}/f?token=hunter2",
            listener.local_addr().expect("an address")
        );
        let work = move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut connection, _) = listener.accept().expect("a connection");
                let mut request = vec![0; 4_096];
                let count = connection.read(&mut request).expect("a request");
                asked.push(String::from_utf8_lossy(&request[..count]).to_ascii_lowercase());
                connection.write_all(answer.as_bytes()).expect("answered");
            }
            asked
        };
        (origin, std::thread::spawn(work))
    }

    async fn download(origin: &str) -> Result<Vec<u8>, String> {
        use tokio::io::AsyncReadExt;
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = HttpClient::new(&HttpOptions {
            proxy: HttpProxy::Direct,
            ..HttpOptions::default()
        })
        .expect("a client");
        let request = FetchRequest {
            origin_type: OriginType::Http,
            origin,
            oci: None,
        };
        let opened = HttpOrigin::new(client)
            .open_artifact(request)
            .await
            .map_err(|e| e.to_string())?;
        let ArtifactStream::Stream(mut stream) = opened.content else {
            panic!("from the network")
        };
        let mut bytes = Vec::new();
        stream
            .read_to_end(&mut bytes)
            .await
            .map(|_| bytes)
            .map_err(|e| e.to_string())
    }

    const CUT: &str =
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"a\"\r\nConnection: close\r\n\r\n01234";

    fn rest(headers: &str) -> String {
        format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nConnection: \
                close\r\n{headers}\r\n56789"
        )
    }

    #[tokio::test]
    async fn a_download_that_broke_goes_on_where_it_broke() {
        let (origin, server) = serve(vec![
            CUT.into(),
            rest("Content-Range: bytes 5-9/10\r\nETag: \"a\"\r\n"),
        ]);
        assert_eq!(download(&origin).await, Ok(b"0123456789".to_vec()));
        let asked = server.join().expect("no panic");
        assert!(
            asked[1].contains("range: bytes=5-\r\n") && asked[1].contains("if-range: \"a\"\r\n"),
            "{asked:?}"
        );
    }

    #[tokio::test]
    async fn halves_of_two_versions_are_never_put_together() {
        for answer in [
            CUT.to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nabcdefghij"
                .to_owned(),
            rest("Content-Range: bytes 4-8/10\r\n"),
            rest("Content-Range: bytes 5-9/11\r\n"),
            rest("Content-Range: bytes 5-9/10\r\nETag: \"b\"\r\n"),
            rest(""),
            "HTTP/1.1 416 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
        ] {
            let (origin, server) = serve(vec![CUT.into(), answer.clone()]);
            let error = download(&origin).await.expect_err(&answer);
            assert!(!error.contains("hunter2"), "{error}");
            server.join().expect("no panic");
        }
    }

    #[tokio::test]
    async fn without_anything_to_tell_versions_by_a_download_ends_where_it_broke() {
        for tag in ["X: y", "ETag: W/\"a\""] {
            let (origin, server) = serve(vec![CUT.replace("ETag: \"a\"", tag)]);
            assert!(download(&origin).await.is_err(), "{tag}");
            assert_eq!(server.join().expect("no panic").len(), 1);
        }
    }

    #[tokio::test]
    async fn addresses_that_may_not_be_reached_are_named_as_such() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let addresses = http::AddressPolicy::Cluster {
            private: PrivateAddresses::Listed(Vec::new()),
        };
        let client = HttpClient::new(&HttpOptions {
            proxy: HttpProxy::Direct,
            addresses,
            ..HttpOptions::default()
        })
        .expect("a client");
        let request = FetchRequest {
            origin_type: OriginType::Http,
            origin: "http://169.254.169.254/latest?x=hunter2",
            oci: None,
        };
        let error = HttpOrigin::new(client)
            .open_artifact(request)
            .await
            .map(drop)
            .expect_err("refused");
        assert_eq!(error.reason(), Reason::AddressNotAllowed);
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
