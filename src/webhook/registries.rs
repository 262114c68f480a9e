//! The chart's registries, and the CA of the API servers' client certificates, from the system
//! namespace.

use kube::Client;

use super::options::WebhookError;
use crate::{
    api::{
        bundle_policy::{CA_CERTIFICATES_KEY, ConfigObjectRef},
        installation::InstallationConfig,
    },
    cluster_reader::{
        CaCertificatesError, MAX_CA_BYTES, RegistryCaAccess, read_ca_certificates, read_registries,
    },
    core::job::JobRegistry,
    listener::ClientCertificateVerifier,
};

/// The settings of the installation's registries. Read once: a restart reads them again.
pub async fn configured_registries(
    client: &Client,
    installation: &InstallationConfig,
    namespace: &str,
) -> Result<Vec<JobRegistry>, WebhookError> {
    read_registries(
        client,
        installation,
        namespace,
        RegistryCaAccess::Installation,
    )
    .await
    .map_err(|failed| {
        authorities_error(
            "registries[].caRef",
            namespace,
            &failed.reference,
            &failed.error,
        )
    })
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
    let authorities = read_ca_certificates(client, namespace, reference)
        .await
        .map_err(|error| authorities_error(field, namespace, reference, &error))?;
    let clients =
        ClientCertificateVerifier::new(authorities.as_bytes(), &installation.webhook.client_names);
    clients.map(Some).map_err(|error| {
        WebhookError::Authorities(format!(
            "{field}: {:?} {namespace}/{}: {error}",
            reference.kind, reference.name
        ))
    })
}

fn authorities_error(
    field: &str,
    namespace: &str,
    reference: &ConfigObjectRef,
    error: &CaCertificatesError,
) -> WebhookError {
    let what = match error {
        CaCertificatesError::InvalidName(_) | CaCertificatesError::Api(_) => error.to_string(),
        CaCertificatesError::MissingKey | CaCertificatesError::TooLarge(_) => {
            format!("has no key {CA_CERTIFICATES_KEY}, or one of over {MAX_CA_BYTES} bytes")
        }
        CaCertificatesError::NotText => format!("has a {CA_CERTIFICATES_KEY} that is not UTF-8"),
    };
    let ConfigObjectRef { kind, name } = reference;
    WebhookError::Authorities(format!("{field}: {kind:?} {namespace}/{name} {what}"))
}
