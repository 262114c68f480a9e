//! Helpers: the cluster as users have it, through `kubectl`, `helm` and `crane`.

pub(crate) mod api;
pub(crate) mod bundle;
pub(crate) mod cluster;
pub(crate) mod installation;
pub(crate) mod namespace;
#[path = "../../it/support/origin.rs"]
pub(crate) mod origin;
pub(crate) mod program;
pub(crate) mod progress;
pub(crate) mod refusal;
pub(crate) mod registry;
pub(crate) mod requests;
pub(crate) mod server;
pub(crate) mod sigstore;
pub(crate) mod threats;
pub(crate) mod wait;

pub(crate) use cluster::Test;
