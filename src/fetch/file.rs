//! Files and folders next to the lock. A folder (an origin that ends in `/`) is packed as one deterministic tar.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Cursor, Read},
    path::{Path, PathBuf},
};

use async_trait::async_trait;

use super::{FetchError, OpenContent, Opened, Origin, Request};
use crate::core::{
    digest::Digest,
    limits::Limits,
    lockfile::leaves_folder,
    pack::{Segment, TarFile, segments},
    path::MAX_PATH,
};

/// May an origin lie outside of the lock's folder?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outside {
    /// No: neither by `..`, nor as an absolute path, nor through a symbolic link.
    #[default]
    Refused,
    /// Yes.
    Allowed,
}

/// Files under one folder.
#[derive(Clone, Debug)]
pub struct FileOrigin {
    folder: PathBuf,
    outside: Outside,
}

impl FileOrigin {
    /// Origins relative to `folder`.
    pub fn new(folder: impl Into<PathBuf>, outside: Outside) -> Self {
        Self { folder: folder.into(), outside }
    }

    fn locate(&self, origin: &str) -> Result<PathBuf, FetchError> {
        let path = self.folder.join(origin);
        if self.outside == Outside::Refused && leaves_folder(origin) {
            return Err(FetchError::Outside { origin: origin.into() });
        }
        let real = fs::canonicalize(&path).map_err(|cause| failed(origin, &cause))?;
        let folder = fs::canonicalize(&self.folder).map_err(|cause| failed(origin, &cause))?;
        if self.outside == Outside::Refused && !real.starts_with(&folder) {
            return Err(FetchError::Outside { origin: origin.into() });
        }
        Ok(real)
    }

    fn read(&self, origin: &str) -> Result<Box<dyn Read + Send>, FetchError> {
        let path = self.locate(origin)?;
        let kind = fs::metadata(&path).map_err(|cause| failed(origin, &cause))?;
        match (origin.ends_with('/'), kind.is_dir(), kind.is_file()) {
            (true, true, _) => Ok(Box::new(FolderReader::new(&path, origin)?)),
            (false, _, true) => Ok(Box::new(File::open(&path).map_err(|cause| failed(origin, &cause))?)),
            (false, true, _) => Err(FetchError::NotAFile { origin: origin.into(), hint: "; write a final / to pack the folder as a tar" }),
            _ => Err(FetchError::NotAFile { origin: origin.into(), hint: "" }),
        }
    }
}

#[async_trait]
impl Origin for FileOrigin {
    async fn open(&self, request: Request<'_>) -> Result<Opened, FetchError> {
        let content = OpenContent::Blocking(self.read(request.origin)?);
        Ok(Opened { content, download_location: None })
    }

    async fn pin(&self, _: Request<'_>) -> Result<Option<Digest>, FetchError> {
        Ok(None)
    }
}

fn failed(origin: &str, cause: &io::Error) -> FetchError {
    match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FetchError::NotFound { origin: origin.into() },
        _ => FetchError::Failed { origin: origin.into(), cause: cause.to_string() },
    }
}

/// Reads a folder as a tar: its files by name, each 0755 if its owner may execute it, else 0644. Links and devices are refused.
struct FolderReader {
    segments: VecDeque<Segment<PathBuf>>,
    current: Option<Box<dyn Read + Send>>,
}

impl FolderReader {
    fn new(root: &Path, origin: &str) -> Result<Self, FetchError> {
        let mut files = Vec::new();
        collect(root, "", &mut files, origin)?;
        Ok(Self { segments: segments(files).into(), current: None })
    }

    fn next(&mut self) -> io::Result<Option<Box<dyn Read + Send>>> {
        Ok(match self.segments.pop_front() {
            None => None,
            Some(Segment::Literal(bytes)) => Some(Box::new(Cursor::new(bytes))),
            Some(Segment::Content { content, size }) => Some(Box::new(Exactly { inner: File::open(&content)?, left: size, path: content })),
        })
    }
}

impl Read for FolderReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(current) = &mut self.current {
                let count = current.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
            }
            self.current = self.next()?;
            if self.current.is_none() {
                return Ok(0);
            }
        }
    }
}

