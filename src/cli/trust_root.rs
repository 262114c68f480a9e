//! Loads a trust root: from a file, or from a TUF repository and its cached state.

use std::{path::PathBuf, sync::Arc};

use clap::Args;

use super::{context::CliContext, error::CliError, input_file::InputFile};
use crate::{
    core::{limits::InputLimits, reason::Reason, verify::TrustRoot},
    service::trust_root::{TrustError, TrustRefreshPolicy, TufRepositoryConfig, renew_with_cache},
    trust::{MAX_ROOT as MAX_FIRST_ROOT, TufSource},
};

/// The size of a trusted root that is read.
const MAX_ROOT: usize = 4 << 20;

/// What certificates and log entries must chain to.
#[derive(Debug, Default, Args)]
pub(super) struct TrustRootArgs {
    /// Sigstore trusted_root.json that certificates must chain to; without it Sigstore's public
    /// one, from its TUF repository. With --key: what log entries and timestamps of
    /// its signatures are verified with; a signature with one that does not verify is rejected
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
    /// Do not contact TUF repositories, use their cached metadata (registries are still contacted)
    #[arg(long)]
    pub(super) offline: bool,
}

impl TrustRootArgs {
    /// The trust root in the arguments, or Sigstore's public one if one is needed. With
    /// `--trusted-root` no repository is contacted.
    pub(super) async fn load_trust_root(
        &self,
        is_needed: bool,
        context: &CliContext,
    ) -> Result<Option<Arc<TrustRoot>>, CliError> {
        if !is_needed && self.trusted_root.is_none() && self.tuf_url.is_none() {
            return Ok(None);
        }
        self.load_trust_root_or(TufRepositoryConfig::public_good(), context)
            .await
            .map(Some)
    }

    /// The trust root in the arguments, or the one of this repository.
    pub(super) async fn load_trust_root_or(
        &self,
        default: Result<TufRepositoryConfig, TrustError>,
        context: &CliContext,
    ) -> Result<Arc<TrustRoot>, CliError> {
        if let Some(path) = &self.trusted_root {
            let input = InputFile::read_limited(path, MAX_ROOT, Reason::TrustRootUnavailable)?;
            let root = TrustRoot::parse(&input.bytes, &InputLimits::DEFAULT)
                .map_err(|error| input.prefix_file_name(error.into()))?;
            return Ok(Arc::new(root));
        }
        let repository = match (&self.tuf_url, &self.tuf_root) {
            (Some(url), Some(root)) => TufRepositoryConfig::new(
                url,
                &InputFile::read_limited(root, MAX_FIRST_ROOT, Reason::InvalidSpec)?.bytes,
            )?,
            _ => default?,
        };
        let root = fetch_trust_root(
            &repository,
            TrustRefreshPolicy {
                may_ask: !self.offline,
                ..TrustRefreshPolicy::default()
            },
            context,
        )
        .await?;
        Ok(Arc::new(root))
    }
}

/// The trust root of a repository, or its cached state.
pub(super) async fn fetch_trust_root(
    repository: &TufRepositoryConfig,
    terms: TrustRefreshPolicy,
    context: &CliContext,
) -> Result<TrustRoot, CliError> {
    let (source, cache) = (
        TufSource::new(context.http_client()?.with_own_counter()),
        context.trust_cache()?,
    );
    let text = renew_with_cache(&source, &cache, repository, terms, context.clock().now()).await?;
    Ok(TrustRoot::parse(text.as_bytes(), &InputLimits::DEFAULT)?)
}
