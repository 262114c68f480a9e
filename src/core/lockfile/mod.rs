//! Lockfiles: the exact content of a bundle.
//!
//! There are two generations of the format, packgate's and Conduit's, as YAML or JSON;
//! [`Lockfile::parse`] reads them all into one type. [`Lockfile::to_canonical`] gives the bytes
//! that are stored in the bundle and whose digest identifies the lock. A lock is made from a
//! [`LockManifest`].
//!
//! Not checked here: whether an origin exists, whether a path leads through a symbolic link, and
//! whether any bytes match.

mod canonical;
mod conduit;
mod conduit_manifest;
mod document;
mod document_kind;
mod document_tree;
mod draft;
mod error;
mod json_node;
mod manifest;
mod model;
mod node_view;
mod origin;
mod packgate_lock;
mod packgate_manifest;
mod signed_origin;
mod template;
#[cfg(test)]
mod tests;
mod validation;
mod yaml;
mod yaml_reader;

pub use canonical::CanonicalLock;
pub use draft::LockManifest;
pub use error::{LineColumn, LockfileError, LockfileFieldError, LockfileFieldLocation};
pub use manifest::LockInput;
pub use model::{
    ArchiveCompression, ArtifactEntry, BundleFileMode, DraftArtifact, DraftEntrypoint,
    EntrypointEntry, LockedArtifact, LockedEntrypoint, Lockfile, LockfileGeneration, OciSelection,
    OriginType, RecordedLayer, UnpackSpec,
};
pub use origin::{oci_reference, origin_leaves_folder, pin_origin};
pub use signed_origin::SignedOrigin;

use document::{LineBreakPolicy, LockDocument};
use document_kind::{API_VERSION, LOCKFILE_KIND, LockDocumentKind};
use node_view::NodeView;

use super::limits::InputLimits;

impl Lockfile {
    /// Reads a lock of either generation, YAML or JSON, strictly: one document, no anchors, tags,
    /// duplicate or unknown keys, nothing over `limits`.
    ///
    /// # Errors
    /// [`LockfileError::TooLarge`] above `limits.lock_bytes` before anything is parsed, else
    /// [`LockfileError::Refused`] with the field's path and its line. Both are
    /// [`InvalidLock`](crate::core::reason::Reason::InvalidLock).
    pub fn parse(bytes: &[u8], limits: &InputLimits) -> Result<Self, LockfileError> {
        Self::parse_as_published(bytes, limits).map(Self::with_separate_credentials)
    }

    /// The same with every origin as it is written there: a bundle's lock is published, whatever it
    /// contains, and its bytes must be the same again.
    fn parse_as_published(bytes: &[u8], limits: &InputLimits) -> Result<Self, LockfileError> {
        let document = LockDocument::parse(bytes, limits, LineBreakPolicy::Rejected)?;
        let root = NodeView::from_root(&document.root);
        let lock = document_kind::detect_kind(&root).and_then(|kind| match kind {
            LockDocumentKind::Lock => packgate_lock::read_packgate_lock(&root),
            LockDocumentKind::ConduitLock => conduit::read_conduit_lock(&root),
            LockDocumentKind::Manifest | LockDocumentKind::ConduitManifest => {
                Err(document_kind::unexpected_kind(&root))
            }
        });
        lock.and_then(|lock| lock.into_checked(limits))
            .map_err(|e| document.add_position(e))
    }

    fn with_separate_credentials(self) -> Self {
        let artifacts = self.artifacts.into_iter();
        Self {
            artifacts: artifacts
                .map(LockedArtifact::with_separate_credential)
                .collect(),
            ..self
        }
    }

    /// The artifacts whose origins have a credential, by their position.
    pub fn signed_origins(&self) -> impl Iterator<Item = (usize, &LockedArtifact, &SignedOrigin)> {
        self.artifacts
            .iter()
            .enumerate()
            .filter_map(|(index, artifact)| {
                Some((index, artifact, artifact.signed_origin.as_ref()?))
            })
    }

    /// The first `oci` artifact whose checksum cannot be checked: Conduit's, or one whose origin
    /// carries no digest.
    pub fn find_unverifiable_oci(&self) -> Option<&LockedArtifact> {
        let pinned = |artifact: &LockedArtifact| {
            artifact
                .oci_reference()
                .is_some_and(|reference| reference.digest.is_some())
        };
        let verifiable = |artifact: &LockedArtifact| {
            self.generation == LockfileGeneration::Packgate && pinned(artifact)
        };
        self.artifacts
            .iter()
            .find(|artifact| artifact.origin_type == OriginType::Oci && !verifiable(artifact))
    }

    /// Checks requirements on a valid lock that must be met before its contents are fetched.
    ///
    /// # Errors
    /// [`LockfileError::LeavesFolder`] unless `allow_outside`, then
    /// [`LockfileError::UnverifiableOci`].
    pub fn check_packable(&self, allow_outside: bool) -> Result<(), LockfileError> {
        if let Some((field, origin)) = self
            .file_origins()
            .find(|(_, origin)| !allow_outside && origin_leaves_folder(origin))
        {
            return Err(LockfileError::LeavesFolder {
                field,
                origin: origin.to_owned(),
            });
        }
        match self.find_unverifiable_oci() {
            Some(artifact) => Err(LockfileError::UnverifiableOci {
                name: artifact.name.clone(),
            }),
            None => Ok(()),
        }
    }

    /// The first origin that is a file, with the path of its field.
    pub fn first_file_origin(&self) -> Option<(String, &str)> {
        self.file_origins().next()
    }

    /// Field paths and texts of all that comes from files.
    fn file_origins(&self) -> impl Iterator<Item = (String, &str)> {
        let files = self
            .artifacts
            .iter()
            .enumerate()
            .filter(|(_, artifact)| artifact.origin_type == OriginType::File);
        let artifacts = files.map(|(index, artifact)| {
            (
                format!("artifacts[{index}].origin"),
                artifact.origin.as_str(),
            )
        });
        let entrypoint = self
            .entrypoint
            .iter()
            .map(|entrypoint| ("entrypoint.script".to_owned(), entrypoint.script.as_str()));
        artifacts.chain(entrypoint)
    }
}
