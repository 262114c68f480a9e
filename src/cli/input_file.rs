//! Reads lockfiles and policies from the disk or stdin, never more than the limit.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::error::CliError;
use crate::core::{limits::InputLimits, lockfile::Lockfile, reason::Reason};

/// The bytes of an input, and the folder that relative paths in it are relative to.
pub(super) struct InputFile {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) folder: PathBuf,
}

impl InputFile {
    /// Reads a file, or stdin for `-`. Errors: `SourceNotFound`, or `too_large` over the limit.
    pub(super) fn read_limited(
        path: &Path,
        limit: usize,
        too_large: Reason,
    ) -> Result<Self, CliError> {
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        if path == Path::new("-") {
            std::io::stdin()
                .take(limit as u64 + 1)
                .read_to_end(&mut bytes)
                .map_err(|e| read_error("stdin", &e))?;
        } else {
            let file = File::open(path).map_err(|e| read_error(&name, &e))?;
            file.take(limit as u64 + 1)
                .read_to_end(&mut bytes)
                .map_err(|e| read_error(&name, &e))?;
        }
        if bytes.len() > limit {
            return Err(CliError::new(
                too_large,
                format!("{name} is larger than the limit of {limit} bytes"),
            ));
        }
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        Ok(Self {
            name,
            bytes,
            folder: parent.unwrap_or_else(|| Path::new(".")).to_owned(),
        })
    }

    /// Reads a lockfile or a manifest for one.
    pub(super) fn read_lockfile(path: &Path) -> Result<Self, CliError> {
        Self::read_limited(path, InputLimits::DEFAULT.lock_bytes, Reason::InvalidLock)
    }

    /// Parses it as a lock; the message names the file.
    pub(super) fn parse_lockfile(&self) -> Result<Lockfile, CliError> {
        Lockfile::parse(&self.bytes, &InputLimits::DEFAULT)
            .map_err(|error| self.prefix_file_name(error.into()))
    }

    /// Adds the file's name before an error's message.
    pub(super) fn prefix_file_name(&self, error: CliError) -> CliError {
        let CliError { reason, message } = error;
        CliError::new(reason, format!("{}: {message}", self.name))
    }
}

fn read_error(name: &str, error: &std::io::Error) -> CliError {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            CliError::new(Reason::SourceNotFound, format!("{name} was not found"))
        }
        _ => CliError::new(
            Reason::InvalidSpec,
            format!("{name} could not be read: {error}"),
        ),
    }
}
