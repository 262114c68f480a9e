//! Settings of credential provider plug-ins: programs that give credentials for registries by
//! kubelet's protocol (`credentialprovider.kubelet.k8s.io/v1`).
//!
//! Source: Kubernetes, "Configure a kubelet image credential provider";
//! `k8s.io/kubelet/pkg/apis/credentialprovider/v1` and `k8s.io/kubelet/config/v1`,
//! `CredentialProviderConfig`.

mod config_file;
mod duration;
mod settings;
mod validation;

pub use config_file::parse_provider_config;
pub use duration::parse_go_duration;
pub use settings::{
    CredentialProviderSettings, ProviderTokenAccount, ProviderTokenAttributes,
    ProviderTokenCacheType, ProviderVariable,
};
pub use validation::{ProviderSettingsError, validate_providers};
