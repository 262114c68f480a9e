//! Announces to the controller which policies are in force in this replica: an annotation on the
//! Lease `packgate-webhook`, one for each replica.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::sync::watch;

use super::options::NAME;
use crate::api::webhook::replica_annotation;

/// The interval of announcements. Nothing is written if nothing changed.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(10);
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// Announces each new revision, for as long as it is polled.
pub(super) async fn announce_revisions(
    client: Client,
    namespace: &str,
    identity: &str,
    mut revisions: watch::Receiver<String>,
) {
    let leases = Api::<Lease>::namespaced(client, namespace);
    loop {
        let revision = revisions.borrow_and_update().clone();
        let wait = if revision.is_empty() {
            ANNOUNCE_INTERVAL
        } else {
            match patch_lease_annotation(&leases, identity, &revision).await {
                Ok(()) => ANNOUNCE_INTERVAL,
                Err(error) => {
                    tracing::warn!(%error, "the enforced policy revision could not be written to the Lease");
                    AFTER_ERROR
                }
            }
        };
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait) => (),
        }
    }
}

async fn patch_lease_annotation(
    leases: &Api<Lease>,
    identity: &str,
    revision: &str,
) -> kube::Result<()> {
    let patch = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NAME, "annotations": {replica_annotation(identity): revision}},
    });
    // Each replica owns its own annotation: removing one has no effect on the others.
    let parameters = PatchParams::apply(&format!("packgate-webhook-{identity}")).force();
    leases
        .patch(NAME, &parameters, &Patch::Apply(&patch))
        .await
        .map(|_| ())
}
