//! The settings of registries in the chart's values.

use serde::{Deserialize, Serialize};

use crate::{
    api::bundle_policy::{ConfigObjectRef, NameRef},
    core::reference::{MAX_REGISTRY_MIRRORS, RegistryMirror},
};

/// The settings of one registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryConfig {
    /// `HOST[:PORT]` of the registry.
    pub host: String,
    /// Use HTTP without TLS.
    #[serde(default, rename = "plainHTTP")]
    pub plain_http: bool,
    /// Its CA certificates: an object of the system namespace, key `ca.crt`.
    #[serde(default)]
    pub ca_ref: Option<ConfigObjectRef>,
    /// The credentials that controller and webhook read evidence with: a Secret of type
    /// `kubernetes.io/dockerconfigjson` in the system namespace. Those that an object names are
    /// tried first.
    #[serde(default)]
    pub secret_ref: Option<NameRef>,
    /// Token services of other owners that its credentials may be sent to: `https://HOST[:PORT]`.
    #[serde(default)]
    pub token_services: Vec<String>,
    /// Places that it is read from first, in this order. Nothing is written there.
    #[serde(default)]
    pub mirrors: Vec<RegistryMirrorConfig>,
}

/// A mirror of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegistryMirrorConfig {
    /// `https://HOST[:PORT][/PREFIX]`: the repository `PATH` is `PREFIX/PATH` there. Its CA,
    /// credentials and token services are those of the host's own entry in the list of registries.
    pub url: String,
}

impl RegistryConfig {
    /// What is wrong with its mirrors. `field` names them.
    pub(super) fn validate_mirrors(&self, field: &str) -> Result<(), String> {
        if self.mirrors.len() > MAX_REGISTRY_MIRRORS {
            return Err(format!("{field}: more than {MAX_REGISTRY_MIRRORS}"));
        }
        for (at, mirror) in self.mirrors.iter().enumerate() {
            let parsed = mirror.url.parse::<RegistryMirror>();
            parsed.map_err(|error| format!("{field}[{at}].url: {error}"))?;
        }
        Ok(())
    }
}
