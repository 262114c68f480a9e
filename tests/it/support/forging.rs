//! The Sigstore of the unit tests, with all of its faults.
#![allow(
    dead_code,
    unused_imports,
    clippy::missing_const_for_fn,
    reason = "a helper of many tests: not every build uses all of it"
)]

#[path = "../../../src/core/verify/testing/sigstore/mod.rs"]
mod sigstore;

pub(crate) use sigstore::*;
