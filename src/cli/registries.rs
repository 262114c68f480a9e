//! How each registry is reached: which client, with or without TLS.

use std::{collections::BTreeMap, sync::Arc};

use super::{exit::CliError, plain_http::PlainHttp};
use crate::{
    core::{
        job::Registry,
        reference::{Repository, canonical_host},
    },
    fetch::Repositories,
    http::{HttpClient, HttpOptions},
    oci::{
        OciError, Source,
        auth::CredentialStore,
        remote::{RemoteOptions, RemoteTarget},
    },
};

/// How each registry is reached. Clones share their connections.
#[derive(Clone)]
pub(super) struct Registries {
    others: Reach,
    hosts: Arc<BTreeMap<String, Reach>>,
    plain: PlainHttp,
}

/// How one registry is reached.
#[derive(Clone)]
struct Reach {
    http: HttpClient,
    options: RemoteOptions,
}

impl Registries {
    /// Each in its own way. A certificate authority is trusted for the host that it is listed with,
    /// and for no other.
    ///
    /// Errors: a host that is none or is listed twice, certificates that cannot be read.
    pub(super) fn new(registries: &[Registry], options: &HttpOptions) -> Result<Self, CliError> {
        let mut all = Self::alike(HttpClient::new(options)?, PlainHttp::Never);
        let mut hosts = BTreeMap::new();
        for Registry {
            host,
            plain_http,
            ca,
        } in registries
        {
            let http = match ca {
                Some(pem) => client_trusting(pem, host, options)?,
                None => all.others.http.clone(),
            };
            let reach = Reach {
                http,
                options: RemoteOptions {
                    plain_http: *plain_http,
                    ..RemoteOptions::default()
                },
            };
            if hosts.insert(canonical(host)?, reach).is_some() {
                return Err(CliError::invalid(format!(
                    "registry {host} is listed twice"
                )));
            }
        }
        all.hosts = Arc::new(hosts);
        Ok(all)
    }

    /// All of them in the same way, but for TLS.
    pub(super) fn alike(http: HttpClient, plain: PlainHttp) -> Self {
        Self {
            others: Reach {
                http,
                options: RemoteOptions::default(),
            },
            hosts: Arc::default(),
            plain,
        }
    }

    /// A repository. Sends nothing yet.
    pub(super) fn open(
        &self,
        repository: &Repository,
        credentials: Arc<dyn CredentialStore>,
    ) -> Result<RemoteTarget, CliError> {
        Ok(self.target(repository, credentials)?)
    }

    /// All repositories, with these credentials.
    pub(super) fn with(&self, credentials: Arc<dyn CredentialStore>) -> Arc<dyn Repositories> {
        Arc::new(Known {
            registries: self.clone(),
            credentials,
        })
    }

    fn target(
        &self,
        repository: &Repository,
        credentials: Arc<dyn CredentialStore>,
    ) -> Result<RemoteTarget, OciError> {
        let Reach { http, options } = self.reach(repository.host());
        let plain_http = options.plain_http || self.plain.covers(repository.host())?;
        RemoteTarget::new(
            repository.clone(),
            http,
            credentials,
            RemoteOptions {
                plain_http,
                ..*options
            },
        )
    }

    fn reach(&self, host: &str) -> &Reach {
        self.hosts.get(host).unwrap_or(&self.others)
    }
}

/// Registries, and what they are shown.
struct Known {
    registries: Registries,
    credentials: Arc<dyn CredentialStore>,
}

impl Repositories for Known {
    fn open(&self, repository: &Repository) -> Result<Arc<dyn Source>, OciError> {
        Ok(Arc::new(
            self.registries
                .target(repository, Arc::clone(&self.credentials))?,
        ))
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

/// The host as repositories have it.
pub(super) fn canonical(host: &str) -> Result<String, CliError> {
    canonical_host(host).map_err(|error| {
        CliError::invalid(format!(
            "registry {host:?} must be HOST or HOST:PORT: {error}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{
            class::{Classified, Reason},
            limits::Limits,
            reference::Selector,
        },
        oci::auth::Anonymous,
    };

    fn registry(host: &str) -> Registry {
        Registry {
            host: host.into(),
            plain_http: true,
            ca: None,
        }
    }

    fn registries(list: &[Registry]) -> Result<Registries, Reason> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let options = super::super::in_cluster::http_options(&[]).expect("valid");
        Registries::new(list, &options).map_err(|e| e.reason)
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
            let repository: Repository = repository.parse().expect(repository);
            assert_eq!(
                registries.reach(repository.host()).options.plain_http,
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
            vec![Registry {
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
            let repository: Repository = format!("{host}/a/b").parse().expect(host);
            let target = registries
                .with(Arc::new(Anonymous))
                .open(&repository)
                .expect("nothing is sent yet");
            let error = target
                .resolve(
                    &Selector::Tag("v1".parse().expect("a tag")),
                    &Limits::DEFAULT,
                )
                .await
                .expect_err(host);
            assert_eq!(error.reason(), Reason::AddressNotAllowed, "{host}: {error}");
        }
    }
}
