//! Reads a tar from a stream. Headers are parsed in `core::unpack::tar`.

use std::io::Read;

use super::{OutDirError, extraction_sink::ExtractionSink};
use crate::core::unpack::tar::{BLOCK, MAX_METADATA, PendingTarMetadata, TarEntryKind, TarHeader};

/// Passes every entry to `sink`. After the end marker only zeros are allowed.
pub(super) fn read_tar(
    stream: &mut dyn Read,
    sink: &mut ExtractionSink<'_>,
) -> Result<(), OutDirError> {
    let mut pending = PendingTarMetadata::default();
    while let Some(block) = next_block(stream, sink)? {
        let Some(header) = TarHeader::parse(&block).map_err(|cause| sink.archive_error(cause))?
        else {
            expect_only_zeros(stream, sink)?;
            break;
        };
        let size = if header.kind.is_metadata() {
            let content = read_metadata(stream, header.size, sink)?;
            pending
                .apply_metadata(header.kind, &content)
                .map_err(|cause| sink.archive_error(cause))?;
            header.size
        } else {
            let header = pending
                .apply_to_header(header)
                .map_err(|cause| sink.archive_error(cause))?;
            extract_entry(stream, &header, sink)?;
            header.size
        };
        skip_padding(stream, size, sink)?;
    }
    if pending.has_metadata() {
        Err(sink.malformed_error(&"it ends after a metadata header"))
    } else {
        Ok(())
    }
}

fn extract_entry(
    stream: &mut dyn Read,
    header: &TarHeader,
    sink: &mut ExtractionSink<'_>,
) -> Result<(), OutDirError> {
    match header.kind {
        TarEntryKind::Folder => sink.add_folder(&header.name),
        TarEntryKind::Symlink => sink.add_symlink(&header.name, &header.link),
        _ => {
            let written =
                sink.add_file(&header.name, header.mode, &mut stream.take(header.size))?;
            if written == header.size {
                Ok(())
            } else {
                Err(truncated_error(sink))
            }
        }
    }
}

fn read_metadata(
    stream: &mut dyn Read,
    size: u64,
    sink: &ExtractionSink<'_>,
) -> Result<Vec<u8>, OutDirError> {
    if size > MAX_METADATA {
        return Err(sink.malformed_error(&format!(
            "metadata of {size} bytes is over the limit of {MAX_METADATA}"
        )));
    }
    let mut content = Vec::new();
    stream
        .take(size)
        .read_to_end(&mut content)
        .map_err(|error| sink.read_error(&error))?;
    if content.len() as u64 == size {
        Ok(content)
    } else {
        Err(truncated_error(sink))
    }
}

fn skip_padding(
    stream: &mut dyn Read,
    size: u64,
    sink: &ExtractionSink<'_>,
) -> Result<(), OutDirError> {
    let mut padding = [0; BLOCK];
    let length = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    let rest = padding
        .get_mut(length..)
        .filter(|_| length > 0)
        .unwrap_or_default();
    stream
        .read_exact(rest)
        .map_err(|error| sink.read_error(&error))
}

/// The next block, or `None` at a clean end of the stream.
fn next_block(
    stream: &mut dyn Read,
    sink: &ExtractionSink<'_>,
) -> Result<Option<[u8; BLOCK]>, OutDirError> {
    let mut block = Vec::with_capacity(BLOCK);
    stream
        .take(BLOCK as u64)
        .read_to_end(&mut block)
        .map_err(|error| sink.read_error(&error))?;
    if block.is_empty() {
        return Ok(None);
    }
    block
        .try_into()
        .map(Some)
        .map_err(|_| truncated_error(sink))
}

/// A second archive after the end would be visible to some readers only.
fn expect_only_zeros(stream: &mut dyn Read, sink: &ExtractionSink<'_>) -> Result<(), OutDirError> {
    while let Some(block) = next_block(stream, sink)? {
        if block.iter().any(|byte| *byte != 0) {
            return Err(sink.malformed_error(&"data follows the end of the archive"));
        }
    }
    Ok(())
}

fn truncated_error(sink: &ExtractionSink<'_>) -> OutDirError {
    sink.malformed_error(&"it is truncated")
}
