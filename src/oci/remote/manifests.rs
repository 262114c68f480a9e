//! Manifests and indexes: reading by tag or digest, writing.

use bytes::Bytes;
use serde::Deserialize;
use tokio::io::AsyncReadExt;

use super::session::{Access, Session};
use crate::{
    core::{
        digest::{Digest, contradicts},
        limits::Limits,
        media_type::ACCEPT_MANIFESTS,
        oci::Descriptor,
        reference::Selector,
    },
    http::{Head, Method, Request, header},
    oci::{Content, OciError, Resolved},
};

/// The digest of the subject that the registry has listed by itself (distribution-spec 1.1,
/// "Pushing Manifests with Subject").
const OCI_SUBJECT: &str = "oci-subject";

/// What the registry says that the bytes hash to (distribution-spec 1.1, "Pulling manifests").
const DOCKER_CONTENT_DIGEST: &str = "docker-content-digest";

/// Reads a manifest or index of at most `limit` bytes. What a digest names must hash to it. What a
/// tag names must hash to what the registry itself says, if it says anything.
pub(super) async fn get(
    session: &Session,
    selector: &Selector,
    limit: usize,
) -> Result<Resolved, OciError> {
    let (head, bytes) = document(session, selector, limit).await?;
    let actual = Digest::of(&bytes);
    if let Selector::Digest(expected) = selector
        && actual != *expected
    {
        return Err(OciError::DigestMismatch {
            expected: expected.to_string(),
            actual: actual.to_string(),
        });
    }
    let media_type = head
        .header(header::CONTENT_TYPE)
        .and_then(without_parameters)
        .or_else(|| own_media_type(&bytes));
    let nameless = || OciError::Malformed {
        location: format!("{}@{actual}", session.location()),
        cause: "it has no media type".into(),
    };
    Ok(Resolved {
        descriptor: Descriptor::new(media_type.ok_or_else(nameless)?, actual, bytes.len() as u64),
        bytes,
    })
}

/// The bytes under a tag or digest, as they came. Bytes under a tag that the registry itself
/// contradicts were damaged on the way, or the registry is: they are asked for once more, and then
/// refused. For a digest its caller knows better than any registry.
pub(super) async fn document(
    session: &Session,
    selector: &Selector,
    limit: usize,
) -> Result<(Head, Bytes), OciError> {
    let what = selector.to_string();
    let mut tries_left = 1;
    loop {
        let request = accepting(Request::get(session.endpoint.manifest(selector)));
        let (head, bytes) = session.fetch(&Access::Pull, request, &what, limit).await?;
        let contradiction = if matches!(selector, Selector::Tag(_)) {
            contradiction(&head, &bytes)
        } else {
            None
        };
        match contradiction {
            None => return Ok((head, bytes)),
            Some(_) if tries_left > 0 => tries_left -= 1,
            Some(expected) => {
                let actual = Digest::of(&bytes).to_string();
                return Err(OciError::Contradicted {
                    location: session.location(),
                    what,
                    expected,
                    actual,
                });
            }
        }
    }
}

/// The digest in the answer's head, if it is not that of the bytes. One of an algorithm that we do
/// not know, and what is no digest at all, says nothing about these bytes: as if there were no
/// header. It never makes bytes good, it can only refuse them.
fn contradiction(head: &Head, bytes: &[u8]) -> Option<String> {
    head.headers(DOCKER_CONTENT_DIGEST)
        .map(str::trim)
        .find(|told| contradicts(told, bytes))
        .map(ToOwned::to_owned)
}

/// Writes a document under a tag or its digest. Returns the subject that the registry says it has
/// listed it for.
pub(super) async fn put(
    session: &Session,
    document: &Resolved,
    under: &Selector,
) -> Result<Option<Digest>, OciError> {
    send(session, upload(session, document, under), under).await
}

/// The same without a second attempt. For what must not overwrite anything that came in the
/// meantime.
pub(super) async fn put_once(
    session: &Session,
    document: &Resolved,
    under: &Selector,
) -> Result<(), OciError> {
    send(session, upload(session, document, under).once(), under)
        .await
        .map(|_| ())
}

fn upload(session: &Session, document: &Resolved, under: &Selector) -> Request {
    let request = Request::new(Method::PUT, session.endpoint.manifest(under));
    request
        .header(header::CONTENT_TYPE, &document.descriptor.media_type)
        .body(document.bytes.clone())
}

async fn send(
    session: &Session,
    request: Request,
    under: &Selector,
) -> Result<Option<Digest>, OciError> {
    let answer = session.send(&Access::Push, request).await?;
    if !answer.status().is_success() {
        return Err(session.refused(answer, &under.to_string()).await);
    }
    Ok(answer
        .head()
        .header(OCI_SUBJECT)
        .and_then(|subject| subject.parse().ok()))
}

/// Says what is understood; a registry may else convert a manifest into an older form.
pub(super) fn accepting(request: Request) -> Request {
    request.header(header::ACCEPT, &ACCEPT_MANIFESTS.join(", "))
}

/// The bytes of a document that is to be pushed.
pub(super) async fn collect(
    descriptor: &Descriptor,
    content: Content<'_>,
    session: &Session,
    limits: &Limits,
) -> Result<Bytes, OciError> {
    let limit = limits.manifest_bytes as u64;
    if descriptor.size > limit {
        return Err(OciError::LimitExceeded {
            what: descriptor.digest.to_string(),
            size: descriptor.size,
            limit,
        });
    }
    let mut bytes = Vec::new();
    let mut reader = content.open(descriptor).await?;
    reader
        .read_to_end(&mut bytes)
        .await
        .map_err(|e| OciError::from_stream(e, &session.location()))?;
    Ok(bytes.into())
}

fn without_parameters(value: &str) -> Option<String> {
    let essence = value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    (!essence.is_empty()).then_some(essence)
}

fn own_media_type(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire {
        media_type: String,
    }
    serde_json::from_slice(bytes)
        .ok()
        .map(|wire: Wire| wire.media_type)
}
