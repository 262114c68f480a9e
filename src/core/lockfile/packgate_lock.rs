//! packgate's own generation of lockfiles, and the parts shared with manifests and with Conduit's
//! lockfiles.

use super::{
    canonical::PACK_FORMAT,
    error::{LockfileError, LockfileFieldError},
    model::{
        BundleFileMode, LockedArtifact, LockedEntrypoint, Lockfile, LockfileGeneration,
        OciSelection, RecordedLayer, UnpackSpec,
    },
    node_view::{MapView, NodeView},
    validation::entrypoint_target,
};
use crate::core::{
    bundle_path::BundlePath,
    oci::{Platform, descriptor::PlatformError},
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

/// Reads a lock of packgate's generation. Rules between fields are checked afterwards.
pub(super) fn read_packgate_lock(root: &NodeView<'_>) -> Result<Lockfile, LockfileError> {
    let fields = root.known_fields(LOCK)?;
    fields.read_optional("packFormat", read_pack_format)?;
    Ok(Lockfile {
        generation: LockfileGeneration::Packgate,
        name: fields.read_optional_string("name")?,
        version: fields.read_optional_string("version")?,
        entrypoint: fields.read_optional("entrypoint", read_entrypoint)?,
        artifacts: fields.read_list("artifacts", read_artifact)?,
        layers: fields
            .read_optional("layers", |view| {
                view.list_items()?
                    .map(|view| read_recorded_layer(&view))
                    .collect()
            })?
            .unwrap_or_default(),
    })
}

pub(super) fn read_pack_format(view: &NodeView<'_>) -> Result<(), LockfileError> {
    view.read_choice(&[(PACK_FORMAT, ())])
}

fn read_entrypoint(view: &NodeView<'_>) -> Result<LockedEntrypoint, LockfileError> {
    let fields = view.known_fields(ENTRYPOINT)?;
    let (script, target) = read_script(&fields.required_field("script")?)?;
    Ok(LockedEntrypoint {
        script,
        target,
        mode: read_file_mode(&fields)?,
        checksum: fields.read_required("checksum", NodeView::read_digest)?,
        size: fields.read_required("size", NodeView::read_number)?,
    })
}

pub(super) fn read_script(view: &NodeView<'_>) -> Result<(String, BundlePath), LockfileError> {
    let script = view.read_text()?;
    let target = entrypoint_target(script).map_err(|fault| view.error_at(fault))?;
    Ok((script.to_owned(), target))
}

fn read_artifact(view: &NodeView<'_>) -> Result<LockedArtifact, LockfileError> {
    let fields = view.known_fields(ARTIFACT)?;
    Ok(LockedArtifact {
        name: fields.read_string("name")?,
        origin_type: fields.read_required("type", NodeView::read_origin_type)?,
        origin: fields.read_string("origin")?,
        signed_origin: None,
        target: fields.read_required("target", NodeView::read_target)?,
        checksum: fields.read_required("checksum", NodeView::read_digest)?,
        size: fields.read_required("size", NodeView::read_number)?,
        mode: read_file_mode(&fields)?,
        unpack: read_unpack(&fields)?,
        oci: fields.read_optional("oci", read_oci_selection)?,
        platforms: read_platforms(&fields)?,
    })
}

pub(super) fn read_file_mode(fields: &MapView<'_>) -> Result<BundleFileMode, LockfileError> {
    Ok(fields
        .read_optional("mode", NodeView::read_file_mode)?
        .unwrap_or_default())
}

pub(super) fn read_platforms(fields: &MapView<'_>) -> Result<Vec<Platform>, LockfileError> {
    let list = fields.read_optional("platforms", |view| {
        let list: Vec<Platform> = view
            .list_items()?
            .map(|view| read_platform(&view))
            .collect::<Result<_, _>>()?;
        if list.is_empty() {
            Err(view.error_at(LockfileFieldError::NoEntries))
        } else {
            Ok(list)
        }
    })?;
    Ok(list.unwrap_or_default())
}

pub(super) fn read_platform(view: &NodeView<'_>) -> Result<Platform, LockfileError> {
    view.read_text()?
        .parse()
        .map_err(|e: PlatformError| view.error_at(e))
}

/// `unpack`, and the two fields that mean nothing without it.
pub(super) fn read_unpack(fields: &MapView<'_>) -> Result<Option<UnpackSpec>, LockfileError> {
    let wanted = fields
        .read_optional("unpack", NodeView::read_bool)?
        .unwrap_or_default();
    let compression = fields.read_optional("compression", NodeView::read_compression)?;
    let path = fields.read_optional("unpackedPath", NodeView::read_folder)?;
    let only = |key| {
        LockfileError::at_field(
            fields.field_path(key),
            LockfileFieldError::OnlyWith("unpack: true"),
        )
    };
    match (wanted, compression, path) {
        (true, compression, path) => Ok(Some(UnpackSpec { compression, path })),
        (false, Some(_), _) => Err(only("compression")),
        (false, None, Some(_)) => Err(only("unpackedPath")),
        (false, None, None) => Ok(None),
    }
}

pub(super) fn read_oci_selection(view: &NodeView<'_>) -> Result<OciSelection, LockfileError> {
    let fields = view.known_fields(&["platform", "blob"])?;
    match (
        fields.read_optional("platform", read_platform)?,
        fields.read_optional("blob", NodeView::read_digest)?,
    ) {
        (Some(platform), None) => Ok(OciSelection::Platform(platform)),
        (None, Some(blob)) => Ok(OciSelection::Blob(blob)),
        _ => Err(view.error_at(LockfileFieldError::Type("exactly one of platform and blob"))),
    }
}

fn read_recorded_layer(view: &NodeView<'_>) -> Result<RecordedLayer, LockfileError> {
    let fields = view.known_fields(LAYER)?;
    let count = fields.required_field("artifacts")?;
    Ok(RecordedLayer {
        artifacts: usize::try_from(count.read_number()?)
            .map_err(|_| count.error_at(LockfileFieldError::Type("a smaller number")))?,
        diff_id: fields.read_required("diffID", NodeView::read_digest)?,
        size: fields.read_required("size", NodeView::read_number)?,
        platform: fields.read_optional("platform", read_platform)?,
    })
}
