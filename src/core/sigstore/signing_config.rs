//! The services for signing: `signing_config.json`, version 0.2.
//!
//! Source: sigstore protobuf-specs, `sigstore_trustroot.proto`, "SigningConfig", and the selection
//! that sigstore-go makes: only services that are valid now, of the highest version that packgate
//! supports, the newest of each operator.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::Deserialize;
use url::Url;

use crate::core::{
    json::{self, JsonError},
    limits::InputLimits,
    reason::{Reason, classify},
};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.signingconfig.v0.2+json";
/// The maximum number of services of one kind in a file, more than real configurations have.
const MAX_SERVICES: usize = 64;

/// A parsed `signing_config.json`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigstoreSigningConfig {
    media_type: String,
    #[serde(default)]
    ca_urls: Vec<SigningConfigService>,
    #[serde(default)]
    rekor_tlog_urls: Vec<SigningConfigService>,
    rekor_tlog_config: Option<ServiceConfiguration>,
    #[serde(default)]
    tsa_urls: Vec<SigningConfigService>,
    tsa_config: Option<ServiceConfiguration>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SigningConfigService {
    url: String,
    major_api_version: u32,
    valid_for: Option<ServiceValidity>,
    #[serde(default)]
    operator: String,
}

#[derive(Clone, Debug, Deserialize)]
struct ServiceValidity {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct ServiceConfiguration {
    #[serde(default)]
    selector: ServiceSelector,
    #[serde(default)]
    count: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
enum ServiceSelector {
    #[default]
    #[serde(rename = "SERVICE_SELECTOR_UNDEFINED")]
    Undefined,
    #[serde(rename = "ALL")]
    All,
    #[serde(rename = "ANY")]
    Any,
    #[serde(rename = "EXACT")]
    Exact,
}

/// The services that are valid at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectedServices {
    /// The certificate authority. `None` if the file has none; then only keys can sign.
    pub fulcio: Option<Url>,
    /// The transparency logs; all of them get an entry.
    pub logs: Vec<RekorLog>,
    /// The timestamp authorities; all of them are used.
    pub timestamps: Vec<Url>,
}

/// A transparency log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RekorLog {
    pub url: Url,
    /// Its API version.
    pub version: RekorVersion,
}

/// The versions of Rekor's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RekorVersion {
    /// Signs the integrated time of its entries.
    V1,
    /// Gives no time.
    V2,
}

/// Why a signing configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SigningConfigError {
    #[error("signing configuration cannot be read: {0}")]
    Json(#[from] JsonError),
    #[error(
        "signing configuration has the media type {0:?}, only {MEDIA_TYPE} is supported; cosign \
            signing-config create writes it"
    )]
    MediaType(String),
    #[error(
        "signing configuration names {count} services under {field}, the limit is {MAX_SERVICES}"
    )]
    TooMany { field: &'static str, count: usize },
    #[error(
        "signing configuration has no service under {field} that is valid at {now} and has a \
            supported version ({versions})"
    )]
    NoneUsable {
        field: &'static str,
        now: Timestamp,
        versions: &'static str,
    },
    #[error(
        "signing configuration has no usable selector under {field}; it must be ANY, ALL, or EXACT \
            with a count"
    )]
    Selector { field: &'static str },
    #[error(
        "signing configuration asks for {wanted} services under {field}, of distinct operators \
            there are {found}"
    )]
    TooFewServices {
        field: &'static str,
        wanted: usize,
        found: usize,
    },
    #[error(
        "signing configuration names {0:?}, which is no http or https URL without user, query and \
            fragment"
    )]
    Url(String),
    /// Nothing would prove the signing time.
    #[error(
        "signing configuration names a Rekor 2 log and no timestamp authority: such a log does not \
            timestamp entries; add one under tsaUrls"
    )]
    NoTimestampAuthority,
}

classify!(SigningConfigError, |_| Reason::InvalidSpec);

