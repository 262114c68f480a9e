//! Computes the trust root in force from the objects of a cluster, as a pure function: the
//! controller, the webhook and the command line get the same result.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{TRUSTED_ROOT_KEY, TUF_ROOT_KEY, TrustRoot, TufRepositorySource};
use crate::{
    api::duration,
    core::{
        digest::Digest,
        reason::{ClassifiedError, Reason},
        timestamp::time_after,
    },
};

/// The key of the fetch state in the controller's `ConfigMap` of a root.
pub const STATE_KEY: &str = "state.json";
/// The key, in that `ConfigMap`, of the metadata that a restart needs.
pub const METADATA_KEY: &str = "tuf.json";
/// The key, in that `ConfigMap`, of roots that are newer than the stored state, or stored without
/// one.
pub const ROOTS_KEY: &str = "roots.json";

/// The prefix of the controller's `ConfigMap` for a `TrustRoot`, before the name of the object.
const CONFIG_MAP_PREFIX: &str = "packgate-trustroot-";
/// The maximum number of characters of a name with the prefix.
const MAX_NAME: usize = 230;
const DEFAULT_REFRESH_INTERVAL: Duration = Duration::from_hours(24);
const DEFAULT_MAX_STALENESS: Duration = Duration::from_hours(7 * 24);
const MIN_REFRESH_INTERVAL: Duration = Duration::from_secs(10);

type StoredTrustRootData = BTreeMap<String, String>;

/// The result of reading a `ConfigMap`.
#[derive(Clone, Copy, Debug)]
pub enum ConfigMapLookup<'a> {
    /// The `ConfigMap` was not read yet.
    Unknown,
    /// The `ConfigMap` does not exist.
    Absent,
    /// The `ConfigMap` exists, with these data.
    Present(&'a StoredTrustRootData),
}

/// What the controller stores with a root that it fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustRootFetchState {
    /// Where it was fetched from: [`TrustRoot::origin_digest`].
    pub origin: Digest,
    /// When the metadata that authenticates it expires.
    pub expires: Timestamp,
    /// When the repository was last refreshed.
    pub refreshed: Timestamp,
}

/// The trust root in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveTrustRoot<'a> {
    /// The content of `trusted_root.json`.
    pub text: &'a str,
    /// When the metadata that authenticates it expires, if it does.
    pub expires: Option<Timestamp>,
    /// When it must not be used any longer, if ever.
    pub ends: Option<Timestamp>,
}

/// Why no root is in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustRootStateError {
    /// A field is invalid.
    #[error("{field}: {problem}")]
    Spec {
        /// The path of the field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A `ConfigMap` was not read yet.
    #[error("ConfigMap {0} of the system namespace is not loaded yet; try again")]
    NotRead(String),
    /// A `ConfigMap` or its key does not exist.
    #[error("there is no ConfigMap {name} with {key} in the system namespace; create it")]
    Missing {
        /// The name of the `ConfigMap`.
        name: String,
        /// The missing key.
        key: &'static str,
    },
    /// The controller has not fetched it from its current origin yet.
    #[error("the trust root was not fetched yet: see kubectl describe trustroot {0}")]
    NotFetched(String),
    /// It has expired, and so has the grace period.
    #[error(
        "it expired at {expires} and was not renewed within {grace}: see kubectl describe \
            trustroot {name}"
    )]
    Expired {
        /// The name of the `TrustRoot`.
        name: String,
        /// When it expired.
        expires: Timestamp,
        /// The grace period.
        grace: SignedDuration,
    },
}

impl ClassifiedError for TrustRootStateError {
    fn reason(&self) -> Reason {
        match self {
            Self::Spec { .. } => Reason::InvalidSpec,
            Self::NotRead(_) | Self::Missing { .. } | Self::NotFetched(_) => {
                Reason::TrustRootUnavailable
            }
            Self::Expired { .. } => Reason::TrustRootExpired,
        }
    }
}

impl TrustRoot {
    /// The name of the `TrustRoot`.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// The `ConfigMap` of the system namespace with the root: a user's, or the controller's.
    pub fn config_map_name(&self) -> String {
        self.user_config_map_name().map_or_else(
            || format!("{CONFIG_MAP_PREFIX}{}", self.name()),
            ToOwned::to_owned,
        )
    }

    /// The `ConfigMap` of a user with the root, if it has one.
    pub fn user_config_map_name(&self) -> Option<&str> {
        Some(
            self.spec
                .trusted_root
                .as_ref()?
                .config_map_ref
                .name
                .as_str(),
        )
    }

    /// The `ConfigMap` with the first root of its TUF repository.
    pub fn tuf_root_config_map_name(&self) -> Option<&str> {
        Some(self.spec.tuf.as_ref()?.root.config_map_ref.name.as_str())
    }

    /// All `ConfigMap`s that it needs.
    pub fn config_map_names(&self) -> impl Iterator<Item = String> {
        std::iter::once(self.config_map_name())
            .chain(self.tuf_root_config_map_name().map(ToOwned::to_owned))
    }

