//! Options of downloads: credentials, proxy, mirrors.

use std::{convert::Infallible, path::PathBuf};

use clap::Args;

use super::{
    context::CliContext,
    error::CliError,
    fetch_credentials::{read_credentials_file, read_netrc},
};
use crate::{
    core::download::DownloadMirror,
    fetch::{DownloadAccess, DownloadOptionNames, DownloadProxy},
    http::{HttpClient, Redacted},
};

/// What `--netrc` without a file stands for, unless the variable `NETRC` names another.
const DEFAULT_NETRC: &str = "~/.netrc";

/// Options of verbs that download artifacts.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of downloads (`http` origins)")]
pub(super) struct FetchArgs {
    /// Take user names and passwords from a netrc file [default: $NETRC or ~/.netrc]; sent with TLS
    /// only
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = DEFAULT_NETRC)]
    netrc: Option<PathBuf>,
    /// Take credentials from a YAML file in the form of a PackedBundle's spec.fetch.credentials, with
    /// `secret: {KEY: {env|file|value: …}}` in place of secretRef
    #[arg(long, value_name = "FILE", env = "PACKGATE_FETCH_CREDENTIALS")]
    fetch_credentials: Option<PathBuf>,
    /// Go through this proxy, http://[USER:PASSWORD@]HOST:PORT [default: $HTTPS_PROXY and
    /// $HTTP_PROXY]
    #[arg(
        long,
        value_name = "URL",
        env = "PACKGATE_FETCH_PROXY",
        hide_env_values = true,
        value_parser = parse_secret
    )]
    proxy: Option<Redacted<String>>,
    /// Hosts, domains and networks that need no proxy
    #[arg(long, value_name = "HOST,…", env = "NO_PROXY", hide_env_values = true)]
    no_proxy: Option<String>,
    #[arg(long = "no-proxy-lower-case", hide = true, env = "no_proxy")]
    no_proxy_lower_case: Option<String>,
    /// Fetch what begins with FROM from TO first, both [SCHEME://]HOST[:PORT][/PATH]; may be repeated
    #[arg(long = "mirror", value_name = "FROM=TO", value_parser = parse_mirror)]
    mirrors: Vec<DownloadMirror>,
    #[arg(long = "netrc-variable", hide = true, env = "NETRC")]
    netrc_variable: Option<PathBuf>,
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "the signature of a parser of values"
)]
fn parse_secret(text: &str) -> Result<Redacted<String>, Infallible> {
    Ok(Redacted::new(text.to_owned()))
}

fn parse_mirror(text: &str) -> Result<DownloadMirror, String> {
    let (from, to) = text.split_once('=').ok_or("must be FROM=TO")?;
    DownloadMirror::new(from, to).map_err(|error| error.to_string())
}

impl FetchArgs {
    /// How artifacts are downloaded. Nothing is sent yet.
    pub(super) fn download_access(&self, context: &CliContext) -> Result<DownloadAccess, CliError> {
        let proxy = self.download_proxy()?;
        let options = context.http_options()?;
        let (client, options) = match &proxy {
            Some(proxy) => {
                let options = proxy.apply_to(options);
                (HttpClient::new(&options)?, options)
            }
            None => (context.http_client()?, options),
        };
        let mut credentials = Vec::new();
        if let Some(path) = &self.fetch_credentials {
            credentials.extend(read_credentials_file(path, &options)?);
        }
        if let Some(path) = self.netrc_path(context)? {
            credentials.extend(read_netrc(&path, &options)?);
        }
        let label = proxy.map(|proxy| proxy.label().to_owned());
        Ok(DownloadAccess::anonymous(client)
            .with_credentials(credentials)
            .with_mirrors(self.mirrors.clone())
            .with_names(DownloadOptionNames::COMMAND_LINE, label))
    }

    fn download_proxy(&self) -> Result<Option<DownloadProxy>, CliError> {
        let except = self.no_proxy.as_ref().or(self.no_proxy_lower_case.as_ref());
        let except = except.map_or("", String::as_str);
        let proxy = self.proxy.as_ref().map(|url| {
            DownloadProxy::from_url(url.expose(), except, "--proxy").map_err(CliError::from)
        });
        proxy.transpose()
    }

    fn netrc_path(&self, context: &CliContext) -> Result<Option<PathBuf>, CliError> {
        let Some(path) = &self.netrc else {
            return Ok(None);
        };
        if path.as_os_str() != DEFAULT_NETRC {
            return Ok(Some(path.clone()));
        }
        let home = context.global_args().home.as_ref();
        let found = self
            .netrc_variable
            .clone()
            .or_else(|| home.map(|home| home.join(".netrc")));
        let missing =
            || CliError::invalid("there is no home folder with a .netrc; name it: --netrc FILE");
        Ok(Some(found.ok_or_else(missing)?))
    }
}