/// A file that must have the length it had when the tar was planned.
struct Exactly {
    inner: File,
    left: u64,
    path: PathBuf,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::Error::other(format!("{} became shorter while it was read", self.path.display())));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<TarFile<PathBuf>>, origin: &str) -> Result<(), FetchError> {
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(folder).map_err(|cause| failed(origin, &cause))? {
        let entry = entry.map_err(|cause| failed(origin, &cause))?;
        let name =
            entry.file_name().into_string().map_err(|_| FetchError::Failed { origin: origin.into(), cause: "a file name is not UTF-8".into() })?;
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(|cause| failed(origin, &cause))?;
        if kind.is_dir() {
            collect(&entry.path(), &format!("{path}/"), files, origin)?;
        } else if kind.is_file() {
            let metadata = entry.metadata().map_err(|cause| failed(origin, &cause))?;
            let mode = if metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            files.push(TarFile { path, mode, size: metadata.len(), content: entry.path() });
        } else {
            return Err(FetchError::NotAFile { origin: format!("{origin}{path}"), hint: "; links and devices cannot be packed" });
        }
        bounded(files, origin)?;
    }
    Ok(())
}

fn bounded(files: &[TarFile<PathBuf>], origin: &str) -> Result<(), FetchError> {
    let too_many = files.len() as u64 > Limits::DEFAULT.unpack_entries;
    let too_long = files.last().is_some_and(|file| file.path.len() > MAX_PATH);
    if too_many || too_long {
        let cause =
            if too_many { format!("more than {} files", Limits::DEFAULT.unpack_entries) } else { format!("a path is longer than {MAX_PATH} bytes") };
        return Err(FetchError::Failed { origin: origin.into(), cause });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::core::class::{Classified, Reason};

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("in/sub")).expect("folders");
        fs::write(folder.path().join("outside"), "secret").expect("a file");
        fs::write(folder.path().join("in/b"), "bb").expect("a file");
        fs::write(folder.path().join("in/sub/run"), "#!").expect("a file");
        fs::set_permissions(folder.path().join("in/sub/run"), fs::Permissions::from_mode(0o700)).expect("a mode");
        folder
    }

    fn read(folder: &Path, origin: &str, outside: Outside) -> Result<Vec<u8>, Reason> {
        let mut bytes = Vec::new();
        let mut reader = FileOrigin::new(folder.join("in"), outside).read(origin).map_err(|e| e.reason())?;
        reader.read_to_end(&mut bytes).expect("readable");
        Ok(bytes)
    }

    #[test]
    fn files_below_the_folder_are_read() {
        let folder = folder();
        assert_eq!(read(folder.path(), "b", Outside::Refused), Ok(b"bb".to_vec()));
        assert_eq!(read(folder.path(), "sub/../b", Outside::Refused), Ok(b"bb".to_vec()));
    }

    #[test]
    fn what_lies_outside_is_refused_unless_allowed() {
        let folder = folder();
        symlink("../outside", folder.path().join("in/link")).expect("a link");
        let absolute = folder.path().join("outside");
        for origin in ["../outside", "sub/../../outside", "link", absolute.to_str().expect("UTF-8")] {
            assert_eq!(read(folder.path(), origin, Outside::Refused), Err(Reason::InvalidLock), "{origin}");
            assert_eq!(read(folder.path(), origin, Outside::Allowed), Ok(b"secret".to_vec()), "{origin}");
        }
        assert_eq!(read(folder.path(), "nothing", Outside::Refused), Err(Reason::SourceNotFound));
        assert_eq!(read(folder.path(), "sub", Outside::Refused), Err(Reason::InvalidLock));
    }

    #[test]
    fn a_folder_is_a_deterministic_tar() {
        let (one, two) = (folder(), folder());
        fs::set_permissions(two.path().join("in/b"), fs::Permissions::from_mode(0o600)).expect("a mode");
        fs::set_permissions(two.path().join("in/sub/run"), fs::Permissions::from_mode(0o755)).expect("a mode");
        let tar = read(one.path(), "./", Outside::Refused).expect("a tar");
        assert_eq!(tar, read(two.path(), "./", Outside::Refused).expect("a tar"));
        assert_eq!(tar.len(), 512 * (2 + 1 + 2 + 2));
        assert!(tar.starts_with(b"b\0"));
    }

    #[test]
    fn links_inside_of_a_folder_are_refused() {
        let folder = folder();
        symlink("b", folder.path().join("in/sub/link")).expect("a link");
        assert_eq!(read(folder.path(), "sub/", Outside::Refused), Err(Reason::InvalidLock));
    }
}
