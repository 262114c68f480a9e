//! packgate packs what a lockfile names into an OCI bundle, signs it, attests where it came from, and verifies it again.
#![forbid(unsafe_code)]

pub mod clock;
pub mod core;
pub mod oci;
