//! Puts targets, clients and clocks together from the global options.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use super::{
    args::Global, exit::CliError, plain_http::PlainHttp, progress::Shown, registries::Registries,
};
use crate::{
    clock::{Clock, SystemClock},
    core::{
        limits::Limits,
        reference::{Location, Repository},
    },
    fetch::{FileOrigin, HttpOrigin, Origins, Outside, RegistryOrigin},
    http::{HttpClient, HttpOptions},
    oci::{
        ArchiveTarget, LayoutTarget, Store, Target,
        auth::{Anonymous, CredentialStore, DockerConfig},
        remote::RemoteTarget,
    },
    service::progress::{Progress, Silent},
    trust::FileCache,
};

/// What every verb needs.
pub(super) struct Context {
    global: Global,
    http: OnceLock<HttpClient>,
    plain_http: OnceLock<PlainHttp>,
    credentials: OnceLock<Arc<dyn CredentialStore>>,
    clock: SystemClock,
    limits: Limits,
}

impl Context {
    pub(super) const fn new(global: Global) -> Self {
        Self {
            global,
            http: OnceLock::new(),
            plain_http: OnceLock::new(),
            credentials: OnceLock::new(),
            clock: SystemClock,
            limits: Limits::DEFAULT,
        }
    }

    /// The options that every verb has.
    pub(super) const fn global(&self) -> &Global {
        &self.global
    }

    pub(super) const fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    pub(super) const fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn progress(&self) -> Arc<dyn Progress> {
        if self.global.quiet {
            Arc::new(Silent)
        } else {
            Arc::new(Shown::new())
        }
    }

    /// Requests that went out so far.
    pub(super) fn requests(&self) -> u64 {
        self.http.get().map_or(0, HttpClient::requests)
    }

    /// Options that weaken every answer.
    pub(super) fn unsafe_settings(&self) -> Vec<String> {
        let plain = (!self.global.plain_http.is_empty())
            .then(|| "plain HTTP: nobody knows who the registry is".to_owned());
        plain.into_iter().collect()
    }

    /// A place that must be there already.
    pub(super) fn open(&self, location: &Location) -> Result<Arc<dyn Target>, CliError> {
        Ok(match location {
            Location::Registry(reference) => Arc::new(self.remote(&reference.repository)?),
            Location::Layout(local) => Arc::new(LayoutTarget::open(&local.path)?),
            Location::Archive(local) => Arc::new(ArchiveTarget::open(&local.path)?),
        })
    }

    /// A place that is written to, made if it is not there.
    pub(super) fn create(&self, location: &Location) -> Result<Arc<dyn Target>, CliError> {
        match Self::create_store(location)? {
            Some(store) => Ok(store),
            None => self.open(location),
        }
    }

    /// The same, if it is on this machine.
    pub(super) fn create_store(location: &Location) -> Result<Option<Arc<dyn Store>>, CliError> {
        Ok(match location {
            Location::Registry(_) => None,
            Location::Layout(local) => Some(Arc::new(LayoutTarget::open_or_create(&local.path)?)),
            Location::Archive(local) => Some(Arc::new(ArchiveTarget::open_or_create(&local.path)?)),
        })
    }

    /// Where the artifacts of a lock in `folder` come from.
    pub(super) fn origins(&self, folder: PathBuf, outside: Outside) -> Result<Origins, CliError> {
        let http = Arc::new(HttpOrigin::new(self.http()?));
        let registry = Arc::new(RegistryOrigin::new(
            self.registries()?.with(self.credentials()?),
        ));
        Ok(Origins {
            file: Arc::new(FileOrigin::new(folder, outside)),
            http,
            registry,
        })
    }

    fn remote(&self, repository: &Repository) -> Result<RemoteTarget, CliError> {
        self.registries()?.open(repository, self.credentials()?)
    }

    fn registries(&self) -> Result<Registries, CliError> {
        Ok(Registries::alike(self.http()?, self.plain_http()?))
    }

    fn plain_http(&self) -> Result<PlainHttp, CliError> {
        if let Some(plain) = self.plain_http.get() {
            return Ok(plain.clone());
        }
        let plain = PlainHttp::new(&self.global.plain_http)?;
        Ok(self.plain_http.get_or_init(|| plain).clone())
    }

    /// Refuses a --plain-http that does not say which of the registries that a command will speak
    /// with it is for. Before anything is sent: the first of them could be one that keeps its
    /// secrets behind TLS.
    pub(super) fn speaks_with<'a>(
        &self,
        hosts: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), CliError> {
        self.plain_http()?.check(hosts)
    }

    /// The client of this command.
    pub(super) fn http(&self) -> Result<HttpClient, CliError> {
        if let Some(client) = self.http.get() {
            return Ok(client.clone());
        }
        let client = self.client(HttpOptions::default())?;
        Ok(self.http.get_or_init(|| client).clone())
    }

    /// Another client, that trusts --ca-file too.
    pub(super) fn client(&self, mut options: HttpOptions) -> Result<HttpClient, CliError> {
        if let Some(path) = &self.global.ca_file {
            let pem = std::fs::read(path)
                .map_err(|e| CliError::invalid(format!("{}: {e}", path.display())))?;
            options.extra_ca_pem = Some(pem.into());
        }
        Ok(HttpClient::new(&options)?)
    }

    /// Where trust roots of TUF repositories are kept.
    pub(super) fn trust_cache(&self) -> Result<FileCache, CliError> {
        let Global {
            cache_dir,
            xdg_cache_home,
            home,
            ..
        } = &self.global;
        let xdg = xdg_cache_home
            .as_ref()
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join("packgate"));
        let folder = cache_dir
            .clone()
            .or(xdg)
            .or_else(|| home.as_ref().map(|home| home.join(".cache/packgate")));
        let nowhere = || {
            CliError::invalid(
                "there is no folder to keep trust roots in; name one with --cache-dir",
            )
        };
        Ok(FileCache::new(folder.ok_or_else(nowhere)?.join("tuf")))
    }

    fn credentials(&self) -> Result<Arc<dyn CredentialStore>, CliError> {
        if let Some(store) = self.credentials.get() {
            return Ok(Arc::clone(store));
        }
        let store = self.load_credentials()?;
        Ok(Arc::clone(self.credentials.get_or_init(|| store)))
    }

    /// What --registry-config says, and nothing that lies about in this machine's home folder.
    pub(super) fn named_credentials(&self) -> Result<Arc<dyn CredentialStore>, CliError> {
        if self.global.registry_config.is_some() {
            self.credentials()
        } else {
            Ok(Arc::new(Anonymous))
        }
    }

    fn load_credentials(&self) -> Result<Arc<dyn CredentialStore>, CliError> {
        let named = self.global.registry_config.clone();
        let default = self
            .global
            .docker_config_dir
            .clone()
            .or_else(|| self.global.home.as_ref().map(|home| home.join(".docker")));
        let path = match (&named, default) {
            (Some(path), _) => path.clone(),
            (None, Some(folder)) if folder.join("config.json").exists() => {
                folder.join("config.json")
            }
            _ => return Ok(Arc::new(Anonymous)),
        };
        let bytes = std::fs::read(&path)
            .map_err(|e| CliError::invalid(format!("{}: {e}", path.display())))?;
        Ok(Arc::new(DockerConfig::parse(&bytes)?.allow_helpers()))
    }
}
