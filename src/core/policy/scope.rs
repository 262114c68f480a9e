//! Who has a say in a use of an image.

use crate::core::reference::Repository;

use super::{Kind, Matcher, Pattern, Policy, Revoked, Rules, Use};

/// What a reference names, and how it is used: enough to know who has a say.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// What the reference names.
    pub name: Name<'a>,
    /// What it is used as.
    pub used_as: Use,
    /// In which namespace.
    pub namespace: Option<&'a str>,
}

/// What a reference names.
#[derive(Clone, Copy, Debug)]
pub enum Name<'a> {
    /// A repository in a registry.
    Repository(&'a Repository),
    /// Something on this machine's disk.
    Local,
    /// Nothing that can be understood. Every policy of the use has a say, whatever names it lists:
    /// a runtime may read it otherwise.
    Unreadable,
}

impl Policy {
    /// Does this policy have a say? If not, nothing need be fetched for it.
    pub fn concerns(&self, scope: &Scope<'_>) -> bool {
        match scope.name {
            Name::Repository(repository) => {
                self.governs(Some(repository), scope.used_as, scope.namespace)
            }
            Name::Local => self.governs(None, scope.used_as, scope.namespace),
            Name::Unreadable => is_for(&self.rules, scope.used_as, scope.namespace),
        }
    }

    /// Does this policy have a say in such a use? If not, nothing need be fetched for it.
    pub fn governs(
        &self,
        repository: Option<&Repository>,
        used_as: Use,
        namespace: Option<&str>,
    ) -> bool {
        let revokes = self
            .rules
            .revocations
            .iter()
            .any(|revocation| matches!(revocation.what, Revoked::Digest(_)));
        in_scope(&self.rules, repository, used_as, namespace)
            && (revokes || !is_excepted(&self.rules, repository))
    }
}

/// Has a policy a say, and why not?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stance {
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
    pub fn stance(&self, repository: &Repository, used_as: Use, namespace: Option<&str>) -> Stance {
        let rules = &self.rules;
        if let Kind::Namespaced(own) = &rules.kind
            && namespace != Some(own)
        {
            return Stance::OtherNamespace(own.clone());
        }
        let Matcher::Names {
            references,
            except,
            uses,
        } = &rules.matcher
        else {
            return Stance::Governs(None);
        };
        if !uses.contains(&used_as) {
            return Stance::OtherUse;
        }
        let matching = |patterns: &[Pattern]| {
            patterns
                .iter()
                .find(|pattern| pattern.matches(Some(repository)))
                .map(ToString::to_string)
        };
        match (matching(references), matching(except)) {
            (None, _) => Stance::NoPattern,
            (Some(_), Some(pattern)) => Stance::Excepted(pattern),
            (Some(pattern), None) => Stance::Governs(Some(pattern)),
        }
    }
}

pub(super) fn in_scope(
    rules: &Rules,
    repository: Option<&Repository>,
    used_as: Use,
    namespace: Option<&str>,
) -> bool {
    is_for(rules, used_as, namespace)
        && match &rules.matcher {
            Matcher::Everything => true,
            Matcher::Names { references, .. } => {
                references.iter().any(|pattern| pattern.matches(repository))
            }
        }
}

/// Is this use in this namespace the policy's business, whatever is used?
fn is_for(rules: &Rules, used_as: Use, namespace: Option<&str>) -> bool {
    let here = match &rules.kind {
        Kind::Namespaced(own) => namespace == Some(own),
        Kind::Cluster | Kind::AdHoc => true,
    };
    here && match &rules.matcher {
        Matcher::Everything => true,
        Matcher::Names { uses, .. } => uses.contains(&used_as),
    }
}

pub(super) fn is_excepted(rules: &Rules, repository: Option<&Repository>) -> bool {
    matches!(&rules.matcher, Matcher::Names { except, .. } if except.iter().any(|pattern| pattern.matches(repository)))
}
