//! The referrers tag, for registries without the referrers API (distribution-spec 1.1, "Referrers
//! Tag Schema").

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;

use super::{
    manifests,
    referrers_index::{
        ReferrerEntry, check_entry_count, is_list, parse_referrers_index, referrers_index_bytes,
    },
    session::RegistrySession,
};
use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        media_type,
        oci::Descriptor,
        reference::{ImageTag, TagOrDigest},
    },
    http::{RateLimitBackoff, StatusCode},
    oci::{
        OciError, ResolvedManifest,
        shared_tag::{self, SharedTag},
    },
};

/// The entries under the referrers tag that may be referrers; none if the tag does not exist, or
/// names something that is no list.
///
/// Copies of images have such tags too: `cosign copy` sets `sha256-…` to the image itself, and
/// GitLab resolves it so without any tag. An index that was made of one lists its manifests, which
/// have a platform; no referrer has one.
pub(super) async fn read_referrers_tag(
    session: &RegistrySession,
    subject: &Descriptor,
    limits: &InputLimits,
) -> Result<Vec<ReferrerEntry>, OciError> {
    let mut entries = read_tagged_entries(session, subject, limits).await?;
    entries.retain(|entry| !entry.has_platform());
    Ok(entries)
}

/// All entries under the referrers tag, also those that are no referrers.
async fn read_tagged_entries(
    session: &RegistrySession,
    subject: &Descriptor,
    limits: &InputLimits,
) -> Result<Vec<ReferrerEntry>, OciError> {
    let tag = referrers_tag_for(&subject.digest)?;
    let selector = TagOrDigest::Tag(tag.clone());
    let Some(bytes) = fetch_tagged_document(session, &selector, limits).await? else {
        return Ok(Vec::new());
    };
    if Digest::of_bytes(&bytes) == subject.digest || is_other_document(&bytes) {
        return Ok(Vec::new());
    }
    let entries = parse_referrers_index(&bytes, subject, limits).map_err(|error| match error {
        error @ OciError::TooManyReferrers { .. } => error,
        error => OciError::MalformedReferrers {
            location: session.location(),
            digest: subject.digest.to_string(),
            place: format!("tag {tag}"),
            cause: error.to_string(),
        },
    })?;
    check_entry_count(entries.len(), subject, limits)?;
    Ok(entries)
}

/// True for a manifest or another JSON object that is no index. What is no JSON at all is not the
/// registry's answer: it may hide a list, so it is an error and never overwritten.
fn is_other_document(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct MediaTypeField {
        media_type: Option<String>,
    }
    let object: Result<MediaTypeField, _> = serde_json::from_slice(bytes);
    object.is_ok_and(|object| {
        let is_index = object
            .media_type
            .as_deref()
            .is_none_or(media_type::is_index);
        !is_index || !is_list(bytes)
    })
}

/// Adds entries to the list of `subject`, once, and returns when they are safe from being lost.
///
/// Errors: [`OciError::ReferrerNotListed`] if that cannot be ensured. The documents themselves are
/// in the registry then, and may be listed. [`OciError::ReferrersTagRefused`] if the registry does
/// not accept the list.
pub(super) async fn add_referrers(
    session: &RegistrySession,
    subject: &Descriptor,
    entries: &[Descriptor],
    limits: &InputLimits,
) -> Result<(), OciError> {
    let Some(first) = entries.first() else {
        return Ok(());
    };
    let own = entries
        .iter()
        .map(ReferrerEntry::from_descriptor)
        .collect::<serde_json::Result<Vec<_>>>()
        .map_err(|e| OciError::Invalid(e.to_string()))?;
    let tag = ReferrersTag {
        session,
        subject,
        first,
        limits,
        tag: referrers_tag_for(&subject.digest)?,
    };
    shared_tag::add_entries(&tag, own).await.map(drop)
}

/// The tag with the list of `subject`, to which entries are added.
struct ReferrersTag<'a> {
    session: &'a RegistrySession,
    subject: &'a Descriptor,
    /// The first of them.
    first: &'a Descriptor,
    limits: &'a InputLimits,
    tag: ImageTag,
}

