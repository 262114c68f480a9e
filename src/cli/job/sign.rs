//! `packgate job sign`

use std::path::{Path, PathBuf};

use clap::Args;

use super::job_files::{JobFileArgs, JobSnapshot, read_credentials, run_blocking};
use crate::{
    cli::{
        bundle_signer::{SigstoreServiceArgs, keyless_signer, token_from_file},
        context::CliContext,
        error::CliError,
        in_cluster::job_http_options,
        input_file::InputFile,
        registry_clients::RegistryClients,
    },
    core::{
        digest::Digest,
        job::{JobSigningMode, JobSuccess},
        reason::Reason,
    },
    service::rebuild_and_sign::rebuild_and_sign,
    signing::{BundleSigner, KeySigner, LoggedKeySigner, MAX_KEY_FILE, Password},
};

/// The maximum size of a password file in bytes.
const MAX_PASSWORD: usize = 4 << 10;

const EXAMPLES: &str = "Examples:
  packgate job sign --inputs /inputs --digest sha256:… --registry-config /push/.dockerconfigjson \\
    --key /key/cosign.key --key-password-file /key/cosign.password";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SignJobArgs {
    #[command(flatten)]
    pub(super) ends: JobFileArgs,
    /// What the pack Job pushed
    #[arg(long, value_name = "DIGEST")]
    digest: Digest,
    #[command(flatten)]
    signer: JobSignerArgs,
}

/// Who signs.
#[derive(Debug, Args)]
struct JobSignerArgs {
    /// Private key that signs: cosign-encrypted, PKCS#8, SEC 1 or PKCS#1, in PEM
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// File with the password of the key, every byte of it
    #[arg(long, value_name = "FILE", requires = "key")]
    key_password_file: Option<PathBuf>,
    /// File with an OpenID Connect token to sign with instead of a key; read again for every
    /// certificate
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "key",
        requires = "signing_config"
    )]
    identity_token_file: Option<PathBuf>,
    #[command(flatten)]
    services: SigstoreServiceArgs,
}

pub(super) async fn run_sign_job(
    args: SignJobArgs,
    context: &CliContext,
) -> Result<JobSuccess, CliError> {
    let JobSnapshot { inputs, lock: _ } = JobSnapshot::read_snapshot(&args.ends.inputs).await?;
    let signer = match inputs.signing.mode {
        JobSigningMode::None => None,
        JobSigningMode::Platform | JobSigningMode::Namespace => {
            args.signer.load_signer(context).await?
        }
    };
    let credentials = read_credentials(context.global_args().registry_config.as_deref()).await?;
    let target = RegistryClients::new(
        &inputs.registries,
        &job_http_options(&inputs.registry_networks)?,
    )?
    .open_target(&inputs.destination_repository()?, credentials)?
    .for_signing();
    let release = context.release_context(&target);
    Ok(rebuild_and_sign(&release, &args.digest, &inputs, signer.as_deref()).await?)
}

impl JobSignerArgs {
    async fn load_signer(
        self,
        context: &CliContext,
    ) -> Result<Option<Box<dyn BundleSigner>>, CliError> {
        let services = self
            .services
            .load_services(|| context.build_http_client(job_http_options(&[])?))
            .map_err(to_no_signer_error)?;
        let Some(key) = self.key else {
            let token = self.identity_token_file.map(token_from_file);
            return Ok(match (token, services) {
                (Some(token), Some(services)) => Some(Box::new(keyless_signer(services, token)?)),
                _ => None,
            });
        };
        let signer = load_key(key, self.key_password_file).await?;
        Ok(Some(match services {
            Some(services) => Box::new(LoggedKeySigner::new(Box::new(signer), services)?),
            None => Box::new(signer),
        }))
    }
}

async fn load_key(key: PathBuf, password: Option<PathBuf>) -> Result<KeySigner, CliError> {
    let work = move || {
        let input = InputFile::read_limited(&key, MAX_KEY_FILE, Reason::NoSigner)
            .map_err(to_no_signer_error)?;
        let password = password.as_deref().map(read_password).transpose()?;
        KeySigner::from_pem(&input.bytes, password.as_ref())
            .map_err(|error| input.prefix_file_name(error.into()))
    };
    run_blocking(work).await
}

fn read_password(path: &Path) -> Result<Password, CliError> {
    Ok(Password::new(
        InputFile::read_limited(path, MAX_PASSWORD, Reason::NoSigner)
            .map_err(to_no_signer_error)?
            .bytes,
    ))
}

/// Any error in the files of a signer is reported as `NoSigner`.
fn to_no_signer_error(error: CliError) -> CliError {
    CliError::new(Reason::NoSigner, error.message)
}
