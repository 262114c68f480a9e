//! Makes targets, clients and clocks from the global options.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use super::{
    error::CliError, global_args::GlobalArgs, plain_http::PlainHttp, progress::TerminalProgress,
    registry_clients::RegistryClients,
};
use crate::{
    clock::{Clock, SystemClock},
    core::{
        limits::InputLimits,
        reference::{BundleLocation, ImageRepository},
    },
    fetch::{FileOrigin, HttpOrigin, OriginDispatcher, OutsideFolderPolicy, RegistryOrigin},
    http::{HttpClient, HttpOptions},
    oci::{
        ContentTarget, LocalContentStore, OciArchiveTarget, OciLayoutTarget,
        credentials::{AnonymousCredentials, CredentialStore, DockerConfig},
        remote::RegistryTarget,
    },
    service::{
        progress::{Progress, SilentProgress},
        release_context::ReleaseContext,
    },
    trust::FileTrustCache,
};

/// The settings shared by all subcommands.
pub(super) struct CliContext {
    global: GlobalArgs,
    http: OnceLock<HttpClient>,
    plain_http: OnceLock<PlainHttp>,
    credentials: OnceLock<Arc<dyn CredentialStore>>,
    clock: SystemClock,
    limits: InputLimits,
}

impl CliContext {
    pub(super) const fn new(global: GlobalArgs) -> Self {
        Self {
            global,
            http: OnceLock::new(),
            plain_http: OnceLock::new(),
            credentials: OnceLock::new(),
            clock: SystemClock,
            limits: InputLimits::DEFAULT,
        }
    }

    /// The global options.
    pub(super) const fn global_args(&self) -> &GlobalArgs {
        &self.global
    }

    pub(super) const fn clock(&self) -> &dyn Clock {
        &self.clock
    }

    pub(super) const fn limits(&self) -> &InputLimits {
        &self.limits
    }

    pub(super) fn progress_reporter(&self) -> Arc<dyn Progress> {
        if self.global.quiet {
            Arc::new(SilentProgress)
        } else {
            Arc::new(TerminalProgress::new())
        }
    }

