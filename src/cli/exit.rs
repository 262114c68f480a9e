//! Prints the result or the error of a subcommand, and chooses the exit code.

use std::{io::Write, process::ExitCode};

use serde_json::json;

use super::{error::CliError, global_args::CliOutputFormat, output::CommandResult};
use crate::{
    core::{
        display_text::{escape_invisible, escape_invisible_json},
        reason::Class,
    },
    telemetry::stderr::write_line,
};

/// Prints an error, and maps its class to the exit code.
pub(super) fn print_error(error: &CliError, format: CliOutputFormat) -> ExitCode {
    let class = error.reason.class();
    write_line(format_args!(
        "error: {}: {}",
        error.reason,
        escape_invisible(&error.message)
    ));
    if class == Class::Internal {
        write_line(format_args!(
            "this is a defect of packgate {}, please report it",
            env!("CARGO_PKG_VERSION")
        ));
    }
    if format == CliOutputFormat::Json {
        let document = json!({
            "apiVersion": "packgate.dev/v1alpha1",
            "kind": "Error",
            "reason": error.reason,
            "class": class,
            "message": error.message,
        });
        write_stdout(&escape_invisible_json(&format!("{document:#}\n")));
    }
    ExitCode::from(class.exit_code())
}

/// Prints a result.
pub(super) fn print_result(done: &CommandResult, format: CliOutputFormat) -> ExitCode {
    let text = match format {
        CliOutputFormat::Text => escape_invisible(&done.text),
        CliOutputFormat::Json => escape_invisible_json(&format!("{:#}\n", done.json)),
    };
    write_stdout(&text);
    done.class
        .map_or(ExitCode::SUCCESS, |class| ExitCode::from(class.exit_code()))
}

/// Writes to stdout. A closed pipe is not an error.
fn write_stdout(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
