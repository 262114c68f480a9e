//! `packgate rbac`

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use serde_json::{Value, json};

use super::{exit::CliError, output::Done};
use crate::api::rbac::{Installation, RbacError, SYSTEM_NAMESPACE, to_yaml};

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

pub(super) fn run(args: &RbacArgs) -> Result<Done, CliError> {
    let installation = if args.chart {
        Installation::chart()
    } else {
        Installation::in_namespace(&args.namespace)
    };
    let grants = installation.grants().map_err(|e| defect(&e))?;
    let yaml = to_yaml(&grants).map_err(|e| defect(&e))?;
    let yaml = if args.chart {
        format!("{CHART_HEADER}{yaml}")
    } else {
        yaml
    };
    if let Some(file) = &args.check {
        check(file, &yaml)?;
    }
    let text = if args.check.is_some() {
        String::new()
    } else {
        yaml
    };
    let items: Vec<Value> = grants.into_iter().map(|grant| grant.object).collect();
    Done::new(text, "List", json!({"apiVersion": "v1", "items": items}))
}

fn check(file: &Path, expected: &str) -> Result<(), CliError> {
    let found = fs::read_to_string(file)
        .map_err(|e| CliError::invalid(format!("{}: {e}", file.display())))?;
    if found == expected {
        Ok(())
    } else {
        Err(CliError::invalid(format!(
            "{} is stale, write it anew: make generate",
            file.display()
        )))
    }
}

fn defect(error: &RbacError) -> CliError {
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
