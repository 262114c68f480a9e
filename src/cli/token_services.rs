//! Token services of other owners than their registries, which somebody allowed by name.

use std::collections::BTreeMap;

use super::{error::CliError, plain_http::canonical_registry_host};
use crate::oci::remote::AllowedTokenService;

/// The token services of each registry.
#[derive(Clone, Debug, Default)]
pub(super) struct TokenServicesByHost(BTreeMap<String, Vec<AllowedTokenService>>);

impl TokenServicesByHost {
    /// The values of `--token-service`: `HOST=URL`.
    pub(super) fn parse(values: &[String]) -> Result<Self, CliError> {
        let mut all = Self::default();
        for value in values {
            let (host, service) = value.split_once('=').ok_or_else(|| {
                CliError::invalid(
                    "--token-service: write HOST=URL, as in \
                        registry.example.com=https://auth.example.org",
                )
            })?;
            let services = parse_token_services(host, &[service.to_owned()])?;
            let host = canonical_registry_host(host)?;
            all.0.entry(host).or_default().extend(services);
        }
        Ok(all)
    }

    /// Takes a canonical host.
    pub(super) fn for_host(&self, host: &str) -> Vec<AllowedTokenService> {
        self.0.get(host).cloned().unwrap_or_default()
    }
}

/// Reads the URLs of a registry's token services.
pub(super) fn parse_token_services(
    host: &str,
    urls: &[String],
) -> Result<Vec<AllowedTokenService>, CliError> {
    let parse = |url: &String| {
        AllowedTokenService::parse(url).map_err(|cause| {
            // Without the URL, which may have a password.
            CliError::invalid(format!("token service of registry {host}: {cause}"))
        })
    };
    urls.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reason::Reason;

    fn parse(values: &[&str]) -> Result<TokenServicesByHost, CliError> {
        TokenServicesByHost::parse(&values.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_registry_may_have_several_services() {
        let parsed = parse(&[
            "R.example.com:443=https://auth.example.org",
            "r.example.com=auth.example.net",
            "docker.io=https://auth.example.org/a=b",
        ])
        .expect("valid");
        for (host, number) in [("r.example.com", 2), ("docker.io", 1), ("s.example.com", 0)] {
            assert_eq!(parsed.for_host(host).len(), number, "{host}");
        }
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        for value in [
            "",
            "r.example.com",
            "=https://auth.example.org",
            "r.example.com=",
            "r.example.com=ftp://auth.example.org",
            "https://r.example.com=https://auth.example.org",
            "r.example.com=https://user:hunter2@auth.example.org",
        ] {
            let error = parse(&[value]).expect_err(value);
            assert_eq!(error.reason, Reason::InvalidSpec, "{value}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
