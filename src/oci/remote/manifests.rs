//! Manifests and indexes: reading by tag or digest, writing.

use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use tokio::io::AsyncReadExt;

use super::{registry_access::RegistryAccess, session::RegistrySession};
use crate::{
    core::{
        digest::{Digest, is_digest_mismatch},
        limits::InputLimits,
        media_type::{self, ACCEPT_MANIFESTS, is_index},
        oci::Descriptor,
        reference::{ImageTag, TagOrDigest},
    },
    http::{HttpRequest, HttpResponseHead, Method, StatusCode, header},
    oci::{OciError, PushContent, ResolvedManifest},
};

/// The digest of the subject that the registry has listed by itself (distribution-spec 1.1,
/// "Pushing Manifests with Subject").
const OCI_SUBJECT: &str = "oci-subject";

/// The digest that the registry declares for a manifest (distribution-spec 1.1, "Pulling
/// manifests").
const DOCKER_CONTENT_DIGEST: &str = "docker-content-digest";

/// Reads a manifest or index of at most `limit` bytes. By digest, the content must match it. By
/// tag, the content must match the digest that the registry declares, if it declares one.
pub(super) async fn get_manifest(
    session: &RegistrySession,
    selector: &TagOrDigest,
    limit: usize,
) -> Result<ResolvedManifest, OciError> {
    let (head, bytes) = get_manifest_bytes(session, selector, limit).await?;
    let actual = Digest::of_bytes(&bytes);
    if let TagOrDigest::Digest(expected) = selector
        && actual != *expected
    {
        return Err(OciError::DigestMismatch {
            expected: expected.to_string(),
            actual: actual.to_string(),
        });
    }
    let media_type = manifest_media_type(&head, &bytes);
    let nameless = || OciError::Malformed {
        location: format!("{}@{actual}", session.location()),
        cause: "it has no media type".into(),
    };
    Ok(ResolvedManifest {
        descriptor: Descriptor::new(media_type.ok_or_else(nameless)?, actual, bytes.len() as u64),
        bytes,
    })
}

/// The bytes under a tag or digest, as received. If bytes under a tag do not match the declared
/// digest, they were damaged in transfer or by the registry: they are requested once more, and then
/// refused. For a digest the caller's check is sufficient.
pub(super) async fn get_manifest_bytes(
    session: &RegistrySession,
    selector: &TagOrDigest,
    limit: usize,
) -> Result<(HttpResponseHead, Bytes), OciError> {
    let what = selector.to_string();
    let mut tries_left = 1;
    loop {
        let request = accept_manifests(HttpRequest::get(session.endpoint.manifest_url(selector)));
        let (head, bytes) = session
            .fetch_body(&RegistryAccess::Pull, request, &what, limit)
            .await?;
        let contradiction = if matches!(selector, TagOrDigest::Tag(_)) {
            contradicting_digest(&head, &bytes)
        } else {
            None
        };
        match contradiction {
            None => return Ok((head, bytes)),
            Some(_) if tries_left > 0 => tries_left -= 1,
            Some(expected) => {
                let actual = Digest::of_bytes(&bytes).to_string();
                return Err(OciError::DigestHeaderMismatch {
                    location: session.location(),
                    what,
                    expected,
                    actual,
                });
            }
        }
    }
}

/// The declared digest of the response, if it differs from that of the bytes. A digest of an
/// unknown algorithm, or an invalid one, is ignored, as if there were no header. The header never
/// makes bytes valid; it can only refuse them.
fn contradicting_digest(head: &HttpResponseHead, bytes: &[u8]) -> Option<String> {
    head.headers(DOCKER_CONTENT_DIGEST)
        .map(str::trim)
        .find(|declared| is_digest_mismatch(declared, bytes))
        .map(ToOwned::to_owned)
}

/// True if the tag names the digest. What cannot be read does not count: writing the tag tells why.
pub(super) async fn is_tag_of(session: &RegistrySession, tag: &ImageTag, digest: &Digest) -> bool {
    let selector = TagOrDigest::Tag(tag.clone());
    let request = HttpRequest::new(Method::HEAD, session.endpoint.manifest_url(&selector));
    let request = accept_manifests(request);
    let Ok(answer) = session.send_request(&RegistryAccess::Push, request).await else {
        return false;
    };
    let declared = answer.head().header(DOCKER_CONTENT_DIGEST);
    let may_be = match answer.status() {
        StatusCode::NOT_FOUND | StatusCode::TOO_MANY_REQUESTS => false,
        status if status.is_success() => {
            declared.is_none_or(|declared| declared.trim() == digest.to_string())
        }
        status => status.is_client_error(),
    };
    // The header is a claim.
    let limit = InputLimits::DEFAULT.manifest_bytes;
    may_be
        && get_manifest_bytes(session, &selector, limit)
            .await
            .is_ok_and(|(_, bytes)| Digest::of_bytes(&bytes) == *digest)
}

