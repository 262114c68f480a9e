//! Small real servers and other helpers for the tests.

pub(crate) mod cli;
pub(crate) mod data;
pub(crate) mod registry;
pub(crate) mod tools;
