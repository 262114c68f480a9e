//! The configuration of an installation: the chart's values, as the controller and the webhook read
//! them.

mod registry_config;

use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceRequirements;
use serde::{Deserialize, Serialize};

use super::bundle_policy::{ConfigObjectRef, NameRef};
use crate::core::{
    credential_provider::{CredentialProviderSettings, validate_providers},
    reason::{ClassifiedError, Reason},
};

pub use registry_config::{RegistryConfig, RegistryMirrorConfig};

/// The maximum size of a configuration file in bytes.
pub const MAX_CONFIG: usize = 256 << 10;

/// The configuration file. Unknown keys are refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InstallationConfig {
    /// The builder identity of this installation.
    pub builder: BuilderConfig,
    /// Registries with special settings.
    pub registries: Vec<RegistryConfig>,
    /// Programs that give credentials for registries, in the order in which they are tried.
    pub credential_providers: Vec<CredentialProviderSettings>,
    /// Network access of the controller and its Jobs.
    pub network: NetworkConfig,
    /// Rules for unsigned bundles.
    pub signing: InstallationSigningConfig,
    /// What happens with a use that no policy governs.
    pub no_match: NoMatchConfig,
    /// The webhook's settings.
    pub webhook: WebhookConfig,
    /// The Jobs' settings.
    pub jobs: JobsConfig,
    /// The metrics' settings.
    pub metrics: MetricsConfig,
}

/// The metrics' settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Whether metrics contain the names of policies and trust roots. The metrics port has no
    /// authentication.
    pub names: bool,
}

/// The webhook's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// The API server's timeout in seconds, 2 to 30. The webhook answers three seconds before, or
    /// after half of the time.
    pub timeout_seconds: u8,
    /// What the API server does if the webhook does not answer.
    pub failure_policy: FailurePolicy,
    /// The CA of the API servers' client certificates: an object of the system namespace, key
    /// `ca.crt`. Without it every client that reaches the port may send reviews.
    #[serde(rename = "clientCARef")]
    pub client_ca_ref: Option<ConfigObjectRef>,
    /// Common names that such a certificate may have. Empty allows any.
    pub client_names: Vec<String>,
}

/// What the API server does if the webhook does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailurePolicy {
    /// It denies the request.
    #[default]
    Fail,
    /// It admits the request. Whoever can stop the webhook can then bypass every policy.
    Ignore,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            timeout_seconds: 10,
            failure_policy: FailurePolicy::Fail,
            client_ca_ref: None,
            client_names: Vec::new(),
        }
    }
}

impl WebhookConfig {
    /// The deadline of one review, before the API server's timeout.
    pub fn review_deadline(&self) -> Duration {
        let whole = Duration::from_secs(self.timeout_seconds.clamp(2, 30).into());
        whole.saturating_sub(Duration::from_secs(3)).max(whole / 2)
    }
}

/// The builder identity of this installation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BuilderConfig {
    /// The prefix of `builder.id`; `/platform` or `/namespace/NAMESPACE` follows. Empty: a URI with
    /// the cluster's UID.
    pub id: String,
}

/// Network access of the controller and its Jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Private networks that downloads may come from.
    #[serde(rename = "allowedPrivateCIDRs")]
    pub allowed_private_cidrs: Vec<String>,
    /// Private networks that registries may be in. Empty allows all.
    #[serde(rename = "registryPrivateCIDRs")]
    pub registry_private_cidrs: Vec<String>,
}

/// Rules for unsigned bundles.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InstallationSigningConfig {
    /// Whether a `PackedBundle` may set `signing.mode: None`.
    pub allow_none: bool,
}

/// What happens with a use that no policy governs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NoMatchConfig {
    /// For a `PackedBundle` that adopts a bundle.
    pub packed_bundle: NoMatchAction,
    /// For a Pod's image volume.
    pub image_volume: NoMatchAction,
    /// For a Pod's container.
    pub container: NoMatchAction,
}

