//! The Secrets that an image is pulled with, as written on the command line.

use clap::Args;

use super::trust_args::{TrustArgs, UseArg};
use crate::core::pull_secret_names::{DEFAULT_SERVICE_ACCOUNT, PullSecretNames};

/// With which of the namespace's Secrets admission would read the evidence.
#[derive(Debug, Args)]
#[command(next_help_heading = "Trust")]
pub(super) struct PullSecretArgs {
    /// Secret of the namespace that the image is pulled with; can be given several times. For a
    /// Pod's imagePullSecrets, or a PackedBundle's secretRef
    #[arg(
        long = "image-pull-secret",
        value_name = "NAME",
        requires = "cluster",
        requires = "namespace"
    )]
    image_pull_secrets: Vec<String>,
    /// ServiceAccount whose imagePullSecrets the image is pulled with. Default for containers and
    /// image volumes: the account default, unless --image-pull-secret is given
    #[arg(
        long,
        value_name = "NAME",
        requires = "cluster",
        requires = "namespace"
    )]
    service_account: Option<String>,
}

impl PullSecretArgs {
    /// The Secrets that admission would read for an image that is used so.
    pub(super) fn into_names(self, trust: &TrustArgs) -> PullSecretNames {
        let has_default = self.image_pull_secrets.is_empty()
            && trust.cluster
            && trust.used_as != UseArg::PackedBundle
            && trust.namespace.is_some();
        let default = has_default.then(|| DEFAULT_SERVICE_ACCOUNT.to_owned());
        PullSecretNames {
            secrets: self.image_pull_secrets,
            service_account: self.service_account.or(default),
            pod_service_account: None,
        }
    }
}
