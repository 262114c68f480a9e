//! What was applied to the webhook's configuration, and since when API servers know it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use crate::{api::bundle_policy::PolicyObject, core::digest::Digest};

/// How long API servers may take to load a changed configuration. They watch it, so it takes a
/// moment.
const CONFIGURATION_PROPAGATION_DELAY: SignedDuration = SignedDuration::from_secs(1);
/// The minimum interval between changes for namespaces' policies alone.
const MIN_NAMESPACED_UPDATE_INTERVAL: SignedDuration = SignedDuration::from_secs(2);

/// The state that was applied last.
#[derive(Default)]
pub(super) struct AppliedWebhookState {
    /// The Secret as last written, until the watch has seen it.
    pub written_secret: Option<Secret>,
    /// The applied configuration, and its resource version.
    pub applied: Option<(Value, String)>,
    /// When it was last applied only for namespaces' policies.
    at: Option<Timestamp>,
    /// The digests of the conditions to apply, everywhere and in each namespace.
    pub desired_digests: BTreeMap<String, Digest>,
    /// The digests of the conditions in force, and since when API servers can know them. No time
    /// for those from before this process started.
    active_digests: BTreeMap<String, (Digest, Option<Timestamp>)>,
    /// The CAs that API servers know, and since when.
    pub trusted_authorities: Option<(String, Timestamp)>,
}

impl AppliedWebhookState {
    /// Every API server compiles a changed configuration. Users who may only write policies in a
    /// namespace must not be able to cause that all the time.
    pub(super) fn is_throttled(&self, now: Timestamp) -> bool {
        let is_everywhere =
            self.active_digests.get("").map(|(print, _)| print) != self.desired_digests.get("");
        !is_everywhere
            && self.at.is_some_and(|at| {
                now.duration_since(at) < MIN_NAMESPACED_UPDATE_INTERVAL && now >= at
            })
    }

    /// Records that the wanted configuration was applied: `since` now, or earlier if it was
    /// unchanged. Unchanged conditions were in force before, unless another client had changed the
    /// configuration.
    pub(super) fn mark_applied(
        &mut self,
        was_ours: bool,
        since: Option<Timestamp>,
        now: Timestamp,
    ) {
        let before = std::mem::take(&mut self.active_digests);
        let asked = |(scope, print): (&String, &Digest)| {
            let same = before
                .get(scope)
                .filter(|(known, _)| was_ours && known == print);
            (scope.clone(), same.copied().unwrap_or((*print, since)))
        };
        self.active_digests = self.desired_digests.iter().map(asked).collect();
        self.at = Some(now);
    }

    /// True if API servers send the uses that this policy governs.
    pub(super) fn is_active_for(&self, policy: &PolicyObject, now: Timestamp) -> bool {
        let settled = |scope: &str| match (
            self.desired_digests.get(scope),
            self.active_digests.get(scope),
        ) {
            (None, None) => true,
            (Some(wanted), Some((asked, since))) => {
                wanted == asked
                    && since.is_none_or(|since| {
                        now.duration_since(since) >= CONFIGURATION_PROPAGATION_DELAY
                    })
            }
            _ => false,
        };
        self.applied.is_some()
            && settled("")
            && policy.metadata().namespace.as_deref().is_none_or(settled)
    }
}
