//! Who has a say in a use of an image.

use crate::core::reference::ImageRepository;

use super::{
    ImagePattern, Policy, PolicyMatcher, PolicyOrigin, PolicyRules, ReferenceUse, RevocationTarget,
};

/// What a reference names, and how it is used: enough to know who has a say.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceUseScope<'a> {
    /// What the reference names.
    pub name: ReferenceTarget<'a>,
    /// What it is used as.
    pub used_as: ReferenceUse,
    /// In which namespace.
    pub namespace: Option<&'a str>,
}

/// What a reference names.
#[derive(Clone, Copy, Debug)]
pub enum ReferenceTarget<'a> {
    /// A repository in a registry.
    Repository(&'a ImageRepository),
    /// Something on this machine's disk.
    Local,
    /// Nothing that can be understood. Every policy of the use has a say, whatever names it lists:
    /// a runtime may read it otherwise.
    Unreadable,
}

impl Policy {
    /// Does this policy have a say? If not, nothing need be fetched for it.
    pub fn governs_scope(&self, scope: &ReferenceUseScope<'_>) -> bool {
        match scope.name {
            ReferenceTarget::Repository(repository) => {
                self.governs_repository(Some(repository), scope.used_as, scope.namespace)
            }
            ReferenceTarget::Local => self.governs_repository(None, scope.used_as, scope.namespace),
            ReferenceTarget::Unreadable => governs_use(&self.rules, scope.used_as, scope.namespace),
        }
    }

    /// Does this policy have a say in such a use? If not, nothing need be fetched for it.
    pub fn governs_repository(
        &self,
        repository: Option<&ImageRepository>,
        used_as: ReferenceUse,
        namespace: Option<&str>,
    ) -> bool {
        let revokes = self
            .rules
            .revocations
            .iter()
            .any(|revocation| matches!(revocation.what, RevocationTarget::Digest(_)));
        in_scope(&self.rules, repository, used_as, namespace)
            && (revokes || !is_excepted(&self.rules, repository))
    }
}

/// Has a policy a say, and why not?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyApplicability {
    /// It has, by this pattern. `None`: it governs whatever it is asked about.
    Governs(Option<String>),
    /// It is another namespace's.
    OtherNamespace(String),
    /// It is not about such uses.
    OtherUse,
    /// None of its patterns matches.
    NoPattern,
    /// This pattern leaves it out. A revocation still counts.
    Excepted(String),
}

impl Policy {
    /// Has this policy a say in the use of a repository, and why not?
    pub fn applicability_to(
        &self,
        repository: &ImageRepository,
        used_as: ReferenceUse,
        namespace: Option<&str>,
    ) -> PolicyApplicability {
        let rules = &self.rules;
        if let PolicyOrigin::Namespaced(own) = &rules.kind
            && namespace != Some(own)
        {
            return PolicyApplicability::OtherNamespace(own.clone());
        }
        let PolicyMatcher::Names {
            references,
            except,
            uses,
        } = &rules.matcher
        else {
            return PolicyApplicability::Governs(None);
        };
        if !uses.contains(&used_as) {
            return PolicyApplicability::OtherUse;
        }
        let matching = |patterns: &[ImagePattern]| {
            patterns
                .iter()
                .find(|pattern| pattern.matches_repository(Some(repository)))
                .map(ToString::to_string)
        };
        match (matching(references), matching(except)) {
            (None, _) => PolicyApplicability::NoPattern,
            (Some(_), Some(pattern)) => PolicyApplicability::Excepted(pattern),
            (Some(pattern), None) => PolicyApplicability::Governs(Some(pattern)),
        }
    }
}

pub(super) fn in_scope(
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

/// Is this use in this namespace the policy's business, whatever is used?
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
