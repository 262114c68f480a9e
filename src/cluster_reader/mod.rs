//! EFFECT. Reads from a cluster what verdicts depend on: policies with the objects that they refer
//! to, the chart's registries with their CA certificates, pull Secrets, tokens of ServiceAccounts,
//! and single objects that are watched.

mod access_denial;
mod account_tokens;
mod admission_access;
mod ca_certificates;
mod object_name;
mod policies;
mod pull_credentials;
mod pull_secrets;
mod registries;
mod watched_object;

pub use access_denial::explain_access_denial;
pub use account_tokens::AccountTokenReader;
pub use admission_access::AdmissionAccessReviewer;
pub use ca_certificates::{CaCertificatesError, MAX_CA_BYTES, read_ca_certificates};
pub use object_name::is_object_name;
pub use policies::{ClusterReadError, list_policies, read_policy_inputs};
pub use pull_credentials::PullCredentials;
pub use pull_secrets::{PullSecretError, PullSecretReader};
pub use registries::{RegistryCaAccess, RegistryCaError, read_registries};
pub use watched_object::{WatchedObject, WatchedObjectState, follow_object};
