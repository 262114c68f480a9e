//! `packgate sigstore sign-bundle`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::{
    cli::{
        context::Context,
        endorser::{given, keyless, services, services_of},
        exit::CliError,
        lockfile::Input,
        output::Done,
    },
    core::{class::Reason, digest::Digest},
    service::trust_root::Repository,
    signing::{Content, Endorser, SigstoreServices},
};

/// Bytes of a file that is signed. It is held in memory.
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
    /// Use Sigstore's instance for tests instead of its public one, where no files are given
    #[arg(long)]
    staging: bool,
    /// trusted_root.json that everything the services say is verified with
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

pub(super) async fn run(args: SignBundleArgs, context: &Context) -> Result<Done, CliError> {
    let artifact = Input::read(&args.artifact, MAX_ARTIFACT, Reason::LimitExceeded)?;
    let signer = keyless(args.services(context).await?, given(&args.identity_token)?)?;
    let subject = if args.in_toto {
        Content::Statement(&artifact.bytes)
    } else {
        Content::Message(&artifact.bytes)
    };
    let bundle = signer
        .endorse(subject)
        .await
        .map_err(|error| artifact.blame(error.into()))?;
    write(&args.bundle, &bundle)?;
    let path = args.bundle.display().to_string();
    Done::new(
        path.clone(),
        "SignBundleResult",
        json!({"bundle": path, "digest": Digest::of(&bundle)}),
    )
}

impl SignBundleArgs {
    /// Those of the files, or of an instance of Sigstore.
    async fn services(&self, context: &Context) -> Result<SigstoreServices, CliError> {
        match (&self.signing_config, &self.trusted_root) {
            (Some(config), Some(root)) => services(config, root, context.http()?),
            _ if self.staging => services_of(&Repository::staging()?, context).await,
            _ => services_of(&Repository::public_good()?, context).await,
        }
    }
}

/// All of it or nothing: a reader never finds half a bundle.
fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
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
