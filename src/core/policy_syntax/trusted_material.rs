//! What the policies trust, as the input of `core::verify`.

use std::collections::HashSet;

use crate::core::trusted_material::{TrustedCertificateAuthority, TrustedMaterial};

use super::{AuthorityKind, Policy};

/// All keys, certificate authorities and trust roots of these policies: the input of
/// `core::verify`, except for the time.
pub fn trusted_material<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> TrustedMaterial {
    let (mut trust, mut seen) = (TrustedMaterial::default(), HashSet::new());
    for authority in policies
        .into_iter()
        .flat_map(|policy| &policy.rules().authorities)
    {
        match &authority.kind {
            AuthorityKind::Key { key, root } => {
                if seen.insert(("key", key.fingerprint())) {
                    trust.keys.push(key.clone());
                }
                trust.key_trust_roots.extend(
                    root.iter()
                        .filter(|root| seen.insert(("vouching", root.digest())))
                        .cloned(),
                );
            }
            AuthorityKind::Keyless { root, .. } if seen.insert(("root", root.digest())) => {
                trust.roots.push(root.clone());
            }
            AuthorityKind::Keyless { .. } => {}
            AuthorityKind::Certificate {
                authority, root, ..
            } => {
                trust.authorities.push(TrustedCertificateAuthority {
                    authority: authority.clone(),
                    root: root.clone(),
                });
            }
        }
    }
    trust
}
