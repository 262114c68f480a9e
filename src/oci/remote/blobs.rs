//! Reads content as a stream, verified while it is read, and resumed after a broken connection.

use bytes::Bytes;
use futures::{Stream, stream::try_unfold};
use tokio_util::io::StreamReader;
use url::Url;

use super::{
    manifests::accept_manifests, registry_access::RegistryAccess, session::RegistrySession,
};
use crate::{
    core::{oci::Descriptor, reference::TagOrDigest},
    http::{HttpError, HttpRequest, HttpResponse, Method, StatusCode, header},
    oci::{ContentReader, OciError, verify_stream::DigestVerifyingReader},
};

/// The maximum number of resumptions of one content's stream.
const MAX_RESUMES: u32 = 3;

/// Opens content. The stream yields exactly the content of the descriptor, or ends with an error.
pub(super) async fn open_content_stream(
    session: &RegistrySession,
    descriptor: &Descriptor,
) -> Result<ContentReader, OciError> {
    let answer = session
        .send_request(
            &RegistryAccess::Pull,
            content_request(session, Method::GET, descriptor),
        )
        .await?;
    if !answer.status().is_success() {
        return Err(session
            .response_error(answer, &descriptor.digest.to_string())
            .await);
    }
    if let Some(length) = answer.head().content_length()
        && length != descriptor.size
    {
        return Err(OciError::SizeMismatch {
            digest: descriptor.digest.to_string(),
            expected: descriptor.size,
            actual: length.to_string(),
        });
    }
    let download = BlobDownload {
        session: session.clone(),
        descriptor: descriptor.clone(),
        answer,
        seen: 0,
        resumes: MAX_RESUMES,
    };
    Ok(Box::new(DigestVerifyingReader::new(
        StreamReader::new(Box::pin(download.into_stream())),
        descriptor,
    )))
}

/// True if the content exists. A registry or proxy that refuses to answer HEAD is asked again with
/// GET, without reading the content: it may answer that, and a refusal has words then.
pub(super) async fn check_content_exists(
    session: &RegistrySession,
    descriptor: &Descriptor,
) -> Result<bool, OciError> {
    let ask = async |method| {
        let request = content_request(session, method, descriptor);
        session.send_request(&RegistryAccess::Pull, request).await
    };
    let mut answer = ask(Method::HEAD).await?;
    if is_refused(answer.status()) {
        answer = ask(Method::GET).await?;
    }
    match answer.status() {
        status if status.is_success() => Ok(true),
        StatusCode::NOT_FOUND => Ok(false),
        _ => Err(session
            .response_error(answer, &descriptor.digest.to_string())
            .await),
    }
}

/// True for an answer that another method may not get.
fn is_refused(status: StatusCode) -> bool {
    let answered = matches!(
        status,
        StatusCode::NOT_FOUND | StatusCode::TOO_MANY_REQUESTS
    );
    (status.is_client_error() && !answered) || status == StatusCode::NOT_IMPLEMENTED
}

fn content_request(
    session: &RegistrySession,
    method: Method,
    descriptor: &Descriptor,
) -> HttpRequest {
    if descriptor.is_manifest_or_index() {
        accept_manifests(HttpRequest::new(
            method,
            session
                .endpoint
                .manifest_url(&TagOrDigest::Digest(descriptor.digest)),
        ))
    } else {
        HttpRequest::new(method, blob_url(session, descriptor))
    }
}

fn blob_url(session: &RegistrySession, descriptor: &Descriptor) -> Url {
    session.endpoint.blob_url(&descriptor.digest)
}

struct BlobDownload {
    session: RegistrySession,
    descriptor: Descriptor,
    answer: HttpResponse,
    /// Bytes that were yielded.
    seen: u64,
    resumes: u32,
}

impl BlobDownload {
    fn into_stream(self) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
        try_unfold(self, |mut download| async move {
            let chunk = download
                .next_chunk()
                .await
                .map_err(OciError::into_io_error)?;
            Ok(chunk.map(|chunk| (chunk, download)))
        })
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, OciError> {
        loop {
            match self.answer.next_chunk().await {
                Ok(chunk) => {
                    self.seen += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                    return Ok(chunk);
                }
                Err(error @ HttpError::Broken { .. }) => self.resume_download(error).await?,
                Err(error) => return Err(self.session.map_http_error(error)),
            }
        }
    }

    /// Requests the rest. If the response is not exactly the rest, the original error remains.
    async fn resume_download(&mut self, broken: HttpError) -> Result<(), OciError> {
        let broken = self.session.map_http_error(broken);
        let left = self
            .resumes
            .checked_sub(1)
            .filter(|_| self.seen < self.descriptor.size);
        let Some(left) = left else { return Err(broken) };
        self.resumes = left;
        let request = content_request(&self.session, Method::GET, &self.descriptor)
            .header(header::RANGE, &format!("bytes={}-", self.seen));
        let answer = self
            .session
            .send_request(&RegistryAccess::Pull, request)
            .await?;
        if !continues_at(&answer, self.seen) {
            return Err(broken);
        }
        self.answer = answer;
        Ok(())
    }
}

fn continues_at(answer: &HttpResponse, offset: u64) -> bool {
    let range = answer
        .head()
        .header(header::CONTENT_RANGE)
        .and_then(|range| range.strip_prefix("bytes "));
    let start = range
        .and_then(|range| range.split_once('-'))
        .and_then(|(start, _)| start.trim().parse::<u64>().ok());
    answer.status() == StatusCode::PARTIAL_CONTENT && start == Some(offset)
}
