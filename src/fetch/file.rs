//! Files and folders next to the lock. A folder (an origin that ends in `/`) is packed as one
//! deterministic tar.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Cursor, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use async_trait::async_trait;

use super::{ArtifactOrigin, ArtifactStream, FetchError, FetchRequest, OpenedArtifact};
use crate::core::{
    bundle_path::MAX_PATH,
    digest::Digest,
    limits::InputLimits,
    lockfile::origin_leaves_folder,
    pack::{TarFile, TarSegment, plan_tar_segments},
};

/// Whether an origin may be outside of the lock's folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutsideFolderPolicy {
    /// It must not be: neither by `..`, nor as an absolute path, nor through a symbolic link.
    #[default]
    Refused,
    /// It may be.
    Allowed,
}

/// Files below one folder.
#[derive(Clone, Debug)]
pub struct FileOrigin {
    folder: PathBuf,
    outside: OutsideFolderPolicy,
}

impl FileOrigin {
    /// Origins relative to `folder`.
    pub fn new(folder: impl Into<PathBuf>, outside: OutsideFolderPolicy) -> Self {
        Self {
            folder: folder.into(),
            outside,
        }
    }

    fn locate_path(&self, origin: &str) -> Result<PathBuf, FetchError> {
        let path = self.folder.join(origin);
        if self.outside == OutsideFolderPolicy::Refused && origin_leaves_folder(origin) {
            return Err(FetchError::OutsideFolder {
                origin: origin.into(),
            });
        }
        let real = fs::canonicalize(&path).map_err(|cause| io_fetch_error(origin, &cause))?;
        let folder =
            fs::canonicalize(&self.folder).map_err(|cause| io_fetch_error(origin, &cause))?;
        if self.outside == OutsideFolderPolicy::Refused && !real.starts_with(&folder) {
            return Err(FetchError::OutsideFolder {
                origin: origin.into(),
            });
        }
        Ok(real)
    }

    fn open_reader(&self, origin: &str) -> Result<Box<dyn Read + Send>, FetchError> {
        let path = self.locate_path(origin)?;
        let kind = fs::metadata(&path).map_err(|cause| io_fetch_error(origin, &cause))?;
        match (origin.ends_with('/'), kind.is_dir(), kind.is_file()) {
            (true, true, _) => Ok(Box::new(FolderTarReader::new(&path, origin)?)),
            (false, _, true) => Ok(Box::new(
                File::open(&path).map_err(|cause| io_fetch_error(origin, &cause))?,
            )),
            (false, true, _) => Err(FetchError::NotAFile {
                origin: origin.into(),
                hint: "; write a final / to pack the folder as a tar",
            }),
            _ => Err(FetchError::NotAFile {
                origin: origin.into(),
                hint: "",
            }),
        }
    }
}

#[async_trait]
impl ArtifactOrigin for FileOrigin {
    async fn open_artifact(&self, request: FetchRequest<'_>) -> Result<OpenedArtifact, FetchError> {
        let content = ArtifactStream::Blocking(self.open_reader(request.origin)?);
        Ok(OpenedArtifact {
            content,
            download_location: None,
        })
    }

    async fn resolve_oci_digest(&self, _: FetchRequest<'_>) -> Result<Option<Digest>, FetchError> {
        Ok(None)
    }
}

fn io_fetch_error(origin: &str, cause: &io::Error) -> FetchError {
    match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FetchError::NotFound {
            origin: origin.into(),
        },
        _ => FetchError::ReadFailed {
            origin: origin.into(),
            cause: cause.to_string(),
        },
    }
}

/// Reads a folder as a tar: its files by name, each 0755 if its owner may execute it, else 0644.
/// Links and devices are refused.
struct FolderTarReader {
    segments: VecDeque<TarSegment<PlannedTarFile>>,
    current: Option<Box<dyn Read + Send>>,
}

impl FolderTarReader {
    fn new(root: &Path, origin: &str) -> Result<Self, FetchError> {
        let mut walk = FolderWalk {
            origin,
            entries: 0,
            files: Vec::new(),
        };
        walk.collect_files(root)?;
        Ok(Self {
            segments: plan_tar_segments(walk.files).into(),
            current: None,
        })
    }

    fn next_segment(&mut self) -> io::Result<Option<Box<dyn Read + Send>>> {
        Ok(match self.segments.pop_front() {
            None => None,
            Some(TarSegment::Literal(bytes)) => Some(Box::new(Cursor::new(bytes))),
            Some(TarSegment::Content { content, size }) => {
                Some(Box::new(UnchangedFileReader::open_planned(content, size)?))
            }
        })
    }
}

impl Read for FolderTarReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(current) = &mut self.current {
                let count = current.read(buffer)?;
                if count > 0 || buffer.is_empty() {
                    return Ok(count);
                }
            }
            self.current = self.next_segment()?;
            if self.current.is_none() {
                return Ok(0);
            }
        }
    }
}

/// A file as it was when the tar was planned.
struct PlannedTarFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// A reader that fails if the file's size changes.
struct UnchangedFileReader {
    inner: File,
    left: u64,
    path: PathBuf,
}

