//! Integration tests: one binary, one module per subject, helpers in `support`.

#![allow(clippy::too_many_lines, reason = "a table of cases is one function")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "where the data and tools are comes from the environment"
)]
#![allow(
    clippy::print_stdout,
    reason = "a test says what it does, and when it was not run"
)]

mod binding;
mod budgets;
mod chart;
mod comments;
mod company;
mod conduit_files;
mod conformance;
mod contradictions;
mod copying;
mod corrupt;
mod credential_providers;
mod documents;
mod fuzz;
mod interop;
mod jobs;
mod keys;
mod keys_interop;
mod layering;
mod legacy;
mod one_digest;
mod origins;
mod private_origins;
mod refused_locks;
mod refused_registries;
mod registry;
mod registry_quirks;
mod sbom;
mod sigstore_own;
mod streams;
mod support;
mod threats;
mod tls;
mod trust_roots;
mod verdicts;
