//! The validated form of `spec.fetch`.

use super::{
    FetchCredentialSpec, FetchMirrorSpec, FetchSpec,
    packing_request::{PackedBundleSpecError, invalid_field},
};
use crate::core::{
    download::{CredentialScope, DownloadMirror},
    job::{JobFetch, JobFetchCredential, JobFetchMirror},
};

/// Credentials, proxy and mirrors, which are parsed as the Job will parse them.
pub(super) fn convert_fetch(fetch: &FetchSpec) -> Result<JobFetch, PackedBundleSpecError> {
    let FetchSpec {
        credentials,
        ca_ref: _,
        proxy_secret_ref,
        mirrors,
    } = fetch;
    Ok(JobFetch {
        credentials: credentials
            .iter()
            .enumerate()
            .map(|(index, spec)| convert_credential(index, spec))
            .collect::<Result<_, _>>()?,
        proxy_secret: proxy_secret_ref.as_ref().map(|secret| secret.name.clone()),
        mirrors: mirrors
            .iter()
            .enumerate()
            .map(|(index, spec)| convert_mirror(index, spec))
            .collect::<Result<_, _>>()?,
    })
}

fn convert_credential(
    index: usize,
    spec: &FetchCredentialSpec,
) -> Result<JobFetchCredential, PackedBundleSpecError> {
    let FetchCredentialSpec {
        host,
        path,
        plain_http,
        secret_ref,
    } = spec;
    CredentialScope::new(host, path.as_deref(), *plain_http)
        .map_err(|error| invalid_field(&format!("spec.fetch.credentials[{index}]"), &error))?;
    Ok(JobFetchCredential {
        host: host.clone(),
        path: path.clone(),
        plain_http: *plain_http,
        secret: secret_ref.name.clone(),
    })
}

fn convert_mirror(
    index: usize,
    spec: &FetchMirrorSpec,
) -> Result<JobFetchMirror, PackedBundleSpecError> {
    let FetchMirrorSpec { from, to } = spec;
    DownloadMirror::new(from, to)
        .map_err(|error| invalid_field(&format!("spec.fetch.mirrors[{index}]"), &error))?;
    Ok(JobFetchMirror {
        from: from.clone(),
        to: to.clone(),
    })
}
