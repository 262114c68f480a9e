//! The chart's registries, with their CA certificates from the system namespace.

use kube::Client;

use super::ca_certificates::{CaCertificatesError, read_ca_certificates};
use crate::{
    api::{
        bundle_policy::{ConfigObjectKind, ConfigObjectRef},
        installation::InstallationConfig,
    },
    core::job::JobRegistry,
};

/// Who reads the CA certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryCaAccess {
    /// A part of the installation, which needs all of them.
    Installation,
    /// A user, who is not expected to read Secrets of the system namespace: those, and what does
    /// not exist, are left out.
    User,
}

/// The CA certificates of a registry that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{:?} {}: {error}", .reference.kind, .reference.name)]
pub struct RegistryCaError {
    /// The object that was to be read.
    pub reference: ConfigObjectRef,
    /// Why it was not.
    pub error: CaCertificatesError,
}

/// Reads them once.
pub async fn read_registries(
    client: &Client,
    installation: &InstallationConfig,
    namespace: &str,
    access: RegistryCaAccess,
) -> Result<Vec<JobRegistry>, RegistryCaError> {
    let mut all = Vec::new();
    for registry in &installation.registries {
        let ca = match &registry.ca_ref {
            Some(reference) => read_registry_ca(client, namespace, reference, access).await?,
            None => None,
        };
        all.push(JobRegistry {
            host: registry.host.clone(),
            plain_http: registry.plain_http,
            ca,
            token_services: registry.token_services.clone(),
            mirrors: registry
                .mirrors
                .iter()
                .map(|mirror| mirror.url.clone())
                .collect(),
        });
    }
    Ok(all)
}

async fn read_registry_ca(
    client: &Client,
    namespace: &str,
    reference: &ConfigObjectRef,
    access: RegistryCaAccess,
) -> Result<Option<String>, RegistryCaError> {
    let is_user = access == RegistryCaAccess::User;
    if is_user && reference.kind == ConfigObjectKind::Secret {
        return Ok(None);
    }
    match read_ca_certificates(client, namespace, reference).await {
        Ok(pem) => Ok(Some(pem)),
        Err(error) if is_user && is_absent(&error) => Ok(None),
        Err(error) => Err(RegistryCaError {
            reference: reference.clone(),
            error,
        }),
    }
}

fn is_absent(error: &CaCertificatesError) -> bool {
    match error {
        CaCertificatesError::MissingKey => true,
        CaCertificatesError::Api(kube::Error::Api(status)) => status.is_not_found(),
        _ => false,
    }
}
