//! Publishes a bundle in one fixed order: check the tag, sign, attest, verify the result in the
//! registry, then tag. An unsigned bundle can never be pulled by tag, and nothing is signed twice.
//!
//! What is *not* checked here: whether the bundle may be signed. The caller has packed it, or
//! derived it again ([`super::rebuild_and_sign`]).

mod attestor;
mod error;
mod tagging;

use self::{attestor::BundleAttestor, tagging::TagPermission};
pub use self::{
    attestor::{PublishOutcome, SigningRequest},
    error::PublishError,
    tagging::TagAssignment,
};
use super::release_context::ReleaseContext;
use crate::oci::ResolvedManifest;

/// Signs and attests `root` if there is a signer, verifies the result like any other verifier, and
/// tags it last.
pub async fn publish_bundle(
    context: &ReleaseContext<'_>,
    root: &ResolvedManifest,
    signing: Option<SigningRequest<'_>>,
    label: Option<TagAssignment<'_>>,
) -> Result<PublishOutcome, PublishError> {
    if let Some(label) = &label {
        label.check_tag(context, root).await?;
    }
    let (published, permission) = match signing {
        None => (PublishOutcome::Unsigned, TagPermission::Unsigned),
        Some(signing) => {
            let attestor = BundleAttestor::new(signing, context, root).await?;
            let (published, clearance) = Box::pin(attestor.attest_missing()).await?;
            (published, TagPermission::Cleared(clearance))
        }
    };
    if let Some(label) = &label {
        label.set_tag(context, root, permission).await?;
    }
    context.target.commit_changes().await?;
    Ok(published)
}
