//! packgate packs the artifacts of a lockfile into an OCI bundle, signs it, attests its provenance,
//! and verifies it.

#![cfg_attr(
    test,
    allow(clippy::too_many_lines, reason = "a table of cases is one function")
)]
#![forbid(unsafe_code)]
#![cfg_attr(
    fuzzing,
    allow(dead_code, reason = "what only those that act call is not called")
)]

// Helpers shared with the other test programs refer to the crate by this name.
#[cfg(test)]
extern crate self as packgate;

pub mod api;
pub mod core;

// Fuzz targets only parse: without this module they build in a fraction of the time.
#[cfg(not(fuzzing))]
pub mod cli;
#[cfg(not(fuzzing))]
pub mod clock;
#[cfg(not(fuzzing))]
pub mod cluster_reader;
#[cfg(not(fuzzing))]
pub mod controller;
#[cfg(not(fuzzing))]
pub mod fetch;
#[cfg(not(fuzzing))]
pub mod http;
#[cfg(not(fuzzing))]
pub mod listener;
#[cfg(not(fuzzing))]
pub mod oci;
#[cfg(not(fuzzing))]
pub mod outdir;
#[cfg(not(fuzzing))]
pub mod service;
#[cfg(not(fuzzing))]
pub mod signing;
#[cfg(not(fuzzing))]
pub mod telemetry;
#[cfg(not(fuzzing))]
pub mod trust;
#[cfg(not(fuzzing))]
pub mod webhook;

/// Makes aws-lc-rs the process's only crypto provider. Must be called first.
pub fn install_crypto_provider() {
    // An error means that a provider is installed already: then it is this one, because no other is
    // linked.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
