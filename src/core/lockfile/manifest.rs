//! Manifests: the input of `packgate lock`. They name origins and targets; checksums and sizes are
//! found out by fetching.

use super::{
    conduit_manifest,
    document_kind::{self, LockDocumentKind},
    document_tree::{LineBreakPolicy, LockDocument},
    error::LockfileError,
    model::{
        BundleFileMode, LockedArtifact, LockedEntrypoint, Lockfile, OciSelection, OriginType,
        UnpackSpec,
    },
    node_view::{MapView, NodeView},
    origin, packgate_lock,
    validation::{self, ArtifactOutline, EntrypointOutline},
};
use crate::core::{bundle_path::BundlePath, digest::Digest, limits::InputLimits, oci::Platform};

/// A lock whose checksums and sizes are still to be found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockManifest {
    /// The title.
    pub name: Option<String>,
    /// The version of the content.
    pub version: Option<String>,
    /// The script that goes in last.
    pub entrypoint: Option<DraftEntrypoint>,
    /// At least one, in the order of the lock.
    pub artifacts: Vec<DraftArtifact>,
}

/// An [`LockedArtifact`] whose bytes were not fetched yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftArtifact {
    /// Its unique name.
    pub name: String,
    /// The type of its origin.
    pub origin_type: OriginType,
    /// The origin as it was written.
    pub origin: String,
    /// Its path in the bundle.
    pub target: BundlePath,
    /// The checksum that the manifest requires, if it has one.
    pub checksum: Option<Digest>,
    /// The size in bytes that the manifest requires, if it has one.
    pub size: Option<u64>,
    /// Mode of the file in the bundle.
    pub mode: BundleFileMode,
    /// Set if `packgate unpack` extracts it.
    pub unpack: Option<UnpackSpec>,
    /// Which part of an image is meant.
    pub oci: Option<OciSelection>,
    /// The platforms whose bundles contain it; empty means all.
    pub platforms: Vec<Platform>,
}

/// An [`LockedEntrypoint`] whose bytes were not fetched yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftEntrypoint {
    /// Its origin, a file relative to the manifest.
    pub script: String,
    /// Its base name.
    pub target: BundlePath,
    /// Its file mode.
    pub mode: BundleFileMode,
    /// The checksum that the manifest requires, if it has one.
    pub checksum: Option<Digest>,
    /// The size in bytes that the manifest requires, if it has one.
    pub size: Option<u64>,
}

/// The input of `packgate lock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockInput {
    /// A manifest, to make a lock of.
    Manifest(LockManifest),
    /// A lock, to check or refresh.
    Lock(Lockfile),
}

impl LockInput {
    /// Reads a manifest or a lock, whichever it is.
    ///
    /// # Errors
    /// Those of [`LockManifest::parse`] and [`Lockfile::parse`].
    pub fn parse(bytes: &[u8], limits: &InputLimits) -> Result<Self, LockfileError> {
        let document = LockDocument::parse(bytes, limits, LineBreakPolicy::Allowed)?;
        let kind = document_kind::detect_kind(&NodeView::from_root(&document.root))
            .map_err(|e| document.add_position(e))?;
        if kind.is_lock() {
            Lockfile::parse(bytes, limits).map(Self::Lock)
        } else {
            LockManifest::parse(bytes, limits).map(Self::Manifest)
        }
    }
}

impl LockManifest {
    /// Reads a `LockManifest` of ours or a manifest of Conduit's, YAML or JSON, and fills in its
    /// variables.
    ///
    /// # Errors
    /// [`LockfileError::TooLarge`] above `limits.lock_bytes`, else [`LockfileError::Refused`] with
    /// the field and its line.
    pub fn parse(bytes: &[u8], limits: &InputLimits) -> Result<Self, LockfileError> {
        let document = LockDocument::parse(bytes, limits, LineBreakPolicy::Allowed)?;
        let kind = document_kind::detect_kind(&NodeView::from_root(&document.root))
            .map_err(|e| document.add_position(e))?;
        let manifest = match kind {
            LockDocumentKind::Manifest => read_lock_manifest(&NodeView::from_root(&document.root)),
            LockDocumentKind::ConduitManifest => {
                conduit_manifest::read_conduit_manifest(&document.root, limits)
            }
            LockDocumentKind::Lock | LockDocumentKind::ConduitLock => Err(
                document_kind::unexpected_kind(&NodeView::from_root(&document.root)),
            ),
        };
        let titles = if kind == LockDocumentKind::ConduitManifest {
            "metadata."
        } else {
            ""
        };
        manifest
            .and_then(|manifest| manifest.into_checked(titles, limits))
            .map_err(|e| document.add_position(e))
    }

    /// Checks the rules of locks that need no fetched bytes. `titles` precedes the paths of name
    /// and version in errors.
    fn into_checked(self, titles: &str, limits: &InputLimits) -> Result<Self, LockfileError> {
        validation::check_name_and_version(titles, self.name.as_deref(), self.version.as_deref())?;
        let artifacts: Vec<ArtifactOutline<'_>> = self
            .artifacts
            .iter()
            .map(DraftArtifact::artifact_outline)
            .collect();
        validation::check_contents(
            self.entrypoint
                .as_ref()
                .map(DraftEntrypoint::entrypoint_outline)
                .as_ref(),
            &artifacts,
            limits,
        )?;
        Ok(self)
    }
}

