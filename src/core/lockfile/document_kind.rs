//! The kind of a document, from `apiVersion` and `kind`.

use super::{
    error::{LockfileError, LockfileFieldError},
    node_view::NodeView,
};

/// packgate's `apiVersion`.
pub(super) const API_VERSION: &str = "packgate.dev/v1alpha1";
/// The kind of packgate's locks.
pub(super) const LOCKFILE_KIND: &str = "Lockfile";
const KINDS_BY_API_VERSION: &[(&str, &[(&str, LockDocumentKind)])] = &[
    (API_VERSION, PACKGATE_KINDS),
    ("conduit.warrical.com/next", CONDUIT_KINDS),
    ("github.com/wixregiga/conduit/next", CONDUIT_KINDS),
];

const PACKGATE_KINDS: &[(&str, LockDocumentKind)] = &[
    (LOCKFILE_KIND, LockDocumentKind::Lock),
    ("LockManifest", LockDocumentKind::Manifest),
];
const CONDUIT_KINDS: &[(&str, LockDocumentKind)] = &[
    ("LockFile", LockDocumentKind::ConduitLock),
    ("ConduitLockFile", LockDocumentKind::ConduitLock),
    ("BundleLockFile", LockDocumentKind::ConduitLock),
    ("ManifestLock", LockDocumentKind::ConduitLock),
    ("Manifest", LockDocumentKind::ConduitManifest),
    ("ConduitManifest", LockDocumentKind::ConduitManifest),
    ("BundleManifest", LockDocumentKind::ConduitManifest),
];

/// A document that can be read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LockDocumentKind {
    Lock,
    Manifest,
    ConduitLock,
    ConduitManifest,
}

impl LockDocumentKind {
    pub(super) const fn is_lock(self) -> bool {
        matches!(self, Self::Lock | Self::ConduitLock)
    }
}

pub(super) fn detect_kind(root: &NodeView<'_>) -> Result<LockDocumentKind, LockfileError> {
    let fields = root.any_fields()?;
    let kinds =
        fields.read_required("apiVersion", |view| view.read_choice(KINDS_BY_API_VERSION))?;
    fields.read_required("kind", |view| view.read_choice(kinds))
}

/// A manifest where a lock is needed, or the other way round.
pub(super) fn unexpected_kind(root: &NodeView<'_>) -> LockfileError {
    let manifest = detect_kind(root).is_ok_and(|kind| !kind.is_lock());
    let advice = if manifest {
        "this is a manifest, create a lock from it with `packgate lock`"
    } else {
        "this is a lock, a manifest is needed here"
    };
    LockfileError::at_field("kind", LockfileFieldError::Unsupported(advice))
}
