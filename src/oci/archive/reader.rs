//! Reads the files of a layout from a tar, and refuses everything else: no path of the archive is
//! ever used as one.
//!
//! Headers are parsed in `core::unpack::tar`, which bounds what is read into memory. After the end
//! marker only zeros are allowed, and no name may occur twice: other readers would see another
//! layout.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, ErrorKind, Read},
    path::Path,
};

use super::storage_error;
use crate::{
    core::{
        digest::Digest,
        limits::InputLimits,
        oci::layout::{INDEX_FILE, MARKER_FILE},
        unpack::{
            displayed_name,
            tar::{BLOCK, MAX_METADATA, PendingTarMetadata, TarEntryKind, TarHeader},
        },
    },
    oci::OciError,
};

/// Extracts the layout in `archive` into the folder `root`.
pub(super) fn extract_layout(archive: File, root: &Path, location: &str) -> Result<(), OciError> {
    fs::create_dir_all(root.join("blobs/sha256")).map_err(|cause| storage_error(root, cause))?;
    let extraction = LayoutExtraction {
        stream: BufReader::with_capacity(256 << 10, archive),
        root,
        location,
    };
    extraction.refuse_compression()?.extract_entries()
}

/// Compressed files by their first bytes, with the program that decompresses them.
static COMPRESSIONS: [(&[u8], &str, &str); 4] = [
    (&[0x1f, 0x8b], "gzip", "gunzip"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd", "unzstd"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "xz", "unxz"),
    (b"BZh", "bzip2", "bunzip2"),
];

struct LayoutExtraction<'a> {
    stream: BufReader<File>,
    root: &'a Path,
    location: &'a str,
}

