//! `packgate controller`

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use super::{
    error::CliError,
    in_cluster::{
        cluster_http_options, kube_client, open_registries, open_trust_source, read_config,
        server_ended_error, stop_on_signal,
    },
    installation_credentials::{InstallationCredentials, installation_providers},
    output::CommandResult,
};
use crate::{
    clock::SystemClock,
    cluster_reader::{AccountTokenReader, PullSecretReader},
    controller::{self, ControllerMetrics, ControllerOptions, PlatformKeyPair},
    http::{ConnectionErrorDetail, HttpOptions},
    service::cpu_work::lower_priority_of_cpu_work,
    signing::{self, Password},
    telemetry::server::{ReadinessFlag, serve_health, serve_metrics},
};

const EXAMPLES: &str = "Examples:
  packgate controller --namespace packgate-system --image registry.example.com/packgate@sha256:… \
  --config /etc/packgate/config.yaml

The chart runs it. Several replicas can run at once: one leads, the others wait.";

/// How long a verdict waits for a credential provider.
const PROVIDER_WAIT: Duration = Duration::from_secs(45);
/// Random bytes of the platform key's password.
const PASSWORD_BYTES: usize = 32;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ControllerArgs {
    /// The namespace that packgate runs in
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "PACKGATE_NAMESPACE",
        default_value = "packgate-system"
    )]
    namespace: String,
    /// The image that Jobs run: packgate's own
    #[arg(long, value_name = "IMAGE", env = "PACKGATE_IMAGE")]
    image: String,
    /// Configuration file [default: built-in defaults]
    #[arg(long, value_name = "FILE", env = "PACKGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Unique identity of this replica: the Pod's name
    #[arg(long, value_name = "NAME", env = "PACKGATE_IDENTITY")]
    identity: String,
    /// Where /metrics is served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    metrics_address: SocketAddr,
    /// Where /livez and /readyz are served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8081")]
    health_address: SocketAddr,
}

pub(super) async fn run_controller(args: ControllerArgs) -> Result<CommandResult, CliError> {
    let installation = read_config(args.config.as_deref())?;
    let (mut registry, ready, stop) = (
        Registry::default(),
        ReadinessFlag::default(),
        stop_on_signal()?,
    );
    let metrics = ControllerMetrics::new(&mut registry);
    // On tasks of their own: health checks are answered under any load.
    let health = AbortOnDropHandle::new(tokio::spawn(serve_health(
        args.health_address,
        ready.clone(),
    )));
    let numbers = AbortOnDropHandle::new(tokio::spawn(serve_metrics(
        args.metrics_address,
        Arc::new(registry),
    )));
    let http = cluster_http_options(&installation.network.registry_private_cidrs)?;
    // Only administrators configure TUF repositories.
    let trust_http = HttpOptions {
        connection_error_detail: ConnectionErrorDetail::FullCause,
        ..cluster_http_options(&[])?
    };
    let client = kube_client().await?;
    let credentials = InstallationCredentials::new(
        PullSecretReader::new(client.clone()),
        &args.namespace,
        &installation.registries,
    )?;
    let tokens = AccountTokenReader::new(client.clone(), &args.namespace, controller::NAME);
    let providers = installation_providers(&installation, tokens, PROVIDER_WAIT);
    let options = ControllerOptions {
        namespace: args.namespace,
        image: args.image,
        identity: args.identity,
        installation,
        clock: Arc::new(SystemClock),
        registries: Box::new(move |known| {
            open_registries(known, &http, credentials.clone(), providers.clone())
        }),
        trust: Box::new(move |known| open_trust_source(known, &trust_http)),
        make_key: Box::new(|| generate_platform_key().map_err(|error| error.message)),
    };
    lower_priority_of_cpu_work();
    let controlling =
        controller::run_controller(client, options, metrics, move || ready.set(), stop);
    tokio::select! {
        ended = controlling => ended?,
        ended = health => return Err(server_ended_error(args.health_address, ended)),
        ended = numbers => return Err(server_ended_error(args.metrics_address, ended)),
    }
    CommandResult::new("", "Controller", json!({}))
}

/// A key pair with a random password.
fn generate_platform_key() -> Result<PlatformKeyPair, CliError> {
    let mut random = [0; PASSWORD_BYTES];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| CliError::internal("the random number generator failed"))?;
    let password = hex::encode(random);
    let key = signing::generate_key_with_random_password(&Password::new(password.as_bytes()))?;
    Ok(PlatformKeyPair {
        private_pem: key.private_pem.to_string(),
        password,
        public_pem: key.public_pem,
    })
}