impl SigstoreSigningConfig {
    /// Parses a `signing_config.json` of at most `limits.manifest_bytes`.
    pub fn parse(bytes: &[u8], limits: &InputLimits) -> Result<Self, SigningConfigError> {
        let config: Self = json::parse_strict(bytes, limits.manifest_bytes, limits.json_depth)?;
        if config.media_type != MEDIA_TYPE {
            return Err(SigningConfigError::MediaType(
                config.media_type.chars().take(120).collect(),
            ));
        }
        for (field, list) in [
            ("caUrls", &config.ca_urls),
            ("rekorTlogUrls", &config.rekor_tlog_urls),
            ("tsaUrls", &config.tsa_urls),
        ] {
            if list.len() > MAX_SERVICES {
                return Err(SigningConfigError::TooMany {
                    field,
                    count: list.len(),
                });
            }
        }
        Ok(config)
    }

    /// The services that are valid now. An empty list selects none; one without a valid and
    /// supported service is an error, never treated as empty.
    pub fn select_services(&self, now: Timestamp) -> Result<SelectedServices, SigningConfigError> {
        let fulcio = newest_usable_services("caUrls", &self.ca_urls, &[1], "1", now)?
            .first()
            .map(|service| service.parse_url())
            .transpose()?;
        let logs = apply_selector(
            "rekorTlogConfig",
            newest_usable_services(
                "rekorTlogUrls",
                &self.rekor_tlog_urls,
                &[2, 1],
                "1 and 2",
                now,
            )?,
            self.rekor_tlog_config,
        )?;
        let logs = logs
            .into_iter()
            .map(SigningConfigService::to_rekor_log)
            .collect::<Result<Vec<_>, _>>()?;
        let timestamps = apply_selector(
            "tsaConfig",
            newest_usable_services("tsaUrls", &self.tsa_urls, &[1], "1", now)?,
            self.tsa_config,
        )?;
        let timestamps = timestamps
            .into_iter()
            .map(SigningConfigService::parse_url)
            .collect::<Result<Vec<_>, _>>()?;
        if timestamps.is_empty() && logs.iter().any(|log| log.version == RekorVersion::V2) {
            return Err(SigningConfigError::NoTimestampAuthority);
        }
        Ok(SelectedServices {
            fulcio,
            logs,
            timestamps,
        })
    }
}

/// The newest service of each operator that is valid now, of the first of `versions` that any has.
fn newest_usable_services<'a>(
    field: &'static str,
    list: &'a [SigningConfigService],
    versions: &[u32],
    shown: &'static str,
    now: Timestamp,
) -> Result<Vec<&'a SigningConfigService>, SigningConfigError> {
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let mut newest: Vec<&SigningConfigService> = list
        .iter()
        .filter(|service| service.is_valid_at(now))
        .collect();
    newest.sort_by_key(|service| std::cmp::Reverse(service.validity_start()));
    for version in versions {
        let mut operators = HashSet::new();
        let found: Vec<&SigningConfigService> = newest
            .iter()
            .filter(|service| {
                service.major_api_version == *version && operators.insert(&service.operator)
            })
            .copied()
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(SigningConfigError::NoneUsable {
        field,
        now,
        versions: shown,
    })
}

/// As many as are required. For `ANY` it is the newest one: a random choice would make errors hard
/// to reproduce.
fn apply_selector<'a>(
    field: &'static str,
    mut found: Vec<&'a SigningConfigService>,
    selection: Option<ServiceConfiguration>,
) -> Result<Vec<&'a SigningConfigService>, SigningConfigError> {
    if found.is_empty() {
        return Ok(found);
    }
    let wanted = match selection {
        Some(ServiceConfiguration {
            selector: ServiceSelector::All,
            ..
        }) => found.len(),
        Some(ServiceConfiguration {
            selector: ServiceSelector::Any,
            ..
        })
        | None => 1,
        Some(ServiceConfiguration {
            selector: ServiceSelector::Exact,
            count,
        }) if count > 0 => count,
        Some(_) => return Err(SigningConfigError::Selector { field }),
    };
    if wanted > found.len() {
        return Err(SigningConfigError::TooFewServices {
            field,
            wanted,
            found: found.len(),
        });
    }
    found.truncate(wanted);
    Ok(found)
}

impl SigningConfigService {
    fn validity_start(&self) -> Option<Timestamp> {
        self.valid_for.as_ref()?.start
    }

    fn is_valid_at(&self, now: Timestamp) -> bool {
        let Some(ServiceValidity { start, end }) = &self.valid_for else {
            return true;
        };
        start.is_none_or(|start| start <= now) && end.is_none_or(|end| now <= end)
    }

