//! Conduit's lockfiles, unchanged. Fields without a meaning in packgate are checked for their type,
//! then dropped.
//!
//! The checksum of an `oci` artifact is of a tarball that only Conduit can make, so
//! [`Lockfile::check_packable`] refuses such an entry.

use super::{
    error::LockfileError,
    model::{BundleFileMode, LockedArtifact, LockedEntrypoint, Lockfile, LockfileGeneration},
    node_view::{MapView, NodeView},
    packgate_lock,
    validation::entrypoint_target,
};

const LOCK: &[&str] = &[
    "apiVersion",
    "kind",
    "name",
    "version",
    "entrypoint",
    "manifestHash",
    "artifacts",
];
const ENTRYPOINT: &[&str] = &["script", "mode", "checksum", "size", "uid", "gid"];
const ARTIFACT: &[&str] = &[
    "name",
    "type",
    "action",
    "origin",
    "target",
    "checksum",
    "size",
    "unpack",
    "compression",
    "unpackedPath",
    "retrievedFrom",
    "annotations",
    "originType",
    "targetType",
    "targetPath",
    "targetRegistry",
    "targetReference",
    "targetMediaType",
];
const ACTIONS: &[(&str, ())] = &[("pull", ()), ("push", ()), ("copy_local", ())];
const TARGET_TYPES: &[(&str, ())] = &[("file", ()), ("oci", ())];
const IGNORED_TEXT_FIELDS: &[&str] = &[
    "retrievedFrom",
    "targetPath",
    "targetRegistry",
    "targetReference",
    "targetMediaType",
];

/// Reads a lock of Conduit's. Older ones have neither name nor version; none is invented.
pub(super) fn read_conduit_lock(root: &NodeView<'_>) -> Result<Lockfile, LockfileError> {
    let fields = root.known_fields(LOCK)?;
    fields.read_required("manifestHash", NodeView::read_digest)?;
    Ok(Lockfile {
        generation: LockfileGeneration::Conduit,
        name: fields.read_optional_string("name")?,
        version: fields.read_optional_string("version")?,
        entrypoint: fields
            .optional_field("entrypoint")
            .filter(|view| !view.is_null())
            .as_ref()
            .map(read_entrypoint)
            .transpose()?,
        artifacts: fields.read_list("artifacts", read_artifact)?,
        layers: Vec::new(),
    })
}

fn read_entrypoint(view: &NodeView<'_>) -> Result<LockedEntrypoint, LockfileError> {
    let fields = view.known_fields(ENTRYPOINT)?;
    check_script_owner(&fields)?;
    let script = fields.required_field("script")?;
    Ok(LockedEntrypoint {
        script: script.read_text()?.to_owned(),
        target: entrypoint_target(script.read_text()?).map_err(|fault| script.error_at(fault))?,
        mode: fields.read_required("mode", NodeView::read_file_mode)?,
        checksum: fields.read_required("checksum", NodeView::read_digest)?,
        size: fields.read_required("size", NodeView::read_number)?,
    })
}

/// `uid` and `gid` are the user and group with which Conduit runs the script. packgate does not run
/// scripts.
pub(super) fn check_script_owner(fields: &MapView<'_>) -> Result<(), LockfileError> {
    fields.read_optional_string("uid")?;
    fields.read_optional_string("gid").map(drop)
}

fn read_artifact(view: &NodeView<'_>) -> Result<LockedArtifact, LockfileError> {
    let fields = view.known_fields(ARTIFACT)?;
    check_ignored_fields(&fields)?;
    Ok(LockedArtifact {
        name: fields.read_string("name")?,
        origin_type: fields.read_required("type", NodeView::read_origin_type)?,
        origin: fields.read_string("origin")?,
        signed_origin: None,
        target: fields.read_required("target", NodeView::read_target)?,
        checksum: fields.read_required("checksum", NodeView::read_digest)?,
        size: fields.read_required("size", NodeView::read_number)?,
        mode: BundleFileMode::Plain,
        unpack: packgate_lock::read_unpack(&fields)?,
        oci: None,
        platforms: Vec::new(),
    })
}

fn check_ignored_fields(fields: &MapView<'_>) -> Result<(), LockfileError> {
    fields.read_required("action", |view| view.read_choice(ACTIONS))?;
    fields.read_optional("originType", NodeView::read_origin_type)?;
    fields.read_optional("targetType", |view| view.read_choice(TARGET_TYPES))?;
    fields.read_optional("annotations", NodeView::map_entries)?;
    IGNORED_TEXT_FIELDS
        .iter()
        .try_for_each(|key| fields.read_optional_string(key).map(drop))
}
