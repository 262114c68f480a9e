//! `packgate job sign`

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Ends, Snapshot, credentials, off_thread};
use crate::{
    cli::{context::Context, exit::CliError, in_cluster::http_options, lockfile::Input, registries::Registries},
    core::{
        class::Reason,
        digest::Digest,
        job::{SigningMode, Success},
    },
    service::endorse::endorse,
    signing::{KeySigner, MAX_KEY_FILE, Password, Signer},
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
    /// Private key that signs: cosign-encrypted, PKCS#8, SEC 1 or PKCS#1, in PEM
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// File with the password of the key, every byte of it
    #[arg(long, value_name = "FILE", requires = "key")]
    key_password_file: Option<PathBuf>,
}

pub(super) async fn run(args: SignJobArgs, context: &Context) -> Result<Success, CliError> {
    let Snapshot { inputs, lock: _ } = Snapshot::read(&args.ends.inputs).await?;
    let signer = match (inputs.signing.mode, args.key) {
        (SigningMode::None, _) | (_, None) => None,
        (SigningMode::Platform | SigningMode::Namespace, Some(key)) => Some(load(key, args.key_password_file).await?),
    };
    let credentials = credentials(context.global().registry_config.as_deref()).await?;
    let target = Registries::new(&inputs.registries, &http_options())?.open(&inputs.repository()?, credentials)?;
    let signer = signer.as_ref().map(|signer| -> &dyn Signer { signer });
    Ok(endorse(&target, &args.digest, &inputs, signer, context.clock(), context.limits(), &*context.progress()).await?)
}

async fn load(key: PathBuf, password: Option<PathBuf>) -> Result<KeySigner, CliError> {
    let work = move || {
        let input = Input::read(&key, MAX_KEY_FILE, Reason::NoSigner).map_err(no_signer)?;
        let password = password.as_deref().map(read_password).transpose()?;
        KeySigner::from_pem(&input.bytes, password.as_ref()).map_err(|error| input.blame(error.into()))
    };
    off_thread(work).await
}

fn read_password(path: &Path) -> Result<Password, CliError> {
    Ok(Password::new(Input::read(path, MAX_PASSWORD, Reason::NoSigner).map_err(no_signer)?.bytes))
}

/// Whatever is wrong with the files of a key, there is nobody to sign.
fn no_signer(error: CliError) -> CliError {
    CliError::new(Reason::NoSigner, error.message)
}
