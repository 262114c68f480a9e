//! The credential providers that the user names.

use std::{path::Path, sync::Arc, time::Duration};

use super::{error::CliError, global_args::GlobalArgs, input_file::InputFile};
use crate::{
    core::{credential_provider::parse_provider_config, reason::Reason},
    credential_providers::{CredentialProviders, ProviderRequester},
    oci::credentials::CredentialStore,
};

/// The maximum size of kubelet's file in bytes.
const MAX_CONFIG_FILE: usize = 256 << 10;
/// How long a request waits for a provider: less than for the registry, so that the message names
/// the provider.
const PROVIDER_WAIT: Duration = Duration::from_secs(50);

/// The providers of `--credential-provider-config`; `None` without it.
///
/// Errors: the file is invalid, or a program does not exist.
pub(super) fn load_credential_providers(
    global: &GlobalArgs,
) -> Result<Option<Arc<dyn CredentialStore>>, CliError> {
    let Some(path) = &global.credential_provider_config else {
        return Ok(None);
    };
    let folder = global.credential_provider_bin_dir.as_deref();
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let input = InputFile::read_limited(path, MAX_CONFIG_FILE, Reason::InvalidSpec)
        .map_err(|error| CliError::invalid(error.message))?;
    let invalid = |message: String| input.prefix_file_name(CliError::invalid(message));
    let text = std::str::from_utf8(&input.bytes).map_err(|error| invalid(error.to_string()))?;
    let providers = parse_provider_config(text).map_err(|error| invalid(error.to_string()))?;
    for provider in &providers {
        let program = provider
            .command
            .as_ref()
            .map_or_else(|| folder.join(&provider.name), Into::into);
        if !program.is_file() {
            return Err(invalid(format!(
                "the program of the credential provider {} does not exist: {}; name its directory \
                    with --credential-provider-bin-dir",
                provider.name,
                program.display()
            )));
        }
    }
    let providers = CredentialProviders::new(providers, folder, None, PROVIDER_WAIT);
    Ok(Some(providers.for_requester(ProviderRequester::default())))
}