impl LayoutExtraction<'_> {
    /// A compressed archive is named as one: its bytes are no tar header.
    fn refuse_compression(mut self) -> Result<Self, OciError> {
        let begin = self.stream.fill_buf();
        let begin = begin.map_err(|cause| storage_error(Path::new(self.location), cause))?;
        let found = COMPRESSIONS
            .iter()
            .find(|(magic, ..)| begin.starts_with(magic));
        match found {
            Some((_, name, program)) => Err(self.malformed_error(&format!(
                "it is compressed with {name}; decompress it first ({program})"
            ))),
            None => Ok(self),
        }
    }

    fn extract_entries(mut self) -> Result<(), OciError> {
        let mut pending = PendingTarMetadata::default();
        let mut entries = 0;
        while let Some(block) = self.read_block()? {
            let Some(header) = TarHeader::parse(&block).map_err(|e| self.malformed_error(&e))?
            else {
                self.expect_only_zeros()?;
                break;
            };
            entries += 1;
            if entries > InputLimits::DEFAULT.unpack_entries {
                return Err(OciError::LimitExceeded {
                    what: self.location.into(),
                    size: entries,
                    limit: InputLimits::DEFAULT.unpack_entries,
                });
            }
            if header.kind.is_metadata() {
                let content = self.read_metadata(header.size)?;
                pending
                    .apply_metadata(header.kind, &content)
                    .map_err(|e| self.malformed_error(&e))?;
                self.skip_padding(header.size)?;
            } else {
                let header = pending
                    .apply_to_header(header)
                    .map_err(|e| self.malformed_error(&e))?;
                self.extract_entry(&header)?;
                self.skip_padding(header.size)?;
            }
        }
        if pending.has_metadata() {
            Err(self.malformed_error(&"it ends after a metadata header"))
        } else {
            Ok(())
        }
    }

    fn extract_entry(&mut self, header: &TarHeader) -> Result<(), OciError> {
        let name = displayed_name(&header.name);
        let place = std::str::from_utf8(&header.name)
            .ok()
            .and_then(|name| classify_entry(name.trim_start_matches("./")));
        match (place, header.kind) {
            (Some(LayoutEntryKind::Folder), TarEntryKind::Folder) => Ok(()),
            (Some(LayoutEntryKind::File(place)), TarEntryKind::File) => {
                self.write_file(&place, header.size)
            }
            (Some(_), _) => Err(self.malformed_error(&format!(
                "{name:?} has the wrong entry type for an OCI layout"
            ))),
            (None, _) => {
                Err(self.malformed_error(&format!("{name:?} is not part of an OCI layout")))
            }
        }
    }

    fn write_file(&mut self, place: &str, size: u64) -> Result<(), OciError> {
        let path = self.root.join(place);
        let mut file = File::create_new(&path).map_err(|cause| match cause.kind() {
            ErrorKind::AlreadyExists => {
                self.malformed_error(&format!("it contains {place:?} twice"))
            }
            _ => storage_error(&path, cause),
        })?;
        let copied = std::io::copy(&mut (&mut self.stream).take(size), &mut file)
            .map_err(|cause| storage_error(&path, cause))?;
        if copied == size {
            Ok(())
        } else {
            Err(self.malformed_error(&"it is truncated"))
        }
    }

    fn read_metadata(&mut self, size: u64) -> Result<Vec<u8>, OciError> {
        if size > MAX_METADATA {
            return Err(self.malformed_error(&format!(
                "metadata of {size} bytes is over the limit of {MAX_METADATA}"
            )));
        }
        let mut content = Vec::new();
        let read = (&mut self.stream)
            .take(size)
            .read_to_end(&mut content)
            .map_err(|cause| storage_error(Path::new(self.location), cause))?;
        if read as u64 == size {
            Ok(content)
        } else {
            Err(self.malformed_error(&"it is truncated"))
        }
    }

    fn skip_padding(&mut self, size: u64) -> Result<(), OciError> {
        let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        let skipped = std::io::copy(&mut (&mut self.stream).take(padding), &mut std::io::sink());
        let skipped = skipped.map_err(|cause| storage_error(Path::new(self.location), cause))?;
        if skipped == padding {
            Ok(())
        } else {
            Err(self.malformed_error(&"it is truncated"))
        }
    }

    /// The next block, or `None` at a clean end of the stream.
    fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>, OciError> {
        let mut block = Vec::with_capacity(BLOCK);
        let read = (&mut self.stream)
            .take(BLOCK as u64)
            .read_to_end(&mut block);
        match read.map_err(|cause| storage_error(Path::new(self.location), cause))? {
            0 => Ok(None),
            _ => block
                .try_into()
                .map(Some)
                .map_err(|_| self.malformed_error(&"it is truncated")),
        }
    }

    fn expect_only_zeros(&mut self) -> Result<(), OciError> {
        while let Some(block) = self.read_block()? {
            if block.iter().any(|byte| *byte != 0) {
                return Err(self.malformed_error(&"data follows the end of the archive"));
            }
        }
        Ok(())
    }

    fn malformed_error(&self, cause: &impl ToString) -> OciError {
        OciError::Malformed {
            location: self.location.into(),
            cause: cause.to_string(),
        }
    }
}

enum LayoutEntryKind {
    /// One of the layout's folders.
    Folder,
    /// A file, relative to the layout.
    File(String),
}

/// The destination of an entry; `None` for anything that is not part of a layout.
fn classify_entry(name: &str) -> Option<LayoutEntryKind> {
    match name.strip_suffix('/').unwrap_or(name) {
        "" | "." | "blobs" | "blobs/sha256" => Some(LayoutEntryKind::Folder),
        MARKER_FILE | INDEX_FILE => Some(LayoutEntryKind::File(name.to_owned())),
        blob => {
            let digest: Digest = format!("sha256:{}", blob.strip_prefix("blobs/sha256/")?)
                .parse()
                .ok()?;
            Some(LayoutEntryKind::File(format!(
                "blobs/sha256/{}",
                digest.hex_digits()
            )))
        }
    }
}
