//! Whose statements count for a policy.

use jiff::Timestamp;

use crate::core::{
    evidence::{SignerIdentity, TimeEvidenceStatus},
    intoto::Statement,
    verify::Verified,
};

use super::{
    AuthorityKind, PolicyAuthority, PolicyRules, RevocationTarget, TransparencyRequirement,
};

impl PolicyAuthority {
    /// True if this signer may be the authority. Trust root and claims are not compared.
    pub fn matches_signer(&self, signer: &SignerIdentity) -> bool {
        match (&self.kind, signer) {
            (AuthorityKind::Key { key, .. }, SignerIdentity::Key { fingerprint }) => {
                key.fingerprint() == *fingerprint
            }
            (
                AuthorityKind::Keyless {
                    subject, issuer, ..
                },
                SignerIdentity::Identity { san, issuer: found },
            ) => issuer == found && subject.matches_name(san),
            (
                AuthorityKind::Certificate {
                    subject, authority, ..
                },
                SignerIdentity::Certificate {
                    san,
                    authority: found,
                },
            ) => authority.digest() == *found && subject.matches_name(san),
            _ => false,
        }
    }

    /// True if `statement` is signed by the authority: its signer, trust root and claims match.
    ///
    /// An authority with a key or a private CA, and a trust root, accepts no signature whose log
    /// entries and timestamps that root does not verify. A signature that carries neither is not
    /// affected by the trust root.
    pub fn accepts_statement<T>(&self, statement: &Verified<T>) -> bool {
        self.matches_signer(statement.signer())
            && match &self.kind {
                AuthorityKind::Key { root: None, .. }
                | AuthorityKind::Certificate { root: None, .. } => statement.trust_root().is_none(),
                AuthorityKind::Key {
                    root: Some(root), ..
                }
                | AuthorityKind::Certificate {
                    root: Some(root), ..
                } => {
                    statement.time_evidence() == TimeEvidenceStatus::Absent
                        || statement.trust_root() == Some(&root.digest())
                            && statement.time_evidence() == TimeEvidenceStatus::Verified
                }
                AuthorityKind::Keyless { root, claims, .. } => {
                    statement.trust_root() == Some(&root.digest())
                        && claims.is_met_by(statement.certificate_claims())
                }
            }
    }
}

impl PolicyRules {
    /// True if one of the authorities made the statement, as [`Self::counts_for_authority`] says.
    pub(in crate::core) fn counts(&self, statement: &Verified<Statement>) -> bool {
        self.authorities
            .iter()
            .any(|authority| self.counts_for_authority(authority, statement))
    }

    /// True if the authority made the statement, in an accepted format and with the transparency
    /// that the policy requires.
    pub(in crate::core) fn counts_for_authority(
        &self,
        authority: &PolicyAuthority,
        statement: &Verified<Statement>,
    ) -> bool {
        let logged =
            self.transparency == TransparencyRequirement::Optional || statement.is_logged();
        logged
            && self.formats.contains(&statement.signature_format())
            && authority.accepts_statement(statement)
    }

    /// True if this signer may be one of the authorities.
    pub(in crate::core) fn lists_signer(&self, signer: &SignerIdentity) -> bool {
        self.authorities
            .iter()
            .any(|authority| authority.matches_signer(signer))
    }

    /// Why this target is revoked at `now`, if it is.
    pub(super) fn revocation_of(&self, target: &RevocationTarget, now: Timestamp) -> Option<&str> {
        self.revocations
            .iter()
            .find(|revocation| revocation.what == *target && revocation.is_in_effect(now))
            .map(|revocation| revocation.reason.as_str())
    }
}