impl Default for NoMatchConfig {
    fn default() -> Self {
        Self {
            packed_bundle: NoMatchAction::Deny,
            image_volume: NoMatchAction::Warn,
            container: NoMatchAction::Allow,
        }
    }
}

/// What happens with a use that no policy governs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoMatchAction {
    /// The use is denied.
    Deny,
    /// The use is admitted with a warning.
    Warn,
    /// The use is admitted.
    Allow,
}

/// The Jobs' settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JobsConfig {
    /// `imagePullPolicy` of the Jobs' containers. Empty: the cluster's default.
    pub image_pull_policy: String,
    /// Secrets in the system namespace that the sign Job's image is pulled with.
    pub image_pull_secrets: Vec<NameRef>,
    /// The sign Jobs in the system namespace.
    pub sign: SignJobsConfig,
}

/// The settings of sign Jobs in the system namespace. Tenants' quotas do not apply there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SignJobsConfig {
    /// The number of concurrent sign Jobs, at least 1; the others wait.
    pub max_concurrent: usize,
    /// The number of concurrent sign Jobs for one namespace, at least 1.
    pub max_concurrent_per_namespace: usize,
    /// The timeout of a sign Job in seconds, at least 60. A shorter `spec.timeout` takes
    /// precedence.
    pub timeout_seconds: u32,
    /// The resources of a sign Job. Absent: defaults for bundles of any size.
    pub resources: Option<ResourceRequirements>,
}

impl Default for SignJobsConfig {
    fn default() -> Self {
        Self {
            max_concurrent: 8,
            max_concurrent_per_namespace: 2,
            timeout_seconds: 3_600,
            resources: None,
        }
    }
}

/// Why a configuration is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("configuration: {0}")]
pub struct InstallationConfigError(String);

impl ClassifiedError for InstallationConfigError {
    fn reason(&self) -> Reason {
        Reason::InvalidSpec
    }
}

impl InstallationConfig {
    /// Parses the configuration file.
    pub fn parse(bytes: &[u8]) -> Result<Self, InstallationConfigError> {
        if bytes.len() > MAX_CONFIG {
            return Err(InstallationConfigError(format!(
                "has {} bytes, the limit is {MAX_CONFIG}",
                bytes.len()
            )));
        }
        let text =
            std::str::from_utf8(bytes).map_err(|e| InstallationConfigError(e.to_string()))?;
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let read: Self =
            serde_saphyr::from_str(text).map_err(|e| InstallationConfigError(e.to_string()))?;
        let SignJobsConfig {
            max_concurrent,
            max_concurrent_per_namespace,
            timeout_seconds,
            ..
        } = read.jobs.sign;
        if max_concurrent == 0 || max_concurrent_per_namespace == 0 || timeout_seconds < 60 {
            return Err(InstallationConfigError(
                "jobs.sign: maxConcurrent values must be at least 1, timeoutSeconds at least 60"
                    .into(),
            ));
        }
        read.validate_providers()?;
        for (at, registry) in read.registries.iter().enumerate() {
            registry
                .validate_mirrors(&format!("registries[{at}].mirrors"))
                .map_err(InstallationConfigError)?;
        }
        Ok(read)
    }

    fn validate_providers(&self) -> Result<(), InstallationConfigError> {
        let field = "credentialProviders";
        validate_providers(&self.credential_providers, field)
            .map_err(|error| InstallationConfigError(error.to_string()))?;
        match self
            .credential_providers
            .iter()
            .position(|provider| provider.command.is_none())
        {
            Some(at) => Err(InstallationConfigError(format!(
                "{field}[{at}].command: is missing"
            ))),
            None => Ok(()),
        }
    }

    /// The prefix of every `builder.id` of this installation. `cluster` is the UID of the namespace
    /// `kube-system`.
    fn builder_base(&self, cluster: &str) -> String {
        let own = self.builder.id.trim_end_matches('/');
        if own.is_empty() {
            format!("https://packgate.dev/builder/{cluster}")
        } else {
            own.to_owned()
        }
    }

