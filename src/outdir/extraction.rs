//! Extracts one archive of any kind.

use std::cell::Cell;

use bzip2::read::MultiBzDecoder;
use cap_std::fs::Dir;
use flate2::read::MultiGzDecoder;

use super::{
    OutDirError,
    extraction_sink::{ByteLimitedReader, ExtractionSink},
    tar, tree, zip,
};
use crate::core::{
    limits::InputLimits, lockfile::ArchiveCompression, unpack::ArchiveExtractionPlan,
};

/// Extracts `extraction.archive`, which is below `root`.
pub(super) fn extract_archive(
    root: &Dir,
    extraction: &ArchiveExtractionPlan,
    limits: &InputLimits,
) -> Result<(), OutDirError> {
    let ArchiveExtractionPlan {
        archive,
        compression,
        into,
    } = extraction;
    let file = root
        .open(archive.as_str())
        .map_err(|error| OutDirError::storage_error(archive, &error))?
        .into_std();
    let mut sink = ExtractionSink::new(root, archive, into.as_ref(), limits);
    if let Some(folder) = into {
        tree::create_folder(root, folder)?;
    }
    let left = Cell::new(limits.unpack_bytes);
    match compression {
        ArchiveCompression::Gzip => tar::read_tar(
            &mut ByteLimitedReader::new(MultiGzDecoder::new(file), &left),
            &mut sink,
        ),
        ArchiveCompression::Bzip2 => tar::read_tar(
            &mut ByteLimitedReader::new(MultiBzDecoder::new(file), &left),
            &mut sink,
        ),
        ArchiveCompression::Zip => zip::read_zip(file, &left, &mut sink),
    }
}
