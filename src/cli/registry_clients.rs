//! The client of each registry, with or without TLS.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    error::CliError,
    plain_http::{PlainHttp, canonical_registry_host},
    registry_mirrors::{RegistryMirrorsByHost, parse_registry_mirrors},
    token_services::{TokenServicesByHost, parse_token_services},
};
use crate::{
    core::{
        job::JobRegistry,
        reference::{ImageRepository, RegistryMirror},
    },
    fetch::RepositoryOpener,
    http::{HttpClient, HttpOptions},
    oci::{
        ContentSource, HostAvailability, MirroredHost, MirroredRepository, OciError,
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
    token_services: Arc<TokenServicesByHost>,
    mirrors: Arc<RegistryMirrorsByHost>,
    availability: Arc<Mutex<BTreeMap<String, HostAvailability>>>,
    /// How long a mirror, or a registry with mirrors, is waited for.
    patience: Duration,
}

/// The client of one registry.
#[derive(Clone)]
struct RegistryClient {
    http: HttpClient,
    options: RegistryOptions,
    mirrors: Vec<RegistryMirror>,
}

impl RegistryClients {
    /// Each registry with its own settings. A CA is trusted only for the host that it is listed
    /// with.
    ///
    /// Errors: an invalid or duplicate host, certificates that cannot be parsed.
    pub(super) fn new(registries: &[JobRegistry], options: &HttpOptions) -> Result<Self, CliError> {
        let mut all = Self::from_shared_client(HttpClient::new(options)?, options);
        let mut hosts = BTreeMap::new();
        for JobRegistry {
            host,
            plain_http,
            ca,
            token_services,
            mirrors,
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
                    token_services: parse_token_services(host, token_services)?,
                    ..RegistryOptions::default()
                },
                mirrors: parse_registry_mirrors(host, mirrors)?,
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

    /// All registries with one client, which was made with these options.
    pub(super) fn from_shared_client(http: HttpClient, options: &HttpOptions) -> Self {
        Self {
            others: RegistryClient {
                http,
                options: RegistryOptions::default(),
                mirrors: Vec::new(),
            },
            hosts: Arc::default(),
            plain: PlainHttp::Never,
            token_services: Arc::default(),
            mirrors: Arc::default(),
            availability: Arc::default(),
            patience: options.response_timeout / 3,
        }
    }

    /// The same with what the command line says about some registries.
    #[must_use]
    pub(super) fn with_arguments(
        self,
        plain: PlainHttp,
        token_services: TokenServicesByHost,
        mirrors: RegistryMirrorsByHost,
    ) -> Self {
        Self {
            plain,
            token_services: Arc::new(token_services),
            mirrors: Arc::new(mirrors),
            ..self
        }
    }

    /// A repository, to write to: of the registry itself. Sends nothing yet.
    pub(super) fn open_target(
        &self,
        repository: &ImageRepository,
        credentials: Arc<dyn CredentialStore>,
    ) -> Result<RegistryTarget, CliError> {
        Ok(self.remote_target(repository, credentials)?)
    }

    /// A repository, to read from: through the registry's mirrors, if it has any. Each host gets the
    /// credentials for its own name. Sends nothing yet.
    pub(super) fn open_source(
        &self,
        repository: &ImageRepository,
        credentials: &Arc<dyn CredentialStore>,
    ) -> Result<Arc<dyn ContentSource>, OciError> {
        let target = self.remote_target(repository, Arc::clone(credentials))?;
        let mirrors = self.mirrored(repository);
        if mirrors.is_empty() {
            return Ok(Arc::new(target));
        }
        let opened = mirrors.into_iter().map(|(mirror, repository)| {
            let credentials = Arc::clone(credentials);
            let target = self.open_with(&repository, credentials, mirror.plain_http())?;
            Ok(self.known_host(repository.host(), target))
        });
        let opened = opened.collect::<Result<_, OciError>>()?;
        let registry = self.known_host(repository.host(), target);
        let mirrored = MirroredRepository::new(registry, opened, self.patience);
        Ok(Arc::new(mirrored))
    }

    /// The repositories that [`Self::open_source`] asks for this one, itself first.
    pub(super) fn repositories_read(&self, repository: &ImageRepository) -> Vec<ImageRepository> {
        let mirrors = self.mirrored(repository).into_iter();
        let names = mirrors.map(|(_, repository)| repository);
        std::iter::once(repository.clone()).chain(names).collect()
    }

    /// The mirrors of a repository, with its name there. One in which the name would be too long
    /// has no such repository.
    fn mirrored(&self, repository: &ImageRepository) -> Vec<(&RegistryMirror, ImageRepository)> {
        let host = repository.host();
        let configured = &self.client_for_host(host).mirrors;
        let mirrors = configured.iter().chain(self.mirrors.for_host(host));
        mirrors
            .filter_map(|mirror| Some((mirror, mirror.mirrored_repository(repository).ok()?)))
            .collect()
    }

    fn known_host(&self, host: &str, target: RegistryTarget) -> MirroredHost {
        let mut known = self
            .availability
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        MirroredHost {
            source: Arc::new(target),
            availability: known.entry(host.to_owned()).or_default().clone(),
        }
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
        let of_host = &self.client_for_host(repository.host()).options;
        let plain_http = of_host.plain_http || self.plain.allows_host(repository.host())?;
        self.open_with(repository, credentials, plain_http)
    }

    fn open_with(
        &self,
        repository: &ImageRepository,
        credentials: Arc<dyn CredentialStore>,
        plain_http: bool,
    ) -> Result<RegistryTarget, OciError> {
        let RegistryClient { http, options, .. } = self.client_for_host(repository.host());
        let mut token_services = options.token_services.clone();
        token_services.extend(self.token_services.for_host(repository.host()));
        RegistryTarget::new(
            repository.clone(),
            http,
            credentials,
            RegistryOptions {
                plain_http,
                token_services,
                limits: options.limits,
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
        self.registries.open_source(repository, &self.credentials)
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
            token_services: Vec::new(),
            mirrors: Vec::new(),
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
    fn a_repository_is_read_from_the_mirrors_of_its_registry() {
        let mirrored = JobRegistry {
            mirrors: vec![
                "https://m.example.com/hub".into(),
                "http://n.example.com:5000".into(),
            ],
            ..registry("r.example.com")
        };
        let registries = registries(&[mirrored, registry("m.example.com")]).expect("valid");
        for (repository, read) in [
            (
                "r.example.com/a/b",
                &[
                    "r.example.com/a/b",
                    "m.example.com/hub/a/b",
                    "n.example.com:5000/a/b",
                ][..],
            ),
            ("m.example.com/a", &["m.example.com/a"]),
        ] {
            let repository: ImageRepository = repository.parse().expect(repository);
            let found = registries.repositories_read(&repository);
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, read);
        }
        let long: ImageRepository = format!("r.example.com/{}", "a".repeat(238))
            .parse()
            .expect("valid");
        let read = registries.repositories_read(&long);
        assert_eq!(read.len(), 1, "its name is too long elsewhere");
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
            vec![JobRegistry {
                token_services: vec!["ftp://auth.example.org".into()],
                ..registry("r.example.com")
            }],
            vec![JobRegistry {
                mirrors: vec!["mirror.example.com".into()],
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
