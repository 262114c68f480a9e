//! Manifests: the input of `packgate lock`. They name origins and targets; checksums and sizes are
//! found out by fetching.

use super::{
    check::{self, EntryOutline, Outline},
    conduit_manifest,
    error::LockError,
    kind::{self, Kind},
    model::{Artifact, Entrypoint, FileMode, Lockfile, OciSelection, OriginType, Unpack},
    origin, read,
    tree::{Document, LineBreaks},
    view::{Fields, View},
};
use crate::core::{digest::Digest, limits::Limits, oci::Platform, path::BundlePath};

/// A lock whose checksums and sizes are still to be found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockManifest {
    /// Title.
    pub name: Option<String>,
    /// Version of the content.
    pub version: Option<String>,
    /// The script that goes in last.
    pub entrypoint: Option<DraftEntrypoint>,
    /// At least one, in the order of the lock.
    pub artifacts: Vec<DraftArtifact>,
}

/// An [`Artifact`] whose bytes nobody has looked at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftArtifact {
    /// Unique name.
    pub name: String,
    /// Where the bytes come from.
    pub origin_type: OriginType,
    /// The origin as it was written.
    pub origin: String,
    /// Where the bytes go.
    pub target: BundlePath,
    /// The checksum that the bytes must have, if the manifest says so.
    pub checksum: Option<Digest>,
    /// The length that they must have, if the manifest says so.
    pub size: Option<u64>,
    /// Mode of the file in the bundle.
    pub mode: FileMode,
    /// Set if `packgate unpack` extracts it.
    pub unpack: Option<Unpack>,
    /// Which part of an image is meant.
    pub oci: Option<OciSelection>,
    /// The platforms' bundles that it is in; empty means all.
    pub platforms: Vec<Platform>,
}

/// An [`Entrypoint`] whose bytes nobody has looked at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftEntrypoint {
    /// Its origin, a file relative to the manifest.
    pub script: String,
    /// Its base name.
    pub target: BundlePath,
    /// Its mode.
    pub mode: FileMode,
    /// The checksum that it must have, if the manifest says so.
    pub checksum: Option<Digest>,
    /// The length that it must have, if the manifest says so.
    pub size: Option<u64>,
}

/// What `packgate lock` can be given.
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
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, LockError> {
        let document = Document::parse(bytes, limits, LineBreaks::Allowed)?;
        let kind = kind::of(&View::root(&document.root)).map_err(|e| document.locate(e))?;
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
    /// [`LockError::TooLarge`] above `limits.lock_bytes`, else [`LockError::Refused`] with the
    /// field and its line.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, LockError> {
        let document = Document::parse(bytes, limits, LineBreaks::Allowed)?;
        let kind = kind::of(&View::root(&document.root)).map_err(|e| document.locate(e))?;
        let manifest = match kind {
            Kind::Manifest => ours(&View::root(&document.root)),
            Kind::ConduitManifest => conduit_manifest::manifest(&document.root, limits),
            Kind::Lock | Kind::ConduitLock => Err(kind::unexpected(&View::root(&document.root))),
        };
        let titles = if kind == Kind::ConduitManifest {
            "metadata."
        } else {
            ""
        };
        manifest
            .and_then(|manifest| manifest.checked(titles, limits))
            .map_err(|e| document.locate(e))
    }

    /// The rules of locks that can be checked before anything is fetched. `titles` stands before
    /// the paths of name and version.
    fn checked(self, titles: &str, limits: &Limits) -> Result<Self, LockError> {
        check::check_titles(titles, self.name.as_deref(), self.version.as_deref())?;
        let artifacts: Vec<Outline<'_>> =
            self.artifacts.iter().map(DraftArtifact::outline).collect();
        check::check_contents(
            self.entrypoint
                .as_ref()
                .map(DraftEntrypoint::outline)
                .as_ref(),
            &artifacts,
            limits,
        )?;
        Ok(self)
    }
}

