//! Standard error.
//!
//! What is written there is for people and logs, and it may be anything: a full disk, a pipe that
//! nobody reads any more. So an error of writing changes nothing: neither what is being done, nor
//! how the process ends. `eprintln!` would panic instead.

use std::{
    fmt::Display,
    io::{self, Write},
};

use tracing_subscriber::fmt::MakeWriter;

/// Writes a line. One that cannot be written is lost.
pub fn write_line(text: impl Display) {
    // In one piece, so that lines of several threads stay whole.
    let _ = Stderr.write_all(format!("{text}\n").as_bytes());
}

/// Standard error for a log. Every write succeeds, whatever became of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = io::stderr().flush();
        Ok(())
    }
}

impl MakeWriter<'_> for Stderr {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}
