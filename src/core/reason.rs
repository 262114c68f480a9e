//! Causes of results: the stable [`Reason`], and the [`Class`] that decides how to react.
//!
//! A reason is an identifier for scripts: a condition's reason, a metric label, a field of the JSON
//! report. A class is what a caller acts on: the command line's exit code, a Job's pod failure
//! policy, a controller's retry.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How to react to a failure. Maps to the command line's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Class {
    /// The verdict is a denial. Exit code 1.
    Denied,
    /// Input, spec or configuration is invalid; the user must change it. Exit code 2.
    Invalid,
    /// A dependency is unavailable; a retry may help. Exit code 3.
    Unavailable,
    /// Bytes do not match their digest, size or format. Exit code 4.
    Corrupt,
    /// An internal error. Exit code 70.
    Internal,
}

impl Class {
    /// The exit code of a command that ends with this class (`sysexits.h` for internal errors).
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Denied => 1,
            Self::Invalid => 2,
            Self::Unavailable => 3,
            Self::Corrupt => 4,
            Self::Internal => 70,
        }
    }
}

macro_rules! reasons {
    ($($class:ident { $($(#[$doc:meta])* $name:ident,)* })*) => {
        /// The stable, CamelCase name of a cause.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Reason { $($($(#[$doc])* $name,)*)* }

        impl Reason {
            /// Every reason, in declaration order.
            pub const ALL: &'static [Self] = &[$($(Self::$name,)*)*];

            /// The class of this reason.
            pub const fn class(self) -> Class {
                match self { $($(Self::$name => Class::$class,)*)* }
            }

            /// The reason's name in all outputs.
            pub const fn as_str(self) -> &'static str {
                match self { $($(Self::$name => stringify!($name),)*)* }
            }
        }
    };
}

reasons! {
    Denied {
        /// No signature or attestation was found.
        NoSignatures,
        /// No authority of the policy made any of the signatures.
        NoMatchingAuthority,
        /// Fewer distinct authorities signed than the policy requires.
        ThresholdNotMet,
        /// A signature that names a listed key is invalid.
        InvalidSignature,
        /// A verified statement is about another digest.
        SubjectMismatch,
        /// The certificate's identity or issuer is not the required one.
        IdentityMismatch,
        /// The certificate was not valid at the signing time.
        CertificateExpired,
        /// The certificate does not chain to the trust root.
        UntrustedChain,
        /// There is no trusted evidence of the signing time.
        NoTrustedTime,
        /// The log entry is about another signature, key or artifact.
        LogEntryMismatch,
        /// The log's inclusion proof or checkpoint is invalid.
        InvalidInclusionProof,
        /// The signed timestamp is invalid.
        InvalidTimestamp,
        /// No provenance attestation was found.
        NoProvenance,
        /// The provenance names a builder that the policy does not list.
        BuilderNotTrusted,
        /// The authority that signed the provenance is not permitted to sign for that builder.
        BuilderNotBoundToSigner,
        /// The builder's SLSA Build level is below the minimum.
        LevelTooLow,
        /// The provenance names another source.
        SourceMismatch,
        /// The provenance is older than the policy allows.
        ProvenanceTooOld,
        /// The bundle or its provenance does not match the lock.
        LockMismatch,
        /// There are attestations, but none of the required type.
        PredicateTypeMismatch,
        /// The reference has no digest.
        DigestRequired,
        /// The signature was made for another repository.
        RepositoryMismatch,
        /// An evidence item could not be parsed.
        MalformedEvidence,
        /// More referrers than the limit.
        TooManyReferrers,
        /// Some other limit was exceeded.
        LimitExceeded,
        /// A policy revokes this digest, key or builder.
        Revoked,
        /// The address may not be reached from here.
        AddressNotAllowed,
        /// The trust root has expired.
        TrustRootExpired,
        /// The Pod of a Job was refused.
        PodDenied,
        /// A Job ended without success.
        JobFailed,
        /// An exemption admits it.
        Exempt,
        /// No policy governs this use.
        Ungoverned,
    }
    Corrupt {
        /// Bytes do not match their digest.
        DigestMismatch,
        /// The number of bytes differs from the declared one.
        SizeMismatch,
        /// An artifact's bytes do not match the lock's checksum.
        ChecksumMismatch,
        /// A manifest, index, config or layout violates its format.
        MalformedManifest,
    }
    Unavailable {
        /// The registry is unavailable.
        RegistryUnavailable,
        /// The registry refused, or requires credentials that are not configured.
        RegistryDenied,
        /// The registry limits the rate of requests.
        RateLimited,
        /// The deadline has passed.
        DeadlineExceeded,
        /// The trust root could not be fetched or read.
        TrustRootUnavailable,
        /// An artifact could not be fetched.
        FetchFailed,
        /// The named object does not exist.
        SourceNotFound,
        /// Too many verifications wait already.
        Overloaded,
        /// The local disk or stream failed.
        StorageFailed,
    }
    Invalid {
        /// The lockfile or manifest is invalid.
        InvalidLock,
        /// An argument, field, policy or configuration is invalid.
        InvalidSpec,
        /// The checksum of an `oci` artifact cannot be verified.
        UnverifiableOci,
        /// The digest cannot be predicted from what is known.
        NotPredictable,
        /// There is no valid signing key.
        NoSigner,
        /// A Secret may not be read.
        SecretAccessDenied,
        /// The tag already names another digest.
        TagConflict,
        /// The registry refused it for good: the tag is immutable, the manifest is not accepted,
        /// the repository does not exist.
        RegistryRefused,
    }
    Internal {
        /// A bug in packgate.
        Internal,
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error with a reason code. Every top-level error of the project implements it.
pub trait ClassifiedError: std::error::Error {
    /// The stable name of the cause.
    fn reason(&self) -> Reason;

    /// The class of the error.
    fn class(&self) -> Class {
        self.reason().class()
    }
}

/// Implements [`ClassifiedError`]: `classify!(DigestError, |_| Reason::InvalidSpec);`, or with a
/// `match` of the error.
macro_rules! classify {
    ($error:ty, |$this:pat_param| $reason:expr) => {
        impl $crate::core::reason::ClassifiedError for $error {
            fn reason(&self) -> $crate::core::reason::Reason {
                let $this = self;
                $reason
            }
        }
    };
}
pub(crate) use classify;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_contract() {
        let table = [
            (Class::Denied, 1),
            (Class::Invalid, 2),
            (Class::Unavailable, 3),
            (Class::Corrupt, 4),
            (Class::Internal, 70),
        ];
        for (class, code) in table {
            assert_eq!(class.exit_code(), code, "{class:?}");
        }
    }

    #[test]
    fn reasons_are_written_as_they_are_named() {
        for reason in Reason::ALL {
            let json = serde_json::to_string(reason).expect("a unit variant");
            assert_eq!(json, format!("\"{reason}\""));
        }
    }

    #[test]
    fn classes_are_the_contract() {
        for (reason, class) in [
            (Reason::DigestMismatch, Class::Corrupt),
            (Reason::ChecksumMismatch, Class::Corrupt),
            (Reason::MalformedManifest, Class::Corrupt),
            (Reason::SourceNotFound, Class::Unavailable),
            (Reason::RateLimited, Class::Unavailable),
            (Reason::TagConflict, Class::Invalid),
            (Reason::RegistryRefused, Class::Invalid),
            (Reason::NotPredictable, Class::Invalid),
            (Reason::LockMismatch, Class::Denied),
            (Reason::MalformedEvidence, Class::Denied),
        ] {
            assert_eq!(reason.class(), class, "{reason}");
        }
    }
}
