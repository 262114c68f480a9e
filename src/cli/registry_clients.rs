//! The client of each registry, with or without TLS.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    error::CliError,
    plain_http::{PlainHttp, canonical_registry_host},
};
use crate::{
    core::{job::JobRegistry, reference::ImageRepository},
    fetch::RepositoryOpener,
    http::{HttpClient, HttpOptions},
    oci::{
        ContentSource, OciError,
        credentials::CredentialStore,
        remote::{RegistryOptions, RegistryTarget},
    },
};

/// The settings of each registry. Clones share connections.
#[derive(Clone)]
pub(super) struct RegistryClients {
    others: RegistryClient,
    hosts: Arc<BTreeMap<String, RegistryClient>>,
    plain: PlainHttp,
}

/// The client of one registry.
#[derive(Clone)]
struct RegistryClient {
    http: HttpClient,
    options: RegistryOptions,
}

impl RegistryClients {
    /// Each registry with its own settings. A CA is trusted only for the host that it is listed
    /// with.
    ///
    /// Errors: an invalid or duplicate host, certificates that cannot be parsed.
    pub(super) fn new(registries: &[JobRegistry], options: &HttpOptions) -> Result<Self, CliError> {
        let mut all = Self::from_shared_client(HttpClient::new(options)?, PlainHttp::Never);
        let mut hosts = BTreeMap::new();
        for JobRegistry {
            host,
            plain_http,
            ca,
        } in registries
        {
            let http = match ca {
                Some(pem) => client_trusting(pem, host, options)?,
                None => all.others.http.clone(),
            };
            let reach = RegistryClient {
                http,
                options: RegistryOptions {
                    plain_http: *plain_http,
                    ..RegistryOptions::default()
                },
            };
            if hosts
                .insert(canonical_registry_host(host)?, reach)
                .is_some()
            {
                return Err(CliError::invalid(format!(
                    "registry {host} is listed twice"
                )));
            }
        }
        all.hosts = Arc::new(hosts);
        Ok(all)
    }

    /// All registries with one client, except for TLS.
    pub(super) fn from_shared_client(http: HttpClient, plain: PlainHttp) -> Self {
        Self {
            others: RegistryClient {
                http,
                options: RegistryOptions::default(),
            },
            hosts: Arc::default(),
            plain,
        }
    }

    /// A repository. Sends nothing yet.
    pub(super) fn open_target(
        &self,
        repository: &ImageRepository,
        credentials: Arc<dyn CredentialStore>,
    ) -> Result<RegistryTarget, CliError> {
        Ok(self.remote_target(repository, credentials)?)
    }

    /// All repositories, with these credentials.
    pub(super) fn with_credentials(
        &self,
        credentials: Arc<dyn CredentialStore>,
    ) -> Arc<dyn RepositoryOpener> {
        Arc::new(CredentialedRepositoryOpener {
            registries: self.clone(),
            credentials,
        })
    }

    fn remote_target(
        &self,
        repository: &ImageRepository,
        credentials: Arc<dyn CredentialStore>,
    ) -> Result<RegistryTarget, OciError> {
        let RegistryClient { http, options } = self.client_for_host(repository.host());
        let plain_http = options.plain_http || self.plain.allows_host(repository.host())?;
        RegistryTarget::new(
            repository.clone(),
            http,
            credentials,
            RegistryOptions {
                plain_http,
                ..*options
            },
        )
    }

    fn client_for_host(&self, host: &str) -> &RegistryClient {
        self.hosts.get(host).unwrap_or(&self.others)
    }
}

/// Registry clients with credentials.
struct CredentialedRepositoryOpener {
    registries: RegistryClients,
    credentials: Arc<dyn CredentialStore>,
}

impl RepositoryOpener for CredentialedRepositoryOpener {
    fn open_repository(
        &self,
        repository: &ImageRepository,
    ) -> Result<Arc<dyn ContentSource>, OciError> {
        Ok(Arc::new(self.registries.remote_target(
            repository,
            Arc::clone(&self.credentials),
        )?))
    }
}

fn client_trusting(pem: &str, host: &str, options: &HttpOptions) -> Result<HttpClient, CliError> {
    let options = HttpOptions {
        extra_ca_pem: Some(pem.to_owned().into()),
        ..options.clone()
    };
    HttpClient::new(&options).map_err(|error| {
        let CliError { reason, message } = error.into();
        CliError::new(reason, format!("registry {host}: {message}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{
            limits::InputLimits,
            reason::{ClassifiedError, Reason},
            reference::TagOrDigest,
        },
        oci::credentials::AnonymousCredentials,
    };

    fn registry(host: &str) -> JobRegistry {
        JobRegistry {
            host: host.into(),
            plain_http: true,
            ca: None,
        }
    }

    fn registries(list: &[JobRegistry]) -> Result<RegistryClients, Reason> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let options = super::super::in_cluster::cluster_http_options(&[]).expect("valid");
        RegistryClients::new(list, &options).map_err(|e| e.reason)
    }

    #[test]
    fn settings_are_of_one_host() {
        let listed = [
            "R.example.com:5000",
            "registry-1.docker.io",
            "one:443",
            "[2001:0db8::1]:05000",
        ]
        .map(registry);
        let registries = registries(&listed).expect("valid");
        for (repository, plain) in [
            ("r.example.com:5000/a", true),
            ("r.example.com/a", false),
            ("docker.io/a", true),
            ("one:443/a", true),
            ("two.example.com/a", false),
            ("[2001:db8::1]:5000/a", true),
        ] {
            let repository: ImageRepository = repository.parse().expect(repository);
            assert_eq!(
                registries
                    .client_for_host(repository.host())
                    .options
                    .plain_http,
                plain,
                "{repository}"
            );
        }
    }

    #[test]
    fn what_is_no_host_or_no_certificate_is_refused() {
        for list in [
            vec![registry("")],
            vec![registry("https://r.example.com")],
            vec![registry("r.example.com/a")],
            vec![registry("registry")],
            vec![registry("r.example.com"), registry("R.example.com:443")],
            vec![JobRegistry {
                ca: Some("no certificate".into()),
                ..registry("r.example.com")
            }],
        ] {
            assert_eq!(
                registries(&list).map(|_| ()),
                Err(Reason::InvalidSpec),
                "{list:?}"
            );
        }
    }

    #[tokio::test]
    async fn nothing_reaches_the_machine_itself() {
        let registries = registries(&[registry("127.0.0.1:1")]).expect("valid");
        for host in ["127.0.0.1:1", "localhost:1", "169.254.169.254"] {
            let repository: ImageRepository = format!("{host}/a/b").parse().expect(host);
            let target = registries
                .with_credentials(Arc::new(AnonymousCredentials))
                .open_repository(&repository)
                .expect("nothing is sent yet");
            let error = target
                .resolve_manifest(
                    &TagOrDigest::Tag("v1".parse().expect("a tag")),
                    &InputLimits::DEFAULT,
                )
                .await
                .expect_err(host);
            assert_eq!(error.reason(), Reason::AddressNotAllowed, "{host}: {error}");
        }
    }
}