impl UnchangedFileReader {
    /// A link that replaced the file could lead anywhere.
    fn open_planned(
        PlannedTarFile {
            path,
            device,
            inode,
        }: PlannedTarFile,
        size: u64,
    ) -> io::Result<Self> {
        let inner = File::open(&path)
            .map_err(|cause| changed_file_error(&path, &format!("cannot be opened: {cause}")))?;
        let found = inner.metadata()?;
        if (found.dev(), found.ino()) != (device, inode) {
            return Err(changed_file_error(
                &path,
                "was replaced while the folder was being read",
            ));
        }
        Ok(Self {
            inner,
            left: size,
            path,
        })
    }
}

impl Read for UnchangedFileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if most == 0 && !buffer.is_empty() {
            return match self.inner.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(changed_file_error(
                    &self.path,
                    "grew while it was being read",
                )),
            };
        }
        let count = self
            .inner
            .read(buffer.get_mut(..most).unwrap_or_default())?;
        if count == 0 && most > 0 {
            return Err(changed_file_error(
                &self.path,
                "shrank while it was being read",
            ));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn changed_file_error(path: &Path, what: &str) -> io::Error {
    io::Error::other(format!("{} {what}", path.display()))
}

/// Finds the files of a folder.
struct FolderWalk<'a> {
    origin: &'a str,
    entries: u64,
    files: Vec<TarFile<PlannedTarFile>>,
}