    /// What every step of a release to `target` works with.
    pub(super) fn release_context<'a>(
        &'a self,
        target: &'a dyn ContentTarget,
    ) -> ReleaseContext<'a> {
        ReleaseContext {
            target,
            clock: self.clock(),
            limits: self.limits(),
            progress: self.progress_reporter(),
        }
    }

    /// The number of requests sent so far.
    pub(super) fn request_count(&self) -> u64 {
        self.http.get().map_or(0, HttpClient::request_count)
    }

    /// Options that weaken every verdict.
    pub(super) fn unsafe_settings(&self) -> Vec<String> {
        let plain = (!self.global.plain_http.is_empty())
            .then(|| "plain HTTP: the registry is not authenticated".to_owned());
        plain.into_iter().collect()
    }

    /// Opens an existing target.
    pub(super) fn open_target(
        &self,
        location: &BundleLocation,
    ) -> Result<Arc<dyn ContentTarget>, CliError> {
        Ok(match location {
            BundleLocation::Registry(reference) => {
                Arc::new(self.open_remote_target(&reference.repository)?)
            }
            BundleLocation::Layout(local) => Arc::new(OciLayoutTarget::open_layout(&local.path)?),
            BundleLocation::Archive(local) => {
                Arc::new(OciArchiveTarget::open_archive(&local.path)?)
            }
        })
    }

    /// Opens a target for writing, and creates it if necessary.
    pub(super) fn create_target(
        &self,
        location: &BundleLocation,
    ) -> Result<Arc<dyn ContentTarget>, CliError> {
        match Self::create_local_store(location)? {
            Some(store) => Ok(store),
            None => self.open_target(location),
        }
    }

    /// The same for a target on this machine.
    pub(super) fn create_local_store(
        location: &BundleLocation,
    ) -> Result<Option<Arc<dyn LocalContentStore>>, CliError> {
        Ok(match location {
            BundleLocation::Registry(_) => None,
            BundleLocation::Layout(local) => {
                Some(Arc::new(OciLayoutTarget::open_or_create(&local.path)?))
            }
            BundleLocation::Archive(local) => {
                Some(Arc::new(OciArchiveTarget::open_or_create(&local.path)?))
            }
        })
    }

    /// The origins for the artifacts of a lock in `folder`.
    pub(super) fn artifact_origins(
        &self,
        folder: PathBuf,
        outside: OutsideFolderPolicy,
    ) -> Result<OriginDispatcher, CliError> {
        let http = Arc::new(HttpOrigin::new(self.http_client()?));
        let registry = Arc::new(RegistryOrigin::new(
            self.registry_clients()?
                .with_credentials(self.registry_credentials()?),
        ));
        Ok(OriginDispatcher {
            file: Arc::new(FileOrigin::new(folder, outside)),
            http,
            registry,
        })
    }

    fn open_remote_target(&self, repository: &ImageRepository) -> Result<RegistryTarget, CliError> {
        self.registry_clients()?
            .open_target(repository, self.registry_credentials()?)
    }

    fn registry_clients(&self) -> Result<RegistryClients, CliError> {
        Ok(RegistryClients::from_shared_client(
            self.http_client()?,
            self.plain_http()?,
        ))
    }

    fn plain_http(&self) -> Result<PlainHttp, CliError> {
        if let Some(plain) = self.plain_http.get() {
            return Ok(plain.clone());
        }
        let plain = PlainHttp::new(&self.global.plain_http)?;
        Ok(self.plain_http.get_or_init(|| plain).clone())
    }

    /// Refuses a --plain-http without a host if the command uses several registries. Checked before
    /// anything is sent: the first registry could be one with credentials that need TLS.
    pub(super) fn check_plain_http_hosts<'a>(
        &self,
        hosts: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), CliError> {
        self.plain_http()?.check_hosts(hosts)
    }

    /// The HTTP client of this command.
    pub(super) fn http_client(&self) -> Result<HttpClient, CliError> {
        if let Some(client) = self.http.get() {
            return Ok(client.clone());
        }
        let client = self.build_http_client(HttpOptions::default())?;
        Ok(self.http.get_or_init(|| client).clone())
    }

    /// A separate client that also trusts --ca-file.
    pub(super) fn build_http_client(
        &self,
        mut options: HttpOptions,
    ) -> Result<HttpClient, CliError> {
        if let Some(path) = &self.global.ca_file {
            let pem = std::fs::read(path)
                .map_err(|e| CliError::invalid(format!("{}: {e}", path.display())))?;
            options.extra_ca_pem = Some(pem.into());
        }
        Ok(HttpClient::new(&options)?)
    }

    /// The cache for trust roots of TUF repositories.
    pub(super) fn trust_cache(&self) -> Result<FileTrustCache, CliError> {
        let GlobalArgs {
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
                "there is no cache directory for trust roots; name one with --cache-dir",
            )
        };
        Ok(FileTrustCache::new(folder.ok_or_else(nowhere)?.join("tuf")))
    }

    fn registry_credentials(&self) -> Result<Arc<dyn CredentialStore>, CliError> {
        if let Some(store) = self.credentials.get() {
            return Ok(Arc::clone(store));
        }
        let store = self.load_credentials()?;
        Ok(Arc::clone(self.credentials.get_or_init(|| store)))
    }

    /// The credentials from --registry-config, and none from this machine's home folder.
    pub(super) fn explicit_credentials(&self) -> Result<Arc<dyn CredentialStore>, CliError> {
        if self.global.registry_config.is_some() {
            self.registry_credentials()
        } else {
            Ok(Arc::new(AnonymousCredentials))
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
            _ => return Ok(Arc::new(AnonymousCredentials)),
        };
        let bytes = std::fs::read(&path)
            .map_err(|e| CliError::invalid(format!("{}: {e}", path.display())))?;
        Ok(Arc::new(DockerConfig::parse(&bytes)?.allow_helpers()))
    }
}
