//! packgate packs the artifacts of a lockfile into an OCI bundle, signs it as cosign does, attests
//! its SLSA provenance, and admits only bundles and images whose evidence satisfies a policy.
//!
//! It is a command line, a Kubernetes operator and an admission webhook in one program: `main`
//! calls [`cli::run_cli`].
//!
//! Who embeds the crate starts at [`core`], which is pure: no I/O, no clock, no environment. Every
//! decision is made there, on bytes that the caller has fetched, within [`core::limits`].
//!
//! | what | where |
//! |---|---|
//! | parse a lock, plan a bundle, predict its digest | [`core::lockfile`], [`core::pack`] |
//! | names of images and bundles | [`core::reference`], [`core::digest`] |
//! | manifests and descriptors | [`core::oci`] |
//! | verify signatures and attestations | [`core::verify`] |
//! | decide by policies on what was verified; report it | [`core::policy`], [`core::report`] |
//! | causes of errors, exit codes | [`core::reason`] |
//! | kinds of `packgate.dev` | [`api`] |
//! | content of registries, layouts and archives | [`oci`], over [`http`] |
//! | registry credentials from kubelet's plug-ins | [`credential_providers`] |
//! | origins of artifacts; signers | [`fetch`]; [`signing`] |
//! | use cases over traits: pack, sign, verify, copy, unpack | [`service`] |
//!
//! The other modules belong to the program and are private: the operator (`controller`), the
//! webhook (`webhook`, `listener`), trust roots through TUF (`trust`), unpacked bundles (`outdir`),
//! logs and metrics (`telemetry`). Before version 1 the public ones may change in any release.
//!
//! Whatever opens connections needs [`install_crypto_provider`] first. The digest of a bundle
//! follows from its lock, without fetching anything:
//!
//! ```
//! use packgate::core::{
//!     limits::InputLimits,
//!     lockfile::Lockfile,
//!     pack::{BundleFormat, PackOptions, PackPlan},
//! };
//!
//! let text = b"
//! apiVersion: packgate.dev/v1alpha1
//! kind: Lockfile
//! artifacts:
//! - name: rules
//!   type: http
//!   origin: https://files.example.com/rules.tgz
//!   target: opt/rules.tgz
//!   checksum: sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
//!   size: 3
//! ";
//! let lock = Lockfile::parse(text, &InputLimits::DEFAULT)?;
//! let options = PackOptions {
//!     format: BundleFormat::Artifact,
//!     ..PackOptions::default()
//! };
//! let digest = PackPlan::new(&lock, options)?.predict_digest()?;
//! assert!(digest.to_string().starts_with("sha256:"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
mod cluster_reader;
#[cfg(not(fuzzing))]
mod controller;
#[cfg(not(fuzzing))]
pub mod credential_providers;
#[cfg(not(fuzzing))]
pub mod fetch;
#[cfg(not(fuzzing))]
pub mod http;
#[cfg(not(fuzzing))]
mod listener;
#[cfg(not(fuzzing))]
pub mod oci;
#[cfg(not(fuzzing))]
mod outdir;
#[cfg(not(fuzzing))]
pub mod process;
#[cfg(not(fuzzing))]
pub mod service;
#[cfg(not(fuzzing))]
pub mod signing;
#[cfg(not(fuzzing))]
mod telemetry;
#[cfg(not(fuzzing))]
mod trust;
#[cfg(not(fuzzing))]
mod webhook;

/// Makes aws-lc-rs the process's only crypto provider. Must be called first.
pub fn install_crypto_provider() {
    // An error means that a provider is installed already: then it is this one, because no other is
    // linked.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
