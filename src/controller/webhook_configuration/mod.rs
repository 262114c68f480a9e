//! Maintains the webhook's configuration: its certificate, its entries, and the status of every
//! policy's enforcement.
//!
//! The chart creates the configuration object, without entries; they are added once a replica is
//! ready, and stay when none is: then every governed use is denied, and nothing else is affected.

mod applied_state;
mod certificate_rotation;
mod certificates;
mod entries;
mod replica_announcements;
mod watches;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};

use self::{
    applied_state::AppliedWebhookState, certificate_rotation::WebhookCertificates,
    certificates::reconcile_certificates, replica_announcements::remove_gone_replicas,
    watches::WebhookWatches,
};
use super::{
    reconcile_context::ReconcileContext, reconcile_error::ReconcileError, resources::MANAGER,
    watched_policies::WatchedPolicyStores,
};
use crate::{
    api::{bundle_policy::PolicyObject, webhook::WEBHOOK_CONFIGURATION_NAME},
    cluster_reader::WatchedObjectState,
    core::policy::Policy,
};

/// The interval of checks for work. A check alone sends no request.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The delay after an error of the API server.
const ERROR_RETRY_DELAY: Duration = Duration::from_secs(2);

/// Manages it until it is dropped.
pub(super) async fn manage_configuration_forever(
    context: &Arc<ReconcileContext>,
    policies: &WatchedPolicyStores,
) {
    let watches = WebhookWatches::start_all(context);
    let mut done = AppliedWebhookState::default();
    loop {
        let wait = match reconcile_configuration(&watches, &mut done, policies, context).await {
            Ok(()) => POLL_INTERVAL,
            Err(error) => {
                tracing::warn!(%error, "the webhook's configuration was not reconciled; retrying soon");
                ERROR_RETRY_DELAY
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn reconcile_configuration(
    watches: &WebhookWatches,
    done: &mut AppliedWebhookState,
    policies: &WatchedPolicyStores,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let Some(certificates) = reconcile_certificates(watches, done, context).await? else {
        return Ok(());
    };
    let replicas = watches.ready_replicas();
    let objects = policies.readable_policies();
    if let WatchedObjectState::Present(configuration) = watches.configuration.get() {
        let has_entries = configuration
            .webhooks
            .as_ref()
            .is_some_and(|entries| !entries.is_empty());
        if has_entries || !replicas.is_empty() {
            apply_configuration(
                &configuration,
                &certificates,
                &policies.governed_scopes(&objects),
                done,
                context,
            )
            .await?;
        }
    }
    let now = context.clock.now();
    let is_asked = |policy: &PolicyObject| done.is_active_for(policy, now);
    let carried = match watches.lease.get() {
        WatchedObjectState::Present(lease) => lease.annotations().clone(),
        WatchedObjectState::Unknown | WatchedObjectState::Absent => BTreeMap::new(),
    };
    context.enforcement.send_if_modified(|known| {
        known.update_from_replicas(&objects, &replicas, &carried, &is_asked)
    });
    remove_gone_replicas(&carried, &replicas, context).await
}

async fn apply_configuration(
    there: &ValidatingWebhookConfiguration,
    certificates: &WebhookCertificates,
    scopes: &[Policy],
    done: &mut AppliedWebhookState,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let authorities = certificates.ca_bundle();
    let wanted = entries::render_configuration(
        scopes,
        &context.installation,
        &context.run_settings.system_namespace,
        &authorities,
    );
    let (version, now) = (there.resource_version(), context.clock.now());
    let is_ours = done
        .applied
        .as_ref()
        .is_some_and(|(_, at)| version.as_ref() == Some(at));
    let is_done = is_ours
        && done
            .applied
            .as_ref()
            .is_some_and(|(applied, _)| *applied == wanted.object);
    done.desired_digests = wanted.scope_digests;
    let rests = is_ours && done.is_throttled(now);
    if !(is_done || rests) {
        let configurations = Api::<ValidatingWebhookConfiguration>::all(context.client.clone());
        let applied = configurations
            .patch(
                WEBHOOK_CONFIGURATION_NAME,
                &PatchParams::apply(MANAGER).force(),
                &Patch::Apply(&wanted.object),
            )
            .await?;
        let since = (applied.resource_version() != version).then_some(now);
        done.mark_applied(is_ours || done.applied.is_none(), since, now);
        done.applied = Some((
            wanted.object,
            applied.resource_version().unwrap_or_default(),
        ));
    }
    if done
        .trusted_authorities
        .as_ref()
        .is_none_or(|(trusted, _)| *trusted != authorities)
    {
        done.trusted_authorities = Some((authorities, context.clock.now()));
    }
    Ok(())
}