    /// The source of the root, as in its status.
    pub const fn source(&self) -> &'static str {
        match (&self.spec.trusted_root, &self.spec.tuf) {
            (Some(_), _) => "ConfigMap",
            (None, Some(_)) => "Tuf",
            (None, None) => "PublicGood",
        }
    }

    /// The refresh interval of its repository. Errors: it is not a duration, or shorter than 10 s.
    pub fn refresh_interval(&self) -> Result<Duration, TrustRootStateError> {
        let field = "spec.tuf.interval";
        let interval = self.parse_duration_field(
            field,
            |tuf| tuf.interval.as_deref(),
            DEFAULT_REFRESH_INTERVAL,
        )?;
        let short = || TrustRootStateError::Spec {
            field,
            problem: "must be at least 10s".into(),
        };
        if interval >= MIN_REFRESH_INTERVAL {
            Ok(interval)
        } else {
            Err(short())
        }
    }

    /// How long the last good root is used after its expiry. Errors: it is not a duration.
    pub fn max_staleness(&self) -> Result<Duration, TrustRootStateError> {
        self.parse_duration_field(
            "spec.tuf.maxStaleness",
            |tuf| tuf.max_staleness.as_deref(),
            DEFAULT_MAX_STALENESS,
        )
    }

    fn parse_duration_field(
        &self,
        field: &'static str,
        get: impl Fn(&TufRepositorySource) -> Option<&str>,
        default: Duration,
    ) -> Result<Duration, TrustRootStateError> {
        let wrong = || TrustRootStateError::Spec {
            field,
            problem: "must be a duration of hours, minutes and seconds, such as 24h".into(),
        };
        self.spec
            .tuf
            .as_ref()
            .and_then(get)
            .map_or(Ok(default), |text| duration::parse(text).ok_or_else(wrong))
    }

    /// Checks every field that depends on no other object. Errors: the first invalid field.
    pub fn validate_spec(&self) -> Result<(), TrustRootStateError> {
        let spec = &self.spec;
        let count = [
            spec.trusted_root.is_some(),
            spec.tuf.is_some(),
            spec.public_good.is_some(),
        ]
        .into_iter()
        .filter(|is_there| *is_there)
        .count();
        let wrong = |field, problem: String| Err(TrustRootStateError::Spec { field, problem });
        match () {
            () if count != 1 => wrong(
                "spec",
                "must have exactly one of trustedRoot, tuf and publicGood".into(),
            ),
            () if self.user_config_map_name().is_none() && self.name().len() > MAX_NAME => wrong(
                "metadata.name",
                format!("must have at most {MAX_NAME} characters"),
            ),
            () => self
                .refresh_interval()
                .and_then(|_| self.max_staleness())
                .map(drop),
        }
    }

    /// The digest of a fetched root's origin: another repository or another first root is another
    /// origin.
    pub fn origin_digest(&self, first_root: Option<&str>) -> Digest {
        let url = self.spec.tuf.as_ref().map(|tuf| tuf.url.as_str());
        Digest::of_bytes(
            serde_json::json!([self.source(), url, first_root])
                .to_string()
                .as_bytes(),
        )
    }

    /// The root in force at `now`, from the `ConfigMap`s of the system namespace.
    ///
    /// Errors: it does not exist, was fetched from another origin, or has expired.
    pub fn find_active_root<'a>(
        &self,
        map: impl Fn(&str) -> ConfigMapLookup<'a>,
        now: Timestamp,
    ) -> Result<ActiveTrustRoot<'a>, TrustRootStateError> {
        self.validate_spec()?;
        if let Some(name) = self.user_config_map_name() {
            let text = required_config_map_key(name, TRUSTED_ROOT_KEY, &map)?;
            return Ok(ActiveTrustRoot {
                text,
                expires: None,
                ends: None,
            });
        }
        let first_root = self
            .tuf_root_config_map_name()
            .map(|name| required_config_map_key(name, TUF_ROOT_KEY, &map))
            .transpose()?;
        self.find_fetched_root(first_root, map(&self.config_map_name()), now)
    }

    /// The same for a root that the controller fetched.
    pub fn find_fetched_root<'a>(
        &self,
        first_root: Option<&str>,
        kept: ConfigMapLookup<'a>,
        now: Timestamp,
    ) -> Result<ActiveTrustRoot<'a>, TrustRootStateError> {
        let not_fetched = || TrustRootStateError::NotFetched(self.name().to_owned());
        let data = match kept {
            ConfigMapLookup::Unknown => {
                return Err(TrustRootStateError::NotRead(self.config_map_name()));
            }
            ConfigMapLookup::Absent => return Err(not_fetched()),
            ConfigMapLookup::Present(data) => data,
        };
        let text = data.get(TRUSTED_ROOT_KEY).ok_or_else(not_fetched)?;
        let kept: Option<TrustRootFetchState> = data
            .get(STATE_KEY)
            .and_then(|text| serde_json::from_str(text).ok());
        let TrustRootFetchState { expires, .. } = kept
            .filter(|kept| kept.origin == self.origin_digest(first_root))
            .ok_or_else(not_fetched)?;
        let grace = SignedDuration::try_from(self.max_staleness()?).unwrap_or(SignedDuration::MAX);
        let ends = time_after(expires, self.max_staleness()?);
        if now < ends {
            Ok(ActiveTrustRoot {
                text,
                expires: Some(expires),
                ends: Some(ends),
            })
        } else {
            Err(TrustRootStateError::Expired {
                name: self.name().to_owned(),
                expires,
                grace,
            })
        }
    }
}

fn required_config_map_key<'a>(
    name: &str,
    key: &'static str,
    map: impl Fn(&str) -> ConfigMapLookup<'a>,
) -> Result<&'a str, TrustRootStateError> {
    let missing = || TrustRootStateError::Missing {
        name: name.to_owned(),
        key,
    };
    match map(name) {
        ConfigMapLookup::Unknown => Err(TrustRootStateError::NotRead(name.to_owned())),
        ConfigMapLookup::Absent => Err(missing()),
        ConfigMapLookup::Present(data) => data.get(key).map(String::as_str).ok_or_else(missing),
    }
}

#[cfg(test)]
mod tests;
