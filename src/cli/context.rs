//! Makes targets, clients and clocks from the global options.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{
    credential_files::load_credentials, credential_provider_file::load_credential_providers,
    error::CliError, global_args::GlobalArgs, in_cluster::patient_retries, plain_http::PlainHttp,
    progress::TerminalProgress, registry_clients::RegistryClients,
    registry_mirrors::RegistryMirrorsByHost, token_services::TokenServicesByHost,
};
use crate::{
    clock::{Clock, SystemClock},
    core::{
        limits::InputLimits,
        reference::{BundleLocation, ImageRepository},
    },
    fetch::{
        DownloadAccess, FileOrigin, HttpOrigin, OriginDispatcher, OutsideFolderPolicy,
        RegistryOrigin,
    },
    http::{HttpClient, HttpOptions},
    oci::{
        ContentSource, ContentTarget, LocalContentStore, OciArchiveTarget, OciLayoutTarget,
        SeparateSignatures,
        credentials::{AnonymousCredentials, CredentialChain, CredentialStore},
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

    /// Opens what exists, to read it only: from a registry also through its mirrors.
    pub(super) fn open_source(
        &self,
        location: &BundleLocation,
    ) -> Result<Arc<dyn ContentSource>, CliError> {
        Ok(match location {
            BundleLocation::Registry(reference) => {
                self.open_remote_source(&reference.repository)?
            }
            BundleLocation::Layout(_) | BundleLocation::Archive(_) => self.open_target(location)?,
        })
    }

    /// Opens a target for a command that signs.
    pub(super) fn open_signing_target(
        &self,
        location: &BundleLocation,
    ) -> Result<Arc<dyn ContentTarget>, CliError> {
        match location {
            BundleLocation::Registry(reference) => {
                let target = self.open_remote_target(&reference.repository)?;
                Ok(Arc::new(target.for_signing()))
            }
            BundleLocation::Layout(_) | BundleLocation::Archive(_) => self.open_target(location),
        }
    }

    /// Content whose signatures and attestations are in another repository, if one is named.
    pub(super) fn with_signature_repository(
        &self,
        content: Arc<dyn ContentSource>,
        repository: Option<&ImageRepository>,
    ) -> Result<Arc<dyn ContentSource>, CliError> {
        Ok(match repository {
            None => content,
            Some(repository) => Arc::new(SeparateSignatures::new(
                content,
                self.open_remote_source(repository)?,
            )),
        })
    }

    /// Where signatures and attestations of `content` are written: the repository for them, if one
    /// is named.
    pub(super) fn signature_target(
        &self,
        content: &Arc<dyn ContentTarget>,
        repository: Option<&ImageRepository>,
    ) -> Result<Arc<dyn ContentTarget>, CliError> {
        Ok(match repository {
            None => Arc::clone(content),
            Some(repository) => Arc::new(self.open_remote_target(repository)?.for_signing()),
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
        downloads: DownloadAccess,
    ) -> Result<OriginDispatcher, CliError> {
        let http = Arc::new(HttpOrigin::with_access(downloads));
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

    fn open_remote_source(
        &self,
        repository: &ImageRepository,
    ) -> Result<Arc<dyn ContentSource>, CliError> {
        let credentials = self.registry_credentials()?;
        Ok(self
            .registry_clients()?
            .open_source(repository, &credentials)?)
    }

    fn open_remote_target(&self, repository: &ImageRepository) -> Result<RegistryTarget, CliError> {
        self.registry_clients()?
            .open_target(repository, self.registry_credentials()?)
    }

    fn registry_clients(&self) -> Result<RegistryClients, CliError> {
        let clients =
            RegistryClients::from_shared_client(self.http_client()?, &self.http_options()?);
        Ok(clients.with_arguments(
            self.plain_http()?,
            TokenServicesByHost::parse(&self.global.token_service)?,
            RegistryMirrorsByHost::parse(&self.global.registry_mirror)?,
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
        let client = HttpClient::new(&self.http_options()?)?;
        Ok(self.http.get_or_init(|| client).clone())
    }

    /// The options of that client.
    pub(super) fn http_options(&self) -> Result<HttpOptions, CliError> {
        let wait = Duration::from_secs(self.global.rate_limit_wait);
        self.with_ca_file(HttpOptions {
            retries: patient_retries(wait),
            ..HttpOptions::default()
        })
    }

    /// A separate client that also trusts --ca-file.
    pub(super) fn build_http_client(&self, options: HttpOptions) -> Result<HttpClient, CliError> {
        Ok(HttpClient::new(&self.with_ca_file(options)?)?)
    }

    fn with_ca_file(&self, mut options: HttpOptions) -> Result<HttpOptions, CliError> {
        if let Some(path) = &self.global.ca_file {
            let pem = std::fs::read(path)
                .map_err(|e| CliError::invalid(format!("{}: {e}", path.display())))?;
            options.extra_ca_pem = Some(pem.into());
        }
        Ok(options)
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
        let mut stores = vec![load_credentials(&self.global)?];
        stores.extend(load_credential_providers(&self.global)?);
        let store: Arc<dyn CredentialStore> = Arc::new(CredentialChain::new(stores));
        Ok(Arc::clone(self.credentials.get_or_init(|| store)))
    }

    /// The credentials from --registry-config and of credential providers, and none from this machine's home folder.
    pub(super) fn explicit_credentials(&self) -> Result<Arc<dyn CredentialStore>, CliError> {
        if self.global.registry_config.is_some() {
            return self.registry_credentials();
        }
        let providers = load_credential_providers(&self.global)?;
        Ok(providers.unwrap_or_else(|| Arc::new(AnonymousCredentials)))
    }
}
