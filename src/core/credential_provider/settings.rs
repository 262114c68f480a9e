//! The settings of one plug-in.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::duration::parse_go_duration;

/// The time limit of a run without `timeoutSeconds`, as in kubelet.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);

/// One plug-in: `CredentialProvider` of kubelet's configuration, with `command` and
/// `timeoutSeconds` added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialProviderSettings {
    /// Its name in messages; without `command` also the name of the program.
    pub name: String,
    /// The version of the protocol: `credentialprovider.kubelet.k8s.io/v1`, `/v1beta1` or
    /// `/v1alpha1`.
    #[serde(default = "default_api_version")]
    pub api_version: String,
    /// The absolute path of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The images that it gives credentials for: `*.dkr.ecr.*.amazonaws.com`.
    #[serde(default, deserialize_with = "null_as_default")]
    pub match_images: Vec<String>,
    /// Arguments of the program.
    #[serde(default, deserialize_with = "null_as_default")]
    pub args: Vec<String>,
    /// Environment variables of the program, in addition to those of this process.
    #[serde(default, deserialize_with = "null_as_default")]
    pub env: Vec<ProviderVariable>,
    /// How long credentials are kept if the plug-in does not say: a duration as in Go.
    #[serde(default)]
    pub default_cache_duration: String,
    /// The time limit of a run in seconds; 60 by default, as in kubelet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u16>,
    /// The token of a ServiceAccount that the plug-in gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_attributes: Option<ProviderTokenAttributes>,
}

/// An environment variable of a plug-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderVariable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// The token of a ServiceAccount that a plug-in gets: `ServiceAccountTokenAttributes` of kubelet's
/// configuration, with `account` added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderTokenAttributes {
    /// The audience of the token.
    #[serde(default)]
    pub service_account_token_audience: String,
    /// Whether the plug-in is left out where there is no ServiceAccount, or is run without a
    /// token.
    #[serde(default)]
    pub require_service_account: Option<bool>,
    /// What credentials are kept for.
    #[serde(default)]
    pub cache_type: Option<ProviderTokenCacheType>,
    /// Annotations of the ServiceAccount that the plug-in gets. It is left out where one is absent.
    #[serde(default, deserialize_with = "null_as_default")]
    pub required_service_account_annotation_keys: Vec<String>,
    /// Further annotations that it gets.
    #[serde(default, deserialize_with = "null_as_default")]
    pub optional_service_account_annotation_keys: Vec<String>,
    /// Whose token.
    #[serde(default)]
    pub account: ProviderTokenAccount,
}

/// What credentials that were made from a token are kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProviderTokenCacheType {
    /// The ServiceAccount.
    ServiceAccount,
    /// This very token.
    Token,
}

/// Whose token a plug-in gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProviderTokenAccount {
    /// That of the Pod's ServiceAccount, as in kubelet.
    #[default]
    Pod,
    /// That of packgate's own ServiceAccount.
    Installation,
}

impl CredentialProviderSettings {
    /// How long credentials are kept if the plug-in does not say. Zero: they are not.
    pub fn default_cache(&self) -> Duration {
        parse_go_duration(&self.default_cache_duration).unwrap_or_default()
    }

    /// The time limit of a run.
    pub fn timeout(&self) -> Duration {
        self.timeout_seconds.map_or(DEFAULT_TIMEOUT, |seconds| {
            Duration::from_secs(seconds.into())
        })
    }
}

fn default_api_version() -> String {
    "credentialprovider.kubelet.k8s.io/v1".to_owned()
}

/// Kubelet takes null for an empty list.
pub(super) fn null_as_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
