//! Use cases. They depend on the traits of `oci`, `fetch`, `signing` and `clock`, and on none of
//! their implementations.

pub mod bundle_contents;
pub mod bundle_state;
pub mod context_artifact;
pub mod copy;
pub mod cosign_tag_signing;
mod cosign_tags;
mod cpu_budget;
pub mod cpu_work;
mod evidence;
pub mod fair_queue;
pub mod inspect;
pub mod layer;
pub mod lock;
mod memory_budget;
pub mod pack;
pub mod progress;
pub mod publish;
mod push_referrers;
pub mod rebuild_and_sign;
pub mod registries;
pub mod release;
pub mod release_context;
pub mod renewable_lookup;
pub mod sign;
pub mod signed_statement;
#[cfg(test)]
mod tests;
pub mod transfer;
pub mod trust_root;
pub mod unpack;
pub mod verdict;
pub mod verdict_stage;
pub mod verification_request;
pub mod verify;