    /// Errors show only the scheme and host of a URL: the rest may be a secret.
    fn parse_url(&self) -> Result<Url, SigningConfigError> {
        let url: Url = self
            .url
            .parse()
            .map_err(|_| SigningConfigError::Url("text that is no URL".into()))?;
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if plain && url.has_host() && matches!(url.scheme(), "http" | "https") {
            return Ok(url);
        }
        Err(SigningConfigError::Url(
            format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default())
                .chars()
                .take(200)
                .collect(),
        ))
    }

    fn to_rekor_log(&self) -> Result<RekorLog, SigningConfigError> {
        let version = if self.major_api_version == 1 {
            RekorVersion::V1
        } else {
            RekorVersion::V2
        };
        Ok(RekorLog {
            url: self.parse_url()?,
            version,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::core::reason::ClassifiedError;

    fn service(url: &str, version: u32, operator: &str, start: &str, end: Option<&str>) -> Value {
        let mut window = json!({"start": start});
        if let Some(end) = end {
            window["end"] = end.into();
        }
        json!({"url": url, "majorApiVersion": version, "validFor": window, "operator": operator})
    }

    /// The output of `cosign signing-config create`.
    fn config() -> Value {
        let from = "2026-01-01T00:00:00Z";
        json!({
            "mediaType": MEDIA_TYPE,
            "caUrls": [service("https://fulcio.example.com", 1, "a", from, None)],
            "oidcUrls": [service("https://oidc.example.com", 1, "a", from, None)],
            "rekorTlogUrls": [service("https://rekor.example.com", 2, "a", from, None)],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaUrls": [service("https://tsa.example.com/api/v1/timestamp", 1, "a", from, None)],
            "tsaConfig": {"selector": "ANY"},
        })
    }

    fn services(config: &Value) -> Result<SelectedServices, SigningConfigError> {
        let now = "2026-11-21T10:00:00Z".parse().expect("a time");
        SigstoreSigningConfig::parse(config.to_string().as_bytes(), &InputLimits::DEFAULT)?
            .select_services(now)
    }

    fn logs(config: &Value) -> Vec<(String, RekorVersion)> {
        services(config)
            .expect("usable")
            .logs
            .into_iter()
            .map(|log| (log.url.to_string(), log.version))
            .collect()
    }

    #[test]
    fn every_service_is_found() {
        let SelectedServices {
            fulcio,
            logs,
            timestamps,
        } = services(&config()).expect("usable");
        assert_eq!(
            fulcio.expect("named").as_str(),
            "https://fulcio.example.com/"
        );
        assert_eq!(
            logs,
            [RekorLog {
                url: "https://rekor.example.com".parse().expect("a URL"),
                version: RekorVersion::V2
            }]
        );
        assert_eq!(
            timestamps[0].as_str(),
            "https://tsa.example.com/api/v1/timestamp"
        );
    }

    #[test]
    fn what_sigstore_publishes_is_read() {
        use sigstore_trust_root::{
            SIGSTORE_PRODUCTION_SIGNING_CONFIG, SIGSTORE_STAGING_SIGNING_CONFIG,
        };
        let now = "2026-11-21T10:00:00Z".parse().expect("a time");
        for (text, domain) in [
            (SIGSTORE_PRODUCTION_SIGNING_CONFIG, "sigstore.dev"),
            (SIGSTORE_STAGING_SIGNING_CONFIG, "sigstage.dev"),
        ] {
            let config =
                SigstoreSigningConfig::parse(text.as_bytes(), &InputLimits::DEFAULT).expect(domain);
            let SelectedServices {
                fulcio,
                logs,
                timestamps,
            } = config.select_services(now).expect(domain);
            assert!(!logs.is_empty(), "{domain}");
            let urls = fulcio
                .iter()
                .chain(logs.iter().map(|log| &log.url))
                .chain(&timestamps);
            assert!(
                urls.map(|url| url.host_str().unwrap_or_default())
                    .all(|host| host.ends_with(domain)),
                "{domain}"
            );
            assert!(fulcio.is_some(), "{domain}");
        }
    }

    #[test]
    fn empty_lists_give_nothing() {
        let found = services(&json!({"mediaType": MEDIA_TYPE})).expect("usable");
        assert_eq!(
            found,
            SelectedServices {
                fulcio: None,
                logs: Vec::new(),
                timestamps: Vec::new()
            }
        );
    }

    #[test]
    fn the_highest_version_and_the_newest_of_each_operator_are_taken() {
        let mut config = config();
        config["rekorTlogUrls"] = json!([
            service(
                "https://v1.example.com",
                1,
                "a",
                "2026-06-01T00:00:00Z",
                None
            ),
            service(
                "https://old.example.com",
                2,
                "a",
                "2025-01-01T00:00:00Z",
                None
            ),
            service(
                "https://new.example.com",
                2,
                "a",
                "2026-02-01T00:00:00Z",
                None
            ),
            service(
                "https://other.example.com",
                2,
                "b",
                "2025-06-01T00:00:00Z",
                None
            ),
            service(
                "https://over.example.com",
                2,
                "c",
                "2025-06-01T00:00:00Z",
                Some("2026-01-01T00:00:00Z")
            ),
            service(
                "https://later.example.com",
                2,
                "d",
                "2027-06-01T00:00:00Z",
                None
            ),
            service(
                "https://v3.example.com",
                3,
                "e",
                "2026-06-01T00:00:00Z",
                None
            ),
        ]);
        let (new, other) = (
            ("https://new.example.com/".to_owned(), RekorVersion::V2),
            ("https://other.example.com/".to_owned(), RekorVersion::V2),
        );
        assert_eq!(logs(&config), std::slice::from_ref(&new));
        config["rekorTlogConfig"] = json!({"selector": "ALL"});
        assert_eq!(logs(&config), [new.clone(), other.clone()]);
        config["rekorTlogConfig"] = json!({"selector": "EXACT", "count": 2});
        assert_eq!(logs(&config), [new, other]);
        config["rekorTlogUrls"] = json!([service(
            "https://v1.example.com",
            1,
            "a",
            "2026-06-01T00:00:00Z",
            None
        )]);
        config["rekorTlogConfig"] = json!({"selector": "ANY"});
        assert_eq!(
            logs(&config),
            [("https://v1.example.com/".to_owned(), RekorVersion::V1)]
        );
    }

    type Change = fn(&mut Value);

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        let table: &[(&str, Change)] = &[
            ("media type", |c| {
                c["mediaType"] = "application/vnd.dev.sigstore.signingconfig.v0.1+json".into();
            }),
            ("under caUrls", |c| {
                c["caUrls"][0]["validFor"]["end"] = "2026-02-01T00:00:00Z".into();
            }),
            ("under rekorTlogUrls", |c| {
                c["rekorTlogUrls"][0]["majorApiVersion"] = 3.into();
            }),
            ("under tsaUrls", |c| {
                c["tsaUrls"][0]["validFor"]["start"] = "2027-01-01T00:00:00Z".into();
            }),
            ("selector under rekorTlogConfig", |c| {
                c["rekorTlogConfig"] = json!({});
            }),
            ("selector under tsaConfig", |c| {
                c["tsaConfig"] = json!({"selector": "EXACT"});
            }),
            ("unknown variant", |c| {
                c["tsaConfig"] = json!({"selector": "SOME"});
            }),
            ("asks for 2 services under tsaConfig", |c| {
                c["tsaConfig"] = json!({"selector": "EXACT", "count": 2});
            }),
            ("no timestamp authority", |c| c["tsaUrls"] = json!([])),
            ("no http or https URL", |c| {
                c["caUrls"][0]["url"] = "ftp://fulcio.example.com".into();
            }),
            ("no http or https URL", |c| {
                c["caUrls"][0]["url"] = "https://user:hunter2@fulcio.example.com".into();
            }),
            ("no http or https URL", |c| {
                c["caUrls"][0]["url"] = "https://fulcio.example.com/?hunter2".into();
            }),
            ("no http or https URL", |c| {
                c["caUrls"][0]["url"] = "hunter2".into();
            }),
            ("limit is 64", |c| {
                c["tsaUrls"] = vec![c["tsaUrls"][0].clone(); 65].into();
            }),
        ];
        for (part, change) in table {
            let mut config = config();
            change(&mut config);
            let error = services(&config).expect_err(part);
            assert!(error.to_string().contains(part), "{part}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert_eq!(error.reason(), Reason::InvalidSpec);
        }
    }
}
