//! `packgate keys`

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    context::Context,
    exit::CliError,
    output::Done,
    signer::{Ask, KeyArgs, PasswordArgs},
};
use crate::{core::class::Reason, signing};

const EXAMPLES: &str = "Examples:
  packgate keys generate                   writes packgate.key and packgate.pub
  packgate keys public packgate.key        prints the public key

The keys are cosign's: `cosign sign --key packgate.key` works too.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a key pair: packgate.key, encrypted with a password, and packgate.pub
    Generate {
        /// Folder for the two files
        #[arg(long, value_name = "DIR", default_value = ".")]
        out_dir: PathBuf,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Print the public key that belongs to a private one
    Public {
        /// The private key
        key: PathBuf,
        #[command(flatten)]
        password: PasswordArgs,
    },
}

pub(super) fn run(args: KeysArgs, _: &Context) -> Result<Done, CliError> {
    match args.command {
        KeysCommand::Generate { out_dir, password } => generate(&out_dir, &password),
        KeysCommand::Public { key, password } => {
            let signer = KeyArgs::new(key, password).require()?;
            let pem = signer.public_key_pem();
            Done::new(pem, "PublicKey", json!({"publicKey": pem, "hint": signer.hint()}))
        }
    }
}

fn generate(folder: &Path, password: &PasswordArgs) -> Result<Done, CliError> {
    let folder = folder.strip_prefix(".").unwrap_or(folder);
    let (private, public) = (folder.join("packgate.key"), folder.join("packgate.pub"));
    if let Some(taken) = [&private, &public].into_iter().find(|path| path.exists()) {
        return Err(CliError::invalid(format!("{} exists already and is not overwritten, choose another folder with --out-dir", taken.display())));
    }
    let pair = signing::generate(&password.get_or_ask(Ask::Twice)?)?;
    if folder != Path::new("") {
        fs::create_dir_all(folder).map_err(|e| failed(folder, &e))?;
    }
    write_new(&private, pair.private_pem.as_bytes(), 0o600)?;
    write_new(&public, pair.public_pem.as_bytes(), 0o644)?;
    let (private, public) = (private.display().to_string(), public.display().to_string());
    Done::new(format!("{private}\n{public}"), "KeyPair", json!({"privateKey": private, "publicKey": public}))
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CliError> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(|e| failed(path, &e))?;
    file.write_all(bytes).map_err(|e| failed(path, &e))
}

fn failed(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new(Reason::StorageFailed, format!("{}: {error}", path.display()))
}
