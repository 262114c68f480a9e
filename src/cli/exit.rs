//! Errors and exit codes of the command line.

use std::{io::Write, process::ExitCode};

use serde_json::json;

use super::{args::CliOutputFormat, output::CommandResult};
use crate::{
    core::{
        reason::{Class, ClassifiedError, Reason},
        display_text::{escape_invisible, escape_invisible_json},
    },
    telemetry::stderr::write_line,
};

/// An error with its reason, for output.
#[derive(Debug)]
pub(super) struct CliError {
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl CliError {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(Reason::InvalidSpec, message)
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(Reason::Internal, message)
    }
}

impl<E: ClassifiedError> From<E> for CliError {
    fn from(error: E) -> Self {
        Self {
            reason: error.reason(),
            message: error.to_string(),
        }
    }
}

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
