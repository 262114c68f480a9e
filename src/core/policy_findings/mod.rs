//! What a verdict says beside yes and no: denials with their reasons, which of several reasons is
//! reported, and what was found about authorities and provenance.

mod denial;
mod missing_evidence;
mod policy_verdict;

pub use denial::{Denial, Denials};
pub(crate) use missing_evidence::{
    furthest_provenance_denial, missing_attestation_denial, missing_signature_denial,
    unnamed_repository_denial,
};
pub use policy_verdict::{AuthorityFinding, PolicyVerdict, SlsaFinding};
