//! What may be used, and what may not: Pods, Deployments, CronJobs and PackedBundles against the real API server.

mod agreement;
mod company;
mod keyless;
mod refused;
pub(crate) mod scene;
mod timely;
mod writing;
