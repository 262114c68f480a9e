//! `packgate controller`

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use clap::Args;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinError,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{exit::CliError, lockfile::Input, output::Done, registries};
use crate::{
    api::installation::{Installation, MAX_CONFIG},
    clock::SystemClock,
    controller::{self, Metrics, NewKey, Options},
    core::{class::Reason, job, reference::Repository},
    oci::{
        Source,
        auth::{Anonymous, CredentialStore, DockerConfig},
    },
    service::registries::{OpenError, Registries},
    signing::{self, Password},
    telemetry::server::{Ready, serve_health, serve_metrics},
};

const EXAMPLES: &str = "Examples:
  packgate controller --namespace packgate-system --image registry.example.com/packgate@sha256:… --config /etc/packgate/config.yaml

The chart runs it. Several replicas can run at once: one leads, the others wait.";

/// Random bytes of the platform key's password.
const PASSWORD_BYTES: usize = 32;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ControllerArgs {
    /// The namespace that packgate runs in
    #[arg(long, value_name = "NAMESPACE", env = "PACKGATE_NAMESPACE", default_value = "packgate-system")]
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
    let health = AbortOnDropHandle::new(tokio::spawn(serve_health(args.health_address, ready.clone())));
    let numbers = AbortOnDropHandle::new(tokio::spawn(serve_metrics(args.metrics_address, Arc::new(registry))));
    let options = Options {
        namespace: args.namespace,
        image: args.image,
        identity: args.identity,
        installation,
        clock: Arc::new(SystemClock),
        registries: Box::new(open_registries),
        make_key: Box::new(|| make_key().map_err(|error| error.message)),
    };
    let client = kube::Client::try_default()
        .await
        .map_err(|error| CliError::new(Reason::InvalidSpec, format!("no way to the API server: {error}; run in a cluster or set KUBECONFIG")))?;
    let controlling = controller::run(client, options, metrics, move || ready.set(), stop);
    tokio::select! {
        ended = controlling => ended?,
        ended = health => return Err(not_served(args.health_address, ended)),
        ended = numbers => return Err(not_served(args.metrics_address, ended)),
    }
    Done::new("", "Controller", json!({}))
}

fn read_config(path: Option<&std::path::Path>) -> Result<Installation, CliError> {
    let Some(path) = path else { return Ok(Installation::default()) };
    let input = Input::read(path, MAX_CONFIG, Reason::InvalidSpec)?;
    Installation::parse(&input.bytes).map_err(|error| input.blame(error.into()))
}

fn not_served(address: SocketAddr, ended: Result<std::io::Result<()>, JoinError>) -> CliError {
    let cause = match ended {
        Ok(Ok(())) => "it ended".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    CliError::invalid(format!("nothing can be served on {address}: {cause}; choose another address"))
}

/// Cancelled by SIGTERM, as Kubernetes sends it, and by SIGINT.
fn stop_on_signal() -> Result<CancellationToken, CliError> {
    let listen = |kind| signal(kind).map_err(|error| CliError::internal(format!("signals cannot be heard: {error}")));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => (),
            _ = int.recv() => (),
        }
        cancel.cancel();
    });
    Ok(stop)
}

/// A key with a random password.
fn make_key() -> Result<NewKey, CliError> {
    let mut random = [0; PASSWORD_BYTES];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| CliError::internal("no random bytes"))?;
    let password = hex::encode(random);
    let key = signing::generate(&Password::new(password.as_bytes()))?;
    Ok(NewKey { private_pem: key.private_pem.to_string(), password, public_pem: key.public_pem })
}

/// Opens registries with the credentials of whoever asks, and with no other.
struct Reading(registries::Registries);

fn open_registries(registries: &[job::Registry]) -> Result<Arc<dyn Registries>, String> {
    let known = registries::Registries::new(registries).map_err(|error| error.message)?;
    Ok(Arc::new(Reading(known)))
}

impl Registries for Reading {
    fn open(&self, repository: &Repository, docker_config: Option<&[u8]>) -> Result<Arc<dyn Source>, OpenError> {
        let credentials: Arc<dyn CredentialStore> = match docker_config {
            Some(bytes) => Arc::new(DockerConfig::parse(bytes)?),
            None => Arc::new(Anonymous),
        };
        Ok(self.0.with(credentials).open(repository)?)
    }
}
