//! Which manifest of an index is meant by a platform, as containerd matches them: names in their
//! normal form, and older variants of a CPU where the exact one is missing.

use super::{Descriptor, Platform};
use crate::core::digest::Digest;

/// Platforms that an error lists.
const MAX_LISTED: usize = 20;

/// Why no manifest was chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformMatchError {
    /// None is for this platform.
    #[error("no manifest for {wanted}, it has {available}")]
    Missing {
        /// The requested platform.
        wanted: String,
        /// The platforms that it has.
        available: String,
    },
    /// Several are, and differ in what a platform does not name, such as the version of Windows.
    #[error("several manifests for {wanted}, name the digest of one of them: {found}")]
    Ambiguous {
        /// The requested platform.
        wanted: String,
        /// Their digests.
        found: String,
    },
}

/// The manifest for `wanted` among the manifests of an index. Of several the first one, as
/// containerd takes it; for Windows, where they differ by `os.version`, none.
pub fn choose_manifest<'a>(
    manifests: &'a [Descriptor],
    wanted: &Platform,
) -> Result<&'a Descriptor, PlatformMatchError> {
    let choices = acceptable_platforms(wanted);
    let of_platform = |choice: &Platform| -> Vec<&Descriptor> {
        let is_choice = |platform: &Platform| normalize(platform) == *choice;
        manifests
            .iter()
            .filter(|child| child.platform.as_ref().is_some_and(is_choice))
            .collect()
    };
    let found = choices
        .iter()
        .map(of_platform)
        .find(|found| !found.is_empty())
        .unwrap_or_default();
    let Some(&first) = found.first() else {
        return Err(PlatformMatchError::Missing {
            wanted: wanted.to_string(),
            available: list_platforms(manifests),
        });
    };
    let differs = found.iter().any(|other| other.digest != first.digest);
    if differs && normalize(wanted).os == "windows" {
        let digests: Vec<String> = found.iter().map(|child| child.digest.to_string()).collect();
        return Err(PlatformMatchError::Ambiguous {
            wanted: wanted.to_string(),
            found: digests.join(", "),
        });
    }
    Ok(first)
}

/// True for manifests that are chosen for no platform: attestations of build tools, which have the
/// platform `unknown/unknown`.
fn is_unknown_platform(platform: &Platform) -> bool {
    platform.os == "unknown"
}

