//! Writing blobs (distribution-spec 1.1, "Pushing Blobs").
//!
//! One streamed PUT after a POST; chunks where a proxy in front of the registry refuses bodies of
//! that size. Content is opened again for every attempt. The last chunk is held back until all
//! content is verified, so wrong content is never sent completely.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;
use url::Url;

use super::{
    blobs::check_content_exists, registry_access::RegistryAccess, session::RegistrySession,
};
use crate::{
    core::{digest::Digest, media_type::OCTET_STREAM, oci::Descriptor, reference::ImageRepository},
    http::{
        HttpError, HttpRequest, HttpResponse, HttpResponseHead, Method, StatusCode, header,
        wait_before_retry,
    },
    oci::{ContentReader, OciError, PushContent},
};

/// Bytes of a chunk. Registries that store in S3 refuse parts below 5 MiB, except for the last one;
/// some say so in `OCI-Chunk-Min-Length`.
const CHUNK: usize = 5 << 20;
/// The largest chunk size that a registry may require: one chunk is held in memory.
const LARGEST_CHUNK: usize = 32 << 20;
/// Bytes per read.
const PIECE: usize = 128 << 10;
/// Attempts for one blob; the last one is in chunks.
const ATTEMPTS: u32 = 3;
/// The wait before the second attempt.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// The result of an attempt that did not fail permanently.
enum UploadAttempt {
    Completed,
    /// A temporary error, such as a broken connection.
    Retry(OciError),
    /// The registry does not accept a body of this size.
    TooLarge(OciError),
}

/// Uploads a blob that does not exist yet.
///
/// Errors: the first one. What happens in later attempts may only follow from it.
pub(super) async fn upload_blob(
    session: &RegistrySession,
    descriptor: &Descriptor,
    content: PushContent<'_>,
) -> Result<(), OciError> {
    let (mut wait, mut attempts, mut first) = (FIRST_WAIT, 1, None);
    let mut rate_limit = session.rate_limit_backoff();
    while attempts < ATTEMPTS {
        let error = match put_whole(session, descriptor, content).await? {
            UploadAttempt::Completed => return Ok(()),
            UploadAttempt::TooLarge(error) => {
                first.get_or_insert(error);
                break;
            }
            UploadAttempt::Retry(error) => error,
        };
        if let OciError::RateLimited { retry_after, .. } = error {
            if rate_limit.is_patient()
                && let Some(limited) = rate_limit.next_wait(retry_after)
            {
                wait_before_retry(&session.location(), limited).await;
                continue;
            }
        } else if is_stored(session, descriptor).await {
            return Ok(());
        }
        tracing::debug!(digest = %descriptor.digest, %error, "retrying the upload");
        first.get_or_insert(error);
        tokio::time::sleep(wait).await;
        wait *= 4;
        attempts += 1;
    }
    match put_chunks(session, descriptor, content).await {
        Err(error) if is_lost_answer(&error) && is_stored(session, descriptor).await => Ok(()),
        Err(error) => Err(match first {
            Some(first) if is_of_registry(&error) => OciError::UploadFailed {
                first: Box::new(first),
                last: Box::new(error),
            },
            _ => error,
        }),
        Ok(()) => Ok(()),
    }
}

/// True if the registry may have stored the blob although it did not say so.
const fn is_lost_answer(error: &OciError) -> bool {
    matches!(
        error,
        OciError::Unavailable { .. } | OciError::Deadline { .. }
    )
}

/// True if the registry has caused the error, and not the content.
const fn is_of_registry(error: &OciError) -> bool {
    error.is_definite_answer()
        || is_lost_answer(error)
        || matches!(
            error,
            OciError::RateLimited { .. } | OciError::Redirected { .. }
        )
}

/// After an answer that was lost: a registry may take minutes to store a blob, and a proxy before
/// it may give up earlier.
async fn is_stored(session: &RegistrySession, descriptor: &Descriptor) -> bool {
    check_content_exists(session, descriptor)
        .await
        .unwrap_or(false)
}

/// Requests a mount of a blob from another repository of the registry. Whatever the registry
/// refuses about it, the blob can be pushed instead.
pub(super) async fn mount_blob(
    session: &RegistrySession,
    descriptor: &Descriptor,
    from: &ImageRepository,
) -> Result<bool, OciError> {
    if from.host() != session.endpoint.repository().host() {
        return Ok(false);
    }
    let mut url = session.endpoint.uploads_url();
    url.query_pairs_mut()
        .append_pair("mount", &descriptor.digest.to_string())
        .append_pair("from", from.path());
    let request = HttpRequest::new(Method::POST, url)
        .body(Bytes::new())
        .allow_retries();
    match session
        .send_request(&RegistryAccess::Mount(from.clone()), request)
        .await
    {
        Ok(answer) => Ok(answer.status() == StatusCode::CREATED),
        Err(error) if error.is_definite_answer() => Ok(false),
        Err(error) => Err(error),
    }
}

