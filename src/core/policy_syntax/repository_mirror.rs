//! `spec.mirrors`: repositories that stand for others.

use crate::core::reference::{ImageReference, ImageRepository, host::looks_like_host};

use super::PolicyError;

/// The maximum number of mirrors in one policy.
pub const MAX_MIRRORS: usize = 16;
/// Stands in for the path below a prefix, so that the prefix can be parsed as a repository name.
const PLACEHOLDER_PATH: &str = "/below/it";

/// Requires that signed statements name the repository in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepositoryBinding {
    /// Mirrors: signed names that are accepted for other repositories.
    pub mirrors: Vec<RepositoryMirror>,
}

/// Declares the repositories below one prefix as mirrors of those below another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryMirror {
    /// The prefix of the signed name, canonical.
    from: String,
    /// The prefix of the name in use, canonical.
    to: String,
}

impl RepositoryMirror {
    /// Errors: `from` or `to`, and what is wrong with it.
    pub fn new(from: &str, to: &str) -> Result<Self, PolicyError> {
        let prefix = |text: &str, field| {
            let repository = parse_repository_name(&format!("{text}{PLACEHOLDER_PATH}"));
            let known = repository.and_then(|repository| {
                repository
                    .to_string()
                    .strip_suffix(PLACEHOLDER_PATH)
                    .map(str::to_owned)
            });
            known.filter(|_| !text.contains('@')).ok_or_else(|| {
                PolicyError::new(
                    field,
                    "must be HOST or HOST/PATH, such as registry.example.com/team-a",
                )
            })
        };
        Ok(Self {
            from: prefix(from, "from")?,
            to: prefix(to, "to")?,
        })
    }

    /// The name of the repository `signed` in the mirror.
    fn mirrored_name(&self, signed: &ImageRepository) -> Option<ImageRepository> {
        let name = signed.to_string();
        let rest = name
            .strip_prefix(&self.from)
            .filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
        format!("{}{rest}", self.to).parse().ok()
    }
}

impl RepositoryBinding {
    /// True if the signed name is the name in use, or a mirror makes it that.
    pub(in crate::core) fn names_repository(
        &self,
        signed: &ImageRepository,
        used: &ImageRepository,
    ) -> bool {
        signed == used
            || self
                .mirrors
                .iter()
                .any(|mirror| mirror.mirrored_name(signed).as_ref() == Some(used))
    }
}

/// A name without a host is a file's or a lock's.
pub(in crate::core) fn parse_repository_name(name: &str) -> Option<ImageRepository> {
    let (host, _) = name.split_once('/')?;
    looks_like_host(host)
        .then(|| name.parse::<ImageReference>().ok())?
        .map(|reference| reference.repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(name: &str) -> ImageRepository {
        name.parse().expect(name)
    }

    #[test]
    fn mirrors_stand_for_whole_segments() {
        for (from, to, signed, used) in [
            (
                "r.example.com",
                "m.example.com",
                "r.example.com/a/b",
                Some("m.example.com/a/b"),
            ),
            (
                "r.example.com",
                "m.example.com/r",
                "r.example.com/a",
                Some("m.example.com/r/a"),
            ),
            (
                "r.example.com/team-a",
                "m.example.com/a",
                "r.example.com/team-a/siem",
                Some("m.example.com/a/siem"),
            ),
            (
                "r.example.com/team-a/siem",
                "m.example.com/siem",
                "r.example.com/team-a/siem",
                Some("m.example.com/siem"),
            ),
            (
                "R.example.com.:443",
                "m.example.com:05000",
                "r.example.com/a",
                Some("m.example.com:5000/a"),
            ),
            (
                "registry-1.docker.io",
                "m.example.com/hub",
                "nginx",
                Some("m.example.com/hub/library/nginx"),
            ),
            (
                "r.example.com",
                "docker.io",
                "r.example.com/nginx",
                Some("docker.io/library/nginx"),
            ),
            (
                "r.example.com/team-a",
                "m.example.com",
                "r.example.com/team-ab/siem",
                None,
            ),
            (
                "r.example.com",
                "m.example.com",
                "r.example.com:5000/a",
                None,
            ),
            (
                "r.example.com",
                "m.example.com",
                "r.example.com.evil.example/a",
                None,
            ),
            (
                "r.example.com",
                "m.example.com",
                "x.example.com/r.example.com/a",
                None,
            ),
        ] {
            let mirror = RepositoryMirror::new(from, to).expect(from);
            assert_eq!(
                mirror.mirrored_name(&repository(signed)),
                used.map(repository),
                "{from} -> {to}: {signed}"
            );
        }
    }

    #[test]
    fn what_is_no_beginning_of_a_name_is_refused() {
        for text in [
            "",
            "/",
            "team-a",
            "team-a/siem",
            "https://r.example.com",
            "r.example.com/",
            "r.example.com/a:v1",
            "r.example.com/**",
            "r.example.com/A",
            "[::ffff:a00:1]:5000",
            "r.example.com/a@sha256:00",
        ] {
            assert_eq!(
                RepositoryMirror::new(text, "m.example.com")
                    .expect_err(text)
                    .field,
                "from"
            );
            assert_eq!(
                RepositoryMirror::new("r.example.com", text)
                    .expect_err(text)
                    .field,
                "to"
            );
        }
    }

    #[test]
    fn only_names_with_a_host_are_repositories() {
        for (name, known) in [
            ("r.example.com/a", Some("r.example.com/a")),
            ("r.example.com/a:v1", Some("r.example.com/a")),
            (
                "index.docker.io/library/nginx",
                Some("docker.io/library/nginx"),
            ),
            ("siem", None),
            ("team-a/siem", None),
            ("pkg:docker/nginx", None),
            ("pkg:docker/nginx@1", None),
            ("", None),
            ("./siem.tar", None),
        ] {
            assert_eq!(parse_repository_name(name), known.map(repository), "{name}");
        }
    }
}
