//! The packgate binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    packgate::install_crypto_provider();
    packgate::cli::run_cli()
}
