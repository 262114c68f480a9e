//! `packgate inspect`

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::{
    context::CliContext,
    error::CliError,
    input_file::InputFile,
    output::{CommandResult, format_bytes, format_table},
};
use crate::{
    core::{
        lockfile::{LockedArtifact, Lockfile},
        pack::PackPlan,
        reference::BundleLocation,
        sbom,
    },
    service::inspect::{self, CosignTagSummary, Inspection, ReferrerSummary},
};

const EXAMPLES: &str = "Examples:
  packgate inspect lock.yaml
  packgate inspect oci:out:v1
  packgate inspect registry.example.com/team-a/siem:v1.4.0 -o json";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct InspectArgs {
    /// A bundle or image, or a lockfile (a file, or - for stdin)
    subject: String,
}

pub(super) async fn run_inspect(
    args: InspectArgs,
    context: &CliContext,
) -> Result<CommandResult, CliError> {
    let path = Path::new(&args.subject);
    if args.subject == "-" || path.is_file() || is_lockfile_name(path) {
        return inspect_lock(&InputFile::read_lockfile(path)?);
    }
    let location: BundleLocation = args.subject.parse()?;
    let source = context.open_source(&location)?;
    let root = source
        .resolve_manifest(&location.tag_or_digest(), context.limits())
        .await?;
    let found = inspect::inspect_bundle(&*source, root, context.limits()).await?;
    inspection_result(&location, &found)
}

fn is_lockfile_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["yaml", "yml", "json"]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}

fn inspect_lock(input: &InputFile) -> Result<CommandResult, CliError> {
    let lock = input.parse_lockfile()?;
    let digest = lock.to_canonical().digest;
    let mut text = format_table(&lock_summary_rows(&lock, &digest.to_string()));
    text.push('\n');
    text.push_str(&format_table(&file_rows(&lock)));
    CommandResult::new(
        text,
        "LockInspection",
        json!({"lockDigest": digest, "lock": lock_json(&lock)?}),
    )
}

fn table_row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(ToString::to_string).collect()
}

fn lock_summary_rows(lock: &Lockfile, digest: &str) -> Vec<Vec<String>> {
    let total: u64 = lock
        .artifacts
        .iter()
        .map(|artifact| artifact.size)
        .sum::<u64>()
        + lock
            .entrypoint
            .as_ref()
            .map_or(0, |entrypoint| entrypoint.size);
    let mut rows = Vec::new();
    rows.extend(lock.name.iter().map(|name| table_row(&["name", name])));
    rows.extend(
        lock.version
            .iter()
            .map(|version| table_row(&["version", version])),
    );
    rows.push(table_row(&["lock", digest]));
    rows.push(table_row(&[
        "artifacts",
        &format!("{} ({})", lock.artifacts.len(), format_bytes(total)),
    ]));
    rows.push(table_row(&[
        "layers",
        if lock.layers.is_empty() {
            "not recorded"
        } else {
            "recorded"
        },
    ]));
    rows
}

fn file_rows(lock: &Lockfile) -> Vec<Vec<String>> {
    let mut rows = vec![table_row(&[
        "NAME", "TYPE", "MODE", "SIZE", "TARGET", "CHECKSUM", "ORIGIN",
    ])];
    rows.extend(lock.artifacts.iter().map(artifact_row));
    if let Some(entrypoint) = &lock.entrypoint {
        let checksum = entrypoint.checksum.to_string();
        rows.push(table_row(&[
            "(entrypoint)",
            "file",
            entrypoint.mode.as_str(),
            &format_bytes(entrypoint.size),
            entrypoint.target.as_str(),
            short_digest(&checksum),
            &entrypoint.script,
        ]));
    }
    rows
}

fn artifact_row(artifact: &LockedArtifact) -> Vec<String> {
    let checksum = artifact.checksum.to_string();
    let LockedArtifact {
        name,
        origin_type,
        mode,
        size,
        target,
        origin,
        ..
    } = artifact;
    table_row(&[
        name,
        origin_type.as_str(),
        mode.as_str(),
        &format_bytes(*size),
        target.as_str(),
        short_digest(&checksum),
        origin,
    ])
}

