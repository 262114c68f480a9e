//! `packgate job pack`

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;

use super::{
    downloads::download_access,
    job_files::{JobFileArgs, JobSnapshot, read_credentials},
};
use crate::{
    cli::{
        context::CliContext, error::CliError, in_cluster::job_http_options,
        registry_clients::RegistryClients,
    },
    core::{
        context_artifact::DEFAULT_LOCK_PATH,
        job::{JobInputs, JobSuccess},
        lockfile::Lockfile,
        reference::PinnedReference,
    },
    fetch::{
        ArtifactOrigin, ContextArtifactOrigin, FetchError, HttpOrigin, MissingContextOrigin,
        OriginDispatcher, RegistryOrigin,
    },
    http::{ConnectionErrorDetail, HttpOptions},
    oci::{OciLayoutTarget, credentials::CredentialStore},
    service::release::{self, PackRequest, PackingStore},
};

const EXAMPLES: &str = "Examples:
  packgate job pack --inputs /inputs --work /work --registry-config /push/.dockerconfigjson";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct PackJobArgs {
    #[command(flatten)]
    pub(super) ends: JobFileArgs,
    /// Scratch directory with enough space for the whole bundle
    #[arg(long, value_name = "DIR")]
    work: PathBuf,
    /// Docker configuration with the credentials of the context artifact's registry
    #[arg(long, value_name = "FILE")]
    context_config: Option<PathBuf>,
    /// Folder with the Secrets of spec.fetch: one folder for each credential, named by its position,
    /// and `proxy`
    #[arg(long, value_name = "DIR")]
    fetch_secrets: Option<PathBuf>,
}

pub(super) async fn run_pack_job(
    args: PackJobArgs,
    context: &CliContext,
) -> Result<JobSuccess, CliError> {
    let JobSnapshot { inputs, lock } = JobSnapshot::read_snapshot(&args.ends.inputs).await?;
    let push = read_credentials(context.global_args().registry_config.as_deref()).await?;
    // The Job runs in its tenant's network anyway, so causes of errors are reported.
    let options = HttpOptions {
        connection_error_detail: ConnectionErrorDetail::FullCause,
        ..job_http_options(&inputs.registry_networks)?
    };
    let registries = RegistryClients::new(&inputs.registries, &options)?;
    let target = registries.open_target(&inputs.destination_repository()?, Arc::clone(&push))?;
    let pull = read_credentials(args.context_config.as_deref()).await?;
    let file = file_origin(&inputs, &lock, &registries, pull, context).await?;
    let downloads = download_access(&inputs, args.fetch_secrets).await?;
    let origins = Arc::new(OriginDispatcher {
        file,
        http: Arc::new(HttpOrigin::with_access(downloads)),
        registry: Arc::new(RegistryOrigin::new(registries.with_credentials(push))),
    });
    let folder = create_scratch_dir(&args.work)?;
    let layout = OciLayoutTarget::open_or_create(&folder.path().join("layout").to_string_lossy())?;
    let request = PackRequest {
        lock: &lock,
        output: &inputs.output,
        allow_outside: false,
    };
    let pushed = release::pack_and_push(
        &context.release_context(&target),
        &PackingStore::Staging(Arc::new(layout)),
        origins,
        request,
    )
    .await?;
    Ok(JobSuccess {
        lock_digest: inputs.lock_digest,
        digest: pushed.stored.root.digest,
        size: pushed.stored.size,
        layers: pushed.stored.layers,
        artifacts: lock.artifacts.len(),
        evidence: Vec::new(),
    })
}

fn create_scratch_dir(work: &Path) -> Result<tempfile::TempDir, CliError> {
    let made = tempfile::Builder::new()
        .prefix("packgate-")
        .tempdir_in(work);
    made.map_err(|e| {
        CliError::new(
            crate::core::reason::Reason::StorageFailed,
            format!("{}: {e}", work.display()),
        )
    })
}

async fn file_origin(
    inputs: &JobInputs,
    lock: &Lockfile,
    registries: &RegistryClients,
    pull: Arc<dyn CredentialStore>,
    context: &CliContext,
) -> Result<Arc<dyn ArtifactOrigin>, CliError> {
    Ok(
        match (inputs.context_reference()?, lock.first_file_origin()) {
            (Some(artifact), _) => {
                Arc::new(open_context_artifact(&artifact, inputs, registries, pull, context).await?)
            }
            (None, Some((_, origin))) => {
                return Err(FetchError::MissingContextArtifact {
                    origin: origin.into(),
                }
                .into());
            }
            (None, None) => Arc::new(MissingContextOrigin),
        },
    )
}

async fn open_context_artifact(
    artifact: &PinnedReference,
    inputs: &JobInputs,
    registries: &RegistryClients,
    pull: Arc<dyn CredentialStore>,
    context: &CliContext,
) -> Result<ContextArtifactOrigin, CliError> {
    let source = registries.open_source(artifact.repository(), &pull)?;
    let lock_path = inputs
        .source
        .lock_path
        .as_deref()
        .unwrap_or(DEFAULT_LOCK_PATH);
    Ok(ContextArtifactOrigin::load_artifact(
        source,
        &artifact.digest(),
        lock_path,
        context.limits(),
    )
    .await?)
}