    /// `builder.id` of bundles that the platform signs.
    pub fn platform_builder(&self, cluster: &str) -> String {
        format!("{}/platform", self.builder_base(cluster))
    }

    /// `builder.id` of bundles that a tenant signs.
    pub fn namespace_builder(&self, cluster: &str, namespace: &str) -> String {
        format!("{}/namespace/{namespace}", self.builder_base(cluster))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_charts_configuration_is_read() {
        let text = "builder: {id: 'https://ci.example.com/packgate/'}\nregistries: [{host: \
            'r.example.com:5000', plainHTTP: true, caRef: {kind: ConfigMap, name: ca}, secretRef: \
            {name: reader}, tokenServices: ['https://auth.example.org'], mirrors: \
            [{url: 'https://mirror.example.com/hub'}]}]\n\
            network: {allowedPrivateCIDRs: [10.0.0.0/8]}\nsigning: {allowNone: true}\nnoMatch: \
            {packedBundle: Deny, imageVolume: Warn, container: Allow}\n\
            webhook: {clientCARef: {kind: ConfigMap, name: api-server}, clientNames: \
            [kube-apiserver]}\nmetrics: {names: true}\n\
            credentialProviders: [{name: ecr, command: /plugins/ecr, matchImages: \
            ['*.dkr.ecr.*.amazonaws.com'], defaultCacheDuration: 12h}]\n\
            jobs: {imagePullPolicy: IfNotPresent, imagePullSecrets: [{name: pull}], sign: \
            {maxConcurrent: 4, resources: {limits: {memory: 1Gi}}}}\n";
        let config = InstallationConfig::parse(text.as_bytes()).expect("valid");
        assert!(
            config.registries[0].plain_http && config.signing.allow_none && config.metrics.names
        );
        let secret = config.registries[0].secret_ref.as_ref();
        assert_eq!(secret.map(|secret| secret.name.as_str()), Some("reader"));
        assert_eq!(
            config.registries[0].token_services,
            ["https://auth.example.org"]
        );
        assert_eq!(
            config.registries[0].mirrors[0].url,
            "https://mirror.example.com/hub"
        );
        assert_eq!(
            config
                .webhook
                .client_ca_ref
                .as_ref()
                .map(|reference| reference.name.as_str()),
            Some("api-server")
        );
        assert_eq!(
            (&config.webhook.client_names, config.webhook.timeout_seconds),
            (&vec!["kube-apiserver".to_owned()], 10)
        );
        assert_eq!(
            (
                config.jobs.sign.max_concurrent,
                config.jobs.sign.max_concurrent_per_namespace
            ),
            (4, 2)
        );
        assert_eq!(
            config.platform_builder("u"),
            "https://ci.example.com/packgate/platform"
        );
        assert_eq!(
            InstallationConfig::default().namespace_builder("u", "team-a"),
            "https://packgate.dev/builder/u/namespace/team-a"
        );
        assert_eq!(
            InstallationConfig::parse(b"").expect("empty"),
            InstallationConfig::default()
        );
    }

    #[test]
    fn what_is_unknown_is_refused() {
        for text in [
            "x: 1",
            "noMatch: {container: Perhaps}",
            "registries: [{plainHTTP: true}]",
            "- a",
            "registries: [{host: r.example.com, mirrors: [{url: mirror.example.com}]}]",
            "registries: [{host: r.example.com, mirrors: [{url: 'https://m.example.com', x: 1}]}]",
            "registries: [{host: r.example.com, mirrors: ['https://m.example.com']}]",
            "jobs: {sign: {maxConcurrent: 0}}",
            "jobs: {sign: {timeoutSeconds: 59}}",
            "credentialProviders: [{name: a, matchImages: [a.io], defaultCacheDuration: 1h}]",
            "credentialProviders: [{name: a, command: /a, defaultCacheDuration: 1h}]",
            "credentialProviders: [{name: a, command: /a, x: 1}]",
        ] {
            assert_eq!(
                InstallationConfig::parse(text.as_bytes())
                    .expect_err(text)
                    .reason(),
                Reason::InvalidSpec
            );
        }
    }
}
