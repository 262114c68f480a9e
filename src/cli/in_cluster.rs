//! Shared code of the subcommands that run in a cluster.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinError,
};
use tokio_util::sync::CancellationToken;

use super::{
    error::CliError, input_file::InputFile, installation_credentials::InstallationCredentials,
    registry_clients,
};
use crate::{
    api::installation::{InstallationConfig, MAX_CONFIG},
    core::{job, reason::Reason, reference::ImageRepository},
    credential_providers::{CredentialProviders, ProviderRequester},
    http::{
        AddressPolicy, ConnectionErrorDetail, ErrorAdvice, HttpClient, HttpOptions,
        HttpRetryPolicy, MinTransferRate, PrivateAddresses, address_policy::parse_networks,
    },
    oci::credentials::{CredentialChain, CredentialStore},
    service::{
        registries::{
            OpenedRepository, RepositoryOpenError, RepositoryRequester, TenantRepositoryOpener,
            combined_credentials_digest, named_credentials,
        },
        renewable_lookup::RenewableLookups,
        trust_root::TrustSource,
    },
    trust::TufSource,
};

/// The chart's values, or all defaults.
pub(super) fn read_config(path: Option<&Path>) -> Result<InstallationConfig, CliError> {
    let Some(path) = path else {
        return Ok(InstallationConfig::default());
    };
    let input = InputFile::read_limited(path, MAX_CONFIG, Reason::InvalidSpec)?;
    InstallationConfig::parse(&input.bytes).map_err(|error| input.prefix_file_name(error.into()))
}

/// A client for the API server.
pub(super) async fn kube_client() -> Result<kube::Client, CliError> {
    let failed = |error| {
        CliError::new(
            Reason::InvalidSpec,
            format!(
                "cannot connect to the API server: {error}; run in a cluster or set KUBECONFIG"
            ),
        )
    };
    kube::Client::try_default().await.map_err(failed)
}

/// The error of a server that ended unexpectedly.
pub(super) fn server_ended_error(
    address: SocketAddr,
    ended: Result<std::io::Result<()>, JoinError>,
) -> CliError {
    let cause = match ended {
        Ok(Ok(())) => "the server stopped".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    CliError::invalid(format!(
        "cannot serve on {address}: {cause}; choose another address"
    ))
}

/// Cancelled by SIGTERM, as Kubernetes sends it, and by SIGINT.
pub(super) fn stop_on_signal() -> Result<CancellationToken, CliError> {
    let listen = |kind| {
        signal(kind)
            .map_err(|error| CliError::internal(format!("cannot install signal handlers: {error}")))
    };
    let (mut term, mut int) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
    );
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => (),
            _ = int.recv() => (),
        }
        cancel.cancel();
    });
    Ok(stop)
}

/// HTTP options for registries, from inside of a cluster: never loopback, link-local and similar
/// addresses; private addresses in these networks, or all private addresses if there is none.
///
/// Errors reveal nothing about the network: tenants name registries, and must not scan it.
pub(super) fn cluster_http_options(private_networks: &[String]) -> Result<HttpOptions, CliError> {
    let networks = parse_networks(private_networks)
        .map_err(|error| CliError::invalid(format!("network.registryPrivateCIDRs: {error}")))?;
    let private = if networks.is_empty() {
        PrivateAddresses::Allowed
    } else {
        PrivateAddresses::Listed(networks)
    };
    Ok(HttpOptions {
        addresses: AddressPolicy::Cluster { private },
        connection_error_detail: ConnectionErrorDetail::OutcomeOnly,
        error_advice: ErrorAdvice::Cluster,
        ..HttpOptions::default()
    })
}

/// The same for the Jobs of a run: they read whole bundles, from servers that must not delay them
/// for hours. Nobody waits for a Job, so it waits for servers that limit the rate of requests.
pub(super) fn job_http_options(private_networks: &[String]) -> Result<HttpOptions, CliError> {
    Ok(HttpOptions {
        min_transfer_rate: Some(MinTransferRate::DEFAULT),
        retries: patient_retries(HttpRetryPolicy::PATIENT_RATE_LIMIT_BUDGET),
        ..cluster_http_options(private_networks)?
    })
}

