//! What a valid `PackedBundle` asks for, and why one is invalid.

use std::time::Duration;

use super::{ConfigObjectRef, PackPodSpec, TagPolicySpec};
use crate::core::{
    job::JobFetch,
    lockfile::{Lockfile, LockfileError},
    pack,
    reason::{ClassifiedError, Reason},
    reference::{ImageRepository, ImageTag, PinnedReference},
    sbom,
};

/// The work to do.
#[derive(Clone, Debug, PartialEq)]
pub enum PackedBundleWork {
    /// Pack a lock.
    Pack(Box<PackingRequest>),
    /// Verify an existing bundle.
    Adopt(BundleAdoption),
}

/// An existing bundle to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleAdoption {
    /// Its repository and digest.
    pub reference: PinnedReference,
    /// The name of the Secret to pull it with.
    pub secret: Option<String>,
}

/// How a lock is packed.
#[derive(Clone, Debug, PartialEq)]
pub struct PackingRequest {
    /// The source of the lock.
    pub source: LockSource,
    /// The destination repository.
    pub repository: ImageRepository,
    /// The requested tag; the default is derived from the lock.
    pub tag: Option<ImageTag>,
    /// Whether the tag may be moved.
    pub tag_policy: TagPolicySpec,
    /// The name of the Secret to push with.
    pub push_secret: Option<String>,
    /// The format and layout of the bundle.
    pub output: pack::PackOptions,
    /// Who signs.
    pub signing: SigningParty,
    /// The format of the SBOM to attest, if any.
    pub sbom: Option<sbom::SbomFormat>,
    /// CA certificates for downloads.
    pub fetch_ca: Option<ConfigObjectRef>,
    /// Credentials, proxy and mirrors of downloads.
    pub fetch: JobFetch,
    /// The timeout of each Job.
    pub timeout: Duration,
    /// How many finished runs are kept.
    pub history_limits: HistoryLimits,
    /// The settings of the pack Job's Pod.
    pub pod: PackPodSpec,
}

/// The source of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockSource {
    /// The text in the object.
    Inline(String),
    /// A `ConfigMap` of the object's namespace.
    ConfigMap {
        /// The name of the `ConfigMap`.
        name: String,
        /// The key in it.
        key: String,
    },
    /// A file in a context artifact.
    Context {
        /// The repository and digest of the artifact.
        reference: PinnedReference,
        /// The path of the lock in it.
        path: String,
        /// The name of the Secret to pull it with.
        secret: Option<String>,
        /// Whether policies must admit the artifact.
        verify: bool,
    },
}

/// Who signs a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningParty {
    /// The installation, with the platform key.
    Platform,
    /// The tenant, in its namespace.
    Namespace(TenantSigner),
    /// The bundle is not signed.
    Unsigned,
}

/// A tenant's own signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSigner {
    /// The key or identity.
    pub identity: TenantSigningIdentity,
    /// The `ConfigMap` of its namespace with Sigstore's services and their trust root. Always set
    /// for a ServiceAccount.
    pub services: Option<String>,
}

/// The key or identity that a tenant signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantSigningIdentity {
    /// The key in this Secret of its namespace.
    Key(String),
    /// The ServiceAccount [`TenantSigner::ACCOUNT`] of its namespace.
    ServiceAccount,
}

impl TenantSigner {
    /// The ServiceAccount of every sign Job in a tenant's namespace.
    pub const ACCOUNT: &str = "default";

    /// The ServiceAccount's name in a certificate (Fulcio, issuer type `kubernetes`).
    pub fn service_account_identity(namespace: &str) -> String {
        format!(
            "https://kubernetes.io/namespaces/{namespace}/serviceaccounts/{}",
            Self::ACCOUNT
        )
    }
}

/// How many finished runs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Successful runs that are kept.
    pub succeeded: usize,
    /// Failed runs that are kept.
    pub failed: usize,
}

/// Why a `PackedBundle` is invalid: a field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct PackedBundleSpecError {
    /// The path of the field.
    pub field: String,
    /// What is wrong, and how to resolve it.
    pub message: String,
}

impl ClassifiedError for PackedBundleSpecError {
    fn reason(&self) -> Reason {
        Reason::InvalidSpec
    }
}

/// What is wrong with a field.
pub(super) fn invalid_field(
    field: &str,
    message: &(impl ToString + ?Sized),
) -> PackedBundleSpecError {
    PackedBundleSpecError {
        field: field.to_owned(),
        message: message.to_string(),
    }
}

/// Why a lock cannot be packed for an object.
#[derive(Debug, thiserror::Error)]
pub enum UnpackableLockError {
    /// Its origin is a file path.
    #[error(
        "{field}: {origin:?} is a file, and a path means nothing in a cluster; push lock and files \
            together (oras push) and name them in spec.source.ociRef"
    )]
    File {
        /// The field of the artifact.
        field: String,
        /// The path.
        origin: String,
    },
    /// The lock is invalid.
    #[error(transparent)]
    Lock(#[from] LockfileError),
    /// It cannot be packed in this format.
    #[error(transparent)]
    Plan(#[from] pack::PackError),
}

impl ClassifiedError for UnpackableLockError {
    fn reason(&self) -> Reason {
        match self {
            Self::File { .. } => Reason::InvalidLock,
            Self::Lock(error) => error.reason(),
            Self::Plan(error) => error.reason(),
        }
    }
}

impl PackingRequest {
    /// Checks that this lock can be packed with these options.
    pub fn check_lock(&self, lock: &Lockfile) -> Result<(), UnpackableLockError> {
        let has_files = matches!(self.source, LockSource::Context { .. });
        if let (Some((field, origin)), false) = (lock.first_file_origin(), has_files) {
            return Err(UnpackableLockError::File {
                field,
                origin: origin.to_owned(),
            });
        }
        lock.check_packable(false)?;
        pack::PackPlan::new(lock, self.output.clone())?;
        Ok(())
    }
}
