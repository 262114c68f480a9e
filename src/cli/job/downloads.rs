//! How a pack Job downloads: with the Secrets that are mounted into it, and with no others.

use std::path::{Path, PathBuf};

use super::job_files::run_blocking;
use crate::{
    cli::{
        error::CliError,
        fetch_credentials::{SecretKeys, read_secret_folder},
        in_cluster::patient_retries,
    },
    core::{
        download::{CredentialScope, DownloadMirror},
        job::{FETCH_PROXY_FOLDER, JobFetch, JobInputs},
    },
    fetch::{DownloadAccess, DownloadCredential, DownloadOptionNames, DownloadProxy},
    http::{
        AddressPolicy, ErrorAdvice, HttpClient, HttpOptions, HttpRetryPolicy, MinTransferRate,
        PrivateAddresses, address_policy::parse_networks,
    },
};

/// Clients and credentials of downloads. `secrets` is the folder that the Secrets are mounted in.
pub(super) async fn download_access(
    inputs: &JobInputs,
    secrets: Option<PathBuf>,
) -> Result<DownloadAccess, CliError> {
    let secrets = secrets.unwrap_or_else(|| PathBuf::from("/nonexistent"));
    let fetch = inputs.fetch.clone();
    // A file system may hang.
    let (proxy, keys) = run_blocking(move || read_secrets(&fetch, &secrets)).await?;
    let namespace = &inputs.bundle.namespace;
    let options = download_options(inputs)?;
    let (options, proxy) = match (&inputs.fetch.proxy_secret, proxy) {
        (Some(name), Some(keys)) => {
            let label = secret_label("spec.fetch.proxySecretRef", namespace, name);
            let proxy = DownloadProxy::from_keys(&label, &keys)?;
            (proxy.apply_to(options), Some(proxy))
        }
        _ => (options, None),
    };
    let mut credentials = Vec::new();
    for (index, (wanted, keys)) in inputs.fetch.credentials.iter().zip(&keys).enumerate() {
        let field = format!("spec.fetch.credentials[{index}]");
        let scope = CredentialScope::new(&wanted.host, wanted.path.as_deref(), wanted.plain_http)
            .map_err(|error| CliError::invalid(format!("{field}: {error}")))?;
        let label = secret_label(&format!("{field}.secretRef"), namespace, &wanted.secret);
        credentials.push(DownloadCredential::from_keys(scope, label, keys, &options)?);
    }
    Ok(DownloadAccess::anonymous(HttpClient::new(&options)?)
        .with_credentials(credentials)
        .with_mirrors(mirrors(&inputs.fetch)?)
        .with_names(
            DownloadOptionNames::PACKED_BUNDLE,
            proxy.map(|proxy| proxy.label().to_owned()),
        ))
}

/// The keys of the proxy's Secret, and those of each credential. Keys of a Secret that is not there
/// are none: it is mounted as optional, so that a message can name it.
fn read_secrets(
    fetch: &JobFetch,
    folder: &Path,
) -> Result<(Option<SecretKeys>, Vec<SecretKeys>), CliError> {
    let proxy = fetch
        .proxy_secret
        .as_ref()
        .map(|_| read_secret_folder(&folder.join(FETCH_PROXY_FOLDER), &DownloadProxy::KEYS));
    let credentials = (0..fetch.credentials.len())
        .map(|index| read_secret_folder(&folder.join(index.to_string()), &DownloadCredential::KEYS))
        .collect::<Result<_, _>>()?;
    Ok((proxy.transpose()?, credentials))
}

fn mirrors(fetch: &JobFetch) -> Result<Vec<DownloadMirror>, CliError> {
    let mirrors = fetch.mirrors.iter().enumerate();
    mirrors
        .map(|(index, mirror)| {
            DownloadMirror::new(&mirror.from, &mirror.to)
                .map_err(|error| CliError::invalid(format!("spec.fetch.mirrors[{index}]: {error}")))
        })
        .collect()
}

fn secret_label(field: &str, namespace: &str, name: &str) -> String {
    format!("{field} (Secret {namespace}/{name})")
}

/// Downloads reach private addresses only where the installation lists them.
fn download_options(inputs: &JobInputs) -> Result<HttpOptions, CliError> {
    let networks = parse_networks(&inputs.private_networks)
        .map_err(|error| CliError::invalid(error.to_string()))?;
    let private = PrivateAddresses::Listed(networks);
    Ok(HttpOptions {
        addresses: AddressPolicy::Cluster { private },
        extra_ca_pem: inputs.fetch_ca.clone().map(Into::into),
        min_transfer_rate: Some(MinTransferRate::DEFAULT),
        error_advice: ErrorAdvice::Cluster,
        retries: patient_retries(HttpRetryPolicy::PATIENT_RATE_LIMIT_BUDGET),
        ..HttpOptions::default()
    })
}
