//! Why a plug-in's key cannot be used.

use crate::core::{
    reason::{ClassifiedError, Reason},
    verify::PublicKeyError,
};

/// What the name of every plug-in's program begins with.
pub(super) const PROGRAM_PREFIX: &str = "sigstore-kms-";

/// Why a plug-in's key cannot be used. No variant contains a secret of ours; the program's output
/// is shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KmsError {
    /// It is not `NAME://KEY`.
    #[error("key {0:?} is neither a file nor NAME://KEY with a NAME of letters, digits and - _ .")]
    Reference(String),
    /// A scheme of cosign's that is not a plug-in.
    #[error(
        "keys are not read from {0}://; save the key to a file and name that, or use a plug-in's \
            NAME://KEY"
    )]
    Scheme(String),
    /// The program does not exist.
    #[error(
        "program {PROGRAM_PREFIX}{0} is not on the PATH: keys of {0}:// are reached through that plug-in \
            only, install it (docs/guides/keys.md)"
    )]
    NotFound(String),
    /// The program could not be run.
    #[error("plug-in {program} cannot be run: {cause}")]
    Run {
        /// The program.
        program: String,
        /// The system's error.
        cause: String,
    },
    /// No response within the timeout.
    #[error("plug-in {program} gave no answer to {method} within {seconds} s")]
    Late {
        /// The program.
        program: String,
        /// The method of the request.
        method: &'static str,
        /// The timeout in seconds.
        seconds: u64,
    },
    /// It responded with an error.
    #[error("plug-in {program} refused {method}: {message}")]
    Refused {
        /// The program.
        program: String,
        /// The method of the request.
        method: &'static str,
        /// Its error message.
        message: String,
    },
    /// Its response is invalid.
    #[error("plug-in {program} answered {method} with {fault}{said}")]
    Answer {
        /// The program.
        program: String,
        /// The method of the request.
        method: &'static str,
        /// What is wrong with the response.
        fault: &'static str,
        /// Its output on stderr, if any.
        said: String,
    },
    /// The type of its key is not supported.
    #[error("key of plug-in {program}: {error}")]
    Key {
        /// The program.
        program: String,
        /// What is wrong.
        error: PublicKeyError,
    },
    /// cosign does not support the type of its key.
    #[error(
        "key of plug-in {0} is for RSASSA-PSS, which is not signed with, because cosign cannot \
            verify it"
    )]
    Pss(String),
    /// Its signature does not match its own public key or algorithm.
    #[error(
        "plug-in {program} made a signature that its own public key ({algorithm}) does not verify"
    )]
    Signature {
        /// The program.
        program: String,
        /// The algorithm of its key.
        algorithm: &'static str,
    },
}

impl ClassifiedError for KmsError {
    fn reason(&self) -> Reason {
        match self {
            Self::Late { .. } => Reason::DeadlineExceeded,
            _ => Reason::NoSigner,
        }
    }
}
