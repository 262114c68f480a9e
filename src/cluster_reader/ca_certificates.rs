//! CA certificates in a `ConfigMap` or Secret.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

use super::object_name::is_object_name;
use crate::api::bundle_policy::{CA_CERTIFICATES_KEY, ConfigObjectKind, ConfigObjectRef};

/// The maximum size of a CA file, in bytes.
pub const MAX_CA_BYTES: usize = 256 << 10;

/// Why CA certificates cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CaCertificatesError {
    /// The name is not that of an object.
    #[error("{0:?} is not a valid object name")]
    InvalidName(String),
    /// The API server's error: the object does not exist, or may not be read.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The object has no key [`CA_CERTIFICATES_KEY`].
    #[error("it has no key {CA_CERTIFICATES_KEY}")]
    MissingKey,
    /// Its value has this many bytes, which are too many.
    #[error("{CA_CERTIFICATES_KEY} has {0} bytes, the limit is {MAX_CA_BYTES}")]
    TooLarge(usize),
    /// Its value is not UTF-8.
    #[error("{CA_CERTIFICATES_KEY} is not text")]
    NotText,
}

/// CA certificates, in PEM. Whether they are any is not checked.
pub async fn read_ca_certificates(
    client: &Client,
    namespace: &str,
    reference: &ConfigObjectRef,
) -> Result<String, CaCertificatesError> {
    let ConfigObjectRef { kind, name } = reference;
    if !is_object_name(name) {
        return Err(CaCertificatesError::InvalidName(name.clone()));
    }
    let bytes = match kind {
        ConfigObjectKind::ConfigMap => {
            let maps = Api::<ConfigMap>::namespaced(client.clone(), namespace);
            let mut data = maps.get(name).await?.data.unwrap_or_default();
            data.remove(CA_CERTIFICATES_KEY).map(String::into_bytes)
        }
        ConfigObjectKind::Secret => {
            let secrets = Api::<Secret>::namespaced(client.clone(), namespace);
            let mut data = secrets.get(name).await?.data.unwrap_or_default();
            data.remove(CA_CERTIFICATES_KEY).map(|bytes| bytes.0)
        }
    };
    let bytes = bytes.ok_or(CaCertificatesError::MissingKey)?;
    if bytes.len() > MAX_CA_BYTES {
        return Err(CaCertificatesError::TooLarge(bytes.len()));
    }
    String::from_utf8(bytes).map_err(|_| CaCertificatesError::NotText)
}
