//! Conduit's manifests: `metadata`, `variables` and templates (its schema `manifest.json`).
//!
//! What would change the bytes or weaken the fetch, and is not ours to do, is refused and not
//! dropped.

use std::collections::HashMap;

use super::{
    conduit::check_owner,
    error::{Fault, LockError},
    manifest::{DraftArtifact, DraftEntrypoint, LockManifest, bare_artifact},
    model::{FileMode, OciSelection},
    read,
    template::Templates,
    tree,
    view::{Fields, View},
};
use crate::core::limits::Limits;

const MANIFEST: &[&str] = &[
    "apiVersion",
    "kind",
    "metadata",
    "variables",
    "entrypoint",
    "artifacts",
];
const ENTRYPOINT: &[&str] = &["script", "mode", "uid", "gid"];
const ARTIFACT: &[&str] = &[
    "name",
    "type",
    "origin",
    "target",
    "unpack",
    "compression",
    "checksum",
    "annotations",
    "platform",
    "headers",
    "insecure_skip_verify",
    "strip_components",
];

pub(super) fn manifest(root: &tree::Node, limits: &Limits) -> Result<LockManifest, LockError> {
    let fields = View::root(root).fields(MANIFEST)?;
    let mut templates = Templates::new(sources(&fields)?, limits.lock_bytes);
    check_variables(&fields, &mut templates)?;
    let mut expanded = root.clone();
    expand(&mut expanded, &mut templates)?;
    read_expanded(&View::root(&expanded))
}

/// The texts that templates can name: every variable, and what `metadata` says in one line.
fn sources(fields: &Fields<'_>) -> Result<HashMap<String, String>, LockError> {
    let mut sources = HashMap::new();
    for view in variables(fields)? {
        sources.insert(view.path().to_owned(), view.text()?.to_owned());
    }
    for view in fields
        .required("metadata")?
        .values()?
        .filter(View::is_text)
        .filter(|view| !view.is_null())
    {
        sources.insert(view.path().to_owned(), view.text()?.to_owned());
    }
    Ok(sources)
}

fn variables<'a>(fields: &Fields<'a>) -> Result<Vec<View<'a>>, LockError> {
    match fields.optional("variables").filter(|view| !view.is_null()) {
        Some(view) => Ok(view.values()?.collect()),
        None => Ok(Vec::new()),
    }
}

/// Variables that nothing uses must be sound too.
fn check_variables(fields: &Fields<'_>, templates: &mut Templates) -> Result<(), LockError> {
    variables(fields)?.iter().try_for_each(|view| {
        templates
            .check(view.path())
            .map_err(|fault| view.fail(fault))
    })
}

/// Fills in what is read afterwards. A description may hold any braces.
fn expand(root: &mut tree::Node, templates: &mut Templates) -> Result<(), LockError> {
    let tree::Kind::Map(entries) = &mut root.kind else {
        return Ok(());
    };
    for entry in entries {
        match (entry.key.as_str(), &mut entry.value.kind) {
            ("metadata", tree::Kind::Map(metadata)) => {
                let titles = metadata
                    .iter_mut()
                    .filter(|title| matches!(title.key.as_str(), "name" | "version"));
                titles.into_iter().try_for_each(|title| {
                    templates.expand_all(&mut title.value, &format!("metadata.{}", title.key))
                })?;
            }
            ("entrypoint" | "artifacts", _) => {
                templates.expand_all(&mut entry.value, &entry.key)?
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_expanded(root: &View<'_>) -> Result<LockManifest, LockError> {
    let fields = root.fields(MANIFEST)?;
    let metadata = fields.required("metadata")?.any_fields()?;
    Ok(LockManifest {
        name: Some(metadata.need("name", View::text)?.to_owned()),
        version: metadata.string("version")?,
        entrypoint: fields.map("entrypoint", entrypoint)?,
        artifacts: fields
            .required("artifacts")?
            .items()?
            .map(|view| artifact(&view))
            .collect::<Result<_, _>>()?,
    })
}

/// A path alone, or a map. Conduit's default mode is executable.
fn entrypoint(view: &View<'_>) -> Result<DraftEntrypoint, LockError> {
    let (script, mode) = if view.is_text() {
        (view.clone(), FileMode::Executable)
    } else {
        let fields = view.fields(ENTRYPOINT)?;
        check_owner(&fields)?;
        (
            fields.required("script")?,
            fields
                .map("mode", View::mode)?
                .unwrap_or(FileMode::Executable),
        )
    };
    let (script, target) = read::script(&script)?;
    Ok(DraftEntrypoint {
        script,
        target,
        mode,
        checksum: None,
        size: None,
    })
}

fn artifact(view: &View<'_>) -> Result<DraftArtifact, LockError> {
    let fields = view.fields(ARTIFACT)?;
    fields.map("annotations", View::entries)?;
    check_unsupported(&fields)?;
    let oci = fields
        .map("platform", read::platform)?
        .map(OciSelection::Platform);
    Ok(DraftArtifact {
        oci,
        ..bare_artifact(&fields)?
    })
}

fn check_unsupported(fields: &Fields<'_>) -> Result<(), LockError> {
    let refuse = |key: &str, wrong: bool, advice| {
        if wrong {
            Err(LockError::at(
                fields.path_of(key),
                Fault::Unsupported(advice),
            ))
        } else {
            Ok(())
        }
    };
    let headers = fields
        .map("headers", View::entries)?
        .is_some_and(|entries| !entries.is_empty());
    refuse(
        "headers",
        headers,
        "give credentials to the tool that fetches",
    )?;
    let skip = fields
        .map("insecure_skip_verify", View::flag)?
        .unwrap_or_default();
    refuse(
        "insecure_skip_verify",
        skip,
        "certificates are always verified",
    )?;
    let strip = fields
        .map("strip_components", View::number)?
        .unwrap_or_default();
    refuse(
        "strip_components",
        strip > 0,
        "the bundle holds the bytes as they are",
    )
}
