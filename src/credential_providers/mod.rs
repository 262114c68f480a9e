//! EFFECT. Credentials from credential provider plug-ins: programs that speak kubelet's protocol.
//!
//! A program is run at most once at a time for what its answer is kept for, and again before the
//! answer ends, or when a registry refuses it. A program that fails is told by its name.
//!
//! Source: Kubernetes, "Configure a kubelet image credential provider"; `pkg/credentialprovider`.

mod cached_answers;
mod exchange;
mod failure;
mod flights;
mod identity;
mod plugin;
mod providers;

pub use failure::AccountTokenError;
pub use identity::{AccountFacts, AccountName, ServiceAccountTokens};
pub use providers::{CredentialProviders, ProviderRequester};
