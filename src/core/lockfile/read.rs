//! Our generation of lockfiles, and the pieces that it shares with manifests and with Conduit's.

use super::{
    canonical::PACK_FORMAT,
    check::entrypoint_target,
    error::{Fault, LockError},
    model::{
        Artifact, Compression, Entrypoint, FileMode, Generation, Lockfile, OciSelection,
        OriginType, RecordedLayer, Unpack,
    },
    view::{Fields, View},
};
use crate::core::{
    oci::{Platform, descriptor::PlatformError},
    path::BundlePath,
};

const LOCK: &[&str] = &[
    "apiVersion",
    "kind",
    "name",
    "version",
    "packFormat",
    "entrypoint",
    "artifacts",
    "layers",
];
pub(super) const ARTIFACT: &[&str] = &[
    "name",
    "type",
    "origin",
    "target",
    "checksum",
    "size",
    "mode",
    "unpack",
    "compression",
    "unpackedPath",
    "oci",
    "platforms",
];
pub(super) const ENTRYPOINT: &[&str] = &["script", "mode", "checksum", "size"];
const LAYER: &[&str] = &["artifacts", "diffID", "size", "platform"];

pub(super) const TYPES: &[(&str, OriginType)] = &[
    ("file", OriginType::File),
    ("http", OriginType::Http),
    ("oci", OriginType::Oci),
];
const COMPRESSIONS: &[(&str, Compression)] = &[
    ("gzip", Compression::Gzip),
    ("bzip2", Compression::Bzip2),
    ("zip", Compression::Zip),
];

/// Reads a lock of our generation. What fields say about each other is checked afterwards.
pub(super) fn lock(root: &View<'_>) -> Result<Lockfile, LockError> {
    let fields = root.fields(LOCK)?;
    fields.map("packFormat", pack_format)?;
    Ok(Lockfile {
        generation: Generation::Packgate,
        name: fields.string("name")?,
        version: fields.string("version")?,
        entrypoint: fields.map("entrypoint", entrypoint)?,
        artifacts: fields
            .required("artifacts")?
            .items()?
            .map(|view| artifact(&view))
            .collect::<Result<_, _>>()?,
        layers: fields
            .map("layers", |view| {
                view.items()?.map(|view| layer(&view)).collect()
            })?
            .unwrap_or_default(),
    })
}

pub(super) fn pack_format(view: &View<'_>) -> Result<(), LockError> {
    view.choice(&[(PACK_FORMAT, ())])
}

fn entrypoint(view: &View<'_>) -> Result<Entrypoint, LockError> {
    let fields = view.fields(ENTRYPOINT)?;
    let (script, target) = script(&fields.required("script")?)?;
    Ok(Entrypoint {
        script,
        target,
        mode: mode(&fields)?,
        checksum: fields.need("checksum", View::digest)?,
        size: fields.need("size", View::number)?,
    })
}

/// A script and where it goes.
pub(super) fn script(view: &View<'_>) -> Result<(String, BundlePath), LockError> {
    let script = view.text()?;
    let target = entrypoint_target(script).map_err(|fault| view.fail(fault))?;
    Ok((script.to_owned(), target))
}

fn artifact(view: &View<'_>) -> Result<Artifact, LockError> {
    let fields = view.fields(ARTIFACT)?;
    Ok(Artifact {
        name: fields.need("name", View::text)?.to_owned(),
        origin_type: fields.need("type", |view| view.choice(TYPES))?,
        origin: fields.need("origin", View::text)?.to_owned(),
        target: fields.need("target", View::target)?,
        checksum: fields.need("checksum", View::digest)?,
        size: fields.need("size", View::number)?,
        mode: mode(&fields)?,
        unpack: unpack(&fields)?,
        oci: fields.map("oci", selection)?,
        platforms: platforms(&fields)?,
    })
}

pub(super) fn mode(fields: &Fields<'_>) -> Result<FileMode, LockError> {
    Ok(fields.map("mode", View::mode)?.unwrap_or_default())
}

pub(super) fn platforms(fields: &Fields<'_>) -> Result<Vec<Platform>, LockError> {
    let list = fields.map("platforms", |view| {
        let list: Vec<Platform> = view
            .items()?
            .map(|view| platform(&view))
            .collect::<Result<_, _>>()?;
        if list.is_empty() {
            Err(view.fail(Fault::NoEntries))
        } else {
            Ok(list)
        }
    })?;
    Ok(list.unwrap_or_default())
}

pub(super) fn platform(view: &View<'_>) -> Result<Platform, LockError> {
    view.text()?
        .parse()
        .map_err(|e: PlatformError| view.fail(e))
}

/// `unpack`, and the two fields that mean nothing without it.
pub(super) fn unpack(fields: &Fields<'_>) -> Result<Option<Unpack>, LockError> {
    let wanted = fields.map("unpack", View::flag)?.unwrap_or_default();
    let compression = fields.map("compression", |view| view.choice(COMPRESSIONS))?;
    let path = fields.map("unpackedPath", View::folder)?;
    let only = |key| LockError::at(fields.path_of(key), Fault::OnlyWith("unpack: true"));
    match (wanted, compression, path) {
        (true, compression, path) => Ok(Some(Unpack { compression, path })),
        (false, Some(_), _) => Err(only("compression")),
        (false, None, Some(_)) => Err(only("unpackedPath")),
        (false, None, None) => Ok(None),
    }
}

pub(super) fn selection(view: &View<'_>) -> Result<OciSelection, LockError> {
    let fields = view.fields(&["platform", "blob"])?;
    match (
        fields.map("platform", platform)?,
        fields.map("blob", View::digest)?,
    ) {
        (Some(platform), None) => Ok(OciSelection::Platform(platform)),
        (None, Some(blob)) => Ok(OciSelection::Blob(blob)),
        _ => Err(view.fail(Fault::Type("exactly one of platform and blob"))),
    }
}

fn layer(view: &View<'_>) -> Result<RecordedLayer, LockError> {
    let fields = view.fields(LAYER)?;
    let count = fields.required("artifacts")?;
    Ok(RecordedLayer {
        artifacts: usize::try_from(count.number()?)
            .map_err(|_| count.fail(Fault::Type("a smaller number")))?,
        diff_id: fields.need("diffID", View::digest)?,
        size: fields.need("size", View::number)?,
        platform: fields.map("platform", platform)?,
    })
}
