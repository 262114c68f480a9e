//! Secrets that an object refers to, in its own namespace only. They are read where the
//! installation has the permission.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{Api, Client};

use super::{
    reconcile_error::{ReconcileError, is_forbidden, is_not_found},
    resources::DOCKER_CONFIG_KEY,
};
use crate::{
    api::{
        bundle_policy::{CA_CERTIFICATES_KEY, ConfigObjectKind, ConfigObjectRef},
        rbac::tenant_grant_command,
    },
    cluster_reader::{CaCertificatesError, MAX_CA_BYTES, is_object_name, read_ca_certificates},
    core::reason::Reason,
};

/// Reads objects that others refer to.
#[derive(Clone)]
pub(super) struct ReferencedObjectReader {
    client: Client,
    system_namespace: String,
}

impl ReferencedObjectReader {
    /// Reads with the permissions of `client`, which runs in `system_namespace`.
    pub(super) const fn new(client: Client, system_namespace: String) -> Self {
        Self {
            client,
            system_namespace,
        }
    }

    /// The docker configuration in a Secret. `field` is named in errors.
    pub(super) async fn read_docker_config(
        &self,
        namespace: &str,
        name: &str,
        field: &str,
    ) -> Result<Vec<u8>, ReconcileError> {
        let mut data = self.read_secret(namespace, name, field).await?;
        data.remove(DOCKER_CONFIG_KEY)
            .map(|bytes| bytes.0)
            .ok_or_else(|| missing_key_error("Secret", namespace, name, field, DOCKER_CONFIG_KEY))
    }

    /// One key of a Secret, as text.
    pub(super) async fn read_secret_text(
        &self,
        namespace: &str,
        name: &str,
        field: &str,
        key: &str,
    ) -> Result<String, ReconcileError> {
        let mut data = self.read_secret(namespace, name, field).await?;
        let bytes = data
            .remove(key)
            .ok_or_else(|| missing_key_error("Secret", namespace, name, field, key))?;
        String::from_utf8(bytes.0).map_err(|_| not_text_error(key, namespace, name, field))
    }

    /// CA certificates, in PEM.
    pub(super) async fn read_ca_certificates(
        &self,
        namespace: &str,
        reference: &ConfigObjectRef,
        field: &str,
    ) -> Result<String, ReconcileError> {
        read_ca_certificates(&self.client, namespace, reference)
            .await
            .map_err(|error| self.explain_ca_error(error, namespace, reference, field))
    }

    /// Why CA certificates cannot be read. `field` is named.
    pub(super) fn explain_ca_error(
        &self,
        error: CaCertificatesError,
        namespace: &str,
        reference: &ConfigObjectRef,
        field: &str,
    ) -> ReconcileError {
        let (kind, name) = (&format!("{:?}", reference.kind), reference.name.as_str());
        match error {
            CaCertificatesError::InvalidName(_) => invalid_name_error(name, field),
            CaCertificatesError::Api(error) if is_not_found(&error) => {
                missing_object_error(kind, namespace, name, field)
            }
            CaCertificatesError::Api(error)
                if is_forbidden(&error) && reference.kind == ConfigObjectKind::Secret =>
            {
                self.access_denied_error(namespace, name, field)
            }
            CaCertificatesError::Api(error) => error.into(),
            CaCertificatesError::MissingKey => {
                missing_key_error(kind, namespace, name, field, CA_CERTIFICATES_KEY)
            }
            CaCertificatesError::TooLarge(size) => ReconcileError::new(
                Reason::InvalidSpec,
                format!(
                    "{CA_CERTIFICATES_KEY} of {field} has {size} bytes, the limit is {MAX_CA_BYTES}"
                ),
            ),
            CaCertificatesError::NotText => {
                not_text_error(CA_CERTIFICATES_KEY, namespace, name, field)
            }
        }
    }

    /// The data of a `ConfigMap`.
    pub(super) async fn read_config_map(
        &self,
        namespace: &str,
        name: &str,
        field: &str,
    ) -> Result<BTreeMap<String, String>, ReconcileError> {
        check_object_name(name, field)?;
        let map = Api::<ConfigMap>::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await?;
        map.map(|map| map.data.unwrap_or_default())
            .ok_or_else(|| missing_object_error("ConfigMap", namespace, name, field))
    }

    async fn read_secret(
        &self,
        namespace: &str,
        name: &str,
        field: &str,
    ) -> Result<BTreeMap<String, ByteString>, ReconcileError> {
        check_object_name(name, field)?;
        match Api::<Secret>::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await
        {
            Ok(Some(secret)) => Ok(secret.data.unwrap_or_default()),
            Ok(None) => Err(missing_object_error("Secret", namespace, name, field)),
            Err(error) if is_forbidden(&error) => {
                Err(self.access_denied_error(namespace, name, field))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn access_denied_error(&self, namespace: &str, name: &str, field: &str) -> ReconcileError {
        let grant = tenant_grant_command(namespace, &self.system_namespace);
        ReconcileError::new(
            Reason::SecretAccessDenied,
            format!(
                "packgate may not read Secret {namespace}/{name} ({field}). Let it: {grant}; or \
                    add {namespace} to the chart's value tenants"
            ),
        )
    }
}

fn check_object_name(name: &str, field: &str) -> Result<(), ReconcileError> {
    if is_object_name(name) {
        Ok(())
    } else {
        Err(invalid_name_error(name, field))
    }
}

fn invalid_name_error(name: &str, field: &str) -> ReconcileError {
    ReconcileError::new(
        Reason::InvalidSpec,
        format!("{field}.name: {name:?} is not a valid object name; correct it"),
    )
}

fn not_text_error(key: &str, namespace: &str, name: &str, field: &str) -> ReconcileError {
    ReconcileError::new(
        Reason::InvalidSpec,
        format!("{key} of Secret {namespace}/{name} ({field}) is not text"),
    )
}

fn missing_object_error(kind: &str, namespace: &str, name: &str, field: &str) -> ReconcileError {
    ReconcileError::new(
        Reason::SourceNotFound,
        format!(
            "{kind} {namespace}/{name} ({field}) does not exist; create it, or correct the name"
        ),
    )
}

fn missing_key_error(
    kind: &str,
    namespace: &str,
    name: &str,
    field: &str,
    key: &str,
) -> ReconcileError {
    ReconcileError::new(
        Reason::SourceNotFound,
        format!("{kind} {namespace}/{name} ({field}) has no key {key}; add it"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_change_what_is_asked() {
        for name in ["a", "push", "corp-ca", "team.a-1"] {
            assert!(check_object_name(name, "f").is_ok(), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "../../kube-system/secrets/a",
            "a?watch=true&x=",
            "a%2fb",
            "A",
            "a-",
            "a b",
            "a#",
        ] {
            let Err(ReconcileError::StatusFailure(failure)) = check_object_name(name, "f") else {
                panic!("{name:?} is taken")
            };
            assert_eq!(failure.reason, Reason::InvalidSpec);
        }
    }
}