fn list_platforms(manifests: &[Descriptor]) -> String {
    let mut names: Vec<String> = Vec::new();
    for child in manifests {
        match &child.platform {
            Some(platform) if is_unknown_platform(platform) => {}
            Some(platform) => names.push(platform.to_string()),
            None => names.push(unnamed(child.digest)),
        }
    }
    names.dedup();
    if names.is_empty() {
        return "none".into();
    }
    if names.len() > MAX_LISTED {
        let more = names.len() - MAX_LISTED;
        names.truncate(MAX_LISTED);
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

fn unnamed(digest: Digest) -> String {
    format!("{digest} without a platform")
}

/// The platforms that can be used for one, the best first: a CPU runs what was built for older
/// variants of it.
fn acceptable_platforms(wanted: &Platform) -> Vec<Platform> {
    let exact = normalize(wanted);
    let older: &[Option<&str>] = match (exact.architecture.as_str(), exact.variant.as_deref()) {
        ("arm", Some("v8")) => &[Some("v7"), Some("v6"), Some("v5")],
        ("arm", Some("v7")) => &[Some("v6"), Some("v5")],
        ("arm", Some("v6")) => &[Some("v5")],
        ("amd64", Some("v4")) => &[Some("v3"), Some("v2"), None],
        ("amd64", Some("v3")) => &[Some("v2"), None],
        ("amd64", Some("v2")) | ("arm64", Some(_)) => &[None],
        _ => &[],
    };
    let older = older.iter().map(|variant| Platform {
        variant: variant.map(Into::into),
        ..exact.clone()
    });
    std::iter::once(exact.clone()).chain(older).collect()
}

/// The one spelling of a platform: `arm64/v8` is `arm64`, `arm` is `arm/v7`.
fn normalize(platform: &Platform) -> Platform {
    let lower = |text: &str| text.to_ascii_lowercase();
    let os = match lower(&platform.os).as_str() {
        "macos" => "darwin".into(),
        os => os.to_owned(),
    };
    let given = platform.variant.as_deref().map(lower).unwrap_or_default();
    let given = if given.starts_with(|c: char| c.is_ascii_digit()) {
        format!("v{given}")
    } else {
        given
    };
    let architecture = lower(&platform.architecture);
    let (architecture, variant) = match (architecture.as_str(), given.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", "") => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        (architecture, variant) => (architecture, variant),
    };
    Platform {
        os,
        architecture: architecture.to_owned(),
        variant: (!variant.is_empty()).then(|| variant.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifests(platforms: &[&str]) -> Vec<Descriptor> {
        let manifest = |(n, name): (usize, &&str)| {
            let mut parts = name.split('/').map(ToOwned::to_owned);
            let platform = parts.next().filter(|os| !os.is_empty()).map(|os| Platform {
                os,
                architecture: parts.next().unwrap_or_default(),
                variant: parts.next(),
            });
            Descriptor {
                platform,
                ..Descriptor::of_bytes("m", n.to_string().as_bytes())
            }
        };
        platforms.iter().enumerate().map(manifest).collect()
    }

    #[test]
    fn platforms_are_matched_as_containerd_does() {
        for (wanted, available, position) in [
            (
                "linux/arm64",
                vec!["linux/amd64", "linux/arm64/v8"],
                Some(1),
            ),
            ("linux/arm64/v8", vec!["linux/arm64"], Some(0)),
            ("linux/arm64", vec!["linux/aarch64"], Some(0)),
            ("linux/arm", vec!["linux/arm/v6", "linux/arm/v7"], Some(1)),
            ("linux/arm", vec!["linux/arm/7"], Some(0)),
            (
                "linux/arm/v7",
                vec!["linux/arm/v5", "linux/arm/v6"],
                Some(1),
            ),
            ("linux/arm/v7", vec!["linux/arm"], Some(0)),
            ("linux/arm/v6", vec!["linux/arm/v7"], None),
            ("linux/arm64", vec!["linux/arm/v8", "linux/arm/v7"], None),
            ("linux/arm64/v9", vec!["linux/arm64/v8"], Some(0)),
            ("linux/amd64", vec!["linux/x86_64"], Some(0)),
            ("linux/amd64", vec!["linux/amd64/v2"], None),
            (
                "linux/amd64/v3",
                vec!["linux/amd64", "linux/amd64/v2"],
                Some(1),
            ),
            ("linux/386", vec!["linux/i386"], Some(0)),
            ("darwin/arm64", vec!["macos/arm64"], Some(0)),
            ("linux/amd64", vec!["linux/amd64", "linux/amd64"], Some(0)),
            ("linux/amd64", vec!["unknown/unknown", ""], None),
            ("linux/s390x", vec![], None),
        ] {
            let manifests = manifests(&available);
            let wanted: Platform = wanted.parse().expect(wanted);
            let chosen = choose_manifest(&manifests, &wanted).ok();
            assert_eq!(
                chosen.map(|chosen| chosen.digest),
                position.map(|at: usize| manifests[at].digest),
                "{wanted} of {available:?}"
            );
        }
    }

    #[test]
    fn what_is_there_is_listed_and_windows_is_never_guessed() {
        let list = manifests(&["linux/amd64", "linux/arm64/v8", "unknown/unknown"]);
        let wanted: Platform = "linux/s390x".parse().expect("valid");
        assert_eq!(
            choose_manifest(&list, &wanted)
                .expect_err("missing")
                .to_string(),
            "no manifest for linux/s390x, it has linux/amd64, linux/arm64/v8"
        );
        let list = manifests(&["windows/amd64", "windows/amd64"]);
        let wanted: Platform = "windows/amd64".parse().expect("valid");
        let error = choose_manifest(&list, &wanted).expect_err("two versions");
        assert!(matches!(error, PlatformMatchError::Ambiguous { .. }));
        assert!(error.to_string().contains(&list[1].digest.to_string()));
    }
}