impl FolderWalk<'_> {
    /// Iterates instead of recursing: deep nesting costs memory and no stack.
    fn collect_files(&mut self, root: &Path) -> Result<(), FetchError> {
        let mut folders = vec![(root.to_owned(), String::new())];
        while let Some((folder, prefix)) = folders.pop() {
            folders.extend(self.read_folder(&folder, &prefix)?);
        }
        Ok(())
    }

    /// Returns its subfolders. `prefix` is empty or ends in `/`.
    fn read_folder(
        &mut self,
        folder: &Path,
        prefix: &str,
    ) -> Result<Vec<(PathBuf, String)>, FetchError> {
        let mut folders = Vec::new();
        for entry in fs::read_dir(folder).map_err(|cause| self.io_error_at(prefix, &cause))? {
            let entry = entry.map_err(|cause| self.io_error_at(prefix, &cause))?;
            let name = entry
                .file_name()
                .into_string()
                .map_err(|_| self.bounds_error("a file name is not UTF-8".into()))?;
            let path = format!("{prefix}{name}");
            self.entries += 1;
            self.check_bounds(&path)?;
            let kind = entry
                .file_type()
                .map_err(|cause| self.io_error_at(&path, &cause))?;
            if kind.is_dir() {
                folders.push((entry.path(), format!("{path}/")));
            } else if kind.is_file() {
                self.add_file(&entry, path)?;
            } else {
                let origin = format!("{}{path}", self.origin);
                return Err(FetchError::NotAFile {
                    origin,
                    hint: "; links and devices cannot be packed",
                });
            }
        }
        Ok(folders)
    }

    fn add_file(&mut self, entry: &fs::DirEntry, path: String) -> Result<(), FetchError> {
        let found = entry
            .metadata()
            .map_err(|cause| self.io_error_at(&path, &cause))?;
        let mode = if found.mode() & 0o100 == 0 {
            0o644
        } else {
            0o755
        };
        let content = PlannedTarFile {
            path: entry.path(),
            device: found.dev(),
            inode: found.ino(),
        };
        self.files.push(TarFile {
            path,
            mode,
            size: found.len(),
            content,
        });
        Ok(())
    }

    fn check_bounds(&self, path: &str) -> Result<(), FetchError> {
        if self.entries > InputLimits::DEFAULT.unpack_entries {
            return Err(self.bounds_error(format!(
                "more than {} files and folders",
                InputLimits::DEFAULT.unpack_entries
            )));
        }
        if path.len() > MAX_PATH {
            Err(self.bounds_error(format!("a path is longer than {MAX_PATH} bytes")))
        } else {
            Ok(())
        }
    }

    fn bounds_error(&self, cause: String) -> FetchError {
        FetchError::ReadFailed {
            origin: self.origin.into(),
            cause,
        }
    }

    fn io_error_at(&self, path: &str, cause: &io::Error) -> FetchError {
        io_fetch_error(&format!("{}{path}", self.origin), cause)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::core::reason::{ClassifiedError, Reason};

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("in/sub")).expect("folders");
        fs::write(folder.path().join("outside"), "secret").expect("a file");
        fs::write(folder.path().join("in/b"), "bb").expect("a file");
        fs::write(folder.path().join("in/sub/run"), "#!").expect("a file");
        fs::set_permissions(
            folder.path().join("in/sub/run"),
            fs::Permissions::from_mode(0o700),
        )
        .expect("a mode");
        folder
    }

    fn read(folder: &Path, origin: &str, outside: OutsideFolderPolicy) -> Result<Vec<u8>, Reason> {
        let mut bytes = Vec::new();
        let mut reader = FileOrigin::new(folder.join("in"), outside)
            .open_reader(origin)
            .map_err(|e| e.reason())?;
        reader.read_to_end(&mut bytes).expect("readable");
        Ok(bytes)
    }

    #[test]
    fn files_below_the_folder_are_read() {
        let folder = folder();
        assert_eq!(
            read(folder.path(), "b", OutsideFolderPolicy::Refused),
            Ok(b"bb".to_vec())
        );
        assert_eq!(
            read(folder.path(), "sub/../b", OutsideFolderPolicy::Refused),
            Ok(b"bb".to_vec())
        );
    }

    #[test]
    fn what_lies_outside_is_refused_unless_allowed() {
        let folder = folder();
        symlink("../outside", folder.path().join("in/link")).expect("a link");
        let absolute = folder.path().join("outside");
        for origin in [
            "../outside",
            "sub/../../outside",
            "link",
            absolute.to_str().expect("UTF-8"),
        ] {
            assert_eq!(
                read(folder.path(), origin, OutsideFolderPolicy::Refused),
                Err(Reason::InvalidLock),
                "{origin}"
            );
            assert_eq!(
                read(folder.path(), origin, OutsideFolderPolicy::Allowed),
                Ok(b"secret".to_vec()),
                "{origin}"
            );
        }
        assert_eq!(
            read(folder.path(), "nothing", OutsideFolderPolicy::Refused),
            Err(Reason::SourceNotFound)
        );
        assert_eq!(
            read(folder.path(), "sub", OutsideFolderPolicy::Refused),
            Err(Reason::InvalidLock)
        );
    }

    #[test]
    fn a_folder_is_a_deterministic_tar() {
        let (one, two) = (folder(), folder());
        fs::set_permissions(two.path().join("in/b"), fs::Permissions::from_mode(0o600))
            .expect("a mode");
        fs::set_permissions(
            two.path().join("in/sub/run"),
            fs::Permissions::from_mode(0o755),
        )
        .expect("a mode");
        let tar = read(one.path(), "./", OutsideFolderPolicy::Refused).expect("a tar");
        assert_eq!(
            tar,
            read(two.path(), "./", OutsideFolderPolicy::Refused).expect("a tar")
        );
        assert_eq!(tar.len(), 512 * (2 + 1 + 2 + 2));
        assert!(tar.starts_with(b"b\0"));
    }

    #[test]
    fn what_is_no_file_inside_of_a_folder_is_refused() {
        let folder = folder();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("in/sub/socket"))
            .expect("a socket");
        assert_eq!(
            read(folder.path(), "sub/", OutsideFolderPolicy::Refused),
            Err(Reason::InvalidLock)
        );
        assert_eq!(
            read(folder.path(), "sub/socket", OutsideFolderPolicy::Refused),
            Err(Reason::InvalidLock)
        );
    }

    #[test]
    fn very_deep_folders_are_refused_without_running_out_of_stack() {
        let folder = folder();
        let mut path = folder.path().join("in");
        for _ in 0..1_000 {
            path.push("d");
            fs::create_dir(&path).expect("a folder");
        }
        // A worker thread of the runtime has no larger stack.
        let origin = FileOrigin::new(folder.path().join("in"), OutsideFolderPolicy::Refused);
        let work = move || {
            origin
                .open_reader("./")
                .map(drop)
                .map_err(|e| e.to_string())
        };
        let outcome = std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(work)
            .expect("a thread")
            .join()
            .expect("no overflow");
        assert!(outcome.expect_err("too deep").contains("longer than 1024"));
    }

    /// Reads the folder as a tar after `change` was made to the planned files.
    fn read_changed(change: impl FnOnce(&Path)) -> io::Result<Vec<u8>> {
        let folder = folder();
        let mut reader = FileOrigin::new(folder.path().join("in"), OutsideFolderPolicy::Refused)
            .open_reader("./")
            .expect("planned");
        change(folder.path());
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn a_file_that_changes_while_it_is_read_is_refused() {
        let write = |content: &'static str| {
            move |folder: &Path| fs::write(folder.join("in/b"), content).expect("written")
        };
        assert!(
            read_changed(write("cc")).is_ok(),
            "of the same length: the checksum tells"
        );
        for (error, part) in [
            (read_changed(write("bbb")), "grew"),
            (read_changed(write("b")), "shrank"),
            (
                read_changed(|folder| fs::remove_file(folder.join("in/b")).expect("removed")),
                "cannot be opened",
            ),
            (
                read_changed(|folder| {
                    fs::remove_file(folder.join("in/b")).expect("removed");
                    symlink("../outside", folder.join("in/b")).expect("a link");
                }),
                "replaced",
            ),
        ] {
            let message = error.expect_err(part).to_string();
            assert!(
                message.contains(part) && message.contains("in/b"),
                "{part}: {message}"
            );
        }
    }

    #[test]
    fn links_inside_of_a_folder_are_refused() {
        let folder = folder();
        symlink("b", folder.path().join("in/sub/link")).expect("a link");
        assert_eq!(
            read(folder.path(), "sub/", OutsideFolderPolicy::Refused),
            Err(Reason::InvalidLock)
        );
    }
}
