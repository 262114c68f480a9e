//! The registries that a command uses without TLS.
//!
//! Credentials are sent in clear text there, so each registry is named explicitly: `--plain-http`
//! without a host is for a command that uses one registry only.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use super::error::CliError;
use crate::{core::reference::canonical_host, oci::OciError};

/// The registries that are used without TLS. Clones share the state.
#[derive(Clone, Debug, Default)]
pub(super) enum PlainHttp {
    /// None.
    #[default]
    Never,
    /// The only registry that the command uses: the first one.
    Only(Arc<OnceLock<String>>),
    /// These hosts.
    Hosts(Arc<BTreeSet<String>>),
}

impl PlainHttp {
    /// The values of `--plain-http`: hosts, or an empty text for the flag alone.
    pub(super) fn new(values: &[String]) -> Result<Self, CliError> {
        let hosts = values
            .iter()
            .filter(|host| !host.is_empty())
            .map(|host| canonical_registry_host(host))
            .collect::<Result<BTreeSet<_>, _>>()?;
        match (values.is_empty(), hosts.is_empty()) {
            (true, _) => Ok(Self::Never),
            (_, true) => Ok(Self::Only(Arc::default())),
            _ => Ok(Self::Hosts(Arc::new(hosts))),
        }
    }

    /// True if this registry is used without TLS.
    ///
    /// Errors: it is unclear, because the command uses a second registry.
    pub(super) fn allows_host(&self, host: &str) -> Result<bool, OciError> {
        match self {
            Self::Never => Ok(false),
            Self::Hosts(hosts) => Ok(hosts.contains(host)),
            Self::Only(only) => match only.get_or_init(|| host.to_owned()) {
                known if known == host => Ok(true),
                known => Err(OciError::Invalid(ambiguous_host_message(known, host))),
            },
        }
    }

    /// The same for all registries that a command will use, before anything is sent to any.
    pub(super) fn check_hosts<'a>(
        &self,
        hosts: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), CliError> {
        for host in hosts {
            self.allows_host(host)?;
        }
        Ok(())
    }
}

/// The host in the form of repositories.
pub(super) fn canonical_registry_host(host: &str) -> Result<String, CliError> {
    canonical_host(host).map_err(|error| {
        CliError::invalid(format!(
            "registry {host:?} must be HOST or HOST:PORT: {error}"
        ))
    })
}

fn ambiguous_host_message(one: &str, other: &str) -> String {
    format!(
        "--plain-http does not say which registry it is for, {one} or {other}: credentials go in \
            clear there; name it, as in --plain-http={one}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::reason::Reason;

    fn plain(values: &[&str]) -> Result<PlainHttp, Reason> {
        PlainHttp::new(&values.iter().map(ToString::to_string).collect::<Vec<_>>())
            .map_err(|error| error.reason)
    }

    #[test]
    fn a_registry_that_was_not_named_keeps_tls() {
        let named = plain(&["R.example.com:5000", "s.example.com"]).expect("valid");
        for (host, expected) in [
            ("r.example.com:5000", true),
            ("s.example.com", true),
            ("r.example.com", false),
            ("t.example.com", false),
        ] {
            assert_eq!(named.allows_host(host).expect(host), expected, "{host}");
        }
        assert!(
            !plain(&[])
                .expect("valid")
                .allows_host("r.example.com")
                .expect("an answer")
        );
        assert_eq!(
            plain(&["https://r.example.com"]).map(|_| ()),
            Err(Reason::InvalidSpec)
        );
    }

    #[test]
    fn the_flag_alone_is_for_one_registry() {
        let alone = plain(&[""]).expect("valid");
        assert!(
            alone.allows_host("r.example.com").expect("the first")
                && alone.allows_host("r.example.com").expect("the same")
        );
        assert!(alone.allows_host("s.example.com").is_err(), "another");
        let error = plain(&[""])
            .expect("valid")
            .check_hosts(["r.example.com", "s.example.com"])
            .expect_err("two");
        assert!(
            error.reason == Reason::InvalidSpec
                && error.message.contains("--plain-http=r.example.com"),
            "{error:?}"
        );
        plain(&["s.example.com"])
            .expect("valid")
            .check_hosts(["r.example.com", "s.example.com"])
            .expect("it is named");
    }
}
