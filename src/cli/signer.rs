//! Loads the signer in the arguments.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{error::CliError, input_file::InputFile};
use crate::{
    clock::{Clock, SystemClock},
    core::reason::Reason,
    signing::{
        KeySigner, MAX_KEY_FILE, Password, Signer, is_encrypted,
        kms::{KeyReference, KmsSigner},
    },
};

/// Which key signs.
#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    /// Private key that signs: a PEM file (cosign-encrypted, PKCS#8, SEC 1 or PKCS#1), or
    /// NAME://KEY for the plug-in sigstore-kms-NAME
    #[arg(long, value_name = "FILE|NAME://KEY")]
    key: Option<PathBuf>,
    #[command(flatten)]
    password: PasswordArgs,
}

/// In which form a signature is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SignatureFormatArg {
    #[value(name = "Bundle")]
    Bundle,
    #[value(name = "Legacy")]
    Legacy,
}

/// The password of a key.
#[derive(Clone, Args)]
pub(super) struct PasswordArgs {
    /// Password of the key; asked for on a terminal if it is needed and not set
    #[arg(
        long = "key-password",
        hide = true,
        env = "COSIGN_PASSWORD",
        hide_env_values = true
    )]
    password: Option<String>,
}

impl std::fmt::Debug for PasswordArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordArgs")
    }
}

impl KeyArgs {
    /// This key, with this password.
    pub(super) const fn new(key: PathBuf, password: PasswordArgs) -> Self {
        Self {
            key: Some(key),
            password,
        }
    }

    /// The signer, if one was given.
    pub(super) async fn load_signer(&self) -> Result<Option<Box<dyn Signer>>, CliError> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        Ok(Some(match load_kms_signer(key).await? {
            Some(signer) => Box::new(signer),
            None => Box::new(self.read_key_file(key)?),
        }))
    }

    /// The signer; an error if none was given.
    pub(super) async fn require_signer(&self) -> Result<Box<dyn Signer>, CliError> {
        self.load_signer().await?.ok_or_else(|| {
            CliError::new(
                Reason::NoSigner,
                "no key was given, name one with --key; packgate keys generate makes one",
            )
        })
    }

    fn read_key_file(&self, path: &Path) -> Result<KeySigner, CliError> {
        let input = InputFile::read_limited(path, MAX_KEY_FILE, Reason::NoSigner)?;
        let load = || {
            let password = if is_encrypted(&input.bytes)? {
                Some(self.password.get_or_prompt(PasswordPrompt::Once)?)
            } else {
                None
            };
            Ok::<_, CliError>(KeySigner::from_pem(&input.bytes, password.as_ref())?)
        };
        load().map_err(|error| input.prefix_file_name(error))
    }
}

/// The key of a plug-in, if the argument is a key reference.
pub(super) async fn load_kms_signer(key: &Path) -> Result<Option<KmsSigner>, CliError> {
    let Some(text) = key
        .to_str()
        .filter(|text| KeyReference::is_key_reference(text))
    else {
        return Ok(None);
    };
    Ok(Some(
        KmsSigner::load_key(text.parse()?, || SystemClock.now()).await?,
    ))
}

/// How a password is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PasswordPrompt {
    Once,
    Twice,
}

impl PasswordArgs {
    /// The password from the environment, or else from the terminal.
    pub(super) fn get_or_prompt(&self, ask: PasswordPrompt) -> Result<Password, CliError> {
        if let Some(password) = &self.password {
            return Ok(Password::new(password.as_bytes()));
        }
        let no_terminal = |_| {
            CliError::new(
                Reason::NoSigner,
                "the key's password is needed, set COSIGN_PASSWORD (it may be empty) or run on a \
                    terminal",
            )
        };
        let first =
            rpassword::prompt_password("Password of the private key: ").map_err(no_terminal)?;
        if ask == PasswordPrompt::Twice
            && rpassword::prompt_password("The same again: ").map_err(no_terminal)? != first
        {
            return Err(CliError::invalid("the two passwords differ"));
        }
        Ok(Password::new(first))
    }
}
