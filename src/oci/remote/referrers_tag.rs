//! The referrers tag, for registries without the referrers API (distribution-spec 1.1, "Referrers
//! Tag Schema").

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    manifests,
    referrers_index::{
        ReferrerEntry, check_entry_count, parse_referrers_index, referrers_index_bytes,
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
    http::StatusCode,
    oci::{
        OciError, ResolvedManifest,
        shared_tag::{self, SharedTag},
    },
};

/// The entries under the referrers tag; none if the tag does not exist.
pub(super) async fn read_referrers_tag(
    session: &RegistrySession,
    subject: &Descriptor,
    limits: &InputLimits,
) -> Result<Vec<ReferrerEntry>, OciError> {
    let selector = TagOrDigest::Tag(referrers_tag_for(&subject.digest)?);
    let Some(bytes) = fetch_tagged_index(session, &selector, limits).await? else {
        return Ok(Vec::new());
    };
    let entries = parse_referrers_index(&bytes, subject, limits)?;
    check_entry_count(entries.len(), subject, limits)?;
    Ok(entries)
}

/// Adds an entry to the list of `subject`, once, and returns when it is safe from being lost.
///
/// Errors: [`OciError::ReferrerNotListed`] if that cannot be ensured. The document itself is in the
/// registry then, and may be listed.
pub(super) async fn add_referrer(
    session: &RegistrySession,
    subject: &Descriptor,
    entry: &Descriptor,
    limits: &InputLimits,
) -> Result<(), OciError> {
    let own =
        ReferrerEntry::from_descriptor(entry).map_err(|e| OciError::Invalid(e.to_string()))?;
    let tag = ReferrersTag {
        session,
        subject,
        entry,
        limits,
        tag: referrers_tag_for(&subject.digest)?,
    };
    shared_tag::add_entries(&tag, vec![own]).await.map(drop)
}

/// The tag with the list of `subject`, to which `entry` is added.
struct ReferrersTag<'a> {
    session: &'a RegistrySession,
    subject: &'a Descriptor,
    entry: &'a Descriptor,
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
        read_referrers_tag(self.session, self.subject, self.limits).await
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
        manifests::put_manifest_once(self.session, &index, &under).await
    }

    fn not_kept_error(&self, cause: String) -> OciError {
        OciError::ReferrerNotListed {
            location: self.session.location(),
            digest: self.entry.digest.to_string(),
            cause,
        }
    }
}

/// The index under a fallback tag, or `None`.
async fn fetch_tagged_index(
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
