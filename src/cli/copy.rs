//! `packgate copy`

use clap::Args;
use serde_json::json;

use super::{
    context::Context,
    exit::CliError,
    output::Done,
    pack::{refuse_digest, tag_for},
    plain_http::host_of,
};
use crate::{
    core::{
        oci::{Document, Platform},
        reference::{Location, Selector},
    },
    oci::Resolved,
    service::copy::{self, CopyError, Referrers},
};

const EXAMPLES: &str = "Examples:
  packgate copy registry.example.com/team-a/siem:v1.4.0 oci:siem:v1.4.0
  packgate copy oci-archive:siem.tar:v1 mirror.example.com/team-a/siem:v1";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CopyArgs {
    /// What is copied, with every signature and attestation
    source: Location,
    /// Where it goes
    destination: Location,
    /// Copy only the manifest for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,
}

pub(super) async fn run(args: CopyArgs, context: &Context) -> Result<Done, CliError> {
    refuse_digest(&args.destination)?;
    context.speaks_with(
        [&args.source, &args.destination]
            .into_iter()
            .filter_map(host_of),
    )?;
    let limits = context.limits();
    let source = context.open(&args.source)?;
    let mut root = source.resolve(&args.source.selector(), limits).await?;
    if let Some(platform) = &args.platform {
        let child = child_for(&root, platform, limits)?;
        root = source.resolve(&Selector::Digest(child), limits).await?;
    }
    let destination = context.create(&args.destination)?;
    copy::copy(
        &*source,
        &*destination,
        &root,
        Referrers::Included,
        limits,
        &*context.progress(),
    )
    .await?;
    let tag = match args.source.tag() {
        Some(tag) if args.destination.tag().is_none() && args.platform.is_none() => {
            Some(tag.clone())
        }
        _ => tag_for(&args.destination)?,
    };
    if let Some(tag) = tag {
        destination.tag(&root.descriptor, &tag).await?;
    }
    destination.finish().await?;
    let reference = args
        .destination
        .with_digest(root.descriptor.digest)
        .to_string();
    Done::new(
        reference.clone(),
        "CopyResult",
        json!({"reference": reference, "digest": root.descriptor.digest}),
    )
}

fn child_for(
    root: &Resolved,
    platform: &Platform,
    limits: &crate::core::limits::Limits,
) -> Result<crate::core::digest::Digest, CliError> {
    let Document::Index(index) = root.document(limits)? else {
        return Err(CliError::invalid(format!(
            "{} has no platforms, leave --platform away",
            root.descriptor.digest
        )));
    };
    let found = index
        .manifests
        .iter()
        .find(|child| child.platform.as_ref() == Some(platform));
    found.map(|child| child.digest).ok_or_else(|| {
        let available: Vec<String> = index
            .manifests
            .iter()
            .filter_map(|child| child.platform.as_ref().map(ToString::to_string))
            .collect();
        CopyError::NoSuchPlatform {
            root: root.descriptor.digest,
            platform: platform.to_string(),
            available: available.join(", "),
        }
        .into()
    })
}
