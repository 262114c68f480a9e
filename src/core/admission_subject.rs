//! What policies are asked about: one digest, and how it is about to be used.

use super::{
    digest::Digest, lockfile::Lockfile, policy_syntax::ReferenceUse, reference::ImageRepository,
};

/// The subject of an evaluation: one digest, and how it is about to be used.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionSubject<'a> {
    /// The reference as written.
    pub reference: &'a str,
    /// Its canonical repository. `None` for layouts and archives.
    pub repository: Option<&'a ImageRepository>,
    /// The digest that the reference was resolved to.
    pub digest: Digest,
    /// True if the reference contains that digest.
    pub had_digest: bool,
    /// How the image is used.
    pub used_as: ReferenceUse,
    /// The namespace of the use; `None` outside of a cluster.
    pub namespace: Option<&'a str>,
    /// The lock in the bundle, if it was read.
    pub lock: Option<BundleLock<'a>>,
}

/// The lockfile read from the bundle.
#[derive(Clone, Copy, Debug)]
pub struct BundleLock<'a> {
    /// The parsed lockfile.
    pub lock: &'a Lockfile,
    /// Digest of its canonical form.
    pub digest: Digest,
}

/// A reference and how it is used: all that is needed to tell which policies govern it.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceUseScope<'a> {
    /// The target of the reference.
    pub name: ReferenceTarget<'a>,
    /// How the image is used.
    pub used_as: ReferenceUse,
    /// The namespace of the use.
    pub namespace: Option<&'a str>,
}

/// The target of a reference.
#[derive(Clone, Copy, Debug)]
pub enum ReferenceTarget<'a> {
    /// A repository in a registry.
    Repository(&'a ImageRepository),
    /// A layout or archive on this machine.
    Local,
    /// A reference that cannot be parsed. Every policy for this kind of use governs it, whatever
    /// names it lists: a container runtime may parse it differently.
    Unreadable,
}
