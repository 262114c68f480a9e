//! What requests do with repositories, and the scopes of the tokens for that (distribution's token
//! scope specification).

use crate::core::reference::ImageRepository;

/// What a request does, which determines the scope of its token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum RegistryAccess {
    Pull,
    Push,
    /// Push to this repository, and pull from another one.
    Mount(ImageRepository),
}

impl RegistryAccess {
    pub(super) fn token_scopes(&self, repository: &ImageRepository) -> Vec<String> {
        let scope = |repository: &ImageRepository, actions| {
            format!("repository:{}:{actions}", repository.path())
        };
        match self {
            Self::Pull => vec![scope(repository, "pull")],
            Self::Push => vec![scope(repository, "pull,push")],
            Self::Mount(from) => vec![scope(repository, "pull,push"), scope(from, "pull")],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_name_the_least_that_is_needed() {
        let repository: ImageRepository = "r.example.com/a/b".parse().expect("valid");
        let from: ImageRepository = "r.example.com/c".parse().expect("valid");
        for (access, scopes) in [
            (RegistryAccess::Pull, vec!["repository:a/b:pull"]),
            (RegistryAccess::Push, vec!["repository:a/b:pull,push"]),
            (
                RegistryAccess::Mount(from),
                vec!["repository:a/b:pull,push", "repository:c:pull"],
            ),
        ] {
            assert_eq!(access.token_scopes(&repository), scopes);
        }
    }
}
