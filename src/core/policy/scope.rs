//! Which policies govern a use of an image.

use crate::core::reference::ImageRepository;

use super::{
    AdmissionSubject, Policy, PolicyMatcher, PolicyOrigin, PolicyRules, ReferenceTarget,
    ReferenceUse, ReferenceUseScope, RevocationTarget,
};

impl Policy {
    /// True if this policy governs the use. If not, no evidence need be fetched for it.
    pub fn governs_scope(&self, scope: &ReferenceUseScope<'_>) -> bool {
        match scope.name {
            ReferenceTarget::Repository(repository) => {
                self.governs_repository(Some(repository), scope.used_as, scope.namespace)
            }
            ReferenceTarget::Local => self.governs_repository(None, scope.used_as, scope.namespace),
            ReferenceTarget::Unreadable => {
                governs_use(self.rules(), scope.used_as, scope.namespace)
            }
        }
    }

    /// True if this policy governs such a use of the repository. If not, no evidence need be
    /// fetched for it.
    pub fn governs_repository(
        &self,
        repository: Option<&ImageRepository>,
        used_as: ReferenceUse,
        namespace: Option<&str>,
    ) -> bool {
        let revokes = self
            .rules()
            .revocations
            .iter()
            .any(|revocation| matches!(revocation.what, RevocationTarget::Digest(_)));
        in_scope(self.rules(), repository, used_as, namespace)
            && (revokes || !is_excepted(self.rules(), repository))
    }
}

/// True if the policy governs this subject, or excepts it.
pub(super) fn governs_subject(rules: &PolicyRules, subject: &AdmissionSubject<'_>) -> bool {
    let AdmissionSubject {
        repository,
        used_as,
        namespace,
        ..
    } = *subject;
    in_scope(rules, repository, used_as, namespace)
}

fn in_scope(
    rules: &PolicyRules,
    repository: Option<&ImageRepository>,
    used_as: ReferenceUse,
    namespace: Option<&str>,
) -> bool {
    governs_use(rules, used_as, namespace)
        && match &rules.matcher {
            PolicyMatcher::Everything => true,
            PolicyMatcher::Names { references, .. } => references
                .iter()
                .any(|pattern| pattern.matches_repository(repository)),
        }
}

/// True if the policy governs such a use in this namespace, of some image.
fn governs_use(rules: &PolicyRules, used_as: ReferenceUse, namespace: Option<&str>) -> bool {
    let here = match &rules.kind {
        PolicyOrigin::Namespaced(own) => namespace == Some(own),
        PolicyOrigin::Cluster | PolicyOrigin::AdHoc => true,
    };
    here && match &rules.matcher {
        PolicyMatcher::Everything => true,
        PolicyMatcher::Names { uses, .. } => uses.contains(&used_as),
    }
}

pub(super) fn is_excepted(rules: &PolicyRules, repository: Option<&ImageRepository>) -> bool {
    matches!(&rules.matcher, PolicyMatcher::Names { except, .. } if except.iter().any(|pattern| pattern.matches_repository(repository)))
}