#[async_trait]
impl SharedTag for ReferrersTag<'_> {
    type Entry = ReferrerEntry;
    type Content = Vec<ReferrerEntry>;

    fn name(&self) -> String {
        format!("{}:{}", self.session.location(), self.tag)
    }

    fn has_other_writers(&self) -> bool {
        true
    }

    fn entries(content: &Self::Content) -> &[ReferrerEntry] {
        content
    }

    fn is_same_entry(one: &ReferrerEntry, other: &ReferrerEntry) -> bool {
        one.names_same_content(other)
    }

    fn check_entry_count(&self, count: usize) -> Result<(), OciError> {
        check_entry_count(count, self.subject, self.limits)
    }

    async fn read_content(&self) -> Result<Self::Content, OciError> {
        read_tagged_entries(self.session, self.subject, self.limits).await
    }

    async fn write_content(
        &self,
        found: Self::Content,
        missing: Vec<ReferrerEntry>,
    ) -> Result<(), OciError> {
        let entries = [found, missing].concat();
        self.check_entry_count(entries.len())?;
        let bytes =
            referrers_index_bytes(&entries).map_err(|e| OciError::Invalid(e.to_string()))?;
        let limit = self.limits.manifest_bytes;
        if bytes.len() > limit {
            let what = format!("the list of referrers of {}", self.subject.digest);
            return Err(OciError::LimitExceeded {
                what,
                size: bytes.len() as u64,
                limit: limit as u64,
            });
        }
        let index = ResolvedManifest {
            descriptor: Descriptor::of_bytes(media_type::INDEX, &bytes),
            bytes: bytes.into(),
        };
        let under = TagOrDigest::Tag(self.tag.clone());
        match manifests::put_manifest_once(self.session, &index, &under).await {
            Err(refusal) if refusal.is_definite_answer() => Err(OciError::ReferrersTagRefused {
                digest: self.subject.digest.to_string(),
                tag: self.tag.to_string(),
                refusal: Box::new(refusal),
            }),
            written => written,
        }
    }

    fn rate_limit_backoff(&self) -> Option<RateLimitBackoff> {
        Some(self.session.rate_limit_backoff())
    }

    fn not_kept_error(&self, cause: String) -> OciError {
        OciError::ReferrerNotListed {
            location: self.session.location(),
            digest: self.first.digest.to_string(),
            cause,
        }
    }
}

/// The document under a fallback tag, or `None`.
async fn fetch_tagged_document(
    session: &RegistrySession,
    selector: &TagOrDigest,
    limits: &InputLimits,
) -> Result<Option<Bytes>, OciError> {
    match manifests::get_manifest_bytes(session, selector, limits.manifest_bytes).await {
        Ok((head, bytes)) if head.status() == StatusCode::OK => Ok(Some(bytes)),
        Ok((head, _)) => Err(OciError::Unavailable {
            location: session.location(),
            cause: format!("HTTP {} for {selector}", head.status().as_u16()),
        }),
        Err(OciError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn referrers_tag_for(digest: &Digest) -> Result<ImageTag, OciError> {
    digest
        .referrers_fallback_tag()
        .parse()
        .map_err(|e| OciError::Invalid(format!("{e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_index_is_no_list_and_what_is_no_json_is_unknown() {
        for (text, is_other) in [
            (r#"{"schemaVersion":2,"config":{},"layers":[]}"#, true),
            (
                r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}"#,
                true,
            ),
            (r#"{"schemaVersion":2}"#, true),
            ("{}", true),
            (r#"{"schemaVersion":2,"manifests":null}"#, true),
            (r#"{"schemaVersion":2,"manifests":[]}"#, false),
            (
                r#"{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#,
                false,
            ),
            ("<html>", false),
            ("", false),
            (r#"{"schemaVersion":2,"manif"#, false),
        ] {
            assert_eq!(is_other_document(text.as_bytes()), is_other, "{text}");
        }
    }
}
