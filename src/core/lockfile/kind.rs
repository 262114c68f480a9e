//! Which kind of document it is, told from `apiVersion` and `kind`.

use super::{
    error::{Fault, LockError},
    view::View,
};

/// Our `apiVersion`.
pub(super) const API_VERSION: &str = "packgate.dev/v1alpha1";
/// The kind of our locks.
pub(super) const KIND: &str = "Lockfile";
const VERSIONS: &[(&str, &[(&str, Kind)])] = &[
    (API_VERSION, OURS),
    ("conduit.warrical.com/next", THEIRS),
    ("github.com/wixregiga/conduit/next", THEIRS),
];

const OURS: &[(&str, Kind)] = &[(KIND, Kind::Lock), ("LockManifest", Kind::Manifest)];
const THEIRS: &[(&str, Kind)] = &[
    ("LockFile", Kind::ConduitLock),
    ("ConduitLockFile", Kind::ConduitLock),
    ("BundleLockFile", Kind::ConduitLock),
    ("ManifestLock", Kind::ConduitLock),
    ("Manifest", Kind::ConduitManifest),
    ("ConduitManifest", Kind::ConduitManifest),
    ("BundleManifest", Kind::ConduitManifest),
];

/// A document that can be read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Lock,
    Manifest,
    ConduitLock,
    ConduitManifest,
}

impl Kind {
    pub(super) const fn is_lock(self) -> bool {
        matches!(self, Self::Lock | Self::ConduitLock)
    }
}

/// Tells the kind of the document.
pub(super) fn of(root: &View<'_>) -> Result<Kind, LockError> {
    let fields = root.any_fields()?;
    let kinds = fields.need("apiVersion", |view| view.choice(VERSIONS))?;
    fields.need("kind", |view| view.choice(kinds))
}

/// A manifest where a lock is needed, or the other way round.
pub(super) fn unexpected(root: &View<'_>) -> LockError {
    let manifest = of(root).is_ok_and(|kind| !kind.is_lock());
    let advice = if manifest {
        "this is a manifest, make a lock of it with `packgate lock`"
    } else {
        "this is a lock, a manifest is needed here"
    };
    LockError::at("kind", Fault::Unsupported(advice))
}
