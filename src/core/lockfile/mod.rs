//! Lockfiles: what belongs into a bundle, byte for byte.
//!
//! A lock comes in two generations, ours and Conduit's, as YAML or JSON; [`Lockfile::parse`] reads
//! them all into one type. From there on only [`Lockfile::canonical`] matters: the bytes that
//! travel in the bundle and whose digest names the lock. A [`LockManifest`] is what a lock is made
//! of.
//!
//! Not checked here: whether an origin exists, whether a path leads through a symbolic link, and
//! whether any bytes match.

mod canonical;
mod check;
mod conduit;
mod conduit_manifest;
mod error;
mod json_node;
mod kind;
mod manifest;
mod model;
mod origin;
mod read;
mod template;
#[cfg(test)]
mod tests;
mod tree;
mod view;
mod yaml;

pub use canonical::CanonicalLock;
pub use error::{Fault, LockError, Mark, Place};
pub use manifest::{DraftArtifact, DraftEntrypoint, LockInput, LockManifest};
pub use model::{
    Artifact, Compression, Entrypoint, FileMode, Generation, Lockfile, OciSelection, OriginType,
    RecordedLayer, Unpack,
};
pub use origin::{leaves_folder, oci_reference, pin_origin};

use kind::{API_VERSION, KIND, Kind};
use tree::{Document, LineBreaks};
use view::View;

use super::limits::Limits;

impl Lockfile {
    /// Reads a lock of either generation, YAML or JSON, strictly: one document, no anchors, tags,
    /// duplicate or unknown keys, nothing over `limits`.
    ///
    /// # Errors
    /// [`LockError::TooLarge`] above `limits.lock_bytes` before anything is parsed, else
    /// [`LockError::Refused`] with the field's path and its line. Both are
    /// [`InvalidLock`](crate::core::class::Reason::InvalidLock).
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, LockError> {
        let document = Document::parse(bytes, limits, LineBreaks::Refused)?;
        let root = View::root(&document.root);
        let lock = kind::of(&root).and_then(|kind| match kind {
            Kind::Lock => read::lock(&root),
            Kind::ConduitLock => conduit::lock(&root),
            Kind::Manifest | Kind::ConduitManifest => Err(kind::unexpected(&root)),
        });
        lock.and_then(|lock| lock.checked(limits))
            .map_err(|e| document.locate(e))
    }

    /// The first `oci` artifact whose checksum cannot be checked: Conduit's, or one whose origin
    /// carries no digest.
    pub fn unverifiable_oci(&self) -> Option<&Artifact> {
        let pinned = |artifact: &Artifact| {
            artifact
                .oci_reference()
                .is_some_and(|reference| reference.digest.is_some())
        };
        let verifiable =
            |artifact: &Artifact| self.generation == Generation::Packgate && pinned(artifact);
        self.artifacts
            .iter()
            .find(|artifact| artifact.origin_type == OriginType::Oci && !verifiable(artifact))
    }

    /// What a lock must fulfil, beyond being well-formed, before its contents are fetched.
    ///
    /// # Errors
    /// [`LockError::LeavesFolder`] unless `allow_outside`, then [`LockError::UnverifiableOci`].
    pub fn check_packable(&self, allow_outside: bool) -> Result<(), LockError> {
        if let Some((field, origin)) = self
            .file_origins()
            .find(|(_, origin)| !allow_outside && leaves_folder(origin))
        {
            return Err(LockError::LeavesFolder {
                field,
                origin: origin.to_owned(),
            });
        }
        match self.unverifiable_oci() {
            Some(artifact) => Err(LockError::UnverifiableOci {
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
