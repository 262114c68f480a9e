//! The chart's registries, with their certificate authorities from the system namespace.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

use super::WebhookError;
use crate::{
    api::{
        bundle_policy::{ConfigObjectKind, ConfigObjectRef},
        installation::InstallationConfig,
    },
    core::job::JobRegistry,
    listener::ClientCertificateVerifier,
};

/// The key of the certificates in the `ConfigMap` or Secret.
const CA_KEY: &str = "ca.crt";
/// The maximum size of a CA file, in bytes.
const MAX_CA: usize = 256 << 10;

/// Reads them once: a restart reads them again.
pub(super) async fn read_registries(
    client: &Client,
    installation: &InstallationConfig,
    namespace: &str,
) -> Result<Vec<JobRegistry>, WebhookError> {
    let mut all = Vec::new();
    for registry in &installation.registries {
        let ca = match &registry.ca_ref {
            Some(reference) => Some(
                read_ca_certificates(client, namespace, reference, "registries[].caRef").await?,
            ),
            None => None,
        };
        all.push(JobRegistry {
            host: registry.host.clone(),
            plain_http: registry.plain_http,
            ca,
        });
    }
    Ok(all)
}

/// The CA certificates for the API servers' client certificates, if configured. Read once, too.
pub(super) async fn read_client_verifier(
    client: &Client,
    installation: &InstallationConfig,
    namespace: &str,
) -> Result<Option<ClientCertificateVerifier>, WebhookError> {
    let Some(reference) = &installation.webhook.client_ca_ref else {
        return Ok(None);
    };
    let field = "webhook.clientCA";
    let authorities = read_ca_certificates(client, namespace, reference, field).await?;
    let clients =
        ClientCertificateVerifier::new(authorities.as_bytes(), &installation.webhook.client_names);
    clients.map(Some).map_err(|error| {
        WebhookError::Authorities(format!(
            "{field}: {:?} {namespace}/{}: {error}",
            reference.kind, reference.name
        ))
    })
}

async fn read_ca_certificates(
    client: &Client,
    namespace: &str,
    reference: &ConfigObjectRef,
    field: &str,
) -> Result<String, WebhookError> {
    let ConfigObjectRef { kind, name } = reference;
    let wrong = |what: String| {
        WebhookError::Authorities(format!("{field}: {kind:?} {namespace}/{name} {what}"))
    };
    let bytes = match kind {
        ConfigObjectKind::ConfigMap => {
            let map = Api::<ConfigMap>::namespaced(client.clone(), namespace)
                .get(name)
                .await
                .map_err(|error| wrong(error.to_string()))?;
            map.data
                .and_then(|mut data| data.remove(CA_KEY))
                .map(String::into_bytes)
        }
        ConfigObjectKind::Secret => {
            let secret = Api::<Secret>::namespaced(client.clone(), namespace)
                .get(name)
                .await
                .map_err(|error| wrong(error.to_string()))?;
            secret
                .data
                .and_then(|mut data| data.remove(CA_KEY))
                .map(|bytes| bytes.0)
        }
    };
    let bytes = bytes.filter(|bytes| bytes.len() <= MAX_CA).ok_or_else(|| {
        wrong(format!(
            "has no key {CA_KEY}, or one of over {MAX_CA} bytes"
        ))
    })?;
    String::from_utf8(bytes).map_err(|_| wrong(format!("has a {CA_KEY} that is not UTF-8")))
}
