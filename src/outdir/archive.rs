//! Extraction: what every kind of archive has in common. Entries and bytes are counted while they
//! are read, never believed.

use std::{
    cell::Cell,
    io::{self, Read, Write},
};

use bzip2::read::MultiBzDecoder;
use cap_std::fs::Dir;
use flate2::read::MultiGzDecoder;

use super::{OutDirError, tar, tree, zip};
use crate::core::{
    limits::Limits,
    lockfile::Compression,
    path::BundlePath,
    unpack::{self, Extraction, UnpackError},
};

const BUFFER: usize = 64 << 10;

/// Extracts `extraction.archive`, which lies below `root`.
pub(super) fn extract(
    root: &Dir,
    extraction: &Extraction,
    limits: &Limits,
) -> Result<(), OutDirError> {
    let Extraction {
        archive,
        compression,
        into,
    } = extraction;
    let file = root
        .open(archive.as_str())
        .map_err(|error| OutDirError::storage(archive, &error))?
        .into_std();
    let mut sink = Sink {
        root,
        archive,
        into: into.as_ref(),
        limits,
        entries: 0,
        buffer: vec![0; BUFFER],
    };
    if let Some(folder) = into {
        tree::create_folder(root, folder)?;
    }
    let left = Cell::new(limits.unpack_bytes);
    match compression {
        Compression::Gzip => tar::read(
            &mut Capped::new(MultiGzDecoder::new(file), &left),
            &mut sink,
        ),
        Compression::Bzip2 => tar::read(
            &mut Capped::new(MultiBzDecoder::new(file), &left),
            &mut sink,
        ),
        Compression::Zip => zip::read(file, &left, &mut sink),
    }
}

/// Where entries go.
pub(super) struct Sink<'a> {
    root: &'a Dir,
    archive: &'a BundlePath,
    into: Option<&'a BundlePath>,
    limits: &'a Limits,
    entries: u64,
    buffer: Vec<u8>,
}

impl Sink<'_> {
    /// A folder.
    pub(super) fn folder(&mut self, name: &[u8]) -> Result<(), OutDirError> {
        self.count()?;
        let path = unpack::folder_path(self.into, name).map_err(|cause| self.refuse(cause))?;
        path.map_or(Ok(()), |path| tree::create_folder(self.root, &path))
    }

    /// A file with all of `content`; says how many bytes that were.
    pub(super) fn file(
        &mut self,
        name: &[u8],
        mode: u32,
        content: &mut dyn Read,
    ) -> Result<u64, OutDirError> {
        self.count()?;
        let path = unpack::file_path(self.into, name).map_err(|cause| self.refuse(cause))?;
        let mut file = tree::create_file(self.root, &path, unpack::file_mode(mode))?;
        let mut written = 0;
        loop {
            let count = content
                .read(&mut self.buffer)
                .map_err(|error| self.unreadable(&error))?;
            let Some(bytes) = self.buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
                return Ok(written);
            };
            file.write_all(bytes)
                .map_err(|error| OutDirError::storage(&path, &error))?;
            written += bytes.len() as u64;
        }
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, name: &[u8], target: &[u8]) -> Result<(), OutDirError> {
        self.count()?;
        let path = unpack::file_path(self.into, name).map_err(|cause| self.refuse(cause))?;
        let target =
            unpack::link_target(self.into, &path, target).map_err(|cause| self.refuse(cause))?;
        tree::create_link(self.root, &path, &target)
    }

    fn count(&mut self) -> Result<(), OutDirError> {
        self.entries += 1;
        self.check_entries(self.entries)
    }

    /// Are this many entries too many?
    pub(super) fn check_entries(&self, entries: u64) -> Result<(), OutDirError> {
        if entries > self.limits.unpack_entries {
            Err(self.limit(self.limits.unpack_entries, "entries"))
        } else {
            Ok(())
        }
    }

    /// The error of an archive that is refused.
    pub(super) fn refuse(&self, cause: UnpackError) -> OutDirError {
        OutDirError::Archive {
            archive: self.archive.clone(),
            cause,
        }
    }

    /// The error of an archive whose bytes cannot be read.
    pub(super) fn malformed(&self, what: &dyn std::fmt::Display) -> OutDirError {
        self.refuse(UnpackError::Malformed(what.to_string()))
    }

    /// What an error while reading means: the cap, the disk, or the archive.
    pub(super) fn unreadable(&self, error: &io::Error) -> OutDirError {
        if is_over_cap(error) {
            self.limit(self.limits.unpack_bytes, "bytes")
        } else if error.raw_os_error().is_some() {
            OutDirError::storage(self.archive, error)
        } else {
            self.malformed(error)
        }
    }

    /// The error of an archive that holds too much.
    pub(super) fn limit(&self, limit: u64, unit: &'static str) -> OutDirError {
        OutDirError::Limit {
            archive: self.archive.clone(),
            limit,
            unit,
        }
    }
}

/// Lets at most `left` bytes pass.
pub(super) struct Capped<'a, R> {
    inner: R,
    left: &'a Cell<u64>,
}

/// More bytes than the cap.
#[derive(Debug, thiserror::Error)]
#[error("more bytes than the limit")]
struct OverCap;

/// Did a [`Capped`] reader stop?
pub(super) fn is_over_cap(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<OverCap>)
}

impl<'a, R> Capped<'a, R> {
    pub(super) const fn new(inner: R, left: &'a Cell<u64>) -> Self {
        Self { inner, left }
    }
}

impl<R: Read> Read for Capped<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left.set(
            self.left
                .get()
                .checked_sub(count as u64)
                .ok_or_else(|| io::Error::other(OverCap))?,
        );
        Ok(count)
    }
}

impl<R: io::Seek> io::Seek for Capped<'_, R> {
    fn seek(&mut self, position: io::SeekFrom) -> io::Result<u64> {
        self.inner.seek(position)
    }
}
