//! Evidence about a digest: what was fetched, who claims to have signed it, why it is rejected, and
//! what verifying it may cost.
//!
//! Nothing here decides that a signature holds. That is `core::verify`.

mod candidates;
mod check_budget;
mod error;
mod log_entry_error;
mod signer;
mod statement_memory;

pub use candidates::{
    CosignTagCandidate, ReferrerCandidate, UnverifiedEvidence, sigstore_bundle_layer,
};
pub(crate) use check_budget::{CheckBudget, SignatureCheckCounter};
pub use error::{EvidenceError, RejectedEvidence};
pub(crate) use error::{reason_rank, sanitize_text};
pub(crate) use log_entry_error::LogEntryError;
pub use signer::{
    CertificateClaims, SignerIdentity, SigningTime, StoredSignatureFormat, TimeEvidenceStatus,
};
pub(crate) use statement_memory::StatementMemoryBudget;
