//! Reading content as a stream, checked while it is read, and resumed where a connection broke.

use bytes::Bytes;
use futures::{Stream, stream::try_unfold};
use tokio_util::io::StreamReader;
use url::Url;

use super::{
    manifests::accepting,
    session::{Access, Session},
};
use crate::{
    core::{oci::Descriptor, reference::Selector},
    http::{Answer, HttpError, Method, Request, StatusCode, header},
    oci::{OciError, Reader, verify_stream::VerifyReader},
};

/// How often one content's stream is taken up again after its connection broke.
const RESUMES: u32 = 3;

/// Opens content. The stream yields exactly what the descriptor says, or ends in an error.
pub(super) async fn open(session: &Session, descriptor: &Descriptor) -> Result<Reader, OciError> {
    let answer = session
        .send(&Access::Pull, request(session, Method::GET, descriptor))
        .await?;
    if !answer.status().is_success() {
        return Err(session
            .refused(answer, &descriptor.digest.to_string())
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
    let download = Download {
        session: session.clone(),
        descriptor: descriptor.clone(),
        answer,
        seen: 0,
        resumes: RESUMES,
    };
    Ok(Box::new(VerifyReader::new(
        StreamReader::new(Box::pin(download.into_stream())),
        descriptor,
    )))
}

/// Is this content there?
pub(super) async fn exists(session: &Session, descriptor: &Descriptor) -> Result<bool, OciError> {
    let answer = session
        .send(&Access::Pull, request(session, Method::HEAD, descriptor))
        .await?;
    match answer.status() {
        status if status.is_success() => Ok(true),
        StatusCode::NOT_FOUND => Ok(false),
        _ => Err(session
            .refused(answer, &descriptor.digest.to_string())
            .await),
    }
}

fn request(session: &Session, method: Method, descriptor: &Descriptor) -> Request {
    if descriptor.is_document() {
        accepting(Request::new(
            method,
            session
                .endpoint
                .manifest(&Selector::Digest(descriptor.digest)),
        ))
    } else {
        Request::new(method, blob_url(session, descriptor))
    }
}

fn blob_url(session: &Session, descriptor: &Descriptor) -> Url {
    session.endpoint.blob(&descriptor.digest)
}

struct Download {
    session: Session,
    descriptor: Descriptor,
    answer: Answer,
    /// Bytes that were handed on.
    seen: u64,
    resumes: u32,
}

impl Download {
    fn into_stream(self) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
        try_unfold(self, |mut download| async move {
            let chunk = download.next().await.map_err(OciError::into_stream)?;
            Ok(chunk.map(|chunk| (chunk, download)))
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, OciError> {
        loop {
            match self.answer.chunk().await {
                Ok(chunk) => {
                    self.seen += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                    return Ok(chunk);
                }
                Err(error @ HttpError::Broken { .. }) => self.resume(error).await?,
                Err(error) => return Err(self.session.lost(error)),
            }
        }
    }

    /// Asks for the rest. An answer that is not exactly the rest leaves the break as the error.
    async fn resume(&mut self, broken: HttpError) -> Result<(), OciError> {
        let broken = self.session.lost(broken);
        let left = self
            .resumes
            .checked_sub(1)
            .filter(|_| self.seen < self.descriptor.size);
        let Some(left) = left else { return Err(broken) };
        self.resumes = left;
        let request = request(&self.session, Method::GET, &self.descriptor)
            .header(header::RANGE, &format!("bytes={}-", self.seen));
        let answer = self.session.send(&Access::Pull, request).await?;
        if !continues_at(&answer, self.seen) {
            return Err(broken);
        }
        self.answer = answer;
        Ok(())
    }
}

fn continues_at(answer: &Answer, offset: u64) -> bool {
    let range = answer
        .head()
        .header(header::CONTENT_RANGE)
        .and_then(|range| range.strip_prefix("bytes "));
    let start = range
        .and_then(|range| range.split_once('-'))
        .and_then(|(start, _)| start.trim().parse::<u64>().ok());
    answer.status() == StatusCode::PARTIAL_CONTENT && start == Some(offset)
}
