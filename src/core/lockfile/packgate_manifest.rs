//! packgate's own manifests, and what Conduit's have in common with them.

use super::{
    draft::LockManifest,
    error::LockfileError,
    model::{BundleFileMode, DraftArtifact, DraftEntrypoint},
    node_view::{MapView, NodeView},
    origin, packgate_lock,
};

const MANIFEST: &[&str] = &[
    "apiVersion",
    "kind",
    "name",
    "version",
    "packFormat",
    "entrypoint",
    "artifacts",
];

pub(super) fn read_lock_manifest(root: &NodeView<'_>) -> Result<LockManifest, LockfileError> {
    let fields = root.known_fields(MANIFEST)?;
    fields.read_optional("packFormat", packgate_lock::read_pack_format)?;
    Ok(LockManifest {
        name: fields.read_optional_string("name")?,
        version: fields.read_optional_string("version")?,
        entrypoint: fields.read_optional("entrypoint", read_entrypoint)?,
        artifacts: fields.read_list("artifacts", read_artifact)?,
    })
}

fn read_entrypoint(view: &NodeView<'_>) -> Result<DraftEntrypoint, LockfileError> {
    let fields = view.known_fields(packgate_lock::ENTRYPOINT)?;
    let (script, target) = packgate_lock::read_script(&fields.required_field("script")?)?;
    Ok(DraftEntrypoint {
        script,
        target,
        mode: packgate_lock::read_file_mode(&fields)?,
        checksum: fields.read_optional("checksum", NodeView::read_digest)?,
        size: fields.read_optional("size", NodeView::read_number)?,
    })
}

fn read_artifact(view: &NodeView<'_>) -> Result<DraftArtifact, LockfileError> {
    let fields = view.known_fields(packgate_lock::ARTIFACT)?;
    Ok(DraftArtifact {
        size: fields.read_optional("size", NodeView::read_number)?,
        mode: packgate_lock::read_file_mode(&fields)?,
        oci: fields.read_optional("oci", packgate_lock::read_oci_selection)?,
        platforms: packgate_lock::read_platforms(&fields)?,
        ..read_common_artifact(&fields)?
    })
}

/// The fields that packgate's and Conduit's manifests have in common.
pub(super) fn read_common_artifact(fields: &MapView<'_>) -> Result<DraftArtifact, LockfileError> {
    let origin = fields.required_field("origin")?;
    let written = fields.read_optional("type", NodeView::read_origin_type)?;
    Ok(DraftArtifact {
        name: fields.read_string("name")?,
        origin_type: written.map_or_else(
            || {
                origin::infer_origin_type(origin.read_text()?)
                    .map_err(|fault| origin.error_at(fault))
            },
            Ok,
        )?,
        origin: origin.read_text()?.to_owned(),
        signed_origin: None,
        target: fields.read_required("target", NodeView::read_target)?,
        checksum: fields.read_optional("checksum", NodeView::read_digest)?,
        size: None,
        mode: BundleFileMode::Plain,
        unpack: packgate_lock::read_unpack(fields)?,
        oci: None,
        platforms: Vec::new(),
    })
}