/// Retries that wait this long in all for a server that limits the rate of requests.
pub(super) fn patient_retries(rate_limit_budget: Duration) -> HttpRetryPolicy {
    HttpRetryPolicy {
        rate_limit_budget,
        ..HttpRetryPolicy::default()
    }
}

/// The same for admission, with short timeouts: a slow response would be too late anyway.
pub(super) fn admission_http_options(addresses: AddressPolicy) -> HttpOptions {
    HttpOptions {
        addresses,
        connection_error_detail: ConnectionErrorDetail::OutcomeOnly,
        error_advice: ErrorAdvice::Cluster,
        connect_timeout: Duration::from_secs(2),
        idle_timeout: Duration::from_secs(5),
        // other than the deadline: the error message would vary otherwise
        response_timeout: Duration::from_secs(6),
        retries: HttpRetryPolicy {
            attempts: 2,
            longest_wait: Duration::from_secs(1),
            budget: Duration::from_secs(1),
            ..HttpRetryPolicy::default()
        },
        ..HttpOptions::default()
    }
}

/// Opens registries with the credentials of the request, then with the installation's, then with
/// those of credential providers.
struct ClusterRepositoryOpener {
    registries: registry_clients::RegistryClients,
    installation: InstallationCredentials,
    providers: CredentialProviders,
}

/// Registries to read from.
pub(super) fn open_registries(
    registries: &[job::JobRegistry],
    options: &HttpOptions,
    installation: InstallationCredentials,
    providers: CredentialProviders,
) -> Result<Arc<dyn TenantRepositoryOpener>, String> {
    let registries = registry_clients::RegistryClients::new(registries, options)
        .map_err(|error| error.message)?;
    Ok(Arc::new(ClusterRepositoryOpener {
        registries,
        installation,
        providers,
    }))
}

/// TUF repositories. One on the host of a registry uses a client with the registry's CAs.
pub(super) fn open_trust_source(
    registries: &[job::JobRegistry],
    options: &HttpOptions,
) -> Result<Arc<dyn TrustSource>, String> {
    let client =
        |options: &HttpOptions| HttpClient::new(options).map_err(|error| error.to_string());
    let mut source = TufSource::new(client(options)?);
    for registry in registries {
        if let Some(pem) = &registry.ca {
            let options = HttpOptions {
                extra_ca_pem: Some(pem.clone().into()),
                ..options.clone()
            };
            source = source.with_host(&registry.host, client(&options)?);
        }
    }
    Ok(Arc::new(source))
}

#[async_trait]
impl TenantRepositoryOpener for ClusterRepositoryOpener {
    async fn open_repository(
        &self,
        repository: &ImageRepository,
        requester: &RepositoryRequester<'_>,
    ) -> Result<OpenedRepository, RepositoryOpenError> {
        let named = Arc::new(named_credentials(requester.configs));
        let installation = Arc::new(self.installation.clone());
        let providers = self.providers.for_requester(ProviderRequester {
            namespace: requester.namespace.to_owned(),
            service_account: requester.service_account.map(ToOwned::to_owned),
        });
        let store = CredentialChain::new(vec![named, installation, providers]);
        // Looked up once: what is read is remembered for these credentials, and for no newer ones.
        let repositories = self.registries.repositories_read(repository);
        let lookups = RenewableLookups::look_up(Arc::new(store), repositories).await;
        let (credentials, renewal) = (combined_credentials_digest(&lookups), lookups.renewal());
        let lookups: Arc<dyn CredentialStore> = Arc::new(lookups);
        let source = self.registries.open_source(repository, &lookups)?;
        Ok(OpenedRepository {
            source,
            credentials,
            renewal,
        })
    }
}
