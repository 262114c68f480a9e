//! The certificate of a key.

use std::path::PathBuf;

use clap::Args;

use super::{error::CliError, input_file::InputFile};
use crate::{
    core::reason::Reason,
    signing::{CertificateSigner, MAX_CHAIN, Signer},
};

/// Which certificate goes with the key.
#[derive(Debug, Default, Args)]
pub(super) struct CertificateArgs {
    /// Certificate for the key, in PEM: the signature carries it, and whoever trusts its authority
    /// needs no key. The first one of the file is taken; its issuers belong into what
    /// --certificate-authority names
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
}

impl CertificateArgs {
    pub(super) const fn is_given(&self) -> bool {
        self.certificate.is_some()
    }

    /// The signer with its certificate, if one was given.
    pub(super) fn attach_certificate(
        &self,
        signer: Box<dyn Signer>,
    ) -> Result<Box<dyn Signer>, CliError> {
        let Some(path) = &self.certificate else {
            return Ok(signer);
        };
        let input = InputFile::read_limited(path, MAX_CHAIN, Reason::NoSigner)?;
        let certified = CertificateSigner::new(signer, &input.bytes)
            .map_err(|error| input.prefix_file_name(error.into()))?;
        Ok(Box::new(certified))
    }
}
