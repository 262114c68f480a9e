//! Reads a planned tar whose contents lie partly in memory and partly in a registry.

use std::{io::Cursor, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::{
    core::{oci::Descriptor, pack::Segment},
    oci::{OciError, Reader, Source},
};

/// What lies in an archive: bytes that are known, or a blob that is still in the registry.
#[derive(Clone)]
pub(super) enum Part {
    Bytes(Bytes),
    Blob(Descriptor),
}

/// Reads the pieces one after the other; blobs are checked against their descriptors on the way.
pub(super) fn read(source: Arc<dyn Source>, pieces: Vec<Segment<Part>>) -> Reader {
    let streams = stream::iter(pieces).then(move |piece| {
        let source = Arc::clone(&source);
        async move {
            let reader: Reader = match piece {
                Segment::Literal(bytes) => Box::new(Cursor::new(bytes)),
                Segment::Content {
                    content: Part::Bytes(bytes),
                    ..
                } => Box::new(Cursor::new(bytes)),
                Segment::Content {
                    content: Part::Blob(blob),
                    ..
                } => source.open(&blob).await.map_err(OciError::into_stream)?,
            };
            Ok::<_, std::io::Error>(ReaderStream::with_capacity(reader, 64 << 10))
        }
    });
    Box::new(StreamReader::new(Box::pin(streams.try_flatten())))
}
