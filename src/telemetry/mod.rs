//! EFFECT. Observability of a process: logs on stderr, probes, metrics, events.

pub mod events;
pub mod server;
pub mod stderr;

use std::io::IsTerminal;

use stderr::Stderr;
use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging: warnings, or with `verbose` 1 actions, 2 details.
pub fn init_logging(verbose: u8) {
    let level = match verbose {
        0 => "packgate=warn",
        1 => "packgate=info",
        _ => "packgate=debug",
    };
    let terminal = std::io::stderr().is_terminal();
    let log = fmt()
        .with_env_filter(EnvFilter::new(level))
        .with_writer(Stderr)
        .log_internal_errors(false);
    let _ = log.with_ansi(terminal).with_target(false).try_init();
}

/// Starts logging lines of JSON, for a process in a cluster.
pub fn init_json_logging(verbose: u8) {
    let level = if verbose == 0 {
        "packgate=info,kube_runtime=warn,kube_client=warn"
    } else {
        "packgate=debug,kube_runtime=info,kube_client=info"
    };
    let log = fmt()
        .json()
        .with_env_filter(EnvFilter::new(level))
        .with_writer(Stderr)
        .log_internal_errors(false);
    let _ = log.with_target(false).try_init();
}
