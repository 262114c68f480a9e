//! Sets the tag of a bundle, once it may be pulled by it.

use super::error::PublishError;
use crate::{
    core::{
        job::JobTagPolicy,
        policy::Clearance,
        reason::Reason,
        reference::{ImageTag, TagOrDigest},
    },
    oci::{OciError, ResolvedManifest},
    service::{push_referrers::LISTING_WAITS, release_context::ReleaseContext},
};

/// The tag to set at the end.
#[derive(Clone, Copy, Debug)]
pub struct TagAssignment<'a> {
    /// The tag.
    pub tag: &'a ImageTag,
    /// Whether the tag may be moved.
    pub policy: JobTagPolicy,
}

/// What allows a bundle to be tagged.
#[derive(Debug)]
pub(super) enum TagPermission {
    /// Its signature and attestations are admitted, as the registry lists them.
    Cleared(Clearance),
    /// No signature was requested.
    Unsigned,
}

impl TagAssignment<'_> {
    /// Refuses an immutable tag that names another digest. Registries cannot create tags
    /// atomically, so this is best effort. A registry that refuses the request is an error, never
    /// an absent tag.
    pub(super) async fn check_tag(
        &self,
        context: &ReleaseContext<'_>,
        root: &ResolvedManifest,
    ) -> Result<(), PublishError> {
        if self.policy == JobTagPolicy::Mutable {
            return Ok(());
        }
        let (tag, wanted) = (self.tag.clone(), root.descriptor.digest);
        let location = context.target.location();
        match context
            .target
            .resolve_manifest(&TagOrDigest::Tag(tag.clone()), context.limits)
            .await
        {
            Ok(there) if there.descriptor.digest != wanted => Err(PublishError::TagConflict {
                tag,
                location,
                found: there.descriptor.digest,
                wanted,
            }),
            Ok(_) | Err(OciError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tags `root`, and checks that the tag names it then.
    pub(super) async fn set_tag(
        &self,
        context: &ReleaseContext<'_>,
        root: &ResolvedManifest,
        permission: TagPermission,
    ) -> Result<(), PublishError> {
        if let TagPermission::Cleared(clearance) = permission
            && *clearance.digest() != root.descriptor.digest
        {
            let message = format!("{} was admitted", clearance.digest());
            return Err(PublishError::not_admitted(
                root.descriptor.digest,
                Reason::Internal,
                message,
            ));
        }
        let (target, wanted) = (context.target, root.descriptor.digest);
        target.tag_manifest(&root.descriptor, self.tag).await?;
        let mut waits = LISTING_WAITS.into_iter();
        loop {
            let found = target
                .resolve_manifest(&TagOrDigest::Tag(self.tag.clone()), context.limits)
                .await
                .map(|found| found.descriptor.digest);
            if found.as_ref().is_ok_and(|found| *found == wanted) {
                return Ok(());
            }
            // Some registries show for a moment what was there before.
            match (waits.next(), found) {
                (Some(wait), Ok(_) | Err(OciError::NotFound { .. })) => {
                    tokio::time::sleep(wait).await;
                }
                (_, Ok(found)) => {
                    return Err(PublishError::TagMoved {
                        tag: self.tag.clone(),
                        location: target.location(),
                        found,
                        wanted,
                    });
                }
                (_, Err(error)) => return Err(error.into()),
            }
        }
    }
}
