//! Standard error.
//!
//! Its destination may be anything: a full disk, a pipe without a reader. So a write error has no
//! effect: neither on the work in progress, nor on the exit code. `eprintln!` would panic instead.

use std::{
    fmt::Display,
    io::{self, Write},
};

use tracing_subscriber::fmt::MakeWriter;

/// Writes a line. Errors are ignored.
pub fn write_line(text: impl Display) {
    // In one write, so that lines of several threads are not mixed.
    let _ = Stderr.write_all(format!("{text}\n").as_bytes());
}

/// Standard error for a log. Every write succeeds, even if it is lost.
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
