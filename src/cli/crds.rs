//! `packgate crds`

use std::{fs, path::PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{error::CliError, output::CommandResult};
use crate::{api, core::reason::Reason};

const EXAMPLES: &str = "Examples:
  packgate crds | kubectl apply -f -
  packgate crds --out-dir crds";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CrdsArgs {
    /// Write one file for each kind into this folder instead
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
    /// Only check that the files in this folder are what would be written
    #[arg(long, value_name = "DIR", conflicts_with = "out_dir")]
    check: Option<PathBuf>,
}

pub(super) fn run_crds(args: &CrdsArgs) -> Result<CommandResult, CliError> {
    let files = api::crd_manifests().map_err(|e| CliError::internal(e.to_string()))?;
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    if let Some(folder) = &args.out_dir {
        fs::create_dir_all(folder).map_err(|e| storage_error(folder, &e))?;
        for (name, yaml) in &files {
            fs::write(folder.join(name), yaml)
                .map_err(|e| storage_error(&folder.join(name), &e))?;
        }
        return CommandResult::new(names.join("\n"), "Files", json!({"files": names}));
    }
    if let Some(folder) = &args.check {
        let stale = files
            .iter()
            .find(|(name, yaml)| fs::read_to_string(folder.join(name)).ok().as_ref() != Some(yaml));
        return match stale {
            Some((name, _)) => Err(CliError::invalid(format!(
                "{} is stale, regenerate it: make generate",
                folder.join(name).display()
            ))),
            None => CommandResult::new("", "Files", json!({"files": names})),
        };
    }
    let yaml: Vec<String> = files
        .iter()
        .map(|(_, yaml)| format!("---\n{}", yaml.trim_start_matches("---\n")))
        .collect();
    let items = files
        .iter()
        .map(|(_, yaml)| serde_saphyr::from_str::<Value>(yaml))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| CliError::internal(e.to_string()))?;
    CommandResult::new(
        yaml.concat(),
        "List",
        json!({"apiVersion": "v1", "items": items}),
    )
}

fn storage_error(path: &std::path::Path, error: &std::io::Error) -> CliError {
    CliError::new(
        Reason::StorageFailed,
        format!("{}: {error}", path.display()),
    )
}
