//! `packgate controller`

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use clap::Args;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use super::{
    exit::CliError,
    in_cluster::{
        client, http_options, not_served, open_registries, open_trust, read_config, stop_on_signal,
    },
    output::Done,
};
use crate::{
    clock::SystemClock,
    controller::{self, Metrics, NewKey, Options},
    http::{Discretion, HttpOptions},
    signing::{self, Password},
    telemetry::server::{Ready, serve_health, serve_metrics},
};

const EXAMPLES: &str = "Examples:
  packgate controller --namespace packgate-system --image registry.example.com/packgate@sha256:… \
  --config /etc/packgate/config.yaml

The chart runs it. Several replicas can run at once: one leads, the others wait.";

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
    /// Configuration file; without it every default
    #[arg(long, value_name = "FILE", env = "PACKGATE_CONFIG")]
    config: Option<PathBuf>,
    /// What no other replica is called: the Pod's name
    #[arg(long, value_name = "NAME", env = "PACKGATE_IDENTITY")]
    identity: String,
    /// Where /metrics is served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    metrics_address: SocketAddr,
    /// Where /livez and /readyz are served
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8081")]
    health_address: SocketAddr,
}

pub(super) async fn run(args: ControllerArgs) -> Result<Done, CliError> {
    let installation = read_config(args.config.as_deref())?;
    let (mut registry, ready, stop) = (Registry::default(), Ready::default(), stop_on_signal()?);
    let metrics = Metrics::new(&mut registry);
    // On tasks of their own: they answer, however much there is to do.
    let health = AbortOnDropHandle::new(tokio::spawn(serve_health(
        args.health_address,
        ready.clone(),
    )));
    let numbers = AbortOnDropHandle::new(tokio::spawn(serve_metrics(
        args.metrics_address,
        Arc::new(registry),
    )));
    let http = http_options(&installation.network.registry_private_cidrs)?;
    // Administrators name TUF repositories.
    let trust_http = HttpOptions {
        discretion: Discretion::Cause,
        ..http_options(&[])?
    };
    let options = Options {
        namespace: args.namespace,
        image: args.image,
        identity: args.identity,
        installation,
        clock: Arc::new(SystemClock),
        registries: Box::new(move |known| open_registries(known, &http)),
        trust: Box::new(move |known| open_trust(known, &trust_http)),
        make_key: Box::new(|| make_key().map_err(|error| error.message)),
    };
    let client = client().await?;
    let controlling = controller::run(client, options, metrics, move || ready.set(), stop);
    tokio::select! {
        ended = controlling => ended?,
        ended = health => return Err(not_served(args.health_address, ended)),
        ended = numbers => return Err(not_served(args.metrics_address, ended)),
    }
    Done::new("", "Controller", json!({}))
}

/// A key with a random password.
fn make_key() -> Result<NewKey, CliError> {
    let mut random = [0; PASSWORD_BYTES];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| CliError::internal("no random bytes"))?;
    let password = hex::encode(random);
    let key = signing::generate(&Password::new(password.as_bytes()))?;
    Ok(NewKey {
        private_pem: key.private_pem.to_string(),
        password,
        public_pem: key.public_pem,
    })
}
