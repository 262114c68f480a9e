//! `packgate copy`

use clap::Args;
use serde_json::json;

use super::{
    context::CliContext,
    destination::{destination_tag, registry_host, reject_digest},
    error::CliError,
    output::CommandResult,
};
use crate::{
    core::{
        oci::{ManifestOrIndex, Platform, platform::choose_manifest},
        reference::{BundleLocation, ImageRepository, TagOrDigest},
    },
    oci::ResolvedManifest,
    service::copy::{self, CopyError, ReferrerCopying},
};

const EXAMPLES: &str = "Examples:
  packgate copy registry.example.com/team-a/siem:v1.4.0 oci:siem:v1.4.0
  packgate copy oci-archive:siem.tar:v1 mirror.example.com/team-a/siem:v1";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CopyArgs {
    /// What is copied, with every signature and attestation
    source: BundleLocation,
    /// Where it goes
    destination: BundleLocation,
    /// Copy only the manifest for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
    /// Repository with the signatures and attestations of the source, if they are not beside it
    #[arg(long, value_name = "REPOSITORY", env = "PACKGATE_SIGNATURE_REPOSITORY")]
    signature_repository: Option<ImageRepository>,
}

pub(super) async fn run_copy(
    args: CopyArgs,
    context: &CliContext,
) -> Result<CommandResult, CliError> {
    reject_digest(&args.destination)?;
    context.check_plain_http_hosts(
        [&args.source, &args.destination]
            .into_iter()
            .filter_map(registry_host),
    )?;
    let limits = context.limits();
    let source = context.with_signature_repository(
        context.open_source(&args.source)?,
        args.signature_repository.as_ref(),
    )?;
    let mut root = source
        .resolve_manifest(&args.source.tag_or_digest(), limits)
        .await?;
    let mut left_behind = Vec::new();
    if let Some(platform) = &args.platform {
        let child = platform_manifest_digest(&root, platform, limits)?;
        left_behind = copy::list_attached(&*source, &root.descriptor, limits).await?;
        warn_of_left_behind(&root, left_behind.len(), platform);
        root = source
            .resolve_manifest(&TagOrDigest::Digest(child), limits)
            .await?;
    }
    let destination = context.create_target(&args.destination)?;
    copy::copy_bundle(
        &*source,
        &*destination,
        &root,
        ReferrerCopying::Included,
        limits,
        &*context.progress_reporter(),
    )
    .await?;
    let tag = match args.source.tag() {
        Some(tag) if args.destination.tag().is_none() && args.platform.is_none() => {
            Some(tag.clone())
        }
        _ => destination_tag(&args.destination)?,
    };
    if let Some(tag) = tag {
        destination.tag_manifest(&root.descriptor, &tag).await?;
    }
    destination.commit_changes().await?;
    let reference = args
        .destination
        .with_digest(root.descriptor.digest)
        .to_string();
    CommandResult::new(
        reference.clone(),
        "CopyResult",
        json!({
            "reference": reference,
            "digest": root.descriptor.digest,
            "leftBehind": left_behind,
        }),
    )
}

fn warn_of_left_behind(index: &ResolvedManifest, count: usize, platform: &Platform) {
    if count > 0 {
        tracing::warn!(
            "{count} signatures, attestations and other referrers of the index {} are not copied: \
             they are about the index, and say nothing about its manifest for {platform}",
            index.descriptor.digest
        );
    }
}

fn platform_manifest_digest(
    root: &ResolvedManifest,
    platform: &Platform,
    limits: &crate::core::limits::InputLimits,
) -> Result<crate::core::digest::Digest, CliError> {
    let ManifestOrIndex::Index(index) = root.parse_document(limits)? else {
        return Err(CliError::invalid(format!(
            "{} has no platforms, leave --platform away",
            root.descriptor.digest
        )));
    };
    match choose_manifest(&index.manifests, platform) {
        Ok(child) => Ok(child.digest),
        Err(cause) => Err(CopyError::NoSuchPlatform {
            root: root.descriptor.digest,
            cause,
        }
        .into()),
    }
}
