//! What repositories gave, kept in a folder: for each one file with the last good state and one
//! with its roots, replaced as a whole.

use std::{
    fs,
    io::{Read, Write},
    path::PathBuf,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{Fetched, MAX_KEPT, Repository, Roots, TrustCache, TrustError};

/// A file is JSON, which writes some characters as two.
const MAX_FILE: u64 = 4 * MAX_KEPT as u64;
/// How the names of files end.
const FETCHED: &str = "json";
const ROOTS: &str = "roots.json";

/// A folder with two files for each repository.
#[derive(Clone, Debug)]
pub struct FileCache {
    folder: PathBuf,
}

impl FileCache {
    /// In this folder, which is made when something is kept.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    fn path(&self, repository: &Repository, kind: &str) -> PathBuf {
        self.folder
            .join(format!("{}.{kind}", hex::encode(repository.id().bytes())))
    }

    fn read<T: DeserializeOwned>(&self, repository: &Repository, kind: &str) -> std::io::Result<T> {
        let mut bytes = Vec::new();
        fs::File::open(self.path(repository, kind))?
            .take(MAX_FILE)
            .read_to_end(&mut bytes)?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    fn write(
        &self,
        repository: &Repository,
        kind: &str,
        content: &impl Serialize,
    ) -> Result<(), TrustError> {
        let path = self.path(repository, kind);
        let written = || {
            fs::create_dir_all(&self.folder)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(&serde_json::to_vec(content)?)?;
            file.persist(&path).map_err(|error| error.error).map(drop)
        };
        written().map_err(|cause| TrustError::Cache {
            path: path.display().to_string(),
            cause,
        })
    }
}

impl TrustCache for FileCache {
    fn load(&self, repository: &Repository) -> Option<Fetched> {
        self.read(repository, FETCHED).ok()
    }

    fn save(&self, repository: &Repository, fetched: &Fetched) -> Result<(), TrustError> {
        self.write(repository, FETCHED, fetched)
    }

    fn load_roots(&self, repository: &Repository) -> Roots {
        self.read(repository, ROOTS).unwrap_or_default()
    }

    fn save_roots(&self, repository: &Repository, roots: &Roots) -> Result<(), TrustError> {
        if roots.size() > MAX_KEPT {
            return Err(TrustError::TooLarge {
                url: repository.url().to_owned(),
                size: roots.size(),
            });
        }
        self.write(repository, ROOTS, roots)
    }
}
