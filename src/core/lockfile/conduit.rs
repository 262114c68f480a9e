//! Conduit's lockfiles, as they are. Fields that mean nothing to us are checked for shape, then
//! dropped.
//!
//! The checksum of an `oci` artifact is of a tarball that only Conduit made, so
//! [`Lockfile::check_packable`] refuses such an entry.

use super::{
    check::entrypoint_target,
    error::LockError,
    model::{Artifact, Entrypoint, FileMode, Generation, Lockfile},
    read,
    view::{Fields, View},
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
const DROPPED_TEXTS: &[&str] = &[
    "retrievedFrom",
    "targetPath",
    "targetRegistry",
    "targetReference",
    "targetMediaType",
];

/// Reads a lock of Conduit's. Older ones have neither name nor version; none is invented.
pub(super) fn lock(root: &View<'_>) -> Result<Lockfile, LockError> {
    let fields = root.fields(LOCK)?;
    fields.need("manifestHash", View::digest)?;
    Ok(Lockfile {
        generation: Generation::Conduit,
        name: fields.string("name")?,
        version: fields.string("version")?,
        entrypoint: fields
            .optional("entrypoint")
            .filter(|view| !view.is_null())
            .as_ref()
            .map(entrypoint)
            .transpose()?,
        artifacts: fields
            .required("artifacts")?
            .items()?
            .map(|view| artifact(&view))
            .collect::<Result<_, _>>()?,
        layers: Vec::new(),
    })
}

fn entrypoint(view: &View<'_>) -> Result<Entrypoint, LockError> {
    let fields = view.fields(ENTRYPOINT)?;
    check_owner(&fields)?;
    let script = fields.required("script")?;
    Ok(Entrypoint {
        script: script.text()?.to_owned(),
        target: entrypoint_target(script.text()?).map_err(|fault| script.fail(fault))?,
        mode: fields.need("mode", View::mode)?,
        checksum: fields.need("checksum", View::digest)?,
        size: fields.need("size", View::number)?,
    })
}

/// `uid` and `gid` say as whom Conduit runs the script. Nothing here runs one.
pub(super) fn check_owner(fields: &Fields<'_>) -> Result<(), LockError> {
    fields.string("uid")?;
    fields.string("gid").map(drop)
}

fn artifact(view: &View<'_>) -> Result<Artifact, LockError> {
    let fields = view.fields(ARTIFACT)?;
    check_dropped(&fields)?;
    Ok(Artifact {
        name: fields.need("name", View::text)?.to_owned(),
        origin_type: fields.need("type", |view| view.choice(read::TYPES))?,
        origin: fields.need("origin", View::text)?.to_owned(),
        target: fields.need("target", View::target)?,
        checksum: fields.need("checksum", View::digest)?,
        size: fields.need("size", View::number)?,
        mode: FileMode::Plain,
        unpack: read::unpack(&fields)?,
        oci: None,
        platforms: Vec::new(),
    })
}

fn check_dropped(fields: &Fields<'_>) -> Result<(), LockError> {
    fields.need("action", |view| view.choice(ACTIONS))?;
    fields.map("originType", |view| view.choice(read::TYPES))?;
    fields.map("targetType", |view| view.choice(TARGET_TYPES))?;
    fields.map("annotations", View::entries)?;
    DROPPED_TEXTS
        .iter()
        .try_for_each(|key| fields.string(key).map(drop))
}
