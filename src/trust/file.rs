//! What repositories gave, kept in a folder: one file for each, replaced as a whole.

use std::{
    fs,
    io::{Read, Write},
    path::PathBuf,
};

use super::{Fetched, MAX_KEPT, Repository, TrustCache, TrustError};

/// A file is JSON, which writes some characters as two.
const MAX_FILE: u64 = 4 * MAX_KEPT as u64;

/// A folder with one file for each repository.
#[derive(Clone, Debug)]
pub struct FileCache {
    folder: PathBuf,
}

impl FileCache {
    /// In this folder, which is made when something is kept.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    fn path(&self, repository: &Repository) -> PathBuf {
        self.folder.join(format!("{}.json", hex::encode(repository.id().bytes())))
    }

    fn read(&self, repository: &Repository) -> std::io::Result<Fetched> {
        let mut bytes = Vec::new();
        fs::File::open(self.path(repository))?.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    fn write(&self, repository: &Repository, fetched: &Fetched) -> std::io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&serde_json::to_vec(fetched)?)?;
        file.persist(self.path(repository)).map_err(|error| error.error)?;
        Ok(())
    }
}

impl TrustCache for FileCache {
    fn load(&self, repository: &Repository) -> Option<Fetched> {
        self.read(repository).ok()
    }

    fn save(&self, repository: &Repository, fetched: &Fetched) -> Result<(), TrustError> {
        let failed = |cause| TrustError::Cache { path: self.path(repository).display().to_string(), cause };
        self.write(repository, fetched).map_err(failed)
    }
}
