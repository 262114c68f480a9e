//! `spec.fetch`: credentials, certificates, proxy and mirrors of downloads.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigObjectRef, NameRef};

/// How artifacts are fetched.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FetchSpec {
    /// Secrets of this namespace to show to download hosts: at most 16. Of those that are for a URL,
    /// the one with the longest path. Never sent elsewhere, neither after a redirect. Example:
    /// `[{host: files.example.com, secretRef: {name: files}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub credentials: Vec<FetchCredentialSpec>,
    /// Further certificate authorities for downloads, key `ca.crt`. Default: none. Example: `{kind:
    /// ConfigMap, name: corp-ca}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<ConfigObjectRef>,
    /// A Secret of this namespace with the proxy of downloads: `address` (such as
    /// `http://proxy.example.com:3128`), and if needed `username`, `password`, `noProxy` (hosts,
    /// domains and networks that need none, with commas) and `ca.crt`. Default: no proxy. Example:
    /// `{name: proxy}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_secret_ref: Option<NameRef>,
    /// Places to fetch from before the origin itself, tried in order: at most 16. The lock's checksum
    /// decides whether what they have is right. Example: `[{from: up.example.org, to:
    /// mirror.example.com/up}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub mirrors: Vec<FetchMirrorSpec>,
}

/// A Secret to show to a host.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FetchCredentialSpec {
    /// The host, with its port unless it is the one of https. Example: `files.example.com`.
    #[schemars(length(min = 1, max = 255))]
    pub host: String,
    /// The path that it is for, with everything below it. Default: `/`. Example: `/team-a/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: Option<String>,
    /// May it be sent without TLS, in clear text? Default: false.
    #[serde(default, rename = "plainHTTP")]
    pub plain_http: bool,
    /// The Secret: `username` and `password` (type kubernetes.io/basic-auth), or `token` (sent as
    /// bearer token), or `tls.crt` and `tls.key` (type kubernetes.io/tls, a client certificate). A
    /// client certificate may be combined with either of the others. Example: `{name: files}`.
    pub secret_ref: NameRef,
}

/// A place that has the same files as another.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FetchMirrorSpec {
    /// Beginning of URLs, with or without `http://` or `https://`: a host, and a path of whole
    /// segments. Example: `up.example.org/releases`.
    #[schemars(length(min = 1, max = 1024))]
    pub from: String,
    /// What stands there instead. Without a scheme: https. Example: `mirror.example.com/up`.
    #[schemars(length(min = 1, max = 1024))]
    pub to: String,
}
