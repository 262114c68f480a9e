//! `packgate inspect`

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::{
    context::Context,
    exit::CliError,
    lockfile::Input,
    output::{Done, human, table},
};
use crate::{
    core::{
        lockfile::{Artifact, Lockfile},
        pack::PackPlan,
        reference::Location,
        sbom,
    },
    service::inspect::{self, Inspection, Referrer, Tagged},
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

pub(super) async fn run(args: InspectArgs, context: &Context) -> Result<Done, CliError> {
    let path = Path::new(&args.subject);
    if args.subject == "-" || path.is_file() || is_lock_name(path) {
        return inspect_lock(&Input::lock(path)?);
    }
    let location: Location = args.subject.parse()?;
    let source = context.open(&location)?;
    let root = source
        .resolve(&location.selector(), context.limits())
        .await?;
    let found = inspect::inspect(&*source, root, context.limits()).await?;
    answer(&location, &found)
}

fn is_lock_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["yaml", "yml", "json"]
            .iter()
            .any(|known| extension.eq_ignore_ascii_case(known))
    })
}

fn inspect_lock(input: &Input) -> Result<Done, CliError> {
    let lock = input.parse()?;
    let digest = lock.canonical().digest;
    let mut text = table(&head_rows(&lock, &digest.to_string()));
    text.push('\n');
    text.push_str(&table(&file_rows(&lock)));
    Done::new(
        text,
        "LockInspection",
        json!({"lockDigest": digest, "lock": lock_json(&lock)?}),
    )
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(ToString::to_string).collect()
}

fn head_rows(lock: &Lockfile, digest: &str) -> Vec<Vec<String>> {
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
    rows.extend(lock.name.iter().map(|name| row(&["name", name])));
    rows.extend(
        lock.version
            .iter()
            .map(|version| row(&["version", version])),
    );
    rows.push(row(&["lock", digest]));
    rows.push(row(&[
        "artifacts",
        &format!("{} ({})", lock.artifacts.len(), human(total)),
    ]));
    rows.push(row(&[
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
    let mut rows = vec![row(&[
        "NAME", "TYPE", "MODE", "SIZE", "TARGET", "CHECKSUM", "ORIGIN",
    ])];
    rows.extend(lock.artifacts.iter().map(artifact_row));
    if let Some(entrypoint) = &lock.entrypoint {
        let checksum = entrypoint.checksum.to_string();
        rows.push(row(&[
            "(entrypoint)",
            "file",
            entrypoint.mode.as_str(),
            &human(entrypoint.size),
            entrypoint.target.as_str(),
            short(&checksum),
            &entrypoint.script,
        ]));
    }
    rows
}

fn artifact_row(artifact: &Artifact) -> Vec<String> {
    let checksum = artifact.checksum.to_string();
    let Artifact {
        name,
        origin_type,
        mode,
        size,
        target,
        origin,
        ..
    } = artifact;
    row(&[
        name,
        origin_type.as_str(),
        mode.as_str(),
        &human(*size),
        target.as_str(),
        short(&checksum),
        origin,
    ])
}

fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

/// The canonical lock as JSON: the same fields under the same names as in a lockfile.
fn lock_json(lock: &Lockfile) -> Result<Value, CliError> {
    serde_json::from_slice(&lock.canonical().bytes).map_err(|e| CliError::internal(e.to_string()))
}

fn answer(location: &Location, found: &Inspection) -> Result<Done, CliError> {
    let digest = found.root.descriptor.digest;
    let reference = location.clone().with_digest(digest).to_string();
    let layers: usize = found.document.children().len();
    let mut rows = vec![
        row(&["reference", &reference]),
        row(&["media type", &found.root.descriptor.media_type]),
    ];
    rows.push(row(&["parts", &layers.to_string()]));
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
        rows.push(row(&["format", contents.plan.output.format.as_str()]));
        rows.push(row(&[
            "compression",
            contents.plan.output.compression.as_str(),
        ]));
        rows.extend(
            head_rows(&contents.lock, &contents.plan.lock.digest.to_string())
                .into_iter()
                .filter(|row| row.first().is_none_or(|key| key != "layers")),
        );
        text.push('\n');
        text.push_str(&table(&file_rows(&contents.lock)));
        fields["lockDigest"] = json!(contents.plan.lock.digest);
        fields["lock"] = lock_json(&contents.lock)?;
        fields["format"] = json!(contents.plan.output.format.as_str());
        fields["platforms"] = json!(platforms(&contents.plan));
    } else {
        rows.push(row(&["format", "not packed by packgate"]));
    }
    rows.extend(
        bills(&found.referrers)
            .into_iter()
            .map(|format| row(&["sbom", &format!("{format} (not verified)")])),
    );
    text.push_str(&referrer_table(&found.referrers, &found.tags));
    Done::new(table(&rows) + &text, "Inspection", fields)
}

/// The software bills of materials that are said to be there: attested, or as they are.
fn bills(referrers: &[Referrer]) -> Vec<&'static str> {
    let is = |referrer: &Referrer, format: sbom::Format| {
        referrer.predicate_type.as_deref() == Some(format.predicate_type())
            || referrer.artifact_type.as_deref() == Some(format.media_type())
    };
    let there = |format: &sbom::Format| referrers.iter().any(|referrer| is(referrer, *format));
    sbom::Format::ALL
        .into_iter()
        .filter(there)
        .map(sbom::Format::as_str)
        .collect()
}

fn platforms(plan: &PackPlan) -> Vec<String> {
    plan.platforms()
        .flatten()
        .map(ToString::to_string)
        .collect()
}

fn referrer_table(referrers: &[Referrer], tags: &[Tagged]) -> String {
    if referrers.is_empty() && tags.is_empty() {
        return "\nno signatures or attestations\n".into();
    }
    let mut rows = vec![row(&["REFERRER (not verified)", "TYPE", "PREDICATE"])];
    for referrer in referrers {
        let digest = referrer.digest.to_string();
        let predicate = referrer.predicate_type.as_deref().unwrap_or("-");
        rows.push(row(&[
            short(&digest),
            referrer.artifact_type.as_deref().unwrap_or("-"),
            predicate,
        ]));
    }
    for Tagged {
        tag,
        media_type,
        predicate_type,
        ..
    } in tags
    {
        let suffix = tag.rsplit_once('.').map_or("", |(_, suffix)| suffix);
        rows.push(row(&[
            &format!("{}.{suffix}", short(tag)),
            media_type,
            predicate_type.as_deref().unwrap_or("-"),
        ]));
    }
    format!("\n{}", table(&rows))
}
