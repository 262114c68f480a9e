//! Why a policy governs a use of an image, or not, for people.

use crate::core::reference::ImageRepository;

use super::{ImagePattern, Policy, PolicyMatcher, PolicyOrigin, ReferenceUse};

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
        let rules = self.rules();
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
