//! Manifests: the input of `packgate lock`. They name origins and targets; checksums and sizes are
//! found out by fetching.

use super::{
    conduit_manifest,
    document::{LineBreakPolicy, LockDocument},
    document_kind::{self, LockDocumentKind},
    draft::LockManifest,
    error::LockfileError,
    model::{DraftArtifact, Lockfile},
    node_view::NodeView,
    packgate_manifest, validation,
};
use crate::core::limits::InputLimits;

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
            LockDocumentKind::Manifest => {
                packgate_manifest::read_lock_manifest(&NodeView::from_root(&document.root))
            }
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
        validation::check_contents(self.entrypoint.as_ref(), &self.artifacts, limits)?;
        let artifacts = self.artifacts.into_iter();
        Ok(Self {
            artifacts: artifacts
                .map(DraftArtifact::with_separate_credential)
                .collect(),
            ..self
        })
    }
}
