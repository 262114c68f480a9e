//! Secrets that an object refers to, in its own namespace only. They are read where the
//! installation has the permission.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{Api, Client};

use super::{
    reconcile_error::{ReconcileError, is_forbidden},
    resources::DOCKER_CONFIG_KEY,
};
use crate::{
    api::{
        bundle_policy::{ConfigObjectKind, ConfigObjectRef},
        rbac::tenant_grant_command,
    },
    core::reason::Reason,
};

/// The key of a CA's `ConfigMap` or Secret.
const CA_KEY: &str = "ca.crt";
/// The maximum size of a CA file, in bytes.
const MAX_CA: usize = 256 << 10;

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
        String::from_utf8(bytes.0).map_err(|_| {
            ReconcileError::new(
                Reason::InvalidSpec,
                format!("{key} of Secret {namespace}/{name} ({field}) is not text"),
            )
        })
    }

    /// CA certificates, in PEM.
    pub(super) async fn read_ca_certificates(
        &self,
        namespace: &str,
        reference: &ConfigObjectRef,
        field: &str,
    ) -> Result<String, ReconcileError> {
        let ConfigObjectRef { kind, name } = reference;
        let pem = match kind {
            ConfigObjectKind::Secret => {
                self.read_secret_text(namespace, name, field, CA_KEY)
                    .await?
            }
            ConfigObjectKind::ConfigMap => {
                let mut data = self.read_config_map(namespace, name, field).await?;
                data.remove(CA_KEY)
                    .ok_or_else(|| missing_key_error("ConfigMap", namespace, name, field, CA_KEY))?
            }
        };
        match pem.len() {
            size if size > MAX_CA => Err(ReconcileError::new(
                Reason::InvalidSpec,
                format!("{CA_KEY} of {field} has {size} bytes, the limit is {MAX_CA}"),
            )),
            _ => Ok(pem),
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

/// A name becomes part of a request's path, so it must be valid. The schema checks it too, but an
/// object may be older than the schema.
fn check_object_name(name: &str, field: &str) -> Result<(), ReconcileError> {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_name = name.starts_with(ends) && name.ends_with(ends) && name.chars().all(inside);
    if is_name {
        Ok(())
    } else {
        Err(ReconcileError::new(
            Reason::InvalidSpec,
            format!("{field}.name: {name:?} is not a valid object name; correct it"),
        ))
    }
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
