//! Manifests and indexes: reading by tag or digest, writing.

use bytes::Bytes;
use serde::Deserialize;
use tokio::io::AsyncReadExt;

use super::session::{Access, Session};
use crate::{
    core::{digest::Digest, limits::Limits, media_type::ACCEPT_MANIFESTS, oci::Descriptor, reference::Selector},
    http::{Method, Request, header},
    oci::{Content, OciError, Resolved},
};

/// The digest of the subject that the registry has listed by itself (distribution-spec 1.1, "Pushing Manifests with Subject").
const OCI_SUBJECT: &str = "oci-subject";

/// Reads a manifest or index of at most `limit` bytes. What a digest names must hash to it.
pub(super) async fn get(session: &Session, selector: &Selector, limit: usize) -> Result<Resolved, OciError> {
    let request = accepting(Request::get(session.endpoint.manifest(selector)));
    let (head, bytes) = session.fetch(&Access::Pull, request, &selector.to_string(), limit).await?;
    let actual = Digest::of(&bytes);
    if let Selector::Digest(expected) = selector
        && actual != *expected
    {
        return Err(OciError::DigestMismatch { expected: expected.to_string(), actual: actual.to_string() });
    }
    let media_type = head.header(header::CONTENT_TYPE).and_then(without_parameters).or_else(|| own_media_type(&bytes));
    let nameless = || OciError::Malformed { location: format!("{}@{actual}", session.location()), cause: "it has no media type".into() };
    Ok(Resolved { descriptor: Descriptor::new(media_type.ok_or_else(nameless)?, actual, bytes.len() as u64), bytes })
}

/// Writes a document under a tag or its digest. Returns the subject that the registry says it has listed it for.
pub(super) async fn put(session: &Session, document: &Resolved, under: &Selector) -> Result<Option<Digest>, OciError> {
    send(session, upload(session, document, under), under).await
}

/// The same without a second attempt. For what must not overwrite anything that came in the meantime.
pub(super) async fn put_once(session: &Session, document: &Resolved, under: &Selector) -> Result<(), OciError> {
    send(session, upload(session, document, under).once(), under).await.map(|_| ())
}

fn upload(session: &Session, document: &Resolved, under: &Selector) -> Request {
    let request = Request::new(Method::PUT, session.endpoint.manifest(under));
    request.header(header::CONTENT_TYPE, &document.descriptor.media_type).body(document.bytes.clone())
}

async fn send(session: &Session, request: Request, under: &Selector) -> Result<Option<Digest>, OciError> {
    let answer = session.send(&Access::Push, request).await?;
    if !answer.status().is_success() {
        return Err(session.refused(answer, &under.to_string()).await);
    }
    Ok(answer.head().header(OCI_SUBJECT).and_then(|subject| subject.parse().ok()))
}

/// Says what is understood; a registry may else convert a manifest into an older form.
pub(super) fn accepting(request: Request) -> Request {
    request.header(header::ACCEPT, &ACCEPT_MANIFESTS.join(", "))
}

/// The bytes of a document that is to be pushed.
pub(super) async fn collect(descriptor: &Descriptor, content: Content<'_>, session: &Session, limits: &Limits) -> Result<Bytes, OciError> {
    let limit = limits.manifest_bytes as u64;
    if descriptor.size > limit {
        return Err(OciError::LimitExceeded { what: descriptor.digest.to_string(), size: descriptor.size, limit });
    }
    let mut bytes = Vec::new();
    let mut reader = content.open(descriptor).await?;
    reader.read_to_end(&mut bytes).await.map_err(|e| OciError::from_stream(e, &session.location()))?;
    Ok(bytes.into())
}

fn without_parameters(value: &str) -> Option<String> {
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    (!essence.is_empty()).then_some(essence)
}

fn own_media_type(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Wire {
        media_type: String,
    }
    serde_json::from_slice(bytes).ok().map(|wire: Wire| wire.media_type)
}
