//! Reads a zip archive. The `zip` crate finds and inflates entries; names, kinds, links and sizes
//! are checked here.

use std::{
    cell::Cell,
    fs::File,
    io::{BufReader, Read},
};

use zip::{ZipArchive, read::ZipFile, result::ZipError};

use super::{
    OutDirError,
    extraction_sink::{ByteLimitedReader, ExtractionSink, is_byte_limit_error},
};
use crate::core::unpack::{ArchiveUnpackError, displayed_name};

/// Bytes that may be read before the entries are known. Stops a central directory from filling
/// memory: 100,000 entries with names of 100 bytes have 15 MB.
const DIRECTORY_BYTES: u64 = 64 << 20;
/// The longest link target that is read, in bytes; longer ones are refused by `core::unpack`
/// anyway.
const LINK_BYTES: u64 = 4 << 10;

const KIND: u32 = 0o170_000;
const FOLDER: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

/// Passes every entry to `sink`. Local headers must agree with the central directory, nothing may
/// overlap, and no name may occur twice.
pub(super) fn read_zip(
    file: File,
    left: &Cell<u64>,
    sink: &mut ExtractionSink<'_>,
) -> Result<(), OutDirError> {
    let budget = Cell::new(DIRECTORY_BYTES);
    let mut archive = ZipArchive::new(BufReader::new(ByteLimitedReader::new(file, &budget)))
        .map_err(|error| read_error(error, sink))?;
    budget.set(u64::MAX);
    sink.check_entries(archive.len() as u64)?;
    archive
        .validate_header_consistency()
        .map_err(|error| read_error(error, sink))?;
    for index in 0..archive.len() {
        let file = archive
            .by_index(index)
            .map_err(|error| read_error(error, sink))?;
        extract_entry(file, left, sink)?;
    }
    Ok(())
}

fn extract_entry<R: Read>(
    file: ZipFile<'_, R>,
    left: &Cell<u64>,
    sink: &mut ExtractionSink<'_>,
) -> Result<(), OutDirError> {
    let name = file
        .name()
        .map_err(|error| read_error(error, sink))?
        .into_owned();
    let mode = file.unix_mode().unwrap_or(0o644);
    let is_folder = name.ends_with('/');
    let size = file.size();
    let mut content = ByteLimitedReader::new(file, left);
    match mode & KIND {
        SYMLINK if !is_folder => {
            let mut target = Vec::new();
            content
                .take(LINK_BYTES)
                .read_to_end(&mut target)
                .map_err(|error| sink.read_error(&error))?;
            sink.add_symlink(name.as_bytes(), &target)
        }
        0 | FOLDER if is_folder && size == 0 => sink.add_folder(name.as_bytes()),
        0 | REGULAR if !is_folder => sink
            .add_file(name.as_bytes(), mode, &mut content)
            .map(|_| ()),
        _ => Err(sink.archive_error(ArchiveUnpackError::Kind {
            name: displayed_name(name.as_bytes()),
            what: "of an unknown kind",
        })),
    }
}

fn read_error(error: ZipError, sink: &ExtractionSink<'_>) -> OutDirError {
    match error {
        ZipError::Io(error) if is_byte_limit_error(&error) => {
            sink.limit_error(DIRECTORY_BYTES, "bytes in its directory")
        }
        ZipError::Io(error) if error.raw_os_error().is_some() => sink.read_error(&error),
        other => sink.malformed_error(&other),
    }
}
