//! `packgate webhook`

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use super::{
    error::CliError,
    in_cluster::{
        admission_http_options, cluster_http_options, kube_client, open_registries, read_config,
        server_ended_error, stop_on_signal,
    },
    installation_credentials::{InstallationCredentials, installation_providers},
    output::CommandResult,
};
use crate::{
    clock::SystemClock,
    cluster_reader::{AccountTokenReader, PullSecretReader},
    core::reason::Reason,
    service::cpu_work::lower_priority_of_cpu_work,
    telemetry::server::{ReadinessFlag, serve_health, serve_metrics},
    webhook::{self, WebhookMetrics, WebhookOptions},
};

const EXAMPLES: &str = "Examples:
  packgate webhook --namespace packgate-system --identity packgate-webhook-0 --config \
  /etc/packgate/config.yaml

The chart runs it. Every replica answers. It waits for its certificate, which the controller \
makes, and for the policies.";

/// The part of a review's deadline that is left when a credential provider does not respond.
const PROVIDER_MARGIN: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct WebhookArgs {
    /// The namespace that packgate runs in
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "PACKGATE_NAMESPACE",
        default_value = "packgate-system"
    )]
    namespace: String,
    /// Configuration file [default: built-in defaults]
    #[arg(long, value_name = "FILE", env = "PACKGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Unique identity of this replica: the Pod's name
    #[arg(long, value_name = "NAME", env = "PACKGATE_IDENTITY")]
    identity: String,
    /// Where reviews are served, over TLS
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9443")]
    address: SocketAddr,
    /// Where /metrics is served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    metrics_address: SocketAddr,
    /// Where /livez and /readyz are served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8081")]
    health_address: SocketAddr,
}

pub(super) async fn run_webhook(args: WebhookArgs) -> Result<CommandResult, CliError> {
    let installation = read_config(args.config.as_deref())?;
    let (mut registry, ready, stop) = (
        Registry::default(),
        ReadinessFlag::default(),
        stop_on_signal()?,
    );
    let metrics = WebhookMetrics::new(&mut registry);
    let health = AbortOnDropHandle::new(tokio::spawn(serve_health(
        args.health_address,
        ready.clone(),
    )));
    let numbers = AbortOnDropHandle::new(tokio::spawn(serve_metrics(
        args.metrics_address,
        Arc::new(registry),
    )));
    let client = kube_client().await?;
    let known = webhook::configured_registries(&client, &installation, &args.namespace).await?;
    let credentials = InstallationCredentials::new(
        PullSecretReader::new(client.clone()),
        &args.namespace,
        &installation.registries,
    )?;
    let tokens = AccountTokenReader::new(client.clone(), &args.namespace, webhook::NAME);
    let wait = installation.webhook.review_deadline();
    let providers = installation_providers(
        &installation,
        tokens,
        wait.saturating_sub(PROVIDER_MARGIN).max(wait / 2),
    );
    let registries = open_registries(
        &known,
        &admission_http_options(
            cluster_http_options(&installation.network.registry_private_cidrs)?.addresses,
        ),
        credentials,
        providers,
    );
    let options = WebhookOptions {
        registries: registries.map_err(|message| CliError::new(Reason::InvalidSpec, message))?,
        namespace: args.namespace,
        identity: args.identity,
        address: args.address,
        installation,
        clock: Arc::new(SystemClock),
    };
    // Requests still arrive while the API server learns that this replica terminates; they are
    // answered, but the replica is not ready any more.
    let ending = (stop.clone(), ready.clone());
    tokio::spawn(async move {
        ending.0.cancelled().await;
        ending.1.unset();
    });
    lower_priority_of_cpu_work();
    let serving = webhook::run_webhook(client, options, metrics, move || ready.set(), stop);
    tokio::select! {
        ended = serving => ended?,
        ended = health => return Err(server_ended_error(args.health_address, ended)),
        ended = numbers => return Err(server_ended_error(args.metrics_address, ended)),
    }
    CommandResult::new("", "Webhook", json!({}))
}
