//! `packgate job sign`

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Ends, Snapshot, credentials, off_thread};
use crate::{
    cli::{
        context::Context,
        endorser::{ServiceArgs, keyless, token_file},
        exit::CliError,
        in_cluster::job_http_options,
        lockfile::Input,
        registries::Registries,
    },
    core::{
        class::Reason,
        digest::Digest,
        job::{SigningMode, Success},
    },
    service::endorse::endorse,
    signing::{Endorser, KeySigner, MAX_KEY_FILE, Password, Witnessed},
};

/// Bytes of a file with a password.
const MAX_PASSWORD: usize = 4 << 10;

const EXAMPLES: &str = "Examples:
  packgate job sign --inputs /inputs --digest sha256:… --registry-config /push/.dockerconfigjson \\
    --key /key/cosign.key --key-password-file /key/cosign.password";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct SignJobArgs {
    #[command(flatten)]
    pub(super) ends: Ends,
    /// What the pack Job pushed
    #[arg(long, value_name = "DIGEST")]
    digest: Digest,
    #[command(flatten)]
    signer: SignerArgs,
}

/// Who signs.
#[derive(Debug, Args)]
struct SignerArgs {
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
    services: ServiceArgs,
}

pub(super) async fn run(args: SignJobArgs, context: &Context) -> Result<Success, CliError> {
    let Snapshot { inputs, lock: _ } = Snapshot::read(&args.ends.inputs).await?;
    let signer = match inputs.signing.mode {
        SigningMode::None => None,
        SigningMode::Platform | SigningMode::Namespace => args.signer.load(context).await?,
    };
    let credentials = credentials(context.global().registry_config.as_deref()).await?;
    let target = Registries::new(
        &inputs.registries,
        &job_http_options(&inputs.registry_networks)?,
    )?
    .open(&inputs.repository()?, credentials)?;
    Ok(endorse(
        &target,
        &args.digest,
        &inputs,
        signer.as_deref(),
        context.clock(),
        context.limits(),
        &*context.progress(),
    )
    .await?)
}

impl SignerArgs {
    async fn load(self, context: &Context) -> Result<Option<Box<dyn Endorser>>, CliError> {
        let services = self
            .services
            .load(|| context.client(job_http_options(&[])?))
            .map_err(no_signer)?;
        let Some(key) = self.key else {
            let token = self.identity_token_file.map(token_file);
            return Ok(match (token, services) {
                (Some(token), Some(services)) => Some(Box::new(keyless(services, token)?)),
                _ => None,
            });
        };
        let signer = load(key, self.key_password_file).await?;
        Ok(Some(match services {
            Some(services) => Box::new(Witnessed::new(Box::new(signer), services)?),
            None => Box::new(signer),
        }))
    }
}

async fn load(key: PathBuf, password: Option<PathBuf>) -> Result<KeySigner, CliError> {
    let work = move || {
        let input = Input::read(&key, MAX_KEY_FILE, Reason::NoSigner).map_err(no_signer)?;
        let password = password.as_deref().map(read_password).transpose()?;
        KeySigner::from_pem(&input.bytes, password.as_ref())
            .map_err(|error| input.blame(error.into()))
    };
    off_thread(work).await
}

fn read_password(path: &Path) -> Result<Password, CliError> {
    Ok(Password::new(
        Input::read(path, MAX_PASSWORD, Reason::NoSigner)
            .map_err(no_signer)?
            .bytes,
    ))
}

/// Whatever is wrong with the files of a signer, there is nobody to sign.
fn no_signer(error: CliError) -> CliError {
    CliError::new(Reason::NoSigner, error.message)
}
