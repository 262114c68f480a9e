//! Use cases. They know the traits of `oci`, `fetch`, `signing` and `clock`, and none of their
//! implementations.

mod beside;
pub mod contents;
pub mod context;
pub mod copy;
pub mod endorse;
mod evidence;
pub mod inspect;
pub mod layer;
pub mod lock;
pub mod pack;
pub mod progress;
pub mod publish;
pub mod registries;
mod room;
pub mod shares;
pub mod sign;
pub mod sign_beside;
pub mod stage;
pub mod standing;
#[cfg(test)]
mod tests;
pub mod transfer;
pub mod trust_root;
pub mod unpack;
pub mod verdict;
pub mod verify;
