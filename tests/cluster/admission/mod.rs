//! What may be used, and what may not: Pods, Deployments, CronJobs and PackedBundles against the
//! real API server.

mod agreement;
mod company;
mod credential_providers;
mod exempt;
mod forged;
mod keyless;
mod pull_secrets;
mod refused;
pub(crate) mod root;
pub(crate) mod scene;
mod threats;
pub(crate) mod timely;
mod user_verdicts;
mod writing;
