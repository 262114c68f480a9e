//! The options of every subcommand, and the output format.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, ValueEnum};

use crate::{core::report::shell_quote, http::HttpRetryPolicy};

/// Options of every verb.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct GlobalArgs {
    /// What is printed on stdout: text for people, or one JSON document
    #[arg(short, long, global = true, value_enum, default_value_t = CliOutputFormat::Text)]
    pub(super) output: CliOutputFormat,
    /// Speak plain HTTP with these registries, for tests and closed networks; without a host, with
    /// the only one that the command uses
    #[arg(long, global = true, value_name = "HOST,…", num_args = 0..=1, require_equals = true, value_delimiter = ',', default_missing_value = "")]
    pub(super) plain_http: Vec<String>,
    /// File with registry credentials, of docker or podman [default: $REGISTRY_AUTH_FILE, or podman's
    /// auth.json and docker's config.json where those keep them]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PACKGATE_REGISTRY_CONFIG"
    )]
    pub(super) registry_config: Option<PathBuf>,
    /// File with credential providers, programs that give registry credentials: kubelet's
    /// CredentialProviderConfig. They are asked for what the files with credentials do not have
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "PACKGATE_CREDENTIAL_PROVIDER_CONFIG",
        requires = "credential_provider_bin_dir"
    )]
    pub(super) credential_provider_config: Option<PathBuf>,
    /// Directory with the programs of credential providers
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "PACKGATE_CREDENTIAL_PROVIDER_BIN_DIR"
    )]
    pub(super) credential_provider_bin_dir: Option<PathBuf>,
    /// Token service that the registry HOST may send its credentials to, though it belongs to
    /// another domain; repeat it for several
    #[arg(long, global = true, value_name = "HOST=URL")]
    pub(super) token_service: Vec<String>,
    /// Mirror to read the registry HOST from, tried before the registry itself: manifests and blobs by
    /// digest, and signatures while the registry does not answer; repeat it for several
    #[arg(long, global = true, value_name = "HOST=URL")]
    pub(super) registry_mirror: Vec<String>,
    /// Further certificate authorities to trust, in PEM; or a server's own certificate
    #[arg(long, global = true, value_name = "FILE", env = "PACKGATE_CA_FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// How long one request waits in all for a server that limits the rate of requests (HTTP 429)
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        env = "PACKGATE_RATE_LIMIT_WAIT",
        default_value_t = HttpRetryPolicy::PATIENT_RATE_LIMIT_BUDGET.as_secs()
    )]
    pub(super) rate_limit_wait: u64,
    /// No progress on stderr
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
    /// Verbose log on stderr; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    #[arg(long, hide = true, env = "DOCKER_CONFIG", global = true)]
    pub(super) docker_config_dir: Option<PathBuf>,
    /// Cache directory for the trust roots of TUF repositories [default: $XDG_CACHE_HOME/packgate or
    /// ~/.cache/packgate]
    #[arg(long, global = true, value_name = "DIR", env = "PACKGATE_CACHE_DIR")]
    pub(super) cache_dir: Option<PathBuf>,
    #[arg(long, hide = true, env = "REGISTRY_AUTH_FILE", global = true)]
    pub(super) registry_auth_file: Option<OsString>,
    #[arg(long, hide = true, env = "XDG_RUNTIME_DIR", global = true)]
    pub(super) xdg_runtime_dir: Option<OsString>,
    #[arg(long, hide = true, env = "XDG_CONFIG_HOME", global = true)]
    pub(super) xdg_config_home: Option<OsString>,
    #[arg(long, hide = true, env = "XDG_CACHE_HOME", global = true)]
    pub(super) xdg_cache_home: Option<PathBuf>,
    #[arg(long, hide = true, env = "HOME", global = true)]
    pub(super) home: Option<PathBuf>,
}

impl GlobalArgs {
    /// The options that say how registries are reached, as words for a shell: paths, and no
    /// content of any file.
    pub(super) fn connection_words(&self) -> Vec<String> {
        let hosts: Vec<&str> = self
            .plain_http
            .iter()
            .map(String::as_str)
            .filter(|host| !host.is_empty())
            .collect();
        let plain_http = match (self.plain_http.is_empty(), hosts.is_empty()) {
            (true, _) => None,
            (false, true) => Some("--plain-http".to_owned()),
            (false, false) => Some(format!("--plain-http={}", shell_quote(&hosts.join(",")))),
        };
        let token_services = self
            .token_service
            .iter()
            .flat_map(|service| ["--token-service".to_owned(), shell_quote(service)]);
        let mirrors = self
            .registry_mirror
            .iter()
            .flat_map(|mirror| ["--registry-mirror".to_owned(), shell_quote(mirror)]);
        let paths = [
            ("--ca-file", &self.ca_file),
            ("--registry-config", &self.registry_config),
            (
                "--credential-provider-config",
                &self.credential_provider_config,
            ),
            (
                "--credential-provider-bin-dir",
                &self.credential_provider_bin_dir,
            ),
            ("--cache-dir", &self.cache_dir),
        ];
        let paths = paths.into_iter().filter_map(|(name, path)| {
            let path = path.as_ref()?;
            Some([name.to_owned(), shell_quote(&path.to_string_lossy())])
        });
        plain_http
            .into_iter()
            .chain(token_services)
            .chain(mirrors)
            .chain(paths.flatten())
            .collect()
    }
}

/// What a result is printed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum CliOutputFormat {
    Text,
    Json,
}
