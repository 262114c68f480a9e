//! Keeps the Secret with the webhook's certificates.

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};

use super::{
    applied_state::AppliedWebhookState,
    certificate_rotation::{self, CertificateRotationStep, WebhookCertificates},
    watches::WebhookWatches,
};
use crate::{
    api::webhook::TLS_SECRET,
    cluster_reader::WatchedObjectState,
    controller::{
        reconcile_context::ReconcileContext, reconcile_error::ReconcileError, resources::MANAGER,
    },
    core::reason::Reason,
};

/// The certificates, after their next step. `None` while their state is unknown.
pub(super) async fn reconcile_certificates(
    watches: &WebhookWatches,
    done: &mut AppliedWebhookState,
    context: &ReconcileContext,
) -> Result<Option<WebhookCertificates>, ReconcileError> {
    let secret = match watches.secret.get() {
        WatchedObjectState::Unknown => return Ok(None),
        WatchedObjectState::Absent => done.written_secret.clone(),
        WatchedObjectState::Present(found) => {
            done.written_secret = done
                .written_secret
                .take()
                .filter(|written| is_newer(written, &found));
            Some(done.written_secret.clone().unwrap_or(found))
        }
    };
    let now = context.clock.now();
    let requested = secret
        .as_ref()
        .and_then(certificate_rotation::rotation_request)
        .map(ToOwned::to_owned);
    let current = secret.as_ref().and_then(WebhookCertificates::from_secret);
    let namespace = &context.run_settings.system_namespace;
    let make = || {
        certificate_rotation::generate_certificate(namespace, now)
            .map_err(|error| ReconcileError::new(Reason::Internal, error.to_string()))
    };
    let Some(found) = current else {
        let first = WebhookCertificates::from_single(make()?, requested);
        write_certificate_secret(&first, done, context).await?;
        return Ok(Some(first));
    };
    let trusted_since = done
        .trusted_authorities
        .as_ref()
        .filter(|(authorities, _)| *authorities == found.ca_bundle())
        .map(|(_, since)| *since);
    let next = match certificate_rotation::next_rotation_step(
        &found,
        requested.as_deref(),
        trusted_since,
        now,
    ) {
        CertificateRotationStep::Idle => return Ok(Some(found)),
        CertificateRotationStep::Create => WebhookCertificates::from_single(make()?, requested),
        CertificateRotationStep::Stage => found.stage_next(make()?, requested.as_deref(), now),
        CertificateRotationStep::Promote => found.promote_staged(now),
        CertificateRotationStep::DropOldAuthority => found.drop_old_authority(),
    };
    write_certificate_secret(&next, done, context).await?;
    Ok(Some(next))
}

fn is_newer(written: &Secret, seen: &Secret) -> bool {
    let version = |secret: &Secret| {
        secret
            .resource_version()
            .and_then(|version| version.parse::<u64>().ok())
    };
    version(written) > version(seen)
}

async fn write_certificate_secret(
    certificates: &WebhookCertificates,
    done: &mut AppliedWebhookState,
    context: &ReconcileContext,
) -> Result<(), ReconcileError> {
    let namespace = &context.run_settings.system_namespace;
    let secret = certificates.to_secret(namespace, context.run_settings.installation.clone());
    let secrets = Api::<Secret>::namespaced(context.client.clone(), namespace);
    let written = secrets
        .patch(
            TLS_SECRET,
            &PatchParams::apply(MANAGER).force(),
            &Patch::Apply(&secret),
        )
        .await?;
    tracing::info!(ends = %certificates.serving.not_after, staged = certificates.staged.is_some(), "the webhook's certificate was written");
    done.written_secret = Some(written);
    Ok(())
}
