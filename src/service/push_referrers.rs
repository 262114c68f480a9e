//! Pushes referrers, and checks that they can be found.

use std::time::Duration;

use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        oci::Descriptor,
        referrer::{ReferrerArtifact, ReferrerContent},
    },
    oci::{ContentTarget, OciError, PushContent},
};

/// Pushes referrers, and lists all of them with one write where the registry does not list them by
/// itself: a registry whose tags cannot be changed accepts only the first write of a list.
pub(super) async fn push_referrers(
    target: &dyn ContentTarget,
    artifacts: &[ReferrerArtifact],
) -> Result<(), OciError> {
    let mut unlisted = Vec::new();
    for ReferrerArtifact {
        config,
        layer,
        manifest,
    } in artifacts
    {
        for ReferrerContent { descriptor, bytes } in [config, layer] {
            target
                .push_content(descriptor, PushContent::Bytes(bytes))
                .await?;
        }
        let content = PushContent::Bytes(&manifest.bytes);
        unlisted.extend(target.push_unlisted(&manifest.descriptor, content).await?);
    }
    target.list_pushed_referrers(unlisted).await
}

/// Waits until `target` lists the referrer. Some registries take a moment; some answer the
/// referrers API and list nothing. What cannot be read is not judged: it is stored.
pub(super) async fn require_listed(
    target: &dyn ContentTarget,
    subject: &Descriptor,
    referrer: &Digest,
) -> Result<(), OciError> {
    let mut waits = LISTING_WAITS.into_iter();
    loop {
        match target.list_referrers(subject, &InputLimits::DEFAULT).await {
            Ok(listed) if listed.iter().any(|entry| entry.digest == *referrer) => return Ok(()),
            Ok(_) => {}
            Err(error)
                if error.is_definite_answer()
                    || matches!(error, OciError::TooManyReferrers { .. }) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        match waits.next() {
            Some(wait) => tokio::time::sleep(wait).await,
            None => {
                return Err(OciError::ReferrerNotListed {
                    location: target.location(),
                    digest: referrer.to_string(),
                    cause: "it answers its referrers API (OCI distribution 1.1), and does not \
                            list it there"
                        .into(),
                });
            }
        }
    }
}

/// The waits for a registry to list new referrers, or to show a new tag: 6.3 s in all.
pub(super) const LISTING_WAITS: [Duration; 6] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1_600),
    Duration::from_millis(3_200),
];
