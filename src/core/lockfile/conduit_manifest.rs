//! Conduit's manifests: `metadata`, `variables` and templates (its schema `manifest.json`).
//!
//! What would change the bytes or weaken the fetch, and is not ours to do, is refused and not
//! dropped.

use std::collections::HashMap;

use super::{
    conduit::check_script_owner,
    document_tree::{DocumentNode, DocumentNodeKind},
    draft::LockManifest,
    error::{LockfileError, LockfileFieldError},
    model::{BundleFileMode, DraftArtifact, DraftEntrypoint, OciSelection},
    node_view::{MapView, NodeView},
    packgate_lock,
    packgate_manifest::read_common_artifact,
    template::TemplateExpander,
};
use crate::core::limits::InputLimits;

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

pub(super) fn read_conduit_manifest(
    root: &DocumentNode,
    limits: &InputLimits,
) -> Result<LockManifest, LockfileError> {
    let fields = NodeView::from_root(root).known_fields(MANIFEST)?;
    let mut templates = TemplateExpander::new(template_sources(&fields)?, limits.lock_bytes);
    check_variables(&fields, &mut templates)?;
    let mut expanded = root.clone();
    expand_templates(&mut expanded, &mut templates)?;
    read_expanded_manifest(&NodeView::from_root(&expanded))
}

/// The texts that templates can refer to: every variable, and the one-line values of `metadata`.
fn template_sources(fields: &MapView<'_>) -> Result<HashMap<String, String>, LockfileError> {
    let mut sources = HashMap::new();
    for view in variable_views(fields)? {
        sources.insert(view.path().to_owned(), view.read_text()?.to_owned());
    }
    for view in fields
        .required_field("metadata")?
        .map_values()?
        .filter(NodeView::is_text)
        .filter(|view| !view.is_null())
    {
        sources.insert(view.path().to_owned(), view.read_text()?.to_owned());
    }
    Ok(sources)
}

fn variable_views<'a>(fields: &MapView<'a>) -> Result<Vec<NodeView<'a>>, LockfileError> {
    match fields
        .optional_field("variables")
        .filter(|view| !view.is_null())
    {
        Some(view) => Ok(view.map_values()?.collect()),
        None => Ok(Vec::new()),
    }
}

/// Variables that nothing uses must be sound too.
fn check_variables(
    fields: &MapView<'_>,
    templates: &mut TemplateExpander,
) -> Result<(), LockfileError> {
    variable_views(fields)?.iter().try_for_each(|view| {
        templates
            .check_variable(view.path())
            .map_err(|fault| view.error_at(fault))
    })
}

/// Expands the fields that are read afterwards. A description may contain any braces.
fn expand_templates(
    root: &mut DocumentNode,
    templates: &mut TemplateExpander,
) -> Result<(), LockfileError> {
    let DocumentNodeKind::Map(entries) = &mut root.kind else {
        return Ok(());
    };
    for entry in entries {
        match (entry.key.as_str(), &mut entry.value.kind) {
            ("metadata", DocumentNodeKind::Map(metadata)) => {
                let titles = metadata
                    .iter_mut()
                    .filter(|title| matches!(title.key.as_str(), "name" | "version"));
                titles.into_iter().try_for_each(|title| {
                    templates.expand_node(&mut title.value, &format!("metadata.{}", title.key))
                })?;
            }
            ("entrypoint" | "artifacts", _) => {
                templates.expand_node(&mut entry.value, &entry.key)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn read_expanded_manifest(root: &NodeView<'_>) -> Result<LockManifest, LockfileError> {
    let fields = root.known_fields(MANIFEST)?;
    let metadata = fields.required_field("metadata")?.any_fields()?;
    Ok(LockManifest {
        name: Some(metadata.read_string("name")?),
        version: metadata.read_optional_string("version")?,
        entrypoint: fields.read_optional("entrypoint", read_entrypoint)?,
        artifacts: fields.read_list("artifacts", read_artifact)?,
    })
}

/// A path alone, or a map. Conduit's default mode is executable.
fn read_entrypoint(view: &NodeView<'_>) -> Result<DraftEntrypoint, LockfileError> {
    let (script, mode) = if view.is_text() {
        (view.clone(), BundleFileMode::Executable)
    } else {
        let fields = view.known_fields(ENTRYPOINT)?;
        check_script_owner(&fields)?;
        (
            fields.required_field("script")?,
            fields
                .read_optional("mode", NodeView::read_file_mode)?
                .unwrap_or(BundleFileMode::Executable),
        )
    };
    let (script, target) = packgate_lock::read_script(&script)?;
    Ok(DraftEntrypoint {
        script,
        target,
        mode,
        checksum: None,
        size: None,
    })
}

fn read_artifact(view: &NodeView<'_>) -> Result<DraftArtifact, LockfileError> {
    let fields = view.known_fields(ARTIFACT)?;
    fields.read_optional("annotations", NodeView::map_entries)?;
    check_unsupported_fields(&fields)?;
    let oci = fields
        .read_optional("platform", packgate_lock::read_platform)?
        .map(OciSelection::Platform);
    Ok(DraftArtifact {
        oci,
        ..read_common_artifact(&fields)?
    })
}

fn check_unsupported_fields(fields: &MapView<'_>) -> Result<(), LockfileError> {
    let refuse = |key: &str, wrong: bool, advice| {
        if wrong {
            Err(LockfileError::at_field(
                fields.field_path(key),
                LockfileFieldError::Unsupported(advice),
            ))
        } else {
            Ok(())
        }
    };
    let headers = fields
        .read_optional("headers", NodeView::map_entries)?
        .is_some_and(|entries| !entries.is_empty());
    refuse(
        "headers",
        headers,
        "give credentials to the tool that fetches",
    )?;
    let skip = fields
        .read_optional("insecure_skip_verify", NodeView::read_bool)?
        .unwrap_or_default();
    refuse(
        "insecure_skip_verify",
        skip,
        "certificates are always verified",
    )?;
    let strip = fields
        .read_optional("strip_components", NodeView::read_number)?
        .unwrap_or_default();
    refuse(
        "strip_components",
        strip > 0,
        "the bundle contains the archive unmodified",
    )
}
