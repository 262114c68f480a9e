//! The verdict of one policy, with what was found about its authorities and the provenance.

use crate::core::{
    evidence::{SignerIdentity, SigningTime, StoredSignatureFormat},
    intoto::Statement,
    policy::AdmissionVerdict,
    policy_syntax::{EnforcementMode, PolicyAuthority, PolicyIdentity, PolicyRules},
    verify::Verified,
};

/// The verdict of one policy, with its findings.
#[derive(Clone, Debug)]
pub struct PolicyVerdict {
    /// The identity of the policy.
    pub identity: PolicyIdentity,
    /// `metadata.generation` of the policy.
    pub generation: i64,
    /// What happens with its denials.
    pub mode: EnforcementMode,
    /// The verdict.
    pub verdict: AdmissionVerdict,
    /// The findings for each of its authorities.
    pub authorities: Vec<AuthorityFinding>,
    /// What the provenance proves. `None` if the policy requires no provenance or none passed.
    pub slsa: Option<SlsaFinding>,
    /// Its settings that weaken it.
    pub unsafe_settings: Vec<String>,
}

/// Whether an authority's signature was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityFinding {
    /// The authority's name in the policy.
    pub name: String,
    /// The signature that counts, if there is one.
    pub signature: Option<(StoredSignatureFormat, SignerIdentity, SigningTime)>,
}

/// What the SLSA provenance proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlsaFinding {
    /// The builder id.
    pub builder: String,
    /// The SLSA Build level that the policy gives that builder.
    pub level: u8,
    /// True if the dependencies were compared with the lock.
    pub lock_checked: bool,
}

impl PolicyVerdict {
    /// The verdict of the policy with these rules. `signature_of`: the signature of an authority that counts.
    pub(in crate::core) fn new<'s>(
        rules: &PolicyRules,
        verdict: AdmissionVerdict,
        slsa: Option<SlsaFinding>,
        signature_of: impl Fn(&PolicyAuthority) -> Option<&'s Verified<Statement>>,
    ) -> Self {
        let finding = |authority: &PolicyAuthority| AuthorityFinding {
            name: authority.name.clone(),
            signature: signature_of(authority).map(|signature| {
                (
                    signature.signature_format(),
                    signature.signer().clone(),
                    signature.signing_time(),
                )
            }),
        };
        Self {
            identity: rules.identity(),
            generation: rules.generation,
            mode: rules.mode,
            verdict,
            authorities: rules.authorities.iter().map(finding).collect(),
            slsa,
            unsafe_settings: rules.unsafe_settings(),
        }
    }
}
