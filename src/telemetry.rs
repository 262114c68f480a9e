//! Logs, on stderr.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

/// Starts logging: warnings, or with `verbose` 1 what is done, 2 how.
pub fn init(verbose: u8) {
    let level = match verbose {
        0 => "packgate=warn",
        1 => "packgate=info",
        _ => "packgate=debug",
    };
    let terminal = std::io::stderr().is_terminal();
    let _ = fmt().with_env_filter(EnvFilter::new(level)).with_writer(std::io::stderr).with_ansi(terminal).with_target(false).try_init();
}
