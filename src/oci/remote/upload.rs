//! Writing blobs (distribution-spec 1.1, "Pushing Blobs").
//!
//! One streamed PUT after a POST; chunks where a proxy in front of the registry refuses bodies of
//! that size. Content is opened again for every attempt. The last bytes are held back until all of
//! them were found right, so wrong content is never sent in full.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;
use url::Url;

use super::session::{Access, Session};
use crate::{
    core::{digest::Digest, media_type::OCTET_STREAM, oci::Descriptor, reference::Repository},
    http::{Answer, Head, HttpError, Method, Request, StatusCode, header},
    oci::{Content, OciError, Reader},
};

/// Bytes of a chunk. Some registries take no more (GHCR), others ask for at least 5 MiB and say so
/// in `OCI-Chunk-Min-Length`.
const CHUNK: usize = 4 << 20;
/// No registry may ask for larger chunks: one is held in memory.
const LARGEST_CHUNK: usize = 32 << 20;
/// Bytes that are read at once.
const PIECE: usize = 128 << 10;
/// Attempts at one blob; the last one is in chunks.
const ATTEMPTS: u32 = 3;
/// Wait before the second attempt.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// How an attempt ended that did not fail for good.
enum Attempt {
    Done,
    /// Something passing, such as a broken connection.
    Again(OciError),
    /// A body of this size is not taken.
    TooLarge,
}

/// Uploads a blob that is not there yet.
pub(super) async fn push(
    session: &Session,
    descriptor: &Descriptor,
    content: Content<'_>,
) -> Result<(), OciError> {
    let mut wait = FIRST_WAIT;
    for _ in 1..ATTEMPTS {
        match put_whole(session, descriptor, content).await? {
            Attempt::Done => return Ok(()),
            Attempt::TooLarge => break,
            Attempt::Again(error) => {
                tracing::debug!(digest = %descriptor.digest, %error, "upload is tried again")
            }
        }
        tokio::time::sleep(wait).await;
        wait *= 4;
    }
    put_chunks(session, descriptor, content).await
}

/// Asks the registry to take a blob from another repository of its own.
pub(super) async fn mount(
    session: &Session,
    descriptor: &Descriptor,
    from: &Repository,
) -> Result<bool, OciError> {
    if from.host() != session.endpoint.repository().host() {
        return Ok(false);
    }
    let mut url = session.endpoint.uploads();
    url.query_pairs_mut()
        .append_pair("mount", &descriptor.digest.to_string())
        .append_pair("from", from.path());
    let answer = session
        .send(
            &Access::Mount(from.clone()),
            Request::new(Method::POST, url).repeatable(),
        )
        .await?;
    match answer.status() {
        StatusCode::CREATED => Ok(true),
        StatusCode::ACCEPTED => Ok(false),
        _ => Err(session
            .refused(answer, &descriptor.digest.to_string())
            .await),
    }
}

async fn put_whole(
    session: &Session,
    descriptor: &Descriptor,
    content: Content<'_>,
) -> Result<Attempt, OciError> {
    let upload = begin(session, descriptor).await?;
    let url = finishing(session, &upload, &descriptor.digest)?;
    let fault = Fault::default();
    let body = held_back(content.open(descriptor).await?, fault.clone());
    let request = Request::new(Method::PUT, url)
        .header(header::CONTENT_TYPE, OCTET_STREAM)
        .stream(body, descriptor.size);
    let answer = session.send(&Access::Push, request).await;
    if let Some(fault) = fault.take() {
        return Err(OciError::from_stream(fault, &session.location()));
    }
    match answer {
        Ok(answer) => sort(session, answer, descriptor).await,
        Err(error @ (OciError::Unavailable { .. } | OciError::Deadline { .. })) => {
            Ok(Attempt::Again(error))
        }
        Err(error) => Err(error),
    }
}

/// A 401 here means that the token ended during the upload: the next attempt begins with a new one.
async fn sort(
    session: &Session,
    answer: Answer,
    descriptor: &Descriptor,
) -> Result<Attempt, OciError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(Attempt::Done);
    }
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return Ok(Attempt::TooLarge);
    }
    let error = session
        .refused(answer, &descriptor.digest.to_string())
        .await;
    let passing = status.is_server_error()
        || matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS | StatusCode::NOT_FOUND
        );
    if passing {
        Ok(Attempt::Again(error))
    } else {
        Err(error)
    }
}

