//! `packgate lock`

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use serde_json::json;

use super::{context::Context, exit::CliError, lockfile::Input, output::Done};
use crate::{
    core::{
        class::Reason,
        lockfile::{LockInput, LockManifest, Lockfile, oci_reference},
        reference::Reference,
    },
    fetch::Outside,
    oci::LayoutTarget,
    service::lock::LockService,
};

const EXAMPLES: &str = "Examples:
  packgate lock manifest.yaml              writes NAME.lock.yaml
  packgate lock lock.yaml                  checks every artifact and records the layers, for \
  `packgate plan`
  packgate lock lock.yaml --check          fails if anything changed at its origin
  packgate lock lock.yaml --update         takes what is at the origins now";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct LockArgs {
    /// A manifest to make a lock of, or a lock
    input: PathBuf,
    /// Where the lock goes [default: for a manifest NAME.lock.yaml beside it, for a lock the file
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
}

pub(super) async fn run(args: LockArgs, context: &Context) -> Result<Done, CliError> {
    let input = Input::lock(&args.input)?;
    let parsed = LockInput::parse(&input.bytes, context.limits())
        .map_err(|error| input.blame(error.into()))?;
    let images: Vec<Reference> = origins_of(&parsed).filter_map(oci_reference).collect();
    context.speaks_with(images.iter().map(|image| image.repository.host()))?;
    let folder = tempfile::Builder::new()
        .prefix("packgate-")
        .tempdir()
        .map_err(|e| CliError::internal(format!("no temporary folder: {e}")))?;
    let scratch = LayoutTarget::open_or_create(&folder.path().join("scratch").to_string_lossy())?;
    let outside = if args.allow_outside {
        Outside::Allowed
    } else {
        Outside::Refused
    };
    let origins = Arc::new(context.origins(input.folder.clone(), outside)?);
    let service = LockService::new(
        Arc::new(scratch),
        origins,
        context.progress(),
        args.allow_outside,
    );
    let lock = match parsed {
        LockInput::Lock(lock) if args.check => {
            service
                .check(&lock)
                .await
                .map_err(|error| input.blame(error.into()))?;
            return answer(&args.input, &lock);
        }
        LockInput::Manifest(_) if args.check => {
            return Err(CliError::invalid(
                "--check takes a lock, this is a manifest: leave --check away to make a lock of it",
            ));
        }
        LockInput::Lock(lock) if args.update => {
            service
                .make(LockManifest::from(&lock), context.limits())
                .await
        }
        LockInput::Lock(lock) => service.record(&lock).await,
        LockInput::Manifest(manifest) => service.make(manifest, context.limits()).await,
    };
    let lock = lock.map_err(|error| input.blame(error.into()))?;
    let path = destination(&args, &input, &lock)?;
    write(&path, lock.to_yaml().as_bytes())?;
    answer(&path, &lock)
}

/// Every origin, as it was written. That of a file names no image.
fn origins_of(input: &LockInput) -> Box<dyn Iterator<Item = &str> + '_> {
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

fn destination(args: &LockArgs, input: &Input, lock: &Lockfile) -> Result<PathBuf, CliError> {
    if let Some(path) = &args.file {
        return Ok(path.clone());
    }
    let is_manifest = LockInput::parse(&input.bytes, &crate::core::limits::Limits::DEFAULT)
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

/// Writes the whole file or nothing.
fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
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

fn answer(path: &Path, lock: &Lockfile) -> Result<Done, CliError> {
    let digest = lock.canonical().digest;
    let fields = json!({
        "path": path.display().to_string(),
        "lockDigest": digest,
        "artifacts": lock.artifacts.len(),
        "layers": lock.layers.len(),
    });
    Done::new(path.display().to_string(), "LockResult", fields)
}
