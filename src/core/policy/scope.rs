//! Which policies govern a use of an image.

use crate::core::reference::ImageRepository;

use super::{
    ImagePattern, Policy, PolicyMatcher, PolicyOrigin, PolicyRules, ReferenceUse, RevocationTarget,
};

/// A reference and how it is used: all that is needed to tell which policies govern it.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceUseScope<'a> {
    /// The target of the reference.
    pub name: ReferenceTarget<'a>,
    /// How the image is used.
    pub used_as: ReferenceUse,
    /// The namespace of the use.
    pub namespace: Option<&'a str>,
}

/// The target of a reference.
#[derive(Clone, Copy, Debug)]
pub enum ReferenceTarget<'a> {
    /// A repository in a registry.
    Repository(&'a ImageRepository),
    /// A layout or archive on this machine.
    Local,
    /// A reference that cannot be parsed. Every policy for this kind of use governs it, whatever
    /// names it lists: a container runtime may parse it differently.
    Unreadable,
}

impl Policy {
    /// True if this policy governs the use. If not, no evidence need be fetched for it.
    pub fn governs_scope(&self, scope: &ReferenceUseScope<'_>) -> bool {
        match scope.name {
            ReferenceTarget::Repository(repository) => {
                self.governs_repository(Some(repository), scope.used_as, scope.namespace)
            }
            ReferenceTarget::Local => self.governs_repository(None, scope.used_as, scope.namespace),
            ReferenceTarget::Unreadable => governs_use(&self.rules, scope.used_as, scope.namespace),
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
            .rules
            .revocations
            .iter()
            .any(|revocation| matches!(revocation.what, RevocationTarget::Digest(_)));
        in_scope(&self.rules, repository, used_as, namespace)
            && (revokes || !is_excepted(&self.rules, repository))
    }
}

/// Whether a policy governs a use, and if not, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyApplicability {
    /// It governs the use, by this pattern. `None`: it governs every use.
    Governs(Option<String>),
    /// It is the policy of this other namespace.
    OtherNamespace(String),
    /// It governs other kinds of use.
    OtherUse,
    /// None of its patterns matches.
    NoPattern,
    /// This pattern excepts it. A revocation still applies.
    Excepted(String),
}

impl Policy {
    /// Whether this policy governs the use of a repository, and if not, why.
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