async fn put_whole(
    session: &RegistrySession,
    descriptor: &Descriptor,
    content: PushContent<'_>,
) -> Result<UploadAttempt, OciError> {
    let upload = begin_upload(session, descriptor).await?;
    let url = finish_url(session, &upload, &descriptor.digest)?;
    let fault = ContentErrorSlot::default();
    let body = hold_back_last_chunk(content.open_reader(descriptor).await?, fault.clone());
    let request = HttpRequest::new(Method::PUT, url)
        .header(header::CONTENT_TYPE, OCTET_STREAM)
        .with_body_stream(body, descriptor.size)
        .expect_slow_answer();
    let answer = session.send_request(&RegistryAccess::Push, request).await;
    if let Some(fault) = fault.take_error() {
        return Err(OciError::from_io_error(fault, &session.location()));
    }
    match answer {
        Ok(answer) => classify_response(session, answer, descriptor).await,
        Err(error) if is_lost_answer(&error) => Ok(UploadAttempt::Retry(error)),
        Err(error) => Err(error),
    }
}

/// A 401 here means that the token expired during the upload: the next attempt begins with a new
/// one.
async fn classify_response(
    session: &RegistrySession,
    answer: HttpResponse,
    descriptor: &Descriptor,
) -> Result<UploadAttempt, OciError> {
    let status = answer.status();
    if status.is_success() {
        return Ok(UploadAttempt::Completed);
    }
    let error = session
        .write_error(answer, &descriptor.digest.to_string())
        .await;
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return Ok(UploadAttempt::TooLarge(error));
    }
    let passing = status.is_server_error()
        || matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS | StatusCode::NOT_FOUND
        );
    if passing {
        Ok(UploadAttempt::Retry(error))
    } else {
        Err(error)
    }
}

async fn put_chunks(
    session: &RegistrySession,
    descriptor: &Descriptor,
    content: PushContent<'_>,
) -> Result<(), OciError> {
    let mut upload = begin_upload(session, descriptor).await?;
    let size = chunk_size(&upload);
    let mut reader = content.open_reader(descriptor).await?;
    let mut start = 0;
    loop {
        let chunk = read_chunk(&mut reader, size)
            .await
            .map_err(|e| OciError::from_io_error(e, &session.location()))?;
        if chunk.is_empty() {
            break;
        }
        let end = start + chunk.len() as u64;
        let request = HttpRequest::new(Method::PATCH, upload_location(session, &upload)?)
            .header(header::CONTENT_TYPE, OCTET_STREAM);
        let request = request
            .header(header::CONTENT_RANGE, &format!("{start}-{}", end - 1))
            .body(chunk);
        upload = expect_success(session, request, descriptor).await?;
        start = end;
    }
    let url = finish_url(session, &upload, &descriptor.digest)?;
    expect_success(
        session,
        HttpRequest::new(Method::PUT, url)
            .body(Bytes::new())
            .expect_slow_answer(),
        descriptor,
    )
    .await
    .map(|_| ())
}

async fn begin_upload(
    session: &RegistrySession,
    descriptor: &Descriptor,
) -> Result<HttpResponseHead, OciError> {
    let request = HttpRequest::new(Method::POST, session.endpoint.uploads_url())
        .body(Bytes::new())
        .allow_retries();
    expect_success(session, request, descriptor).await
}

async fn expect_success(
    session: &RegistrySession,
    request: HttpRequest,
    descriptor: &Descriptor,
) -> Result<HttpResponseHead, OciError> {
    let answer = session.send_request(&RegistryAccess::Push, request).await?;
    if answer.status().is_success() {
        Ok(answer.head().clone())
    } else {
        Err(session
            .write_error(answer, &descriptor.digest.to_string())
            .await)
    }
}

/// The URL where the upload continues. It may be on another host, which gets no credentials.
fn upload_location(session: &RegistrySession, upload: &HttpResponseHead) -> Result<Url, OciError> {
    let without = || OciError::Unavailable {
        location: session.location(),
        cause: "it started an upload without a Location header".into(),
    };
    let target = upload.header(header::LOCATION).ok_or_else(without)?;
    upload
        .resolve_location(target)
        .map_err(|e: HttpError| session.map_http_error(e))
}

fn finish_url(
    session: &RegistrySession,
    upload: &HttpResponseHead,
    digest: &Digest,
) -> Result<Url, OciError> {
    let mut url = upload_location(session, upload)?;
    url.query_pairs_mut()
        .append_pair("digest", &digest.to_string());
    Ok(url)
}

fn chunk_size(upload: &HttpResponseHead) -> usize {
    let least = upload
        .header("oci-chunk-min-length")
        .and_then(|least| least.trim().parse().ok())
        .unwrap_or(0);
    CHUNK.max(least).min(LARGEST_CHUNK)
}

async fn read_chunk(reader: &mut ContentReader, size: usize) -> std::io::Result<Bytes> {
    let mut chunk = Vec::new();
    reader.take(size as u64).read_to_end(&mut chunk).await?;
    Ok(chunk.into())
}

/// The error of the content itself, which the HTTP library would report as a broken connection.
#[derive(Clone, Default)]
struct ContentErrorSlot(Arc<Mutex<Option<std::io::Error>>>);

impl ContentErrorSlot {
    fn set_error(&self, error: std::io::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn take_error(&self) -> Option<std::io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A stream that delays each chunk by one: the last chunk is sent only after all content is
/// verified.
fn hold_back_last_chunk(
    reader: ContentReader,
    fault: ContentErrorSlot,
) -> BoxStream<'static, std::io::Result<Bytes>> {
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
                    fault.set_error(error);
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
