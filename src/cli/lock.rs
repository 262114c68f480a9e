//! `packgate lock`

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use serde_json::json;

use super::{
    context::CliContext, error::CliError, fetch_args::FetchArgs, input_file::InputFile,
    output::CommandResult,
};
use crate::{
    core::{
        display_text::escape_invisible,
        lockfile::{LockInput, LockManifest, Lockfile, oci_reference},
        reason::Reason,
        reference::ImageReference,
    },
    fetch::OutsideFolderPolicy,
    oci::OciLayoutTarget,
    service::lock::LockService,
    telemetry::stderr::write_line,
};

const EXAMPLES: &str = "Examples:
  packgate lock manifest.yaml              writes NAME.lock.yaml
  packgate lock lock.yaml                  verifies every artifact and records the layers, for \
  `packgate plan`
  packgate lock lock.yaml --check          fails if anything changed at its origin
  packgate lock lock.yaml --update         takes what is at the origins now
  packgate lock lock.yaml --netrc          sends user names and passwords of ~/.netrc
  packgate lock lock.yaml --fetch-credentials credentials.yaml --proxy http://proxy.example.com:3128
  packgate lock lock.yaml --mirror up.example.org=mirror.example.com/up";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct LockArgs {
    /// A manifest to make a lock of, or a lock
    input: PathBuf,
    /// Output file [default: for a manifest NAME.lock.yaml next to it, for a lock the file
    /// itself]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Only check that everything is still what the lock says; write nothing
    #[arg(long, conflicts_with_all = ["update", "file"])]
    check: bool,
    /// Accept new checksums and sizes, and write down the digests of images
    #[arg(long)]
    update: bool,
    /// Let `file` origins lie outside of the lockfile's folder
    #[arg(long)]
    allow_outside: bool,
    #[command(flatten)]
    fetch: FetchArgs,
}

pub(super) async fn run_lock(
    args: LockArgs,
    context: &CliContext,
) -> Result<CommandResult, CliError> {
    let input = InputFile::read_lockfile(&args.input)?;
    let parsed = LockInput::parse(&input.bytes, context.limits())
        .map_err(|error| input.prefix_file_name(error.into()))?;
    let images: Vec<ImageReference> = artifact_origins(&parsed)
        .filter_map(oci_reference)
        .collect();
    context.check_plain_http_hosts(images.iter().map(|image| image.repository.host()))?;
    let folder = tempfile::Builder::new()
        .prefix("packgate-")
        .tempdir()
        .map_err(|e| CliError::internal(format!("no temporary folder: {e}")))?;
    let scratch =
        OciLayoutTarget::open_or_create(&folder.path().join("scratch").to_string_lossy())?;
    let outside = if args.allow_outside {
        OutsideFolderPolicy::Allowed
    } else {
        OutsideFolderPolicy::Refused
    };
    let downloads = args.fetch.download_access(context)?;
    let origins = Arc::new(context.artifact_origins(input.folder.clone(), outside, downloads)?);
    warn_of_signed_origins(&parsed);
    let service = LockService::new(
        Arc::new(scratch),
        origins,
        context.progress_reporter(),
        args.allow_outside,
    );
    let lock = match parsed {
        LockInput::Lock(lock) if args.check => {
            service
                .check_lock(&lock)
                .await
                .map_err(|error| input.prefix_file_name(error.into()))?;
            return lock_result(&args.input, &lock);
        }
        LockInput::Manifest(_) if args.check => {
            return Err(CliError::invalid(
                "--check takes a lock, this is a manifest: leave --check away to make a lock of it",
            ));
        }
        LockInput::Lock(lock) if args.update => {
            service
                .create_lock(LockManifest::from(&lock), context.limits())
                .await
        }
        LockInput::Lock(lock) => service.record_layers(&lock).await,
        LockInput::Manifest(manifest) => service.create_lock(manifest, context.limits()).await,
    };
    let lock = lock.map_err(|error| input.prefix_file_name(error.into()))?;
    let path = output_path(&args, &input, &lock)?;
    write_atomically(&path, lock.to_yaml().as_bytes())?;
    lock_result(&path, &lock)
}

/// A signed URL stops working, and whoever reads the lockfile can use it until then.
fn warn_of_signed_origins(input: &LockInput) {
    for (index, parameter) in signed_origins(input) {
        write_line(format_args!(
            "warning: artifacts[{index}].origin has a credential in its URL ({}): it stands in the \
                lockfile and may stop working; it is left out of bundle, provenance and SBOM. Give \
                credentials with --netrc or --fetch-credentials instead",
            escape_invisible(&parameter)
        ));
    }
}

/// The artifacts whose origins have a credential, and the parameter that it is.
fn signed_origins(input: &LockInput) -> Vec<(usize, String)> {
    match input {
        LockInput::Lock(lock) => lock
            .signed_origins()
            .map(|(index, _, signed)| (index, signed.parameter()))
            .collect(),
        LockInput::Manifest(manifest) => manifest
            .artifacts
            .iter()
            .enumerate()
            .filter_map(|(index, artifact)| {
                Some((index, artifact.signed_origin.as_ref()?.parameter()))
            })
            .collect(),
    }
}

/// Every origin as written. A file's origin does not name an image.
fn artifact_origins(input: &LockInput) -> Box<dyn Iterator<Item = &str> + '_> {
    match input {
        LockInput::Lock(lock) => Box::new(
            lock.artifacts
                .iter()
                .map(|artifact| artifact.origin.as_str()),
        ),
        LockInput::Manifest(manifest) => Box::new(
            manifest
                .artifacts
                .iter()
                .map(|artifact| artifact.origin.as_str()),
        ),
    }
}

fn output_path(args: &LockArgs, input: &InputFile, lock: &Lockfile) -> Result<PathBuf, CliError> {
    if let Some(path) = &args.file {
        return Ok(path.clone());
    }
    let is_manifest = LockInput::parse(&input.bytes, &crate::core::limits::InputLimits::DEFAULT)
        .is_ok_and(|input| matches!(input, LockInput::Manifest(_)));
    if args.input == Path::new("-") {
        return Err(CliError::invalid(
            "name the file that is written with -f, because the input is stdin",
        ));
    }
    if !is_manifest {
        return Ok(args.input.clone());
    }
    let stem = || {
        args.input
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
    };
    let name = lock
        .name
        .clone()
        .or_else(stem)
        .unwrap_or_else(|| "packgate".into());
    let path = input.folder.join(format!("{name}.lock.yaml"));
    Ok(path.strip_prefix(".").map(Path::to_owned).unwrap_or(path))
}

/// Writes the file atomically.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    use std::{io::Write, os::unix::fs::PermissionsExt};
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    let failed = |e: std::io::Error| {
        CliError::new(Reason::StorageFailed, format!("{}: {e}", path.display()))
    };
    let permissions = std::fs::Permissions::from_mode(0o644);
    let mut file = tempfile::Builder::new()
        .prefix(".packgate-")
        .permissions(permissions)
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}

fn lock_result(path: &Path, lock: &Lockfile) -> Result<CommandResult, CliError> {
    let digest = lock.to_canonical().digest;
    let fields = json!({
        "path": path.display().to_string(),
        "lockDigest": digest,
        "artifacts": lock.artifacts.len(),
        "layers": lock.layers.len(),
    });
    CommandResult::new(path.display().to_string(), "LockResult", fields)
}
