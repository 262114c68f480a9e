//! `packgate sigstore sign-bundle`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        bundle_signer::{
            keyless_signer, services_from_files, services_from_tuf, token_from_argument,
        },
        context::CliContext,
        error::CliError,
        input_file::InputFile,
        output::CommandResult,
    },
    core::{digest::Digest, reason::Reason},
    service::trust_root::TufRepositoryConfig,
    signing::{BundleSigner, SigningContent, SigstoreServices},
};

/// The maximum size in bytes of a file to sign. It is held in memory.
const MAX_ARTIFACT: usize = 256 << 20;

const EXAMPLES: &str = "Examples:
  packgate sigstore sign-bundle --identity-token TOKEN --bundle siem.sigstore.json \\
    --trusted-root trusted_root.json --signing-config signing_config.json siem.tar
  packgate sigstore sign-bundle --identity-token - --bundle statement.sigstore.json --in-toto \\
    --trusted-root trusted_root.json --signing-config signing_config.json statement.json < token

The arguments are those of the client protocol of sigstore-conformance.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SignBundleArgs {
    /// OpenID Connect token to sign with, or - for stdin
    #[arg(
        long,
        value_name = "TOKEN",
        env = "SIGSTORE_ID_TOKEN",
        hide_env_values = true
    )]
    identity_token: String,
    /// Where the Sigstore bundle is written
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// Use Sigstore's staging instance instead of the public one, where no files are given
    #[arg(long)]
    staging: bool,
    /// trusted_root.json that the responses of the services are verified with
    #[arg(long, value_name = "FILE", requires = "signing_config")]
    trusted_root: Option<PathBuf>,
    /// signing_config.json: the services to use. Default: those that Sigstore's TUF repository
    /// names
    #[arg(long, value_name = "FILE", requires = "trusted_root")]
    signing_config: Option<PathBuf>,
    /// The file is an in-toto statement, to be signed in a DSSE envelope
    #[arg(long)]
    in_toto: bool,
    /// The file to sign
    #[arg(value_name = "FILE")]
    artifact: PathBuf,
}

impl std::fmt::Debug for SignBundleArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignBundleArgs")
            .field("bundle", &self.bundle)
            .field("artifact", &self.artifact)
            .finish_non_exhaustive()
    }
}

pub(super) async fn run_sign_bundle(
    args: SignBundleArgs,
    context: &CliContext,
) -> Result<CommandResult, CliError> {
    let artifact = InputFile::read_limited(&args.artifact, MAX_ARTIFACT, Reason::LimitExceeded)?;
    let signer = keyless_signer(
        args.load_services(context).await?,
        token_from_argument(&args.identity_token)?,
    )?;
    let subject = if args.in_toto {
        SigningContent::Statement(&artifact.bytes)
    } else {
        SigningContent::Message(&artifact.bytes)
    };
    let bundle = signer
        .create_sigstore_bundle(subject)
        .await
        .map_err(|error| artifact.prefix_file_name(error.into()))?;
    write_atomically(&args.bundle, &bundle)?;
    let path = args.bundle.display().to_string();
    CommandResult::new(
        path.clone(),
        "SignBundleResult",
        json!({"bundle": path, "digest": Digest::of_bytes(&bundle)}),
    )
}

impl SignBundleArgs {
    /// The services in files, or of a Sigstore instance.
    async fn load_services(&self, context: &CliContext) -> Result<SigstoreServices, CliError> {
        match (&self.signing_config, &self.trusted_root) {
            (Some(config), Some(root)) => services_from_files(config, root, context.http_client()?),
            _ if self.staging => services_from_tuf(&TufRepositoryConfig::staging()?, context).await,
            _ => services_from_tuf(&TufRepositoryConfig::public_good()?, context).await,
        }
    }
}

/// Writes the file atomically: a reader never sees an incomplete bundle.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."));
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let failed = |error: std::io::Error| {
        CliError::invalid(format!("{} cannot be written: {error}", path.display()))
    };
    let mut file = tempfile::Builder::new()
        .prefix(".packgate-")
        .permissions(readable)
        .tempfile_in(folder)
        .map_err(failed)?;
    std::io::Write::write_all(&mut file, bytes).map_err(failed)?;
    file.persist(path)
        .map(drop)
        .map_err(|error| failed(error.error))
}
