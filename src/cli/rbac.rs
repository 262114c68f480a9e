//! `packgate rbac`

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::{Value, json};

use super::{error::CliError, output::CommandResult};
use crate::api::rbac::{RbacError, RbacInstallation, SYSTEM_NAMESPACE, to_yaml};

const EXAMPLES: &str = "Examples:
  packgate rbac | kubectl apply -f -
  packgate rbac --namespace supply-chain
  packgate rbac --check rbac.yaml";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RbacArgs {
    /// The namespace that packgate is installed in
    #[arg(long, value_name = "NS", default_value = SYSTEM_NAMESPACE, value_parser = namespace)]
    namespace: String,
    /// Print the template of packgate's helm chart instead
    #[arg(long, conflicts_with = "namespace")]
    chart: bool,
    /// Only check that this file is what would be printed
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

const CHART_HEADER: &str =
    "{{- /* Written by `make generate`, from `packgate rbac --chart`; not edited by hand. */ -}}\n";

pub(super) fn run_rbac(args: &RbacArgs) -> Result<CommandResult, CliError> {
    let installation = if args.chart {
        RbacInstallation::for_helm_chart()
    } else {
        RbacInstallation::in_namespace(&args.namespace)
    };
    let grants = installation
        .rbac_objects()
        .map_err(|e| internal_error(&e))?;
    let yaml = to_yaml(&grants).map_err(|e| internal_error(&e))?;
    let yaml = if args.chart {
        format!("{CHART_HEADER}{yaml}")
    } else {
        yaml
    };
    if let Some(file) = &args.check {
        check_file(file, &yaml)?;
    }
    let text = if args.check.is_some() {
        String::new()
    } else {
        yaml
    };
    let items: Vec<Value> = grants.into_iter().map(|grant| grant.object).collect();
    CommandResult::new(text, "List", json!({"apiVersion": "v1", "items": items}))
}

fn check_file(file: &Path, expected: &str) -> Result<(), CliError> {
    let found = fs::read_to_string(file)
        .map_err(|e| CliError::invalid(format!("{}: {e}", file.display())))?;
    if found == expected {
        Ok(())
    } else {
        Err(CliError::invalid(format!(
            "{} is stale, regenerate it: make generate",
            file.display()
        )))
    }
}

fn internal_error(error: &RbacError) -> CliError {
    CliError::internal(error.to_string())
}

/// The name of a namespace: a label as in RFC 1123, 1 to 63 characters.
fn namespace(text: &str) -> Result<String, String> {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let label = (1..=63).contains(&text.len())
        && text.chars().all(inside)
        && !text.starts_with('-')
        && !text.ends_with('-');
    label.then(|| text.to_owned()).ok_or_else(|| {
        "not the name of a namespace: up to 63 of a-z, 0-9 and -, no - at the ends".to_owned()
    })
}