/// Writes a document under a tag or its digest. Returns the subject for which the registry has
/// listed it, by its own response.
pub(super) async fn put_manifest(
    session: &RegistrySession,
    document: &ResolvedManifest,
    under: &TagOrDigest,
) -> Result<Option<Digest>, OciError> {
    send_put_request(session, put_request(session, document, under), under).await
}

/// The same without a second attempt. For a document that must not overwrite concurrent changes.
pub(super) async fn put_manifest_once(
    session: &RegistrySession,
    document: &ResolvedManifest,
    under: &TagOrDigest,
) -> Result<(), OciError> {
    send_put_request(
        session,
        put_request(session, document, under).forbid_retries(),
        under,
    )
    .await
    .map(|_| ())
}

fn put_request(
    session: &RegistrySession,
    document: &ResolvedManifest,
    under: &TagOrDigest,
) -> HttpRequest {
    let request = HttpRequest::new(Method::PUT, session.endpoint.manifest_url(under));
    request
        .header(header::CONTENT_TYPE, &document.descriptor.media_type)
        .body(document.bytes.clone())
}

async fn send_put_request(
    session: &RegistrySession,
    request: HttpRequest,
    under: &TagOrDigest,
) -> Result<Option<Digest>, OciError> {
    let answer = session.send_request(&RegistryAccess::Push, request).await?;
    if !answer.status().is_success() {
        return Err(session.write_error(answer, &under.to_string()).await);
    }
    Ok(answer
        .head()
        .header(OCI_SUBJECT)
        .and_then(|subject| subject.parse().ok()))
}

/// Lists the accepted media types; a registry may otherwise convert a manifest into an older
/// format.
pub(super) fn accept_manifests(request: HttpRequest) -> HttpRequest {
    request.header(header::ACCEPT, &ACCEPT_MANIFESTS.join(", "))
}

/// The bytes of a document to push.
pub(super) async fn read_pushed_manifest(
    descriptor: &Descriptor,
    content: PushContent<'_>,
    session: &RegistrySession,
    limits: &InputLimits,
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
    let mut reader = content.open_reader(descriptor).await?;
    reader
        .read_to_end(&mut bytes)
        .await
        .map_err(|e| OciError::from_io_error(e, &session.location()))?;
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

/// The media type of a manifest or index. Some registries and proxies say `application/json` or
/// `text/plain` for all of them, or the name of the other format for the same shape; the digest
/// covers the document's own media type and its shape, which count then. A response that calls a
/// manifest an index, or the other way round, is believed, and the reader refuses the document.
fn manifest_media_type(head: &HttpResponseHead, bytes: &[u8]) -> Option<String> {
    let declared = head
        .header(header::CONTENT_TYPE)
        .and_then(without_parameters);
    let own = own_media_type(bytes).filter(|own| is_manifest_or_index(own));
    match (declared, own) {
        (Some(declared), Some(own)) if !is_manifest_or_index(&declared) => Some(own),
        (Some(declared), Some(own)) if is_index(&declared) == is_index(&own) => Some(own),
        (Some(declared), _) => Some(declared),
        (None, own) => own,
    }
}

fn is_manifest_or_index(name: &str) -> bool {
    media_type::is_manifest(name) || is_index(name)
}

/// The `mediaType` in the document, or what its fields make it (image-spec 1.1, manifest.md and
/// image-index.md, where `mediaType` is optional).
fn own_media_type(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct DocumentShape {
        media_type: Option<String>,
        manifests: Option<IgnoredAny>,
        config: Option<IgnoredAny>,
        layers: Option<IgnoredAny>,
    }
    let shape: DocumentShape = serde_json::from_slice(bytes).ok()?;
    let is_manifest = shape.config.is_some() && shape.layers.is_some();
    let by_fields = match (is_manifest, shape.manifests.is_some()) {
        (true, false) => Some(media_type::MANIFEST),
        (false, true) => Some(media_type::INDEX),
        _ => None,
    };
    shape.media_type.or_else(|| by_fields.map(Into::into))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_says_what_it_is() {
        for (text, expected) in [
            (r#"{"mediaType":"x","layers":[]}"#, Some("x")),
            (
                r#"{"schemaVersion":2,"config":{},"layers":[]}"#,
                Some(media_type::MANIFEST),
            ),
            (
                r#"{"schemaVersion":2,"manifests":[]}"#,
                Some(media_type::INDEX),
            ),
            (r#"{"config":{},"layers":[],"manifests":[]}"#, None),
            (r#"{"layers":[]}"#, None),
            ("{}", None),
            ("<html>", None),
        ] {
            assert_eq!(
                own_media_type(text.as_bytes()).as_deref(),
                expected,
                "{text}"
            );
        }
    }
}
