//! Takes the files of a layout out of a tar, and refuses everything else: no path of the archive is
//! ever used as one.
//!
//! Headers are understood in `core::unpack::tar`, which bounds what is read into memory. The
//! archive must end where it says, with nothing but zeros behind, and no name may come twice: other
//! readers would see another layout.

use std::{
    fs::{self, File},
    io::{BufReader, ErrorKind, Read},
    path::Path,
};

use super::storage;
use crate::{
    core::{
        digest::Digest,
        limits::Limits,
        oci::layout::{INDEX_FILE, MARKER_FILE},
        unpack::{
            shown,
            tar::{BLOCK, Header, Kind, MAX_METADATA, Pending},
        },
    },
    oci::OciError,
};

/// Extracts the layout in `archive` into the folder `root`.
pub(super) fn extract(archive: File, root: &Path, location: &str) -> Result<(), OciError> {
    fs::create_dir_all(root.join("blobs/sha256")).map_err(|cause| storage(root, cause))?;
    Extraction {
        stream: BufReader::with_capacity(256 << 10, archive),
        root,
        location,
    }
    .all()
}

struct Extraction<'a> {
    stream: BufReader<File>,
    root: &'a Path,
    location: &'a str,
}

impl Extraction<'_> {
    fn all(mut self) -> Result<(), OciError> {
        let mut pending = Pending::default();
        let mut entries = 0;
        while let Some(block) = self.block()? {
            let Some(header) = Header::parse(&block).map_err(|e| self.malformed(&e))? else {
                self.only_zeros()?;
                break;
            };
            entries += 1;
            if entries > Limits::DEFAULT.unpack_entries {
                return Err(OciError::LimitExceeded {
                    what: self.location.into(),
                    size: entries,
                    limit: Limits::DEFAULT.unpack_entries,
                });
            }
            if header.kind.is_metadata() {
                let content = self.metadata(header.size)?;
                pending
                    .take_in(header.kind, &content)
                    .map_err(|e| self.malformed(&e))?;
                self.skip_padding(header.size)?;
            } else {
                let header = pending.apply(header).map_err(|e| self.malformed(&e))?;
                self.entry(&header)?;
                self.skip_padding(header.size)?;
            }
        }
        if pending.is_left() {
            Err(self.malformed(&"it ends behind metadata"))
        } else {
            Ok(())
        }
    }

    fn entry(&mut self, header: &Header) -> Result<(), OciError> {
        let name = shown(&header.name);
        let place = std::str::from_utf8(&header.name)
            .ok()
            .and_then(|name| place_of(name.trim_start_matches("./")));
        match (place, header.kind) {
            (Some(Place::Folder), Kind::Folder) => Ok(()),
            (Some(Place::File(place)), Kind::File) => self.write(&place, header.size),
            (Some(_), _) => {
                Err(self.malformed(&format!("{name:?} is not what it must be in an OCI layout")))
            }
            (None, _) => Err(self.malformed(&format!("{name:?} is not part of an OCI layout"))),
        }
    }

    fn write(&mut self, place: &str, size: u64) -> Result<(), OciError> {
        let path = self.root.join(place);
        let mut file = File::create_new(&path).map_err(|cause| match cause.kind() {
            ErrorKind::AlreadyExists => self.malformed(&format!("{place:?} is in it twice")),
            _ => storage(&path, cause),
        })?;
        let copied = std::io::copy(&mut (&mut self.stream).take(size), &mut file)
            .map_err(|cause| storage(&path, cause))?;
        if copied == size {
            Ok(())
        } else {
            Err(self.malformed(&"it ends early"))
        }
    }

    fn metadata(&mut self, size: u64) -> Result<Vec<u8>, OciError> {
        if size > MAX_METADATA {
            return Err(self.malformed(&format!(
                "metadata of {size} bytes is over the limit of {MAX_METADATA}"
            )));
        }
        let mut content = Vec::new();
        let read = (&mut self.stream)
            .take(size)
            .read_to_end(&mut content)
            .map_err(|cause| storage(Path::new(self.location), cause))?;
        if read as u64 == size {
            Ok(content)
        } else {
            Err(self.malformed(&"it ends early"))
        }
    }

    fn skip_padding(&mut self, size: u64) -> Result<(), OciError> {
        let padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
        let skipped = std::io::copy(&mut (&mut self.stream).take(padding), &mut std::io::sink());
        let skipped = skipped.map_err(|cause| storage(Path::new(self.location), cause))?;
        if skipped == padding {
            Ok(())
        } else {
            Err(self.malformed(&"it ends early"))
        }
    }

    /// The next block, or nothing at a clean end of the stream.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, OciError> {
        let mut block = Vec::with_capacity(BLOCK);
        let read = (&mut self.stream)
            .take(BLOCK as u64)
            .read_to_end(&mut block);
        match read.map_err(|cause| storage(Path::new(self.location), cause))? {
            0 => Ok(None),
            _ => block
                .try_into()
                .map(Some)
                .map_err(|_| self.malformed(&"it ends early")),
        }
    }

    fn only_zeros(&mut self) -> Result<(), OciError> {
        while let Some(block) = self.block()? {
            if block.iter().any(|byte| *byte != 0) {
                return Err(self.malformed(&"something follows behind its end"));
            }
        }
        Ok(())
    }

    fn malformed(&self, cause: &impl ToString) -> OciError {
        OciError::Malformed {
            location: self.location.into(),
            cause: cause.to_string(),
        }
    }
}

enum Place {
    /// One of the layout's folders.
    Folder,
    /// A file, relative to the layout.
    File(String),
}

/// Where an entry goes; `None` for anything that is not of a layout.
fn place_of(name: &str) -> Option<Place> {
    match name.strip_suffix('/').unwrap_or(name) {
        "" | "." | "blobs" | "blobs/sha256" => Some(Place::Folder),
        MARKER_FILE | INDEX_FILE => Some(Place::File(name.to_owned())),
        blob => {
            let digest: Digest = format!("sha256:{}", blob.strip_prefix("blobs/sha256/")?)
                .parse()
                .ok()?;
            Some(Place::File(format!("blobs/sha256/{}", digest.hex())))
        }
    }
}
