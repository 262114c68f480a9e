//! The common part of extraction for every kind of archive: entries and bytes are counted while they
//! are read, and declared numbers are not trusted.

use std::{
    cell::Cell,
    io::{self, Read, Write},
};

use cap_std::fs::Dir;

use super::{OutDirError, tree};
use crate::core::{
    bundle_path::BundlePath,
    limits::InputLimits,
    unpack::{self, ArchiveUnpackError},
};

const BUFFER: usize = 64 << 10;

/// The destination of entries.
pub(super) struct ExtractionSink<'a> {
    root: &'a Dir,
    archive: &'a BundlePath,
    into: Option<&'a BundlePath>,
    limits: &'a InputLimits,
    entries: u64,
    buffer: Vec<u8>,
}

impl<'a> ExtractionSink<'a> {
    /// Entries of `archive` go below `into`, a folder below `root`, or below `root` itself.
    pub(super) fn new(
        root: &'a Dir,
        archive: &'a BundlePath,
        into: Option<&'a BundlePath>,
        limits: &'a InputLimits,
    ) -> Self {
        Self {
            root,
            archive,
            into,
            limits,
            entries: 0,
            buffer: vec![0; BUFFER],
        }
    }

    /// Adds a folder.
    pub(super) fn add_folder(&mut self, name: &[u8]) -> Result<(), OutDirError> {
        self.count_entry()?;
        let path = unpack::entry_folder_path(self.into, name)
            .map_err(|cause| self.archive_error(cause))?;
        path.map_or(Ok(()), |path| tree::create_folder(self.root, &path))
    }

    /// Adds a file with all of `content`; returns the number of bytes.
    pub(super) fn add_file(
        &mut self,
        name: &[u8],
        mode: u32,
        content: &mut dyn Read,
    ) -> Result<u64, OutDirError> {
        self.count_entry()?;
        let path =
            unpack::entry_file_path(self.into, name).map_err(|cause| self.archive_error(cause))?;
        let mut file = tree::create_file(self.root, &path, unpack::unpacked_file_mode(mode))?;
        let mut written = 0;
        loop {
            let count = content
                .read(&mut self.buffer)
                .map_err(|error| self.read_error(&error))?;
            let Some(bytes) = self.buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
                return Ok(written);
            };
            file.write_all(bytes)
                .map_err(|error| OutDirError::storage_error(&path, &error))?;
            written += bytes.len() as u64;
        }
    }

    /// Adds a symbolic link.
    pub(super) fn add_symlink(&mut self, name: &[u8], target: &[u8]) -> Result<(), OutDirError> {
        self.count_entry()?;
        let path =
            unpack::entry_file_path(self.into, name).map_err(|cause| self.archive_error(cause))?;
        let target = unpack::check_link_target(self.into, &path, target)
            .map_err(|cause| self.archive_error(cause))?;
        tree::create_link(self.root, &path, &target)
    }

    fn count_entry(&mut self) -> Result<(), OutDirError> {
        self.entries += 1;
        self.check_entries(self.entries)
    }

    /// Refuses more entries than the limit.
    pub(super) fn check_entries(&self, entries: u64) -> Result<(), OutDirError> {
        if entries > self.limits.unpack_entries {
            Err(self.limit_error(self.limits.unpack_entries, "entries"))
        } else {
            Ok(())
        }
    }

    /// The error of a refused archive.
    pub(super) fn archive_error(&self, cause: ArchiveUnpackError) -> OutDirError {
        OutDirError::Archive {
            archive: self.archive.clone(),
            cause,
        }
    }

    /// The error of an archive that cannot be parsed.
    pub(super) fn malformed_error(&self, what: &dyn std::fmt::Display) -> OutDirError {
        self.archive_error(ArchiveUnpackError::Malformed(what.to_string()))
    }

    /// Classifies an error while reading: the limit, the disk, or the archive.
    pub(super) fn read_error(&self, error: &io::Error) -> OutDirError {
        if is_byte_limit_error(error) {
            self.limit_error(self.limits.unpack_bytes, "bytes")
        } else if error.raw_os_error().is_some() {
            OutDirError::storage_error(self.archive, error)
        } else {
            self.malformed_error(error)
        }
    }

    /// The error of an archive over a limit.
    pub(super) fn limit_error(&self, limit: u64, unit: &'static str) -> OutDirError {
        OutDirError::Limit {
            archive: self.archive.clone(),
            limit,
            unit,
        }
    }
}

/// Reads at most `left` bytes.
pub(super) struct ByteLimitedReader<'a, R> {
    inner: R,
    left: &'a Cell<u64>,
}

/// More bytes than the limit.
#[derive(Debug, thiserror::Error)]
#[error("more bytes than the limit")]
struct ByteLimitExceeded;

/// True if a [`ByteLimitedReader`] reached its limit.
pub(super) fn is_byte_limit_error(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<ByteLimitExceeded>)
}

impl<'a, R> ByteLimitedReader<'a, R> {
    pub(super) const fn new(inner: R, left: &'a Cell<u64>) -> Self {
        Self { inner, left }
    }
}

impl<R: Read> Read for ByteLimitedReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left.set(
            self.left
                .get()
                .checked_sub(count as u64)
                .ok_or_else(|| io::Error::other(ByteLimitExceeded))?,
        );
        Ok(count)
    }
}

impl<R: io::Seek> io::Seek for ByteLimitedReader<'_, R> {
    fn seek(&mut self, position: io::SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}
