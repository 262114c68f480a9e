//! What SLSA provenance claims: its lock, its source, its artifacts, and when the build ended.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    digest::Digest,
    evidence::sanitize_text,
    slsa::{BUILD_TYPE, Provenance, ResourceDescriptor},
};

/// The dependency `lock`, if there is exactly one.
pub(super) fn lock_dependency(provenance: &Provenance) -> Option<&ResourceDescriptor> {
    let mut locks = provenance
        .build_definition
        .resolved_dependencies
        .iter()
        .filter(|dependency| dependency.name.as_deref() == Some("lock"));
    locks.next().filter(|_| locks.next().is_none())
}

/// The source of the lockfile itself. Sources of artifacts do not count: the author of a lockfile
/// chooses them.
pub(super) fn provenance_source(provenance: &Provenance) -> Option<&str> {
    let ours = provenance.build_definition.build_type == BUILD_TYPE;
    lock_dependency(provenance).filter(|_| ours)?.uri.as_deref()
}

/// Without `git+`, the revision behind `@`, `.git` and a final slash.
pub(super) fn normalize_source(uri: &str) -> &str {
    let uri = uri.strip_prefix("git+").unwrap_or(uri);
    let path = uri.find("://").map_or(0, |at| at + 3);
    let end = uri
        .get(path..)
        .and_then(|rest| rest.rfind('@').filter(|at| rest[..*at].contains('/')))
        .map_or(uri.len(), |at| path + at);
    let uri = uri.get(..end).unwrap_or(uri).trim_end_matches('/');
    uri.strip_suffix(".git").unwrap_or(uri)
}

/// When the build ended, as the builder says.
pub(super) fn finished_on(provenance: &Provenance) -> Option<Timestamp> {
    provenance
        .run_details
        .metadata
        .as_ref()?
        .finished_on
        .as_ref()?
        .parse()
        .ok()
}

/// The SHA-256 digest of a dependency.
pub(super) fn sha256_digest(dependency: &ResourceDescriptor) -> Option<Digest> {
    format!("sha256:{}", dependency.digest.get("sha256")?)
        .parse()
        .ok()
}

/// The artifacts with their digests. Errors: one has no SHA-256 digest, or is named twice.
pub(super) fn claimed_artifacts(
    provenance: &Provenance,
) -> Result<BTreeSet<(&str, Digest)>, String> {
    let mut claimed = BTreeSet::new();
    for dependency in &provenance.build_definition.resolved_dependencies {
        let Some(name) = dependency
            .name
            .as_deref()
            .and_then(|name| name.strip_prefix("artifact/"))
        else {
            continue;
        };
        let Some(digest) = sha256_digest(dependency) else {
            return Err(format!(
                "the provenance gives artifact {} no sha256",
                sanitize_text(name)
            ));
        };
        if !claimed.insert((name, digest)) {
            return Err(format!(
                "the provenance names artifact {} twice",
                sanitize_text(name)
            ));
        }
    }
    Ok(claimed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_compared_without_revision_and_suffix() {
        for (uri, normal) in [
            (
                "https://git.example.com/org/siem",
                "https://git.example.com/org/siem",
            ),
            (
                "git+https://git.example.com/org/siem.git@refs/heads/main",
                "https://git.example.com/org/siem",
            ),
            (
                "git+ssh://git@git.example.com/org/siem.git",
                "ssh://git@git.example.com/org/siem",
            ),
            (
                "https://git.example.com/org/siem/",
                "https://git.example.com/org/siem",
            ),
            (
                "oci://r.example.com/ctx@sha256:00",
                "oci://r.example.com/ctx",
            ),
            (
                "k8s://team-a/configmaps/siem-lock",
                "k8s://team-a/configmaps/siem-lock",
            ),
            ("", ""),
        ] {
            assert_eq!(normalize_source(uri), normal);
        }
        assert_ne!(
            normalize_source("https://git.example.com/org/siem2"),
            normalize_source("https://git.example.com/org/siem")
        );
        assert_ne!(
            normalize_source("https://git.example.com@evil.example.com/org/siem"),
            normalize_source("https://git.example.com/org/siem")
        );
    }
}