impl DraftArtifact {
    /// The locked artifact, with the digest and size of its bytes. `pinned_origin` replaces the
    /// origin: that of an image, with its digest.
    ///
    /// # Errors
    /// [`LockfileError::PinnedChecksum`] or [`LockfileError::PinnedSize`] if the manifest requires
    /// other bytes.
    pub fn into_locked(
        self,
        checksum: Digest,
        size: u64,
        pinned_origin: Option<String>,
    ) -> Result<LockedArtifact, LockfileError> {
        check_pins(&self.name, (self.checksum, self.size), (checksum, size))?;
        let Self {
            name,
            origin_type,
            origin,
            target,
            checksum: _,
            size: _,
            mode,
            unpack,
            oci,
            platforms,
        } = self;
        let origin = pinned_origin.unwrap_or(origin);
        Ok(LockedArtifact {
            name,
            origin_type,
            origin,
            target,
            checksum,
            size,
            mode,
            unpack,
            oci,
            platforms,
        })
    }

    fn artifact_outline(&self) -> ArtifactOutline<'_> {
        let Self {
            name,
            origin_type,
            origin,
            target,
            checksum: _,
            size,
            mode: _,
            unpack: _,
            oci,
            platforms,
        } = self;
        ArtifactOutline {
            name,
            origin_type: *origin_type,
            origin,
            target,
            size: size.unwrap_or_default(),
            oci: oci.as_ref(),
            platforms,
        }
    }
}

impl DraftEntrypoint {
    /// The locked entrypoint, with the digest and size of its bytes.
    ///
    /// # Errors
    /// [`LockfileError::PinnedChecksum`] or [`LockfileError::PinnedSize`] if the manifest requires
    /// other bytes.
    pub fn into_locked(
        self,
        checksum: Digest,
        size: u64,
    ) -> Result<LockedEntrypoint, LockfileError> {
        check_pins("entrypoint", (self.checksum, self.size), (checksum, size))?;
        let Self {
            script,
            target,
            mode,
            checksum: _,
            size: _,
        } = self;
        Ok(LockedEntrypoint {
            script,
            target,
            mode,
            checksum,
            size,
        })
    }

    fn entrypoint_outline(&self) -> EntrypointOutline<'_> {
        EntrypointOutline {
            script: &self.script,
            target: &self.target,
            size: self.size.unwrap_or_default(),
        }
    }
}

fn check_pins(
    name: &str,
    (checksum, size): (Option<Digest>, Option<u64>),
    actual: (Digest, u64),
) -> Result<(), LockfileError> {
    if let Some(pinned) = size.filter(|pinned| *pinned != actual.1) {
        return Err(LockfileError::PinnedSize {
            name: name.to_owned(),
            pinned,
            actual: actual.1,
        });
    }
    match checksum.filter(|pinned| *pinned != actual.0) {
        Some(pinned) => Err(LockfileError::PinnedChecksum {
            name: name.to_owned(),
            pinned,
            actual: actual.0,
        }),
        None => Ok(()),
    }
}

impl From<&Lockfile> for LockManifest {
    /// The start of `lock --update`: nothing is pinned, and an image with a tag is resolved by its
    /// tag again.
    fn from(lock: &Lockfile) -> Self {
        let Lockfile {
            generation: _,
            name,
            version,
            entrypoint,
            artifacts,
            layers: _,
        } = lock;
        Self {
            name: name.clone(),
            version: version.clone(),
            entrypoint: entrypoint.as_ref().map(DraftEntrypoint::from),
            artifacts: artifacts.iter().map(DraftArtifact::from).collect(),
        }
    }
}

impl From<&LockedArtifact> for DraftArtifact {
    fn from(artifact: &LockedArtifact) -> Self {
        let LockedArtifact {
            name,
            origin_type,
            origin,
            target,
            checksum: _,
            size: _,
            mode,
            unpack,
            oci,
            platforms,
        } = artifact.clone();
        let origin = if origin_type == OriginType::Oci {
            origin::unpin_origin(&origin)
        } else {
            origin
        };
        Self {
            name,
            origin_type,
            origin,
            target,
            checksum: None,
            size: None,
            mode,
            unpack,
            oci,
            platforms,
        }
    }
}

impl From<&LockedEntrypoint> for DraftEntrypoint {
    fn from(entrypoint: &LockedEntrypoint) -> Self {
        let LockedEntrypoint {
            script,
            target,
            mode,
            checksum: _,
            size: _,
        } = entrypoint.clone();
        Self {
            script,
            target,
            mode,
            checksum: None,
            size: None,
        }
    }
}

const MANIFEST: &[&str] = &[
    "apiVersion",
    "kind",
    "name",
    "version",
    "packFormat",
    "entrypoint",
    "artifacts",
];

fn read_lock_manifest(root: &NodeView<'_>) -> Result<LockManifest, LockfileError> {
    let fields = root.known_fields(MANIFEST)?;
    fields.read_optional("packFormat", packgate_lock::read_pack_format)?;
    Ok(LockManifest {
        name: fields.read_optional_string("name")?,
        version: fields.read_optional_string("version")?,
        entrypoint: fields.read_optional("entrypoint", read_entrypoint)?,
        artifacts: fields
            .required_field("artifacts")?
            .list_items()?
            .map(|view| read_artifact(&view))
            .collect::<Result<_, _>>()?,
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
    let written =
        fields.read_optional("type", |view| view.read_choice(packgate_lock::ORIGIN_TYPES))?;
    Ok(DraftArtifact {
        name: fields
            .read_required("name", NodeView::read_text)?
            .to_owned(),
        origin_type: written.map_or_else(
            || {
                origin::infer_origin_type(origin.read_text()?)
                    .map_err(|fault| origin.error_at(fault))
            },
            Ok,
        )?,
        origin: origin.read_text()?.to_owned(),
        target: fields.read_required("target", NodeView::read_target)?,
        checksum: fields.read_optional("checksum", NodeView::read_digest)?,
        size: None,
        mode: BundleFileMode::Plain,
        unpack: packgate_lock::read_unpack(fields)?,
        oci: None,
        platforms: Vec::new(),
    })
}
