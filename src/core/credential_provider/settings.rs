//! The settings of one plug-in, and kubelet's file with several.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    duration::parse_go_duration,
    validation::{ProviderSettingsError, validate_providers},
};
use crate::core::display_text::sanitize_line;

/// The kind of kubelet's file.
const CONFIG_KIND: &str = "CredentialProviderConfig";
/// Its versions, which have the same form.
const CONFIG_VERSIONS: [&str; 3] = [
    "kubelet.config.k8s.io/v1",
    "kubelet.config.k8s.io/v1beta1",
    "kubelet.config.k8s.io/v1alpha1",
];
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CredentialProviderConfig {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default, deserialize_with = "null_as_default")]
    providers: Vec<CredentialProviderSettings>,
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

/// Parses kubelet's file, `CredentialProviderConfig` in YAML or JSON. The caller limits its size.
pub fn parse_provider_config(
    text: &str,
) -> Result<Vec<CredentialProviderSettings>, ProviderSettingsError> {
    let file: CredentialProviderConfig = serde_saphyr::from_str(text)
        .map_err(|error| ProviderSettingsError::new("", sanitize_line(&error.to_string(), 300)))?;
    if file.kind != CONFIG_KIND {
        let cause = format!("is not {CONFIG_KIND}");
        return Err(ProviderSettingsError::new("kind", cause));
    }
    if !CONFIG_VERSIONS.contains(&file.api_version.as_str()) {
        let cause = format!("is none of {}", CONFIG_VERSIONS.join(", "));
        return Err(ProviderSettingsError::new("apiVersion", cause));
    }
    if file.providers.is_empty() {
        return Err(ProviderSettingsError::new("providers", "is empty"));
    }
    validate_providers(&file.providers, "providers")?;
    Ok(file.providers)
}

fn default_api_version() -> String {
    "credentialprovider.kubelet.k8s.io/v1".to_owned()
}

fn null_as_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
- name: ecr-credential-provider
  apiVersion: credentialprovider.kubelet.k8s.io/v1
  matchImages: ['*.dkr.ecr.*.amazonaws.com', public.ecr.aws]
  defaultCacheDuration: 12h0m0s
  args: [get-credentials]
  env: [{name: AWS_PROFILE, value: example}]
  tokenAttributes:
    serviceAccountTokenAudience: sts.amazonaws.com
    cacheType: ServiceAccount
    requireServiceAccount: true
    requiredServiceAccountAnnotationKeys: [eks.amazonaws.com/role-arn]
";

    #[test]
    fn the_file_of_a_node_is_read_as_it_is() {
        let providers = parse_provider_config(FILE).expect("valid");
        let [provider] = providers.as_slice() else {
            panic!("{providers:?}");
        };
        assert_eq!(provider.name, "ecr-credential-provider");
        assert_eq!(provider.default_cache(), Duration::from_hours(12));
        assert_eq!(provider.timeout(), Duration::from_mins(1));
        assert_eq!(provider.match_images.len(), 2);
        assert_eq!(provider.args, ["get-credentials"]);
        assert_eq!(provider.env[0].value, "example");
        let token = provider.token_attributes.as_ref().expect("a token");
        assert_eq!(token.account, ProviderTokenAccount::Pod);
        assert_eq!(
            token.cache_type,
            Some(ProviderTokenCacheType::ServiceAccount)
        );
        let json = r#"{"apiVersion":"kubelet.config.k8s.io/v1beta1","kind":
            "CredentialProviderConfig","providers":[{"name":"a","apiVersion":
            "credentialprovider.kubelet.k8s.io/v1beta1","matchImages":["gcr.io"],"args":null,
            "env":null,"defaultCacheDuration":"0"}]}"#;
        let providers = parse_provider_config(json).expect("valid");
        assert_eq!(providers[0].default_cache(), Duration::ZERO);
    }

    #[test]
    fn a_file_that_is_refused_names_the_field() {
        for (from, to, field) in [
            ("kind: CredentialProviderConfig", "kind: List", "kind"),
            (
                "kubelet.config.k8s.io/v1",
                "kubelet.config.k8s.io/v2",
                "apiVersion",
            ),
            ("args:", "arguments:", "arguments"),
            ("cacheType: ServiceAccount", "cacheType: Pod", "cacheType"),
            ("value: example", "valueFrom: {}", "valueFrom"),
            ("[get-credentials]", "get-credentials", "providers"),
        ] {
            let text = FILE.replacen(from, to, 1);
            let error = parse_provider_config(&text).expect_err(to).to_string();
            let line = error.contains("line") || error.contains(field);
            assert!(line, "{to}: {error}");
        }
        let empty = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\n";
        let error = parse_provider_config(empty).expect_err("no providers");
        assert_eq!(error.to_string(), "providers: is empty");
    }
}
