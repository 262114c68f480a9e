//! packgate packs what a lockfile names into an OCI bundle, signs it, attests where it came from, and verifies it again.
#![forbid(unsafe_code)]

pub mod api;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod core;
pub mod fetch;
pub mod http;
pub mod oci;
pub mod outdir;
pub mod service;
pub mod signing;
pub mod telemetry;
pub mod trust;
pub mod webhook;

/// Makes aws-lc-rs the process's one crypto provider. To be called first.
pub fn install_crypto_provider() {
    // An error says that one is installed already: then it is this one, because no other is linked.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
