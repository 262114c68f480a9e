//! The content of a lockfile, of every generation of the format. The parser has checked these
//! values.

use std::fmt;

use super::signed_origin::SignedOrigin;
use crate::core::{bundle_path::BundlePath, digest::Digest, names::names, oci::Platform};

/// A checked lock. Artifacts and the entrypoint have unique names and targets, none inside of
/// another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lockfile {
    /// The generation of its format. Not part of the identity, but it decides whether `oci`
    /// checksums can be verified.
    pub generation: LockfileGeneration,
    /// Title. Optional, `^[a-zA-Z0-9._-]{1,128}$`.
    pub name: Option<String>,
    /// Version of the content. Optional.
    pub version: Option<String>,
    /// A script that goes in last, under its base name. Data: nothing ever runs it.
    pub entrypoint: Option<LockedEntrypoint>,
    /// At least one; the order is part of the identity.
    pub artifacts: Vec<LockedArtifact>,
    /// The recorded layers. Derived by `packgate lock`, not part of the identity; empty when
    /// unknown.
    pub layers: Vec<RecordedLayer>,
}

/// The generation of the lockfile's format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LockfileGeneration {
    /// Ours: the checksum of an `oci` artifact is of the deterministic archive of what its digest
    /// names.
    #[default]
    Packgate,
    /// Conduit's: the checksum of an `oci` artifact is of a tarball that cannot be reproduced.
    Conduit,
}

/// An artifact of the bundle, as a lock has it.
pub type LockedArtifact = ArtifactEntry<Digest, u64>;
/// An artifact whose bytes were not fetched yet. Checksum and size are those that its manifest
/// requires, if any.
pub type DraftArtifact = ArtifactEntry<Option<Digest>, Option<u64>>;

/// An artifact of a lock or of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactEntry<C, S> {
    /// Its unique name.
    pub name: String,
    /// The type of its origin.
    pub origin_type: OriginType,
    /// The origin as it was written, without a credential in its query or fragment: what may be
    /// published. [`Self::fetch_origin`] has the whole.
    pub origin: String,
    /// The whole origin, if it has such a credential. Never part of the canonical form.
    pub signed_origin: Option<SignedOrigin>,
    /// Its path in the bundle.
    pub target: BundlePath,
    /// The digest of its bytes in the bundle.
    pub checksum: C,
    /// The size of these bytes.
    pub size: S,
    /// Mode of the file in the bundle.
    pub mode: BundleFileMode,
    /// Set if `packgate unpack` extracts it.
    pub unpack: Option<UnpackSpec>,
    /// Which part of an image is meant; only with [`OriginType::Oci`].
    pub oci: Option<OciSelection>,
    /// The platforms whose bundles contain it; empty means all.
    pub platforms: Vec<Platform>,
}

impl<C, S> ArtifactEntry<C, S> {
    /// The same artifact with this checksum and size.
    pub(super) fn with_pins<D, T>(self, checksum: D, size: T) -> ArtifactEntry<D, T> {
        ArtifactEntry {
            name: self.name,
            origin_type: self.origin_type,
            origin: self.origin,
            signed_origin: self.signed_origin,
            target: self.target,
            checksum,
            size,
            mode: self.mode,
            unpack: self.unpack,
            oci: self.oci,
            platforms: self.platforms,
        }
    }
}

/// The kind of an artifact's origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OriginType {
    /// A file or folder next to the lock.
    File,
    /// A download by HTTP or HTTPS.
    Http,
    /// An image, or a part of one, in a registry.
    Oci,
}

names!(OriginType, File = "file", Http = "http", Oci = "oci");

/// A script that is packed last, as a lock has it.
pub type LockedEntrypoint = EntrypointEntry<Digest, u64>;
/// A script whose bytes were not fetched yet. Checksum and size are those that its manifest
/// requires, if any.
pub type DraftEntrypoint = EntrypointEntry<Option<Digest>, Option<u64>>;

/// The entrypoint of a lock or of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntrypointEntry<C, S> {
    /// Its origin, a file relative to the lock or manifest, as it was written.
    pub script: String,
    /// Its base name: where it goes.
    pub target: BundlePath,
    /// Its file mode.
    pub mode: BundleFileMode,
    /// The digest of its bytes.
    pub checksum: C,
    /// The size of its bytes.
    pub size: S,
}

impl<C, S> EntrypointEntry<C, S> {
    /// The same entrypoint with this checksum and size.
    pub(super) fn with_pins<D, T>(self, checksum: D, size: T) -> EntrypointEntry<D, T> {
        EntrypointEntry {
            script: self.script,
            target: self.target,
            mode: self.mode,
            checksum,
            size,
        }
    }
}

/// The two modes that a file in a bundle can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BundleFileMode {
    /// Mode `0644`.
    #[default]
    Plain,
    /// Mode `0755`.
    Executable,
}

names!(BundleFileMode, Plain = "0644", Executable = "0755");

impl BundleFileMode {
    /// The permission bits.
    pub const fn permission_bits(self) -> u32 {
        match self {
            Self::Plain => 0o644,
            Self::Executable => 0o755,
        }
    }
}

impl fmt::Display for BundleFileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How `packgate unpack` extracts an artifact. The bundle contains the archive itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnpackSpec {
    /// The archive's compression; detected from the target's name if absent.
    pub compression: Option<ArchiveCompression>,
    /// The folder that it is extracted into; the folder of the target if absent.
    pub path: Option<BundlePath>,
}

/// The compressions that `packgate unpack` supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArchiveCompression {
    /// A tar compressed with gzip.
    Gzip,
    /// A tar compressed with bzip2.
    Bzip2,
    /// A zip archive.
    Zip,
}

names!(
    ArchiveCompression,
    Gzip = "gzip",
    Bzip2 = "bzip2",
    Zip = "zip"
);

/// The selected part of an image in an `oci` artifact. Without it: everything that the digest
/// refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OciSelection {
    /// The manifest of one platform.
    Platform(Platform),
    /// One blob, unchanged.
    Blob(Digest),
}

/// A layer recorded by `packgate lock`: the digest and size of its uncompressed tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedLayer {
    /// The number of artifacts in it (the entrypoint counts as one).
    pub artifacts: usize,
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Size of the uncompressed tar in bytes.
    pub size: u64,
    /// The platform's bundle that it is in, where the lock has platforms.
    pub platform: Option<Platform>,
}
