//! Kubelet's file with the settings of several plug-ins.

use serde::Deserialize;

use super::{
    settings::{CredentialProviderSettings, null_as_default},
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::credential_provider::{ProviderTokenAccount, ProviderTokenCacheType};

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
