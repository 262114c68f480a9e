//! Reads a tar from a stream. Headers are understood in `core::unpack::tar`.

use std::io::Read;

use super::{OutDirError, archive::Sink};
use crate::core::unpack::tar::{BLOCK, Header, Kind, MAX_METADATA, Pending};

/// Hands every entry to `sink`. The archive must end where it says, with nothing but zeros behind.
pub(super) fn read(stream: &mut dyn Read, sink: &mut Sink<'_>) -> Result<(), OutDirError> {
    let mut pending = Pending::default();
    while let Some(block) = next_block(stream, sink)? {
        let Some(header) = Header::parse(&block).map_err(|cause| sink.refuse(cause))? else {
            only_zeros(stream, sink)?;
            break;
        };
        let size = if header.kind.is_metadata() {
            let content = metadata(stream, header.size, sink)?;
            pending
                .take_in(header.kind, &content)
                .map_err(|cause| sink.refuse(cause))?;
            header.size
        } else {
            let header = pending.apply(header).map_err(|cause| sink.refuse(cause))?;
            entry(stream, &header, sink)?;
            header.size
        };
        skip_padding(stream, size, sink)?;
    }
    if pending.is_left() {
        Err(sink.malformed(&"it ends behind metadata"))
    } else {
        Ok(())
    }
}

fn entry(stream: &mut dyn Read, header: &Header, sink: &mut Sink<'_>) -> Result<(), OutDirError> {
    match header.kind {
        Kind::Folder => sink.folder(&header.name),
        Kind::Symlink => sink.link(&header.name, &header.link),
        _ => {
            let written = sink.file(&header.name, header.mode, &mut stream.take(header.size))?;
            if written == header.size {
                Ok(())
            } else {
                Err(ends_early(sink))
            }
        }
    }
}

fn metadata(stream: &mut dyn Read, size: u64, sink: &Sink<'_>) -> Result<Vec<u8>, OutDirError> {
    if size > MAX_METADATA {
        return Err(sink.malformed(&format!(
            "metadata of {size} bytes is over the limit of {MAX_METADATA}"
        )));
    }
    let mut content = Vec::new();
    stream
        .take(size)
        .read_to_end(&mut content)
        .map_err(|error| sink.unreadable(&error))?;
    if content.len() as u64 == size {
        Ok(content)
    } else {
        Err(ends_early(sink))
    }
}

fn skip_padding(stream: &mut dyn Read, size: u64, sink: &Sink<'_>) -> Result<(), OutDirError> {
    let mut padding = [0; BLOCK];
    let length = usize::try_from(size % BLOCK as u64).unwrap_or_default();
    let rest = padding
        .get_mut(length..)
        .filter(|_| length > 0)
        .unwrap_or_default();
    stream
        .read_exact(rest)
        .map_err(|error| sink.unreadable(&error))
}

/// The next block, or nothing at a clean end of the stream.
fn next_block(stream: &mut dyn Read, sink: &Sink<'_>) -> Result<Option<[u8; BLOCK]>, OutDirError> {
    let mut block = Vec::with_capacity(BLOCK);
    stream
        .take(BLOCK as u64)
        .read_to_end(&mut block)
        .map_err(|error| sink.unreadable(&error))?;
    if block.is_empty() {
        return Ok(None);
    }
    block.try_into().map(Some).map_err(|_| ends_early(sink))
}

/// A second archive behind the end would be seen by some readers only.
fn only_zeros(stream: &mut dyn Read, sink: &Sink<'_>) -> Result<(), OutDirError> {
    while let Some(block) = next_block(stream, sink)? {
        if block.iter().any(|byte| *byte != 0) {
            return Err(sink.malformed(&"something follows behind its end"));
        }
    }
    Ok(())
}

fn ends_early(sink: &Sink<'_>) -> OutDirError {
    sink.malformed(&"it ends early")
}
