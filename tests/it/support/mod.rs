//! Small real servers and other helpers for the tests.

pub(crate) mod cli;
pub(crate) mod data;
pub(crate) mod forging;
pub(crate) mod golden;
pub(crate) mod origin;
pub(crate) mod peak_memory;
pub(crate) mod registry;
pub(crate) mod sigstore;
pub(crate) mod threats;
pub(crate) mod tools;
pub(crate) mod tuf;