fn short_digest(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

/// The canonical lock as JSON: the same fields under the same names as in a lockfile.
fn lock_json(lock: &Lockfile) -> Result<Value, CliError> {
    serde_json::from_slice(&lock.to_canonical().bytes)
        .map_err(|e| CliError::internal(e.to_string()))
}

fn inspection_result(
    location: &BundleLocation,
    found: &Inspection,
) -> Result<CommandResult, CliError> {
    let digest = found.root.descriptor.digest;
    let reference = location.clone().with_digest(digest).to_string();
    let layers: usize = found.document.children().len();
    let mut rows = vec![
        table_row(&["reference", &reference]),
        table_row(&["media type", &found.root.descriptor.media_type]),
    ];
    rows.push(table_row(&["parts", &layers.to_string()]));
    let mut fields = json!({
        "reference": reference,
        "digest": digest,
        "mediaType": found.root.descriptor.media_type,
        "annotations": found.document.annotations(),
        "referrers": found.referrers,
        "tags": found.tags,
    });
    let mut text = String::new();
    if let Some(contents) = &found.contents {
        rows.push(table_row(&["format", contents.plan.output.format.as_str()]));
        rows.push(table_row(&[
            "compression",
            contents.plan.output.compression.as_str(),
        ]));
        rows.extend(
            lock_summary_rows(&contents.lock, &contents.plan.lock.digest.to_string())
                .into_iter()
                .filter(|row| row.first().is_none_or(|key| key != "layers")),
        );
        text.push('\n');
        text.push_str(&format_table(&file_rows(&contents.lock)));
        fields["lockDigest"] = json!(contents.plan.lock.digest);
        fields["lock"] = lock_json(&contents.lock)?;
        fields["format"] = json!(contents.plan.output.format.as_str());
        fields["platforms"] = json!(platform_names(&contents.plan));
    } else {
        rows.push(table_row(&["format", "not packed by packgate"]));
    }
    rows.extend(
        sbom_formats(&found.referrers)
            .into_iter()
            .map(|format| table_row(&["sbom", &format!("{format} (not verified)")])),
    );
    text.push_str(&referrer_table(&found.referrers, &found.tags));
    CommandResult::new(format_table(&rows) + &text, "Inspection", fields)
}

/// The formats of SBOMs in referrers, unverified: attested, or plain.
fn sbom_formats(referrers: &[ReferrerSummary]) -> Vec<&'static str> {
    let is = |referrer: &ReferrerSummary, format: sbom::SbomFormat| {
        referrer.predicate_type.as_deref() == Some(format.predicate_type())
            || referrer.artifact_type.as_deref() == Some(format.media_type())
    };
    let there = |format: &sbom::SbomFormat| referrers.iter().any(|referrer| is(referrer, *format));
    sbom::SbomFormat::ALL
        .into_iter()
        .filter(there)
        .map(sbom::SbomFormat::as_str)
        .collect()
}

fn platform_names(plan: &PackPlan) -> Vec<String> {
    plan.platforms()
        .flatten()
        .map(ToString::to_string)
        .collect()
}

fn referrer_table(referrers: &[ReferrerSummary], tags: &[CosignTagSummary]) -> String {
    if referrers.is_empty() && tags.is_empty() {
        return "\nno signatures or attestations\n".into();
    }
    let mut rows = vec![table_row(&["REFERRER (not verified)", "TYPE", "PREDICATE"])];
    for referrer in referrers {
        let digest = referrer.digest.to_string();
        let predicate = referrer.predicate_type.as_deref().unwrap_or("-");
        rows.push(table_row(&[
            short_digest(&digest),
            referrer.artifact_type.as_deref().unwrap_or("-"),
            predicate,
        ]));
    }
    for CosignTagSummary {
        tag,
        media_type,
        predicate_type,
        ..
    } in tags
    {
        let suffix = tag.rsplit_once('.').map_or("", |(_, suffix)| suffix);
        rows.push(table_row(&[
            &format!("{}.{suffix}", short_digest(tag)),
            media_type,
            predicate_type.as_deref().unwrap_or("-"),
        ]));
    }
    format!("\n{}", format_table(&rows))
}
