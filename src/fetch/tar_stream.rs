//! Reads a planned tar whose contents are partly in memory and partly in a registry.

use std::{io::Cursor, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::{
    core::{oci::Descriptor, pack::TarSegment},
    oci::{ContentReader, ContentSource, OciError},
};

/// The content of an archived file: known bytes, or a blob in the registry.
#[derive(Clone)]
pub(super) enum ArchivedFileContent {
    Bytes(Bytes),
    Blob(Descriptor),
}

/// Reads the parts one after the other; blobs are verified with their descriptors while they are
/// read.
pub(super) fn read_tar_stream(
    source: Arc<dyn ContentSource>,
    pieces: Vec<TarSegment<ArchivedFileContent>>,
) -> ContentReader {
    let streams = stream::iter(pieces).then(move |piece| {
        let source = Arc::clone(&source);
        async move {
            let reader: ContentReader = match piece {
                TarSegment::Literal(bytes) => Box::new(Cursor::new(bytes)),
                TarSegment::Content {
                    content: ArchivedFileContent::Bytes(bytes),
                    ..
                } => Box::new(Cursor::new(bytes)),
                TarSegment::Content {
                    content: ArchivedFileContent::Blob(blob),
                    ..
                } => source
                    .open_content(&blob)
                    .await
                    .map_err(OciError::into_io_error)?,
            };
            Ok::<_, std::io::Error>(ReaderStream::with_capacity(reader, 64 << 10))
        }
    });
    Box::new(StreamReader::new(Box::pin(streams.try_flatten())))
}
