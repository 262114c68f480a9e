//! Tests in a real cluster: one module per subject, helpers in `support`. `make test-cluster` runs
//! them inside of the test cluster (tests/cluster/env/README.md); elsewhere each says that it was
//! not run.

#![allow(clippy::too_many_lines, reason = "a table of cases is one function")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "where the cluster is comes from the environment"
)]
#![allow(
    clippy::print_stdout,
    reason = "a test says what it does, and when it was not run"
)]

mod admission;
mod alone;
mod attacks;
mod examples;
mod image;
mod keyless;
mod minimal;
mod operations;
mod origins;
mod permissions;
mod registries;
mod rules;
mod sbom;
mod smoke;
mod sources;
mod support;
mod tenants;
