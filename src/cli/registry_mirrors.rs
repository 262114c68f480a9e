//! Mirrors of registries, by the registries' hosts.

use std::collections::BTreeMap;

use super::{error::CliError, plain_http::canonical_registry_host};
use crate::core::reference::{MAX_REGISTRY_MIRRORS, RegistryMirror};

/// The mirrors of each registry.
#[derive(Clone, Debug, Default)]
pub(super) struct RegistryMirrorsByHost(BTreeMap<String, Vec<RegistryMirror>>);

impl RegistryMirrorsByHost {
    /// The values of `--registry-mirror`: `HOST=URL`.
    pub(super) fn parse(values: &[String]) -> Result<Self, CliError> {
        let mut all = BTreeMap::<String, Vec<String>>::new();
        for value in values {
            let (host, url) = value.split_once('=').ok_or_else(|| {
                CliError::invalid(
                    "--registry-mirror: write HOST=URL, as in docker.io=https://mirror.example.com",
                )
            })?;
            let host = canonical_registry_host(host)?;
            all.entry(host).or_default().push(url.to_owned());
        }
        let parse = |(host, urls): (String, Vec<String>)| {
            let mirrors = parse_registry_mirrors(&host, &urls)?;
            Ok((host, mirrors))
        };
        let parsed = all
            .into_iter()
            .map(parse)
            .collect::<Result<_, CliError>>()?;
        Ok(Self(parsed))
    }

    /// Takes a canonical host.
    pub(super) fn for_host(&self, host: &str) -> &[RegistryMirror] {
        self.0.get(host).map_or(&[], Vec::as_slice)
    }
}

/// Reads the URLs of a registry's mirrors.
pub(super) fn parse_registry_mirrors(
    host: &str,
    urls: &[String],
) -> Result<Vec<RegistryMirror>, CliError> {
    if urls.len() > MAX_REGISTRY_MIRRORS {
        return Err(CliError::invalid(format!(
            "registry {host} has {} mirrors, at most {MAX_REGISTRY_MIRRORS} are asked",
            urls.len()
        )));
    }
    let parse = |url: &String| {
        url.parse()
            .map_err(|cause| CliError::invalid(format!("registry {host}: {cause}")))
    };
    urls.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reason::Reason;

    fn parse(values: &[&str]) -> Result<RegistryMirrorsByHost, CliError> {
        RegistryMirrorsByHost::parse(&values.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_registry_may_have_several_mirrors() {
        let parsed = parse(&[
            "R.example.com:443=https://a.example.org",
            "r.example.com=http://b.example.org:5000/hub",
            "registry-1.docker.io=https://c.example.org",
        ])
        .expect("valid");
        for (host, mirrors) in [
            (
                "r.example.com",
                "https://a.example.org http://b.example.org:5000/hub",
            ),
            ("docker.io", "https://c.example.org"),
            ("s.example.com", ""),
        ] {
            let found = parsed.for_host(host).iter().map(ToString::to_string);
            assert_eq!(found.collect::<Vec<_>>().join(" "), mirrors, "{host}");
        }
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        let many: Vec<String> = (0..9)
            .map(|n| format!("r.example.com=https://m{n}.example.com"))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for values in [
            &[""][..],
            &["r.example.com"],
            &["=https://a.example.org"],
            &["r.example.com="],
            &["r.example.com=a.example.org"],
            &["r.example.com=https://user:hunter2@a.example.org"],
            &many,
        ] {
            let error = parse(values).expect_err("no mirrors");
            assert_eq!(error.reason, Reason::InvalidSpec, "{values:?}");
            assert!(!error.message.contains("hunter2"), "{}", error.message);
        }
    }
}
