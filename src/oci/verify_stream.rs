//! A reader that verifies size and digest while it reads: never past the declared size, no trailing
//! bytes, no early end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, ReadBuf};

use super::OciError;
use crate::core::{
    digest::{Digest, DigestHasher},
    oci::Descriptor,
};

/// Yields exactly the content of the descriptor, or ends with an [`OciError`] inside of an
/// [`std::io::Error`].
///
/// The end of the stream is only reported after the digest was verified, so a caller that reads to
/// the end has read the right bytes.
pub struct DigestVerifyingReader<R> {
    inner: R,
    digest: Digest,
    size: u64,
    seen: u64,
    hasher: Option<DigestHasher>,
}

impl<R> DigestVerifyingReader<R> {
    /// Verifies `inner` with `descriptor`.
    pub fn new(inner: R, descriptor: &Descriptor) -> Self {
        Self {
            inner,
            digest: descriptor.digest,
            size: descriptor.size,
            seen: 0,
            hasher: Some(DigestHasher::new()),
        }
    }

    fn hash_bytes(&mut self, bytes: &[u8]) -> Result<(), OciError> {
        self.seen += bytes.len() as u64;
        if self.seen > self.size {
            return Err(OciError::SizeMismatch {
                digest: self.digest.to_string(),
                expected: self.size,
                actual: "more".into(),
            });
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        Ok(())
    }

    /// An error is permanent: later reads return it again.
    fn verify_end(&mut self) -> Result<(), OciError> {
        let Some(hasher) = &self.hasher else {
            return Ok(());
        };
        if self.seen != self.size {
            return Err(OciError::SizeMismatch {
                digest: self.digest.to_string(),
                expected: self.size,
                actual: self.seen.to_string(),
            });
        }
        let actual = hasher.clone().finish();
        if actual != self.digest {
            return Err(OciError::DigestMismatch {
                expected: self.digest.to_string(),
                actual: actual.to_string(),
            });
        }
        self.hasher = None;
        Ok(())
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for DigestVerifyingReader<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        let fresh = &buf.filled()[before..];
        let outcome = if fresh.is_empty() {
            this.verify_end()
        } else {
            this.hash_bytes(fresh)
        };
        if outcome.is_err() {
            buf.set_filled(before);
        }
        Poll::Ready(outcome.map_err(OciError::into_io_error))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::core::reason::{ClassifiedError, Reason};

    async fn read(content: &'static [u8], descriptor: &Descriptor) -> Result<Vec<u8>, Reason> {
        let mut out = Vec::new();
        let end = DigestVerifyingReader::new(content, descriptor)
            .read_to_end(&mut out)
            .await;
        end.map(|_| out)
            .map_err(|e| OciError::from_io_error(e, "here").reason())
    }

    #[tokio::test]
    async fn only_the_declared_bytes_pass() {
        let right = Descriptor::of_bytes("x", b"hello");
        let short = Descriptor {
            size: 4,
            ..right.clone()
        };
        let long = Descriptor {
            size: 6,
            ..right.clone()
        };
        assert_eq!(read(b"hello", &right).await, Ok(b"hello".to_vec()));
        assert_eq!(read(b"jello", &right).await, Err(Reason::DigestMismatch));
        assert_eq!(read(b"hello", &short).await, Err(Reason::SizeMismatch));
        assert_eq!(read(b"hello", &long).await, Err(Reason::SizeMismatch));
        assert_eq!(
            read(b"", &Descriptor::of_bytes("x", b"")).await,
            Ok(Vec::new())
        );
    }

    #[tokio::test]
    async fn an_end_that_was_refused_stays_refused() {
        for declared in [
            Descriptor::of_bytes("x", b"other"),
            Descriptor {
                size: 9,
                ..Descriptor::of_bytes("x", b"hello")
            },
        ] {
            let mut reader = DigestVerifyingReader::new(b"hello".as_slice(), &declared);
            let mut out = Vec::new();
            assert!(reader.read_to_end(&mut out).await.is_err());
            assert!(
                reader.read_to_end(&mut out).await.is_err(),
                "taken for the end the second time"
            );
        }
    }
}
