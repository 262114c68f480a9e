//! Which trust root is meant, and how it is had: from a file, or from a TUF repository with what is
//! kept of it.

use std::{path::PathBuf, sync::Arc};

use clap::Args;

use super::{context::Context, exit::CliError, lockfile::Input};
use crate::{
    core::{class::Reason, limits::Limits, verify::TrustRoot},
    service::trust_root::{Repository, Terms, TrustError, obtain},
    trust::{MAX_ROOT as MAX_FIRST_ROOT, TufSource},
};

/// The size of a trusted root that is read.
const MAX_ROOT: usize = 4 << 20;

/// What certificates and log entries must chain to.
#[derive(Debug, Default, Args)]
pub(super) struct RootArgs {
    /// Sigstore trusted_root.json that certificates must chain to; without it Sigstore's public
    /// one, from its TUF repository. With --key: whose logs and timestamp authorities are believed
    /// about when the key signed; what they do not vouch for is refused
    #[arg(
        long,
        value_name = "FILE",
        requires = "signer",
        conflicts_with = "tuf_url"
    )]
    pub(super) trusted_root: Option<PathBuf>,
    /// TUF repository that gives the trusted root
    #[arg(long, value_name = "URL", requires_all = ["signer", "tuf_root"])]
    pub(super) tuf_url: Option<String>,
    /// First root of that repository, its root.json
    #[arg(long, value_name = "FILE", requires = "tuf_url")]
    pub(super) tuf_root: Option<PathBuf>,
    /// Ask no TUF repository: use what is kept of it (registries are asked all the same)
    #[arg(long)]
    pub(super) offline: bool,
}

impl RootArgs {
    /// The trust root that is named, or Sigstore's public one if one is needed. With
    /// `--trusted-root` no repository is asked.
    pub(super) async fn load(
        &self,
        is_needed: bool,
        context: &Context,
    ) -> Result<Option<Arc<TrustRoot>>, CliError> {
        if !is_needed && self.trusted_root.is_none() && self.tuf_url.is_none() {
            return Ok(None);
        }
        self.load_or(Repository::public_good(), context)
            .await
            .map(Some)
    }

    /// The trust root that is named, or this repository's.
    pub(super) async fn load_or(
        &self,
        default: Result<Repository, TrustError>,
        context: &Context,
    ) -> Result<Arc<TrustRoot>, CliError> {
        if let Some(path) = &self.trusted_root {
            let input = Input::read(path, MAX_ROOT, Reason::TrustRootUnavailable)?;
            let root = TrustRoot::parse(&input.bytes, &Limits::DEFAULT)
                .map_err(|error| input.blame(error.into()))?;
            return Ok(Arc::new(root));
        }
        let repository = match (&self.tuf_url, &self.tuf_root) {
            (Some(url), Some(root)) => Repository::new(
                url,
                &Input::read(root, MAX_FIRST_ROOT, Reason::InvalidSpec)?.bytes,
            )?,
            _ => default?,
        };
        let root = fetch(
            &repository,
            Terms {
                may_ask: !self.offline,
                ..Terms::default()
            },
            context,
        )
        .await?;
        Ok(Arc::new(root))
    }
}

/// What a repository gives, or what is kept of it.
pub(super) async fn fetch(
    repository: &Repository,
    terms: Terms,
    context: &Context,
) -> Result<TrustRoot, CliError> {
    let (source, cache) = (
        TufSource::new(context.http()?.counted()),
        context.trust_cache()?,
    );
    let text = obtain(&source, &cache, repository, terms, context.clock().now()).await?;
    Ok(TrustRoot::parse(text.as_bytes(), &Limits::DEFAULT)?)
}
