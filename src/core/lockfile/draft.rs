//! A lock whose checksums and sizes are still to be found out.

use super::{
    error::LockfileError,
    model::{
        DraftArtifact, DraftEntrypoint, LockedArtifact, LockedEntrypoint, Lockfile, OriginType,
    },
    origin,
};
use crate::core::digest::Digest;

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
        let locked = self.with_pins(checksum, size);
        Ok(match pinned_origin {
            Some(origin) => LockedArtifact { origin, ..locked },
            None => locked,
        })
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
        Ok(self.with_pins(checksum, size))
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
        let mut draft = artifact.clone().with_pins(None, None);
        if draft.origin_type == OriginType::Oci {
            draft.origin = origin::unpin_origin(&draft.origin);
        }
        draft
    }
}

impl From<&LockedEntrypoint> for DraftEntrypoint {
    fn from(entrypoint: &LockedEntrypoint) -> Self {
        entrypoint.clone().with_pins(None, None)
    }
}
