//! `packgate keys`

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{
    error::CliError,
    output::CommandResult,
    signer::{KeyArgs, PasswordArgs, PasswordPrompt},
};
use crate::{
    core::{reason::Reason, verify::VerificationKey},
    signing::{self, SigningAlgorithm},
};

const EXAMPLES: &str = "Examples:
  packgate keys generate                        writes packgate.key and packgate.pub
  packgate keys generate --algorithm RSA-3072   the same, with another algorithm
  packgate keys public packgate.key             prints the public key
  packgate keys public my-hsm://slot-1/release  prints the public key held by the program \
  sigstore-kms-my-hsm keeps

The keys are cosign's: `cosign sign --key packgate.key` works too, with all but Ed25519.";

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
        /// Kind of the key; hash and padding follow from it
        #[arg(long, value_enum, ignore_case = true, default_value_t = AlgorithmArg::EcdsaP256)]
        algorithm: AlgorithmArg,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Print the public key that belongs to a private one
    Public {
        /// The private key: a PEM file, or NAME://KEY for the plug-in sigstore-kms-NAME
        key: PathBuf,
        #[command(flatten)]
        password: PasswordArgs,
    },
}

/// Kinds of keys. The second names are Sigstore's.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum AlgorithmArg {
    #[value(name = "ECDSA-P256", alias = "ecdsa-sha2-256-nistp256")]
    EcdsaP256,
    #[value(name = "ECDSA-P384", alias = "ecdsa-sha2-384-nistp384")]
    EcdsaP384,
    #[value(name = "ECDSA-P521", alias = "ecdsa-sha2-512-nistp521")]
    EcdsaP521,
    #[value(name = "RSA-2048", alias = "rsa-sign-pkcs1-2048-sha256")]
    Rsa2048,
    #[value(name = "RSA-3072", alias = "rsa-sign-pkcs1-3072-sha256")]
    Rsa3072,
    #[value(name = "RSA-4096", alias = "rsa-sign-pkcs1-4096-sha256")]
    Rsa4096,
    #[value(name = "Ed25519")]
    Ed25519,
}

impl From<AlgorithmArg> for SigningAlgorithm {
    fn from(arg: AlgorithmArg) -> Self {
        match arg {
            AlgorithmArg::EcdsaP256 => Self::EcdsaP256,
            AlgorithmArg::EcdsaP384 => Self::EcdsaP384,
            AlgorithmArg::EcdsaP521 => Self::EcdsaP521,
            AlgorithmArg::Rsa2048 => Self::Rsa2048,
            AlgorithmArg::Rsa3072 => Self::Rsa3072,
            AlgorithmArg::Rsa4096 => Self::Rsa4096,
            AlgorithmArg::Ed25519 => Self::Ed25519,
        }
    }
}

pub(super) async fn run_keys(args: KeysArgs) -> Result<CommandResult, CliError> {
    match args.command {
        KeysCommand::Generate {
            out_dir,
            algorithm,
            password,
        } => generate_key_pair(&out_dir, algorithm.into(), &password),
        KeysCommand::Public { key, password } => {
            let signer = KeyArgs::new(key, password).require_signer().await?;
            let pem = signer.public_key_pem();
            let algorithm = VerificationKey::from_pem(pem)?.algorithm().as_str();
            CommandResult::new(
                pem,
                "PublicKey",
                json!({"publicKey": pem, "hint": signer.key_hint(), "algorithm": algorithm}),
            )
        }
    }
}

fn generate_key_pair(
    folder: &Path,
    algorithm: SigningAlgorithm,
    password: &PasswordArgs,
) -> Result<CommandResult, CliError> {
    let folder = folder.strip_prefix(".").unwrap_or(folder);
    let (private, public) = (folder.join("packgate.key"), folder.join("packgate.pub"));
    if let Some(taken) = [&private, &public].into_iter().find(|path| path.exists()) {
        return Err(CliError::invalid(format!(
            "{} exists already and is not overwritten, choose another folder with --out-dir",
            taken.display()
        )));
    }
    let pair = signing::generate_key(algorithm, &password.get_or_prompt(PasswordPrompt::Twice)?)?;
    if folder != Path::new("") {
        fs::create_dir_all(folder).map_err(|e| storage_error(folder, &e))?;
    }
    write_new(&private, pair.private_pem.as_bytes(), 0o600)?;
    write_new(&public, pair.public_pem.as_bytes(), 0o644)?;
    let (private, public) = (private.display().to_string(), public.display().to_string());
    CommandResult::new(
        format!("{private}\n{public}"),
        "KeyPair",
        json!({"privateKey": private, "publicKey": public}),
    )
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CliError> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|e| storage_error(path, &e))?;
    file.write_all(bytes).map_err(|e| storage_error(path, &e))
}

fn storage_error(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new(
        Reason::StorageFailed,
        format!("{}: {error}", path.display()),
    )
}
