//! `packgate job pack`

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;

use super::{Ends, Snapshot, credentials};
use crate::{
    cli::{context::Context, exit::CliError, in_cluster::job_http_options, registries::Registries},
    core::{
        context::DEFAULT_LOCK_PATH,
        job::{Inputs, Success},
        lockfile::Lockfile,
        reference::PinnedReference,
    },
    fetch::{ContextOrigin, FetchError, HttpOrigin, NoContext, Origin, Origins, RegistryOrigin},
    http::{
        AddressPolicy, Discretion, HttpClient, HttpOptions, LeastRate, PrivateAddresses,
        address::CidrError,
    },
    oci::{LayoutTarget, auth::CredentialStore},
    service::pack::{PackService, Packed, deliver},
};

const EXAMPLES: &str = "Examples:
  packgate job pack --inputs /inputs --work /work --registry-config /push/.dockerconfigjson";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PackJobArgs {
    #[command(flatten)]
    pub(super) ends: Ends,
    /// Folder with room for the whole bundle
    #[arg(long, value_name = "DIR")]
    work: PathBuf,
    /// Docker configuration with the credentials of the context artifact's registry
    #[arg(long, value_name = "FILE")]
    context_config: Option<PathBuf>,
}

pub(super) async fn run(args: PackJobArgs, context: &Context) -> Result<Success, CliError> {
    let Snapshot { inputs, lock } = Snapshot::read(&args.ends.inputs).await?;
    let push = credentials(context.global().registry_config.as_deref()).await?;
    // It runs where its tenant may look around anyhow, so its causes are told.
    let options = HttpOptions {
        discretion: Discretion::Cause,
        ..job_http_options(&inputs.registry_networks)?
    };
    let registries = Registries::new(&inputs.registries, &options)?;
    let target = registries.open(&inputs.repository()?, Arc::clone(&push))?;
    let pull = credentials(args.context_config.as_deref()).await?;
    let origins = origins(&inputs, &lock, &registries, push, pull, context).await?;
    let folder = scratch(&args.work)?;
    let layout = Arc::new(LayoutTarget::open_or_create(
        &folder.path().join("layout").to_string_lossy(),
    )?);
    let service = PackService::new(
        Arc::<LayoutTarget>::clone(&layout),
        origins,
        context.progress(),
    );
    let Packed {
        root,
        size,
        layers,
        download_locations: _,
    } = service.pack(&lock, inputs.output.clone(), false).await?;
    deliver(
        &*layout,
        &target,
        &root,
        context.limits(),
        &*context.progress(),
    )
    .await?;
    Ok(Success {
        lock_digest: inputs.lock_digest,
        digest: root.digest,
        size,
        layers,
        artifacts: lock.artifacts.len(),
        evidence: Vec::new(),
    })
}

fn scratch(work: &Path) -> Result<tempfile::TempDir, CliError> {
    let made = tempfile::Builder::new()
        .prefix("packgate-")
        .tempdir_in(work);
    made.map_err(|e| {
        CliError::new(
            crate::core::class::Reason::StorageFailed,
            format!("{}: {e}", work.display()),
        )
    })
}

async fn origins(
    inputs: &Inputs,
    lock: &Lockfile,
    registries: &Registries,
    push: Arc<dyn CredentialStore>,
    pull: Arc<dyn CredentialStore>,
    context: &Context,
) -> Result<Arc<Origins>, CliError> {
    let file: Arc<dyn Origin> = match (inputs.context()?, lock.first_file_origin()) {
        (Some(artifact), _) => {
            Arc::new(open_context(&artifact, inputs, registries, pull, context).await?)
        }
        (None, Some((_, origin))) => {
            return Err(FetchError::NoContext {
                origin: origin.into(),
            }
            .into());
        }
        (None, None) => Arc::new(NoContext),
    };
    let http = Arc::new(HttpOrigin::new(download_client(inputs)?));
    Ok(Arc::new(Origins {
        file,
        http,
        registry: Arc::new(RegistryOrigin::new(registries.with(push))),
    }))
}

async fn open_context(
    artifact: &PinnedReference,
    inputs: &Inputs,
    registries: &Registries,
    pull: Arc<dyn CredentialStore>,
    context: &Context,
) -> Result<ContextOrigin, CliError> {
    let source = Arc::new(registries.open(artifact.repository(), pull)?);
    let lock_path = inputs
        .source
        .lock_path
        .as_deref()
        .unwrap_or(DEFAULT_LOCK_PATH);
    Ok(ContextOrigin::open(source, &artifact.digest(), lock_path, context.limits()).await?)
}

/// Downloads reach private addresses only where the installation lists them.
fn download_client(inputs: &Inputs) -> Result<HttpClient, CliError> {
    let networks: Result<Vec<_>, CidrError> = inputs
        .private_networks
        .iter()
        .map(|network| network.parse())
        .collect();
    let private = PrivateAddresses::Listed(networks.map_err(|e| CliError::invalid(e.to_string()))?);
    let extra_ca_pem = inputs.fetch_ca.clone().map(Into::into);
    let least_rate = Some(LeastRate::DEFAULT);
    Ok(HttpClient::new(&HttpOptions {
        addresses: AddressPolicy::Cluster { private },
        extra_ca_pem,
        least_rate,
        ..HttpOptions::default()
    })?)
}