async fn put_chunks(
    session: &Session,
    descriptor: &Descriptor,
    content: Content<'_>,
) -> Result<(), OciError> {
    let mut upload = begin(session, descriptor).await?;
    let size = chunk_size(&upload);
    let mut reader = content.open(descriptor).await?;
    let mut start = 0;
    loop {
        let chunk = fill(&mut reader, size)
            .await
            .map_err(|e| OciError::from_stream(e, &session.location()))?;
        if chunk.is_empty() {
            break;
        }
        let end = start + chunk.len() as u64;
        let request = Request::new(Method::PATCH, location(session, &upload)?)
            .header(header::CONTENT_TYPE, OCTET_STREAM);
        let request = request
            .header(header::CONTENT_RANGE, &format!("{start}-{}", end - 1))
            .body(chunk);
        upload = expect_success(session, request, descriptor).await?;
        start = end;
    }
    let url = finishing(session, &upload, &descriptor.digest)?;
    expect_success(
        session,
        Request::new(Method::PUT, url).body(Bytes::new()),
        descriptor,
    )
    .await
    .map(|_| ())
}

async fn begin(session: &Session, descriptor: &Descriptor) -> Result<Head, OciError> {
    let request = Request::new(Method::POST, session.endpoint.uploads())
        .body(Bytes::new())
        .repeatable();
    expect_success(session, request, descriptor).await
}

async fn expect_success(
    session: &Session,
    request: Request,
    descriptor: &Descriptor,
) -> Result<Head, OciError> {
    let answer = session.send(&Access::Push, request).await?;
    if answer.status().is_success() {
        Ok(answer.head().clone())
    } else {
        Err(session
            .refused(answer, &descriptor.digest.to_string())
            .await)
    }
}

/// Where the upload goes on. It may be another host's; credentials then stay behind.
fn location(session: &Session, upload: &Head) -> Result<Url, OciError> {
    let without = || OciError::Unavailable {
        location: session.location(),
        cause: "it began an upload without saying where (Location)".into(),
    };
    let target = upload.header(header::LOCATION).ok_or_else(without)?;
    upload
        .follow(target)
        .map_err(|e: HttpError| session.lost(e))
}

fn finishing(session: &Session, upload: &Head, digest: &Digest) -> Result<Url, OciError> {
    let mut url = location(session, upload)?;
    url.query_pairs_mut()
        .append_pair("digest", &digest.to_string());
    Ok(url)
}

fn chunk_size(upload: &Head) -> usize {
    let least = upload
        .header("oci-chunk-min-length")
        .and_then(|least| least.trim().parse().ok())
        .unwrap_or(0);
    CHUNK.max(least).min(LARGEST_CHUNK)
}

async fn fill(reader: &mut Reader, size: usize) -> std::io::Result<Bytes> {
    let mut chunk = Vec::new();
    reader.take(size as u64).read_to_end(&mut chunk).await?;
    Ok(chunk.into())
}

/// The error of the content itself, which the HTTP library would report as a broken connection.
#[derive(Clone, Default)]
struct Fault(Arc<Mutex<Option<std::io::Error>>>);

impl Fault {
    fn set(&self, error: std::io::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn take(&self) -> Option<std::io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A stream that is always one piece behind: the last piece leaves after the end was found right.
fn held_back(reader: Reader, fault: Fault) -> BoxStream<'static, std::io::Result<Bytes>> {
    let pieces = ReaderStream::with_capacity(reader, PIECE);
    let state = (pieces, None, fault);
    futures::stream::try_unfold(state, |(mut pieces, mut held, fault)| async move {
        loop {
            match pieces.next().await {
                Some(Ok(piece)) => {
                    if let Some(ready) = held.replace(piece) {
                        return Ok(Some((ready, (pieces, held, fault))));
                    }
                }
                Some(Err(error)) => {
                    fault.set(error);
                    return Err(std::io::Error::other(
                        "the content to upload could not be read",
                    ));
                }
                None => return Ok(held.take().map(|last| (last, (pieces, held, fault)))),
            }
        }
    })
    .boxed()
}