impl DraftArtifact {
    /// The artifact, now that its bytes are known. `pinned_origin` replaces the origin: that of an
    /// image, with its digest.
    ///
    /// # Errors
    /// [`LockError::PinnedChecksum`] or [`LockError::PinnedSize`] if the manifest asked for other
    /// bytes.
    pub fn complete(
        self,
        checksum: Digest,
        size: u64,
        pinned_origin: Option<String>,
    ) -> Result<Artifact, LockError> {
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
        Ok(Artifact {
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

    fn outline(&self) -> Outline<'_> {
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
        Outline {
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
    /// The entrypoint, now that its bytes are known.
    ///
    /// # Errors
    /// [`LockError::PinnedChecksum`] or [`LockError::PinnedSize`] if the manifest asked for other
    /// bytes.
    pub fn complete(self, checksum: Digest, size: u64) -> Result<Entrypoint, LockError> {
        check_pins("entrypoint", (self.checksum, self.size), (checksum, size))?;
        let Self {
            script,
            target,
            mode,
            checksum: _,
            size: _,
        } = self;
        Ok(Entrypoint {
            script,
            target,
            mode,
            checksum,
            size,
        })
    }

    fn outline(&self) -> EntryOutline<'_> {
        EntryOutline {
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
) -> Result<(), LockError> {
    if let Some(pinned) = size.filter(|pinned| *pinned != actual.1) {
        return Err(LockError::PinnedSize {
            name: name.to_owned(),
            pinned,
            actual: actual.1,
        });
    }
    match checksum.filter(|pinned| *pinned != actual.0) {
        Some(pinned) => Err(LockError::PinnedChecksum {
            name: name.to_owned(),
            pinned,
            actual: actual.0,
        }),
        None => Ok(()),
    }
}

impl From<&Lockfile> for LockManifest {
    /// What `lock --update` starts from: nothing is pinned, and an image with a tag is looked up by
    /// its tag again.
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

impl From<&Artifact> for DraftArtifact {
    fn from(artifact: &Artifact) -> Self {
        let Artifact {
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

impl From<&Entrypoint> for DraftEntrypoint {
    fn from(entrypoint: &Entrypoint) -> Self {
        let Entrypoint {
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

fn ours(root: &View<'_>) -> Result<LockManifest, LockError> {
    let fields = root.fields(MANIFEST)?;
    fields.map("packFormat", read::pack_format)?;
    Ok(LockManifest {
        name: fields.string("name")?,
        version: fields.string("version")?,
        entrypoint: fields.map("entrypoint", entrypoint)?,
        artifacts: fields
            .required("artifacts")?
            .items()?
            .map(|view| artifact(&view))
            .collect::<Result<_, _>>()?,
    })
}

fn entrypoint(view: &View<'_>) -> Result<DraftEntrypoint, LockError> {
    let fields = view.fields(read::ENTRYPOINT)?;
    let (script, target) = read::script(&fields.required("script")?)?;
    Ok(DraftEntrypoint {
        script,
        target,
        mode: read::mode(&fields)?,
        checksum: fields.map("checksum", View::digest)?,
        size: fields.map("size", View::number)?,
    })
}

fn artifact(view: &View<'_>) -> Result<DraftArtifact, LockError> {
    let fields = view.fields(read::ARTIFACT)?;
    Ok(DraftArtifact {
        size: fields.map("size", View::number)?,
        mode: read::mode(&fields)?,
        oci: fields.map("oci", read::selection)?,
        platforms: read::platforms(&fields)?,
        ..bare_artifact(&fields)?
    })
}

/// The fields that our manifests and Conduit's share.
pub(super) fn bare_artifact(fields: &Fields<'_>) -> Result<DraftArtifact, LockError> {
    let origin = fields.required("origin")?;
    let written = fields.map("type", |view| view.choice(read::TYPES))?;
    Ok(DraftArtifact {
        name: fields.need("name", View::text)?.to_owned(),
        origin_type: written.map_or_else(
            || origin::infer(origin.text()?).map_err(|fault| origin.fail(fault)),
            Ok,
        )?,
        origin: origin.text()?.to_owned(),
        target: fields.need("target", View::target)?,
        checksum: fields.map("checksum", View::digest)?,
        size: None,
        mode: FileMode::Plain,
        unpack: read::unpack(fields)?,
        oci: None,
        platforms: Vec::new(),
    })
}
