//! How a run fetches its downloads: `spec.fetch`, with the names of Secrets and not their content.

use serde::{Deserialize, Serialize};

/// The folder of the proxy's Secret, beside one for each credential, which is called by its
/// position: `0`, `1` and so on.
pub const FETCH_PROXY_FOLDER: &str = "proxy";

/// The keys of a Secret that a credential is made of: those of type kubernetes.io/basic-auth, a
/// bearer token (RFC 6750), and those of type kubernetes.io/tls.
pub const FETCH_CREDENTIAL_KEYS: [&str; 5] =
    ["username", "password", "token", "tls.crt", "tls.key"];
/// The keys of a Secret that a proxy is made of: as Flux has them, and the hosts that need none.
pub const FETCH_PROXY_KEYS: [&str; 5] = ["address", "username", "password", "noProxy", "ca.crt"];

/// Credentials, proxy and mirrors of downloads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobFetch {
    /// Credentials, each for what is below one path of one host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<JobFetchCredential>,
    /// The Secret with the proxy's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_secret: Option<String>,
    /// Where to fetch from first, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<JobFetchMirror>,
}

/// The credential of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobFetchCredential {
    /// The host, `HOST[:PORT]`.
    pub host: String,
    /// The path that it is for, with everything below it. Default: the whole host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Send it without TLS too.
    #[serde(default, rename = "plainHTTP", skip_serializing_if = "is_false")]
    pub plain_http: bool,
    /// The Secret's name, in the object's namespace.
    pub secret: String,
}

/// A place to fetch from in place of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobFetchMirror {
    /// The beginning of the URLs that it stands for.
    pub from: String,
    /// What stands there instead.
    pub to: String,
}

impl JobFetch {
    /// True if nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}
